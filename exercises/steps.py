"""Exercise 2: the loss of the network at all steps; do we really need a million?"""

import functools

import numpy as np
import torch
from tqdm import tqdm

from common import device, fused, plotting
from exercises.figures import lines, loss_bands
from lectures import ann_revisited as ann

STARTS, STEPS = 100, 1_000_000


def models(starts: int) -> list[torch.nn.Sequential]:
    """The lecture's starts with the seeds 0 to `starts` - 1."""
    return [ann.random_model(device.generator(seed)) for seed in range(starts)]


def looks(steps: int) -> np.ndarray:
    """The numbers of steps after which the points are looked at: each one percent more than the one before."""
    return np.unique(np.geomspace(100, steps, 1 + int(np.log(steps / 100) / 0.01)).astype(int))


def right(networks) -> np.ndarray:
    """Which of the ten points each network has right, shape (starts, 10)."""
    return torch.stack([ann.points_correct(network) for network in networks]).numpy()


def gradient_descent(networks, rate: float):
    """Full-batch steps as the lecture's; advances by as many steps as it is told and returns their losses."""
    return lambda count: fused.train_sgd(networks, ann.POINTS[None], ann.LABELS[None], learning_rate=rate, steps=count,
                                         scale=0.5 / 10)


def one_point(networks, rate: float):
    """Higham & Higham's stochastic gradient: a point drawn at random a step, its loss 1/2 ||y - M||^2.

    Each start has 100,000 draws of its own, which come again.
    """
    draws = torch.stack([torch.randint(10, (100_000,), generator=device.generator(10_000 + start))
                         for start in range(len(networks))])
    x, y, made = ann.POINTS[draws].unsqueeze(2), ann.LABELS[draws].unsqueeze(2), 0  # (starts, draws, 1, 2)

    def advance(count: int):
        nonlocal made
        order = torch.arange(made, made + count) % draws.shape[1]
        made += count
        return fused.train_sgd(networks, x[:, order], y[:, order], learning_rate=rate, steps=count, scale=0.5)

    return advance


def optimizer(networks, make):
    """Full-batch steps of one of PyTorch's optimizers, which work on each number alone: so on all starts at once."""
    parameters, _ = torch.func.stack_module_state(networks)
    chosen = make(parameters.values())
    forward = torch.func.vmap(functools.partial(torch.func.functional_call, networks[0]), in_dims=(0, None))

    def advance(count: int):
        for _ in range(count):
            losses = 0.5 / 10 * ((forward(parameters, ann.POINTS) - ann.LABELS) ** 2).sum(dim=(1, 2))
            chosen.zero_grad()
            losses.sum().backward()
            chosen.step()
        for start, network in enumerate(networks):
            network.load_state_dict({name: tensor[start].detach() for name, tensor in parameters.items()})

    return advance


# For each setting how it advances, and the steps it gets.
SETTINGS = {
    "gradient descent at 0.01 (the lecture)": (lambda m: gradient_descent(m, 0.01), STEPS),
    "gradient descent at 0.1": (lambda m: gradient_descent(m, 0.1), 200_000),
    "gradient descent at 1": (lambda m: gradient_descent(m, 1.0), 50_000),
    "gradient descent at 5": (lambda m: gradient_descent(m, 5.0), 20_000),
    "one point a step at 0.05 (Higham & Higham)": (lambda m: one_point(m, 0.05), STEPS),
    "one point a step at 0.5": (lambda m: one_point(m, 0.5), 200_000),
    "momentum 0.9 at 0.5": (lambda m: optimizer(m, functools.partial(torch.optim.SGD, lr=0.5, momentum=0.9)), 10_000),
    "Adam at 0.01": (lambda m: optimizer(m, functools.partial(torch.optim.Adam, lr=0.01)), 10_000),
    "Adam at 0.1": (lambda m: optimizer(m, functools.partial(torch.optim.Adam, lr=0.1)), 10_000),
}


def follow(networks, advance, steps: int, losses=None) -> tuple[np.ndarray, np.ndarray]:
    """Trains, and looks at the points; returns the numbers of steps, and which points were right then.

    The second has shape (looks, starts, 10). `losses`, shape (starts, steps), are filled in where they are given.
    """
    grid, found, made = looks(steps), [], 0
    for count in tqdm(grid, delay=2, leave=False, disable=None):
        part = advance(int(count - made))
        if losses is not None:
            losses[:, made:count] = part
        made = count
        found.append(right(networks))
    return grid, np.array(found)


