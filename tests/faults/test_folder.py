"""The run's folder and the data's: taken by another run, read-only, full; and files that are whole or not there.

A file system that is read-only or nearly full can be made by root alone: those tests are skipped for other users, for
whom the tests beside them do the same in smaller: a folder without the right to write, a limit on the size of files.
"""

import builtins
import importlib
import io
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import PROJECT, environment
from helpers import SCRIPTS, at_call, content, no_figures, press, write_digits

QUICK = {
    "linear_recovery": ("--samples", 40),
    "ann_revisited": ("--steps", 40),
    "mnist_mlp": ("--images", 50, "--epochs", 2, "--hidden", 4),
}


@pytest.fixture
def mounted(tmp_path):
    """A function that mounts a small file system; skips where this user may not."""
    places = []

    def mount(options: str, before=lambda place: None):
        place = tmp_path / f"mounted {len(places)}"
        place.mkdir()
        if os.geteuid() != 0 or not shutil.which("mount"):
            pytest.skip("only root may mount a file system to fill it or to make it read-only")
        if subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", place], capture_output=True
        ).returncode:
            pytest.skip("a file system cannot be mounted here")
        places.append(place)
        before(place)
        subprocess.run(["mount", "-o", f"remount,{options}", place], check=True)
        return place

    yield mount
    for place in places:
        subprocess.run(["umount", place], check=True)


# Two runs, one folder.


def test_a_folder_has_one_run_at_a_time_and_no_leftovers(run_here, tmp_path):
    folder = tmp_path / "new" / "run"
    command = [
        sys.executable,
        PROJECT / "lectures" / "ann_revisited.py",
        "--engine",
        "eager",
        "--output-dir",
        folder,
    ]
    with subprocess.Popen(
        command, env=environment(PYTHONUNBUFFERED="1"), stdout=subprocess.PIPE, text=True
    ) as first:
        try:
            assert "learning rate" in first.stdout.readline()  # the folder was opened before
            done = run_here("linear_recovery", *QUICK["linear_recovery"], "--output-dir", folder)
        finally:
            first.kill()  # it would go on for minutes
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and done.stdout == ""
    assert (
        done.stderr.startswith("error: another run (")
        and f"process {first.pid}, started" in done.stderr
    )
    assert "ann_revisited.py" in done.stderr and "--output-dir" in done.stderr
    (folder / ".loss.png.partial").write_bytes(b"what a killed run left")
    done = run_here("linear_recovery", *QUICK["linear_recovery"], "--output-dir", folder)
    assert done.returncode == 0, done.stderr  # the killed one does not hold it
    assert {path.name for path in folder.glob(".*")} <= {".lock", ".owner"}


@pytest.mark.parametrize("script", SCRIPTS)
def test_one_process_makes_one_run_after_another_in_a_folder(
    run_here, monkeypatch, tmp_path, script
):
    """As in a notebook, also after a run that failed; nothing waits for Python's collector of garbage."""
    import gc

    write_digits(tmp_path / "data")
    monkeypatch.setenv("MNIST_ROOT", str(tmp_path / "data"))
    gc.disable()
    try:
        for options, code in (((), 0), (("--device", "cuda"), 1), ((), 0)):
            if not (code and torch.cuda.is_available()):
                done = run_here(script, *QUICK[script], *options)
                assert done.returncode == code, done.stderr
    finally:
        gc.enable()


# Whole or not there.


