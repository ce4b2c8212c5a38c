"""The figures: they hold what they were given, where a reader looks for it; nothing overlaps."""

from common import plotting
from exercises import figures

import io
import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.text import Text
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
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
    """The figure's pixels, (height, width, 4), as they are saved; texts then know their places."""
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return np.asarray(Image.open(content).convert("RGBA"))


def pixel(pixels: np.ndarray, axes, x: float, y: float) -> tuple[int, int, int]:
    """The colour at a place of the axes, in the pixels of their figure."""
    across, up = axes.transData.transform((x, y))
    return tuple(int(value) for value in pixels[len(pixels) - 1 - int(up), int(across), :3])


def texts(figure) -> list[Text]:
    """All that a reader can read, once the figure is drawn."""
    hidden = {
        text
        for axes in figure.findobj(Axes)
        for axis in (axes.xaxis, axes.yaxis)
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())
        for text in (tick.label1, tick.label2)
        if not axes.axison
        or not axis.get_view_interval()[0] * 0.9999 <= tick.get_loc()
        or not tick.get_loc() <= axis.get_view_interval()[1] * 1.0001
    }
    return [
        text
        for text in figure.findobj(Text)
        if text.get_visible() and text.get_text().strip() and text not in hidden
    ]


def words(figure) -> str:
    return "\n".join(text.get_text() for text in texts(figure))


def lines_of(axes) -> dict:
    return {line.get_label(): line for line in axes.get_lines()}


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


