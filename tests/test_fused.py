"""The fused engine against the plain PyTorch loop, which is the reference, and against itself, bit for bit."""

from common import fused
from lectures import ann_revisited as ann
from lectures import linear_recovery as linear

import platform

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

pytestmark = pytest.mark.numbers  # again by make test-arithmetic

pytest.importorskip("llvmlite", reason="llvmlite has no build for this Python")

LAYOUTS = [1, fused.LANES]  # the points in a vector's lanes, or the starts, whatever their number


def network(widths, activations, seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    layers = []
    for n, m, activation in zip(widths, widths[1:], activations):
        layers += [nn.Linear(n, m)] + ([activation()] if activation else [])
    return nn.Sequential(*layers).to(dtype)


def data(*shape, features=2, outputs=2, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(*shape, features, generator=generator, dtype=torch.float64),
        torch.rand(*shape, outputs, generator=generator, dtype=torch.float64),
    )


def eager(model, inputs, targets, learning_rate, steps, scale=1.0):
    """The same steps by PyTorch: losses, and the parameters after each step; a loss that is not finite is the last."""
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)
    losses, iterates = np.full(steps, np.nan), []
    for step in range(steps):
        loss = (
            scale * ((model(inputs[step % len(inputs)]) - targets[step % len(targets)]) ** 2).sum()
        )
        losses[step] = loss.item()
        if not np.isfinite(losses[step]):
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        iterates.append(parameters_to_vector(model.parameters()).detach().numpy().copy())
    return losses, np.array(iterates)


def vectors(models):
    return np.stack([parameters_to_vector(model.parameters()).detach().numpy() for model in models])


def train(models, inputs, targets, learning_rate=0.1, steps=300, scale=0.3, iterates=True):
    """Losses, iterates and final parameters of several starts, to be compared bit for bit."""
    kept = np.zeros((len(models), steps, vectors(models).shape[1])) if iterates else None
    losses = fused.train_sgd(
        models,
        inputs,
        targets,
        learning_rate=learning_rate,
        steps=steps,
        scale=scale,
        iterates=kept,
    )
    return losses, kept, vectors(models)


def assert_same_bits(one, other):
    for a, b in zip(one, other):
        assert a.shape == b.shape and a.tobytes() == b.tobytes()


def assert_agree(make, inputs, targets, learning_rate, steps, scale, tolerance=1e-9):
    plain, quick = make(), make()
    expected, expected_iterates = eager(plain, inputs, targets, learning_rate, steps, scale)
    iterates = np.empty_like(expected_iterates)
    losses = fused.train_sgd(
        quick,
        inputs,
        targets,
        learning_rate=learning_rate,
        steps=steps,
        scale=scale,
        iterates=iterates,
    )
    np.testing.assert_allclose(losses, expected, rtol=tolerance, atol=tolerance * expected.max())
    size = np.abs(expected_iterates).max()
    np.testing.assert_allclose(iterates, expected_iterates, rtol=tolerance, atol=tolerance * size)
    np.testing.assert_array_equal(vectors([quick])[0], iterates[-1])


def test_lecture_network_10_000_steps():
    assert_agree(
        lambda: ann.random_model(torch.Generator().manual_seed(0)),
        ann.POINTS[None],
        ann.LABELS[None],
        0.01,
        10_000,
        0.5 / 10,
    )


