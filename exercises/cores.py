"""Work that is spread over the machine's cores: the engine and PyTorch compute without holding Python's lock."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
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


def bar(total: int, unit: str, what: str) -> tqdm:
    """A progress bar of so many units; it appears after two seconds, on a terminal, and goes when it is full."""
    return tqdm(total=total, desc=what, unit=f" {unit}", unit_scale=True, delay=2, leave=False, disable=None)
