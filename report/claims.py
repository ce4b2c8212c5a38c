"""The lecture's claims beside what a run measured: which numbers, from where, and how far they may be apart.

The claims themselves are the table `CLAIMS`; `facts` says what a run measured, `judge` sets the two side by side.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lectures.linear_recovery import B_TRUE, W_TRUE
from report.runs import Run, short

AGREES, EXPLAINED, DIFFERS, MISSING = "agrees", "differs, explained", "differs", "not run"
SIGNS = {AGREES: "✓", EXPLAINED: "≠", DIFFERS: "✗", MISSING: "-"}
OVER = math.inf


@dataclass(frozen=True)
class Claim:
    """One line of the tables.

    Attributes:
        run: the folder that it is measured in.
        fact: what is measured, a key of `facts`.
        text: what the line is about.
        lecture: what the lecture says; "" where it says nothing.
        expected: the numbers from the first to the second agree, both included; or the text that agrees.
        form: how the measured number is printed. wording: what stands around it.
        note: what to know about it.
        explained: the lecture's statement does not hold, `note` says why, and `expected` is what holds instead.
        hint: what a measured value that differs is likely to come from.
    """

    run: str
    fact: str
    text: str
    lecture: str
    expected: tuple[float, float] | str
    form: str = ",.10g"
    wording: str = "{}"
    note: str = ""
    explained: bool = False
    hint: str = ""

    def printed(self, number: float) -> str:
        return f"{number:{self.form}}".replace("%", " %")

    @property
    def tolerance(self) -> str:
        """Which values agree, in words."""
        if isinstance(self.expected, str):
            return "exactly"
        low, high = self.expected
        if low == high:
            return "exactly"
        if low == -OVER:
            return f"at most {self.printed(high)}"
        return (
            f"at least {self.printed(low)}"
            if high == OVER
            else f"{self.printed(low)} to {self.printed(high)}"
        )


@dataclass(frozen=True)
class Verdict:
    """A claim with what was measured, as a text, and the mark that it gets."""

    claim: Claim
    measured: str
    mark: str

    @property
    def sign(self) -> str:
        return SIGNS[self.mark]


def exactly(number: float) -> tuple[float, float]:
    return number, number


def at_most(number: float) -> tuple[float, float]:
    return -OVER, number


def at_least(number: float) -> tuple[float, float]:
    return number, OVER


_OTHER_SETTINGS = "The run was made with other settings than the lecture's, or was interrupted."
_PLATEAU = (
    "Some starts stay on a plateau with nine or fewer right for a million steps: see the page, or try another "
    "--seed."
)

CLAIMS = (
    # Over 500 starts the averaged W was within 0.0095 and b within 0.11; over 2,000 the last iterate's W within 0.085.
    Claim(
        "linear_recovery",
        "steps",
        "pairs (x, y), one gradient step each",
        "10,000",
        exactly(10_000),
        hint=_OTHER_SETTINGS,
    ),
    Claim(
        "linear_recovery",
        "lr",
        "learning rate of gradient descent",
        "0.01",
        exactly(0.01),
        hint=_OTHER_SETTINGS,
    ),
    Claim(
        "linear_recovery",
        "inputs",
        "inputs and noise",
        "5 to 10, noise 0.2",
        "5 to 10, noise 0.2",
        hint=_OTHER_SETTINGS,
    ),
    Claim(
        "linear_recovery",
        "weight_error",
        "W, largest error of its ten entries",
        "to recover",
        at_most(0.015),
        ".2g",
        note="The mean of the last half of the iterates. Inputs are centred before training, and the centre is "
        "folded back into b after it: without that the printed recipe diverges, see below.",
        hint=_OTHER_SETTINGS,
    ),
    Claim(
        "linear_recovery",
        "bias_error",
        "b, largest error of its two entries",
        "to recover",
        at_most(0.15),
        ".2g",
        note="b is the value at x = 0, far from the inputs between 5 and 10; least squares is not much nearer.",
    ),
    Claim(
        "linear_recovery",
        "last_weight_error",
        "W, largest error of the last iterate",
        "to recover",
        at_most(0.12),
        ".2g",
        note="A step on one pair follows that pair's noise too, so that the iterates keep jumping.",
    ),
    Claim(
        "linear_recovery",
        "last_losses",
        "mean of the last 1,000 losses",
        "",
        (0.06, 0.12),
        ".3g",
        note="The noise alone makes 2 · 0.2² = 0.08.",
    ),
    Claim(
        "linear_recovery_raw",
        "overflow",
        "the printed recipe: inputs 5 + 5u as they are",
        "prints this recipe",
        (150, 400),
        wording="overflows at step {}",
        explained=True,
        note="The loss overflows at that step. A step multiplies the error along x by 1 - 2η(|x|² + 1), where |x|² "
        "is 291 on average: at η = 0.01 about -5. Flux's own quickstart draws 5u, which converges.",
    ),
    Claim("ann_revisited", "parameters", "parameters of the network", "23", exactly(23)),
    Claim("ann_revisited", "layers", "parameters of its layers", "6, 9, 8", "6, 9, 8"),
    Claim("ann_revisited", "arrays", "arrays that hold them", "6", exactly(6)),
    Claim(
        "ann_revisited",
        "flux_bytes",
        "memory",
        "568 bytes",
        exactly(568),
        wording="{} bytes",
        note="Flux counts 64 bytes an array besides the numbers: 23 · 8 + 6 · 64.",
    ),
    Claim(
        "ann_revisited",
        "steps",
        "“data points”, one gradient step each",
        "1,000,000",
        exactly(1_000_000),
        note="The lecture's loss never looks at the points it is handed: every step is one on the same ten points.",
        hint=_OTHER_SETTINGS,
    ),
    Claim(
        "ann_revisited",
        "lr",
        "learning rate of gradient descent",
        "0.01",
        exactly(0.01),
        hint=_OTHER_SETTINGS,
    ),
    Claim(
        "ann_revisited",
        "points_correct",
        "of the ten points, right at the end",
        "plots as before",
        exactly(10),
        wording="{} of 10",
        hint=_PLATEAU,
    ),
    Claim(
        "ann_revisited", "final_loss", "loss at the end", "", at_most(0.08), ".3g", hint=_PLATEAU
    ),
    Claim(
        "mnist_mlp",
        "dataset",
        "data set",
        "mnist",
        "mnist",
        hint="The network was trained on other images, perhaps because MNIST could not be downloaded.",
    ),
    Claim(
        "mnist_mlp", "labels", "labels of the first five images", "5, 0, 4, 1, 9", "5, 0, 4, 1, 9"
    ),
    Claim("mnist_mlp", "parameters", "parameters of the network", "31,810", exactly(31_810)),
    Claim("mnist_mlp", "layers", "parameters of its layers", "31,400, 410", "31,400, 410"),
    Claim(
        "mnist_mlp",
        "flux_kib",
        "memory",
        "124.508 KiB",
        exactly(127_496 / 1024),
        ".3f",
        "{} KiB",
        note="31,810 · 4 + 4 · 64 bytes.",
    ),
    Claim(
        "mnist_mlp", "train_images", "images to train on", "100", exactly(100), hint=_OTHER_SETTINGS
    ),
    Claim("mnist_mlp", "steps", "epochs, one step each", "100", exactly(100), hint=_OTHER_SETTINGS),
    Claim(
        "mnist_mlp",
        "lr",
        "learning rate of Adam",
        "Adam()",
        exactly(0.001),
        note="0.001 is Flux's default.",
        hint=_OTHER_SETTINGS,
    ),
    Claim(
        "mnist_mlp",
        "first_five",
        "of the first five images, right",
        "all",
        exactly(5),
        wording="{} of 5",
    ),
    Claim(
        "mnist_mlp",
        "train_accuracy",
        "of the 100 images, right",
        "a random one is",
        at_least(0.99),
        ".1%",
    ),
    Claim(
        "mnist_mlp",
        "test_accuracy",
        "of 10,000 images never seen, right",
        "",
        (0.62, 0.72),
        ".1%",
        note="Exercise 4. A hundred images are too few to learn all the ways of writing ten digits.",
        hint=_OTHER_SETTINGS,
    ),
    Claim("mnist_mlp_all", "train_images", "images to train on", "", exactly(60_000)),
    Claim(
        "mnist_mlp_all",
        "test_accuracy",
        "of 10,000 images never seen, right",
        "",
        at_least(0.975),
        ".1%",
        note="The same 31,810 parameters, trained on distorted copies of the images. LeCun and others (1998) had "
        "96.4 % with such copies, and 300 hidden units instead of 40.",
    ),
)


def facts(run: Run) -> dict[str, Any]:
    """What a run measured, by the names that `CLAIMS` use; what cannot be found in its files is not there."""
    found = {
        name: value for part in ("config", "results") for name, value in run.metrics[part].items()
    }
    for derive in (_inputs, _errors, _overflow, _last_losses, _memory, _first_five):
        try:
            found |= derive(run)
        except (
            KeyError,
            TypeError,
            ValueError,
            RuntimeError,
            OverflowError,
        ):  # it is not there, or is nonsense
            continue
    return found


def _inputs(run: Run) -> dict[str, str]:
    """Where the pairs' inputs lay, and the deviation of the noise."""
    config = run.metrics["config"]
    return {
        "inputs": f"{short(config['low'])} to {short(config['high'])}, noise {short(config['noise'])}"
    }


