"""The drawing pad: what is drawn becomes an image as MNIST's; the network's answer is shown."""

import re

import numpy as np
import pytest
import torch
from report_helpers import Reader, html, image_of

PREPARE = """
const [height, width, values] = arguments;
const image = asMnist({ height, width, values: Float64Array.from(values) });
return image && Array.from(image);
"""

PAINT = """
const [size, greys] = arguments;
const small = Object.assign(document.createElement("canvas"), { width: size, height: size });
const pixels = new ImageData(size, size);
greys.forEach((grey, i) => pixels.data.set([255 - grey, 255 - grey, 255 - grey, 255], 4 * i));
small.getContext("2d").putImageData(pixels, 0, 0);
const sheet = document.getElementById("digit");
sheet.getContext("2d").drawImage(small, 0, 0, 280, 280);
document.getElementById("digit-answer").textContent = "";
sheet.dispatchEvent(new PointerEvent("pointerup"));
"""

SHARES = "return [...document.querySelectorAll('#digit-bars .share')].map((one) => one.textContent)"


def inks() -> dict[str, np.ndarray]:
    """Ink from 0 to 1, asymmetric in every direction, by what is special about it."""
    draw = np.random.default_rng(0)
    seven = np.zeros((61, 43))
    seven[3:9, 5:40] = seven[3:60, 33:40] = 1
    return {
        "a mask": seven > 0,
        "greys": seven * draw.random(seven.shape),
        "wide": np.pad(seven.T, ((2, 5), (30, 1))),
        "small": seven[:12, 30:],
        "large": np.kron(seven, np.ones((9, 9))),
        "one pixel": np.pad(np.ones((1, 1)), ((2, 4), (1, 7))),
        "a line": np.pad(np.ones((90, 1)), ((0, 4), (3, 7))),
        "heavy at one end": np.pad(np.tril(np.ones((50, 50))), 3),
    }


@pytest.mark.parametrize("kind", inks())
def test_the_page_prepares_ink_as_python_does(reader, kind):
    ink = inks()[kind]
    reader.open()
    found = reader(PREPARE, *ink.shape, ink.astype(float).ravel().tolist())
    expected = image_of(ink).astype(int)
    assert np.abs(np.reshape(found, (28, 28)) - expected).max() <= 1
    assert expected.max() > 0


def test_no_ink_is_no_image(reader):
    reader.open()
    assert reader(PREPARE, 4, 4, [0] * 16) is None


def probabilities(network, image: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return network(torch.from_numpy(image).reshape(1, 784) / 255).softmax(dim=1)[0].numpy()


def test_digits_painted_on_the_sheet(reader, images, network):
    reader.open("#model=mnist_mlp")
    assert reader.value("digit-model") == "mnist_mlp"
    correct = 0
    for image, label in zip(images[0][-30:], images[1][-30:]):
        reader(PAINT, 28, image.ravel().tolist())
        reader.wait(lambda: re.match(r"[0-9]", reader.text("digit-answer")))
        sheet = (255 - reader.canvas("digit")[:, :, 0].astype(float)) / (255 - 17)
        sheet = np.where(sheet < 0.1, 0, np.minimum(sheet, 1))
        expected = image_of(sheet)
        seen = reader.canvas("digit-seen")[:, :, 0].astype(int)
        assert np.abs(seen - expected).max() <= 1
        shares = probabilities(network, expected)
        shown = [float(text.split()[0]) for text in reader(SHARES)]
        assert shown == pytest.approx(100 * shares, abs=1)
        first, second = np.argsort(-shares)[:2]
        sure = rf"{first} \(([0-9.]+) %\)"
        unsure = rf"{first}\? unsure: {first} \((\d+) %\) or {second} \(\d+ %\)"
        answer = re.fullmatch(f"{sure}|{unsure}", reader.text("digit-answer"))
        assert float(answer[1] or answer[2]) == pytest.approx(100 * shares[first], abs=1)
        assert bool(answer[1]) == (float(answer[1] or answer[2]) >= 60)
        correct += first == label
    assert correct >= 24


def test_a_digit_drawn_with_the_mouse_and_an_unsure_network(browser, runs):
    from selenium.webdriver import ActionChains

    percents = [2, 2, 30, 2, 10, 2, 2, 45, 3, 2]  # of the ten digits, whatever is drawn
    for name in ("mnist_mlp", "mnist_all"):
        path = runs / name / "model.pt"
        state = {key: torch.zeros_like(tensor) for key, tensor in torch.load(path).items()}
        torch.save(state | {"2.bias": torch.tensor(percents).log()}, path)
    (runs / "report.html").write_text(html(runs), encoding="utf-8")
    reader = Reader(browser, runs / "report.html")
    reader.open()
    sheet = browser.find_element("id", "digit")
    reader("document.getElementById('digit').scrollIntoView({ block: 'center' })")
    where = reader("return scrollY")
    mouse = ActionChains(browser).move_to_element_with_offset(sheet, -60, -70).click_and_hold()
    mouse.move_by_offset(110, 0).move_by_offset(-60, 140).release().perform()
    unsure = "7? unsure: 7 (45 %) or 2 (30 %)"
    reader.wait(lambda: reader.text("digit-answer") == unsure)
    assert reader(SHARES) == [f"{percent}.0 %" for percent in percents]
    assert reader("return scrollY") == where
    seen = reader.canvas("digit-seen")[:, :, 0]
    assert seen[4:9].sum(axis=0)[8:20].min() > 0  # the seven's bar is at the top
    reader.click("digit-undo")
    reader.wait(lambda: reader.text("digit-answer") == "Draw a digit on the sheet.")
    assert reader.canvas("digit-seen").max() == 0 and "%" not in "".join(reader(SHARES))


def test_the_address_chooses_the_network(reader):
    reader.open("#model=mnist_all")
    reader("location.hash = 'model=mnist_mlp'")
    reader.wait(lambda: reader.value("digit-model") == "mnist_mlp")
    reader.set("digit-model", "mnist_all", "change")
    assert "model=mnist_all" in reader.browser.current_url


def test_no_photo_is_asked_for(complete):
    text = html(complete)
    assert 'type="file"' not in text and "capture=" not in text
