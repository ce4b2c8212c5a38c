"""The figures that lectures draw: arrays in, matplotlib figures out; no file is read or written.

Each colour has a second sign beside it: dashes, a marker, a number. No figure needs a backend; only `show` does.
"""

import io
import math
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from common import sheets  # before matplotlib: it sees to MPLBACKEND
from common.sheets import BLUE, DASHES, GREEN, GREY, MINUS, ORANGE, SMALL, TEXT

# isort: split
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import Colormap, LinearSegmentedColormap, ListedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from PIL import Image

AROUND_ZERO = LinearSegmentedColormap.from_list("around zero", [ORANGE, "white", BLUE])
# Ten shades of each colour and none of white: which output is larger is seen where they hardly differ, too.
WINNERS = ListedColormap(
    [
        *LinearSegmentedColormap.from_list("o", ["#e8a06a", "#fbeee4"])(np.linspace(0, 1, 10)),
        *LinearSegmentedColormap.from_list("b", ["#e3eff7", "#6aacd4"])(np.linspace(0, 1, 10)),
    ]
)
COLUMNS = 1000  # of a curve with more points, each of that many columns shows the smallest and the largest
BEYOND = 1e8  # a loss that grows without end is drawn up to that many times the first one
DRAWN = 40  # hidden units, of a layer that has more
STRONGEST = 80  # weights drawn of a layer that has more
CROWDED = 7  # nodes, of which many have no room for numbers


# Curves of one run.


def loss_curve(
    losses: np.ndarray,
    *,
    title: str,
    window: int | None = None,
    floor: float | None = None,
    marks: dict[int, str] | None = None,
) -> Figure:
    """The loss at every step, on a logarithmic scale.

    Args:
        losses: shape (steps,). Where one is infinite the run has overflowed: that is said, with the step, and the axes
            show where the loss leaves the stable region. It ends before one that is not a number: a step not made.
        title: what it shows; from the second line on data set, settings, what was done.
        window: also the mean of about that many steps, when there are more.
        floor: a loss that no model can stay under, drawn as a line.
        marks: for some steps (counted from 1) what to write there, such as the number of points that are right.
    """
    figure = sheets.new(8, 4.6, title)
    axes = figure.add_subplot(ylabel="loss")
    values, overflow = until_overflow(np.asarray(losses, dtype=float))
    values = values[: stable(values)] if overflow else values
    steps, shown = envelope(values)
    half = window // 2 if window and len(values) > window else 0
    axes.plot(
        steps + 1,
        shown,
        color=BLUE,
        alpha=0.45 if half else 1,
        linewidth=1 if half else 1.5,
        label="each step",
        marker="o" if len(values) < 20 else None,
    )
    if half:
        places, means = centred_mean(values, half)
        axes.plot(
            places + 1,
            means,
            color=ORANGE,
            linewidth=2,
            label=f"mean of {2 * half + 1:,} steps around it, of fewer at the start",
        )
    if floor:
        axes.axhline(
            floor,
            color="black",
            linestyle="--",
            label=f"noise floor {sheets.plain(float(f'{floor:.3g}'))}",
        )
    if overflow:
        if len(values):
            axes.axhline(values[0], color="black", linestyle=":", label="the first loss")
        axes.text(
            0.97,
            0.3,
            f"overflow at step {overflow:,}",
            transform=axes.transAxes,
            color=ORANGE,
            fontsize=14,
            weight="bold",
            horizontalalignment="right",
        )
    elif not len(values):
        axes.text(
            0.5, 0.5, "no step was made", transform=axes.transAxes, horizontalalignment="center"
        )
    sheets.number_steps(axes, len(values))
    sheets.logarithmic(axes.yaxis, [*shown, floor or 0])
    if len(axes.get_legend_handles_labels()[1]) == 1:
        axes.get_lines()[0].set_label("")
    sheets.settle(figure, [axes], 4.6)
    if marks:
        rows = 1 + max(row for _, row, _ in sheets.rows_of(marks, axes.get_xlim()[1], 6.5))
        sheets.logarithmic(axes.yaxis, [*shown, floor or 0], room=0.07 * rows)
        sheets.mark(figure, axes, marks)
    return figure


