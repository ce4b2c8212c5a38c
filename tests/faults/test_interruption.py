"""Ctrl-C, SIGTERM and SIGKILL: what is saved, and what --resume makes of it. Real signals to real processes."""

import json
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import PROJECT, environment, write_idx
from PIL import Image

from common import cli, outputs


def start(script: str, *options, **extra: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, PROJECT / "lectures" / f"{script}.py", *map(str, options)],
                            env=environment(PYTHONUNBUFFERED="1", **extra), stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("engine, steps, number, code", [("eager", 1_000_000, signal.SIGINT, 130),
                                                         ("fused", 20_000_000, signal.SIGTERM, 143)])
def test_what_was_computed_is_kept(tmp_path, engine, steps, number, code):
    process = start("ann_revisited", "--engine", engine, "--steps", steps, "--output-dir", tmp_path)
    for line in process.stdout:
        if f"{engine} engine" in line:
            break
    time.sleep(1.5)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors
    assert errors.splitlines()[-1].startswith("interrupted: ")
    losses = np.load(tmp_path / "losses.npy")
    assert 0 < len(losses) < steps and np.isfinite(losses).all()
    for name in ("loss.png", "metrics.json", "model.pt", "checkpoint.pt"):
        assert (tmp_path / name).exists()


@pytest.mark.parametrize("script, number, delay", [("linear_recovery", signal.SIGINT, 0.4),
                                                   ("mnist_mlp", signal.SIGTERM, 1.2)])
def test_while_pytorch_is_imported(tmp_path, script, number, delay):
    process = start(script, "--output-dir", tmp_path / "run")
    time.sleep(delay)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + number and "Traceback" not in errors
    assert errors.splitlines()[-1].startswith("interrupted: ")


@pytest.fixture
def interrupted(run_here):
    """`run_here`, with a Ctrl-C to this process once training has gone on for a moment."""

    def call(script: str, *options):
        ended = threading.Event()
        cli._interrupt.training = False  # what an earlier run in this process left

        def press():
            while not cli._interrupt.training and not ended.wait(0.01):
                pass
            if not ended.wait(0.3):
                os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=press)
        thread.start()
        try:
            return run_here(script, *options)
        finally:
            ended.set()
            thread.join()

    return call


