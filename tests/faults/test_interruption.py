"""Ctrl-C, SIGTERM, SIGKILL and divergence: what is saved, and what --resume makes of it.

Signals come at a certain step, not after a time: how fast the machine is does not matter.
"""

from common.run import Run
from lectures import ann_revisited

import importlib
import json
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


def assert_error(done, *said: str) -> None:
    """A run that ended with 1 and one line that says what was wrong."""
    assert done.returncode == 1 and done.stderr.startswith("error: "), done.stdout + done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    for part in said:
        assert part in done.stderr


def assert_interrupted(done, code: int = 130) -> None:
    """A run that ended with this code and one line that says so."""
    assert done.returncode == code, done.stdout + done.stderr
    assert done.stderr.startswith("interrupted: ") and done.stderr.count("\n") == 1


def files_of(folder: Path) -> dict[str, bytes]:
    """The bytes of every file that a user sees."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name[0] != "."}


# Ctrl-C and SIGTERM.


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("name", RUNS)
def test_what_was_computed_is_saved(start, name, number, code):
    whole = start(name)
    assert whole.returncode == 0, whole.stderr
    losses = np.load(whole.folder / "losses.npy")
    initial = load_state(whole.folder / "model_initial.pt")
    shutil.rmtree(whole.folder)
    done = start(name, at=20, act=lambda: press(number))
    assert_interrupted(done, code)
    assert "--resume" in done.stderr
    results = done.metrics["results"]
    assert results["ended"] == "interrupted" and results["steps"] == 20
    assert np.load(done.folder / "losses.npy").tobytes() == losses[:20].tobytes()
    assert (done.folder / CHECKPOINT).exists() and (done.folder / "loss.png").exists()
    model = load_state(done.folder / "model.pt")
    for key, array in load_state(done.folder / "model_initial.pt").items():
        np.testing.assert_allclose(array, initial[key], rtol=1e-12, atol=1e-13)
        assert (model[key] != array).any()


def test_the_model_of_an_interrupted_run_is_the_one_after_its_last_step(start, run_here):
    model = load_state(start("network, eager", at=20).folder / "model.pt")
    shorter = run_here("ann_revisited", "--steps", 20, "--engine", "eager").folder
    for key, array in load_state(shorter / "model.pt").items():
        assert (model[key] == array).all()


@pytest.mark.parametrize("name", RUNS)
def test_a_second_request_ends_the_run_at_once(start, name):
    done = start(name, at=20, act=lambda: (press(), press()))
    assert_interrupted(done)
    assert done.made == list(range(1, 21)) and not (done.folder / "losses.npy").exists()


@pytest.mark.parametrize("name", RUNS)
def test_a_job_scheduler_asks_more_than_once(start, name):
    done = start(name, at=20, act=lambda: (press(signal.SIGTERM), press(signal.SIGTERM)))
    assert_interrupted(done, 143)
    assert done.metrics["results"]["ended"] == "interrupted" and (done.folder / CHECKPOINT).exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("script", SCRIPTS)
def test_before_training_there_is_nothing_to_save(run_here, monkeypatch, tmp_path, script, number):
    module = importlib.import_module(f"lectures.{script}")
    write_digits(tmp_path / "data")
    monkeypatch.setenv("MNIST_ROOT", str(tmp_path / "data"))
    build = module.build_model
    monkeypatch.setattr(module, "build_model", lambda *values: (press(number), build(*values))[1])
    done = run_here(script, *(["--images", 50] if script == "mnist_mlp" else []))
    assert_interrupted(done, 128 + number)
    assert "nothing was saved" in done.stderr and done.metrics is None


# --resume.


def test_while_items_are_passed_over(start, monkeypatch):
    """A resumed run draws the pairs of its earlier steps again: it must not make all of them before it ends."""
    assert_interrupted(start("network, eager", at=30))
    pairs, drawn = ann_revisited.random_pairs, []

    def pressed_at_the_fifth(*arguments):
        for pair in pairs(*arguments):
            drawn.append(pair)
            if len(drawn) == 5:
                press()
            yield pair

    monkeypatch.setattr(ann_revisited, "random_pairs", pressed_at_the_fifth)
    done = start("network, eager", "--resume")
    assert_interrupted(done)
    assert done.made == [] and len(drawn) == 5 and done.metrics["results"]["steps"] == 30
    monkeypatch.setattr(ann_revisited, "random_pairs", pairs)
    assert start("network, eager", "--resume").metrics["results"]["steps"] == 60


@pytest.mark.parametrize("name", RUNS)
def test_a_resumed_run_equals_an_uninterrupted_one(start, name):
    """From any step: the first, those around where the compiled steps begin, and the last ones."""
    whole = start(name)
    assert whole.returncode == 0, whole.stderr
    files, results = content(whole.folder), results_of(whole)
    assert results["ended"] == "finished" and results["steps"] == 60 == len(whole.made)
    shutil.rmtree(whole.folder)
    before = 0
    for step in (1, 2, 3, 30, 58, 59):
        done = start(name, "--resume", at=step)
        assert_interrupted(done)
        assert done.metrics["results"]["steps"] == step and done.made[0] == before + 1
        if step in (1, 3, 59):  # the others go on from one that was resumed itself
            shutil.copytree(done.folder, kept := done.folder.with_name(f"after {step}"))
            done = start(name, "--resume", "--output-dir", kept)
            assert done.returncode == 0, done.stderr
            assert content(kept) == files, f"resumed after step {step}"
        before = step
    done = start(name, "--resume")
    assert done.returncode == 0, done.stderr
    assert "59" in done.stdout and done.made == [60]  # it says where it goes on
    assert content(done.folder) == files and results_of(done) == results
    assert not (done.folder / CHECKPOINT).exists()


@pytest.mark.parametrize("name", RUNS)
def test_steps_in_pieces_of_any_length_are_the_same(start, run_here, name):
    pieces = content(start(name).folder)
    script, *options = RUNS[name]
    assert content(run_here(script, "--quiet", *options).folder) == pieces


@pytest.mark.parametrize("name", ["linear, compiled", "network, compiled", "digits"])
def test_where_there_is_nothing_it_begins_and_says_so(start, name):
    plain = start(name)
    files = content(plain.folder)
    shutil.rmtree(plain.folder)
    done = start(name, "--resume")
    assert done.returncode == 0 and content(done.folder) == files
    assert "no checkpoint" in done.stdout and "begin" in done.stdout
    assert "checkpoint" not in plain.stdout + plain.stderr


@pytest.mark.parametrize("name", ["linear, compiled", "network, eager", "digits"])
def test_a_complete_run_says_so_and_is_not_made_again(start, name):
    before = files_of(start(name).folder)
    done = start(name, "--resume")
    assert done.returncode == 0 and done.made == [], done.stderr
    assert "complete" in done.stdout and files_of(done.folder) == before
    done = start(name, "--resume", "--format", "svg")  # that figure is not there yet
    assert done.returncode == 0 and (done.folder / "loss.svg").exists()
    assert not (done.folder / "loss.png").exists()


@pytest.mark.parametrize("name", ["linear, compiled", "network, eager", "digits"])
def test_another_run_s_results_are_not_called_complete(start, name):
    files = content(start(name).folder)
    done = start(name, "--resume", "--seed", 7)
    assert done.returncode == 0 and len(done.made) == 60
    assert content(done.folder)["losses.npy"] != files["losses.npy"]


@pytest.mark.parametrize("name", RUNS)
def test_checkpoints_are_kept_during_training(start, monkeypatch, tmp_path, name):
    """The folder as a kill in the middle of training would leave it is enough to go on from."""
    whole = start(name)
    files, results = content(whole.folder), results_of(whole)
    shutil.rmtree(whole.folder)
    killed = tmp_path / "killed"
    with monkeypatch.context() as patch:
        patch.setattr(Run, "CHECKPOINT_SECONDS", 0)
        done = start(name, at=40, act=lambda: shutil.copytree(whole.folder, killed))
    assert done.returncode == 0 and content(done.folder) == files  # keeping them changes nothing
    assert set(files_of(killed)) == {CHECKPOINT}
    done = start(name, "--resume", "--output-dir", killed)
    assert done.returncode == 0, done.stderr
    assert content(killed) == files and done.made == list(range(40, 61))
    done.metrics = json.loads((killed / "metrics.json").read_text())
    assert results_of(done) == results


def test_checkpoints_are_not_kept_at_every_step(start):
    """Writing one takes longer than thousands of compiled steps."""
    assert 1 <= Run.CHECKPOINT_SECONDS <= 60
    path, found = start("digits").folder / CHECKPOINT, []
    done = start("digits", at=50, act=lambda: found.append(path.exists()))
    assert done.returncode == 0 and found == [False]


OTHERS = {
    "linear, eager": [
        ("--lr", 0.02),
        ("--seed", 1),
        ("--samples", 70),
        ("--noise", 0.1),
        ("--low", 4.0),
        ("--high", 9.0),
        ("--raw",),
        ("--engine", "compiled"),
    ],
    "network, compiled": [
        ("--lr", 0.02),
        ("--seed", 1),
        ("--steps", 70),
        ("--train-data", "rand"),
        ("--engine", "eager"),
    ],
    "digits": [
        ("--lr", 0.02),
        ("--seed", 1),
        ("--hidden", 9),
        ("--epochs", 70),
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
        assert_error(done, "--resume", option.strip("-").replace("-", "_"), *map(str, value))
        assert (done.folder / CHECKPOINT).read_bytes() == kept and done.made == []
    done = start(name, "--resume", "--format", "svg", "--device", "cpu")  # these change no number
    assert done.returncode == 0 and content(done.folder) == expected, done.stderr


class Touch:
    """Pickled, it makes a file when it is read by a reader that executes what it reads."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_damaged_checkpoints_are_refused_in_one_line(start, tmp_path):
    path = start("network, compiled", at=20).folder / CHECKPOINT
    touched, whole = tmp_path / "executed", path.read_bytes()
    checkpoint = torch.load(path, weights_only=True)
    contents = [{**checkpoint, "more": Touch(touched)}, [1], {}, torch.zeros(3)]
    for name in checkpoint:  # each part is gone, or is another thing
        contents += [
            {k: v for k, v in checkpoint.items() if k != name},
            checkpoint | {name: "text"},
        ]
    for name in checkpoint["states"]:
        states = {key: value for key, value in checkpoint["states"].items() if key != name}
        contents.append(checkpoint | {"states": states})
        for other in ("text", torch.zeros(3, 1000)):
            contents.append(checkpoint | {"states": states | {name: other}})
    contents.append(checkpoint | {"losses": torch.zeros(100)})
    damaged = [b"", whole[: len(whole) // 2], whole[:-30], b"x" * 1000]
    for inside in contents:
        torch.save(inside, path)
        damaged.append(path.read_bytes())
    for number, found in enumerate(damaged):
        path.write_bytes(found)
        done = start("network, compiled", "--resume")
        assert_error(done, str(path))
        assert path.read_bytes() == found and done.made == [], number
    assert not touched.exists()
    path.unlink()
    path.mkdir()
    assert_error(start("network, compiled", "--resume"), str(path))


# Divergence.


@pytest.mark.parametrize("engine", ["compiled", "eager"])
@pytest.mark.parametrize("interrupt", [False, True])
def test_divergence_ends_with_1_and_keeps_the_losses(
    run_here, monkeypatch, tmp_path, engine, interrupt
):
    """The recipe as the lecture prints it overflows; also if Ctrl-C is pressed in that step."""
    no_figures(monkeypatch)
    options = ("--raw", "--engine", engine, "--quiet", "--samples", 1000)
    done = run_here("linear_recovery", *options)
    losses = np.load(done.folder / "losses.npy")
    if interrupt:
        shutil.rmtree(done.folder)
        with monkeypatch.context() as patch:
            at_step(patch, len(losses), press)
            done = run_here("linear_recovery", *options)
        assert np.load(done.folder / "losses.npy").tobytes() == losses.tobytes()
    assert_error(done, "--lr", "not finite", f"step {len(losses)} ")
    assert 100 < len(losses) < 400 and np.isfinite(losses[:-1]).all() and losses[-1] == np.inf
    results = done.metrics["results"]
    assert results["ended"] == "diverged" and results["steps"] == len(losses)
    assert results["engine"] == engine
    assert (done.folder / "loss.png").exists() and not (done.folder / CHECKPOINT).exists()
    # It is not complete, and does not become so.
    assert run_here("linear_recovery", *options, "--resume").returncode == 1


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("step", [1, 2, 60])
def test_a_loss_that_is_no_number_ends_the_run_at_its_step(start, monkeypatch, name, step):
    """The steps that the plain loop makes with either engine, the first and the last among them."""
    module, models = importlib.import_module(f"lectures.{RUNS[name][0]}"), []
    build = module.build_model

    def spoil():
        with torch.no_grad():
            for parameter in models[-1].parameters():
                parameter.fill_(torch.nan)

    def built(*values):
        models.append(build(*values))
        if step == 1:
            spoil()
        return models[-1]

    monkeypatch.setattr(module, "build_model", built)
    done = start(name, at=step - 1, act=spoil)
    assert_error(done, "not finite", f"step {step} ")
    losses = np.load(done.folder / "losses.npy")
    assert len(losses) == step and np.isnan(losses).tolist() == [False] * (step - 1) + [True]
    results = done.metrics["results"]
    assert results["ended"] == "diverged" and results["steps"] == step


# Real processes.

PLAIN_NETWORK = ("--steps", 400, "--engine", "eager", "--quiet")

# A script with a checkpoint after every step, that sends itself a signal in its 100th update.
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
    script = PROJECT / "lectures" / "ann_revisited.py"
    words = [sys.executable, "-c", SIGNALLED, PROJECT, int(number), script, "--output-dir", folder]
    return subprocess.run(
        list(map(str, [*words, *PLAIN_NETWORK])),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_killed_process_leaves_a_checkpoint_that_a_new_one_goes_on_from(
    run, run_here, monkeypatch, tmp_path
):
    no_figures(monkeypatch)
    expected = content(run_here("ann_revisited", *PLAIN_NETWORK).folder)
    folder = tmp_path / "killed"
    killed = signalled(folder, signal.SIGKILL)
    assert killed.returncode == -signal.SIGKILL and (folder / CHECKPOINT).exists()
    done = run("ann_revisited", *PLAIN_NETWORK, "--resume", "--output-dir", folder)
    assert done.returncode == 0, done.stderr
    assert content(folder) == expected and not list(folder.glob(".*.partial"))


def test_a_signal_to_a_process(tmp_path):
    done = signalled(tmp_path / "run", signal.SIGTERM)
    assert_interrupted(done, 143)
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
    "mnist_mlp": ("--images", "all", "--epochs", 10_000),
}


def kill_and_resume(tmp_path: Path, script: str, kills: int) -> int:
    """Kills runs at random moments and resumes them; returns how often there was a checkpoint."""
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
