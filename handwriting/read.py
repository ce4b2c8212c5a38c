"""Reads the digits in pictures with the network that was trained on MNIST.

    python handwriting/read.py photo.jpg drawing.png

prints a line a picture, and draws what it found into outputs/handwriting/classified.png. Lines of digits are read from
top to bottom, each from left to right. A digit is made as MNIST's images are (LeCun et al. 1998): scaled to fit 20x20
pixels, in 28x28 with its centre of mass in the middle. What comes before finds the ink.
"""

import argparse
import itertools
import json
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # common/ is found from any folder

from common import files, options, program
from common.datasets import TITLES
from common.program import PROJECT, RunError
from common.run import generator
from handwriting import figure
from handwriting.find import LARGE, SIDE, as_mnist, prepare
from lectures import mnist_mlp

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import nn

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP")  # not EPS: Pillow runs a program for it
LARGEST_PICTURE = 50_000_000  # pixels
MOST_HIDDEN = 10_000
MOST_DIGITS = 50  # in a picture: more pieces of ink are no digits
UNSURE = 0.6  # an answer less probable than this is said to be unsure
NO_DIGIT = 0.25  # what is less probable than this is marked "?"
# Each image is asked of as all of these: turns in radians, slants and widths as shares.
COPIES = tuple(itertools.product((-0.15, 0, 0.15), (-0.2, 0, 0.2), (-0.15, 0, 0.15)))
DRAWN = 60  # pictures, at most
__all__ = ["as_mnist", "prepare"]
MODELS = tuple(PROJECT / "outputs" / run / "model.pt" for run in ("mnist_all", "mnist_mlp"))


