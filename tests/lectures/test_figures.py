"""What each lecture hands to its figures: the run's own numbers, read from the figures as they were drawn."""

from common import plotting

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
    texts,
    watch_figures,
    write_digits,
)


@pytest.fixture
def handed(monkeypatch):
    """What the functions of common/plotting.py get from a lecture: by their names the last call's arguments."""
    calls = {}
    for name in ("layers", "hidden_units", "error_curves", "loss_curve"):
        monkeypatch.setattr(plotting, name, recorded(calls, name, getattr(plotting, name)))
    return calls


def recorded(calls: dict, name: str, function):
    def call(*values, **settings):
        calls[name] = (values, settings)
        return function(*values, **settings)

    return call


def curve(figure, label: str) -> np.ndarray:
    """The points of the curve that the legend or nobody names, shape (n, 2)."""
    lines = figure.axes[0].get_lines()
    line = next((line for line in lines if line.get_label() == label), lines[0])
    return np.column_stack(line.get_data())


@pytest.mark.parametrize("options", [("--samples", 500), ("--samples", 400, "--raw", "--low", 0)])
def test_the_figures_of_linear_recovery(run_here, monkeypatch, handed, options):
    figures = watch_figures(monkeypatch)
    done = run_here("linear_recovery", "--quiet", "--noise", 0.3, *options)
    assert set(figures) == {"loss", "parameter_error"}
    losses = np.load(done.folder / "losses.npy")
    count = len(losses)
    steps = np.arange(1, count + 1)
    np.testing.assert_array_equal(
        curve(figures["loss"], "each step"), np.column_stack([steps, losses])
    )
    floor = next(
        line for line in figures["loss"].axes[0].get_lines() if "noise floor" in line.get_label()
    )
    assert (
        set(floor.get_ydata()) == {done.metrics["results"]["noise_floor"]}
        and "0.18" in floor.get_label()
    )

    with np.load(done.folder / "train_data.npz") as data:
        x, y = data["x"], data["y"]
    centre = np.zeros(5) if "--raw" in options else x.mean(axis=0)
    initial = load_state(done.folder / "model_initial.pt")
    start = initial["bias"] + initial["weight"] @ centre
    _, weights, biases = descend(x - centre, y, initial["weight"], start, 0.01)
    (steps, panels), settings = handed["error_curves"]
    assert steps[0] == 1 and steps[-1] == count and len(steps) > 50
    for number, place in ((n, i) for i, n in enumerate(steps) if i % 20 == 0 or n == count):
        for kind, first in (("last iterate", number - 1), ("averaged iterate", number // 2)):
            weight = weights[first:number].mean(axis=0)
            bias = biases[first:number].mean(axis=0) - weight @ centre
            assert panels["W"][kind][place] == pytest.approx(
                np.abs(weight - W_TRUE).max(), rel=1e-6
            ), number
            assert panels["b"][kind][place] == pytest.approx(
                np.abs(bias - B_TRUE).max(), rel=1e-6
            ), number
    exact = np.linalg.lstsq(np.column_stack([x, np.ones(count)]), y, rcond=None)[0]
    assert settings["limits"]["W"] == pytest.approx(np.abs(exact[:5].T - W_TRUE).max(), rel=1e-6)
    assert settings["limits"]["b"] == pytest.approx(np.abs(exact[5] - B_TRUE).max(), rel=1e-6)


@pytest.mark.parametrize(
    "options", [("--steps", 400, "--engine", "eager"), ("--steps", 3_000, "--lr", 3)]
)
def test_the_figures_of_ann_revisited(run_here, monkeypatch, handed, options):
    figures = watch_figures(monkeypatch)
    done = run_here("ann_revisited", "--quiet", *options)
    losses = np.load(done.folder / "losses.npy")
    (drawn, *_), _ = handed["loss_curve"]
    np.testing.assert_array_equal(drawn, losses)
    initial, trained = (
        load_state(done.folder / f"{name}.pt") for name in ("model_initial", "model")
    )

    side = np.linspace(0, 1, 201)
    plane = np.stack(np.meshgrid(side, side), axis=-1)  # x1 along the columns, x2 along the rows
    first, second = np.moveaxis(
        sigmoid_network(trained, plane.reshape(-1, 2))[-1].reshape(201, 201, 2), -1, 0
    )
    shown = figures["regions"].axes[0].images[0]
    np.testing.assert_allclose(shown.get_array(), first - second, atol=1e-12)
    assert shown.origin == "lower" and np.allclose(shown.get_extent(), (0, 1, 0, 1), atol=0.01)
    for axes, values in zip(figures["surfaces"].axes, (first, second)):
        np.testing.assert_allclose(axes.images[0].get_array(), values, atol=1e-12)

    right = sigmoid_network(trained, POINTS)[-1].argmax(axis=1) == LABELS.argmax(axis=1)
    crossed = [
        c.get_offsets()
        for c in figures["regions"].axes[0].collections
        if "wrong" in str(c.get_label())
    ]
    assert right.all() or np.array_equal(crossed[0], POINTS[~right])
    for name in ("regions", "surfaces", "layers", "loss"):
        assert f"{right.sum()} of 10 points right" in "\n".join(texts(figures[name])), name
    (networks,), _ = handed["layers"]
    for drawn, state in zip(networks.values(), (initial, trained)):
        assert all(np.array_equal(array, value) for array, value in zip(drawn, state.values()))


def test_the_marks_on_the_loss_are_where_points_become_right(run_here, monkeypatch, handed):
    watch_figures(monkeypatch)
    done = run_here("ann_revisited", "--quiet", "--steps", 6_000, "--lr", 1)
    marks = handed["loss_curve"][1]["marks"]
    assert len(marks) > 2
    states, state = [], load_state(done.folder / "model_initial.pt")
    for _ in range(61):  # after every hundredth step
        states.append(state)
        state = descend_on_ten_points(state, 1, 100)[1]
    right = [
        (sigmoid_network(state, POINTS)[-1].argmax(axis=1) == LABELS.argmax(axis=1)).sum()
        for state in states
    ]
    for step, text in list(marks.items())[1:]:
        number = int(re.match(r"(\d+) right", text).group(1))
        assert min(right[-(-step // 100) :]) >= number > min(right[max(0, step // 100 - 2) :])


def test_the_figures_of_mnist_mlp(run_here, monkeypatch, tmp_path, handed):
    figures = watch_figures(monkeypatch)
    data = write_digits(tmp_path / "data", seed=5, test=120)
    done = run_here(
        "mnist_mlp",
        "--data-dir",
        tmp_path / "data",
        "--images",
        50,
        "--epochs",
        6,
        "--hidden",
        9,
        "--quiet",
    )
    initial, trained = (
        load_state(done.folder / f"{name}.pt") for name in ("model_initial", "model")
    )
    losses = np.load(done.folder / "losses.npy")
    np.testing.assert_array_equal(handed["loss_curve"][0][0], losses)

    test, five = (
        digit_probabilities(trained, data.x_test),
        digit_probabilities(trained, data.x_train[:5]),
    )
    said = test.argmax(axis=1)
    counts = np.zeros((10, 10), int)
    for label, answer in zip(data.y_test, said):
        counts[label, answer] += 1
    axes = figures["confusion"].axes[0]
    assert "label" in axes.get_ylabel() and "label" not in axes.get_xlabel()  # rows are the labels
    shown = np.zeros((10, 10), int)
    for text in axes.texts:
        column, row = map(round, text.get_position())
        shown[row, column] = int(text.get_text() or 0)
    np.testing.assert_array_equal(shown, counts)
    assert (counts != counts.T).any()
    assert f"{(said == data.y_test).mean():.1%}".rstrip("%") in "\n".join(
        texts(figures["confusion"])
    )

    wrong = np.flatnonzero(said != data.y_test)
    wrong = wrong[np.argsort(-test[wrong].max(axis=1), kind="stable")][:10]
    for name, images, labels, rows in (
        ("first_five", data.x_train[:5], data.y_train[:5], five),
        ("mistakes", data.x_test[wrong], data.y_test[wrong], test[wrong]),
    ):
        pictures = [picture.get_array() for axes in figures[name].axes for picture in axes.images]
        assert len(pictures) == len(images)
        captions = [text for text in texts(figures[name]) if "%" in text]
        for picture, image, caption, label, row in zip(pictures, images, captions, labels, rows):
            np.testing.assert_array_equal(picture, image)
            numbers = re.findall(r"\d+", caption)
            assert numbers[0] == str(label) and numbers[1] == str(row.argmax())
            assert abs(int(numbers[2]) - 100 * row.max()) < 1

    index = done.metrics["results"]["unseen"]["index"]
    image, bars = figures["unseen"].axes[:2]
    np.testing.assert_array_equal(image.images[0].get_array(), data.x_test[index])
    np.testing.assert_allclose(
        [bar.get_width() for bar in bars.patches], test[index], rtol=1e-4, atol=1e-6
    )
    assert f"{index + 1}" in "\n".join(texts(figures["unseen"]))

    units = handed["hidden_units"][0][0]
    np.testing.assert_array_equal(units, trained["0.weight"].reshape(9, 28, 28))
    (networks,), settings = handed["layers"]
    for drawn, state in zip(networks.values(), (initial, trained)):
        assert all(np.array_equal(array, value) for array, value in zip(drawn, state.values()))
    np.testing.assert_array_equal(settings["inputs"], data.x_train[0])
