"""The data sets: what is read, where it is looked for, and what is said where it cannot be read."""

from common import datasets
from common.program import RunError

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import idx_bytes, write_idx
from sklearn.datasets import load_digits


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """A proxy that nobody listens at, so that a test that would download fails."""
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")


def pack(path: Path) -> None:
    """Puts path.gz in a file's place."""
    Path(f"{path}.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()


@pytest.mark.parametrize("packed", ["", "y_test", "x_train y_train x_test y_test"])
def test_every_image_and_label_is_read_as_it_was_written(tmp_path, packed):
    paths = write_idx(tmp_path, train=12, test=11)
    paths["y_test"].write_bytes(idx_bytes(np.arange(10, -1, -1, dtype=np.uint8) % 10))
    content = {name: path.read_bytes() for name, path in paths.items()}
    for name in packed.split():
        pack(paths[name])
    if packed != "x_train y_train x_test y_test":
        Path(f"{paths['x_test']}.gz").write_bytes(b"no gzip, but nobody reads it")
    before = sorted((tmp_path / "MNIST" / "raw").iterdir())
    data = datasets.load("mnist", tmp_path)
    assert data.train_labels.tolist() == [0, 7, 4, 1, 8, 5, 2, 9, 6, 3, 0, 7]
    assert data.test_labels.tolist() == [0, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    assert idx_bytes(data.train_images.numpy()) == content["x_train"]
    assert idx_bytes(data.test_images.numpy()) == content["x_test"]
    assert data.name == "mnist" and data.classes == list("0123456789")
    assert sorted((tmp_path / "MNIST" / "raw").iterdir()) == before  # nothing is put there


DAMAGE = {  # more of them in tests/faults/test_data_files.py
    "x_train, short": lambda content: content[:-5],
    "y_test, short": lambda content: content[:-5],
    "x_test, no images": lambda content: idx_bytes(np.zeros((0, 28, 28), np.uint8)),
    "x_test, a web page": lambda content: b"<html>Please log in to this network.</html>",
    "x_train, other size": lambda content: idx_bytes(np.zeros((60, 28, 27), np.uint8)),
    "y_test, a label 10": lambda content: content[:-1] + bytes([10]),
    "y_train, 59 labels": lambda content: idx_bytes(np.zeros(59, np.uint8)),
}


@pytest.mark.parametrize("packed", ["", "before", "after"])  # in relation to the damage
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_an_error_that_says_where_and_what_to_do(tmp_path, damage, packed):
    path = write_idx(tmp_path, packed=packed == "before")[damage.split(",")[0]]
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    if packed == "after":
        pack(path)
    for name in ("mnist", "auto"):  # damage is no reason to train on something else
        with pytest.raises(RunError, match=r"damaged .*; delete them") as caught:
            datasets.load(name, tmp_path)
        assert str(path.parent) in str(caught.value) and "\n" not in str(caught.value)


def test_the_bundled_digits_are_enlarged_and_use_the_whole_range_of_greys():
    data = datasets.load("digits", Path("nowhere"))
    assert data.train_images.shape == (1437, 28, 28) and data.test_images.shape == (360, 28, 28)
    images = torch.cat([data.train_images, data.test_images])
    labels = torch.cat([data.train_labels, data.test_labels])
    assert labels.tolist() == load_digits().target.tolist()  # none of them twice
    means = load_digits().images.mean(axis=(1, 2)) * 255 / 16  # as dark as they were
    np.testing.assert_allclose(images.float().mean(dim=(1, 2)), means, rtol=1e-3)
    columns = data.train_images[1].float().mean(dim=0)  # a 1 is upright, in the middle
    assert columns[10:20].mean() > 3 * columns[[*range(6), *range(22, 28)]].mean()


RELATIVES = [("fashion-mnist", "FashionMNIST", "T-shirt/top"), ("kmnist", "KMNIST", "o")]


@pytest.mark.parametrize("name, folder, first", RELATIVES)
def test_relatives_of_mnist_have_folders_and_classes_of_their_own(tmp_path, name, folder, first):
    write_idx(tmp_path)
    (tmp_path / "MNIST").rename(tmp_path / folder)
    data = datasets.load(name, tmp_path)
    assert data.name == name and len(data.classes) == 10 and data.classes[0] == first
    assert datasets.on_disk(name, tmp_path) and not datasets.on_disk("mnist", tmp_path)


def test_the_real_mnist(mnist_root):
    data = datasets.load("mnist", Path(mnist_root))
    assert (len(data.train_images), len(data.test_images)) == (60_000, 10_000)
    assert data.train_labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert data.test_labels[:5].tolist() == [7, 2, 1, 0, 4]


def test_three_of_four_files_are_no_data_set(tmp_path):
    write_idx(tmp_path)["y_test"].unlink()
    assert not datasets.on_disk("mnist", tmp_path)
    with pytest.raises(RunError, match=r"MNIST is not in .*t10k-labels-idx1-ubyte.* failed"):
        datasets.load("mnist", tmp_path)


def test_more_images_than_there_are_refuse_the_command_line(run_here, tmp_path):
    write_idx(tmp_path)
    done = run_here("mnist_mlp", "--data-dir", tmp_path, "--images", 61)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "--images: MNIST has 60 training images, got 61" in done.stderr
    for images in (59, 60):
        done = run_here("mnist_mlp", "--data-dir", tmp_path, "--images", images, "--epochs", 1)
        assert f"{images} of 60 images to train on, 30 to test" in done.stdout
