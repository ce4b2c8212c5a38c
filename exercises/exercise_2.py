"""Exercise 2: the loss of the network at every step; do we really need a million steps?"""

from common import plotting
from common.run import generator
from engine import train
from lectures import ann_revisited as ann

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn, optim
from torch.func import functional_call, stack_module_state, vmap
from tqdm import tqdm

STARTS, STEPS, RATE = 1_000, 1_000_000, 0.01
FEW = 200  # starts, for settings other than gradient descent
SLOW_STEPS = 5_000  # for PyTorch's optimizers: twice what MOST of the starts need
GROWTH = 0.05  # of the number of steps from one evaluation to the next
MOST = 0.9  # the fraction of the starts that must reach ten of ten
SEEDS_SHOWN = 5

# One batch, all points at every step, shape (1, 10, 2)
POINTS, LABELS = ann.POINTS[None], ann.LABELS[None]
States = dict[str, Tensor]  # parameters by name; the starts are along the first axis


def initial_models(starts: int) -> list[nn.Sequential]:
    """The models that ``lectures/ann_revisited.py --seed k`` starts from, for k = 0, 1, ..."""
    return [ann.build_model(generator(seed, "model")) for seed in range(starts)]


def point_loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """1/2 ||y - model(x)||^2 for one point, x and y of shape (1, 2)."""
    return 0.5 * ((model(x) - y) ** 2).sum()


# Ways to train many starts: for each of `counts`, makes that many steps and yields the states.


def gradient_descent(models: list[nn.Sequential], counts: list[int], lr: float) -> Iterator[States]:
    """All ten points at every step, as the lecture does."""
    for count in counts:
        train(models, ann.loss, POINTS, LABELS, lr=lr, steps=count)
        yield stack_module_state(models)[0]


def one_point(models: list[nn.Sequential], counts: list[int], lr: float) -> Iterator[States]:
    """Stochastic gradient descent as in Higham & Higham: a random point for each step.

    All starts take the same points in the same order.
    """
    draws = generator(0, "points")
    for count in counts:
        points = torch.randint(len(ann.POINTS), (count, 1), generator=draws)  # (batches, 1)
        x, y = ann.POINTS[points], ann.LABELS[points]
        train(models, point_loss, x, y, lr=lr, steps=count)
        yield stack_module_state(models)[0]


def optimizer(
    models: list[nn.Sequential], counts: list[int], make: Callable, **options: float
) -> Iterator[States]:
    """A PyTorch optimizer on all starts as one model, since it works elementwise."""
    states, _ = stack_module_state(models)
    step = make(states.values(), **options)
    for count in counts:
        for _ in range(count):
            # The gradient of the sum with respect to a start is that of its own loss
            value = losses_of(models[0], states).sum()
            step.zero_grad()
            value.backward()
            step.step()
        yield states


def outputs_of(model: nn.Sequential, states: States) -> Tensor:
    """The outputs at the ten points with each of the states, shape (starts, 10, 2)."""
    return vmap(lambda state: functional_call(model, state, (ann.POINTS,)))(states)


def losses_of(model: nn.Sequential, states: States) -> Tensor:
    """The lecture's loss with each of the states, shape (starts,)."""

    def loss(state: States) -> Tensor:
        stateless = partial(functional_call, model, state)
        return ann.loss(stateless, ann.POINTS, ann.LABELS)  # type: ignore[arg-type]  # not a Module

    return vmap(loss)(states)


class Setting(NamedTuple):
    """A way to train, and its numbers of starts and steps."""

    name: str
    starts: int
    steps: int
    method: Callable[[list[nn.Sequential], list[int]], Iterator[States]]


SGD, ADAM = partial(optimizer, make=optim.SGD), partial(optimizer, make=optim.Adam)
LECTURE = partial(gradient_descent, lr=RATE)
SETTINGS = [
    Setting("gradient descent at 0.01 (the lecture)", STARTS, STEPS, LECTURE),
    Setting("gradient descent at 0.1", STARTS, 200_000, partial(gradient_descent, lr=0.1)),
    Setting("gradient descent at 1", STARTS, 50_000, partial(gradient_descent, lr=1.0)),
    Setting("gradient descent at 5", STARTS, 20_000, partial(gradient_descent, lr=5.0)),
    Setting("one point a step at 0.05 (Higham & Higham)", FEW, STEPS, partial(one_point, lr=0.05)),
    Setting("one point a step at 0.5", FEW, 200_000, partial(one_point, lr=0.5)),
    Setting("momentum 0.9 at 0.5", FEW, SLOW_STEPS, partial(SGD, lr=0.5, momentum=0.9)),
    Setting("Adam at 0.01", FEW, SLOW_STEPS, partial(ADAM, lr=0.01)),
    Setting("Adam at 0.1", FEW, SLOW_STEPS, partial(ADAM, lr=0.1)),
]


class History(NamedTuple):
    """Evaluations of some starts during training."""

    steps: np.ndarray  # (evals,), see `eval_steps`
    correct: np.ndarray  # (evals, starts, 10), which of the ten points are classified correctly
    losses: np.ndarray  # (evals, starts)

    @property
    def all_correct(self) -> np.ndarray:
        """Whether all ten points are classified correctly, shape (evals, starts)."""
        return np.asarray(self.correct.all(axis=2))


