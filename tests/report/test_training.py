"""The small network, trained in the page: the lecture's losses, pictures, controls."""

from lectures.ann_revisited import LABELS, POINTS

import json

import numpy as np
import pytest
import torch

STEPS = 1_000_000


def outputs(state: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """The two outputs of the 2-2-3-2 network at points (n, 2)."""
    for layer in ("0", "2", "4"):
        x = 1 / (1 + np.exp(-(x @ state[f"{layer}.weight"].T + state[f"{layer}.bias"])))
    return x


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
    trained = torch.load(run / "model.pt")
    for name, weights in saved(reader)["weights"].items():
        assert weights == pytest.approx(trained[name].numpy(), rel=1e-6), name
    reader.set("train-step", 10_000)  # back again
    assert reader.reach(10_000) == pytest.approx(losses[10_000], rel=1e-9)


def test_the_weights_as_json(reader):
    reader.open("#start=run&rate=1&steps=500")
    loss = reader.reach(500)
    found = saved(reader)
    difference = outputs(found["weights"], POINTS.numpy()) - LABELS.numpy()
    assert 0.5 * (difference**2).sum() / 10 == pytest.approx(loss, rel=1e-9)
    assert found["loss"] == pytest.approx(loss, rel=1e-9)
    assert (found["steps"], found["learning_rate"], found["start"]) == (500, 1, "run")


def near(colour: np.ndarray, other: np.ndarray) -> bool:
    return bool(np.abs(colour.astype(int) - other.astype(int)).max() <= 12)


def test_the_picture_of_the_unit_square(reader):
    """Each point is at its place; each side of the boundary has the colour of who wins there."""
    reader.open("#start=plateau&rate=0.01&steps=20000")
    reader.reach(20_000)
    reader.set("train-rate", "5", "change")
    reader.set("train-step", 3000)
    reader.reach(3000)
    picture = reader.canvas("regions")
    height, width, _ = picture.shape
    unit = 16 * width / reader("return document.getElementById('regions').clientWidth")
    side = min(width - 2.8 * unit, height - 2.6 * unit)

    def pixel(x1: float, x2: float) -> np.ndarray:
        return picture[int(0.7 * unit + (1 - x2) * side), int(2.1 * unit + x1 * side)]

    points = {name: reader.colour(f"--point-{name}") for name in ("blue", "orange")}
    for (x1, x2), label in zip(POINTS.tolist(), LABELS.tolist()):
        assert near(pixel(x1, x2), points["blue" if label[0] else "orange"]), (x1, x2)
    weights = saved(reader)["weights"]
    hues = {name: reader.colour(f"--region-{name}") for name in ("blue", "middle", "orange")}
    wins = set()
    for x1 in np.arange(0.05, 1, 0.1):
        for x2 in np.arange(0.05, 1, 0.1):
            first, second = outputs(weights, np.array([[x1, x2]]))[0]
            away = min(np.hypot(*(POINTS.numpy() - (x1, x2)).T)) > 0.06  # from every point's sign
            if away and abs(first - second) > 0.3:
                hue = hues["blue" if first > second else "orange"]
                expected = hues["middle"] + abs(first - second) * (hue - hues["middle"])
                assert near(pixel(x1, x2), expected), (x1, x2)
                wins.add(bool(first > second))
    assert wins == {True, False}


def test_wrong_points_are_counted_named_and_crossed_out(reader):
    reader.open("#start=plateau&rate=0.01&steps=20000")
    reader.reach(20_000)
    at = outputs(saved(reader)["weights"], POINTS.numpy())
    wrong = POINTS.numpy()[(at[:, 0] >= at[:, 1]) != (LABELS.numpy()[:, 0] == 1)]
    assert 0 < len(wrong) < 10
    assert reader.text("train-right") == f"{10 - len(wrong)} of 10"
    names = ", ".join(f"({x1:g}, {x2:g})" for x1, x2 in wrong)
    assert reader.text("train-wrong") == f"Wrong: {names}."


def test_the_chart_falls_with_the_loss(reader):
    reader.open("#start=run&rate=5&steps=20000")
    reader.reach(20_000)
    chart = reader.canvas("train-chart").astype(int)
    blue = np.abs(chart - reader.colour("--blue")).max(axis=2) < 12
    columns = np.flatnonzero(blue.any(axis=0))
    first, last = (np.flatnonzero(blue[:, columns[i]]).mean() for i in (0, -1))
    assert last - first > 0.5 * chart.shape[0]


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
    said = f"At rest after {steps:,} steps: loss "
    assert reader.text("train-said").startswith(said)
    assert (reader.canvas("regions") != regions).any()
    assert (reader.canvas("train-chart") != chart).any()
    assert f"start=run&rate=0.01&steps={steps}" in reader.browser.current_url
    reader.click("train-reset")
    assert reader.reach(0) and (reader.canvas("regions") == regions).all()


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
    reader.open("#" + sent.replace("1234", "3000"))
    assert reader.reach(3000) == loss and (reader.canvas("regions") == regions).all()
    reader("location.hash = 'start=plateau&rate=1'")
    reader.wait(lambda: "start=plateau&rate=1&steps=0" in reader.browser.current_url)
    assert reader.reach(0) and reader.value("train-rate") == "1"


@pytest.mark.parametrize(
    "settings",
    [
        "#start=<b>&rate=7&steps=-4&inputs='&eta=x",
        "#steps=1e99",
        "#network",
        "#=&&=#",
        "#start=__proto__&rate=constructor&steps=10",
    ],
)
def test_an_address_with_nonsense_is_the_start(reader, settings):
    reader.open(settings)
    reader.wait(lambda: reader.text("train-loss") and reader.text("rate-answer"))
    assert reader.value("train-rate") == "0.01" and reader.browser.get_log("browser") == []


def test_three_buttons(reader):
    reader.open()
    reader("document.querySelector('button[data-start=plateau]').click()")
    reader.reach(STEPS)
    assert reader.text("train-right") == "9 of 10"
    assert reader.text("train-wrong") == "Wrong: (0.4, 0.2)."
    reader.set("train-rate", "5", "change")
    assert reader.text("train-steps") == "0"
    reader.set("train-step", 20_000)
    reader.reach(20_000)
    assert reader.text("train-right") == "10 of 10"
    assert "start=plateau&rate=5" in reader.browser.current_url
    reader("document.querySelector('button[data-rate=\"5\"]').click()")
    reader.wait(lambda: int(reader.text("train-steps")) > 100)
    reader("document.querySelector('button[data-start=run][data-rate=\"0.01\"]').click()")
    reader.reach(STEPS)
    assert reader.text("train-right") == "10 of 10"
    reader.click("train-play")  # beyond the slider's end
    reader.wait(lambda: int(reader.text("train-steps")) > STEPS)


def test_another_start(reader):
    reader.open()
    losses = [reader.reach(0)]
    for _ in range(2):
        reader.click("train-another")
        losses.append(reader.reach(0))
    assert len(set(losses)) == 3
