"""A loop that compiles itself ends as it would have ended uncompiled, and a resumed one with the
same bits.
"""

import engine
from engine import starts
from engine.record import Refused, Tape, understand

import copy
import itertools
import re
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from loops import BODY, as_plain, by_hand, trained  # of this folder
from torch import nn, optim
from torch.nn.utils import parameters_to_vector

pytestmark = pytest.mark.numbers  # again by make test-arithmetic

pytest.importorskip("llvmlite", reason="llvmlite has no build for this Python")

PROJECT = Path(__file__).resolve().parents[2]

OPTIMIZERS = [
    "lr=0.1", "lr=0.05, momentum=0.9", "lr=0.05, momentum=0.9, nesterov=True", "lr=0.1, weight_decay=0.01",
    "lr=0.05, momentum=0.8, dampening=0.3", "lr=0.05, momentum=0.9, weight_decay=0.1, nesterov=True",
]  # fmt: skip


@pytest.mark.parametrize("options", OPTIMIZERS)
def test_the_options_of_sgd(tmp_path, options):
    loop = as_plain(tmp_path, setup=f"optimizer = optim.SGD(model.parameters(), {options})")
    assert loop.compiled and loop.how == "steps 3 to 59 compiled"


LOSSES = [
    "3 * loss(model, x, y)", "F.mse_loss(model(x), y)", "(model(x) - y).abs().mean()",
    "((model(x) - y) ** 2).sum(1).mean()", "((model(x) - y) ** 2).mean(0).sum() / 2",
    "-torch.log(torch.sigmoid(model(x) * y)).mean()", "loss(model, X[0], Y[0])",
    "(model(x).exp().sum(-1).log() - (model(x) * y).sum(-1)).mean()", "nn.MSELoss()(model(x), y)",
]  # fmt: skip


@pytest.mark.parametrize("value", LOSSES)
def test_losses(tmp_path, value):
    body = BODY.replace("loss(model, x, y)", value)
    setup = "first, second = X[0], Y[0]"
    body = body.replace("X[0], Y[0]", "first, second")
    assert as_plain(tmp_path, setup=setup, body=body).compiled


def test_a_module_and_a_function_of_ones_own(tmp_path):
    functions = """
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(2, 3), nn.Linear(3, 2, bias=False)

        def forward(self, x):
            hidden = torch.tanh(self.first(x))
            return self.out(hidden)

        def out(self, hidden):
            return self.second(hidden)
    """
    setup = "model = Net().double()\noptimizer = optim.SGD(model.parameters(), lr=0.1)"
    assert as_plain(tmp_path, functions=functions, setup=setup).compiled


@pytest.mark.parametrize("change", ["0.1 * w.grad", "0.1 * w.grad / 4", "w.grad.div_(9)"])
def test_an_update_by_hand(tmp_path, change):
    assert as_plain(tmp_path, **by_hand(change)).compiled


def test_the_last_step_runs_as_it_stands(tmp_path):
    result = trained(tmp_path, True)
    assert result.loop.compiled and result.names["x"] is not None
    assert torch.equal(result.names["x"], result.names["X"][-1])
    assert result.names["value"].item() == result.loop.losses[-1]


def loss(model, x, y):
    return (model(x) - y).square().mean()


POINTS, LABELS = torch.randn(2, 5, 2, generator=torch.Generator().manual_seed(1)).double()


def parts(momentum=0.9, widths=(2, 3, 2), seed=0):
    torch.manual_seed(seed)
    layers = [[nn.Linear(n, m), nn.Tanh()] for n, m in itertools.pairwise(widths)]
    model = nn.Sequential(*itertools.chain(*layers)).double()
    return model, optim.SGD(model.parameters(), lr=0.1, momentum=momentum)


def steps(loop, model, optimizer, fresh=False):
    """Makes the steps of a loop, on its data or on those of this file."""
    if fresh:
        for x, y in loop:
            value = loss(model, x, y)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            loop.record(value)
    else:
        for _ in loop:
            value = loss(model, POINTS, LABELS)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            loop.record(value)


def pairs(count):
    generator = torch.Generator().manual_seed(2)
    for _ in range(count):
        yield tuple(torch.randn(2, 5, 2, generator=generator, dtype=torch.float64))


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("stop", [0, 1, 2, 3, 4, 50, 297, 298, 299, 300])
def test_a_resumed_loop_has_the_same_bits(stop, fresh):
    model, optimizer = parts()
    whole = engine.steps(pairs(300), 300)
    steps(whole, model, optimizer, fresh)
    expected = parameters_to_vector(model.parameters())

    model, optimizer = parts()
    begun = engine.steps(pairs(300), 300, stops=[stop], after=lambda: begun.done >= stop)
    if stop:
        steps(begun, model, optimizer, fresh)
    assert begun.done == stop
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))

    model, optimizer = parts(seed=9)

    def restore():
        model.load_state_dict(saved[0])
        optimizer.load_state_dict(copy.deepcopy(saved[1]))

    restore()
    resumed = engine.steps(pairs(300), 300, done=stop, losses=begun.losses.copy(), restore=restore)
    steps(resumed, model, optimizer, fresh)
    assert resumed.losses.tobytes() == whole.losses.tobytes() and resumed.done == 300
    assert torch.equal(parameters_to_vector(model.parameters()), expected)
    assert resumed.compiled and resumed.how == "steps 3 to 299 compiled"


