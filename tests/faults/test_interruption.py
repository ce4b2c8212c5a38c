"""Ctrl-C, SIGTERM, SIGKILL and divergence: what is saved, and what --resume makes of it.

Signals come at a certain step, not after a time: how fast the machine is does not matter.
"""

from common import files
from common.run import Run
from lectures import ann_revisited

import gc
import importlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import PROJECT, environment
from helpers import (
    SCRIPTS,
    at_step,
    content,
    load_state,
    press,
    results_of,
    states,
    texts,
    watch_figures,
    write_digits,
)
from PIL import Image

CHECKPOINT = "checkpoint.pt"
RUNS = {  # all of 60 steps
    "linear, eager": ("linear_recovery", "--engine", "eager", "--samples", 60),
    "linear, compiled": ("linear_recovery", "--samples", 60),  # that is what `auto` comes to
    "network, eager": ("ann_revisited", "--engine", "eager", "--steps", 60),
    "network, compiled": ("ann_revisited", "--engine", "compiled", "--steps", 60),
    "digits": ("mnist_mlp", "--images", 40, "--hidden", 8, "--epochs", 60),
}
SOME = ("linear, compiled", "network, eager", "digits")


@pytest.fixture
def start(undrawn, monkeypatch):
    """A function that makes one of RUNS here, and does something at the end of step `at`.

    The result also has `made`, the numbers of the steps that were made.
    """

    def call(name: str, *more, at: int = 0, act=press, **where):
        script, *options = RUNS[name]
        with monkeypatch.context() as patch:
            made = at_step(patch, at, act)
            done = undrawn(script, "--quiet", *options, *more, **where)
        done.made = made
        return done

    return call


@pytest.fixture
def whole(start, tmp_path):
    """A function that makes one of RUNS to its end, in a folder of its own."""
    return lambda name, *more: start(name, *more, folder=tmp_path / "whole")


def assert_ended(done, code: int, *said: str) -> None:
    """A run that ended with this code and one line on stderr, with these parts."""
    assert done.returncode == code and done.stderr.count("\n") == 1, done.stdout + done.stderr
    assert done.stderr.startswith("error: " if code == 1 else "interrupted: ")
    assert [part for part in said if part not in done.stderr] == [], done.stderr


