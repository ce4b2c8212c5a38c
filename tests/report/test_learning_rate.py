"""The learning rate in the page: its edge, and what is said of 10,000 steps, made in NumPy."""

from lectures.linear_recovery import stable_lr_limit

import re

import numpy as np
import pytest
import torch
from helpers import B_TRUE, W_TRUE, descend

DRAW = """
const { uniform, normal } = randomNumbers(1);
const pairs = Array.from({ length: 10000 }, () => {
  const u = Array.from({ length: 5 }, uniform);
  return [...u, normal(), normal()];
});
const start = randomNumbers(2).uniform;
return [pairs, Array.from({ length: 12 }, start)];
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
        self.edge = stable_lr_limit(torch.from_numpy(self.x))
        self.start = start[:10].reshape(2, 5), start[10:]

    def steps(self, rate: float) -> tuple[np.ndarray, float, float]:
        """The losses up to the first that is not finite, and the largest errors of W and b."""
        with np.errstate(all="ignore"):
            losses, weights, biases = descend(self.x, self.y, *self.start, rate)
            bias = biases[-1] - weights[-1] @ self.centre
        last = np.flatnonzero(~np.isfinite(losses))[:1]
        losses = losses[: last[0] + 1] if len(last) else losses
        return losses, np.abs(weights[-1] - W_TRUE).max(), np.abs(bias - B_TRUE).max()


def shown_rate(reader) -> float:
    return 10 ** float(reader.value("rate"))  # in steps of 0.01 of the logarithm


@pytest.mark.parametrize("kind", EDGES)
def test_the_edges(reader, kind):
    reader.open(f"#inputs={kind}&eta=0.001")
    reader.wait(lambda: reader.text("rate-answer"))
    recipe = Recipe(reader, kind)
    assert recipe.edge == pytest.approx(EDGES[kind], rel=0.03)
    assert float(reader.text("rate-edge-value")) == pytest.approx(recipe.edge, rel=0.006)
    z = np.column_stack([recipe.x, np.ones(10_000)])
    edge_of_all = 1 / np.linalg.eigvalsh(z.T @ z / len(z)).max()
    assert float(reader.text("rate-all-value")) == pytest.approx(edge_of_all, rel=0.006)
    place = "return Number(document.getElementById('rate-edge').style.getPropertyValue('--place'))"
    assert reader(place) == pytest.approx((np.log10(recipe.edge) + 4) / 4, abs=0.003)
    for factor, side, answer in (
        (0.9, "below", ""),
        (1.1, "beyond", ""),
        (0.5, "below", "It settles"),
        (1.5, "beyond", "It diverges"),
    ):
        reader.set("rate", np.log10(factor * recipe.edge))
        assert reader.text("rate-beyond") == f"This rate is {side} the edge."
        assert reader.text("rate-answer").startswith(answer)


@pytest.mark.parametrize(
    "kind, rate", [("printed", 0.001), ("centred", 0.01), ("quickstart", 0.01)]
)
def test_what_is_said_of_a_rate_that_settles(reader, kind, rate):
    reader.open(f"#inputs={kind}&eta={rate}")
    losses, *errors = Recipe(reader, kind).steps(rate)
    number = r"([0-9.]+)"
    said = re.fullmatch(
        rf"It settles: the last 1,000 losses have the mean {number}; "
        rf"W is within {number} of the truth, b within {number}\.",
        reader.text("rate-answer"),
    )
    expected = [losses[-1000:].mean(), *errors]
    assert [float(number) for number in said.groups()] == pytest.approx(expected, rel=0.06)


@pytest.mark.parametrize("kind, rate", [("printed", 0.01), ("centred", 0.3)])
def test_the_step_at_which_the_loss_overflows(reader, kind, rate):
    reader.open(f"#inputs={kind}&eta={rate}")
    step = len(Recipe(reader, kind).steps(shown_rate(reader))[0])
    assert reader.text("rate-answer") == f"It diverges: the loss overflows at step {step:,}."


def test_a_rate_that_diverges_slowly_names_the_step(reader):
    reader.open("#inputs=printed&eta=0.00347")
    losses, *_ = Recipe(reader, "printed").steps(shown_rate(reader))
    means = np.array([losses[max(0, i - 99) : i + 1].mean() for i in range(len(losses))])
    since = np.flatnonzero(means <= losses[0])[-1] + 2
    said = re.fullmatch(
        r"It diverges: from step (\d+) on the mean loss stays above the first one; "
        r"after 10,000 steps it is (\S+)\.",
        reader.text("rate-answer"),
    )
    assert int(said[1]) == since
    assert float(said[2]) == pytest.approx(losses[-1000:].mean(), rel=0.01)


@pytest.mark.parametrize("rate, falls", [(0.001, True), (0.3, False)])
def test_the_chart_falls_where_it_settles_and_rises_where_it_diverges(reader, rate, falls):
    reader.open(f"#inputs=centred&eta={rate}")
    begin, *_, end = reader.curve("rate-chart")[: None if falls else -10]
    assert (begin < end) == falls  # counted from the top


def test_the_chart_has_a_line_at_the_noise(reader):
    reader.open("#inputs=centred&eta=0.001")
    chart = reader.canvas("rate-chart").astype(int)
    top, bottom = 0.7 * reader.letter(), len(chart) - 2.4 * reader.letter()
    dark = np.abs(chart - reader.colour("--text")).max(axis=2) < 12
    line = dark.sum(axis=1).argmax()
    most = Recipe(reader, "centred").steps(shown_rate(reader))[0].max()
    assert 1e4 < most < 1e5
    share = (np.log10(0.08) + 3) / 8  # of the height, from a loss of 1e-3 to 1e5
    assert line == pytest.approx(bottom - share * (bottom - top), abs=3)
