"""Exercise 1: the loss of the first example; does N really have to be 10,000?"""

from common import plotting
from common.reports import largest_errors
from common.run import generator
from engine import train
from lectures import linear_recovery as linear

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.utils import parameters_to_vector
from tqdm import trange

STARTS, PAIRS, NOISE, RATE = 1_000, 10_000, 0.2, 0.01
LEAST = 6  # pairs that least squares needs
AT_ONCE = 50  # starts trained in one call: their iterates take 48 MB
NEAR, MOST = (0.1, 0.05), 0.95  # bounds on errors, and the fraction of starts to meet them
SWEEP_STEPS = 1_000  # and as many pairs, at each learning rate
ESTIMATES = ("last iterate", "averaged iterate", "least squares")


class Recipe(NamedTuple):
    """How the inputs are drawn and prepared."""

    name: str
    low: float  # they are uniform in [low, low + 5)
    centred: bool  # whether their mean is subtracted before training

    def __str__(self) -> str:
        return f"{self.name}: x in [{self.low:g}, {self.low + 5:g})"


PRINTED = Recipe("printed", 5, False)
CENTRED = Recipe("centred", 5, True)
QUICKSTART = Recipe("quickstart", 0, False)


class Runs(NamedTuple):
    """Runs of ``lectures/linear_recovery.py``, in the coordinates of their training."""

    x: Tensor  # (starts, N, 5), centred if the recipe says so
    y: Tensor  # (starts, N, 2)
    centres: Tensor  # (starts, 5), what was subtracted from the inputs
    losses: np.ndarray  # (starts, N)
    iterates: Tensor  # (starts, N + 1, 12); the first is the model before training


