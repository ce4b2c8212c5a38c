"""Getting Started with Flux: recover a 2x5 matrix and a 2-vector from noisy samples by gradient descent."""

import os
import sys

sys.path.insert(
    0, os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
)  # common/ is found from any folder

from common.run import Run  # first: it hears Ctrl-C while PyTorch loads
from common import fused, program
from common.options import add_engine_option, lecture_parser, real_number, whole_number

import argparse
import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn, optim
from torch.nn.utils import parameters_to_vector, vector_to_parameters

# Step 1, the task: recover W_TRUE and B_TRUE from x_train and y_train.
W_TRUE = torch.tensor([[1, 2, 3, 4, 5], [5, 4, 3, 2, 1]], dtype=torch.float64)
B_TRUE = torch.tensor([-1, -2], dtype=torch.float64)


def f_true(x: Tensor) -> Tensor:
    """F_true(x) = W_true x + b_true for x of shape (N, 5); shape (N, 2)."""
    return x @ W_TRUE.T + B_TRUE


# Step 2, the training data: x_i = 5 + 5 u_i and y_i = F_true(x_i) + 0.2 v_i.
def training_data(
    samples: int, low: float, high: float, noise: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """x, shape (N, 5), uniform in [low, high), and y = F_true(x) + noise * v, shape (N, 2), v standard normal."""
    x = low + (high - low) * torch.rand(samples, 5, generator=generator, dtype=torch.float64)
    return x, f_true(x) + noise * torch.randn(samples, 2, generator=generator, dtype=torch.float64)


def stable_learning_rate(x: Tensor) -> float:
    """2 / lambda_max of the loss's Hessian, the mean over the pairs of 2 (x, 1)(x, 1)^T; for x of shape (N, 5).

    Gradient descent multiplies its error along an eigenvector by 1 - learning_rate * lambda: beyond this rate it grows.
    """
    ones = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], dim=1)  # (N, 6)
    hessian = 2 * ones.T @ ones / len(x)  # (6, 6)
    return (2 / torch.linalg.eigvalsh(hessian)[-1]).item()


def stable_lr_limit(x: Tensor) -> float:
    """The largest learning rate at which steps on one pair at a time converge; for x of shape (N, 5).

    With z = (x, 1), a step without noise multiplies the error by I - 2 lr z z^T. The mean square of the
    error shrinks below 1 / lambda_max(B^-1 D), where B = 2 (C (x) I + I (x) C), D = 4 E[z z^T (x) z z^T]
    and C = E[z z^T] (Widrow & Stearns 1985; Haykin, Adaptive Filter Theory).
    """
    z = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], dim=1)  # (N, 6)
    c, eye = z.T @ z / len(z), torch.eye(6, dtype=x.dtype)
    b = 2 * (torch.kron(c, eye) + torch.kron(eye, c))  # (36, 36)
    q = (z[:, :, None] * z[:, None, :]).flatten(1)  # (N, 36), z (x) z
    d = 4 * q.T @ q / len(z)  # (36, 36)
    return 1 / torch.linalg.eigvals(torch.linalg.solve(b, d)).real.max().item()


# Step 3, the model: M(x) = W x + b.
def random_model(generator: torch.Generator) -> nn.Linear:
    """M(x) = W x + b with W and b uniform in [0, 1), as Flux's `rand` draws them."""
    model = nn.Linear(5, 2, dtype=torch.float64)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=generator, dtype=torch.float64))
    return model


# Step 4, the loss function.
def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """loss(x, y) = sum over i of (y_i - yhat_i)^2, with yhat = M(x)."""
    return ((y - model(x)) ** 2).sum()


# Step 5, the optimizer: gradient descent moves every parameter by -learning_rate times the loss's derivative.
# Step 6, the training.
def train(
    model: nn.Module,
    optimizer: optim.SGD,
    train_data: Iterable,
    losses: np.ndarray,
    iterates: Tensor,
) -> None:
    """One step for each (step, (x, y)) of `train_data`, and the parameters after it into `iterates`, (steps, 12)."""
    for step, (x, y) in train_data:
        # Forward pass
        value = loss(model, x, y)
        losses[step] = value.item()
        if not math.isfinite(losses[step]):
            break
        # Backward pass, and the step down the gradient
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        iterates[step] = parameters_to_vector(model.parameters()).detach()