def test_a_resumed_loop_that_is_not_compiled_makes_no_step_too_many():
    results = []
    for done in (0, 7):
        model, optimizer = parts()
        start = engine.steps(pairs(20), done, compile=False)
        steps(start, model, optimizer, fresh=True)
        saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))

        def restore(model=model, optimizer=optimizer, saved=saved):
            model.load_state_dict(saved[0])
            optimizer.load_state_dict(saved[1])

        loop = engine.steps(pairs(20), 20, done=done, restore=restore)
        for x, y in loop:
            value = loss(model, x, y)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            len(f"{value}")
            loop.record(value)
        assert not loop.compiled and loop.done == 20
        results.append((parameters_to_vector(model.parameters()), loop.losses[7:].tobytes()))
    assert torch.equal(results[0][0], results[1][0]) and results[0][1] == results[1][1]


def test_data_that_nobody_looks_at_are_not_drawn():
    drawn = []

    def items():
        for pair in pairs(10**6):
            drawn.append(1)
            yield pair

    loop = engine.steps(items(), 10**6)
    steps(loop, *parts())
    assert loop.compiled and loop.done == 10**6 and len(drawn) == 3


@pytest.mark.parametrize(
    "count, how", [(3, "not compiled: too few steps"), (4, "steps 3 to 3 compiled")]
)
def test_a_loop_of_few_steps(count, how):
    loop = engine.steps(pairs(count), count)
    steps(loop, *parts(), fresh=True)
    assert loop.how == how and loop.compiled == how.startswith("steps") and loop.done == count


@pytest.mark.parametrize("there", [0, 1, 2, 3, 4, 150])
def test_items_that_run_out_end_the_loop(there):
    results = []
    for compile in (False, True):
        model, optimizer = parts()
        loop = engine.steps(pairs(there), 1_000, compile=compile)
        steps(loop, model, optimizer, fresh=True)
        results.append(parameters_to_vector(model.parameters()).detach())
        assert loop.done == there and np.isfinite(loop.losses).sum() == there
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-12)


def test_the_parameters_after_each_step():
    kept = []
    for compile in (False, True):
        model, optimizer = parts()
        kept.append(np.zeros((500, 17)))
        loop = engine.steps(
            pairs(500), 500, compile=compile, parameters=list(model.parameters()), iterates=kept[-1]
        )
        steps(loop, model, optimizer, fresh=True)
        assert loop.compiled == compile
        now = parameters_to_vector(model.parameters()).detach().numpy()
        np.testing.assert_array_equal(kept[-1][-1], now)
    np.testing.assert_allclose(kept[1], kept[0], rtol=1e-9, atol=1e-9)


