"""Exercise 5: the lecture's project topic: Flux, and not MNIST but a similar good data set."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from common import datasets, plotting
from common.onehot import one_cold
from exercises import cores, markdown, unseen
from lectures import mnist_mlp as mnist

SEEDS = 5
CONFUSED = 5  # pairs of classes that are listed
# Accuracies on the test set of Fashion-MNIST, from the table "Benchmark" of the data set's page.
SOURCE = "https://github.com/zalandoresearch/fashion-mnist"
PUBLISHED = {"an MLP with 256, 128 and 100 hidden units": 0.8833, "people without expertise": 0.835}

FLUX = "https://fluxml.ai/Flux.jl/stable"
# Read in the documentation named here, of Flux 0.16, and in PyTorch's; not tried, there is no Julia in this project.
ECOSYSTEM = [
    [
        "gradients",
        f"[Zygote]({FLUX}/reference/training/zygote/), which generates the backward code in Julia's compiler",
        "`autograd`, which records the operations as they run",
    ],
    [
        "optimizers",
        f"[Optimisers]({FLUX}/reference/training/optimisers/), rules with their state beside them",
        "`torch.optim`, objects that hold the parameters",
    ],
    [
        "batches",
        f"[MLUtils]({FLUX}/reference/data/mlutils/): `DataLoader`, splitting, shuffling",
        "`torch.utils.data`",
    ],
    ["data sets", "[MLDatasets](https://juliaml.github.io/MLDatasets.jl/stable/)", "torchvision"],
    [
        "GPUs",
        f"[CUDA]({FLUX}/guide/gpu/) and others, loaded beside Flux: their arrays take the place of Julia's",
        'built in: `tensor.to("cuda")`',
    ],
    [
        "equations",
        "[SciML](https://docs.sciml.ai/Overview/stable/): solvers that a network can be a part of",
        "other projects' packages",
    ],
]
TOPIC = f"""**What Flux is.** A library for machine learning, says its [documentation]({FLUX}/), with the usual tools,
and with all of Julia open beside them. It names three principles: writing down the mathematics is enough; a user's code
can stand wherever Flux's own does, since both are plain Julia; other packages are used, not duplicated.

**How it fits into Julia.** PyTorch is one large package, a C++ core below Python. Flux is a thin one on top of others,
each of use without it ([its page on the ecosystem]({FLUX}/ecosystem/)):

{markdown.table(["for", "Flux uses", "PyTorch has"], ECOSYSTEM)}

