"""The first lecture's formulas and numbers, and its script as a user runs it."""

import engine
from lectures import linear_recovery as linear

import numpy as np
import pytest
import torch
from conftest import assert_contract
from torch import nn

pytestmark = pytest.mark.numbers  # again by make test-arithmetic


def draw(seed=0, samples=1000, low=5, high=10, noise=0.2):
    return linear.training_data(samples, low, high, noise, torch.Generator().manual_seed(seed))


def test_loss_by_hand():
    model = nn.Linear(5, 2).double()
    with torch.no_grad():
        model.weight.copy_(linear.W_TRUE)
        model.bias.zero_()
    x = torch.tensor([1, 0, 0, 0, 2], dtype=torch.float64)
    # F_true(x) = (1 + 10 - 1, 5 + 2 - 2) = (10, 5); M(x) = (11, 7); (10 - 11)^2 + (5 - 7)^2 = 5
    assert linear.f_true(x).tolist() == [10, 5]
    assert linear.loss(model, x, linear.f_true(x)).item() == pytest.approx(5)


def test_gradient_of_the_loss_against_finite_differences():
    x, y = draw(samples=1)
    weight = torch.rand(2, 5, dtype=torch.float64, requires_grad=True)
    bias = torch.rand(2, dtype=torch.float64, requires_grad=True)

    def loss(weight, bias):
        return linear.loss(lambda x: nn.functional.linear(x, weight, bias), x[0], y[0])

    assert torch.autograd.gradcheck(loss, (weight, bias))


def test_training_data_is_the_lecture_s():
    x, y = draw(samples=20_000)
    assert x.shape == (20_000, 5) and y.shape == (20_000, 2)
    assert x.min() >= 5 and x.max() < 10 and abs(x.mean() - 7.5) < 0.02
    noise = y - (x @ linear.W_TRUE.T + linear.B_TRUE)
    assert abs(noise.std() - 0.2) < 0.003 and abs(noise.mean()) < 0.003


def test_model_starts_in_the_unit_interval():
    values = torch.cat(
        [
            p.ravel()
            for seed in range(50)
            for p in linear.build_model(torch.Generator().manual_seed(seed)).parameters()
        ]
    )
    assert 0 <= values.min() < 0.05 and 0.95 < values.max() < 1


