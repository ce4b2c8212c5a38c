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
    watch_figures,
    write_digits,
)


def curves(axes) -> dict[str, tuple]:
    """x and y of each curve by its label."""
    return {line.get_label(): line.get_data() for line in axes.get_lines()}


def answers(state, points=POINTS) -> np.ndarray:
    return sigmoid_network(state, points)[-1].argmax(axis=1)


@pytest.mark.parametrize(
    "options, inputs",
    [
        (("--samples", 500, "--seed", 3), "500 steps, x in [5, 10), centred, learning rate 0.01, "),
        (("--samples", 400, "--raw", "--low", 0, "--seed", 3), "400 steps, x in [0, 5), learning"),
    ],
)
def test_the_figures_of_linear_recovery(run_here, monkeypatch, options, inputs):
    figures = watch_figures(monkeypatch)
    done = run_here("linear_recovery", "--quiet", "--noise", 0.3, *options)
    assert set(figures) == {"loss", "parameter_error"}
    for figure in figures.values():
        assert inputs in figure.get_suptitle() and figure.get_suptitle().endswith(", seed 3")
    losses = np.load(done.folder / "losses.npy")
    count = len(losses)
    drawn = curves(figures["loss"].axes[0])
    np.testing.assert_array_equal(drawn["each step"], (np.arange(count) + 1, losses))
    assert set(drawn["noise floor 0.18"][1]) == {done.metrics["results"]["noise_floor"]}

    with np.load(done.folder / "train_data.npz") as data:
        x, y = data["x"], data["y"]
    centre = np.zeros(5) if "--raw" in options else x.mean(axis=0)
    initial = load_state(done.folder / "model_initial.pt")
    start = initial["bias"] + initial["weight"] @ centre
    _, weights, biases = descend(x - centre, y, initial["weight"], start, 0.01)
    exact = np.linalg.lstsq(np.column_stack([x, np.ones(count)]), y, rcond=None)[0]
    panels = {axes.get_ylabel(): curves(axes) for axes in figures["parameter_error"].axes}
    of_weight, of_bias = panels["largest error of W"], panels["largest error of b"]
    steps = of_weight["last"][0]
    assert steps[0] == 1 and steps[-1] == count and len(steps) > 50
    for place in [*range(0, len(steps), 20), -1]:
        number = int(steps[place])
        for kind, first in (("last", number - 1), ("averaged", number // 2)):
            weight = weights[first:number].mean(axis=0)
            bias = biases[first:number].mean(axis=0) - weight @ centre
            expected = np.abs(weight - W_TRUE).max(), np.abs(bias - B_TRUE).max()
            found = of_weight[kind][1][place], of_bias[kind][1][place]
            assert found == pytest.approx(expected, rel=1e-6), (kind, number)
    limits = np.abs(exact[:5].T - W_TRUE).max(), np.abs(exact[5] - B_TRUE).max()
    for panel, limit in zip((of_weight, of_bias), limits):
        assert panel["least squares"][1] == pytest.approx(limit, rel=1e-6)


@pytest.mark.parametrize(
    "options", [("--steps", 400, "--engine", "eager"), ("--steps", 3_000, "--lr", 3)]
)
def test_the_figures_of_ann_revisited(run_here, monkeypatch, options):
    figures = watch_figures(monkeypatch)
    done = run_here("ann_revisited", "--quiet", *options)
    losses = np.load(done.folder / "losses.npy")
    np.testing.assert_array_equal(curves(figures["loss"].axes[0])["each step"][1], losses)
    states = [load_state(done.folder / f"{name}.pt") for name in ("model_initial", "model")]

    shown = figures["regions"].axes[0].images[0]
    side = np.linspace(0, 1, len(shown.get_array()))
    plane = np.stack(np.meshgrid(side, side), axis=-1)  # x1 along the columns, x2 along the rows
    values = sigmoid_network(states[1], plane.reshape(-1, 2))[-1].T.reshape(2, len(side), -1)
    np.testing.assert_allclose(shown.get_array(), values[0] - values[1], atol=1e-12)
    for axes, value, name in zip(figures["surfaces"].axes, values, ("F₁", "F₂")):
        np.testing.assert_allclose(axes.images[0].get_array(), value, atol=1e-12)
        assert axes.get_title() == f"{name}, from {value.min():.4g} to {value.max():.4g}"

    right = answers(states[1]) == LABELS.argmax(axis=1)
    of_points = {c.get_label(): c.get_offsets() for c in figures["regions"].axes[0].collections}
    np.testing.assert_array_equal(of_points["label (0, 1)"], POINTS[5:])
    assert right.all() or np.array_equal(of_points["crossed out: wrong"], POINTS[~right])
    ending = f"{options[1]:,} steps, {right.sum()} of 10 points right, learning rate "
    for name in ("regions", "surfaces", "layers", "loss"):
        assert f"\n{ending}" in figures[name].get_suptitle(), name
    panels = figures["layers"].axes
    assert [axes.get_title() for axes in panels] == ["before training", "after training"]
    for axes, state in zip(panels, states):
        drawn = [text.get_text() for text in axes.texts]
        assert {f"{b:.2g}" for name in state if "bias" in name for b in state[name]} < set(drawn)


def test_the_marks_on_the_loss_are_where_points_become_right(run_here, monkeypatch):
    figures = watch_figures(monkeypatch)
    done = run_here("ann_revisited", "--quiet", "--steps", 6_000, "--lr", 1)
    marks = [(text.xy[0], text.get_text()) for text in figures["loss"].axes[0].texts]
    assert len(marks) > 2
    states, state = [], load_state(done.folder / "model_initial.pt")
    for _ in range(61):  # after every hundredth step
        states.append(state)
        state = descend_on_ten_points(state, 1, 100)[1]
    right = [(answers(state) == LABELS.argmax(axis=1)).sum() for state in states]
    for step, text in marks[1:]:
        number, place = int(re.match(r"(\d+) right", text)[1]), int(step)
        assert min(right[-(-place // 100) :]) >= number > min(right[max(0, place // 100 - 2) :])


def test_the_figures_of_mnist_mlp(run_here, monkeypatch, tmp_path):
    figures = watch_figures(monkeypatch)
    data = write_digits(tmp_path / "data", seed=5, test=120)
    options = ("--data-dir", tmp_path / "data", "--images", 50, "--epochs", 6, "--hidden", 9)
    done = run_here("mnist_mlp", *options, "--quiet")
    initial, trained = (
        load_state(done.folder / f"{name}.pt") for name in ("model_initial", "model")
    )
    losses = np.load(done.folder / "losses.npy")
    np.testing.assert_array_equal(curves(figures["loss"].axes[0])["each step"][1], losses)
    for figure in figures.values():
        assert (
            "\n6 steps, MNIST, 50 images, Adam, learning rate 0.001, seed 0"
            in figure.get_suptitle()
        )

    test = digit_probabilities(trained, data.x_test)
    said = test.argmax(axis=1)
    counts = np.zeros((10, 10), int)  # rows are the labels
    np.add.at(counts, (data.y_test, said), 1)
    axes, shown = figures["confusion"].axes[0], np.zeros((10, 10), int)
    for text in axes.texts:
        shown[text.get_position()[::-1]] = int(text.get_text())
    np.testing.assert_array_equal(shown, counts)
    assert axes.get_ylabel() == "label" and (counts != counts.T).any()
    share = f"{100 * (said == data.y_test).mean():.1f} % right"
    assert (
        figures["confusion"]
        .get_suptitle()
        .replace("\xa0", " ")
        .startswith(f"120 test images, {share}")
    )

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
    assert (
        figures["unseen"].get_suptitle().startswith(f"Test image {index + 1}, never seen before\n")
    )

    mosaic = figures["hidden_units"].axes[0].images[0].get_array()
    np.testing.assert_array_equal(mosaic[31:59, 1:29], trained["0.weight"][8].reshape(28, 28))
    for axes, state in zip(figures["layers"].axes, (initial, trained)):
        np.testing.assert_array_equal(axes.images[0].get_array(), data.x_train[0])
        largest = max(abs(s["2.weight"]).max() for s in (initial, trained))
        coloured = [line for line in axes.get_lines() if line.get_color() != "#cccccc"]
        widths = sorted(line.get_linewidth() for line in coloured if len(line.get_xdata()))
        strong = np.abs(state["2.weight"]).max() / largest
        assert widths[-1] == pytest.approx(2.5 * strong, rel=1e-5)
