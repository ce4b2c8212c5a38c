"""A run's folder: one run at a time writes into it, and every file in it is written whole or not at all."""

import io
import json
import os
import shutil
import sys
import time
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout

from common.program import RunError

_PARTIAL = ".partial"


def open_folder(path: Path) -> FileLock:
    """Makes the folder and locks it; what a killed run left half-written is removed.

    Returns:
        The lock. The operating system releases it when the process ends, however it ends.

    Raises:
        RunError: not a folder, not writable, or another run is writing into it; that one is named.
    """
    owner = path / ".owner"
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path / ".lock")
        lock.acquire(timeout=0)
        owner.write_text(
            f"{Path(sys.argv[0]).name}, process {os.getpid()}, started {time.strftime('%H:%M:%S')}"
        )
        for leftover in path.glob(f".*{_PARTIAL}"):
            leftover.unlink()
    except Timeout:
        name = owner.read_text() if owner.exists() else "unknown"
        raise RunError(
            f"another run ({name}) is writing into {path}; wait for it, or choose another "
            "--output-dir"
        ) from None
    except OSError as error:
        raise RunError(
            f"cannot write into {path}: {error.strerror}; choose another --output-dir"
        ) from None
    return lock


def require_room(path: Path, size: int) -> None:
    """Raises a RunError unless the folder's disk has room for `size` bytes."""
    free = shutil.disk_usage(path).free
    if size > free:
        raise RunError(
            f"the run writes {size / 1e6:,.0f} MB, the disk of {path} has {free / 1e6:,.0f} MB left: free "
            "some, or choose another --output-dir"
        )


def save(path: Path, content: Any) -> None:
    """Writes a file, as its ending says; it takes `path`'s place once it is whole.

    ``.json`` a dict, in which arrays become lists, and null what is infinite or not a number; ``.npy`` an array;
    ``.npz`` a dict of arrays; ``.pt`` tensors and plain values in dicts and lists; bytes as they are; else a
    matplotlib figure.

    Raises:
        RunError: it cannot be written.
    """
    # In memory first: the writers of PyTorch, NumPy and Pillow end a full disk with a traceback, or in silence.
    data = content if isinstance(content, bytes) else _encoded(path.suffix, content)
    partial = path.with_name(f".{path.name}{_PARTIAL}")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise RunError(
            f"cannot write {path}: {error.strerror or error}; free some space, or choose another "
            "--output-dir"
        ) from None
    finally:
        partial.unlink(missing_ok=True)


def _encoded(suffix: str, content: Any) -> memoryview:
    buffer = io.BytesIO()
    if suffix == ".json":
        buffer.write((json.dumps(_plain(content), indent=2, allow_nan=False) + "\n").encode())
    elif suffix == ".npy":
        np.save(buffer, content)
    elif suffix == ".npz":
        np.savez(buffer, **content)
    elif suffix == ".pt":
        torch.save(_compact(content), buffer)
    else:
        content.savefig(buffer, format=suffix[1:])
    return buffer.getbuffer()


def _compact(value: Any) -> Any:
    """`value` without the rest of the storages that its tensors are a part of, which `torch.save` would write too."""
    if isinstance(value, dict):
        return type(value)((key, _compact(item)) for key, item in value.items())
    if isinstance(value, list):
        return [_compact(item) for item in value]
    if isinstance(value, torch.Tensor) and value.untyped_storage().nbytes() > value.nbytes:
        return value.clone()
    return value


def _plain(value: Any) -> Any:
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


def load(path: Path, *, largest: int | None = None) -> Any:
    """Reads a ``.pt`` file of tensors and plain values onto the CPU. Nothing in it is executed.

    Args:
        largest: bytes that the file may have, packed and unpacked (default: as many as there are).

    Raises:
        RunError: not there, damaged, too large, or holding anything else.
    """
    try:
        if largest is not None and _unpacked(path) > largest:
            raise RunError(
                f"{path} is larger than {largest:,} bytes, which no such model of the lectures is"
            )
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickles it does not read anyway
            return torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise RunError(f"there is no {path}; train a model first, or name another file") from None
    except RunError:
        raise
    except Exception as error:  # what a damaged file makes of the unpickler has no common class
        raise RunError(
            f"{path} cannot be read ({type(error).__name__}): it is damaged, or holds more than "
            "tensors"
        ) from None


def _unpacked(path: Path) -> int:
    """The bytes of a file, or those of its parts if it is an archive, as PyTorch's are, and they are more."""
    size = path.stat().st_size
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as parts:
            size = max(size, sum(part.file_size for part in parts.infolist()))
    return size


def check_like(path: Path, found: Any, like: Any, name: str = "") -> None:
    """Raises a RunError that names `path` unless `found` is built as `like`: the same keys, lengths and types in all
    dicts, lists and tuples, tensors of the same shape and type, and only finite numbers."""
    where = f"{path} does not fit: {name or 'its content'}"
    if type(found) is not type(like):
        raise RunError(f"{where} is of type {type(found).__name__}, expected {type(like).__name__}")
    if isinstance(like, dict):
        for key in [*like, *found]:
            if key not in found or key not in like:
                raise RunError(f"{where} {'has' if key in found else 'lacks'} {key!r}")
            check_like(path, found[key], like[key], f"{name}[{key!r}]")
    elif isinstance(like, (list, tuple)):
        if len(found) != len(like):
            raise RunError(f"{where} has {len(found)} entries, expected {len(like)}")
        for position, pair in enumerate(zip(found, like)):
            check_like(path, *pair, f"{name}[{position}]")
    elif isinstance(like, torch.Tensor):
        if (found.shape, found.dtype) != (like.shape, like.dtype):
            raise RunError(
                f"{where} is {tuple(found.shape)} {found.dtype}, expected {tuple(like.shape)} {like.dtype}"
            )
        if not found.isfinite().all():
            raise RunError(f"{where} has numbers that are infinite or none")
    elif isinstance(like, (str, bool)) and found != like:
        raise RunError(f"{where} is {found!r}, expected {like!r}")
    elif isinstance(like, float) and not np.isfinite(found):
        raise RunError(f"{where} is {found}")
