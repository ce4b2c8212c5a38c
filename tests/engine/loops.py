"""A plain training loop as a file, for tests that change a line of it: the engine reads a loop's
source.
"""

import runpy
import textwrap
from types import SimpleNamespace

import numpy as np
import torch
from torch.nn.utils import parameters_to_vector

LOOP = """
import engine
import torch
import torch.nn.functional as F
from torch import nn, optim

{functions}

def train(compile, steps):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 3), nn.Sigmoid(), nn.Linear(3, 2)).double()
    X, Y = torch.randn(2, steps, 4, 2, dtype=torch.float64)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    said = []
{setup}
    loop = engine.steps({items}, compile=compile)
    for {target} in {over}:
{body}
    return loop, model, said, locals()
"""
FUNCTIONS = """
def loss(model, x, y):
    return 0.5 * (model(x) - y).square().sum() / len(x)
"""
BODY = """
value = loss(model, x, y)
optimizer.zero_grad()
value.backward()
optimizer.step()
loop.record(value)
"""
HAND = """
value = (torch.tanh(x @ w) - y).square().mean()
w.grad.zero_()
value.backward()
with torch.no_grad():
    w -= {}
loop.record(value)
"""


def by_hand(change, before=""):
    """The parts of a loop that updates a matrix by hand."""
    setup = """
    w = torch.randn(2, 2, dtype=torch.float64, requires_grad=True)
    w.grad = torch.zeros_like(w)
    """
    return dict(setup=setup, body=f"\n{before}{HAND.format(change)}")


def trained(
    folder, compile, *, functions="", setup="", body=BODY, after="", items="list(zip(X, Y))",
    target="x, y", over="loop", steps=60,
):  # fmt: skip
    """Writes such a loop into a folder and runs it: with compile=False as it stands, else compiled
    if it can be.
    """
    text = LOOP.format(
        functions=FUNCTIONS + textwrap.dedent(functions),
        setup=textwrap.indent(textwrap.dedent(setup), " " * 4),
        body=textwrap.indent(body + textwrap.dedent(after), " " * 8),
        items=items,
        target=target,
        over=over,
    )
    file = folder / f"loop{len(list(folder.iterdir()))}.py"
    file.write_text(text)
    loop, model, said, names = runpy.run_path(str(file))["train"](compile, steps)
    parameters = parameters_to_vector(model.parameters()).detach().numpy()
    return SimpleNamespace(loop=loop, parameters=parameters, said=said, names=names)


def as_plain(folder, **parts):
    """Runs a loop as it stands and compiled, and compares all that came of it; returns the latter's
    `Loop`.
    """
    plain, other = trained(folder, False, **parts), trained(folder, True, **parts)
    near = {"rtol": 1e-9, "atol": 1e-12}
    np.testing.assert_allclose(other.loop.losses, plain.loop.losses, **near)
    np.testing.assert_allclose(other.parameters, plain.parameters, **near)
    assert other.said == plain.said and other.loop.done == plain.loop.done
    for name, value in plain.names.items():
        if isinstance(value, torch.Tensor) and name not in ("x", "y"):  # perhaps not drawn
            found = other.names[name].detach().numpy()
            np.testing.assert_allclose(found, value.detach().numpy(), **near)
    return other.loop
