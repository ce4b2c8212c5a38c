"""The first lecture: its numbers computed again from its own files, in NumPy."""

import engine
from lectures import linear_recovery as linear

import numpy as np
import pytest
import torch
from helpers import B_TRUE, W_TRUE, descend, states

pytestmark = pytest.mark.numbers  # again by make test-arithmetic

RUNS = {
    "compiled": ("--samples", 400, "--engine", "compiled"),
    "eager": ("--samples", 400, "--engine", "eager", "--seed", 5),
    "an odd number": ("--samples", 301, "--noise", 0.5),
    "quickstart": ("--samples", 400, "--raw", "--low", 0),
    "slow": ("--samples", 200, "--lr", 0.002, "--noise", 0),
    "one": ("--samples", 1),
    "raw": ("--samples", 200, "--raw", "--lr", 0.001, "--low", -3, "--high", 4),
}


@pytest.mark.parametrize("name", RUNS)
def test_the_numbers_of_a_run(undrawn, name):
    done = undrawn("linear_recovery", "--quiet", *RUNS[name])
    assert done.returncode == 0 and done.stderr == ""
    results, config = done.metrics["results"], done.metrics["config"]
    losses, count = np.load(done.folder / "losses.npy"), config["samples"]
    with np.load(done.folder / "train_data.npz") as data:
        x, y = data["x"], data["y"]
    assert x.shape == (count, 5) and y.shape == (count, 2)
    centre = np.zeros(5) if config["raw"] else x.mean(axis=0)

    initial, trained = states(done)
    start = initial["bias"] + initial["weight"] @ centre  # b = c - W mean
    drawn = (x - config["low"]) / (config["high"] - config["low"])
    for values in (drawn, initial["weight"], start):  # all from [0, 1)
        assert values.dtype == np.float64 and values.min() > -1e-12 and values.max() < 1 + 1e-12
    # The model does not start from the numbers that the pairs have.
    assert np.abs(initial["weight"].reshape(-1, 1) - drawn.ravel()).min() > 1e-9
    expected, weights, biases = descend(x - centre, y, initial["weight"], start, config["lr"])
    np.testing.assert_allclose(losses, expected, rtol=1e-7)
    half = slice(count // 2, None)
    exact = np.linalg.lstsq(np.column_stack([x, np.ones(count)]), y, rcond=None)[0]
    averaged = weights[half].mean(axis=0)
    for estimate, weight, bias in (
        ("last", weights[-1], biases[-1] - weights[-1] @ centre),
        ("averaged", averaged, biases[half].mean(axis=0) - averaged @ centre),
        ("least_squares", exact[:5].T, exact[5]),
    ):
        found = results[estimate]
        np.testing.assert_allclose(found["weight"], weight, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(found["bias"], bias, rtol=1e-6, atol=1e-7)
        errors = np.abs(found["weight"] - W_TRUE).max(), np.abs(found["bias"] - B_TRUE).max()
        assert (found["weight_error"], found["bias_error"]) == pytest.approx(errors, rel=1e-9)
    np.testing.assert_allclose(trained["weight"], results["last"]["weight"])
    np.testing.assert_allclose(trained["bias"], results["last"]["bias"])

    limit = linear.stable_lr_limit(torch.from_numpy(x - centre))
    assert results["stable_lr_limit"] == pytest.approx(limit)
    assert results["noise_floor"] == pytest.approx(2 * config["noise"] ** 2)
    mean = ((x @ trained["weight"].T + trained["bias"] - y) ** 2).sum(axis=1).mean()
    assert results["final_loss"] == pytest.approx(mean, rel=1e-6)
    engine = "eager" if name in ("eager", "one") else "compiled"
    ending = (results["steps"], results["ended"], results["engine"])
    assert ending == (count, "finished", engine)


def test_the_pairs():
    draw = torch.Generator().manual_seed(0)
    x, y = (part.numpy() for part in linear.training_data(10_000, -2, 3.5, 0.5, draw))
    assert -2 <= x.min() < -1.99 and 3.49 < x.max() < 3.5
    assert x.mean() == pytest.approx(0.75, abs=0.1)
    noise = y - x @ W_TRUE.T - B_TRUE
    assert abs(noise.std() - 0.5) < 0.02 and abs(noise.mean()) < 0.03


def test_the_model_starts_anywhere_in_the_unit_interval():
    models = [linear.build_model(torch.Generator().manual_seed(seed)) for seed in range(50)]
    values = torch.cat([torch.nn.utils.parameters_to_vector(m.parameters()) for m in models])
    assert 0 <= values.min() < 0.05 and 0.95 < values.max() < 1


@pytest.mark.parametrize(
    "low, centred, edge", [(5, False, 0.0033), (5, True, 0.077), (0, False, 0.02)]
)
def test_training_converges_below_the_largest_stable_rate_alone(low, centred, edge):
    """The recipes that the lecture prints, the script's, and the one of Flux's quickstart."""
    for seed in range(3):
        draw = torch.Generator().manual_seed(seed)
        x, y = linear.training_data(10_000, low, low + 5, 0.2, draw)
        x = x - x.mean(dim=0) if centred else x
        limit = linear.stable_lr_limit(x)
        assert limit == pytest.approx(edge, rel=0.03)
        model, pairs = linear.build_model(draw), (x[:, None], y[:, None])
        below, beyond = (
            engine.train([model], linear.loss, *pairs, lr=share * limit, steps=len(x))[0]
            for share in (0.8, 1.5)
        )
        assert below[-1000:].mean() < 1.5 < below[0]
        assert not np.isfinite(beyond[-1])


def test_the_largest_stable_rate_by_hand():
    """One pair z is stable up to 1 / |z|^2, however often it comes; so are two at right angles."""
    one = torch.tensor([[1.0, 2, 3, 4, 5]], dtype=torch.float64)  # |z|^2 = 1 + 55
    assert linear.stable_lr_limit(one) == pytest.approx(1 / 56)
    assert linear.stable_lr_limit(one.expand(25_000, 5)) == pytest.approx(1 / 56)
    assert linear.stable_lr_limit(0 * one) == pytest.approx(1)
    two = torch.tensor([[1.0, 0, 0, 0, 0], [-1, 0, 0, 0, 0]], dtype=torch.float64)
    assert linear.stable_lr_limit(two) == pytest.approx(1 / 2)
