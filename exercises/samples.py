"""Exercise 1: the loss of the first example; does N really have to be 10,000?"""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector
from tqdm import tqdm

from common import fused, plotting
from common.run import generator
from exercises import cores, figures, markdown
from lectures import linear_recovery as linear

STARTS, PAIRS, NOISE, RATE = 1_000, 10_000, 0.2, 0.01
LEAST = 6  # pairs that least squares needs
TOGETHER = 50  # starts trained in one call: their iterates are 48 MB
NEAR, MOST = (
    (0.1, 0.05),
    0.95,
)  # errors that are near enough, and the share of the starts that shall have them
SWEPT = 1_000  # pairs, and steps, of the search for the largest stable learning rate


class Recipe(NamedTuple):
    """How the inputs are drawn and taken."""

    name: str
    low: float  # they are uniform from here to low + 5
    centred: bool

    def __str__(self) -> str:
        return f"{self.name}: x in [{self.low:g}, {self.low + 5:g})"


ESTIMATES = ("last iterate", "averaged iterate", "least squares")
PRINTED, CENTRED, QUICKSTART = (
    Recipe("printed", 5, False),
    Recipe("centred", 5, True),
    Recipe("quickstart", 0, False),
)


class Runs(NamedTuple):
    """Runs of the lecture, ``lectures/linear_recovery.py --seed k``, before their centre is folded back into b."""

    x: Tensor  # (starts, N, 5), centred where the recipe says so
    y: Tensor  # (starts, N, 2)
    centres: Tensor  # (starts, 5)
    losses: np.ndarray  # (starts, N)
    iterates: Tensor  # (starts, N + 1, 12); the first is the model before training


def train(recipe: Recipe, seeds: range) -> Runs:
    """The lecture's runs with these seeds."""
    pairs = [
        linear.training_data(PAIRS, recipe.low, recipe.low + 5, NOISE, generator(seed, "pairs"))
        for seed in seeds
    ]
    x, y = (torch.stack(column) for column in zip(*pairs))
    centres = x.mean(dim=1) if recipe.centred else torch.zeros_like(x[:, 0])
    x -= centres.unsqueeze(1)
    models = [nn.Sequential(linear.random_model(generator(seed, "model"))) for seed in seeds]
    iterates = torch.empty(len(seeds), PAIRS + 1, 12, dtype=torch.float64)
    iterates[:, 0] = torch.stack(
        [parameters_to_vector(model.parameters()).detach() for model in models]
    )
    made = np.empty((len(seeds), PAIRS, 12))
    losses = fused.train_sgd(
        models, x.unsqueeze(2), y.unsqueeze(2), learning_rate=RATE, steps=PAIRS, iterates=made
    )
    iterates[:, 1:] = torch.from_numpy(made)
    return Runs(x, y, centres, losses, iterates)


def least_squares(x: Tensor, y: Tensor, counts: np.ndarray) -> Tensor:
    """`linear.least_squares` of the first n pairs, for each n of `counts`, by normal equations.

    x has shape (starts, N, 5), y (starts, N, 2), the result (starts, counts, 12).
    """
    centres = x.mean(
        dim=1, keepdim=True
    )  # taken out of x, without which the equations lose half of their digits
    z = torch.cat([x - centres, torch.ones_like(x[..., :1]), y], dim=2)  # (starts, N, 8)
    parts = [z[:, a:b, :6].mT @ z[:, a:b] for a, b in itertools.pairwise([0, *counts.tolist()])]
    sums = torch.stack(parts, dim=1).cumsum(dim=1)  # (starts, counts, 6, 8)
    solution = torch.linalg.solve(sums[..., :6], sums[..., 6:])  # (starts, counts, 6, 2)
    found = torch.cat([solution[..., :5, :].mT.flatten(2), solution[..., 5, :]], dim=2)
    return torch.stack([linear.fold(*pair) for pair in zip(found, centres[:, 0])])


