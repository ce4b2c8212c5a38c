"""The learning rate in the page: its edge, and what is said of 10,000 steps, made in NumPy."""

from lectures.linear_recovery import stable_lr_limit

import numpy as np
import pytest
import torch
from helpers import B_TRUE, W_TRUE, descend
from report_helpers import near

DRAW = """
const { uniform, normal } = randomNumbers(1);
const pairs = Array.from({ length: 10000 }, () => {
  const u = Array.from({ length: 5 }, uniform);
  return [...u, normal(), normal()];
});
return [pairs, Array.from({ length: 12 }, randomNumbers(2).uniform)];
"""
EDGES = {"printed": 0.0033, "centred": 0.077, "quickstart": 0.020}


class Recipe:
    """10,000 pairs as the page draws them, and the steps on them."""

    def __init__(self, reader, kind: str):
        pairs, start = map(np.array, reader(DRAW))
        self.x = 5 * pairs[:, :5] + (0 if kind == "quickstart" else 5)
        self.y = self.x @ W_TRUE.T + B_TRUE + 0.2 * pairs[:, 5:]
        self.centre = self.x.mean(axis=0) if kind == "centred" else np.zeros(5)
        self.x = self.x - self.centre
        self.start = start[:10].reshape(2, 5), start[10:]

    def steps(self, rate: float) -> tuple[np.ndarray, float, float]:
        """The losses, and the largest errors of W and b."""
        with np.errstate(all="ignore"):
            losses, weights, biases = descend(self.x, self.y, *self.start, rate)
            bias = biases[-1] - weights[-1] @ self.centre
        return losses, np.abs(weights[-1] - W_TRUE).max(), np.abs(bias - B_TRUE).max()


def shown_rate(reader) -> float:
    return 10 ** float(reader.value("rate"))  # in steps of 0.01 of the logarithm


@pytest.mark.parametrize("kind", EDGES)
def test_the_edges(reader, kind):
    reader.open(f"#inputs={kind}&eta=0.001")
    reader.wait(lambda: reader.text("rate-answer"))
    recipe = Recipe(reader, kind)
    edge = stable_lr_limit(torch.from_numpy(recipe.x))
    assert edge == pytest.approx(EDGES[kind], rel=0.03)
    assert float(reader.text("rate-edge-value")) == pytest.approx(edge, rel=0.006)
    z = np.column_stack([recipe.x, np.ones(10_000)])
    edge_of_all = 1 / np.linalg.eigvalsh(z.T @ z / len(z)).max()
    assert float(reader.text("rate-all-value")) == pytest.approx(edge_of_all, rel=0.006)
    place = "return Number(document.getElementById('rate-edge').style.getPropertyValue('--place'))"
    assert reader(place) == pytest.approx((np.log10(edge) + 4) / 4, abs=0.003)
    for factor, side in ((0.9, "below"), (1.1, "beyond")):
        reader.set("rate", np.log10(factor * edge))
        assert reader.text("rate-beyond") == f"This rate is {side} the edge."


def settles(losses: np.ndarray, *errors: float) -> str:
    return (
        f"It settles: the last 1,000 losses have the mean {losses[-1000:].mean():.3g}; "
        "W is within {:.2g} of the truth, b within {:.2g}.".format(*errors)
    )


def overflows(losses: np.ndarray, *errors: float) -> str:
    step = np.flatnonzero(~np.isfinite(losses))[0] + 1
    return f"It diverges: the loss overflows at step {step:,}."


def grows(losses: np.ndarray, *errors: float) -> str:
    means = np.array([losses[max(0, i - 99) : i + 1].mean() for i in range(len(losses))])
    step = np.flatnonzero(means <= losses[0])[-1] + 2
    return (
        f"It diverges: from step {step:,} on the mean loss stays above the first one; "
        f"after 10,000 steps it is {losses[-1000:].mean():.3g}."
    )


OUTCOMES = [
    ("printed", 0.001, settles),
    ("centred", 0.01, settles),
    ("quickstart", 0.01, settles),
    ("printed", 0.01, overflows),
    ("centred", 0.3, overflows),
    ("printed", 0.00347, grows),
]


@pytest.mark.parametrize("kind, rate, outcome", OUTCOMES)
def test_what_is_said_of_a_rate_and_drawn(reader, kind, rate, outcome):
    reader.open(f"#inputs={kind}&eta={rate}")
    found = Recipe(reader, kind).steps(shown_rate(reader))
    assert reader.text("rate-answer") == outcome(*found)
    begin, *_, end = reader.curve("rate-chart")[:-10]  # counted from the top
    assert (begin < end) == (outcome is settles)


def test_the_chart_has_a_line_at_the_noise(reader):
    reader.open("#inputs=centred&eta=0.001")
    chart = reader.canvas("rate-chart")
    top, bottom = 0.7 * reader.letter(), len(chart) - 2.4 * reader.letter()
    line = near(chart, reader.colour("--text")).sum(axis=1).argmax()
    most = Recipe(reader, "centred").steps(shown_rate(reader))[0].max()
    assert 1e4 < most < 1e5
    share = (np.log10(0.08) + 3) / 8  # of the height, from a loss of 1e-3 to 1e5
    assert line == pytest.approx(bottom - share * (bottom - top), abs=3)
