"""The drawing pad: what is drawn becomes an image as MNIST's; the network's answer is shown."""

from handwriting.find import as_mnist

import numpy as np
import pytest
import torch

PAINT = """
const [height, width, ink] = arguments;
const pixels = new ImageData(width, height);
ink.map((share) => 255 - 238 * share).forEach((g, i) => pixels.data.set([g, g, g, 255], 4 * i));
const sheet = document.getElementById("digit");
const pen = sheet.getContext("2d");
pen.fillStyle = "#fff";
pen.fillRect(0, 0, 280, 280);
pen.putImageData(pixels, 30, 20);
document.getElementById("digit-answer").textContent = "";
sheet.dispatchEvent(new PointerEvent("pointerup"));
"""
BARS = """
return [...document.querySelectorAll("#digit-bars li")].map((line) => [
  line.querySelector(".share").textContent,
  Number(line.querySelector(".bar").style.getPropertyValue("--share")), line.matches(".best")]);
"""


def inks() -> dict[str, np.ndarray]:
    """Ink from 0 to 1, asymmetric in every direction, by what is special about it."""
    seven = np.zeros((61, 43))
    seven[3:9, 4:40] = seven[3:60, 33:40] = 1  # 57 by 36, so that 20 by 12.6 is rounded
    return {
        "a mask": seven,
        "greys": seven * np.random.default_rng(0).random(seven.shape),
        "wide": np.pad(seven.T, ((2, 5), (30, 1))),
        "small": seven[:12, 30:],
        "large": np.kron(seven, np.ones((4, 4))),
        "one pixel": np.pad(np.ones((1, 1)), ((2, 4), (1, 7))),
        "a line": np.pad(np.ones((90, 1)), ((0, 4), (3, 7))),
        "heavy at one end": np.pad(np.tril(np.ones((50, 50))), 3),
    }


def test_what_is_painted_on_the_sheet_is_classified(reader, network):
    reader.open("#model=mnist_mlp")
    assert reader.value("digit-model") == "mnist_mlp"
    answers = set()
    for what, ink in inks().items():
        reader(PAINT, *ink.shape, ink.ravel().tolist())
        reader.wait(lambda: reader.text("digit-answer"))
        ink = np.round(238 * ink) / 238  # as a grey of the sheet
        ink[ink < 0.1] = 0
        rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
        expected = as_mnist(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
        seen = reader.canvas("digit-seen")[:, :, 0]
        assert np.abs(seen - expected.astype(int)).max() <= 1, what
        with torch.no_grad():
            logits = network(torch.from_numpy(expected).reshape(1, 784) / 255)
        shares = logits.softmax(dim=1)[0].numpy()
        percents, bars, best = zip(*reader(BARS))
        shown = [float(text.removesuffix(" %")) for text in percents]
        assert shown == pytest.approx(100 * shares, abs=1)
        assert bars == pytest.approx(shares.tolist(), abs=0.01)
        first, second = np.argsort(-shares)[:2]
        assert np.flatnonzero(best).tolist() == [first]
        sure = max(bars) >= 0.6
        answer = f"{first}? unsure: {first} ({bars[first]:.0%}) or {second} ({bars[second]:.0%})"
        answer = f"{first} ({bars[first]:.1%})" if sure else answer
        assert reader.text("digit-answer") == answer.replace("%", " %")
        answers.add((first, sure))
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
    assert reader.canvas("digit-seen").max() == 0
    assert not any("%" in share for share, *_ in reader(BARS))


def test_the_address_chooses_the_network(reader):
    reader.open("#model=mnist_all")
    reader("location.hash = 'model=mnist_mlp'")
    reader.wait(lambda: reader.value("digit-model") == "mnist_mlp")
    reader.set("digit-model", "mnist_all", "change")
    assert "model=mnist_all" in reader.browser.current_url