**What scientific machine learning is.** [SciML's overview](https://docs.sciml.ai/Overview/stable/overview/) calls it
scientific computing and machine learning combined, and not machine learning as such. What is known, as a differential
equation say, stays a model that one can read; what is not known is learned from data, through solvers that can be
differentiated. In a universal differential equation
([Rackauckas et al. 2020](https://arxiv.org/abs/2001.04385)) a network stands for the unknown term, which can afterwards
be searched for a formula. A [workshop's report](https://doi.org/10.2172/1478744) for the US Department of Energy (2019)
says what science must ask of it: to know its domain, to be open to interpretation, to be robust."""


def counts(predictions: Sequence[Tensor], labels: Tensor) -> np.ndarray:
    """How many test images of each label are said to be of each class, by each seed's model; (seeds, 10, 10)."""
    return np.array(
        [
            torch.bincount(10 * labels + one_cold(of_seed), minlength=100).reshape(10, 10).numpy()
            for of_seed in predictions
        ]
    )


def right(of_seeds: np.ndarray) -> list[float]:
    """The share of the test images that each seed's model has right, of counts (seeds, 10, 10)."""
    return (np.trace(of_seeds, axis1=1, axis2=2) / of_seeds.sum(axis=(1, 2))).tolist()


def confused(of_seeds: np.ndarray, classes: list[str]) -> list[dict]:
    """The pairs of classes that are confused most: for the label, the share of its images said to be the other one."""
    shares = of_seeds / of_seeds.sum(axis=2, keepdims=True)  # (seeds, 10, 10)
    shares[:, range(10), range(10)] = 0
    most = np.argsort(-shares.mean(axis=0), axis=None, kind="stable")[:CONFUSED]
    return [
        {"label": classes[label], "said": classes[said], "share": shares[:, label, said].tolist()}
        for label, said in (divmod(pair, 10) for pair in most.tolist())
    ]


def of_data(data: datasets.Dataset) -> tuple[dict, Figure]:
    """The results and the figure of a data set."""
    count, test = len(data.train_images), mnist.as_vectors(data.test_images)
    few = counts(
        [mnist.predict(unseen.lecture_model(data, seed), test) for seed in range(SEEDS)],
        data.test_labels,
    )
    said = []
    with cores.bar(SEEDS, "networks", data.title) as bar:
        for of_seed in cores.each(
            unseen.quick_predictions, *map(itertools.repeat, (data, count)), range(SEEDS)
        ):
            said.append(torch.from_numpy(of_seed))
            bar.update()
    every = counts(said, data.test_labels)
    return {
        "name": data.name,
        "dataset": data.title,
        "train": count,
        "test": len(test),
        "few": right(few),
        "every": right(every),
        "confused": confused(every, data.classes),
    }, plotting.confusion(
        every[0],
        data.classes,
        title=f"{data.title}: {len(test):,} test images, {100 * right(every)[0]:.1f} % right\n"
        f"784-40-10 trained on {count:,} images, seed 0",
    )


def measure(data_dir: Path) -> tuple[dict, dict[str, Figure]]:
    """The results, and the figures by file name."""
    rows, left_out, figures = [], [], {}
    for name in ("fashion-mnist", "kmnist", "digits"):
        if name != "digits" and not datasets.on_disk(name, data_dir):
            left_out.append(datasets.TITLES[name])
            continue
        row, figures[f"{name}.png"] = of_data(datasets.load(name, data_dir))
        rows.append(row)
    return {
        "rows": rows,
        "left_out": left_out,
        "seeds": SEEDS,
        "few": unseen.FEW,
        "published": PUBLISHED,
    }, figures


def text(results: dict) -> str:
    """The section of the page."""
    rows = [
        [
            row["dataset"],
            f"{row['train']:,}",
            f"{row['test']:,}",
            markdown.spread(row["few"]),
            markdown.spread(row["every"]),
        ]
        for row in results["rows"]
    ]
    published = "; ".join(
        f"{name} {100 * share:.1f} %" for name, share in results["published"].items()
    )
    left_out = (
        f"\nNot on this disk, and so not run: {', '.join(results['left_out'])}.\n"
        if results["left_out"]
        else ""
    )
    parts, newline = (
        [],
        "\n",
    )  # no backslash may stand in the braces of an f-string before Python 3.12
    for row in results["rows"]:
        pairs = [
            [pair["label"], pair["said"], markdown.spread(pair["share"])]
            for pair in row["confused"]
        ]
        beside = (
            f"[The data set's page]({SOURCE}) has: {published}. "
            if row["name"] == "fashion-mnist"
            else ""
        )
        parts.append(f"""### {row["dataset"]}

The network has {markdown.spread(row["every"])} of the test images right. {beside}What it confuses most, as a share of
the label's images:

{markdown.table(["label", "the network says", "share"], pairs)}

![Which classes of {row["dataset"]} are confused](figures/exercise_5_{row["name"]}.png)
""")
    return f"""## 5. The project topic: Flux, and a data set that is not MNIST

{TOPIC}

**Other data.** `python lectures/mnist_mlp.py --dataset fashion-mnist` (or `kmnist`, `digits`) runs the lecture's script
on other images. Here is its network with {results["few"]} images as in the lecture, and with all of them and the
settings of exercise 4; mean and standard deviation of {results["seeds"]} seeds.
{left_out}
{markdown.table(["data set", "training images", "test images", f"right with {results['few']}", "with all"], rows)}

{newline.join(parts)}"""
