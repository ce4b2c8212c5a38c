"""The exercises with options so small that each takes seconds."""

from common import files
from exercises import exercise_1, exercise_2, exercise_3, exercise_4, exercise_5, markdown

import contextlib
import copy
import functools
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from conftest import write_idx

EXERCISES = {1: exercise_1, 2: exercise_2, 3: exercise_3, 4: exercise_4, 5: exercise_5}
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


@contextlib.contextmanager
def small_options() -> Iterator[None]:
    """Gives the exercises their small options."""
    with pytest.MonkeyPatch.context() as patch:
        for module, options in SMALL.items():
            for name, value in options.items():
                patch.setattr(module, name, value)
        yield


@functools.cache
def data_folder() -> Path:
    """A folder with made-up images in MNIST's and in Fashion-MNIST's place."""
    root = Path(tempfile.mkdtemp(prefix="exercises"))
    write_idx(root / "other", train=120, test=40)
    (root / "other" / "MNIST").rename(root / "FashionMNIST")
    write_idx(root, train=120, test=40)
    return root


@functools.cache
def _measured(number: int) -> tuple[dict, set[str]]:
    with small_options():
        results, figures = EXERCISES[number].measure(data_folder())
    path = data_folder() / "metrics.json"
    files.save(path, results)
    return json.loads(path.read_text(encoding="utf-8")), set(figures)


def measured(number: int) -> dict:
    """An exercise's results as its file has them."""
    return copy.deepcopy(_measured(number)[0])


def figure_names(number: int) -> set[str]:
    return _measured(number)[1]


def text(number: int, results: dict) -> str:
    """An exercise's section of the page, in one line."""
    return " ".join(markdown.render(f"exercise_{number}.md.j2", results).split())
