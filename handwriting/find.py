"""Finds the digits in a picture, line by line, and turns each into an image like MNIST's."""

from typing import NamedTuple

import cv2
import numpy as np
from scipy import ndimage

# Lengths are in pixels of the resized picture, whose longer side has 240 to 1000.
LARGE, SMALL = 1000, 240  # a longer picture is shrunk to LARGE, a shorter one enlarged to SMALL
WIDEST = 0.25  # of the picture's shorter side: strokes are narrower, paper and desk are wider
LEAST_CONTRAST = 14  # between ink and paper, of 255
LEAST_SHARE = 0.3  # of the strongest ink's contrast
GRAINS = 5  # times the paper's grain, which is about one standard deviation
RULE_LENGTH = 0.15  # of the picture's width: a ruled line is longer, and ends at the picture's edge
RULE_WIDTH = 9 / 800  # of the picture's longer side: a ruled line is thinner
FAINT = 0.45  # of the strongest ink: a piece without stronger ink is dust, or part of a ruled line
SPECK = 0.2  # of the tallest piece: a shorter one is dust
LOW, NEAR = 0.36, 0.25  # of the tallest: a piece lower than LOW belongs to a digit nearer than NEAR
LINK = 0.1  # of the tallest: pieces with a smaller vertical gap are one digit
THINNEST = 0.11  # of a digit's longer side: nine of ten digits of MNIST have wider strokes
FIELD, SIDE = 20, 28  # a digit fills 20x20 of 28x28


class Digit(NamedTuple):
    """A digit's place in the picture, and its ink."""

    box: tuple[int, ...]  # top, left, bottom, right
    ink: np.ndarray  # the box's mask; in the result of `prepare` an image (28, 28), uint8, ink 255


def prepare(picture: np.ndarray) -> list[list[Digit]]:
    """The lines of digits in a picture (height, width, 3), each from left to right."""
    longest = max(picture.shape[:2])
    scale = min(LARGE, max(SMALL, longest)) / longest
    size = [max(1, round(side * scale)) for side in picture.shape[1::-1]]
    kind = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    ink = ink_in(cv2.resize(picture, size, interpolation=kind))
    mask = above_threshold(ink)
    for _ in range(2):  # horizontal rules, then vertical ones
        mask = np.ascontiguousarray(without_rules(mask).T)
    digits = digits_in(cut_apart(mask, digits_in(mask, ink)), ink)
    digits = [
        Digit(tuple(int(side / scale) for side in box), as_mnist(thickened(ink)))
        for box, ink in digits
    ]
    return lines_of(digits)


def ink_in(picture: np.ndarray) -> np.ndarray:
    """The amount of ink at each pixel, of any colour, (height, width); about 0 on paper and desk.

    A closing with a square of side WIDEST keeps paper and desk and fills strokes with the paper
    around them; the difference is ink. The picture is first continued beyond its edges, so that a
    strip of desk counts as wide; around a small drawing, which may touch its edges, paper is added.
    """
    height, width = picture.shape[:2]
    small = cv2.resize(picture, (160, 160), interpolation=cv2.INTER_AREA).reshape(-1, 3)
    direction = np.linalg.eigh(np.cov(small, rowvar=False))[1][:, -1]  # the principal axis
    direction *= np.copysign(1, direction.sum()) / np.abs(direction).sum()
    value = cv2.GaussianBlur(picture, (0, 0), 1) @ direction
    value = (value - value.min()).round().astype(np.uint8)
    side = round(WIDEST * min(height, width)) | 1  # an even one would shift edges by a pixel
    square = np.ones((side, side), np.uint8)
    edge = np.median(np.concatenate([value[0], value[-1], value[:, 0], value[:, -1]]))
    lightest = cv2.erode(value, square, borderType=cv2.BORDER_CONSTANT, borderValue=0).max()
    if max(edge, lightest) < value.max() / 2:  # no light paper, at the edge or on a desk
        value, edge = 255 - value, 255 - edge
    paper = {"constant_values": edge} if max(height, width) <= SMALL else {"mode": "edge"}
    value = np.pad(value, side, **paper)
    ink = cv2.subtract(cv2.morphologyEx(value, cv2.MORPH_CLOSE, square), value)
    return ink[side : side + height, side : side + width]


def above_threshold(ink: np.ndarray) -> np.ndarray:
    """A mask, 1 where ink exceeds the paper's grain and a fraction of the strongest ink."""
    low, paper, strongest = np.percentile(ink, (5, 25, 99.8))
    least = max(GRAINS * (paper - low), LEAST_SHARE * (strongest - paper), LEAST_CONTRAST)
    return (ink > paper + least).astype(np.uint8)


