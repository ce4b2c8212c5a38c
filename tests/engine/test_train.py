"""Many starts at once: each ends as the plain loop would end it, with the same bits alone and among
others.
"""

import engine
from engine import starts
from engine.compile import compiled
from engine.train import record
from engine.vector import LANES, host
from lectures import ann_revisited as ann

import platform

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn, optim
from torch.nn.utils import parameters_to_vector

pytestmark = pytest.mark.numbers  # again by make test-arithmetic

pytest.importorskip("llvmlite", reason="llvmlite has no build for this Python")

POINTS_IN_LANES, STARTS_IN_LANES = 1000, 1  # cores: what the engine chooses by


def network(widths, activations, seed=0):
    torch.manual_seed(seed)
    layers = []
    for n, m, activation in zip(widths, widths[1:], activations):
        layers += [nn.Linear(n, m)] + ([activation()] if activation else [])
    return nn.Sequential(*layers).double()


def data(*shape, features=2, outputs=2, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(*shape, features, generator=generator, dtype=torch.float64),
        torch.rand(*shape, outputs, generator=generator, dtype=torch.float64),
    )


def loss(model, x, y):
    return 0.3 * (model(x) - y).square().sum() / len(x)


def plain(model, x, y, steps, lr=0.1, loss=loss):
    """The same steps by PyTorch: losses, and the parameters after each; a loss that is not finite
    is the last.
    """
    optimizer = optim.SGD(model.parameters(), lr=lr)
    losses = np.full(steps, np.nan)
    iterates = np.full((steps, len(vectors([model])[0])), np.nan)
    for step in range(steps):
        value = loss(model, x[step % len(x)], y[step % len(y)])
        losses[step] = value.item()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        iterates[step] = vectors([model])[0]
        if not np.isfinite(losses[step]):
            break
    return losses, iterates


def vectors(models):
    return np.stack([parameters_to_vector(model.parameters()).detach().numpy() for model in models])


def train(models, x, y, steps=300, lr=0.1, loss=loss, **options):
    """Losses, iterates and final parameters of several starts, to be compared bit for bit."""
    iterates = np.zeros((len(models), steps, vectors(models).shape[1]))
    losses = engine.train(models, loss, x, y, lr=lr, steps=steps, iterates=iterates, **options)
    return losses, iterates, vectors(models)


def assert_same_bits(one, other):
    for a, b in zip(one, other):
        assert a.shape == b.shape and a.tobytes() == b.tobytes()


def assert_near(found, expected):
    for a, b in zip(found, expected):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * np.nanmax(np.abs(b)))


def test_the_lecture_s_network():
    generator = torch.Generator()
    models = [ann.build_model(generator.manual_seed(seed)) for seed in (0, 1, 0)]
    nothing = torch.zeros(1, 1, 2, dtype=torch.float64)
    found = train(models, nothing, nothing, 5_000, 0.01, ann.loss)
    expected = plain(
        ann.build_model(generator.manual_seed(0)), nothing, nothing, 5_000, 0.01, loss=ann.loss
    )
    assert_near([found[0][0], found[1][0]], expected)
    assert_same_bits([array[0] for array in found], [array[2] for array in found])


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    widths=st.lists(st.integers(1, 5), min_size=2, max_size=4),
    points=st.integers(1, 40),
    batches=st.integers(1, 3),
    count=st.integers(1, 10),
    own=st.tuples(st.booleans(), st.booleans()),
    seed=st.integers(0, 10**6),
    pick=st.data(),
)
def test_random_networks(widths, points, batches, count, own, seed, pick):
    """A start in the lanes among others is what the plain loop makes of it, and alone it has the
    same bits.
    """
    kinds = st.sampled_from([None, nn.Sigmoid, nn.Tanh, nn.ReLU])
    activations = pick.draw(st.lists(kinds, min_size=len(widths) - 1, max_size=len(widths) - 1))
    x, y = data(count, batches, points, features=widths[0], outputs=widths[-1], seed=seed)
    x, y = x if own[0] else x[0], y if own[1] else y[0]

    def model(start):
        return network(widths, activations, seed + start)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(starts, "cores", lambda: STARTS_IN_LANES)
        together = train([model(k) for k in range(count)], x, y, 30)
    k = seed % count
    x, y = x[k] if own[0] else x, y[k] if own[1] else y
    alone = train([model(k)], x, y, 30)
    assert_same_bits(alone, [array[k : k + 1] for array in together])
    assert_near([alone[0][0], alone[1][0]], plain(model(k), x, y, 30))


def some(points, count=12):
    """Starts of which the last is the first once more, and data for them."""
    models = [network([2, 3, 2], [nn.Sigmoid, nn.Tanh], k % (count - 1)) for k in range(count)]
    return models, *data(2, points)


