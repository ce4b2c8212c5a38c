"""What several test files need: scripts run as a user runs them, and IDX files made up for the tests."""

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
from PIL import Image

# The tests themselves run side by side, one process a core.
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))

PROJECT = Path(__file__).resolve().parent.parent
FAULTS_OF_POSIX = ["common/test_files.py", "faults/test_interruption.py", "faults/test_user.py"]
collect_ignore = (
    FAULTS_OF_POSIX if os.name == "nt" else []
)  # signals, terminals, pipes and permissions


def environment(**extra: str) -> dict[str, str]:
    """This process's environment without a display, a network (a proxy nobody listens at) and MNIST_ROOT."""
    kept = {
        k: v
        for k, v in os.environ.items()
        if k not in ("DISPLAY", "WAYLAND_DISPLAY", "MPLBACKEND", "MNIST_ROOT")
    }
    nowhere = "http://127.0.0.1:9"
    return kept | {"http_proxy": nowhere, "https_proxy": nowhere, "no_proxy": ""} | extra


@pytest.fixture
def run(tmp_path):
    """A function that runs a lecture from another folder; returns the completed process with `.folder`, `.metrics`."""

    def call(script: str, *options: str, **extra: str) -> subprocess.CompletedProcess:
        elsewhere = tmp_path / "a folder with spaces"
        elsewhere.mkdir(exist_ok=True)
        folder = elsewhere / "my run"
        done = subprocess.run(
            [
                sys.executable,
                PROJECT / "lectures" / f"{script}.py",
                "--output-dir",
                folder,
                *map(str, options),
            ],
            cwd=elsewhere,
            env=environment(**extra),
            capture_output=True,
            text=True,
            timeout=300,
        )
        done.folder = folder
        done.metrics = (
            json.loads((folder / "metrics.json").read_text())
            if (folder / "metrics.json").exists()
            else None
        )
        return done

    return call


@pytest.fixture
def run_here(tmp_path, monkeypatch, capfd):
    """As `run`, but in this process: without the seconds that a new one needs to import PyTorch."""
    folder = tmp_path / "run here"
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MNIST_ROOT", raising=False)
    monkeypatch.setattr(
        urllib.request, "_opener", None
    )  # else it goes by the proxies of a test before

    def call(script: str, *options: str) -> SimpleNamespace:
        module = importlib.import_module(f"lectures.{script}")
        monkeypatch.setattr(
            sys, "argv", [f"{script}.py", "--output-dir", str(folder), *map(str, options)]
        )
        code = program.outcome(module.main)
        said = capfd.readouterr()
        metrics = folder / "metrics.json"
        return SimpleNamespace(
            returncode=code,
            stdout=said.out,
            stderr=said.err,
            folder=folder,
            metrics=json.loads(metrics.read_text()) if metrics.exists() else None,
        )

    return call


def idx_bytes(array: np.ndarray) -> bytes:
    """An array of uint8 in the IDX format."""
    return struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape) + array.tobytes()


def write_idx(root: Path, train: int = 60, test: int = 30, packed: bool = False) -> dict[str, Path]:
    """Writes a made-up data set that can be learned, each class a bright block at its own place, as MNIST's files.

    Returns the paths by what they hold: x_train, y_train, x_test, y_test.
    """
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    paths = {}
    for name, part, count in (("train", "train", train), ("t10k", "test", test)):
        labels = (np.arange(count) * 7 % 10).astype(np.uint8)
        images = np.random.default_rng(count).integers(0, 60, (count, 28, 28), dtype=np.uint8)
        for image, label in zip(images, labels):
            image[
                4 + 10 * (label // 5) : 10 + 10 * (label // 5),
                5 * (label % 5) : 5 * (label % 5) + 5,
            ] = 255
        for key, kind, array in (
            (f"x_{part}", "images-idx3", images),
            (f"y_{part}", "labels-idx1", labels),
        ):
            content = idx_bytes(array)
            path = folder / f"{name}-{kind}-ubyte{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(content) if packed else content)
            paths[key] = path
    return paths


@pytest.fixture
def mnist_root() -> str:
    """The folder of the real MNIST, which these tests do not download."""
    root = os.environ.get("MNIST_ROOT")
    if not root or not (Path(root) / "MNIST" / "raw").is_dir():
        pytest.skip("MNIST_ROOT does not lead to MNIST/raw")
    return str(Path(root).resolve())


KEYS = {  # of `results`, by script
    "linear_recovery": "last averaged least_squares noise_floor final_loss stable_lr_limit engine steps ended",
    "ann_revisited": "parameters initial_loss final_loss points_correct engine steps microseconds_per_step ended",
    "mnist_mlp": "dataset parameters train_images test_images final_loss train_accuracy test_accuracy first_five "
    "unseen steps ended",
}


def assert_contract(done: subprocess.CompletedProcess, script: str, *files: str) -> dict:
    """Checks a run's folder: the files, whole and nothing else, and metrics.json. Returns its `results`."""
    expected = {"metrics.json", "losses.npy", "model_initial.pt", "model.pt", "loss.png", *files}
    assert {path.name for path in done.folder.iterdir()} - {".lock", ".owner"} == expected
    for path in done.folder.glob("*.png"):
        with Image.open(path) as picture:
            picture.load()
    metrics = done.metrics
    assert metrics["script"] == script
    assert metrics["config"]["output_dir"] == str(done.folder)
    assert {"python", "torch", "device", "threads"} <= set(metrics["environment"])
    assert {"imports", "preparation", "training", "figures"} <= set(metrics["seconds"])
    assert set(KEYS[script].split()) <= set(metrics["results"])
    assert np.load(done.folder / "losses.npy").dtype == np.float64
    return metrics["results"]
