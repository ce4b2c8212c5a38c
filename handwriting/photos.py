"""Counts the MNIST digits that are read correctly in composed photos: noise, shade, dust, lines.

    python handwriting/photos.py             # test images 5000 to 5099, which chose no setting
    python handwriting/photos.py --tuning    # training images 55000 to 55099, which chose settings

A photo has 800x800 pixels. The digit is enlarged 14 to 20 times and placed at random on paper, in
dark, blue or grey ink; then the photo is saved as JPEG with quality 85 and read again. The model is
that of `make lectures`, unless --model names another.
"""

import argparse
import io
import sys
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common import datasets, options, program
from handwriting import read
from lectures import mnist_mlp

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

SIDE = 800
PAPER, DESK = (236, 233, 226), (70, 50, 38)
INKS = ((40, 42, 60), (30, 50, 130), (45, 45, 45))
LINES = ((150, 175, 215), (100, 105, 130))  # the palest and the darkest


class Photo(NamedTuple):
    """The defects of a photo."""

    noise: float = 1.5  # standard deviation, of 255
    fall: float = 0  # of brightness from one edge to the other, of 255
    shadow: float = 0  # of a hand over a part of the photo: the fraction of light that it takes
    corners: float = 0  # the fraction of light that is missing there
    specks: int = 0  # of dust, with a radius of 2 to 6
    rules: int = 0  # 1: lines, 2: squares; turned by up to 2 degrees
    desk: bool = False  # the whole sheet lies on a dark desk, turned by up to 8 degrees
    pen: float | None = None  # the width of all strokes in pixels


KINDS = {
    "clean": Photo(),
    "noise of sigma 8": Photo(noise=8),
    "noise of sigma 12": Photo(noise=12),
    "light falling by 15": Photo(fall=15),
    "light falling by 30": Photo(fall=30),
    "light falling by 60": Photo(fall=60),
    "12 specks of dust": Photo(specks=12),
    "lined paper": Photo(rules=1),
    "squared paper": Photo(rules=2),
    "dark desk": Photo(desk=True),
    "pen of 3 pixels": Photo(pen=3),
    "shadow of a hand": Photo(shadow=0.3),
    "dark corners": Photo(corners=0.4),
}


def compose(image: NDArray[np.uint8], kind: Photo, draw: np.random.Generator) -> NDArray[np.uint8]:
    """Composes a photo (800, 800, 3) of a digit's image (28, 28), with bright ink on 0."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    scene = np.full((SIDE, SIDE, 3), PAPER, float)
    for axis in range(kind.rules):
        scene = ruled(scene, axis, kind.rules, draw)
    ink = on_field(
        strokes(image, int(draw.integers(9, 13) if kind.desk else draw.integers(14, 21)), kind.pen),
        150 if kind.desk else 40,
        draw,
    )
    scene = mixed(scene, INKS[draw.integers(len(INKS))], ink)
    for _ in range(kind.specks):
        place, radius = draw.uniform(-0.5, 0.5, 2), draw.uniform(2, 6)
        scene = mixed(
            scene,
            (60, 60, 60),
            (radius + 0.5 - SIDE * np.hypot(y - place[0], x - place[1])).clip(0, 1),
        )
    if kind.desk:
        scene = on_desk(scene, draw)
    angle = draw.uniform(0, 2 * np.pi)
    # From -0.5 to 0.5 between two edges, at most 0.71 at corners
    across = x * np.cos(angle) + y * np.sin(angle)
    scene -= kind.fall * (across[..., None] / (abs(np.cos(angle)) + abs(np.sin(angle))) + 0.5)
    scene *= 1 - kind.shadow / (1 + np.exp(-(across + draw.uniform(-0.1, 0.1)) / 0.03))[..., None]
    scene *= 1 - 2 * kind.corners * (x**2 + y**2)[..., None]
    scene += draw.normal(0, kind.noise, scene.shape)
    file = io.BytesIO()
    Image.fromarray(scene.clip(0, 255).round().astype(np.uint8)).save(file, "JPEG", quality=85)
    return np.asarray(Image.open(file))


def mixed(scene: NDArray, colour: tuple[float, ...], share: NDArray) -> NDArray:
    """Blends a colour into `scene`; `share` is its fraction at each pixel."""
    return scene * (1 - share[..., None]) + np.array(colour) * share[..., None]


def strokes(image: NDArray[np.uint8], times: int, pen: float | None) -> NDArray:
    """A digit enlarged: the fraction of ink at each pixel; with `pen`, drawn along centre lines."""
    size = (times * image.shape[1], times * image.shape[0])
    large = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    if pen is None:
        return large / 255
    return (pen / 2 + 0.5 - ndimage.distance_transform_edt(~thinned(large > 100))).clip(0, 1)


def thinned(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The centre lines of a mask's strokes, by the method of Zhang and Suen (1984)."""
    mask = np.pad(mask, 1)
    around = ((-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1))
    before = -1
    while before != mask.sum():
        before = mask.sum()
        for first in (0, 2):
            p = [np.roll(mask, (-y, -x), (0, 1)) for y, x in around]
            north, east, south, west = p[::2]
            count = sum(neighbour.astype(int) for neighbour in p)
            rises = sum((~p[i] & p[(i + 1) % 8]).astype(int) for i in range(8))
            three = (
                ~(north & east & south) & ~(east & south & west)
                if first == 0
                else ~(north & east & west) & ~(north & south & west)
            )
            mask = mask & ~((count >= 2) & (count <= 6) & (rises == 1) & three)
    return mask[1:-1, 1:-1]


