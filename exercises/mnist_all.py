"""The lecture's 784-40-10 network on all images of MNIST: in batches, distorted, with a one-cycle schedule."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # common/ is found from any folder

from common.run import Run  # first: it hears Ctrl-C while PyTorch loads
from common import digits, program
from common.layers import describe
from common.onehot import one_hot
from common.options import lecture_parser, real_number, whole_number
from exercises.distort import distorted
from lectures import mnist_mlp

import argparse
import math
from collections.abc import Iterator

import torch
from torch import Tensor, optim


def batches(
    images: Tensor, labels: Tensor, args: argparse.Namespace, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """The images and labels of each step, shuffled anew in every epoch; the images distorted, unless --no-distort."""
    for _ in range(args.epochs):
        order = torch.randperm(len(images), generator=generator).to(images.device)
        for batch in order.split(args.batch_size):
            x = images[batch]
            yield distorted(x, generator) if args.distort else x, labels[batch]


def arguments() -> argparse.Namespace:
    """The options, see --help."""
    parser = lecture_parser(__doc__, "mnist_all", lr=0.015)
    digits.add_options(parser)
    parser.set_defaults(images="all")
    parser.add_argument("--epochs", type=whole_number(1, 100_000), default=40, help="1 to 100000")
    parser.add_argument(
        "--batch-size", type=whole_number(1, 60_000), default=128, help="1 to 60000"
    )
    parser.add_argument(
        "--weight-decay",
        type=real_number(0, 1),
        default=0.0,
        metavar="DECAY",
        help="Adam's: adds DECAY times each parameter to its gradient, 0 to 1",
    )
    parser.add_argument(
        "--no-distort", dest="distort", action="store_false", help="the images as they are"
    )
    return parser.parse_args()


def main() -> None:
    args = arguments()
    run = Run(args, memory=2e9)
    data = digits.load_chosen(args)
    labels = one_hot(data.y_train[: args.images]).to(args.device)  # (images, 10)
    images = mnist_mlp.as_vectors(data.x_train[: args.images]).to(args.device)  # (images, 784)
    model = mnist_mlp.glorot_model(40, run.generator("model")).to(args.device)
    if not args.quiet:
        print(describe(model))

    steps = args.epochs * math.ceil(args.images / args.batch_size)
    optimizer = optim.Adam(
        model.parameters(), lr=args.lr, weight_decay=args.weight_decay, fused=True
    )
    scheduler = optim.lr_scheduler.OneCycleLR(
        optimizer, args.lr, total_steps=steps, cycle_momentum=False
    )
    losses = run.begin(steps, model=model, optimizer=optimizer, scheduler=scheduler)
    train_data = run.steps(
        enumerate(batches(images, labels, args, run.generator("batches"))),
        progress=lambda: f"loss(images, labels) = {mnist_mlp.loss(model, images, labels):.4f}",
    )
    mnist_mlp.train(model, optimizer, scheduler, train_data, losses)

    test = mnist_mlp.predict(model, mnist_mlp.as_vectors(data.x_test))
    unseen = int(torch.randint(len(test), (), generator=run.generator("unseen image")))
    results = mnist_mlp.evaluate(model, data, args.images, test, unseen) | {
        "final_loss": mnist_mlp.loss(model, images, labels).item()
    }
    done = run.ending(results)
    title = (
        f"{data.title}, {args.images:,} of {len(data.x_train):,} images"
        f"{', distorted' * args.distort}; {done}\n"
        f"Batches of {args.batch_size:,}, Adam up to {args.lr:g}, seed {args.seed}"
    )
    models = (mnist_mlp.glorot_model(40, run.generator("model")), model)  # before and after
    shown = range(5)
    run.finish(
        results,
        mnist_mlp.draw(data, models, losses[: run.made + 1], unseen, title),
        digits.table(
            [f"image {i + 1}" for i in shown],
            mnist_mlp.predict(model, mnist_mlp.as_vectors(data.x_train[:5])),
            data.y_train[:5],
            data,
        ),
        f"{done}: loss {results['final_loss']:.4f}; right are {results['train_accuracy']:.1%} of "
        f"the images trained on and {results['test_accuracy']:.2%} of the {len(test):,} test images",
    )


if __name__ == "__main__":
    program.execute(main)