def _errors(run: Run) -> dict[str, float]:
    """The largest errors of W and b: of the averaged iterate and of the last."""
    results = run.metrics["results"]

    def largest(name: str, true: Tensor) -> float:
        return (torch.tensor(results[name], dtype=torch.float64) - true).abs().max().item()

    return {
        "weight_error": largest("weight_average", W_TRUE),
        "bias_error": largest("bias_average", B_TRUE),
        "last_weight_error": largest("weight", W_TRUE),
    }


def _overflow(run: Run) -> dict[str, int | str]:
    """The step, counted from 1, at which the loss was not finite any more."""
    results = run.metrics["results"]
    return {
        "overflow": results["steps"] + 1
        if results["ended"] == "diverged"
        else f"no: {short(results['ended'])}"
    }


def _last_losses(run: Run) -> dict[str, float]:
    if run.losses is None or not len(run.losses):
        return {}
    with np.errstate(all="ignore"):
        return {"last_losses": float(np.mean(run.losses[-1000:]))}


def _memory(run: Run) -> dict[str, Any]:
    """Parameters, layers and bytes of model.pt; Flux counts 64 bytes for each array besides its numbers."""
    if run.model is None:
        return {}
    tensors = list(run.model.values())
    counts = [tensor.numel() for tensor in tensors]
    size = sum(tensor.numel() * tensor.element_size() + 64 for tensor in tensors)
    layers = [sum(counts[i : i + 2]) for i in range(0, len(counts), 2)]  # a matrix and a bias each
    return {
        "parameters": sum(counts),
        "arrays": len(tensors),
        "flux_bytes": size,
        "flux_kib": size / 1024,
        "layers": ", ".join(f"{count:,}" for count in layers),
    }


