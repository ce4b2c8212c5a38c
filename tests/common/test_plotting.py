"""The figures: they hold what they were given, where a reader looks for it; nothing overlaps."""

from common import plotting

import io
from itertools import combinations, pairwise

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.text import Text
from PIL import Image, ImageSequence

RANDOM = np.random.default_rng(0)
LONG = (
    "Loss at every step, and what else there is to say in a title that is much longer than a line\n"
    "Fashion-MNIST; 60,000 images; interrupted after 35,123 of 1,000,000 steps, batches of 128, "
    "seed 1234567, weight decay 0.0001, distorted, costs $5 or 10 % more than $4 did"
)
DIGITS = [str(digit) for digit in range(10)]
CLOTHES = [f"T-shirt/to{letter}" for letter in "abcdefghij"]
POINTS = np.array([1, 1, 3, 4, 1, 5, 6, 9, 4, 2, 6, 3, 5, 6, 9, 2, 4, 4, 7, 6]).reshape(-1, 2) / 10
LABELS, CORRECT = np.arange(10) // 5, np.isin(np.arange(10), (7, 9), invert=True)
TEN = (POINTS, LABELS, CORRECT)


def field(rows: int) -> np.ndarray:
    """An output over the unit square that is large only where x1 is large and x2 is small."""
    x1, x2 = np.meshgrid(np.linspace(0, 1, rows), np.linspace(0, 1, rows))
    return 1 / (1 + np.exp(-20 * (x1 - x2 - 0.4)))


def network(*widths: int) -> list[np.ndarray]:
    return [RANDOM.normal(size=shape) for m, n in pairwise(widths) for shape in ((n, m), (n,))]


def drawn(figure) -> np.ndarray:
    """The figure's pixels, (height, width, 3), as they are saved; texts then know their places."""
    content = io.BytesIO()
    figure.savefig(content, format="png")
    return np.asarray(Image.open(content).convert("RGB")).astype(int)


def pixel(pixels: np.ndarray, axes, x: float, y: float) -> np.ndarray:
    """The colour at a place of the axes, in the pixels of their figure."""
    across, up = axes.transData.transform((x, y))
    return pixels[len(pixels) - 1 - int(up), int(across)]


@plotting.styled
def texts(figure) -> list[Text]:
    """All that a reader can read, once the figure is drawn."""
    hidden = set()
    for axes in figure.findobj(Axes):
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in axis.get_major_ticks():
                if not axes.axison or not low * 0.9999 <= tick.get_loc() <= high * 1.0001:
                    hidden |= {tick.label1, tick.label2}
    seen = (text for text in figure.findobj(Text) if text not in hidden)
    return [text for text in seen if text.get_visible() and text.get_text().strip()]


