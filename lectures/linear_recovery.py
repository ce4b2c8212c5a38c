"""Getting Started with Flux: recover a 2x5 matrix and a 2-vector from noisy samples by gradient descent."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the project's folder

from common import options, program, reports
from common.options import real_number, whole_number
from common.run import Run

import argparse

import torch
from torch import Tensor, nn, optim

W_TRUE = torch.tensor([[1, 2, 3, 4, 5], [5, 4, 3, 2, 1]], dtype=torch.float64)
B_TRUE = torch.tensor([-1, -2], dtype=torch.float64)
TRUE = torch.cat([W_TRUE.flatten(), B_TRUE])  # (12,), in the order of a model's parameters


def f_true(x: Tensor) -> Tensor:
    """F_true(x) = W_true x + b_true for x of shape (N, 5); shape (N, 2)."""
    return x @ W_TRUE.T + B_TRUE


def training_data(
    samples: int, low: float, high: float, noise: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """x_i = low + (high - low) u_i, shape (N, 5), and y_i = F_true(x_i) + noise v_i, shape (N, 2).

    u is uniform in [0, 1), v standard normal. The lecture prints x_i = 5 + 5 u_i and a noise of 0.2.
    """
    x = low + (high - low) * torch.rand(samples, 5, generator=generator, dtype=torch.float64)
    return x, f_true(x) + noise * torch.randn(samples, 2, generator=generator, dtype=torch.float64)


def with_one(x: Tensor) -> Tensor:
    """z = (x, 1) for x of shape (N, 5); shape (N, 6)."""
    return torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], dim=1)


def stable_lr_limit(x: Tensor) -> float:
    """The largest stable learning rate of steps on one pair at a time, for inputs x of shape (N, 5).

    With z = (x, 1), a step without noise multiplies the error of a row of (W, b) by I - 2 eta z z^T.
    Over random pairs the mean square of the error grows if eta is above

        eta* = 1 / lambda_max(B^-1 D), B = 2 (C (x) I + I (x) C), D = 4 E[z z^T (x) z z^T], C = E[z z^T].

    The mean-square analysis of the LMS filter: Widrow & Stearns 1985; Haykin, Adaptive Filter Theory.
    """
    z, one = with_one(x), torch.eye(6, dtype=x.dtype)  # (N, 6)
    c = z.T @ z / len(z)
    b = 2 * (torch.kron(c, one) + torch.kron(one, c))  # (36, 36)
    d = torch.zeros_like(b)
    for part in z.split(10_000):  # 36 numbers a pair are too many at once for millions of pairs
        products = (part[:, :, None] * part[:, None, :]).flatten(1)  # z (x) z, (10000, 36)
        d += 4 * products.T @ products / len(z)
    # pinv, because a few pairs may leave directions in which nothing moves
    return 1 / torch.linalg.eigvals(torch.linalg.pinv(b, hermitian=True) @ d).real.max().item()


def build_model(generator: torch.Generator) -> nn.Linear:
    """M(x) = W x + b with W and b uniform in [0, 1), as Flux's `rand` draws them."""
    model = nn.Linear(5, 2, dtype=torch.float64)
    for parameter in model.parameters():
        nn.init.uniform_(parameter, generator=generator)
    return model


def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """loss(x, y) = sum over i of (y_i - yhat_i)^2, with yhat = M(x)."""
    return ((y - model(x)) ** 2).sum()


def fold(parameters: Tensor, centre: Tensor) -> Tensor:
    """W and c of M(x) = W (x - centre) + c, as W and b = c - W centre of M(x) = W x + b; shape (..., 12)."""
    weight, bias = parameters[..., :10].unflatten(-1, (2, 5)), parameters[..., 10:]
    return torch.cat([parameters[..., :10], bias - weight @ centre], dim=-1)


