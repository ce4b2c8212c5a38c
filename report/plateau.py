"""Other starts of the 2-2-3-2 network: one that stays on the plateau, and a rate that works.

`python -m report.plateau` writes report/plateau.json, which is part of the project, in a minute at
most: the first seed whose start has nine points right after the lecture's million steps, with the
weights that it starts from, and how many of many starts have all ten right after far fewer steps at
a larger rate.
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
    """Trains each model with the lecture's steps; returns how many points it then has right."""
    engine.train(models, loss, POINTS[None], LABELS[None], lr=rate, steps=steps)
    return [int(points_correct(model).sum()) for model in models]


def starts() -> list[nn.Sequential]:
    """The starts of the seeds from 0 on."""
    return [build_model(generator(seed, "model")) for seed in range(STARTS)]


def main() -> None:
    seed = train(starts(), STEPS, RATE).index(9)
    fast = sum(right == 10 for right in train(starts(), FAST_STEPS, FAST_RATE))
    content = {
        "seed": seed,
        "weights": parameters_to_vector(starts()[seed].parameters()).tolist(),
        "fast": {"lr": FAST_RATE, "steps": FAST_STEPS, "starts": STARTS, "all_right": fast},
    }
    FILE.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(f"written: {FILE}")


if __name__ == "__main__":
    program.execute(main)
