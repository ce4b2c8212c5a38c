"""Runs made up for the tests, with numbers that agree with the lecture; a reader of the page."""

from report import page

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

LINEAR = {"samples": 10_000, "lr": 0.01, "low": 5.0, "high": 10.0, "noise": 0.2}
ERRORS = {
    "last": {"weight_error": 0.05, "bias_error": 0.4},
    "averaged": {"weight_error": 0.004, "bias_error": 0.03},
    "least_squares": {"weight_error": 0.002, "bias_error": 0.02},
}
FIVE = [{"label": label, "prediction": label} for label in (5, 0, 4, 1, 9)]
DIGITS = {"dataset": "mnist", "first_five": FIVE, "train_accuracy": 1.0}
RUNS = {  # config, results and losses of all but the small network's run
    "linear_recovery": (
        LINEAR | {"raw": False},
        ERRORS | {"steps": 10_000},
        np.repeat([0.5, 0.062, 0.1], [9_000, 500, 500]),  # the last 1,000: 0.081 on average
    ),
    "linear_recovery_raw": (
        LINEAR | {"raw": True},
        ERRORS | {"steps": 232, "ended": "diverged"},
        np.append(np.geomspace(1, 1e300, 231), np.inf),
    ),
    "mnist_mlp": (
        {"hidden": 40, "lr": 0.001},
        DIGITS | {"train_images": 100, "test_accuracy": 0.68, "steps": 100},
        np.geomspace(2.3, 0.03, 100),
    ),
    "mnist_all": (
        {"hidden": 40, "lr": 0.015, "weight_decay": 0.0, "no_distort": False},
        DIGITS | {"train_images": 60_000, "test_accuracy": 0.978, "steps": 18_760},
        np.geomspace(2.3, 0.03, 100),
    ),
}


def write_runs(runs: Path, network: nn.Module) -> None:
    """Writes what each of RUNS leaves: its numbers, a small figure, and the model."""
    for name, (config, results, losses) in RUNS.items():
        (runs / name).mkdir()
        metrics = {
            "script": name,
            "config": {"seed": 0, **config},
            "environment": {"python": "3.11", "torch": "2.14", "device": "cpu (x86_64)"},
            "seconds": {"imports": 1.0, "training": 0.5},
            "results": {"ended": "finished", **results},
            "files": [],
        }
        (runs / name / "metrics.json").write_text(json.dumps(metrics))
        Image.new("RGB", (40, 30), "white").save(runs / name / "loss.png")
        np.save(runs / name / "losses.npy", losses)
        for file in ("model", "model_initial"):
            torch.save(network.state_dict(), runs / name / f"{file}.pt")


def change(path: Path, part: str, **values: object) -> None:
    """Sets values in a part of a run's metrics.json, such as "results"."""
    metrics = json.loads((path / "metrics.json").read_text())
    metrics[part].update(values)
    (path / "metrics.json").write_text(json.dumps(metrics))


def html(runs: Path) -> str:
    return page.render(page.read_all(runs))


def near(colour: np.ndarray, other: np.ndarray, most: int = 12) -> np.ndarray:
    """Whether colours, whose last axis is red, green and blue, look the same."""
    return np.abs(colour.astype(int) - other.astype(int)).max(axis=-1) <= most


class Reader:
    """A reader of a page in a browser."""

    def __init__(self, browser, path: Path):
        self.browser, self.address = browser, path.as_uri()

    def open(self, settings: str = "") -> None:
        self.browser.get("about:blank")  # else another # is no other page
        self.browser.get_log("browser")
        self.browser.get(self.address + settings)

    def __call__(self, script: str, *values: object) -> object:
        return self.browser.execute_script(script, *values)

    def text(self, name: str) -> str:
        return self("return document.getElementById(arguments[0]).textContent", name)

    def value(self, name: str) -> str:
        return self("return document.getElementById(arguments[0]).value", name)

    def click(self, name: str) -> None:
        self("document.getElementById(arguments[0]).click()", name)

    def set(self, name: str, value: object, event: str = "input") -> None:
        script = """
            const [name, value, event] = arguments;
            document.getElementById(name).value = value;
            document.getElementById(name).dispatchEvent(new Event(event, { bubbles: true }));
        """
        self(script, name, value, event)

    def wait(self, condition: Callable[[], object]) -> None:
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.browser, 60, poll_frequency=0.05).until(lambda _: condition())

    def reach(self, steps: int) -> float:
        """Waits until the training rests at a step; returns its loss as the page shows it."""
        at = [str(steps), "Play"]
        self.wait(lambda: [self.text("train-steps"), self.text("train-play")] == at)
        return float(self.text("train-loss"))

    def canvas(self, name: str) -> np.ndarray:
        """The pixels of a canvas: uint8 (height, width, 3)."""
        data = self("return document.getElementById(arguments[0]).toDataURL()", name)
        file = io.BytesIO(base64.b64decode(data.partition(",")[2]))
        return np.asarray(Image.open(file).convert("RGB"))

    def letter(self) -> float:
        """The size of the page's letters in pixels of a canvas."""
        size = "parseFloat(getComputedStyle(document.documentElement).fontSize)"
        return self(f"return {size} * devicePixelRatio")

    def curve(self, name: str) -> np.ndarray:
        """How far from the top a chart's blue curve is, from left to right."""
        red, _, blue = np.moveaxis(self.canvas(name).astype(int), -1, 0)
        blue = (blue - red > 60) & (blue > 120)
        columns = np.flatnonzero(blue.any(axis=0))
        return np.array([np.flatnonzero(blue[:, column]).mean() for column in columns])

    def colour(self, name: str) -> np.ndarray:
        """A colour of the page's theme, by its name in page.css, as red, green, blue."""
        style = "getComputedStyle(document.documentElement)"
        text = self(f"return {style}.getPropertyValue(arguments[0])", name).strip()
        return np.array([int(text[i : i + 2], 16) for i in (1, 3, 5)])
