"""A run's folder: taken by another run, read-only, full; files that are whole or absent.

Only root can make a file system that is read-only or nearly full. Other users skip those tests;
they still run the ones about a limit on a file's size.
"""

from common import files
from common.program import RunError

import contextlib
import json
import math
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import PROJECT, environment, write_idx
from helpers import at_step, no_figures, press, write_digits
from matplotlib.figure import Figure

QUICK = {
    "linear_recovery": ("--samples", 40),
    "ann_revisited": ("--steps", 40, "--engine", "eager"),
    "mnist_mlp": ("--images", 50, "--epochs", 2, "--hidden", 4),
}


@pytest.fixture
def mount(tmp_path):
    """A function that mounts a small file system as `options` say, after something was put there.

    It skips where this user may not.
    """
    place = tmp_path / "mounted"
    place.mkdir()

    def call(options: str, before=lambda place: None) -> Path:
        words = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", place]
        if os.geteuid() or not shutil.which("mount") or subprocess.run(words).returncode:
            pytest.skip("only root may mount a file system to fill it or to make it read-only")
        before(place)
        subprocess.run(["mount", "-o", f"remount,{options}", place], check=True)
        return place

    yield call
    if place.is_mount():
        subprocess.run(["umount", place], check=True)


@contextlib.contextmanager
def largest_file(size: int):
    """No file of this process can grow beyond `size` bytes, as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def assert_error(done, *said: str) -> None:
    """A run that ended with 1 and one line that says what was wrong."""
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stdout + done.stderr
    assert done.stderr.startswith("error: ") and all(part in done.stderr for part in said)


# Two runs, one folder.


def test_a_folder_has_one_run_at_a_time_and_no_leftovers(run_here, tmp_path):
    folder = tmp_path / "new" / "run"
    words = [sys.executable, PROJECT / "lectures" / "ann_revisited.py", "--engine", "eager"]
    with subprocess.Popen(
        [*words, "--output-dir", folder], env=environment(), stdout=subprocess.PIPE, text=True
    ) as first:
        assert "device" in first.stdout.readline()  # the folder was opened before
        done = run_here("linear_recovery", *QUICK["linear_recovery"], "--output-dir", folder)
        first.kill()  # it would go on for minutes
    assert_error(done, "another run is writing", str(folder), "--output-dir")
    assert done.stdout == "" and done.metrics is None
    (folder / ".regions.png.partial").write_bytes(b"what a killed run left")
    done = run_here("linear_recovery", *QUICK["linear_recovery"], "--output-dir", folder)
    assert done.returncode == 0, done.stderr  # the killed one does not hold it
    assert {path.name for path in folder.glob(".*")} <= {".lock"}


@pytest.mark.parametrize("script", QUICK)
def test_one_process_makes_one_run_after_another(run_here, monkeypatch, tmp_path, script):
    """As in a notebook, also after a run that failed."""
    write_digits(tmp_path / "data")
    monkeypatch.setenv("MNIST_ROOT", str(tmp_path / "data"))
    no_figures(monkeypatch)
    for options, code in (((), 0), (("--device", "xpu"), 1), ((), 0)):
        assert run_here(script, *QUICK[script], *options).returncode == code


# A folder or a disk that cannot be written.


@pytest.mark.parametrize("below", ["", "below"])
@pytest.mark.parametrize("kind, reason", [("file", ""), ("read-only", "Read-only file system")])
def test_a_folder_that_cannot_be_written_is_said_at_once(
    run_here, mount, tmp_path, kind, reason, below
):
    (tmp_path / "file").touch()
    place = tmp_path / "file" if kind == "file" else mount("ro")
    done = run_here("linear_recovery", "--output-dir", place / below)
    assert_error(done, "cannot write into", reason, "--output-dir")
    assert done.stdout == ""


def test_a_folder_without_the_right_to_write():
    user = os.geteuid()
    os.seteuid(user or 65534)  # root, who may write anywhere, becomes nobody
    try:
        with pytest.raises(RunError, match=r"cannot write into .*: Permission denied; .*-dir"):
            files.open_folder(Path("/a folder beside all others"))
    finally:
        os.seteuid(user)


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "losses.npy"
    files.save(path, np.arange(3.0))
    with largest_file(10_000), pytest.raises(RunError, match="cannot write") as caught:
        files.save(path, np.arange(10_000.0))
    assert str(path) in str(caught.value) and "--output-dir" in str(caught.value)
    with pytest.raises(AttributeError):
        files.save(path.with_suffix(".png"), "no figure")
    assert np.load(path).tolist() == [0, 1, 2] and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("full", ["a limit", "a disk"])
def test_a_disk_that_fills_up_leaves_the_results_on_the_terminal(
    run_here, monkeypatch, mount, tmp_path, full
):
    """And no folder that is taken for a complete run, of either seed."""
    no_figures(monkeypatch)
    folder = (mount("rw") if full == "a disk" else tmp_path) / "run"
    options = ("linear_recovery", "--samples", 2_000, "--output-dir", folder)
    assert run_here(*options).returncode == 0
    ballast = folder / "ballast"
    if full == "a disk":
        ballast.write_bytes(bytes(shutil.disk_usage(folder).free - 50_000))
    with largest_file(50_000) if full == "a limit" else contextlib.nullcontext():
        done = run_here(*options, "--seed", 1)
    assert_error(done, "cannot write", str(folder), "File too large" * (full == "a limit"))
    assert "averaged W within" in done.stdout
    assert not (folder / "metrics.json").exists() and not list(folder.glob(".*.partial"))
    ballast.unlink(missing_ok=True)
    for seed in (0, 1):
        done = run_here(*options, "--seed", seed, "--resume")
        assert done.returncode == 0 and "complete: " not in done.stdout


def test_a_checkpoint_that_cannot_be_written_is_not_promised(run_here, monkeypatch):
    no_figures(monkeypatch)
    at_step(monkeypatch, 20, press)
    with largest_file(10_000):  # losses take less, a checkpoint takes more
        done = run_here("ann_revisited", "--steps", 600, "--engine", "eager")
    warning, last = done.stderr.splitlines()
    assert warning.startswith("warning: no checkpoint: cannot write")
    assert done.returncode == 130 and last.startswith("interrupted: ") and "--resume" not in last
    assert len(np.load(done.folder / "losses.npy")) == 20


@pytest.mark.parametrize("packed", [False, True])
def test_a_read_only_data_folder(run_here, mount, monkeypatch, packed):
    no_figures(monkeypatch)
    place = mount("ro", before=lambda place: write_idx(place, packed=packed))
    done = run_here("mnist_mlp", "--data-dir", place, "--images", 50, "--epochs", 2)
    assert done.returncode == 0 and done.metrics["results"]["dataset"] == "mnist", done.stderr
    done = run_here("mnist_mlp", "--dataset", "kmnist", "--data-dir", place)  # no place to put it
    assert_error(done, "Read-only file system")


# What a file holds.


def test_numbers_are_read_as_they_were_saved(tmp_path):
    """Each ending, as a reader of the folder opens it."""
    iterates = torch.randn(100_000, 12)
    saved = {
        "a.json": {
            "a": math.nan,
            "b": [np.float64("inf"), np.int64(3), -math.inf],
            "c": torch.tensor([1.5, torch.nan]),
            "d": (1, None, True, "NaN", 0.1, Path("/x")),
        },
        "a.npy": np.arange(3.0),
        "a.npz": {"x": np.eye(2), "y": np.ones(1)},
        "a.pt": {"w": iterates[-1], "n": 3},
        "a.bin": b"bytes",
        "a.png": Figure(),
        "a.svg": Figure(),
        "a.pdf": Figure(),
    }
    for name, what in saved.items():
        files.save(tmp_path / name, what)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(saved)  # nothing beside
    read = json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail)
    plain = [1, None, True, "NaN", 0.1, str(Path("/x"))]
    assert read == {"a": None, "b": [None, 3, None], "c": [1.5, None], "d": plain}
    assert np.load(tmp_path / "a.npy").tolist() == [0, 1, 2]
    with np.load(tmp_path / "a.npz") as arrays:
        assert arrays["x"].tolist() == [[1, 0], [0, 1]] and arrays["y"].tolist() == [1]
    assert files.load(tmp_path / "a.pt")["w"].tolist() == iterates[-1].tolist()
    assert (tmp_path / "a.pt").stat().st_size < 5_000  # its own numbers, not those of all iterates
    for ending, start in (
        ("bin", b"bytes"),
        ("png", b"\x89PNG"),
        ("svg", b"<?xml"),
        ("pdf", b"%P"),
    ):
        assert (tmp_path / f"a.{ending}").read_bytes().startswith(start)


class Touch:
    """Pickled, it makes a file when a reader executes what it reads."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_damaged_file_is_one_line_and_nothing_in_it_is_executed(tmp_path):
    path, touched = tmp_path / "model.pt", tmp_path / "touched"
    with pytest.raises(RunError, match="there is no"):
        files.load(path)
    files.save(path, {"w": torch.randn(1000)})
    whole = path.read_bytes()
    torch.save({"w": Touch(touched)}, path)
    harmful = path.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], whole[:-30], b"x" * 999, harmful):
        path.write_bytes(damaged)
        with pytest.raises(RunError, match="cannot be read") as caught:
            files.load(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert not touched.exists()
