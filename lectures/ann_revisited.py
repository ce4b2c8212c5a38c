"""An Artificial Neural Network Revisited: a 2-2-3-2 sigmoid network on ten points, a million gradient steps."""

import os
import sys

sys.path.insert(
    0, os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
)  # common/ is found from any folder

from common.run import Run  # first: it hears Ctrl-C while PyTorch loads
from common import fused, program
from common.layers import describe
from common.onehot import one_cold, one_hot
from common.options import add_engine_option, lecture_parser, whole_number

import argparse
import functools
import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn, optim

# Step 1, the task: tell the first five points from the others. They are those of the previous lecture, from
# Higham & Higham (2019), section 2; the first five have the label (1, 0), the others (0, 1).
POINTS = torch.tensor(
    [
        [0.1, 0.3, 0.1, 0.6, 0.4, 0.6, 0.5, 0.9, 0.4, 0.7],
        [0.1, 0.4, 0.5, 0.9, 0.2, 0.3, 0.6, 0.2, 0.4, 0.6],
    ],
    dtype=torch.float64,
).T  # (10, 2)
LABELS = one_hot(torch.tensor([0] * 5 + [1] * 5), classes=2, dtype=torch.float64)  # (10, 2)


@functools.cache
def ten_points(device: torch.device) -> tuple[Tensor, Tensor]:
    """POINTS and LABELS on a device, copied there once and not at every step."""
    return POINTS.to(device), LABELS.to(device)


# Step 2, the training data: pairs of random numbers, which the loss never looks at.
def training_pairs(kind: str, steps: int, generator: torch.Generator) -> Tensor:
    """The lecture's xtrain and ytrain, shape (2, steps, 2), drawn by `torch.randn` or `torch.rand`."""
    draw = {"randn": torch.randn, "rand": torch.rand}[kind]
    return draw(2, steps, 2, generator=generator, dtype=torch.float64)


# Step 3, the model: M = Chain(L2, L3, L4).
def random_model(generator: torch.Generator) -> nn.Sequential:
    """The 2-2-3-2 network with sigmoids, weights and biases 0.5 * randn, in float64."""
    model = nn.Sequential(
        nn.Linear(2, 2),
        nn.Sigmoid(),  # L2
        nn.Linear(2, 3),
        nn.Sigmoid(),  # L3
        nn.Linear(3, 2),
        nn.Sigmoid(),
    ).double()  # L4
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(
                0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            )
    return model


# Step 4, the loss function.
def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """loss = 1/10 sum over the ten points of 1/2 ||y(x1, x2) - M(x1, x2)||^2.

    As in the lecture, `x` and `y` are handed over and not used: every step is one on all ten points.
    """
    points, labels = ten_points(x.device)
    return (0.5 * ((model(points) - labels) ** 2).sum(dim=1)).sum() / 10


# Step 5, the optimizer: gradient descent moves every parameter by -learning_rate times the loss's derivative.
# Step 6, the training.
def train(
    model: nn.Module, optimizer: optim.Optimizer, train_data: Iterable, losses: np.ndarray
) -> None:
    """One step for each (step, (x, y)) of `train_data`; the loss ignores x and y, on which exercise 3 turns."""
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


# The results.
def points_correct(model: nn.Module) -> Tensor:
    """For each of the ten points, whether the model's larger output is the one its label names; shape (10,)."""
    with torch.no_grad():
        return one_cold(model(POINTS)) == one_cold(LABELS)


def outputs(model: nn.Module, points: np.ndarray) -> np.ndarray:
    """F at points of shape (..., 2); the same shape."""
    with torch.no_grad():
        return model(torch.from_numpy(points)).numpy()


def table(model: nn.Module) -> str:
    """The ten points, a line each: label, output, right or wrong."""
    lines = [f"{'x1':>5}{'x2':>5}   label          output"]
    lines += [
        f"{x1:5.1f}{x2:5.1f}   ({a:.0f}, {b:.0f})   ({p:.4f}, {q:.4f})   {'right' if right else 'WRONG'}"
        for (x1, x2), (a, b), (p, q), right in zip(
            POINTS.tolist(), LABELS.tolist(), outputs(model, POINTS.numpy()), points_correct(model)
        )
    ]
    return "\n".join(lines)


def advice(model: nn.Module, losses: np.ndarray) -> str:
    """A line for points that are wrong: the reason, as far as the outputs and the last tenth of the losses show it."""
    if points_correct(model).all():
        return ""
    if np.abs(outputs(model, POINTS.numpy()) - 0.5).min() > 0.499:
        return "\nall outputs are stuck at 0 or 1, where a sigmoid is flat: the learning rate is likely far too large"
    fall = 1 - losses[-1] / losses[-len(losses) // 10] if len(losses) >= 1000 else 1
    if 0 <= fall < 0.01:
        return (
            f"\nthe loss fell by {fall:.2%} in the last tenth of the steps, a plateau: try more --steps, a larger "
            "--lr or another --seed"
        )
    return ""


def evaluate(model: nn.Module, losses: np.ndarray) -> dict:
    """The results, for losses of shape (steps made,)."""
    final_loss = loss(model, POINTS, LABELS).item()
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "final_loss": final_loss,
        "initial_loss": losses[0] if len(losses) else final_loss,
        "points_correct": int(points_correct(model).sum()),
    }


