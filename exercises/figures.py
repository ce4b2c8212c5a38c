"""The figures that only exercises draw: curves of many starts, as mean and band of 10 to 90 %."""

from collections.abc import Sequence

from common import sheets  # before matplotlib: it sees to MPLBACKEND
from common.sheets import BLUE, GREEN, ORANGE

# isort: split
import numpy as np
from matplotlib.figure import Figure

BAND = (10, 90)  # percentiles
STYLES = (
    (BLUE, "-"),
    (ORANGE, "--"),
    (GREEN, "-."),
    (BLUE, ":"),
    (ORANGE, (0, (4, 1, 1, 1, 1, 1))),
    (GREEN, (0, (1, 1))),
)


def summary(runs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The smaller end of the band, the mean and the larger end over runs, of shape (runs, points)."""
    with np.errstate(all="ignore"):  # runs that diverge
        low, high = np.nanpercentile(runs, BAND, axis=0)
        return low, np.mean(runs, axis=0), high


def loss_bands(
    steps: np.ndarray, losses: np.ndarray, *, title: str, marks: dict[int, str] | None = None
) -> Figure:
    """The loss of many starts against the number of steps, on a logarithmic scale: mean and band.

    Args:
        steps: shape (points,), the numbers of steps.
        losses: shape (starts, points).
        title: what it shows; from the second line on the settings.
        marks: for some numbers of steps what to write there.
    """
    figure = sheets.new(8, 4.8, title)
    axes = figure.add_subplot(ylabel="loss")
    low, mean, high = summary(losses)
    axes.fill_between(
        steps, low, high, color=BLUE, alpha=0.25, linewidth=0, label="10-90 % of them"
    )
    axes.plot(steps, mean, color=BLUE, linewidth=2, label=f"mean of {len(losses):,} starts")
    sheets.number_steps(axes, int(steps[-1]))
    sheets.logarithmic(axes.yaxis, [*low, *mean, *high])
    sheets.settle(figure, [axes], 4.8)
    if marks:
        rows = 1 + max(row for _, row, _ in sheets.rows_of(marks, axes.get_xlim()[1], 6.5))
        sheets.logarithmic(axes.yaxis, [*low, *mean, *high], room=0.07 * rows)
        sheets.mark(figure, axes, marks)
    return figure


def error_bands(
    steps: np.ndarray, panels: dict[str, dict[str, np.ndarray]], *, title: str
) -> Figure:
    """Errors of many starts against the number of steps, a panel each, both axes logarithmic: means and bands.

    Args:
        steps: shape (points,), the numbers of steps.
        panels: for each panel's name the curves: a label and an array of shape (starts, points).
        title: what it shows; from the second line on the settings.
    """
    figure, charts = sheets.new(9, 4.8, title), []
    for column, (name, curves) in enumerate(panels.items()):
        axes = figure.add_subplot(
            1, len(panels), column + 1, xlabel="steps", ylabel=f"largest error of {name}"
        )
        shown: list[float] = []
        for (label, errors), (colour, dash) in zip(curves.items(), STYLES):
            low, mean, high = summary(errors)
            axes.plot(steps, mean, color=colour, linestyle=dash, linewidth=2, label=label)
            axes.fill_between(steps, low, high, color=colour, alpha=0.25, linewidth=0)
            shown += [*low, *mean, *high]
        sheets.logarithmic(axes.xaxis, steps)
        sheets.logarithmic(axes.yaxis, shown)
        charts.append(axes)
    sheets.settle(figure, charts, 4.8)
    return figure


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
        scales: of x and y: ``linear``, ``log``, or for x ``steps``.
        ylim: the limits of y; what lies beyond is cut off. yticks: the numbers along y.
        vertical, horizontal: for each label the place of a reference line.
    """
    figure = sheets.new(8, 5, title)
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
        sheets.number_steps(axes, int(max(x.max() for x, _ in curves.values())))
    else:
        axes.set_xlabel(xlabel)
    if scales[0] == "log":
        sheets.logarithmic(axes.xaxis, np.concatenate([x for x, _ in curves.values()]))
    if scales[1] == "log":
        sheets.logarithmic(axes.yaxis, ylim or seen)
    elif ylim:
        axes.set_ylim(*ylim)
    if yticks:
        axes.set_yticks(yticks, labels=[sheets.plain(tick) for tick in yticks], minor=False)
    axes.set_ylabel(ylabel)
    sheets.settle(figure, [axes], 5)
    return figure
