"""Image data sets of 28x28 grey images in ten classes: on disk, downloaded, or bundled; and their distorted copies.

torchvision reads and downloads; what it reads is checked before. It is imported here when it is needed, since that
takes as long as PyTorch itself.
"""

import argparse
import contextlib
import gzip
import http.client
import math
import os
import socket
import struct
import sys
import tempfile
import zlib
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from common import options
from common.onehot import one_cold
from common.program import PROJECT, RunError

# Names on the command line; torchvision's classes, which are also the names of its folders; names in titles.
TORCHVISION_NAMES = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "kmnist": "KMNIST"}
TITLES = {
    "mnist": "MNIST",
    "fashion-mnist": "Fashion-MNIST",
    "kmnist": "KMNIST",
    "digits": "scikit-learn digits",
}
FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
DOWNLOAD_TIMEOUT = 20  # seconds without an answer
LARGEST_FILE = 100 * 2**20  # bytes; MNIST's training images take 47 million
SIDE = 28
# The largest distortions: a turn in radians, scale and shear as shares, a shift in pixels.
DISTORTIONS = (0.15, 0.1, 0.1, 1.0)


class Digits(NamedTuple):
    """A data set: images (n, 28, 28) of uint8, 0 to 255, and labels (n,) of int64, 0 to 9."""

    name: str  # as on the command line
    title: str
    source: str
    classes: list[str]
    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor


def load(name: str, data_dir: Path) -> Digits:
    """Finds a data set: its IDX files under `data_dir`, else torchvision's download into it.

    Args:
        name: ``mnist``, ``fashion-mnist``, ``kmnist``; ``digits``, scikit-learn's bundled ones; or ``auto``: mnist,
            and where it can neither be found nor downloaded, digits with a warning on stderr.
        data_dir: the folder that has torchvision's ``MNIST/raw/`` with four IDX files, as they are or as .gz; or one
            of these two below it.

    Raises:
        RunError: files that are damaged; or none, and no download; or no such folder, though ``auto`` may make it.
    """
    if name == "digits":
        return _bundled()
    wanted = "mnist" if name == "auto" else name
    folder = _folder(wanted, data_dir)
    if not on_disk(wanted, data_dir):
        data_dir = folder.parents[1]
        if not data_dir.is_dir() and data_dir != PROJECT / "data":
            if name != "auto":
                raise RunError(
                    f"{data_dir} is no folder; name the folder of {TORCHVISION_NAMES[wanted]}/raw/ with "
                    "--data-dir or MNIST_ROOT, or make it for the download"
                )
            print(
                f"warning: {data_dir} is no folder; MNIST is to be downloaded into it",
                file=sys.stderr,
            )
        try:
            _download(wanted, data_dir, folder)
        except RunError as error:
            if name != "auto":
                raise
            print(
                f"warning: {error}\nwarning: using scikit-learn's bundled digits instead of MNIST",
                file=sys.stderr,
            )
            return _bundled()
    return _read(wanted, folder)


def on_disk(name: str, data_dir: Path) -> bool:
    """Whether `load` finds a data set without a download."""
    return name == "digits" or all(_find(_folder(name, data_dir), file) for file in FILES)


def add_options(parser: options.Parser) -> None:
    """Adds ``--dataset``, ``--data-dir`` and ``--images``, which `load_chosen` reads."""
    parser.add_argument(
        "--dataset",
        choices=("auto", *TORCHVISION_NAMES, "digits"),
        default="auto",
        help="auto: mnist, or without files and network scikit-learn's digits, with a warning",
    )
    parser.add_argument(
        "--data-dir",
        type=options.folder,
        metavar="DIR",
        default=os.environ.get("MNIST_ROOT") or PROJECT / "data",
        help="the folder of MNIST/raw/ with IDX files; the variable MNIST_ROOT sets it",
    )
    parser.add_argument(
        "--images",
        type=options.whole_number_or_all(1, 60_000),
        default=100,
        metavar="N",
        help="train on the first N images, 1 to 60000, or on all",
    )


def load_chosen(args: argparse.Namespace) -> Digits:
    """The data set that the options name, which is said; ``auto`` and ``all`` in them become what they come to."""
    data = load(args.dataset, args.data_dir)
    available = len(data.x_train)
    if available < 10:
        raise RunError(f"{data.title}: {available} training images, expected at least 10")
    args.dataset, args.images = data.name, available if args.images == "all" else args.images
    if args.images > available:
        options.refuse(
            f"argument --images: {data.title} has {available:,} training images, got {args.images:,}"
        )
    print(
        f"{data.title}: {data.source}; {args.images:,} of {available:,} images to train on, {len(data.x_test):,} to "
        "test"
    )
    return data


