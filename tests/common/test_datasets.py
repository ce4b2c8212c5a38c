"""The data sets: what is read, where it is looked for, and what is said where it cannot be read."""

from common import datasets
from common.program import RunError

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import idx_bytes, write_idx


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """A proxy that nobody listens at, so that a test that would download fails."""
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")


@pytest.mark.parametrize("packed", [False, True])
def test_every_image_and_label_is_read_as_it_was_written(tmp_path, packed):
    paths = write_idx(tmp_path, train=12, test=11, packed=packed)
    data = datasets.load("mnist", tmp_path)
    assert data.train_images.shape == (12, 28, 28) and data.train_images.dtype == torch.uint8
    assert data.train_labels.tolist() == [0, 7, 4, 1, 8, 5, 2, 9, 6, 3, 0, 7]
    assert data.test_labels.tolist() == [0, 7, 4, 1, 8, 5, 2, 9, 6, 3, 0]
    content = paths["x_test"].read_bytes()
    content = gzip.decompress(content) if packed else content
    assert data.test_images.numpy().tobytes() == content[16:]
    assert data.name == "mnist" and data.classes == list("0123456789")
    assert sorted((tmp_path / "MNIST" / "raw").iterdir()) == sorted(paths.values())  # as it was


def test_unpacked_files_come_before_gz_and_both_may_be_mixed(tmp_path):
    paths = write_idx(tmp_path)
    labels, images = paths["y_test"], paths["x_test"]
    Path(f"{labels}.gz").write_bytes(gzip.compress(labels.read_bytes()))
    labels.unlink()
    Path(f"{images}.gz").write_bytes(b"no gzip, but nobody reads it")
    assert len(datasets.load("auto", tmp_path).test_labels) == 30


def test_packed_files_are_read_in_a_folder_that_cannot_be_written(tmp_path):
    folder = write_idx(tmp_path, packed=True)["x_train"].parent
    folder.chmod(0o555)  # root may write all the same: the test before looks at that
    try:
        assert len(datasets.load("mnist", tmp_path).train_images) == 60
    finally:
        folder.chmod(0o755)


def cut(content):
    return content[:-5]


def with_count(number):
    return lambda content: content[:4] + struct.pack(">I", number) + content[8:]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "which, damage",
    [
        ("x_train", cut),
        ("y_test", cut),
        ("x_test", lambda content: struct.pack(">I", 2052) + content[4:]),
        ("x_test", lambda content: b"<html>Please log in to this network.</html>"),
        ("y_train", with_count(10**9)),
        ("x_train", lambda content: b""),
        ("x_train", lambda content: idx_bytes(np.zeros((60, 28, 27), np.uint8))),
        ("x_test", lambda content: idx_bytes(np.zeros((0, 28, 28), np.uint8))),
        ("y_test", lambda content: content[:-1] + bytes([10])),
        ("y_train", lambda content: idx_bytes(np.zeros(59, np.uint8))),
    ],
)
def test_a_damaged_file_is_an_error_that_says_where_and_what_to_do(tmp_path, which, damage, packed):
    path = write_idx(tmp_path)[which]
    content = damage(path.read_bytes())
    path.write_bytes(content)
    if packed:
        Path(f"{path}.gz").write_bytes(gzip.compress(content))
        path.unlink()
    for name in ("mnist", "auto"):  # damage is no reason to train on something else
        with pytest.raises(RunError, match=r"damaged .*; delete them") as caught:
            datasets.load(name, tmp_path)
        assert str(path.parent) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-6],
        lambda content: b"junk" + content,
        lambda content: content[:40] + bytes(b ^ 255 for b in content[40:60]) + content[60:],
        lambda content: b"",
    ],
)
def test_a_damaged_gz_is_an_error_too(tmp_path, damage):
    path = write_idx(tmp_path, packed=True)["x_train"]
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(RunError, match=r"damaged .*; delete them"):
        datasets.load("mnist", tmp_path)


