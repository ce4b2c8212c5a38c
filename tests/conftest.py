"""What several test files need: scripts run as a user runs them, and data sets in MNIST's files."""

from common import program

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


def outcome(returncode: int, stdout: str, stderr: str, folder: Path) -> SimpleNamespace:
    """What a run said and left; `metrics` is the content of metrics.json, or None."""
    path = folder / "metrics.json"
    metrics = json.loads(path.read_text()) if path.exists() else None
    return SimpleNamespace(
        returncode=returncode, stdout=stdout, stderr=stderr, folder=folder, metrics=metrics
    )


def run_in(elsewhere: Path, *command: object, **extra: str) -> SimpleNamespace:
    """Runs a script in a process of its own, in the folder `elsewhere`; its output is beside it."""
    folder = elsewhere / "my run"
    done = subprocess.run(
        [sys.executable, *map(str, command), "--output-dir", folder],
        cwd=elsewhere,
        env=environment(**extra),
        capture_output=True,
        text=True,
        timeout=300,
    )
    return outcome(done.returncode, done.stdout, done.stderr, folder)


@pytest.fixture
def run(tmp_path):
    """A function that runs a lecture in a process of its own; its outcome, see `outcome`."""
    elsewhere = tmp_path / "a folder with spaces"
    elsewhere.mkdir()

    def call(script: str, *options: object, **extra: str) -> SimpleNamespace:
        return run_in(elsewhere, PROJECT / "lectures" / f"{script}.py", *options, **extra)

    return call


@pytest.fixture
def run_here(tmp_path, monkeypatch, capfd):
    """As `run`, but in this process: without the seconds that a new one needs to import PyTorch."""
    folder = tmp_path / "run here"
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MNIST_ROOT", raising=False)
    monkeypatch.setattr(urllib.request, "_opener", None)  # it has the proxies of a test before

    def call(script: str, *options: object) -> SimpleNamespace:
        main = importlib.import_module(f"lectures.{script}").main
        words = [f"{script}.py", "--output-dir", folder, *options]
        monkeypatch.setattr(sys, "argv", [str(word) for word in words])
        code = program.outcome(main)
        said = capfd.readouterr()
        return outcome(code, said.out, said.err, folder)

    return call


@pytest.fixture
def undrawn(run_here, monkeypatch):
    """`run_here`, without the time that figures take."""
    from helpers import no_figures  # which imports this module

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


def write_mnist(
    folder: Path, part: str, images: np.ndarray, labels: np.ndarray, packed: bool = False
) -> dict[str, Path]:
    """Writes a part, "train" or "test", as MNIST's files; the paths as x_train, y_train, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    name = {"train": "train", "test": "t10k"}[part]
    paths = {}
    for key, kind, array in (("x", "images-idx3", images), ("y", "labels-idx1", labels)):
        content = idx_bytes(array.astype(np.uint8))
        path = folder / f"{name}-{kind}-ubyte{'.gz' if packed else ''}"
        path.write_bytes(gzip.compress(content) if packed else content)
        paths[f"{key}_{part}"] = path
    return paths


def write_idx(root: Path, train: int = 60, test: int = 30, packed: bool = False) -> dict[str, Path]:
    """Writes a data set that can be learned: each class is a bright block at a place of its own.

    Returns the paths by what they hold: x_train, y_train, x_test, y_test.
    """
    paths = {}
    for part, count in (("train", train), ("test", test)):
        labels = np.arange(count) * 7 % 10
        images = np.random.default_rng(count).integers(0, 60, (count, 28, 28))
        for image, label in zip(images, labels):
            row, column = 4 + 10 * (label // 5), 5 * (label % 5)
            image[row : row + 6, column : column + 5] = 255
        paths |= write_mnist(root / "MNIST" / "raw", part, images, labels, packed)
    return paths