def envelope(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places (counted from 0) and values of a curve with at most two points a column, its extremes kept."""
    if len(values) <= 2 * COLUMNS:
        return np.arange(len(values)), values
    edges = np.linspace(0, len(values), COLUMNS + 1).astype(int)[:-1]
    low, high = np.minimum.reduceat(values, edges), np.maximum.reduceat(values, edges)
    return np.repeat(edges, 2), np.column_stack([low, high]).ravel()


def centred_mean(values: np.ndarray, half: int) -> tuple[np.ndarray, np.ndarray]:
    """Places (counted from 0), and the mean of the `half` values before each, itself, and as many after it.

    Near the start it reaches only a quarter of the way back, so that it keeps to a curve which falls by decades; it
    ends where no whole window is left. A mean, not a median or a mean of logarithms: those lie below the loss that is
    expected.
    """
    places = np.unique(np.linspace(0, len(values) - half - 1, 2 * COLUMNS).astype(int))
    reach = np.minimum(half, places // 4)
    # Not from differences of one running sum: beside the first losses, the last may be too small for it.
    return places, np.array([values[i - r : i + r + 1].mean() for i, r in zip(places, reach)])


def until_overflow(losses: np.ndarray) -> tuple[np.ndarray, int | None]:
    """The losses before the first that is not finite; and if that is infinite its step, counted from 1, else None."""
    bad = np.flatnonzero(~np.isfinite(losses))
    if not len(bad):
        return losses, None
    return losses[: bad[0]], int(bad[0]) + 1 if np.isinf(losses[bad[0]]) else None


def stable(values: np.ndarray) -> int:
    """How many values of a run that grows without end show where it does: up to BEYOND times the first."""
    with np.errstate(over="ignore"):
        inside = np.flatnonzero(values <= BEYOND * values[:1])
    return int(inside[-1]) + 1 if len(inside) else 0


def error_curves(
    steps: np.ndarray,
    panels: dict[str, dict[str, np.ndarray]],
    *,
    title: str,
    limits: dict[str, float] | None = None,
    overflow: int | None = None,
) -> Figure:
    """Errors against the number of steps, a panel each, both axes logarithmic.

    Args:
        steps: shape (points,), the numbers of steps.
        panels: for each panel's name the curves: a label and an array of shape (points,).
        title: what it shows; from the second line on data set, settings, what was done.
        limits: for a panel's name the error of least squares, drawn as a line.
        overflow: the step at which the run overflowed; then the axes show where it leaves the stable region.
    """
    figure, charts = sheets.new(9, 4.6, title), []
    for column, (name, curves) in enumerate(panels.items()):
        axes = figure.add_subplot(
            1, len(panels), column + 1, xlabel="steps", ylabel=f"largest error of {name}"
        )
        errors = np.array(
            [np.ravel(curve) for curve in curves.values()], dtype=float
        )  # (curves, points)
        count = max(2, *(stable(curve) for curve in errors)) if overflow else len(steps)
        errors = np.where(
            np.isfinite(errors) & (errors < BEYOND * np.nanmax(errors[:, :1]))
            if overflow
            else np.isfinite(errors),
            errors,
            np.nan,
        )[:, :count]
        for label, curve, colour, dash in zip(
            curves, errors, (BLUE, ORANGE, GREEN), ("-", "--", "-.")
        ):
            axes.plot(
                steps[:count],
                curve,
                color=colour,
                linestyle=dash,
                linewidth=2,
                label=label,
                marker="o" if count == 1 else None,
            )
        if limits:
            axes.axhline(
                limits[name],
                color="black",
                linestyle=":",
                linewidth=1.5,
                label="least squares, all pairs",
            )
        if overflow:
            axes.text(
                0.97,
                0.12,
                f"overflow at step {overflow:,}",
                transform=axes.transAxes,
                color=ORANGE,
                weight="bold",
                horizontalalignment="right",
            )
        sheets.logarithmic(axes.xaxis, steps[:count])
        sheets.logarithmic(axes.yaxis, [*errors.ravel(), limits[name] if limits else 0])
        charts.append(axes)
    sheets.settle(figure, charts, 4.6)
    return figure


# The network of two inputs and two outputs.


def regions(
    values: np.ndarray,
    points: np.ndarray,
    labels: np.ndarray,
    *,
    title: str,
    right: np.ndarray | None = None,
) -> Figure:
    """Where each of two outputs wins over [0, 1] x [0, 1], the boundary, and the points, the wrong ones crossed out.

    Args:
        values: shape (rows, columns, 2): the outputs on a regular grid, x1 along the columns, x2 along the rows.
        points: shape (n, 2). labels: shape (n,), 0 or 1, the output that should win.
        title: what it shows; from the second line on data set, settings, what was done.
        right: shape (n,), whether the network has the point right.
    """
    difference = np.nan_to_num(values[..., 0] - values[..., 1])
    largest = float(np.abs(difference).max())
    limit = 1.0 if largest > 0.2 or not largest else sheets.ceiling(largest)
    if limit < 1:
        title += (
            f"\nThe outputs hardly differ: the colours end at ±{sheets.plain(limit)}, not at ±1"
        )
    figure = sheets.new(7.2, 5.5, title)
    axes = sheets.panel(figure, 0.75, 0.95, 4.5, 4.5)
    image = unit_square(axes, difference, WINNERS, (-limit, limit))
    if difference.min() < 0 < difference.max():
        side = np.linspace(0, 1, len(difference))
        axes.contour(side, side, difference, levels=[0], colors="black", linewidths=2)
    draw_points(axes, points, labels, right)
    sheets.colour_scale(
        figure,
        image,
        (5.55, 0.95, 0.22, 4.5),
        f"F₁ {MINUS} F₂ (black line: 0, the boundary)",
        [-limit, -limit / 2, 0, limit / 2, limit],
    )
    sheets.legend(figure, *axes.get_legend_handles_labels())
    return figure


def surfaces(
    values: np.ndarray,
    points: np.ndarray,
    labels: np.ndarray,
    *,
    title: str,
    right: np.ndarray | None = None,
) -> Figure:
    """F1 and F2 over [0, 1] x [0, 1] as two panels, with lines of equal height, and the points.

    The arguments are those of `regions`.
    """
    values = np.nan_to_num(values)
    low, high = float(values.min()), float(values.max())
    levels: Sequence[float] = [0, 0.25, 0.5, 0.75, 1]
    bottom = 1.0
    if high - low < 0.2:
        spread = max(high - low, 0.001)
        levels = MaxNLocator(4, steps=[1, 2, 5, 10], min_n_ticks=3).tick_values(low, low + spread)
        bottom = 1.2  # room for a second row of the legend
        title += (
            f"\nThe outputs hardly vary: the colours span {sheets.plain(levels[0])} to "
            f"{sheets.plain(levels[-1])}, not 0 to 1"
        )
    figure, side = sheets.new(9.2, bottom + 3.7, title), np.linspace(0, 1, len(values))
    for column in range(2):
        axes = sheets.panel(figure, 0.75 + 3.7 * column, bottom, 3.35, 3.35)
        image = unit_square(
            axes,
            values[..., column],
            matplotlib.colormaps["cividis"].resampled(20),
            (levels[0], levels[-1]),
        )
        lowest, largest = values[..., column].min(), values[..., column].max()
        crossed = [
            (level, dash) for level, dash in zip(levels[1:-1], DASHES) if lowest < level < largest
        ]
        if crossed:
            axes.contour(
                side,
                side,
                values[..., column],
                levels=[level for level, _ in crossed],
                colors="white",
                linestyles=[dash for _, dash in crossed],
            )
        draw_points(axes, points, labels, right)
        axes.set_title(f"F{'₁₂'[column]}, from {lowest:.4g} to {largest:.4g}")
        if column:
            axes.set(ylabel="", yticklabels=[])
    sheets.colour_scale(figure, image, (7.95, bottom, 0.2, 3.35), "", levels)
    handles, names = axes.get_legend_handles_labels()
    drawn = list(zip(levels[1:-1], DASHES))
    sheets.legend(
        figure,
        [*handles, *(Line2D([], [], color=GREY, linestyle=dash) for _, dash in drawn)],
        [*names, *(f"F = {sheets.plain(level)}" for level, _ in drawn)],
    )
    return figure


class Frames(NamedTuple):
    """What a network of two inputs and two outputs was like after some numbers of steps."""

    steps: np.ndarray  # (frames,)
    values: np.ndarray  # (frames, side, side, 2): its outputs on a grid, as in `regions`
    right: np.ndarray  # (frames, points): whether it had the points right


def looks(steps: int, animated: bool) -> np.ndarray:
    """Numbers of steps at which to look at a run of `steps`: every hundredth of it, for `milestones`; if wanted also
    those of `animation`, evenly spaced on a logarithmic scale from the first hundredth on."""
    even = np.linspace(min(1, steps), steps, 101)
    return np.unique(
        np.concatenate([even, frame_steps(steps)] if animated and steps else [even]).astype(int)
    )


def frame_steps(steps: int) -> np.ndarray:
    """The numbers of steps that an animation of a run of `steps` shows."""
    return np.unique(np.geomspace(max(1, steps // 100), steps, 45).astype(int))


def milestones(steps: np.ndarray, counts: np.ndarray) -> dict[int, str]:
    """Marks for `loss_curve` where more points are right for good: the steps from which on never fewer of them are.

    Args:
        steps: shape (looks,). counts: shape (looks,), how many points were right after so many steps.
    """
    least = np.minimum.accumulate(counts[::-1])[::-1]
    rises = [0, *(np.flatnonzero(np.diff(least)) + 1)]
    return {int(steps[look]): f"{least[look]} right" for look in rises}


def animation(
    frames: Frames, losses: np.ndarray, points: np.ndarray, labels: np.ndarray, *, title: str
) -> bytes:
    """A GIF that shows a network learning: where each output wins, beside the loss; in a loop of at most 12 seconds.

    Args:
        frames: what to show, of these the `frame_steps`; the last is held for some seconds.
        losses: shape (steps,), at least as many as the last frame has made.
        points, labels: as in `regions`.
        title: what it shows; from the second line on data set, settings, what was done.
    """
    chosen = np.flatnonzero(np.isin(frames.steps, frame_steps(int(frames.steps[-1]))))
    frames = Frames(*(part[chosen] for part in frames))
    figure = sheets.new(8, 4.4, title)
    figure.set_dpi(90)
    square, chart = sheets.panel(figure, 0.75, 0.95, 3, 3), sheets.panel(figure, 4.75, 0.95, 3, 3)
    image = unit_square(square, np.zeros_like(frames.values[0, ..., 0]), WINNERS, (-1, 1))
    drawn = draw_points(square, points, labels, np.zeros(len(points), bool))
    places = np.unique(np.geomspace(frames.steps[0], frames.steps[-1], 500).astype(int))
    shown = np.nan_to_num(losses[places - 1])
    chart.plot(places, shown, color=GREY, linewidth=2)
    chart.set(xlabel="steps", ylabel="loss")
    sheets.logarithmic(chart.xaxis, places[[0, -1]])
    sheets.logarithmic(chart.yaxis, shown)
    cursor = chart.plot([], [], "o", color=BLUE, markersize=10, clip_on=False)[0]
    line = chart.axvline(1, color=BLUE, linewidth=1)
    text = chart.set_title("", weight="bold")
    sheets.legend(figure, [*drawn], [artist.get_label() for artist in drawn])
    moving = [image, *drawn, line, cursor, text]
    for artist in moving:
        artist.set_animated(True)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    still, pictures = canvas.copy_from_bbox(figure.bbox), []
    for step, values, right in zip(frames.steps.tolist(), frames.values, frames.right):
        image.set_data(np.nan_to_num(values[..., 0] - values[..., 1]))
        drawn[-1].set_offsets(points[~right])
        line.set_xdata([step])
        cursor.set_data([step], [losses[step - 1]])
        text.set_text(f"{step:,} steps: {right.sum()} of {len(points)} right")
        canvas.restore_region(still)
        for artist in moving:
            figure.draw_artist(artist)
        pictures.append(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy()))
    return gif(pictures, seconds=8.5, still=3)


def gif(pictures: list[Image.Image], seconds: float, still: float) -> bytes:
    """Pictures as an animation with one palette, the last held for `still` seconds more."""
    first, last = pictures[0], pictures[-1]
    both = Image.new("RGB", (first.width, 2 * first.height))
    both.paste(first)
    both.paste(last, (0, first.height))
    palette = both.quantize(96, method=Image.Quantize.MEDIANCUT)
    white = [
        255 if colour > 250 else colour for colour in palette.getpalette() or []
    ]  # near white, it became
    palette.putpalette(white)
    frames = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    each = max(20, 10 * int(100 * seconds / len(frames)))  # a GIF counts in hundredths of a second
    content = io.BytesIO()
    frames[0].save(
        content,
        "GIF",
        save_all=True,
        append_images=frames[1:],
        loop=0,
        duration=[each] * (len(frames) - 1) + [each + int(1000 * still)],
    )
    return content.getvalue()


def unit_grid(side: int) -> np.ndarray:
    """The points of a regular grid over [0, 1] x [0, 1], shape (side, side, 2), for `regions` and `surfaces`."""
    places = np.linspace(0, 1, side)
    return np.stack(np.meshgrid(places, places, indexing="xy"), axis=-1)


def unit_square(
    axes: Axes, values: np.ndarray, colours: Colormap, limits: tuple[float, float]
) -> AxesImage:
    """Values on a grid over [0, 1] x [0, 1] as an image, x1 along the columns, x2 upwards."""
    margin = 0.5 / (len(values) - 1)  # the outer values lie on the square's sides
    image = axes.imshow(
        values,
        cmap=colours,
        vmin=limits[0],
        vmax=limits[1],
        origin="lower",
        interpolation="bilinear",
        extent=(-margin, 1 + margin, -margin, 1 + margin),
        interpolation_stage="data",
    )
    places = [0, 0.2, 0.4, 0.6, 0.8, 1]
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="x₁", ylabel="x₂", aspect="auto")
    axes.set_xticks(places, labels=[sheets.plain(place) for place in places])
    axes.set_yticks(places, labels=[sheets.plain(place) for place in places])
    return image


def draw_points(
    axes: Axes, points: np.ndarray, labels: np.ndarray, right: np.ndarray | None
) -> list:
    """The points by label, circles and squares, the wrong ones crossed out; returns what was drawn."""
    drawn = []
    for label, marker, colour, text in (
        (0, "o", BLUE, "label (1, 0)"),
        (1, "s", ORANGE, "label (0, 1)"),
    ):
        x1, x2 = points[labels == label].T
        drawn.append(
            axes.scatter(
                x1,
                x2,
                marker=marker,
                s=110,
                color=colour,
                edgecolor="white",
                linewidth=1.5,
                label=text,
                clip_on=False,
                zorder=3,
            )
        )
    if right is not None and not right.all():
        x1, x2 = points[~right].T
        drawn.append(
            axes.scatter(
                x1,
                x2,
                marker="x",
                s=280,
                color="black",
                linewidth=2.5,
                clip_on=False,
                label="crossed out: wrong",
                zorder=4,
            )
        )
    return drawn


# The networks themselves.


def layers(
    networks: dict[str, Sequence[np.ndarray]],
    *,
    inputs: Sequence[str] | np.ndarray,
    outputs: Sequence[str],
    title: str,
) -> Figure:
    """Networks side by side, drawn from their parameters: a line for each weight, a node for each bias.

    Blue is positive, orange and dashed is negative, and the wider a line the larger the weight, on one scale for all.

    Args:
        networks: for each panel's name weights and biases in turn, as a state_dict lists them: (out, in), (out,), ...
        inputs: the inputs' names; or an image that stands for them, whose weights are then drawn as one line a unit.
        outputs: the outputs' names.
        title: what it shows; from the second line on settings, what was done.
    """
    arrays = {
        name: [np.asarray(array, dtype=float) for array in network]
        for name, network in networks.items()
    }
    first = (
        2 if isinstance(inputs, np.ndarray) else 0
    )  # where the weights begin that are drawn one by one
    weights = np.concatenate(
        [weight.ravel() for network in arrays.values() for weight in network[first::2]]
    )
    largest = float(np.abs(weights[np.isfinite(weights)]).max(initial=0)) or 1.0
    thickest = 5.0 if len(weights) <= STRONGEST * len(arrays) else 2.5
    notes = ["Grey lines: all weights of a unit"] * (first > 0)
    if any(weight.size > STRONGEST for network in arrays.values() for weight in network[first::2]):
        notes.append(
            f"{'of the others ' * (first > 0)}the {STRONGEST} largest weights of a layer are drawn"
        )
    if any(len(bias) >= CROWDED for network in arrays.values() for bias in network[1::2]):
        notes.append("squares: negative biases")
    title += "\n" + "; ".join(notes)
    width = 4.2 + max(sheets.width_of(name, TEXT) for name in outputs)
    figure = sheets.new(max(8, width * len(arrays)), 4.9, title)
    axes = sheets.canvas(figure, max(8, width * len(arrays)), 4.9)
    for place, (name, network) in enumerate(arrays.items()):
        left = 0.1 + place * width
        axes.text(
            left + 2.0,
            4.85,
            name,
            horizontalalignment="center",
            verticalalignment="top",
            weight="bold",
        )
        draw_network(axes, network, left, inputs, (largest, thickest))
        for text, height in zip(outputs, node_places(len(outputs))):
            axes.text(left + 3.98, height, text, verticalalignment="center")
    shown = [
        sign * sheets.ceiling(largest / 2) * share
        for sign, share in ((-1, 1), (-1, 0.2), (1, 0.2), (1, 1))
    ]
    sheets.legend(
        figure,
        [Line2D([], [], **edge_style(weight, largest, thickest)) for weight in shown],
        [f"weight {sheets.plain(float(f'{weight:.6g}'))}" for weight in shown],
    )
    return figure


def node_places(count: int) -> np.ndarray:
    """Heights of a layer's nodes, in inches, the first on top; of at most DRAWN."""
    drawn = min(count, DRAWN)
    return 2.55 - (np.arange(drawn) - (drawn - 1) / 2) * min(1.3, 3.8 / max(1, drawn))


def edge_style(weight: float, largest: float, thickest: float) -> dict[str, Any]:
    """Colour, dashes and width of a weight's line; a weight that is not finite is grey and dotted."""
    if not math.isfinite(weight):
        return {"color": GREY, "linestyle": ":", "linewidth": 1.0}
    share = abs(weight) / largest
    colour = AROUND_ZERO(0.5 + math.copysign(min(0.5, 0.25 + 0.5 * share), weight))
    return {
        "color": colour,
        "linestyle": "-" if weight >= 0 else (0, (2, 1)),
        "linewidth": max(0.8, thickest * share),
    }


def draw_network(
    axes: Axes,
    network: Sequence[np.ndarray],
    left: float,
    inputs: Sequence[str] | np.ndarray,
    scales: tuple[float, float],
) -> None:
    """One network into a panel of `layers` that begins at `left` inches; `scales`: largest weight, thickest line."""
    image = isinstance(inputs, np.ndarray)
    counts = [network[0].shape[1], *(len(bias) for bias in network[1::2])]
    columns = left + (
        np.array([1.2, *np.linspace(2.0, 3.6, len(counts) - 1)])
        if image
        else np.linspace(0.35, 3.6, len(counts))
    )
    heights = [node_places(count) for count in counts]
    if image:
        axes.imshow(
            inputs, cmap="gray_r", extent=(left, left + 1.2, 1.95, 3.15), aspect="auto", zorder=3
        )
        axes.plot(
            left + 1.2 * np.array([0, 1, 1, 0, 0]),
            [1.95, 1.95, 3.15, 3.15, 1.95],
            color=GREY,
            zorder=4,
        )
        axes.add_collection(
            LineCollection(
                [[(columns[0], 2.55), (columns[1], y)] for y in heights[1]],
                colors="#cccccc",
                linewidths=0.8,
            )
        )
        axes.text(
            left + 0.6, 0.42, f"{counts[0]:,} pixels", horizontalalignment="center", fontsize=SMALL
        )
    for layer in range(int(image), len(counts) - 1):
        begin, end = heights[layer], heights[layer + 1]
        weight = network[2 * layer][: len(end), : len(begin)]
        order = np.argsort(np.abs(np.nan_to_num(weight)), axis=None, kind="stable")[
            -STRONGEST:
        ]  # the largest on top
        pairs = list(zip(*np.unravel_index(order, weight.shape)))
        styles = [edge_style(float(weight[pair]), *scales) for pair in pairs]
        axes.add_collection(
            LineCollection(
                [[(columns[layer], begin[j]), (columns[layer + 1], end[i])] for i, j in pairs],
                colors=[style["color"] for style in styles],
                linestyles=[style["linestyle"] for style in styles],
                linewidths=[style["linewidth"] for style in styles],
            )
        )
    for layer in range(int(image), len(counts)):
        what = "inputs" if layer == 0 else "outputs" if layer == len(counts) - 1 else "hidden"
        more = f", {DRAWN} drawn" if counts[layer] > DRAWN else ""
        axes.text(
            columns[layer],
            0.42,
            f"{counts[layer]:,} {what}{more}",
            horizontalalignment="center",
            fontsize=SMALL,
        )
        draw_nodes(
            axes, columns[layer], heights[layer], network[2 * layer - 1] if layer else list(inputs)
        )


def draw_nodes(
    axes: Axes, column: float, heights: np.ndarray, content: list[str] | np.ndarray
) -> None:
    """A layer's nodes with names or biases; where numbers have no room, a circle or, if negative, a square."""
    diameter = 0.62 if len(heights) < CROWDED else 0.75 * 3.8 / len(heights)
    if len(heights) < CROWDED:
        axes.scatter(
            [column] * len(heights),
            heights,
            s=(72 * diameter) ** 2,
            color="white",
            edgecolor="black",
            zorder=5,
        )
        for value, height in zip(content, heights):
            axes.text(
                column,
                height,
                value if isinstance(value, str) else f"{value:.2g}".replace("-", MINUS),
                horizontalalignment="center",
                verticalalignment="center",
                zorder=6,
                fontsize=SMALL,
            )
        return
    negative = np.asarray(content)[: len(heights)] < 0
    for chosen, marker, colour, size in ((~negative, "o", BLUE, 60), (negative, "s", ORANGE, 50)):
        axes.scatter(
            [column] * int(chosen.sum()),
            heights[chosen],
            s=(size * diameter) ** 2,
            color=colour,
            marker=marker,
            edgecolor="black",
            linewidth=0.5,
            zorder=5,
        )


def hidden_units(weights: np.ndarray, *, title: str) -> Figure:
    """The weights of hidden units, shape (units, height, width), as images on one colour scale around zero."""
    units, height, width = weights.shape
    if units > DRAWN:
        title += f"\nThe first {DRAWN} of {units:,} units"
    drawn = min(units, DRAWN)
    columns = min(drawn, 8)
    rows = -(-drawn // columns)
    tiles = np.full(
        (rows * columns, height + 2, width + 2), np.nan
    )  # not a number: grey, the lines between
    tiles[:drawn, 1:-1, 1:-1] = weights[:drawn]
    mosaic = (
        tiles.reshape(rows, columns, height + 2, width + 2)
        .swapaxes(1, 2)
        .reshape(rows * (height + 2), -1)
    )
    limit = float(np.abs(mosaic[np.isfinite(mosaic)]).max(initial=0)) or 1.0
    number = sheets.ceiling(limit / 2)
    size = 6.8 / max(columns, 5)
    beside = 0.8 + sheets.width_of(MINUS + sheets.plain(number), TEXT)
    figure = sheets.new(6.8 + beside, size * rows + 0.2, title)
    axes = sheets.panel(figure, 0.15, 0.15, size * columns, size * rows)
    image = axes.imshow(
        mosaic,
        cmap=AROUND_ZERO.with_extremes(bad="#999999"),
        vmin=-limit,
        vmax=limit,
        interpolation="nearest",
        aspect="auto",
    )
    axes.axis("off")
    sheets.colour_scale(
        figure,
        image,
        (0.3 + size * columns, 0.25, 0.2, size * rows - 0.2),
        "",
        [-number, 0, number],
    )
    return figure


# Images and what the network says of them.


def captions(
    probabilities: np.ndarray, labels: Sequence[int] | np.ndarray, names: Sequence[str]
) -> list[str]:
    """For each image what it is and what the network says, of probabilities, shape (n, classes)."""
    return [
        f"label {names[label]},\nnetwork says {names[guess]} ({100 * row[guess]:.0f} %)"
        for row, label, guess in zip(probabilities, labels, probabilities.argmax(axis=1))
    ]


def image_row(
    images: np.ndarray, captions: Sequence[str], *, title: str, columns: int = 5
) -> Figure:
    """Grey images, shape (n, height, width), with a caption under each, such as "label 5, network says 5 (94 %)"."""
    columns = max(1, min(columns, len(images)))
    rows, cell = -(-len(images) // columns), 1.56
    texts = [sheets.wrapped(caption, cell, 11.5) for caption in captions]
    under = 0.1 + 0.21 * max(map(len, texts), default=0)
    height = rows * (cell + under) + 0.05
    width = max(8.0, columns * cell + 0.2)
    figure = sheets.new(width, height, title)
    axes, margin = sheets.canvas(figure, width, height), 0.06
    for place, (image, text) in enumerate(zip(images, texts)):
        row, column = divmod(place, columns)
        left, top = 0.1 + column * cell, height - row * (cell + under)
        axes.imshow(
            image,
            cmap="gray_r",
            interpolation="nearest",
            aspect="auto",
            extent=(left + margin, left + cell - margin, top - cell + margin, top - margin),
        )
        axes.text(
            left + cell / 2,
            top - cell,
            "\n".join(text),
            horizontalalignment="center",
            verticalalignment="top",
            fontsize=11.5,
        )
    axes.set(xlim=(0, width), ylim=(0, height))
    return figure


def judged_images(
    images: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    names: Sequence[str],
    *,
    title: str,
) -> Figure:
    """`image_row` of images, shape (n, height, width), with what each is, (n,), and what the network says of it."""
    return image_row(images, captions(probabilities, labels.tolist(), names), title=title)


def worst_mistakes(probabilities: np.ndarray, labels: np.ndarray, most: int = 10) -> np.ndarray:
    """Of images whose prediction is wrong the indices, at most that many, the most confident first."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    return wrong[np.argsort(-probabilities.max(axis=1)[wrong], kind="stable")][:most]


def images_with_probabilities(
    images: np.ndarray,
    probabilities: np.ndarray,
    names: Sequence[str],
    *,
    captions: Sequence[str],
    title: str,
    filled: Sequence[int] | None = None,
    bars: str = "the network's answer",
) -> Figure:
    """Images, each beside the model's probability for every class.

    Args:
        images: shape (n, height, width), grey. probabilities: shape (n, classes). names: of the classes.
        captions: for each image what stands under it.
        title: what it shows; from the second line on data set, settings, what was done.
        filled: for each image the class whose bar is filled, the most probable by default; `bars` says which that is.
    """
    height = 3.9
    figure = sheets.new(8, height * len(images), title)
    filled = np.argmax(np.nan_to_num(probabilities), axis=1) if filled is None else filled
    for place, (image, values, caption, full) in enumerate(
        zip(images, probabilities, captions, filled)
    ):
        base = height * (len(images) - 1 - place)
        left = sheets.panel(figure, 0.15, base + height - 2.75, 2.7, 2.7)
        left.imshow(image, cmap="gray_r", interpolation="nearest", aspect="auto")
        left.set(xticks=[], yticks=[], xlabel="\n".join(sheets.wrapped(caption, 2.7, TEXT)))
        left.spines[:].set(visible=True, color=GREY)
        begin = 3.1 + max(sheets.width_of(name, TEXT) for name in names)
        right = sheets.panel(figure, begin, base + 0.65, 7.9 - begin, height - 0.7)
        drawn = right.barh(
            range(len(names)), np.nan_to_num(values), color="white", edgecolor=BLUE, linewidth=1.5
        )
        drawn[full].set_facecolor(BLUE)
        right.bar_label(drawn, [f"{100 * p:.1f} %" for p in values], padding=3, fontsize=SMALL)
        right.set(xlim=(0, 1.2), xlabel=f"probability (filled: {bars})")
        right.set_xticks([0, 0.5, 1], labels=["0", "0.5", "1"])
        right.set_yticks(range(len(names)), labels=names)
        right.invert_yaxis()
    return figure


def confusion(counts: np.ndarray, names: Sequence[str], *, title: str) -> Figure:
    """A confusion matrix, shape (classes, classes): rows are the labels, columns what the network says.

    Errors are shaded by their share of the row, up to the largest; what is right is a number.
    """
    share = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    np.fill_diagonal(share, 0)
    most = float(share.max()) or 1.0
    title += (
        "\nErrors are shaded by their share of the label's images; on the diagonal, what is right"
    )
    left, long = 0.6 + max(sheets.width_of(name, TEXT) for name in names), max(map(len, names)) > 3
    bottom = 0.6 + (0.75 * max(sheets.width_of(name, TEXT) for name in names) if long else 0)
    figure = sheets.new(left + 6.5, bottom + 5.0, title)
    axes = sheets.panel(figure, left, bottom, 5.4, 4.9)
    colours = LinearSegmentedColormap.from_list("errors", ["white", "#f2b58c", ORANGE, "#8f3f00"])
    image = axes.imshow(
        share, cmap=colours, vmin=0, vmax=most, interpolation="nearest", aspect="auto"
    )
    for (row, column), count in np.ndenumerate(counts):
        if count:
            axes.text(
                column,
                row,
                f"{count:,}",
                horizontalalignment="center",
                verticalalignment="center",
                fontsize=10.5,
                weight="bold" if row == column else "normal",
                color="white" if share[row, column] > 0.55 * most else "black",
            )
    axes.set(xlabel="the network says", ylabel="label")
    axes.set_xticks(
        range(len(names)),
        labels=names,
        rotation=45 if long else 0,
        ha="right" if long else "center",
    )
    axes.set_yticks(range(len(names)), labels=names)
    axes.set_xticks(np.arange(1, len(names)) - 0.5, minor=True)
    axes.set_yticks(np.arange(1, len(names)) - 0.5, minor=True)
    axes.grid(which="minor", color="#dddddd", linewidth=0.8)
    axes.tick_params(which="both", length=0)
    numbers = MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(0, most)
    sheets.colour_scale(
        figure,
        image,
        (left + 5.55, bottom, 0.18, 4.9),
        "errors in % of the label's images",
        [number for number in numbers if 0 <= number <= most],
    )
    return figure


# Windows.


def show(figures: dict[str, Figure]) -> None:
    """Opens figures, given by their names, in windows and waits; where that cannot be, says so on stderr in a line."""
    try:
        if sheets.BACKEND:
            matplotlib.use(sheets.BACKEND)
        import matplotlib.pyplot as plt
        from matplotlib.backends.registry import BackendFilter, backend_registry

        windows = [
            plt.figure(name, figsize=figure.get_size_inches(), dpi=100)
            for name, figure in figures.items()
        ]
    except (
        ImportError,
        ValueError,
        RuntimeError,
    ) as error:  # a backend was chosen that cannot run here
        print(
            f"warning: --show: {' '.join(str(error).split())}; the figures are in the run's folder",
            file=sys.stderr,
        )
        return
    if plt.get_backend().lower() in backend_registry.list_builtin(BackendFilter.NON_INTERACTIVE):
        plt.close("all")
        print(
            "warning: --show: no display here; the figures are in the run's folder", file=sys.stderr
        )
        return
    for window, figure in zip(windows, figures.values()):
        content = io.BytesIO()
        figure.savefig(content, format="png")
        content.seek(0)
        axes = window.add_axes((0, 0, 1, 1))
        axes.imshow(plt.imread(content))
        axes.axis("off")
    plt.show()
