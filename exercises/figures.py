"""The figures that only exercises draw: curves of many starts, each as its mean and the band of 10 to 90 %."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from common.plotting import (BLUE, GREEN, ORANGE, logarithmic, mark, number_steps, plain, rows_of, settle, sheet)

BAND = (10, 90)  # percentiles
COLUMNS = 500  # steps at which a band is computed
STYLES = ((BLUE, "-"), (ORANGE, "--"), (GREEN, "-."), (BLUE, ":"), (ORANGE, (0, (5, 1))), (GREEN, (0, (1, 1))))


def summary(runs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The smaller end of the band, the mean and the larger end over runs, of shape (runs, points)."""
    with np.errstate(all="ignore"):  # runs that diverge
        low, high = np.nanpercentile(runs, BAND, axis=0)
        return low, np.mean(runs, axis=0), high


def loss_bands(losses: np.ndarray, *, title: str, marks: dict[int, str] | None = None) -> Figure:
    """The loss of many starts at every step, on a logarithmic scale: mean and band.

    Args:
        losses: shape (starts, steps).
        title: what it shows; from the second line on the settings.
        marks: for some steps (counted from 1) what to write there.
    """
    starts, steps = losses.shape
    figure = sheet(8, 4.8, title)
    axes = figure.add_subplot(ylabel="loss")
    places = np.unique(np.linspace(0, steps - 1, COLUMNS).astype(int))
    low, mean, high = summary(losses[:, places])
    axes.fill_between(places + 1, low, high, color=BLUE, alpha=0.25, linewidth=0, label="10-90 % of them")
    axes.plot(places + 1, mean, color=BLUE, linewidth=2, label=f"mean of {starts} starts")
    number_steps(axes, steps)
    logarithmic(axes.yaxis, [*low, *mean, *high])
    settle(figure, [axes], 4.8)
    if marks:
        rows = 1 + max(row for _, row, _ in rows_of(marks, axes.get_xlim()[1], 6.5))
        logarithmic(axes.yaxis, [*low, *mean, *high], room=0.07 * rows)
        mark(figure, axes, marks)
    return figure


def error_bands(steps: np.ndarray, panels: dict[str, dict[str, np.ndarray]], *, title: str) -> Figure:
    """Errors of many starts against the number of steps, a panel each, both axes logarithmic: means and bands.

    Args:
        steps: shape (points,), the numbers of steps.
        panels: for each panel's name the curves: a label and an array of shape (starts, points).
        title: what it shows; from the second line on the settings.
    """
    figure, charts = sheet(9, 4.8, title), []
    for column, (name, curves) in enumerate(panels.items()):
        axes = figure.add_subplot(1, len(panels), column + 1, xlabel="steps", ylabel=f"largest error of {name}")
        shown: list[float] = []
        for (label, errors), (colour, dash) in zip(curves.items(), STYLES):
            low, mean, high = summary(errors)
            axes.plot(steps, mean, color=colour, linestyle=dash, linewidth=2, label=label)
            axes.fill_between(steps, low, high, color=colour, alpha=0.25, linewidth=0)
            shown += [*low, *mean, *high]
        logarithmic(axes.xaxis, steps)
        logarithmic(axes.yaxis, shown)
        charts.append(axes)
    settle(figure, charts, 4.8)
    return figure


def lines(curves: dict[str, tuple[np.ndarray, np.ndarray]], *, title: str, xlabel: str, ylabel: str,
          scales: tuple[str, str] = ("linear", "linear"), ylim: tuple[float, float] | None = None,
          yticks: Sequence[float] | None = None, vertical: dict[str, float] | None = None,
          horizontal: dict[str, float] | None = None) -> Figure:
    """Curves in one chart, told apart by colour and dash.

    Args:
        curves: for each label x, shape (points,), and y, shape (points,), or (runs, points): then their mean and band.
        title: what it shows; from the second line on the settings.
        scales: of x and y: ``linear``, ``log``, or for x ``steps``.
        ylim: the limits of y; what lies beyond is cut off. yticks: the numbers along y.
        vertical, horizontal: for each label the place of a reference line.
    """
    figure = sheet(8, 5, title)
    axes = figure.add_subplot()
    seen: list[float] = [*(horizontal or {}).values()]
    for (label, (x, y)), (colour, dash) in zip(curves.items(), STYLES):
        low, mean, high = summary(np.atleast_2d(y))
        axes.plot(x, mean, label=label, linewidth=2, color=colour, linestyle=dash)
        if np.ndim(y) > 1:
            axes.fill_between(x, low, high, color=colour, alpha=0.25, linewidth=0)
        seen += [*low, *mean, *high]
    for (label, place), dash in zip((vertical or {}).items(), ("--", ":")):
        axes.axvline(place, color="black", linestyle=dash, linewidth=1, label=label)
    for (label, place), dash in zip((horizontal or {}).items(), ("--", ":")):
        axes.axhline(place, color="black", linestyle=dash, linewidth=1, label=label)
    if scales[0] == "steps":
        number_steps(axes, int(max(x.max() for x, _ in curves.values())))
    else:
        axes.set_xlabel(xlabel)
    if scales[0] == "log":
        logarithmic(axes.xaxis, np.concatenate([x for x, _ in curves.values()]))
    if scales[1] == "log":
        logarithmic(axes.yaxis, ylim or seen)
    elif ylim:
        axes.set_ylim(*ylim)
    if yticks:
        axes.set_yticks(yticks, labels=[plain(tick) for tick in yticks], minor=False)
    axes.set_ylabel(ylabel)
    settle(figure, [axes], 5)
    return figure