def named_below(figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


LOSSES = np.geomspace(2.5, 1e-4, 10_000) * np.exp(RANDOM.normal(size=10_000) / 2)
RUNAWAY = np.append(np.geomspace(2e4, 1e307, 231), np.inf)
IMAGES = RANDOM.integers(0, 256, (10, 28, 28), dtype=np.uint8)
SHARES = RANDOM.dirichlet(np.full(10, 0.3), 10)
WRONG = int(SHARES[0].argmin())  # a label that is not the answer
NETS = {"before training": network(2, 2, 3, 2), "after training": network(2, 2, 3, 2)}
WIDE = {"before training": network(784, 40, 10), "after training": network(784, 40, 10)}
NAN = {"after training": [np.full_like(part, np.nan) for part in network(784, 500, 10)]}
STEPS = np.unique(np.geomspace(1, 10_000, 60).astype(int))
FALL = np.linspace(1050, 1, 1050)
CLOSE = {1: "5 right", 181_000: "6 right", 214_000: "8 right", 999_000: "10 right"}
MANY = {"starts": (STEPS, 10 / STEPS * np.exp(RANDOM.normal(size=(20, 1))))}
RECIPES = {f"recipe {i}, with a word on what it is": (STEPS, i * STEPS) for i in range(1, 7)}
OUTPUTS = {"F₁": field(51), "F₂": 1 - field(51)}
DIFFERENCE, HARDLY = ({"F₁ - F₂": scale * (2 * field(51) - 1)} for scale in (1, 0.01))

CASES = {  # every figure, with what is short, long, broken off, overflown
    "a million": lambda t: plotting.loss_curve(t, np.geomspace(0.26, 6e-4, 10**6), marks=CLOSE),
    "one step": lambda t: plotting.loss_curve(t, np.array([0.3]), window=100, floor=0.08),
    "no step": lambda t: plotting.loss_curve(t, np.empty(0), floor=0.08),
    "zeros": lambda t: plotting.loss_curve(t, np.zeros(500), window=100),
    "noise": lambda t: plotting.loss_curve(t, LOSSES, window=100, floor=0.08),
    "means": lambda t: plotting.loss_curve(t, FALL, window=100, floor=0.08),
    "overflow": lambda t: plotting.loss_curve(t, RUNAWAY, window=100, floor=0.08),
    "starts": lambda t: plotting.lines(t, {"W": MANY, "b": MANY}),
    "marks": lambda t: plotting.lines(t, {"W": MANY}, scales=("linear", "log"), marks={40: "8"}),
    "recipes": lambda t: plotting.lines(t, {"loss": RECIPES}, xlabel="rate", ylim=(1, 1e3)),
    "shares": lambda t: plotting.lines(t, {"%": RECIPES}, scales=("log", "linear")),
    "regions": lambda t: plotting.squares(t, DIFFERENCE, *TEN),
    "surfaces": lambda t: plotting.squares(t, OUTPUTS, *TEN),
    "flat": lambda t: plotting.squares(t, {"F₁": 0 * field(9), "F₂": np.nan * field(9)}, *TEN),
    "layers": lambda t: plotting.layers(t, NETS, ("x₁", "x₂"), ("F₁", "F₂")),
    "wide layers": lambda t: plotting.layers(t, WIDE, IMAGES[0], CLOTHES),
    "layers, no numbers": lambda t: plotting.layers(t, NAN, IMAGES[0], DIGITS),
    "units": lambda t: plotting.hidden_units(t, 3e4 * RANDOM.normal(size=(40, 28, 28))),
    "units, no numbers": lambda t: plotting.hidden_units(t, np.full((9, 28, 28), np.nan)),
    "ten images": lambda t: plotting.judged_images(t, CLOTHES, IMAGES, LABELS, SHARES),
    "no image": lambda t: plotting.judged_images(t, DIGITS, [], [], []),
    "bars": lambda t: plotting.probability_bars(t, CLOTHES, IMAGES[0], WRONG, SHARES[0]),
    "no bars": lambda t: plotting.probability_bars(t, DIGITS, IMAGES[0], 5, SHARES[0] * np.nan),
    "confusion": lambda t: plotting.confusion(t, CLOTHES, 77 * np.arange(100).reshape(10, 10)),
}


@pytest.mark.filterwarnings("error", "default::DeprecationWarning")
@pytest.mark.parametrize("case", CASES)
def test_nothing_is_cut_off_or_overlaps(case):
    figure = CASES[case](LONG)
    height, width, _ = drawn(figure).shape
    assert 900 < width < 1500  # readable at the 800 pixels of a README
    shown = figure.texts[0]._get_wrapped_text().replace("\\$", "$")
    assert shown.split()[: len(LONG.split())] == LONG.split() and "\n%" not in shown
    seen = [(text, text.get_window_extent()) for text in texts(figure)]
    for text, box in seen:
        assert box.x0 > -1 and box.y0 > -1 and box.x1 < width + 1 and box.y1 < height + 1, text
    for (text, one), (other, two) in combinations(seen, 2):
        apart = max(one.x0 - two.x1, two.x0 - one.x1, one.y0 - two.y1, two.y0 - one.y1)
        assert apart > -1 or 45 in (text.get_rotation(), other.get_rotation()), (text, other)


DRAWN = {  # the curves, x and y, by case and label
    "means": {
        "each step": (np.arange(1, 1051), FALL),
        "mean of 100 steps": (np.arange(50, 1000, 100), FALL[49:999:100] - 0.5),
        "noise floor 0.08": ([1, 1050], [0.08, 0.08]),
    },
    "overflow": {
        "each step": (np.arange(1, 232), RUNAWAY[:-1]),
        "noise floor 0.08": ([1, 232], [0.08, 0.08]),
        "overflow at step 232": ([232, 232], [0, 1]),  # over the whole height
    },
}


@pytest.mark.parametrize("case", DRAWN)
def test_curves_are_where_they_belong_told_apart_and_named(case):
    figure, curves = CASES[case]("t"), DRAWN[case]
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_yscale()) == ("steps", "loss", "log")
    lines, (low, high) = axes.get_lines(), axes.get_ylim()
    assert [line.get_label() for line in lines] == list(curves) == named_below(figure)
    for look in ("color", "linestyle"):
        assert len({getattr(line, f"get_{look}")() for line in lines}) == len(lines)
    for line, (label, (x, y)) in zip(lines, curves.items()):
        assert np.allclose(line.get_data(), (x, y), rtol=1e-12), label
        assert "overflow" in label or low < min(y) <= max(y) < high
        assert (line.get_alpha() is not None) == (len(x) > 1000)  # many points are pale


