"""Finds the digits in a picture: the ink, its pieces, their lines; and makes each digit as MNIST's images are."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

# Lengths are in pixels of the working picture, whose longer side has 240 to 1000 of them.
LARGE, SMALL = 1000, 240  # a longer picture is shrunk to LARGE, a shorter one enlarged to SMALL
LIGHT = 160  # the longer side of the picture in which the paper's light is looked for
WIDEST = 0.25  # of the picture's shorter side: no stroke is as wide
LEAST_CONTRAST = 14  # between ink and paper, of 255
LEAST_SHARE = 0.35  # of the strongest ink's contrast
NOISE = 5  # standard deviations of the paper's grain: ink stands out by more
SHEET = 0.25  # of the picture: a sheet of paper on a desk has more
DESK = 0.6  # a desk is darker than this share of the paper's brightness
EDGE = 0.25  # of an edge of the picture: what touches more is a desk or a shadow
RULE_LENGTH = 0.15  # of the picture's width: a ruled line is longer, and ends at the picture's edge
RULE_WIDTH = 9 / 800  # of the picture's longer side: a ruled line is thinner
FAINT = 0.45  # of the strongest piece
SPECK_LENGTH, SPECK_AREA = 0.2, 0.03  # of the tallest and the largest piece: what is less is dust
LOW = 0.36  # of the tallest: what is lower is no digit, but a part of one
NEAR = 0.25  # of the tallest: that is nearer than this
OVERLAP = 0.4  # of the narrower width: pieces that share more are one digit; of the lower height: one line
THINNEST = 0.11  # of a digit's longer side: nine of ten digits of MNIST have wider strokes
FIELD, SIDE = 20, 28  # a digit fills 20x20 of 28x28


class Found(NamedTuple):
    """A digit found in a picture."""

    image: NDArray[np.uint8]  # (28, 28), ink bright on 0
    box: tuple[int, ...]  # top, left, bottom, right in the picture's pixels


class Piece(NamedTuple):
    """Ink that hangs together, and its place in the working picture."""

    top: int
    left: int
    bottom: int
    right: int
    mask: NDArray[np.bool_]  # (bottom - top, right - left)

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left


def prepare(picture: NDArray) -> list[list[Found]]:
    """The lines of digits in a picture from top to bottom, each from left to right; none where there is no ink.

    Args:
        picture: grey (height, width), colours (height, width, 3), or colours and opacity (height, width, 4).
    """
    transparent = picture.ndim == 3 and picture.shape[2] == 4 and picture[..., 3].min() < 255
    margin = max(picture.shape[:2]) // 4 if transparent else 0  # it may be cut to the ink
    if transparent:
        picture = np.pad(picture, ((margin, margin), (margin, margin), (0, 0)))
    colours: NDArray = opaque(picture)
    longest = max(colours.shape[:2])
    scale = min(LARGE, max(SMALL, longest)) / longest
    if scale != 1:
        size = [max(1, round(side * scale)) for side in colours.shape[1::-1]]
        colours = cv2.resize(
            colours, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        )
    seen = np.ones(colours.shape[:2], bool)
    for paper in (without_desk(colours), colours):  # if there is nothing on it, it was no paper
        ink = contrast(paper)
        mask = above_threshold(ink, seen) if transparent else ink_mask(ink)
        mask = without_rules(without_rules(mask).T).T  # lines across, then lines upright
        lines = lines_of(split(digits_of(pieces_of(mask, ink))))
        if lines:
            break
    return [
        [
            Found(
                as_mnist(thickened(digit.mask).astype(float)),
                tuple(int(side / scale) - margin for side in digit[:4]),
            )
            for digit in line
        ]
        for line in lines
    ]


def opaque(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Colours (height, width, 3), on white where it was transparent; on black if what is seen is light."""
    if picture.ndim == 2:
        return np.repeat(picture[..., None], 3, axis=2)
    colours, opacity = picture[..., :3], picture[..., 3:] / np.float32(255)
    if not opacity.size or opacity.min() == 1:
        return np.ascontiguousarray(colours)
    light = (colours * opacity).sum() > 3 * 127.5 * opacity.sum()
    return (colours * opacity + (0 if light else 255) * (1 - opacity)).round().astype(np.uint8)


