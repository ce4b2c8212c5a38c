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

PROJECT = Path(__file__).resolve().parents[2]


def image_of(ink: np.ndarray) -> np.ndarray:
    """Ink from 0 to 1, cut out, as an image of uint8 (28, 28)."""
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    return as_mnist(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


def write_run(path: Path, config: dict, results: dict, model: nn.Module | None = None) -> None:
    """Writes what a run leaves: metrics.json, a small figure, and both models if there is one."""
    path.mkdir(parents=True)
    metrics = {
        "script": path.name,
        "config": {"seed": 0, **config},
        "environment": {"python": "3.11", "torch": "2.14", "device": "cpu (x86_64)"},
        "seconds": {"imports": 1.0, "training": 0.5},
        "results": results,
        "files": [],
    }
    (path / "metrics.json").write_text(json.dumps(metrics))
    Image.new("RGB", (40, 30), "white").save(path / "loss.png")
    if model:
        torch.save(model.state_dict(), path / "model.pt")
        torch.save(model.state_dict(), path / "model_initial.pt")


def write_linear_runs(runs: Path) -> None:
    model = nn.Linear(5, 2, dtype=torch.float64)
    config = {"samples": 10_000, "lr": 0.01, "low": 5.0, "high": 10.0, "noise": 0.2}
    errors = {
        "last": {"weight_error": 0.05, "bias_error": 0.4},
        "averaged": {"weight_error": 0.004, "bias_error": 0.03},
        "least_squares": {"weight_error": 0.002, "bias_error": 0.02},
    }
    results = errors | {"steps": 10_000, "ended": "finished", "final_loss": 0.07}
    write_run(runs / "linear_recovery", config | {"raw": False}, results, model)
    np.save(runs / "linear_recovery" / "losses.npy", np.full(10_000, 0.081))
    results = errors | {"steps": 232, "ended": "diverged", "final_loss": None}
    write_run(runs / "linear_recovery_raw", config | {"raw": True}, results, model)
    losses = np.append(np.geomspace(1, 1e300, 231), np.inf)
    np.save(runs / "linear_recovery_raw" / "losses.npy", losses)


def write_digit_runs(runs: Path, model: nn.Module) -> None:
    five = [{"label": label, "prediction": label} for label in (5, 0, 4, 1, 9)]
    for name, images, share in (("mnist_mlp", 100, 0.68), ("mnist_all", 60_000, 0.978)):
        results = {
            "dataset": "mnist",
            "train_images": images,
            "first_five": five,
            "train_accuracy": 1.0,
            "test_accuracy": share,
            "steps": 100,
            "ended": "finished",
        }
        config = {"lr": 0.001, "hidden": 40}
        if name == "mnist_all":
            config |= {"lr": 0.015, "weight_decay": 0.0, "no_distort": False}
            results["steps"] = 18_760
        write_run(runs / name, config, results, model)
        np.save(runs / name / "losses.npy", np.geomspace(2.3, 0.03, 100))


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
        return self("return document.getElementById(arguments[0]).textContent", name)

    def value(self, name: str) -> str:
        return self("return document.getElementById(arguments[0]).value", name)

    def set(self, name: str, value: object, event: str = "input") -> None:
        self(
            "const e = document.getElementById(arguments[0]); e.value = arguments[1];"
            "e.dispatchEvent(new Event(arguments[2], { bubbles: true }))",
            name,
            value,
            event,
        )

    def click(self, name: str) -> None:
        self("document.getElementById(arguments[0]).click()", name)

    def keys(self, *keys: str) -> None:
        from selenium.webdriver import ActionChains

        for key in keys:
            ActionChains(self.browser).send_keys(key).perform()

    def wait(self, condition: Callable[[], object], seconds: float = 60) -> None:
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.browser, seconds, poll_frequency=0.05).until(lambda _: condition())

    def reach(self, steps: int) -> float:
        """Waits until the training rests at a step; returns its loss as the page shows it."""
        self.wait(
            lambda: self.text("train-steps") == str(steps) and self.text("train-play") == "Play"
        )
        return float(self.text("train-loss"))

    def canvas(self, name: str) -> np.ndarray:
        """The pixels of a canvas: uint8 (height, width, 3)."""
        script = """
            const canvas = document.getElementById(arguments[0]);
            const { width, height } = canvas;
            const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
            return [width, height, Array.from(data)];
        """
        width, height, data = self(script, name)
        return np.array(data, np.uint8).reshape(height, width, 4)[:, :, :3]

    def colour(self, name: str) -> np.ndarray:
        """A colour of the page's theme, by its name in page.css, as red, green, blue."""
        text = self(
            "return getComputedStyle(document.documentElement).getPropertyValue(arguments[0])", name
        )
        return np.array([int(text.strip()[i : i + 2], 16) for i in (1, 3, 5)])
