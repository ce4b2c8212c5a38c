"""A run survives its user: closed pipes, full disks, odd environments, Ctrl-C during imports."""

from common import run as common_run
from common.run import Run

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import PROJECT, environment
from helpers import SCRIPTS, at_step, content, have_memory, press, texts, watch_figures

# Each would be a line on the user's screen, except DeprecationWarnings in a library.
pytestmark = pytest.mark.filterwarnings("error", "ignore::DeprecationWarning")

QUICK = {
    "linear_recovery": ("--engine", "eager", "--samples", 60),
    "ann_revisited": ("--engine", "eager", "--steps", 60),
    "mnist_mlp": ("--images", 50, "--hidden", 8, "--epochs", 60),
}
FILES = {"metrics.json", "losses.npy", "model_initial.pt", "model.pt", "loss.png"}


# What stands behind stdout and stderr, and in the environment.

NOWHERE = {  # a notebook's backend, which has no windows, and no home that could be written
    "HOME": "/dev/null",
    "XDG_CONFIG_HOME": "/dev/null/a",
    "XDG_CACHE_HOME": "/dev/null/b",
    "MPLCONFIGDIR": "",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
}
CP = {"PYTHONIOENCODING": "cp1252"}
ACCIDENTS = {  # the line, in which "$@" is the command, the environment; exit code, stdout, stderr
    "reader gone": ('"$@" | true', {}, 0, "", ""),
    "stdout full": ('"$@" > /dev/full', {}, 1, "", "error: .*No space left on device.*\n"),
    "stderr closed": ('"$@" 2>&-', {}, 0, ".*device: .*", ""),
    "all closed": ('"$@" <&- >&- 2>&-', {}, 0, "", ""),
    "letters": ('"$@"', CP, 0, r".*\\u6570\\u5b57\\udcff.*", ""),
    "nowhere": ('"$@" --show', NOWHERE, 0, ".*", "warning: --show.*figures are in.*\n"),
}


@pytest.mark.parametrize("name", ACCIDENTS)
def test_an_accident_around_the_process(undrawn, digits, tmp_path, name):
    """In a folder that an encoding may have no letters for, and with a byte that is no letter."""
    shell, extra, code, said, warned = ACCIDENTS[name]
    script = "mnist_mlp" if "closed" in name else "ann_revisited"
    folder, temporary = tmp_path / os.fsdecode("数字".encode() + b"\xff"), tmp_path / "temporary"
    temporary.mkdir()
    words = [sys.executable, PROJECT / "lectures" / f"{script}.py", *QUICK[script]]
    command = ["bash", "-o", "pipefail", "-c", shell, "bash", *words, "--output-dir", folder]
    surroundings = environment(MNIST_ROOT=str(digits.root), TMPDIR=str(temporary), **extra)
    settings = {"env": surroundings, "capture_output": True, "text": True, "timeout": 120}
    done = subprocess.run(list(map(str, command)), **settings)
    assert done.returncode == code, done.stderr
    assert re.fullmatch(said, done.stdout, re.DOTALL) and re.fullmatch(warned, done.stderr)
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert FILES < found.keys() and not any(b"device: " in text for text in found.values())
    assert json.loads(found["metrics.json"])["config"]["output_dir"] == str(folder)
    left = [path.name for path in temporary.iterdir()]
    assert [name for name in left if not name.startswith("torchinductor_")] == []  # PyTorch's
    # In this process, the same numbers are made.
    assert content(folder) == content(undrawn(script, *QUICK[script]).folder)


OPENED = """
import os, sys
sys.path.insert(0, sys.argv[1])
from common import program
def main():
    with open(sys.argv[2], "wb"):
        os.write(2, b"a library's message")
    raise program.RunError("that nobody can read")
program.execute(main)
"""


def test_what_is_said_to_a_closed_stream_goes_into_no_file(tmp_path):
    """The first file that is opened would get the free number, and the messages."""
    words = list(map(str, (sys.executable, "-c", OPENED, PROJECT, tmp_path / "file")))
    done = subprocess.run(["bash", "-c", 'exec "$@" 2>&-', "bash", *words], timeout=60)
    assert done.returncode == 1 and (tmp_path / "file").read_bytes() == b""


# The folder of MNIST.


def test_a_folder_that_is_named_wrongly_is_said_and_not_made(undrawn, tmp_path, monkeypatch):
    typo = tmp_path / "typo"
    monkeypatch.setenv("MNIST_ROOT", str(typo))
    done = undrawn("mnist_mlp", "--dataset", "mnist")
    assert done.returncode == 1 and done.metrics is None and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ") and f"{typo} is no folder" in done.stderr
    done = undrawn("mnist_mlp")
    assert done.returncode == 0 and done.stderr.startswith("warning: ")
    assert f"{typo} is no folder" in done.stderr.splitlines()[0] and not typo.exists()
    assert done.metrics["results"]["dataset"] == done.metrics["config"]["dataset"] == "digits"


def test_an_empty_name_of_a_folder_names_none(undrawn, monkeypatch):
    monkeypatch.setenv("MNIST_ROOT", "")
    assert undrawn("mnist_mlp", "--dataset", "digits", "--epochs", 1).returncode == 0


# Ctrl-C before PyTorch is there.


