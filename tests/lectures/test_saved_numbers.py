"""What a run saves, computed again from its own files, in NumPy and apart from the code that wrote it."""

import json
import math

import numpy as np
import pytest
import torch
from helpers import (
    B_TRUE,
    W_TRUE,
    content,
    cross_entropy,
    descend,
    descend_on_ten_points,
    digit_probabilities,
    load_state,
    no_figures,
    results_of,
    sigmoid_network,
    ten_points_loss,
    write_digits,
)

pytestmark = pytest.mark.numbers  # again by make test-arithmetic


@pytest.fixture
def undrawn(run_here, monkeypatch):
    """`run_here`, without the time that figures take."""
    no_figures(monkeypatch)
    return run_here


# The first lecture.

LINEAR = {
    "compiled": ("--samples", 400, "--engine", "compiled"),
    "eager": ("--samples", 400, "--engine", "eager", "--seed", 5),
    "an odd number": ("--samples", 301, "--noise", 0.5),
    "quickstart": ("--samples", 400, "--raw", "--low", 0),
    "slow": ("--samples", 200, "--lr", 0.002, "--noise", 0),
    "one": (
        "--samples",
        1,
    ),
    "raw": ("--samples", 200, "--raw", "--lr", 0.001, "--low", -3, "--high", 4),
}


def mean_square_edge(z: np.ndarray) -> float:
    """The rate eta beyond which S -> E[(I - 2 eta z z^T) S (I - 2 eta z z^T)] grows, z (N, 6).

    By bisection on the spectral radius of that map.
    """
    squares = np.einsum("ni,nj->nij", z, z)
    mean, eye = squares.mean(axis=0), np.eye(z.shape[1])
    twice = np.einsum("nij,nkl->ikjl", squares, squares).reshape(36, 36) / len(z)
    once = np.kron(mean, eye) + np.kron(eye, mean)
    low, high = 0.0, 2 / np.linalg.eigvalsh(mean)[-1]
    for _ in range(60):
        rate = (low + high) / 2
        powers = np.eye(36) - 2 * rate * once + 4 * rate**2 * twice
        grows = np.abs(np.linalg.eigvals(powers)).max() > 1 + 1e-12
        low, high = (low, rate) if grows else (rate, high)
    return low


