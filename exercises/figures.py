"""The figures that only exercises draw: curves of many starts, as mean and band of 10 to 90 %; pictures with digits."""

from common import plotting  # before matplotlib: it sees to MPLBACKEND
from common.plotting import BLUE, GREEN, GREY, ORANGE, SMALL, styled, wrapped

from collections.abc import Sequence
from typing import Any, NamedTuple

# isort: split
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

BAND = (10, 90)  # percentiles
STYLES: tuple[tuple[str, Any], ...] = (
    (BLUE, "-"),
    (ORANGE, "--"),
    (GREEN, "-."),
    (BLUE, ":"),
    (ORANGE, (0, (4, 1, 1, 1, 1, 1))),
    (GREEN, (0, (1, 1))),
)


def mean_and_band(
    axes: Axes, x: np.ndarray, runs: np.ndarray, number: int, label: str
) -> np.ndarray:
    """Draws the mean and the band of runs, (points,) or (runs, points), in the style of a number; returns all three."""
    colour, dash = STYLES[number]
    with np.errstate(all="ignore"):  # runs that diverge
        runs = np.atleast_2d(runs)
        low, high = np.nanpercentile(runs, BAND, axis=0)
        mean = runs.mean(axis=0)
    axes.plot(x, mean, label=label, linewidth=2, color=colour, linestyle=dash)
    if len(runs) > 1:
        axes.fill_between(x, low, high, color=colour, alpha=0.25, linewidth=0)
    return np.concatenate([low, mean, high])


@styled
def loss_bands(
    steps: np.ndarray, losses: np.ndarray, *, title: str, marks: dict[int, str]
) -> Figure:
    """The loss of many starts against the number of steps, on a logarithmic scale: mean and band.

    Args:
        steps: shape (points,), the numbers of steps.
        losses: shape (starts, points).
        title: what it shows; from the second line on the settings.
        marks: for some numbers of steps what to write there.
    """
    figure = plotting.new(8, 4.8, title)
    axes = figure.subplots()
    seen = mean_and_band(axes, steps, losses, 0, f"mean of {len(losses):,} starts, 10-90 % of them")
    plotting.number_steps(axes, int(steps[-1]))
    plotting.log_scale(axes, "y", seen, room=0.06 * len(marks))
    for row, (step, text) in enumerate(marks.items()):
        plotting.mark(axes, step, text, 0.99 - 0.06 * row)
    axes.set_ylabel("loss")
    axes.grid(alpha=0.3)
    plotting.legend(figure, *axes.get_legend_handles_labels())
    return figure


@styled
def error_bands(
    steps: np.ndarray, panels: dict[str, dict[str, np.ndarray]], *, title: str
) -> Figure:
    """Errors of many starts against the number of steps, a panel each, both axes logarithmic: means and bands.

    Args:
        steps: shape (points,), the numbers of steps.
        panels: for each panel's name the curves: a label and an array of shape (starts, points).
        title: what it shows; from the second line on the settings.
    """
    figure = plotting.new(9, 4.8, title)
    row = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (name, curves) in zip(row, panels.items()):
        seen = [
            mean_and_band(axes, steps, errors, number, label)
            for number, (label, errors) in enumerate(curves.items())
        ]
        plotting.log_scale(axes, "x", steps)
        plotting.log_scale(axes, "y", np.concatenate(seen))
        axes.set(xlabel="steps", ylabel=f"largest error of {name}")
        axes.grid(alpha=0.3)
    plotting.legend(figure, *axes.get_legend_handles_labels())
    return figure


@styled
def lines(
    curves: dict[str, tuple[np.ndarray, np.ndarray]],
    *,
    title: str,
    xlabel: str,
    ylabel: str,
    scales: tuple[str, str] = ("linear", "linear"),
    ylim: tuple[float, float] | None = None,
    yticks: Sequence[float] | None = None,
    vertical: dict[str, float] | None = None,
    horizontal: dict[str, float] | None = None,
) -> Figure:
    """Curves in one chart, told apart by colour and dash.

    Args:
        curves: for each label x, shape (points,), and y, shape (points,), or (runs, points): then their mean and band.
        title: what it shows; from the second line on the settings.
        scales: of x and y: ``linear`` or ``log``.
        ylim: the limits of y; what lies beyond is cut off. yticks: the numbers along y.
        vertical, horizontal: for each label the place of a reference line.
    """
    figure = plotting.new(8, 5, title)
    axes = figure.subplots()
    seen = [
        mean_and_band(axes, x, y, number, label)
        for number, (label, (x, y)) in enumerate(curves.items())
    ]
    for (label, place), dash in zip((vertical or {}).items(), ("--", ":")):
        axes.axvline(place, color="black", linestyle=dash, linewidth=1, label=label)
    for (label, place), dash in zip((horizontal or {}).items(), ("--", ":")):
        axes.axhline(place, color="black", linestyle=dash, linewidth=1, label=label)
    if scales[0] == "log":
        plotting.log_scale(axes, "x", np.concatenate([x for x, _ in curves.values()]))
    if scales[1] == "log":
        plotting.log_scale(axes, "y", ylim or [*np.concatenate(seen), *(horizontal or {}).values()])
    elif ylim:
        axes.set_ylim(*ylim)
    if yticks:
        axes.set_yticks(yticks, [f"{tick:g}" for tick in yticks])
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.grid(alpha=0.3)
    plotting.legend(figure, *axes.get_legend_handles_labels())
    return figure


# Pictures in which digits were read: tiles in rows.

TILE, COLUMNS = 1.7, 6  # inches, tiles in a row
PIXELS = 250  # of a picture, across a tile


class Reading(NamedTuple):
    """A picture and the digits that were read in it."""

    name: str
    picture: np.ndarray  # (height, width, 4) of uint8
    boxes: list[tuple[int, int, int, int]]  # of each digit: top, left, bottom, right in the picture
    images: np.ndarray  # (digits, 28, 28)
    probabilities: np.ndarray  # (digits, 10)
    answers: list[str]


@styled
def readings(pictures: Sequence[Reading], *, title: str) -> Figure:
    """Each picture with its digits framed, then for each digit the image, the ten probabilities and the answer.

    A picture begins a new row where it does not fit with its digits.
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
            wrapped(picture.name if digit < 0 else picture.answers[digit], TILE - 0.1, SMALL)
            for picture, digit in row
        ]
        for row in rows
    ]
    heights = [2 * TILE + 0.25 + 0.19 * max(map(len, lines)) for lines in texts]
    width, top = max(4, *map(len, rows)) * TILE, sum(heights)
    figure = plotting.new(width, top, title)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, top / figure.get_figheight()))
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
    axes.set(xlim=(0, width), ylim=(0, sum(heights)))
    return figure


def draw_picture(axes: Axes, reading: Reading, left: float, top: float) -> float:
    """The picture, one tile wide or two high, with a frame around each digit; returns where it ends, in inches."""
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
    frames = [(0, 0, height, width, GREY), *((*box, ORANGE) for box in reading.boxes)]
    for upper, begin, lower, end, colour in frames:
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
    """The image as the network sees it, and below it ten bars, the likeliest filled; returns where they end."""
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
