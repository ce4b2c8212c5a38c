"""The figures of each lecture show the run's own numbers, read from the figures as drawn."""

import re

import numpy as np
import pytest
from helpers import (
    B_TRUE,
    LABELS,
    POINTS,
    W_TRUE,
    descend,
    descend_on_ten_points,
    digit_probabilities,
    load_state,
    sigmoid_network,
    states,
    watch_figures,
    write_digits,
)


@pytest.fixture
def figures(monkeypatch):
    """The figures of the run that follows, by their names."""
    return watch_figures(monkeypatch)


def curves(axes) -> dict[str, tuple]:
    """x and y of each curve by its label."""
    return {line.get_label(): line.get_data() for line in axes.get_lines()}


def correct(state) -> np.ndarray:
    """Whether each of the ten points is classified correctly."""
    return sigmoid_network(state, POINTS)[-1].argmax(axis=1) == LABELS.argmax(axis=1)


def assert_shared(done, figures, below: str) -> None:
    """All titles have this second line, and the loss is drawn as it was recorded."""
    for figure in figures.values():
        assert figure.get_suptitle().split("\n")[1] == below
    losses = np.load(done.folder / "losses.npy")
    drawn = curves(figures["loss"].axes[0])["each step"]
    np.testing.assert_array_equal(drawn, (np.arange(len(losses)) + 1, losses))


