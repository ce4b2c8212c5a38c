"""Exercise 5: the lecture's project topic: Flux, and a good data set similar to MNIST."""

from common import datasets, plotting
from exercises.exercise_4 import FEW, lecture_model, load, tuned_probabilities
from lectures import mnist_mlp as mnist

from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

DATASETS = ("fashion-mnist", "kmnist", "digits")
SEEDS = 5
CONFUSED = 5  # pairs of classes that are listed
# Accuracies on the test set of Fashion-MNIST, from the table "Benchmark" of the data set's page.
PUBLISHED = {"an MLP with 256, 128 and 100 hidden units": 0.8833, "people without expertise": 0.835}


def confusion(probabilities: Tensor, labels: Tensor) -> np.ndarray:
    """How many images of each label (row) are classified as each class (column), shape (10, 10)."""
    pairs = 10 * labels + probabilities.argmax(dim=1)
    return torch.bincount(pairs, minlength=100).reshape(10, 10).numpy()


def confused(counts: np.ndarray, classes: list[str]) -> list[dict]:
    """The CONFUSED largest fractions of a label's images that are classified as one other class.

    `counts` are the confusion matrices of the seeds, shape (seeds, 10, 10).
    """
    shares = counts / counts.sum(axis=2, keepdims=True)
    shares[:, range(10), range(10)] = 0
    largest = np.argsort(-shares.mean(axis=0), axis=None, kind="stable")[:CONFUSED]
    return [
        {"label": classes[i], "prediction": classes[j], "shares": shares[:, i, j].tolist()}
        for i, j in (divmod(place, 10) for place in largest.tolist())
    ]


def evaluate(name: str, data_dir: Path) -> tuple[dict, Figure]:
    """The results and the figure of a data set."""
    data = load(name, data_dir)
    test, count = mnist.as_vectors(data.test_images), len(data.train_images)
    few = [mnist.predict(lecture_model(data, seed), test) for seed in range(SEEDS)]
    found = tuned_probabilities(name, data_dir, [(count, seed) for seed in range(SEEDS)])
    every = [found[count, seed] for seed in range(SEEDS)]
    counts = np.stack([confusion(probabilities, data.test_labels) for probabilities in every])
    accuracies = [mnist.accuracy(probabilities, data.test_labels) for probabilities in every]
    return {
        "name": data.name,
        "title": data.title,
        "train_images": count,
        "test_images": len(test),
        "few": [mnist.accuracy(probabilities, data.test_labels) for probabilities in few],
        "every": accuracies,
        "confused": confused(counts, data.classes),
    }, plotting.confusion(
        f"{data.title}: {100 * accuracies[0]:.1f} % of {len(test):,} test images correct\n"
        f"784-40-10 trained on {count:,} images, seed 0",
        data.classes,
        counts[0],
    )


def measure(data_dir: Path) -> tuple[dict, dict[str, Figure]]:
    """The results and the figures, by file name, of the data sets that are on the disk."""
    names = [name for name in DATASETS if name == "digits" or datasets.on_disk(name, data_dir)]
    rows, figures = zip(*(evaluate(name, data_dir) for name in names))
    return {
        "datasets": rows,
        "missing": [datasets.TITLES[name] for name in DATASETS if name not in names],
        "seeds": SEEDS,
        "few": FEW,
        "published": PUBLISHED,
    }, {f"{name}.png": figure for name, figure in zip(names, figures)}
