"""Work that is spread over the machine's cores: the engine and PyTorch compute without holding Python's lock."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_all_start_methods, get_context
from typing import Any, TypeVar

from tqdm import tqdm

Result = TypeVar("Result")


def spread(function: Callable[..., Result], *arguments: Iterable[Any]) -> list[Result]:
    """``list(map(function, *arguments))``, on as many threads as there are cores."""
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        return list(pool.map(function, *arguments))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # after Ctrl-C nothing is waited for


def each(function: Callable[..., Result], *arguments: Iterable[Any]) -> Iterator[Result]:
    """``map(function, *arguments)``, for functions of PyTorch's small steps, which keep Python's lock most of the time.

    On as many processes as there are cores where a process can be forked, else one after another.
    """
    if (
        "fork" not in get_all_start_methods() or sys.platform == "darwin"
    ):  # a Mac's libraries do not survive it
        yield from map(function, *arguments)
        return
    pool = ProcessPoolExecutor(os.cpu_count(), get_context("fork"))
    try:
        yield from pool.map(function, *arguments)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def bar(total: int, unit: str, what: str) -> tqdm:
    """A progress bar of so many units; it appears after two seconds, on a terminal, and goes when it is full."""
    return tqdm(
        total=total, desc=what, unit=f" {unit}", unit_scale=True, delay=2, leave=False, disable=None
    )
