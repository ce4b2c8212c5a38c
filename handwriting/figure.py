"""Draws pictures and the digits that were read in them, as rows of tiles."""

from common import plotting
from common.plotting import BLUE, GREY, ORANGE, SMALL, styled

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

TILE, COLUMNS = 1.7, 6  # inches, tiles in a row
LETTERS = 16  # per line of a caption, which is as wide as a tile
PIXELS = 250  # across a tile, to which a larger picture is shrunk


class Reading(NamedTuple):
    """A picture and the digits that were read in it."""

    name: str
    picture: np.ndarray  # (height, width, 3) of uint8
    boxes: list[tuple[int, ...]]  # of each digit: top, left, bottom, right in the picture
    images: np.ndarray  # (digits, 28, 28)
    probabilities: np.ndarray  # (digits, 10)
    answers: list[str]
    lines: list[int]  # how many digits each line has


@styled
def readings(pictures: Sequence[Reading], *, title: str) -> Figure:
    """Draws each picture, then for each of its digits the image, the probabilities and the answer.

    A picture begins a new row if its tiles do not all fit into the current one.
    """
    rows: list[list[tuple[Reading, int]]] = [[]]
    for picture in pictures:
        if rows[-1] and len(rows[-1]) + 1 + len(picture.answers) > COLUMNS:
            rows.append([])
        for digit in range(-1, len(picture.answers)):  # -1: the picture itself
            if len(rows[-1]) == COLUMNS:
                rows.append([])
            rows[-1].append((picture, digit))
    texts = [
        [
            textwrap.wrap(picture.name if digit < 0 else picture.answers[digit], LETTERS)
            for picture, digit in row
        ]
        for row in rows
    ]
    heights = [2 * TILE + 0.25 + 0.19 * max(map(len, lines)) for lines in texts]
    width, top = max(4, *map(len, rows)) * TILE, sum(heights)
    figure = plotting.new(width + 0.2, top + 1, title)
    axes = figure.subplots()
    axes.axis("off")
    for row, lines, height in zip(rows, texts, heights):
        for column, ((picture, digit), text) in enumerate(zip(row, lines)):
            if digit < 0:
                bottom = draw_picture(axes, picture, column * TILE, top)
            else:
                bottom = draw_digit(
                    axes, picture.images[digit], picture.probabilities[digit], column * TILE, top
                )
            axes.text(
                (column + 0.5) * TILE,
                bottom - 0.05,
                "\n".join(text),
                horizontalalignment="center",
                verticalalignment="top",
                fontsize=SMALL,
            )
        top -= height
    axes.set(xlim=(0, width), ylim=(0, sum(heights)), aspect="equal")
    return figure


def draw_picture(axes: Axes, reading: Reading, left: float, top: float) -> float:
    """Draws a picture within one tile by two, with its digits framed; returns its lower end."""
    height, width = reading.picture.shape[:2]
    scale = min((TILE - 0.15) / width, (2 * TILE - 0.1) / height)  # inches a pixel
    left += (TILE - width * scale) / 2
    small = Image.fromarray(reading.picture)
    small.thumbnail((PIXELS, 2 * PIXELS))
    axes.imshow(
        np.asarray(small),
        extent=(left, left + width * scale, top - height * scale, top),
        aspect="auto",
    )
    frames = [((0, 0, height, width), GREY), *((box, ORANGE) for box in reading.boxes)]
    for (upper, begin, lower, end), colour in frames:
        axes.add_patch(
            Rectangle(
                (left + begin * scale, top - lower * scale),
                (end - begin) * scale,
                (lower - upper) * scale,
                fill=False,
                edgecolor=colour,
                linewidth=1.2,
            )
        )
    return top - height * scale


def draw_digit(
    axes: Axes, image: np.ndarray, probabilities: np.ndarray, left: float, top: float
) -> float:
    """Draws the network's input above ten bars, the largest filled; returns its lower end."""
    side = TILE - 0.25
    axes.imshow(
        image,
        cmap="gray_r",
        vmin=0,
        vmax=255,
        interpolation="nearest",
        aspect="auto",
        extent=(left + 0.1, left + 0.1 + side, top - side, top),
    )
    axes.add_patch(
        Rectangle((left + 0.1, top - side), side, side, fill=False, edgecolor=GREY, linewidth=0.5)
    )
    places = top - side - 0.2 - 0.185 * np.arange(10)
    colours = [BLUE if digit == probabilities.argmax() else "white" for digit in range(10)]
    axes.barh(
        places,
        probabilities * (side - 0.2),
        height=0.13,
        left=left + 0.3,
        color=colours,
        edgecolor=BLUE,
        linewidth=0.8,
    )
    for digit, place in enumerate(places):
        axes.text(left + 0.1, place, str(digit), verticalalignment="center", fontsize=9)
    return top - 2 * TILE
