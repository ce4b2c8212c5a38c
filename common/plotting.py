"""The figures: loss curves, bands over starts, decision regions, image grids, confusion matrices.

Each function returns a matplotlib figure and writes nothing. The colours are Okabe and Ito's, told apart by
colour-blind readers too (https://jfly.uni-koeln.de/color/), with dashes or markers as a second sign.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#777777"
STYLES = ({"color": BLUE}, {"color": ORANGE}, {"color": GREEN}, {"color": BLUE, "linestyle": "--"},
          {"color": ORANGE, "linestyle": "--"}, {"color": GREEN, "linestyle": "--"})
CURVE_COLUMNS = 1500  # of a curve with more points, each of that many columns shows the smallest and the largest
BAND = (10, 90)  # percentiles

matplotlib.rcParams.update({"font.size": 13, "axes.titlesize": 13, "figure.dpi": 110, "axes.grid": False})


def new_figure(width: float = 8.0, height: float = 5.0) -> Figure:
    """An empty figure that keeps labels apart by itself; size in inches."""
    return Figure(figsize=(width, height), layout="constrained")


def loss_curve(losses: np.ndarray, *, title: str, log_steps: bool = False, floor: float | None = None,
               window: int | None = None, xlabel: str = "step", ylabel: str = "loss",
               markers: Sequence[int] = ()) -> Figure:
    """The loss at every step, on a logarithmic scale.

    Args:
        losses: shape (steps,), or (starts, steps): then the single starts faint, with their median and 10-90 % band.
        title: says data set and settings.
        log_steps: the steps on a logarithmic scale too.
        floor: a loss that no model can stay under, drawn as a line.
        window: also the mean over this many steps, when there are more.
        markers: steps to mark with a line, such as the ends of epochs.
    """
    figure = new_figure()
    axes = figure.add_subplot(xlabel=xlabel, ylabel=ylabel, title=title, yscale="log")
    runs = np.atleast_2d(losses)
    length = runs.shape[1]
    many = len(runs) > 1
    if (runs > 1e250).any():  # near the end of float64 a logarithmic axis finds neither its limits nor its ticks
        axes.set_ylim(max(np.nanmin(runs), 1e-50) / 10, 1e308)
        axes.set_yticks(10.0 ** np.arange(-50, 301, 50))
        axes.minorticks_off()
    for run in runs:
        steps, values = _envelope(run, log_steps)
        axes.plot(steps, values, color=BLUE, alpha=min(1, 4 / len(runs)) if many else (0.45 if window else 1),
                  linewidth=0.6 if many or window else 1.3, label=None if many else "each step")
    if many:
        columns = np.unique(np.geomspace(1, length, 400).astype(int) if log_steps
                            else np.linspace(1, length, 400).astype(int)) - 1
        with np.errstate(all="ignore"):
            low, middle, high = np.nanpercentile(runs[:, columns], [BAND[0], 50, BAND[1]], axis=0)
        axes.fill_between(columns + 1, low, high, color=ORANGE, alpha=0.3, linewidth=0, label="10-90 % of the starts")
        axes.plot(columns + 1, middle, color=ORANGE, linewidth=2, label=f"median of {len(runs)} starts")
    elif window and length > window:
        sums = np.cumsum(np.concatenate([[0.0], runs[0]]))
        axes.plot(*_envelope((sums[window:] - sums[:-window]) / window, log_steps, first=window),
                  color=ORANGE, linewidth=2, label=f"mean of {window} steps")
    if floor:
        axes.axhline(floor, color="black", linestyle="--", label=f"noise floor {floor:.3g}")
    for step in markers:
        axes.axvline(step, color=GREY, linewidth=0.5, alpha=0.5)
    if log_steps:
        axes.set_xscale("log")
    if many or window or floor:
        axes.legend(loc="best")
    axes.grid(alpha=0.3)
    return figure


def _envelope(values: np.ndarray, log_steps: bool, first: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Steps (counted from `first`) and values of a curve with at most 2 points a column, its extremes kept."""
    length = len(values)
    if length <= 2 * CURVE_COLUMNS:
        return np.arange(first, first + length), values
    edges = np.geomspace(1, length, CURVE_COLUMNS + 1) if log_steps else np.linspace(0, length, CURVE_COLUMNS + 1)
    edges = np.unique(np.concatenate([[0], edges.astype(int)]))[:-1]
    low, high = np.minimum.reduceat(values, edges), np.maximum.reduceat(values, edges)
    return np.repeat(edges + first, 2), np.column_stack([low, high]).ravel()


