"""What several test files need: scripts run as a user runs them, and data sets in MNIST's files."""

from common import datasets, program

import gzip
import importlib
import json
import os
import struct
import subprocess
import sys
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

# The tests themselves run side by side, one process a core.
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))

PROJECT = Path(__file__).resolve().parent.parent
# About signals, terminals, pipes and permissions
FAULTS_OF_POSIX = ["common/test_files.py", "faults/test_interruption.py", "faults/test_user.py"]
collect_ignore = FAULTS_OF_POSIX if os.name == "nt" else []

KEYS = {  # that `results` has at least, by script
    "linear_recovery": "last averaged least_squares noise_floor final_loss stable_lr_limit engine "
    "steps ended",
    "ann_revisited": "parameters initial_loss final_loss points_correct engine steps "
    "microseconds_per_step ended",
    "mnist_mlp": "dataset parameters train_images test_images final_loss train_accuracy "
    "test_accuracy first_five unseen steps ended",
}


def environment(**extra: str) -> dict[str, str]:
    """This process's environment without display and MNIST_ROOT; its proxy answers nobody."""
    without = ("DISPLAY", "WAYLAND_DISPLAY", "MPLBACKEND", "MNIST_ROOT")
    kept = {name: value for name, value in os.environ.items() if name not in without}
    nowhere = "http://127.0.0.1:9"
    return kept | {"http_proxy": nowhere, "https_proxy": nowhere, "no_proxy": ""} | extra


def with_files(done: Any, folder: Path) -> Any:
    """Adds a run's folder to its outcome, and `metrics`: metrics.json's content, or None."""
    path = folder / "metrics.json"
    done.folder, done.metrics = folder, json.loads(path.read_text()) if path.exists() else None
    return done


def run_in(elsewhere: Path, *command: object, **extra: str) -> Any:
    """Runs a script in a process of its own, in the folder `elsewhere`; its output is beside it."""
    words = [sys.executable, *map(str, command), "--output-dir", elsewhere / "my run"]
    settings = {"capture_output": True, "text": True, "timeout": 300}
    done = subprocess.run(words, cwd=elsewhere, env=environment(**extra), **settings)
    return with_files(done, elsewhere / "my run")


@pytest.fixture
def run(tmp_path):
    """A function that runs a lecture in a process of its own: its outcome, folder and metrics."""
    elsewhere = tmp_path / "a folder with spaces"
    elsewhere.mkdir()

    def call(script: str, *options: object, **extra: str) -> Any:
        return run_in(elsewhere, PROJECT / "lectures" / f"{script}.py", *options, **extra)

    return call


@pytest.fixture
def run_here(tmp_path, monkeypatch, capfd):
    """As `run`, but in this process: without the seconds that a new one needs to import PyTorch."""
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MNIST_ROOT", raising=False)
    monkeypatch.setattr(urllib.request, "_opener", None)  # it has the proxies of a test before

    def call(script: str, *options: object, folder: Path = tmp_path / "run here") -> Any:
        main = importlib.import_module(f"lectures.{script}").main
        words = [f"{script}.py", "--output-dir", folder, *options]
        monkeypatch.setattr(sys, "argv", [str(word) for word in words])
        done = SimpleNamespace(returncode=program.outcome(main))
        done.stdout, done.stderr = capfd.readouterr()
        return with_files(done, folder)

    return call


@pytest.fixture
def digits(run_here, tmp_path, monkeypatch) -> SimpleNamespace:
    """Made-up digits in `root`, which MNIST_ROOT names for `run_here`: see `write_digits`."""
    from helpers import write_digits  # which imports this module

    monkeypatch.setenv("MNIST_ROOT", str(tmp_path / "data"))
    return write_digits(tmp_path / "data")


@pytest.fixture
def undrawn(run_here, digits, monkeypatch):
    """`run_here` with made-up digits, and without the time that figures take."""
    from helpers import no_figures

    no_figures(monkeypatch)
    return run_here


@pytest.fixture
def mnist_root() -> str:
    """The folder of the real MNIST, which these tests do not download."""
    root = os.environ.get("MNIST_ROOT")
    if not root or not (Path(root) / "MNIST" / "raw").is_dir():
        pytest.skip("MNIST_ROOT does not lead to MNIST/raw")
    return str(Path(root).resolve())


def idx_bytes(array: np.ndarray) -> bytes:
    """An array of uint8 in the IDX format."""
    return struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape) + array.tobytes()


def write_mnist(raw: Path, arrays: dict[str, np.ndarray], packed: bool = False) -> dict[str, Path]:
    """Writes x_train, y_train, x_test and y_test as MNIST's files; their paths by these names."""
    raw.mkdir(parents=True, exist_ok=True)
    paths = {}
    for name, file in zip(("x_train", "y_train", "x_test", "y_test"), datasets.FILES):
        content = idx_bytes(arrays[name].astype(np.uint8))
        paths[name] = raw / f"{file}{'.gz' if packed else ''}"
        paths[name].write_bytes(gzip.compress(content) if packed else content)
    return paths


def write_idx(root: Path, train: int = 60, test: int = 30, packed: bool = False) -> dict[str, Path]:
    """Writes a data set that can be learned: each class is a bright block at a place of its own.

    Returns the paths by what they hold: x_train, y_train, x_test, y_test.
    """
    arrays = {}
    for part, count in (("train", train), ("test", test)):
        labels = np.arange(count) * 7 % 10
        images = np.random.default_rng(count).integers(0, 60, (count, 28, 28))
        for image, label in zip(images, labels):
            row, column = 4 + 10 * (label // 5), 5 * (label % 5)
            image[row : row + 6, column : column + 5] = 255
        arrays |= {f"x_{part}": images, f"y_{part}": labels}
    return write_mnist(root / "MNIST" / "raw", arrays, packed)