def _first_five(run: Run) -> dict[str, Any]:
    pairs = [
        (item["label"], item["prediction"]) for item in run.metrics["results"]["first_five"][:5]
    ]
    return {
        "labels": ", ".join(str(label) for label, _ in pairs),
        "first_five": sum(label == prediction for label, prediction in pairs),
    }


def judge(claim: Claim, run: Run) -> Verdict:
    """A claim's line. A run that is damaged, or lacks the number, differs."""
    if run.state == "missing":
        return Verdict(claim, "", MISSING)
    if run.state == "damaged":
        return Verdict(claim, "damaged", DIFFERS)
    value = facts(run).get(claim.fact)
    good = AGREES if not claim.explained else EXPLAINED
    if isinstance(claim.expected, str):
        text = short(value) if value is not None else "not measured"
        return Verdict(claim, text, good if value == claim.expected else DIFFERS)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return Verdict(claim, "not measured" if value is None else short(value), DIFFERS)
    if abs(value) > 1e300:  # a whole number of JSON can have any length
        return Verdict(claim, "more than 1e300", DIFFERS)
    low, high = claim.expected
    return Verdict(
        claim, claim.wording.format(claim.printed(value)), good if low <= value <= high else DIFFERS
    )


def verdicts(runs: dict[str, Run]) -> list[Verdict]:
    """All claims with their marks, in the lecture's order; `runs` by the names of their folders."""
    return [judge(claim, runs[claim.run]) for claim in CLAIMS]


def table(lines: list[Verdict]) -> str:
    """The claims as a table for a terminal, a line each."""
    columns: list[Callable[[Verdict], str]] = [
        lambda v: f"{v.sign} {v.mark}",
        lambda v: v.claim.run,
        lambda v: v.claim.text,
        lambda v: v.claim.lecture or "(not stated)",
        lambda v: v.measured or "-",
        lambda v: v.claim.tolerance,
    ]
    rows = [
        ["mark", "run", "claim", "the lecture", "here", "agrees if"],
        *([c(v) for c in columns] for v in lines),
    ]
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows
    )
