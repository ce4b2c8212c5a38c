"""Exercise 4: a random image that is not in the training data, ten of them, and the whole test set."""

import argparse
import itertools
import math
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

from common import datasets, plotting
from common.onehot import one_cold, one_hot
from common.run import generator
from exercises import cores, figures, markdown
from lectures import mnist_mlp as mnist

FEW, RUNS = 100, 10  # the lecture's images, and runs with them
SIZES, SEEDS = (100, 300, 1_000, 3_000, 10_000, 30_000, 60_000), 5
BATCH, RATE, DECAY, EPOCHS, LEAST_STEPS = (
    128,
    0.015,
    1e-4,
    20,
    600,
)  # with more images, as README has it for all
# Test errors of networks on MNIST's 60,000 images, from LeCun, Bottou, Bengio & Haffner, Proceedings of the IEEE
# 86(11), 1998, section III.
PUBLISHED = {"300 hidden units": 0.047, "500 and 150 hidden units": 0.0295}


def train(data: datasets.Dataset, **options: object) -> nn.Sequential:
    """The model of ``lectures/mnist_mlp.py`` with these options."""
    args = argparse.Namespace(
        **{"hidden": 40, "schedule": "constant", "weight_decay": 0.0, "distort": False} | options
    )
    model = mnist.glorot_model(args.hidden, generator(args.seed, "model"))
    steps = args.epochs * math.ceil(args.images / args.batch_size)
    order = mnist.batches(
        mnist.as_vectors(data.train_images[: args.images]),
        one_hot(data.train_labels[: args.images]),
        args,
        generator(args.seed, "batches"),
    )
    mnist.train(model, *mnist.adam(model, args, steps), enumerate(order), np.empty(steps))
    return model


def lecture_model(data: datasets.Dataset, seed: int) -> nn.Sequential:
    """That of ``mnist_mlp.py --seed k``: the first FEW images, 100 epochs over the one batch."""
    return train(data, seed=seed, images=FEW, batch_size=FEW, epochs=100, lr=0.001)


def quick_model(data: datasets.Dataset, count: int, seed: int) -> nn.Sequential:
    """That of `count` images in batches, with a one-cycle schedule: EPOCHS epochs, or LEAST_STEPS steps."""
    batch = min(BATCH, count)
    epochs = max(EPOCHS, math.ceil(LEAST_STEPS / math.ceil(count / batch)))
    return train(
        data,
        seed=seed,
        images=count,
        batch_size=batch,
        epochs=epochs,
        lr=RATE,
        schedule="one-cycle",
        weight_decay=DECAY,
    )


def quick_predictions(data: datasets.Dataset, count: int, seed: int) -> np.ndarray:
    """What `quick_model` says of the test images, (n, 10)."""
    return mnist.predict(quick_model(data, count, seed), mnist.as_vectors(data.test_images)).numpy()


def unseen_image(data: datasets.Dataset, seed: int) -> dict:
    """What the lecture's model says of a random test image: both are those of ``mnist_mlp.py --seed k``."""
    test = mnist.as_vectors(data.test_images)
    probabilities = mnist.predict(lecture_model(data, seed), test)
    image = int(torch.randint(len(test), (), generator=generator(seed, "unseen image")))
    return {
        "seed": seed,
        "image": image + 1,
        "label": int(data.test_labels[image]),
        "said": int(one_cold(probabilities[image])),
        "probabilities": probabilities[image].tolist(),
        "accuracy": mnist.accuracy(probabilities, data.test_labels),
    }


def draw(
    data: datasets.Dataset, runs: list[dict], accuracies: dict[int, list[float]]
) -> dict[str, Figure]:
    """The figures by file name; `accuracies` of the test set, for each number of training images."""
    captions = [
        f"label {data.classes[run['label']]}, network says {data.classes[run['said']]} "
        f"({max(run['probabilities']):.0%})".replace("%", " %")
        for run in runs
    ]
    errors = 100 * (1 - np.array(list(accuracies.values()))).T  # (seeds, sizes)
    published = {
        f"LeCun et al. 1998, {name}: {100 * error:g} %": 100 * error
        for name, error in PUBLISHED.items()
    }
    return {
        "ten.png": plotting.image_row(
            data.test_images[[run["image"] - 1 for run in runs]].numpy(),
            captions,
            title=f"Test images that the network has not seen\n{data.title}; network of {FEW} images, seeds 0 to "
            f"{len(runs) - 1}, each with its own image",
        ),
        "errors.png": figures.lines(
            {f"784-40-10, mean of {SEEDS} seeds and 10-90 %": (np.array(list(accuracies)), errors)},
            title="Performance P on task T as a function of experience E\nT: say what an image of "
            f"{data.title} shows; P: wrong answers for {len(data.test_images):,} test images",
            xlabel="experience E: training images",
            ylabel="performance P: test error in %",
            scales=("log", "log"),
            yticks=(2, 3, 5, 10, 20, 30),
            horizontal=published if data.name == "mnist" else None,
        ),
    }


