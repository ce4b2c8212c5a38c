"""A run's folder: every file in it is written whole or not at all."""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from filelock import FileLock, Timeout

from common.cli import RunError

_PARTIAL = ".partial"


_locks = []  # held until the process ends


def open_folder(path: Path) -> None:
    """Makes the folder, checks that it can be written to, and locks it until the process ends.

    What a killed run left half-written is removed. The operating system releases the lock, however the process ends.

    Raises:
        RunError: not a folder, not writable, or another run is writing into it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path / ".lock")
        lock.acquire(timeout=0)
    except Timeout:
        raise RunError(f"another run is writing into {path}; wait for it, or choose another --output-dir") from None
    except OSError as error:
        raise RunError(f"cannot write into {path}: {error.strerror}; choose another --output-dir") from None
    for leftover in path.glob(f".*{_PARTIAL}"):
        leftover.unlink()
    _locks.append(lock)


@contextmanager
def _whole(path: Path) -> Iterator[BinaryIO]:
    """A binary file that takes `path`'s place when the block ends without an error, and is gone when it does not."""
    partial = path.with_name(f".{path.name}{_PARTIAL}")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def save_json(path: Path, content: dict) -> None:
    """Writes `content` as JSON; what is infinite or not a number becomes null, since JSON has no word for it."""
    with _whole(path) as file:
        file.write((json.dumps(_plain(content), indent=2, allow_nan=False) + "\n").encode())


def save_metrics(folder: Path, args: argparse.Namespace, device: torch.device, seconds: dict, results: dict) -> None:
    """Writes metrics.json: the script, every option as used, the machine, the seconds of each phase, the results."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    environment = {"python": platform.python_version(), "torch": torch.__version__, "device": f"{device.type} ({name})",
                   "threads": torch.get_num_threads(), "cores": os.cpu_count(), "system": platform.system()}
    save_json(folder / "metrics.json", {"script": Path(sys.argv[0]).stem, "config": vars(args),
                                        "environment": environment, "seconds": seconds, "results": results})


def _plain(value):
    """`value` in JSON's types: arrays and tensors as nested lists, paths as text."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (np.ndarray, np.generic, torch.Tensor)):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return None if isinstance(value, float) and not np.isfinite(value) else value


def save_array(path: Path, array: np.ndarray) -> None:
    """Writes one array as .npy; read it with ``numpy.load``."""
    with _whole(path) as file:
        np.save(file, array)


def save_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Writes named arrays as .npz; read them with ``numpy.load``."""
    with _whole(path) as file:
        np.savez(file, **arrays)


def save_state(path: Path, state: dict[str, torch.Tensor]) -> None:
    """Writes a state_dict, on the CPU; read it with ``torch.load(path, weights_only=True)``."""
    with _whole(path) as file:
        torch.save({name: tensor.detach().cpu() for name, tensor in state.items()}, file)


def save_figure(path: Path, figure) -> None:
    """Writes a matplotlib figure as PNG."""
    with _whole(path) as file:
        figure.savefig(file, format="png")


def stopwatch(start: float) -> Callable[[], float]:
    """A function that returns the seconds since it was last called, at first since `start` (of perf_counter)."""
    last = start

    def lap() -> float:
        nonlocal last
        now = time.perf_counter()
        seconds, last = now - last, now
        return seconds

    return lap
