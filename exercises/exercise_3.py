"""Exercise 3: rand instead of randn in xtrain and ytrain of the network."""

from common import plotting
from common.run import generator
from engine import train
from exercises.exercise_2 import initial_models, point_loss
from lectures import ann_revisited as ann

from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, optim
from torch.nn.utils import parameters_to_vector

STARTS, PAIRS, LECTURE_STEPS, RATE = 20, 1_000_000, 2_000, 0.01
KINDS = ("randn", "rand")


def lecture_weights(kind: str) -> Tensor:
    """The parameters (23,) after LECTURE_STEPS of the lecture's steps on pairs of a kind."""
    (model,) = initial_models(1)
    optimizer = optim.SGD(model.parameters(), lr=RATE)
    for x, y in ann.random_pairs(LECTURE_STEPS, kind, generator(0, "pairs")):
        value = ann.loss(model, x, y)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    return parameters_to_vector(model.parameters()).detach()


def mean_pair_loss(prediction: Tensor, y: Tensor) -> float:
    """The mean over the pairs of 1/2 ||y - prediction||^2, for y of shape (pairs, 2)."""
    return 0.5 * ((prediction - y) ** 2).sum(dim=1).mean().item()


def train_on_pairs(kind: str) -> tuple[dict, np.ndarray]:
    """Trains on the pairs themselves, one per step; the results, and the losses (starts, PAIRS)."""
    draw = {"randn": torch.randn, "rand": torch.rand}[kind]
    x, y = draw(2, PAIRS, 2, generator=generator(0, "pairs"), dtype=torch.float64)
    models = initial_models(STARTS)
    losses = train(models, point_loss, x[:, None], y[:, None], lr=RATE, steps=PAIRS)
    with torch.no_grad():
        final = [mean_pair_loss(model(x), y) for model in models]
    mean = y.mean(dim=0)
    return {
        "kind": kind,
        "mean_target": mean.tolist(),
        "first": float(losses[:, : PAIRS // 1000].mean()),
        "final": float(np.mean(final)),
        "worst": max(final),
        "best_possible": mean_pair_loss(mean.clamp(0, 1), y),  # a sigmoid lies between 0 and 1
    }, losses


def draw(rows: list[dict], losses: list[np.ndarray]) -> dict[str, Figure]:
    """The figure by file name."""
    steps = np.unique(np.geomspace(100, PAIRS, 150).astype(int))
    curves = {
        f"pairs of {row['kind']}": (
            steps,
            np.stack([values[:, n // 2 : n].mean(axis=1) for n in steps], axis=1),
        )
        for row, values in zip(rows, losses)
    }
    best = {
        f"best possible for {row['kind']}": (steps[[0, -1]], np.full(2, row["best_possible"]))
        for row in rows
    }
    return {
        "loss.png": plotting.lines(
            f"Loss of {STARTS} starts if it used its arguments, mean and 10-90 %\n"
            f"Learning rate {RATE}, one pair a step; averaged over the last half of the steps",
            {"loss": curves | best},
        )
    }


def measure(data_dir: Path) -> tuple[dict, dict[str, Figure]]:
    """The results, and the figure by file name."""
    weights = [lecture_weights(kind) for kind in KINDS]
    rows, losses = zip(*(train_on_pairs(kind) for kind in KINDS))
    return {
        "weights": len(weights[0]),
        "weights_that_differ": int((weights[0] != weights[1]).sum()),
        "lecture_steps": LECTURE_STEPS,
        "pairs": PAIRS,
        "starts": STARTS,
        "kinds": rows,
    }, draw(rows, losses)
