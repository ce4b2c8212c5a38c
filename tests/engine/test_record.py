"""What cannot be compiled is refused by its name, in a line, and the loop does what it does without the engine."""

import re

import numpy as np
import pytest
from loops import BODY, as_plain  # of this folder

pytest.importorskip("llvmlite", reason="llvmlite has no build for this Python")

NET = "model = nn.Sequential(nn.Linear(2, 3), {}, nn.Linear(3, 2)).double()\n"
SGD = "optimizer = optim.SGD(model.parameters(), lr=0.1)\n"

SEEN_BY_PYTHON_ALONE = {
    "a print": ("print", dict(after="print(1)")),
    "a counter": ("count", dict(setup="count = 0", after="count += 1\nsaid[:] = [count]")),
    "an if": ("if len", dict(after="if len(said) < 9:\n    said.append(1)")),
    "a list's append": ("said.append", dict(after="said.append(1)")),
    "a loop in the loop": ("for p in", dict(after="for p in model.parameters():\n    p.grad")),
    "a change of the rate": (
        r"param_groups\[0\].update",
        dict(after="optimizer.param_groups[0].update(lr=optimizer.param_groups[0]['lr'] * 0.9)"),
    ),
    "a rate set": ("param_groups", dict(after="optimizer.param_groups[0]['lr'] *= 0.99")),
    "a schedule": (
        "scheduler.step",
        dict(
            setup="scheduler = optim.lr_scheduler.ExponentialLR(optimizer, 0.9)",
            after="scheduler.step()",
        ),
    ),
    "a tensor carried over": (
        "total is carried",
        dict(
            setup="total = torch.zeros((), dtype=torch.float64)",
            after="total = total + value.detach()",
        ),
    ),
    "a tensor summed up in place": (
        "a tensor is changed",
        dict(setup="total = torch.zeros((), dtype=torch.float64)", after="total += value.detach()"),
    ),
    "a function that counts": (
        "log.append",
        dict(
            functions="def note(model, x, y, log):\n    log.append(1)\n    return loss(model, x, y)",
            body=BODY.replace("loss(model, x, y)", "note(model, x, y, said)"),
        ),
    ),
    "a function with a global": (
        "global",
        dict(
            functions="""
            calls = 0
            def note(model, x, y):
                global calls
                calls += 1
                return loss(model, x, y)
            """,
            body=BODY.replace("loss(", "note("),
        ),
    ),
    "a module that counts": (
        "self.calls",
        dict(
            functions="""
            class Counting(nn.Module):
                calls = 0
                def forward(self, x):
                    self.calls += 1
                    return x.sigmoid()
            """,
            setup=NET.format("Counting()") + SGD,
            after="model[1].calls\n",
        ),
    ),
}
UNKNOWN_OPERATIONS = {
    "an item": ("item", dict(after="value.item()")),
    "an f-string": ("__format__|item", dict(after="f'{value}'")),
    "a comparison": ("__bool__|lt", dict(after="value < 1 and 2")),
    "softplus": ("softplus", dict(setup=NET.format("nn.Softplus()") + SGD)),
    "dropout": ("dropout", dict(setup=NET.format("nn.Dropout()") + SGD)),
    "noise": ("randn", dict(body=BODY.replace("(model, x,", "(model, x + torch.randn(4, 2),"))),
    "an index": ("__getitem__", dict(body=BODY.replace("(model, x,", "(model, x[:],"))),
    "a detached part": ("detach", dict(body=BODY.replace("y)", "y.detach() * model(x).detach())"))),
    "Adam": ("lerp_ in the update", dict(setup="optimizer = optim.Adam(model.parameters())")),
    "RMSprop": (
        "in the update",
        dict(setup="optimizer = optim.RMSprop(model.parameters())"),
    ),
    "clipping": (
        "in the update",
        dict(
            body=BODY.replace(
                "optimizer.step",
                "nn.utils.clip_grad_value_(model.parameters(), 0.1)\noptimizer.step",
            )
        ),
    ),
    "float32": ("float64", dict(setup="model.float()\nX, Y = X.float(), Y.float()")),
    "a group with another rate": (
        "alike",
        dict(
            setup="""
            optimizer = optim.SGD([
                {"params": model[0].parameters()}, {"params": model[2].parameters(), "lr": 0.2}
            ], lr=0.1)
            """
        ),
    ),
    "a group that is left out": (
        "requires a gradient|no update",
        dict(setup="optimizer = optim.SGD(model[0].parameters(), lr=0.1)"),
    ),
    "gradients that add up": (
        "not the one",
        dict(body=BODY.replace("optimizer.zero_grad()\n", "")),
    ),
    "two losses": (
        "2 calls of backward",
        dict(body=BODY.replace("optimizer.step", "loss(model, y, x).backward()\noptimizer.step")),
    ),
    "a mean that is squared": (
        "mean over the points",
        dict(body=BODY.replace("loss(model, x, y)", "model(x).mean().square()")),
    ),
    "a penalty on the weights": (
        "sum over the points",
        dict(body=BODY.replace("y)", "y) + model[0].weight.square().sum()")),
    ),
}


def assert_refused(folder, named, **parts):
    loop = as_plain(folder, **parts)
    assert not loop.compiled and loop.how.startswith("not compiled: ")
    assert re.search(named, loop.how), loop.how
    assert "\n" not in loop.how and np.isfinite(loop.losses).all()


@pytest.mark.parametrize(
    "named, parts",
    [*SEEN_BY_PYTHON_ALONE.values(), *UNKNOWN_OPERATIONS.values()],
    ids=[*SEEN_BY_PYTHON_ALONE, *UNKNOWN_OPERATIONS],
)
def test_refused_by_name(tmp_path, named, parts):
    assert_refused(tmp_path, named, **parts)


ITEMS = {
    "numbers": ("k changes", "range(60)", "k", "loss(model, X[0], Y[0]) * (k + 1)"),
    "a pair in a pair": ("x changes", "[((x, y), 1) for x, y in zip(X, Y)]", "(x, y), _", None),
    "dictionaries": ("b changes", "[{'x': x} for x in X]", "b", "loss(model, b['x'], Y[0])"),
    "arrays": (
        "x changes",
        "list(zip(X.numpy(), Y.numpy()))",
        "x, y",
        "loss(model, torch.from_numpy(x), torch.from_numpy(y))",
    ),
}


@pytest.mark.parametrize("named, items, target, value", ITEMS.values(), ids=ITEMS)
def test_items_that_are_not_tensors(tmp_path, named, items, target, value):
    """A number that changes from step to step would else be taken for a constant."""
    body = BODY.replace("loss(model, x, y)", value or "loss(model, x, y)")
    assert_refused(tmp_path, named, items=items, target=target, body=body)