def without_desk(colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture with the paper's colour in place of a dark desk around bright paper.

    Desk is what is darker than Otsu's threshold (1979) and reaches the edge, if the rest without gaps, which are
    strokes, and without narrow parts is enough for a sheet.
    """
    height, width = colours.shape[:2]
    if max(height, width) <= SMALL:
        return colours
    small_size = [max(1, round(side * LIGHT / max(height, width))) for side in (width, height)]
    grey = cv2.resize(colours, small_size, interpolation=cv2.INTER_AREA).mean(axis=2)
    bright = cv2.threshold(grey.astype(np.uint8), 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)[1]
    sheet = bright
    for change, side in ((cv2.MORPH_CLOSE, LIGHT // 10), (cv2.MORPH_OPEN, LIGHT // 6)):
        sheet = cv2.morphologyEx(sheet, change, np.ones((side, side), np.uint8))
    _, label = cv2.connectedComponents(1 - bright)
    edge = np.concatenate([label[0], label[-1], label[:, 0], label[:, -1]])
    desk = np.isin(label, edge) & (bright == 0)
    if (
        sheet.mean() < SHEET
        or (edge > 0).mean() < EDGE
        or grey[desk].mean() > DESK * grey[bright > 0].mean()
    ):
        return colours
    dark, light = grey[desk].mean(), grey[bright > 0].mean()
    between = (grey - dark) / (light - dark)
    if ((between > 0.3) & (between < 0.7)).mean() > 0.15:  # a shade, without an edge
        return colours
    desk = cv2.dilate(desk.astype(np.uint8), np.ones((5, 5)))
    desk = cv2.resize(desk, (width, height), interpolation=cv2.INTER_NEAREST) > 0
    colours = colours.copy()
    colours[desk] = np.median(colours[~desk], axis=0)
    return colours


def contrast(colours: NDArray[np.uint8]) -> NDArray:
    """How much ink is at each pixel: about 0 on paper, whatever the colours of ink and paper; (height, width).

    The paper's colour at a pixel is the median around it. Differences from it are measured along one direction of
    colour, the sum of all differences, each multiplied by its square: so ink is positive, dark or light. What is
    wider than any stroke, as a shadow, is taken away by an opening.
    """
    height, width = colours.shape[:2]
    small_size = [max(1, round(side * LIGHT / max(height, width))) for side in (width, height)]
    small = cv2.resize(colours, small_size, interpolation=cv2.INTER_AREA)
    paper = cv2.medianBlur(small, max(3, min(small_size) // 2 | 1)).astype(np.float32)
    difference = small - paper
    weights = (difference**2).sum(axis=2, keepdims=True)
    direction = (weights * difference).sum(axis=(0, 1))
    direction /= max(np.linalg.norm(direction), 1e-9)
    bright = max(float(paper.mean()), 1)

    def ink_in(values: NDArray, light: NDArray) -> NDArray:
        ink = (values - light) @ direction
        if bright > 127.5:  # ink in the shade counts as much as in the light
            ink *= bright / light.mean(axis=2).clip(32)
        return ink

    kernel = np.ones([max(3, round(WIDEST * min(small_size)))] * 2, np.uint8)
    wide = cv2.morphologyEx(ink_in(small, paper), cv2.MORPH_OPEN, kernel)
    full = cv2.GaussianBlur(colours, (0, 0), 1).astype(np.float32)
    ink = ink_in(full, cv2.resize(paper, (width, height), interpolation=cv2.INTER_LINEAR))
    return ink - cv2.resize(wide, (width, height), interpolation=cv2.INTER_LINEAR)


def ink_mask(ink: NDArray) -> NDArray[np.bool_]:
    """Where there is ink: above Otsu's threshold (1979), the grain of the paper, and a share of the strongest ink.

    What touches much of an edge is a desk or a shadow; without it the threshold is taken again, unless it is all.
    """
    first = above_threshold(ink, np.ones(ink.shape, bool))
    count, label = cv2.connectedComponents(first.astype(np.uint8))
    dropped, whole = np.zeros(count, bool), np.zeros(count, bool)
    for edge in (label[0], label[-1], label[:, 0], label[:, -1]):
        share = np.bincount(edge, minlength=count) / len(edge)
        dropped |= share > EDGE
        whole |= share > 0.9
    dropped[0] = False
    if not dropped.any():
        return first
    strip = cv2.dilate(dropped[label].astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    again = above_threshold(ink, ~strip) & ~strip
    return again if again.any() else first & ~(whole[label])


def above_threshold(ink: NDArray, seen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where ink stands out; the threshold is taken from what is seen."""
    values = ink[seen]
    if not values.size:
        return np.zeros(ink.shape, bool)
    paper = float(np.median(values))
    grain = 1.48 * float(np.median(np.abs(values - paper)))
    strongest = float(np.percentile(values, 99.8)) - paper
    scaled = ((values - paper) * (255 / max(strongest, 1e-9))).clip(0, 255).astype(np.uint8)
    otsu = cv2.threshold(scaled, 0, 255, cv2.THRESH_OTSU)[0] / 255 * strongest
    return ink - paper > max(otsu * 0.8, NOISE * grain, LEAST_SHARE * strongest, LEAST_CONTRAST)


def without_rules(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask without thin lines that run across most of the picture; strokes that cross one are mended."""
    height, width = mask.shape
    if width < height / 2 or max(mask.shape) <= SMALL:
        return mask
    thickest = max(2, round(RULE_WIDTH * max(mask.shape)))
    ink = np.ascontiguousarray(mask, np.uint8)
    thick: NDArray = cv2.morphologyEx(ink, cv2.MORPH_OPEN, np.ones((thickest + 1, 1), np.uint8))
    thin = ink & ~thick
    level = cv2.morphologyEx(thin, cv2.MORPH_OPEN, np.ones((1, width // 60), np.uint8))
    linked = cv2.dilate(level, np.ones((7, width // 4), np.uint8))
    _, label, stats, _ = cv2.connectedComponentsWithStats(linked)
    rule = np.zeros_like(ink)
    for number, (left, top, wide, high, _) in enumerate(stats[1:].tolist(), start=1):
        least = RULE_LENGTH * width
        if wide < least:
            continue
        box = slice(top, top + high), slice(left, left + wide)
        y, x = np.nonzero(level[box] & (label[box] == number))
        if left + x.min() >= 3 and left + x.max() <= width - 4:
            continue
        for _ in range(4):  # a parabola, since lenses bend lines; strokes at the line are left out
            bent = np.polynomial.Polynomial.fit(x, y, 2)
            near = np.abs(y - bent(x)) <= thickest / 2
            if near.sum() < least:
                break
            y, x = y[near], x[near]
        if len(np.unique(x)) > least:
            distance = np.abs(np.arange(high)[:, None] - bent(np.arange(wide)))
            rule[box] |= thin[box] & (distance <= thickest / 2)
    rest = ink & ~rule
    kernel = np.ones((2 * thickest + 1, 1), np.uint8)
    mended: NDArray = cv2.morphologyEx(rest, cv2.MORPH_CLOSE, kernel)
    return (rest | (mended & rule)) > 0


def pieces_of(mask: NDArray[np.bool_], ink: NDArray) -> list[Piece]:
    """The pieces of ink, without dust. Pixels that touch, also at corners, are a piece."""
    _, label, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    pieces, areas, strengths = [], [], []
    for number, (left, top, width, height, area) in enumerate(stats[1:].tolist(), start=1):
        part = label[top : top + height, left : left + width] == number
        pieces.append(Piece(top, left, top + height, left + width, part))
        areas.append(area)
        strengths.append(
            float(np.percentile(ink[top : top + height, left : left + width][part], 80))
        )
    if not pieces:
        return []
    longest = max(piece.height for piece in pieces)
    return [
        piece
        for piece, area, strength in zip(pieces, areas, strengths)
        if max(piece.height, piece.width) >= SPECK_LENGTH * longest
        and area >= SPECK_AREA * max(areas)
        and strength > FAINT * max(strengths)
    ]


def shared(low: int, high: int, other_low: int, other_high: int) -> float:
    """What two stretches have in common, as a share of the shorter one; the gap between them, if negative."""
    return (min(high, other_high) - max(low, other_low)) / min(high - low, other_high - other_low)


def joined(one: Piece, two: Piece) -> Piece:
    """Two pieces as one."""
    top, left = min(one.top, two.top), min(one.left, two.left)
    bottom, right = max(one.bottom, two.bottom), max(one.right, two.right)
    mask = np.zeros((bottom - top, right - left), bool)
    for piece in (one, two):
        mask[piece.top - top : piece.bottom - top, piece.left - left : piece.right - left] |= (
            piece.mask
        )
    return Piece(top, left, bottom, right, mask)


def digits_of(pieces: list[Piece]) -> list[Piece]:
    """Pieces joined to digits: those that share rows and columns, and low ones with the nearest, as the bar of a 5."""
    if not pieces:
        return []
    tallest = max(piece.height for piece in pieces)
    digits: list[Piece] = []
    for piece in sorted(pieces, key=lambda piece: -piece.height):
        nearest, closest = None, NEAR * tallest
        for place, digit in enumerate(digits):
            down = max(piece.top, digit.top) - min(piece.bottom, digit.bottom)
            right = max(piece.left, digit.left) - min(piece.right, digit.right)
            low = piece.height < LOW * tallest
            same = shared(piece.left, piece.right, digit.left, digit.right) > OVERLAP
            gap = max(down, 0) + max(right, 0)
            if (low and gap < closest) or (same and down < 0.1 * tallest):
                nearest, closest = place, gap
        if nearest is not None:
            digits[nearest] = joined(digits[nearest], piece)
        elif piece.height >= LOW * tallest or len(pieces) > 1:
            digits.append(piece)
    return [digit for digit in digits if digit.height >= LOW * tallest]


def split(digits: list[Piece]) -> list[Piece]:
    """Digits that touch, taken apart where one piece is clearly wider than its neighbours."""
    if len(digits) < 2:
        return digits
    usual = float(np.median([digit.width for digit in digits]))
    apart = []
    for digit in digits:
        count = round(digit.width / usual)
        if digit.width < 1.6 * usual or digit.width < 1.2 * digit.height or count < 2:
            apart.append(digit)
            continue
        ink = digit.mask.sum(axis=0).astype(float)
        reach, cuts = digit.width // (3 * count), [0]
        for part in range(1, count):
            middle = part * digit.width // count
            cuts.append(middle - reach + int(ink[middle - reach : middle + reach].argmin()))
        parts = [
            digit.mask[:, a:b].any(axis=1).sum() for a, b in zip(cuts, [*cuts[1:], digit.width])
        ]
        if min(parts) < 0.5 * digit.height:
            apart.append(digit)
            continue
        for begin, end in zip(cuts, [*cuts[1:], digit.width]):
            part_mask = digit.mask[:, begin:end]
            rows, columns = (np.flatnonzero(part_mask.any(axis=axis)) for axis in (1, 0))
            top, left = int(rows[0]), int(columns[0])
            bottom, right = int(rows[-1]) + 1, int(columns[-1]) + 1
            apart.append(
                Piece(
                    digit.top + top,
                    digit.left + begin + left,
                    digit.top + bottom,
                    digit.left + begin + right,
                    part_mask[top:bottom, left:right],
                )
            )
    return apart


def lines_of(digits: list[Piece]) -> list[list[Piece]]:
    """The lines of digits: one that shares rows with a line's last digit goes on with it."""
    lines: list[list[Piece]] = []
    for digit in sorted(digits, key=lambda digit: digit.left):
        fits = [shared(digit.top, digit.bottom, line[-1].top, line[-1].bottom) for line in lines]
        if fits and max(fits) > OVERLAP:
            lines[int(np.argmax(fits))].append(digit)
        else:
            lines.append([digit])
    return sorted(lines, key=lambda line: np.mean([digit.top + digit.bottom for digit in line]))


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
    paper = np.pad(~digit, int(radius), constant_values=True).astype(np.uint8)
    return cv2.distanceTransform(paper, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) <= radius


def as_mnist(ink: NDArray) -> NDArray[np.uint8]:
    """A digit's ink (height, width), 0 to 1, as MNIST's images are: (28, 28), ink 255.

    The longer side is scaled to 20 pixels by area means; the centre of mass is in pixel (14, 14), counted from 0.
    """
    longest = max(ink.shape)
    height, width = (max(1, int(FIELD * side / longest + 0.5)) for side in ink.shape)
    small = cv2.resize(ink.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    corner = []
    for axis, size in enumerate(small.shape):
        middle = (small.sum(axis=1 - axis) * (np.arange(size) + 0.5)).sum() / small.sum()
        corner.append(min(max(int(np.floor(SIDE / 2 + 1 - middle)), 0), SIDE - size))
    top, left = corner
    image = np.zeros((SIDE, SIDE), np.uint8)
    image[top : top + height, left : left + width] = (255 * small + 0.5).astype(np.uint8)
    return image