@pytest.mark.parametrize("points", [*range(1, 21), 33, 35])
def test_same_bits_alone_and_anywhere_among_others(points, monkeypatch):
    results = []
    for cores in (POINTS_IN_LANES, STARTS_IN_LANES):
        monkeypatch.setattr(starts, "cores", lambda cores=cores: cores)
        results.append(train(*some(points), 40))
    assert_same_bits(*results)
    assert_same_bits([array[0] for array in results[1]], [array[-1] for array in results[1]])
    models, x, y = some(points)
    alone = train(models[5:6], x, y, 40)
    assert_same_bits(alone, [array[5:6] for array in results[1]])
    expected = plain(some(points)[0][5], x, y, 40)
    assert_near([alone[0][0], alone[1][0]], expected)


def test_same_bits_with_any_number_of_threads(monkeypatch):
    results = []
    for cores in (1, 2, 5):
        monkeypatch.setattr(starts, "cores", lambda cores=cores: cores)
        results.append(train(*some(10, count=60), steps=200))
    assert_same_bits(results[0], results[1])
    assert_same_bits(results[0], results[2])


@pytest.mark.parametrize("processor", ["x86-64", "haswell"])
def test_same_bits_on_lesser_processors(processor):
    """On one with registers of 2 doubles and no fused multiply-add, and on one with 4 (AVX2)."""
    name, features = host()
    if platform.machine() not in ("x86_64", "AMD64") or (
        processor == "haswell" and "+avx2" not in features
    ):
        pytest.skip(f"{name} does not understand {processor}")
    for count in (1, 20 * LANES):
        models, x, y = some(35, count + 1)
        recorded = record(models[0], loss, x[0], y[0], 0.1)
        results = []
        for target in ((), (processor, "")):
            group = starts.Starts(recorded, vectors(models)[:count, None])
            group.function = compiled(group.case, *target)
            laid_out = group.laid_out({0: x[None].numpy(), 1: y[None].numpy()})
            losses, _ = group.advance(50, laid_out)
            results.append((losses, group.weights))
        assert_same_bits(*results)
        assert np.ptp(losses) > 0


@pytest.mark.parametrize("first", [1, 137])
def test_same_bits_in_one_call_and_in_two(first):
    """The second call's batches begin where the first's ended."""
    x, y = data(3, 5)
    whole, parts = network([2, 3, 2], [nn.Sigmoid, None]), network([2, 3, 2], [nn.Sigmoid, None])
    expected = train([whole], x, y, 500)
    begun = train([parts], x, y, first)
    ended = train([parts], x.roll(-first, 0), y.roll(-first, 0), 500 - first)
    together = [np.concatenate(pair, axis=1) for pair in zip(begun[:2], ended[:2])]
    assert_same_bits(expected, (*together, ended[2]))


def wild(weight):
    """A model whose loss overflows sooner or later, the sooner the larger its weight."""
    model = network([2, 1], [None])
    with torch.no_grad():
        model[0].weight.fill_(weight)
    return model


@pytest.mark.parametrize("cores", [POINTS_IN_LANES, STARTS_IN_LANES])
def test_a_loss_that_is_not_finite_ends_its_start_at_its_step(cores, monkeypatch):
    monkeypatch.setattr(starts, "cores", lambda: cores)
    monkeypatch.setattr(starts, "FIRST_CHUNK", 10)  # the others go on in the next one
    x, y = data(1, 4, outputs=1)
    weights = [1e200, 1e140, 0.1, 1e120, 0.2]
    losses, iterates, final = train([wild(w) for w in weights], x * 4, y, 60, 1.0)
    for k, weight in enumerate(weights):
        model = wild(weight)
        expected, expected_iterates = plain(model, x * 4, y, 60, 1.0)
        np.testing.assert_allclose(losses[k], expected, rtol=1e-9)  # a NaN equals a NaN
        np.testing.assert_allclose(iterates[k], expected_iterates, rtol=1e-9)
        np.testing.assert_allclose(final[k], vectors([model])[0], rtol=1e-9)
    ends = np.isfinite(losses).sum(axis=1)
    assert ends[0] == 0 < ends[1] < ends[3] < ends[2]


def test_advance_counts_every_step():
    made = []
    models, x, y = some(4, 3)
    engine.train(models, loss, x, y, lr=0.1, steps=12_345, advance=made.append)
    assert sum(made) == 3 * 12_345


SHAPES = [
    ((1, 4, 3), (1, 4, 2)), ((1, 4, 2), (1, 5, 2)), ((2, 4, 2), (1, 4, 2)), ((4, 2), (4, 2)),
    ((3, 1, 4, 2), (1, 4, 2)), ((1, 0, 2), (1, 0, 2)),
]  # fmt: skip


@pytest.mark.parametrize("x, y", SHAPES)
def test_shapes_that_do_not_fit(x, y):
    models = [network([2, 2], [None]), network([2, 2], [None])]
    with pytest.raises((ValueError, RuntimeError), match=r"fit|multiplied"):
        train(models, torch.zeros(x).double(), torch.zeros(y).double(), 1)


def test_models_that_differ():
    with pytest.raises(ValueError, match="differ"):
        train([network([2, 2], [None]), network([2, 2], [nn.Tanh])], *data(1, 4), 1)