@pytest.mark.parametrize(
    "options, below",
    [
        (
            ("--samples", 500, "--seed", 3),
            "500 steps, x in [5, 10), centred, learning rate 0.01, seed 3",
        ),
        (
            ("--samples", 400, "--raw", "--low", 0, "--high", 4, "--lr", 0.0123),
            "400 steps, x in [0, 4), learning rate 0.0123, seed 0",
        ),
    ],
)
def test_the_figures_of_linear_recovery(run_here, figures, options, below):
    done = run_here("linear_recovery", "--quiet", "--noise", 0.3, *options)
    assert set(figures) == {"loss", "parameter_error"}
    assert_shared(done, figures, below)
    floor = curves(figures["loss"].axes[0])["noise floor 0.18"][1]
    assert set(floor) == {done.metrics["results"]["noise_floor"]}

    with np.load(done.folder / "train_data.npz") as data:
        x, y = data["x"], data["y"]
    centre = np.zeros(5) if "--raw" in options else x.mean(axis=0)
    initial, _ = states(done)
    start = initial["bias"] + initial["weight"] @ centre
    rate = done.metrics["config"]["lr"]
    _, weights, biases = descend(x - centre, y, initial["weight"], start, rate)
    panels = {axes.get_ylabel(): curves(axes) for axes in figures["parameter_error"].axes}
    of_weight, of_bias = panels["largest error of W"], panels["largest error of b"]
    steps = of_weight["last"][0]
    assert steps[0] == 1 and steps[-1] == len(x) and len(steps) > 50
    for place in [*range(0, len(steps), 20), -1]:
        number = int(steps[place])
        for kind, first in (("last", number - 1), ("averaged", number // 2)):
            weight = weights[first:number].mean(axis=0)
            bias = biases[first:number].mean(axis=0) - weight @ centre
            expected = np.abs(weight - W_TRUE).max(), np.abs(bias - B_TRUE).max()
            found = of_weight[kind][1][place], of_bias[kind][1][place]
            assert found == pytest.approx(expected, rel=1e-6), (kind, number)
    exact = done.metrics["results"]["least_squares"]
    assert of_weight["least squares"][1] == pytest.approx(exact["weight_error"])
    assert of_bias["least squares"][1] == pytest.approx(exact["bias_error"])


def test_the_figures_of_ann_revisited(run_here, figures):
    done = run_here("ann_revisited", "--quiet", "--steps", 3_000, "--lr", 0.5)
    initial, trained = states(done)
    right = correct(trained)
    settings = "learning rate 0.5, seed 0"
    assert_shared(done, figures, f"3,000 steps, {right.sum()} of 10 points right, {settings}")

    shown = figures["regions"].axes[0].images[0]
    side = np.linspace(0, 1, len(shown.get_array()))
    plane = np.stack(np.meshgrid(side, side), axis=-1)  # x1 along the columns, x2 along the rows
    values = sigmoid_network(trained, plane.reshape(-1, 2))[-1].T.reshape(2, len(side), -1)
    np.testing.assert_allclose(shown.get_array(), values[0] - values[1], atol=1e-12)
    for axes, value, name in zip(figures["surfaces"].axes, values, ("F₁", "F₂")):
        np.testing.assert_allclose(axes.images[0].get_array(), value, atol=1e-12)
        assert axes.get_title() == f"{name}, from {value.min():.4g} to {value.max():.4g}"

    of_points = {c.get_label(): c.get_offsets() for c in figures["regions"].axes[0].collections}
    np.testing.assert_array_equal(of_points["label (0, 1)"], POINTS[5:])
    np.testing.assert_array_equal(of_points["crossed out: wrong"], POINTS[~right])
    panels = figures["layers"].axes
    assert [axes.get_title() for axes in panels] == ["before training", "after training"]
    for axes, state in zip(panels, (initial, trained)):
        drawn = {text.get_text() for text in axes.texts}
        assert {f"{b:.2g}" for name in state if "bias" in name for b in state[name]} < drawn


def test_the_marks_on_the_loss_are_where_points_become_right(run_here, figures):
    done = run_here("ann_revisited", "--quiet", "--steps", 6_000, "--lr", 1)
    marks = [(text.xy[0], text.get_text()) for text in figures["loss"].axes[0].texts]
    assert len(marks) > 2
    right, state = [], load_state(done.folder / "model_initial.pt")
    for _ in range(61):  # after every hundredth step
        right.append(correct(state).sum())
        state = descend_on_ten_points(state, 1, 100)[1]
    for step, text in marks[1:]:
        number, place = int(re.match(r"(\d+) right", text)[1]), int(step)
        assert min(right[-(-place // 100) :]) >= number > min(right[max(0, place // 100 - 2) :])


def test_the_figures_of_mnist_mlp(run_here, digits, figures):
    data = write_digits(digits.root, seed=5, test=120)
    done = run_here("mnist_mlp", "--images", 50, "--epochs", 6, "--hidden", 9, "--quiet")
    assert_shared(done, figures, "6 steps, MNIST, 50 images, Adam, learning rate 0.001, seed 0")
    trained = load_state(done.folder / "model.pt")

    test = digit_probabilities(trained, data.x_test)
    said = test.argmax(axis=1)
    counts, shown = np.zeros((10, 10), int), np.zeros((10, 10), int)  # rows are the labels
    np.add.at(counts, (data.y_test, said), 1)
    axes = figures["confusion"].axes[0]
    for text in axes.texts:
        shown[text.get_position()[::-1]] = int(text.get_text())
    np.testing.assert_array_equal(shown, counts)
    assert axes.get_ylabel() == "label" and (counts != counts.T).any()
    share = f"{100 * (said == data.y_test).mean():.1f}\N{NO-BREAK SPACE}% right"
    assert figures["confusion"].get_suptitle().split("\n")[0] == f"120 test images, {share}"

    wrong = np.flatnonzero(said != data.y_test)
    wrong = wrong[np.argsort(-test[wrong].max(axis=1), kind="stable")][:10]
    first = digit_probabilities(trained, data.x_train[:5])
    index = done.metrics["results"]["unseen"]["index"]
    for name, images, labels, rows in (
        ("first_five", data.x_train[:5], data.y_train[:5], first),
        ("mistakes", data.x_test[wrong], data.y_test[wrong], test[wrong]),
        ("unseen", data.x_test[[index]], data.y_test[[index]], test[[index]]),
    ):
        panels = [axes for axes in figures[name].axes if axes.images]
        assert len(panels) == len(images)
        for axes, image, label, row in zip(panels, images, labels, rows):
            np.testing.assert_array_equal(axes.images[0].get_array(), image)
            numbers = list(map(int, re.findall(r"\d+", axes.get_xlabel())))
            assert numbers[:2] == [label, row.argmax()] and abs(numbers[2] - 100 * row.max()) < 1
    bars = [bar.get_width() for bar in figures["unseen"].axes[1].patches]
    np.testing.assert_allclose(bars, test[index], rtol=1e-4, atol=1e-6)
    title = figures["unseen"].get_suptitle().split("\n")[0]
    assert title == f"Test image {index + 1}, never seen before"

    mosaic = figures["hidden_units"].axes[0].images[0].get_array()
    np.testing.assert_array_equal(mosaic[31:59, 1:29], trained["0.weight"][8].reshape(28, 28))
    before, after = figures["layers"].axes
    assert (before.get_title(), after.get_title()) == ("before training", "after training")
    for axes in (before, after):
        np.testing.assert_array_equal(axes.images[0].get_array(), data.x_train[0])
        assert [text.get_text() for text in axes.texts][-10:] == list("0123456789")