def error_curves(steps: np.ndarray, panels: dict[str, dict[str, np.ndarray]], *, title: str,
                 limits: dict[str, float] | None = None) -> Figure:
    """Errors against the number of steps, a panel each, both axes logarithmic.

    Args:
        steps: shape (points,), the numbers of steps.
        panels: for each panel's name, the curves: a label and an array of shape (starts, points); with several
            starts their median and 10-90 % band.
        limits: for a panel's name, a line that least squares sets.
    """
    figure = new_figure(10, 4.6)
    figure.suptitle(title, fontsize=13)
    for column, (name, curves) in enumerate(panels.items()):
        axes = figure.add_subplot(1, len(panels), column + 1, xlabel="steps", ylabel=f"largest error of {name}",
                                  xscale="log", yscale="log")
        for (label, errors), colour, dash in zip(curves.items(), (BLUE, ORANGE, GREEN), ("-", "-", "-.")):
            low, middle, high = np.nanpercentile(errors, [BAND[0], 50, BAND[1]], axis=0)
            axes.plot(steps, middle, color=colour, linestyle=dash, label=label)
            if len(errors) > 1:
                axes.fill_between(steps, low, high, color=colour, alpha=0.25, linewidth=0)
        if limits:
            axes.axhline(limits[name], color="black", linestyle="--", label="least squares, all pairs")
        axes.grid(alpha=0.3)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def lines(curves: dict[str, tuple[np.ndarray, np.ndarray]], *, title: str, xlabel: str, ylabel: str,
          scales: tuple[str, str] = ("linear", "linear"), ylim: tuple[float, float] | None = None,
          yticks: Sequence[float] | None = None, vertical: dict[str, float] | None = None,
          horizontal: dict[str, float] | None = None) -> Figure:
    """Curves in one figure, told apart by colour and dash.

    Args:
        curves: for each label x, shape (points,), and y, shape (points,), or (runs, points): then their mean, and a
            band from the smallest to the largest.
        scales: of x and y, ``linear`` or ``log``.
        ylim: the limits of y; what lies beyond is cut off. yticks: the numbers along y.
        vertical, horizontal: for each label the place of a reference line.
    """
    figure = new_figure(8.4, 5.2)
    axes = figure.add_subplot(xlabel=xlabel, ylabel=ylabel, title=title, xscale=scales[0], yscale=scales[1])
    if ylim:
        axes.set_ylim(*ylim)
    for (label, (x, y)), style in zip(curves.items(), STYLES):
        runs = np.atleast_2d(y)
        axes.plot(x, runs.mean(axis=0), label=label, linewidth=2, **style)
        if len(runs) > 1:
            axes.fill_between(x, runs.min(axis=0), runs.max(axis=0), color=style["color"], alpha=0.25, linewidth=0)
    for (label, place), dash in zip((vertical or {}).items(), ("--", ":")):
        axes.axvline(place, color="black", linestyle=dash, label=label)
    for (label, place), dash in zip((horizontal or {}).items(), ("--", ":")):
        axes.axhline(place, color="black", linestyle=dash, label=label)
    if yticks:
        axes.set_yticks(yticks, labels=[f"{tick:g}" for tick in yticks], minor=False)
        axes.set_yticks([], minor=True)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2 if max(map(len, labels)) < 36 else 1)
    axes.grid(alpha=0.3)
    return figure


