"""The second lecture: its numbers computed again from its own files, in NumPy; what it says."""

from common import reports
from lectures import ann_revisited as ann

import numpy as np
import pytest
import torch
from helpers import (
    LABELS,
    POINTS,
    descend_on_ten_points,
    sigmoid_network,
    states,
    ten_points_loss,
)

pytestmark = pytest.mark.numbers  # again by make test-arithmetic


@pytest.mark.parametrize(
    "options",
    [
        ("--engine", "compiled", "--lr", 0.5, "--steps", 3_000),
        ("--engine", "eager", "--seed", 3, "--steps", 300),
    ],
)
def test_the_numbers_of_a_run(undrawn, options):
    done = undrawn("ann_revisited", *options)
    assert done.returncode == 0 and done.stderr == ""
    results, count = done.metrics["results"], options[-1]
    losses, (initial, trained) = np.load(done.folder / "losses.npy"), states(done)
    expected, state = descend_on_ten_points(initial, done.metrics["config"]["lr"], count)
    np.testing.assert_allclose(losses, expected, rtol=1e-10)
    for name, array in trained.items():
        np.testing.assert_allclose(array, state[name], rtol=1e-8, atol=1e-11)
        assert array.dtype == np.float64
    assert results["initial_loss"] == pytest.approx(ten_points_loss(initial), rel=1e-12)
    assert results["final_loss"] == pytest.approx(ten_points_loss(trained), rel=1e-12)
    ending = (results["steps"], results["ended"], results["engine"])
    assert ending == (count, "finished", options[1])
    microseconds = 1e6 * done.metrics["seconds"]["training"] / count
    assert results["microseconds_per_step"] == pytest.approx(microseconds)

    # The table: each point's label and outputs, and whether the larger output is its label's.
    outputs, rows = sigmoid_network(trained, POINTS)[-1], []
    right = outputs.argmax(axis=1) == LABELS.argmax(axis=1)
    for (x1, x2), label, (p, q), good in zip(POINTS, LABELS, outputs, right):
        shown = f"{x1:.1f} {x2:.1f} ({label[0]:.0f}, {label[1]:.0f}) ({p:.4f}, {q:.4f})"
        rows.append(f"{shown} {'right' if good else 'WRONG'}")
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert [line for line in lines if line.endswith(("right", "WRONG"))] == rows
    assert results["points_correct"] == right.sum() and 0 < right.sum() < 10


def test_the_initial_values_and_the_pairs():
    models = [ann.build_model(torch.Generator().manual_seed(seed)) for seed in range(200)]
    values = torch.cat([torch.nn.utils.parameters_to_vector(m.parameters()) for m in models])
    assert abs(values.std() - 0.5) < 0.02 and abs(values.mean()) < 0.02
    for kind, low, high in (("randn", -6, 6), ("rand", 0, 1)):
        pairs = list(ann.random_pairs(5000, kind, torch.Generator().manual_seed(0)))
        x, y = (torch.stack(column) for column in zip(*pairs))
        assert x.shape == y.shape == (5000, 2) and not torch.equal(x, y)
        assert low <= x.min() and x.max() <= high and (x.min() < -1) == (kind == "randn")


FALLING, FLAT = np.geomspace(0.3, 0.1, 10_000), np.full(10_000, 0.25)
STUCK = np.tile([1.0, 0], (10, 1))
FREE = np.where(np.arange(20).reshape(10, 2) == 7, 0.3, STUCK)  # one output of twenty is
HALF, ALL = np.repeat([True, False], 5), np.full(10, True)
ONE_PER_CENT = np.append(np.full(9_001, 0.25), np.full(999, 0.2474))  # falls by 1.04 %


@pytest.mark.parametrize(
    "losses, outputs, right, said",
    [
        (FALLING, STUCK, HALF, "far too large"),
        (FALLING, FREE, HALF, ""),
        (FLAT, FREE, HALF, "fell by 0.00% in the last tenth"),
        (ONE_PER_CENT, FREE, HALF, ""),
        (np.append(FALLING, np.full(2_000, 0.1)), FREE, HALF, "fell by 0.00% in the last tenth"),
        (FLAT[:1], FREE, HALF, ""),  # one step shows no plateau
        (FLAT, STUCK, ALL, ""),
    ],
)
def test_advice_is_given_for_what_was_measured(losses, outputs, right, said):
    advice = reports.advice(losses, outputs, right)
    assert said in advice and bool(advice) == bool(said)