def distorted(
    images: Tensor, generator: torch.Generator, most: Sequence[float] = DISTORTIONS
) -> Tensor:
    """Copies of images, each turned, scaled, sheared and shifted at random (LeCun et al. 1998, section III.A).

    Each pixel of a copy has the value of a place in its image, between pixels in proportion (bilinear), outside 0:
    place = (1 + scale) [[cos, -sin], [sin, cos]] [[1, shear], [0, 1]] pixel + shift, from the middle of the image.

    Args:
        images: (n, 784), as vectors.
        generator: on the CPU; it is asked once for the 5 n random numbers, all uniform.
        most: the largest turn in radians, scale and shear as shares, shift in pixels; the least are their negatives.
    """
    random = 2 * torch.rand(5, len(images), generator=generator) - 1
    turn, scale, shear, right, down = (
        random * torch.tensor([*most[:3], *2 * [most[3] / (SIDE / 2)]])[:, None]
    )
    cos, sin = (1 + scale) * turn.cos(), (1 + scale) * turn.sin()
    maps = torch.stack(
        [cos, shear * cos - sin, right, sin, shear * sin + cos, down], dim=1
    ).reshape(-1, 2, 3)
    middles = (torch.arange(SIDE) + 0.5) / (SIDE / 2) - 1  # of the pixels, between -1 and 1
    pixels = torch.stack(
        [middles.repeat(SIDE), middles.repeat_interleave(SIDE), torch.ones(SIDE**2)]
    )  # (3, 784)
    places = (maps.to(images.device) @ pixels.to(images.device)).reshape(
        -1, 2, SIDE, SIDE
    )  # x and y of each pixel
    # This is affine_grid in a fourth of its time.
    copies = functional.grid_sample(
        images.reshape(-1, 1, SIDE, SIDE), places.permute(0, 2, 3, 1), align_corners=False
    )
    return copies.reshape(images.shape)


def _folder(name: str, data_dir: Path) -> Path:
    """Where the files of a data set are: below `data_dir`, or in it, if a user has named the folder itself."""
    below = Path(TORCHVISION_NAMES[name], "raw")
    for above in (data_dir, *data_dir.parents[:2]):
        if (above / below).is_dir() and data_dir in (above, above / below.parent, above / below):
            return above / below
    return data_dir / below


def _find(folder: Path, file: str) -> Path | None:
    """The file as it is or as .gz, whichever is there; a broken link counts as there."""
    return next(
        (path for path in (folder / file, folder / f"{file}.gz") if os.path.lexists(path)), None
    )


def _torchvision() -> ModuleType:
    """torchvision's `datasets`, or a RunError that says why it cannot be imported."""
    try:
        from torchvision import datasets
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        found = []
        for package in ("torch", "torchvision"):
            try:
                found.append(f"{package} {metadata.version(package)}")
            except metadata.PackageNotFoundError:
                found.append(f"no {package}")
        raise RunError(
            f"torchvision cannot be imported ({str(error).splitlines()[0]}); here are "
            f"{' and '.join(found)}, which must be of one release and from one index: "
            "pip install --force-reinstall torch torchvision "
            "(or use --dataset digits, which needs no torchvision)"
        ) from None
    return datasets


def _read(name: str, folder: Path) -> Digits:
    """Reads the four files after checking each."""
    datasets = _torchvision()
    tensors = []
    with tempfile.TemporaryDirectory() as room:
        for file in FILES:
            path = _find(folder, file) or folder / file  # reading it says that it has gone
            plain = _unpack(path, Path(room)) if path.suffix == ".gz" else path
            if "images" in file:
                _check(path, plain, (SIDE, SIDE))
                tensors.append(datasets.mnist.read_image_file(plain))
            else:
                _check(path, plain, ())
                tensors.append(datasets.mnist.read_label_file(plain))
                images, labels = tensors[-2:]
                if labels.max() > 9:
                    raise RunError(
                        f"{path}: label {labels.max()} of image {labels.argmax() + 1}, expected 0 to 9; "
                        "delete the file to download it anew"
                    )
                if len(images) != len(labels):
                    raise RunError(
                        f"{path}: {len(labels)} labels for {len(images)} images; delete the file to "
                        "download it anew"
                    )
    classes = (
        list(map(str, range(10)))
        if name == "mnist"
        else getattr(datasets, TORCHVISION_NAMES[name]).classes
    )
    return Digits(name, TITLES[name], f"IDX files in {folder}", classes, *tensors)


def _unpack(path: Path, room: Path) -> Path:
    """Unpacks a .gz into `room`, up to LARGEST_FILE bytes."""
    plain = room / path.stem
    try:
        with gzip.open(path) as packed, plain.open("wb") as file:
            while block := packed.read(2**20):
                file.write(block)
                if file.tell() > LARGEST_FILE:
                    raise RunError(
                        f"{path}: unpacks to more than {LARGEST_FILE:,} bytes, which no data set here does"
                    )
    except (OSError, EOFError, zlib.error) as error:
        raise RunError(
            f"{path}: not a whole gzip file ({error}); delete it to download it anew"
        ) from None
    return plain


