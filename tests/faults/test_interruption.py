"""Ctrl-C, SIGTERM, SIGKILL and divergence: what is saved, and what --resume makes of it.

Signals come at a certain step, not after a time: how fast the machine is does not matter.
"""

from common.run import Run
from lectures import ann_revisited

import gc
import importlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
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
    no_figures,
    press,
    results_of,
    write_digits,
)
from PIL import Image

CHECKPOINT = "checkpoint.pt"
RUNS = {  # all of 60 steps
    "linear, eager": ("linear_recovery", "--samples", 60, "--engine", "eager"),
    "linear, compiled": ("linear_recovery", "--samples", 60, "--engine", "compiled"),
    "network, eager": ("ann_revisited", "--steps", 60, "--engine", "eager"),
    "network, compiled": ("ann_revisited", "--steps", 60, "--engine", "compiled"),
    "digits": ("mnist_mlp", "--images", 40, "--epochs", 60, "--hidden", 8),
}
SOME = ("linear, compiled", "network, eager", "digits")


@pytest.fixture
def start(run_here, monkeypatch, tmp_path):
    """A function that makes one of RUNS here, and does something at the end of step `at`.

    The result also has `made`, the numbers of the steps that were made.
    """
    write_digits(tmp_path / "data")
    monkeypatch.setenv("MNIST_ROOT", str(tmp_path / "data"))
    no_figures(monkeypatch)

    def call(name: str, *more, at: int = 0, act=press):
        script, *options = RUNS[name]
        with monkeypatch.context() as patch:
            made = at_step(patch, at, act)
            done = run_here(script, "--quiet", *options, *more)
        done.made = made
        return done

    return call


@pytest.fixture
def whole(start):
    """A function that makes one of RUNS to its end; returns its numbers, results, and no folder."""

    def call(name: str):
        done = start(name)
        assert done.returncode == 0 and done.metrics["results"]["ended"] == "finished", done.stderr
        numbers = content(done.folder)
        shutil.rmtree(done.folder)
        return numbers, results_of(done)

    return call


def assert_ended(done, code: int, *said: str) -> None:
    """A run that ended with this code and one line on stderr, with these parts."""
    assert done.returncode == code and done.stderr.count("\n") == 1, done.stdout + done.stderr
    assert done.stderr.startswith("error: " if code == 1 else "interrupted: ")
    assert all(part in done.stderr for part in said), done.stderr


