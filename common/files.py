"""A run's folder: one run at a time writes into it, and each file in it is whole or absent."""

from common.program import RunError

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout

_ELSEWHERE = "choose another --output-dir"


def open_folder(path: Path) -> FileLock:
    """Makes the folder, removes what a killed run left half-written, and returns the folder's lock.

    The operating system releases the lock when the process ends, however it ends. Raises a RunError
    if the folder cannot be written, or another run is writing into it.
    """
    lock = FileLock(path / ".lock", timeout=0)
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        for leftover in path.glob(".*.partial"):
            leftover.unlink()
    except Timeout:
        raise RunError(f"another run is writing into {path}; wait, or {_ELSEWHERE}") from None
    except OSError as error:
        raise RunError(f"cannot write into {path}: {error.strerror}; {_ELSEWHERE}") from None
    return lock


def save(path: Path, content: Any) -> None:
    """Writes a file in the format that its ending names; it takes its place once it is whole.

    ``.json``: a dict; arrays become lists, and NaN and infinity null. ``.npy``: an array.
    ``.npz``: a dict of arrays. ``.pt``: a dict of tensors and plain values. Any other: bytes, or a
    matplotlib figure. Raises a RunError if the file cannot be written.
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
        reason = f"{error.strerror}; free some space, or {_ELSEWHERE}"
        raise RunError(f"cannot write {path}: {reason}") from None
    finally:
        partial.unlink(missing_ok=True)


def _encoded(suffix: str, content: Any) -> bytes:
    buffer = io.BytesIO()
    if suffix == ".json":
        text = json.dumps(content, default=lambda x: str(x) if isinstance(x, Path) else x.tolist())
        plain = json.loads(text, parse_constant=lambda name: None)  # JSON has no NaN, no Infinity
        buffer.write((json.dumps(plain, indent=2) + "\n").encode())
    elif suffix == ".npy":
        np.save(buffer, content)
    elif suffix == ".npz":
        np.savez(buffer, **content)
    elif suffix == ".pt":  # a tensor that is part of a larger one would be saved with all of it
        clones = {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in content.items()}
        torch.save(clones, buffer)
    else:
        content.savefig(buffer, format=suffix[1:])
    return buffer.getvalue()


def load(path: Path) -> Any:
    """Reads a ``.pt`` file of tensors and plain values onto the CPU. Nothing in it is executed.

    Raises a RunError if the file is missing or damaged, or holds anything else.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise RunError(f"there is no {path}; train a model first, or name another file") from None
    except Exception as error:  # damage makes the unpickler raise nearly anything
        reason = f"{type(error).__name__}: it is damaged, or holds more than tensors"
        raise RunError(f"{path} cannot be read ({reason})") from None
