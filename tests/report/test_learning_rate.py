"""The learning rate in the page: its edge, and what is said of 10,000 steps, made in NumPy."""

from lectures.linear_recovery import B_TRUE, W_TRUE

import re

import numpy as np
import pytest

DRAW = """
const { uniform, normal } = randomNumbers(1);
const pairs = Array.from({ length: 10000 }, () => {
  const u = Array.from({ length: 5 }, uniform);
  return [...u, normal(), normal()];
});
const start = randomNumbers(2).uniform;
return [pairs, Array.from({ length: 12 }, start)];
"""
KINDS = ("printed", "centred", "quickstart")


class Recipe:
    """10,000 pairs as the page draws them, and the steps on them."""

    def __init__(self, reader, kind: str):
        pairs, start = reader(DRAW)
        self.x = 5 * np.array(pairs)[:, :5] + (0 if kind == "quickstart" else 5)
        self.y = self.x @ W_TRUE.numpy().T + B_TRUE.numpy() + 0.2 * np.array(pairs)[:, 5:]
        self.centre = self.x.mean(axis=0) if kind == "centred" else np.zeros(5)
        self.x = self.x - self.centre
        self.start = np.reshape(start[:10], (2, 5)), np.array(start[10:])

    def steps(self, rate: float) -> tuple[list[float], float, float]:
        """The losses up to the first that is not finite, and the largest errors of W and b."""
        weight, bias = self.start
        losses = []
        with np.errstate(all="ignore"):
            for x, y in zip(self.x, self.y):
                error = weight @ x + bias - y
                losses.append(float(error @ error))
                if not np.isfinite(losses[-1]):
                    break
                weight = weight - 2 * rate * np.outer(error, x)
                bias = bias - 2 * rate * error
        bias = bias - weight @ self.centre
        errors = np.abs(weight - W_TRUE.numpy()).max(), np.abs(bias - B_TRUE.numpy()).max()
        return losses, float(errors[0]), float(errors[1])

    def edges(self) -> tuple[float, float]:
        """Of steps on one pair at a time, and of steps on all."""
        z = np.column_stack([self.x, np.ones(len(self.x))])
        c, unit = z.T @ z / len(z), np.eye(6)
        squares = (z[:, :, None] * z[:, None]).reshape(-1, 36)
        b, d = 2 * (np.kron(c, unit) + np.kron(unit, c)), 4 * squares.T @ squares / len(z)
        largest = np.linalg.eigvals(np.linalg.solve(b, d)).real.max()
        return 1 / largest, 1 / np.linalg.eigvalsh(c).max()


@pytest.mark.parametrize("kind", KINDS)
def test_the_edges(reader, kind):
    reader.open(f"#inputs={kind}&eta=0.001")
    reader.wait(lambda: reader.text("rate-answer"))
    edge, edge_of_all = Recipe(reader, kind).edges()
    stated = {"printed": 0.0033, "centred": 0.077, "quickstart": 0.020}[kind]
    assert edge == pytest.approx(stated, rel=0.03)
    assert float(reader.text("rate-edge-value")) == pytest.approx(edge, rel=0.006)
    assert float(reader.text("rate-all-value")) == pytest.approx(edge_of_all, rel=0.006)
    place = "return Number(document.getElementById('rate-edge').style.getPropertyValue('--place'))"
    assert reader(place) == pytest.approx((np.log10(edge) + 4) / 4, abs=0.003)
    for factor, said in (
        (0.9, "This rate is below the edge."),
        (1.1, "This rate is beyond the edge."),
    ):
        reader.set("rate", np.log10(factor * edge))
        assert reader.text("rate-beyond") == said


@pytest.mark.parametrize("kind", KINDS)
def test_below_the_edge_it_settles_and_beyond_it_does_not(reader, kind):
    reader.open(f"#inputs={kind}&eta=0.001")
    edge = Recipe(reader, kind).edges()[0]
    reader.set("rate", np.log10(edge / 2))
    assert reader.text("rate-answer").startswith("It settles")
    reader.set("rate", np.log10(1.5 * edge))
    assert reader.text("rate-answer").startswith("It diverges")


@pytest.mark.parametrize(
    ("kind", "rate"), [("printed", 0.001), ("centred", 0.01), ("quickstart", 0.01)]
)
def test_what_is_said_of_a_rate_that_settles(reader, kind, rate):
    reader.open(f"#inputs={kind}&eta={rate}")
    losses, weight_error, bias_error = Recipe(reader, kind).steps(rate)
    number = r"([0-9.]+)"
    said = re.fullmatch(
        rf"It settles: the last 1,000 losses have the mean {number}; "
        rf"W is within {number} of the truth, b within {number}\.",
        reader.text("rate-answer"),
    )
    expected = [np.mean(losses[-1000:]), weight_error, bias_error]
    assert [float(number) for number in said.groups()] == pytest.approx(expected, rel=0.06)


@pytest.mark.parametrize(("kind", "rate"), [("printed", 0.01), ("centred", 0.3)])
def test_the_step_at_which_the_loss_overflows(reader, kind, rate):
    reader.open(f"#inputs={kind}&eta={rate}")
    slider = 10 ** float(reader.value("rate"))  # in steps of 0.01 of the logarithm
    step = len(Recipe(reader, kind).steps(slider)[0])
    assert reader.text("rate-answer") == f"It diverges: the loss overflows at step {step:,}."


def test_a_rate_that_diverges_slowly_names_the_step(reader):
    reader.open("#inputs=printed&eta=0.00347")
    losses = Recipe(reader, "printed").steps(10 ** float(reader.value("rate")))[0]
    means = [np.mean(losses[max(0, i - 99) : i + 1]) for i in range(len(losses))]
    since = max(i for i, mean in enumerate(means) if mean <= losses[0]) + 2
    said = re.fullmatch(
        r"It diverges: from step (\d+) on the mean loss stays above the first one; "
        r"after 10,000 steps it is (\S+)\.",
        reader.text("rate-answer"),
    )
    assert int(said[1]) == since and float(said[2]) == pytest.approx(
        np.mean(losses[-1000:]), rel=0.01
    )


def test_the_chart_falls_where_it_settles_and_rises_where_it_diverges(reader):
    def heights() -> tuple[float, float]:
        """How far from the top the curve of each step lies at its beginning and near its end."""
        chart = reader.canvas("rate-chart").astype(int)
        blue = (chart[:, :, 2] - chart[:, :, 0] > 60) & (chart[:, :, 2] > 120)
        columns = np.flatnonzero(blue.any(axis=0))
        ends = columns[0], columns[int(0.9 * (len(columns) - 1))]
        return tuple(float(np.flatnonzero(blue[:, column]).mean()) for column in ends)

    reader.open("#inputs=centred&eta=0.001")
    begin, end = heights()
    assert begin < end
    reader.set("rate", -0.5)
    begin, end = heights()
    assert begin > end
