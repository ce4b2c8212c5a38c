"""What is known about fitting y = W x + b by least squares, beside the steps of linear_recovery."""

import torch
from torch import Tensor
from torch.nn.functional import pad


def least_squares(x: Tensor, y: Tensor) -> Tensor:
    """The W and b with the least sum of squared errors over all pairs, one vector, W row by row.

    x has the shape (N, features), y (N, outputs); where several do, the smallest W and b are taken.
    """
    solution = torch.linalg.lstsq(pad(x, (0, 1), value=1), y, driver="gelsd").solution
    return torch.cat([solution[:-1].T.flatten(), solution[-1]])


def stable_lr_limit(x: Tensor) -> float:
    """The largest stable learning rate for steps on one pair at a time; x is (N, features).

    With z = (x, 1), a step without noise multiplies the error of a row of (W, b) by I - 2 eta z z'.
    Over random pairs its mean square grows if eta is above, with kron(., .) the Kronecker product,

        eta* = 1 / lambda_max(S^-1 F),
        S = 2 (kron(C, I) + kron(I, C)), F = 4 E[kron(z z', z z')], C = E[z z'].

    Mean-square analysis of the LMS filter: Widrow & Stearns 1985; Haykin, Adaptive Filter Theory.
    """
    z = pad(x, (0, 1), value=1)
    identity = torch.eye(z.shape[1], dtype=x.dtype)
    second = z.T @ z / len(z)  # C
    sides = 2 * (torch.kron(second, identity) + torch.kron(identity, second))  # S
    fourth = torch.zeros_like(sides)  # F
    for chunk in z.split(10_000):  # kron(z, z) of millions of pairs would fill the memory
        products = (chunk[:, :, None] * chunk[:, None, :]).flatten(1)  # kron(z, z), a row a pair
        fourth += 4 * products.T @ products / len(z)
    # With few pairs S is singular: in some directions no step moves anything.
    ratio = torch.linalg.pinv(sides, hermitian=True) @ fourth
    return 1 / torch.linalg.eigvals(ratio).real.max().item()


def averages(iterates: Tensor, steps: Tensor) -> Tensor:
    """Polyak-Ruppert averages: for each n of `steps` the mean of the iterates n // 2 + 1 to n.

    iterates has the shape (N + 1, parameters), the first before training, which is also the average
    for n = 0; the result has the shape (steps, parameters).
    """
    sums = iterates.cumsum(dim=0)
    means = (sums[steps] - sums[steps // 2]) / (steps - steps // 2).clamp(min=1)[:, None]
    return torch.where(steps[:, None] == 0, iterates[0], means)
