"""The runs and the browser that the tests of the page share."""

from common import program
from lectures import ann_revisited
from report import __main__ as report

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers import no_figures
from PIL import Image
from report_helpers import Reader, html, write_runs
from torch import nn


@pytest.fixture(scope="session")
def network() -> nn.Sequential:
    """A digit network that is sure of some images and unsure of others."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(784, 40), nn.ReLU(), nn.Linear(40, 10))
    with torch.no_grad():
        model[2].weight *= 30
    return model


@pytest.fixture(scope="session")
def complete(network, tmp_path_factory) -> Path:
    """A folder with all five runs; that of the small network is the lecture's own."""
    runs = tmp_path_factory.mktemp("runs")
    write_runs(runs, network)
    with pytest.MonkeyPatch.context() as patch:
        no_figures(patch)
        words = ["ann_revisited.py", "--quiet", "--output-dir", str(runs / "ann_revisited")]
        patch.setattr(sys, "argv", words)
        assert program.outcome(ann_revisited.main) == 0
    for picture in (runs / "ann_revisited").glob("*.png"):
        picture.unlink()
    Image.new("RGB", (40, 30)).save(runs / "ann_revisited" / "loss.png")
    return runs


@pytest.fixture
def runs(complete, tmp_path) -> Path:
    """A copy of the complete folder that a test may damage."""
    return Path(shutil.copytree(complete, tmp_path / "runs"))


@pytest.fixture
def command(monkeypatch, capsys):
    """A function that does what `python -m report` does: its exit code, `out` and `err`."""

    def call(*options: object) -> SimpleNamespace:
        monkeypatch.setattr(sys, "argv", ["report", *map(str, options)])
        code = program.outcome(report.main)
        said = capsys.readouterr()
        return SimpleNamespace(code=code, out=said.out, err=said.err)

    return call


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