def _check(path: Path, plain: Path, shape: tuple[int, ...]) -> None:
    """Raises a RunError unless `plain` is a whole IDX file of unsigned bytes: n items of `shape`, n at least 1.

    The format, from the page of MNIST: a magic number (two zero bytes, 8 for unsigned bytes, the number of
    dimensions), the size of each dimension, then the bytes; all numbers of 4 bytes, the most significant first.
    """
    numbers = 2 + len(shape)
    try:
        size = plain.stat().st_size
        with plain.open("rb") as file:
            head = file.read(4 * numbers)
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror}") from None
    wrong = None
    if len(head) < 4 * numbers:
        wrong = f"{size} bytes, too few for the header of an IDX file"
    else:
        magic, count, *dimensions = struct.unpack(f">{numbers}I", head)
        expected = 4 * numbers + count * math.prod(shape)
        if magic != 0x800 + 1 + len(shape):
            wrong = f"magic number {magic}, expected {0x800 + 1 + len(shape)}"
        elif tuple(dimensions) != shape:
            wrong = f"images of {' x '.join(map(str, dimensions))}, expected {' x '.join(map(str, shape))}"
        elif count == 0:
            wrong = "no images or labels in it"
        elif size != expected:
            wrong = f"{size:,} bytes, expected {expected:,} for its count of {count:,}"
    if wrong:
        raise RunError(f"{path}: {wrong}; delete the file to download it anew")


def _download(name: str, data_dir: Path, folder: Path) -> None:
    """torchvision's download, with its checksums, from its mirrors in turn.

    It goes into a temporary folder in `data_dir`; only whole files, all four, are moved to `folder`.

    Raises:
        RunError: it failed; the message names the folder, the files expected there and a way without a network.
    """
    cls = getattr(_torchvision(), TORCHVISION_NAMES[name])
    from torchvision.datasets.utils import download_and_extract_archive

    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)
    missing = [place for place in (data_dir, *data_dir.parents) if not place.exists()]
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=data_dir) as room:
            for file, md5 in cls.resources:
                for mirror in cls.mirrors:
                    try:
                        download_and_extract_archive(
                            mirror + file, download_root=room, filename=file, md5=md5
                        )
                        break
                    except (OSError, RuntimeError, EOFError, http.client.HTTPException) as error:
                        reason = error
                else:
                    raise reason
            folder.mkdir(parents=True, exist_ok=True)
            for file in FILES:
                os.replace(Path(room) / file, folder / file)
    except (OSError, RuntimeError, EOFError, http.client.HTTPException) as error:
        with contextlib.suppress(OSError):  # one is not there, or not empty
            for place in missing:
                place.rmdir()
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RunError(
            f"{TITLES[name]} is not in {folder} (expected there, as they are or as .gz: "
            f"{', '.join(FILES)}), and its download failed ({what}); put the files there or name "
            "their folder with --data-dir, or run without a network: "
            "python lectures/mnist_mlp.py --dataset digits"
        ) from None
    finally:
        socket.setdefaulttimeout(timeout)


def _bundled() -> Digits:
    """scikit-learn's 1,797 digits, 8x8 in 17 greys, enlarged to 28x28; the first 1,437 (80 %) to train on."""
    from sklearn.datasets import load_digits

    bundle = load_digits()
    small = torch.from_numpy(bundle.images).float().unsqueeze(1)  # (1797, 1, 8, 8), 0 to 16
    large = functional.interpolate(small, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
    images = (large.squeeze(1) * (255 / 16)).round().to(torch.uint8)  # (1797, 28, 28)
    labels = torch.from_numpy(bundle.target).long()
    cut = int(0.8 * len(labels))
    return Digits(
        "digits",
        TITLES["digits"],
        "bundled with scikit-learn, enlarged from 8x8",
        list(map(str, range(10))),
        images[:cut],
        labels[:cut],
        images[cut:],
        labels[cut:],
    )


def table(names: list[str], probabilities: Tensor, labels: Tensor, data: Digits) -> str:
    """Images, a line each: name, ten probabilities, of shape (n, 10), in percent, prediction, whether it is right."""
    lines = [
        f"{data.title + ', in %':26}"
        + "".join(f"{name[:5]:>6}" for name in data.classes)
        + "   prediction"
    ]
    for name, row, guess, label in zip(
        names, probabilities.tolist(), one_cold(probabilities), labels
    ):
        lines.append(
            f"{name:26}" + "".join(f"{100 * p:6.1f}" for p in row) + f"   "
            f"{data.classes[guess]} ({'right' if guess == label else f'WRONG, it is {data.classes[label]}'})"
        )
    return "\n".join(lines)