def course(
    start: nn.Sequential, learning_rate: float, looks: np.ndarray, grid: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Trains `start` again: the outputs on a grid, (looks, ..., 2), and the right points, (looks, 10), at each look."""
    values, right = [], []
    for steps in np.diff(looks, prepend=0).tolist():
        fused.train_sgd(
            start,
            POINTS[None],
            LABELS[None],
            learning_rate=learning_rate,
            steps=steps,
            scale=0.5 / 10,
        )
        values.append(outputs(start, grid))
        right.append(points_correct(start).numpy())
    return np.array(values), np.array(right)


def draw(
    losses: np.ndarray, models: Sequence[nn.Sequential], args: argparse.Namespace, title: str
) -> dict:
    """The figures by name, and with --animate training.gif; `models` before and after training."""
    from common import plotting  # here, because matplotlib takes its time to import

    points, labels, right = (
        POINTS.numpy(),
        one_cold(LABELS).numpy(),
        points_correct(models[1]).numpy(),
    )
    before, after = (
        [p.detach().numpy().copy() for p in model.parameters()] for model in models
    )  # `course` trains on
    values, title = (
        outputs(models[1], plotting.unit_grid(201)),
        f"{right.sum()} of 10 points right; {title}",
    )
    files, marks = {}, None
    if args.engine == "fused" and (
        args.animate or len(losses) <= 2_000_000
    ):  # more would take seconds
        looks, grid = (
            plotting.eval_steps(len(losses), args.animate),
            plotting.unit_grid(61 if args.animate else 2),
        )
        frames = plotting.Snapshots(looks, *course(models[0], args.lr, looks, grid))
        marks = plotting.milestones(looks, frames.right.sum(axis=1))
        if args.animate and len(losses):
            files["training.gif"] = plotting.animation(
                frames, losses, points, labels, title=f"Training\n{title}"
            )
    return files | {
        "loss": plotting.loss_curve(losses, title=f"Loss at every step\n{title}", marks=marks),
        "regions": plotting.regions(
            values, points, labels, right=right, title=f"Which output is larger\n{title}"
        ),
        "surfaces": plotting.surfaces(
            values, points, labels, right=right, title=f"F over the unit square\n{title}"
        ),
        "layers": plotting.layers(
            {"before training": before, "after training": after},
            inputs=("x₁", "x₂"),
            outputs=("F₁", "F₂"),
            title=f"Weights, and biases in the nodes\n{title}",
        ),
    }


def arguments() -> argparse.Namespace:
    parser = lecture_parser(__doc__, "ann_revisited", lr=0.01)
    parser.add_argument(
        "--steps",
        type=whole_number(1, 10**9),
        default=1_000_000,
        help="gradient steps, the lecture's number of data points; 1 to 10^9",
    )
    parser.add_argument(
        "--train-data",
        choices=("randn", "rand"),
        default="randn",
        help="how the pairs are drawn that the lecture hands to its loss, which ignores them",
    )
    parser.add_argument(
        "--animate", action="store_true", help="also training.gif, with the fused engine"
    )
    add_engine_option(parser)
    return parser.parse_args()


def main() -> None:
    args = arguments()
    run = Run(args, memory=80 * args.steps)  # bytes
    print(f"ten points of Higham & Higham (2019), learning rate {args.lr:g}, seed {args.seed}")

    # Steps 1 and 2, the task and the training data.
    x_train, y_train = training_pairs(args.train_data, args.steps, run.generator("pairs")).to(
        args.device
    )

    # Steps 3 to 6, the model, the loss, the optimizer and the training: one step for each pair.
    model = random_model(run.generator("model")).to(args.device)
    if not args.quiet:
        print(describe(model))
    losses = run.begin(args.steps, model=model)
    if args.animate and (args.engine != "fused" or args.steps > 10**7):
        raise program.RunError(
            "--animate needs the fused engine on the CPU, and at most 10,000,000 steps"
        )
    if (
        args.engine == "fused"
    ):  # the same steps in one compiled loop, and the same loss: tests/test_ann_revisited.py
        run.follow(
            fused.sgd(
                model,
                POINTS[None],
                LABELS[None],
                losses,
                learning_rate=args.lr,
                scale=0.5 / 10,
                first=run.made,
            )
        )
    else:
        pairs = ((x_train[step], y_train[step]) for step in range(args.steps))
        train(model, optim.SGD(model.parameters(), lr=args.lr), run.steps(enumerate(pairs)), losses)

    # The results.
    model, losses = model.cpu(), losses[: run.made]
    results = evaluate(model, losses)
    title = f"{run.ending(results)}, learning rate {args.lr:g}, seed {args.seed}"
    models = (
        random_model(run.generator("model")),
        model,
    )  # the same start again, and what became of it
    run.finish(
        results,
        draw(losses, models, args, title),
        table(model),
        f"{run.ending(results)}: {results['points_correct']} of 10 points right, loss "
        f"{results['final_loss']:.4g}{advice(model, losses)}",
    )


if __name__ == "__main__":
    program.execute(main)
