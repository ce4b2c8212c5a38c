"""Runs made up for the tests, with numbers that agree with the lecture; a reader of the page."""

from handwriting.find import as_mnist
from report import page

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn


def image_of(ink: np.ndarray) -> np.ndarray:
    """Ink from 0 to 1, cut out, as an image of uint8 (28, 28)."""
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    return as_mnist(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


def write_run(
    path: Path, losses: np.ndarray, model: nn.Module, config: dict, results: dict
) -> None:
    """Writes what a run leaves: its numbers, a small figure, and the model."""
    path.mkdir(parents=True)
    metrics = {
        "script": path.name,
        "config": {"seed": 0, **config},
        "environment": {"python": "3.11", "torch": "2.14", "device": "cpu (x86_64)"},
        "seconds": {"imports": 1.0, "training": 0.5},
        "results": {"ended": "finished", **results},
        "files": [],
    }
    (path / "metrics.json").write_text(json.dumps(metrics))
    Image.new("RGB", (40, 30), "white").save(path / "loss.png")
    np.save(path / "losses.npy", losses)
    for name in ("model", "model_initial"):
        torch.save(model.state_dict(), path / f"{name}.pt")


def write_linear_runs(runs: Path) -> None:
    model = nn.Linear(5, 2, dtype=torch.float64)
    config = {"samples": 10_000, "lr": 0.01, "low": 5.0, "high": 10.0, "noise": 0.2}
    results = {
        "last": {"weight_error": 0.05, "bias_error": 0.4},
        "averaged": {"weight_error": 0.004, "bias_error": 0.03},
        "least_squares": {"weight_error": 0.002, "bias_error": 0.02},
        "steps": 10_000,
    }
    losses = np.repeat([0.5, 0.062, 0.1], [9_000, 500, 500])  # the last 1,000: 0.081 on average
    write_run(runs / "linear_recovery", losses, model, config | {"raw": False}, results)
    losses = np.append(np.geomspace(1, 1e300, 231), np.inf)
    results |= {"steps": 232, "ended": "diverged"}
    write_run(runs / "linear_recovery_raw", losses, model, config | {"raw": True}, results)


def write_digit_runs(runs: Path, model: nn.Module) -> None:
    five = [{"label": label, "prediction": label} for label in (5, 0, 4, 1, 9)]
    results = {"dataset": "mnist", "first_five": five, "train_accuracy": 1.0}
    few = {"train_images": 100, "test_accuracy": 0.68, "steps": 100}
    every = {"train_images": 60_000, "test_accuracy": 0.978, "steps": 18_760}
    losses, hidden = np.geomspace(2.3, 0.03, 100), {"hidden": 40}
    write_run(runs / "mnist_mlp", losses, model, hidden | {"lr": 0.001}, results | few)
    config = hidden | {"lr": 0.015, "weight_decay": 0.0, "no_distort": False}
    write_run(runs / "mnist_all", losses, model, config, results | every)


def change(path: Path, part: str, **values: object) -> None:
    """Sets values in a part of a run's metrics.json, such as "results"."""
    metrics = json.loads((path / "metrics.json").read_text())
    metrics[part].update(values)
    (path / "metrics.json").write_text(json.dumps(metrics))


def html(runs: Path) -> str:
    return page.render(page.read_all(runs))


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
        return self(f"return document.getElementById('{name}').textContent")

    def value(self, name: str) -> str:
        return self(f"return document.getElementById('{name}').value")

    def set(self, name: str, value: object, event: str = "input") -> None:
        script = f"""
            const element = document.getElementById("{name}");
            element.value = arguments[0];
            element.dispatchEvent(new Event("{event}", {{ bubbles: true }}));
        """
        self(script, value)

    def click(self, name: str) -> None:
        self(f"document.getElementById('{name}').click()")

    def wait(self, condition: Callable[[], object], seconds: float = 60) -> None:
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.browser, seconds, poll_frequency=0.05).until(lambda _: condition())

    def reach(self, steps: int) -> float:
        """Waits until the training rests at a step; returns its loss as the page shows it."""
        at = [str(steps), "Play"]
        self.wait(lambda: [self.text("train-steps"), self.text("train-play")] == at)
        return float(self.text("train-loss"))

    def canvas(self, name: str) -> np.ndarray:
        """The pixels of a canvas: uint8 (height, width, 3)."""
        script = f"""
            const canvas = document.getElementById("{name}");
            const {{ width, height }} = canvas;
            const {{ data }} = canvas.getContext("2d").getImageData(0, 0, width, height);
            return [width, height, Array.from(data)];
        """
        width, height, data = self(script)
        return np.array(data, np.uint8).reshape(height, width, 4)[:, :, :3]

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
