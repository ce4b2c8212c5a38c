"""Two pictures of the page for README: `python -m report.screenshots`, after `make lectures`.

It writes docs/figures/report_phone.png and report_projector.png, and needs selenium and Chromium
with its driver.
"""

from common import program
from common.program import PROJECT, RunError
from report import page

import base64
import math
import shutil
import tempfile
import time
from pathlib import Path

from selenium import webdriver

FOLDER = PROJECT / "docs" / "figures"

DRAW = """
const sheet = document.getElementById("digit");
const box = sheet.getBoundingClientRect();
const send = (kind, [x, y]) => sheet.dispatchEvent(new PointerEvent(kind, {
  pointerId: 1, bubbles: true, clientX: box.left + x * box.width, clientY: box.top + y * box.height,
}));
const points = arguments[0];
send("pointerdown", points[0]);
points.forEach((point) => send("pointermove", point));
send("pointerup", points.at(-1));
document.activeElement.blur();
"""
SCROLL = "scrollBy(0, document.getElementById(arguments[0]).getBoundingClientRect().top - 28)"


def open_browser() -> webdriver.Chrome:
    """A headless Chromium, which the tests use too; RunError if there is none."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not chromium or not driver:
        raise RunError(
            "there is no Chromium with its driver here: on Debian, apt-get install chromium-driver"
        )
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("headless=new", "no-sandbox", "hide-scrollbars", "window-size=1280,900"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))


def become(
    browser: webdriver.Chrome, width: int, height: int, scheme: str, scale: float = 1
) -> None:
    """Emulates a screen of width x height CSS pixels; `scheme` is "light" or "dark"."""
    size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    colours = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": colours})


def save(browser: webdriver.Chrome, name: str) -> None:
    """Writes a PNG of what the browser shows."""
    data = base64.b64decode(browser.execute_cdp_cmd("Page.captureScreenshot", {})["data"])
    (FOLDER / f"{name}.png").write_bytes(data)
    print(f"{FOLDER / name}.png: {len(data):,} bytes")


def arc(height: float, radius: float, begin: int, end: int) -> list[tuple[float, float]]:
    """Points on an arc around (0.48, height), as fractions of the sheet; degrees, clockwise."""
    angles = [math.radians(angle) for angle in range(begin, end, 10)]
    return [(0.48 + radius * math.cos(a), height + radius * math.sin(a)) for a in angles]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.html"
        path.write_text(page.render(page.read_all(PROJECT / "outputs")), encoding="utf-8")
        browser = open_browser()
        try:
            become(browser, 390, 844, "dark", scale=2)
            browser.get(f"{path.as_uri()}#model=mnist_all")
            time.sleep(3)
            browser.execute_script(SCROLL, "digit-title")
            three = arc(0.31, 0.16, -170, 100) + arc(0.66, 0.19, -100, 160)
            browser.execute_script(DRAW, three)
            time.sleep(2)
            save(browser, "report_phone")

            become(browser, 1280, 900, "light")
            browser.get("about:blank")  # otherwise a new fragment reloads nothing
            browser.get(f"{path.as_uri()}#start=run&rate=0.01&steps=170000")
            time.sleep(3)
            browser.execute_script(SCROLL, "train-play")
            save(browser, "report_projector")
        finally:
            browser.quit()


if __name__ == "__main__":
    program.execute(main)
