"""The figures of the lectures: arrays in, matplotlib figures out; no file is read or written.

The first line of a `title` says what a figure shows; smaller ones, with what, and what was done.
The colours are those of Okabe and Ito, which colour-blind readers can tell apart
(https://jfly.uni-koeln.de/color/); each has a second sign: dashes, a marker, a number.
"""

import io
import logging
import os
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

# No import of matplotlib succeeds where MPLBACKEND names a backend that is not installed; only
# `show` needs one. And where HOME cannot be written, matplotlib would warn before it goes on.
BACKEND = os.environ.pop("MPLBACKEND", None)
logging.getLogger("matplotlib").setLevel(logging.ERROR)

import matplotlib.style  # noqa: E402
import numpy as np  # noqa: E402
from matplotlib import ticker  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.collections import LineCollection  # noqa: E402
from matplotlib.colors import LinearSegmentedColormap, to_rgba  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from numpy import ndarray  # noqa: E402
from PIL import Image  # noqa: E402

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#777777"
TEXT, SMALL = 12, 11  # points
COLUMNS = 1000  # a longer curve is drawn by its smallest and largest value in each of them
DRAWN, STRONGEST = 40, 80  # hidden units and weights that are drawn of a layer that has more
CROWDED = 7  # nodes, of which that many have no room for numbers
MINUS = "\N{MINUS SIGN}"