def regions(values: np.ndarray, points: np.ndarray, labels: np.ndarray, *, title: str) -> Figure:
    """Where each of two outputs wins over [0, 1] x [0, 1], the boundary, and the points.

    Args:
        values: shape (rows, columns, 2): the outputs on a regular grid, x1 along the columns, x2 along the rows.
        points: shape (n, 2). labels: shape (n,), 0 or 1, the output that should win.
    """
    figure = new_figure(7.2, 5.6)
    figure.suptitle(title, fontsize=14)  # above the axes' highest tick label, which a wide title would touch
    axes = figure.add_subplot(xlabel="$x_1$", ylabel="$x_2$", aspect="equal", xlim=(0, 1), ylim=(0, 1))
    side = np.linspace(0, 1, len(values))
    difference = values[..., 0] - values[..., 1]
    colours = matplotlib.colors.LinearSegmentedColormap.from_list("wins", [ORANGE, "white", BLUE])
    shades = axes.contourf(side, side, difference, levels=np.linspace(-1, 1, 21), cmap=colours, alpha=0.6)
    if difference.min() < 0 < difference.max():
        axes.contour(side, side, difference, levels=[0], colors="black", linewidths=1.5)
    for label, marker, colour, text in ((0, "o", BLUE, "label (1, 0)"), (1, "s", ORANGE, "label (0, 1)")):
        axes.scatter(*points[labels == label].T, marker=marker, s=90, color=colour, edgecolor="black", label=text,
                     clip_on=False, zorder=3)
    figure.colorbar(shades, label="$F_1 - F_2$ (black: 0, the boundary)", ticks=[-1, -0.5, 0, 0.5, 1])
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def image_row(images: np.ndarray, captions: Sequence[str], *, title: str, columns: int = 5) -> Figure:
    """Grey images, shape (n, height, width), with a caption under each."""
    rows = -(-len(images) // columns)
    figure = new_figure(2.0 * columns, 2.5 * rows + 0.3 * (2 + title.count("\n")))
    figure.suptitle(title, fontsize=14)
    for position, (image, caption) in enumerate(zip(images, captions)):
        axes = figure.add_subplot(rows, columns, position + 1)
        axes.imshow(image, cmap="gray_r", interpolation="nearest")
        axes.set_xlabel(caption)
        axes.set(xticks=[], yticks=[])
    return figure


def images_with_probabilities(images: np.ndarray, probabilities: np.ndarray, names: Sequence[str], *,
                              captions: Sequence[str], filled: Sequence[int], bars: str, title: str) -> Figure:
    """Images, each beside the model's probability for every class.

    Args:
        images: shape (n, height, width), grey. probabilities: shape (n, classes). names: of the classes.
        captions: for each image what stands under it.
        filled: for each image the class whose bar is filled; `bars` says in a few words which one that is.
        title: says data set and settings.
    """
    figure = new_figure(9, 0.6 + 3.6 * len(images))
    figure.suptitle(title, fontsize=14)
    rows = figure.subplots(len(images), 2, width_ratios=[1, 1.6], squeeze=False)
    for (left, right), image, values, caption, full in zip(rows, images, probabilities, captions, filled):
        left.imshow(image, cmap="gray_r", interpolation="nearest")
        left.set(xticks=[], yticks=[], xlabel=caption)
        drawn = right.barh(range(len(names)), values, color="white", edgecolor=BLUE, linewidth=1.5)
        drawn[full].set_facecolor(BLUE)
        right.bar_label(drawn, [f"{p:.1%}" for p in values], padding=3, fontsize=11)
        right.set(yticks=range(len(names)), yticklabels=names, xlim=(0, 1.18), xticks=[0, 0.25, 0.5, 0.75, 1],
                  xlabel=f"probability (filled bar: {bars})")
        right.invert_yaxis()
        right.spines[["top", "right"]].set_visible(False)
    return figure


def confusion(counts: np.ndarray, names: Sequence[str], *, title: str) -> Figure:
    """A confusion matrix, shape (classes, classes): rows are the labels, columns the predictions."""
    figure = new_figure(7.6, 7.2)
    axes = figure.add_subplot(xlabel="prediction", ylabel="label", title=title)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (row, column), count in np.ndenumerate(counts):
        axes.text(column, row, f"{count}" if count else "", ha="center", va="center", fontsize=11,
                  color="white" if share[row, column] > 0.5 else "black")
    axes.set(xticks=range(len(names)), yticks=range(len(names)), xticklabels=names, yticklabels=names)
    if max(map(len, names)) > 2:
        axes.tick_params(axis="x", rotation=45)
    return figure


def show(paths: Sequence[Path]) -> None:
    """Opens the written figures in windows and waits; without a display, says on stderr where they are."""
    try:
        import matplotlib.pyplot as plt

        windows = [plt.figure(path.stem, layout="none") for path in paths]
    except ImportError as error:  # a backend was chosen that cannot run here
        print(f"warning: --show: {error}; the figures are in {paths[0].parent}", file=sys.stderr)
        return
    if plt.get_backend().lower() == "agg":
        print(f"warning: --show: no display here; the figures are in {paths[0].parent}", file=sys.stderr)
        return
    for window, path in zip(windows, paths):
        axes = window.add_axes([0, 0, 1, 1])
        axes.imshow(plt.imread(path))
        axes.axis("off")
    plt.show()
