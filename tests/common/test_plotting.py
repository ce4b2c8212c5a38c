"""The figures: they hold what they were given, where a reader looks for it; and nothing is cut off or overlaps."""

import copy
import io
import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgba
from matplotlib.text import Text
from PIL import Image

from common import fused, plotting, sheets
from common.run import generator
from exercises import figures
from lectures import ann_revisited

ROOT = Path(__file__).resolve().parent.parent
RANDOM = np.random.default_rng(0)
LONG = (
    "Loss at every step, and what else there is to say about it in a title that is a good deal longer than a line\n"
    "Fashion-MNIST; 60,000 images; interrupted after 35,123 of 1,000,000 steps (35 epochs), batches of 128\n"
    "Adam at 0.015, one-cycle, weight decay 0.0001, distorted, seed 1234567, costs $5 or 10 % more than $4 did"
)
CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
POINTS = np.array(
    [
        [0.1, 0.1],
        [0.3, 0.4],
        [0.1, 0.5],
        [0.6, 0.9],
        [0.4, 0.2],
        [0.6, 0.3],
        [0.5, 0.6],
        [0.9, 0.2],
        [0.4, 0.4],
        [0.7, 0.6],
    ]
)
LABELS = np.array([0] * 5 + [1] * 5)
RIGHT = np.array([True] * 7 + [False, True, False])