def test_axes_reach_to_a_mark_and_to_limits():
    (axes,) = plotting.loss_curve("t", RUNAWAY, marks={300: "8 right"}).axes
    assert axes.get_xlim()[1] > 300 > len(RUNAWAY)
    (axes,) = CASES["recipes"]("t").axes
    assert np.log10(axes.get_ylim()) == pytest.approx([-0.09, 3.09])


TICKS = [  # the losses, and the numbers along x or y
    (np.geomspace(1, 0.1, 80), "x", "0 | 20 | 40 | 60 | 80"),
    (np.geomspace(1, 0.1, 1_000_000), "x", "0 | 200 k | 400 k | 600 k | 800 k | 1 M"),
    (np.linspace(0.2526, 0.2499, 100), "y", "0.25 | 0.2505 | 0.251 | 0.2515 | 0.252 | 0.2525"),
    (np.linspace(42_000, 31_000, 100), "y", "32,000 | 34,000 | 36,000 | 38,000 | 40,000 | 42,000"),
    (np.linspace(3, 0.02, 100), "y", "0.02 | 0.05 | 0.1 | 0.2 | 0.5 | 1 | 2"),
    (RUNAWAY, "y", " | ".join(f"$\\mathdefault{{10^{{{n}}}}}$" for n in range(0, 301, 50))),
]


@pytest.mark.parametrize("losses, which, expected", TICKS)
def test_axes_have_round_numbers(losses, which, expected):
    figure = plotting.loss_curve("t", losses)
    drawn(figure)
    axis = getattr(figure.axes[0], f"{which}axis")
    low, high = axis.get_view_interval()
    ticks = zip(axis.get_majorticklocs(), axis.get_majorticklabels())
    assert " | ".join(t.get_text() for place, t in ticks if low <= place <= high) == expected


def test_marks_stand_at_their_steps_above_the_curve():
    figure = CASES["a million"]("t")
    drawn(figure)
    axes = figure.axes[0]
    for step, line, text in zip(CLOSE, axes.get_lines()[1:], axes.texts, strict=True):
        place, top = axes.transData.transform((step, 0.26))
        box = Text.get_window_extent(text)
        assert 0 < box.x0 - place < 15 and box.y0 > top, text
        assert line.get_xdata()[0] == step and text.get_text() == CLOSE[step]


def test_marks_are_where_points_stay_right():
    steps, counts = np.arange(10, 100, 10), np.array([5, 6, 5, 7, 9, 8, 8, 10, 10.0])
    expected = {10: "5 right", 40: "7 right", 50: "8 right", 80: "10 right"}
    assert plotting.milestones(steps, counts) == expected