@pytest.mark.parametrize(
    "module, script, number",
    [("argparse", "linear_recovery", signal.SIGINT), ("torch.types", "mnist_mlp", signal.SIGTERM)],
)
def test_ctrl_c_while_it_is_imported(tmp_path, module, script, number):
    """`-X importtime` says which module has been imported: the signal comes after one of them."""
    words = [sys.executable, "-X", "importtime", PROJECT / "lectures" / f"{script}.py"]
    words += ["--output-dir", tmp_path / "run"]
    said, settings = [], {"env": environment(), "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(words, **settings) as started:
        for line in started.stderr:
            if not line.startswith("import time:"):
                said.append(line)
            elif line.split("|")[-1].strip() == module:
                started.send_signal(number)
    assert started.returncode == 128 + number
    assert said == ["interrupted: nothing was saved, training had not begun\n"]


# What the titles and sentences say.


@pytest.mark.parametrize("script", SCRIPTS)
def test_titles_of_an_interrupted_run_say_how_far_it_came(run_here, digits, monkeypatch, script):
    figures = watch_figures(monkeypatch)
    at_step(monkeypatch, 35, press)
    *options, planned, _ = QUICK[script]
    done = run_here(script, *options, planned, 1234, "--quiet")
    assert done.returncode == 130 and "interrupted at step 35 of 1,234: " in done.stdout
    assert "loss" in figures
    for figure in figures.values():
        title = figure.get_suptitle()
        assert "\ninterrupted at step 35 of 1,234, " in title and title.count("1,234") == 1


def test_a_plateau_is_one_of_a_finished_run_alone(undrawn, monkeypatch):
    options = ("ann_revisited", "--steps", 1500, "--lr", 0.3, "--seed", 1)
    done = undrawn(*options)
    losses = np.load(done.folder / "losses.npy")
    fall = 1 - losses[-1] / losses[-150]
    assert f"the loss fell by {fall:.2%} in the last tenth of the steps, a plat" in done.stdout
    at_step(monkeypatch, 1490, press)
    assert "the loss fell by" not in undrawn(*options).stdout


ONES = {
    "linear_recovery": ("--samples", 1),
    "ann_revisited": ("--steps", 1),
    "mnist_mlp": ("--images", 1, "--epochs", 1, "--hidden", 1),
}
PLURAL = re.compile(
    r"(?<![\d.,])1 (?:[a-z]+ )?(?:steps|pairs|points|starts|images|epochs|batches|units|threads|"
    r"parameters|cores|seconds|minutes|samples|arrays)\b"
)


@pytest.mark.parametrize("script", ONES)
def test_one_of_a_thing_is_not_many(run_here, digits, monkeypatch, script):
    figures = watch_figures(monkeypatch)
    done = run_here(script, *ONES[script])
    assert done.returncode == 0 and done.metrics["results"]["steps"] == 1, done.stderr
    drawn = [" ".join(" ".join(texts(figure)).split()) for figure in figures.values()]
    everything = "\n".join([done.stdout, done.stderr, *drawn])
    assert PLURAL.findall(everything) == []
    assert "nan" not in everything and "of 1 to test" not in everything


# Too little memory.


@pytest.mark.parametrize(
    "script, options",
    [
        ("linear_recovery", ("--samples", 1_000_000)),
        ("ann_revisited", ("--steps", 1_000_000)),
        ("mnist_mlp", ("--hidden", 10_000, "--epochs", 1, "--images", 5)),
    ],
)
def test_more_than_the_memory_is_refused_before_it_is_taken(undrawn, monkeypatch, script, options):
    have_memory(monkeypatch, 10**7)
    done = undrawn(script, *options)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and done.metrics is None
    assert done.stderr.startswith("error: ") and "0.0 GiB are free" in done.stderr
    assert undrawn(script, *QUICK[script]).returncode == 0  # a small run needs little


@pytest.mark.parametrize(
    "take", [lambda draw: bytes(2**60), lambda draw: np.ones(2**58), lambda draw: torch.ones(2**58)]
)
def test_memory_that_is_not_there_after_all(undrawn, monkeypatch, take):
    monkeypatch.setattr("lectures.ann_revisited.build_model", take)
    done = undrawn("ann_revisited")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: out of memory; choose fewer")


# The progress bar.


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Hasty(common_run.tqdm):
    """A bar that is drawn at once and at every step."""

    def __init__(self, **settings):
        super().__init__(**settings | {"delay": 0, "mininterval": 0})


@pytest.mark.parametrize("options, shown", [((), 1), (("--quiet",), 0)])
def test_a_bar_is_for_terminals_and_what_is_printed_stands_above_it(
    undrawn, monkeypatch, options, shown
):
    monkeypatch.setattr(Run, "CHECKPOINT_SECONDS", 0)
    done = undrawn("mnist_mlp", *QUICK["mnist_mlp"], *options)
    assert done.returncode == 0 and "training:" not in done.stderr
    numbers = content(done.folder)
    (done.folder / "checkpoint.pt" / "in the way").mkdir(parents=True)  # no file can be there
    screen = Terminal()
    monkeypatch.setattr(common_run, "tqdm", Hasty)
    with contextlib.redirect_stdout(screen), contextlib.redirect_stderr(screen):
        again = undrawn("mnist_mlp", *QUICK["mnist_mlp"], *options)
    assert content(again.folder) == numbers  # the training goes on
    lines = [line.rsplit("\r")[-1].rstrip() for line in screen.getvalue().split("\n")]
    ending = r"training: 100%.*loss=.*"  # whole at the end
    assert [bool(re.fullmatch(ending, line)) for line in lines].count(True) == shown
    assert ("training:" in screen.getvalue()) == shown
    warnings = [line for line in lines if line.startswith("warning: no checkpoint: cannot write")]
    losses = np.load(again.folder / "losses.npy")
    reports = [f"step {k}: loss {loss:.4f}" for k, loss in enumerate(losses, 1)]
    assert [line for line in lines if line.startswith("step")] == reports * shown
    assert len(warnings) == len(losses) == 60