def on_field(ink: NDArray, margin: int, draw: np.random.Generator) -> NDArray:
    """Puts ink at a random place on the paper, at least `margin` from its edge."""
    field = np.zeros((SIDE, SIDE))
    top, left = (int(draw.integers(margin, SIDE - margin - side + 1)) for side in ink.shape)
    field[top : top + ink.shape[0], left : left + ink.shape[1]] = ink
    return field


def ruled(scene: NDArray, axis: int, rules: int, draw: np.random.Generator) -> NDArray:
    """Adds lines 1.5 to 3 pixels wide along an axis to `scene`, closer together for squares."""
    tilt = np.radians(draw.uniform(-2, 2))
    places = np.mgrid[:SIDE, :SIDE]
    gap = draw.uniform(36, 64) if rules == 1 else draw.uniform(24, 40)
    distance = np.abs(
        (places[axis] + np.tan(tilt) * places[1 - axis] + draw.uniform(0, gap)) % gap - gap / 2
    )
    pale = draw.uniform(0, 1)
    colour = tuple(pale * light + (1 - pale) * dark for light, dark in zip(*LINES))
    return mixed(scene, colour, (draw.uniform(0.75, 1.5) + 0.5 - distance).clip(0, 1))


def on_desk(scene: NDArray, draw: np.random.Generator) -> NDArray:
    """Puts the middle of a scene, as a sheet of paper, at a random angle on a dark, grainy desk."""
    height, width = (int(draw.integers(560, 700)) for _ in range(2))
    top, left = (SIDE - height) // 2, (SIDE - width) // 2
    sheet = Image.fromarray(scene.astype(np.uint8)).convert("RGBA")
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[top : top + height, left : left + width] = 255
    sheet.putalpha(Image.fromarray(mask))
    sheet = sheet.rotate(
        draw.uniform(-8, 8), Image.Resampling.BICUBIC, translate=tuple(draw.integers(-40, 41, 2))
    )
    grain = 6 * np.sin(np.arange(SIDE) / 20)[:, None] + draw.normal(0, 6, (SIDE, SIDE))
    return mixed(np.array(DESK) + grain[..., None], (0, 0, 0), np.asarray(sheet)[..., 3] / 255) + (
        np.asarray(sheet)[..., :3] * (np.asarray(sheet)[..., 3:] / 255)
    )


def arguments() -> argparse.Namespace:
    """The options, see --help."""
    parser = options.parser(__doc__.splitlines()[0])
    read.add_model_option(parser)
    options.add_data_dir_option(parser)
    parser.add_argument(
        "--tuning", action="store_true", help="use the training images that chose the settings"
    )
    parser.add_argument(
        "--count", type=options.whole_number(1, 5000), default=100, help="photos of each kind"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="also write the table to a file"
    )
    return parser.parse_args()


def main() -> None:
    args = arguments()
    torch.set_num_threads(1)
    model = read.chosen_model(args.model)
    data = datasets.load("mnist", args.data_dir)
    first = 55_000 if args.tuning else 5_000
    images, labels = (
        (data.train_images, data.train_labels)
        if args.tuning
        else (data.test_images, data.test_labels)
    )
    images, labels = images[first : first + args.count], labels[first : first + args.count]
    plain = mnist_mlp.accuracy(mnist_mlp.predict(model, mnist_mlp.as_vectors(images)), labels)
    rows = [
        f"{'Training' if args.tuning else 'Test'} images {first} to {first + len(images) - 1}; "
        f"{plain * len(images):.0f} of {len(images)} are classified correctly without a photo.\n",
        "| photo | right | exactly one digit found |",
        "|---|---|---|",
    ]
    print(*rows, sep="\n")
    for name, kind in KINDS.items():
        right = single = 0
        for place, (image, label) in enumerate(zip(images.numpy(), labels)):
            photo = compose(image, kind, np.random.default_rng([first + place, *name.encode()]))
            found = [digit.ink for line in read.prepare(photo) for digit in line]
            if len(found) == 1:
                single += 1
                right += int(read.probabilities(model, np.stack(found))[0].argmax() == label)
        rows.append(f"| {name} | {right} | {single} |")
        print(rows[-1], flush=True)
    if args.output:
        args.output.write_text("\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    program.execute(main)
