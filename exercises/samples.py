"""Exercise 1: the loss of the first example; does N really have to be 10,000?"""

import numpy as np
import torch

from common import device, fused
from exercises.figures import error_bands, lines
from lectures import linear_recovery as linear

STARTS, STEPS, NOISE, RATE = 100, 10_000, 0.2, 0.01
RECIPES = {"centred": (5, True), "quickstart": (0, False)}  # where the inputs begin, and whether they are centred
NEAR = (0.1, 0.05)


def train(low: float, centred: bool, starts: int, rate: float):
    """The lecture's runs with the seeds 0 to `starts` - 1, as linear_recovery makes them.

    Returns x (starts, N, 5), y (starts, N, 2), centres (starts, 5), losses (starts, N) and iterates (starts, N, 12).
    """
    generators = [device.generator(seed) for seed in range(starts)]
    pairs = [linear.training_data(STEPS, low, low + 5, NOISE, generator) for generator in generators]
    x, y = (torch.stack(column) for column in zip(*pairs))
    centres = x.mean(dim=1) if centred else torch.zeros_like(x[:, 0])
    models = [linear.random_model(generator) for generator in generators]
    iterates = np.full((starts, STEPS, 12), np.nan)
    losses = linear.train_fused(models, x - centres.unsqueeze(1), y, rate, iterates, lambda steps: True)
    return x, y, centres.numpy(), losses, iterates