def measure(data_dir) -> tuple[dict, dict]:
    """The results, and the figures by file name."""
    rows = []
    for name, (setting, steps) in SETTINGS.items():
        networks = models(STARTS)
        lecture = steps == STEPS and not rows
        losses = np.empty((STARTS, steps)) if lecture else None
        grid, found = follow(networks, setting(networks), steps, losses)
        all_right = found.all(axis=2)  # (looks, starts)
        first = np.where(all_right.any(axis=0), grid[all_right.argmax(axis=0)].astype(float), np.inf)
        rows.append({"setting": name, "steps": steps, "reached": int(np.isfinite(first).sum()),
                     "median": float(np.median(first)), "worst": float(first.max())})
        if lecture:
            results, figures = of_the_lecture(grid, found, losses)
    return results | {"starts": STARTS, "settings": rows}, figures


def of_the_lecture(grid, found, losses) -> tuple[dict, dict]:
    """What the lecture's own setting shows: results and figures."""
    share = found.all(axis=2).mean(axis=1)  # (looks,)
    enough = np.flatnonzero(share >= 0.9)
    plateau = found[np.searchsorted(grid, 100_000)]  # (starts, 10)
    slow = np.flatnonzero(~found[-1].all(axis=1))
    median = np.sort(found.sum(axis=2), axis=1)[:, found.shape[1] // 2]  # (looks,), points right
    marks = plotting.milestones(grid, median)
    figures = {
        "loss.png": loss_bands(losses, title="Loss, and how many of the ten points stay right in the median start\n"
                                             f"{STARTS} starts, learning rate 0.01", marks=marks),
        "share.png": lines({"starts with all ten points right": (grid, 100 * share)},
                           title=f"Starts with all ten points right\n{STARTS} starts, learning rate 0.01",
                           xlabel="steps", ylabel="share in %", scales=("steps", "linear"), ylim=(-3, 103),
                           horizontal={"90 %": 90}),
    }
    return {
        "share_at_the_end": float(share[-1]), "ninety_percent": int(grid[enough[0]]) if len(enough) else None,
        "median_loss": {str(n): float(np.median(losses[:, n - 1])) for n in (1_000, 10_000, 100_000, STEPS)},
        "plateau_right": {"median": float(np.median(plateau.sum(axis=1))), "all": int(plateau.all(axis=1).sum())},
        "slow": [{"seed": int(start), "loss": float(losses[start, -1]),
                  "wrong": [f"({x1:.1f}, {x2:.1f})" for (x1, x2), good in zip(ann.POINTS.tolist(), found[-1, start])
                            if not good]} for start in slow],
        "wrong_at_100_000": [int(count) for count in (~plateau).sum(axis=0)],
    }, figures


def text(results: dict, table) -> str:
    """The section of the page; `table` makes Markdown of rows."""
    def steps(number):
        return "not by then" if number is None else f"{number:,.0f}"

    starts, ninety = results["starts"], results["ninety_percent"]
    rows = [[row["setting"], f"{row['steps']:,}", f"{row['reached']} of {starts}", steps(row["median"]),
             steps(row["worst"])] for row in results["settings"]]
    best = min((row for row in results["settings"] if row["reached"] == starts), key=lambda row: row["worst"],
               default=None)
    fewer = "" if best is None else (
        f"With another setting far fewer do: {best['setting']} has all {starts} starts at ten of ten after "
        f"{best['worst']:,.0f} steps, half of them after {best['median']:,.0f}.")
    ninety_percent = f"it takes {ninety:,} steps until 90 %" if ninety else "not even a million steps suffice for 90 %"
    loss, wrong = results["median_loss"], results["wrong_at_100_000"]
    slow = [[s["seed"], f"{s['loss']:.3g}", ", ".join(s["wrong"])] for s in results["slow"]]
    points = [f"({x1:.1f}, {x2:.1f})" for x1, x2 in ann.POINTS.tolist()]
    worst = sorted(zip(wrong, points), reverse=True)[:3]
    return f"""## 2. Do we need a million data points?

They are a million steps on the same ten points. With the lecture's learning rate {ninety_percent} of {starts} starts
have all ten points right, after a million {100 * results["share_at_the_end"]:.0f} % have. {fewer}

The median loss is {loss["1000"]:.3g} after 1,000 steps, {loss["10000"]:.3g} after 10,000, {loss["100000"]:.3g} after
100,000 and {loss[str(STEPS)]:.3g} at the end.

![The loss at all steps](figures/exercise_2_loss.png)
![The share of starts with all points right](figures/exercise_2_share.png)

**The plateau.** After 100,000 steps {results["plateau_right"]["all"]} of {starts} starts have all ten points right, the
median start {results["plateau_right"]["median"]:.0f}; the points that most starts get wrong then are
{", ".join(f"{point} (wrong in {count} starts)" for count, point in worst)}. What is still wrong after a million:

{table(["seed", "loss", "points wrong"], slow)}

**Steps to ten out of ten** (looked at each time the steps have grown by one percent; the same {starts} starts):

{table(["setting, learning rate", "steps given", "reach ten of ten", "median", "worst"], rows)}
"""
