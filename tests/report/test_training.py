"""The small network, trained in the page: the lecture's losses, pictures, controls."""

import json

import numpy as np
import pytest
import torch
from helpers import LABELS, POINTS, sigmoid_network
from report_helpers import near

STEPS = 1_000_000


def saved(reader) -> dict:
    """What the page saves as JSON, its weights as arrays."""
    text = reader.browser.execute_async_script(
        "const done = arguments[0];"
        "URL.createObjectURL = (blob) => { blob.text().then(done); return '#'; };"
        "document.getElementById('train-save').click()"
    )
    content = json.loads(text)
    content["weights"] = {name: np.array(rows) for name, rows in content["weights"].items()}
    return content


def test_the_same_losses_as_the_run(reader, complete):
    run = complete / "ann_revisited"
    losses = np.load(run / "losses.npy")
    end = json.loads((run / "metrics.json").read_text())["results"]["final_loss"]
    reader.open()
    assert reader.reach(0) == pytest.approx(losses[0], rel=1e-9)
    for steps, expected in ((10_000, losses[10_000]), (999_999, losses[-1]), (STEPS, end)):
        reader.set("train-step", steps)
        assert reader.reach(steps) == pytest.approx(expected, rel=1e-9), steps
    trained, found = torch.load(run / "model.pt"), saved(reader)
    for name, weights in found["weights"].items():
        assert weights == pytest.approx(trained[name].numpy(), rel=1e-6), name
    assert found["loss"] == pytest.approx(end, rel=1e-9)
    assert (found["steps"], found["learning_rate"], found["start"]) == (STEPS, 0.01, "run")
    reader.set("train-step", 10_000)  # back again
    assert reader.reach(10_000) == pytest.approx(losses[10_000], rel=1e-9)


def test_the_picture_of_the_unit_square(reader):
    """Points, their marks, the boundary, and on each side of it the colour of who wins there."""
    reader.open("#start=plateau&rate=5&steps=1000")
    reader.reach(1000)
    picture, unit, weights = reader.canvas("regions"), reader.letter(), saved(reader)["weights"]
    side = min(picture.shape[1] - 2.8 * unit, picture.shape[0] - 2.6 * unit)
    blue, middle, orange = (
        reader.colour(f"--region-{name}") for name in "blue middle orange".split()
    )

    def colours(places: np.ndarray, right: float = 0) -> np.ndarray:
        """At places (n, 2) of the square, so many letters to the right of them."""
        columns = (2.1 + right) * unit + places[:, 0] * side
        rows = 0.7 * unit + (1 - places[:, 1]) * side
        return picture[rows.astype(int), columns.astype(int)]

    def difference(places: np.ndarray) -> np.ndarray:
        """The first output minus the second."""
        return -np.diff(sigmoid_network(weights, places)[-1])[:, 0]

    signs = np.stack([reader.colour("--point-orange"), reader.colour("--point-blue")])
    assert near(colours(POINTS, 0.25), signs[LABELS[:, 0].astype(int)]).all()
    wrong = (difference(POINTS) > 0) != (LABELS[:, 0] == 1)
    assert 0 < wrong.sum() < 10 and reader.text("train-right") == f"{10 - wrong.sum()} of 10"
    names = ", ".join(f"({x1:g}, {x2:g})" for x1, x2 in POINTS[wrong])
    assert reader.text("train-wrong") == f"Wrong: {names}."
    rings = near(colours(POINTS, 0.84), reader.colour("--text"))
    assert rings.tolist() == wrong.tolist()

    places = np.stack(np.meshgrid(*2 * [np.arange(0.05, 1, 0.1)]), -1).reshape(-1, 2)
    away = np.linalg.norm(places[:, None] - POINTS, axis=2).min(axis=1) > 0.06  # from all points
    places = places[away & (np.abs(difference(places)) > 0.3)]
    wins = difference(places)[:, None]
    assert wins.max() > 0 > wins.min()
    expected = middle + np.abs(wins) * (np.where(wins > 0, blue, orange) - middle)
    assert near(colours(places), expected).all()

    across = np.linspace(0.05, 0.95, 2_000)
    for x2 in (0.2, 0.75):  # where no point is
        places = np.column_stack([across, np.full(2_000, x2)])
        edges = places[:-1][np.diff(difference(places) > 0)]
        assert len(edges) > 0
        for edge in edges:
            line = colours(edge + np.linspace([-0.01, 0], [0.01, 0], 9))
            assert near(line, reader.colour("--text"), 60).any()