def test_linear_model_10_000_steps():
    x, y = linear.training_data(10_000, 5, 10, 0.2, torch.Generator().manual_seed(0))
    assert_agree(
        lambda: nn.Sequential(linear.random_model(torch.Generator().manual_seed(1))),
        (x - x.mean(dim=0)).unsqueeze(1),
        y.unsqueeze(1),
        0.01,
        10_000,
        1.0,
    )


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    widths=st.lists(st.integers(1, 7), min_size=2, max_size=4),
    points=st.integers(1, 40),
    batches=st.integers(1, 3),
    starts=st.integers(1, 10),
    own=st.tuples(st.booleans(), st.booleans()),
    seed=st.integers(0, 10**6),
    pick=st.data(),
)
def test_random_networks(widths, points, batches, starts, own, seed, pick):
    """A start in the lanes among others is what the plain loop makes of it, and alone it has the same bits."""
    kinds = st.sampled_from([None, nn.Sigmoid, nn.Tanh, nn.ReLU])
    activations = pick.draw(st.lists(kinds, min_size=len(widths) - 1, max_size=len(widths) - 1))
    inputs, targets = data(
        starts, batches, points, features=widths[0], outputs=widths[-1], seed=seed
    )
    inputs, targets = inputs if own[0] else inputs[0], targets if own[1] else targets[0]
    models = [network(widths, activations, seed + start) for start in range(starts)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fused, "_lanes", lambda starts: fused.LANES)
        together = train(models, inputs, targets, 0.05, 30, 1 / points)
    start = seed % starts
    x, y = inputs[start] if own[0] else inputs, targets[start] if own[1] else targets
    alone = train([network(widths, activations, seed + start)], x, y, 0.05, 30, 1 / points)
    assert_same_bits(alone, [array[start : start + 1] for array in together])
    assert_agree(lambda: network(widths, activations, seed + start), x, y, 0.05, 30, 1 / points)


def some_starts(points, count=12):
    """Starts of which the last is the first once more, and data for them."""
    return [
        network([2, 3, 2], [nn.Sigmoid, nn.Tanh], seed % (count - 1)) for seed in range(count)
    ], *data(2, points)


@pytest.mark.parametrize("points", [1, 2, 5, 16, 17, 18, 35])
def test_same_bits_alone_and_anywhere_among_others(points, monkeypatch):
    results = []
    for lanes in LAYOUTS:
        monkeypatch.setattr(fused, "_lanes", lambda starts, lanes=lanes: lanes)
        results.append(train(*some_starts(points)))
        assert_same_bits([array[0] for array in results[-1]], [array[-1] for array in results[-1]])
    assert_same_bits(*results)
    models, inputs, targets = some_starts(points)
    monkeypatch.undo()
    assert_same_bits(train(models[5:6], inputs, targets), [array[5:6] for array in results[0]])


def test_same_bits_where_a_value_is_infinite(monkeypatch):
    """Lanes without a point make no NaN of an infinite sum: the loss is finite here, a sigmoid far out in its tail."""
    results = []
    for lanes in LAYOUTS:
        monkeypatch.setattr(fused, "_lanes", lambda starts, lanes=lanes: lanes)
        model = network([1, 1, 1], [nn.ReLU, nn.Sigmoid])
        vector_to_parameters(
            torch.tensor([1e308, 0, -1, 0], dtype=torch.float64), model.parameters()
        )
        inputs = torch.tensor([0.0] * 17 + [1e9], dtype=torch.float64).reshape(1, 18, 1)
        results.append(train([model], inputs, torch.ones(1, 18, 1), steps=1))
    assert_same_bits(*results)
    assert np.isinf(results[0][2][0, 2])


@pytest.mark.parametrize("lanes", LAYOUTS)
def test_same_bits_with_any_number_of_threads(lanes, monkeypatch):
    monkeypatch.setattr(fused, "_lanes", lambda starts: lanes)
    results = []
    for cores in (1, 2, 5):
        monkeypatch.setattr(fused, "_cores", lambda cores=cores: cores)
        results.append(train(*some_starts(10, count=30), steps=2_000, iterates=False))
    assert_same_bits(results[0][::2], results[1][::2])
    assert_same_bits(results[0][::2], results[2][::2])


