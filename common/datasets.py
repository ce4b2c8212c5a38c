"""Data sets of 28x28 grey images in ten classes: on disk, downloaded, or bundled.

torchvision, imported only when needed because it is as slow as PyTorch, reads and downloads them.
"""

from common.program import PROJECT, RunError

import gzip
import http.client
import os
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

# Names on the command line, with torchvision's names of classes and folders.
TORCHVISION_NAMES = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "kmnist": "KMNIST"}
TITLES = TORCHVISION_NAMES | {"fashion-mnist": "Fashion-MNIST", "digits": "scikit-learn digits"}
KINDS = ("images-idx3", "labels-idx1")
FILES = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in KINDS]
DOWNLOAD_TIMEOUT = 20  # seconds without an answer


class Dataset(NamedTuple):
    """Images, (n, 28, 28) of uint8 from 0 to 255, and their labels, (n,) of int64 from 0 to 9."""

    name: str  # as on the command line
    title: str
    source: str
    classes: list[str]
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


def load(name: str, data_dir: Path) -> Dataset:
    """Reads a data set from `data_dir`, after downloading it if it is not there.

    Args:
        name: ``mnist``, ``fashion-mnist`` or ``kmnist``; ``digits``, bundled with scikit-learn;
            or ``auto``: mnist, or digits with a warning on stderr where there is no mnist.
        data_dir: the folder that holds ``MNIST/raw/`` with four IDX files, unpacked or as .gz.

    Raises a RunError if the files are damaged, or there are none and the download failed.
    """
    if name == "digits":
        return _bundled()
    wanted = "mnist" if name == "auto" else name
    folder = data_dir / TORCHVISION_NAMES[wanted] / "raw"
    try:
        from torchvision import datasets
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        fault = f"torchvision does not fit torch {torch.__version__} ({_line(error)})"
        raise RunError(f"{fault}: pip install --force-reinstall torch torchvision") from None
    cls = getattr(datasets, TORCHVISION_NAMES[wanted])
    try:
        if not on_disk(wanted, data_dir):
            _download(cls, data_dir, folder)
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        message = (
            f"{TITLES[wanted]} is not in {folder} (expected there, as they are or as .gz: "
            f"{', '.join(FILES)}), and its download failed ({_line(error)}); put the files there, "
            "or choose another --data-dir, or --dataset digits, which needs none"
        )
        if name != "auto":
            raise RunError(message) from None
        print(f"warning: {message}", file=sys.stderr)
        print("warning: using scikit-learn's bundled digits instead of MNIST", file=sys.stderr)
        return _bundled()
    try:
        tensors = _read(cls, data_dir, folder)
    except Exception as error:  # torchvision parses unchecked: damage may raise nearly anything
        fault = f"{folder}: the files there are damaged ({_line(error)})"
        raise RunError(f"{fault}; delete them, and the next run downloads them again") from None
    classes = [label.split(" - ")[0] for label in cls.classes]  # MNIST's are "7 - seven"
    return Dataset(wanted, TITLES[wanted], f"IDX files in {folder}", classes, *tensors)


def on_disk(name: str, data_dir: Path) -> bool:
    """Whether `load` can read a data set, other than digits, without downloading it."""
    paths = [data_dir / TORCHVISION_NAMES[name] / "raw" / file for file in FILES]
    return all(path.is_file() or Path(f"{path}.gz").is_file() for path in paths)


def _read(cls: Any, data_dir: Path, folder: Path) -> list[Tensor]:
    """Images and labels to train on and to test, from the four files in `folder`."""
    # torchvision unpacks a .gz only if it has the checksum that it knows, and beside it.
    with tempfile.TemporaryDirectory() as room:
        if not all((folder / file).is_file() for file in FILES):
            unpacked = Path(room) / folder.relative_to(data_dir)
            unpacked.mkdir(parents=True)
            for path in (folder / file for file in FILES):
                with path.open("rb") if path.is_file() else gzip.open(f"{path}.gz") as source:
                    (unpacked / path.name).write_bytes(source.read())
            data_dir = Path(room)
        parts = [cls(data_dir, train=train) for train in (True, False)]
    for part in parts:
        count = len(part.targets)
        if part.data.shape != (count, 28, 28) or part.targets.max() > 9:
            raise ValueError("not 28x28 images, each with a label from 0 to 9")
    return [tensor for part in parts for tensor in (part.data, part.targets)]


def _download(cls: Any, data_dir: Path, folder: Path) -> None:
    """Downloads into a temporary folder, and moves the files to `folder` once all are whole."""
    if data_dir == PROJECT / "data":
        data_dir.mkdir(exist_ok=True)
    elif not data_dir.is_dir():
        raise NotADirectoryError(f"{data_dir} is no folder")
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
    with tempfile.TemporaryDirectory(dir=data_dir, prefix="download-") as room:
        cls(room, download=True)
        folder.mkdir(parents=True, exist_ok=True)
        for file in FILES:
            os.replace(Path(room, cls.__name__, "raw", file), folder / file)


def _line(error: Exception) -> str:
    """An exception's message in one line, or its type if it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def _bundled() -> Dataset:
    """scikit-learn's 1,797 digits, enlarged from 8x8 to 28x28; 1,437 (80 %) are to train on."""
    from sklearn.datasets import load_digits

    bundle = load_digits()
    small = torch.from_numpy(bundle.images).float().unsqueeze(1)  # (1797, 1, 8, 8), 0 to 16
    large = functional.interpolate(small, size=(28, 28), mode="bilinear")
    images = (large.squeeze(1) * (255 / 16)).round().to(torch.uint8)  # (1797, 28, 28)
    labels = torch.from_numpy(bundle.target).long()
    known = 1437
    tensors = images[:known], labels[:known], images[known:], labels[known:]
    source = "bundled with scikit-learn, enlarged from 8x8"
    return Dataset("digits", TITLES["digits"], source, list("0123456789"), *tensors)
