"""Two pictures of the page for README: `python -m report.screenshots`, with the runs of `make lectures` in outputs/.

It writes docs/figures/report_phone.png and report_projector.png, and needs selenium and Chromium with its driver.
"""

import base64
import io
import math
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image
from selenium import webdriver

from common import program
from common.program import PROJECT, RunError
from report import page

DRAW = """
const sheet = document.getElementById("digit");
const box = sheet.getBoundingClientRect();
const send = (kind, [x, y]) => sheet.dispatchEvent(new PointerEvent(kind, { pointerId: 1, bubbles: true,
  clientX: box.left + x * box.width, clientY: box.top + y * box.height }));
const points = arguments[0];
send("pointerdown", points[0]);
points.forEach((point) => send("pointermove", point));
send("pointerup", points.at(-1));
"""


def arc(height: float, radius: float, begin: int, end: int) -> list[tuple[float, float]]:
    """Points of an arc around (0.48, height), angles in degrees clockwise from the right; in parts of the sheet."""
    angles = [math.radians(angle) for angle in range(begin, end, 10)]
    return [
        (0.48 + radius * math.cos(angle), height + radius * math.sin(angle)) for angle in angles
    ]


THREE = arc(0.31, 0.16, -170, 100) + arc(0.66, 0.19, -100, 160)

SHOTS: tuple[dict[str, Any], ...] = (
    {
        "name": "report_phone",
        "width": 390,
        "height": 844,
        "scale": 2,
        "scheme": "dark",
        "settings": "#model=mnist_mlp_all",
        "place": "digit-title",
        "stroke": THREE,
    },
    {
        "name": "report_projector",
        "width": 1280,
        "height": 900,
        "scale": 1,
        "scheme": "light",
        "settings": "#start=run&rate=0.01&steps=170000",
        "place": "train-play",
        "stroke": None,
    },
)


def open_browser() -> webdriver.Chrome:
    """A headless Chromium, the tests' too. Raises a RunError where there is none."""
    chromium, driver = (
        shutil.which("chromium") or shutil.which("google-chrome"),
        shutil.which("chromedriver"),
    )
    if not chromium or not driver:
        raise RunError(
            "there is no Chromium with its driver here (Debian: apt-get install chromium chromium-driver)"
        )
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--window-size=1280,900",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))


def picture(browser: webdriver.Chrome, address: str, shot: dict[str, Any]) -> bytes:
    """A PNG of what one of SHOTS shows."""
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {
            "width": shot["width"],
            "height": shot["height"],
            "deviceScaleFactor": shot["scale"],
            "mobile": shot["width"] < 500,
        },
    )
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": shot["scheme"]}]},
    )
    browser.get("about:blank")
    browser.get(address + shot["settings"])
    time.sleep(3)
    browser.execute_script(
        "scrollBy(0, document.getElementById(arguments[0]).getBoundingClientRect().top - 28)",
        shot["place"],
    )
    if shot["stroke"]:
        browser.execute_script(DRAW, shot["stroke"])
        browser.execute_script("document.activeElement.blur()")
        time.sleep(2)
    data = base64.b64decode(browser.execute_cdp_cmd("Page.captureScreenshot", {})["data"])
    buffer = io.BytesIO()
    Image.open(io.BytesIO(data)).convert("RGB").save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def main() -> None:
    with tempfile.TemporaryDirectory() as room:
        path = Path(room) / "report.html"
        path.write_text(page.render(page.read_all(PROJECT / "outputs")), encoding="utf-8")
        browser = open_browser()
        try:
            for shot in SHOTS:
                data = picture(browser, path.as_uri(), shot)
                target = PROJECT / "docs" / "figures" / f"{shot['name']}.png"
                target.write_bytes(data)
                print(f"{target}: {len(data):,} bytes")
        finally:
            browser.quit()


if __name__ == "__main__":
    program.execute(main)