@pytest.mark.parametrize("steps", [0, 1, 7, 1_000_000])
def test_a_run_is_evaluated_evenly_and_on_a_logarithmic_scale(steps):
    found = plotting.eval_steps(steps)
    assert found[0] == 0 and found[-1] == steps and len(found) <= 301
    assert set(np.arange(101) * steps // 100) <= set(found)
    assert (np.diff(found) > 0).all() and (np.diff(np.log10(found[found > 0])) < 0.31).all()


def test_bands_are_the_mean_and_10_to_90_percent():
    runs = np.outer(np.arange(1, 102) ** 2, np.geomspace(1, 0.01, 300))
    steps = np.geomspace(1000, 1_000_000, 300)
    axes = plotting.lines("t", {"loss": {"mean": (steps, runs)}}).axes[0]
    (line,) = axes.get_lines()  # no single run
    assert np.allclose(line.get_data(), (steps, runs.mean(axis=0)))
    band = axes.collections[0].get_paths()[0].vertices
    first = band[band[:, 0] == steps[0]][:, 1]
    assert (first.min(), first.max()) == pytest.approx((11**2, 91**2))


@pytest.mark.parametrize("panels", [DIFFERENCE, HARDLY, OUTPUTS])
def test_squares_show_values_and_points_where_they_are(panels):
    figure = plotting.squares("t", panels, *TEN)
    pixels = drawn(figure)
    for axes, sign in zip(figure.axes, (1, -1)[: len(panels)]):
        assert (axes.get_xlabel(), figure.axes[0].get_ylabel()) == ("x₁", "x₂")
        corners = [pixel(pixels, axes, *place) for place in ((0.95, 0.05), (0.05, 0.95))]
        if panels is OUTPUTS:  # light where an output is large
            assert sign * (corners[0].sum() - corners[1].sum()) > 150
        else:  # blue where the first is larger, which is where x1 is large and x2 is small
            assert corners[0][2] - corners[0][0] > 10 < corners[1][0] - corners[1][2]
        assert pixel(pixels, axes, 0.65, 0.25).max() < 60  # the black boundary x1 - x2 = 0.4
        for (x1, x2), label, correct in zip(POINTS, LABELS, CORRECT):
            red, _, blue = colour = pixel(pixels, axes, x1, x2)
            assert (red > blue) == label if correct else colour.max() < 90, (x1, x2)
        markers = {c.get_label(): c.get_offsets().tolist() for c in axes.collections}
        assert markers["label (1, 0)"] == POINTS[:5].tolist()
    assert named_below(figure) == ["label (1, 0)", "label (0, 1)", "crossed out: wrong"]
    figure = plotting.squares("t", panels, POINTS, LABELS, LABELS < 2)
    assert named_below(figure) == ["label (1, 0)", "label (0, 1)"]


def animated(title: str, steps: int) -> tuple[np.ndarray, np.ndarray, list, list]:
    """A GIF of outputs that part slowly, and points of which one after the other becomes right.

    Returns the numbers of steps, whether the points are correct, and the pixels of the frames, and
    for how many milliseconds each is seen.
    """
    when = plotting.eval_steps(steps)
    share = np.linspace(0, 1, len(when))
    first = 0.5 + share[:, None, None] * (field(21) - 0.5)
    correct = np.arange(10) < 5 + 5 * share[:, None]
    snapshots = when, np.stack([first, 1 - first], axis=-1), correct
    losses = np.geomspace(0.25, 0.001, steps)
    content = plotting.animation(title, snapshots, losses, POINTS, LABELS)
    assert len(content) < 1.5e6 and b"NETSCAPE2.0" in content  # it is repeated
    pictures, durations = [], []
    for frame in ImageSequence.Iterator(Image.open(io.BytesIO(content))):
        durations.append(frame.info["duration"])
        pictures.append(np.asarray(frame.convert("RGB")).astype(int))
    return when, correct, pictures, durations


def test_the_animation_shows_the_training():
    when, correct, pictures, durations = animated("Training", 10**6)
    assert 30 < len(pictures) <= 45 and sum(durations) <= 12_000 and durations[-1] >= 2_000
    # The left panel: its left and lower sides are dark in the last frame, below the title.
    dark = pictures[-1][30:, :360].sum(axis=2) < 120
    bottom, left = dark.sum(axis=1).argmax(), dark.sum(axis=0).argmax()
    top, right = np.flatnonzero(dark[:, left])[0], np.flatnonzero(dark[bottom])[-1]
    places = np.array([*POINTS, (0.8, 0.1), (0.1, 0.8)])
    columns = np.round(left + places[:, 0] * (right - left)).astype(int)
    rows = np.round(30 + bottom - places[:, 1] * (bottom - top)).astype(int)
    seen = np.array([picture[rows, columns] for picture in pictures])
    shown = np.unique(np.searchsorted(when, np.geomspace(1e4, 1e6, 45)))
    assert (seen[:, :10].max(axis=2) < 90).tolist() == (~correct[shown]).tolist()  # crossed out
    hue = seen[:, 10:, 2] - seen[:, 10:, 0]  # blue where x1 is large and x2 is small
    assert hue[-1, 0] > 50 and hue[-1, 1] < -50 and abs(hue[0]).max() < abs(hue[-1]).min()
    # The dot goes to the right and down.
    blue = [np.abs(picture[:, 360:] - (0, 114, 178)).sum(axis=2) < 60 for picture in pictures]
    across, down = (np.array([dot.sum(axis=axis).argmax() for dot in blue]) for axis in (0, 1))
    assert (np.diff(across) > 0).all() and across[-1] > across[0] + 200
    assert (np.diff(down) >= 0).all() and down[-1] > down[0] + 150


@pytest.mark.filterwarnings("error", "default::DeprecationWarning")
@pytest.mark.parametrize("steps", [1, 2, 30])
def test_short_runs_can_be_animated(steps):
    assert 1 <= len(animated(LONG, steps)[2]) <= steps


def test_the_layers_drawn_are_the_models():
    figure = CASES["layers"]("t")
    largest = max(np.abs(weight).max() for net in NETS.values() for weight in net[::2])
    for axes, (name, net) in zip(figure.axes, NETS.items()):
        assert axes.get_title() == name
        lines = {tuple(map(tuple, line.get_xydata())): line for line in axes.get_lines()}
        nodes = [c.get_offsets().tolist() for c in axes.collections]
        assert [sorted(ys, key=lambda node: -node[1]) for ys in nodes] == nodes  # the first on top
        said = {text.get_position(): text.get_text() for text in axes.texts}
        for layer, (weight, bias) in enumerate(zip(net[::2], net[1::2])):
            for (i, j), value in np.ndenumerate(weight):
                line = lines[tuple(nodes[layer][j]), tuple(nodes[layer + 1][i])]
                assert line.get_linewidth() == pytest.approx(max(0.8, 5 * abs(value) / largest))
                assert line.get_color() == (plotting.BLUE if value > 0 else plotting.ORANGE)
                assert (line.get_linestyle() == "-") == (value > 0)
            assert [said[tuple(node)] for node in nodes[layer + 1]] == [f"{b:.2g}" for b in bias]
        assert [said[tuple(node)] for node in nodes[0]] == ["x₁", "x₂"]
        assert [said[1.13, y] for _, y in nodes[-1]] == ["F₁", "F₂"]
    assert named_below(figure)[::3] == [f"weight {-largest:.2g}", f"weight {largest:.2g}"]


def test_a_wide_network_in_short_shows_its_strongest_weights():
    figure = CASES["wide layers"]("t")
    assert "\nThe 120 largest weights are drawn" in figure.get_suptitle()
    least = np.sort(np.abs([net[2] for net in WIDE.values()]), axis=None)[-120]
    for axes, net in zip(figure.axes, WIDE.values()):
        colours = [line.get_color() for line in axes.get_lines() if len(line.get_xdata())]
        drawn = [colours.count(c) for c in ("#cccccc", plotting.BLUE, plotting.ORANGE)]
        assert drawn == [40, (net[2] >= least).sum(), (net[2] <= -least).sum()]
        said = [text.get_text() for text in axes.texts]
        assert said == ["", "784 pixels", "40 hidden", "10 outputs", *CLOTHES]
    said = [text.get_text() for text in CASES["layers, no numbers"]("t").axes[0].texts]
    assert said[2] == "500 hidden,\n40 drawn"


def test_hidden_units_are_their_weights_in_order_blue_if_positive():
    weights = RANDOM.normal(size=(50, 28, 26))
    figure = plotting.hidden_units("t", weights)
    assert figure.get_suptitle() == "t\nThe first 40 of 50 units"
    image, limit = figure.axes[0].images[0], np.abs(weights[:40]).max()
    tiles = np.reshape(image.get_array(), (5, 30, 8, 28)).swapaxes(1, 2)[:, :, 1:-1, 1:-1]
    assert np.array_equal(tiles.reshape(40, 28, 26), weights[:40])
    assert image.get_clim() == (-limit, limit)
    positive, negative = image.get_cmap()([1.0, 0.0])
    assert positive[2] > positive[0] and negative[0] > negative[2]


def test_images_stand_above_their_captions_and_ink_is_black():
    figure = CASES["ten images"]("t")
    drawn(figure)
    for axes, image, label, row in zip(figure.axes, IMAGES, LABELS, SHARES):
        assert np.array_equal(axes.images[0].get_array(), image)
        assert axes.images[0].get_cmap()(1.0)[0] == 0
        answer = f"{CLOTHES[row.argmax()]} ({100 * row.max():.0f}\N{NO-BREAK SPACE}%)"
        assert axes.get_xlabel() == f"label {CLOTHES[label]},\nnetwork says\n{answer}"
    boxes = [axes.get_window_extent() for axes in figure.axes]
    assert all(box.width == pytest.approx(box.height, rel=0.02) for box in boxes)
    assert len({round(box.y0) for box in boxes[:5]}) == 1 and boxes[0].y0 > boxes[5].y1


def test_bars_are_the_probabilities():
    chart, row = CASES["bars"]("t").axes[1], SHARES[0]
    assert [bar.get_width() for bar in chart.patches] == row.tolist()
    filled = [bar.get_facecolor()[:3] != (1, 1, 1) for bar in chart.patches]
    assert filled == (np.arange(10) == row.argmax()).tolist()
    assert [text.get_text() for text in chart.texts] == [f"{100 * p:.1f} %" for p in row]
    assert [text.get_text() for text in chart.get_yticklabels()] == CLOTHES
    assert chart.yaxis_inverted()  # the first class on top


def test_confusion_has_labels_down_and_answers_across():
    counts = np.diag([950] * 10)
    counts[4, 9], counts[2, 7], counts[8, 7], counts[3] = 50, 25, 9, 0
    figure = plotting.confusion("t", DIGITS, counts)
    pixels, axes = drawn(figure), figure.axes[0]
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("label", "the network says")
    assert {text.get_position(): text.get_text() for text in axes.texts} == {
        (column, row): str(count) for (row, column), count in np.ndenumerate(counts) if count
    }
    shares = np.zeros((10, 10))  # of the row
    shares[4, 9], shares[2, 7], shares[8, 7] = 5, 100 * 25 / 975, 100 * 9 / 959
    assert np.allclose(axes.collections[0].get_array().reshape(10, 10), shares)
    places = ((9.3, 4.35), (7.3, 2.35), (4.3, 9.35))
    dark, middle, light = (pixel(pixels, axes, *place).sum() for place in places)
    assert dark < middle < light and axes.yaxis_inverted()


def test_a_reader_s_own_style_neither_changes_figures_nor_is_changed():
    expected = drawn(CASES["means"]("t"))
    own = {"font.size": 30, "text.usetex": True, "figure.dpi": 40, "savefig.dpi": 40}
    with matplotlib.rc_context(own):
        before = matplotlib.rcParams.copy()
        assert np.array_equal(drawn(CASES["means"]("t")), expected)
        assert matplotlib.rcParams.copy() == before
    mine = matplotlib.rc_params()  # without what an import changed
    assert {name for name in mine if mine[name] != matplotlib.rcParams[name]} <= {"backend"}


@pytest.mark.parametrize("backend", [None, "pdf"])
def test_show_without_a_display_says_so(monkeypatch, capsys, backend):
    monkeypatch.setattr(plotting, "BACKEND", backend)
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    plotting.show({"loss.png": CASES["means"]("Loss")})
    matplotlib.pyplot.close("all")
    said = "warning: --show: no display here; the figures are in the run's folder\n"
    assert capsys.readouterr().err == said


def test_show_opens_a_window_for_each_figure(monkeypatch, capsys):
    import matplotlib.pyplot as plt

    opened = {}
    monkeypatch.setattr(plt, "get_backend", lambda: "QtAgg")
    monkeypatch.setattr(plotting, "BACKEND", None)
    monkeypatch.setattr(
        plt, "show", lambda: opened.update({name: plt.figure(name) for name in plt.get_figlabels()})
    )
    shown = {"loss.png": CASES["means"]("Loss"), "regions.png": CASES["regions"]("Regions")}
    plotting.show(shown)
    plt.close("all")
    assert opened == shown and not capsys.readouterr().err