RUNS = {
    "eager": ("ann_revisited", "--engine", "eager", "--steps", 3_000),
    "eager, two starts": ("ann_revisited", "--engine", "eager", "--steps", 1_500, "--repeats", 2),
    "fused": ("ann_revisited", "--steps", 2_000_000),
    "fused, three starts": ("ann_revisited", "--steps", 1_000_000, "--repeats", 3),
    "batches": ("mnist_mlp", "--images", "all", "--epochs", 100, "--batch-size", 4, "--schedule", "one-cycle",
                "--lr", 0.01, "--weight-decay", 1e-4),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_resumed_run_equals_an_uninterrupted_one(interrupted, run_here, tmp_path, name):
    script, *options = RUNS[name]
    if script == "mnist_mlp":
        write_idx(tmp_path / "data")
        options += ["--data-dir", tmp_path / "data"]
    done = run_here(script, "--quiet", *options)
    assert done.returncode == 0, done.stderr
    expected = {file: (done.folder / file).read_bytes() for file in ("losses.npy", "model.pt", "model_initial.pt")}
    results = done.metrics["results"]
    results.pop("microseconds_per_step", None)

    done = interrupted(script, "--quiet", *options)
    assert done.returncode == 130, done.stderr
    assert (done.folder / "losses.npy").read_bytes() != expected["losses.npy"]
    done = run_here(script, "--quiet", *options, "--resume")
    assert done.returncode == 0, done.stderr
    assert {file: (done.folder / file).read_bytes() for file in expected} == expected
    done.metrics["results"].pop("microseconds_per_step", None)
    assert done.metrics["results"] == results
    assert not (done.folder / outputs.CHECKPOINT).exists()


class Touch:
    """Pickled, it makes a file when it is read by a reader that executes what it reads."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def other_shape(content):
    content["model"]["0.0.weight"] = torch.zeros(1000, 1000)
    return content


def other_type(content):
    content["model"]["0.0.weight"] = content["model"]["0.0.weight"].float()
    return content


def not_a_number(content):
    content["model"]["0.0.weight"][0, 0] = torch.nan
    return content


def too_many_losses(content):
    content["losses"] = torch.zeros(1, 10**6, dtype=torch.float64)
    return content


def test_checkpoints_that_do_not_fit(run_here, tmp_path):
    options = ("--engine", "eager", "--steps", 300)
    done = run_here("ann_revisited", *options, "--resume")
    assert done.returncode == 1 and "--resume: there is no" in done.stderr and done.stderr.count("\n") == 1

    kept = {"seed": 0, "steps": 300, "lr": 0.01, "train_data": "randn", "repeats": 1, "engine": "eager",
            "device": "cpu"}
    from lectures import ann_revisited as ann

    models = torch.nn.ModuleList([ann.random_model(torch.Generator().manual_seed(0))])
    path = done.folder / outputs.CHECKPOINT

    def save():
        outputs.save_checkpoint(done.folder, kept, np.full((1, 10), 0.25), models)
        return torch.load(path, weights_only=True)

    save()
    for option, value, said in (("--lr", 0.02, "lr 0.01, this one has 0.02"), ("--seed", 3, "seed 0"),
                                ("--steps", 301, "steps 300"), ("--train-data", "rand", "train_data randn")):
        done = run_here("ann_revisited", *options, "--resume", option, value)
        assert done.returncode == 1 and said in done.stderr and done.stderr.count("\n") == 1
    save()
    assert run_here("ann_revisited", *options, "--resume").returncode == 0  # the checkpoint itself was good

    for damage in (other_shape, other_type, not_a_number, too_many_losses, lambda c: {**c, "model": 3},
                   lambda c: [c], lambda c: {**c, "losses": "none"}, lambda c: {"settings": c["settings"]}):
        torch.save(damage(save()), path)
        done = run_here("ann_revisited", *options, "--resume")
        assert done.returncode == 1 and str(path) in done.stderr and done.stderr.count("\n") == 1, done.stderr

    save()
    whole = path.read_bytes()
    touched = tmp_path / "executed"
    for content in (b"", whole[: len(whole) // 2], b"x" * 1000, pickle.dumps(Touch(touched))):
        path.write_bytes(content)
        done = run_here("ann_revisited", *options, "--resume")
        assert done.returncode == 1 and "cannot be read" in done.stderr and done.stderr.count("\n") == 1
    torch.save({"settings": kept, "losses": Touch(touched)}, path)
    done = run_here("ann_revisited", *options, "--resume")
    assert done.returncode == 1 and "cannot be read" in done.stderr
    assert not touched.exists()


# A script with checkpoints so often that a kill meets them; otherwise as it is.
OFTEN = ("import runpy, sys; sys.path.insert(0, sys.argv[1]); from common import cli; cli.CHECKPOINT_SECONDS = 0.2; "
         "sys.argv = sys.argv[2:]; runpy.run_path(sys.argv[0], run_name='__main__')")


def assert_whole(folder: Path) -> None:
    """Every file of a run's folder can be read from its first to its last byte."""
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.suffix == ".png":
            with Image.open(path) as picture:
                picture.load()
        elif path.suffix == ".npy":
            assert np.load(path).dtype == np.float64
        elif path.suffix == ".pt":
            torch.load(path, weights_only=True)
        else:
            assert json.loads(path.read_text())["results"]


KILLED = {"ann_revisited": ("--steps", 2_000_000),
          "mnist_mlp": ("--images", "all", "--epochs", 250, "--batch-size", 4)}


def kill_and_resume(tmp_path: Path, script: str, kills: int) -> int:
    """Kills runs at random moments and goes on from their checkpoints; returns how often there was one."""
    write_idx(tmp_path / "data")
    folder, dice, resumed, killed = tmp_path / "run", random.Random(0), 0, 0
    command = [sys.executable, "-c", OFTEN, PROJECT, PROJECT / "lectures" / f"{script}.py", "--quiet", "--output-dir",
               folder, *KILLED[script]]
    command, surroundings = [str(word) for word in command], environment(MNIST_ROOT=str(tmp_path / "data"))
    subprocess.run(command, env=surroundings, check=True, capture_output=True)
    expected = [(folder / name).read_bytes() for name in ("losses.npy", "model.pt")]
    while killed < kills or (folder / outputs.CHECKPOINT).exists():
        again = (folder / outputs.CHECKPOINT).exists()
        resumed += again
        process = subprocess.Popen([*command, *["--resume"] * again], env=surroundings, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, text=True)
        try:
            _, errors = process.communicate(timeout=dice.uniform(1.5, 7) if killed < kills else 100)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            killed += 1
            assert_whole(folder)
            continue
        assert process.returncode == 0, errors
        assert [(folder / name).read_bytes() for name in ("losses.npy", "model.pt")] == expected
        assert not list(folder.glob(".*.partial")) and not (folder / outputs.CHECKPOINT).exists()
    return resumed


def test_killed_runs_leave_whole_files(tmp_path):
    kill_and_resume(tmp_path, "ann_revisited", kills=1)


@pytest.mark.soak
@pytest.mark.parametrize("script", KILLED)
def test_two_hundred_kills(tmp_path, script):
    assert kill_and_resume(tmp_path, script, kills=100) > 20
