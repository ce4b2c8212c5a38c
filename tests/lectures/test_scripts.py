"""Faults that every script meets in the same way, run as a user runs them."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import PROJECT, environment
from helpers import SCRIPTS, have_memory

SHORT = {
    "linear_recovery": ("--samples", "20"),
    "ann_revisited": ("--steps", "20"),
    "mnist_mlp": ("--dataset", "digits", "--epochs", "1"),
}

BROKEN = {
    "llvmlite": "raise ImportError('no llvmlite here')",
    "torchvision": "raise RuntimeError('operator torchvision::nms does not exist')",
}


@pytest.fixture
def broken(tmp_path):
    """A folder for PYTHONPATH in which llvmlite and torchvision cannot be imported."""
    for name, line in BROKEN.items():
        (tmp_path / f"{name}.py").write_text(line)
    return str(tmp_path)


@pytest.mark.parametrize("script", SCRIPTS)
def test_without_docstrings_and_through_a_symbolic_link(tmp_path, script):
    link = tmp_path / "a link.py"
    try:
        os.symlink(PROJECT / "lectures" / f"{script}.py", link)
    except OSError:
        pytest.skip("this system makes no symbolic links here")
    command = [sys.executable, "-OO", link, "--output-dir", tmp_path / "out", *SHORT[script]]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0 and done.stderr == ""
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["script"] == script


def test_without_llvmlite_the_loop_goes_on_as_it_is_and_says_why(run, broken):
    done = run("ann_revisited", "--steps", 300, PYTHONPATH=broken)
    assert done.returncode == 0 and done.stderr == ""
    assert done.metrics["results"]["engine"] == "eager"
    assert np.isfinite(np.load(done.folder / "losses.npy")).sum() == 300
    said = [line for line in done.stdout.splitlines() if line.startswith("engine:")]
    assert len(said) == 1 and "engine: not compiled: " in said[0] and "no llvmlite here" in said[0]


def test_what_cannot_be_compiled_is_refused_if_that_was_asked(run, broken):
    done = run("ann_revisited", "--steps", 300, "--engine", "compiled", PYTHONPATH=broken)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: --engine compiled: ") and "no llvmlite" in done.stderr


def test_torchvision_that_does_not_fit(run, run_here, broken, tmp_path, monkeypatch):
    done = run("mnist_mlp", "--dataset", "mnist", "--data-dir", tmp_path, PYTHONPATH=broken)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    for part in (
        "operator torchvision::nms does not exist",
        "torch 2",
        "--force-reinstall",
        "--dataset digits",
    ):
        assert part in done.stderr
    monkeypatch.setitem(sys.modules, "torchvision", None)  # importing it raises
    done = run_here("mnist_mlp", "--dataset", "digits", "--quiet")
    assert done.returncode == 0, done.stderr


def test_more_steps_than_memory(run_here, monkeypatch):
    have_memory(monkeypatch, 2**30)
    done = run_here("ann_revisited", "--steps", 1_000_000_000)
    assert done.returncode == 1 and done.stderr.startswith("error: this run needs")
    assert "1.0 GiB are free" in done.stderr


def test_show_without_a_display_says_so(run_here):
    done = run_here("linear_recovery", "--samples", 100, "--show", "--quiet")
    assert done.returncode == 0 and "warning: --show" in done.stderr
