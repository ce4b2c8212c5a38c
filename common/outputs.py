"""A run's folder: every file in it is written whole or not at all."""

import argparse
import io
import json
import os
import platform
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import nn

from common.cli import RunError, interrupted

_PARTIAL = ".partial"
CHECKPOINT = "checkpoint.pt"

_locks = []  # held until the process ends


def open_folder(path: Path, size: int = 0) -> None:
    """Makes the folder, checks that a run can write into it, and locks it until the process ends.

    What a killed run left half-written is removed. The operating system releases the lock, however the process ends.

    Args:
        path: the folder.
        size: the bytes that the run will write, nearly.

    Raises:
        RunError: not a folder, not writable, too little room on its disk, or another run is writing into it; that one
            is named.
    """
    owner = path / ".owner"
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path / ".lock")
        lock.acquire(timeout=0)
        owner.write_text(f"{Path(sys.argv[0]).name}, process {os.getpid()}, started {time.strftime('%H:%M:%S')}")
        for leftover in path.glob(f".*{_PARTIAL}"):
            leftover.unlink()
        free = shutil.disk_usage(path).free
    except Timeout:
        name = owner.read_text() if owner.exists() else "unknown"
        raise RunError(f"another run ({name}) is writing into {path}; wait for it, or choose another "
                       "--output-dir") from None
    except OSError as error:
        raise RunError(f"cannot write into {path}: {error.strerror}; choose another --output-dir") from None
    _locks.append(lock)
    if size > free:
        raise RunError(f"the run writes {size / 1e6:,.0f} MB, the disk of {path} has {free / 1e6:,.0f} MB left: free "
                       "some, or choose another --output-dir")


