"""IDX files: what is read, and what is refused with the file's name and what is wrong with it."""

import gzip
import struct

import numpy as np
import pytest
import torch
from conftest import idx_bytes, write_idx

from common import digits
from common.program import RunError


def test_reads_what_was_written(tmp_path):
    paths = write_idx(tmp_path, train=12, test=11)
    data = digits.load("mnist", tmp_path)
    assert data.x_train.shape == (12, 28, 28) and data.x_train.dtype == torch.uint8
    assert data.y_train.tolist() == (np.arange(12) * 7 % 10).tolist()
    assert data.x_test.numpy().tobytes() == paths["x_test"].read_bytes()[16:]
    assert len(data.y_test) == 11


def test_raw_comes_before_gz_and_kinds_mix(tmp_path):
    paths = write_idx(tmp_path)
    packed = paths["y_test"].with_name(paths["y_test"].name + ".gz")
    packed.write_bytes(gzip.compress(paths["y_test"].read_bytes()))
    paths["y_test"].unlink()
    paths["x_test"].with_name(paths["x_test"].name + ".gz").write_bytes(
        b"not gzip, but not read either"
    )
    assert len(digits.load("auto", tmp_path).y_test) == 30


def cut(path):
    path.write_bytes(path.read_bytes()[:-5])


def magic(path):
    path.write_bytes(struct.pack(">I", 2052) + path.read_bytes()[4:])


def count(path):
    content = path.read_bytes()
    path.write_bytes(content[:4] + struct.pack(">I", 10**9) + content[8:])


def folder(path):
    path.unlink()
    path.mkdir()


def nowhere(path):
    path.unlink()
    path.symlink_to("nowhere")


def label(path):
    path.write_bytes(path.read_bytes()[:-1] + b"\x0a")


@pytest.mark.parametrize(
    "which, damage, said",
    [
        ("x_train", cut, "bytes, expected"),
        ("y_test", cut, "bytes, expected"),
        ("x_test", magic, "magic number 2052, expected 2051"),
        ("y_train", count, "for its count of 1,000,000,000"),
        ("x_train", lambda path: path.write_bytes(b""), "0 bytes, too few"),
        (
            "x_train",
            lambda path: path.write_bytes(idx_bytes(np.zeros((3, 28, 27), np.uint8))),
            "images of 28 x 27",
        ),
        (
            "x_test",
            lambda path: path.write_bytes(idx_bytes(np.zeros((0, 28, 28), np.uint8))),
            "no images",
        ),
        ("y_test", label, "label 10 of image 30"),
        (
            "y_train",
            lambda path: path.write_bytes(idx_bytes(np.zeros(3, np.uint8))),
            "3 labels for 60 images",
        ),
        ("x_train", folder, "cannot be read"),
        ("y_train", nowhere, "cannot be read"),
    ],
)
def test_damaged_files_are_named(tmp_path, which, damage, said):
    path = write_idx(tmp_path)[which]
    damage(path)
    with pytest.raises(RunError) as caught:
        digits.load("auto", tmp_path)  # also `auto` does not fall back from files that are there
    assert str(path) in str(caught.value) and said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-6],
        lambda content: b"junk" + content,
        lambda content: content[:40] + bytes(b ^ 255 for b in content[40:60]) + content[60:],
        lambda content: b"",
    ],
)
def test_damaged_gzip(tmp_path, damage):
    path = write_idx(tmp_path, packed=True)["x_train"]
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(RunError, match=r"train-images-idx3-ubyte\.gz: "):
        digits.load("mnist", tmp_path)


def test_a_gzip_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(digits, "LARGEST_FILE", 100_000)
    path = write_idx(tmp_path, packed=True)["x_train"]
    path.write_bytes(gzip.compress(bytes(10**7)))
    with pytest.raises(RunError, match="unpacks to more than 100,000 bytes"):
        digits.load("mnist", tmp_path)


def test_bundled_digits_are_enlarged_with_their_range():
    data = digits.load("digits", None)
    assert data.name == "digits" and len(data.x_train) == 1437 and len(data.x_test) == 360
    assert (
        data.x_train.shape[1:] == (28, 28) and data.x_train.min() == 0 and data.x_train.max() > 240
    )
    assert data.y_train[:5].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("name, folder", [("fashion-mnist", "FashionMNIST"), ("kmnist", "KMNIST")])
def test_the_other_data_sets_go_the_same_way(tmp_path, name, folder):
    write_idx(tmp_path)
    (tmp_path / "MNIST").rename(tmp_path / folder)
    data = digits.load(name, tmp_path)
    assert data.name == name and len(data.classes) == 10 and data.classes[0] != "0"


