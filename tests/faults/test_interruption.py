"""Ctrl-C, SIGTERM, SIGKILL and divergence: what is saved, and what --resume makes of it.

Signals come at a certain step, not after a time, so that none of this depends on how fast the machine is.
"""

import importlib
import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import PROJECT, environment
from helpers import (
    SCRIPTS,
    at_call,
    content,
    in_pieces,
    load_state,
    no_figures,
    press,
    results_of,
    write_digits,
)
from PIL import Image

CHECKPOINT = "checkpoint.pt"

RUNS = {  # all of 60 steps
    "linear, eager": ("linear_recovery", "--samples", 60, "--engine", "eager"),
    "linear, fused": ("linear_recovery", "--samples", 60, "--engine", "fused"),
    "network, eager": ("ann_revisited", "--steps", 60, "--engine", "eager"),
    "network, fused": ("ann_revisited", "--steps", 60, "--engine", "fused"),
    "one batch": ("mnist_mlp", "--images", 40, "--epochs", 60, "--hidden", 8),
    "batches": (
        "mnist_mlp",
        "--images",
        "all",
        "--epochs",
        20,
        "--batch-size",
        25,
        "--hidden",
        8,
        "--schedule",
        "one-cycle",
        "--lr",
        0.01,
        "--weight-decay",
        1e-3,
    ),
}
PLAIN = [name for name in RUNS if "fused" not in name]