def drawn(figure) -> np.ndarray:
    """The figure's pixels, (height, width, 4)."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def pixel(figure, axes, x: float, y: float) -> tuple[int, int, int]:
    """The colour at a place of the axes."""
    pixels = drawn(figure)
    across, up = axes.transData.transform((x, y))
    return tuple(int(value) for value in pixels[len(pixels) - 1 - int(up), int(across), :3])


def texts(figure) -> list[Text]:
    """All that a reader can read."""
    found = [*figure.texts, *(text for legend in figure.legends for text in legend.get_texts())]
    for axes in figure.axes:
        found += axes.texts
        if axes.axison:
            found += [
                axes.title,
                axes.xaxis.label,
                axes.yaxis.label,
                *axes.get_xticklabels(),
                *axes.get_yticklabels(),
            ]
    return [text for text in found if text.get_visible() and text.get_text().strip()]


def words(figure) -> str:
    return "\n".join(text.get_text() for text in texts(figure))


def lines_of(figure) -> dict:
    return {line.get_label(): line for axes in figure.axes for line in axes.get_lines()}


def field(rows: int) -> np.ndarray:
    """Two outputs over the unit square: the first is large only where x1 is large and x2 small."""
    x1, x2 = np.moveaxis(plotting.unit_grid(rows), -1, 0)
    first = 1 / (1 + np.exp(-20 * (x1 - x2 - 0.4)))
    return np.stack([first, 1 - first], axis=-1)


def network(*widths: int) -> list[np.ndarray]:
    return [
        array
        for inputs, outputs in itertools.pairwise(widths)
        for array in (RANDOM.normal(size=(outputs, inputs)), RANDOM.normal(size=outputs))
    ]


def frames(steps: int = 1_000_000) -> plotting.Frames:
    looks = plotting.looks(steps, animated=True)
    share = np.linspace(0, 1, len(looks))[:, None, None, None]
    right = np.array(
        [
            [True] * (5 + 5 * i // max(1, len(looks) - 1))
            + [False] * (5 - 5 * i // max(1, len(looks) - 1))
            for i in range(len(looks))
        ]
    )
    return plotting.Frames(looks, 0.5 + share * (field(21)[None] - 0.5), right)


# Layout: every figure, with what is short, long, broken off, overflown.

LOSSES = np.geomspace(2.5, 1e-4, 10_000) * np.exp(RANDOM.normal(size=10_000) / 2)
RUNAWAY = np.append(np.geomspace(2e4, 1e307, 231), np.inf)
NAMES = [str(digit) for digit in range(10)]
IMAGES = RANDOM.integers(0, 256, (10, 28, 28), dtype=np.uint8)
PROBABILITIES = RANDOM.dirichlet(np.full(10, 0.3), 10)
NETS = {"before training": network(2, 2, 3, 2), "after training": network(2, 2, 3, 2)}
WIDE = {"before training": network(784, 40, 10), "after training": network(784, 40, 10)}
ERRORS = {
    name: {
        "last iterate": np.geomspace(10, 0.01, 50),
        "averaged iterate": np.geomspace(10, 0.001, 50),
    }
    for name in "Wb"
}
GROWN = {name: {"last iterate": np.append(np.geomspace(10, 1e300, 49), np.inf)} for name in "Wb"}
GRID = np.unique(np.geomspace(1, 10_000, 50).round().astype(int))[:50]
STEPS = np.arange(1, 51)
MANY = LOSSES[:1000] * np.exp(RANDOM.normal(size=(20, 1)))
CLOSE = {
    1: "5 right",
    181_000: "6 right",
    214_000: "8 right",
    256_000: "9 right",
    999_000: "10 right",
}

CASES = {
    "loss": lambda title: plotting.loss_curve(LOSSES, title=title, window=100, floor=0.08),
    "loss of a million": lambda title: plotting.loss_curve(
        np.geomspace(0.26, 6e-4, 1_000_000), title=title, marks=CLOSE
    ),
    "loss on a plateau": lambda title: plotting.loss_curve(
        np.linspace(0.2526, 0.2499, 10_000), title=title
    ),
    "loss of one step": lambda title: plotting.loss_curve(
        np.array([0.3]), title=title, floor=0.08, window=100
    ),
    "loss of no step": lambda title: plotting.loss_curve(
        np.array([np.nan]), title=title, floor=0.08
    ),
    "loss, constant": lambda title: plotting.loss_curve(
        np.full(500, 0.25), title=title, window=100
    ),
    "loss of zeros": lambda title: plotting.loss_curve(np.zeros(500), title=title, window=100),
    "loss, interrupted": lambda title: plotting.loss_curve(
        np.append(LOSSES[:35], np.nan), title=title, window=100
    ),
    "loss, overflow": lambda title: plotting.loss_curve(
        RUNAWAY, title=title, window=100, floor=0.08
    ),
    "loss, overflow at once": lambda title: plotting.loss_curve(np.array([np.inf]), title=title),
    "loss that nearly overflows": lambda title: plotting.loss_curve(
        RUNAWAY[:-1], title=title, window=10
    ),
    "errors": lambda title: plotting.error_curves(
        STEPS, ERRORS, title=title, limits={"W": 0.003, "b": 0.03}
    ),
    "errors of one step": lambda title: plotting.error_curves(
        STEPS[:1],
        {name: {way: v[:1] for way, v in curves.items()} for name, curves in ERRORS.items()},
        title=title,
    ),
    "errors, overflow": lambda title: plotting.error_curves(STEPS, GROWN, title=title, overflow=51),
    "regions": lambda title: plotting.regions(field(51), POINTS, LABELS, title=title, right=RIGHT),
    "regions of equal outputs": lambda title: plotting.regions(
        np.full((9, 9, 2), 0.5), POINTS, LABELS, title=title
    ),
    "regions, hardly different": lambda title: plotting.regions(
        0.5 + 1e-9 * field(9), POINTS, LABELS, title=title
    ),
    "regions, no numbers": lambda title: plotting.regions(
        np.full((9, 9, 2), np.nan), POINTS, LABELS, title=title
    ),
    "surfaces": lambda title: plotting.surfaces(field(51), POINTS, LABELS, title=title),
    "surfaces, hardly varied": lambda title: plotting.surfaces(
        0.5 + 0.003 * field(51), POINTS, LABELS, title=title, right=RIGHT
    ),
    "surfaces, no numbers": lambda title: plotting.surfaces(
        np.full((9, 9, 2), np.nan), POINTS, LABELS, title=title
    ),
    "layers": lambda title: plotting.layers(
        NETS, inputs=("x₁", "x₂"), outputs=("F₁", "F₂"), title=title
    ),
    "layers in short": lambda title: plotting.layers(
        WIDE, inputs=IMAGES[0], outputs=CLASSES, title=title
    ),
    "layers, 500 hidden": lambda title: plotting.layers(
        {"after": network(784, 500, 10)}, inputs=IMAGES[0], outputs=NAMES, title=title
    ),
    "layers, no numbers": lambda title: plotting.layers(
        {"after": [np.full_like(part, np.nan) for part in network(784, 40, 10)]},
        inputs=IMAGES[0],
        outputs=NAMES,
        title=title,
    ),
    "hidden units": lambda title: plotting.hidden_units(
        RANDOM.normal(size=(40, 28, 28)), title=title
    ),
    "hidden units, huge": lambda title: plotting.hidden_units(
        3e4 * RANDOM.normal(size=(40, 28, 28)), title=title
    ),
    "one hidden unit": lambda title: plotting.hidden_units(
        RANDOM.normal(size=(1, 28, 28)), title=title
    ),
    "hidden units, no numbers": lambda title: plotting.hidden_units(
        np.full((40, 28, 28), np.nan), title=title
    ),
    "a row of five": lambda title: plotting.image_row(
        IMAGES[:5], plotting.captions(PROBABILITIES[:5], [0] * 5, NAMES), title=title
    ),
    "ten images": lambda title: plotting.image_row(
        IMAGES, plotting.captions(PROBABILITIES, [0] * 10, CLASSES), title=title
    ),
    "one image": lambda title: plotting.image_row(
        IMAGES[:1], ["label 5, network says 5 (94 %)"], title=title
    ),
    "no image": lambda title: plotting.image_row(IMAGES[:0], [], title=title),
    "probabilities": lambda title: plotting.images_with_probabilities(
        IMAGES[:2],
        PROBABILITIES[:2],
        CLASSES,
        captions=plotting.captions(PROBABILITIES[:2], [0, 0], CLASSES),
        title=title,
    ),
    "probabilities, no numbers": lambda title: plotting.images_with_probabilities(
        IMAGES[:1],
        np.full((1, 10), np.nan),
        NAMES,
        captions=["a_name_of_a_file_that_has_no_end_to_speak_of_.jpeg"],
        title=title,
    ),
    "confusion": lambda title: plotting.confusion(
        RANDOM.integers(0, 1500, (10, 10)), NAMES, title=title
    ),
    "confusion, all of one class": lambda title: plotting.confusion(
        np.diag([0] * 9 + [7]), CLASSES, title=title
    ),
    "loss of many": lambda title: figures.loss_bands(
        np.arange(1, 1001), MANY, title=title, marks={1: "5 right", 40: "8 right"}
    ),
    "errors of many": lambda title: figures.error_bands(
        STEPS,
        {
            name: {"last iterate": np.geomspace(10, 0.01, 50) * np.exp(RANDOM.normal(size=(20, 1)))}
            for name in "Wb"
        },
        title=title,
    ),
    "lines": lambda title: figures.lines(
        {f"recipe {i}, with a word on what it is": (STEPS, i * STEPS) for i in range(1, 7)},
        title=title,
        xlabel="rate",
        ylabel="loss",
        scales=("log", "log"),
        ylim=(1, 1e3),
        vertical={"edge": 3},
        horizontal={"floor 0.08": 2},
    ),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "case, title", [*((case, LONG) for case in CASES), ("loss", "Short"), ("layers", "Short")]
)
def test_nothing_is_cut_off_or_overlaps(case, title):
    figure = CASES[case](title)
    pixels = drawn(figure)
    assert figure.dpi == 150
    for text in title.split():
        assert text in words(figure).replace("\u00a0", " ").split()
    boxes = [
        (text.get_text(), text.get_window_extent(), text.get_rotation()) for text in texts(figure)
    ]
    for text, box, _ in boxes:
        assert (
            box.x0 > -1
            and box.y0 > -1
            and box.x1 < pixels.shape[1] + 1
            and box.y1 < pixels.shape[0] + 1
        ), text
    for place, (text, box, turned) in enumerate(boxes):
        for other, its, other_turned in boxes[:place]:
            apart = (
                box.x0 > its.x1 - 1
                or its.x0 > box.x1 - 1
                or box.y0 > its.y1 - 1
                or its.y0 > box.y1 - 1
            )
            assert apart or 45 in (turned, other_turned), (text, other)


def test_a_dollar_is_a_dollar():
    assert not any(text.get_parse_math() for text in texts(CASES["loss"]("It costs $4 or $5")))


@pytest.mark.parametrize("kind", ["svg", "pdf"])
@pytest.mark.parametrize("case", ["loss", "regions", "layers", "confusion", "a row of five"])
def test_figures_can_be_written_for_slides_and_print(case, kind):
    content = io.BytesIO()
    CASES[case]("Title").savefig(content, format=kind)
    assert len(content.getvalue()) > 5000


# Curves.


def test_the_loss_is_drawn_step_by_step():
    losses = np.geomspace(3, 0.1, 80)
    line = plotting.loss_curve(losses, title="t").axes[0].get_lines()[0]
    assert (
        line.get_xdata().tolist() == list(range(1, 81))
        and line.get_ydata().tolist() == losses.tolist()
    )


def test_a_long_curve_keeps_its_extremes():
    losses = np.full(100_000, 0.1)
    losses[77_777], losses[33_333] = 5, 0.001
    line = plotting.loss_curve(losses, title="t").axes[0].get_lines()[0]
    x, y = line.get_xdata(), line.get_ydata()
    assert len(x) <= 2 * plotting.COLUMNS and y.max() == 5 and y.min() == 0.001
    assert abs(x[y.argmax()] - 77_778) <= 100 and abs(x[y.argmin()] - 33_334) <= 100


def test_the_mean_is_centred_and_says_its_window():
    losses = np.linspace(1000, 1, 1000)  # the mean around a step is the step's own
    lines = lines_of(plotting.loss_curve(losses, title="t", window=100))
    line = lines["mean of 101 steps around it, of fewer at the start"]
    x, y = line.get_xdata(), line.get_ydata()
    assert x[0] == 1 and x[-1] == 950
    assert np.allclose(y, losses[x - 1])
    bump = np.full(1000, 1.0)
    bump[500] = 102
    y = plotting.centred_mean(bump, 50)[1]
    assert np.flatnonzero(y > 1.5).tolist() == list(range(450, 551)) and y[500] == pytest.approx(2)


def test_the_mean_keeps_to_a_curve_that_falls_by_decades():
    losses = np.concatenate([np.geomspace(1e4, 1e-26, 300), np.full(700, 1e-26)])
    places, means = plotting.centred_mean(losses, 50)
    assert (means <= losses[places - np.minimum(50, places // 4)]).all()
    assert (means >= losses[places] * 0.99).all()
    assert "mean" not in words(plotting.loss_curve(losses[:100], title="t", window=100))


def test_long_runs_count_their_steps_in_large_units():
    for steps, label, tick, place in (
        (1_000_000, "steps in units of 100,000", "2", 200_000),
        (5_000_000, "steps in units of 1,000,000", "2", 2_000_000),
        (10_000, "steps", "2,000", 2_000),
        (200_000, "steps", "50,000", 50_000),
    ):
        axes = plotting.loss_curve(np.geomspace(1, 0.1, steps), title="t").axes[0]
        assert axes.get_xscale() == "linear" and axes.get_xlabel() == label
        assert (
            dict(zip([t.get_text() for t in axes.get_xticklabels()], axes.get_xticks()))[tick]
            == place
        )


def test_a_short_range_has_plain_numbers():
    for low, high in ((0.2499, 0.2526), (0.9, 1.1), (31_000, 42_000)):
        axes = plotting.loss_curve(np.linspace(high, low, 1000), title="t").axes[0]
        labels = [text.get_text() for text in axes.get_yticklabels()]
        assert len(labels) >= 3
        assert [float(label.replace(",", "")) for label in labels] == pytest.approx(
            axes.get_yticks().tolist()
        )
        assert all(axes.get_ylim()[0] <= place <= axes.get_ylim()[1] for place in axes.get_yticks())


def test_numbers_are_plain():
    assert [sheets.plain(n) for n in (0, 0.001, 20_000, 1e-6, 2e7, -0.5, -1e-10, 0.25)] == [
        "0",
        "0.001",
        "20,000",
        "10⁻⁶",
        "2·10⁷",
        "\u22120.5",
        "\u221210⁻¹⁰",
        "0.25",
    ]


def test_marks_stand_at_their_steps():
    figure = CASES["loss of a million"]("t")
    axes = figure.axes[0]
    upright = [line.get_xdata()[0] for line in axes.get_lines() if len(set(line.get_xdata())) == 1]
    assert upright == list(CLOSE)
    drawn(figure)
    for step, text in CLOSE.items():
        box = next(t for t in axes.texts if t.get_text() == text).get_window_extent()
        place = axes.transData.transform((step, 0.1))[0]
        assert min(abs(box.x0 - place), abs(box.x1 - place)) < 15, text
    assert axes.get_ylim()[1] > 2 * 0.26  # above the curve there is room for them


def test_marks_are_where_points_stay_right():
    counts = [5, 6, 5, 7, 9, 8, 8, 10, 10]
    steps = np.array([10, 20, 30, 40, 50, 60, 70, 80, 90])
    assert plotting.milestones(steps, np.array(counts)) == {
        10: "5 right",
        40: "7 right",
        50: "8 right",
        80: "10 right",
    }


def test_an_overflow_is_said_and_the_axes_show_where_it_begins():
    figure = CASES["loss, overflow"]("t")
    axes = figure.axes[0]
    assert "overflow at step 232" in words(figure)
    assert 1e-3 < axes.get_ylim()[0] and axes.get_ylim()[1] < 1e15 and axes.get_xlim()[1] < 20
    assert (
        axes.get_lines()[0].get_ydata().tolist()
        == RUNAWAY[: len(axes.get_lines()[0].get_ydata())].tolist()
    )
    assert lines_of(figure)["the first loss"].get_ydata()[0] == RUNAWAY[0]
    late = np.concatenate([np.geomspace(100, 1, 5000), np.geomspace(1, 1e300, 1000), [np.inf]])
    assert 5000 < plotting.loss_curve(late, title="t").axes[0].get_xlim()[1] < 5100
    for losses in (LOSSES, np.append(LOSSES[:35], np.nan)):
        figure = plotting.loss_curve(losses, title="t")
        assert "overflow" not in words(figure)
        assert len(lines_of(figure)) and figure.axes[0].get_xlim()[1] == pytest.approx(
            1.01 * np.isfinite(losses).sum()
        )


def test_errors_are_drawn_where_they_belong():
    figure = CASES["errors"]("t")
    for axes, (name, curves) in zip(figure.axes, ERRORS.items()):
        assert axes.get_ylabel().endswith(f"of {name}")
        lines = {line.get_label(): line for line in axes.get_lines()}
        for label, values in curves.items():
            assert lines[label].get_xdata().tolist() == list(STEPS)
            assert lines[label].get_ydata().tolist() == values.tolist()
        assert lines["least squares, all pairs"].get_ydata()[0] == {"W": 0.003, "b": 0.03}[name]
        assert len({lines[label].get_linestyle() for label in lines}) == 3
    grown = CASES["errors, overflow"]("t")
    assert words(grown).count("overflow at step 51") == 2 and grown.axes[0].get_ylim()[1] < 1e12
    assert plotting.until_overflow(RUNAWAY)[1] == 232 and plotting.until_overflow(LOSSES)[1] is None


def test_bands_are_the_mean_and_10_to_90_percent():
    runs = np.outer(np.arange(1, 101), np.geomspace(1, 0.01, 300))
    steps = np.geomspace(1000, 1_000_000, 300)
    figure = figures.loss_bands(steps, runs, title="t")
    line = lines_of(figure)["mean of 100 starts"]
    assert line.get_xdata().tolist() == steps.tolist()
    assert line.get_ydata() == pytest.approx(50.5 * np.geomspace(1, 0.01, 300))
    band = figure.axes[0].collections[0].get_paths()[0].vertices
    at_start = band[band[:, 0] == steps[0]][:, 1]
    assert (at_start.min(), at_start.max()) == pytest.approx(
        np.percentile(np.arange(1, 101), (10, 90))
    )
    assert len(figure.axes[0].get_lines()) == 1  # no single run


# The network of two inputs and two outputs.


def test_regions_are_where_they_are_and_blue_is_the_first_output():
    figure = CASES["regions"]("t")
    axes = figure.axes[0]
    assert np.array_equal(axes.images[0].get_array(), field(51)[..., 0] - field(51)[..., 1])
    red, _, blue = pixel(
        figure, axes, 0.95, 0.05
    )  # x1 large, x2 small: the first output is the larger
    assert blue > red + 50
    red, _, blue = pixel(figure, axes, 0.05, 0.95)
    assert red > blue + 50
    assert max(pixel(figure, axes, 0.65, 0.25)) < 60  # the black boundary x1 - x2 = 0.4
    assert to_rgba(plotting.BLUE) == pytest.approx(
        axes.collections[1].get_facecolor()[0]
    )  # points of label (1, 0)


def test_points_have_their_label_and_wrong_ones_are_crossed_out():
    for figure, panels in ((CASES["regions"]("t"), 1), (CASES["surfaces, hardly varied"]("t"), 2)):
        for axes in figure.axes[:panels]:
            offsets = {
                c.get_label(): c.get_offsets().tolist()
                for c in axes.collections
                if len(c.get_offsets()) > 1
            }
            assert offsets == {
                "label (1, 0)": POINTS[:5].tolist(),
                "label (0, 1)": POINTS[5:].tolist(),
                "crossed out: wrong": POINTS[~RIGHT].tolist(),
            }
        assert "crossed out: wrong" in words(figure)
    assert "wrong" not in words(
        plotting.regions(field(9), POINTS, LABELS, title="t", right=np.ones(10, bool))
    )


def test_outputs_that_hardly_differ_are_seen_and_said():
    figure = plotting.regions(0.5 + 0.002 * field(51), POINTS, LABELS, title="t")
    image = figure.axes[0].images[0]
    assert image.get_clim() == (-0.002, 0.002)
    assert "hardly differ" in words(figure) and "±0.002" in words(figure)
    assert (
        pixel(figure, figure.axes[0], 0.95, 0.05)[2]
        > pixel(figure, figure.axes[0], 0.95, 0.05)[0] + 50
    )
    figure = CASES["regions"]("t")
    assert figure.axes[0].images[0].get_clim() == (-1, 1) and "hardly" not in words(figure)
    # Even on the whole scale it is seen which output is larger.
    one, other = plotting.WINNERS(0.499), plotting.WINNERS(0.501)
    assert one[0] > one[2] + 0.03 and other[2] > other[0] + 0.03


def test_surfaces_show_both_outputs():
    figure = CASES["surfaces"]("t")
    for k, axes in enumerate(figure.axes[:2]):
        assert np.array_equal(axes.images[0].get_array(), field(51)[..., k]) and axes.images[
            0
        ].get_clim() == (0, 1)
        high, low = ((0.95, 0.05), (0.05, 0.95)) if k == 0 else ((0.05, 0.95), (0.95, 0.05))
        assert sum(pixel(figure, axes, *high)) > sum(pixel(figure, axes, *low)) + 150
        assert axes.get_title().startswith(f"F{'₁₂'[k]}, from ")
    assert [t.get_text() for t in figure.axes[2].get_yticklabels()] == [
        "0",
        "0.25",
        "0.5",
        "0.75",
        "1",
    ]
    flat = CASES["surfaces, hardly varied"]("t")
    assert flat.axes[0].images[0].get_clim() == pytest.approx(
        (0.5, 0.503)
    ) and "span 0.5 to 0.503" in words(flat)


def test_the_animation_shows_the_training():
    shown = frames()
    losses = np.geomspace(0.25, 0.001, 1_000_000)
    content = plotting.animation(shown, losses, POINTS, LABELS, title="Training\nten points")
    assert len(content) <= 1.5e6
    with Image.open(io.BytesIO(content)) as gif:
        pictures, durations = [], []
        for number in range(gif.n_frames):
            gif.seek(number)
            durations.append(gif.info["duration"])
            pictures.append(np.asarray(gif.convert("RGB")).astype(int))
        assert gif.info["loop"] == 0
    assert (
        len(pictures) == 45
        and sum(durations) <= 12_000
        and durations[-1] >= 2_000 > max(durations[:-1])
    )
    # The last frame is the trained network's, blue where x1 is large and x2 small; the first is near a tie.
    width, height = pictures[0].shape[1] / 8, pictures[0].shape[0]
    for (x1, x2), sign in (((0.8, 0.1), 1), ((0.1, 0.8), -1)):
        row, column = int(height - 90 * (0.95 + 3 * x2)), int(90 * (0.75 + 3 * x1))
        hue = [picture[row, column, 2] - picture[row, column, 0] for picture in pictures]
        assert sign * hue[-1] > 50 and sign * hue[0] < 30
    assert width == 90
    # In each frame the points are crossed out that were wrong then.
    for picture, right in zip(
        pictures, shown.right[np.isin(shown.steps, plotting.frame_steps(1_000_000))]
    ):
        centres = [
            picture[int(height - 90 * (0.95 + 3 * x2)), int(90 * (0.75 + 3 * x1))]
            for x1, x2 in POINTS
        ]
        assert [centre.max() > 90 for centre in centres] == right.tolist()
    # The cursor goes from the left of the loss to its right.
    cursor = [
        np.flatnonzero(
            np.abs(picture[int(height - 90 * 1.2), 400:] - (0, 114, 178)).sum(axis=1) < 40
        )
        for picture in pictures
    ]
    places = [columns.mean() for columns in cursor]
    assert (np.diff(places) > 0).all() and places[0] < 60 and places[-1] > 270
    # With the dot it goes down as the loss does: the row in which most is blue.
    rows = [
        (np.abs(picture[: int(height - 90 * 0.9), 420:] - (0, 114, 178)).sum(axis=2) < 40)
        .sum(axis=1)
        .argmax()
        for picture in pictures
    ]
    assert rows == sorted(rows) and rows[-1] > rows[0] + 200


def test_a_run_is_looked_at_evenly_and_animated_logarithmically():
    assert plotting.looks(1_000_000, animated=False).tolist()[::50] == [1, 500_000, 1_000_000]
    steps = plotting.frame_steps(1_000_000)
    assert len(steps) == 45 and steps[[0, 22, -1]].tolist() == [10_000, 100_000, 1_000_000]
    assert np.isin(steps, plotting.looks(1_000_000, animated=True)).all()
    assert plotting.looks(1, animated=True).tolist() == [1] and plotting.looks(
        0, animated=True
    ).tolist() == [0]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("steps", [1, 2, 30])
def test_short_runs_can_be_animated(steps):
    content = plotting.animation(frames(steps), np.full(steps, 0.25), POINTS, LABELS, title=LONG)
    with Image.open(io.BytesIO(content)) as gif:
        assert 1 <= gif.n_frames <= steps


# The networks themselves.


def edges(axes) -> list[dict]:
    """The lines of a drawing of layers, in the order in which they were drawn."""
    return [
        {
            "from": tuple(segment[0]),
            "to": tuple(segment[1]),
            "color": tuple(color),
            "width": width,
            "dashed": dash[1] is not None,
        }
        for lines in axes.collections
        if hasattr(lines, "get_segments")
        for segment, color, width, dash in zip(
            lines.get_segments(),
            *map(
                itertools.cycle,
                (lines.get_colors(), lines.get_linewidths(), lines.get_linestyles()),
            ),
        )
    ]


def test_the_layers_drawn_are_the_models():
    figure = CASES["layers"]("t")
    axes = figure.axes[0]
    found = edges(axes)
    largest = max(np.abs(weight).max() for net in NETS.values() for weight in net[::2])
    expected = [weight for net in NETS.values() for weight in net[::2]]
    assert len(found) == sum(weight.size for weight in expected) == 2 * (4 + 6 + 6)
    columns = sorted({edge["from"][0] for edge in found} | {edge["to"][0] for edge in found})
    assert len(columns) == 8
    for place, net in enumerate(NETS.values()):
        for layer, weight in enumerate(net[::2]):
            here = [edge for edge in found if edge["from"][0] == columns[4 * place + layer]]
            tops = [sorted({edge[end][1] for edge in here}, reverse=True) for end in ("from", "to")]
            assert (len(tops[1]), len(tops[0])) == weight.shape
            for (i, j), value in np.ndenumerate(weight):
                edge = next(
                    e for e in here if e["from"][1] == tops[0][j] and e["to"][1] == tops[1][i]
                )
                assert edge["width"] == pytest.approx(max(0.8, 5 * abs(value) / largest))
                assert edge["dashed"] == (value < 0)
                assert (edge["color"][2] > edge["color"][0]) == (value > 0)  # blue is positive
    # The biases stand in the nodes that the lines of their weights go to.
    for place, net in enumerate(NETS.values()):
        for layer, bias in enumerate(net[1::2]):
            column = columns[4 * place + layer + 1]
            inside = sorted(
                (
                    t
                    for t in axes.texts
                    if t.get_position()[0] == column and t.get_position()[1] > 0.5
                ),
                key=lambda t: -t.get_position()[1],
            )
            assert [t.get_text() for t in inside] == [
                f"{value:.2g}".replace("-", "\u2212") for value in bias
            ]
    said = [t.get_text() for t in axes.texts]
    assert said.index("before training") < said.index("after training") and said.count("F₂") == 2
    assert not any(word in words(figure) for word in ("largest", "squares", "Grey"))


def test_a_wide_network_in_short_shows_its_strongest_weights():
    figure = CASES["layers in short"]("t")
    axes = figure.axes[0]
    assert (
        all(np.array_equal(image.get_array(), IMAGES[0]) for image in axes.images)
        and len(axes.images) == 2
    )
    said = words(figure)
    assert (
        "784 pixels" in said
        and "40 hidden" in said
        and "10 outputs" in said
        and "80 largest weights" in said
    )
    assert "squares: negative biases" in said and "Grey lines" in said
    grey = [edge for edge in edges(axes) if len(set(edge["color"][:3])) == 1]
    coloured = [edge for edge in edges(axes) if len(set(edge["color"][:3])) > 1]
    assert len(grey) == 2 * 40 and len(coloured) == 2 * 80
    for place, net in enumerate(WIDE.values()):
        strongest = np.sort(np.abs(net[2]), axis=None)[-80:]
        here = coloured[80 * place : 80 * (place + 1)]
        assert (
            sum(not edge["dashed"] for edge in here)
            == (net[2][np.abs(net[2]) >= strongest[0]] > 0).sum()
        )
    sizes = [len(c.get_offsets()) for c in axes.collections if not hasattr(c, "get_segments")]
    biases = [net[k] for net in WIDE.values() for k in (1, 3)]
    assert sizes == [
        int(count) for bias in biases for count in ((bias >= 0).sum(), (bias < 0).sum())
    ]


def test_hidden_units_are_their_weights_in_order():
    weights = RANDOM.normal(size=(40, 28, 28))
    image = plotting.hidden_units(weights, title="t").axes[0].images[0]
    mosaic = image.get_array()
    for unit in range(40):
        top, left = 30 * (unit // 8) + 1, 30 * (unit % 8) + 1
        assert np.array_equal(mosaic[top : top + 28, left : left + 28], weights[unit])
    assert image.get_clim() == (-np.abs(weights).max(), np.abs(weights).max())
    positive, negative = image.get_cmap()(1.0), image.get_cmap()(0.0)
    assert positive[2] > positive[0] and negative[0] > negative[2]
    assert "The first 40 of 500" in words(
        plotting.hidden_units(RANDOM.normal(size=(500, 8, 8)), title="t")
    )


# Images.


def test_images_stand_above_their_captions():
    said = plotting.captions(PROBABILITIES, list(range(10)), NAMES)
    figure = plotting.image_row(IMAGES, said, title="t")
    axes = figure.axes[0]
    assert all(
        np.array_equal(image.get_array(), array) for image, array in zip(axes.images, IMAGES)
    )
    drawn(figure)
    for image, text, caption in zip(axes.images, axes.texts, said):
        width, height = np.diff(image.get_extent())[[0, 2]]
        assert width == pytest.approx(height)
        assert " ".join(text.get_text().split()) == " ".join(caption.split())
        left, right, bottom, _ = image.get_extent()
        assert (
            left < text.get_position()[0] < right
            and bottom - 0.1 < text.get_position()[1] <= bottom
        )
    assert len({image.get_extent()[2] for image in axes.images}) == 2  # two rows
    assert image.get_cmap()(1.0)[0] == 0  # ink is black


def test_captions_say_what_the_network_says():
    probabilities = np.array([[0.06, 0.94, 0.0], [0.5, 0.3, 0.2]])
    assert plotting.captions(probabilities, [1, 2], ["a", "b", "c"]) == [
        "label b,\nnetwork says b (94 %)",
        "label c,\nnetwork says a (50 %)",
    ]


def test_bars_are_the_probabilities():
    figure = plotting.images_with_probabilities(
        IMAGES[:2], PROBABILITIES[:2], NAMES, captions=["one", "two"], title="t"
    )
    for row in range(2):
        image, chart = figure.axes[2 * row : 2 * row + 2]
        assert np.array_equal(image.images[0].get_array(), IMAGES[row])
        assert [bar.get_width() for bar in chart.patches] == PROBABILITIES[row].tolist()
        filled = [bar.get_facecolor()[:3] != (1, 1, 1) for bar in chart.patches]
        assert filled == (np.arange(10) == PROBABILITIES[row].argmax()).tolist()
        assert [t.get_text() for t in chart.texts] == [
            f"{100 * p:.1f} %" for p in PROBABILITIES[row]
        ]
        assert [t.get_text() for t in chart.get_yticklabels()] == NAMES and chart.yaxis_inverted()
    chosen = plotting.images_with_probabilities(
        IMAGES[:1],
        PROBABILITIES[:1],
        NAMES,
        captions=["one"],
        title="t",
        filled=[3],
        bars="the label",
    )
    assert [bar.get_facecolor()[:3] != (1, 1, 1) for bar in chosen.axes[1].patches].index(True) == 3
    assert "filled: the label" in words(chosen)


def test_confusion_has_labels_down_and_answers_across():
    counts = np.zeros((10, 10), int)
    np.fill_diagonal(counts, 950)
    counts[4, 9], counts[2, 7], counts[8, 7], counts[3] = 50, 25, 9, 0
    figure = plotting.confusion(counts, NAMES, title="t")
    axes = figure.axes[0]
    assert axes.get_ylabel() == "label" and axes.get_xlabel() == "the network says"
    numbers = {t.get_position(): t.get_text() for t in axes.texts}
    assert (
        numbers[(9, 4)] == "50"
        and numbers[(7, 2)] == "25"
        and numbers[(0, 0)] == "950"
        and (4, 9) not in numbers
    )
    shades = axes.images[0].get_array()
    assert (shades[4, 9], shades[2, 7], shades[8, 7]) == pytest.approx(
        (5, 100 * 25 / 975, 100 * 9 / 959)
    )
    assert shades.sum() == pytest.approx(5 + 100 * 25 / 975 + 100 * 9 / 959)
    assert axes.images[0].get_clim() == (
        0,
        5,
    )  # the worst share has the darkest shade, and what is right has none
    light = [sum(pixel(figure, axes, *place)) for place in ((9.3, 4.35), (7.3, 2.35), (4.3, 9.35))]
    assert light[0] < light[1] < light[2]
    assert "on the diagonal, what is right" in words(figure)


# Windows, backends, and what surrounds a process.

PROBE = """
import sys
from common import plotting
import numpy as np, io
figure = plotting.loss_curve(np.geomspace(1, 0.1, 50), title="Title")
figure.savefig(io.BytesIO(), format="png")
assert "matplotlib.pyplot" not in sys.modules
import matplotlib
assert matplotlib.rcParams["font.size"] == 12 and not matplotlib.rcParams["text.usetex"]
if "show" in sys.argv:
    plotting.show({"loss.png": figure})
