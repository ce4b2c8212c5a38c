"""Exercise 4: random images that are not in the training data, and the whole test set."""

from common import datasets, plotting
from common.onehot import one_hot
from common.run import generator
from exercises import mnist_all
from lectures import mnist_mlp as mnist

import functools
import math
import multiprocessing
import signal
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn, optim
from tqdm import tqdm

FEW, EPOCHS, RATE, HIDDEN = 100, 100, 0.001, 40  # the lecture's
RUNS = 10  # of the lecture
SIZES, SEEDS = (100, 300, 1_000, 3_000, 10_000, 30_000, 60_000), 5
# Settings for more images; training takes `epochs` or `least_steps`, whichever is more.
TUNED = {"batch_size": 128, "lr": 0.015, "weight_decay": 1e-4, "epochs": 20, "least_steps": 600}
# Test errors of networks on MNIST's 60,000 images, from LeCun, Bottou, Bengio & Haffner,
# Proceedings of the IEEE 86(11), 1998, section III.
PUBLISHED = {"300 hidden units": 0.047, "500 and 150 hidden units": 0.0295}

load = functools.cache(datasets.load)


def lecture_model(data: datasets.Dataset, seed: int) -> nn.Sequential:
    """The model of ``mnist_mlp.py --seed SEED``: full-batch steps on the first FEW images."""
    x, y = mnist.as_vectors(data.train_images[:FEW]), one_hot(data.train_labels[:FEW])
    model = mnist.build_model(HIDDEN, generator(seed, "model"))
    optimizer = optim.Adam(model.parameters(), lr=RATE)
    for _ in range(EPOCHS):
        value = mnist.loss(model, x, y)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    return model


def tuned_model(data: datasets.Dataset, images: int, seed: int, tuned: dict) -> nn.Sequential:
    """A model trained on the first `images` images, as by mnist_all; `tuned` is like TUNED."""
    x, y = mnist.as_vectors(data.train_images[:images]), one_hot(data.train_labels[:images])
    model = mnist.build_model(HIDDEN, generator(seed, "model"))
    tuned = tuned.copy()
    least = math.ceil(tuned.pop("least_steps") / math.ceil(images / tuned["batch_size"]))
    tuned["epochs"] = max(tuned["epochs"], least)
    mnist_all.train(model, x, y, generator(seed, "batches"), **tuned)
    return model


def _answer(name: str, data_dir: Path, tuned: dict, task: tuple[int, int]) -> np.ndarray:
    data = load(name, data_dir)
    model = tuned_model(data, *task, tuned)
    return mnist.predict(model, mnist.as_vectors(data.test_images)).numpy()


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Ctrl-C the pool ends its workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)


def tuned_probabilities(
    name: str, data_dir: Path, tasks: Iterable[tuple[int, int]]
) -> dict[tuple[int, int], Tensor]:
    """The probabilities, (n, 10), that models with TUNED settings give n test images, by task.

    A task is a number of training images and a seed; each core takes one at a time. Leaving `with`
    ends a Pool at once; tqdm's process_map would wait for running tasks, even after Ctrl-C.
    """
    tasks = sorted(tasks, reverse=True)  # the longest first
    work = functools.partial(_answer, name, data_dir, TUNED)
    bar = functools.partial(tqdm, desc=name, total=len(tasks), delay=2, leave=False, disable=None)
    with multiprocessing.Pool(initializer=_start_worker) as pool:
        return dict(zip(tasks, map(torch.from_numpy, bar(pool.imap(work, tasks)))))


def unseen_image(data: datasets.Dataset, seed: int) -> dict:
    """The random test image of ``mnist_mlp.py --seed SEED``, and the model's prediction."""
    probabilities = mnist.predict(lecture_model(data, seed), mnist.as_vectors(data.test_images))
    index = int(torch.randint(len(data.test_images), (), generator=generator(seed, "unseen image")))
    return {
        "seed": seed,
        "image": index + 1,
        "label": int(data.test_labels[index]),
        "prediction": int(probabilities[index].argmax()),
        "probabilities": probabilities[index].tolist(),
        "accuracy": mnist.accuracy(probabilities, data.test_labels),
    }


def draw(
    data: datasets.Dataset, runs: list[dict], accuracies: dict[int, list[float]]
) -> dict[str, Figure]:
    """The figures by file name; `accuracies` are by number of training images."""
    errors = 100 * (1 - np.array(list(accuracies.values()))).T  # (seeds, sizes)
    sizes = np.array(list(accuracies))
    curves = {f"784-40-10, mean of {SEEDS} seeds and 10-90 %": (sizes, errors)}
    for name, error in PUBLISHED.items():
        label = f"LeCun et al. 1998, {name}: {100 * error:g} %"
        curves[label] = (sizes[[0, -1]], np.full(2, 100 * error))
    return {
        "ten.png": plotting.judged_images(
            f"Test images that the network has not seen\n{data.title}; network trained on "
            f"{FEW} images, seeds 0 to {len(runs) - 1}, each with its own image",
            data.classes,
            data.test_images[[run["image"] - 1 for run in runs]].numpy(),
            np.array([run["label"] for run in runs]),
            np.array([run["probabilities"] for run in runs]),
        ),
        "errors.png": plotting.lines(
            "Performance P on task T as a function of experience E\n"
            f"T: say what an image of {data.title} shows; "
            f"P: wrong answers for {len(data.test_images):,} test images",
            {"performance P: test error in %": curves},
            xlabel="experience E: training images",
        ),
    }


def measure(data_dir: Path) -> tuple[dict, dict[str, Figure]]:
    """The results, and the figures by file name."""
    data = load("mnist", data_dir)
    runs = [unseen_image(data, seed) for seed in range(RUNS)]
    sizes = [size for size in SIZES if size < len(data.train_images)] + [len(data.train_images)]
    found = tuned_probabilities(
        "mnist", data_dir, [(size, seed) for size in sizes for seed in range(SEEDS)]
    )
    accuracies = {
        size: [mnist.accuracy(found[size, seed], data.test_labels) for seed in range(SEEDS)]
        for size in sizes
    }
    return {
        "dataset": data.title,
        "test_images": len(data.test_images),
        "few": FEW,
        "runs": runs,
        "correct": sum(run["prediction"] == run["label"] for run in runs),
        "seeds": SEEDS,
        "tuned": TUNED,
        "sizes": [
            {"images": size, "accuracies": values, "error": 1 - float(np.mean(values))}
            for size, values in accuracies.items()
        ],
        "published": PUBLISHED,
    }, draw(data, runs, accuracies)
