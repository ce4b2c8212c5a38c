"""Labels as vectors, as Flux's onehotbatch makes them."""

import torch
from torch import Tensor
from torch.nn import functional


def one_hot(labels: Tensor, classes: int = 10, dtype: torch.dtype = torch.float32) -> Tensor:
    """The unit vector of each label, shape (..., classes): 2 of 4 classes is ``[0, 0, 1, 0]``.

    The labels are whole numbers from 0 to ``classes - 1``, of any shape (...); another one raises a
    RuntimeError. The dtype is floating, because the losses compare the vectors with a network's
    output. PyTorch keeps a label's vector in a row, Flux in a column.
    """
    return functional.one_hot(labels.long(), classes).to(dtype)