@pytest.mark.parametrize("lanes", LAYOUTS)
@pytest.mark.parametrize("processor", ["x86-64", "haswell"])
def test_same_bits_on_lesser_processors(processor, lanes, monkeypatch):
    """On one with registers of 2 doubles and no fused multiply-add, and on one with 4 (AVX2)."""
    name, features = fused.host()
    if platform.machine() not in ("x86_64", "AMD64") or (
        processor == "haswell" and "+avx2" not in features
    ):
        pytest.skip(f"{name} does not understand {processor}")
    monkeypatch.setattr(fused, "_lanes", lambda starts: lanes)
    here = train(*some_starts(35), steps=50)
    monkeypatch.setattr(fused, "host", lambda: (processor, ""))
    assert_same_bits(here, train(*some_starts(35), steps=50))


@pytest.mark.parametrize("first", [1, 137])
def test_same_bits_in_one_call_and_gone_on_with(first):
    """`sgd` goes on with steps that were made before: the batches follow on, and earlier numbers are left alone."""
    inputs, targets = data(3, 5)
    whole, parts = network([2, 3, 2], [nn.Sigmoid, None]), network([2, 3, 2], [nn.Sigmoid, None])
    expected = train([whole], inputs, targets, steps=500)
    losses, iterates = np.full(500, np.nan), np.zeros((500, 17))
    fixed = {"learning_rate": 0.1, "scale": 0.3}
    losses[:first] = fused.train_sgd(
        parts, inputs, targets, steps=first, iterates=iterates[:first], **fixed
    )
    made = list(fused.sgd(parts, inputs, targets, losses, iterates=iterates, first=first, **fixed))
    assert sum(made) == 500 - first
    assert_same_bits(expected, (losses[None], iterates[None], vectors([parts])))


def test_sgd_is_up_to_date_whenever_it_yields():
    inputs, targets = data(1, 4)
    model, losses, iterates = (
        network([2, 2], [nn.Sigmoid]),
        np.full(3_000, np.nan),
        np.zeros((3_000, 6)),
    )
    done = 0
    for made in fused.sgd(model, inputs, targets, losses, learning_rate=0.1, iterates=iterates):
        done += made
        assert np.isfinite(losses[:done]).all() and np.isnan(losses[done:]).all()
        np.testing.assert_array_equal(iterates[done - 1], vectors([model])[0])
        if done > 1_000:
            break
    assert 1_000 < done


def test_sgd_compiles_at_the_call_and_once_for_networks_alike():
    before = fused._compiled.cache_info()
    for seed in range(3):
        model = network([2, 6, 1], [nn.Sigmoid, nn.Tanh], seed)
        fused.sgd(
            model, *data(1, 4, outputs=1, seed=seed), np.zeros(9), learning_rate=0.1
        )  # not a step of it
    after = fused._compiled.cache_info()
    assert (after.misses - before.misses, after.hits - before.hits) == (1, 2)


def wild(weight):
    """A model whose loss overflows sooner or later, the sooner the larger its weight."""
    model = network([2, 1], [None])
    with torch.no_grad():
        model[0].weight.fill_(weight)
    return model


@pytest.mark.parametrize("lanes", LAYOUTS)
def test_a_loss_that_is_not_finite_ends_its_start_at_its_step(lanes, monkeypatch):
    monkeypatch.setattr(fused, "_lanes", lambda starts: lanes)
    inputs, targets = data(1, 4, outputs=1)
    weights = [1e140, 0.1, 1e120, 1e200]
    losses, iterates, final = train([wild(w) for w in weights], inputs * 4, targets, 0.05, 60, 1.0)
    for start, weight in enumerate(weights):
        expected, expected_iterates = eager(wild(weight), inputs * 4, targets, 0.05, 60)
        made = len(expected_iterates)
        np.testing.assert_allclose(
            losses[start], expected, rtol=1e-9
        )  # a NaN equals a NaN, infinity infinity
        np.testing.assert_allclose(
            iterates[start, :made], expected_iterates.reshape(made, 3), rtol=1e-9
        )
        assert not iterates[start, made:].any()
        np.testing.assert_array_equal(
            final[start], iterates[start, made - 1] if made else vectors([wild(weight)])[0]
        )
    ends = np.isfinite(losses).sum(axis=1)
    assert ends[3] == 0 < ends[0] < ends[2] < ends[1] == 60


