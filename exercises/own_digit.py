"""Your own handwriting: which digits do these pictures show, says the network that was trained on MNIST.

    python exercises/own_digit.py photo.jpg drawing.png

reads each picture's digits from left to right, prints a line a picture, and draws what it found into
outputs/own_digit/classified.png. The preparation is that of MNIST (LeCun et al. 1998): a digit is scaled to fit 20x20
pixels and put into 28x28 with its centre of mass in the middle. What comes before finds the ink in a photo.
"""

import argparse
import json
import sys
import warnings
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # common/ is found from any folder

from common import files, options, program
from common.datasets import TITLES
from common.program import PROJECT, RunError
from common.run import generator
from exercises import figures
from lectures import mnist_mlp

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from scipy import ndimage
from torch import nn

FORMATS = (
    "PNG",
    "JPEG",
    "BMP",
    "GIF",
    "TIFF",
    "WEBP",
)  # not EPS, which Pillow hands to another program
LARGEST_PICTURE = 50_000_000  # pixels
MOST_HIDDEN = 10_000
MOST_DIGITS = 50  # in a picture: more pieces of ink are no digits
LARGEST_METRICS = 1_000_000  # bytes
UNSURE = 0.6  # an answer less probable than this is said to be unsure
DRAWN = 60  # pictures, at most
MODELS = tuple(PROJECT / "outputs" / run / "model.pt" for run in ("mnist_mlp_all", "mnist_mlp"))

# The preparation: lengths are in pixels of the working picture, whose longer side has 200 to 1200 of them.
LARGE, SMALL = (
    800,
    200,
)  # a longer picture is shrunk to about LARGE, a shorter one enlarged to at least SMALL
CELLS = 32  # along the longer side: squares whose mean colours show paper and desk
STROKE_CELLS = 5  # no stroke is as wide, no sheet of paper as narrow
DESK = 0.6  # a desk is darker than this share of the paper's brightness
PAPER_AT_EDGE, PAPER_INSIDE = (
    0.2,
    0.3,
)  # the least share of the picture, if the paper reaches its edge and if not
ROUNDS = 20  # of fitting the paper's light
LEAST_CONTRAST = (
    25  # between ink and paper; black and white have 441, their distance in red, green and blue
)
LINE = 9 / 800  # of the longer side: a ruled line is thinner, and runs from edge to edge
LINE_TILT = 0.08  # the steepest line: its rise by its length
LINE_PARTS, LINE_SHARE = 8, 0.4  # in each of 8 parts of a line, 40 % of the columns have ink
SPECK_AREA, SPECK_LENGTH = (
    0.03,
    0.2,
)  # of the largest area and the tallest component: what is less is dust
LOW, NEAR = (
    0.4,
    0.2,
)  # of the tallest: what is lower is no digit, but a part of one that is nearer than this
OVERLAP = 0.3  # of the narrower width: components that share more of their columns are one digit
THINNEST = 0.11  # of a digit's longer side: nine of ten digits of MNIST have wider strokes
FIELD, SIDE = 20, 28  # a digit fills 20x20 of 28x28


# The preparation.


class Found(NamedTuple):
    """A digit found in a picture."""

    image: NDArray[np.uint8]  # (28, 28), ink bright on 0
    box: tuple[int, int, int, int]  # top, left, bottom, right in the picture's pixels


def prepare(picture: NDArray[np.uint8]) -> list[Found]:
    """The digits in a picture from left to right, each as MNIST's images were made; none where there is no ink.

    If no ink is found on paper that lies on a dark desk, there was no desk: it is tried again without.

    Args:
        picture: grey (height, width), colours (height, width, 3), or colours and opacity (height, width, 4).
    """
    colours, scale = working_size(opaque(picture))
    nothing = np.zeros(colours.shape[:2], np.uint8)
    transparent = picture.ndim == 3 and picture.shape[2] == 4 and picture[..., 3].min() < 255
    for desk in [nothing] if transparent else [find_desk(colours), nothing]:
        mask = ink_mask(blurred(contrast(colours, desk)), desk)
        digits = digits_in(without_lines(mask), desk)
        if digits:
            break
    found = []
    for digit, top, left in digits:
        bottom, right = top + digit.shape[0], left + digit.shape[1]
        box = (int(top / scale), int(left / scale), int(bottom / scale), int(right / scale))
        found.append(Found(centred(fitted(thickened(digit))), box))
    return found