print("drawn")
"""


def probe(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    without = ("DISPLAY", "WAYLAND_DISPLAY", "MPLBACKEND")
    kept = {name: value for name, value in os.environ.items() if name not in without}
    return subprocess.run(
        [sys.executable, "-c", PROBE, *arguments],
        env=kept | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize(
    "backend", ["module://matplotlib_inline.backend_inline", "QtAgg", "no such thing"]
)
def test_a_backend_that_is_not_installed_hinders_no_figure(backend):
    done = probe(MPLBACKEND=backend)
    assert (done.returncode, done.stdout, done.stderr) == (0, "drawn\n", "")


def test_a_home_that_cannot_be_written_is_no_news(tmp_path):
    nowhere = tmp_path / "file"
    nowhere.touch()
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    done = probe(
        HOME=str(nowhere),
        XDG_CONFIG_HOME=str(nowhere / "a"),
        XDG_CACHE_HOME=str(nowhere / "b"),
        TMPDIR=str(temporary),
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "drawn\n", "")
    assert not list(temporary.iterdir())


def test_a_readers_own_settings_change_no_figure(tmp_path):
    (tmp_path / "matplotlibrc").write_text("font.size: 30\ntext.usetex: True\n")
    done = probe(MATPLOTLIBRC=str(tmp_path / "matplotlibrc"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "drawn\n", "")


@pytest.mark.parametrize("backend", ["", "module://matplotlib_inline.backend_inline", "pdf"])
def test_without_windows_show_says_so_in_a_line(backend):
    done = probe("show", **({"MPLBACKEND": backend} if backend else {}))
    assert done.returncode == 0 and done.stdout == "drawn\n"
    assert done.stderr.startswith("warning: --show: ") and done.stderr.count("\n") == 1
    assert "the run's folder" in done.stderr


def test_show_opens_a_window_for_each_figure(monkeypatch):
    import matplotlib.pyplot as plt

    opened = []
    monkeypatch.setattr(plt, "get_backend", lambda: "QtAgg")
    monkeypatch.setattr(
        plt, "show", lambda: opened.extend(plt.figure(number) for number in plt.get_fignums())
    )
    monkeypatch.setattr(sheets, "BACKEND", None)
    shown = {"loss.png": CASES["loss"]("Loss"), "regions.png": CASES["regions"]("Regions")}
    plotting.show(shown)
    assert [window.get_label() for window in opened] == list(shown)
    for window, figure in zip(opened, shown.values()):
        assert np.array_equal(
            np.round(255 * window.axes[0].images[0].get_array()).astype(int), drawn(figure)
        )
    plt.close("all")


def test_the_last_frame_is_the_runs_model_bit_for_bit():
    start = ann_revisited.random_model(generator(3, "model"))
    trained, losses = copy.deepcopy(start), np.full(30_000, np.nan)
    for _ in fused.sgd(
        trained,
        ann_revisited.POINTS[None],
        ann_revisited.LABELS[None],
        losses,
        learning_rate=0.01,
        scale=0.5 / 10,
    ):
        pass
    looks = plotting.looks(30_000, animated=True)
    values, right = ann_revisited.course(start, 0.01, looks, plotting.unit_grid(5))
    assert all(ours.equal(its) for ours, its in zip(start.parameters(), trained.parameters()))
    assert np.array_equal(values[-1], ann_revisited.outputs(trained, plotting.unit_grid(5)))
    assert np.array_equal(right[-1], ann_revisited.points_correct(trained))
