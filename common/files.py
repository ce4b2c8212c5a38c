"""A run's folder: one run at a time writes into it, and each file in it is whole or absent."""

from common.program import RunError

import io
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout

_ELSEWHERE = "choose another --output-dir"


def open_folder(path: Path) -> FileLock:
    """Makes the folder, removes what a killed run left half-written, and returns the folder's lock.

    The operating system releases the lock when the process ends, however it ends.

    Raises:
        RunError: it cannot be written, or another run, which is named, is writing into it.
    """
    owner = path / ".owner"
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path / ".lock")
        lock.acquire(timeout=0)
        started = time.strftime("%H:%M:%S")
        owner.write_text(f"{Path(sys.argv[0]).name}, process {os.getpid()}, started {started}")
        for leftover in path.glob(".*.partial"):
            leftover.unlink()
    except Timeout:
        name = owner.read_text() if owner.exists() else "unknown"
        raise RunError(
            f"another run ({name}) is writing into {path}; wait for it, or {_ELSEWHERE}"
        ) from None
    except OSError as error:
        raise RunError(f"cannot write into {path}: {error.strerror}; {_ELSEWHERE}") from None
    return lock


def require_room(path: Path, size: int) -> None:
    """Raises a RunError unless the folder's disk has room for `size` bytes."""
    free = shutil.disk_usage(path).free
    if size > free:
        raise RunError(
            f"the run writes {size / 1e6:,.0f} MB, the disk of {path} has {free / 1e6:,.0f} MB "
            f"left: free some, or {_ELSEWHERE}"
        )


def save(path: Path, content: Any) -> None:
    """Writes a file in the format that its ending names; it takes its place once it is whole.

    ``.json``: a dict; arrays become lists, and NaN and infinity null. ``.npy``: an array.
    ``.npz``: a dict of arrays. ``.pt``: tensors and plain values in dicts and lists. Any ending:
    bytes, written as they are, or a matplotlib figure.

    Raises:
        RunError: it cannot be written.
    """
    # In memory first: PyTorch, NumPy and Pillow meet a full disk with a traceback, or silently.
    data = content if isinstance(content, bytes) else _encoded(path.suffix, content)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        reason = f"{error.strerror or error}; free some space"
        raise RunError(f"cannot write {path}: {reason}, or {_ELSEWHERE}") from None
    finally:
        partial.unlink(missing_ok=True)


def _encoded(suffix: str, content: Any) -> memoryview:
    buffer = io.BytesIO()
    if suffix == ".json":
        text = json.dumps(content, default=lambda x: str(x) if isinstance(x, Path) else x.tolist())
        plain = json.loads(text, parse_constant=lambda name: None)  # JSON has no NaN, no Infinity
        buffer.write((json.dumps(plain, indent=2) + "\n").encode())
    elif suffix == ".npy":
        np.save(buffer, content)
    elif suffix == ".npz":
        np.savez(buffer, **content)
    elif suffix == ".pt":
        torch.save(_apart(content), buffer)
    else:
        content.savefig(buffer, format=suffix[1:])
    return buffer.getbuffer()


def _apart(value: Any) -> Any:
    """A copy, in which no tensor is part of a larger one, which `torch.save` would write whole."""
    if isinstance(value, dict):
        return {key: _apart(item) for key, item in value.items()}
    return value.clone() if isinstance(value, torch.Tensor) else value


def load(path: Path) -> Any:
    """Reads a ``.pt`` file of tensors and plain values onto the CPU. Nothing in it is executed.

    Raises:
        RunError: the file is missing or damaged, or it holds anything else.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise RunError(f"there is no {path}; train a model first, or name another file") from None
    except Exception as error:  # damage makes the unpickler raise nearly anything
        reason = f"{type(error).__name__}: it is damaged, or holds more than tensors"
        raise RunError(f"{path} cannot be read ({reason})") from None


def restore(part: Any, state: Any, path: Path) -> None:
    """Gives a model, an optimizer, a scheduler or a tensor the state that was read from `path`.

    Raises:
        RunError: the state is that of something else.
    """
    try:
        part.copy_(state) if isinstance(part, torch.Tensor) else part.load_state_dict(state)
    except (RuntimeError, TypeError, ValueError, LookupError, AttributeError) as error:
        raise RunError(f"{path} does not fit: {' '.join(str(error).split())}") from None


def save_checkpoint(path: Path, settings: dict, losses: np.ndarray, states: dict[str, Any]) -> None:
    """Writes what ``--resume`` goes on from.

    `settings` are the options that the numbers depend on, `losses`, of shape (made,), are those of
    the steps made so far, and `states`, by name, are tensors and what ``state_dict()`` returned.
    """
    save(path, {"settings": settings, "losses": torch.from_numpy(losses), "states": states})


def load_checkpoint(path: Path, settings: dict) -> dict[str, Any]:
    """Reads a checkpoint: a dict of ``settings``, ``losses`` and ``states``, as they were saved.

    Raises:
        RunError: it is damaged, or a setting, which is named, is not that of `settings`.
    """
    content = load(path)
    if not isinstance(content, dict) or content.keys() != {"settings", "losses", "states"}:
        raise RunError(f"{path} is no checkpoint; delete it, or run without --resume")
    for name, value in settings.items():
        found = content["settings"].get(name)
        if found != value:
            raise RunError(
                f"--resume: the checkpoint in {path.parent} is of a run with {name} {found}, "
                f"this one has {value}; use its options, or run without --resume"
            )
    return content | {"losses": content["losses"].numpy()}
