"""The second lecture's formulas and numbers, and its script as a user runs it."""

import math

import numpy as np
import pytest
import torch
from conftest import assert_contract
from torch import nn

from common.layers import describe
from lectures import ann_revisited as ann

pytestmark = pytest.mark.numbers  # again by make test-arithmetic


def model(seed=0):
    return ann.random_model(torch.Generator().manual_seed(seed))


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


def test_training_pairs():
    for kind, low, high in (("randn", -6, 6), ("rand", 0, 1)):
        x, y = ann.training_pairs(kind, 5000, torch.Generator().manual_seed(0))
        assert x.shape == y.shape == (5000, 2) and not torch.equal(x, y)
        assert low <= x.min() and x.max() <= high and (x.min() < -1) == (kind == "randn")


def test_plain_loop_and_fused_engine_agree():
    fused = pytest.importorskip("common.fused")
    one, two = model(), model()
    plain, quick = np.full(500, np.nan), np.full(500, np.nan)
    pairs = zip(*ann.training_pairs("randn", 500, torch.Generator().manual_seed(0)))
    ann.train(one, torch.optim.SGD(one.parameters(), lr=0.01), enumerate(pairs), plain)
    assert (
        sum(
            fused.sgd(
                two, ann.POINTS[None], ann.LABELS[None], quick, learning_rate=0.01, scale=0.5 / 10
            )
        )
        == 500
    )
    np.testing.assert_allclose(quick, plain, rtol=1e-9)
    for a, b in zip(one.parameters(), two.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_default_run(run):
    done = run("ann_revisited")
    assert done.returncode == 0, done.stderr
    results = assert_contract(done, "ann_revisited", "regions.png", "surfaces.png", "layers.png")
    assert results["points_correct"] == 10 and results["final_loss"] < 0.003
    assert results["parameters"] == 23 and results["engine"] == "fused"
    losses = np.load(done.folder / "losses.npy")
    assert losses.shape == (1_000_000,) and losses[0] == results["initial_loss"]
    assert done.stdout.count("right\n") == 10
    trained = model()
    trained.load_state_dict(torch.load(done.folder / "model.pt", weights_only=True))
    assert ann.loss(trained, ann.POINTS, ann.LABELS).item() == results["final_loss"]
    trained.load_state_dict(torch.load(done.folder / "model_initial.pt", weights_only=True))
    assert ann.loss(trained, ann.POINTS, ann.LABELS).item() == pytest.approx(
        results["initial_loss"], rel=1e-12
    )


def test_rand_for_randn_changes_nothing_bit_for_bit(run_here):
    files = {}
    for kind in ("randn", "rand"):
        done = run_here(
            "ann_revisited", "--train-data", kind, "--steps", 400, "--engine", "eager", "--quiet"
        )
        assert done.returncode == 0, done.stderr
        files[kind] = [(done.folder / name).read_bytes() for name in ("losses.npy", "model.pt")]
    assert files["randn"] == files["rand"]


def test_points_correct_counts_the_larger_output():
    m = nn.Sequential(nn.Linear(2, 2)).double()
    with torch.no_grad():
        m[0].weight.zero_()
        m[0].bias.copy_(torch.tensor([1.0, 0.0]))
    assert ann.points_correct(m).tolist() == [True] * 5 + [False] * 5


def stuck(value):
    m = model()
    with torch.no_grad():
        for parameter in m.parameters():
            parameter.zero_()
        m[4].bias.fill_(value)
    return m


def test_advice_says_what_was_measured():
    falling = np.geomspace(0.3, 0.1, 10_000)
    assert "far too large" in ann.advice(stuck(50.0), falling)
    assert ann.advice(stuck(0.1), falling) == ""
    assert "fell by 0.00% in the last tenth" in ann.advice(stuck(0.1), np.full(10_000, 0.25))
    assert ann.advice(stuck(0.1), np.full(1, 0.25)) == ""  # one step shows no plateau