def without_rules(mask: np.ndarray) -> np.ndarray:
    """Removes thin lines that reach the picture's edge, and mends the strokes that cross them."""
    width = mask.shape[1]
    if max(mask.shape) <= SMALL:
        return mask
    thickest = max(2, round(RULE_WIDTH * max(mask.shape)))
    thin = mask & ~changed(mask, cv2.MORPH_OPEN, thickest + 1, 1)
    band = changed(changed(thin, cv2.MORPH_OPEN, 1, width // 60), cv2.MORPH_DILATE, 7, 1)
    band = changed(band, cv2.MORPH_CLOSE, 1, width // 8)  # strokes may interrupt a line
    band = changed(band, cv2.MORPH_OPEN, 1, round(RULE_LENGTH * width))
    _, label, stats, _ = cv2.connectedComponentsWithStats(band)
    across = (stats[:, 0] < 3) | (stats[:, 0] + stats[:, 2] > width - 3)
    across[0] = False
    rule = thin * across[label]
    rest = mask & ~rule
    return rest | (changed(rest, cv2.MORPH_CLOSE, 2 * thickest + 1, 1) & rule)


def changed(mask: np.ndarray, change: int, height: int, width: int) -> np.ndarray:
    """Opens, closes or dilates a mask with a rectangle, whose odd sides keep it from shifting."""
    return cv2.morphologyEx(mask, change, np.ones((height | 1, width | 1), np.uint8))


def digits_in(mask: np.ndarray, ink: np.ndarray) -> list[Digit]:
    """The digits of a mask: tall components, joined by low ones nearby, such as the bar of a 5."""
    _, label, stats, _ = cv2.connectedComponentsWithStats(mask)
    inked = ink * mask
    strong = np.zeros(len(stats), bool)
    strong[label[inked > FAINT * inked.max()]] = True
    high, size = stats[:, 3] * strong, stats[:, 2:4].max(axis=1) * strong
    longest = max(1, high.max())
    tall = high >= LOW * longest
    low = np.flatnonzero(~tall & (size >= SPECK * longest))
    linked = changed(tall[label].astype(np.uint8), cv2.MORPH_CLOSE, int(LINK * longest), 1)
    distance, nearest = cv2.distanceTransformWithLabels(1 - linked, cv2.DIST_L2, 5)
    digit = np.where(tall[label], nearest, 0)
    for number in low:
        place = np.where(label == number, distance, np.inf).argmin()
        if distance.flat[place] < NEAR * longest:
            digit[label == number] = nearest.flat[place]
    return [
        Digit((y.start, x.start, y.stop, x.stop), (digit[y, x] == number).astype(np.uint8))
        for number, (y, x) in enumerate(ndimage.find_objects(digit), start=1)
    ]


def cut_apart(mask: np.ndarray, digits: list[Digit]) -> np.ndarray:
    """Cuts touching digits apart: components that are clearly wider than the median."""
    mask = mask.copy()
    usual = np.median([box[3] - box[1] for box, _ in digits]) if len(digits) > 1 else np.inf
    for (top, left, bottom, right), _ in digits:
        width = right - left
        if width < max(1.6 * usual, 1.2 * (bottom - top)):
            continue
        count = round(width / usual)
        reach = width // (3 * count) + 1
        for middle in np.linspace(left, right, count + 1).astype(int)[1:-1]:
            ink = mask[top:bottom, middle - reach : middle + reach].sum(axis=0)
            mask[top:bottom, middle - reach + ink.argmin()] = 0
    return mask


def lines_of(digits: list[Digit]) -> list[list[Digit]]:
    """The lines, top to bottom; a digit continues the line whose last digit shares its rows."""
    lines: list[list[Digit]] = []
    for digit in sorted(digits, key=lambda digit: digit.box[1]):
        top, _, bottom, _ = digit.box
        for line in lines:
            above, _, below, _ = line[-1].box
            if min(bottom, below) - max(top, above) > 0.4 * min(bottom - top, below - above):
                line.append(digit)
                break
        else:
            lines.append([digit])
    return sorted(lines, key=lambda line: np.mean([box[0] + box[2] for box, _ in line]))


def thickened(digit: np.ndarray) -> np.ndarray:
    """Dilates a mask until its strokes have a width of at least THINNEST of its longer side.

    The pixels of a stroke are, on average, a quarter of its width from its outline. The radius r
    solves width + 2 r = THINNEST (side + 2 r).
    """
    inner = cv2.distanceTransform(np.pad(digit, 1), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    width = 4 * inner[inner > 0].mean() - 1
    radius = max(0, (THINNEST * max(digit.shape) - width) / (2 - 2 * THINNEST))
    paper = np.pad(1 - digit, int(radius), constant_values=1)
    outer = cv2.distanceTransform(paper, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return (outer <= radius).astype(np.uint8)


def as_mnist(ink: np.ndarray) -> np.ndarray:
    """Turns a digit's ink (height, width), 0 to 1, into an image like MNIST's: (28, 28), ink 255.

    The longer side becomes 20 pixels (area averages), the centre of mass is in pixel [14, 14].
    """
    height, width = (max(1, int(FIELD * side / max(ink.shape) + 0.5)) for side in ink.shape)
    small = cv2.resize(ink.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    image = np.zeros((SIDE, SIDE), np.uint8)
    corner = []
    for axis, size in enumerate(small.shape):
        middle = np.average(np.arange(size) + 0.5, weights=small.sum(axis=1 - axis))
        place = SIDE / 2 + 1 - middle + 1e-4  # 1e-4: rounding cannot change a whole number
        corner.append(min(max(int(place), 0), SIDE - size))
    top, left = corner
    image[top : top + height, left : left + width] = (255 * small + 0.5).astype(np.uint8)
    return image