@pytest.mark.parametrize("script", SCRIPTS)
def test_each_file_reaches_the_disk_before_it_takes_its_place(
    run_here, monkeypatch, tmp_path, script
):
    """fsync of all that was written, then the replacement: after a power cut a file is the old or the new one."""
    write_digits(tmp_path / "data")
    monkeypatch.setenv("MNIST_ROOT", str(tmp_path / "data"))
    no_figures(monkeypatch)
    synced, placed, fsync, replace = {}, [], os.fsync, os.replace

    def watched_fsync(file):
        fsync(file)
        state = os.fstat(file)
        synced[state.st_ino] = state.st_size

    def watched_replace(source, path, **settings):
        state = os.stat(source)
        assert state.st_size > 0 and synced.pop(state.st_ino, None) == state.st_size, (
            f"{path}: not on the disk yet"
        )
        assert Path(source).parent == Path(path).parent  # the same file system
        placed.append(Path(path).name)
        return replace(source, path, **settings)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    done = run_here(script, *QUICK[script])
    assert done.returncode == 0, done.stderr
    files = {path.name for path in done.folder.iterdir()} - {".lock", ".owner"}
    assert files == set(placed) and {"losses.npy", "model.pt", "metrics.json", "loss.png"} <= files


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("number", [0, 2, 4])
def test_a_file_that_cannot_be_written_leaves_the_old_one(
    run_here, monkeypatch, tmp_path, script, number
):
    """The disk fills up at some file: it stays as it was, the results are on the terminal, nothing is left beside.

    And the folder, which now may hold files of two runs, is not taken for a complete one.
    """
    write_digits(tmp_path / "data")
    monkeypatch.setenv("MNIST_ROOT", str(tmp_path / "data"))
    no_figures(monkeypatch)
    done = run_here(script, *QUICK[script])
    before = {
        path.name: path.read_bytes()
        for path in done.folder.iterdir()
        if not path.name.startswith(".")
    }
    calls, fsync = [], os.fsync

    def full(file):
        calls.append(file)
        if len(calls) > number:
            raise OSError(28, "No space left on device")
        fsync(file)

    monkeypatch.setattr(os, "fsync", full)
    done = run_here(script, *QUICK[script], "--seed", 1)
    assert done.returncode == 1 and done.stderr.startswith("error: cannot write ")
    assert "No space left" in done.stderr and done.stderr.count("\n") == 1
    assert {
        "linear_recovery": "averaged W within",
        "ann_revisited": "of 10 points right",
        "mnist_mlp": "of the 50 test images",
    }[script] in done.stdout
    after = {
        path.name: path.read_bytes()
        for path in done.folder.iterdir()
        if path.name not in (".lock", ".owner")
    }
    assert set(after) == set(before) - {"metrics.json"}  # it went with the files as they were
    assert sum(after[name] != before[name] for name in after) <= number
    monkeypatch.setattr(os, "fsync", fsync)
    for seed in (0, 1):
        done = run_here(script, *QUICK[script], "--seed", seed, "--resume")
        assert done.returncode == 0 and "complete" not in done.stdout.replace(str(done.folder), "")


# Too little memory, too small a disk: said before training.


@pytest.fixture
def little_memory(monkeypatch):
    """A machine with 20 MB of free memory, as Linux and others tell it."""
    text = "MemTotal: 20000 kB\nMemFree: 20000 kB\nMemAvailable: 20000 kB\n"
    read_text, sysconf = Path.read_text, os.sysconf

    def opened(function):
        return lambda file, *values, **settings: (
            io.StringIO(text)
            if str(file) == "/proc/meminfo"
            else function(file, *values, **settings)
        )

    monkeypatch.setattr(
        Path,
        "read_text",
        lambda self, *values, **settings: (
            text if str(self) == "/proc/meminfo" else read_text(self, *values, **settings)
        ),
    )
    monkeypatch.setattr(builtins, "open", opened(open))
    monkeypatch.setattr(
        os, "sysconf", lambda name: 5000 if name == "SC_AVPHYS_PAGES" else sysconf(name)
    )