def test_sgd_ends_with_the_steps_before_a_loss_that_is_not_finite():
    inputs, targets = data(1, 4, outputs=1)
    for weight in (1e140, 1e200):
        model, losses = wild(weight), np.full(2_000, np.nan)
        made = list(fused.sgd(model, inputs * 4, targets, losses, learning_rate=0.05))
        expected, expected_iterates = eager(wild(weight), inputs * 4, targets, 0.05, 2_000)
        assert sum(made) == len(expected_iterates)
        np.testing.assert_allclose(losses, expected, rtol=1e-9)
        last = expected_iterates[-1] if sum(made) else vectors([wild(weight)])[0]
        np.testing.assert_allclose(vectors([model])[0], last, rtol=1e-9)


def values(activation, z):
    """activation(z), for every number, by the engine: the root of a network's loss that has nothing to do but that."""
    model = nn.Sequential(nn.Linear(1, 1), activation()).double()
    vector_to_parameters(torch.tensor([1.0, 0.0], dtype=torch.float64), model.parameters())
    z = torch.tensor(z, dtype=torch.float64)
    with (
        pytest.MonkeyPatch.context() as patch
    ):  # several starts: one whose loss is not finite does not end the others
        patch.setattr(fused, "_lanes", lambda starts: fused.LANES)
        losses = fused.train_sgd(
            [model] * len(z),
            z.reshape(-1, 1, 1, 1),
            torch.zeros(1, 1, 1),
            learning_rate=0.0,
            steps=1,
        )
    return np.sqrt(losses[:, 0])


def test_sigmoid_and_tanh_to_the_last_digits():
    z = np.concatenate([np.linspace(-40, 40, 2_001), np.linspace(-1, 1, 501)])
    np.testing.assert_allclose(values(nn.Sigmoid, z), 1 / (1 + np.exp(-z)), rtol=1e-15)
    np.testing.assert_allclose(values(nn.Tanh, z), np.abs(np.tanh(z)), rtol=1e-15, atol=2e-16)


@pytest.mark.parametrize("activation", [nn.Sigmoid, nn.Tanh, nn.ReLU])
def test_extreme_numbers_are_as_in_pytorch(activation):
    z = [
        -np.inf,
        -1e300,
        -1e20,
        -710.0,
        -360.0,
        -100.0,
        0.0,
        100.0,
        360.0,
        710.0,
        1e20,
        np.inf,
        np.nan,
    ]
    if activation is nn.ReLU:
        z.remove(np.inf)  # its square is not finite either
    expected = activation()(torch.tensor(z, dtype=torch.float64)).abs().numpy()
    np.testing.assert_allclose(values(activation, z), expected, rtol=1e-14, atol=1e-150)


def test_advance_counts_every_step_and_ends_the_call():
    inputs, targets = data(1, 4)
    made = []
    for models, count in (
        (network([2, 2], [nn.Sigmoid]), 1),
        ([network([2, 2], [nn.Sigmoid])] * 3, 3),
    ):
        made.clear()
        fused.train_sgd(
            models,
            inputs,
            targets,
            learning_rate=0.01,
            steps=12_345,
            advance=lambda steps: made.append(steps) or True,
        )
        assert sum(made) == 12_345 * count
    model = network([2, 2], [nn.Sigmoid])
    losses = fused.train_sgd(
        model, inputs, targets, learning_rate=0.01, steps=10**7, advance=lambda steps: False
    )
    made = np.isfinite(losses).sum()
    assert 0 < made < 10**7
    whole = train([network([2, 2], [nn.Sigmoid])], inputs, targets, 0.01, int(made), 1.0)
    np.testing.assert_array_equal(vectors([model]), whole[2])
    losses = fused.train_sgd(
        [network([2, 2], [nn.Sigmoid]) for _ in range(20)],
        inputs,
        targets,
        learning_rate=0.01,
        steps=10**5,
        advance=lambda steps: False,
    )  # twins fill up the last group
    made = np.isfinite(losses[0]).sum()
    assert (
        0 < made < 10**5
        and np.isfinite(losses[:, :made]).all()
        and np.isnan(losses[:, made:]).all()
    )


