"""The scripts as a user runs them; what they import, and what importing them does."""

import re
import subprocess
import sys

import numpy as np
import pytest
from conftest import PROJECT, environment, run_in
from helpers import B_TRUE, W_TRUE


@pytest.fixture
def default_run(tmp_path):
    """A function that runs a lecture as it is, through a symbolic link."""
    elsewhere = tmp_path / "a folder with spaces"
    elsewhere.mkdir()

    def call(script: str, *more_files: str, flags: tuple[str, ...] = ()):
        link = elsewhere / "a link.py"
        link.symlink_to(PROJECT / "lectures" / f"{script}.py")
        done = run_in(elsewhere, *flags, link)
        assert done.returncode == 0, done.stderr
        expected = {"metrics.json", "losses.npy", "model_initial.pt", "model.pt", *more_files}
        assert {path.name for path in done.folder.iterdir()} - {".lock"} == expected
        assert {*done.metrics["files"], "metrics.json"} == expected
        return done

    return call


@pytest.mark.numbers  # again by make test-arithmetic
def test_linear_recovery(default_run):
    done = default_run("linear_recovery", "loss.png", "parameter_error.png", "train_data.npz")
    results, lines = done.metrics["results"], done.stdout.splitlines()
    averaged, limit = results["averaged"], results["stable_lr_limit"]
    assert averaged["weight_error"] < 0.01 and averaged["bias_error"] < 0.15
    assert results["steps"] == 10_000 and done.stderr == ""
    errors = f"{averaged['weight_error']:.2g} of the truth, b within {averaged['bias_error']:.2g}"
    assert {
        f"largest stable learning rate for steps on one pair: {limit:.3g}",
        "engine: steps 3 to 9,999 compiled",
        f"10,000 steps: averaged W within {errors}",
        f"{'true':>23}{'last':>15}{'averaged':>15}{'least squares':>15}",
    } <= set(lines)
    columns = [{"weight": W_TRUE, "bias": B_TRUE}]  # beside the truth the estimates
    columns += [results[name] for name in ("last", "averaged", "least_squares")]
    values = zip(*([*np.ravel(column["weight"]), *column["bias"]] for column in columns))
    table = [[f"{number:.5g}" for number in row] for row in values]
    assert [line.split()[1:] for line in lines if "]" in line] == table
    names = [line.split()[0] for line in lines if "]" in line]
    assert names == [f"W[{i},{j}]" for i in (1, 2) for j in range(1, 6)] + ["b[1]", "b[2]"]


@pytest.mark.numbers
def test_ann_revisited(default_run):
    figures = (f"{name}.png" for name in ("loss", "regions", "surfaces", "layers"))
    done = default_run("ann_revisited", *figures, flags=("-OO",))  # without docstrings
    results, losses = done.metrics["results"], np.load(done.folder / "losses.npy")
    assert results["points_correct"] == 10 and results["final_loss"] < 0.003
    assert losses.shape == (1_000_000,) and losses[0] == results["initial_loss"]
    assert results["parameters"] == 23 and done.stderr == ""
    for line in (
        r"engine: steps 3 to 999,999 compiled",
        r"  Linear\(2 -> 3\), +# 9 parameters",
        r".*: 6 arrays, 23 parameters, 184 bytes \(.* 568\)",  # Flux's 568 bytes
        rf"1,000,000 steps: 10 of 10 points right, loss {results['final_loss']:.4g}",
    ):
        assert re.search(f"^{line}$", done.stdout, re.MULTILINE), line


@pytest.mark.numbers
def test_mnist_mlp_without_files_and_network(default_run):
    names = ("first_five", "loss", "unseen", "confusion", "mistakes", "hidden_units", "layers")
    done = default_run("mnist_mlp", *(f"{name}.png" for name in names))
    assert done.stderr.startswith("warning: MNIST is not in ")
    assert "bundled digits instead of MNIST" in done.stderr
    results = done.metrics["results"]
    assert results["dataset"] == "digits" and results["test_accuracy"] > 0.7
    assert "scikit-learn digits" in done.stdout and "MNIST" not in done.stdout
    flux = r": 4 arrays, 31,810 parameters, 127,240 bytes \(.* 127,496\)"  # Flux's 124.508 KiB
    assert re.search(flux, done.stdout)


def test_without_llvmlite_the_loop_goes_on_as_it_is_and_says_why(run, tmp_path):
    (tmp_path / "llvmlite.py").write_text("raise ImportError('no llvmlite here')")
    done = run("ann_revisited", "--steps", 300, PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.metrics["results"]["engine"] == "eager"
    assert re.search("^engine: not compiled: .*no llvmlite here", done.stdout, re.MULTILINE)


def test_an_engine_that_was_asked_for_in_vain_is_refused(undrawn):
    done = undrawn("ann_revisited", "--steps", 2, "--engine", "compiled")
    assert done.returncode == 1
    assert re.fullmatch("error: --engine compiled: .*too few steps.*--engine eager\n", done.stderr)


def test_torchvision_that_does_not_fit(undrawn, tmp_path, monkeypatch):
    line = "raise RuntimeError('operator torchvision::nms does not exist')"
    (tmp_path / "torchvision.py").write_text(line)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    done = undrawn("mnist_mlp")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    advice = ("torchvision::nms does not exist", "torch 2", "--force-reinstall torch torchvision")
    assert [part for part in advice if part not in done.stderr] == []
    assert undrawn("mnist_mlp", "--dataset", "digits").returncode == 0  # they need none


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
    settings = {"env": environment(), "capture_output": True, "text": True, "timeout": 60}
    done = subprocess.run([sys.executable, "-c", IMPORT, PROJECT], cwd=tmp_path, **settings)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not any(tmp_path.iterdir())
