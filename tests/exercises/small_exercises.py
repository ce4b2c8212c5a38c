"""Small options, the results that the exercises have with them, and their text on the page."""

from common import files
from exercises import exercise_1, exercise_2, exercise_3, exercise_4, exercise_5, markdown
from exercises.page import EXERCISES

import functools
import json
import tempfile
from pathlib import Path

import torch
from conftest import write_idx

SLOW = functools.partial(exercise_2.gradient_descent, lr=0.01)
FAST = functools.partial(exercise_2.gradient_descent, lr=5.0)
ADAM = functools.partial(exercise_2.optimizer, make=torch.optim.Adam, lr=0.01)
QUICK = exercise_2.Setting("quick", 3, 3000, FAST)
SETTINGS = [exercise_2.Setting("the lecture", 3, 1000, SLOW), QUICK]
SETTINGS += [exercise_2.Setting("Adam", 2, 30, ADAM)]
TUNED = exercise_4.TUNED | {"epochs": 1, "least_steps": 3, "batch_size": 32}
SMALL = {
    exercise_1: {"STARTS": 3, "PAIRS": 400, "AT_ONCE": 2, "SWEEP_STEPS": 300},
    exercise_2: {"SETTINGS": SETTINGS},
    exercise_3: {"STARTS": 2, "PAIRS": 1000, "LECTURE_STEPS": 20},
    exercise_4: {"RUNS": 3, "SIZES": (50, 100), "SEEDS": 2, "TUNED": TUNED},
    exercise_5: {"SEEDS": 2},
}


@functools.cache
def data_folder() -> Path:
    """A folder with made-up images in MNIST's and in Fashion-MNIST's place."""
    root = Path(tempfile.mkdtemp(prefix="exercises"))
    write_idx(root / "other", train=120, test=40)
    (root / "other" / "MNIST").rename(root / "FashionMNIST")
    write_idx(root, train=120, test=40)
    return root


@functools.cache
def run_once(number: int) -> tuple[str, set[str]]:
    """An exercise's metrics.json and the names of its figures."""
    results, figures = EXERCISES[number].measure(data_folder())
    path = data_folder() / "metrics.json"
    files.save(path, results)
    return path.read_text(encoding="utf-8"), set(figures)


def measured(number: int) -> dict:
    """An exercise's results as its file has them."""
    return json.loads(run_once(number)[0])


def text(number: int, results: dict) -> str:
    """An exercise's section of the page, in one line."""
    return " ".join(markdown.render(f"exercise_{number}.md.j2", results).split())
