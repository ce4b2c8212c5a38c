"""The lecture's network on all of MNIST: shuffled batches, one-cycle learning rate, distortions."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the project's folder

from common import datasets, options, program, reports
from common.onehot import one_hot
from common.run import Run
from exercises.distort import MOST, Distortions, distorted
from lectures.mnist_mlp import as_vectors, build_model, evaluate, loss

import argparse
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn, optim
from torch.optim.lr_scheduler import OneCycleLR


def batches(
    images: Tensor,
    labels: Tensor,
    size: int,
    epochs: int,
    most: Distortions | None,
    generator: torch.Generator,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields images (size, 784) and labels (size, 10) for each step, shuffled anew in every epoch.

    Unless `most` is None, each image is distorted anew, up to `most`.
    """
    for _ in range(epochs):
        order = torch.randperm(len(images), generator=generator).to(images.device)
        for batch in order.split(size):
            x = images.index_select(0, batch)  # three times as fast as images[batch]
            yield (distorted(x, generator, most) if most else x), labels[batch]


def train(
    model: nn.Sequential,
    images: Tensor,
    labels: Tensor,
    generator: torch.Generator,
    *,
    epochs: int,
    batch_size: int,
    lr: float,
    weight_decay: float = 0.0,
    most: Distortions | None = None,
    run: Run | None = None,
) -> None:
    """Trains on images (n, 784) and one-hot labels (n, 10) with Adam, in `batches`.

    In the first 12 % of the steps the learning rate rises to `lr`, then it falls to nearly 0
    (one-cycle, Smith & Topin 2018); Adam's betas are constant. `run` records the steps.
    """
    steps = epochs * math.ceil(len(images) / batch_size)
    optimizer = optim.Adam(model.parameters(), lr=lr, weight_decay=weight_decay, fused=True)
    schedule = OneCycleLR(optimizer, lr, total_steps=steps, pct_start=0.12, cycle_momentum=False)
    data = batches(images, labels, batch_size, epochs, most, generator)
    if run:
        data = run.steps(data, steps, model=model, optimizer=optimizer, schedule=schedule)
    for x, y in data:
        value = loss(model, x, y)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
        if run:
            run.record(value)


def parse_args() -> argparse.Namespace:
    parser = options.lecture_parser(__doc__, "mnist_all", lr=0.015)
    options.add_digits_options(parser, images="all")
    parser.add_argument(
        "--epochs",
        type=options.whole_number(1, 100_000),
        default=40,
        help="passes over the images, 1 to 100000",
    )
    parser.add_argument(
        "--batch-size",
        type=options.whole_number(1, 60_000),
        default=128,
        help="images per step, 1 to 60000",
    )
    parser.add_argument(
        "--weight-decay",
        type=options.real_number(0, 1),
        default=0.0,
        help="fraction of the parameters added to their gradients, 0 to 1",
    )
    parser.add_argument("--no-distort", action="store_true", help="train on the images as they are")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    data = datasets.load(args.dataset, args.data_dir)
    count = options.images_to_use(args, data)
    run = Run("mnist_all", args, dataset=data.name, images=count)

    labels = one_hot(data.train_labels[:count]).to(run.device)  # (60000, 10)
    images = as_vectors(data.train_images[:count]).to(run.device)  # (60000, 784)
    model = build_model(args.hidden, run.generator("model")).to(run.device)
    train(
        model,
        images,
        labels,
        run.generator("batches"),
        epochs=args.epochs,
        batch_size=args.batch_size,
        lr=args.lr,
        weight_decay=args.weight_decay,
        most=None if args.no_distort else MOST,
        run=run,
    )

    results, known, predictions = evaluate(run, model, data, images, labels)
    run.finish(results, reports.mnist_mlp(run, results, data, model, known, *predictions))


if __name__ == "__main__":
    program.execute(main)