def measure(data_dir: Path) -> tuple[dict, dict[str, Figure]]:
    """The results, and the figures by file name."""
    data = datasets.load("auto", data_dir)
    runs = [unseen_image(data, seed) for seed in range(RUNS)]
    sizes = [count for count in SIZES if count < len(data.train_images)] + [len(data.train_images)]
    tasks = [
        (count, seed) for count in reversed(sizes) for seed in range(SEEDS)
    ]  # the longest first
    with cores.bar(SEEDS * sum(sizes), "images", "trained on") as bar:
        found = {}
        for task, of_task in zip(
            tasks, cores.each(quick_predictions, itertools.repeat(data), *zip(*tasks))
        ):
            found[task] = mnist.accuracy(torch.from_numpy(of_task), data.test_labels)
            bar.update(task[0])
    accuracies = {count: [found[count, seed] for seed in range(SEEDS)] for count in sizes}
    results = {
        "dataset": data.title,
        "classes": data.classes,
        "test_images": len(data.test_images),
        "few": FEW,
        "runs": runs,
        "seeds": SEEDS,
        "batch": BATCH,
        "rate": RATE,
        "decay": DECAY,
        "epochs": EPOCHS,
        "steps": LEAST_STEPS,
        "sizes": [{"images": count, "accuracy": values} for count, values in accuracies.items()],
        "published": PUBLISHED if data.name == "mnist" else {},
    }
    return results, draw(data, runs, accuracies)


def text(results: dict) -> str:
    """The section of the page."""
    runs, sizes, classes = results["runs"], results["sizes"], results["classes"]
    ten = [
        [
            run["seed"],
            run["image"],
            classes[run["label"]],
            *(f"{100 * p:.1f}" for p in run["probabilities"]),
            "right" if run["said"] == run["label"] else f"WRONG, says {classes[run['said']]}",
        ]
        for run in runs
    ]
    rows = [
        [
            f"{row['images']:,}",
            markdown.spread(row["accuracy"]),
            f"{100 - 100 * np.mean(row['accuracy']):.2f} %",
        ]
        for row in sizes
    ]
    published = ", ".join(
        f"{100 * error:g} % with {name}" for name, error in results["published"].items()
    )
    return f"""## 4. A random image that is not in the training data

Of {len(runs)} random test images of {results["dataset"]}, the lecture's model, trained on {
        results["few"]
    } images, has
{sum(run["said"] == run["label"] for run in runs)} right; of all {results["test_images"]:,},
{markdown.spread([run["accuracy"] for run in runs])} (mean and standard deviation of {
        len(runs)
    } seeds). With the same
network and all {sizes[-1]["images"]:,} training images it is {
        markdown.spread(sizes[-1]["accuracy"])
    }
({
        results["seeds"]
    } seeds). Seed k is the run `python lectures/mnist_mlp.py --seed k`, and its image the one that this
run shows.

{markdown.table(["seed", "image", "label", *(f"{name} (%)" for name in classes), ""], ten)}

![The images](figures/exercise_4_ten.png)

**Learning from experience.** A program learns from experience E with respect to a task T and a performance measure P,
if its performance at T, as measured by P, improves with E. Here T is to say what an image shows, P the test error, the
share of wrong answers for the test images, and E the images trained on; the figure is P as a function of E. (The
network is trained in batches of {results["batch"]} by Adam, one-cycle up to {
        results["rate"]:g}, with weight decay
{results["decay"]:g}, for {results["epochs"]} epochs or {
        results["steps"]
    } steps, whichever is more.)

![Performance P on task T as a function of experience E](figures/exercise_4_errors.png)

{markdown.table(["E: training images", "test images right", "P: test error"], rows)}
{
        f'''
For comparison, LeCun, Bottou, Bengio and Haffner (Proceedings of the IEEE 86(11), 1998) report test errors of
{published}, for networks trained on the same images.
'''
        if published
        else ""
    }"""