@pytest.fixture
def start(run_here, monkeypatch, tmp_path):
    """A function that makes one of RUNS in this process, and at a certain step of it does something.

    `at` counts the steps from this call on, one of the plain loop's or, with the engine, a multiple of ten: the act
    comes while that step is made. The result also has `made`, the number of steps made by this call.
    """
    write_digits(tmp_path / "data")
    monkeypatch.setenv("MNIST_ROOT", str(tmp_path / "data"))
    no_figures(monkeypatch)

    def call(name: str, *more, at: int = 0, act=press):
        script, *options = RUNS[name]
        with monkeypatch.context() as patch:
            if "fused" in name:
                calls = in_pieces(patch, 10, at // 10, act)
            else:
                calls = at_call(patch, importlib.import_module(f"lectures.{script}"), at, act)
            done = run_here(script, "--quiet", *options, *more)
        done.made = sum(calls) if "fused" in name else len(calls)
        return done

    return call


def assert_error(done, *said: str) -> None:
    """A run that ended with 1 and one line that says what was wrong."""
    assert done.returncode == 1 and done.stderr.startswith("error: "), (
        done.returncode,
        done.stdout,
        done.stderr,
    )
    assert done.stderr.count("\n") == 1, done.stderr
    for part in said:
        assert part in done.stderr


# Ctrl-C and SIGTERM.


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("name", RUNS)
def test_what_was_computed_is_saved(start, name, number, code):
    whole = start(name)
    assert whole.returncode == 0, whole.stderr
    losses, initial = (
        np.load(whole.folder / "losses.npy"),
        load_state(whole.folder / "model_initial.pt"),
    )
    shutil.rmtree(whole.folder)
    done = start(name, at=20, act=lambda: press(number))
    assert (
        done.returncode == code
        and done.stderr.startswith("interrupted: ")
        and done.stderr.count("\n") == 1
    )
    results = done.metrics["results"]
    assert results["ended"] == "interrupted" and results["steps"] == 20
    assert np.load(done.folder / "losses.npy").tobytes() == losses[:20].tobytes()
    assert (done.folder / CHECKPOINT).exists() and (done.folder / "loss.png").exists()
    for key, array in load_state(done.folder / "model_initial.pt").items():
        np.testing.assert_allclose(array, initial[key], rtol=1e-12, atol=1e-13)
        assert (load_state(done.folder / "model.pt")[key] != array).any()


def test_the_model_of_an_interrupted_run_is_the_one_after_its_last_step(start, run_here):
    done = start("network, eager", at=20)
    model = load_state(done.folder / "model.pt")
    shorter = load_state(
        run_here("ann_revisited", "--steps", 20, "--engine", "eager").folder / "model.pt"
    )
    assert all((model[key] == shorter[key]).all() for key in model)


@pytest.mark.parametrize("name", RUNS)
def test_a_second_request_ends_the_run_at_once(start, name):
    def twice():
        press()
        press()

    done = start(name, at=20, act=twice)
    assert (
        done.returncode == 130
        and done.stderr.startswith("interrupted")
        and done.stderr.count("\n") == 1
    )
    assert done.made <= 20 and not (done.folder / "losses.npy").exists()


@pytest.mark.parametrize("name", RUNS)
def test_a_job_scheduler_asks_more_than_once(start, name):
    def twice():
        press(signal.SIGTERM)
        press(signal.SIGTERM)

    done = start(name, at=20, act=twice)
    assert done.returncode == 143 and done.stderr.count("\n") == 1
    assert done.metrics["results"]["ended"] == "interrupted" and (done.folder / CHECKPOINT).exists()


@pytest.mark.parametrize(
    "script, function",
    [
        ("linear_recovery", "training_data"),
        ("ann_revisited", "random_model"),
        ("mnist_mlp", "glorot_model"),
    ],
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_before_training_there_is_nothing_to_save(
    run_here, monkeypatch, tmp_path, script, function, number
):
    module = importlib.import_module(f"lectures.{script}")
    write_digits(tmp_path / "data")
    monkeypatch.setenv("MNIST_ROOT", str(tmp_path / "data"))
    drawn = getattr(module, function)
    monkeypatch.setattr(module, function, lambda *values: (press(number), drawn(*values))[1])
    done = run_here(script, *(["--images", 50] if script == "mnist_mlp" else []))
    assert done.returncode == 128 + number and done.stderr.count("\n") == 1
    assert done.stderr.startswith("interrupted: nothing was saved") and done.metrics is None


# --resume.


@pytest.mark.parametrize("name", RUNS)
def test_a_resumed_run_equals_an_uninterrupted_one(start, name):
    whole = start(name)
    assert whole.returncode == 0, whole.stderr
    files, results = content(whole.folder), results_of(whole)
    assert results["ended"] == "finished" and results["steps"] == 60 and whole.made >= 60
    shutil.rmtree(whole.folder)

    assert start(name, "--resume", at=20).returncode == 130  # there is nothing yet: it begins
    again = start(name, "--resume", at=10)
    assert again.returncode == 130 and again.metrics["results"]["steps"] == 30
    done = start(name, "--resume")
    assert done.returncode == 0, done.stderr
    assert "30" in done.stdout + done.stderr  # where it goes on
    assert content(done.folder) == files and results_of(done) == results
    assert (
        30 <= done.made <= 33
    )  # it went on, and did not begin anew; the loss is also computed for the results
    assert not (done.folder / CHECKPOINT).exists()


@pytest.mark.parametrize("script", SCRIPTS)
def test_where_there_is_nothing_it_begins_and_says_so(start, script):
    name = next(name for name in RUNS if RUNS[name][0] == script)
    plain = start(name)
    files = content(plain.folder)
    shutil.rmtree(plain.folder)
    done = start(name, "--resume")
    assert done.returncode == 0 and content(done.folder) == files
    said = (done.stdout + done.stderr).lower()
    assert "no checkpoint" in said and "begin" in said
    assert "checkpoint" not in (plain.stdout + plain.stderr).lower()


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_complete_run_says_so_and_is_not_made_again(start, script):
    name = next(name for name in RUNS if RUNS[name][0] == script)
    first = start(name)
    before = {
        path.name: path.read_bytes() for path in first.folder.iterdir() if path.name[0] != "."
    }
    done = start(name, "--resume")
    assert done.returncode == 0 and done.made == 0, done.stderr
    assert "complete" in done.stdout + done.stderr
    assert {
        path.name: path.read_bytes() for path in done.folder.iterdir() if path.name[0] != "."
    } == before


@pytest.mark.parametrize("script", SCRIPTS)
def test_another_run_s_results_are_not_called_complete(start, script):
    name = next(name for name in RUNS if RUNS[name][0] == script)
    files = content(start(name).folder)
    done = start(name, "--resume", "--seed", 7)
    assert done.returncode == 1 or content(done.folder) != files


@pytest.mark.parametrize("name", RUNS)
def test_checkpoints_are_kept_during_training(start, monkeypatch, tmp_path, name):
    """The folder as a kill in the middle of training would leave it is enough to go on from."""
    run = importlib.import_module("common.run")
    whole = start(name)
    files, results = content(whole.folder), results_of(whole)
    shutil.rmtree(whole.folder)
    with monkeypatch.context() as patch:
        patch.setattr(run.Run, "CHECKPOINT_SECONDS", 0)
        done = start(name, at=40, act=lambda: shutil.copytree(whole.folder, tmp_path / "killed"))
    assert done.returncode == 0 and content(done.folder) == files  # keeping them changes nothing
    assert {path.name for path in (tmp_path / "killed").iterdir()} - {".lock", ".owner"} == {
        CHECKPOINT
    }
    done = start(name, "--resume", "--output-dir", tmp_path / "killed")
    assert done.returncode == 0, done.stderr
    assert content(tmp_path / "killed") == files and done.made <= 60 - 30 + 3
    metrics = json.loads((tmp_path / "killed" / "metrics.json").read_text())
    assert {key: metrics["results"][key] for key in results} == results


def test_checkpoints_are_not_kept_at_every_step(start, monkeypatch):
    run = importlib.import_module("common.run")
    assert 1 <= run.Run.CHECKPOINT_SECONDS <= 60
    written, replace = [], os.replace
    monkeypatch.setattr(
        os,
        "replace",
        lambda source, path, **more: (
            written.append(Path(path).name),
            replace(source, path, **more),
        )[1],
    )
    start("network, eager")
    assert written and CHECKPOINT not in written


OTHERS = {
    "linear, eager": [
        ("--lr", 0.02),
        ("--seed", 1),
        ("--samples", 70),
        ("--noise", 0.1),
        ("--low", 4.0),
        ("--high", 9.0),
        ("--raw",),
        ("--engine", "fused"),
    ],
    "network, eager": [("--lr", 0.02), ("--seed", 1), ("--steps", 70), ("--engine", "fused")],
    "batches": [
        ("--lr", 0.02),
        ("--seed", 1),
        ("--schedule", "constant"),
        ("--weight-decay", 0.0),
        ("--hidden", 9),
        ("--epochs", 21),
        ("--batch-size", 30),
        ("--images", 50),
        ("--dataset", "fashion-mnist"),
    ],
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_checkpoint_of_other_options_is_refused(start, tmp_path, name):
    write_digits(tmp_path / "data", "FashionMNIST")  # the same images: only the option differs
    expected = content(start(name).folder)
    kept = (start(name, at=20).folder / CHECKPOINT).read_bytes()
    for option, *value in OTHERS[name]:
        done = start(name, "--resume", option, *value)
        assert_error(done, "--resume", *map(str, value))
        word = option.strip("-")
        assert any(word.replace("-", other) in done.stderr for other in "-_ "), done.stderr
        assert (done.folder / CHECKPOINT).read_bytes() == kept and done.made == 0
    done = start(name, "--resume", "--format", "svg", "--device", "cpu")  # these change no number
    assert done.returncode == 0 and content(done.folder) == expected, done.stderr


class Touch:
    """Pickled, it makes a file when it is read by a reader that executes what it reads."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_checkpoints_that_are_none(start, tmp_path):
    done = start("network, eager", at=20)
    path, touched = done.folder / CHECKPOINT, tmp_path / "executed"
    whole = path.read_bytes()
    checkpoint = torch.load(path, weights_only=True)
    torch.save({**checkpoint, "more": Touch(touched)}, path)
    executing = path.read_bytes()
    for damaged in (
        b"",
        whole[: len(whole) // 2],
        whole[:-30],
        b"x" * 1000,
        pickle.dumps(Touch(touched)),
        executing,
    ):
        path.write_bytes(damaged)
        assert_error(start("network, eager", "--resume"), str(path))
        assert path.read_bytes() == damaged
    for other in (
        [1],
        {},
        {"a": 1},
        torch.zeros(3),
        checkpoint["model"] if "model" in checkpoint else 3,
    ):
        torch.save(other, path)
        assert_error(start("network, eager", "--resume"), str(path))
    assert not touched.exists()
    path.unlink()
    path.mkdir()
    done = start("network, eager", "--resume")
    assert done.returncode == 1 and str(path) in done.stderr and done.stderr.count("\n") == 1


# Divergence.

OPTIMIZER = {
    "linear, eager": torch.optim.SGD,
    "network, eager": torch.optim.SGD,
    "one batch": torch.optim.Adam,
    "batches": torch.optim.Adam,
}


@pytest.fixture
def overflow(start, monkeypatch):
    """As `start`, for the plain loop, with a step that makes no number of every parameter, where `at` says."""

    def call(name: str, step: int, *more, also=lambda: None):
        steps, update = [], OPTIMIZER[name].step

        def overflowing(self, *values, **settings):
            result = update(self, *values, **settings)
            steps.append(None)
            if len(steps) == step:
                also()
                with torch.no_grad():
                    for group in self.param_groups:
                        for parameter in group["params"]:
                            parameter.fill_(torch.nan)
            return result

        with monkeypatch.context() as patch:
            patch.setattr(OPTIMIZER[name], "step", overflowing)
            return start(name, *more)

    return call


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("step", [20, 60])
def test_divergence_ends_with_1_and_keeps_the_losses(overflow, start, name, step):
    """Also where the last update alone overflows, after which no step computes a loss."""
    done = overflow(name, step)
    assert_error(done, "--lr", "not finite" if step < 60 else "")
    losses = np.load(done.folder / "losses.npy")
    assert len(losses) == step and np.isfinite(losses).all()
    results = done.metrics["results"]
    assert results["ended"] == "diverged" and results["steps"] == step
    assert (done.folder / "loss.png").exists() and not (done.folder / CHECKPOINT).exists()
    assert str(step + 1) in done.stderr or step == 60
    assert (
        overflow(name, step, "--resume").returncode == 1
    )  # it is not complete, and does not become so


@pytest.mark.parametrize("name", PLAIN)
def test_divergence_together_with_ctrl_c_is_divergence(overflow, name):
    done = overflow(name, 20, also=press)
    assert done.returncode == 1 and "--lr" in done.stderr.splitlines()[-1], done.stderr
    assert done.metrics["results"]["ended"] == "diverged"


@pytest.mark.parametrize("engine", ["fused", "eager"])
def test_the_printed_recipe_at_its_last_update(run_here, monkeypatch, engine):
    """As many pairs as there are finite losses: it is the update after them that overflows."""
    no_figures(monkeypatch)
    options = ("--raw", "--lr", 10, "--engine", engine, "--quiet")
    done = run_here("linear_recovery", *options, "--samples", 200)
    assert_error(done)
    finite = len(np.load(done.folder / "losses.npy"))
    assert 20 < finite < 100
    done = run_here("linear_recovery", *options, "--samples", finite - 3)
    assert done.returncode == 0, done.stderr
    for samples in (finite, finite - 1):  # the noise of so many pairs is other noise
        done = run_here("linear_recovery", *options, "--samples", samples)
        losses = np.load(done.folder / "losses.npy")
        if len(losses) == samples:
            break
    assert len(losses) == samples and np.isfinite(losses).all()
    assert done.returncode == 1 and done.metrics["results"]["ended"] == "diverged", done.stdout


# Real processes.

PLAIN_NETWORK = ("--steps", 400, "--engine", "eager", "--quiet")

# A script as it is, with a checkpoint after every step, that sends itself a signal in its 100th update.
SIGNALLED = """
import os, runpy, sys
_, project, number, *sys.argv = sys.argv
sys.path.insert(0, project)
import torch
from common.run import Run
Run.CHECKPOINT_SECONDS = 0
step, steps = torch.optim.SGD.step, []
def update(*values, **settings):
    steps.append(None)
    if len(steps) == 100:
        os.kill(os.getpid(), int(number))
    return step(*values, **settings)
torch.optim.SGD.step = update
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def signalled(folder: Path, number: int) -> subprocess.CompletedProcess:
    words = (
        sys.executable,
        "-c",
        SIGNALLED,
        PROJECT,
        int(number),
        PROJECT / "lectures" / "ann_revisited.py",
        "--output-dir",
        folder,
        *PLAIN_NETWORK,
    )
    return subprocess.run(
        list(map(str, words)), env=environment(), capture_output=True, text=True, timeout=120
    )


def test_a_killed_process_leaves_a_checkpoint_that_a_new_one_goes_on_from(
    run, run_here, monkeypatch, tmp_path
):
    no_figures(monkeypatch)
    expected = content(run_here("ann_revisited", *PLAIN_NETWORK).folder)
    killed = signalled(tmp_path / "killed", signal.SIGKILL)
    assert killed.returncode == -signal.SIGKILL and (tmp_path / "killed" / CHECKPOINT).exists()
    done = run("ann_revisited", *PLAIN_NETWORK, "--resume", "--output-dir", tmp_path / "killed")
    assert done.returncode == 0, done.stderr
    assert content(tmp_path / "killed") == expected and not list(
        (tmp_path / "killed").glob(".*.partial")
    )


def test_a_signal_to_a_process(tmp_path):
    done = signalled(tmp_path / "run", signal.SIGTERM)
    assert done.returncode == 143, done.stderr
    assert done.stderr.startswith("interrupted: ") and done.stderr.count("\n") == 1
    assert len(np.load(tmp_path / "run" / "losses.npy")) == 100


# Kills at random moments, for many minutes.

OFTEN = """
import runpy, sys
_, project, *sys.argv = sys.argv
sys.path.insert(0, project)
from common.run import Run
Run.CHECKPOINT_SECONDS = 0.2
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def assert_whole(folder: Path) -> None:
    """Every file of a run's folder can be read from its first to its last byte."""
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.suffix == ".png":
            with Image.open(path) as picture:
                picture.load()
        elif path.suffix in (".npy", ".npz"):
            np.load(path)
        elif path.suffix == ".pt":
            torch.load(path, weights_only=True)
        else:
            assert json.loads(path.read_text())["results"]


LONG = {
    "linear_recovery": ("--samples", 5_000, "--engine", "eager"),
    "ann_revisited": ("--steps", 20_000_000),
    "mnist_mlp": ("--images", "all", "--epochs", 250, "--batch-size", 4),
}


def kill_and_resume(tmp_path: Path, script: str, kills: int) -> int:
    """Kills runs at random moments and goes on from their checkpoints; returns how often there was one."""
    write_digits(tmp_path / "data")
    folder, dice, resumed, killed = tmp_path / "run", random.Random(0), 0, 0
    command = [
        sys.executable,
        "-c",
        OFTEN,
        PROJECT,
        PROJECT / "lectures" / f"{script}.py",
        "--quiet",
        "--output-dir",
        folder,
        *LONG[script],
    ]
    command, surroundings = (
        [str(word) for word in command],
        environment(MNIST_ROOT=str(tmp_path / "data")),
    )
    subprocess.run(command, env=surroundings, check=True, capture_output=True)
    expected = content(folder)
    shutil.rmtree(folder)
    while killed < kills:
        again = (folder / CHECKPOINT).exists()
        resumed += again
        process = subprocess.Popen(
            [*command, "--resume"],
            env=surroundings,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            _, errors = process.communicate(timeout=dice.uniform(1.5, 7))
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            killed += 1
            assert_whole(folder)
            continue
        assert process.returncode == 0, errors
        assert content(folder) == expected and not (folder / CHECKPOINT).exists()
        assert not list(folder.glob(".*.partial"))
        shutil.rmtree(folder)
    return resumed


@pytest.mark.soak
@pytest.mark.parametrize("script", LONG)
def test_two_hundred_kills(tmp_path, script):
    assert kill_and_resume(tmp_path, script, kills=70) > 14