def test_up_to_date_whenever_it_calls_after():
    """Checkpoints, the bar and what is kept for figures are made there."""
    model, optimizer = parts()
    seen = {}

    def after():
        seen[loop.done] = parameters_to_vector(model.parameters()).detach().clone()
        assert np.isfinite(loop.losses[: loop.done]).all()
        assert np.isnan(loop.losses[loop.done :]).all()
        return loop.done >= 700

    loop = engine.steps(range(1_000), stops=[5, 6, 333, 700], after=after)
    steps(loop, model, optimizer)
    assert loop.compiled and loop.done == 700 and {1, 2, 5, 6, 333, 700} <= set(seen)
    model, optimizer = parts()
    steps(engine.steps(range(333), compile=False), model, optimizer)
    plain = parameters_to_vector(model.parameters()).detach()
    torch.testing.assert_close(seen[333], plain, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("seconds, steps", [(1e-5, 10_000), (1e-3, 100), (1 / 64, 6)])
def test_compiled_code_is_called_ten_times_a_second(monkeypatch, seconds, steps):
    now, sizes = [0.0], []
    monkeypatch.setattr(starts, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    for rows in starts.chunks(7, 50_000):
        sizes.append(rows.stop - rows.start)
        now[0] += sizes[-1] * seconds
    assert sum(sizes) == 50_000 - 7 and sizes[0] == 100 and sizes[-2] == steps


@pytest.mark.parametrize("rate, ends", [(30.0, "compiled"), (1e200, "as it stands")])
def test_divergence_ends_the_loop_at_its_step(rate, ends):
    results = []
    for compile in (False, True):
        torch.manual_seed(0)
        model = nn.Linear(2, 2).double()
        optimizer = optim.SGD(model.parameters(), lr=rate)
        loop = engine.steps(range(10_000), compile=compile)
        steps(loop, model, optimizer)
        assert loop.diverged and loop.compiled == (compile and ends == "compiled")
        assert not np.isfinite(loop.losses[loop.done - 1])
        results.append((loop.done, loop.losses[: loop.done - 1]))
    assert results[0][0] == results[1][0] < 10_000
    np.testing.assert_allclose(results[1][1], results[0][1], rtol=1e-9)


def test_a_network_too_large_is_refused():
    """Its size is looked at when the step is recorded, before seconds are spent on compiling it."""
    for width, parameters in ((399, 1997), (400, 2002)):
        model, optimizer = parts(momentum=0, widths=(2, width, 2))
        with Tape() as tape:
            value = model(POINTS).square().sum()
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        if parameters > 2000:
            with pytest.raises(Refused, match="2,002 parameters"):
                understand(tape, None)
        else:
            assert understand(tape, None).step.parameters == parameters


def test_items_of_another_shape():
    """As a last, smaller batch: from there on the loop runs as it stands."""
    items = [*pairs(20)]
    items[10] = (items[10][0][:3], items[10][1][:3])
    compiled, plain = (engine.steps(items, compile=compile) for compile in (True, False))
    for loop in (compiled, plain):
        steps(loop, *parts(), fresh=True)
    assert compiled.how == "steps 3 to 10 compiled" and compiled.done == 20
    np.testing.assert_allclose(compiled.losses, plain.losses, rtol=1e-12)


EDITS = {
    "none": ("", "", True),
    "loss times 3": ("return 0.5 *", "return 3 * 0.5 *", True),
    "mean instead of sum / 10": (
        ".square().sum() / len(points)",
        ".square().mean()",
        True,
    ),
    "absolute error": (".square().sum()", ".abs().sum()", True),
    "relu for sigmoid": ("nn.Sigmoid(),  # L", "nn.ReLU(),  # L", True),
    "momentum": ("lr=args.lr)", "lr=args.lr, momentum=0.9)", True),
    "half the rate": ("lr=args.lr)", "lr=args.lr / 2)", True),
    "a print every 1,000 steps": (
        "        run.record(value)\n",
        "        run.record(value)\n        if run.done % 1000 == 0:\n            print('now', value.item())\n",
        False,
    ),
}


@pytest.mark.parametrize("old, new, compiled", EDITS.values(), ids=EDITS)
def test_an_edit_of_the_lecture_is_what_runs(tmp_path, monkeypatch, capsys, old, new, compiled):
    """The script as a student edits it, up to its results: it changes as it does without the
    engine.
    """
    source = (PROJECT / "lectures" / "ann_revisited.py").read_text()
    assert old in source
    lecture, _ = source.replace(old, new).split("    # Results")
    end = "    return run\n\n\nrun = main()\nlosses, how = run.losses, run._loop.how\n"
    script = tmp_path / "edited.py"
    script.write_text(lecture + end)
    losses, how, prints = {}, {}, {}
    for kind in ("eager", "auto"):
        options = ["--steps", "3000", "--engine", kind, "--output-dir", str(tmp_path / kind)]
        monkeypatch.setattr(sys, "argv", [str(script), *options])
        names = runpy.run_path(str(script))
        losses[kind], how[kind] = names["losses"], names["how"]
        prints[kind] = capsys.readouterr().out.count("now")
    np.testing.assert_allclose(losses["auto"], losses["eager"], rtol=1e-9)
    refusal = "not compiled: the engine does not follow: if run.done % 1000 == 0:"
    assert how["auto"] == ("steps 3 to 2,999 compiled" if compiled else refusal)
    assert prints["auto"] == prints["eager"] == (0 if compiled else 3)


def test_the_example_of_the_page_knows_every_loss(tmp_path):
    """docs/engine.md, whose loop tells no loss: they are those of backward()."""
    page = (PROJECT / "docs" / "engine.md").read_text(encoding="utf-8")
    example = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1]
    x_train, y_train = torch.randn(2, 50, 2, generator=torch.Generator().manual_seed(0)).double()
    model, optimizer = parts(widths=(2, 2))
    names = {"engine": engine, "x_train": x_train, "y_train": y_train, "model": model}
    file = tmp_path / "example.py"
    file.write_text(example)
    ran = runpy.run_path(str(file), init_globals=names | {"optimizer": optimizer})
    assert ran["loop"].how == "steps 3 to 49 compiled"
    assert np.isfinite(ran["loop"].losses).all() and ran["loop"].losses.shape == (50,)