def test_the_chart_falls_with_the_loss_to_its_mark(reader):
    compared = "return !document.getElementById('train-compared').hidden"
    reader.open()
    reader.reach(0)
    assert reader(compared)
    reader.open("#start=run&rate=5&steps=20000")
    reader.reach(20_000)
    assert not reader(compared)  # the run's losses are those of another rate
    (begin, *_, end), chart = reader.curve("train-chart"), reader.canvas("train-chart")
    assert end - begin > 0.5 * len(chart)  # from the top
    mark, _ = np.nonzero(near(chart, reader.colour("--text")))
    assert mark.mean() == pytest.approx(end, abs=0.03 * len(chart))


def test_play_pause_reset(reader):
    reader.open()
    reader.reach(0)
    regions, chart = reader.canvas("regions"), reader.canvas("train-chart")
    reader.set("train-pace", 10_000)
    reader.click("train-play")
    assert reader.text("train-play") == "Pause"
    reader.wait(lambda: int(reader.text("train-steps")) > 2000)
    later = "const now = performance.now.bind(performance); performance.now = () => now() + 1e6"
    reader(later)  # by 1,000 seconds
    paused = int(reader.text("train-steps"))
    reader.wait(lambda: int(reader.text("train-steps")) > paused + 2000)
    # That of the last half second, not since it set out
    reader.wait(lambda: int(reader.text("train-speed")) > int(reader.text("train-steps")) / 500)
    reader.click("train-play")
    steps = int(reader.text("train-steps"))
    assert 0 < int(reader.text("train-speed")) <= steps / 1000 + 1  # since it set out
    assert reader.text("train-play") == "Play"
    assert reader.text("train-said").startswith(f"At rest after {steps:,} steps: loss ")
    assert (reader.canvas("regions") != regions).any()
    assert (reader.canvas("train-chart") != chart).any()
    assert f"start=run&rate=0.01&steps={steps}" in reader.browser.current_url
    reader.click("train-reset")
    losses = [reader.reach(0)]
    assert (reader.canvas("regions") == regions).all()
    for _ in range(2):
        reader.click("train-another")
        losses.append(reader.reach(0))
    assert len(set(losses)) == 3


def test_an_address_is_a_moment(reader):
    reader.open("#start=77&rate=5&steps=3000&inputs=quickstart&eta=0.01")
    loss, regions = reader.reach(3000), reader.canvas("regions")
    assert reader.value("train-rate") == "5"
    inputs = "return document.querySelector('input[name=inputs]:checked').value"
    assert reader(inputs) == "quickstart"
    reader.set("train-step", 1234)
    reader.reach(1234)
    sent = reader.browser.current_url.partition("#")[2]
    assert sent == "start=77&rate=5&steps=1234&inputs=quickstart&eta=0.01"
    reader("location.hash = 'start=plateau&rate=1'")
    reader.wait(lambda: "start=plateau&rate=1&steps=0" in reader.browser.current_url)
    reader.open("#" + sent.replace("1234", "3000"))
    assert reader.reach(3000) == loss and (reader.canvas("regions") == regions).all()


@pytest.mark.parametrize("start, steps", [("<b>", "-4"), ("__proto__", "1e99")])
def test_an_address_with_nonsense_is_the_start(reader, start, steps):
    reader.open(f"#start={start}&rate=constructor&steps={steps}&inputs='&eta=x&=&&")
    reader.wait(lambda: reader.text("train-loss") and reader.text("rate-answer"))
    assert reader.value("train-rate") == "0.01" and reader.text("train-steps") == "0"
    assert reader.browser.get_log("browser") == []


def test_three_buttons(reader):
    reader.open()
    reader("document.querySelector('button[data-start=plateau]').click()")
    reader.reach(STEPS)
    assert reader.text("train-right") == "9 of 10"
    assert reader.text("train-wrong") == "Wrong: (0.4, 0.2)."
    compared = "return !document.getElementById('train-compared').hidden"  # with the lecture's run
    assert not reader(compared)
    reader("document.querySelector('button[data-rate=\"5\"]').click()")
    reader.wait(lambda: int(reader.text("train-steps")) > 100)
    assert reader.value("train-rate") == "5" and "start=run&rate=5" in reader.browser.current_url
    reader("document.querySelector('button[data-start=run][data-rate=\"0.01\"]').click()")
    reader.reach(STEPS)
    assert reader.text("train-right") == "10 of 10" and reader(compared)
    reader.click("train-play")  # beyond the slider's end
    reader.wait(lambda: int(reader.text("train-steps")) > STEPS)
