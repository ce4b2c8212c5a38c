"""Exercise 1: the errors of its estimates, the learning rate's edges, and the page's sentences."""

from exercises import exercise_1 as exercise
from lectures import linear_recovery as linear

import itertools

import numpy as np
import pytest
import torch
from helpers import descend, load_state
from small_exercises import measured, small_options, text


@pytest.fixture(autouse=True)
def small():
    with small_options():
        yield


def plain_errors(recipe, seed: int) -> dict:
    """The largest errors of W and b by estimate, from a loop in NumPy."""
    x, y, centre = (part.numpy() for part in exercise.draw_pairs(recipe, 400, seed))
    weight, bias = (p.detach().numpy() for p in exercise.initial_model(seed).parameters())
    _, weights, biases = descend(x, y, weight, bias, 0.01)
    solution = np.linalg.lstsq(np.column_stack([x, np.ones(400)]), y, rcond=None)[0]
    errors = {}
    for name, w, c in (
        ("last iterate", weights[-1], biases[-1]),
        ("averaged iterate", weights[200:].mean(axis=0), biases[200:].mean(axis=0)),
        ("least squares", solution[:5].T, solution[5]),
    ):
        off = w - linear.W_TRUE.numpy(), c - w @ centre - linear.B_TRUE.numpy()
        errors[name] = [np.abs(part).max() for part in off]
    return errors


def test_mean_errors_are_those_of_a_plain_loop():
    for recipe in (exercise.CENTRED, exercise.QUICKSTART):
        plain = [plain_errors(recipe, seed) for seed in range(3)]
        found = measured(1)["estimates"][recipe.name]
        for estimate in exercise.ESTIMATES:
            mean = np.mean([errors[estimate] for errors in plain], axis=0)
            rows = found[estimate]
            assert [rows["W"]["error"], rows["b"]["error"]] == pytest.approx(mean, rel=1e-6)


def test_start_k_is_the_lectures_run_with_seed_k(run_here):
    done = run_here("linear_recovery", "--samples", 400, "--seed", 2)
    runs = exercise.run_starts(exercise.CENTRED, range(3))
    np.testing.assert_allclose(runs.losses[2], np.load(done.folder / "losses.npy"), rtol=1e-8)
    for file, step in (("model_initial.pt", 0), ("model.pt", 400)):
        folded = linear.fold(runs.iterates[2, step], runs.centres[2])
        weight, bias = folded[:10].reshape(2, 5), folded[10:]
        saved = load_state(done.folder / file)
        np.testing.assert_allclose(weight, saved["weight"], rtol=1e-8)
        np.testing.assert_allclose(bias, saved["bias"], rtol=1e-8)


def test_least_squares_of_the_first_pairs():
    runs = exercise.run_starts(exercise.CENTRED, range(2))
    found = exercise.least_squares(runs.x, runs.y, np.array([6, 50, 400]))
    for start, (place, count) in itertools.product(range(2), enumerate([6, 50, 400])):
        exact = linear.least_squares(runs.x[start, :count], runs.y[start, :count])
        torch.testing.assert_close(found[start, place], exact, rtol=1e-7, atol=1e-7)


def test_steps_needed_is_where_enough_starts_stay_near():
    errors = np.full((40, 5), 0.01)
    errors[:3, 2] = 0.15  # at the third evaluation only 92.5 % are near
    assert exercise.steps_needed(np.array([1, 2, 4, 8, 16]), errors, 0.1) == 8
    assert exercise.steps_needed(np.array([1, 2, 4, 8, 16]), errors, 0.001) is None
    assert exercise.steps_needed(np.array([1, 2, 4, 8, 16]), errors, 0.15) == 1


@pytest.mark.parametrize("recipe", [exercise.PRINTED, exercise.CENTRED, exercise.QUICKSTART])
def test_the_predicted_edges_divide_errors_that_shrink_from_errors_that_grow(recipe):
    x, _, _ = exercise.draw_pairs(recipe, 300, 0)
    z = np.column_stack([x.numpy(), np.ones(300)])
    c = z.T @ z / 300
    edges = measured(1)["edges"][recipe.name]
    for share in (0.95, 1.05):
        # One pair a step: the second moment S of the error, scaled to trace 1 after each step.
        rate, s = share * edges["one_pair"]["predicted"], np.eye(6) / 6
        for _ in range(3000):
            along = np.einsum("ni,ij,nj->n", z, s, z)
            s = s - 2 * rate * (c @ s + s @ c) + 4 * rate**2 * (z * along[:, None]).T @ z / 300
            factor = np.trace(s)
            s = s / factor
        assert (factor < 1) == (share < 1)
        # All pairs a step: the error itself.
        step = np.eye(6) - 2 * share * edges["all_pairs"]["predicted"] * c
        assert (np.abs(np.linalg.eigvalsh(step)).max() < 1) == (share < 1)


def test_the_measured_edges_are_near_the_predicted_ones():
    for edges in measured(1)["edges"].values():
        for way, most in (("all_pairs", 1.1), ("one_pair", 1.5)):
            assert 0.9 <= edges[way]["measured"] / edges[way]["predicted"] <= most


def test_a_rate_beyond_one_that_grows_is_not_measured_as_stable(monkeypatch):
    def jagged(models, loss, x, y, *, lr, steps):
        ratio = lr / limits[loss]
        grows = 1.05 < ratio < 1.5 or ratio > 1.8
        return np.array([[1.0] * 100 + [3.0 if grows else 0.3] * 100])

    edges = measured(1)["edges"]["centred"]
    limits = {
        exercise.mean_loss: edges["all_pairs"]["predicted"],
        linear.loss: edges["one_pair"]["predicted"],
    }
    monkeypatch.setattr(exercise, "train", jagged)
    for found in exercise.sweep(exercise.CENTRED).values():
        assert 1.03 <= found["measured"] / found["predicted"] <= 1.05


def test_the_page_names_each_estimates_own_numbers():
    results = measured(1) | {"pairs": 20_000, "starts": 7, "most": 0.85, "near": [0.3, 0.2]}
    for place, estimate in enumerate(exercise.ESTIMATES, 1):
        results["estimates"]["centred"][estimate] = {
            "W": {"steps": [100 * place + 1, 100 * place + 2], "error": place + 0.1},
            "b": {"steps": [100 * place + 3, None], "error": place + 0.2},
        }
    results["edges"]["centred"] = {
        "all_pairs": {"predicted": 0.11, "measured": 0.12},
        "one_pair": {"predicted": 0.13, "measured": 0.14},
    }
    page = text(1, results)
    for sentence in (
        "the averaged iterate has every entry of W within 0.3 of the truth in 85 % of 7 starts "
        "after 201 steps, and within 0.2 after 202. For b, 0.3 takes 203:",
        "After 20,000 steps the mean errors of W and b are 2.1 and 2.2 for the averaged iterate, "
        "3.1 and 3.2 for least squares on the same pairs, and 1.1 and 1.2 for the last iterate,",
        "| centred | last iterate | 101 | 102 | 103 | not by 20,000 | 1.1 | 1.2 |",
        "| centred | least squares | 301 | 302 | 303 | not by 20,000 | 3.1 | 3.2 |",
        "one pair a step: η\\* | measured |",
        "| centred | 0.11 | 0.12 | 0.13 | 0.14 |",
    ):
        assert sentence in page