def estimates(runs: Runs, counts: np.ndarray) -> Tensor:
    """The last iterate, the averaged one and least squares after n steps, for each n of `counts`, with the centre
    folded back into b; shape (starts, 3, counts, 12)."""
    averages = torch.stack(
        [linear.averages(iterates, torch.from_numpy(counts)) for iterates in runs.iterates]
    )
    found = torch.stack(
        [runs.iterates[:, counts], averages, least_squares(runs.x, runs.y, counts)], dim=1
    )
    return torch.stack([linear.fold(*pair) for pair in zip(found, runs.centres)])


def looks(first: int) -> np.ndarray:
    """The numbers of steps after which the starts are looked at, evenly in their logarithms."""
    return np.unique(np.geomspace(first, PAIRS, 120).astype(int))


class Courses(NamedTuple):
    """What was seen of some starts."""

    losses: np.ndarray  # (starts, looks), at the steps looks(1)
    errors: dict[
        str, dict[str, np.ndarray]
    ]  # of W and of b, for each estimate (starts, looks), at looks(LEAST)


def follow(recipe: Recipe, first: int, bar: tqdm) -> tuple[np.ndarray, np.ndarray]:
    """Trains TOGETHER starts of a recipe, from the seed `first` on.

    Returns the losses, (starts, looks), and the largest errors of W and of b for each estimate,
    (2, starts, estimates, looks).
    """
    runs = train(recipe, range(first, min(first + TOGETHER, STARTS)))
    bar.update(len(runs.x))
    errors = torch.stack(linear.largest_errors(estimates(runs, looks(LEAST))))
    return runs.losses[:, looks(1) - 1], errors.numpy()


def follow_all(recipe: Recipe) -> Courses:
    """What is seen of STARTS starts of a recipe."""
    with cores.bar(STARTS, "starts", str(recipe)) as bar:
        parts = cores.spread(
            follow, itertools.repeat(recipe), range(0, STARTS, TOGETHER), itertools.repeat(bar)
        )
    losses, errors = (np.concatenate(column, axis=axis) for axis, column in enumerate(zip(*parts)))
    return Courses(
        losses,
        {name: dict(zip(ESTIMATES, of_name.swapaxes(0, 1))) for name, of_name in zip("Wb", errors)},
    )


def enough(steps: np.ndarray, errors: np.ndarray, near: float) -> int | None:
    """The smallest number of steps from which on MOST of the starts are within `near`; errors (starts, looks)."""
    late = np.flatnonzero((errors <= near).mean(axis=0) < MOST)
    first = late[-1] + 1 if len(late) else 0
    return int(steps[first]) if first < len(steps) else None


def limit_of_all_pairs(x: Tensor) -> float:
    """2 / lambda_max of the mean loss's Hessian, the mean of 2 (x, 1)(x, 1)^T; x of shape (N, 5).

    Steps on all pairs multiply their error along an eigenvector by 1 - learning_rate * lambda:
    beyond this rate it grows.
    """
    ones = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], dim=1)  # (N, 6)
    return (2 / torch.linalg.eigvalsh(2 * ones.T @ ones / len(x))[-1]).item()


def sweep(recipe: Recipe) -> dict:
    """Learning rates around the largest stable one: the last loss as a multiple of the first, for steps on one pair and
    steps on all pairs (the mean loss, whose Hessian the prediction is made from)."""
    x, y = linear.training_data(SWEPT, recipe.low, recipe.low + 5, NOISE, generator(0, "pairs"))
    x = x - x.mean(dim=0) if recipe.centred else x
    limit = limit_of_all_pairs(x)
    shares = np.union1d(np.geomspace(0.05, 2, 61), np.linspace(0.9, 1.1, 21))
    batches = {
        "all pairs a step": (x[None], y[None], 1 / len(x)),
        "one pair a step": (x.unsqueeze(1), y.unsqueeze(1), 1.0),
    }
    growth: dict[str, list[float]] = {name: [] for name in batches}
    for share in shares:
        for name, (inputs, targets, scale) in batches.items():
            model = nn.Sequential(linear.random_model(generator(0, "model")))
            losses = fused.train_sgd(
                model, inputs, targets, learning_rate=share * limit, steps=SWEPT, scale=scale
            )
            growth[name].append(
                losses[-100:].mean() / losses[0] if np.isfinite(losses).all() else np.inf
            )
    stable = {
        name: float(limit * shares[np.array(values) < 1][-1]) for name, values in growth.items()
    }
    return {"limit": limit, "shares": shares, "growth": growth, "stable": stable}