@pytest.mark.parametrize(
    "model, named",
    [
        (nn.Sequential(nn.Conv2d(1, 1, 1)).double(), "Conv2d"),
        (nn.Sequential(nn.Linear(2, 2), nn.GELU()).double(), "GELU"),
        (nn.Sequential(nn.Linear(2, 2, bias=False)).double(), "bias=False"),
        (nn.Sequential(nn.Sigmoid(), nn.Linear(2, 2)).double(), "Sigmoid"),
        (nn.Sequential(nn.Linear(2, 2), nn.Sigmoid(), nn.Tanh()).double(), "Tanh"),
        (nn.Sequential(nn.Linear(2, 2)), "float32"),
        (nn.Sequential(nn.Linear(2, 2).double(), nn.Linear(2, 2)), "float32"),
        (nn.Sequential(), "Sequential"),
        (nn.Sequential(*[nn.Linear(2, 2).double()] * 2), "each once"),  # one layer in two places
    ],
)
def test_a_module_that_cannot_be_fused_is_named(model, named):
    data = torch.zeros(1, 1, 2), torch.zeros(1, 1, 2)
    with pytest.raises(TypeError, match=named):
        fused.train_sgd(model, *data, learning_rate=0.1, steps=1)
    with pytest.raises(TypeError, match=named):
        fused.sgd(model, *data, np.zeros(1), learning_rate=0.1)
    assert named in fused.refusal(model)


def test_a_network_too_large_to_compile_soon_is_refused():
    model = network([2, fused.LARGEST // 4, 1], [nn.Sigmoid, None])
    assert sum(p.numel() for p in model.parameters()) - fused.LARGEST in range(1, 4)
    with pytest.raises(ValueError, match="parameters"):
        fused.train_sgd(model, *data(1, 4, outputs=1), learning_rate=0.1, steps=1)
    assert "parameters" in fused.refusal(model)
    assert fused.refusal(network([2, fused.LARGEST // 4 - 1, 1], [nn.Sigmoid, None])) is None


@pytest.mark.parametrize(
    "inputs, targets",
    [
        ((1, 4, 3), (1, 4, 2)),
        ((1, 4, 2), (1, 5, 2)),
        ((2, 4, 2), (1, 4, 2)),
        ((4, 2), (4, 2)),
        ((3, 1, 4, 2), (1, 4, 2)),
        ((1, 0, 2), (1, 0, 2)),
    ],
)
def test_shapes_that_do_not_fit(inputs, targets):
    with pytest.raises(ValueError, match="inputs"):
        fused.train_sgd(
            network([2, 2], [None]),
            torch.zeros(inputs),
            torch.zeros(targets),
            learning_rate=0.1,
            steps=1,
        )


def test_models_that_differ():
    models = [network([2, 2], [None]), network([2, 2], [nn.Tanh])]
    with pytest.raises(ValueError, match="differ"):
        fused.train_sgd(models, *data(1, 4), learning_rate=0.1, steps=1)


@pytest.mark.parametrize(
    "losses, iterates",
    [
        (np.zeros(9, np.float32), None),
        (np.zeros(18)[::2], None),
        (np.zeros(9), np.zeros((9, 5))),
        (np.zeros(9), np.zeros((8, 6))),
        (np.zeros(9), np.zeros((6, 9)).T),
    ],
)
def test_arrays_that_cannot_be_filled_in(losses, iterates):
    """The compiled code writes by addresses: what does not fit would be written over what lies beside it."""
    with pytest.raises(ValueError, match="float64"):
        fused.sgd(
            network([2, 2], [None]), *data(1, 4), losses, learning_rate=0.1, iterates=iterates
        )
