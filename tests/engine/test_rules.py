"""Every rule against PyTorch's autograd: its value, and its derivative by each operand."""

from engine.record import Refused, Tape, understand
from engine.rules import RULES
from engine.starts import starts_of

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

pytestmark = pytest.mark.numbers  # again by make test-arithmetic

pytest.importorskip("llvmlite", reason="llvmlite has no build for this Python")

EXPRESSIONS = [
    "F.linear(x, m, b)", "F.linear(x, m) + b", "x @ m", "x @ m.T", "torch.sigmoid(x * a)",
    "(x * a).sigmoid() * b", "torch.tanh(x * a)", "torch.relu(x * a)", "F.relu(x - a)",
    "(x * a).abs()", "torch.exp(x * a)", "torch.log((x * a).square() + 0.1)", "(x * a) ** 2",
    "(x * a) ** 3", "(x - a).square()", "-(x * a)", "x + a", "a + x", "x - a", "a - x",
    "a * x * b", "x / b", "b / (x.square() + 1)", "x * s", "s - x * a", "x / s", "x * a + 2",
    "2 + x * a", "x * a - 2", "2 - x * a", "3 * (x * a)", "(x * a) / 3", "3 / (x * x + a * a)",
    "(x * a).sum(-1, keepdim=True) * x", "x / (x * a).exp().sum(dim=1, keepdim=True)",
    "(x * a).mean(-1, keepdim=True) - x * b", "(x * a).mean(dim=-1)", "(x * a).sum(1).exp()",
    "(x * a) * (x * a)", "F.mse_loss(x * a, y)", "F.mse_loss(x * a, y, reduction='sum')",
    "(x * c - x * a * b).mean(0)", "k * a + x", "(x * a).tanh() @ m @ m",
]  # fmt: skip


def operands(points, features, seed):
    """Data x, y (points, features), c (features,) and k (); parameters m (a matrix), a, b
    (features,) and s ().
    """
    torch.manual_seed(seed)
    found = {name: torch.randn(points, features) for name in "xy"}
    found |= {
        "c": torch.randn(features),
        "k": torch.randn(()),
        "m": torch.randn(features, features),
    }
    found |= {"a": torch.randn(features), "b": 0.5 + torch.rand(features), "s": 1 + torch.rand(())}
    found = {name: tensor.double() for name, tensor in found.items()}
    for name in "mabs":
        found[name].requires_grad_()
    return found


def both(function, tensors):
    """The loss, and the derivatives by those that require one: by PyTorch and by the engine, from a
    step downhill.
    """
    with Tape() as tape:
        loss = function(tensors)
        loss.backward()
        parameters = [t for t in tensors.values() if t.grad is not None]
        with torch.no_grad():
            for parameter in parameters:
                parameter.sub_(parameter.grad, alpha=1e-3)
    starts = starts_of(understand(tape, ()), tape)
    before = starts.weights[0, 0].copy()
    losses, _ = starts.advance(1, starts.laid_out({}))
    gradient = torch.cat([p.grad.flatten() for p in parameters])
    return (loss.item(), gradient.numpy()), (losses[0, 0], (before - starts.weights[0, 0]) * 1e3)


def assert_agree(function, tensors):
    (loss, gradient), (found, slope) = both(function, tensors)
    size = np.abs(gradient).max() + 1
    np.testing.assert_allclose(found, loss, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(slope, gradient, rtol=1e-11, atol=1e-12 * size)


def evaluated(text, tensors):
    return eval(text, {"torch": torch, "F": F, **tensors})


def weighted(text, tensors):
    """A loss in which each number of the result counts differently."""
    value = evaluated(text, tensors)
    return 0.7 * (value * tensors["c"] if value.shape == tensors["x"].shape else value).sum()


@pytest.mark.parametrize("points, features", [(5, 3), (1, 1), (18, 2)])
@pytest.mark.parametrize("text", EXPRESSIONS)
def test_as_autograd(text, points, features):
    tensors = operands(points, features, seed=len(text))
    assert_agree(lambda tensors: weighted(text, tensors), tensors)


def test_each_rule_is_among_the_expressions():
    seen = set()
    for text in EXPRESSIONS:
        tensors = operands(4, 2, seed=0)
        with Tape() as tape:
            weighted(text, tensors).backward()
            with torch.no_grad():
                for tensor in tensors.values():
                    if tensor.grad is not None:
                        tensor.sub_(tensor.grad)
        seen |= {operation.rule for operation in understand(tape, ()).step.operations}
    assert seen == set(RULES)


STEPS = [
    "torch.sigmoid({})", "torch.tanh({})", "torch.relu({})", "({}).abs()", "torch.exp(-({}) ** 2)",
    "torch.log(({}) ** 2 + 1)", "({}) ** 3 / 9", "({}) @ m", "F.linear({}, m, b)", "({}) * a", "x / (2 + ({}) ** 2)",
    "({}) + ({}).mean(-1, keepdim=True)", "b - ({})",
]  # fmt: skip


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.lists(st.sampled_from(STEPS), min_size=1, max_size=5),
    st.integers(1, 20),
    st.integers(1, 4),
    st.integers(0, 10**6),
)
def test_any_rules_one_after_another(steps, points, features, seed):
    text = "x * a"
    for step in steps:
        text = step.replace("{}", text) if text.count("x") < 20 else text
    assert_agree(
        lambda tensors: (evaluated(text, tensors) - tensors["y"]).square().mean(),
        operands(points, features, seed),
    )


