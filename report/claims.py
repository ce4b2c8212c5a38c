"""Compares the lecture's claims with what the runs computed, each with its tolerance.

`CLAIMS` has the claims, and `SETTINGS` the lecture's settings. `facts` collects what a run used and
computed, `judge` compares it with a claim, and `settings` with the lecture's settings.
"""

from report.runs import Run, short

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

AGREES, EXPLAINED, DIFFERS, MISSING = "agrees", "differs, explained", "differs", "not run"
SIGNS = {AGREES: "✓", EXPLAINED: "≠", DIFFERS: "✗", MISSING: "-"}

# The settings of the lecture, or of a run's own command, with the keys of `facts`.
INPUTS: dict[str, object] = {"low": 5.0, "high": 10.0, "noise": 0.2}
MNIST: dict[str, object] = {"dataset": "mnist", "hidden": 40}
AS_GIVEN: dict[str, object] = {"no_distort": False, "weight_decay": 0.0}
SETTINGS: dict[str, dict[str, object]] = {
    "linear_recovery": {"steps": 10_000, "lr": 0.01, **INPUTS, "raw": False},
    "linear_recovery_raw": {"samples": 10_000, "lr": 0.01, **INPUTS, "raw": True},
    "ann_revisited": {"steps": 1_000_000, "lr": 0.01, "train_data": "randn"},
    "mnist_mlp": {**MNIST, "train_images": 100, "steps": 100, "lr": 0.001},
    "mnist_all": {**MNIST, **AS_GIVEN, "train_images": 60_000, "steps": 18_760, "lr": 0.015},
}


