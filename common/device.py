"""Where a run computes and why: device, engine, threads, memory."""

import os
import sys
from pathlib import Path

import torch
from torch import nn

from common import fused
from common.program import RunError

# Up to so many multiplications in a forward pass over one batch, a second thread gains less than it loses as soon as
# another program uses the machine: docs/benchmarks.md.
ONE_THREAD_LIMIT = 50_000_000


def choose_device(requested: str, *, small: bool) -> tuple[str, str]:
    """The device's name and, in a few words, the reason.

    Args:
        requested: ``auto``, ``cpu``, ``cuda``, or an accelerator that `auto` does not take: ``mps``, ``xpu``.
        small: a float64 network whose step takes a GPU less time than the launch of its kernels; `auto` keeps it on the
            CPU.

    Raises:
        RunError: PyTorch finds no such device, or it cannot compute in float64.
    """
    if requested in ("mps", "xpu") and small:
        raise RunError(
            f"--device {requested}: this network computes in float64, which such a device may not have; use "
            "--device cpu"
        )
    if requested == "cpu" or (requested != "auto" and _available(requested)):
        return requested, "as asked"
    if requested != "auto":
        raise RunError(
            f"--device {requested}: PyTorch finds no {requested.upper()} device here; use --device cpu"
        )
    if small:
        return "cpu", "a GPU's launch costs more than a step of so small a network"
    if _available("cuda"):
        return "cuda", "there is one"
    others = [name for name in ("mps", "xpu") if _available(name)]
    return "cpu", "no CUDA device here" + "".join(
        f"; --device {name} would take the other one" for name in others
    )


def _available(name: str) -> bool:
    backend = torch.backends.mps if name == "mps" else getattr(torch, name, None)
    return backend is not None and backend.is_available()


def choose_engine(requested: str, model: nn.Module, device: str, steps: int) -> tuple[str, str]:
    """``fused`` or ``eager``, and the reason.

    `auto` takes the fused engine on the CPU, for networks small enough to gain from it. Where llvmlite cannot be used
    it says so once on stderr, with what the plain loop will cost.

    Args:
        requested: ``auto``, ``fused`` or ``eager``.
        model: the network.
        device: the name of the device, from `choose_device`.
        steps: how many are to be made.

    Raises:
        RunError: ``fused`` where it cannot be used.
    """
    if requested == "eager":
        return "eager", "as asked"
    if device != "cpu":
        if requested == "fused":
            raise RunError(
                f"--engine fused computes on the CPU alone, not on {device}; use --engine eager"
            )
        return "eager", "the fused engine computes on the CPU alone"
    try:
        import llvmlite.binding  # noqa: F401  # here, so that runs of the plain loop do without it
    except (ImportError, OSError) as error:
        if requested == "fused":
            raise RunError(
                f"--engine fused needs llvmlite, which cannot be used ({error}): pip install llvmlite, "
                "or use --engine eager"
            ) from None
        print(
            f"warning: llvmlite cannot be used ({error}): training with the plain loop, which takes about "
            f"{_duration(steps * 0.4e-3)} longer",
            file=sys.stderr,
        )
        return "eager", "no llvmlite"
    reason = fused.refusal(model if isinstance(model, nn.Sequential) else nn.Sequential(model))
    if reason and requested == "fused":
        raise RunError(f"--engine fused: {reason}; use --engine eager")
    return ("eager", reason) if reason else ("fused", "all steps in one compiled loop")


def _duration(seconds: float) -> str:
    return (
        f"{seconds / 60:.0f} minutes"
        if seconds >= 120
        else f"{seconds:.0f} s"
        if seconds >= 2
        else "a second"
    )


def choose_threads(multiplications: int) -> tuple[int, str]:
    """The number of PyTorch's threads for steps of so many multiplications a forward pass, and the reason."""
    if multiplications <= ONE_THREAD_LIMIT:
        return 1, "a step is too small to gain much from more"
    return torch.get_num_threads(), "as PyTorch chooses for large steps"


def require_memory(size: float) -> None:
    """Refuses a run that needs `size` bytes at once where less is free, as far as the system tells.

    Raises:
        RunError: more than the free memory.
    """
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if Path("/proc/meminfo").exists():  # Linux: what can be had, caches included
            fields = dict(
                line.split(":") for line in Path("/proc/meminfo").read_text().splitlines()
            )
            free = 1024 * int(fields["MemAvailable"].split()[0])
    except (ValueError, OSError, AttributeError, KeyError):  # a system without these names
        return
    if size > free:
        raise RunError(
            f"this run needs {size / 2**30:,.1f} GiB of memory, {free / 2**30:,.1f} GiB are free: choose "
            "fewer steps, samples, images or hidden units"
        )
