"""The checkpoint, which `--resume` goes on from: settings, losses, and the state of everything that training changes.

The state is what PyTorch's own protocol gives and takes, `state_dict()` and `load_state_dict()`, of model, optimizer
and scheduler; a tensor is its own state.
"""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common import folder
from common.program import RunError


def save(path: Path, settings: dict, losses: np.ndarray, parts: dict[str, Any]) -> None:
    """Writes the checkpoint.

    Args:
        path: the file.
        settings: the options that the numbers depend on.
        losses: of the steps made, shape (made,).
        parts: by name, what training changes: a model, an optimizer, a scheduler, a tensor.

    Raises:
        RunError: it cannot be written.
    """
    folder.save(
        path,
        {
            "settings": settings,
            "losses": torch.from_numpy(losses),
            "states": {name: _state(part) for name, part in parts.items()},
        },
    )


def load(path: Path, settings: dict, losses: np.ndarray, parts: dict[str, Any]) -> int:
    """Goes back to a checkpoint, and returns the number of steps it has. Nothing in the file is executed.

    Args:
        path: the file.
        settings: what must be the same in the run that left it.
        losses: shape (steps,): those of the steps made are filled in.
        parts: as for `save`; they get their state back.

    Raises:
        RunError: it is damaged, or of a run with another setting, which is named.
    """
    content = folder.load(path)
    if (
        not isinstance(content, dict)
        or content.keys() != {"settings", "losses", "states"}
        or not isinstance(content["settings"], dict)
        or not isinstance(content["losses"], torch.Tensor)
    ):
        raise RunError(f"{path} is no checkpoint; delete it, or run without --resume")
    found, made = content["settings"], content["losses"]
    for name, value in settings.items():
        if found.get(name) != value:
            raise RunError(
                f"--resume: the checkpoint in {path.parent} is of a run with {name} {found.get(name)}, this "
                f"one has {value}; use its options, or run without --resume"
            )
    folder.check_like(path, made, torch.from_numpy(losses[: made.numel()]), "losses")
    folder.check_like(path, content["states"], _states_after_a_step(parts), "states")
    for name, part in parts.items():
        state = content["states"][name]
        if isinstance(part, torch.Tensor):
            part.copy_(state)
        else:
            part.load_state_dict(state)
    losses[: len(made)] = made.numpy()
    return len(made)


def _state(part: Any) -> Any:
    return part if isinstance(part, torch.Tensor) else part.state_dict()


def _states_after_a_step(parts: dict[str, Any]) -> dict[str, Any]:
    """How the states look: an optimizer has most of its state from its first step on, so a copy of it makes one."""
    copies = copy.deepcopy({name: parts[name] for name in ("model", "optimizer") if name in parts})
    for parameter in copies["model"].parameters():
        parameter.grad = torch.zeros_like(parameter)
    if "optimizer" in copies:
        copies["optimizer"].step()
    return {name: _state(part) for name, part in (parts | copies).items()}
