"""The second lecture's formulas and numbers, and its script as a user runs it."""

from common import reports
from common.layers import describe
from lectures import ann_revisited as ann

import math

import numpy as np
import pytest
import torch
from conftest import assert_contract
from torch import nn

pytestmark = pytest.mark.numbers  # again by make test-arithmetic


def model(seed=0):
    return ann.build_model(torch.Generator().manual_seed(seed))


def test_loss_by_hand():
    zero = model()
    with torch.no_grad():
        for parameter in zero.parameters():
            parameter.zero_()
    # Every output is sigmoid(0) = 1/2, every error (1/2)^2 + (1/2)^2, halved: 1/4.
    assert ann.loss(zero, ann.POINTS, ann.LABELS).item() == pytest.approx(0.25)
    with torch.no_grad():
        zero[4].bias.copy_(torch.tensor([math.log(3), 0]))  # the first output is 3/4 everywhere
    assert ann.loss(zero, ann.POINTS, ann.LABELS).item() == pytest.approx(
        0.5 * (0.5 * (1 / 16 + 1 / 4) + 0.5 * (9 / 16 + 1 / 4))
    )


def test_loss_ignores_the_pairs_handed_to_it():
    m = model()
    assert (
        ann.loss(m, torch.randn(2), torch.randn(2)).item()
        == ann.loss(m, torch.zeros(2), torch.ones(2)).item()
    )


def test_gradient_of_the_loss_against_finite_differences():
    m = model()
    names, values = zip(*m.named_parameters())

    def loss(*values):
        return ann.loss(
            lambda x: torch.func.functional_call(m, dict(zip(names, values)), x),
            ann.POINTS,
            ann.LABELS,
        )

    assert torch.autograd.gradcheck(loss, values)


def test_network_is_the_lecture_s():
    text = describe(model())
    for line in (
        "# 6 parameters",
        "# 9 parameters",
        "# 8 parameters",
        "6 arrays, 23 parameters",
        "184 bytes",
        "568",
    ):
        assert line in text
    assert ann.POINTS.shape == (10, 2) and ann.LABELS.tolist() == [[1, 0]] * 5 + [[0, 1]] * 5
    values = torch.cat(
        [p.detach().ravel() for seed in range(200) for p in model(seed).parameters()]
    )
    assert values.dtype == torch.float64
    assert abs(values.std() - 0.5) < 0.02 and abs(values.mean()) < 0.02


def test_random_pairs():
    for kind, low, high in (("randn", -6, 6), ("rand", 0, 1)):
        pairs = list(ann.random_pairs(5000, kind, torch.Generator().manual_seed(0)))
        x, y = (torch.stack(column) for column in zip(*pairs))
        assert x.shape == y.shape == (5000, 2) and not torch.equal(x, y)
        assert low <= x.min() and x.max() <= high and (x.min() < -1) == (kind == "randn")


def test_default_run(run):
    done = run("ann_revisited")
    assert done.returncode == 0, done.stderr
    results = assert_contract(done, "ann_revisited", "regions.png", "surfaces.png", "layers.png")
    assert results["points_correct"] == 10 and results["final_loss"] < 0.003
    assert results["parameters"] == 23 and results["engine"] == "compiled"
    losses = np.load(done.folder / "losses.npy")
    assert losses.shape == (1_000_000,) and losses[0] == results["initial_loss"]
    assert "engine: steps 3 to 999,999 compiled\n" in done.stdout
    assert done.stdout.count("right\n") == 10
    trained = model()
    for file, key in (("model", "final_loss"), ("model_initial", "initial_loss")):
        trained.load_state_dict(torch.load(done.folder / f"{file}.pt", weights_only=True))
        value = ann.loss(trained, ann.POINTS, ann.LABELS).item()
        assert value == pytest.approx(results[key], rel=1e-12)


def test_the_table_of_points(run_here):
    """Each point's own label and outputs; after few steps some are right and some are wrong."""
    done = run_here("ann_revisited", "--steps", 30)
    trained = model()
    trained.load_state_dict(torch.load(done.folder / "model.pt", weights_only=True))
    rows = [line for line in done.stdout.splitlines() if line.endswith(("right", "WRONG"))]
    outputs = trained(ann.POINTS).tolist()
    assert len(rows) == 10
    for number, (row, (p, q)) in enumerate(zip(rows, outputs)):
        x1, x2 = ann.POINTS[number].tolist()
        label = "(1, 0)" if number < 5 else "(0, 1)"
        verdict = "right" if (p > q) == (number < 5) else "WRONG"
        expected = f"{x1:.1f} {x2:.1f} {label} ({p:.4f}, {q:.4f}) {verdict}"
        assert " ".join(row.split()) == expected
    assert {row.split()[-1] for row in rows} == {"right", "WRONG"}


def test_rand_for_randn_changes_nothing_bit_for_bit(run_here):
    files = {}
    for kind in ("randn", "rand"):
        words = ("--train-data", kind, "--steps", 400, "--engine", "eager", "--quiet")
        done = run_here("ann_revisited", *words)
        assert done.returncode == 0, done.stderr
        files[kind] = [(done.folder / name).read_bytes() for name in ("losses.npy", "model.pt")]
    assert files["randn"] == files["rand"]


def test_points_correct_counts_the_larger_output():
    m = nn.Sequential(nn.Linear(2, 2)).double()
    with torch.no_grad():
        m[0].weight.zero_()
        m[0].bias.copy_(torch.tensor([1.0, 0.0]))
    assert ann.points_correct(m).tolist() == [True] * 5 + [False] * 5


def test_advice_says_what_was_measured():
    """For all outputs at 0 or 1, and for a loss that falls no more; neither for one output nor where all is right."""
    falling, flat = np.geomspace(0.3, 0.1, 10_000), np.full(10_000, 0.25)
    stuck, wrong = np.tile([1.0, 0], (10, 1)), np.repeat([True, False], 5)
    free = stuck.copy()
    free[3, 1] = 0.3
    assert "far too large" in reports.advice(falling, stuck, wrong)
    assert reports.advice(falling, free, wrong) == ""
    assert "fell by 0.00% in the last tenth" in reports.advice(flat, free, wrong)
    assert reports.advice(np.full(1, 0.25), free, wrong) == ""  # one step shows no plateau
    assert reports.advice(flat, stuck, np.full(10, True)) == ""
