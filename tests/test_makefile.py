"""The Makefile's recipes in a copy of the project, by a Python that notes what it is asked for."""

import json
import os
import shutil
import subprocess
import sys
import time

import pytest
from conftest import PROJECT, environment, write_idx

pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")

PYTHON = """#!/bin/sh
echo "$*" >> "$NOTES"
echo "${ATEN_CPU_CAPABILITY-} ${MKL_CBWR-} ${OMP_NUM_THREADS-}" > "$NOTES.environment"
case "$RUN $1 $2" in
  "yes lectures/linear_recovery.py "*) exec "$REAL" "$@" --samples 300;;
  "yes lectures/ann_revisited.py "*) exec "$REAL" "$@" --steps 300;;
  "yes lectures/mnist_mlp.py "*) exec "$REAL" "$@" --images 40 --epochs 2;;
  "yes exercises/mnist_all.py "*) exec "$REAL" "$@" --images 40 --epochs 1;;
  "yes -m report") exec "$REAL" "$@";;
  *" -m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python";;
  *" -c "*) exit ${OLD-0};;
esac
case "$*" in *--raw*) exit ${RAW-1};; esac
"""
COPIED = ("common", "engine", "lectures", "exercises", "report")


@pytest.fixture
def make(tmp_path):
    """A function that makes a target in the copy: the process, and the commands that were noted."""
    folder = tmp_path / "a copy"
    for name in COPIED:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PROJECT / name, folder / name, ignore=ignored)
    for name in ("Makefile", "requirements.txt", "requirements-dev.txt"):
        shutil.copy(PROJECT / name, folder)
    for name in ("outputs", "docs/figures", ".venv/bin"):
        (folder / name).mkdir(parents=True)
    (folder / ".venv/bin/python").write_text(PYTHON)
    (folder / ".venv/bin/python").chmod(0o755)
    (folder / ".venv/.ready-for-lectures").touch()
    (folder / ".venv/.ready-for-tests").touch()
    (folder / "outputs/.gitkeep").touch()
    write_idx(tmp_path)
    extra = {"NOTES": str(tmp_path / "notes"), "REAL": sys.executable, "MNIST_ROOT": str(tmp_path)}

    def call(target: str, *words: str, **more: str):
        (tmp_path / "notes").write_text("")
        command = ["make", "-C", folder, "VENV=.venv", target, *words]
        env = environment(**extra, **more, MAKEFLAGS="")  # not those of `make test VENV=...`
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
        return done, (tmp_path / "notes").read_text().splitlines(), folder

    return call


COMMANDS = {
    "report": ["-m report"],
    "test": ["-m pytest"],
    "test-arithmetic": ["-m pytest -m numbers"],
    "lint": ["-m ruff format --check .", "-m ruff check .", "-m mypy"],
    "exercises": ["exercises/page.py"],
    "soak": ["-m pytest -m soak"],
    "bench": ["benchmarks/run.py"],
    "photos": ["handwriting/photos.py --output docs/generated/photos.md"],
}


@pytest.mark.parametrize("target", COMMANDS)
def test_a_recipe_s_commands(make, tmp_path, target):
    done, commands, _ = make(target)
    assert done.returncode == 0 and commands == COMMANDS[target]
    if target == "test-arithmetic":
        assert (tmp_path / "notes.environment").read_text() == "default COMPATIBLE 4\n"


def test_a_fresh_clone_gets_an_environment(make):
    _, _, folder = make("report")
    shutil.copy(folder / ".venv/bin/python", folder / "base")
    words = ("test", "VENV=new", "BASE=./base")
    done, _, _ = make(*words, OLD="1")
    assert done.returncode != 0 and not (folder / "new").exists()
    done, (check, *commands), _ = make(*words)
    assert done.returncode == 0 and "(3, 10)" in check
    assert commands == [
        "-m venv new",
        "-m pip --version",
        "-m pip install -r requirements.txt",
        "-m pip install --quiet -r requirements-dev.txt",
        "-m pytest",
    ]
    assert make(*words)[1] == ["-m pytest"]  # it is there
    os.utime(folder / "requirements-dev.txt", (later := time.time() + 60, later))
    assert make(*words)[1] == commands[-2:]  # and brought up to date


def test_lectures_and_figures_make_all_runs_the_page_and_the_pictures(make):
    done, commands, folder = make("figures", RUN="yes")
    assert done.returncode == 0, done.stderr
    found = set()
    for path in folder.glob("outputs/*/metrics.json"):
        metrics = json.loads(path.read_text())
        found.add((path.parent.name, metrics["script"], metrics["results"]["ended"]))
    assert found == {
        ("linear_recovery", "linear_recovery", "finished"),
        ("linear_recovery_raw", "linear_recovery", "diverged"),
        ("ann_revisited", "ann_revisited", "finished"),
        ("mnist_mlp", "mnist_mlp", "finished"),
        ("mnist_all", "mnist_all", "finished"),
    }
    assert "no such run" not in (folder / "outputs" / "report.html").read_text(encoding="utf-8")
    for picture, source in (
        ("training.gif", "ann_revisited/training.gif"),
        ("linear_recovery_raw_loss.png", "linear_recovery_raw/loss.png"),
        ("mnist_mlp_first_five.png", "mnist_mlp/first_five.png"),
    ):
        copied = (folder / "docs" / "figures" / picture).read_bytes()
        assert copied == (folder / "outputs" / source).read_bytes()
    assert commands[-1] == "-m report.screenshots"

    metrics = folder / "outputs" / "mnist_mlp" / "metrics.json"
    metrics.write_text(metrics.read_text().replace('"mnist"', '"digits"'))
    done, commands, _ = make("figures")
    assert done.returncode != 0 and "README's pictures are of MNIST" in done.stdout
    assert commands[-1] == "-m report"

    done, _, _ = make("clean")
    assert done.returncode == 0 and os.listdir(folder / "outputs") == [".gitkeep"]
    assert not list(folder.rglob("__pycache__"))


def test_a_printed_recipe_that_does_not_diverge_ends_make_lectures(make):
    done, commands, _ = make("lectures", RAW="0")
    assert done.returncode != 0 and "--raw" in commands[-1]