def snapshots(steps: int = 1_000_000) -> plotting.Snapshots:
    looks = plotting.eval_steps(steps, animated=True)
    share = np.linspace(0, 1, len(looks))[:, None, None, None]
    right = np.array(
        [
            [True] * (5 + 5 * i // max(1, len(looks) - 1))
            + [False] * (5 - 5 * i // max(1, len(looks) - 1))
            for i in range(len(looks))
        ]
    )
    return plotting.Snapshots(looks, 0.5 + share * (field(21)[None] - 0.5), right)


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
    "five long names": lambda title: plotting.image_row(
        IMAGES[:5], plotting.captions(np.eye(10)[[0] * 5], [0] * 5, CLASSES), title=title
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
    assert 900 < pixels.shape[1] < 1500  # readable at the 800 pixels of a README
    for word in title.split():
        assert word in words(figure).replace("\u00a0", " ").split()
    boxes = [
        (text.get_text(), text.get_window_extent(), text.get_rotation()) for text in texts(figure)
    ]
    height, width = pixels.shape[:2]
    for text, box, _ in boxes:
        assert box.x0 > -1 and box.y0 > -1 and box.x1 < width + 1 and box.y1 < height + 1, text
    for (text, box, turned), (other, its, also) in itertools.combinations(boxes, 2):
        apart = box.x0 > its.x1 - 1 or its.x0 > box.x1 - 1
        apart = apart or box.y0 > its.y1 - 1 or its.y0 > box.y1 - 1
        assert apart or 45 in (turned, also), (text, other)


def test_the_first_line_of_a_title_is_larger_and_a_dollar_is_a_dollar():
    first, second = CASES["loss"]("It costs $4 or $5\nor $6 to $7").texts
    assert (first.get_text(), second.get_text()) == ("It costs $4 or $5", "or $6 to $7")
    assert first.get_fontsize() > second.get_fontsize()
    assert not first.get_parse_math() and not second.get_parse_math()


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
    assert line.get_xdata().tolist() == list(range(1, 81))
    assert line.get_ydata().tolist() == losses.tolist()


def test_a_long_curve_keeps_its_extremes():
    losses = np.full(100_000, 0.1)
    losses[77_777], losses[33_333] = 5, 0.001
    line = plotting.loss_curve(losses, title="t").axes[0].get_lines()[0]
    x, y = line.get_xdata(), line.get_ydata()
    assert len(x) <= 2000 and y.max() == 5 and y.min() == 0.001
    assert abs(x[y.argmax()] - 77_778) <= 100 and abs(x[y.argmin()] - 33_334) <= 100


def test_the_mean_is_centred_and_says_its_window():
    losses = np.linspace(1000, 1, 1000)  # the mean around a step is the step's own
    figure = plotting.loss_curve(losses, title="t", window=100)
    line = lines_of(figure.axes[0])["mean of 101 steps"]
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


@pytest.mark.parametrize(
    "steps, shown", [(80, "20"), (10_000, "2 k"), (1_000_000, "200 k"), (5_000_000, "1 M")]
)
def test_long_runs_count_their_steps_in_thousands_and_millions(steps, shown):
    figure = plotting.loss_curve(np.geomspace(1, 0.1, steps), title="t")
    drawn(figure)
    axes = figure.axes[0]
    places = dict(zip([t.get_text() for t in axes.get_xticklabels()], axes.get_xticks()))
    number, _, unit = shown.partition(" ")
    assert axes.get_xscale() == "linear" and axes.get_xlabel() == "steps"
    assert places[shown] == float(number) * {"": 1, "k": 1e3, "M": 1e6}[unit]


@pytest.mark.parametrize("low, high", [(0.2499, 0.2526), (0.9, 1.1), (31_000, 42_000)])
def test_a_short_range_has_plain_numbers(low, high):
    figure = plotting.loss_curve(np.linspace(high, low, 1000), title="t")
    drawn(figure)
    axes = figure.axes[0]
    assert axes.get_yscale() == "log" and axes.get_ylim() == pytest.approx((low, high), rel=0.02)
    numbers = [float(text.get_text().replace(",", "")) for text in axes.get_yticklabels()]
    assert numbers == pytest.approx(axes.get_yticks().tolist()) and len(numbers) >= 3


def test_marks_stand_at_their_steps_above_the_curve():
    figure = CASES["loss of a million"]("t")
    axes = figure.axes[0]
    upright = [line.get_xdata()[0] for line in axes.get_lines() if len(set(line.get_xdata())) == 1]
    assert upright == list(CLOSE)
    drawn(figure)
    for step, text in CLOSE.items():
        box = next(t for t in axes.texts if t.get_text() == text)
        box = Text.get_window_extent(box)
        place, top = axes.transData.transform((step, 0.26))
        assert min(abs(box.x0 - place), abs(box.x1 - place)) < 15, text
        assert box.y0 > top


def test_marks_are_where_points_stay_right():
    counts = np.array([5, 6, 5, 7, 9, 8, 8, 10, 10])
    steps = np.array([10, 20, 30, 40, 50, 60, 70, 80, 90])
    expected = {10: "5 right", 40: "7 right", 50: "8 right", 80: "10 right"}
    assert plotting.milestones(steps, counts) == expected
    assert plotting.milestones(steps, counts.astype(float)) == expected


def test_a_run_that_overflows_is_drawn_as_a_whole():
    figure = CASES["loss, overflow"]("t")
    drawn(figure)
    axes = figure.axes[0]
    curve = axes.get_lines()[0]
    assert curve.get_xdata().tolist() == list(range(1, 232))
    assert curve.get_ydata().tolist() == RUNAWAY[:-1].tolist()
    assert axes.get_xlim()[1] == pytest.approx(232, rel=0.02)
    assert axes.get_yscale() == "log" and axes.get_ylim()[1] > 1e307
    (text,) = (text for text in axes.texts if text.get_text() == "overflow at step 232")
    place = axes.transData.transform((232, 1))[0]
    assert abs(Text.get_window_extent(text).x1 - place) < 15
    assert any(set(line.get_xdata()) == {232} for line in axes.get_lines())


@pytest.mark.parametrize("losses", [LOSSES, np.append(LOSSES[:35], np.nan)])
def test_an_interrupted_run_has_no_overflow(losses):
    figure = plotting.loss_curve(losses, title="t")
    assert "overflow" not in words(figure)
    made = np.isfinite(losses).sum()
    assert figure.axes[0].get_xlim()[1] == pytest.approx(1.01 * made)
    assert plotting.until_overflow(losses)[1] is None


def test_errors_are_drawn_where_they_belong():
    figure = CASES["errors"]("t")
    for axes, (name, curves) in zip(figure.axes, ERRORS.items()):
        assert axes.get_ylabel().endswith(f"of {name}")
        lines = lines_of(axes)
        for label, values in curves.items():
            assert lines[label].get_xdata().tolist() == list(STEPS)
            assert lines[label].get_ydata().tolist() == values.tolist()
        assert lines["least squares, all pairs"].get_ydata()[0] == {"W": 0.003, "b": 0.03}[name]
        assert len({lines[label].get_linestyle() for label in lines}) == 3


def test_errors_of_a_run_that_overflows_end_at_its_step():
    figure = CASES["errors, overflow"]("t")
    for axes in figure.axes:
        assert [text.get_text() for text in axes.texts] == ["overflow at step 51"]
        assert any(set(line.get_xdata()) == {51} for line in axes.get_lines())
        assert 51 < axes.get_xlim()[1] < 60 and axes.get_ylim()[1] > 1e300


def test_bands_are_the_mean_and_10_to_90_percent():
    runs = np.outer(np.arange(1, 101), np.geomspace(1, 0.01, 300))
    steps = np.geomspace(1000, 1_000_000, 300)
    axes = figures.loss_bands(steps, runs, title="t", marks={}).axes[0]
    (line,) = axes.get_lines()  # no single run
    assert line.get_xdata().tolist() == steps.tolist() and "mean of 100" in line.get_label()
    assert line.get_ydata() == pytest.approx(50.5 * np.geomspace(1, 0.01, 300))
    band = axes.collections[0].get_paths()[0].vertices
    first = band[band[:, 0] == steps[0]][:, 1]
    assert (first.min(), first.max()) == pytest.approx(np.percentile(np.arange(1, 101), (10, 90)))


# The network of two inputs and two outputs.


def test_regions_are_where_they_are_and_blue_is_the_first_output():
    figure = CASES["regions"]("t")
    pixels = drawn(figure)
    axes = figure.axes[0]
    assert np.array_equal(axes.images[0].get_array(), field(51)[..., 0] - field(51)[..., 1])
    red, _, blue = pixel(pixels, axes, 0.95, 0.05)  # x1 large, x2 small: the first is the larger
    assert blue > red + 50
    red, _, blue = pixel(pixels, axes, 0.05, 0.95)
    assert red > blue + 50
    assert max(pixel(pixels, axes, 0.65, 0.25)) < 60  # the black boundary x1 - x2 = 0.4
    of_first = next(c for c in axes.collections if c.get_label() == "label (1, 0)")
    assert to_rgba(plotting.BLUE) == pytest.approx(of_first.get_facecolor()[0])


@pytest.mark.parametrize("case, panels", [("regions", 1), ("surfaces, hardly varied", 2)])
def test_points_have_their_label_and_wrong_ones_are_crossed_out(case, panels):
    figure = CASES[case]("t")
    pixels = drawn(figure)
    for axes in figure.axes[:panels]:
        drawn_points = [c for c in axes.collections if len(c.get_offsets()) > 1]
        assert {c.get_label(): c.get_offsets().tolist() for c in drawn_points} == {
            "label (1, 0)": POINTS[:5].tolist(),
            "label (0, 1)": POINTS[5:].tolist(),
            "crossed out: wrong": POINTS[~RIGHT].tolist(),
        }
        for (x1, x2), right in zip(POINTS, RIGHT):
            assert (max(pixel(pixels, axes, x1, x2)) > 90) == right, (x1, x2)
    assert "crossed out: wrong" in words(figure)


def test_nothing_is_crossed_out_where_all_is_right():
    right = np.ones(10, bool)
    assert "wrong" not in words(plotting.regions(field(9), POINTS, LABELS, title="t", right=right))


def test_outputs_that_hardly_differ_are_seen_and_said():
    figure = plotting.regions(0.5 + 0.002 * field(51), POINTS, LABELS, title="t")
    pixels = drawn(figure)
    axes = figure.axes[0]
    assert axes.images[0].get_clim() == pytest.approx((-0.002, 0.002), rel=1e-2)
    assert "hardly differ" in words(figure) and "±0.002" in words(figure)
    red, _, blue = pixel(pixels, axes, 0.95, 0.05)
    assert blue > red + 50
    figure = CASES["regions"]("t")
    assert figure.axes[0].images[0].get_clim() == (-1, 1) and "hardly" not in words(figure)
    # On the whole scale, too, it is seen which output is larger.
    one, other = plotting.WINNERS(0.499), plotting.WINNERS(0.501)
    assert one[0] > one[2] + 0.03 and other[2] > other[0] + 0.03


def test_surfaces_show_both_outputs():
    figure = CASES["surfaces"]("t")
    pixels = drawn(figure)
    for k, axes in enumerate(figure.axes[:2]):
        assert np.array_equal(axes.images[0].get_array(), field(51)[..., k])
        assert axes.images[0].get_clim() == (0, 1)
        high, low = ((0.95, 0.05), (0.05, 0.95)) if k == 0 else ((0.05, 0.95), (0.95, 0.05))
        assert sum(pixel(pixels, axes, *high)) > sum(pixel(pixels, axes, *low)) + 150
        assert axes.get_title().startswith(f"F{'₁₂'[k]}, from ")
    scale = [text.get_text() for text in figure.axes[2].get_yticklabels()]
    assert scale == ["0", "0.25", "0.5", "0.75", "1"]
    flat = CASES["surfaces, hardly varied"]("t")
    assert flat.axes[0].images[0].get_clim() == pytest.approx((0.5, 0.503))
    assert "span 0.5 to 0.503" in words(flat)


def test_the_animation_shows_the_training():
    shown, losses = snapshots(), np.geomspace(0.25, 0.001, 1_000_000)
    content = plotting.animation(shown, losses, POINTS, LABELS, title="Training\nten points")
    assert len(content) <= 1.5e6
    pictures, durations = [], []
    with Image.open(io.BytesIO(content)) as gif:
        assert gif.info["loop"] == 0
        for number in range(gif.n_frames):
            gif.seek(number)
            durations.append(gif.info["duration"])
            pictures.append(np.asarray(gif.convert("RGB")).astype(int))
    assert len(pictures) == 45 and sum(durations) <= 12_000
    assert durations[-1] >= 2_000 > max(durations[:-1])
    assert all(picture[2, 2].tolist() == [255, 255, 255] for picture in pictures)
    # The panels: their left sides, and their lower sides, are dark in the last frame.
    dark = pictures[-1].sum(axis=2) < 120
    bottom = dark.sum(axis=1).argmax()
    middle = 360 + dark[:, 360:].sum(axis=0).argmax()
    top = np.flatnonzero(dark[:, middle]).min()
    left, right = np.flatnonzero(dark[bottom, : middle - 60])[[0, -1]]
    crossed = []
    for picture in pictures:
        places = [(bottom - x2 * (bottom - top), left + x1 * (right - left)) for x1, x2 in POINTS]
        crossed.append([picture[round(y), round(x)].max() < 90 for y, x in places])
    # In each frame the points are crossed out that were wrong then.
    at = np.isin(shown.steps, plotting.frame_steps(1_000_000))
    assert crossed == (~shown.right[at]).tolist()
    # The last frame is the trained network's, blue where x1 is large and x2 small.
    for (x1, x2), sign in (((0.8, 0.1), 1), ((0.1, 0.8), -1)):
        y, x = round(bottom - x2 * (bottom - top)), round(left + x1 * (right - left))
        hue = [picture[y, x, 2] - picture[y, x, 0] for picture in pictures]
        assert sign * hue[-1] > 50 and sign * hue[0] < 30
    # The cursor goes to the right, its dot down.
    blue = [np.abs(picture - (0, 114, 178)).sum(axis=2) < 60 for picture in pictures]
    blue = [picture[top - 10 : bottom + 10, middle - 10 :] for picture in blue]
    columns = [picture.sum(axis=0).argmax() for picture in blue]
    heights = [picture.sum(axis=1).argmax() for picture in blue]
    assert (np.diff(columns) > 0).all() and columns[-1] - columns[0] > 200
    assert heights == sorted(heights) and heights[-1] > heights[0] + 150


def test_a_run_is_evaluated_evenly_and_animated_logarithmically():
    assert plotting.eval_steps(1_000_000, animated=False).tolist()[::50] == [1, 500_000, 1_000_000]
    steps = plotting.frame_steps(1_000_000)
    assert len(steps) == 45 and steps[[0, 22, -1]].tolist() == [10_000, 100_000, 1_000_000]
    assert np.isin(steps, plotting.eval_steps(1_000_000, animated=True)).all()
    assert plotting.eval_steps(1, animated=True).tolist() == [1]
    assert plotting.eval_steps(0, animated=True).tolist() == [0]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("steps", [1, 2, 30])
def test_short_runs_can_be_animated(steps):
    losses = np.full(steps, 0.25)
    content = plotting.animation(snapshots(steps), losses, POINTS, LABELS, title=LONG)
    with Image.open(io.BytesIO(content)) as gif:
        assert 1 <= gif.n_frames <= steps


# The networks themselves.


def edges(axes) -> list[dict]:
    """The lines of one network, in the order in which they were drawn."""
    return [
        {"from": tuple(ends[0]), "to": tuple(ends[1]), "color": color, "width": width, "dash": dash}
        for lines in axes.collections
        if hasattr(lines, "get_segments")
        for ends, color, width, (_, dash) in zip(
            lines.get_segments(), lines.get_colors(), lines.get_linewidths(), lines.get_linestyles()
        )
    ]


def test_the_layers_drawn_are_the_models():
    figure = CASES["layers"]("t")
    largest = max(np.abs(weight).max() for net in NETS.values() for weight in net[::2])
    for axes, (name, net) in zip(figure.axes, NETS.items()):
        assert axes.get_title() == name
        found = edges(axes)
        assert len(found) == 4 + 6 + 6
        columns = sorted({edge[end][0] for edge in found for end in ("from", "to")})
        for layer, (weight, bias) in enumerate(zip(net[::2], net[1::2])):
            here = [edge for edge in found if edge["from"][0] == columns[layer]]
            tops = [sorted({edge[end][1] for edge in here}, reverse=True) for end in ("from", "to")]
            assert (len(tops[1]), len(tops[0])) == weight.shape
            for (i, j), value in np.ndenumerate(weight):
                ends = (columns[layer], tops[0][j]), (columns[layer + 1], tops[1][i])
                (edge,) = (edge for edge in here if (edge["from"], edge["to"]) == ends)
                assert edge["width"] == pytest.approx(max(0.8, 5 * abs(value) / largest))
                assert (edge["dash"] is not None) == (value < 0)
                assert (edge["color"][2] > edge["color"][0]) == (value > 0)  # blue is positive
            # The bias stands in the node to which the lines of its weights go.
            for height, value in zip(tops[1], bias):
                place = (columns[layer + 1], height)
                (text,) = (text for text in axes.texts if text.get_position() == place)
                assert float(text.get_text().replace("\u2212", "-")) == pytest.approx(
                    value, rel=0.1
                )
        names = [(t.get_position()[1], t.get_text()) for t in axes.texts if "F" in t.get_text()]
        assert names == list(zip(tops[1], ["F₁", "F₂"]))
    assert not any(word in words(figure) for word in ("largest", "squares", "Grey"))


def test_a_wide_network_in_short_shows_its_strongest_weights():
    figure = CASES["layers in short"]("t")
    said = words(figure)
    for text in ("784 pixels", "40 hidden", "10 outputs", "80 largest weights"):
        assert said.count(text) >= 1
    assert "squares: negative biases" in said.replace("\n", " ") and "Grey lines" in said
    for axes, net in zip(figure.axes, WIDE.values()):
        (picture,) = axes.child_axes
        assert np.array_equal(picture.images[0].get_array(), IMAGES[0])
        grey = [edge for edge in edges(axes) if len(set(edge["color"][:3])) == 1]
        coloured = [edge for edge in edges(axes) if len(set(edge["color"][:3])) > 1]
        assert len(grey) == 40 and len(coloured) == 80
        least = np.sort(np.abs(net[2]), axis=None)[-80]
        positive = (net[2] >= least).sum()
        assert sum(edge["dash"] is None for edge in coloured) == positive
        sizes = [len(c.get_offsets()) for c in axes.collections if not hasattr(c, "get_segments")]
        signs = [(bias < 0).sum() for bias in net[1::2]]
        assert sizes == [40 - signs[0], signs[0], 10 - signs[1], signs[1]]


def test_of_many_hidden_units_the_first_forty_are_drawn_and_that_is_said():
    figure = plotting.layers(
        {"after": network(784, 10_000, 10)}, inputs=IMAGES[0], outputs=NAMES, title="t"
    )
    assert "10,000 hidden,\n40 drawn" in words(figure)
    units = plotting.hidden_units(RANDOM.normal(size=(10_000, 28, 28)), title="t")
    assert "The first 40 of 10,000 units" in words(units)


def test_hidden_units_are_their_weights_in_order():
    weights = RANDOM.normal(size=(40, 28, 26))
    image = plotting.hidden_units(weights, title="t").axes[0].images[0]
    mosaic = image.get_array()
    for unit in range(40):
        top, left = 30 * (unit // 8) + 1, 28 * (unit % 8) + 1
        assert np.array_equal(mosaic[top : top + 28, left : left + 26], weights[unit])
    assert image.get_clim() == (-np.abs(weights).max(), np.abs(weights).max())
    positive, negative = image.get_cmap()(1.0), image.get_cmap()(0.0)
    assert positive[2] > positive[0] and negative[0] > negative[2]


# Images.


def test_images_stand_above_their_captions_and_ink_is_black():
    said = plotting.captions(PROBABILITIES, range(10), NAMES)
    figure = plotting.image_row(IMAGES, said, title="t")
    for axes, image, caption in zip(figure.axes, IMAGES, said):
        assert np.array_equal(axes.images[0].get_array(), image)
        assert axes.get_xlabel().replace("\u00a0", " ").split() == caption.split()
        assert axes.images[0].get_cmap()(1.0)[0] == 0
    drawn(figure)
    boxes = [axes.get_window_extent() for axes in figure.axes]
    assert all(box.width == pytest.approx(box.height, rel=0.02) for box in boxes)
    assert [round(box.y0) for box in boxes] == [round(boxes[0].y0)] * 5 + [round(boxes[5].y0)] * 5
    assert boxes[0].y0 > boxes[5].y1 and boxes[0].x1 < boxes[1].x0


def test_captions_say_what_the_network_says():
    probabilities = np.array([[0.06, 0.94, 0.0], [0.5, 0.3, 0.2]])
    assert plotting.captions(probabilities, [1, 2], ["a", "b", "c"]) == [
        "label b,\nnetwork says b (94 %)",
        "label c,\nnetwork says a (50 %)",
    ]


def test_the_most_confident_mistakes_come_first():
    probabilities = np.array([[0.6, 0.4], [0.1, 0.9], [0.2, 0.8], [0.7, 0.3], [0.05, 0.95]])
    labels = np.array([1, 0, 1, 1, 0])
    assert plotting.worst_mistakes(probabilities, labels).tolist() == [4, 1, 3, 0]
    assert plotting.worst_mistakes(probabilities, labels, most=2).tolist() == [4, 1]


def test_bars_are_the_probabilities():
    figure = plotting.images_with_probabilities(
        IMAGES[:2], PROBABILITIES[:2], NAMES, captions=["one", "two"], title="t"
    )
    for place, row in enumerate(PROBABILITIES[:2]):
        image, chart = figure.axes[2 * place : 2 * place + 2]
        assert np.array_equal(image.images[0].get_array(), IMAGES[place])
        assert image.get_xlabel() == ("one", "two")[place]
        assert [bar.get_width() for bar in chart.patches] == row.tolist()
        filled = [bar.get_facecolor()[:3] != (1, 1, 1) for bar in chart.patches]
        assert filled == (np.arange(10) == row.argmax()).tolist()
        assert [text.get_text() for text in chart.texts] == [f"{100 * p:.1f} %" for p in row]
        assert [text.get_text() for text in chart.get_yticklabels()] == NAMES
        assert chart.yaxis_inverted()  # the first class on top


def test_confusion_has_labels_down_and_answers_across():
    counts = np.zeros((10, 10), int)
    np.fill_diagonal(counts, 950)
    counts[4, 9], counts[2, 7], counts[8, 7], counts[3] = 50, 25, 9, 0
    figure = plotting.confusion(counts, NAMES, title="t")
    pixels = drawn(figure)
    axes = figure.axes[0]
    assert axes.get_ylabel() == "label" and axes.get_xlabel() == "the network says"
    numbers = {text.get_position(): text.get_text() for text in axes.texts if text.get_text()}
    assert numbers[(9, 4)] == "50" and numbers[(7, 2)] == "25" and numbers[(0, 0)] == "950"
    assert (4, 9) not in numbers and axes.yaxis_inverted()
    cells = axes.collections[0]
    shades = np.reshape(cells.get_array(), (10, 10))
    shares = (5, 100 * 25 / 975, 100 * 9 / 959)  # of the row
    assert (shades[4, 9], shades[2, 7], shades[8, 7]) == pytest.approx(shares)
    assert shades.sum() == pytest.approx(sum(shares)) and cells.get_clim() == (0, 5)
    places = ((9.3, 4.35), (7.3, 2.35), (4.3, 9.35))
    dark, middle, light = (sum(pixel(pixels, axes, *place)) for place in places)
    assert dark < middle < light


# Windows, backends, and what surrounds a process.

PROBE = """
import io, sys
if "first" in sys.argv:
    import matplotlib
    before = matplotlib.rcParams.copy()
from common import plotting
import numpy as np
figure = plotting.loss_curve(np.geomspace(1, 0.1, 50), title="Title")
figure.savefig(io.BytesIO(), format="png")
assert "matplotlib.pyplot" not in sys.modules
label = figure.axes[0].get_xticklabels()[0]
assert (label.get_fontsize(), label.get_usetex(), figure.get_dpi()) == (12, False, 150)
if "first" in sys.argv:
    assert matplotlib.rcParams.copy() == before
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
    nowhere, temporary = tmp_path / "file", tmp_path / "temporary"
    nowhere.touch()
    temporary.mkdir()
    folders = {"XDG_CONFIG_HOME": str(nowhere / "a"), "XDG_CACHE_HOME": str(nowhere / "b")}
    done = probe(HOME=str(nowhere), TMPDIR=str(temporary), **folders)
    assert (done.returncode, done.stdout, done.stderr) == (0, "drawn\n", "")
    assert not list(temporary.iterdir())


def test_a_readers_own_settings_change_no_figure_and_are_not_changed(tmp_path):
    settings = "font.size: 30\ntext.usetex: True\nfigure.dpi: 40\nsavefig.dpi: 40\n"
    (tmp_path / "matplotlibrc").write_text(settings)
    done = probe("first", MATPLOTLIBRC=str(tmp_path / "matplotlibrc"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "drawn\n", "")


@pytest.mark.parametrize("backend", ["", "module://matplotlib_inline.backend_inline", "pdf"])
def test_without_windows_show_says_so_in_a_line(backend):
    done = probe("show", **({"MPLBACKEND": backend} if backend else {}))
    assert done.returncode == 0 and done.stdout == "drawn\n"
    assert done.stderr.startswith("warning: --show: ") and done.stderr.count("\n") == 1
    assert "the run's folder" in done.stderr


def test_show_opens_a_window_for_each_figure(monkeypatch, capsys):
    import matplotlib.pyplot as plt

    opened = {}
    monkeypatch.setattr(plt, "get_backend", lambda: "QtAgg")
    monkeypatch.setattr(plotting, "BACKEND", None)
    monkeypatch.setattr(
        plt, "show", lambda: opened.update({n: plt.figure(n) for n in plt.get_figlabels()})
    )
    shown = {"loss.png": CASES["loss"]("Loss"), "regions.png": CASES["regions"]("Regions")}
    plotting.show(shown)
    assert opened == shown and not capsys.readouterr().err
    plt.close("all")