def draw(
    courses: dict[Recipe, Courses], losses: dict[Recipe, np.ndarray], sweeps: dict[Recipe, dict]
) -> dict[str, Figure]:
    """The figures by file name; `losses` are those of seed 0, as far as they are finite."""
    settings = f"learning rate {RATE}, noise {NOISE}"
    drawn = {
        f"{recipe.name}.png": figures.error_bands(
            looks(LEAST),
            seen.errors,
            title=f"Error of the parameters, mean of {STARTS:,} starts and 10-90 %\n{recipe}, "
            f"{settings}",
        )
        for recipe, seen in courses.items()
    }
    return drawn | {
        "every_step.png": plotting.loss_curve(
            losses[CENTRED],
            window=100,
            floor=2 * NOISE**2,
            title=f"Loss at every step\n{CENTRED}, {settings}, seed 0",
        ),
        "recipes.png": figures.lines(
            {
                f"{PRINTED}, seed 0 alone": (np.arange(len(losses[PRINTED])) + 1, losses[PRINTED]),
                **{str(recipe): (looks(1), seen.losses) for recipe, seen in courses.items()},
            },
            title=f"Loss of the three recipes, mean of {STARTS:,} starts and 10-90 %\n{settings}",
            xlabel="steps",
            ylabel="loss",
            scales=("log", "log"),
            ylim=(1e-3, 1e12),
            horizontal={"noise floor": 2 * NOISE**2},
        ),
        "rates.png": figures.lines(
            {
                f"{recipe.name}, {way}": (found["shares"], np.minimum(found["growth"][way], 1e200))
                for way in ("all pairs a step", "one pair a step")
                for recipe, found in sweeps.items()
            },
            title=f"Loss after {SWEPT:,} steps on {SWEPT:,} pairs, seed 0",
            xlabel="learning rate / (2 / λmax)",
            ylabel="last loss / first loss",
            scales=("log", "log"),
            ylim=(1e-8, 1e8),
            vertical={"predicted edge": 1},
        ),
    }


def measure(data_dir: Path) -> tuple[dict, dict[str, Figure]]:
    """The results, and the figures by file name."""
    courses = {recipe: follow_all(recipe) for recipe in (CENTRED, QUICKSTART)}
    losses = {recipe: train(recipe, range(1)).losses[0] for recipe in (PRINTED, CENTRED)}
    losses = {recipe: of_recipe[np.isfinite(of_recipe)] for recipe, of_recipe in losses.items()}
    sweeps = {recipe: sweep(recipe) for recipe in (PRINTED, CENTRED, QUICKSTART)}
    results = {
        "starts": STARTS,
        "pairs": PAIRS,
        "near": NEAR,
        "share": MOST,
        "looks": len(looks(LEAST)),
        "centre": CENTRED.low + 2.5,
        "overflow": len(losses[PRINTED]),
        "estimates": [
            {
                "recipe": recipe.name,
                "estimate": way,
                "enough": [
                    enough(looks(LEAST), seen.errors[name][way], near)
                    for name in "Wb"
                    for near in NEAR
                ],
                "final": [float(seen.errors[name][way][:, -1].mean()) for name in "Wb"],
            }
            for recipe, seen in courses.items()
            for way in ESTIMATES
        ],
        "rates": [
            {"recipe": recipe.name, "limit": found["limit"], **found["stable"]}
            for recipe, found in sweeps.items()
        ],
        "tried": [len(sweeps[PRINTED]["shares"]), *sweeps[PRINTED]["shares"][[0, -1]].tolist()],
    }
    return results, draw(courses, losses, sweeps)