AROUND_ZERO = LinearSegmentedColormap.from_list("", [ORANGE, "white", BLUE])
ERRORS = LinearSegmentedColormap.from_list("", ["white", "#f2b58c", ORANGE, "#8f3f00"])
# A step in the middle, and no white: which output is larger is seen where they hardly differ, too.
WINNERS = LinearSegmentedColormap.from_list(
    "", [(0, "#e8a06a"), (0.5, "#fbeee4"), (0.5, "#e3eff7"), (1, "#6aacd4")]
)
STYLE = {
    "font.size": TEXT,
    "axes.titlesize": TEXT,
    "legend.fontsize": SMALL,
    "legend.frameon": False,
    "figure.dpi": 150,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
# A decorator: while the function runs, this style holds, and nothing that a reader has set.
styled = matplotlib.style.context(["default", STYLE])


class _Figure(Figure):
    """A figure that is in our style also when it is saved, which is when matplotlib makes ticks."""

    @styled
    def savefig(self, *args: Any, **kwargs: Any) -> None:
        super().savefig(*args, **kwargs)


# What every figure is made with.


def new(width: float, height: float, title: str) -> Figure:
    """An empty figure of `width` x `height` inches, and what the title takes above them."""
    head, _, rest = title.partition("\n")
    lines = [(line, 13.5, "black") for line in wrapped(head, width - 0.3, 13.5)]
    lines += [(line, SMALL, "#444444") for line in wrapped(rest, width - 0.3, SMALL)]
    whole = height + 0.2 + sum(1.4 * size / 72 for _, size, _ in lines)
    figure, top = _Figure(figsize=(width, whole)), whole - 0.1
    figure.set_layout_engine("constrained", rect=(0, 0, 1, height / whole), w_pad=0.08, h_pad=0.08)
    for line, size, colour in lines:
        at = (0.15 / width, top / whole)
        figure.text(*at, line, fontsize=size, color=colour, va="top", parse_math=False)
        top -= 1.4 * size / 72
    return figure


def wrapped(text: str, width: float, size: float) -> list[str]:
    """A text's lines, broken to fit into `width` inches at `size` points, never before a %."""
    letters = max(1, int(72 * width / (0.6 * size)))
    lines = text.replace(" %", "\u00a0%").splitlines()
    return [part for line in lines for part in textwrap.wrap(line, letters)]


def legend(figure: Figure, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """Says below a figure what is drawn, in as many columns as there is room for."""
    longest = 0.65 + max(map(len, labels)) * 0.54 * SMALL / 72  # inches
    columns = max(1, min(len(labels), int(figure.get_figwidth() / longest)))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns)


def log_scale(axes: Axes, which: str, values: Iterable[float], room: float = 0) -> None:
    """Makes an axis, "x" or "y", logarithmic from the smallest to the largest positive value.

    A share of it, `room`, is left free at the end. Where no value is positive it stays linear.
    """
    seen = np.array([value for value in values if 1e-300 < value < np.inf])
    if not len(seen):
        axes.set(**{f"{which}lim": (-0.05, 1)})
        return
    low, high = np.log10([seen.min(), seen.max()])
    if high - low < 1e-6:
        low, high = low - 0.2, high + 0.2
    margin = 0.03 * (high - low)
    end = min(308.2, high + margin + (high - low) * room / (1 - room))
    # First the limits: matplotlib's own may be beyond what a float64 can hold.
    axes.set(**{f"{which}lim": (10 ** (low - margin), 10**end), f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_minor_locator(ticker.NullLocator())  # drawing minor ticks takes longer than all else
    if high - low < (2 if which == "x" else 3):  # room for plain numbers, not only powers of ten
        whole = bool((seen == seen.round()).all())
        even = ticker.MaxNLocator(6, steps=[1, 2, 5, 10], integer=whole, min_n_ticks=1)
        axis.set_major_locator(even if high - low < 1 else ticker.LogLocator(subs=[1, 2, 5]))
        axis.set_major_formatter(ticker.StrMethodFormatter("{x:,.10g}"))
    elif high > 100:  # LogLocator would try powers of ten that no float64 can hold
        axis.set_major_locator(ticker.FixedLocator([10.0**power for power in range(-300, 301, 50)]))


def number_steps(axes: Axes, steps: int) -> None:
    """Steps along x, from 0 on: 200, 200 k, 1 M."""
    axes.set(xlim=(0, 1.01 * max(1, steps)), xlabel="steps")
    axes.xaxis.set_major_locator(ticker.MaxNLocator(7, integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(ticker.EngFormatter())


def mark(axes: Axes, step: float, text: str, top: float, colour: str = "black") -> None:
    """A vertical line at a step, and a text whose top is at that share of the axes' height."""
    side, shift = ("left", 4) if step < 0.7 * axes.get_xlim()[1] else ("right", -4)
    axes.axvline(step, ymax=min(top, 1), color=colour, lw=1, ls=":")
    look: dict[str, Any] = {"color": colour, "fontsize": SMALL, "ha": side, "va": "top"}
    at = axes.get_xaxis_transform()
    axes.annotate(text, (step, top), (shift, 0), at, textcoords="offset points", **look)


# Curves of one run.


@styled
def loss_curve(
    losses: ndarray,
    *,
    title: str,
    window: int | None = None,
    floor: float | None = None,
    marks: dict[int, str] | None = None,
) -> Figure:
    """The loss at every step, on a logarithmic axis.

    Args:
        losses: shape (steps,). The curve ends before the first that is not finite; if that is
            infinite, its step is marked as the overflow, else it was not made.
        window: also draw the mean of about that many steps, where there are more.
        floor: a loss that no model can stay under, drawn as a line.
        marks: for some steps, counted from 1, what to write there, such as "6 right".
    """
    figure = new(8, 4.6, title)
    axes, marks = figure.subplots(), marks or {}
    values, overflow = until_overflow(losses)
    half = window // 2 if window and len(values) > window and not overflow else 0
    steps, shown = envelope(values)
    look: dict[str, Any] = {"lw": 1, "alpha": 0.45} if half else {"lw": 1.5}
    dots = "o" if len(values) < 20 else None
    axes.plot(steps + 1, shown, color=BLUE, marker=dots, label="each step", **look)
    if half:
        steps, means = centred_mean(values, half)
        axes.plot(steps + 1, means, color=ORANGE, lw=2, label=f"mean of {2 * half + 1:,} steps")
    if floor:
        axes.axhline(floor, color="black", ls="--", label=f"noise floor {floor:.3g}")
    number_steps(axes, overflow or len(values))
    log_scale(axes, "y", [*shown, floor or 0], room=0.06 * len(marks))
    for row, (step, text) in enumerate(marks.items()):
        mark(axes, step, text, 0.99 - 0.06 * row)
    if overflow:
        mark(axes, overflow, f"overflow at step {overflow:,}", 1.06, ORANGE)
    elif not len(values):
        axes.text(0.5, 0.7, "no step was made", transform=axes.transAxes, ha="center")
    axes.set_ylabel("loss")
    axes.grid(alpha=0.3)
    if half or floor:
        legend(figure, *axes.get_legend_handles_labels())
    return figure


def envelope(values: ndarray) -> tuple[ndarray, ndarray]:
    """Places, counted from 0, and values of a curve with at most 2 * COLUMNS points."""
    if len(values) <= 2 * COLUMNS:
        return np.arange(len(values)), values
    edges = np.linspace(0, len(values), COLUMNS + 1).astype(int)[:-1]
    low, high = np.minimum.reduceat(values, edges), np.maximum.reduceat(values, edges)
    return np.repeat(edges, 2), np.column_stack([low, high]).ravel()


def centred_mean(values: ndarray, half: int) -> tuple[ndarray, ndarray]:
    """Places, counted from 0, and the mean of `half` values before each, itself, and `half` after.

    Near the start it reaches only a quarter of the way back, so that it keeps to a curve that
    falls by decades. A mean, because medians and means of logarithms lie below the expected loss.
    """
    places = np.unique(np.linspace(0, len(values) - half - 1, 2 * COLUMNS).astype(int))
    reach = np.minimum(half, places // 4)
    # Not from differences of one running sum, in which large first losses drown the last ones.
    with np.errstate(over="ignore"):
        return places, np.array([values[i - r : i + r + 1].mean() for i, r in zip(places, reach)])


def until_overflow(losses: ndarray) -> tuple[ndarray, int | None]:
    """The losses before the first not finite one, and if that is infinite its step, from 1 on."""
    bad = np.flatnonzero(~np.isfinite(losses))
    if not len(bad):
        return losses, None
    return losses[: bad[0]], int(bad[0]) + 1 if np.isinf(losses[bad[0]]) else None


@styled
def error_curves(
    steps: ndarray,
    panels: dict[str, dict[str, ndarray]],
    *,
    title: str,
    limits: dict[str, float] | None = None,
    overflow: int | None = None,
) -> Figure:
    """Errors against the number of steps, a panel each, both axes logarithmic.

    Args:
        steps: shape (points,), the numbers of steps.
        panels: for each panel's name the curves: a label and an array of shape (points,).
        limits: for each panel's name the error of least squares, drawn as a line.
        overflow: the step, counted from 1, at which the run overflowed.
    """
    figure = new(9, 4.6, title)
    row = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (name, curves) in zip(row, panels.items()):
        for (label, curve), dash, colour in zip(curves.items(), ("-", "--"), (BLUE, ORANGE)):
            dots = "o" if len(steps) == 1 else None
            axes.plot(steps, curve, dash, color=colour, lw=2, marker=dots, label=label)
        if limits:
            axes.axhline(limits[name], color="black", ls=":", label="least squares, all pairs")
        log_scale(axes, "x", [*steps, overflow or 0])
        log_scale(axes, "y", np.concatenate([np.ravel(line.get_ydata()) for line in axes.lines]))
        if overflow:
            mark(axes, overflow, f"overflow at step {overflow:,}", 1.06, ORANGE)
        axes.set(xlabel="steps", ylabel=f"largest error of {name}")
        axes.grid(alpha=0.3)
    legend(figure, *axes.get_legend_handles_labels())
    return figure


# The network of two inputs and two outputs.


@styled
def regions(
    values: ndarray, points: ndarray, labels: ndarray, *, title: str, right: ndarray | None = None
) -> Figure:
    """Where each of two outputs wins over [0, 1] x [0, 1], and the points, wrong ones crossed out.

    Args:
        values: shape (side, side, 2), the outputs on `unit_grid`.
        points: shape (n, 2). labels: shape (n,), 0 or 1, the output that should win.
        right: shape (n,), whether it does.
    """
    difference = np.nan_to_num(values[..., 0] - values[..., 1])
    limit = float(np.abs(difference).max()) or 1.0
    if limit < 0.2:
        title += f"\nThe outputs hardly differ: the colours end at ±{limit:.3g}, not at ±1"
    else:
        limit = 1.0
    figure = new(6.7, 5.6, title)
    axes = figure.subplots()
    image = unit_square(axes, difference, WINNERS, -limit, limit)
    if difference.min() < 0 < difference.max():
        side = np.linspace(0, 1, len(difference))
        axes.contour(side, side, difference, levels=[0], colors="black", linewidths=2)
    draw_points(axes, points, labels, right)
    bar = figure.colorbar(image, ticks=np.linspace(-limit, limit, 5), format="{x:.3g}")
    bar.set_label(f"F₁ {MINUS} F₂ (black line: 0, the boundary)", labelpad=8)
    legend(figure, *axes.get_legend_handles_labels())
    return figure


@styled
def surfaces(
    values: ndarray, points: ndarray, labels: ndarray, *, title: str, right: ndarray | None = None
) -> Figure:
    """F1 and F2 over [0, 1] x [0, 1], with lines of equal height. Arguments: those of `regions`."""
    values = np.nan_to_num(values)
    low, high = (values.min(), values.max()) if np.ptp(values) < 0.2 else (0, 1)
    spread = ticker.MaxNLocator(4, steps=[1, 2, 2.5, 5, 10], min_n_ticks=3)
    levels = spread.tick_values(low, max(high, low + 0.001))
    if high - low < 0.2:
        title += f"\nThe outputs hardly vary: the colours span {levels[0]:.6g} to {levels[-1]:.6g}"
    figure, side = new(9.2, 4.7, title), np.linspace(0, 1, len(values))
    panels = figure.subplots(1, 2, sharey=True)
    inner = list(zip(levels[1:-1], (":", "-", "--", "-.")))
    for number, axes in enumerate(panels):
        height = values[..., number]
        image = unit_square(axes, height, "cividis", levels[0], levels[-1])
        for level, dash in inner:
            if height.min() < level < height.max():
                axes.contour(side, side, height, [level], colors="white", linestyles=[dash])
        draw_points(axes, points, labels, right)
        axes.set_title(f"F{'₁₂'[number]}, from {height.min():.4g} to {height.max():.4g}")
    bar = figure.colorbar(image, ax=panels, ticks=levels, format="{x:.6g}", label="lines: F")
    for level, dash in inner:
        bar.ax.axhline(level, color="white", ls=dash)
    legend(figure, *axes.get_legend_handles_labels())
    return figure


def unit_grid(side: int) -> ndarray:
    """A regular grid over [0, 1] x [0, 1], shape (side, side, 2); x1 grows along the columns."""
    places = np.linspace(0, 1, side)
    return np.stack(np.meshgrid(places, places), axis=-1)


def unit_square(axes: Axes, values: ndarray, colours: Any, low: float, high: float) -> Any:
    """Values on `unit_grid` as an image, x1 to the right, x2 upwards."""
    margin = 0.5 / (len(values) - 1)  # the outer values lie on the square's sides
    place: dict[str, Any] = {"extent": (-margin, 1 + margin, -margin, 1 + margin)}
    smooth: dict[str, Any] = {"interpolation": "bilinear", "interpolation_stage": "data"}
    image = axes.imshow(values, colours, vmin=low, vmax=high, origin="lower", **place, **smooth)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="x₁", ylabel="x₂", aspect="auto")
    axes.label_outer()
    return image


def draw_points(axes: Axes, points: ndarray, labels: ndarray, right: ndarray | None) -> list[Any]:
    """The points, circles for label (1, 0) and squares for (0, 1), the wrong ones crossed out."""
    drawn: list[Any] = []
    look: dict[str, Any] = {"edgecolor": "white", "lw": 1.5, "clip_on": False, "zorder": 3}
    for label, marker, colour in ((0, "o", BLUE), (1, "s", ORANGE)):
        (x1, x2), text = points[labels == label].T, f"label {(1 - label, label)}"
        drawn.append(axes.scatter(x1, x2, 110, colour, marker=marker, label=text, **look))
    if right is not None and not right.all():
        x1, x2 = points[~right].T
        look = {"lw": 2.5, "clip_on": False, "zorder": 4, "label": "crossed out: wrong"}
        drawn.append(axes.scatter(x1, x2, 280, "black", marker="x", **look))
    return drawn


class Snapshots(NamedTuple):
    """What a network of two inputs and two outputs was like after some numbers of steps."""

    steps: ndarray  # (snapshots,)
    values: ndarray  # (snapshots, side, side, 2): its outputs on `unit_grid`
    right: ndarray  # (snapshots, points): whether it had the points right


def eval_steps(steps: int, animated: bool) -> ndarray:
    """When to evaluate a run of that many steps for `milestones`, and if wanted for `animation`."""
    even = np.linspace(min(1, steps), steps, 101).astype(int)
    return np.union1d(even, frame_steps(steps)) if animated and steps else np.unique(even)


def frame_steps(steps: int) -> ndarray:
    """The numbers of steps that an animation shows, on a logarithmic scale from a hundredth on."""
    return np.unique(np.geomspace(max(1, steps // 100), steps, 45).astype(int))


def milestones(steps: ndarray, counts: ndarray) -> dict[int, str]:
    """Marks for a loss curve, "6 right", where from then on never fewer points are right.

    Args:
        steps: shape (snapshots,). counts: shape (snapshots,), how many points were right then.
    """
    least = np.minimum.accumulate(counts[::-1])[::-1]
    rises = np.flatnonzero(np.diff(least, prepend=-1))
    return {int(steps[i]): f"{least[i]:g} right" for i in rises}


@styled
def animation(
    frames: Snapshots, losses: ndarray, points: ndarray, labels: ndarray, *, title: str
) -> bytes:
    """A GIF of a network that learns: where each output wins, beside the loss; a loop of 12 s.

    Args:
        frames: at least those at `frame_steps`, which are shown.
        losses: shape (steps,), as far as the frames go.
        points, labels: as in `regions`.
    """
    chosen = np.isin(frames.steps, frame_steps(int(frames.steps[-1])))
    frames = Snapshots(*(part[chosen] for part in frames))
    figure = new(8, 4.4, title)
    figure.set_dpi(90)
    square, chart = figure.subplots(1, 2)
    image = unit_square(square, np.zeros(frames.values.shape[1:3]), WINNERS, -1, 1)
    drawn = draw_points(square, points, labels, np.zeros(len(points), bool))
    steps = np.unique(np.geomspace(frames.steps[0], frames.steps[-1], 500).astype(int))
    chart.plot(steps, losses[steps - 1], color=GREY, lw=2)
    log_scale(chart, "x", steps)
    log_scale(chart, "y", losses[steps - 1])
    chart.set(xlabel="steps", ylabel="loss")
    dot = chart.plot(steps[0], losses[steps[0] - 1], "o", color=BLUE, ms=10, clip_on=False)[0]
    line, text = chart.axvline(steps[0], color=BLUE, lw=1), chart.set_title(" ", weight="bold")
    legend(figure, drawn, [artist.get_label() for artist in drawn])
    moving = [image, *drawn, line, dot, text]
    for artist in moving:  # these are drawn for each frame, all else once
        artist.set_animated(True)
    canvas, pictures = FigureCanvasAgg(figure), []
    canvas.draw()
    still = canvas.copy_from_bbox(figure.bbox)
    for step, values, right in zip(frames.steps.tolist(), frames.values, frames.right):
        image.set_data(np.nan_to_num(values[..., 0] - values[..., 1]))
        drawn[-1].set_offsets(points[~right])
        line.set_xdata([step])
        dot.set_data([step], [losses[step - 1]])
        text.set_text(f"{step:,} steps: {right.sum()} of {len(points)} right")
        canvas.restore_region(still)
        for artist in moving:
            figure.draw_artist(artist)
        pictures.append(Image.fromarray(np.array(canvas.buffer_rgba())).convert("RGB"))
    palette = pictures[-1].quantize(96, Image.Quantize.MAXCOVERAGE)
    gif = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    content, times = io.BytesIO(), [190] * (len(gif) - 1) + [3000]  # milliseconds
    gif[0].save(content, "GIF", save_all=True, append_images=gif[1:], loop=0, duration=times)
    return content.getvalue()


# The networks themselves.


@styled
def layers(
    networks: dict[str, Sequence[ndarray]],
    *,
    inputs: Sequence[str] | ndarray,
    outputs: Sequence[str],
    title: str,
) -> Figure:
    """Networks side by side: a line for each weight, biases in the nodes.

    Blue is positive, orange and dashed negative; the wider a line, the larger the weight.

    Args:
        networks: for each panel's name weights and biases in turn: (out, in), (out,), ...
        inputs: the inputs' names; or an image in their place, with one grey line to each unit.
        outputs: the outputs' names.
    """
    pixels = isinstance(inputs, ndarray)
    weights = [weight for network in networks.values() for weight in network[2 * pixels :: 2]]
    largest = max(np.abs(weight[np.isfinite(weight)]).max(initial=0) for weight in weights) or 1.0
    few = all(weight.size <= STRONGEST for weight in weights)
    scales = (float(largest), 5.0 if few else 2.5)
    notes = ["Grey lines: all weights of a unit"] * pixels
    notes += [] if few else [f"the {STRONGEST} largest weights of a layer are drawn"]
    if any(bias.size >= CROWDED for network in networks.values() for bias in network[1::2]):
        notes.append("squares: negative biases")
    figure = new(max(8, 4.2 * len(networks)), 4.9, f"{title}\n{'; '.join(notes)}")
    row = figure.subplots(1, len(networks), squeeze=False)[0]
    for axes, (name, network) in zip(row, networks.items()):
        draw_network(axes, network, inputs, outputs, scales)
        axes.set_title(name, weight="bold")
    shown = largest * np.array([-1, -0.2, 0.2, 1])
    lines = [edges([((0, 0), (1, 1))], weight, scales) for weight in shown[:, None]]
    legend(figure, lines, [f"weight {weight:.2g}".replace("-", MINUS) for weight in shown])
    return figure


def draw_network(
    axes: Axes,
    network: Sequence[ndarray],
    inputs: Sequence[str] | ndarray,
    outputs: Sequence[str],
    scales: tuple[float, float],
) -> None:
    """One network of `layers`, from x = 0, the inputs, to x = 1, the outputs."""
    axes.set(xlim=(-0.15, 1.15), ylim=(-0.1, 1))
    axes.axis("off")
    counts = [network[0].shape[1], *(len(bias) for bias in network[1::2])]
    kinds = ["inputs", *["hidden"] * (len(counts) - 2), "outputs"]
    columns, weights = np.linspace(0, 1, len(counts)), list(network[::2])
    heights = [  # the first node on top
        0.5 - (np.arange(drawn) - (drawn - 1) / 2) * min(0.33, 1 / drawn)
        for drawn in (min(count, DRAWN) for count in counts)
    ]
    if isinstance(inputs, ndarray):
        kinds[0], columns[1:-1] = "pixels", columns[1:-1] + 0.1
        heights[0], weights[0] = np.array([0.5]), np.full((counts[1], 1), np.nan)
        picture = axes.inset_axes((-0.15, 0.35, 0.3, 0.3), transform=axes.transData, zorder=6)
        picture.imshow(inputs, cmap="gray_r")
        picture.set(xticks=[], yticks=[])
        picture.spines[:].set(visible=True, color=GREY)
    for layer, weight in enumerate(weights):
        weight = weight[: len(heights[layer + 1]), : len(heights[layer])]
        strength = np.abs(np.nan_to_num(weight)).ravel()
        strongest = np.argsort(strength, kind="stable")[-STRONGEST:]  # the largest on top
        to, source = np.unravel_index(strongest, weight.shape)
        begin = [(columns[layer], y) for y in heights[layer][source]]
        end = [(columns[layer + 1], y) for y in heights[layer + 1][to]]
        axes.add_collection(edges(list(zip(begin, end)), weight[to, source], scales))
    for layer, (x, count, kind) in enumerate(zip(columns, counts, kinds)):
        more = f",\n{DRAWN} drawn" if len(heights[layer]) == DRAWN < count else ""
        axes.text(x, -0.1, f"{count:,} {kind}{more}", ha="center", va="top", fontsize=SMALL)
        if kind != "pixels":
            draw_nodes(axes, x, heights[layer], network[2 * layer - 1] if layer else inputs)
    for text, height in zip(outputs, heights[-1]):
        axes.text(1.13, height, text, va="center")


def edges(segments: Sequence[Any], weights: ndarray, scales: tuple[float, float]) -> LineCollection:
    """Lines for weights, (lines,), grey if not finite; scales: the largest and its line's width."""
    share = np.nan_to_num(weights / scales[0], posinf=0, neginf=0)
    colours = AROUND_ZERO(0.5 + np.copysign(0.2 + 0.3 * np.abs(share), share))
    colours[~np.isfinite(weights)] = to_rgba("#cccccc")
    dashes = [(0, (2, 1)) if part < 0 else "-" for part in share]
    widths = np.maximum(0.8, scales[1] * np.abs(share))
    return LineCollection(segments, colors=colours, linestyles=dashes, linewidths=widths)


def draw_nodes(axes: Axes, x: float, heights: ndarray, content: Any) -> None:
    """A layer's nodes with names or biases; without room for numbers, circles, or squares."""
    column = np.full(len(heights), x)
    look: dict[str, Any] = {"edgecolor": "black", "lw": 0.7, "zorder": 5}
    if len(heights) >= CROWDED:
        negative, size = np.asarray(content)[: len(heights)] < 0, (170 / len(heights)) ** 2
        axes.scatter(column[~negative], heights[~negative], size, BLUE, **look)
        axes.scatter(column[negative], heights[negative], 0.7 * size, ORANGE, marker="s", **look)
        return
    axes.scatter(column, heights, 2300, "white", **look)
    for value, y in zip(content, heights):
        text = value if isinstance(value, str) else f"{value:.2g}".replace("-", MINUS)
        axes.text(x, y, text, ha="center", va="center", zorder=6, fontsize=SMALL)


@styled
def hidden_units(weights: ndarray, *, title: str) -> Figure:
    """The weights of hidden units, shape (units, height, width), as images on one colour scale."""
    units = len(weights)
    if units > DRAWN:
        title += f"\nThe first {DRAWN} of {units:,} units"
    drawn = min(units, DRAWN)
    columns = min(drawn, 8)
    rows = -(-drawn // columns)
    margins = ((0, rows * columns - drawn), (1, 1), (1, 1))  # not a number: grey
    tiles = np.pad(weights[:drawn].astype(float), margins, constant_values=np.nan)
    mosaic = np.vstack([np.hstack(list(row)) for row in np.split(tiles, rows)])
    limit = float(np.abs(mosaic[np.isfinite(mosaic)]).max(initial=0)) or 1.0
    side = 6.4 / max(columns, 4)
    figure = new(max(6.7, side * columns + 1.6), side * rows + 0.2, title)
    axes, colours = figure.subplots(), AROUND_ZERO.with_extremes(bad="#999999")
    image = axes.imshow(mosaic, colours, vmin=-limit, vmax=limit, interpolation="nearest")
    axes.axis("off")
    figure.colorbar(image)
    return figure


# Images and what the network says of them.


def captions(probabilities: ndarray, labels: Iterable[int], names: Sequence[str]) -> list[str]:
    """For each image its label and the network's answer; probabilities: shape (n, classes)."""
    return [
        f"label {names[label]},\nnetwork says {names[row.argmax()]} ({100 * row.max():.0f} %)"
        for row, label in zip(probabilities, labels)
    ]


@styled
def image_row(images: ndarray, captions: Sequence[str], *, title: str, columns: int = 5) -> Figure:
    """Grey images, shape (n, height, width), in rows, with a caption under each."""
    columns = max(1, min(columns, len(images)))
    rows, texts = -(-len(images) // columns), [wrapped(text, 1.6, SMALL) for text in captions]
    below = 0.3 + 0.2 * max(map(len, texts), default=0)
    figure = new(max(8, 1.6 * columns), (1.45 + below) * rows + 0.1, title)
    for place, (image, text) in enumerate(zip(images, texts)):
        axes = figure.add_subplot(rows, columns, place + 1, xticks=[], yticks=[], anchor="S")
        axes.imshow(image, cmap="gray_r", interpolation="nearest")
        axes.set_xlabel("\n".join(text), fontsize=SMALL, parse_math=False)
        axes.spines[:].set_visible(False)
    return figure


def judged_images(
    images: ndarray, labels: ndarray, probabilities: ndarray, names: Sequence[str], *, title: str
) -> Figure:
    """`image_row` with `captions`."""
    return image_row(images, captions(probabilities, labels, names), title=title)


def worst_mistakes(probabilities: ndarray, labels: ndarray, most: int = 10) -> ndarray:
    """The indices of wrong predictions, at most that many, the most confident first."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    return wrong[np.argsort(-probabilities.max(axis=1)[wrong], kind="stable")][:most]


@styled
def images_with_probabilities(
    images: ndarray,
    probabilities: ndarray,
    names: Sequence[str],
    *,
    captions: Sequence[str],
    title: str,
) -> Figure:
    """Images, (n, height, width), each beside its probabilities, (n, classes), the largest filled."""
    figure = new(8, 3.9 * len(images), title)
    panels = figure.subplots(len(images), 2, squeeze=False, width_ratios=(1, 1.5))
    rows = np.nan_to_num(probabilities)
    for (left, right), image, row, text in zip(panels, images, rows, captions):
        left.imshow(image, cmap="gray_r", interpolation="nearest")
        left.set(xticks=[], yticks=[], anchor="S")
        left.spines[:].set(visible=True, color=GREY)
        left.set_xlabel("\n".join(wrapped(text, 2.8, TEXT)), parse_math=False)
        bars = right.barh(names, row, color="white", edgecolor=BLUE, linewidth=1.5)
        bars[row.argmax()].set_facecolor(BLUE)
        right.bar_label(bars, [f"{100 * p:.1f} %" for p in row], padding=3, fontsize=SMALL)
        right.set(xlim=(0, 1.2), xticks=[0, 0.5, 1], xlabel="probability (filled: the answer)")
        right.invert_yaxis()
    return figure


@styled
def confusion(counts: ndarray, names: Sequence[str], *, title: str) -> Figure:
    """A confusion matrix, (classes, classes): rows are labels, columns what the network says."""
    share = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    np.fill_diagonal(share, 0)
    title += "\nColours: errors, as a share of the label's images; on the diagonal, what is right"
    most, long = float(share.max()) or 1.0, max(map(len, names)) > 3
    figure, ticks = new(8, 6.3 if long else 5.6, title), range(len(names))
    axes = figure.subplots()
    cells = axes.pcolormesh(ticks, ticks, share, cmap=ERRORS, vmin=0, vmax=most, ec="#dddddd")
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if share[row, column] > 0.55 * most else "black"
        weight = "bold" if row == column else "normal"
        text = f"{count:,}" if count else ""
        axes.text(
            column, row, text, color=colour, weight=weight, size=10.5, ha="center", va="center"
        )
    turned: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(ticks, names, **turned if long else {})
    axes.set_yticks(ticks, names)
    axes.set(xlabel="the network says", ylabel="label")
    axes.tick_params(length=0)
    axes.invert_yaxis()
    figure.colorbar(cells, label="errors in % of the label's images")
    return figure


# Windows.


@styled
def show(figures: dict[str, Figure]) -> None:
    """Opens figures, by their names, in windows and waits; where it cannot, says so on stderr."""
    reason = "no display here"
    try:
        if BACKEND:
            matplotlib.use(BACKEND)
        import matplotlib.pyplot as plt
        from matplotlib.backends.registry import BackendFilter, backend_registry

        for name, figure in figures.items():
            adopted: Any = lambda *_, figure=figure, **__: figure  # noqa: E731
            plt.figure(name, FigureClass=adopted)
        windows = backend_registry.list_builtin(BackendFilter.INTERACTIVE)
        if plt.get_backend().lower() in windows:
            plt.show()
            return
        plt.close("all")
    except (ImportError, ValueError, RuntimeError) as error:  # a backend that cannot run here
        reason = " ".join(str(error).split())
    print(f"warning: --show: {reason}; the figures are in the run's folder", file=sys.stderr)
