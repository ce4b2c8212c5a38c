"""Reads the digits in pictures with the network trained on MNIST.

    python handwriting/read.py photo.jpg drawing.png

prints a line per picture, digits in reading order; draws outputs/handwriting/classified.png.
"""

import argparse
import itertools
import json
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the project's folder

from common import files, options, program
from common.datasets import TITLES
from common.program import PROJECT, RunError
from handwriting import figure
from handwriting.find import LARGE, SIDE, prepare
from lectures import mnist_mlp

import cv2
import numpy as np
import torch
from PIL import Image, ImageOps

FORMATS = "PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP"  # not EPS: Pillow runs a program for it
LARGEST_PICTURE = 50_000_000  # pixels
MOST_DIGITS = 50  # per picture; more pieces of ink are not digits
UNSURE, NO_DIGIT = 0.6, 0.25  # an answer less probable is called unsure, or replaced by "?"
DRAWN = 60  # pictures at most
MODELS = tuple(PROJECT / "outputs" / run / "model.pt" for run in ("mnist_all", "mnist_mlp"))


def read_picture(path: Path) -> np.ndarray:
    """Reads a picture (height, width, 3), upright; RunError if it is unreadable or too large."""
    if not path.is_file():
        raise RunError(f"{path}: {'not a file' if path.exists() else 'there is no such file'}")
    try:
        with Image.open(path, formats=FORMATS) as picture:
            if picture.width * picture.height > LARGEST_PICTURE:
                raise Image.DecompressionBombError
            upright = ImageOps.exif_transpose(picture)
        if upright.mode[0] in "IF":  # 16-bit greys, which Pillow would clip
            grey = np.nan_to_num(np.asarray(upright, np.float64))
            grey = np.interp(grey, (grey.min(), grey.max()), (0, 255))
            upright = Image.fromarray(grey.astype(np.uint8))
        upright = upright.convert("RGBA").reduce(max(1, max(upright.size) // LARGE))
    except Exception as error:  # for a damaged file Pillow raises errors of many classes
        why = f"not a picture that can be read ({type(error).__name__}); expected {', '.join(FORMATS)}"
        if isinstance(error, Image.DecompressionBombError):
            why = f"more than {LARGEST_PICTURE:,} pixels; make the picture smaller"
        elif np.fromfile(path, np.uint8, 12)[4:8].tobytes() == b"ftyp":
            why = "HEIC or AVIF, as iPhones write it; export it as JPEG from a photo app, or on a Mac: "
            why += "sips -s format jpeg FILE --out photo.jpg"
        raise RunError(f"{path}: {why}") from None
    if np.asarray(upright)[..., 3].min() < 255:  # transparent: put on white, or light ink on black
        upright = ImageOps.expand(upright, max(upright.size) // 4)
        mean = np.asarray(upright.resize((1, 1), Image.Resampling.BOX).convert("L"))  # of ink
        colour = "black" if mean.item() > 127 else "white"
        upright = Image.alpha_composite(Image.new("RGBA", upright.size, colour), upright)
    return np.asarray(upright.convert("RGB"))


def load_model(path: Path) -> torch.nn.Sequential:
    """Loads a network of any width, without executing code; RunError if the file holds none."""
    state = files.load(path)
    try:
        hidden = min(max(len(state["0.bias"]), 1), 10_000)  # a file may claim any width
        model = mnist_mlp.build_model(hidden, torch.Generator())
        model.load_state_dict(state)
    except (KeyError, TypeError, IndexError, AttributeError, RuntimeError):
        raise RunError(f"{path} is not a network of mnist_mlp.py or mnist_all.py") from None
    if not all(part.isfinite().all() for part in model.parameters()):
        raise RunError(f"{path} has parameters that are infinite or NaN")
    return model


def origin(path: Path) -> str:
    """What a model was trained on, from its metrics.json; warns if that is not known as MNIST."""
    try:
        results = json.loads((path.parent / "metrics.json").read_bytes())["results"]
        title = TITLES[results["dataset"]]
        said = f"trained on {results['train_images']:,d} images of {title}, "
        said += f"test accuracy {100 * results['test_accuracy']:.1f} %"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        said, title = "of unknown origin", "unknown images (no complete metrics.json is beside it)"
    if title != TITLES["mnist"]:
        print(f"warning: the model was trained on {title}, not on MNIST", file=sys.stderr)
    return said


def read(path: Path, model: torch.nn.Sequential) -> figure.Reading:
    """Reads a file's digits; RunError if it is not a picture, or has no digits or too many."""
    picture = read_picture(path)
    lines = prepare(picture)
    found = [digit for line in lines for digit in line]
    if not found:
        raise RunError(f"{path}: no ink found; expected digits that stand out from the background")
    if len(found) > MOST_DIGITS:
        raise RunError(f"{path}: {len(found)} pieces of ink; expected at most {MOST_DIGITS} digits")
    images, boxes = np.stack([digit.ink for digit in found]), [digit.box for digit in found]
    chances = probabilities(model, images)
    answers = [answer(row, image) for row, image in zip(chances, images)]
    name = "".join(letter if letter.isprintable() else "?" for letter in path.name)
    return figure.Reading(name, picture, boxes, images, chances, answers, list(map(len, lines)))


def probabilities(model: torch.nn.Sequential, images: np.ndarray) -> np.ndarray:
    """The probability of each digit for each image, (n, 10): a mean over the image and copies.

    Copies are turned (radians), slanted and stretched; their answers for a doubtful digit differ.
    """
    copies = []
    for turn, slant, wide in itertools.product((-0.15, 0, 0.15), (-0.2, 0, 0.2), (-0.15, 0, 0.15)):
        cos, sin = np.cos(turn), np.sin(turn)
        change = np.array([[cos, -sin], [sin, cos]]) @ [[1, slant], [0, 1]]
        change[0] *= 1 + wide
        matrix = np.column_stack([change, (1 - change.sum(axis=1)) * SIDE / 2])
        copies += [cv2.warpAffine(image, matrix, (SIDE, SIDE)) for image in images]
    vectors = mnist_mlp.as_vectors(torch.from_numpy(np.stack(copies)))
    return mnist_mlp.predict(model, vectors).numpy().reshape(-1, len(images), 10).mean(axis=0)


def answer(chances: np.ndarray, image: np.ndarray) -> str:
    """``7 (98.3 %)``; below 60 % ``unsure: 4 (52 %) or 9 (41 %)``; ``?`` if it is not a digit."""
    first, second = np.argsort(-chances, kind="stable")[:2]
    if chances[first] < NO_DIGIT or is_sign(image):
        return "?"
    if chances[first] >= UNSURE:
        return f"{first} ({100 * chances[first]:.1f} %)"
    return f"unsure: {first} ({100 * chances[first]:.0f} %) or {second} ({100 * chances[second]:.0f} %)"


def is_sign(image: np.ndarray) -> bool:
    """Whether an image is a minus sign (flat) or a plus sign (ink along a central cross)."""
    ink = image.astype(float)
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    if len(rows) < 0.45 * len(columns):
        return True
    row, column = ink.sum(axis=1).argmax(), ink.sum(axis=0).argmax()
    middle = [(row - rows[0]) / len(rows), (column - columns[0]) / len(columns)]
    ink[max(row - 2, 0) : row + 3] = ink[:, max(column - 2, 0) : column + 3] = 0
    crossed = len(columns) > 10 and 0.25 < min(middle) and max(middle) < 0.75
    return bool(crossed and ink.sum() < 0.06 * image.sum())


def digits_of(reading: figure.Reading) -> list[str]:
    """The digits in reading order, ``?`` for what is not a digit."""
    return [said.removeprefix("unsure: ")[0] for said in reading.answers]


def sentence(reading: figure.Reading) -> str:
    """All answers in a line: ``4 2 / 7 (97.0 %, 88.1 %, 99.0 %)``, unsure ones unabridged."""
    if len(reading.answers) == 1:
        return reading.answers[0]
    digits = iter(digits_of(reading))
    lines = [" ".join(itertools.islice(digits, size)) for size in reading.lines]
    shares = [said[3:-1] if said[0].isdigit() else said for said in reading.answers]
    return f"{' / '.join(lines)} ({', '.join(shares)})"


def add_model_option(parser: argparse.ArgumentParser) -> None:
    """Adds ``--model``, which `chosen_model` loads."""
    said = "a model.pt (default: that of outputs/mnist_all, else of outputs/mnist_mlp)"
    parser.add_argument("--model", type=Path, metavar="FILE", help=said)


def chosen_model(path: Path | None) -> torch.nn.Sequential:
    """Loads the network that ``--model`` names, or else the best one, and prints its origin."""
    path = path or next((path for path in MODELS if path.exists()), None)
    if path is None:
        raise RunError("no model yet: run python exercises/mnist_all.py, or name one with --model")
    model = load_model(path)
    print(f"model: {path}, {origin(path)}")
    return model


def main() -> None:
    parser = options.parser(__doc__)
    parser.add_argument("pictures", type=Path, nargs="+", help=", ".join(FORMATS))
    add_model_option(parser)
    folder, said = PROJECT / "outputs" / "handwriting", "where classified.png is written"
    parser.add_argument("--output-dir", type=options.folder, default=folder, help=said)
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # Pillow's about metadata, the font's about missing letters
    model = chosen_model(args.model)
    lock = files.open_folder(args.output_dir)
    readings = []
    for path in args.pictures:
        try:
            readings.append(read(path, model))
            print(f"{path}: {sentence(readings[-1])}")
        except RunError as error:
            print(f"error: {error}", file=sys.stderr)
    if readings:
        title = "The digits found, the network's input, and its answer"
        if len(readings) > DRAWN:
            title += f"\nThe first {DRAWN} of {len(readings)} pictures"
        sheet = figure.readings(readings[:DRAWN], title=title)
        files.save(args.output_dir / "classified.png", sheet)
    lock.release()
    sys.exit(int(len(readings) < len(args.pictures)))


if __name__ == "__main__":
    program.execute(main)