def verdict(numbers: Sequence[int | None], results: dict) -> str:
    """The answer: the smallest N for W within the two bounds and for b within the first, or None, in sentences."""
    given, (near, nearer) = results["pairs"], results["near"]
    for_w, for_w_nearer, for_b = numbers[:3]
    who = f"every entry of W within {near:g} in {100 * results['share']:g} % of\n{results['starts']:,} starts"
    if for_w is None:
        w = (
            "For W even that is not enough: with centred inputs the averaged iterate does not have "
            f"{who} by {given:,} steps."
        )
    else:
        needed = "it does not" if for_w < given else "it does"
        more = (
            f"but within {nearer:g} not by {given:,}"
            if for_w_nearer is None
            else (f"and within {nearer:g} after {for_w_nearer:,}")
        )
        w = f"For W {needed}: with centred inputs the averaged iterate has {who} after {for_w:,} steps, {more}."
    b = (
        f"{near:g} is not reached by {given:,} steps"
        if for_b is None
        else f"{near:g} takes\n{for_b:,}"
    )
    return f"{w} For b, {b}"


def text(results: dict) -> str:
    """The section of the page."""
    found = {(row["recipe"], row["estimate"]): row for row in results["estimates"]}
    average, exact, last = (
        found["centred", way] for way in ("averaged iterate", "least squares", "last iterate")
    )
    near, wanted = results["near"], f"{100 * results['share']:g} %"
    rows = [
        [
            row["recipe"],
            row["estimate"],
            *(markdown.steps(number, results["pairs"]) for number in row["enough"]),
            *(f"{error:.2g}" for error in row["final"]),
        ]
        for row in results["estimates"]
    ]
    rates = [
        [
            row["recipe"],
            *(f"{row[key]:.4g}" for key in ("limit", "all pairs a step", "one pair a step")),
        ]
        for row in results["rates"]
    ]
    tried, low, high = results["tried"]
    return f"""## 1. Does N really have to be {results["pairs"]:,}?

{verdict(average["enough"], results)}: b is extrapolated from the inputs' centre, at {
        results["centre"]:g}, to 0.
After {results["pairs"]:,} steps the mean errors of W and b are
{average["final"][0]:.2g} and {average["final"][1]:.2g} for the averaged iterate, against
{exact["final"][0]:.2g} and {exact["final"][1]:.2g} for least squares on the same pairs, and {
        last["final"][0]:.2g} and
{last["final"][1]:.2g} for the last iterate, which goes on jumping with the noise of single pairs.

Start k is the run `python lectures/linear_recovery.py --seed k`. The loss of the first one, for all steps:

![The loss of one start at every step](figures/exercise_1_every_step.png)

The smallest N from which on {wanted} of the starts are near the truth (of {
        results["looks"]
    } numbers looked at), and
the mean error at the end:

{
        markdown.table(
            [
                "recipe",
                "estimate",
                *(f"{name} within {bound:g}" for name in "Wb" for bound in near),
                "error of W",
                "error of b",
            ],
            rows,
        )
    }

![Errors for centred inputs](figures/exercise_1_centred.png)
![Errors for Flux's quickstart](figures/exercise_1_quickstart.png)

**Why the printed recipe diverges.** It overflows after {results["overflow"]:,} steps.

1. With e the error of a row of (W, b) and z = (x, 1), one step without noise is e ← (I − 2η z zᵀ) e.
2. On average over the pairs that is e ← (I − η H) e with the Hessian H = 2 E[z zᵀ].
3. Along an eigenvector of H with eigenvalue λ, e is multiplied by 1 − η λ at each step.
4. It shrinks if |1 − η λ| < 1 for all of them, that is, for η < 2 / λmax.

![The loss of the three recipes](figures/exercise_1_recipes.png)
![The loss against the learning rate](figures/exercise_1_rates.png)

Steps on all pairs keep to the predicted edge; a step on one pair, with its own |z|², needs a smaller rate. The rates
tried are {tried} from {low:g} to {high:g} times the edge.

{
        markdown.table(
            ["recipe", "2 / λmax", "largest stable rate, all pairs a step", "one pair a step"],
            rates,
        )
    }
"""