@dataclass(frozen=True)
class Claim:
    """One line of the tables.

    Attributes:
        run: the name of the run that it is measured in.
        fact: what is measured, a key of `facts`.
        text: the label of the line.
        lecture: what the lecture says; "" if it says nothing.
        expected: the smallest and the largest number that agree, or the text that agrees.
        form: how the measured number is printed, a format specification.
        wording: a format string for the text around that number.
        note: an explanation.
        explained: the lecture's statement does not hold; `expected` does, and `note` says why.
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

    def printed(self, number: float) -> str:
        return f"{number:{self.form}}".replace("%", " %")

    @property
    def tolerance(self) -> str:
        """Which values agree, in words."""
        if isinstance(self.expected, str) or self.expected[0] == self.expected[1]:
            return "exactly"
        low, high = self.expected
        if low == -math.inf:
            return f"at most {self.printed(high)}"
        if high == math.inf:
            return f"at least {self.printed(low)}"
        return f"{self.printed(low)} to {self.printed(high)}"


@dataclass(frozen=True)
class Verdict:
    """A claim, the measured value as text, and the resulting mark."""

    claim: Claim
    measured: str
    mark: str


def exactly(number: float) -> tuple[float, float]:
    return number, number


def at_most(number: float) -> tuple[float, float]:
    return -math.inf, number


def at_least(number: float) -> tuple[float, float]:
    return number, math.inf


TRAIN_IMAGES = "the 100 training images, classified correctly"
TEST_IMAGES = "the 10,000 test images, classified correctly"

CLAIMS = (
    # The largest errors of the averaged W and b over 500 starts were 0.0095 and 0.11, that of the
    # last W over 2,000 starts was 0.085.
    Claim(
        "linear_recovery",
        "averaged_weight_error",
        "W, largest error of its ten entries, averaged iterate",
        "to recover",
        at_most(0.015),
        ".2g",
        note="The mean of the last half of the iterates. Inputs are centred before training, and "
        "the centre is folded back into b after it; without, the recipe diverges, see below.",
    ),
    Claim(
        "linear_recovery",
        "averaged_bias_error",
        "b, largest error of its two entries, averaged iterate",
        "to recover",
        at_most(0.15),
        ".2g",
        note="b is the value at x = 0, far from the inputs between 5 and 10, so even the "
        "least-squares solution is not much closer.",
    ),
    Claim(
        "linear_recovery",
        "last_weight_error",
        "W, largest error, last iterate",
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
        note="The noise alone contributes 2 · 0.2² = 0.08.",
    ),
    Claim(
        "linear_recovery_raw",
        "overflow",
        "the printed recipe: inputs 5 + 5u, not centred",
        "prints this recipe",
        (150, 400),
        wording="overflows at step {}",
        explained=True,
        note="The loss overflows at that step. A step multiplies the error along x by "
        "1 - 2η(|x|² + 1), where |x|² is 291 on average: at η = 0.01 about -5. Flux's own "
        "quickstart draws 5u, which converges.",
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
        "points_correct",
        "points classified correctly at the end",
        "plots as before",
        exactly(10),
        wording="{} of 10",
        note="One start in ten needs more than a million steps; the page shows one.",
    ),
    Claim("ann_revisited", "final_loss", "loss at the end", "", at_most(0.08), ".3g"),
    Claim("mnist_mlp", "labels", "the first five labels", "5, 0, 4, 1, 9", "5, 0, 4, 1, 9"),
    Claim("mnist_mlp", "first_five", "these five, classified correctly", "all", exactly(5)),
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
    Claim("mnist_mlp", "train_accuracy", TRAIN_IMAGES, "a random one is", at_least(0.99), ".1%"),
    Claim(
        "mnist_mlp",
        "test_accuracy",
        TEST_IMAGES,
        "",
        (0.62, 0.72),
        ".1%",
        note="Exercise 4. A hundred images are too few to learn all ways of writing the digits.",
    ),
    Claim(
        "mnist_all",
        "test_accuracy",
        TEST_IMAGES,
        "",
        at_least(0.975),
        ".1%",
        note="The same 31,810 parameters, trained on distorted copies of all 60,000 images. LeCun "
        "and others (1998) had 96.4 % with such copies, and 300 hidden units instead of 40.",
    ),
)


def facts(run: Run) -> dict[str, Any]:
    """What a run used and computed, with the keys that `SETTINGS` and `CLAIMS` use."""
    results = run.metrics["results"]
    found = run.metrics["config"] | results
    for estimate in ("averaged", "last"):
        for error in ("weight_error", "bias_error"):
            if estimate in results:
                found[f"{estimate}_{error}"] = results[estimate].get(error)
    if results.get("ended") == "diverged":
        found["overflow"] = results["steps"]  # the step whose loss is not finite, from 1
    elif "ended" in results:
        found["overflow"] = f"no: {results['ended']}"
    if run.losses is not None and len(run.losses):
        with np.errstate(over="ignore"):  # of a run that diverged
            found["last_losses"] = float(run.losses[-1000:].mean())
    if "first_five" in results:
        pairs = [(image["label"], image["prediction"]) for image in results["first_five"]]
        found["labels"] = ", ".join(str(label) for label, _ in pairs)
        found["first_five"] = sum(label == prediction for label, prediction in pairs)
    return found | _memory(run)


def _memory(run: Run) -> dict[str, Any]:
    """Parameters, layers and bytes of model.pt; Flux adds 64 bytes an array."""
    if run.model is None:
        return {}
    tensors = list(run.model.values())
    counts = [tensor.numel() for tensor in tensors]
    size = sum(tensor.nbytes + 64 for tensor in tensors)
    layers = [sum(counts[i : i + 2]) for i in range(0, len(counts), 2)]  # a matrix and a bias each
    return {
        "parameters": sum(counts),
        "arrays": len(tensors),
        "flux_bytes": size,
        "flux_kib": size / 1024,
        "layers": ", ".join(f"{count:,}" for count in layers),
    }


def differing(run: Run) -> list[str]:
    """The settings in which a run differs from the lecture, each as "lr 0.1 instead of 0.01"."""
    if run.state != "read":
        return []
    found = facts(run)
    return [
        f"{name} {short(found.get(name))} instead of {short(value)}"
        for name, value in SETTINGS[run.source.name].items()
        if found.get(name) != value and not (name == "steps" and found.get("ended") == "diverged")
    ]


def settings(run: Run) -> str:
    """One line about a run's settings; "" if there is no run."""
    if run.state != "read":
        return ""
    of_whom = "the lecture's settings" if run.source.needed else "the settings of its command"
    others = differing(run)
    return f"Not run with {of_whom}: {', '.join(others)}." if others else f"Run with {of_whom}."


def judge(claim: Claim, run: Run) -> Verdict:
    """Compares a claim with a run; a damaged run, or one without the number, differs."""
    if run.state == "missing":
        return Verdict(claim, "", MISSING)
    if run.state == "damaged":
        return Verdict(claim, "damaged", DIFFERS)
    value = facts(run).get(claim.fact)
    good = EXPLAINED if claim.explained else AGREES
    if value is None:
        return Verdict(claim, "not measured", DIFFERS)
    if isinstance(claim.expected, str) or isinstance(value, str):
        return Verdict(claim, str(value), good if value == claim.expected else DIFFERS)
    low, high = claim.expected
    mark = good if low <= value <= high else DIFFERS
    return Verdict(claim, claim.wording.format(claim.printed(value)), mark)


def verdicts(runs: dict[str, Run]) -> list[Verdict]:
    """All claims with their marks, in the lecture's order; `runs` by the names of their folders."""
    return [judge(claim, runs[claim.run]) for claim in CLAIMS]


def table(lines: list[Verdict]) -> str:
    """The claims as a table for a terminal, a line each."""
    rows = [("mark", "run", "claim", "the lecture", "here", "agrees if")]
    for line in lines:
        claim = line.claim
        lecture, measured = claim.lecture or "(not stated)", line.measured or "-"
        mark = f"{SIGNS[line.mark]} {line.mark}"
        rows.append((mark, claim.run, claim.text, lecture, measured, claim.tolerance))
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows
    )