# The results.
def split(parameters: Tensor) -> tuple[Tensor, Tensor]:
    """W, shape (..., 2, 5), and b, shape (..., 2), of parameters of shape (..., 12)."""
    return parameters[..., :10].unflatten(-1, (2, 5)), parameters[..., 10:]


def fold(parameters: Tensor, centre: Tensor) -> Tensor:
    """W and c, shape (..., 12), of M(x) = W (x - centre) + c, as W and b = c - W centre of M(x) = W x + b."""
    weight, bias = split(parameters)
    return torch.cat([parameters[..., :10], bias - weight @ centre], dim=-1)


def averages(iterates: Tensor, steps: Tensor) -> Tensor:
    """Polyak and Ruppert's average after n steps, for each n of `steps`: the mean of the last half of n iterates."""
    sums = iterates.cumsum(dim=0)
    return (sums[steps] - sums[steps // 2]) / (steps - steps // 2)[:, None]


def least_squares(x: Tensor, y: Tensor) -> Tensor:
    """The parameters, shape (12,), with the smallest sum of squares over all pairs."""
    ones = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], dim=1)
    solution = torch.linalg.lstsq(ones, y, driver="gelsd").solution  # (6, 2)
    return torch.cat([solution[:5].T.flatten(), solution[5]])


def largest_errors(parameters: Tensor) -> tuple[Tensor, Tensor]:
    """The largest absolute error of W and of b, each of shape (...), of parameters of shape (..., 12)."""
    weight, bias = split(parameters)
    return (weight - W_TRUE).abs().amax(dim=(-2, -1)), (bias - B_TRUE).abs().amax(dim=-1)


def evaluate(model: nn.Module, found: dict[str, Tensor], x: Tensor, y: Tensor) -> dict:
    """The results; `found` are the last, the averaged and the least squares parameters, each of shape (12,)."""
    results = {}
    for name, parameters in zip(("", "_average", "_least_squares"), found.values()):
        results["weight" + name], results["bias" + name] = split(parameters)
    weight_error, bias_error = largest_errors(found["averaged"])
    return results | {
        "max_weight_error": weight_error.item(),
        "max_bias_error": bias_error.item(),
        "final_loss": loss(model, x, y).item() / len(x),
    }  # the mean over all pairs


def table(found: dict[str, Tensor]) -> str:
    """The entries of W and b, a line each: true, and as they were found."""
    names = [f"W[{i},{j}]" for i in (1, 2) for j in range(1, 6)] + ["b[1]", "b[2]"]
    rows = torch.stack([torch.cat([W_TRUE.flatten(), B_TRUE]), *found.values()], dim=1).tolist()
    lines = [
        f"{name:8}{row[0]:6g}" + "".join(f"{value:15.5g}" for value in row[1:])
        for name, row in zip(names, rows)
    ]
    return "\n".join([f"{'':8}{'true':>6}" + "".join(f"{name:>15}" for name in found), *lines])


def draw(
    losses: np.ndarray, iterates: Tensor, found: dict[str, Tensor], floor: float, title: str
) -> dict:
    """The figures by name; `floor` is the loss that the noise leaves."""
    from common import plotting  # here, because matplotlib takes its time to import

    steps = np.unique(np.geomspace(1, max(1, len(iterates) - 1), 200).astype(int))
    grid = torch.from_numpy(steps).clamp(max=len(iterates) - 1)
    last, mean = largest_errors(iterates[grid]), largest_errors(averages(iterates, grid))
    panels = {
        name: {"last iterate": a.numpy(), "averaged iterate": b.numpy()}
        for name, a, b in zip("Wb", last, mean)
    }
    return {
        "loss": plotting.loss_curve(
            losses, title=f"Loss at every step\n{title}", window=100, floor=floor
        ),
        "parameter_error": plotting.error_curves(
            steps,
            panels,
            title=f"Error of the parameters\n{title}",
            overflow=plotting.until_overflow(losses)[1],
            limits=dict(zip("Wb", map(float, largest_errors(found["least squares"])))),
        ),
    }


