"""Exercise 2: the loss of the network at all steps; do we really need a million?"""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from tqdm import tqdm

from common import fused, plotting
from common.run import generator
from exercises import cores, figures, markdown
from lectures import ann_revisited as ann

STARTS, STEPS, RATE = 1_000, 1_000_000, 0.01
FEWER_STARTS = 200  # of the settings that are not gradient descent
PLAIN_STEPS = (
    5_000  # of PyTorch's optimizers, slow ones: twice what those need that get MOST starts there
)
GROWTH = 0.05  # of the number of steps, from one look at the points to the next
MOST = 0.9  # of the starts: the share that is asked for
SHOWN = 5  # seeds of those starts that end alike


def networks(starts: int) -> list[nn.Sequential]:
    """The lecture's networks before training: start k is that of ``lectures/ann_revisited.py --seed k``."""
    return [ann.random_model(generator(seed, "model")) for seed in range(starts)]


class Together(nn.Module):
    """Networks alike in their layers as one module: for points of shape (n, 2) its output is (starts, n, 2).

    The lecture's loss of it is the sum of the networks' losses, so its gradient by a network's weights is that
    network's own. The weights lie in one place: who trains the networks trains this module, too.
    """

    def __init__(self, models: list[nn.Sequential]):
        super().__init__()
        self.kinds = [type(module) for module in models[0]]
        columns = [
            *zip(*(model.parameters() for model in models))
        ]  # for each parameter those of all starts
        self.weights = nn.ParameterList(torch.stack(column).detach() for column in columns)
        for column, stacked in zip(columns, self.weights):
            for parameter, part in zip(column, stacked.detach()):
                parameter.data = part

    def forward(self, x: Tensor) -> Tensor:
        weights = iter(self.weights)
        for kind in self.kinds:
            if kind is nn.Linear:
                weight, bias = (
                    next(weights),
                    next(weights),
                )  # (starts, outputs, inputs), (starts, outputs)
                x = x @ weight.mT + bias.unsqueeze(1)
            else:
                x = kind()(x)
        return x


class Training(Protocol):
    """A way to train many starts of the network."""

    together: Together  # the networks as they are

    def advance(self, count: int) -> None:
        """Makes `count` more steps of every start."""


class GradientDescent:
    """Steps on all ten points, as the lecture's."""

    def __init__(self, starts: int, rate: float):
        self.models, self.rate = networks(starts), rate
        self.together = Together(self.models)

    def advance(self, count: int) -> None:
        fused.train_sgd(
            self.models,
            ann.POINTS[None],
            ann.LABELS[None],
            learning_rate=self.rate,
            steps=count,
            scale=0.5 / 10,
        )


class OnePoint:
    """Higham & Higham's stochastic gradient: each step is on one point drawn at random, with the loss 1/2 ||y - M||^2.

    All starts are handed the same points in the same order, and differ in their weights alone.
    """

    def __init__(self, starts: int, rate: float):
        self.models, self.rate = networks(starts), rate
        self.together = Together(self.models)
        self.draws = generator(0, "points")

    def advance(self, count: int) -> None:
        points = torch.randint(
            len(ann.POINTS), (count, 1), generator=self.draws
        )  # (steps, points a step)
        fused.train_sgd(
            self.models,
            ann.POINTS[points],
            ann.LABELS[points],
            learning_rate=self.rate,
            steps=count,
            scale=0.5,
        )


class Optimizer:
    """Steps on all ten points by an optimizer of PyTorch, in the lecture's plain loop.

    These optimizers work on each number alone, so that all starts can be one model.
    """

    def __init__(self, starts: int, make: Callable[..., torch.optim.Optimizer], **settings: float):
        self.together = Together(networks(starts))
        self.optimizer = make(self.together.parameters(), **settings)

    def advance(self, count: int) -> None:
        pairs = itertools.repeat((ann.POINTS, ann.LABELS), count)
        ann.train(self.together, self.optimizer, enumerate(pairs), np.empty(count))


class Setting(NamedTuple):
    """A setting, and what is tried of it."""

    name: str
    starts: int
    steps: int
    training: Callable[..., Training]  # of so many starts, with the options
    options: dict[str, Any]


SETTINGS = [
    Setting(
        f"gradient descent at {RATE} (the lecture)", STARTS, STEPS, GradientDescent, {"rate": RATE}
    ),
    Setting("gradient descent at 0.1", STARTS, 200_000, GradientDescent, {"rate": 0.1}),
    Setting("gradient descent at 1", STARTS, 50_000, GradientDescent, {"rate": 1.0}),
    Setting("gradient descent at 5", STARTS, 20_000, GradientDescent, {"rate": 5.0}),
    Setting(
        "one point a step at 0.05 (Higham & Higham)", FEWER_STARTS, STEPS, OnePoint, {"rate": 0.05}
    ),
    Setting("one point a step at 0.5", FEWER_STARTS, 200_000, OnePoint, {"rate": 0.5}),
    Setting(
        "momentum 0.9 at 0.5",
        FEWER_STARTS,
        PLAIN_STEPS,
        Optimizer,
        {"make": torch.optim.SGD, "lr": 0.5, "momentum": 0.9},
    ),
    Setting(
        "Adam at 0.01", FEWER_STARTS, PLAIN_STEPS, Optimizer, {"make": torch.optim.Adam, "lr": 0.01}
    ),
    Setting(
        "Adam at 0.1", FEWER_STARTS, PLAIN_STEPS, Optimizer, {"make": torch.optim.Adam, "lr": 0.1}
    ),
]


