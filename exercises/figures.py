"""The figures that only exercises draw: curves of many starts, as mean and band of 10 to 90 %."""

from common import plotting
from common.plotting import BLUE, GREEN, ORANGE, styled

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
