"""What a script sees of `Run`: its random numbers, its loop, its files, and what it prints."""

from common import options, program
from common.reports import Report
from common.run import Run, count_of, generator

import json
import os
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import environment
from matplotlib.figure import Figure
from torch import nn, optim

ITEMS = torch.linspace(0.5, 1.5, 7, dtype=torch.float64)[:, None]  # (7, 1)


@pytest.fixture
def script(tmp_path, capfd, monkeypatch):
    """A function that runs a small script: a step multiplies a weight, at first 1, by 1 - 0.2
    item^2.

    It returns what the script saw: `run`, `code`, `stdout`, `stderr`, `folder`.
    """
    for name, value in environment().items():
        monkeypatch.setenv(name, value)

    def call(*words, files=None, figures=None, keep=(0, 2, 7), items=ITEMS, make=optim.SGD):
        parser = options.lecture_parser("A test.", "test", lr=RATE, small=True)
        args = parser.parse_args(["--output-dir", str(tmp_path / "run"), *map(str, words)])
        seen = SimpleNamespace(folder=args.output_dir)

        def main():
            seen.run = run = Run("test", args, images=3)
            model = nn.Linear(1, 1, bias=False, dtype=torch.float64)
            nn.init.ones_(model.weight)
            optimizer = make(model.parameters(), lr=args.lr)
            for item in run.steps(items, 7, model=model, optimizer=optimizer, keep=keep):
                value = (model(item) ** 2).sum()
                optimizer.zero_grad()
                value.backward()
                optimizer.step()
                run.record(value)
            run.finish({"answer": 42}, Report(figures or {}, "a table", "a summary", files or {}))

        seen.code = program.outcome(main)
        seen.stdout, seen.stderr = capfd.readouterr()
        return seen

    return call


RATE = 0.1
WEIGHTS = np.cumprod([1, *(1 - 2 * RATE * ITEMS[:, 0].numpy() ** 2)])  # after 0, 1, ..., 7 steps
LOSSES = (ITEMS[:, 0].numpy() * WEIGHTS[:-1]) ** 2


def test_random_numbers_are_of_a_seed_and_a_purpose():
    first = torch.randn(5, generator=generator(3, "model"))
    torch.manual_seed(1)
    assert torch.equal(torch.randn(5, generator=generator(3, "model")), first)
    for other in (generator(4, "model"), generator(3, "pairs")):
        assert not torch.equal(torch.randn(5, generator=other), first)


@pytest.mark.parametrize("engine", ["eager", "compiled"])
@pytest.mark.parametrize("step", [1, 2, 4, 7])
def test_a_loss_that_is_not_finite_ends_the_loop_at_its_step(script, monkeypatch, engine, step):
    """Also the first, the last, and a compiled one."""
    items = ITEMS.clone()
    items[step - 1] = torch.nan
    seen = script("--engine", engine, keep=range(8), items=items)
    assert seen.code == 1 and f"error: the loss is not finite at step {step} with" in seen.stderr
    assert (seen.run.done, seen.run.ended) == (step, "diverged")
    assert seen.run.ending == f"diverged at step {step} of 7" and "a summary" in seen.stdout
    assert np.isnan(seen.run.losses).tolist() == [False] * (step - 1) + [True]
    assert len(seen.run.kept) == step + 1
    results = json.loads((seen.folder / "metrics.json").read_text())["results"]
    assert (results["steps"], results["engine"]) == (step, "eager" if step < 3 else engine)


def test_all_that_was_recorded_is_kept_written_and_then_printed(script):
    more = {"film.gif": b"GIF", "data.npz": {"x": np.eye(2)}}
    seen = script(figures={"loss": Figure()}, files=more)
    assert seen.code == 0, seen.stderr
    assert (seen.run.done, seen.run.ended, seen.run.ending) == (7, "finished", "7 steps")
    np.testing.assert_allclose(seen.run.losses, LOSSES, rtol=1e-12)
    np.testing.assert_allclose(seen.run.kept[:, 0], WEIGHTS[[0, 2, 7]], rtol=1e-12)
    before, after = (torch.load(seen.folder / f"{name}.pt") for name in ("model_initial", "model"))
    assert before["weight"].item() == 1 and after["weight"].item() == seen.run.kept[-1]
    names = ["data.npz", "film.gif", "loss.png", "losses.npy", "model.pt", "model_initial.pt"]
    assert {path.name for path in seen.folder.glob("[!.]*")} == {*names, "metrics.json"}
    metrics = json.loads((seen.folder / "metrics.json").read_text())
    assert metrics["script"] == "test" and metrics["files"] == names
    assert metrics["config"].items() >= {"images": 3, "lr": RATE, "device": "cpu"}.items()
    assert metrics["results"].items() >= {"answer": 42, "steps": 7, "ended": "finished"}.items()
    said = seen.stdout.splitlines()
    assert said[-3:] == ["a table", "a summary", f"figures and numbers: {seen.folder}"]


def test_an_optimizer_with_a_state_goes_on_where_it_was(script):
    """Also where the engine, which does not know it, has recorded a step in vain."""

    def pressed():
        for number, item in enumerate(ITEMS, 1):
            if number == 4:
                os.kill(os.getpid(), signal.SIGINT)
            yield item

    whole = script(make=optim.RMSprop)
    assert script(make=optim.RMSprop, items=pressed()).code == 130
    resumed = script("--resume", make=optim.RMSprop)
    assert "resumed: 4 of 7" in resumed.stdout and "engine: not compiled" in resumed.stdout
    assert resumed.run.losses.tolist() == whole.run.losses.tolist()
    metrics = json.loads((resumed.folder / "metrics.json").read_text())
    training = 1e6 * metrics["seconds"]["training"] / 3  # steps of this process
    assert metrics["results"]["microseconds_per_step"] == pytest.approx(training)


def test_what_an_earlier_run_left_is_gone_and_nothing_else(script):
    folder = script(figures={"loss": Figure(), "regions": Figure()}).folder
    (folder / "notes.txt").write_text("a user's own")
    script("--format", "svg", figures={"loss": Figure()})
    assert {path.stem for path in folder.glob("*.*g")} == {"loss"}
    assert not (folder / "loss.png").exists() and (folder / "notes.txt").exists()


def test_a_number_of_things():
    assert count_of(1, "step") == "1 step" and count_of(10_000, "image") == "10,000 images"
