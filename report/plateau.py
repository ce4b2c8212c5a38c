"""What the page says of other starts of the 2-2-3-2 network: one that stays on the plateau, and a rate that works.

`python -m report.plateau` writes report/plateau.json, which is part of the project, in a minute at most: the first seed
whose start has nine points right after the lecture's million steps, with its weights, and how many of many starts have
all ten right after far fewer steps at a larger rate.
"""

from pathlib import Path

from torch.nn.utils import parameters_to_vector

from common import files, fused, program
from common.program import RunError
from common.run import generator
from lectures.ann_revisited import LABELS, POINTS, points_correct, random_model

FILE = Path(__file__).resolve().parent / "plateau.json"
STEPS, RATE, LAST_SEED = 1_000_000, 0.01, 200
FAST_STEPS, FAST_RATE, FAST_STARTS = (
    20_000,
    5.0,
    200,
)  # the page's slider ends at FAST_STEPS for this rate


def train(seed: int) -> tuple[list[float], int, float]:
    """A start's 23 weights, and the points right and the last loss after STEPS steps at RATE."""
    model = random_model(generator(seed, "model"))
    weights = parameters_to_vector(model.parameters()).tolist()
    losses = fused.train_sgd(
        model, POINTS[None], LABELS[None], learning_rate=RATE, steps=STEPS, scale=0.5 / 10
    )
    return weights, int(points_correct(model).sum()), float(losses[-1])


def fast() -> dict[str, float]:
    """How many of the starts with the seeds from 0 on have all ten points right after FAST_STEPS at FAST_RATE."""
    models = [random_model(generator(seed, "model")) for seed in range(FAST_STARTS)]
    fused.train_sgd(
        models,
        POINTS[None],
        LABELS[None],
        learning_rate=FAST_RATE,
        steps=FAST_STEPS,
        scale=0.5 / 10,
    )
    right = sum(bool(points_correct(model).all()) for model in models)
    return {"lr": FAST_RATE, "steps": FAST_STEPS, "starts": FAST_STARTS, "all_right": right}


def main() -> None:
    for seed in range(LAST_SEED + 1):
        weights, right, loss = train(seed)
        print(f"seed {seed}: {right} of 10 points right, loss {loss:.4g}", flush=True)
        if right == 9:
            files.save(FILE, {"seed": seed, "weights": weights, "fast": fast()})
            print(f"written: {FILE}")
            return
    raise RunError(f"none of the seeds 0 to {LAST_SEED} stays on the plateau")


if __name__ == "__main__":
    program.execute(main)
