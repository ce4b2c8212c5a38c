"""What the scripts import, and what importing them does."""

import re
import subprocess
import sys

import pytest
from conftest import PROJECT, environment


@pytest.mark.parametrize("engine, code", [("auto", 0), ("compiled", 1)])
def test_without_llvmlite_the_loop_goes_on_as_it_is_and_says_why(run, tmp_path, engine, code):
    (tmp_path / "llvmlite.py").write_text("raise ImportError('no llvmlite here')")
    done = run("ann_revisited", "--steps", 300, "--engine", engine, PYTHONPATH=str(tmp_path))
    assert done.returncode == code
    if engine == "auto":
        assert done.stderr == "" and done.metrics["results"]["engine"] == "eager"
        assert re.search("^engine: not compiled: .*no llvmlite here", done.stdout, re.MULTILINE)
    else:  # what was asked for in vain is refused
        assert re.fullmatch("error: --engine compiled: .*no llvmlite here.*\n", done.stderr)


def test_torchvision_that_does_not_fit(run, undrawn, tmp_path, monkeypatch):
    line = "raise RuntimeError('operator torchvision::nms does not exist')"
    (tmp_path / "torchvision.py").write_text(line)
    done = run("mnist_mlp", "--dataset", "mnist", "--data-dir", tmp_path, PYTHONPATH=str(tmp_path))
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    advice = ("torchvision::nms does not exist", "torch 2", "--force-reinstall torch torchvision")
    for part in advice:
        assert part in done.stderr
    monkeypatch.setitem(sys.modules, "torchvision", None)
    assert undrawn("mnist_mlp", "--dataset", "digits", "--quiet").returncode == 0


IMPORT = """
import gc, signal, sys
sys.path.insert(0, sys.argv[1])
import torch
def state():
    signals = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    settings = torch.get_num_threads(), torch.get_default_dtype(), sys.excepthook
    return signals, settings, gc.isenabled(), gc.get_freeze_count(), sys.stdout, sys.stderr
before = state()
import lectures.linear_recovery, lectures.ann_revisited, lectures.mnist_mlp
assert state() == before
"""


def test_importing_a_lecture_changes_nothing(tmp_path):
    """No signal handler, no threads, no files, nothing said: notebooks import lectures too."""
    command = [sys.executable, "-c", IMPORT, PROJECT]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and done.stderr == "" and done.stdout == "", done.stderr
    assert not any(tmp_path.iterdir())
