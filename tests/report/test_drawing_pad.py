"""The drawing pad: what is drawn becomes an image as MNIST's; the network's answer is shown."""

import re

import numpy as np
import pytest
import torch
from report_helpers import image_of

PREPARE = """
const [height, width, values] = arguments;
const image = asMnist({ height, width, values: Float64Array.from(values) });
return image && Array.from(image);
"""
PAINT = """
const [height, width, ink] = arguments;
const small = Object.assign(document.createElement("canvas"), { width, height });
const pixels = new ImageData(width, height);
ink.map((share) => 255 - 255 * share).forEach((g, i) => pixels.data.set([g, g, g, 255], 4 * i));
small.getContext("2d").putImageData(pixels, 0, 0);
const sheet = document.getElementById("digit");
sheet.getContext("2d").drawImage(small, 0, 0, 280, 280);
document.getElementById("digit-answer").textContent = "";
sheet.dispatchEvent(new PointerEvent("pointerup"));
"""
SHARES = "return [...document.querySelectorAll('#digit-bars .share')].map((one) => one.textContent)"
BARS = """
return [...document.querySelectorAll("#digit-bars li")].map((line) => [
  Number(line.querySelector(".bar").style.getPropertyValue("--share")), line.matches(".best")]);
"""


def inks() -> dict[str, np.ndarray]:
    """Ink from 0 to 1, asymmetric in every direction, by what is special about it."""
    seven = np.zeros((61, 43))
    seven[3:9, 5:40] = seven[3:60, 33:40] = 1
    return {
        "a mask": seven > 0,
        "greys": seven * np.random.default_rng(0).random(seven.shape),
        "wide": np.pad(seven.T, ((2, 5), (30, 1))),
        "small": seven[:12, 30:],
        "large": np.kron(seven, np.ones((9, 9))),
        "one pixel": np.pad(np.ones((1, 1)), ((2, 4), (1, 7))),
        "a line": np.pad(np.ones((90, 1)), ((0, 4), (3, 7))),
        "heavy at one end": np.pad(np.tril(np.ones((50, 50))), 3),
    }


@pytest.mark.parametrize("ink", inks().values(), ids=inks())
def test_the_page_prepares_ink_as_python_does(reader, ink):
    reader.open()
    found = reader(PREPARE, *ink.shape, ink.astype(float).ravel().tolist())
    expected = image_of(ink).astype(int)
    assert np.abs(np.reshape(found, (28, 28)) - expected).max() <= 1 < expected.max()


def test_what_is_painted_on_the_sheet_is_classified(reader, network):
    reader.open("#model=mnist_mlp")
    assert reader.value("digit-model") == "mnist_mlp"
    answers = set()
    for ink in inks().values():
        reader(PAINT, *ink.shape, ink.astype(float).ravel().tolist())
        reader.wait(lambda: re.match(r"[0-9]", reader.text("digit-answer")))
        sheet = (255 - reader.canvas("digit")[:, :, 0].astype(float)) / (255 - 17)
        expected = image_of(np.where(sheet < 0.1, 0, np.minimum(sheet, 1)))
        seen = reader.canvas("digit-seen")[:, :, 0].astype(int)
        assert np.abs(seen - expected).max() <= 1
        with torch.no_grad():
            logits = network(torch.from_numpy(expected).reshape(1, 784) / 255)
        shares = logits.softmax(dim=1)[0].numpy()
        shown = [float(text.split()[0]) for text in reader(SHARES)]
        assert shown == pytest.approx(100 * shares, abs=1)
        first, second = np.argsort(-shares)[:2]
        bars, best = zip(*reader(BARS))
        assert bars == pytest.approx(shares.tolist(), abs=0.01)
        assert np.flatnonzero(best).tolist() == [first]
        sure = rf"{first} \(([0-9.]+) %\)"
        unsure = rf"{first}\? unsure: {first} \((\d+) %\) or {second} \(\d+ %\)"
        answer = re.fullmatch(f"{sure}|{unsure}", reader.text("digit-answer"))
        assert float(answer[1] or answer[2]) == pytest.approx(100 * shares[first], abs=1)
        assert bool(answer[1]) == (shares[first] >= 0.6)
        answers.add((first, bool(answer[1])))
    assert len(answers) > 2 and {sure for _, sure in answers} == {True, False}


def test_a_digit_drawn_with_the_mouse(reader):
    from selenium.webdriver import ActionChains

    reader.open()
    sheet = reader.browser.find_element("id", "digit")
    reader("arguments[0].scrollIntoView({ block: 'center' })", sheet)
    where = reader("return scrollY")
    mouse = ActionChains(reader.browser).move_to_element_with_offset(sheet, -60, -70)
    mouse.click_and_hold().move_by_offset(110, 0).move_by_offset(-60, 140).release().perform()
    reader.wait(lambda: "%" in reader.text("digit-answer"))
    assert reader("return scrollY") == where
    seen = reader.canvas("digit-seen")[:, :, 0]
    assert seen[4:9].sum(axis=0)[8:20].min() > 0  # the seven's bar is at the top
    first = reader.canvas("digit")
    mouse = ActionChains(reader.browser).move_to_element_with_offset(sheet, -60, 60)
    mouse.click_and_hold().move_by_offset(100, 0).release().perform()
    assert (reader.canvas("digit") != first).any()
    reader.click("digit-undo")  # one stroke, the last
    assert (reader.canvas("digit") == first).all()
    reader.click("digit-undo")
    reader.wait(lambda: reader.text("digit-answer") == "Draw a digit on the sheet.")
    assert reader.canvas("digit-seen").max() == 0 and "%" not in "".join(reader(SHARES))


def test_the_address_chooses_the_network(reader):
    reader.open("#model=mnist_all")
    reader("location.hash = 'model=mnist_mlp'")
    reader.wait(lambda: reader.value("digit-model") == "mnist_mlp")
    reader.set("digit-model", "mnist_all", "change")
    assert "model=mnist_all" in reader.browser.current_url
