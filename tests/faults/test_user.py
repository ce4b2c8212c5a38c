"""A run survives its user: closed pipes, full disks, odd environments, Ctrl-C at every moment."""

import common.files
import engine.compile
import engine.vector
from common.run import Run

import fcntl
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import numpy as np
import pytest
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


def command(script: str, folder: Path, *options) -> list[str]:
    words = (
        sys.executable,
        PROJECT / "lectures" / f"{script}.py",
        "--output-dir",
        folder,
        *options,
    )
    return list(map(str, words))


@pytest.fixture
def made_up(tmp_path, monkeypatch):
    """Made-up digits where MNIST_ROOT leads to; returns the folder."""
    write_digits(tmp_path / "data")
    return tmp_path / "data"


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {".lock", ".owner"}


# What stands behind stdout and stderr.


def test_a_reader_that_leaves_early(made_up, tmp_path):
    """As `| head -1`, at its worst: the reader is gone before the first line."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            command("mnist_mlp", tmp_path / "run", *QUICK["mnist_mlp"]),
            stdout=writer,
            stderr=subprocess.PIPE,
            env=environment(MNIST_ROOT=str(made_up)),
            text=True,
            timeout=60,
        )
    finally:
        os.close(writer)
    assert done.returncode == 0 and done.stderr == ""
    assert FILES < files_in(tmp_path / "run")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_behind_stdout(run_here, tmp_path):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command("linear_recovery", tmp_path / "run", *QUICK["linear_recovery"]),
            stdout=full,
            stderr=subprocess.PIPE,
            env=environment(),
            text=True,
            timeout=60,
        )
    assert (
        done.returncode == 1 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    ), done.stderr
    assert "No space left on device" in done.stderr and FILES < files_in(tmp_path / "run")
    here = run_here(
        "linear_recovery", *QUICK["linear_recovery"]
    )  # a process of its own makes the same numbers
    assert content(here.folder) == content(tmp_path / "run")


@pytest.mark.parametrize(
    "closed, script", [("2>&-", "linear_recovery"), ("<&- >&- 2>&-", "mnist_mlp")]
)
def test_closed_streams(made_up, tmp_path, closed, script):
    """The first file that is opened gets the free number, and must not get the messages."""
    words = command(script, tmp_path / "run", *QUICK[script])
    done = subprocess.run(
        ["bash", "-c", f'exec "$@" {closed}', "bash", *words],
        env=environment(MNIST_ROOT=str(made_up)),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert FILES < files_in(tmp_path / "run") and done.stderr == ""
    assert all(b"device" not in path.read_bytes() for path in (tmp_path / "run").glob(".*"))


def test_an_error_that_nobody_can_read(tmp_path):
    (tmp_path / "run").write_text("no folder")
    done = subprocess.run(
        ["bash", "-c", 'exec "$@" 2>&-', "bash", *command("linear_recovery", tmp_path / "run")],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1 and "error" not in done.stdout + done.stderr
    assert (tmp_path / "run").read_text() == "no folder"


OPENED = """
import os, sys
sys.path.insert(0, sys.argv[1])
from common import program
def main():
    with open(sys.argv[2], "wb"):
        os.write(2, b"a library's message")
