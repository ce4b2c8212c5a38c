"""Many starts of a small network, trained by the compiled engine."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from common import fused


def train(
    models: Sequence[nn.Sequential],
    loss: Callable[[nn.Module, Tensor, Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    *,
    lr: float,
    steps: int,
    iterates: np.ndarray | None = None,
) -> np.ndarray:
    """Trains the models in place by gradient descent, each step on the next batch, in a cycle.

    Args:
        models: independent starts, alike in shape.
        loss: a multiple of the sum of squares, as all losses here are.
        x: shape (batches, points, inputs), or (starts, batches, points, inputs).
        y: as x, with outputs instead of inputs.
        iterates: shape (starts, steps, parameters); receives the parameters after each step.

    Returns:
        The loss before each step, shape (starts, steps); NaN after one that is not finite.
    """
    with torch.no_grad():
        a, b = (z[(0,) * (z.dim() - 2)] for z in (x, y))  # the first batch
        scale = (loss(models[0], a, b) / ((models[0](a) - b) ** 2).sum()).item()
    return fused.train_sgd(
        models, x, y, learning_rate=lr, steps=steps, scale=scale, iterates=iterates
    )