def test_the_bundled_digits_are_enlarged_and_use_the_whole_range_of_greys():
    data = datasets.load("digits", Path("nowhere"))
    assert data.name == "digits" and data.classes == list("0123456789")
    assert data.train_images.shape == (1437, 28, 28) and data.test_images.shape == (360, 28, 28)
    assert data.train_images.min() == 0 and data.train_images.max() > 240
    assert data.train_labels[:5].tolist() == [0, 1, 2, 3, 4]
    columns = data.train_images[1].float().mean(dim=0)  # a 1 is upright, in the middle
    assert columns[10:20].mean() > 3 * columns[[*range(6), *range(22, 28)]].mean()


@pytest.mark.parametrize(
    "name, folder, first",
    [("fashion-mnist", "FashionMNIST", "T-shirt/top"), ("kmnist", "KMNIST", "o")],
)
def test_the_relatives_of_mnist_have_folders_and_classes_of_their_own(
    tmp_path, name, folder, first
):
    write_idx(tmp_path)
    (tmp_path / "MNIST").rename(tmp_path / folder)
    data = datasets.load(name, tmp_path)
    assert data.name == name and len(data.classes) == 10 and data.classes[0] == first
    assert datasets.on_disk(name, tmp_path) and not datasets.on_disk("mnist", tmp_path)


def test_the_real_mnist(mnist_root):
    data = datasets.load("mnist", Path(mnist_root))
    assert data.train_images.shape == (60_000, 28, 28) and data.test_images.shape == (
        10_000,
        28,
        28,
    )
    assert data.train_labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert data.test_labels[:5].tolist() == [7, 2, 1, 0, 4]


@pytest.mark.parametrize("below", ["", "MNIST", "MNIST/raw"])
def test_the_folder_may_be_named_at_three_levels(tmp_path, below):
    write_idx(tmp_path)
    assert datasets.on_disk("mnist", tmp_path / below)
    data = datasets.load("mnist", tmp_path / below)
    assert len(data.train_images) == 60 and str(tmp_path / "MNIST" / "raw") in data.source


def test_a_neighbour_of_the_files_does_not_lead_to_them(tmp_path):
    write_idx(tmp_path)
    for other in (tmp_path / "other", tmp_path / "MNIST" / "other"):
        other.mkdir()
        assert not datasets.on_disk("mnist", other)


def test_three_of_four_files_are_no_data_set(tmp_path):
    write_idx(tmp_path)["y_test"].unlink()
    assert not datasets.on_disk("mnist", tmp_path)
    with pytest.raises(RunError, match=r"MNIST is not in .*t10k-labels-idx1-ubyte.* failed"):
        datasets.load("mnist", tmp_path)


def test_a_folder_named_wrongly_is_said_and_not_made(tmp_path, capsys):
    typo = tmp_path / "typo" / "data"
    for name in ("mnist", "fashion-mnist"):
        with pytest.raises(RunError, match="is no folder") as caught:
            datasets.load(name, typo)
        assert str(typo) in str(caught.value) and "\n" not in str(caught.value)
    assert datasets.load("auto", typo).name == "digits"
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and all(line.startswith("warning: ") for line in said)
    assert f"{typo} is no folder" in said[0] and "bundled digits instead of MNIST" in said[1]
    assert not (tmp_path / "typo").exists()


def test_more_images_than_there_are_refuse_the_command_line(run_here, tmp_path):
    write_idx(tmp_path)
    done = run_here("mnist_mlp", "--data-dir", tmp_path, "--images", 61)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "--images: MNIST has 60 training images, got 61" in done.stderr
    done = run_here("mnist_mlp", "--data-dir", tmp_path, "--images", "all", "--epochs", 1)
    assert done.returncode == 0 and done.metrics["config"]["images"] == 60
    assert "60 of 60 images to train on, 30 to test" in done.stdout