def files_of(folder: Path) -> dict[str, bytes]:
    """The bytes of every file that a user sees."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name[0] != "."}


# Ctrl-C and SIGTERM.


@pytest.mark.parametrize(
    "numbers, code",
    [([signal.SIGINT], 130), ([signal.SIGTERM] * 2, 143)],  # a job scheduler asks more than once
)
@pytest.mark.parametrize("name", RUNS)
def test_what_was_computed_is_saved(start, whole, name, numbers, code):
    expected, _ = whole(name)
    done = start(name, at=20, act=lambda: [press(number) for number in numbers])
    assert_ended(done, code, "--resume goes on")
    assert {"metrics.json", CHECKPOINT, "loss.png", *expected} <= files_of(done.folder).keys()
    results, losses = done.metrics["results"], np.load(done.folder / "losses.npy")
    assert (results["ended"], results["steps"]) == ("interrupted", 20)
    assert losses.nbytes == 160 and losses.tobytes() in expected["losses.npy"]
    initial, model = (load_state(done.folder / f) for f in ("model_initial.pt", "model.pt"))
    assert all((model[key] != initial[key]).any() for key in initial)


def test_the_final_loss_of_an_interrupted_run_is_the_mean_over_all_pairs(start):
    done = start("linear, eager", at=20)
    with np.load(done.folder / "train_data.npz") as data:
        x, y = data["x"], data["y"]
    model = load_state(done.folder / "model.pt")
    mean = ((x @ model["weight"].T + model["bias"] - y) ** 2).sum(axis=1).mean()
    assert done.metrics["results"]["final_loss"] == pytest.approx(mean)


def test_the_model_of_an_interrupted_run_is_the_one_after_its_last_step(start, run_here):
    model = content(start("network, eager", at=20).folder)["model.pt"]
    shorter = run_here("ann_revisited", "--steps", 20, "--engine", "eager").folder
    assert content(shorter)["model.pt"] == model


@pytest.mark.parametrize("name", SOME)
def test_a_second_ctrl_c_ends_the_run_at_once(start, name):
    done = start(name, at=20, act=lambda: (press(), press()))
    assert_ended(done, 130)
    assert done.made == list(range(1, 21)) and not (done.folder / "losses.npy").exists()


@pytest.mark.parametrize(
    "script, number",
    [*((script, signal.SIGINT) for script in SCRIPTS), ("mnist_mlp", signal.SIGTERM)],
)
def test_before_training_there_is_nothing_to_save(start, run_here, monkeypatch, script, number):
    module = importlib.import_module(f"lectures.{script}")
    build = module.build_model
    monkeypatch.setattr(module, "build_model", lambda *values: (press(number), build(*values))[1])
    done = run_here(script, *(["--images", 50] if script == "mnist_mlp" else []))
    assert_ended(done, 128 + number, "nothing was saved")
    assert done.metrics is None


# --resume.


def test_while_items_are_passed_over(start, monkeypatch):
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
def test_a_resumed_run_equals_an_uninterrupted_one(start, whole, name):
    """From any step: the first, those around where the compiled steps begin, and the last ones."""
    files, results = whole(name)
    before = 0
    for step in (1, 2, 3, 30, 58, 59):
        done = start(name, "--resume", at=step)
        assert_ended(done, 130)
        assert done.metrics["results"]["steps"] == step and done.made[0] == before + 1
        if step in (1, 3, 59):  # the others go on from one that was resumed itself
            shutil.copytree(done.folder, kept := done.folder.with_name(f"after {step}"))
            done = start(name, "--resume", "--output-dir", kept)
            assert done.returncode == 0, done.stderr
            assert content(kept) == files, f"resumed after step {step}"
        before = step
    done = start(name, "--resume")
    assert done.returncode == 0 and "resumed: 59 of 60 steps" in done.stdout, done.stderr
    assert done.made == [60] and content(done.folder) == files and results_of(done) == results
    assert not (done.folder / CHECKPOINT).exists()


@pytest.mark.parametrize("name", SOME)
def test_resume_of_nothing_of_a_finished_run_and_of_another_one(start, whole, name):
    files, _ = whole(name)
    done = start(name, "--resume")
    assert done.returncode == 0 and "no checkpoint in" in done.stdout, done.stderr
    assert len(done.made) == 60 and content(done.folder) == files
    before = files_of(done.folder)
    done = start(name, "--resume")
    assert done.returncode == 0 and done.made == [] and "complete: " in done.stdout
    assert files_of(done.folder) == before
    done = start(name, "--resume", "--format", "svg")  # that figure is not there yet
    assert done.returncode == 0 and content(done.folder) == files
    assert (done.folder / "loss.svg").exists() and not (done.folder / "loss.png").exists()
    done = start(name, "--resume", "--seed", 7)
    assert done.returncode == 0 and len(done.made) == 60 and content(done.folder) != files


@pytest.mark.parametrize("name", RUNS)
def test_checkpoints_are_kept_during_training(start, whole, monkeypatch, tmp_path, name):
    """The folder as a kill in the middle of training would leave it is enough to go on from."""
    files, _ = whole(name)
    folder, killed = tmp_path / "run", tmp_path / "killed"
    for seconds, expected in ((10, set()), (0, {CHECKPOINT})):
        monkeypatch.setattr(Run, "CHECKPOINT_SECONDS", seconds)
        shutil.rmtree(killed, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        start(name, "--output-dir", folder, at=40, act=lambda: shutil.copytree(folder, killed))
        assert content(folder) == files and set(files_of(killed)) == expected
    done = start(name, "--resume", "--output-dir", killed)
    assert done.returncode == 0 and done.made == list(range(40, 61)), done.stderr
    assert content(killed) == files


OTHERS = {
    "linear, eager": "--lr 0.02, --seed 1, --samples 70, --noise 0.1, --low 4.0, --high 9.0, "
    "--raw, --engine compiled",
    "network, compiled": "--lr 0.02, --seed 1, --steps 70, --train-data rand, --engine eager",
    "digits": "--lr 0.02, --seed 1, --hidden 9, --epochs 70, --images 50, --dataset fashion-mnist",
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_checkpoint_of_other_options_is_refused(start, whole, tmp_path, name):
    write_digits(tmp_path / "data", "FashionMNIST")  # the same images: only the option differs
    files, _ = whole(name)
    begun = start(name, at=20)
    before, kept = begun.metrics["config"], (begun.folder / CHECKPOINT).read_bytes()
    for words in OTHERS[name].split(", "):
        option, *value = words.split()
        done = start(name, "--resume", option, *value)
        key = option.strip("-").replace("-", "_")
        assert_ended(done, 1, "--resume", "was begun with {", f"'{key}': {before[key]!r}")
        assert (done.folder / CHECKPOINT).read_bytes() == kept and done.made == []
    done = start(name, "--resume", "--format", "svg", "--device", "cpu")  # these change no number
    assert done.returncode == 0 and content(done.folder) == files, done.stderr


def test_damaged_checkpoints_are_refused_in_one_line(start):
    path = start("network, compiled", at=20).folder / CHECKPOINT
    whole, good = path.read_bytes(), torch.load(path, weights_only=True)
    damaged = [b"", whole[: len(whole) // 2], whole[:-30], b"x" * 1000]
    contents = [[1], {}, good | {"losses": torch.zeros(100)}]
    for name in good:  # each part is gone, or is another thing
        contents += [{k: v for k, v in good.items() if k != name}, good | {name: "text"}]
    for name in good["states"]:
        for other in ("text", {}, torch.zeros(3, 1000)):
            contents.append(good | {"states": good["states"] | {name: other}})
    for inside in contents:
        torch.save(inside, path)
        damaged.append(path.read_bytes())
    for number, found in enumerate(damaged):
        path.write_bytes(found)
        done = start("network, compiled", "--resume")
        assert_ended(done, 1, str(path))
        assert path.read_bytes() == found and done.made == [], number


# Divergence.


@pytest.mark.parametrize("engine", ["compiled", "eager"])
def test_divergence_ends_with_1_and_keeps_the_losses(run_here, monkeypatch, engine):
    """The recipe as the lecture prints it overflows; also if Ctrl-C is pressed in that step."""
    no_figures(monkeypatch)
    options = ("--raw", "--engine", engine, "--quiet", "--samples", 1000)
    done = run_here("linear_recovery", *options)
    losses, results = np.load(done.folder / "losses.npy"), done.metrics["results"]
    assert_ended(done, 1, "--lr", "not finite", f"step {len(losses)} ")
    assert 100 < len(losses) < 400 and np.isfinite(losses[:-1]).all() and losses[-1] == np.inf
    assert (results["ended"], results["steps"]) == ("diverged", len(losses))
    assert results["engine"] == engine
    assert (done.folder / "loss.png").exists() and not (done.folder / CHECKPOINT).exists()
    with monkeypatch.context() as patch:
        at_step(patch, len(losses), press)
        done = run_here("linear_recovery", *options, "--resume")  # it is not complete
    assert_ended(done, 1, "not finite")
    assert np.load(done.folder / "losses.npy").tobytes() == losses.tobytes()


# Real processes.

# A script that keeps a checkpoint every so many seconds, and in its 100th update gets a signal.
PREPARED = """
import os, runpy, sys
_, project, seconds, number, *sys.argv = sys.argv
sys.path.insert(0, project)
import torch
from common.run import Run
Run.CHECKPOINT_SECONDS = float(seconds)
step, steps = torch.optim.SGD.step, []
def update(*values, **settings):
    steps.append(None)
    if len(steps) == 100 and number != "0":
        os.kill(os.getpid(), int(number))
    return step(*values, **settings)
