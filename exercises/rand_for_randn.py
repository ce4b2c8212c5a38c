"""Exercise 3: rand instead of randn in xtrain and ytrain of the network."""

from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from common import fused
from common.run import generator
from exercises import figures, markdown, steps
from lectures import ann_revisited as ann

STARTS, PAIRS, PLAIN_STEPS, RATE = 20, 1_000_000, 2_000, 0.01
KINDS = ("randn", "rand")


def plain_weights(kind: str) -> Tensor:
    """The weights after PLAIN_STEPS steps of the lecture's loop, which is handed pairs of this kind."""
    (model,), pairs = (
        steps.networks(1),
        ann.training_pairs(kind, PLAIN_STEPS, generator(0, "pairs")),
    )
    ann.train(
        model,
        torch.optim.SGD(model.parameters(), lr=RATE),
        enumerate(zip(*pairs)),
        np.empty(PLAIN_STEPS),
    )
    return parameters_to_vector(model.parameters()).detach()


def loss_of_pair(prediction: Tensor, y: Tensor) -> float:
    """The mean over the pairs of 1/2 ||y - prediction||^2, which a loss that used its arguments would be."""
    return 0.5 * ((prediction - y) ** 2).sum(dim=1).mean().item()


def of_kind(kind: str) -> tuple[dict, np.ndarray]:
    """What training on pairs of a kind leads to, one pair a step, and the loss at every step, shape (starts, PAIRS)."""
    x, y = ann.training_pairs(kind, PAIRS, generator(0, "pairs"))
    networks = steps.networks(STARTS)
    losses = fused.train_sgd(
        networks, x.unsqueeze(1), y.unsqueeze(1), learning_rate=RATE, steps=PAIRS, scale=0.5
    )
    with torch.no_grad():
        reached = [loss_of_pair(network(x), y) for network in networks]
    mean = y.mean(dim=0)
    return {
        "kind": kind,
        "mean_of_targets": mean.tolist(),
        "begin": float(losses[:, : PAIRS // 1000].mean()),
        "reached": float(np.mean(reached)),
        "worst": max(reached),
        "best": loss_of_pair(mean.clamp(0, 1), y),
    }, losses  # a sigmoid reaches what lies between 0 and 1


def draw(rows: list[dict], losses: list[np.ndarray]) -> dict[str, Figure]:
    """The figure by file name."""
    looks = np.unique(np.geomspace(100, PAIRS, 150).astype(int))
    curves = {
        f"pairs of {row['kind']}": (
            looks,
            np.stack([of_kind[:, n // 2 : n].mean(axis=1) for n in looks], axis=1),
        )
        for row, of_kind in zip(rows, losses)
    }
    return {
        "loss.png": figures.lines(
            curves,
            title=f"Loss of {STARTS} starts if it used its arguments, mean and 10-90 %\nLearning rate {RATE}, one "
            "pair a step; the mean of the last half of the steps",
            xlabel="steps",
            ylabel="loss",
            scales=("log", "log"),
            horizontal={f"the best there is for {row['kind']}": row["best"] for row in rows},
        )
    }


def measure(data_dir: Path) -> tuple[dict, dict[str, Figure]]:
    """The results, and the figure by file name."""
    weights = [plain_weights(kind) for kind in KINDS]
    rows, losses = zip(*(of_kind(kind) for kind in KINDS))
    return {
        "bit_for_bit": torch.equal(*weights),
        "plain_steps": PLAIN_STEPS,
        "pairs": PAIRS,
        "starts": STARTS,
        "kinds": rows,
    }, draw(rows, losses)


def text(results: dict) -> str:
    """The section of the page."""
    rows = [
        [
            row["kind"],
            ", ".join(f"{mean:.3f}" for mean in row["mean_of_targets"]),
            *(f"{row[key]:.4f}" for key in ("begin", "reached", "worst", "best")),
        ]
        for row in results["kinds"]
    ]
    same = "Nothing changes" if results["bit_for_bit"] else "Something changes"
    equal = "equal bit for bit" if results["bit_for_bit"] else "NOT equal"
    return f"""## 3. rand instead of randn?

{same}: after {results["plain_steps"]:,} steps from the same seed the weights are {
        equal
    }. The lecture's `loss(x, y)`
never looks at x and y: each step is one on the same ten points, whatever it is handed. (The same for whole runs:
`python lectures/ann_revisited.py --train-data rand`.)

If the loss did use them, there would be nothing to learn: x and y are independent, so no network does better than the
mean of the targets, clipped to what a sigmoid reaches, 0 to 1. Here are {
        results["starts"]
    } starts trained on
{results["pairs"]:,} pairs, one a step, with the loss 1/2 ||y - M(x)||² of the pair:

{
        markdown.table(
            [
                "pairs of",
                "mean of the targets",
                "loss of the first steps",
                "loss at the end, mean of the starts",
                "worst start",
                "best any network can do",
            ],
            rows,
        )
    }

![The loss if it used its arguments](figures/exercise_3_loss.png)
"""