program.execute(main)
"""


def test_what_a_library_says_to_a_closed_stream_goes_into_no_file(tmp_path):
    words = list(map(str, (sys.executable, "-c", OPENED, PROJECT, tmp_path / "file")))
    assert (
        subprocess.run(["bash", "-c", 'exec "$@" 2>&-', "bash", *words], timeout=60).returncode == 0
    )
    assert (tmp_path / "file").read_bytes() == b""


def test_a_folder_that_the_encoding_has_no_letters_for(run, tmp_path):
    folder = tmp_path / os.fsdecode(
        "数字".encode() + b"\xff"
    )  # and one byte that is no letter at all
    done = run(
        "ann_revisited", *QUICK["ann_revisited"], "--output-dir", folder, PYTHONIOENCODING="cp1252"
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert r"\u6570\u5b57\udcff" in done.stdout and FILES < files_in(folder)
    assert json.loads((folder / "metrics.json").read_text())["config"]["output_dir"] == str(folder)


# What stands in the environment.


def test_a_notebook_s_backend_without_windows_and_a_home_that_cannot_be_written(run, made_up):
    """No warning of matplotlib's; the one line is --show's."""
    nowhere = {
        "HOME": "/dev/null",
        "XDG_CONFIG_HOME": "/dev/null/a",
        "XDG_CACHE_HOME": "/dev/null/b",
        "MPLCONFIGDIR": "",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    }
    done = run("ann_revisited", *QUICK["ann_revisited"], "--show", **nowhere)
    assert done.returncode == 0 and FILES < files_in(done.folder), done.stderr
    assert done.stderr.startswith("warning: --show") and done.stderr.count("\n") == 1
    assert "the figures are in" in done.stderr and str(done.folder) in done.stdout


# The folder of MNIST.


def test_a_folder_that_is_named_wrongly_is_not_made(run_here, tmp_path, monkeypatch):
    no_figures(monkeypatch)
    typo = tmp_path / "typo"
    monkeypatch.setenv("MNIST_ROOT", str(typo))
    done = run_here("mnist_mlp", "--dataset", "mnist", "--quiet")
    assert done.returncode == 1 and str(typo) in done.stderr and done.stderr.count("\n") == 1
    assert not typo.exists() and done.metrics is None
    monkeypatch.delenv("MNIST_ROOT")
    done = run_here("mnist_mlp", "--dataset", "fashion-mnist", "--data-dir", typo)
    assert done.returncode == 1 and str(typo) in done.stderr and not typo.exists()


def test_auto_without_the_named_folder_says_so(run_here, tmp_path, monkeypatch):
    no_figures(monkeypatch)
    monkeypatch.setenv("MNIST_ROOT", str(tmp_path / "typo"))
    done = run_here("mnist_mlp", "--quiet", "--epochs", 2)
    if done.returncode == 0:
        assert done.metrics["results"]["dataset"] == done.metrics["config"]["dataset"] == "digits"
        assert done.stderr.startswith("warning:")
    assert str(tmp_path / "typo") in done.stderr


@pytest.mark.parametrize("below", ["MNIST", "MNIST/raw"])
def test_the_folder_above_is_recognised(run_here, made_up, monkeypatch, below):
    no_figures(monkeypatch)
    monkeypatch.setenv("MNIST_ROOT", str(made_up / below))
    done = run_here("mnist_mlp", *QUICK["mnist_mlp"])
    assert done.returncode == 0 and done.stderr == ""
    assert (
        done.metrics["results"]["dataset"] == "mnist" and not (made_up / below / "MNIST").exists()
    )


# Ctrl-C before PyTorch is there, and while the figures are saved.


def press_when_saved(patch: pytest.MonkeyPatch, name: str, times: int = 1) -> None:
    """Presses Ctrl-C just before that file is written."""
    save = common.files.save

    def pressed(path: Path, what: object) -> None:
        for _ in range(times if path.name == name else 0):
            press()
        save(path, what)

    patch.setattr(common.files, "save", pressed)


@pytest.mark.parametrize(
    "module, script, number",
    [("argparse", "linear_recovery", signal.SIGINT), ("torch.types", "mnist_mlp", signal.SIGTERM)],
)
def test_while_it_is_imported(tmp_path, module, script, number):
    """`-X importtime` says which module has been imported: the signal comes after one of them."""
    python, *rest = command(script, tmp_path / "run")
    process = subprocess.Popen(
        [python, "-X", "importtime", *rest],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    said = []
    for line in process.stderr:
        if not line.startswith("import time:"):
            said.append(line)
        elif line.split("|")[-1].strip() == module:
            process.send_signal(number)
            module = None
    process.communicate(timeout=60)
    assert module is None, "it was never imported"
    assert process.returncode == 128 + number
    assert said == ["interrupted: nothing was saved, training had not begun\n"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_while_the_figures_are_saved_and_then_resumed(run_here, made_up, monkeypatch, script):
    """All is saved; the resumed run has nothing left to train."""
    monkeypatch.setenv("MNIST_ROOT", str(made_up))
    no_figures(monkeypatch)
    whole = run_here(script, *QUICK[script])
    files, results, names = content(whole.folder), results_of(whole), files_in(whole.folder)
    shutil.rmtree(whole.folder)
    with monkeypatch.context() as patch:
        press_when_saved(patch, "loss.png")
        done = run_here(script, *QUICK[script])
    assert done.returncode == 130 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("interrupted: ") and "everything is saved" in done.stderr
    assert files_in(done.folder) == names and content(done.folder) == files
    done = run_here(script, *QUICK[script], "--resume")
    assert done.returncode == 0 and "complete" in done.stdout, done.stderr
    assert files_in(done.folder) == names and results_of(done) == results


@pytest.mark.parametrize("engine", ["compiled", "eager"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_twice_while_the_figures_are_saved_and_then_resumed(
    run_here, made_up, monkeypatch, script, engine
):
    """The second ends the run at once; --resume goes on from a checkpoint that has every step."""
    monkeypatch.setenv("MNIST_ROOT", str(made_up))
    no_figures(monkeypatch)
    options = [*QUICK[script], *(["--engine", engine] if script != "mnist_mlp" else [])]
    whole = run_here(script, *options)
    files, results = content(whole.folder), results_of(whole)
    shutil.rmtree(whole.folder)
    with monkeypatch.context() as patch:
        patch.setattr(Run, "CHECKPOINT_SECONDS", 0)
        at_step(patch, 0, press)  # a checkpoint after each step
        press_when_saved(patch, "loss.png", times=2)
        assert run_here(script, *options).returncode == 130
    made = at_step(monkeypatch, 0, press)
    done = run_here(script, *options, "--resume", "--quiet")
    assert done.returncode == 0 and made == [], done.stderr
    assert content(done.folder) == files and results_of(done) == results


# What the titles and sentences say.


PLANNED = {"linear_recovery": "--samples", "ann_revisited": "--steps", "mnist_mlp": "--epochs"}


def said(figure) -> str:
    """All texts of a figure in one line, since a title may be broken into several."""
    return " ".join(" ".join(texts(figure)).split())


@pytest.mark.parametrize("script", SCRIPTS)
def test_titles_of_an_interrupted_run_say_how_far_it_came(run_here, made_up, monkeypatch, script):
    monkeypatch.setenv("MNIST_ROOT", str(made_up))
    figures = watch_figures(monkeypatch)
    at_step(monkeypatch, 35, press)
    done = run_here(script, *QUICK[script], PLANNED[script], 1234, "--quiet")
    assert done.returncode == 130 and len(np.load(done.folder / "losses.npy")) == 35
    for name, figure in figures.items():
        assert "interrupted after 35 of 1,234 steps" in said(figure), name
        assert "1,234" not in said(figure).replace("35 of 1,234", ""), name
    assert "loss" in figures and "interrupted after 35 of 1,234 steps: " in done.stdout


def test_titles_of_a_diverged_run_say_where_it_diverged(run_here, monkeypatch):
    figures = watch_figures(monkeypatch)
    done = run_here("linear_recovery", "--raw", "--quiet")
    losses = np.load(done.folder / "losses.npy")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: the loss is not finite at step ")
    assert 100 < len(losses) < 400 and losses[-2] > 1e250 and losses[-1] == np.inf
    assert f"step {len(losses)} with learning rate 0.01" in done.stderr
    assert f"{done.metrics['results']['stable_lr_limit']:.3g}" in done.stdout
    for figure in figures.values():
        assert f"diverged at step {len(losses)} of 10,000" in said(figure)
        assert "10,000 pairs" not in said(figure) and "10,000 steps" not in said(figure)


@pytest.mark.parametrize(
    "options, parts",
    [
        (
            ("mnist_mlp", "--images", 50, "--epochs", 7, "--lr", 0.0123, "--seed", 3),
            ("MNIST", "50 images", "7 steps", "learning rate 0.0123", "seed 3"),
        ),
        (
            ("linear_recovery", "--samples", 77, "--lr", 0.0123, "--low", 2, "--high", 6),
            ("77 steps", "learning rate 0.0123", "[2, 6)", "centred"),
        ),
        (
            ("ann_revisited", "--steps", 77, "--lr", 0.0123, "--seed", 45),
            ("77 steps", "learning rate 0.0123", "seed 45", "of 10 points right"),
        ),
    ],
)
def test_titles_of_a_finished_run_name_its_settings(run_here, made_up, monkeypatch, options, parts):
    monkeypatch.setenv("MNIST_ROOT", str(made_up))
    figures = watch_figures(monkeypatch)
    assert run_here(*options).returncode == 0
    for part in parts:
        assert part in said(figures["loss"])


def test_a_title_says_centred_only_where_the_inputs_were(run_here, monkeypatch):
    figures = watch_figures(monkeypatch)
    run_here("linear_recovery", "--samples", 77, "--lr", 0.0001, "--raw")
    assert "[5, 10)" in said(figures["loss"]) and "centred" not in said(figures["loss"])


def test_a_rate_far_too_large_is_called_so(run_here, monkeypatch):
    no_figures(monkeypatch)
    done = run_here("ann_revisited", "--lr", 1000, "--steps", 2000)
    assert done.returncode == 0 and done.metrics["results"]["points_correct"] < 10
    said = done.stdout.lower()
    assert "plateau" not in said and "more --steps" not in said
    assert "rate" in said.split("points right")[-1] and "too large" in said and "0 or 1" in said


@pytest.mark.parametrize(
    "options",
    [
        ("--steps", 1),
        ("--steps", 1500, "--lr", 0.3, "--seed", 1),
        ("--steps", 900),
        ("--steps", 5_000, "--lr", 0.001),
        ("--steps", 12_000, "--lr", 1),
        ("--steps", 8_000, "--lr", 0.3, "--seed", 3),
    ],
)
def test_a_plateau_is_only_called_one_where_the_loss_shows_it(run_here, monkeypatch, options):
    no_figures(monkeypatch)
    done = run_here("ann_revisited", *options)
    losses, right = np.load(done.folder / "losses.npy"), done.metrics["results"]["points_correct"]
    flat = (
        len(losses) >= 1000
        and 0 <= losses[-len(losses) // 10] - losses[-1] < 0.01 * losses[-len(losses) // 10]
    )
    assert ("plateau" in done.stdout.replace(str(done.folder), "")) == (flat and right < 10)


def test_an_interrupted_run_is_on_no_plateau(run_here, monkeypatch):
    no_figures(monkeypatch)
    at_step(monkeypatch, 1020, press)
    done = run_here("ann_revisited", "--steps", 2000, "--lr", 1e-6)
    assert done.returncode == 130 and "plateau" not in done.stdout.replace(str(done.folder), "")


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
def test_one_of_a_thing_is_not_many(run_here, made_up, monkeypatch, script):
    monkeypatch.setenv("MNIST_ROOT", str(made_up))
    figures = watch_figures(monkeypatch)
    done = run_here(script, *ONES[script])
    assert done.returncode == 0 and done.metrics["results"]["steps"] == 1, done.stderr
    everything = "\n".join([done.stdout, done.stderr, *map(said, figures.values())])
    assert not PLURAL.search(everything), PLURAL.search(everything).group()
    assert "nan" not in everything and "of 1 to test" not in everything


def test_no_llvmlite_is_said_with_what_to_do(run_here, monkeypatch):
    no_figures(monkeypatch)
    for name in ("llvmlite", "llvmlite.binding"):
        monkeypatch.setitem(sys.modules, name, None)  # an ImportError, as where it is missing
    for cached in (engine.compile.compiled, engine.vector.host):
        cached.cache_clear()
    done = run_here("ann_revisited", "--steps", 100)
    assert done.returncode == 0 and done.metrics["results"]["steps"] == 100
    assert done.metrics["results"]["engine"] == "eager" == done.metrics["config"]["engine"]
    assert "not compiled: llvmlite" in done.stdout and "pip install llvmlite" in done.stdout
    done = run_here("ann_revisited", "--steps", 100, "--engine", "compiled")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: --engine compiled: ") and "llvmlite" in done.stderr


# Too little memory.

LARGE = {
    "linear_recovery": ("--samples", 1_000_000),
    "ann_revisited": ("--steps", 1_000_000),
    "mnist_mlp": ("--hidden", 10_000, "--epochs", 1, "--images", 50),
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_more_than_the_memory_is_refused_before_it_is_taken(run_here, made_up, monkeypatch, script):
    monkeypatch.setenv("MNIST_ROOT", str(made_up))
    no_figures(monkeypatch)
    have_memory(monkeypatch, 10**7)
    done = run_here(script, *LARGE[script])
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ") and "0.0 GiB are free" in done.stderr
    assert done.metrics is None
    assert run_here(script, *QUICK[script]).returncode == 0  # a small run needs little


# The progress bar.

# A script as it is, on whose clocks a second lasts a hundredth, and whose checkpoints find no room.
HURRIED = """
import runpy, sys, time
_, project, *sys.argv = sys.argv
sys.path.insert(0, project)
def hurried(clock):
    begin = clock()
    return lambda: begin + 100 * (clock() - begin)