LARGE = {
    "linear_recovery": ("--samples", 1_000_000),
    "ann_revisited": ("--steps", 1_000_000),
    "mnist_mlp": ("--hidden", 10_000, "--epochs", 1, "--images", 50),
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_more_than_the_memory_is_refused_before_it_is_taken(
    run_here, monkeypatch, tmp_path, little_memory, script
):
    write_digits(tmp_path / "data")
    monkeypatch.setenv("MNIST_ROOT", str(tmp_path / "data"))
    done = run_here(script, *LARGE[script])
    assert (
        done.returncode == 1 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    )
    assert "memory" in done.stderr and "0.0 GiB are free" in done.stderr
    assert not (done.folder / "losses.npy").exists()


def test_a_small_run_needs_little_memory(run_here, little_memory, monkeypatch):
    no_figures(monkeypatch)
    for script in ("linear_recovery", "ann_revisited"):
        assert run_here(script, *QUICK[script]).returncode == 0


@pytest.mark.parametrize("script", SCRIPTS)
def test_too_small_a_disk_is_said_before_training(run_here, monkeypatch, tmp_path, script):
    write_digits(tmp_path / "data")
    monkeypatch.setenv("MNIST_ROOT", str(tmp_path / "data"))
    monkeypatch.setattr(
        shutil,
        "disk_usage",
        lambda path: SimpleNamespace(total=10**6, used=10**6 - 5000, free=5000),
    )
    done = run_here(script, *QUICK[script])
    assert (
        done.returncode == 1 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    )
    assert "the disk of" in done.stderr and "--output-dir" in done.stderr
    assert not (done.folder / "losses.npy").exists() and "averaged" not in done.stdout


def test_the_room_asked_for_is_what_a_run_writes(run_here, monkeypatch, tmp_path):
    """Where there is just too little for a large run, it is refused; where there is room for checkpoints too, not."""
    no_figures(monkeypatch)
    for script, options in (
        ("linear_recovery", ("--samples", 20_000)),
        ("ann_revisited", ("--steps", 200_000)),
    ):
        written = sum(map(len, content(run_here(script, *options).folder).values()))
        assert written > 1_000_000
        for free, code in ((written, 1), (5 * written + 2**20, 0)):
            disk = SimpleNamespace(total=9e9, used=0, free=free)
            with monkeypatch.context() as patch:
                patch.setattr(shutil, "disk_usage", lambda path, disk=disk: disk)
                assert run_here(script, *options).returncode == code, (script, free)


# A folder that cannot be written into.


def test_a_folder_without_the_right_to_write(tmp_path):
    """What needs no root; root itself becomes nobody for this."""
    closed = tmp_path / "closed"
    closed.mkdir()
    tmp_path.chmod(0o755)
    closed.chmod(0o555)
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1]); from common import folder; from pathlib import Path; "
        "from common.program import RunError\n"
        "if os.geteuid() == 0: os.seteuid(65534)\n"
        "for place in (Path(sys.argv[2]), Path(sys.argv[2]) / 'new'):\n"
        "    try: folder.open_folder(place)\n"
        "    except RunError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, PROJECT, closed], capture_output=True, text=True, timeout=60
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 2 and all(line.startswith("cannot write into") for line in lines), (
        done.stderr
    )
    assert all("Permission denied" in line and "--output-dir" in line for line in lines)


def test_read_only_output_folder(run_here, mounted):
    place = mounted("ro")
    for folder in (place, place / "new"):
        done = run_here("linear_recovery", "--output-dir", folder)
        assert done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 1
        assert done.stderr.startswith("error: cannot write into") and "Read-only" in done.stderr


def test_an_output_folder_that_is_a_file(run_here, tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        done = run_here("linear_recovery", "--output-dir", folder)
        assert done.returncode == 1 and done.stdout == ""
        assert done.stderr.startswith("error: cannot write into") and done.stderr.count("\n") == 1


def test_too_little_room_is_said_before_training(run_here, mounted):
    done = run_here("ann_revisited", "--output-dir", mounted("rw") / "run", "--quiet")
    assert (
        done.returncode == 1 and done.stderr.count("\n") == 1 and "points right" not in done.stdout
    )
    assert re.search(r"the run writes \d\d MB, the disk of .* has 2 MB left", done.stderr)


def test_a_disk_that_fills_up_leaves_the_results_on_the_terminal(run_here, mounted, monkeypatch):
    place = mounted("rw")
    with monkeypatch.context() as patch:  # someone else takes the room after it was asked for
        usage = shutil.disk_usage
        patch.setattr(shutil, "disk_usage", lambda path: usage("/"))
        (place / "ballast").write_bytes(bytes(usage(place).free - 200_000))
        done = run_here("linear_recovery", "--samples", 9_000, "--output-dir", place / "run")
    assert done.returncode == 1 and "averaged W within" in done.stdout
    assert done.stderr.startswith("error: cannot write") and "No space left" in done.stderr
    assert done.stderr.count("\n") == 1 and not list((place / "run").glob(".*.partial"))


def test_a_limit_on_the_size_of_files(tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            PROJECT / "lectures" / "linear_recovery.py",
            "--engine",
            "eager",
            "--samples",
            "2000",
            "--output-dir",
            tmp_path,
        ],
        env=environment(),
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
    )
    assert done.returncode == 1 and "averaged W within" in done.stdout
    assert (
        done.stderr.splitlines()[-1].startswith("error: cannot write")
        and "Traceback" not in done.stderr
    )
    assert not list(tmp_path.glob(".*.partial"))