def read_picture(path: Path) -> NDArray[np.uint8]:
    """A file's picture as the camera was held: colours and opacity, (height, width, 4).

    Raises:
        RunError: not a picture that can be read, or too large a one.
    """
    if not path.is_file():
        raise RunError(f"{path}: {'not a file' if path.exists() else 'there is no such file'}")
    start = b""
    try:
        with path.open("rb") as file:
            start = file.read(12)
        if start[4:8] == b"ftyp":
            raise RunError(
                f"{path}: HEIC or AVIF, as iPhones write it, cannot be read here; export it as JPEG "
                "from a photo app, or on a Mac: sips -s format jpeg FILE --out photo.jpg"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what surrounds the pixels
            with Image.open(path, formats=FORMATS) as picture:
                if picture.width * picture.height > LARGEST_PICTURE:
                    raise Image.DecompressionBombError
                upright = ImageOps.exif_transpose(picture)
                if upright.mode[0] in "IF":  # greys of 16 bits, which Pillow would cut off
                    grey = np.nan_to_num(np.asarray(upright, np.float64))
                    grey -= grey.min()
                    upright = Image.fromarray((255 * grey / max(grey.max(), 1e-9)).astype(np.uint8))
                upright = upright.reduce(max(1, max(upright.size) // LARGE))
                return np.asarray(upright.convert("RGBA"))
    except RunError:
        raise
    except Image.DecompressionBombError:
        raise RunError(
            f"{path}: more than {LARGEST_PICTURE:,} pixels; make the picture smaller"
        ) from None
    except Exception as error:  # what a damaged file makes of Pillow's readers has no common class
        what = type(error).__name__ if start else "it is empty"
        raise RunError(
            f"{path}: not a picture that can be read ({what}); expected {', '.join(FORMATS)}"
        ) from None


def load_model(path: Path) -> nn.Sequential:
    """The network in a file, as wide as the file says. Nothing in the file is executed.

    Raises:
        RunError: no such file, a damaged one, or another network.
    """
    state = files.load(path)
    try:
        hidden = len(state["0.bias"])
        model = mnist_mlp.build_model(min(max(hidden, 1), MOST_HIDDEN), generator(0, "model"))
        model.load_state_dict(state)
    except (KeyError, TypeError, IndexError, AttributeError, RuntimeError):
        raise RunError(
            f"{path} is not a 784-40-10 network of mnist_mlp.py or mnist_all.py"
        ) from None
    if not all(part.isfinite().all() for part in model.parameters()):
        raise RunError(f"{path} has numbers that are infinite or none")
    return model


def origin(path: Path) -> str:
    """What a model was trained on, from the metrics.json beside it; a warning if that is not MNIST, or not known."""
    try:
        results = json.loads((path.parent / "metrics.json").read_bytes())["results"]
        title = TITLES[results["dataset"]]
        count, accuracy = int(results["train_images"]), float(results["test_accuracy"])
        if not (0 < count <= 60_000 and 0 <= accuracy <= 1):
            raise ValueError
    except FileNotFoundError:
        warn("there is no metrics.json beside the model, so nobody knows what it was trained on")
        return "of unknown origin"
    except (OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError):
        warn("the metrics.json beside the model is damaged, so nobody knows what it was trained on")
        return "of unknown origin"
    if results["dataset"] != "mnist":
        warn(f"the model was trained on {title}, not on MNIST: do not trust its answers")
    share = f"{100 * accuracy:.1f} %"
    return f"trained on {count:,} images of {title}, right for {share} of its test images"


def warn(text: str) -> None:
    """Says it on stderr."""
    print(f"warning: {text}", file=sys.stderr)


def read(path: Path, model: nn.Sequential) -> figure.Reading:
    """A file's digits, their probabilities and what is said of each.

    Raises:
        RunError: the file is no picture, or there are no digits in it, or too many.
    """
    picture = read_picture(path)
    lines = prepare(picture)
    found = [digit for line in lines for digit in line]
    if not found:
        raise RunError(
            f"{path}: no ink found; expected digits that stand out from their background"
        )
    if len(found) > MOST_DIGITS:
        raise RunError(f"{path}: {len(found)} pieces of ink; expected at most {MOST_DIGITS} digits")
    images = np.stack([digit.image for digit in found])
    chances = probabilities(model, images)
    name = "".join(letter if letter.isprintable() else "?" for letter in path.name)
    answers = [answer(row, image) for row, image in zip(chances, images)]
    boxes = [digit.box for digit in found]
    return figure.Reading(
        name, picture, boxes, images, chances, answers, [len(line) for line in lines]
    )


def probabilities(model: nn.Sequential, images: NDArray[np.uint8]) -> NDArray:
    """The probability of each digit for each image, (n, 10): the mean over the image and copies of it.

    A copy is slanted, wider or narrower, or turned a little, around the middle. Doubtful digits change with it.
    """
    copies = []
    for turn, slant, wide in COPIES:
        cos, sin = np.cos(turn), np.sin(turn)
        change = np.array(
            [[(1 + wide) * cos, (1 + wide) * (slant * cos - sin)], [sin, slant * sin + cos]]
        )
        shift = (1 - change.sum(axis=1)) * 14
        matrix = np.column_stack([change, shift])
        copies += [cv2.warpAffine(image, matrix, (SIDE, SIDE)) for image in images]
    vectors = mnist_mlp.as_vectors(torch.from_numpy(np.stack(copies)))
    return mnist_mlp.predict(model, vectors).numpy().reshape(len(COPIES), -1, 10).mean(axis=0)


def answer(chances: NDArray, image: NDArray[np.uint8]) -> str:
    """``7 (98.3 %)``; below 60 % ``unsure: 4 (52 %) or 9 (41 %)``; ``?`` of what is no digit."""
    first, second = np.argsort(-chances, kind="stable")[:2]
    if chances[first] < NO_DIGIT or is_sign(image):
        return "?"
    if chances[first] >= UNSURE:
        return f"{first} ({100 * chances[first]:.1f} %)"
    return f"unsure: {first} ({100 * chances[first]:.0f} %) or {second} ({100 * chances[second]:.0f} %)"


def is_sign(image: NDArray[np.uint8]) -> bool:
    """Whether an image is a minus sign, flat, or a plus sign: all its ink near one row and one column."""
    ink = image / 255
    rows, columns = ink.sum(axis=1), ink.sum(axis=0)
    high, wide = (rows > 0).sum(), (columns > 0).sum()
    if high < 0.45 * wide:
        return True
    row, column = int(rows.argmax()), int(columns.argmax())
    rest = ink.copy()
    rest[max(row - 2, 0) : row + 3] = 0
    rest[:, max(column - 2, 0) : column + 3] = 0
    arms = [
        ink[: row - 2, column].sum(),
        ink[row + 3 :, column].sum(),
        ink[row, : column - 2].sum(),
        ink[row, column + 3 :].sum(),
    ]
    return bool(rest.sum() < 0.06 * ink.sum() and min(arms) > 2.5)


def sentence(reading: figure.Reading) -> str:
    """The answers in one: ``4 2 / 7 (97.0 %, 88.1 %, 99.0 %)``; what is unsure stays as it is."""
    if len(reading.answers) == 1:
        return reading.answers[0]
    words = [
        "?" if said == "?" else str(row.argmax())
        for said, row in zip(reading.answers, reading.probabilities)
    ]
    ends = np.cumsum(reading.lines)
    lines = [" ".join(words[end - size : end]) for end, size in zip(ends, reading.lines)]
    sure = [said[3:-1] if said[0].isdigit() else said for said in reading.answers]
    return f"{' / '.join(lines)} ({', '.join(sure)})"


def digits_read(reading: figure.Reading) -> list[str]:
    """The digits in the order of reading, without what is no digit."""
    pairs = zip(reading.answers, reading.probabilities)
    return [str(row.argmax()) for said, row in pairs if said != "?"]


def is_sure(reading: figure.Reading) -> bool:
    """Whether there are digits, and none of them is unsure."""
    said = [answer for answer in reading.answers if answer != "?"]
    return bool(said) and not any(answer.startswith("unsure") for answer in said)


def arguments() -> argparse.Namespace:
    """The options, see --help."""
    parser = options.parser(__doc__.splitlines()[0])
    parser.add_argument(
        "pictures", type=Path, nargs="+", metavar="PICTURE", help=f"a file: {', '.join(FORMATS)}"
    )
    add_model_option(parser)
    parser.add_argument(
        "--output-dir",
        type=options.folder,
        default=PROJECT / "outputs" / "handwriting",
        metavar="DIR",
        help="where classified.png is written",
    )
    return parser.parse_args()


def add_model_option(parser: argparse.ArgumentParser) -> None:
    """Adds ``--model``, which `chosen_model` loads."""
    parser.add_argument(
        "--model",
        type=Path,
        metavar="FILE",
        help="a model.pt (default: that of outputs/mnist_all, else of outputs/mnist_mlp)",
    )


def chosen_model(path: Path | None) -> nn.Sequential:
    """The network that ``--model`` names, or the best there is; what it is, is said."""
    if path is None:
        path = next((path for path in MODELS if path.exists()), MODELS[-1])
        if not path.exists():
            raise RunError(
                f"there is no {path}; train one with python exercises/mnist_all.py, or name one "
                "with --model"
            )
    model = load_model(path)
    print(f"model: {path}, {origin(path)}")
    return model


def main() -> None:
    args = arguments()
    model = chosen_model(args.model)
    lock = files.open_folder(args.output_dir)
    readings: list[figure.Reading] = []
    errors: list[RunError] = []
    for path in args.pictures:
        try:
            readings.append(read(path, model))
        except RunError as error:
            errors.append(error)
        else:
            print(f"{path}: {sentence(readings[-1])}")
    if readings:
        title = "What was found, what the network sees of it, and what it says"
        if len(readings) > DRAWN:
            title += f"\nThe first {DRAWN} of {len(readings)} pictures"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of signs in a file's name that the font lacks
            sheet = figure.readings(readings[:DRAWN], title=title)
            files.save(args.output_dir / "classified.png", sheet)
    lock.release()
    for other in errors[:-1]:
        print(f"error: {other}", file=sys.stderr)
    if errors:
        raise errors[-1]


if __name__ == "__main__":
    program.execute(main)