def test_real_mnist(mnist_root, tmp_path):
    from pathlib import Path

    data = digits.load("mnist", Path(mnist_root))
    assert data.x_train.shape == (60_000, 28, 28) and data.x_test.shape == (10_000, 28, 28)
    assert data.y_train[:5].tolist() == [5, 0, 4, 1, 9] and data.y_test.bincount().sum() == 10_000


def test_a_folder_named_wrongly_is_an_error_and_not_made(tmp_path):
    for name in ("mnist", "fashion-mnist"):
        with pytest.raises(RunError, match="is no folder") as caught:
            digits.load(name, tmp_path / "typo" / "data")
        assert str(tmp_path / "typo" / "data") in str(caught.value) and "\n" not in str(
            caught.value
        )
    assert not (tmp_path / "typo").exists()


@pytest.mark.parametrize("below", ["", "MNIST", "MNIST/raw"])
def test_the_folders_below_lead_to_the_same_files(tmp_path, below):
    write_idx(tmp_path)
    data = digits.load("mnist", tmp_path / below)
    assert len(data.x_train) == 60 and str(tmp_path / "MNIST" / "raw") in data.source
    assert digits.on_disk("mnist", tmp_path / below) and not digits.on_disk(
        "kmnist", tmp_path / below
    )


def test_a_neighbour_of_the_files_does_not_lead_to_them(tmp_path):
    write_idx(tmp_path)
    (tmp_path / "other").mkdir()
    assert not digits.on_disk("mnist", tmp_path / "other") and not digits.on_disk(
        "mnist", tmp_path / "MNIST" / "other"
    )
    assert digits.on_disk("digits", tmp_path)


# Distorted copies.


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def dot(row: int, column: int) -> torch.Tensor:
    """An image, as a vector, with a bright spot of 3x3 pixels around a place."""
    image = torch.zeros(28, 28)
    image[row - 1 : row + 2, column - 1 : column + 2] = 1
    return image.reshape(1, -1)


def place(images: torch.Tensor) -> torch.Tensor:
    """The centre of mass of images, (n, 784): row and column from the middle of the image, (n, 2)."""
    images, pixels = images.reshape(-1, 28, 28), torch.arange(28) - 13.5
    rows, columns = images.sum(dim=2) @ pixels, images.sum(dim=1) @ pixels
    return torch.stack([rows, columns], dim=1) / images.sum(dim=(1, 2))[:, None]


def test_nothing_distorted_is_the_image():
    images = torch.rand(5, 784, generator=generator())
    assert torch.allclose(digits.distorted(images, generator(), (0, 0, 0, 0)), images, atol=1e-5)


@pytest.mark.parametrize(
    "most, at, reach",
    [
        ((0, 0, 0, 2.0), (13, 13), (2, 2)),  # shifts move all alike, both ways
        (
            (0.2, 0, 0, 0),
            (4, 14),
            (0.29, 1.9),
        ),  # a turn moves what is above the middle sideways: 9.5 sin 0.2
        ((0, 0.1, 0, 0), (4, 14), (1.06, 0.06)),  # a scale moves it up and down: 9.5 / 0.9 - 9.5
        ((0, 0, 0.1, 0), (4, 14), (0.01, 0.95)),  # a shear moves rows sideways: 9.5 * 0.1
    ],
    ids=["shift", "turn", "scale", "shear"],
)
def test_each_distortion_moves_a_spot_as_far_as_it_says(most, at, reach):
    moved = place(digits.distorted(dot(*at).expand(2000, -1), generator(), most)) - place(dot(*at))
    for axis in (0, 1):
        assert reach[axis] * 0.95 - 0.02 <= moved[:, axis].abs().max() <= reach[axis] * 1.05 + 0.02
        assert abs(moved[:, axis].mean()) < 0.06 + 0.1 * reach[axis]  # as often to either side


def test_each_image_is_distorted_on_its_own_and_from_the_generator_alone():
    images = dot(6, 20).expand(50, -1)
    torch.manual_seed(1)
    one = digits.distorted(images, generator(3))
    torch.manual_seed(2)
    assert torch.equal(one, digits.distorted(images, generator(3))) and len(one.unique(dim=0)) == 50
    assert not torch.equal(one, digits.distorted(images, generator(4)))
    assert (
        one.shape == (50, 784)
        and one.dtype == torch.float32
        and 0 <= one.min()
        and one.max() <= 1 + 1e-6
    )
    assert images.sum() == 50 * 9 and digits.distorted(images[:0], generator()).shape == (0, 784)


def test_its_random_numbers_are_drawn_in_one_go():
    used, same = generator(5), generator(5)
    digits.distorted(torch.rand(7, 784), used)
    torch.rand(5, 7, generator=same)
    assert torch.equal(used.get_state(), same.get_state())
