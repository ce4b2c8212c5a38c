"""The fused engine against the plain PyTorch loop, which is the reference."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parameters_to_vector

fused = pytest.importorskip("common.fused", reason="numba has no build for this Python")


def network(widths, activations, seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    layers = []
    for n, m, activation in zip(widths, widths[1:], activations):
        layers += [nn.Linear(n, m)] + ([activation()] if activation else [])
    return nn.Sequential(*layers).to(dtype)


def data(batches, points, features, outputs, seed=1, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(batches, points, features, generator=generator, dtype=dtype),
            torch.rand(batches, points, outputs, generator=generator, dtype=dtype))


def eager(model, inputs, targets, learning_rate, steps, scale):
    """The same steps by PyTorch; losses, and the parameters after each step."""
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)
    losses, iterates = [], []
    for step in range(steps):
        optimizer.zero_grad()
        loss = scale * ((model(inputs[step % len(inputs)]) - targets[step % len(targets)]) ** 2).sum()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        iterates.append(parameters_to_vector(model.parameters()).detach().clone())
    return np.array(losses), torch.stack(iterates).numpy()


def assert_agree(make, inputs, targets, learning_rate, steps, scale, tolerance=1e-9):
    plain, quick = make(), make()
    expected, expected_iterates = eager(plain, inputs, targets, learning_rate, steps, scale)
    iterates = np.empty_like(expected_iterates)
    losses = fused.train_sgd(quick, inputs, targets, learning_rate=learning_rate, steps=steps, scale=scale,
                             iterates=iterates)
    np.testing.assert_allclose(losses, expected, rtol=tolerance, atol=tolerance * expected.max())
    size = np.abs(expected_iterates).max()
    np.testing.assert_allclose(iterates, expected_iterates, rtol=tolerance, atol=tolerance * size)
    for a, b in zip(plain.parameters(), quick.parameters()):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(b.detach(), a.detach(), rtol=tolerance, atol=tolerance * size)


def test_lecture_network_10_000_steps():
    from lectures import ann_revisited as ann

    assert_agree(lambda: ann.random_model(torch.Generator().manual_seed(0)), ann.POINTS[None], ann.LABELS[None], 0.01,
                 10_000, 0.5 / 10)


def test_linear_model_10_000_steps():
    from lectures import linear_recovery as linear

    x, y = linear.training_data(10_000, 5, 10, 0.2, torch.Generator().manual_seed(0))
    assert_agree(lambda: nn.Sequential(linear.random_model(torch.Generator().manual_seed(1))),
                 (x - x.mean(dim=0)).unsqueeze(1), y.unsqueeze(1), 0.01, 10_000, 1.0)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(widths=st.lists(st.integers(1, 9), min_size=2, max_size=5), points=st.integers(1, 20),
       batches=st.integers(1, 4), seed=st.integers(0, 10**6), rate=st.sampled_from([0.001, 0.01, 0.05]), pick=st.data())
def test_random_networks(widths, points, batches, seed, rate, pick):
    kinds = st.sampled_from([None, nn.Sigmoid, nn.Tanh, nn.ReLU])
    activations = pick.draw(st.lists(kinds, min_size=len(widths) - 1, max_size=len(widths) - 1))
    inputs, targets = data(batches, points, widths[0], widths[-1], seed)
    assert_agree(lambda: network(widths, activations, seed), inputs, targets, rate, 60, 1 / points)


def test_float32():
    inputs, targets = data(2, 5, 3, 2, dtype=torch.float32)
    assert_agree(lambda: network([3, 4, 2], [nn.Tanh, nn.Sigmoid], dtype=torch.float32), inputs, targets, 0.1, 200, 0.1,
                 tolerance=1e-4)


def test_exponential_function():
    x = np.concatenate([np.linspace(-708, 708, 20_001), np.linspace(-1, 1, 10_001), [0.0]])
    mine = np.array([fused._exp(v) for v in x])
    np.testing.assert_allclose(mine, np.exp(x), rtol=1e-15)
    assert np.isnan(fused._exp(np.nan))


def test_repeats_equal_single_runs_bit_for_bit():
    inputs, targets = data(3, 4, 2, 2)
    alone = [network([2, 3, 2], [nn.Sigmoid, nn.Sigmoid], seed) for seed in range(5)]
    together = [network([2, 3, 2], [nn.Sigmoid, nn.Sigmoid], seed) for seed in range(5)]
    single = np.stack([fused.train_sgd(m, inputs, targets, learning_rate=0.1, steps=500) for m in alone])
    losses = fused.train_sgd(together, inputs, targets, learning_rate=0.1, steps=500)
    assert losses.shape == (5, 500)
    assert losses.tobytes() == single.tobytes()
    for a, b in zip(alone, together):
        assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters()))


def test_each_start_has_its_own_data():
    inputs, targets = zip(data(3, 4, 2, 1, seed=1), data(3, 4, 2, 1, seed=2))
    models = [network([2, 1], [None]) for _ in range(2)]
    losses = fused.train_sgd(models, torch.stack(inputs), torch.stack(targets), learning_rate=0.01, steps=50)
    for start in range(2):
        again = fused.train_sgd(network([2, 1], [None]), inputs[start], targets[start], learning_rate=0.01, steps=50)
        assert losses[start].tobytes() == again.tobytes()


def test_a_loss_that_is_not_finite_ends_its_start_at_its_step():
    inputs, targets = data(1, 4, 2, 1)
    wild, calm = network_with(1e140), network_with(0.1)
    losses = fused.train_sgd([wild, calm], inputs * 4, targets, learning_rate=0.05, steps=60)
    finite = np.isfinite(losses[0]).sum()
    expected, _ = eager(network_with(1e140), inputs * 4, targets, 0.05, 60, 1.0)
    assert 0 < finite == np.isfinite(expected).argmin() < 60
    assert np.isnan(losses[0, finite + 1:]).all()
    assert np.isfinite(losses[1]).all()


def network_with(weight):
    model = network([2, 1], [None])
    with torch.no_grad():
        model[0].weight.fill_(weight)
    return model


def test_advance_counts_every_step_and_ends_the_call():
    inputs, targets = data(1, 4, 2, 2)
    made = []
    fused.train_sgd(network([2, 2], [nn.Sigmoid]), inputs, targets, learning_rate=0.01, steps=12_345,
                    advance=lambda steps: made.append(steps) or True)
    assert sum(made) == 12_345
    losses = fused.train_sgd(network([2, 2], [nn.Sigmoid]), inputs, targets, learning_rate=0.01, steps=10**7,
                             advance=lambda steps: False)
    assert 0 < np.isfinite(losses).sum() < 10**7


@pytest.mark.parametrize("model, named", [
    (nn.Sequential(nn.Conv2d(1, 1, 1)), "Conv2d"),
    (nn.Sequential(nn.Linear(2, 2), nn.GELU()), "GELU"),
    (nn.Sequential(nn.Linear(2, 2, bias=False)), "bias=False"),
    (nn.Sequential(nn.Sigmoid(), nn.Linear(2, 2)), "Sigmoid"),
    (nn.Sequential(nn.Linear(2, 2), nn.Sigmoid(), nn.Tanh()), "Tanh"),
    (nn.Sequential(nn.Linear(2, 2).half()), "float16"),
    (nn.Sequential(), "Sequential"),
])
def test_a_module_that_cannot_be_fused_is_named(model, named):
    with pytest.raises(TypeError, match=named):
        fused.train_sgd(model, torch.zeros(1, 1, 2), torch.zeros(1, 1, 2), learning_rate=0.1, steps=1)


@pytest.mark.parametrize("inputs, targets", [((1, 4, 3), (1, 4, 2)), ((1, 4, 2), (1, 5, 2)), ((2, 4, 2), (1, 4, 2)),
                                             ((4, 2), (4, 2)), ((3, 1, 4, 2), (1, 4, 2)), ((1, 0, 2), (1, 0, 2))])
def test_shapes_that_do_not_fit(inputs, targets):
    with pytest.raises(ValueError):
        fused.train_sgd(network([2, 2], [None]), torch.zeros(inputs), torch.zeros(targets), learning_rate=0.1, steps=1)


CUDA_PROGRAM = """
import numpy as np, torch
from torch import nn
from common import fused
torch.manual_seed(0)
models = [nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2), nn.Sigmoid()).double() for _ in range(3)]
widths, activations = np.array([2, 3, 2]), np.array([2, 1])
x, y = np.random.default_rng(0).random((2, 1, 2, 2, 4))
results = []
for launch in (fused._all_starts, fused._launch_cuda):
    weights = np.stack([nn.utils.parameters_to_vector(m.parameters()).detach().numpy() for m in models])
    losses, iterates, alive = np.full((3, 9), np.nan), np.zeros((3, 9, weights.shape[1])), np.ones(3, bool)
    for first in (0, 5):
        part = slice(first, first + (5 if first == 0 else 4))
        launch(weights, widths, activations, x, y, 0.1, 0.5, first, losses[:, part], iterates[:, part], alive)
    results.append((weights, losses, iterates))
for a, b in zip(*results):
    assert np.isfinite(a).all()
    np.testing.assert_allclose(a, b, rtol=1e-12)
print("agree")
"""


def test_cuda_side_in_numbas_simulator():
    """The CUDA kernel's indexing, on numba's simulator: what a machine without a GPU can check."""
    environment = os.environ | {"NUMBA_ENABLE_CUDASIM": "1", "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run([sys.executable, "-c", CUDA_PROGRAM], cwd=Path(__file__).parent.parent, env=environment,
                          capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "agree", done.stderr