@contextmanager
def _whole(path: Path) -> Iterator[BinaryIO]:
    """A binary file that takes `path`'s place when the block ends without an error, and is gone when it does not.

    Raises:
        RunError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}{_PARTIAL}")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}; free some space, or choose another "
                       "--output-dir") from None
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
    _save_by_memory(path, lambda file: np.savez(file, **arrays))


def save_state(path: Path, state: dict[str, torch.Tensor]) -> None:
    """Writes a state_dict, on the CPU; read it with ``torch.load(path, weights_only=True)``."""
    _save_torch(path, {name: tensor.detach().cpu().clone() for name, tensor in state.items()})


def _save_torch(path: Path, content: dict) -> None:
    _save_by_memory(path, lambda file: torch.save(content, file))


def _save_by_memory(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """Writes a file by way of memory, for writers that say less than Python where a disk is full, or say it badly."""
    buffer = io.BytesIO()
    write(buffer)
    with _whole(path) as file:
        file.write(buffer.getbuffer())


def load_state(path: Path) -> dict[str, torch.Tensor]:
    """Reads a state_dict that `check_state` then compares with a model's. Nothing in the file is executed.

    Raises:
        RunError: not there, damaged, or not a state_dict.
    """
    state = _load_torch(path)
    if not _is_state(state):
        raise RunError(f"{path} holds no model's parameters")
    return state


def _is_state(content) -> bool:
    return isinstance(content, dict) and all(isinstance(tensor, torch.Tensor) for tensor in content.values())


def check_state(path: Path, state: dict, like: dict[str, torch.Tensor]) -> None:
    """Raises a RunError that names `path` unless `state` has the names, shapes and types of `like`, all finite."""

    def form(tensors) -> dict:
        return {name: (tuple(t.shape), t.dtype) for name, t in tensors.items()}

    if not _is_state(state):
        raise RunError(f"{path} holds no model's parameters")
    if form(state) != form(like):
        wrong = next(n for n in [*like, *state] if form(state).get(n) != form(like).get(n))
        raise RunError(f"{path} holds another model: {wrong} is {form(state).get(wrong, 'missing')}, expected "
                       f"{form(like).get(wrong, 'nothing of that name')}")
    if not all(t.isfinite().all() for t in state.values()):
        raise RunError(f"{path} has parameters that are infinite or not numbers")


def _load_torch(path: Path):
    """`torch.load` of tensors and plain values alone, on the CPU; a RunError where that cannot be done."""
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickles it does not read anyway
            return torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise RunError(f"there is no {path}; train a model first, or name one with --model") from None
    except Exception as error:  # what a damaged file makes of the unpickler has no common class
        raise RunError(f"{path} cannot be read ({type(error).__name__}): it is damaged, or holds more than "
                       "tensors") from None


def save_checkpoint(folder: Path, settings: dict, losses: np.ndarray, model: nn.Module,
                    optimizer: torch.optim.Adam | None = None) -> None:
    """Writes what `--resume` goes on from: the settings it holds for, the losses so far, parameters, Adam's state.

    Where that fails, as on a full disk, the training goes on with a warning.
    """
    state = optimizer.state_dict()["state"] if optimizer else {}
    adam = {f"{i}.{name}": tensor for i, of_one in state.items() for name, tensor in of_one.items()}
    try:
        _save_torch(folder / CHECKPOINT, {"settings": settings, "losses": torch.tensor(losses),
                                          "model": model.state_dict(), "adam": adam})
    except RunError as error:
        print(f"warning: no checkpoint: {error}", file=sys.stderr)


def load_checkpoint(folder: Path, settings: dict, losses: np.ndarray, model: nn.Module,
                    optimizer: torch.optim.Adam | None = None) -> None:
    """Goes back to the checkpoint of a run with the same settings. Nothing in the file is executed.

    Args:
        folder: the run's.
        settings: what must be the same in the run that left the checkpoint.
        losses: shape (steps,) or (starts, steps): those of the steps made are put in.
        model, optimizer: get the parameters, and Adam's moments.

    Raises:
        RunError: there is no checkpoint, it is damaged, or a setting differs, which is named.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        raise RunError(f"--resume: there is no {path}; run without --resume")
    content = _load_torch(path)
    found = content.get("settings") if isinstance(content, dict) else None
    made = content.get("losses") if isinstance(found, dict) else None
    if not isinstance(made, torch.Tensor) or made.dtype != torch.float64 or made.dim() != losses.ndim:
        raise RunError(f"{path} is no checkpoint; run without --resume")
    for name in settings:
        if found.get(name) != settings[name]:
            raise RunError(f"--resume: the checkpoint in {folder} is of a run with {name} {found.get(name)}, this one "
                           f"has {settings[name]}; use its options, or run without --resume")
    if made.shape[:-1] != losses.shape[:-1] or made.shape[-1] > losses.shape[-1]:
        raise RunError(f"{path} has losses of shape {tuple(made.shape)}, more than the run's {losses.shape}")
    check_state(path, content.get("model"), model.state_dict())
    if optimizer:
        parts = {"step": lambda p: torch.zeros(()), "exp_avg": torch.zeros_like, "exp_avg_sq": torch.zeros_like}
        like = {f"{i}.{name}": part(p) for i, p in enumerate(model.parameters()) for name, part in parts.items()}
        adam = content.get("adam")
        check_state(path, adam, like)
        state = {i: {name: adam[f"{i}.{name}"] for name in parts} for i in range(len(like) // len(parts))}
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    model.load_state_dict(content["model"])
    losses[..., :made.shape[-1]] = made.numpy()


def save_figure(path: Path, figure) -> None:
    """Writes a matplotlib figure as PNG."""
    _save_by_memory(path, lambda file: figure.savefig(file, format="png"))


def save_run(folder: Path, losses: np.ndarray, initial: dict, trained: dict, figures: dict) -> None:
    """Writes losses.npy, model_initial.pt, model.pt and the figures, given by their file names."""
    save_array(folder / "losses.npy", losses)
    save_state(folder / "model_initial.pt", initial)
    save_state(folder / "model.pt", trained)
    for name, figure in figures.items():
        save_figure(folder / name, figure)


def remove_checkpoint(folder: Path) -> None:
    """A run that is done needs none; one that was interrupted keeps it."""
    if not interrupted():
        (folder / CHECKPOINT).unlink(missing_ok=True)


def stopwatch(start: float) -> Callable[[], float]:
    """A function that returns the seconds since it was last called, at first since `start` (of perf_counter)."""
    last = start

    def lap() -> float:
        nonlocal last
        now = time.perf_counter()
        seconds, last = now - last, now
        return seconds

    return lap
