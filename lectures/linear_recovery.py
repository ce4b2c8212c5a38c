"""Getting Started with Flux: recover a 2x5 matrix and a 2-vector from noisy samples.

Training is stochastic gradient descent: each step uses one pair (x, y).
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the project's folder

from common import options, plotting, program, reports
from common.least_squares import averages, least_squares, stable_lr_limit
from common.options import real_number, whole_number
from common.run import Run

import argparse

import torch
from torch import Tensor, nn, optim

W_TRUE = torch.tensor([[1, 2, 3, 4, 5], [5, 4, 3, 2, 1]], dtype=torch.float64)
B_TRUE = torch.tensor([-1, -2], dtype=torch.float64)
# In the order of a model's parameters: W row by row, then b; shape (12,)
TRUE_PARAMETERS = torch.cat([W_TRUE.flatten(), B_TRUE])


def f_true(x: Tensor) -> Tensor:
    """F_true(x) = W_true x + b_true for x of shape (N, 5); shape (N, 2)."""
    return x @ W_TRUE.T + B_TRUE


def training_data(
    samples: int, low: float, high: float, noise: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Inputs x (N, 5), uniform in [low, high), and targets y (N, 2) = F_true(x) + noise * randn.

    The lecture's inputs are 5 + 5 * rand, so they lie in [5, 10), and its noise is 0.2.
    """
    x = low + (high - low) * torch.rand(samples, 5, generator=generator, dtype=torch.float64)
    return x, f_true(x) + noise * torch.randn(samples, 2, generator=generator, dtype=torch.float64)


def build_model(generator: torch.Generator) -> nn.Linear:
    """M(x) = W x + b, with W and b drawn uniformly from [0, 1), as in the lecture."""
    model = nn.Linear(5, 2, dtype=torch.float64)
    for parameter in model.parameters():
        nn.init.uniform_(parameter, generator=generator)
    return model


def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The sum of squared errors: sum((y - M(x))^2)."""
    return ((y - model(x)) ** 2).sum()


def fold(parameters: Tensor, centre: Tensor) -> Tensor:
    """Converts parameters for centred inputs to parameters for uncentred inputs; shape (..., 12).

    W (x - centre) + c = W x + b with b = c - W centre.
    """
    weight, c = parameters[..., :10].unflatten(-1, (2, 5)), parameters[..., 10:]
    return torch.cat([parameters[..., :10], c - weight @ centre], dim=-1)


def parse_args() -> argparse.Namespace:
    parser = options.lecture_parser(__doc__, "linear_recovery", lr=0.01, small=True)
    parser.add_argument(
        "--samples", type=whole_number(1, 10**7), default=10_000, help="pairs (x, y), 1 to 10^7"
    )
    parser.add_argument(
        "--noise",
        type=real_number(0, 1000),
        default=0.2,
        help="standard deviation of the noise in y, 0 to 1000",
    )
    parser.add_argument(
        "--low", type=real_number(-1000, 1000), default=5.0, help="smallest input, -1000 to 1000"
    )
    parser.add_argument(
        "--high",
        type=real_number(-1000, 1000),
        help="largest input, -1000 to 1000 (default: LOW + 5)",
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

    # Step 1, the task: recover W_TRUE and B_TRUE from pairs (x, y) with y = F_true(x) + noise.

    # Step 2, the training data. The inputs are centred: otherwise the lecture's learning rate would
    # exceed the largest stable one, and the parameters would overflow.
    generator = run.generator("pairs")
    x_train, y_train = training_data(args.samples, args.low, args.high, args.noise, generator)
    centre = torch.zeros(5, dtype=x_train.dtype) if args.raw else x_train.mean(dim=0)
    inputs = x_train - centre  # (10000, 5)
    train_data = zip(inputs.to(run.device), y_train.to(run.device))
    limit = stable_lr_limit(inputs)
    print(reports.learning_rate(args.lr, limit))

    # Step 3, the model: M(x) = W x + b
    model = build_model(run.generator("model")).to(run.device)

    # Step 4, the loss function: `loss`, above.

    # Step 5, the optimizer: stochastic gradient descent
    optimizer = optim.SGD(model.parameters(), lr=args.lr)

    # Step 6, training: one step per pair. `run` saves checkpoints, and the parameters at `keep`.
    keep = range(args.samples + 1)
    for x, y in run.steps(train_data, args.samples, model=model, optimizer=optimizer, keep=keep):
        value = loss(model, x, y)
        optimizer.zero_grad()  # clear the gradients of the previous step
        value.backward()  # the derivative of the loss with respect to each parameter
        optimizer.step()  # parameter -= learning rate * derivative
        run.record(value)

    # Results, for uncentred inputs: the last iterate, the Polyak-Ruppert average (the mean of the
    # second half of the iterates), and the least-squares solution, the best that these pairs allow
    iterates = fold(torch.from_numpy(run.kept), centre)  # (steps + 1, 12)
    steps = torch.from_numpy(plotting.eval_steps(run.done))
    curves = {
        "last": iterates[steps],
        "averaged": averages(iterates, steps),
        "least_squares": least_squares(x_train, y_train).expand(len(steps), 12),
    }
    results: dict = {
        name: reports.compare(curve[-1], TRUE_PARAMETERS) for name, curve in curves.items()
    }
    results["final_loss"] = loss(model.cpu(), inputs, y_train).item() / args.samples
    results["noise_floor"] = 2 * args.noise**2  # expected loss of the true W and b, two outputs
    results["stable_lr_limit"] = limit
    files = {"train_data.npz": {"x": x_train, "y": y_train}}
    run.finish(
        results, reports.linear_recovery(run, results, TRUE_PARAMETERS, steps, curves, files)
    )


if __name__ == "__main__":
    program.execute(main)
