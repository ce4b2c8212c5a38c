"""Chooses the settings of the model of all images on 5,000 held-out training images; the test set is not read.

    python benchmarks/tune_mnist.py             # the settings below, two seeds each
    python benchmarks/tune_mnist.py --test      # the chosen one, trained on all 60,000 images: five seeds, the test set

Each line is a setting: the accuracy on the last 5,000 training images after training on the 55,000 before them, mean
and standard deviation over the seeds, and the seconds of training on one thread.
"""

import argparse
import math
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common import datasets, options, program, run
from common.onehot import one_hot
from lectures import mnist_mlp

import numpy as np
import torch
from torch import Tensor

HELD_OUT = 5_000
CHOSEN = {
    "epochs": 40,
    "lr": 0.015,
    "batch_size": 128,
    "weight_decay": 0.0,
    "distort": datasets.DISTORTIONS,
}
# What is tried instead; `distort` is the largest turn (radians), scale, shear and shift (pixels), or None.
TRIED: list[dict] = [
    {},
    {"epochs": 60},
    {"epochs": 80},
    {"epochs": 60, "batch_size": 256, "lr": 0.02},
    {"lr": 0.01},
    {"lr": 0.02},
    {"weight_decay": 1e-5},
    {"distort": (0.2, 0.15, 0.15, 1.5)},
    {"distort": (0.1, 0.07, 0.07, 0.7)},
    {"epochs": 20, "weight_decay": 1e-4, "distort": None},
]


def batches(
    images: Tensor, labels: Tensor, setting: argparse.Namespace, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """As the lecture's, with any distortions."""
    for _ in range(setting.epochs):
        for batch in torch.randperm(len(images), generator=generator).split(setting.batch_size):
            x = images.index_select(0, batch)
            yield (
                (datasets.distorted(x, generator, setting.distort) if setting.distort else x),
                labels[batch],
            )


def trained(
    setting: argparse.Namespace, images: Tensor, labels: Tensor, seed: int
) -> torch.nn.Sequential:
    """A model trained with a setting; images as vectors, labels one-hot."""
    model = mnist_mlp.glorot_model(40, run.generator(seed, "model"))
    steps = setting.epochs * math.ceil(len(images) / setting.batch_size)
    optimizer, scheduler = mnist_mlp.adam(model, setting, steps)
    order = batches(images, labels, setting, run.generator(seed, "batches"))
    mnist_mlp.train(model, optimizer, scheduler, enumerate(order), np.zeros(steps))
    return model


def measure(setting: argparse.Namespace, parts: tuple[Tensor, ...], seeds: int) -> str:
    """A line of the table: accuracy and seconds; `parts` are images and labels to train on, then those to try."""
    x_train, y_train, x_try, y_try = parts
    scores, seconds = [], []
    for seed in range(seeds):
        begin = time.perf_counter()
        model = trained(setting, x_train, one_hot(y_train), seed)
        seconds.append(time.perf_counter() - begin)
        scores.append(100 * mnist_mlp.accuracy(mnist_mlp.predict(model, x_try), y_try))
    shown = " ".join(
        "/".join(map(str, value)) if isinstance(value, tuple) else f"{value or 0:g}"
        for value in (
            setting.epochs,
            setting.lr,
            setting.batch_size,
            setting.weight_decay,
            setting.distort,
        )
    )
    return (
        f"{shown:36}{np.mean(scores):9.2f} +- {np.std(scores, ddof=1):.2f}   "
        f"{' '.join(f'{score:.2f}' for score in scores)}{np.median(seconds):9.1f} s"
    )


def main() -> None:
    parser = options.parser(__doc__.splitlines()[0])
    parser.add_argument(
        "--data-dir",
        type=options.folder,
        default=os.environ.get("MNIST_ROOT") or program.PROJECT / "data",
    )
    parser.add_argument(
        "--test", action="store_true", help="the chosen setting alone, on the test set"
    )
    parser.add_argument(
        "--seeds", type=options.whole_number(2, 100), help="2 for each setting, 5 with --test"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = datasets.load("mnist", args.data_dir)
    images, labels = mnist_mlp.as_vectors(data.train_images), data.train_labels
    known, held = slice(0, -HELD_OUT), slice(-HELD_OUT, None)
    parts = (images[known], labels[known], images[held], labels[held])
    if args.test:
        parts = (images, labels, mnist_mlp.as_vectors(data.test_images), data.test_labels)
    print(
        f"{'epochs rate batch decay distortions':36}{'test' if args.test else 'held-out'} images right in %"
    )
    for change in [{}] if args.test else TRIED:
        setting = argparse.Namespace(schedule="one-cycle", **(CHOSEN | change))
        print(measure(setting, parts, args.seeds or (5 if args.test else 2)), flush=True)


if __name__ == "__main__":
    program.execute(main)
