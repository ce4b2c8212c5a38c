"""Labels as vectors, as Flux's onehotbatch makes them."""

import torch
from torch.nn import functional


def one_hot(
    labels: torch.Tensor, classes: int = 10, dtype: torch.dtype = torch.float32
) -> torch.Tensor:
    """The unit vector of each label: 5 becomes ``[0, 0, 0, 0, 0, 1, 0, 0, 0, 0]``.

    Args:
        labels: whole numbers from 0 to ``classes - 1``, of any shape (...).
        classes: the length of each vector.
        dtype: of the result; floating, because the losses compare it with a network's output.

    Returns:
        Shape (..., classes). PyTorch keeps a label's vector in a row, Flux in a column.

    Raises:
        RuntimeError: a label outside the range.
    """
    return functional.one_hot(labels.long(), classes).to(dtype)
