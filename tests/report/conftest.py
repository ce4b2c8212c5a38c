"""The runs and the browser that the tests of the page share."""

from report import __main__ as report

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from report_helpers import (
    PROJECT,
    Reader,
    html,
    image_of,
    write_digit_runs,
    write_linear_runs,
)
from sklearn.datasets import load_digits
from torch import nn


@pytest.fixture(scope="session")
def images() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's digits as the network gets them, uint8 (1797, 28, 28), and their labels."""
    digits = load_digits()
    return np.stack([image_of(image / 16) for image in digits.images]), digits.target


@pytest.fixture(scope="session")
def network(images) -> nn.Sequential:
    """A digit network, trained on all these images but the last hundred."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(784, 40), nn.ReLU(), nn.Linear(40, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    x = torch.from_numpy(images[0][:-100]).reshape(-1, 784) / 255
    y = torch.from_numpy(images[1][:-100])
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model


@pytest.fixture(scope="session")
def complete(network, tmp_path_factory) -> Path:
    """A folder with all five runs; that of the small network is the lecture's own."""
    runs = tmp_path_factory.mktemp("runs")
    write_linear_runs(runs)
    write_digit_runs(runs, network)
    script = PROJECT / "lectures" / "ann_revisited.py"
    options = ["--quiet", "--output-dir", runs / "ann_revisited"]
    subprocess.run([sys.executable, script, *options], check=True, capture_output=True, timeout=300)
    for figure in (runs / "ann_revisited").glob("*.png"):
        if figure.stem != "loss":
            figure.unlink()
    return runs


@pytest.fixture
def runs(complete, tmp_path) -> Path:
    """A copy of the complete folder that a test may damage."""
    return Path(shutil.copytree(complete, tmp_path / "runs"))


@pytest.fixture
def command(monkeypatch, capsys) -> Callable[..., SimpleNamespace]:
    """A function that does what `python -m report` does; returns `out` and the error, `err`."""

    def call(*options: object) -> SimpleNamespace:
        monkeypatch.setattr(sys, "argv", ["report", *map(str, options)])
        err = ""
        try:
            report.main()
        except report.RunError as error:
            err = str(error)
        return SimpleNamespace(out=capsys.readouterr().out, err=err)

    return call


# A browser.


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium; the tests are skipped where there is none, or no selenium."""
    pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    from report.screenshots import RunError, open_browser

    try:
        window = open_browser()
    except RunError as error:
        pytest.skip(str(error))
    yield window
    window.quit()


@pytest.fixture(scope="session")
def reader(browser, complete, tmp_path_factory) -> Reader:
    path = tmp_path_factory.mktemp("a page") / "report #1.html"
    path.write_text(html(complete), encoding="utf-8")
    return Reader(browser, path)
