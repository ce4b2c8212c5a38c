"""The run's folder and the data's: taken by another run, read-only, full."""

import os
import resource
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import PROJECT, environment, write_idx

from common import outputs


@pytest.fixture
def mounted(tmp_path):
    """A function that mounts a small file system; skips where this user may not."""
    places = []

    def mount(options: str, before=lambda place: None):
        place = tmp_path / f"mounted {len(places)}"
        place.mkdir()
        if os.geteuid() != 0 or not shutil.which("mount"):
            pytest.skip("only root may mount a file system to fill it")
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", place], capture_output=True).returncode:
            pytest.skip("a file system cannot be mounted here")
        places.append(place)
        before(place)
        subprocess.run(["mount", "-o", f"remount,{options}", place], check=True)
        return place

    yield mount
    for place in places:
        subprocess.run(["umount", place], check=True)


def test_a_folder_has_one_run_at_a_time_and_no_leftovers(run_here, tmp_path):
    folder = tmp_path / "new" / "run"
    code = ("import sys, time; sys.path.insert(0, sys.argv[1]); from pathlib import Path; from common import outputs; "
            "outputs.open_folder(Path(sys.argv[2])); print('open', flush=True); time.sleep(60)")
    with subprocess.Popen([sys.executable, "-c", code, PROJECT, folder], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout.readline() == "open\n"
        (folder / ".loss.png.partial").write_bytes(b"what a killed run left")
        done = run_here("linear_recovery", "--output-dir", folder)
        assert done.returncode == 1 and done.stderr.count("\n") == 1 and done.stdout == ""
        assert done.stderr.startswith("error: another run (") and f"process {first.pid}, started" in done.stderr
        first.kill()
    outputs.open_folder(folder)  # the killed one does not hold it
    outputs._locks.pop().release()
    assert {path.name for path in folder.iterdir()} == {".lock", ".owner"}


def test_read_only_output_folder(run_here, mounted):
    place = mounted("ro")
    for folder in (place, place / "new"):
        done = run_here("linear_recovery", "--output-dir", folder)
        assert done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 1
        assert done.stderr.startswith("error: cannot write into") and "Read-only" in done.stderr


def test_too_little_room_is_said_before_training(run_here, mounted):
    done = run_here("ann_revisited", "--output-dir", mounted("rw") / "run")
    assert done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 1
    assert "the run writes 16 MB, the disk of" in done.stderr


def test_a_disk_that_fills_up_leaves_the_results_on_the_terminal(run_here, mounted):
    place = mounted("rw")
    room = 8 * 9_000 * 8 + 20_000  # for the losses and the training data, not for the figures
    (place / "ballast").write_bytes(bytes(shutil.disk_usage(place).free - room))
    done = run_here("linear_recovery", "--samples", 9_000, "--output-dir", place / "run")
    assert done.returncode == 1 and "averaged W within" in done.stdout
    assert done.stderr.startswith("error: cannot write") and "No space left" in done.stderr
    assert done.stderr.count("\n") == 1 and not list((place / "run").glob(".*.partial"))


def test_a_limit_on_the_size_of_files(tmp_path):
    done = subprocess.run(
        [sys.executable, PROJECT / "lectures" / "linear_recovery.py", "--engine", "eager", "--samples", "2000",
         "--output-dir", tmp_path], env=environment(), capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)))
    assert done.returncode == 1 and "averaged W within" in done.stdout
    assert done.stderr.splitlines()[-1].startswith("error: cannot write") and "Traceback" not in done.stderr
    assert not list(tmp_path.glob(".*.partial"))


def test_a_checkpoint_that_cannot_be_written_is_a_warning(mounted, capsys):
    place = mounted("rw")
    outputs.save_checkpoint(place, {}, np.zeros(10**6), torch.nn.Linear(1, 1))
    assert capsys.readouterr().err.startswith("warning: no checkpoint: cannot write") and not any(place.iterdir())


def test_read_only_data_folder(run_here, mounted):
    place = mounted("ro", before=write_idx)
    done = run_here("mnist_mlp", "--data-dir", place, "--images", 50, "--epochs", 2)
    assert done.returncode == 0 and done.metrics["results"]["dataset"] == "mnist", done.stderr
    done = run_here("mnist_mlp", "--dataset", "kmnist", "--data-dir", place)  # not there, and no place to put it
    assert done.returncode == 1 and "Read-only file system" in done.stderr and done.stderr.count("\n") == 1