@pytest.mark.parametrize("name", LINEAR)
def test_the_numbers_of_linear_recovery(undrawn, name):
    done = undrawn("linear_recovery", "--quiet", *LINEAR[name])
    assert done.returncode == 0, done.stderr
    results, config, losses = (
        done.metrics["results"],
        done.metrics["config"],
        np.load(done.folder / "losses.npy"),
    )
    with np.load(done.folder / "train_data.npz") as data:
        assert set(data) == {"x", "y"}
        x, y = data["x"], data["y"]
    count = config["samples"]
    assert x.shape == (count, 5) and y.shape == (count, 2) and losses.shape == (count,)
    centre = np.zeros(5) if config["raw"] else x.mean(axis=0)

    for file in ("model_initial", "model"):
        assert (done.folder / f"{file}.pt").stat().st_size < 3000  # and not all iterates with it
    initial, trained = (
        load_state(done.folder / f"{file}.pt") for file in ("model_initial", "model")
    )
    assert {key: value.dtype for key, value in initial.items()} == {
        "weight": np.float64,
        "bias": np.float64,
    }
    start = (
        initial["bias"] + initial["weight"] @ centre
    )  # b = c - W mean; both are drawn from [0, 1)
    for drawn in (initial["weight"], start):
        assert drawn.min() > -1e-12 and drawn.max() < 1 + 1e-12
    expected, weights, biases = descend(x - centre, y, initial["weight"], start, config["lr"])
    np.testing.assert_allclose(losses, expected, rtol=1e-7)
    last_weight, last_bias = weights[-1], biases[-1] - weights[-1] @ centre
    np.testing.assert_allclose(trained["weight"], last_weight, rtol=1e-8)
    np.testing.assert_allclose(trained["bias"], last_bias, rtol=1e-7, atol=1e-9)
    averaged = weights[count // 2 :].mean(axis=0), biases[count // 2 :].mean(axis=0)
    ones = np.column_stack([x, np.ones(count)])
    exact = np.linalg.lstsq(ones, y, rcond=None)[0]
    estimates = {
        "last": (last_weight, last_bias),
        "averaged": (averaged[0], averaged[1] - averaged[0] @ centre),
        "least_squares": (exact[:5].T, exact[5]),
    }
    for estimate, (weight, bias) in estimates.items():
        found = results[estimate]
        assert set(found) == {"weight", "bias", "weight_error", "bias_error"}
        np.testing.assert_allclose(found["weight"], weight, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(found["bias"], bias, rtol=1e-6, atol=1e-7)
        errors = np.abs(found["weight"] - W_TRUE).max(), np.abs(found["bias"] - B_TRUE).max()
        assert (found["weight_error"], found["bias_error"]) == pytest.approx(errors, rel=1e-9)

    used = np.column_stack([x - centre, np.ones(count)])
    assert results["stable_lr_limit"] == pytest.approx(mean_square_edge(used), rel=1e-6)
    assert results["noise_floor"] == pytest.approx(2 * config["noise"] ** 2)
    mean = ((x @ last_weight.T + last_bias - y) ** 2).sum(axis=1).mean()
    assert results["final_loss"] == pytest.approx(mean, rel=1e-6)
    assert (
        results["steps"] == count
        and results["ended"] == "finished"
        and results["engine"] == ("eager" if name in ("eager", "one") else "compiled")
    )


def test_noise_is_all_that_least_squares_misses(undrawn):
    done = undrawn("linear_recovery", "--quiet", "--noise", 0, "--samples", 50)
    exact = done.metrics["results"]["least_squares"]
    np.testing.assert_allclose(exact["weight"], W_TRUE, rtol=1e-9)
    np.testing.assert_allclose(exact["bias"], B_TRUE, rtol=1e-8)


# The second lecture.


@pytest.mark.parametrize(
    "options", [("--engine", "compiled", "--lr", 0.5), ("--engine", "eager", "--seed", 3)]
)
def test_the_numbers_of_ann_revisited(undrawn, options):
    done = undrawn("ann_revisited", "--quiet", "--steps", 300, *options)
    assert done.returncode == 0, done.stderr
    results, config, losses = (
        done.metrics["results"],
        done.metrics["config"],
        np.load(done.folder / "losses.npy"),
    )
    initial, trained = (
        load_state(done.folder / f"{file}.pt") for file in ("model_initial", "model")
    )
    expected, state = descend_on_ten_points(initial, config["lr"], 300)
    assert losses.shape == (300,)
    np.testing.assert_allclose(losses, expected, rtol=1e-10)
    for name, array in trained.items():
        np.testing.assert_allclose(array, state[name], rtol=1e-8, atol=1e-11)
        assert array.dtype == np.float64 and (array != initial[name]).all()
    assert results["initial_loss"] == pytest.approx(ten_points_loss(initial), rel=1e-12)
    assert results["final_loss"] == pytest.approx(ten_points_loss(trained), rel=1e-12)
    assert results["final_loss"] != losses[-1]  # the loss after the last update, not before it
    outputs = sigmoid_network(trained, np.array([[0.1, 0.1]]))[-1]
    assert outputs.shape == (1, 2) and results["parameters"] == 23
    assert (
        results["steps"] == 300
        and results["ended"] == "finished"
        and results["engine"] == options[1]
    )


def test_the_points_correct_are_those_whose_larger_output_is_the_label_s(undrawn):
    from helpers import LABELS, POINTS

    found = set()
    for options in (
        ("--steps", 1),
        ("--steps", 20_000, "--lr", 0.5),
        ("--steps", 3_000, "--lr", 0.5, "--seed", 2),
    ):
        done = undrawn("ann_revisited", *options)
        outputs = sigmoid_network(load_state(done.folder / "model.pt"), POINTS)[-1]
        right = outputs.argmax(axis=1) == LABELS.argmax(axis=1)
        assert done.metrics["results"]["points_correct"] == right.sum()
        assert (
            done.stdout.count("right\n") == right.sum()
            and done.stdout.count("WRONG\n") == (~right).sum()
        )
        found.add(int(right.sum()))
    assert len(found) > 1


def test_the_time_of_a_step(undrawn):
    for options in (("--steps", 400, "--engine", "eager"), ("--steps", 2_000_000, "--lr", 0.5)):
        done = undrawn("ann_revisited", "--quiet", *options)
        results, seconds = done.metrics["results"], done.metrics["seconds"]
        assert results["microseconds_per_step"] == pytest.approx(
            1e6 * seconds["training"] / results["steps"], rel=1e-6
        )


# The third lecture.

DIGITS = {
    "a few epochs": ("--images", 45, "--epochs", 3, "--hidden", 15),
    "all": ("--images", "all", "--epochs", 4, "--seed", 3),
}


@pytest.mark.parametrize("name", DIGITS)
def test_the_numbers_of_mnist_mlp(undrawn, tmp_path, name):
    data = write_digits(tmp_path / "data", seed=4, train=60, test=50)
    done = undrawn("mnist_mlp", "--data-dir", tmp_path / "data", *DIGITS[name])
    assert done.returncode == 0, done.stderr
    results, config, losses = (
        done.metrics["results"],
        done.metrics["config"],
        np.load(done.folder / "losses.npy"),
    )
    initial, trained = (
        load_state(done.folder / f"{file}.pt") for file in ("model_initial", "model")
    )
    count, hidden = config["images"], config["hidden"]
    x_train, y_train = data.x_train[:count], data.y_train[:count]

    bounds = {"0.weight": math.sqrt(6 / (784 + hidden)), "2.weight": math.sqrt(6 / (hidden + 10))}
    for key, bound in bounds.items():
        assert 0.9 * bound < np.abs(initial[key]).max() <= bound
    assert not initial["0.bias"].any() and not initial["2.bias"].any()

    known, unseen = digit_probabilities(trained, x_train), digit_probabilities(trained, data.x_test)
    accuracies = (
        (known.argmax(axis=1) == y_train).mean(),
        (unseen.argmax(axis=1) == data.y_test).mean(),
    )
    assert len({*accuracies, 1.0, 0.0}) == 4  # so that one in the place of another is noticed
    assert results["train_accuracy"] == pytest.approx(accuracies[0], abs=1e-12)
    assert results["test_accuracy"] == pytest.approx(accuracies[1], abs=1e-12)
    assert results["final_loss"] == pytest.approx(cross_entropy(known, y_train), rel=1e-5)
    steps = config["epochs"]
    assert losses.shape == (steps,) and results["steps"] == steps and results["ended"] == "finished"
    assert (
        results["dataset"] == "mnist"
        and results["train_images"] == count
        and results["test_images"] == 50
    )
    assert results["parameters"] == 784 * hidden + hidden + hidden * 10 + 10

    first = digit_probabilities(trained, data.x_train[:5]).argmax(axis=1)
    assert (data.y_train[:5] != data.y_test[:5]).any() and len(set(first)) > 1
    assert results["first_five"] == [
        {"label": int(label), "prediction": int(said)} for label, said in zip(data.y_train, first)
    ]
    index = results["unseen"]["index"]
    assert (
        set(results["unseen"]) == {"index", "label", "prediction", "probabilities"}
        and 0 <= index < 50
    )
    assert results["unseen"]["label"] == data.y_test[index]
    np.testing.assert_allclose(
        results["unseen"]["probabilities"], unseen[index], rtol=1e-4, atol=1e-7
    )
    assert results["unseen"]["prediction"] == unseen[index].argmax()
    tenth = digit_probabilities(initial, data.x_train[9:10])[0]  # before it has learned anything
    row = next(line for line in done.stdout.splitlines() if line.startswith("10th image"))
    assert " ".join(f"{100 * p:.1f}" for p in tenth) in " ".join(row.split())


def test_the_steps_of_adam_by_hand(undrawn, tmp_path):
    """All images a step: the losses and the model of Adam as Kingma and Ba (2015) write it."""
    data = write_digits(tmp_path / "data")
    rate = 0.002
    words = ("--images", 40, "--epochs", 8, "--hidden", 6, "--lr", rate, "--quiet")
    done = undrawn("mnist_mlp", "--data-dir", tmp_path / "data", *words)
    state = {
        key: torch.from_numpy(array.astype(float)).requires_grad_()
        for key, array in load_state(done.folder / "model_initial.pt").items()
    }
    x = torch.from_numpy(data.x_train[:40].reshape(40, 784) / 255.0)
    first = {key: torch.zeros_like(value) for key, value in state.items()}
    second = {key: torch.zeros_like(value) for key, value in state.items()}
    losses = []
    for step in range(1, 9):
        hidden = torch.relu(x @ state["0.weight"].T + state["0.bias"])
        logits = hidden @ state["2.weight"].T + state["2.bias"]
        value = -torch.log_softmax(logits, dim=1)[torch.arange(40), data.y_train[:40]].mean()
        losses.append(value.item())
        for key, slope in zip(state, torch.autograd.grad(value, list(state.values()))):
            first[key], second[key] = (
                0.9 * first[key] + 0.1 * slope,
                0.999 * second[key] + 0.001 * slope**2,
            )
            size = first[key] / (1 - 0.9**step) / ((second[key] / (1 - 0.999**step)).sqrt() + 1e-8)
            state[key] = (state[key].detach() - rate * size).requires_grad_()
    np.testing.assert_allclose(np.load(done.folder / "losses.npy"), losses, rtol=1e-4)
    for key, array in load_state(done.folder / "model.pt").items():
        np.testing.assert_allclose(array, state[key].detach(), atol=2e-4)


def test_the_unseen_image_is_the_seed_s_whatever_the_training(undrawn, tmp_path):
    write_digits(tmp_path / "data", test=200)

    def unseen(*options) -> int:
        words = ("--quiet", "--epochs", 1, "--images", 50, *options)
        done = undrawn("mnist_mlp", "--data-dir", tmp_path / "data", *words)
        return done.metrics["results"]["unseen"]["index"]

    of_a_seed = [unseen("--seed", seed) for seed in range(4)]
    assert len(set(of_a_seed)) > 2
    for options in (
        ("--epochs", 3),
        ("--hidden", 7),
        ("--images", 33),
        ("--lr", 0.1),
    ):
        assert unseen("--seed", 1, *options) == of_a_seed[1], options


# All three.


RUNS = {
    "linear_recovery": ("--samples", 30),
    "ann_revisited": ("--steps", 30),
    "mnist_mlp": ("--images", 50, "--epochs", 3),
}


@pytest.mark.parametrize("script", RUNS)
def test_the_environment_and_the_seconds(undrawn, tmp_path, monkeypatch, script):
    monkeypatch.setenv("MNIST_ROOT", str(tmp_path / "data"))
    write_digits(tmp_path / "data")
    done = undrawn(script, *RUNS[script])
    metrics = json.loads((done.folder / "metrics.json").read_text(), parse_constant=pytest.fail)
    assert set(metrics) == {"script", "config", "environment", "seconds", "results", "files"}
    assert metrics["script"] == script and {*metrics["files"], "metrics.json"} == {
        path.name for path in done.folder.iterdir()
    } - {".lock", ".owner"}
    assert set(metrics["seconds"]) == {"imports", "preparation", "training", "figures"}
    assert all(0 <= seconds < 600 for seconds in metrics["seconds"].values())
    assert metrics["environment"]["torch"] == torch.__version__
    assert metrics["environment"]["threads"] >= 1 and metrics["environment"]["device"].startswith(
        ("cpu", "cuda")
    )


def test_a_run_in_the_folder_of_another_replaces_all_of_it(undrawn):
    undrawn("ann_revisited", "--steps", 40, "--seed", 1)
    again = undrawn("ann_revisited", "--steps", 30)
    files, results = content(again.folder), results_of(again)
    for path in again.folder.iterdir():
        path.unlink()
    fresh = undrawn("ann_revisited", "--steps", 30)
    assert content(fresh.folder) == files and results_of(fresh) == results
