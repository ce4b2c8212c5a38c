"""The small network, trained in the page: the lecture's losses, pictures, controls."""

import json

import numpy as np
import pytest
import torch
from helpers import LABELS, POINTS, sigmoid_network

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


def near(colour: np.ndarray, other: np.ndarray, most: int = 12) -> bool:
    return bool(np.abs(colour.astype(int) - other.astype(int)).max() <= most)


def square(reader):
    """A function: the colour at a place of the picture, so many letters to the right of it."""
    picture = reader.canvas("regions")
    (height, width, _), unit = picture.shape, reader.letter()
    side = min(width - 2.8 * unit, height - 2.6 * unit)

    def colour(x1: float, x2: float, right: float = 0) -> np.ndarray:
        return picture[int(0.7 * unit + (1 - x2) * side), int((2.1 + right) * unit + x1 * side)]

    return colour


def test_the_picture_of_the_unit_square(reader):
    """Each point is at its place; each side of the boundary has the colour of who wins there."""
    reader.open("#start=plateau&rate=5&steps=3000")
    reader.reach(3000)
    colour, weights = square(reader), saved(reader)["weights"]
    for (x1, x2), label in zip(POINTS, LABELS):
        name = "--point-blue" if label[0] else "--point-orange"
        assert near(colour(x1, x2), reader.colour(name)), (x1, x2)
    middle = reader.colour("--region-middle")
    wins = set()
    for place in np.stack(np.meshgrid(*2 * [np.arange(0.05, 1, 0.1)]), -1).reshape(-1, 2):
        first, second = sigmoid_network(weights, place)[-1]
        away = np.hypot(*(POINTS - place).T).min() > 0.06  # from every point's sign
        if away and abs(first - second) > 0.3:
            hue = reader.colour("--region-blue" if first > second else "--region-orange")
            assert near(colour(*place), middle + abs(first - second) * (hue - middle)), place
            wins.add(bool(first > second))
    assert wins == {True, False}
    across = np.linspace(0.05, 0.95, 2_000)
    for x2 in (0.2, 0.75):  # where no point is
        outputs = sigmoid_network(weights, np.column_stack([across, np.full(2_000, x2)]))[-1]
        edges = across[np.flatnonzero(np.diff(outputs[:, 0] > outputs[:, 1]))]
        assert len(edges) > 0
        for edge in edges:
            line = [colour(edge + off, x2) for off in np.linspace(-0.01, 0.01, 9)]
            assert any(near(shade, reader.colour("--text"), 60) for shade in line)


def test_wrong_points_are_counted_named_and_marked(reader):
    reader.open("#start=plateau&rate=0.01&steps=20000")
    reader.reach(20_000)
    colour, outputs = square(reader), sigmoid_network(saved(reader)["weights"], POINTS)[-1]
    wrong = outputs.argmax(axis=1) != LABELS.argmax(axis=1)
    assert 0 < wrong.sum() < 10 and reader.text("train-right") == f"{10 - wrong.sum()} of 10"
    names = ", ".join(f"({x1:g}, {x2:g})" for x1, x2 in POINTS[wrong])
    assert reader.text("train-wrong") == f"Wrong: {names}."
    ring, text = 0.84, reader.colour("--text")
    assert [near(colour(x1, x2, ring), text) for x1, x2 in POINTS] == wrong.tolist()


def test_the_chart_falls_with_the_loss_to_its_mark(reader):
    reader.open("#start=run&rate=5&steps=20000")
    reader.reach(20_000)
    (begin, *_, end), chart = reader.curve("train-chart"), reader.canvas("train-chart").astype(int)
    assert end - begin > 0.5 * len(chart)  # from the top
    mark, _ = np.nonzero(np.abs(chart - reader.colour("--text")).max(axis=2) < 12)
    assert mark.mean() == pytest.approx(end, abs=0.03 * len(chart))


def test_play_pause_reset(reader):
    reader.open()
    reader.reach(0)
    regions, chart = reader.canvas("regions"), reader.canvas("train-chart")
    reader.click("train-play")
    assert reader.text("train-play") == "Pause"
    reader.wait(lambda: int(reader.text("train-steps")) > 2000)
    reader.click("train-play")
    steps = int(reader.text("train-steps"))
    assert reader.text("train-play") == "Play" and int(reader.text("train-speed")) > 0
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