def files_of(folder: Path) -> dict[str, bytes]:
    """The bytes of every file that a user sees."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name[0] != "."}


# Ctrl-C and SIGTERM, and --resume.


@pytest.mark.parametrize("name", RUNS)
def test_a_run_that_was_stopped_is_saved_and_ends_as_an_uninterrupted_one(start, whole, name):
    """From any step: the first, those around where the compiled steps begin, and the last ones."""
    expected = whole(name, "--resume")
    assert expected.returncode == 0 and "no checkpoint in" in expected.stdout, expected.stderr
    assert expected.made == list(range(1, 61))
    numbers = content(expected.folder)
    for before, step in itertools.pairwise((0, 1, 2, 3, 30, 58, 59)):
        done = start(name, "--resume", at=step)
        assert_ended(done, 130, "--resume goes on")
        assert done.made == list(range(before + 1, step + 1))
        results = done.metrics["results"]
        assert (results["ended"], results["steps"]) == ("interrupted", step)
        left = files_of(done.folder)
        assert {"metrics.json", CHECKPOINT, "loss.png", *numbers} <= left.keys()
        losses = np.load(done.folder / "losses.npy").tobytes()
        assert len(losses) == 8 * step and losses in numbers["losses.npy"]
        initial, model = states(done)
        assert all((model[key] != initial[key]).any() for key in initial)
        shutil.copytree(done.folder, kept := done.folder.with_name(f"after {step}"))
        done = start(name, "--resume", folder=kept)
        assert done.returncode == 0 and f"resumed: {step} of 60 steps" in done.stdout, done.stderr
        assert content(kept) == numbers and results_of(done) == results_of(expected)
        assert not (kept / CHECKPOINT).exists()


@pytest.mark.parametrize("name", SOME)
def test_resume_of_a_finished_run_and_of_another_one(start, name):
    done = start(name)
    numbers, before = content(done.folder), files_of(done.folder)
    done = start(name, "--resume")
    assert done.returncode == 0 and done.made == [] and "complete: " in done.stdout
    assert files_of(done.folder) == before
    done = start(name, "--resume", "--format", "svg")  # that figure is not there yet
    assert done.returncode == 0 and content(done.folder) == numbers
    assert (done.folder / "loss.svg").exists() and not (done.folder / "loss.png").exists()
    done = start(name, "--resume", "--seed", 7)
    assert done.returncode == 0 and len(done.made) == 60 and content(done.folder) != numbers


def test_the_results_of_an_interrupted_run_are_those_of_its_last_step(start, undrawn):
    done = start("linear, eager", at=20)
    with np.load(done.folder / "train_data.npz") as data:
        x, y = data["x"], data["y"]
    model = load_state(done.folder / "model.pt")
    mean = ((x @ model["weight"].T + model["bias"] - y) ** 2).sum(axis=1).mean()
    assert done.metrics["results"]["final_loss"] == pytest.approx(mean)  # over all pairs
    model = content(start("network, eager", at=20).folder)["model.pt"]
    shorter = undrawn("ann_revisited", "--steps", 20, "--engine", "eager").folder
    assert content(shorter)["model.pt"] == model


@pytest.mark.parametrize("name", SOME)
def test_a_second_ctrl_c_ends_the_run_at_once(start, name):
    done = start(name, at=20, act=lambda: (press(), press()))
    assert_ended(done, 130)
    assert done.made == list(range(1, 21)) and not (done.folder / "losses.npy").exists()


def test_a_job_scheduler_may_ask_more_than_once(start):
    done = start("digits", at=20, act=lambda: (press(signal.SIGTERM), press(signal.SIGTERM)))
    assert_ended(done, 143, "--resume goes on")
    assert len(np.load(done.folder / "losses.npy")) == 20


@pytest.mark.parametrize(
    "script, number",
    [*((script, signal.SIGINT) for script in SCRIPTS), ("mnist_mlp", signal.SIGTERM)],
)
def test_before_training_there_is_nothing_to_save(undrawn, monkeypatch, script, number):
    module = importlib.import_module(f"lectures.{script}")
    build = module.build_model
    monkeypatch.setattr(module, "build_model", lambda *values: (press(number), build(*values))[1])
    done = undrawn(script, *(["--images", 50] if script == "mnist_mlp" else []))
    assert_ended(done, 128 + number, "nothing was saved")
    assert done.metrics is None


@pytest.mark.parametrize(
    "times, said, resumed",
    [(1, "is saved", "complete: "), (2, "a second time", "resumed: 60 of 60")],
)
@pytest.mark.parametrize("name", RUNS)
def test_ctrl_c_while_the_figures_are_saved(start, whole, monkeypatch, name, times, said, resumed):
    """Once: all is saved. Twice: it ends at once; --resume goes on from the last checkpoint."""
    expected, save = whole(name), files.save

    def pressed(path: Path, what: object) -> None:
        for _ in range(times if path.name == "loss.png" else 0):
            press()
        save(path, what)

    with monkeypatch.context() as patch:
        patch.setattr(files, "save", pressed)
        patch.setattr(Run, "CHECKPOINT_SECONDS", 0)
        done = start(name)
    assert_ended(done, 130, said)
    assert (done.folder / "metrics.json").exists() == (times == 1)
    done = start(name, "--resume")
    assert done.returncode == 0 and done.made == [] and resumed in done.stdout, done.stderr
    assert content(done.folder) == content(expected.folder)
    assert results_of(done) == results_of(expected)


def test_ctrl_c_while_items_are_passed_over(start, monkeypatch):
    """A resumed run draws the pairs of its earlier steps again: Ctrl-C does not wait for them."""
    before = files_of(start("network, eager", at=30).folder)
    pairs, drawn = ann_revisited.random_pairs, []

    def pressed_at_the_fifth(*arguments):
        for pair in pairs(*arguments):
            drawn.append(pair)
            if len(drawn) == 5:
                press()
            yield pair

    with monkeypatch.context() as patch:
        patch.setattr(ann_revisited, "random_pairs", pressed_at_the_fifth)
        done = start("network, eager", "--resume")
    assert_ended(done, 130)
    assert done.made == [] and len(drawn) == 5 and files_of(done.folder) == before
    gc.collect()  # the lock, which otherwise ends with the process
    assert start("network, eager", "--resume").metrics["results"]["steps"] == 60


@pytest.mark.parametrize("name", RUNS)
def test_checkpoints_are_kept_during_training(start, whole, monkeypatch, tmp_path, name):
    """The folder as a kill in the middle of training would leave it is enough to go on from."""
    numbers = content(whole(name).folder)
    for seconds, expected in ((3600, set()), (0, {CHECKPOINT})):
        monkeypatch.setattr(Run, "CHECKPOINT_SECONDS", seconds)
        folder, killed = tmp_path / f"{seconds}", tmp_path / f"{seconds}, killed"
        start(name, at=40, act=partial(shutil.copytree, folder, killed), folder=folder)
        assert content(folder) == numbers and files_of(killed).keys() == expected
    done = start(name, "--resume", folder=killed)
    assert done.returncode == 0 and done.made == list(range(40, 61)), done.stderr
    assert content(killed) == numbers


OTHERS = {
    "linear, eager": "--lr 0.02, --seed 1, --samples 70, --noise 0.1, --low 4.0, --high 9.0, "
    "--raw, --engine compiled",
    "network, compiled": "--lr 0.02, --seed 1, --steps 70, --train-data rand, --engine eager",
    "digits": "--lr 0.02, --seed 1, --hidden 9, --epochs 70, --images 50, --dataset fashion-mnist",
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_checkpoint_of_other_options_is_refused(start, whole, tmp_path, name):
    write_digits(tmp_path / "data", "FashionMNIST")  # the same images: only the option differs
    begun = start(name, at=20)
    before, kept = begun.metrics["config"], (begun.folder / CHECKPOINT).read_bytes()
    for words in OTHERS[name].split(", "):
        option, *value = words.split()
        done = start(name, "--resume", option, *value)
        key = option.strip("-").replace("-", "_")
        assert_ended(done, 1, "--resume", "was begun with {", f"'{key}': {before[key]!r}")
        assert (done.folder / CHECKPOINT).read_bytes() == kept and done.made == []
    no_number = ["--format", "svg", "--device", "cpu", *["--animate"] * name.startswith("network")]
    done = start(name, "--resume", *no_number)
    assert done.returncode == 0 and content(done.folder) == content(whole(name).folder)


def test_damaged_checkpoints_are_refused_in_one_line(start):
    path = start("network, compiled", at=20).folder / CHECKPOINT
    good = torch.load(path, weights_only=True)
    contents = [[1], {}, good | {"losses": torch.zeros(100)}]
    for name in good:  # each part is gone, or is another thing
        contents += [{k: v for k, v in good.items() if k != name}, good | {name: "text"}]
    for name in good["states"]:
        for other in ("text", {}, torch.zeros(3, 1000)):
            contents.append(good | {"states": good["states"] | {name: other}})
    for number, inside in enumerate(contents):
        torch.save(inside, path)
        found = path.read_bytes()
        done = start("network, compiled", "--resume")
        assert_ended(done, 1, str(path))
        assert path.read_bytes() == found and done.made == [], number


# Divergence.


@pytest.mark.parametrize("engine", ["compiled", "eager"])
def test_divergence_ends_with_1_and_keeps_the_losses(run_here, monkeypatch, engine):
    """The recipe as the lecture prints it overflows; also if Ctrl-C is pressed in that step."""
    figures = watch_figures(monkeypatch)
    options = ("--raw", "--engine", engine, "--quiet", "--samples", 1000)
    done = run_here("linear_recovery", *options)
    losses, results = np.load(done.folder / "losses.npy"), done.metrics["results"]
    count = len(losses)
    said = f"the loss is not finite at step {count} with learning rate 0.01: try a smaller --lr"
    assert_ended(done, 1, said)
    assert "0.01 is beyond it, so the loss may grow" in done.stdout
    assert 100 < count < 400 and np.isfinite(losses[:-1]).all() and losses[-1] == np.inf
    ending = (results["ended"], results["steps"], results["engine"])
    assert ending == ("diverged", count, engine)
    assert len(figures) == 2 and not (done.folder / CHECKPOINT).exists()
    for figure in figures.values():
        assert f"\ndiverged at step {count} of 1,000, x in" in figure.get_suptitle()
        assert f"overflow at step {count}" in texts(figure)
    with monkeypatch.context() as patch:
        at_step(patch, count, press)
        done = run_here("linear_recovery", *options, "--resume")  # it is not complete
    assert_ended(done, 1, "not finite")
    assert np.load(done.folder / "losses.npy").tobytes() == losses.tobytes()


# Kills of processes at random moments, for many minutes.

# A script that keeps a checkpoint five times a second.
OFTEN = """
import runpy, sys
_, project, *sys.argv = sys.argv
sys.path.insert(0, project)
from common.run import Run
Run.CHECKPOINT_SECONDS = 0.2
runpy.run_path(sys.argv[0], run_name="__main__")
"""
KILLS = int(os.environ.get("SOAK_KILLS", 70))  # of each script; ten at least leave checkpoints
LONG = {
    "linear_recovery": ("--samples", 20_000, "--engine", "eager"),
    "ann_revisited": ("--steps", 20_000_000),
    "mnist_mlp": ("--images", "all", "--epochs", 10_000),
}


def assert_whole(folder: Path) -> None:
    """Every file of a run's folder can be read from its first to its last byte."""
    readers = {
        ".png": lambda path: Image.open(path).load(),
        ".npy": np.load,
        ".npz": lambda path: dict(np.load(path)),
        ".pt": lambda path: torch.load(path, weights_only=True),
        ".json": lambda path: json.loads(path.read_text())["results"],
    }
    for path in folder.glob("[!.]*"):
        readers[path.suffix](path)


