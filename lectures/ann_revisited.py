"""An Artificial Neural Network Revisited: a 2-2-3-2 sigmoid network on ten labelled points.

Two inputs, layers of two and three neurons, two outputs; a million steps of gradient descent.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the project's folder

from common import options, plotting, program, reports
from common.layers import describe
from common.onehot import one_hot
from common.run import Run

import argparse
from collections.abc import Iterator

import torch
from torch import Tensor, nn, optim

# The ten points of the previous lecture, from Higham & Higham (2019), section 2, and their labels.
POINTS = torch.tensor(
    [
        [0.1, 0.3, 0.1, 0.6, 0.4, 0.6, 0.5, 0.9, 0.4, 0.7],  # x1
        [0.1, 0.4, 0.5, 0.9, 0.2, 0.3, 0.6, 0.2, 0.4, 0.6],  # x2
    ],
    dtype=torch.float64,
).T  # (10, 2)
LABELS = one_hot(torch.tensor([0] * 5 + [1] * 5), classes=2, dtype=torch.float64)  # (10, 2)


def random_pairs(
    count: int, kind: str, generator: torch.Generator, device: str = "cpu"
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields `count` random pairs (x, y), both of shape (2,), from torch.randn or torch.rand."""
    draw = {"randn": torch.randn, "rand": torch.rand}[kind]
    for _ in range(count):
        x, y = draw(2, 2, generator=generator, dtype=torch.float64).to(device)
        yield x, y


def build_model(generator: torch.Generator) -> nn.Sequential:
    """The 2-2-3-2 network in float64, with weights and biases drawn as 0.5 * randn."""
    model = nn.Sequential(
        nn.Linear(2, 2), nn.Sigmoid(),  # L2 in the lecture
        nn.Linear(2, 3), nn.Sigmoid(),  # L3
        nn.Linear(3, 2), nn.Sigmoid(),  # L4
    ).double()  # fmt: skip
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5, generator=generator)
    return model


def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The mean over the ten points of 1/2 ||label - model(point)||^2.

    As in the lecture, the values of x and y are not used: every step uses all ten points, and the
    training pairs only count the steps.
    """
    points, labels = POINTS.to(x.device), LABELS.to(y.device)
    return 0.5 * (model(points) - labels).square().sum() / len(points)


def points_correct(model: nn.Module) -> Tensor:
    """Whether each of the ten points is classified correctly, by the larger output; shape (10,)."""
    with torch.no_grad():
        return model(POINTS).argmax(dim=-1) == LABELS.argmax(dim=-1)


def parse_args() -> argparse.Namespace:
    parser = options.lecture_parser(__doc__, "ann_revisited", lr=0.01, small=True)
    parser.add_argument(
        "--steps",
        type=options.whole_number(1, 10**9),
        default=1_000_000,
        help="gradient steps, 1 to 10^9",
    )
    parser.add_argument(
        "--train-data",
        choices=("randn", "rand"),
        default="randn",
        help="how to draw the training pairs, whose values the loss does not use",
    )
    parser.add_argument("--animate", action="store_true", help="also draw training.gif")
    args = parser.parse_args()
    options.require_memory(40 * args.steps)
    return args


def main() -> None:
    args = parse_args()
    run = Run("ann_revisited", args)

    # Step 1, the task: separate the first five points from the other five (POINTS, LABELS)

    # Step 2, the training data: a million random pairs, one per step
    train_data = random_pairs(args.steps, args.train_data, run.generator("pairs"), run.device)

    # Step 3, the model
    model = build_model(run.generator("model")).to(run.device)
    run.print(describe(model))

    # Step 4, the loss function: `loss`, above.

    # Step 5, the optimizer: gradient descent
    optimizer = optim.SGD(model.parameters(), lr=args.lr)

    # Step 6, training: one step per pair. `run` saves checkpoints, and the parameters at `keep`.
    keep = plotting.eval_steps(args.steps)
    for x, y in run.steps(train_data, args.steps, model=model, optimizer=optimizer, keep=keep):
        value = loss(model, x, y)
        optimizer.zero_grad()  # clear the gradients of the previous step
        value.backward()  # the derivative of the loss with respect to each parameter
        optimizer.step()  # parameter -= learning rate * derivative
        run.record(value)

    # Results: which points are classified correctly, and the outputs over the unit square
    model = model.cpu()
    final_loss = loss(model, POINTS, LABELS).item()
    results = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "initial_loss": run.losses[0] if run.done else final_loss,
        "final_loss": final_loss,
        "points_correct": int(points_correct(model).sum()),
    }
    report = reports.ann_revisited(run, results, model, POINTS, LABELS, points_correct)
    run.finish(results, report)


if __name__ == "__main__":
    program.execute(main)