def draw_pairs(recipe: Recipe, count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """The pairs of ``--seed SEED``: x, shape (count, 5), y, (count, 2), and the centre, (5,)."""
    x, y = linear.training_data(count, recipe.low, recipe.low + 5, NOISE, generator(seed, "pairs"))
    centre = x.mean(dim=0) if recipe.centred else torch.zeros(5, dtype=x.dtype)
    return x - centre, y, centre


def initial_model(seed: int) -> nn.Sequential:
    """The model that ``--seed SEED`` starts from."""
    return nn.Sequential(linear.build_model(generator(seed, "model")))


def run_starts(recipe: Recipe, seeds: range) -> Runs:
    """The lecture's runs with these seeds."""
    x, y, centres = map(torch.stack, zip(*(draw_pairs(recipe, PAIRS, seed) for seed in seeds)))
    models = [initial_model(seed) for seed in seeds]
    initial = torch.stack([parameters_to_vector(m.parameters()).detach() for m in models])
    after = np.empty((len(seeds), PAIRS, 12))
    losses = train(
        models, linear.loss, x.unsqueeze(2), y.unsqueeze(2), lr=RATE, steps=PAIRS, iterates=after
    )
    iterates = torch.cat([initial.unsqueeze(1), torch.from_numpy(after)], dim=1)
    return Runs(x, y, centres, losses, iterates)


def least_squares(x: Tensor, y: Tensor, counts: np.ndarray) -> Tensor:
    """`linear.least_squares` of the first n pairs for each n of `counts`, by normal equations.

    x has shape (starts, N, 5), y (starts, N, 2), the result (starts, counts, 12).
    """
    centres = x.mean(dim=1, keepdim=True)  # uncentred, the equations lose half of their digits
    z = torch.cat([x - centres, torch.ones_like(x[..., :1]), y], dim=2)  # (starts, N, 8)
    parts = [z[:, a:b, :6].mT @ z[:, a:b] for a, b in itertools.pairwise([0, *counts.tolist()])]
    sums = torch.stack(parts, dim=1).cumsum(dim=1)  # (starts, counts, 6, 8)
    solution = torch.linalg.solve(sums[..., :6], sums[..., 6:])  # (starts, counts, 6, 2)
    parameters = torch.cat([solution[..., :5, :].mT.flatten(2), solution[..., 5, :]], dim=2)
    return torch.stack([linear.fold(*pair) for pair in zip(parameters, centres[:, 0])])


def estimates(runs: Runs, counts: np.ndarray) -> Tensor:
    """ESTIMATES of the parameters for the inputs as drawn, after n steps for each n of `counts`.

    Shape (starts, 3, counts, 12).
    """
    last = runs.iterates[:, counts]
    averaged = [linear.averages(iterates, torch.from_numpy(counts)) for iterates in runs.iterates]
    found = torch.stack([last, torch.stack(averaged), least_squares(runs.x, runs.y, counts)], dim=1)
    return torch.stack([linear.fold(*pair) for pair in zip(found, runs.centres)])


def eval_steps(first: int) -> np.ndarray:
    """Numbers of steps from `first` to PAIRS, logarithmically spaced."""
    return np.unique(np.geomspace(first, PAIRS, 120).astype(int))


def history(recipe: Recipe) -> tuple[np.ndarray, dict[str, dict[str, np.ndarray]]]:
    """Trains STARTS starts of a recipe.

    Returns the losses at eval_steps(1), shape (starts, points), and the largest errors of "W" and
    "b" for each of ESTIMATES at eval_steps(LEAST), also (starts, points).
    """
    losses, errors = [], []
    for first in trange(0, STARTS, AT_ONCE, desc=str(recipe), delay=2, leave=False, disable=None):
        runs = run_starts(recipe, range(first, min(first + AT_ONCE, STARTS)))
        losses.append(runs.losses[:, eval_steps(1) - 1])
        found = largest_errors(estimates(runs, eval_steps(LEAST)), linear.TRUE_PARAMETERS)
        errors.append(torch.stack(found).numpy())  # (2, starts, estimates, points)
    of_w, of_b = np.concatenate(errors, axis=1).swapaxes(1, 2)  # (estimates, starts, points) each
    by_estimate = {"W": dict(zip(ESTIMATES, of_w)), "b": dict(zip(ESTIMATES, of_b))}
    return np.concatenate(losses), by_estimate


def steps_needed(steps: np.ndarray, errors: np.ndarray, near: float) -> int | None:
    """The first of `steps` from which on at least MOST of the starts are within `near`, or None.

    `errors` has shape (starts, points).
    """
    too_few = np.flatnonzero((errors <= near).mean(axis=0) < MOST)
    first = too_few[-1] + 1 if len(too_few) else 0
    return int(steps[first]) if first < len(steps) else None


def mean_loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The lecture's loss, averaged over the pairs; the edge is 2 / lambda_max of its Hessian."""
    return linear.loss(model, x, y) / len(x)


def sweep(recipe: Recipe) -> dict[str, dict]:
    """Learning rates around the predicted edge, for steps on "all pairs" and on "one pair".

    Each dict has `predicted`, the edge; `shares`, the rates as multiples of it; `growth`, the last
    losses divided by the first, for each rate; `measured`, the largest rate up to which they fall.
    """
    x, y, _ = draw_pairs(recipe, SWEEP_STEPS, seed=0)
    z = pad(x, (0, 1), value=1)  # (x, 1)
    hessian = 2 * z.T @ z / len(x)  # (6, 6)
    edge = 2 / torch.linalg.eigvalsh(hessian)[-1].item()
    return {
        "all pairs": rates_around(edge, mean_loss, x[None], y[None]),
        "one pair": rates_around(linear.stable_lr_limit(x), linear.loss, x[:, None], y[:, None]),
    }


def rates_around(predicted: float, loss: Callable, x: Tensor, y: Tensor) -> dict:
    """The dict of `sweep` for one kind of step; x and y have a batch for each step."""
    shares, growth = np.union1d(np.geomspace(0.25, 2, 31), np.linspace(0.9, 1.1, 21)), []
    for lr in predicted * shares:
        (losses,) = train([initial_model(0)], loss, x, y, lr=lr, steps=SWEEP_STEPS)
        growth.append(np.inf if np.isnan(losses[-1]) else (losses[-100:] / losses[0]).mean())
    stable = shares[np.minimum.accumulate(np.array(growth) < 1)]
    measured = float(predicted * stable[-1])
    return {"predicted": predicted, "shares": shares, "growth": growth, "measured": measured}


def draw(
    histories: dict[Recipe, tuple], losses: dict[Recipe, np.ndarray], sweeps: dict[Recipe, dict]
) -> dict[str, Figure]:
    """The figures by file name; `losses` are the finite losses of seed 0."""
    settings = f"learning rate {RATE}, noise {NOISE}"
    starts = f"mean of {STARTS:,} starts and 10-90 %"
    drawn = {
        f"{recipe.name}.png": plotting.lines(
            f"Error of the parameters, {starts}\n{recipe}, {settings}",
            {
                f"largest error of {name}": {
                    estimate: (eval_steps(LEAST), runs) for estimate, runs in of_name.items()
                }
                for name, of_name in errors.items()
            },
        )
        for recipe, (_, errors) in histories.items()
    }
    drawn["every_step.png"] = plotting.loss_curve(
        f"Loss at every step\n{CENTRED}, {settings}, seed 0",
        losses[CENTRED],
        window=100,
        floor=2 * NOISE**2,
    )
    printed = {f"{PRINTED}, seed 0 alone": (np.arange(len(losses[PRINTED])) + 1, losses[PRINTED])}
    curves = {str(recipe): (eval_steps(1), seen) for recipe, (seen, _) in histories.items()}
    floor = {"noise floor": ([1, PAIRS], [2 * NOISE**2] * 2)}
    drawn["recipes.png"] = plotting.lines(
        f"Loss of the three recipes, {starts}\n{settings}",
        {"loss": printed | curves | floor},
        ylim=(1e-3, 1e12),
    )
    growth = {
        f"{recipe.name}, {way} a step": (
            found[way]["shares"],
            np.minimum(found[way]["growth"], 1e200),
        )
        for way in ("all pairs", "one pair")
        for recipe, found in sweeps.items()
    }
    drawn["rates.png"] = plotting.lines(
        f"Loss after {SWEEP_STEPS:,} steps on {SWEEP_STEPS:,} pairs, seed 0",
        {"last loss / first loss": growth},
        xlabel="learning rate / predicted edge",
        ylim=(1e-8, 1e8),
        vertical={"predicted edge": 1},
    )
    return drawn


def summary(errors: np.ndarray) -> dict:
    """The steps needed for NEAR, and the mean error after PAIRS steps; errors (starts, points)."""
    steps = [steps_needed(eval_steps(LEAST), errors, near) for near in NEAR]
    return {"steps": steps, "error": float(errors[:, -1].mean())}


def measure(data_dir: Path) -> tuple[dict, dict[str, Figure]]:
    """The results, and the figures by file name."""
    histories = {recipe: history(recipe) for recipe in (CENTRED, QUICKSTART)}
    losses = {recipe: run_starts(recipe, range(1)).losses[0] for recipe in (PRINTED, CENTRED)}
    losses = {recipe: values[np.isfinite(values)] for recipe, values in losses.items()}
    sweeps = {recipe: sweep(recipe) for recipe in (PRINTED, CENTRED, QUICKSTART)}
    found, edges = {}, {}
    for recipe, (_, errors) in histories.items():
        found[recipe.name] = {
            name: {"W": summary(errors["W"][name]), "b": summary(errors["b"][name])}
            for name in ESTIMATES
        }
    for recipe, ways in sweeps.items():
        edges[recipe.name] = {
            way.replace(" ", "_"): {key: row[key] for key in ("predicted", "measured")}
            for way, row in ways.items()
        }
    shares = sweeps[PRINTED]["all pairs"]["shares"]
    results = {
        "starts": STARTS,
        "pairs": PAIRS,
        "near": NEAR,
        "most": MOST,
        "eval_steps": len(eval_steps(LEAST)),
        "centre": CENTRED.low + 2.5,
        "overflow": len(losses[PRINTED]),
        "estimates": found,
        "edges": edges,
        "rates": {"count": len(shares), "low": float(shares[0]), "high": float(shares[-1])},
    }
    return results, draw(histories, losses, sweeps)