@pytest.mark.soak
@pytest.mark.parametrize("script", LONG)
def test_kills_at_random_moments(tmp_path, script):
    write_digits(tmp_path / "data")
    folder, dice, resumed, killed = tmp_path / "run", random.Random(0), 0, 0
    path, options = PROJECT / "lectures" / f"{script}.py", ("--quiet", *LONG[script])
    words = [sys.executable, "-c", OFTEN, PROJECT, path, "--output-dir", folder, *options]
    words, surroundings = list(map(str, words)), environment(MNIST_ROOT=str(tmp_path / "data"))
    began = time.monotonic()
    subprocess.run(words, env=surroundings, check=True, capture_output=True)
    took, expected = time.monotonic() - began, content(folder)
    shutil.rmtree(folder)
    while killed < KILLS:
        resumed += (folder / CHECKPOINT).exists()
        with subprocess.Popen(
            [*words, "--resume"], env=surroundings, stdout=subprocess.DEVNULL
        ) as process:
            try:
                process.wait(timeout=took * dice.uniform(0.3, 1.1))
            except subprocess.TimeoutExpired:
                process.kill()
                killed += 1
        assert_whole(folder)
        if process.returncode >= 0:
            assert process.returncode == 0
            assert content(folder) == expected and not (folder / CHECKPOINT).exists()
            assert not list(folder.glob(".*.partial"))
            shutil.rmtree(folder)
    assert resumed  # some left a checkpoint
