"""The figures of the lectures: arrays in, matplotlib figures out; no file is read or written.

The first line of a title says what a figure shows, the next ones of which run.
The colours are those of Okabe and Ito, which colour-blind readers can tell apart
(https://jfly.uni-koeln.de/color/); each has a second sign: dashes, a marker, a number.
"""

import io
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

# No import of matplotlib succeeds where MPLBACKEND names a backend that is not installed; only
# `show` needs one. And where HOME cannot be written, matplotlib would warn before it goes on.
BACKEND = os.environ.pop("MPLBACKEND", None)
logging.getLogger("matplotlib").setLevel(logging.ERROR)

import matplotlib.style  # noqa: E402
import numpy as np  # noqa: E402
from matplotlib import ticker  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.colors import LinearSegmentedColormap  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.rcsetup import cycler  # noqa: E402
from numpy import ndarray  # noqa: E402
from PIL import Image  # noqa: E402

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#777777"
DASHES = ["-", "--", "-.", ":", (0, (4, 1, 1, 1, 1, 1)), (0, (1, 1))]
SMALL = 11  # points
BAND = (10, 90)  # percentiles
PALE = 1000  # points of a curve that is drawn thin and pale if there are others
DRAWN, STRONGEST = 40, 120  # of more units of a layer, and of more weights, so many are drawn
AROUND_ZERO = LinearSegmentedColormap.from_list("", [ORANGE, "white", BLUE])
# A step in the middle, and no white: where two outputs hardly differ, the larger one is still seen.
WINNERS = LinearSegmentedColormap.from_list(
    "", [(0, "#e8a06a"), (0.5, "#fbeee4"), (0.5, "#e3eff7"), (1, "#6aacd4")]
)
STYLE = {
    "font.size": 12,
    "figure.titlesize": 12,
    "axes.titlesize": 12,
    "legend.fontsize": SMALL,
    "legend.frameon": False,
    "figure.dpi": 150,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.constrained_layout.h_pad": 0.1,
    "figure.constrained_layout.w_pad": 0.08,
    "axes.prop_cycle": cycler(color=2 * [BLUE, ORANGE, GREEN], linestyle=DASHES),
}
# A decorator: while the function runs, this style holds in place of the reader's own.
styled = matplotlib.style.context(["default", STYLE])


class _Figure(Figure):
    savefig = styled(Figure.savefig)  # it has settings of its own, and makes more ticks


def new(width: float, height: float, title: str) -> Figure:
    """An empty figure of `width` x `height` inches with its title, which is wrapped."""
    figure = _Figure(figsize=(width, height), layout="constrained")
    text = title.replace(" %", "\N{NO-BREAK SPACE}%").replace("$", r"\$")
    figure.suptitle(text, x=0.01, ha="left", wrap=True, linespacing=1.4)
    return figure


def legend(figure: Figure, axes: Axes) -> None:
    """Names below a figure what a chart shows, in as many columns as there is room for."""
    handles, labels = axes.get_legend_handles_labels()
    columns = int(figure.get_figwidth() / (0.7 + 0.083 * max(map(len, labels))))  # inches
    figure.legend(handles, labels, loc="outside lower center", ncols=max(1, columns))


@styled
def lines(
    title: str,
    panels: dict[str, dict[str, tuple[Any, Any]]],
    *,
    xlabel: str = "steps",
    scales: tuple[str, str] = ("log", "log"),
    ylim: tuple[float, float] | None = None,
    vertical: Mapping[str, float] | None = None,
    marks: dict[int, str] | None = None,
) -> Figure:
    """Curves, told apart by colour and dash, in one chart or in several side by side.

    Args:
        panels: for each chart, by the label of its y axis, the curves: a label, x of shape
            (points,), and y of shape (points,), or (runs, points): then their mean and BAND.
        scales: of x and y, "linear" or "log". Linear x are numbers of steps.
        ylim: the limits of a logarithmic y (default: all that is drawn).
        vertical: reference lines, by label. marks: what to write at some x, such as "6 right".
    """
    figure, marks, vertical = new(9, 5.5, title), marks or {}, vertical or {}
    row = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (ylabel, curves) in zip(row, panels.items()):
        for label, (x, y) in curves.items():
            with np.errstate(all="ignore"):  # runs that diverge
                mean = np.mean(np.atleast_2d(y), axis=0)
                (line,) = axes.plot(x, mean, lw=2, marker="o" * (len(x) == 1), label=label)
                if len(x) > PALE and len(curves) > 1:
                    line.set(linewidth=1, alpha=0.45)
                if np.ndim(y) == 2:
                    band = np.nanpercentile(y, BAND, axis=0)
                    axes.fill_between(x, *band, color=line.get_color(), alpha=0.25, lw=0)
        for label, place in vertical.items():
            axes.axvline(place, color="black", ls=":", label=label)
        if scales[0] == "log":
            log_scale(axes, "x")
        else:
            axes.set_xlim(0, 1.01 * max(1, axes.dataLim.x1, *marks))
            axes.xaxis.set_major_locator(ticker.MaxNLocator(7, integer=True, steps=[1, 2, 5, 10]))
            axes.xaxis.set_major_formatter(ticker.EngFormatter())
        if scales[1] == "log":
            log_scale(axes, "y", ylim, room=0.06 * len(marks))
        for number, (place, text) in enumerate(marks.items()):  # each below the one before
            at = (place, 0.99 - 0.06 * number)
            axes.axvline(place, ymax=at[1], color="black", lw=1, ls=":")
            look: dict[str, Any] = {"fontsize": SMALL, "va": "top", "textcoords": "offset points"}
            axes.annotate(text, at, (4, 0), axes.get_xaxis_transform(), **look)
        axes.set(xlabel=xlabel, ylabel=ylabel)
        axes.grid(alpha=0.3)
    legend(figure, axes)
    return figure