def arguments() -> argparse.Namespace:
    parser = lecture_parser(__doc__, "linear_recovery", lr=0.01)
    parser.add_argument(
        "--samples",
        type=whole_number(1, 10**7),
        default=10_000,
        help="pairs, a step each; 1 to 10^7",
    )
    parser.add_argument(
        "--noise", type=real_number(0, 1000), default=0.2, help="deviation of y's noise, 0 to 1000"
    )
    parser.add_argument(
        "--low", type=real_number(-1000, 1000), default=5.0, help="inputs from here, -1000 to 1000"
    )
    parser.add_argument(
        "--high", type=real_number(-1000, 1000), help="to here, -1000 to 1000 (default: LOW + 5)"
    )
    parser.add_argument(
        "--raw",
        action="store_true",
        help="do not centre the inputs: the printed recipe; with --low 0 Flux's quickstart",
    )
    add_engine_option(parser)
    args = parser.parse_args()
    args.high = args.low + 5 if args.high is None else args.high
    if args.high <= args.low:
        parser.error(
            f"argument --high: expected a number above --low ({args.low:g}), got {args.high:g}"
        )
    return args


def main() -> None:
    args = arguments()
    run = Run(args, memory=700 * args.samples)  # bytes

    # Steps 1 and 2, the task and the training data. With the inputs centred, the printed learning rate is stable.
    x, y = training_data(
        args.samples, args.low, args.high, args.noise, run.generator("pairs")
    )  # (N, 5), (N, 2)
    centre = torch.zeros_like(x[0]) if args.raw else x.mean(dim=0)
    x_train, y_train = (x - centre).to(args.device), y.to(args.device)
    limit, floor = stable_learning_rate(x - centre), 2 * args.noise**2
    setting = f"x in [{args.low:g}, {args.high:g}){'' if args.raw else ', centred'}, learning rate {args.lr:g}"
    print(
        f"samples: {args.samples:,}; {setting}\nlargest stable rate, 2 / lambda_max of the Hessian: {limit:.3g}"
    )

    # Steps 3 to 6, the model, the loss, the optimizer and the training: one step for each pair.
    model = random_model(run.generator("model")).to(args.device)
    iterates = torch.zeros(
        args.samples + 1, 12, dtype=torch.float64
    )  # the first is the model before training
    iterates[0] = parameters_to_vector(model.parameters()).detach()
    losses = run.begin(args.samples, model=model, iterates=iterates[1:])
    if (
        args.engine == "fused"
    ):  # the same steps in one compiled loop; tests/test_fused.py compares them
        run.follow(
            fused.sgd(
                nn.Sequential(model),
                x_train[:, None],
                y_train[:, None],
                losses,
                learning_rate=args.lr,
                iterates=iterates[1:].numpy(),
                first=run.made,
            )
        )
    else:
        pairs = ((x_train[step], y_train[step]) for step in range(args.samples))
        train(
            model,
            optim.SGD(model.parameters(), lr=args.lr),
            run.steps(enumerate(pairs)),
            losses,
            iterates[1:],
        )

    # The results. The centre is folded back into b, so that the model takes the inputs as they are.
    iterates = fold(iterates[: run.made + 1], centre)
    vector_to_parameters(iterates[-1], model.cpu().parameters())
    found = {
        "last": iterates[-1],
        "averaged": averages(iterates, torch.tensor([run.made]))[0],
        "least squares": least_squares(x, y),
    }
    results = evaluate(model, found, x, y) | {"noise_floor": floor, "stable_lr_limit": limit}
    figures = draw(
        losses[: run.made + 1],
        iterates,
        found,
        floor,
        f"{run.ending(results)}, {setting}, seed {args.seed}",
    )
    initial = dict(zip(("weight", "bias"), split(iterates[0])))
    run.finish(
        results,
        {"train_data.npz": {"x": x, "y": y}, "model_initial.pt": initial, **figures},
        table(found),
        f"{run.ending(results)}: averaged W within {results['max_weight_error']:.2g} of the truth, b within "
        f"{results['max_bias_error']:.2g}{'; the learning rate is beyond the stable one' * (args.lr > limit)}",
    )


if __name__ == "__main__":
    program.execute(main)
