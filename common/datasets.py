"""Data sets of 28x28 grey images in ten classes: on disk, downloaded, or bundled.

torchvision reads and downloads them. It is imported only when needed: that takes as long as
importing PyTorch.
"""

from common.program import PROJECT, RunError

import gzip
import http.client
import os
import shutil
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
PARTS = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
FILES = [f"{part}-ubyte" for part in PARTS]
DOWNLOAD_TIMEOUT = 20  # seconds without an answer
SIDE = 28


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
            or ``auto``: mnist, but digits, with a warning on stderr, where mnist is neither on
            disk nor can be downloaded.
        data_dir: the folder that holds ``MNIST/raw/`` with four IDX files, unpacked or as .gz;
            the path of ``MNIST`` or of ``raw`` in it will do too.

    Raises:
        RunError: the files are damaged, or there are none and the download failed.
    """
    if name == "digits":
        return _bundled()
    wanted = "mnist" if name == "auto" else name
    if not on_disk(wanted, data_dir):
        try:
            _download(wanted, data_dir)
        except RunError as error:
            if name != "auto":
                raise
            instead = "using scikit-learn's bundled digits instead of MNIST"
            print(f"warning: {error}\nwarning: {instead}", file=sys.stderr)
            return _bundled()
    return _read(wanted, _folder(wanted, data_dir))


def on_disk(name: str, data_dir: Path) -> bool:
    """Whether `load` can read a data set, other than digits, without downloading it."""
    paths = [_folder(name, data_dir) / file for file in FILES]
    return all(path.is_file() or Path(f"{path}.gz").is_file() for path in paths)


def _folder(name: str, data_dir: Path) -> Path:
    """The folder of a data set's files, of which `data_dir` may be torchvision's root or a part."""
    below = Path(TORCHVISION_NAMES[name], "raw")
    for root in (data_dir, *data_dir.parents[:2]):
        folder = root / below
        if folder.is_dir() and data_dir in (root, folder.parent, folder):
            return folder
    return data_dir / below


def _torchvision(name: str) -> Any:
    """torchvision's class for a data set. Raises a RunError if torchvision cannot be imported."""
    try:
        from torchvision import datasets
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        raise RunError(
            f"torchvision cannot be imported ({_line(error)}) beside torch {torch.__version__}; "
            "both must be of one release and from one index: pip install --force-reinstall torch "
            "torchvision (or use --dataset digits, which needs no torchvision)"
        ) from None
    return getattr(datasets, TORCHVISION_NAMES[name])


def _read(name: str, folder: Path) -> Dataset:
    """Reads the four files in `folder`. Raises a RunError if they are damaged."""
    cls = _torchvision(name)
    try:
        # torchvision unpacks a .gz only if it has the checksum that it knows, and beside it.
        with tempfile.TemporaryDirectory() as room:
            packed = not all((folder / file).is_file() for file in FILES)
            root = _unpack(folder, Path(room, cls.__name__, "raw")) if packed else folder.parents[1]
            train, test = cls(root, train=True), cls(root, train=False)
        for part in (train, test):
            count = len(part.targets)
            if part.data.shape != (count, SIDE, SIDE) or count < 10 or part.targets.max() > 9:
                raise ValueError("not 28x28 images, at least ten, each with a label from 0 to 9")
    except Exception as error:  # torchvision parses unchecked: damage may raise nearly anything
        raise RunError(
            f"{folder}: the files there are damaged ({_line(error)}); delete them, and the next "
            "run downloads them again"
        ) from None
    classes = [label.split(" - ")[0] for label in cls.classes]  # MNIST's are "7 - seven"
    tensors = (train.data, train.targets, test.data, test.targets)
    return Dataset(name, TITLES[name], f"IDX files in {folder}", classes, *tensors)


def _unpack(packed: Path, folder: Path) -> Path:
    """Copies the files into a new `folder`, unpacking each .gz; returns torchvision's root."""
    folder.mkdir(parents=True)
    for file in FILES:
        plain = packed / file
        with (
            plain.open("rb") if plain.is_file() else gzip.open(f"{plain}.gz") as source,
            (folder / file).open("wb") as target,
        ):
            shutil.copyfileobj(source, target)
    return folder.parents[1]


def _download(name: str, data_dir: Path) -> None:
    """Downloads into a temporary folder, and moves the files to their place once all are whole."""
    cls, folder = _torchvision(name), _folder(name, data_dir)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
    try:
        if data_dir == PROJECT / "data":
            data_dir.mkdir(exist_ok=True)
        elif not data_dir.is_dir():
            raise NotADirectoryError(f"{data_dir} is no folder")
        with tempfile.TemporaryDirectory(dir=data_dir, prefix="download-") as room:
            cls(room, download=True)
            folder.mkdir(parents=True, exist_ok=True)
            for file in FILES:
                os.replace(Path(room, cls.__name__, "raw", file), folder / file)
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        raise RunError(
            f"{TITLES[name]} is not in {folder} (expected there, as they are or as .gz: "
            f"{', '.join(FILES)}), and its download failed ({_line(error)}); put the files there, "
            "or name the folder that has them with --data-dir or MNIST_ROOT, or run without a "
            "network: python lectures/mnist_mlp.py --dataset digits"
        ) from None
    finally:
        socket.setdefaulttimeout(before)


def _line(error: Exception) -> str:
    """An exception's message in one line, or its type if it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def _bundled() -> Dataset:
    """scikit-learn's 1,797 digits, enlarged from 8x8 to 28x28; 1,437 (80 %) are to train on."""
    from sklearn.datasets import load_digits

    bundle = load_digits()
    small = torch.from_numpy(bundle.images).float().unsqueeze(1)  # (1797, 1, 8, 8), 0 to 16
    large = functional.interpolate(small, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    images = (large.squeeze(1) * (255 / 16)).round().to(torch.uint8)  # (1797, 28, 28)
    labels = torch.from_numpy(bundle.target).long()
    cut = int(0.8 * len(labels))
    source, classes = "bundled with scikit-learn, enlarged from 8x8", list(map(str, range(10)))
    tensors = (images[:cut], labels[:cut], images[cut:], labels[cut:])
    return Dataset("digits", TITLES["digits"], source, classes, *tensors)