for name in ("time", "monotonic", "perf_counter"):
    setattr(time, name, hurried(getattr(time, name)))
from common import files
def full(path, *values):
    raise files.RunError(f"cannot write {path}: No space left on device")
files.save_checkpoint = full
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def on_a_terminal(
    words: list, surroundings: dict[str, str], columns: int = 150
) -> tuple[int, list[str], str]:
    """Runs a program with a terminal.

    Returns its exit code, the lines on the screen at its end, and all that it wrote.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    process = subprocess.Popen(
        list(map(str, words)), env=surroundings, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    written = b""
    try:
        while part := os.read(ours, 2**16):
            written += part
    except OSError:  # Linux's word for the end
        pass
    os.close(ours)
    text = written.decode()
    lines, column = [[]], 0
    for sign in re.sub(r"\x1b\[\??[0-9;]*[A-Za-z]", "", text):
        if sign == "\n":
            lines.append([])
        elif sign == "\r":
            column = 0
        else:
            lines[-1] += " " * (column + 1 - len(lines[-1]))
            lines[-1][column] = sign
            column += 1
    return process.wait(60), ["".join(line).rstrip() for line in lines], text


def test_what_is_printed_while_the_bar_is_shown_stands_above_it(made_up, tmp_path):
    words = [
        sys.executable,
        "-c",
        HURRIED,
        PROJECT,
        PROJECT / "lectures" / "mnist_mlp.py",
        "--output-dir",
        tmp_path / "run",
        "--images",
        60,
        "--epochs",
        2000,
    ]
    code, lines, text = on_a_terminal(words, environment(MNIST_ROOT=str(made_up), TERM="xterm"))
    assert code == 0, text
    bars = [line for line in lines if line.startswith("training:")]
    assert (
        len(bars) == 1 and "100%" in bars[0] and "loss" in bars[0]
    )  # redrawn in its place, and whole at the end
    assert text.count("training:") > 3 and all(
        "%|" not in line for line in lines if line not in bars
    )
    progress = [
        line
        for line in lines
        if re.search(r"\bloss\b.*\d\.\d{3,}", line) and "training:" not in line
    ]
    warnings = [line for line in lines if "no checkpoint" in line]
    assert (
        len(progress) >= 2 and warnings and all(line.startswith("warning: ") for line in warnings)
    )


def test_a_bar_is_for_terminals_and_not_when_quiet(run_here, monkeypatch):
    from common import program, run

    class Hasty(run.tqdm):
        def __init__(self, **settings):
            super().__init__(**settings | {"delay": 0, "mininterval": 0})

    no_figures(monkeypatch)
    monkeypatch.setattr(run, "tqdm", Hasty)
    for terminal in (False, True):
        monkeypatch.setattr(program._Stream, "isatty", lambda stream, terminal=terminal: terminal)
        for options in ((), ("--quiet",)):
            done = run_here("ann_revisited", *QUICK["ann_revisited"], *options)
            assert done.returncode == 0 and ("training:" in done.stderr) == (
                terminal and not options
            )