def averages(iterates: Tensor, steps: Tensor) -> Tensor:
    """Polyak and Ruppert's average after n steps, for each n of `steps`: the mean of the last half of n iterates."""
    sums = iterates.cumsum(dim=0)
    return (sums[steps] - sums[steps // 2]) / (steps - steps // 2).clamp(min=1)[:, None]


def least_squares(x: Tensor, y: Tensor) -> Tensor:
    """The parameters, shape (12,), with the smallest sum of squares over all pairs."""
    solution = torch.linalg.lstsq(with_one(x), y, driver="gelsd").solution  # (6, 2)
    return torch.cat([solution[:5].T.flatten(), solution[5]])


def parse_args() -> argparse.Namespace:
    parser = options.lecture_parser(__doc__, "linear_recovery", lr=0.01, small=True)
    parser.add_argument(
        "--samples", type=whole_number(1, 10**7), default=10_000, help="pairs, 1 to 10^7"
    )
    parser.add_argument(
        "--noise", type=real_number(0, 1000), default=0.2, help="deviation of y's noise, 0 to 1000"
    )
    parser.add_argument(
        "--low", type=real_number(-1000, 1000), default=5.0, help="least input, -1000 to 1000"
    )
    parser.add_argument(
        "--high", type=real_number(-1000, 1000), help="largest, -1000 to 1000 (default: LOW + 5)"
    )
    parser.add_argument("--raw", action="store_true", help="do not centre the inputs")
    args = parser.parse_args()
    args.high = args.low + 5 if args.high is None else args.high
    if args.high <= args.low:
        parser.error(f"argument --high: expected more than --low ({args.low:g}), got {args.high:g}")
    options.require_memory(700 * args.samples)
    return args


def main() -> None:
    args = parse_args()
    run = Run("linear_recovery", args)

    # Step 1, the task: recover W_TRUE and B_TRUE, above, from pairs (x, y) with y = F_true(x) + noise.

    # Step 2, the training data. The inputs are centred, without which the printed learning rate is too large.
    draw = run.generator("pairs")
    x_train, y_train = training_data(args.samples, args.low, args.high, args.noise, draw)
    centre = torch.zeros(5, dtype=x_train.dtype) if args.raw else x_train.mean(dim=0)
    train_data = zip((x_train - centre).to(run.device), y_train.to(run.device))
    limit = stable_lr_limit(x_train - centre)
    print(reports.learning_rate(args.lr, limit))

    # Step 3, the model: M(x) = W x + b
    model = build_model(run.generator("model")).to(run.device)

    # Step 4, the loss function: `loss`, above.

    # Step 5, the optimizer: gradient descent
    optimizer = optim.SGD(model.parameters(), lr=args.lr)

    # Step 6, training: one step for each pair
    every = range(args.samples + 1)
    for x, y in run.steps(train_data, args.samples, model=model, optimizer=optimizer, keep=every):
        value = loss(model, x, y)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        run.record(value)

    # Results: W and b after the last step, averaged over the last half of the steps, and by least
    # squares. The centre is folded back into b, so that they take the inputs as they are.
    iterates = fold(torch.from_numpy(run.kept), centre)  # (steps + 1, 12)
    estimates = {
        "last": iterates[-1],
        "averaged": averages(iterates, torch.tensor([run.done]))[0],
        "least_squares": least_squares(x_train, y_train),
    }
    results = {name: reports.compare(found, TRUE) for name, found in estimates.items()} | {
        "final_loss": loss(model.cpu(), x_train - centre, y_train).item() / args.samples,
        "noise_floor": 2 * args.noise**2,
        "stable_lr_limit": limit,
    }
    steps = reports.log_spaced(run.done)
    curves = {"last iterate": iterates[steps], "averaged iterate": averages(iterates, steps)}
    data = {"x": x_train, "y": y_train}
    run.finish(results, reports.linear_recovery(run, results, TRUE, data, iterates, steps, curves))


if __name__ == "__main__":
    program.execute(main)