def eval_steps(steps: int) -> np.ndarray:
    """Numbers of steps to evaluate at: a thousandth of `steps`, then a hundredth to all of them.

    The latter are logarithmically spaced, about GROWTH apart, and a tenth is among them.
    """
    late = np.geomspace(max(1, steps // 100), steps, 1 + 2 * int(np.log(10) / GROWTH))
    return np.unique([max(1, steps // 1000), *np.round(late)]).astype(int)


def history(setting: Setting) -> History:
    """Trains the starts of a setting, and evaluates them on the way."""
    steps, correct, losses = eval_steps(setting.steps), [], []
    models = initial_models(setting.starts)
    states = setting.method(models, np.diff(steps, prepend=0).tolist())
    for state in tqdm(states, setting.name, len(steps), delay=2, leave=False, disable=None):
        with torch.no_grad():
            label = outputs_of(models[0], state).argmax(dim=2)
            correct.append((label == ann.LABELS.argmax(dim=1)).numpy())
            losses.append(losses_of(models[0], state).numpy())
    return History(steps, np.array(correct), np.array(losses))


def steps_until(seen: History, share: float) -> int | None:
    """The first evaluation by which a fraction of the starts has had all points correct once."""
    reached = np.maximum.accumulate(seen.all_correct, axis=0).mean(axis=1)  # (evals,)
    enough = np.flatnonzero(reached >= share)
    return int(seen.steps[enough[0]]) if len(enough) else None


def reached_by_half(counts: np.ndarray) -> np.ndarray:
    """The largest count that half of the starts reach or exceed; counts of shape (..., starts)."""
    return np.quantile(counts, 0.5, axis=-1, method="higher")


def names(points: np.ndarray) -> list[str]:
    """The coordinates of those points that are True in `points`, shape (10,)."""
    return [f"({x1:.1f}, {x2:.1f})" for x1, x2 in ann.POINTS[torch.from_numpy(points)].tolist()]


def failures(seen: History) -> list[dict]:
    """The starts that end with misclassified points, grouped by these, the largest group first."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for start in np.flatnonzero(~seen.all_correct[-1]).tolist():
        groups.setdefault(tuple(names(~seen.correct[-1, start])), []).append(start)
    return [
        {
            "wrong": list(wrong),
            "starts": len(starts),
            "seeds": starts[:SEEDS_SHOWN],
            "least_loss": float(seen.losses[-1, starts].min()),
            "largest_loss": float(seen.losses[-1, starts].max()),
        }
        for wrong, starts in sorted(groups.items(), key=lambda group: -len(group[1]))
    ]


def summary(setting: Setting, seen: History) -> dict:
    """A row of the page's table of settings."""
    return {
        "setting": setting.name,
        "steps": setting.steps,
        "starts": setting.starts,
        "reached": int(seen.all_correct.any(axis=0).sum()),
        "half": steps_until(seen, 0.5),
        "most": steps_until(seen, MOST),
    }


def plateau(seen: History) -> dict:
    """The lecture's setting after a thousandth, a hundredth, a tenth and all of its steps."""
    last = int(seen.steps[-1])
    places = np.searchsorted(seen.steps, [last // 1000, last // 100, last // 10, last])
    low, high = np.percentile(seen.losses, plotting.BAND, axis=1)
    early = seen.correct[places[2]]  # (starts, 10)
    wrong = dict(zip(names(np.full(10, True)), (~early).sum(axis=0).tolist()))
    mean = seen.losses.mean(axis=1)
    columns = zip(*(column[places].tolist() for column in (seen.steps, mean, low, high)))
    return {
        "final_share": float(seen.all_correct[-1].mean()),
        "loss": [dict(zip(("steps", "mean", "low", "high"), row)) for row in columns],
        "early": {
            "steps": int(seen.steps[places[2]]),
            "all_correct": int(early.all(axis=1).sum()),
            "half": int(reached_by_half(early.sum(axis=1))),
            "hardest": sorted(wrong.items(), key=lambda item: -item[1])[:3],
        },
        "failures": failures(seen),
    }


def draw(histories: list[History], losses: np.ndarray) -> dict[str, Figure]:
    """The figures by file name; `losses` are those of the lecture's setting with seed 0."""
    lecture, settings = histories[0], SETTINGS[:6]  # those without momentum and Adam
    correct = lecture.correct.sum(axis=2)  # (evals, starts)

    def marks(counts: np.ndarray) -> dict[int, str]:
        return plotting.milestones(lecture.steps[1:], counts[1:])

    return {
        "every_step.png": plotting.loss_curve(
            "Loss at every step, marked where more points are correct for good\n"
            f"Learning rate {RATE}, seed 0",
            losses,
            marks=marks(correct[:, 0]),
        ),
        "loss.png": plotting.lines(
            "Loss, marked where more points are correct for good in half of the starts\n"
            f"Learning rate {RATE}, seeds 0 to {correct.shape[1] - 1:,}",
            {
                "loss": {
                    f"mean of {correct.shape[1]:,} starts, 10-90 % of them": (
                        lecture.steps,
                        lecture.losses.T,
                    )
                }
            },
            scales=("linear", "log"),
            marks=marks(reached_by_half(correct)),
        ),
        "share.png": plotting.lines(
            "Starts that classify all ten points correctly\n"
            f"{STARTS:,} starts of gradient descent, {FEW:,} of one point a step",
            {
                "share of the starts in %": {
                    setting.name: (seen.steps, 100 * seen.all_correct.mean(axis=1))
                    for setting, seen in zip(settings, histories)
                }
            },
            scales=("log", "linear"),
        ),
    }


def measure(data_dir: Path) -> tuple[dict, dict[str, Figure]]:
    """The results, and the figures by file name."""
    histories = [history(setting) for setting in SETTINGS]
    rows = [summary(setting, seen) for setting, seen in zip(SETTINGS, histories)]
    (losses,) = train(initial_models(1), ann.loss, POINTS, LABELS, lr=RATE, steps=SETTINGS[0].steps)
    results = {"settings": rows, "growth": GROWTH, "most": MOST, "band": plotting.BAND}
    return results | plateau(histories[0]), draw(histories, losses)