class Course(NamedTuple):
    """What was seen of some starts while they were trained."""

    steps: np.ndarray  # (looks,), how many were made before each look
    right: np.ndarray  # (looks, starts, 10), which of the points
    losses: np.ndarray  # (looks, starts)


def looks(steps: int) -> np.ndarray:
    """The numbers of steps after which the networks are looked at: a thousandth of them, and from a hundredth on evenly
    in their logarithms, by about GROWTH; a tenth is among them."""
    late = np.geomspace(max(1, steps // 100), steps, 1 + 2 * int(np.log(10) / GROWTH))
    return np.unique([max(1, steps // 1000), *np.round(late)]).astype(int)


def follow(setting: Setting, bar: tqdm) -> Course:
    """Trains the starts of a setting, and looks at them on the way."""
    training, made, right, losses = setting.training(setting.starts, **setting.options), 0, [], []
    together = training.together
    for count in looks(setting.steps).tolist():
        training.advance(count - made)
        bar.update((count - made) * setting.starts)
        made = count
        right.append(ann.points_correct(together).numpy())
        with torch.no_grad():
            losses.append(
                (0.5 / 10 * ((together(ann.POINTS) - ann.LABELS) ** 2).sum(dim=(1, 2))).numpy()
            )
    return Course(looks(setting.steps), np.array(right), np.array(losses))


def until(course: Course, share: float) -> int | None:
    """The first look by which that share of the starts has had all ten points right, at it or before."""
    reached = np.maximum.accumulate(course.right.all(axis=2), axis=0).mean(axis=1)  # (looks,)
    enough = np.flatnonzero(reached >= share)
    return int(course.steps[enough[0]]) if len(enough) else None


def at_least(counts: np.ndarray) -> np.ndarray:
    """How many points half of the starts have right, or more; for `counts` of shape (..., starts)."""
    return np.quantile(counts, 0.5, axis=-1, method="higher")


def names(points: np.ndarray) -> list[str]:
    """The points, of those chosen by `points`, shape (10,) of bool, as they are written."""
    return [f"({x1:.1f}, {x2:.1f})" for x1, x2 in ann.POINTS[torch.from_numpy(points)].tolist()]


def stuck(course: Course) -> list[dict]:
    """The starts that do not end with all points right, by what they have wrong, the most frequent first."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for start in np.flatnonzero(~course.right[-1].all(axis=1)).tolist():
        groups.setdefault(tuple(names(~course.right[-1, start])), []).append(start)
    return [
        {
            "wrong": list(wrong),
            "starts": len(starts),
            "seeds": starts[:SHOWN],
            "losses": [
                float(course.losses[-1, starts].min()),
                float(course.losses[-1, starts].max()),
            ],
        }
        for wrong, starts in sorted(groups.items(), key=lambda group: -len(group[1]))
    ]


def of_the_lecture(course: Course) -> dict:
    """What the lecture's own setting shows."""
    last = int(course.steps[-1])
    tenths = [int(np.searchsorted(course.steps, last // tenth)) for tenth in (1000, 100, 10, 1)]
    early = course.right[tenths[-2]]  # (starts, 10)
    return {
        "all_right_at_the_end": float(course.right[-1].all(axis=1).mean()),
        "steps_to_most": until(course, MOST),
        "band": figures.BAND,
        "loss": [
            {
                "steps": int(course.steps[look]),
                "mean": float(course.losses[look].mean()),
                **dict(
                    zip(("low", "high"), np.percentile(course.losses[look], figures.BAND).tolist())
                ),
            }
            for look in tenths
        ],
        "early": {
            "steps": int(course.steps[tenths[-2]]),
            "all_right": int(early.all(axis=1).sum()),
            "half": int(at_least(early.sum(axis=1))),
            "wrong": [
                {"point": name, "starts": int(count)}
                for name, count in zip(names(np.full(10, True)), (~early).sum(axis=0))
            ],
        },
        "stuck": stuck(course),
    }


def draw(courses: list[Course], losses: np.ndarray) -> dict[str, Figure]:
    """The figures by file name: of the settings' courses, the first the lecture's, and of its losses with seed 0."""
    lecture, settings = courses[0], SETTINGS[:6]
    right = lecture.right.sum(axis=2)  # (looks, starts)
    return {
        "every_step.png": plotting.loss_curve(
            losses,
            marks=plotting.milestones(lecture.steps, right[:, 0]),
            title=f"Loss at every step, and from when on how many points are right\nLearning rate {RATE}, seed 0",
        ),
        "loss.png": figures.loss_bands(
            lecture.steps,
            lecture.losses.T,
            marks=plotting.milestones(lecture.steps, at_least(right)),
            title="Loss, and from when on how many points half of the starts have right\n"
            f"Learning rate {RATE}, seeds 0 to {right.shape[1] - 1:,}",
        ),
        "share.png": figures.lines(
            {
                setting.name: (course.steps, 100 * course.right.all(axis=2).mean(axis=1))
                for setting, course in zip(settings, courses)
            },
            title=f"Starts that have all ten points right\nSeeds from 0 on: {STARTS:,} starts of gradient descent, "
            f"{FEWER_STARTS:,} of one point a step",
            xlabel="steps",
            ylabel="share of the starts in %",
            scales=("log", "linear"),
            ylim=(-3, 103),
        ),
    }


def measure(data_dir: Path) -> tuple[dict, dict[str, Figure]]:
    """The results, and the figures by file name."""
    with cores.bar(
        sum(setting.starts * setting.steps for setting in SETTINGS), "steps", "all starts"
    ) as bar:
        courses = cores.spread(follow, SETTINGS, itertools.repeat(bar))
    rows = [
        {
            "setting": setting.name,
            "steps": setting.steps,
            "starts": setting.starts,
            "reached": int(course.right.all(axis=2).any(axis=0).sum()),
            "half": until(course, 0.5),
            "most": until(course, MOST),
        }
        for setting, course in zip(SETTINGS, courses)
    ]
    (first,) = networks(1)
    losses = fused.train_sgd(
        first,
        ann.POINTS[None],
        ann.LABELS[None],
        learning_rate=RATE,
        steps=SETTINGS[0].steps,
        scale=0.5 / 10,
    )
    return {"settings": rows, "growth": GROWTH, "share": MOST} | of_the_lecture(courses[0]), draw(
        courses, losses
    )


def text(results: dict) -> str:
    """The section of the page."""
    lecture, share = results["settings"][0], f"{100 * results['share']:g} %"
    starts, given = lecture["starts"], lecture["steps"]
    most = results["steps_to_most"]
    begin = (
        f"it takes {most:,} steps until {share} of {starts:,} starts have all ten points right"
        if most
        else f"{given:,} steps do not suffice for {share} of {starts:,} starts to have all ten points right"
    )
    quick = min(
        (row for row in results["settings"] if row["most"]),
        key=lambda row: row["most"],
        default=lecture,
    )
    fewer = (
        ""
        if quick is lecture
        else (
            f"With another setting far fewer do: {quick['setting']} has half of {quick['starts']:,} starts there after "
            f"{markdown.steps(quick['half'], quick['steps'])} steps and {share} after {quick['most']:,}."
        )
    )
    early, (low, high) = results["early"], results["band"]
    hardest = sorted(early["wrong"], key=lambda point: -point["starts"])[:3]
    losses = [
        [f"{row['steps']:,}", *(f"{row[key]:.3g}" for key in ("mean", "low", "high"))]
        for row in results["loss"]
    ]
    ends = [
        [
            ", ".join(group["wrong"]),
            f"{group['starts']:,}",
            *(f"{loss:.3g}" for loss in group["losses"]),
            ", ".join(map(str, group["seeds"])),
        ]
        for group in results["stuck"]
    ]
    rows = [
        [
            row["setting"],
            f"{row['steps']:,}",
            f"{row['reached']:,} of {row['starts']:,}",
            markdown.steps(row["half"], row["steps"]),
            markdown.steps(row["most"], row["steps"]),
        ]
        for row in results["settings"]
    ]
    return f"""## 2. Do we need a million data points?

They are {given:,} steps on the same ten points. With the lecture's learning rate {begin}; at the end
{100 * results["all_right_at_the_end"]:.1f} % have. {fewer}

Start k is the network that `python lectures/ann_revisited.py --seed k` starts from. The loss of the first one, at all
steps:

![The loss of one start at every step](figures/exercise_2_every_step.png)

and of all {starts:,}:

![The mean loss of all starts](figures/exercise_2_loss.png)

{markdown.table(["steps", "mean loss", f"{low} % of the starts are below", f"{100 - high} % are above"], losses)}

**The plateau.** After {early["steps"]:,} steps {early["all_right"]:,} of {starts:,} starts have all ten points right,
half of them have at least {early["half"]:g}. The points that most starts have wrong then are
{", ".join(f"{point['point']} (wrong in {point['starts']:,} starts)" for point in hardest)}.
What is still wrong after {given:,}:

{markdown.table(["points wrong", "starts", "least loss", "largest loss", "such as seeds"], ends)}

**Steps to ten out of ten** (looked at each time the steps have grown by {100 * results["growth"]:.0f} %; settings
other than gradient descent are tried on fewer starts, and PyTorch's own optimizers, whose steps take longest, for
fewer steps):

![The share of the starts with all points right](figures/exercise_2_share.png)

{markdown.table(["setting, learning rate", "steps given", "reach ten of ten", "half by", f"{share} by"], rows)}
"""
