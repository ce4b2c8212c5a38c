"""Where a run computes and why, with which engine, and from which seed."""

import os
import sys
from pathlib import Path

import torch
from torch import nn

from common.cli import RunError

# Beyond this many multiplications in a forward pass over one batch, PyTorch's matrix products make up for what each of
# its operations costs, and the eager loop is the faster one: docs/benchmarks.md, "Wider networks".
FUSED_LIMIT = 350_000


def choose_device(requested: str, *, small: bool) -> tuple[torch.device, str]:
    """The device and, in a few words, the reason.

    Args:
        requested: ``auto``, ``cpu`` or ``cuda``.
        small: a network whose step takes a GPU less time than the launch of its kernels; `auto` keeps it on the CPU.

    Raises:
        RunError: ``cuda`` where PyTorch finds no CUDA device.
    """
    if requested == "cuda":
        if not torch.cuda.is_available():
            raise RunError("--device cuda: PyTorch finds no CUDA device here; use --device cpu")
        return torch.device("cuda"), "as asked"
    if requested == "cpu":
        return torch.device("cpu"), "as asked"
    if small:
        return torch.device("cpu"), "a GPU's launch costs more than a step of so small a network"
    if torch.cuda.is_available():
        return torch.device("cuda"), "there is one"
    return torch.device("cpu"), "no CUDA device here"


def choose_engine(requested: str, model: nn.Sequential, points: int, steps: int, device: torch.device) -> str:
    """``fused`` or ``eager``.

    `auto` takes the fused engine where numba can be used and the network is small enough to gain from it; where
    numba is missing it says so once on stderr, with what the plain loop will cost.

    Args:
        requested: ``auto``, ``fused`` or ``eager``.
        model: the network.
        points: the number of points in a batch.
        steps: the number of steps to make, all starts together.
        device: where; the engine's CUDA side needs a GPU that numba can use too.

    Raises:
        RunError: ``fused`` without numba.
    """
    work = points * sum(p.numel() for p in model.parameters() if p.dim() == 2)
    if requested == "eager" or (requested == "auto" and work > FUSED_LIMIT):
        return "eager"
    try:
        from common import fused  # here, because a run of the eager engine does without numba

        if device.type == "cuda" and not fused.cuda_available():
            raise ImportError("its CUDA target finds no GPU")
    except ImportError as error:
        if requested == "fused":
            raise RunError(f"--engine fused needs numba, which cannot be used ({error}): pip install numba, "
                           "or use --engine eager") from None
        print(f"warning: numba cannot be used ({error}): training with the plain loop, which takes about "
              f"{_duration(steps * 0.7e-3)} instead of {_duration(steps * 1e-6)}", file=sys.stderr)
        return "eager"
    fused.load(next(model.parameters()).dtype)
    return "fused"


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{max(seconds, 1):.0f} s"


def generator(seed: int) -> torch.Generator:
    """A generator on the CPU, so that a seed means the same numbers on every device."""
    return torch.Generator().manual_seed(seed)


def require_memory(size: float, reason: str) -> None:
    """Refuses a run that needs `size` bytes at once where less is free; `reason` names the options that ask for it.

    Raises:
        RunError: more than the free memory, where the system tells how much that is.
    """
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if Path("/proc/meminfo").exists():  # Linux: what can be had, caches included
            fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
            free = 1024 * int(fields["MemAvailable"].split()[0])
    except (ValueError, OSError, AttributeError):  # a system without these names
        return
    if size > free:
        raise RunError(f"{reason} need {size / 2**30:,.1f} GiB of memory, {free / 2**30:,.1f} GiB are free: "
                       "choose less")