RECIPES = {
    "printed": (5, False, 0.0033),
    "centred": (5, True, 0.077),
    "quickstart": (0, False, 0.020),
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_below_the_largest_stable_rate_training_converges_and_beyond_it_overflows(recipe):
    low, centred, edge = RECIPES[recipe]
    for seed in range(3):
        x, y = draw(seed, 10_000, low, low + 5)
        x = x - x.mean(dim=0) if centred else x
        limit = linear.stable_lr_limit(x)
        assert limit == pytest.approx(edge, rel=0.03)
        below, beyond = (losses(x, y, rate * limit, seed) for rate in (0.8, 1.5))
        assert below[-1000:].mean() < 1.5 < below[0]
        assert not np.isfinite(beyond[-1])


def losses(x, y, rate, seed):
    """The loss of each step, one for each pair."""
    model = linear.build_model(torch.Generator().manual_seed(seed))
    pairs = x[:, None], y[:, None]
    return engine.train([model], linear.loss, *pairs, lr=rate, steps=len(x))[0]


def test_the_largest_stable_rate_by_hand():
    """One pair z is stable up to 1 / |z|^2, however often it comes, and so are two at right angles."""
    one = torch.tensor([[1.0, 2, 3, 4, 5]], dtype=torch.float64)  # |z|^2 = 1 + 55
    assert linear.stable_lr_limit(one) == pytest.approx(1 / 56)
    assert linear.stable_lr_limit(one.expand(25_000, 5)) == pytest.approx(1 / 56)
    assert linear.stable_lr_limit(0 * one) == pytest.approx(1)
    two = torch.tensor([[1.0, 0, 0, 0, 0], [-1, 0, 0, 0, 0]], dtype=torch.float64)
    assert linear.stable_lr_limit(two) == pytest.approx(1 / 2)


def test_averages_are_means_of_the_last_half():
    iterates = torch.rand(12, 12, dtype=torch.float64)  # the first before training
    steps = torch.tensor([1, 2, 5, 11])
    expected = torch.stack([iterates[1 + n // 2 : 1 + n].mean(dim=0) for n in steps])
    torch.testing.assert_close(linear.averages(iterates, steps), expected, rtol=1e-12, atol=0)


def test_centring_is_folded_back():
    x, _ = draw(samples=50)
    centre = x.mean(dim=0)
    model = linear.build_model(torch.Generator().manual_seed(3))
    expected = model(x - centre)
    nn.utils.vector_to_parameters(
        linear.fold(nn.utils.parameters_to_vector(model.parameters()), centre), model.parameters()
    )
    torch.testing.assert_close(model(x), expected)


@pytest.mark.parametrize("seed", range(10))
def test_every_seed_recovers_the_parameters(seed):
    x, y = draw(seed, 10_000)
    centre = x.mean(dim=0)
    model = linear.build_model(torch.Generator().manual_seed(seed))
    iterates = np.empty((1, 10_000, 12))
    pairs = (x - centre)[:, None], y[:, None]
    engine.train([model], linear.loss, *pairs, lr=0.01, steps=10_000, iterates=iterates)
    folded = linear.fold(torch.from_numpy(iterates[0]), centre)
    errors = (folded[5000:].mean(dim=0) - linear.TRUE).abs()
    assert errors[:10].max() < 0.01 and errors[10:].max() < 0.15


def test_default_run(run):
    done = run("linear_recovery")
    assert done.returncode == 0, done.stderr
    results = assert_contract(done, "linear_recovery", "train_data.npz", "parameter_error.png")
    averaged, limit = results["averaged"], results["stable_lr_limit"]
    assert averaged["weight_error"] < 0.01 and averaged["bias_error"] < 0.15
    assert results["steps"] == 10_000 and results["noise_floor"] == pytest.approx(0.08)
    assert results["engine"] == "compiled"
    assert "engine: steps 3 to 9,999 compiled\n" in done.stdout and "beyond" not in done.stdout
    assert f"largest stable learning rate for steps on one pair: {limit:.3g}\n" in done.stdout
    assert (
        f"10,000 steps: averaged W within {averaged['weight_error']:.2g} of the truth, "
        f"b within {averaged['bias_error']:.2g}\n" in done.stdout
    )
    table = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if "]" in line}
    estimates = [results[name] for name in ("last", "averaged", "least_squares")]
    true = {"weight": linear.W_TRUE.tolist(), "bias": linear.B_TRUE.tolist()}
    for row, name in enumerate(
        table
    ):  # W[1,1] ... W[2,5] b[1] b[2], the estimates beside the truth
        found = [[*np.ravel(e["weight"]), *e["bias"]] for e in (true, *estimates)]
        assert table[name] == [f"{column[row]:.5g}" for column in found], name
    assert list(table)[1] == "W[1,2]" and list(table)[-1] == "b[2]" and len(table) == 12
    assert np.load(done.folder / "losses.npy").shape == (10_000,)
    with np.load(done.folder / "train_data.npz") as data:  # the saved model takes the saved inputs
        x, y = torch.from_numpy(data["x"]), torch.from_numpy(data["y"])
    model = nn.Linear(5, 2).double()
    model.load_state_dict(torch.load(done.folder / "model.pt", weights_only=True))
    assert (model(x) - y).std() < 0.25


def test_printed_recipe_diverges_and_says_so(run_here):
    done = run_here("linear_recovery", "--raw", "--quiet")
    losses = np.load(done.folder / "losses.npy")
    assert done.returncode == 1
    assert done.stderr.startswith(
        f"error: the loss is not finite at step {len(losses)} with learning rate 0.01"
    )
    assert done.stderr.count("\n") == 1
    assert "0.01 is beyond it" in done.stdout
    assert 100 < len(losses) < 400 and np.isfinite(losses[:-1]).all() and losses[-2] > 1e250
    assert not np.isfinite(losses[-1]) and done.metrics["results"]["steps"] == len(losses)
    assert done.metrics["results"]["ended"] == "diverged" and (done.folder / "loss.png").exists()


def test_quickstart(run_here):
    done = run_here("linear_recovery", "--raw", "--low", 0, "--samples", 2000, "--quiet")
    assert done.returncode == 0, done.stderr
    assert (
        done.metrics["config"]["high"] == 5
        and done.metrics["results"]["averaged"]["weight_error"] < 0.2
    )


def test_one_sample_is_a_run(run_here):
    done = run_here("linear_recovery", "--samples", 1, "--noise", 0, "--quiet")
    assert done.returncode == 0 and done.stderr == ""
