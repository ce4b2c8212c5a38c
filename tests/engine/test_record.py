"""What cannot be compiled is refused by its name, in a line, and the loop does what it does without
the engine.
"""

import engine

import re

import numpy as np
import pytest
import torch
from loops import BODY, HAND, as_plain, by_hand  # of this folder

pytest.importorskip("llvmlite", reason="llvmlite has no build for this Python")

NET = "model = nn.Sequential(nn.Linear(2, 3), {}, nn.Linear(3, 2)).double()\n"
SGD = "optimizer = optim.SGD(model.parameters(), lr=0.1)\n"

CHANGED = dict(
    setup="""
    from types import SimpleNamespace
    state = SimpleNamespace(k=0)
    def changing():
        for k in range(60):
            state.k = k
            yield X[k], Y[k]
    """,
    items="changing(), steps",
    body=BODY.replace("y)", "y) * 0.9 ** state.k"),
)

SEEN_BY_PYTHON_ALONE = {
    "a print": ("print", dict(after="print(1)")),
    "a counter": ("count", dict(setup="count = 0", after="count += 1\nsaid[:] = [count]")),
    "an if": ("if len", dict(after="if len(said) < 9:\n    said.append(1)")),
    "a list's append": ("said.append", dict(after="said.append(1)")),
    "a module's append": (
        "kept.append",
        dict(setup="kept = nn.ParameterList()", after="kept.append(value.detach())"),
    ),
    "a counter in a tuple": (
        "does not follow: loop.seen",
        dict(setup="", after="loop.seen, z = 1, value"),
    ),
    "a loop in the loop": ("for p in", dict(after="for p in model.parameters():\n    p.grad")),
    "a change of the rate": (
        r"param_groups\[0\]",
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
        "a tensor is carried over",
        dict(
            setup="total = torch.zeros((), dtype=torch.float64)",
            after="total = total + value.detach()",
        ),
    ),
    "a tensor summed up in place": (
        "the update changes a tensor",
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
    "a wrapped function": (
        "calls.append",
        dict(
            functions="""
            import functools
            calls = []
            def counted(function):
                @functools.wraps(function)
                def wrapper(*args):
                    calls.append(1)
                    return function(*args)
                return wrapper
            loss = counted(loss)
            """
        ),
    ),
    "a context": (
        "self.said.append",
        dict(
            functions="""
            import contextlib
            class Timer(contextlib.ContextDecorator):
                def __enter__(self): self.said.append(1)
                def __exit__(self, *_): pass
            """,
            setup="timer = Timer()\ntimer.said = said",
            after="with timer:\n    value.detach()",
        ),
    ),
    "a hook of a module": (
        "<lambda> is not written with def",
        dict(setup="model.register_forward_hook(lambda *_: said.append(1))"),
    ),
    "a hook of the optimizer": (
        "<lambda> is not written with def",
        dict(setup="optimizer.register_step_post_hook(lambda *_: said.append(1))"),
    ),
    "a function that is chosen": (
        r"the call of choose\('a'\)",
        dict(
            functions="CHOICE = {'a': len}\ndef choose(name):\n    return CHOICE[name]",
            after="choose('a')(said)",
        ),
    ),
    "a set that grows": (
        "log",
        dict(setup="log = {'values': set()}", after="log['values'].add(1)\nsaid.count(1)"),
    ),
    "a property": (
        "self.steps",
        dict(
            functions="""
            class Schedule:
                steps = 0
                @property
                def weight(self):
                    self.steps += 1
                    return 0.99**self.steps
            """,
            setup="schedule = Schedule()",
            body=BODY.replace("loss(model, x, y)", "loss(model, x, y) * schedule.weight"),
        ),
    ),
    "the number of the step": (
        "loop.done",
        dict(body=BODY.replace("y)", "y) * 0.99 ** loop.done")),
    ),
    "a number of the iterator, in a function": (
        "k changes",
        dict(
            setup="first, second = X[0], Y[0]\ndef step():\n    return loss(model, first, second) * k",
            items="[1 + k // 9 for k in range(60)]",
            target="k",
            body=BODY.replace("loss(model, x, y)", "step()"),
        ),
    ),
    "a number that the iterator changes": (
        "more than the tensors of the item changes",
        dict(CHANGED),
    ),
    "a rate that the iterator changes": (
        "more than the tensors of the item changes",
        CHANGED
        | dict(
            setup=CHANGED["setup"].replace("state.k =", "optimizer.param_groups[0]['lr'] ="),
            body=BODY,
        ),
    ),
    "a tensor that the iterator fills anew": (
        "more than the tensors of the item changes",
        CHANGED
        | dict(
            setup=CHANGED["setup"]
            .replace("state = SimpleNamespace(k=0)", "point = X[0].clone()")
            .replace("state.k = k", "point.copy_(X[k])"),
            body=BODY.replace("x, y", "point, y"),
        ),
    ),
    "the item of the step before": (
        "more than the tensors of the item changes",
        dict(setup="last = X[0]", body=BODY.replace("x, y", "last, y"), after="last = x"),
    ),
    "a hook of a parameter": (
        "a hook",
        dict(
            functions="def clipped(grad):\n    return grad.clamp(-0.5, 0.5)",
            setup="Y[5:] *= 9\nmodel[0].weight.register_hook(clipped)",
        ),
    ),
    "a hook written in C": ("a hook", dict(setup="model[0].bias.register_hook([].append)")),
    "a hook after a gradient": (
        "a hook",
        dict(setup="model[0].bias.register_post_accumulate_grad_hook([].append)"),
    ),
    "a change in place in a function": (
        r"with torch.no_grad\(\):",
        dict(
            functions="""
            import numpy as np
            table = np.zeros(1)
            def note(model, x, y):
                with torch.no_grad():
                    a = table
                    a += 1
                return loss(model, x, y)
            """,
            body=BODY.replace("loss(", "note("),
        ),
    ),
    "an attribute made in C": (
        "object.__setattr__",
        dict(
            functions="""
            class State:
                def __getattr__(self, name):
                    object.__setattr__(self, "said", name)
                    return 1.0
            """,
            setup="state = State()",
            body=BODY.replace("y)", "y) * state.weight"),
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
            after="",
        ),
    ),
}
UNKNOWN_OPERATIONS = {
    "an item": ("item", dict(after="value.item()")),
    "an f-string": ("f'{value}'", dict(after="f'{value}'")),
    "a comparison": ("value < 1", dict(after="value < 1 and 2")),
    "softplus": ("softplus", dict(setup=NET.format("nn.Softplus()") + SGD)),
    "dropout": ("dropout", dict(setup=NET.format("nn.Dropout()") + SGD)),
    "noise": ("randn", dict(body=BODY.replace("(model, x,", "(model, x + torch.randn(4, 2),"))),
    "an index": (r"x\[:\]", dict(body=BODY.replace("(model, x,", "(model, x[:],"))),
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
        "not all updated in the same way",
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
        "a tensor is carried over",
        dict(body=BODY.replace("optimizer.zero_grad()\n", "")),
    ),
    "another loss that is recorded": (
        "different losses",
        dict(body=BODY.replace("record(value)", "record(value * 2)")),
    ),
    "two losses": (
        "2 calls of backward",
        dict(body=BODY.replace("optimizer.step", "loss(model, y, x).backward()\noptimizer.step")),
    ),
    "a gradient that is clipped": ("clamp in", by_hand("0.1 * w.grad.clamp(-1, 1)")),
    "noise in the update": ("randn_like in", by_hand("0.1 * w.grad + torch.randn_like(w)")),
    "an update by what was before": (
        "mul in",
        by_hand("0.1 * (w.grad + decay)", "decay = 0.1 * w.detach()"),
    ),
    "an item in the update": (
        "more than the tensors of the item changes",
        dict(
            setup="""
            w = torch.randn(2, dtype=torch.float64, requires_grad=True)
            w.grad, X = torch.zeros_like(w), X[:, 0]
            """,
            body=HAND.replace("x @ w", "y * w").format("0.1 * w.grad * x"),
        ),
    ),
    "a gradient under another name": (
        "more than the tensors of the item changes",
        dict(
            setup=by_hand("")["setup"] + "old = w.grad.detach()",
            body=HAND.format("0.1 * (w.grad + old)"),
        ),
    ),
    "an activation in place": (
        "relu before",
        dict(
            setup=NET.format("nn.ReLU(inplace=True)")
            + "for p in model.parameters():\n    p.data.abs_()\nX, Y = X.abs() + 1, Y - 9\n"
            + SGD.replace("0.1", "0.01")
        ),
    ),
    "a result in its operand": ("mul before", dict(body="\ntorch.mul(x, 2, out=x)" + BODY)),
    "data set to zero": ("zero_ before", dict(body="\nx.zero_()" + BODY)),
    "a part without a gradient": (
        "without a gradient",
        dict(
            body="\nwith torch.no_grad():\n    more = torch.relu(-9 - model(x))"
            + BODY.replace("y)", "y + more)")
        ),
    ),
    "a power that is a tensor": (
        "pow",
        dict(
            setup="power = torch.full((4, 2), 2.0).double()",
            body=BODY.replace("loss(model, x, y)", "((model(x) - y) ** power).mean()"),
        ),
    ),
    "a weighted loss": (
        "weight",
        dict(
            setup="w = X[0].abs()",
            body=BODY.replace("loss(model, x, y)", "F.mse_loss(model(x), y, weight=w)"),
        ),
    ),
    "operands by keyword": (
        "mul with other",
        dict(body=BODY.replace("loss(model, x, y)", "torch.mul(loss(model, x, y), other=2)")),
    ),
    "a mean by keyword": (
        "not a sum",
        dict(body=BODY.replace("loss(model, x, y)", "torch.mean(input=model(x))")),
    ),
    "a loss of each point": (
        "not one number",
        dict(
            setup="ones = torch.ones(4, 2).double()",
            body=BODY.replace("loss(model, x, y)", "(model(x) - y).square()")
            .replace("backward()", "backward(ones)")
            .replace("(value)", "(value.sum())"),
        ),
    ),
    "no points": (
        "shape",
        dict(
            setup="X, Y = X[:, :0], Y[:, :0]",
            body=BODY.replace("loss(model, x, y)", "(model(x) - y).sum()"),
        ),
    ),
    "a mean that is squared": (
        "mean over the points",
        dict(body=BODY.replace("loss(model, x, y)", "model(x).mean().square()")),
    ),
    "a penalty on the weights": (
        "over the points",
        dict(
            setup="first = model[0]",
            body=BODY.replace("y)", "y) + first.weight.square().sum()"),
        ),
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


@pytest.mark.parametrize(
    "over, target",
    [("enumerate(loop)", "k, (x, y)"), ("zip(loop, X)", "(x, y), _"), ("iter(loop)", "x, y")],
)
def test_a_loop_over_something_else(tmp_path, over, target):
    """What goes on beside the loop's own items would stand still."""
    assert_refused(tmp_path, "goes over", over=over, target=target)


def test_items_in_one_tensor_that_is_filled_anew(tmp_path):
    functions = """
    def refilled(items):
        x, y = torch.empty(2, 4, 2, dtype=torch.float64)
        for a, b in items:
            yield x.copy_(a), y.copy_(b)
    """
    setup = "items = refilled(list(zip(X, Y)))"
    assert as_plain(tmp_path, functions=functions, setup=setup, items="items, steps").compiled


ITEMS = {
    "numbers": ("k changes", "range(60)", "k", "loss(model, X, Y) * (k + 1)"),
    "a pair in a pair": ("x changes", "[((x, y), 1) for x, y in zip(X, Y)]", "(x, y), _", None),
    "dictionaries": ("b.get", "[{'x': x} for x in X]", "b", "loss(model, b.get('x'), Y)"),
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


def test_a_loop_in_a_string():
    """It has no source to read, and its module no name."""
    names = {"engine": engine, "torch": torch, "w": torch.ones(2, 2, requires_grad=True)}
    step = "w.square().sum().backward()"
    exec(f"loop = engine.steps(range(9))\nfor _ in loop:\n    {step}", names)
    assert names["loop"].how == "not compiled: the source of the loop is not available"