@pytest.mark.parametrize("function", [torch.relu, torch.abs])
def test_at_its_kink_a_function_is_flat(function):
    w = torch.ones(1, dtype=torch.float64, requires_grad=True)
    x = torch.tensor([[1.0], [3.0], [-2.0]], dtype=torch.float64)
    assert_agree(lambda tensors: function(x * tensors["w"] - 1).sum(), {"w": w})


def values(function, numbers):
    """function(z) by the engine, for each number: the loss of a step that has nothing else to do."""
    found = []
    for number in numbers:
        x = torch.tensor([[number]], dtype=torch.float64)
        w = torch.ones(1, dtype=torch.float64, requires_grad=True)
        _, (value, _) = both(lambda _, x=x, w=w: function(x * w).sum(), {"w": w})
        found.append(value)
    return np.array(found)


EXTREMES = [0.0, 1e-300, 1e-20, 36.0, 100.0, 360.0, 700.0, 745.0, 1e20, 1e300, np.inf]


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "relu", "abs", "exp"])
def test_extreme_numbers_are_as_in_pytorch(name):
    numbers = [*EXTREMES, *(-z for z in EXTREMES), np.nan]
    expected = getattr(torch, name)(torch.tensor(numbers, dtype=torch.float64)).numpy()
    found = values(getattr(torch, name), numbers)
    np.testing.assert_allclose(
        found, expected, rtol=1e-13, atol=2e-16 if name == "tanh" else 1e-150
    )


def test_logarithms_of_extreme_numbers():
    numbers = [1e-300, 1e-20, 0.5, 1 - 2**-53, 1.0, 1 + 2**-52, 2.0, 1e20, 1e300, np.inf, 0.0, -1.0]
    expected = torch.log(torch.tensor(numbers, dtype=torch.float64)).numpy()
    np.testing.assert_allclose(values(torch.log, numbers), expected, rtol=2e-15)


def test_sigmoid_tanh_and_exp_to_the_last_digits():
    numbers = np.concatenate([np.linspace(-39, 39, 160), np.linspace(-1, 1, 41)])
    wide = numbers.astype(np.longdouble)
    for function, expected in (
        (torch.sigmoid, 1 / (1 + np.exp(-wide))),
        (torch.tanh, np.tanh(wide)),
        (torch.exp, np.exp(wide)),
    ):
        found = values(function, numbers)
        np.testing.assert_allclose(found, expected.astype(float), rtol=3e-15, atol=2e-16)


@pytest.mark.parametrize(
    "text, named",
    [
        ("torch.softmax(x * a, 1)", "softmax"),
        ("torch.sin(x * a)", "sin"),
        ("(x * a) ** 4", "pow"),
        ("torch.add(x, a, alpha=2)", "add with alpha"),
        ("(x * a).mean(0).square()", "mean"),
        ("(x * a).T", "t of these"),
        ("(x * a).sum(0) @ m", "sum"),
        ("m * m", "mul of these"),
        ("torch.where(x > 0, x * a, b)", "where"),
    ],
)
def test_an_operation_that_is_not_known_is_named(text, named):
    with pytest.raises(Refused, match=named):
        both(lambda tensors: evaluated(text, tensors).sum(), operands(4, 3, seed=0))