torch.optim.SGD.step = update
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def prepared(script: str, folder: Path, *options, seconds: float = 0, number: int = 0) -> list[str]:
    path = PROJECT / "lectures" / f"{script}.py"
    words = [sys.executable, "-c", PREPARED, PROJECT, seconds, int(number), path, "--quiet"]
    return list(map(str, [*words, "--output-dir", folder, *options]))


@pytest.mark.parametrize("number, code", [(signal.SIGKILL, -9), (signal.SIGTERM, 143)])
def test_a_signal_to_a_process_leaves_what_a_new_one_goes_on_from(
    run_here, monkeypatch, tmp_path, number, code
):
    no_figures(monkeypatch)
    options = ("--steps", 400, "--engine", "eager")
    words = prepared("ann_revisited", tmp_path / "run", *options, number=number)
    assert subprocess.run(words, env=environment(), timeout=120).returncode == code
    assert_whole(tmp_path / "run")
    done = run_here("ann_revisited", *options, "--resume", "--output-dir", tmp_path / "run")
    assert done.returncode == 0 and "resumed: " in done.stdout, done.stderr
    assert content(tmp_path / "run") == content(run_here("ann_revisited", *options).folder)
    assert not list((tmp_path / "run").glob(".*.partial"))


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


# Kills at random moments, for many minutes.

KILLS = int(os.environ.get("SOAK_KILLS", 70))  # of each script; ten at least leave checkpoints
LONG = {
    "linear_recovery": ("--samples", 20_000, "--engine", "eager"),
    "ann_revisited": ("--steps", 20_000_000),
    "mnist_mlp": ("--images", "all", "--epochs", 10_000),
}


@pytest.mark.soak
@pytest.mark.parametrize("script", LONG)
def test_kills_at_random_moments(tmp_path, script):
    write_digits(tmp_path / "data")
    folder, dice, resumed, killed = tmp_path / "run", random.Random(0), 0, 0
    words = prepared(script, folder, *LONG[script], seconds=0.2)
    surroundings = environment(MNIST_ROOT=str(tmp_path / "data"))
    began = time.monotonic()
    subprocess.run(words, env=surroundings, check=True, capture_output=True)
    took, expected = time.monotonic() - began, content(folder)
    shutil.rmtree(folder)
    while killed < KILLS:
        resumed += (folder / CHECKPOINT).exists()
        with subprocess.Popen(
            [*words, "--resume"], env=surroundings, stdout=subprocess.DEVNULL, text=True
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
