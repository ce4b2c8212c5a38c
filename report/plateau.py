"""Other starts of the 2-2-3-2 network: one that stays on a plateau, many at a larger rate.

`python -m report.plateau` takes at most a minute. It writes report/plateau.json, which is kept in
git: the first seed with nine points correct after the lecture's million steps, with its initial
weights, and how many starts have all ten correct after far fewer steps at a larger learning rate.
"""

import engine
from common import program
from common.run import generator
from lectures.ann_revisited import LABELS, POINTS, build_model, loss, points_correct

import json
from pathlib import Path

from torch import nn
from torch.nn.utils import parameters_to_vector

FILE = Path(__file__).resolve().parent / "plateau.json"
STEPS, RATE, STARTS = 1_000_000, 0.01, 200
FAST_STEPS, FAST_RATE = 20_000, 5.0  # the page's slider ends at FAST_STEPS for this rate


def train(models: list[nn.Sequential], steps: int, rate: float) -> list[int]:
    """Trains each model with the lecture's steps; returns how many points are then correct."""
    engine.train(models, loss, POINTS[None], LABELS[None], lr=rate, steps=steps)
    return [int(points_correct(model).sum()) for model in models]


def starts() -> list[nn.Sequential]:
    """The initial networks of the seeds from 0 on."""
    return [build_model(generator(seed, "model")) for seed in range(STARTS)]


def main() -> None:
    seed = train(starts(), STEPS, RATE).index(9)
    fast = sum(correct == 10 for correct in train(starts(), FAST_STEPS, FAST_RATE))
    content = {
        "seed": seed,
        "weights": parameters_to_vector(starts()[seed].parameters()).tolist(),
        "fast": {"lr": FAST_RATE, "steps": FAST_STEPS, "starts": STARTS, "all_right": fast},
    }
    FILE.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(f"written: {FILE}")


if __name__ == "__main__":
    program.execute(main)
