"""A run survives its user: closed pipes, full disks, odd environments, Ctrl-C at every moment."""

import common.files
from common import run as common_run
from common.run import Run

import contextlib
import io
import json
import os
import re
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
    have_memory,
    no_figures,
    press,
    results_of,
    texts,
    watch_figures,
    write_digits,
)

# Each would be a line on the user's screen, except DeprecationWarnings in a library.
pytestmark = pytest.mark.filterwarnings("error", "ignore::DeprecationWarning")

QUICK = {
    "linear_recovery": ("--samples", 60, "--engine", "eager"),
    "ann_revisited": ("--steps", 60, "--engine", "eager"),
    "mnist_mlp": ("--images", 50, "--epochs", 60, "--hidden", 8),
}
FILES = {"metrics.json", "losses.npy", "model_initial.pt", "model.pt", "loss.png"}


@pytest.fixture
def made_up(tmp_path, monkeypatch):
    """Made-up digits where MNIST_ROOT leads to; returns the folder."""
    write_digits(tmp_path / "data")
    monkeypatch.setenv("MNIST_ROOT", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def here(run_here, made_up, monkeypatch):
    """As `run_here`, with made-up digits and without figures."""
    monkeypatch.setenv("MNIST_ROOT", str(made_up))
    no_figures(monkeypatch)
    return run_here


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
def test_an_accident_around_the_process(run_here, made_up, tmp_path, name):
    """In a folder that an encoding may have no letters for, and with a byte that is no letter."""
    shell, extra, code, said, warned = ACCIDENTS[name]
    script = "mnist_mlp" if "closed" in name else "ann_revisited"
    folder = tmp_path / os.fsdecode("数字".encode() + b"\xff")
    words = [sys.executable, PROJECT / "lectures" / f"{script}.py", *QUICK[script]]
    words += ["--output-dir", folder]
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", shell, "bash", *map(str, words)],
        env=environment(MNIST_ROOT=str(made_up), **extra),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == code, done.stderr
    assert re.fullmatch(said, done.stdout, re.DOTALL) and re.fullmatch(warned, done.stderr)
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert FILES < found.keys() and not any(b"device: " in text for text in found.values())
    assert json.loads(found["metrics.json"])["config"]["output_dir"] == str(folder)
    if name == "letters":  # a process of its own makes the same numbers
        assert content(folder) == content(run_here(script, *QUICK[script]).folder)


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


@pytest.mark.parametrize("options", [("--dataset", "mnist"), ("--dataset", "kmnist"), ()])
def test_a_folder_that_is_named_wrongly_is_said_and_not_made(here, tmp_path, monkeypatch, options):
    typo = tmp_path / "typo"
    monkeypatch.setenv("MNIST_ROOT", str(typo))
    done = here("mnist_mlp", "--quiet", "--epochs", 2, *options)
    assert f"{typo} is no folder" in done.stderr.splitlines()[0] and not typo.exists()
    if options:
        assert done.returncode == 1 and done.metrics is None and done.stderr.count("\n") == 1
    else:  # auto
        assert done.metrics["results"]["dataset"] == done.metrics["config"]["dataset"] == "digits"
        assert done.returncode == 0 and done.stderr.startswith("warning:")


# Ctrl-C before PyTorch is there, and while the figures are saved.


@pytest.mark.parametrize(
    "module, script, number",
    [("argparse", "linear_recovery", signal.SIGINT), ("torch.types", "mnist_mlp", signal.SIGTERM)],
)
def test_ctrl_c_while_it_is_imported(tmp_path, module, script, number):
    """`-X importtime` says which module has been imported: the signal comes after one of them."""
    words = [sys.executable, "-X", "importtime", PROJECT / "lectures" / f"{script}.py"]
    said = []
    with subprocess.Popen(
        [*words, "--output-dir", tmp_path / "run"],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    ) as started:
        for line in started.stderr:
            if not line.startswith("import time:"):
                said.append(line)
            elif line.split("|")[-1].strip() == module:
                started.send_signal(number)
                module = None
    assert module is None, "it was never imported"
    assert started.returncode == 128 + number
    assert said == ["interrupted: nothing was saved, training had not begun\n"]


@pytest.mark.parametrize("engine", ["compiled", "eager"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_ctrl_c_while_the_figures_are_saved(here, monkeypatch, script, engine):
    """Once: all is saved. Twice: it ends at once; --resume goes on from the last checkpoint."""
    options = [*QUICK[script], *(["--engine", engine] if script != "mnist_mlp" else [])]
    whole = here(script, *options)
    files, results = content(whole.folder), results_of(whole)
    save = common.files.save
    for times in (1, 2):

        def pressed(path: Path, what: object, times=times) -> None:
            for _ in range(times if path.name == "loss.png" else 0):
                press()
            save(path, what)

        shutil.rmtree(whole.folder)
        with monkeypatch.context() as patch:
            patch.setattr(common.files, "save", pressed)
            patch.setattr(Run, "CHECKPOINT_SECONDS", 0)
            at_step(patch, 0, press)  # a checkpoint after each step
            done = here(script, *options)
        assert done.returncode == 130 and done.stderr.count("\n") == 1
        assert done.stderr.startswith("interrupted: ")
        assert ("computed so far is saved" in done.stderr) == (times == 1)
        assert (done.metrics is not None) == (times == 1)
        with monkeypatch.context() as patch:
            made = at_step(patch, 0, press)
            done = here(script, *options, "--resume")
        assert done.returncode == 0 and made == [], done.stderr
        assert ("complete: " in done.stdout) == (times == 1)
        assert content(done.folder) == files and results_of(done) == results


# What the titles and sentences say.

PLANNED = {"linear_recovery": "--samples", "ann_revisited": "--steps", "mnist_mlp": "--epochs"}


def said(figure) -> str:
    """All texts of a figure in one line, since a title may be broken into several."""
    return " ".join(" ".join(texts(figure)).split())


@pytest.fixture
def drawn(run_here, made_up, monkeypatch):
    """A function that makes a run, and returns it and the texts of its figures by their names."""
    monkeypatch.setenv("MNIST_ROOT", str(made_up))
    figures = watch_figures(monkeypatch)

    def call(script: str, *options):
        figures.clear()
        done = run_here(script, *options)
        return done, {name: said(figure) for name, figure in figures.items()}

    return call


@pytest.mark.parametrize("script", SCRIPTS)
def test_titles_of_an_interrupted_run_say_how_far_it_came(drawn, monkeypatch, script):
    at_step(monkeypatch, 35, press)
    done, figures = drawn(script, *QUICK[script], PLANNED[script], 1234, "--quiet")
    assert done.returncode == 130 and len(np.load(done.folder / "losses.npy")) == 35
    for name, text in figures.items():
        assert "interrupted at step 35 of 1,234" in text, name
        assert "1,234" not in text.replace("35 of 1,234", ""), name
    assert "loss" in figures and "interrupted at step 35 of 1,234: " in done.stdout


def test_titles_of_a_diverged_run_say_where_it_diverged(drawn):
    done, figures = drawn("linear_recovery", "--raw", "--quiet")
    losses = np.load(done.folder / "losses.npy")
    assert f"step {len(losses)} with learning rate 0.01" in done.stderr
    assert f"{done.metrics['results']['stable_lr_limit']:.3g}" in done.stdout
    for text in figures.values():
        assert f"diverged at step {len(losses)} of 10,000" in text
        assert "10,000 pairs" not in text and "10,000 steps" not in text


@pytest.mark.parametrize(
    "line, parts, absent",
    [
        (
            "mnist_mlp --images 50 --epochs 7 --lr 0.0123 --seed 3",
            "MNIST; 50 images; 7 steps; learning rate 0.0123; seed 3",
            "1,437",
        ),
        (
            "linear_recovery --samples 77 --lr 0.0123 --low 2 --high 6",
            "77 steps; learning rate 0.0123; [2, 6); centred",
            "[5, 10)",
        ),
        ("linear_recovery --samples 77 --lr 0.0001 --raw", "77 steps; [5, 10)", "centred"),
        (
            "ann_revisited --steps 77 --lr 0.0123 --seed 45",
            "77 steps; learning rate 0.0123; seed 45; of 10 points right",
            "seed 0",
        ),
    ],
)
def test_titles_of_a_finished_run_name_its_settings(drawn, line, parts, absent):
    done, figures = drawn(*line.split())
    assert done.returncode == 0
    for part in parts.split("; "):
        assert part in figures["loss"]
    assert absent not in figures["loss"]


def test_a_plateau_is_one_of_a_finished_run_alone(here, monkeypatch):
    options = ("ann_revisited", "--steps", 1500, "--lr", 0.3, "--seed", 1)
    assert "the loss fell by 0.34% in the last tenth of the steps, a plat" in here(*options).stdout
    at_step(monkeypatch, 1490, press)
    assert "the loss fell by" not in here(*options).stdout


ONES = {
    "linear_recovery": ("--samples", 1),
    "ann_revisited": ("--steps", 1),
    "mnist_mlp": ("--images", 1, "--epochs", 1, "--hidden", 1),
}
PLURAL = re.compile(
    r"(?<![\d.,])1 (?:[a-z]+ )?(?:steps|pairs|points|starts|images|epochs|batches|units|threads|"
    r"parameters|cores|seconds|minutes|samples|arrays)\b"
)


@pytest.mark.parametrize("script", SCRIPTS)
def test_one_of_a_thing_is_not_many(drawn, script):
    done, figures = drawn(script, *ONES[script])
    assert done.returncode == 0 and done.metrics["results"]["steps"] == 1, done.stderr
    everything = "\n".join([done.stdout, done.stderr, *figures.values()])
    assert not PLURAL.findall(everything)
    assert "nan" not in everything and "of 1 to test" not in everything


# Too little memory.


@pytest.mark.parametrize(
    "script, options",
    [
        ("linear_recovery", ("--samples", 1_000_000)),
        ("ann_revisited", ("--steps", 1_000_000)),
        ("mnist_mlp", ("--hidden", 10_000, "--epochs", 1, "--images", 50)),
    ],
)
def test_more_than_the_memory_is_refused_before_it_is_taken(here, monkeypatch, script, options):
    have_memory(monkeypatch, 10**7)
    done = here(script, *options)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and done.metrics is None
    assert done.stderr.startswith("error: ") and "0.0 GiB are free" in done.stderr
    assert here(script, *QUICK[script]).returncode == 0  # a small run needs little


@pytest.mark.parametrize(
    "take", [lambda draw: bytes(2**60), lambda draw: np.ones(2**58), lambda draw: torch.ones(2**58)]
)
def test_memory_that_is_not_there_after_all(here, monkeypatch, take):
    monkeypatch.setattr("lectures.ann_revisited.build_model", take)
    done = here("ann_revisited")
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


@pytest.mark.parametrize("options", [(), ("--quiet",)])
def test_a_bar_is_for_terminals_and_what_is_printed_stands_above_it(here, monkeypatch, options):
    monkeypatch.setattr(Run, "CHECKPOINT_SECONDS", 0)
    done = here("mnist_mlp", *QUICK["mnist_mlp"], *options)
    assert done.returncode == 0 and "training:" not in done.stderr
    numbers = content(done.folder)
    (done.folder / "checkpoint.pt" / "in the way").mkdir(parents=True)  # no file can be there
    screen = Terminal()
    monkeypatch.setattr(common_run, "tqdm", Hasty)
    with contextlib.redirect_stdout(screen), contextlib.redirect_stderr(screen):
        again = here("mnist_mlp", *QUICK["mnist_mlp"], *options)
    assert content(again.folder) == numbers  # the training goes on
    lines = [line.rsplit("\r")[-1].rstrip() for line in screen.getvalue().split("\n")]
    bars = [line for line in lines if line.startswith("training:")]
    warnings = [line for line in lines if line.startswith("warning: no checkpoint: cannot write")]
    progress = [line for line in lines if re.fullmatch(r"step \d+: loss \d\.\d{4}", line)]
    assert len(warnings) == 60 and len(progress) == (0 if options else 60)
    assert ("training:" in screen.getvalue()) == (not options)
    assert all("100%" in bar and "loss=" in bar for bar in bars)  # whole at the end
    assert len(bars) == (0 if options else 1)
