"""A run's folder: taken by another run, read-only, full; files whole or absent; checkpoints.

Only root can make a file system that is read-only or nearly full. Other users skip those tests;
they still run the ones about a folder without the right to write and a limit on a file's size.
"""

from common import files
from common.program import RunError

import contextlib
import gc
import importlib
import json
import math
import os
import pickle
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
from helpers import at_call, content, no_figures, press, write_digits
from matplotlib.figure import Figure
from torch import nn

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


@pytest.mark.parametrize("script", QUICK)
def test_one_process_makes_one_run_after_another_in_a_folder(
    run_here, monkeypatch, tmp_path, script
):
    """As in a notebook, also after a run that failed; not only once garbage was collected."""
    write_digits(tmp_path / "data")
    monkeypatch.setenv("MNIST_ROOT", str(tmp_path / "data"))
    no_figures(monkeypatch)
    gc.disable()
    try:
        for options, code in (((), 0), (("--device", "xpu"), 1), ((), 0)):
            done = run_here(script, *QUICK[script], *options)
            assert done.returncode == code, done.stderr
    finally:
        gc.enable()


# Whole or absent.


@contextlib.contextmanager
def largest_file(size: int):
    """No file of this process can grow beyond `size` bytes, as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class HalfAFigure:
    def savefig(self, buffer, format):
        buffer.write(b"half of it")
        raise ZeroDivisionError


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "losses.npy"
    files.save(path, np.arange(3.0))
    with largest_file(10_000), pytest.raises(RunError, match="cannot write") as caught:
        files.save(path, np.arange(10_000.0))
    assert str(path) in str(caught.value) and "--output-dir" in str(caught.value)
    with pytest.raises(ZeroDivisionError):
        files.save(path.with_suffix(".png"), HalfAFigure())
    assert np.load(path).tolist() == [0, 1, 2] and list(tmp_path.iterdir()) == [path]


def test_a_run_on_a_full_disk_prints_its_results_and_is_not_taken_for_complete(
    run_here, monkeypatch
):
    no_figures(monkeypatch)
    options = ("linear_recovery", "--samples", 2_000)
    assert run_here(*options).returncode == 0
    with largest_file(50_000):  # its training data take more
        done = run_here(*options, "--seed", 1)
    assert done.returncode == 1 and "averaged W within" in done.stdout
    assert done.stderr.startswith("error: cannot write") and done.stderr.count("\n") == 1
    assert done.metrics is None and not list(done.folder.glob(".*.partial"))
    for seed in (0, 1):  # there may be files of both
        done = run_here(*options, "--seed", seed, "--resume")
        assert done.returncode == 0 and "complete: " not in done.stdout


def test_numbers_are_read_as_they_were_saved(tmp_path):
    """Each ending, as a reader of the folder opens it."""
    content = {
        "a": math.nan,
        "b": [np.float64("inf"), np.int64(3), -math.inf],
        "c": np.eye(2),
        "d": torch.tensor([1.5, torch.nan]),
        "e": Path("/x"),
        "f": (1, None, True, "NaN", 0.1),
    }
    files.save(tmp_path / "a.json", content)
    read = json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail)
    assert read == {
        "a": None,
        "b": [None, 3, None],
        "c": [[1, 0], [0, 1]],
        "d": [1.5, None],
        "e": str(Path("/x")),
        "f": [1, None, True, "NaN", 0.1],
    }
    files.save(tmp_path / "a.npy", np.arange(3.0))
    assert np.load(tmp_path / "a.npy").tolist() == [0, 1, 2]
    files.save(tmp_path / "a.npz", {"x": np.eye(2), "y": np.ones(1)})
    with np.load(tmp_path / "a.npz") as arrays:
        assert arrays["x"].tolist() == [[1, 0], [0, 1]] and arrays["y"].tolist() == [1]
    files.save(tmp_path / "a.pt", {"w": torch.ones(2)})
    assert torch.load(tmp_path / "a.pt", weights_only=True)["w"].tolist() == [1, 1]
    files.save(tmp_path / "a.bin", b"bytes")
    assert (tmp_path / "a.bin").read_bytes() == b"bytes"
    for ending, start in (("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")):
        files.save(tmp_path / f"a.{ending}", Figure())
        assert (tmp_path / f"a.{ending}").read_bytes().startswith(start)
    assert len(list(tmp_path.iterdir())) == 8  # and nothing half-written beside


def test_a_model_takes_no_more_room_than_its_own_weights(tmp_path):
    """Not that of the thousands of iterates of which it is the last."""
    iterates = torch.randn(100_000, 12)
    files.save(tmp_path / "model.pt", {"states": {"weight": iterates[-1]}})
    assert (tmp_path / "model.pt").stat().st_size < 5_000
    read = files.load(tmp_path / "model.pt")["states"]["weight"]
    assert read.tolist() == iterates[-1].tolist()


# Checkpoints and models that are read.


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
    path.write_bytes(pickle.dumps(Touch(touched)))
    with pytest.raises(RunError, match="cannot be read"):
        files.load(path)
    assert not touched.exists()


SETTINGS = {"seed": 3, "lr": 0.1, "batch_size": None, "raw": False}


def network_in_training() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(5, 3)).sum().backward()
    optimizer.step()
    return model, optimizer


def test_a_checkpoint_gives_back_what_was_saved(tmp_path):
    model, optimizer = network_in_training()
    iterates, losses = torch.randn(4, 6, dtype=torch.float64), np.array([3.0, 0.1])
    states = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "all": iterates}
    files.save_checkpoint(tmp_path / "c.pt", SETTINGS, losses, states)
    found = files.load_checkpoint(tmp_path / "c.pt", SETTINGS)
    assert found["losses"].tolist() == [3.0, 0.1] and found["losses"].dtype == np.float64
    again, other = network_in_training()
    room = torch.zeros(4, 6, dtype=torch.float64)
    for name, part in (("model", again), ("optimizer", other), ("all", room)):
        files.restore(part, found["states"][name], tmp_path / "c.pt")
    assert torch.equal(room, iterates)
    for one, two in ((model, optimizer), (again, other)):
        two.zero_grad()
        one(torch.ones(1, 3)).sum().backward()
        two.step()
    assert torch.equal(model.weight, again.weight) and torch.equal(model.bias, again.bias)


def test_a_checkpoint_of_a_run_with_other_options_is_refused_with_both_values(tmp_path):
    files.save_checkpoint(tmp_path / "c.pt", SETTINGS, np.zeros(1), {})
    with pytest.raises(RunError, match=r"with lr 0\.1, this one has 0\.2; use its options"):
        files.load_checkpoint(tmp_path / "c.pt", SETTINGS | {"lr": 0.2})
    with pytest.raises(RunError, match="with hidden None, this one has 40"):
        files.load_checkpoint(tmp_path / "c.pt", SETTINGS | {"hidden": 40})


@pytest.mark.parametrize("content", [[1], {}, {"a": 1}, torch.zeros(3), 3])
def test_what_is_no_checkpoint_is_called_so(tmp_path, content):
    torch.save(content, tmp_path / "c.pt")
    with pytest.raises(RunError, match="is no checkpoint; delete it, or run without --resume"):
        files.load_checkpoint(tmp_path / "c.pt", SETTINGS)


def test_the_state_of_another_network_is_one_line(tmp_path):
    model, optimizer = network_in_training()
    two = torch.optim.Adam([*model.parameters(), torch.zeros(1, requires_grad=True)])
    for part, state in (
        (model, nn.Linear(3, 3).state_dict()),
        (model, {"weight": torch.zeros(2, 3)}),
        (model, model.state_dict() | {"more": torch.zeros(1)}),
        (model, [1, 2]),
        (model, None),
        (optimizer, two.state_dict()),
        (optimizer, {}),
        (torch.zeros(3), torch.zeros(4)),
        (torch.zeros(3), None),
    ):
        with pytest.raises(RunError, match="does not fit: ") as caught:
            files.restore(part, state, tmp_path / "model.pt")
        assert str(tmp_path / "model.pt") in str(caught.value) and "\n" not in str(caught.value)


# Disks that are too small.


def test_too_small_a_disk_is_refused(tmp_path):
    files.require_room(tmp_path, 1)
    with pytest.raises(RunError, match=r"the run writes 1,000,000,000,000 MB, the disk of .* left"):
        files.require_room(tmp_path, 10**18)


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
        "import os, sys; sys.path.insert(0, sys.argv[1]); from common import files; from pathlib import Path; "
        "from common.program import RunError\n"
        "if os.geteuid() == 0: os.seteuid(65534)\n"
        "for place in (Path(sys.argv[2]), Path(sys.argv[2]) / 'new'):\n"
        "    try: files.open_folder(place)\n"
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


def test_a_checkpoint_that_cannot_be_written_is_a_warning(run_here, monkeypatch):
    from common.run import Run

    expected = content(
        run_here("ann_revisited", *QUICK["ann_revisited"], "--engine", "eager").folder
    )
    monkeypatch.setattr(Run, "CHECKPOINT_SECONDS", 0)

    def full(path, *values):
        raise RunError(f"cannot write {path}: No space left on device")

    monkeypatch.setattr(files, "save_checkpoint", full)
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