def errors(low: float, centred: bool) -> tuple[np.ndarray, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Numbers of steps, and for each way of estimating the errors of W and of b there, each (starts, points)."""
    x, y, centres, _, iterates = train(low, centred, STARTS, RATE)
    grid = np.unique(np.geomspace(6, STEPS, 120).astype(int))
    ways = {"last iterate": lambda r: linear.largest_errors(iterates[r, grid - 1], centres[r]),
            "averaged iterate": lambda r: linear.largest_errors(linear.averages(iterates[r], grid), centres[r]),
            "least squares": lambda r: linear.largest_errors(np.array([
                np.concatenate([part.ravel() for part in linear.least_squares(x[r, :n], y[r, :n])]) for n in grid]),
                np.zeros(5))}
    found = {name: [way(r) for r in range(STARTS)] for name, way in ways.items()}
    return grid, {name: tuple(np.array(column) for column in zip(*of_all)) for name, of_all in found.items()}


def enough(grid: np.ndarray, errors: np.ndarray, near: float) -> int | None:
    """The smallest number of steps from which on 95 % of the starts are within `near`."""
    good = (errors <= near).mean(axis=0) >= 0.95
    late = np.flatnonzero(~good)
    first = late[-1] + 1 if len(late) else 0
    return int(grid[first]) if first < len(grid) else None


def sweep(low: float, centred: bool) -> dict:
    """Learning rates around the largest stable one: the last loss as a multiple of the first, for steps on one pair and
    steps on all pairs (the mean loss, whose Hessian the prediction is made from)."""
    generator = device.generator(0)
    x, y = linear.training_data(1_000, low, low + 5, NOISE, generator)
    x = x - x.mean(dim=0) if centred else x
    model = linear.random_model(generator)
    limit = linear.stable_learning_rate(x)
    shares = np.union1d(np.geomspace(0.05, 2, 61), np.linspace(0.9, 1.1, 21))
    batches = {"one pair a step": (x.unsqueeze(1), y.unsqueeze(1), 1.0),
               "all pairs a step": (x[None], y[None], 1 / len(x))}
    growth = {name: [] for name in batches}
    for share in shares:
        for name, (inputs, targets, scale) in batches.items():
            copy = torch.nn.Sequential(torch.nn.Linear(5, 2, dtype=torch.float64))
            copy[0].load_state_dict(model.state_dict())
            losses = fused.train_sgd(copy, inputs, targets, learning_rate=share * limit, steps=1_000, scale=scale)
            finite = losses[np.isfinite(losses)]
            growth[name].append(finite[-100:].mean() / finite[0] if len(finite) == len(losses) else np.inf)
    stable = {name: float(shares[np.flatnonzero(np.array(values) < 1)[-1]]) for name, values in growth.items()}
    return {"limit": limit, "shares": shares, "growth": growth, "largest_stable_share": stable}


def measure(data_dir) -> tuple[dict, dict]:
    """The results, and the figures by file name."""
    results, figures = {"starts": STARTS, "enough": {}, "final": {}}, {}
    for recipe, (low, centred) in RECIPES.items():
        grid, found = errors(low, centred)
        figures[f"{recipe}.png"] = error_bands(
            grid, {name: {way: pair[k] for way, pair in found.items()} for k, name in enumerate("Wb")},
            title=f"Error of the parameters, mean and 10-90 % of {STARTS} starts\nx in [{low}, {low + 5})"
                  f"{', centred' if centred else ''}, learning rate {RATE}")
        results["enough"][recipe] = {way: [enough(grid, pair[k], near) for k in (0, 1) for near in NEAR]
                                     for way, pair in found.items()}
        results["final"][recipe] = {way: [float(np.median(pair[k][:, -1])) for k in (0, 1)]
                                    for way, pair in found.items()}

    curves, sweeps = {}, {}
    for name, (low, centred) in {"printed": (5, False), **RECIPES}.items():
        losses = train(low, centred, 1, RATE)[3][0]
        made = np.unique(np.geomspace(1, np.isfinite(losses).sum(), 200).astype(int))
        curves[f"{name}: x in [{low}, {low + 5}){', centred' if centred else ''}"] = (
            made, np.array([losses[n // 2:n].mean() for n in made]))
        results.setdefault("steps_before_overflow", int(np.isfinite(losses).sum()))  # of the first, the printed one
        sweeps[name] = sweep(low, centred)
    figures["recipes.png"] = lines(
        curves, title=f"The loss of the three recipes\nlearning rate {RATE}, seed 0", xlabel="steps",
        ylabel="loss, mean of the last half of the steps", scales=("log", "log"), ylim=(1e-2, 1e20),
        horizontal={"noise floor 0.08": 0.08})
    figures["rates.png"] = lines(
        {f"{name}, {way}": (found["shares"], np.minimum(found["growth"][way], 1e200))
         for way in ("all pairs a step", "one pair a step") for name, found in sweeps.items()},
        title="Which learning rates are stable\nafter 1,000 steps on 1,000 pairs, seed 0",
        xlabel="learning rate / (2 / λmax)", ylabel="last loss / first loss", scales=("log", "log"), ylim=(1e-8, 1e8), vertical={"predicted edge": 1})
    results["rates"] = {name: {"limit": found["limit"], **found["largest_stable_share"]}
                        for name, found in sweeps.items()}
    results["rates_tried"] = len(sweeps["printed"]["shares"])
    return results, figures


def text(results: dict, table) -> str:
    """The section of the page; `table` makes Markdown of rows."""
    def steps(number):
        return f"{number:,}" if number else "not by 10,000"

    rows = [[recipe, way, *map(steps, numbers)] for recipe, ways in results["enough"].items()
            for way, numbers in ways.items()]
    final = results["final"]["centred"]
    average = results["enough"]["centred"]["averaged iterate"]
    rates = results["rates"]
    return f"""## 1. Does N really have to be 10,000?

For W it does not: with centred inputs the averaged iterate has every entry of W within 0.1 after {steps(average[0])}
steps and within 0.05 after {steps(average[1])}, in 95 % of {results["starts"]} starts. For b, 0.1 takes
{steps(average[2])}: it is extrapolated from the inputs' centre at 7.5 to 0. After 10,000 steps the median errors of W
and b are {final["averaged iterate"][0]:.2g} and {final["averaged iterate"][1]:.2g} for the averaged iterate, against
{final["least squares"][0]:.2g} and {final["least squares"][1]:.2g} for least squares on the same pairs, and
{final["last iterate"][0]:.2g} and {final["last iterate"][1]:.2g} for the last iterate, which goes on jumping with the
noise of single pairs.

The smallest N from which on 95 % of the starts are near the truth (of a grid of 120):

{table(["recipe", "estimate", "W within 0.1", "W within 0.05", "b within 0.1", "b within 0.05"], rows)}

![Errors for centred inputs](figures/exercise_1_centred.png)
![Errors for Flux's quickstart](figures/exercise_1_quickstart.png)

**Why the printed recipe diverges.** It overflows after {results["steps_before_overflow"]} steps.

1. With e the error of a row of (W, b) and z = (x, 1), one step without noise is e ← (I − 2η z zᵀ) e.
2. On average over the pairs that is e ← (I − η H) e with the Hessian H = 2 E[z zᵀ].
3. Along an eigenvector of H with eigenvalue λ, e is multiplied by 1 − η λ at each step.
4. It shrinks if |1 − η λ| < 1 for all of them, that is, for η < 2 / λmax.

![The loss of the three recipes](figures/exercise_1_recipes.png)
![The loss after 1,000 steps against the learning rate](figures/exercise_1_rates.png)

Steps on all pairs keep to the predicted edge; a step on one pair, with its own |z|², needs a smaller rate. The rates
tried are {results["rates_tried"]} from 0.05 to 2 times the edge.

{table(["recipe", "2 / λmax", "largest stable rate, all pairs a step", "largest stable rate, one pair a step"],
       [[name, f"{r['limit']:.4g}", f"{r['all pairs a step'] * r['limit']:.4g}",
         f"{r['one pair a step'] * r['limit']:.4g}"] for name, r in rates.items()])}
"""
