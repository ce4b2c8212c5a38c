"""A run's folder: taken by another run, read-only, full; files that are whole or absent."""

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
from helpers import at_step, no_figures, press
from matplotlib.figure import Figure

QUICK = ("linear_recovery", "--samples", 40)


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


def test_a_folder_has_one_run_at_a_time_and_no_leftovers(run_here, tmp_path):
    folder = tmp_path / "new" / "run"
    words = [sys.executable, PROJECT / "lectures" / "ann_revisited.py", "--engine", "eager"]
    with subprocess.Popen(
        [*words, "--output-dir", folder], env=environment(), stdout=subprocess.PIPE, text=True
    ) as first:
        assert "device" in first.stdout.readline()  # the folder was opened before
        done = run_here(*QUICK, folder=folder)
        first.kill()  # it would go on for minutes
    assert_error(done, "another run is writing", str(folder), "--output-dir")
    assert done.stdout == "" and done.metrics is None
    (folder / ".regions.png.partial").write_bytes(b"what a killed run left")
    done = run_here(*QUICK, folder=folder)
    assert done.returncode == 0, done.stderr  # the killed one does not hold it
    assert {path.name for path in folder.glob(".*")} <= {".lock"}


@pytest.mark.parametrize("below", ["", "below"])
def test_a_folder_that_cannot_be_written_is_said_at_once(run_here, tmp_path, below):
    (tmp_path / "file").touch()
    done = run_here(*QUICK, folder=tmp_path / "file" / below)
    assert_error(done, "cannot write into", "--output-dir")
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


def test_a_disk_that_fills_up_leaves_the_results_on_the_terminal(run_here, monkeypatch):
    """And no folder that is taken for a complete run, of either seed."""
    no_figures(monkeypatch)
    options = ("linear_recovery", "--samples", 2_000)
    assert run_here(*options).returncode == 0
    with largest_file(50_000):
        done = run_here(*options, "--seed", 1)
    assert_error(done, "cannot write", str(done.folder), "File too large")
    assert "averaged W within" in done.stdout
    assert done.metrics is None and not list(done.folder.glob(".*.partial"))
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


@pytest.fixture
def mounted(tmp_path):
    """A small file system, where this user may mount one: read-only ones stop even root."""
    (place := tmp_path / "mounted").mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", place]
    if os.geteuid() or not shutil.which("mount") or subprocess.run(words).returncode:
        pytest.skip("only root may mount a file system")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("packed", [False, True])
def test_a_read_only_folder_is_read_and_not_written(run_here, mounted, monkeypatch, packed):
    no_figures(monkeypatch)
    write_idx(mounted, packed=packed)
    subprocess.run(["mount", "-o", "remount,ro", mounted], check=True)
    done = run_here("mnist_mlp", "--data-dir", mounted, "--images", 50, "--epochs", 2)
    assert done.returncode == 0 and done.metrics["results"]["dataset"] == "mnist", done.stderr
    done = run_here("mnist_mlp", "--dataset", "kmnist", "--data-dir", mounted)
    assert_error(done, "its download failed", "Read-only file system")
    done = run_here(*QUICK, "--output-dir", mounted / "run")
    assert_error(done, "cannot write into", "Read-only file system", "--output-dir")


def test_files_are_read_as_they_were_saved(tmp_path):
    iterates = torch.randn(100_000, 12)
    numbers = {
        "a": math.nan,
        "b": [np.float64("inf"), np.int64(3), -math.inf],
        "c": torch.tensor([1.5, torch.nan]),
        "d": (1, None, True, "NaN", 0.1, Path("/x")),
    }
    files.save(tmp_path / "a.json", numbers)
    files.save(tmp_path / "a.npy", np.arange(3.0))
    files.save(tmp_path / "a.npz", {"x": np.eye(2), "y": np.ones(1)})
    files.save(tmp_path / "a.pt", {"w": iterates[-1], "n": 3})
    files.save(tmp_path / "a.bin", b"bytes")
    files.save(tmp_path / "a.pdf", Figure())
    assert len(list(tmp_path.iterdir())) == 6  # nothing beside
    read = json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail)
    plain = [1, None, True, "NaN", 0.1, str(Path("/x"))]
    assert read == {"a": None, "b": [None, 3, None], "c": [1.5, None], "d": plain}
    assert np.load(tmp_path / "a.npy").tolist() == [0, 1, 2]
    with np.load(tmp_path / "a.npz") as arrays:
        assert arrays["x"].tolist() == [[1, 0], [0, 1]] and arrays["y"].tolist() == [1]
    assert files.load(tmp_path / "a.pt")["w"].tolist() == iterates[-1].tolist()
    assert (tmp_path / "a.pt").stat().st_size < 5_000  # its own numbers, not those of all iterates
    assert (tmp_path / "a.bin").read_bytes() == b"bytes"
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")


def test_a_damaged_file_or_one_of_other_objects_is_refused_in_one_line(tmp_path):
    path = tmp_path / "model.pt"
    with pytest.raises(RunError, match="there is no"):
        files.load(path)
    files.save(path, {"w": torch.randn(1000)})
    whole = path.read_bytes()
    torch.save({"w": Path("/x")}, path)  # to read it is to execute code
    for content in (path.read_bytes(), b"", whole[: len(whole) // 2], whole[:-30], b"x" * 999):
        path.write_bytes(content)
        with pytest.raises(RunError, match="cannot be read") as caught:
            files.load(path)
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