def test_a_checkpoint_that_cannot_be_written_is_a_warning(run_here, monkeypatch):
    from common.run import Run

    expected = content(
        run_here("ann_revisited", *QUICK["ann_revisited"], "--engine", "eager").folder
    )
    monkeypatch.setattr(Run, "CHECKPOINT_SECONDS", 0)
    replace = os.replace

    def full(source, path, **settings):
        if Path(path).name == "checkpoint.pt":
            raise OSError(28, "No space left on device")
        return replace(source, path, **settings)

    monkeypatch.setattr(os, "replace", full)
    done = run_here("ann_revisited", *QUICK["ann_revisited"], "--engine", "eager")
    assert done.returncode == 0 and content(done.folder) == expected  # the training goes on
    assert set(done.stderr.splitlines()) == {done.stderr.splitlines()[0]}
    assert (
        done.stderr.startswith("warning: no checkpoint: cannot write")
        and "No space left" in done.stderr
    )
    at_call(monkeypatch, importlib.import_module("lectures.ann_revisited"), 20, press)
    done = run_here("ann_revisited", *QUICK["ann_revisited"], "--engine", "eager")
    last = done.stderr.splitlines()[-1]  # which does not promise what is not there
    assert done.returncode == 130 and last.startswith("interrupted: ") and "--resume" not in last


def test_read_only_data_folder(run_here, mounted, monkeypatch):
    no_figures(monkeypatch)
    place = mounted("ro", before=write_digits)
    done = run_here("mnist_mlp", "--data-dir", place, "--images", 50, "--epochs", 2)
    assert done.returncode == 0 and done.metrics["results"]["dataset"] == "mnist", done.stderr
    done = run_here(
        "mnist_mlp", "--dataset", "kmnist", "--data-dir", place
    )  # not there, and no place to put it
    assert (
        done.returncode == 1
        and "Read-only file system" in done.stderr
        and done.stderr.count("\n") == 1
    )


def test_numbers_are_read_as_they_were_written(tmp_path):
    """Each ending, as a reader of the folder opens it."""
    import json

    from matplotlib.figure import Figure

    from common import folder

    folder.save(
        tmp_path / "a.json",
        {
            "a": float("nan"),
            "b": [np.float64("inf"), np.int64(3)],
            "c": np.eye(2),
            "d": torch.tensor([1.5, torch.nan]),
            "e": Path("/x"),
            "f": (1, None, True),
        },
    )
    assert json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail) == {
        "a": None,
        "b": [None, 3],
        "c": [[1, 0], [0, 1]],
        "d": [1.5, None],
        "e": "/x",
        "f": [1, None, True],
    }
    folder.save(tmp_path / "a.npy", np.arange(3.0))
    assert np.load(tmp_path / "a.npy").tolist() == [0, 1, 2]
    folder.save(tmp_path / "a.npz", {"x": np.eye(2), "y": np.ones(1)})
    with np.load(tmp_path / "a.npz") as arrays:
        assert arrays["x"].tolist() == [[1, 0], [0, 1]] and arrays["y"].tolist() == [1]
    folder.save(tmp_path / "a.pt", {"w": torch.ones(2)})
    assert torch.load(tmp_path / "a.pt", weights_only=True)["w"].tolist() == [1, 1]
    folder.save(tmp_path / "a.bin", b"bytes")
    assert (tmp_path / "a.bin").read_bytes() == b"bytes"
    for ending, start in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")):
        folder.save(tmp_path / f"a.{ending}", Figure())
        assert (tmp_path / f"a.{ending}").read_bytes().startswith(start)
    assert len(list(tmp_path.iterdir())) == 8  # and nothing half-written beside