def opaque(picture: NDArray[np.uint8]) -> NDArray:
    """Colours (height, width, 3), 0 to 255, on white where it was transparent; on black if what is seen is light."""
    values = picture.astype(np.float32)
    if values.ndim == 2:
        return np.repeat(values[..., None], 3, axis=2)
    colours, opacity = values[..., :3], values[..., 3:] / 255
    if not opacity.size or opacity.min() == 1:
        return colours
    light = (colours * opacity).sum() > 3 * 127.5 * opacity.sum()
    return colours * opacity + (0 if light else 255) * (1 - opacity)


def working_size(colours: NDArray) -> tuple[NDArray, float]:
    """The picture with a longer side of 200 to 1200 pixels, and how many of its pixels make one of `colours`.

    A large one is shrunk by a whole number, by the means of squares; a small one is enlarged by a whole number, with
    values in proportion to the distances between old pixels' middles (bilinear).
    """
    longest = max(colours.shape[:2])
    if longest < SMALL:
        times = -(-SMALL // longest)
        return enlarged(enlarged(colours, times).swapaxes(0, 1), times).swapaxes(0, 1), times
    side = shrinking(longest)
    return block_means(colours, side), 1 / side


def shrinking(longest: int) -> int:
    """The side of the squares of which one pixel is made, for a picture whose longer side has so many pixels."""
    return max(1, (longest + LARGE // 2) // LARGE)


def enlarged(array: NDArray, times: int) -> NDArray:
    """`array` with `times` as many rows, linear between the middles of the old ones, constant at the ends."""
    place = ((np.arange(times * len(array)) + 0.5) / times - 0.5).clip(0, len(array) - 1)
    low = place.astype(int)
    share = (place - low).reshape(-1, 1, 1)
    return array[low] * (1 - share) + array[np.minimum(low + 1, len(array) - 1)] * share


def block_means(array: NDArray, side: int) -> NDArray:
    """The means of squares of `side` pixels, of (height, width) or (height, width, 3); the last may be smaller."""
    rows, columns = np.arange(0, len(array), side), np.arange(0, array.shape[1], side)
    sums = np.add.reduceat(np.add.reduceat(array, rows, axis=0), columns, axis=1)
    counts = np.outer(np.diff([*rows, len(array)]), np.diff([*columns, array.shape[1]]))
    return sums / (counts if array.ndim == 2 else counts[..., None])


def otsu(values: NDArray) -> float:
    """Otsu's threshold (1979): values up to it and values above are two classes, with most variance between them.

    With a histogram of 256 equal steps from the smallest value to the largest; the variance, but for a factor, is
    count below * count above * (mean below - mean above)^2.
    """
    counts, edges = np.histogram(values, 256)
    below, sums = np.cumsum(counts), np.cumsum(counts * (edges[:-1] + edges[1:]) / 2)
    above = below[-1] - below
    between = below * above * (sums / below.clip(1) - (sums[-1] - sums) / above.clip(1)) ** 2
    return float(edges[1 + between.argmax()])


def cell_side(colours: NDArray) -> int:
    """The side of a cell in pixels: 32 of them cover the longer side of the picture."""
    return -(-max(colours.shape[:2]) // CELLS)


def find_desk(colours: NDArray) -> NDArray[np.uint8]:
    """Where there is a dark desk around bright paper: 2 on the desk, 1 near its edge, 0 elsewhere; (height, width).

    Of the cells above Otsu's threshold of brightness, gaps narrower than 5 cells are filled, which are strokes
    (a morphological closing), then parts narrower than 5 cells are taken away (an opening). If that leaves enough
    paper, and the rest is clearly darker, what of the rest hangs together with the picture's edge is the desk.
    """
    side = cell_side(colours)
    cells = block_means(colours.mean(axis=2), side)
    paper = cells > otsu(cells)
    for extreme in (
        ndimage.maximum_filter,
        ndimage.minimum_filter,
        ndimage.minimum_filter,
        ndimage.maximum_filter,
    ):
        paper = extreme(paper, STROKE_CELLS, mode="nearest")
    desk = np.zeros(cells.shape, np.uint8)
    at_edge = border(paper).any()
    if (PAPER_AT_EDGE if at_edge else PAPER_INSIDE) <= paper.mean() < 1 and (
        cells[~paper].mean() < DESK * cells[paper].mean()
    ):
        label, _ = ndimage.label(~paper)
        dark = np.isin(label, np.unique(border(label))) & ~paper
        desk = ndimage.maximum_filter(dark, 3, mode="nearest").astype(np.uint8)
        desk[ndimage.minimum_filter(dark, 3, mode="nearest")] = 2
    return np.kron(desk, np.ones((side, side), np.uint8))[: colours.shape[0], : colours.shape[1]]


def border(array: NDArray) -> NDArray:
    """The values at the edges of a picture."""
    return np.concatenate([array[0], array[-1], array[:, 0], array[:, -1]])


def paper_light(colours: NDArray, desk: NDArray) -> NDArray:
    """The paper's colour at each pixel as if there were no ink, (height, width, 3).

    A polynomial of degree 2 in the place, as light falls off. It starts as the median colour of the cells at the edge
    and is fitted again and again to all cells by least squares, with the weights 1 / (1 + (d / q)^2), where d is the
    distance of a cell's colour from the last fit and q is the distance that a quarter of the cells stay under: cells
    with ink soon count for nothing. Cells that touch the desk are left out.
    """
    side = cell_side(colours)
    cells = block_means(colours, side)
    seen = block_means((desk > 0).astype(float), side) == 0
    edge = seen.copy()
    edge[1:-1, 1:-1] = False
    values = cells[seen]  # (cells, 3)
    middles = [(np.arange(count) + 0.5) * side for count in seen.shape]
    terms = polynomial(middles[0], middles[1], colours.shape)[seen]  # (cells, 6)
    paper = np.median(cells[edge if edge.any() else seen], axis=0)
    for _ in range(ROUNDS):
        distance = np.linalg.norm(values - paper, axis=1)
        quarter = max(np.sort(distance)[len(distance) // 4], 1)
        weighted = terms / (1 + (distance[:, None] / quarter) ** 2)
        factors = np.linalg.solve(
            weighted.T @ terms + 1e-6 * np.eye(6), weighted.T @ values
        )  # (6, 3)
        paper = terms @ factors  # (cells, 3)
    height, width = desk.shape
    return polynomial(np.arange(height) + 0.5, np.arange(width) + 0.5, colours.shape) @ factors


def polynomial(rows: NDArray, columns: NDArray, shape: tuple[int, ...]) -> NDArray:
    """The terms 1, x, y, x^2, x y, y^2 at each row and column, (rows, columns, 6); x and y run from -1 to 1."""
    y, x = np.meshgrid(2 * rows / shape[0] - 1, 2 * columns / shape[1] - 1, indexing="ij")
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=2)


def contrast(colours: NDArray, desk: NDArray) -> NDArray:
    """How much ink is at each pixel: about 0 on paper, whatever the colours of ink and paper; (height, width).

    The difference from the paper's light, on bright paper in proportion to that light, is measured along one direction
    of colour: the sum of all differences, each multiplied by its square. So noise in other directions is left out, and
    ink is positive, dark or light.
    """
    light = paper_light(colours, desk)
    difference = colours - light
    grey = light.mean(axis=2, keepdims=True)
    if grey.mean() > 127.5:
        difference *= 255 / grey.clip(32)
    known = difference[desk == 0]
    direction = ((known**2).sum(axis=1, keepdims=True) * known).sum(axis=0)
    ink = difference @ (direction / max(np.linalg.norm(direction), 1e-9))
    ink[desk == 2] = 255
    return ink


def blurred(array: NDArray) -> NDArray:
    """Blurred slightly, with the weights 1 4 6 4 1 along both axes: noise of single pixels goes, strokes stay."""
    weights = np.array([1, 4, 6, 4, 1]) / 16
    return ndimage.correlate1d(
        ndimage.correlate1d(array, weights, axis=0, mode="nearest"), weights, mode="nearest"
    )


def ink_mask(ink: NDArray, desk: NDArray) -> NDArray[np.bool_]:
    """Where there is ink: above Otsu's threshold; nowhere if that is too close to the paper."""
    values = ink[desk == 0]
    if np.ptp(values) < LEAST_CONTRAST:
        return np.zeros(ink.shape, bool)
    limit = otsu(values)
    clear = values[values > limit].mean() - values[values <= limit].mean() >= LEAST_CONTRAST
    return (ink > limit) & clear


def without_lines(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask without the lines of ruled and squared paper."""
    return without_rows(without_rows(mask).T).T


def without_rows(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask without thin, straight, nearly level lines from the left edge to the right.

    Ink is thin where it ends soon above and below, so a stroke stays whole where it crosses a line. At each tilt, a row
    is a line if each eighth of it (each whose middle lies in the picture) has ink within a pixel in enough columns.
    Thin ink within two pixels of a line is taken away.
    """
    height, width = mask.shape
    if width < height / 2:  # a narrow strip: strokes may reach from edge to edge
        return mask
    thickest = max(2, round(LINE * max(mask.shape)))
    y, x = np.nonzero(ndimage.maximum_filter1d(mask, 3, axis=0))
    part = x * LINE_PARTS // width
    thin = mask & ~ndimage.binary_opening(mask, np.ones((thickest + 1, 1)))
    thin_y, thin_x = np.nonzero(thin)
    if len(thin_y) < LINE_SHARE * width:
        return mask
    is_line = np.zeros(len(thin_y), bool)
    most = int(
        LINE_TILT * width / 2
    )  # pixels that a line rises or falls from the middle to the edge
    rows = np.arange(-most, height + most)  # where a line crosses the middle
    middles = (np.arange(LINE_PARTS) + 0.5) * width / LINE_PARTS - width / 2
    for rise in range(-most, most + 1, 2):
        slope = 2 * rise / width
        row = np.rint(y - slope * (x - width / 2)).astype(int) + most
        counts = np.bincount(row * LINE_PARTS + part, minlength=len(rows) * LINE_PARTS).reshape(
            -1, LINE_PARTS
        )
        level = rows[:, None] + slope * middles
        inside = (level >= 0) & (level < height)
        lines = ((counts >= LINE_SHARE * width / LINE_PARTS) | ~inside).all(axis=1) & inside.any(
            axis=1
        )
        lines = ndimage.maximum_filter1d(lines, 5)
        is_line |= lines[np.rint(thin_y - slope * (thin_x - width / 2)).astype(int) + most]
    mask = mask.copy()
    mask[thin_y[is_line], thin_x[is_line]] = False
    return mask


def digits_in(mask: NDArray[np.bool_], desk: NDArray) -> list[tuple[NDArray[np.bool_], int, int]]:
    """The digits from left to right: each one's mask, and its top and left place in `mask`.

    Pixels that touch, also at corners, are a component. Those that reach onto the desk are dropped, and dust.
    Components that share columns are one digit; a low one, as the bar of a 5, belongs to the nearest digit.
    """
    label, count = ndimage.label(mask, np.ones((3, 3)))
    places = ndimage.find_objects(label)
    areas = np.bincount(label.ravel(), minlength=count + 1)
    on_desk = set(np.unique(label[desk == 2]))
    parts = []  # (left, right, height, length, area, number)
    for number, (rows, columns) in enumerate(places, start=1):
        if number not in on_desk:
            height, width = rows.stop - rows.start, columns.stop - columns.start
            parts.append(
                (columns.start, columns.stop, height, max(height, width), areas[number], number)
            )
    if not parts:
        return []
    tallest, largest = max(part[2] for part in parts), max(part[4] for part in parts)
    parts = sorted(
        part
        for part in parts
        if part[3] >= SPECK_LENGTH * tallest and part[4] >= SPECK_AREA * largest
    )
    groups: list[tuple[int, int, list[int]]] = []  # (left, right, numbers of components)
    for left, right, height, _, _, number in parts:
        if height < LOW * tallest:
            continue
        if groups:
            before, until, numbers = groups[-1]
            if min(right, until) - left > OVERLAP * min(right - left, until - before):
                groups[-1] = (before, max(right, until), [*numbers, number])
                continue
        groups.append((left, right, [number]))
    for left, right, height, _, _, number in parts:
        if height < LOW * tallest:
            gaps = [max(left, group[0]) - min(right, group[1]) for group in groups]
            if min(gaps) < NEAR * tallest:
                groups[int(np.argmin(gaps))][2].append(number)
    digits = []
    for _, _, numbers in groups:
        digit = np.isin(label, numbers)
        rows, columns = np.flatnonzero(digit.any(axis=1)), np.flatnonzero(digit.any(axis=0))
        digits.append(
            (
                digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1],
                int(rows[0]),
                int(columns[0]),
            )
        )
    return digits


def stroke_width(digit: NDArray[np.bool_]) -> float:
    """About how wide a mask's strokes are: a long band of width w has the area w times half its outline.

    The outline is pi / 4 times the number of pixels' edges between ink and paper, the mean over all directions.
    """
    padded = np.pad(digit, 1).astype(np.int8)
    edges = np.abs(np.diff(padded, axis=0)).sum() + np.abs(np.diff(padded, axis=1)).sum()
    return 2 * digit.sum() / (edges * np.pi / 4)


def thickened(digit: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask with strokes at least THINNEST of its longer side wide: pixels within a radius of the ink become ink.

    The radius r solves width + 2 r = THINNEST (side + 2 r); one up to half a pixel is left out.
    """
    radius = (THINNEST * max(digit.shape) - stroke_width(digit)) / (2 - 2 * THINNEST)
    if radius <= 0.5:
        return digit
    return ndimage.distance_transform_edt(~np.pad(digit, int(radius))) <= radius


def fitted(digit: NDArray[np.bool_]) -> NDArray:
    """The mask scaled so that its longer side has 20 pixels, the shape kept: the share of ink in each, 0 to 1."""
    longest = max(digit.shape)
    height, width = (max(1, int(FIELD * side / longest + 0.5)) for side in digit.shape)
    return area_means(area_means(digit.astype(float), height).T, width).T


def area_means(array: NDArray, rows: int) -> NDArray:
    """`array` with `rows` rows, each the mean of the stretch of old rows that it covers, part of a row by its part."""
    sums = np.concatenate(
        [np.zeros_like(array[:1]), np.cumsum(array, axis=0)]
    )  # of the rows above each edge
    edges = np.arange(rows + 1) * (len(array) / rows)
    low = np.minimum(edges.astype(int), len(array) - 1)
    return np.diff(sums[low] + (edges - low)[:, None] * array[low], axis=0) * (rows / len(array))


def centred(small: NDArray) -> NDArray[np.uint8]:
    """28x28, with ink 255, and the centre of mass in pixel (14, 14), counted from 0, as in MNIST's files."""
    corner = []
    for axis, size in enumerate(small.shape):
        middle = (small.sum(axis=1 - axis) * (np.arange(size) + 0.5)).sum() / small.sum()
        corner.append(min(max(int(np.floor(SIDE / 2 + 1 - middle)), 0), SIDE - size))
    top, left = corner
    image = np.zeros((SIDE, SIDE), np.uint8)
    image[top : top + small.shape[0], left : left + small.shape[1]] = (255 * small + 0.5).astype(
        np.uint8
    )
    return image


# The files.


def read_picture(path: Path) -> NDArray[np.uint8]:
    """A file's picture as the camera was held, shrunk if it is large: colours and opacity, (height, width, 4).

    Raises:
        RunError: not a picture that can be read, or too large a one.
    """
    if not path.is_file():
        raise RunError(f"{path}: {'not a file' if path.exists() else 'there is no such file'}")
    try:
        with path.open("rb") as file:
            start = file.read(12)
        if start[4:8] == b"ftyp":
            raise RunError(
                f"{path}: HEIC or AVIF, as iPhones write it, cannot be read here; export it as JPEG from a "
                "photo app, or on a Mac: sips -s format jpeg FILE --out photo.jpg"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what surrounds the pixels
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as picture:
                if picture.width * picture.height > LARGEST_PICTURE:
                    raise Image.DecompressionBombError
                return pixels(picture)
    except RunError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise RunError(
            f"{path}: more than {LARGEST_PICTURE:,} pixels; make the picture smaller"
        ) from None
    except Exception as error:  # what a damaged file makes of Pillow's readers has no common class
        what = type(error).__name__ if start else "it is empty"
        raise RunError(
            f"{path}: not a picture that can be read ({what}); expected {', '.join(FORMATS)}"
        ) from None


def pixels(picture: Image.Image) -> NDArray[np.uint8]:
    """An opened picture's colours and opacity."""
    upright = ImageOps.exif_transpose(picture)
    if upright.mode.startswith(
        ("I", "F")
    ):  # greys of 16 bits and more, which Pillow would cut off at 255
        grey = np.nan_to_num(np.asarray(upright, np.float64))
        grey -= grey.min()
        upright = Image.fromarray((255 * grey / max(grey.max(), 1e-9)).astype(np.uint8))
    return np.asarray(upright.convert("RGBA").reduce(shrinking(max(upright.size))))


def load_model(path: Path) -> nn.Sequential:
    """The network in a file, as wide as the file says. Nothing in the file is executed.

    Raises:
        RunError: no such file, a damaged one, or another network.
    """
    state = files.load(path)
    bias = state.get("0.bias") if isinstance(state, dict) else None
    hidden = len(bias) if isinstance(bias, torch.Tensor) and bias.dim() == 1 else 1
    model = mnist_mlp.build_model(min(max(hidden, 1), MOST_HIDDEN), generator(0, "model"))
    files.restore(model, state, path)
    if not all(tensor.isfinite().all() for tensor in model.state_dict().values()):
        raise RunError(f"{path} has weights that are infinite or no numbers; train the model again")
    return model


def origin(path: Path) -> str:
    """What a model was trained on and how good it is, from the metrics.json beside it; a warning if that is not MNIST.

    A metrics.json that is missing or damaged is a warning too.
    """
    try:
        with (path.parent / "metrics.json").open("rb") as file:
            results = json.loads(file.read(LARGEST_METRICS))["results"]
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
    return f"trained on {count:,} images of {title}, right for {accuracy:.1%} of its test images".replace(
        "%", " %"
    )


def warn(text: str) -> None:
    """Says it on stderr."""
    print(f"warning: {text}", file=sys.stderr)


# The answers.


def read(path: Path, model: nn.Sequential) -> figures.Reading:
    """A file's digits, their probabilities and what is said of each.

    Raises:
        RunError: the file is no picture, or there are no digits in it, or too many.
    """
    picture = read_picture(path)
    found = prepare(picture)
    if not found:
        raise RunError(
            f"{path}: no ink found; expected digits that stand out from their background"
        )
    if len(found) > MOST_DIGITS:
        raise RunError(
            f"{path}: {len(found)} pieces of ink; expected one line of at most {MOST_DIGITS} digits"
        )
    images = np.stack([digit.image for digit in found])
    probabilities = mnist_mlp.predict(model, mnist_mlp.as_vectors(torch.from_numpy(images))).numpy()
    name = "".join(letter if letter.isprintable() else "?" for letter in path.name)
    return figures.Reading(
        name,
        picture,
        [digit.box for digit in found],
        images,
        probabilities,
        [answer(row) for row in probabilities],
    )


def answer(probabilities: NDArray) -> str:
    """The likeliest digit: ``7 (98.3 %)``; or, if it has less than 60 %, ``unsure: 4 (52 %) or 9 (41 %)``."""
    first, second = np.argsort(-probabilities, kind="stable")[:2]
    if probabilities[first] >= UNSURE:
        return f"{first} ({100 * probabilities[first]:.1f} %)"
    return f"unsure: {first} ({100 * probabilities[first]:.0f} %) or {second} ({100 * probabilities[second]:.0f} %)"


def sentence(answers: list[str], probabilities: NDArray) -> str:
    """The answers for a picture's digits in one: ``4 2 (97.0 %, 88.1 %)``; what is unsure stays as it is."""
    if len(answers) == 1:
        return answers[0]
    sure = [said if said.startswith("unsure") else said[3:-1] for said in answers]
    return f"{' '.join(str(row.argmax()) for row in probabilities)} ({', '.join(sure)})"


def arguments() -> argparse.Namespace:
    """The options, see --help."""
    parser = options.parser(__doc__.splitlines()[0])
    parser.add_argument(
        "pictures", type=Path, nargs="+", metavar="PICTURE", help=f"a file: {', '.join(FORMATS)}"
    )
    parser.add_argument(
        "--model",
        type=Path,
        metavar="FILE",
        help="a model.pt of mnist_mlp.py (default: that of outputs/mnist_mlp_all, else of mnist_mlp)",
    )
    parser.add_argument(
        "--output-dir",
        type=options.folder,
        default=PROJECT / "outputs" / "own_digit",
        metavar="DIR",
        help="where classified.png is written",
    )
    args = parser.parse_args()
    if args.model is None:
        args.model = next((path for path in MODELS if path.exists()), MODELS[-1])
        if not args.model.exists():
            raise RunError(
                f"there is no {args.model}; train one with python lectures/mnist_mlp.py, or name one with "
                "--model"
            )
    return args


def main() -> None:
    args = arguments()
    model = load_model(args.model)
    print(f"model: {args.model}, {origin(args.model)}")
    lock = files.open_folder(args.output_dir)
    readings: list[figures.Reading] = []
    errors: list[RunError] = []
    for path in args.pictures:
        try:
            readings.append(read(path, model))
        except RunError as error:
            errors.append(error)
        else:
            print(f"{path}: {sentence(readings[-1].answers, readings[-1].probabilities)}")
    if readings:
        title = "What was found, what the network sees of it, and what it says"
        if len(readings) > DRAWN:
            title += f"\nThe first {DRAWN} of {len(readings)} pictures"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of signs in a file's name that the font lacks
            files.save(
                args.output_dir / "classified.png", figures.readings(readings[:DRAWN], title=title)
            )
    lock.release()
    for other in errors[:-1]:
        print(f"error: {other}", file=sys.stderr)
    if errors:
        raise errors[-1]


if __name__ == "__main__":
    program.execute(main)