def log_scale(axes: Axes, which: str, limits: Any = None, room: float = 0) -> None:
    """Makes an axis, "x" or "y", logarithmic; where nothing drawn is positive it stays linear.

    `limits` are its ends (default: those of all that is drawn); `room` is the share of it to leave
    free behind them.
    """
    seen = axes.dataLim
    low, high = limits or (getattr(seen, f"minpos{which}"), getattr(seen, f"{which}1"))
    if high <= 1e-300:
        return
    low, high = np.log10(np.maximum([low, high], 1e-300))
    margin = 0.03 * (high - low) if high - low > 1e-6 else 0.2
    end = min(308.2, high + margin + (high - low) * room / (1 - room))
    # First the limits: matplotlib's own may be beyond what a float64 can hold.
    axes.set(**{f"{which}lim": (10 ** (low - margin), 10**end), f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_minor_locator(ticker.NullLocator())  # drawing minor ticks takes longer than all else
    if high - low < (2 if which == "x" else 3):  # room for plain numbers, not only powers of ten
        some, even = ticker.LogLocator(subs=[1, 2, 5]), ticker.MaxNLocator(6, steps=[1, 2, 5, 10])
        axis.set_major_locator(some if high - low > 1 else even)
        axis.set_major_formatter(ticker.StrMethodFormatter("{x:,.10g}"))
    elif high > 100:  # LogLocator would try powers of ten that no float64 can hold
        axis.set_major_locator(ticker.FixedLocator([10.0**power for power in range(-300, 301, 50)]))


def loss_curve(
    title: str, losses: ndarray, window: int = 0, floor: float = 0, marks: dict | None = None
) -> Figure:
    """The loss at every step, shape (steps,), up to the first that is not finite, the overflow.

    Args:
        window: also draw the means of so many steps, where there are more.
        floor: a loss that no model can stay under, drawn as a line.
        marks: for some steps, counted from 1, what to write there, such as "6 right".
    """
    finite = np.isfinite(losses)
    values = losses if finite.all() else losses[: finite.argmin()]
    count, vertical = len(values), {}
    curves: dict[str, tuple] = {"each step": (np.arange(count) + 1, values)}
    if count < len(losses):
        vertical = {f"overflow at step {count + 1:,}": count + 1}
    elif 0 < window < count:
        means = values[: count // window * window].reshape(-1, window).mean(axis=1)
        curves[f"mean of {window} steps"] = (window * (np.arange(len(means)) + 0.5), means)
    if floor:
        curves[f"noise floor {floor:.3g}"] = (np.array([1, len(losses)]), np.full(2, floor))
    return lines(title, {"loss": curves}, scales=("linear", "log"), vertical=vertical, marks=marks)


@styled
def squares(
    title: str, panels: dict[str, ndarray], points: ndarray, labels: ndarray, correct: ndarray
) -> Figure:
    """Values over [0, 1] x [0, 1], a panel each, and points, of which wrong ones are crossed out.

    `panels` have values of shape (side, side) by their names; x1 grows along the columns. They lie
    between 0 and 1 or, in a single panel, between -1 and 1; a black line runs in the middle.
    `points` has shape (n, 2), `labels` (n,), 0 or 1, and `correct` (n,).
    """
    single = len(panels) == 1
    figure = new(6.7 if single else 9.2, 6.3 if single else 5.4, title)
    row = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (name, values) in zip(row, panels.items()):
        image = unit_square(axes, values, *((WINNERS, -1) if single else ("cividis", 0)))
        middle, side = 0 if single else 0.5, np.linspace(0, 1, len(values))
        if values.min() < middle < values.max():
            axes.contour(side, side, values, [middle], colors="black", linewidths=2)
        draw_points(axes, points, labels, correct)
        axes.set_title(f"{name}, from {values.min():.4g} to {values.max():.4g}")
    legend(figure, axes)
    figure.colorbar(image, ax=row, label=name if single else "F")
    return figure


def unit_square(axes: Axes, values: ndarray, colours: Any, low: float) -> Any:
    """Values from `low` to 1 on a grid, (side, side), as an image, x1 to the right, x2 upwards."""
    margin = 0.5 / (len(values) - 1)  # the outer values lie on the square's sides
    look: dict[str, Any] = {"interpolation": "bilinear", "interpolation_stage": "data"}
    look["extent"] = (-margin, 1 + margin, -margin, 1 + margin)
    image = axes.imshow(values, colours, clim=(low, 1), origin="lower", aspect="auto", **look)
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="x₁", ylabel="x₂")
    axes.label_outer()
    return image


def draw_points(axes: Axes, points: ndarray, labels: ndarray, correct: ndarray) -> Any:
    """Circles for label (1, 0), squares for (0, 1); returns the crosses on those that are wrong."""
    look: dict[str, Any] = {"s": 110, "edgecolor": "white", "lw": 1.5, "clip_on": False}
    for label, marker, colour in ((0, "o", BLUE), (1, "s", ORANGE)):
        (x1, x2), name = points[labels == label].T, f"label {(1 - label, label)}"
        axes.scatter(x1, x2, color=colour, marker=marker, label=name, **look)
    look = {"s": 280, "color": "black", "marker": "x", "lw": 2.5, "clip_on": False}
    name = "_" if correct.all() else "crossed out: wrong"
    return axes.scatter(points[~correct, 0], points[~correct, 1], label=name, **look)


def eval_steps(steps: int) -> ndarray:
    """About 300 of the numbers 0 to `steps`, spaced evenly, and evenly on a logarithmic scale."""
    spaced = np.linspace(0, steps, 101), np.geomspace(1, max(1, steps), 200)
    return np.unique(np.concatenate(spaced).astype(int).clip(max=steps))


def milestones(steps: ndarray, counts: ndarray) -> dict[int, str]:
    """Marks, "6 right", at the steps, (n,), after which never fewer of the counts, (n,), follow."""
    least = np.minimum.accumulate(counts[::-1])[::-1]
    rises = np.flatnonzero(np.diff(least, prepend=-1))
    return {int(steps[i]): f"{least[i]:g} right" for i in rises}


@styled
def animation(
    title: str, snapshots: Sequence[ndarray], losses: ndarray, points: ndarray, labels: ndarray
) -> bytes:
    """A GIF of a network that learns: where each output is larger, beside the loss.

    Args:
        snapshots: ascending numbers of steps, (n,); after these the outputs on a grid, shape
            (n, side, side, 2), as in `squares`, and whether the points are correct, (n, points).
            At most 45 are shown, evenly spaced on a logarithmic scale, from a hundredth on.
        losses: shape (steps,), as far as the snapshots go. points, labels: as in `squares`.
    """
    figure, (steps, values, correct) = new(8, 5, title), snapshots
    square, chart = figure.subplots(1, 2)
    image = unit_square(square, np.zeros(values.shape[1:3]), WINNERS, -1)
    crosses = draw_points(square, points, labels, np.zeros(len(points), bool))
    legend(figure, square)
    begin = np.searchsorted(steps, max(1, steps[-1] // 100))
    steps, values, correct = steps[begin:], values[begin:], correct[begin:]
    chart.plot(steps, losses[steps - 1], color=GREY, ls="-", lw=2)
    chart.set(xlabel="steps", ylabel="loss")
    log_scale(chart, "x")
    log_scale(chart, "y")
    (dot,) = chart.plot([], [], "o", color=BLUE, ms=10, clip_on=False)
    figure.set_dpi(90)
    canvas, pictures = FigureCanvasAgg(figure), []
    for frame in np.unique(np.searchsorted(steps, np.geomspace(steps[0], steps[-1], 45))):
        step, right = steps[frame], correct[frame]
        image.set_data(values[frame, ..., 0] - values[frame, ..., 1])
        crosses.set_offsets(points[~right])
        dot.set_data([step], [losses[step - 1]])
        chart.set_title(f"{step:,} steps: {right.sum()} of {len(points)} right")
        canvas.draw()
        figure.set_layout_engine("none")  # the first picture's layout is that of all
        picture = Image.fromarray(np.array(canvas.buffer_rgba())).convert("RGB")
        pictures.append(picture.quantize(128, Image.Quantize.FASTOCTREE))
    content, times = io.BytesIO(), [190] * (len(pictures) - 1) + [3000]  # milliseconds
    first, *others = pictures
    first.save(content, "GIF", save_all=True, append_images=others, duration=times, loop=0)
    return content.getvalue()


@styled
def layers(
    title: str, networks: Mapping[str, Sequence[ndarray]], inputs: Any, outputs: Sequence[str]
) -> Figure:
    """Networks side by side: a line for each weight, biases in the nodes where there is room.

    Blue is positive, orange and dashed negative; the wider a line, the larger the weight.

    Args:
        networks: for each panel's name weights and biases in turn: (out, in), (out,), ...
        inputs: the inputs' names; or in their place an image, (height, width), with one grey line
            to each unit. outputs: the outputs' names.
    """
    pixels = isinstance(inputs, ndarray)
    weights = [weight.ravel() for net in networks.values() for weight in net[2 * pixels :: 2]]
    sizes = np.sort(np.abs(np.nan_to_num(np.concatenate(weights), posinf=0, neginf=0)))[-STRONGEST:]
    largest = sizes[-1] or 1.0

    def look(share: float) -> dict[str, Any]:
        width = max(0.8, abs(share) * (5 if len(sizes) < STRONGEST else 2.5))
        colour, dash = (ORANGE, (0, (2, 1))) if share < 0 else (BLUE, "-")
        return {"color": colour, "ls": dash, "lw": width}

    if len(sizes) == STRONGEST:
        title += f"\nThe {STRONGEST} largest weights are drawn; grey lines: all weights of a unit"
    figure = new(8.4, 5.8, title)
    row = figure.subplots(1, len(networks), squeeze=False)[0]
    for axes, (name, network) in zip(row, networks.items()):
        texts = [[""] if pixels else inputs, *([f"{b:.2g}" for b in net] for net in network[1::2])]
        counts = [network[0].shape[1], *map(len, texts[1:])]
        kinds = ["pixels" if pixels else "inputs", *["hidden"] * (len(counts) - 2), "outputs"]
        columns, before = np.linspace(0, 1, len(counts)), np.empty((0, 2))
        for layer, (x, count, kind) in enumerate(zip(columns, counts, kinds)):
            shown = 1 if kind == "pixels" else min(count, DRAWN)
            places = 0.5 - (np.arange(shown) - (shown - 1) / 2) * min(0.33, 1 / shown)
            nodes = np.column_stack([np.full(shown, x), places])  # the first on top
            for (i, end), (j, begin) in product(enumerate(nodes), enumerate(before)):
                share = network[2 * layer - 2][i, j] / largest
                if pixels and layer == 1:
                    axes.plot(*zip(begin, end), color="#cccccc", ls="-", lw=0.8)
                elif sizes[0] / largest <= abs(share) <= 1:
                    axes.plot(*zip(begin, end), **look(share))
            size = (48 if shown < 7 else 170 / shown) ** 2
            axes.scatter(*zip(*nodes), s=size, color="white", edgecolor="black", zorder=5)
            for node, text in zip(nodes, texts[layer] if shown < 7 else ()):
                axes.text(*node, text, ha="center", va="center", zorder=6, size=SMALL)
            some = f",\n{DRAWN} drawn" if kind != "pixels" and count > DRAWN else ""
            axes.text(x, -0.1, f"{count:,} {kind}{some}", ha="center", va="top", size=SMALL)
            before = nodes
        for text, (_, y) in zip(outputs, nodes):
            axes.text(1.13, y, text, va="center")
        if pixels:
            axes.imshow(inputs, "gray_r", extent=(-0.15, 0.15, 0.35, 0.65), aspect="auto", zorder=6)
        axes.set(xlim=(-0.15, 1.15), ylim=(-0.1, 1), title=name)
        axes.axis("off")
    for share in (-1, -0.5, 0.5, 1):
        axes.plot([], [], label=f"weight {share * largest:.2g}", **look(share))
    legend(figure, axes)
    return figure


@styled
def hidden_units(title: str, weights: ndarray) -> Figure:
    """The weights of hidden units, shape (units, height, width), as images on one colour scale."""
    drawn = weights[:DRAWN]
    if len(drawn) < len(weights):
        title += f"\nThe first {DRAWN} of {len(weights):,} units"
    limit = np.abs(drawn[np.isfinite(drawn)]).max(initial=0) or 1.0
    margins = (0, -len(drawn) % 8), (1, 1), (1, 1)  # not a number: grey
    tiles = np.pad(drawn, margins, constant_values=np.nan)
    mosaic = np.vstack([np.hstack([*tiles[i : i + 8]]) for i in range(0, len(tiles), 8)])
    figure = new(8, max(3.5, 0.1 * len(tiles) + 1.1), title)
    axes, colours = figure.subplots(), AROUND_ZERO.with_extremes(bad="#999999")
    figure.colorbar(axes.imshow(mosaic, colours, vmin=-limit, vmax=limit))
    axes.axis("off")
    return figure


def draw_image(
    axes: Axes, names: Sequence[str], image: ndarray, label: Any, probabilities: ndarray
) -> None:
    """An image, (height, width), and below it its label and the network's answer."""
    axes.imshow(image, cmap="gray_r", interpolation="none")
    answer, share = names[int(probabilities.argmax())], 100 * probabilities.max()
    text = f"label {names[label]},\nnetwork says\n{answer} ({share:.0f}\N{NO-BREAK SPACE}%)"
    axes.set(xticks=[], yticks=[], anchor="S")
    axes.set_xlabel(text, fontsize=SMALL)
    axes.spines[:].set(visible=True, color="#dddddd")


@styled
def judged_images(
    title: str, names: Sequence[str], images: ndarray, labels: ndarray, probabilities: ndarray
) -> Figure:
    """Images, (n, height, width), labels, (n,), and answers, of probabilities (n, classes)."""
    rows = -(-len(images) // 5)
    figure = new(8, 2.3 * rows + 0.9, title)
    for place, judged in enumerate(zip(images, labels, probabilities)):
        draw_image(figure.add_subplot(rows, 5, place + 1), names, *judged)
    return figure


@styled
def probability_bars(
    title: str, names: Sequence[str], image: ndarray, label: Any, probabilities: ndarray
) -> Figure:
    """An image, (height, width), beside its probabilities, (classes,), the largest filled."""
    figure, row = new(8, 4.6, title), np.nan_to_num(probabilities)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.5))
    draw_image(left, names, image, label, probabilities)
    bars = right.barh(names, row, color="white", edgecolor=BLUE, linewidth=1.5)
    bars[row.argmax()].set_facecolor(BLUE)
    right.bar_label(bars, [f"{100 * p:.1f} %" for p in row], padding=3, fontsize=SMALL)
    right.set(xlim=(0, 1.2), xticks=[0, 0.5, 1], xlabel="probability (filled: the answer)")
    right.invert_yaxis()
    return figure


@styled
def confusion(title: str, names: Sequence[str], counts: ndarray) -> Figure:
    """A confusion matrix, (classes, classes): rows are labels, columns what the network says."""
    share = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    np.fill_diagonal(share, 0)
    figure, ticks, most = new(8, 6.8, title), range(len(names)), share.max() or 1.0
    axes = figure.subplots()
    cells = axes.pcolormesh(ticks, ticks, share, cmap="Oranges", vmin=0, vmax=most, ec="#dddddd")
    for row, column in np.argwhere(counts):
        look: dict[str, Any] = {"weight": "bold" if row == column else "normal", "size": 10.5}
        look["color"] = "white" if share[row, column] > 0.55 * most else "black"
        axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", **look)
    axes.set_xticks(ticks, names, rotation=45 if max(map(len, names)) > 3 else 0)
    axes.set_yticks(ticks, names)
    axes.set(xlabel="the network says", ylabel="label")
    axes.tick_params(length=0)
    axes.invert_yaxis()
    figure.colorbar(cells, label="errors in % of the label's images")
    return figure


@styled
def show(figures: dict[str, Figure]) -> None:
    """Opens figures, by their names, in windows and waits; where it cannot, says so on stderr."""
    try:
        if BACKEND:
            matplotlib.use(BACKEND)
        import matplotlib.pyplot as plt
        from matplotlib.backends.registry import BackendFilter, backend_registry

        for name, figure in figures.items():
            adopted: Any = lambda *_, figure=figure, **__: figure  # noqa: E731
            plt.figure(name, FigureClass=adopted)
        windows = backend_registry.list_builtin(BackendFilter.INTERACTIVE)
        if plt.get_backend().lower() not in windows:
            raise RuntimeError("no display here")
        plt.show()
    except (ImportError, ValueError, RuntimeError) as error:  # a backend that cannot run here
        reason = " ".join(str(error).split())
        print(f"warning: --show: {reason}; the figures are in the run's folder", file=sys.stderr)
