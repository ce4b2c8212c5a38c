"""The page as a file, with runs that are there, missing or damaged; in a browser at any size."""

from report import page, plateau
from report.screenshots import become

import json
import re
from html import unescape
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from report_helpers import Reader, change, html

HOSTILE = "</script><script>window.taken = true</script><img src=x onerror='window.taken = true'>"


def data_of(text: str) -> dict:
    """What the scripts of a page work with."""
    found = re.search(r'id="page-data">(.*?)</script>', text, re.DOTALL)
    return json.loads(found[1], parse_constant=pytest.fail)


def section(text: str, name: str) -> str:
    """The part of a page from one section's beginning to the next one's."""
    return text.split(f'<section id="{name}"')[1].split('class="lecture">')[1]


def test_one_file_without_a_network(runs, command):
    path = runs / "my page.html"
    done = command("--runs", runs, "--page", path)
    assert done.err == "" and re.fullmatch(r"page: .*my page\.html \(\d\.\d\d MB\)\n", done.out)
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"""(?:src|href|action)=["']?(?:https?:)?//|@import|url\(""", text)
    assert "default-src 'none'" in unescape(text) and "unsafe" not in text.split("<title>")[0]
    identifiers = re.findall(r' id="([^"]+)"', text)
    assert len(identifiers) == len(set(identifiers)) > 30
    assert text.count("<img ") == text.count(' alt="') == 5  # a loss.png of each run


def test_the_counts_and_what_other_starts_did(runs):
    text = html(runs)
    said = " ".join(
        re.sub(r"<[^>]+>", " ", text.split('class="counts">')[1].split("</p>")[0]).split()
    )
    assert said == "Of 19 claims 18 agree , 1 differs for a known reason ."
    assert (
        "At 5, five hundred times the lecture's rate, 199 of 200 starts have all ten points right "
        "after 20,000 steps." in text
    )


def test_the_page_goes_into_the_folder_of_the_runs_by_default(runs, command):
    assert command("--runs", runs).err == ""
    assert (runs / "report.html").is_file()


def test_a_missing_run_is_a_command(tmp_path, command):
    done = command("--runs", tmp_path)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert done.err == "" and text.count("There is no such run yet") == 5
    for script in ("lectures/linear_recovery", "lectures/mnist_mlp", "exercises/mnist_all"):
        assert f"<code>python {script}.py</code>" in text
    assert "19 belong to runs that are missing" in text and done.out.count("not run") == 5


@pytest.mark.parametrize("content", ["", "{", "[]", '{"results": 3}', "9" * 10_000])
def test_a_damaged_run_is_an_error_in_its_section_alone(runs, content):
    (runs / "mnist_mlp" / "metrics.json").write_text(content)
    text = html(runs)
    error = "<strong>Error:</strong> mnist_mlp/metrics.json is damaged"
    assert error in section(text, "digits") and text.count("<strong>Error:</strong>") == 1
    assert "11 agree" in text and "7 differ</strong>" in text


@pytest.mark.parametrize("content", [b"nonsense", b"", None])
def test_damaged_files_beside_a_good_metrics_are_named(runs, content):
    run = runs / "ann_revisited"
    for name in ("model.pt", "model_initial.pt", "losses.npy"):
        (run / name).write_bytes((run / name).read_bytes()[:-100] if content is None else content)
    (run / "loss.png").write_bytes(b"\x89PNG\r\n\x1a\n" + (content or b""))
    text = html(runs)
    for name in ("model.pt", "model_initial.pt", "losses.npy"):
        assert f"ann_revisited/{name} is missing or damaged" in section(text, "network")
    assert "ann_revisited/loss.png is damaged" in text
    assert data_of(text)["start"] is None


def test_nothing_in_a_model_is_executed(runs):
    class Taken:
        def __reduce__(self):
            return (Path.touch, (runs / "taken",))

    torch.save({"0.weight": Taken()}, runs / "mnist_mlp" / "model.pt")
    assert "mnist_mlp/model.pt is missing or damaged" in html(runs)
    assert not (runs / "taken").exists()


def test_a_start_that_is_not_finite_is_none(runs):
    path = runs / "ann_revisited" / "model_initial.pt"
    state = torch.load(path)
    state["0.weight"][0, 0] = torch.nan
    torch.save(state, path)
    assert data_of(html(runs))["start"] is None


def test_the_digit_networks_are_named_by_what_they_were_trained_on(runs):
    models = data_of(html(runs))["models"]
    assert [(model["run"], model["name"]) for model in models] == [
        ("mnist_all", "60,000 images (test set: 97.8 %)"),
        ("mnist_mlp", "100 images (test set: 68.0 %)"),
    ]
    change(runs / "mnist_mlp", "results", dataset="digits")
    name = data_of(html(runs))["models"][1]["name"]
    assert name == "100 images, not MNIST's (test set: 68.0 %)"


def test_a_network_with_many_hidden_units_is_left_out(runs):
    for name in ("mnist_mlp", "mnist_all"):
        model = torch.nn.Sequential(
            torch.nn.Linear(784, 81), torch.nn.ReLU(), torch.nn.Linear(81, 10)
        )
        torch.save(model.state_dict(), runs / name / "model.pt")
    text = html(runs)
    assert data_of(text)["models"] == [] and "at most 80 hidden units" in text


def test_figures_of_every_format(runs):
    run = runs / "linear_recovery"
    (run / "loss.png").unlink()
    (run / "loss.pdf").write_bytes(b"%PDF")
    assert "loss.pdf is in the run's folder; a page cannot show such files" in unescape(html(runs))
    (run / "loss.svg").write_text("<svg/>")
    Image.new("RGB", (40, 30)).save(runs / "ann_revisited" / "training.gif")
    text = html(runs)
    assert '<img src="data:image/svg+xml;base64,PHN2Zy8+"' in text
    assert "<summary>An animation: training.gif</summary>" in text


def test_options_seconds_and_versions_are_shown(runs):
    change(runs / "mnist_mlp", "config", quiet=True, epochs=100)
    change(runs / "mnist_mlp", "seconds", training=0.123456, imports=2.0)
    text = section(html(runs), "digits")
    assert "<dt>epochs</dt><dd>100</dd>" in text and "<dt>quiet</dt>" not in text
    assert (
        "cpu (x86_64); PyTorch 2.14; Python 3.11; 2.1 s in all, 0.1235 s of them training" in text
    )


def test_hostile_text_is_text(runs, browser):
    for run in runs.iterdir():
        change(run, "config", **{HOSTILE: HOSTILE})
        change(run, "environment", device=HOSTILE)
        change(run, "results", dataset=HOSTILE, train_images=HOSTILE, final_loss=HOSTILE)
    text = html(runs)
    assert "<script>window" not in text and "<img src=x" not in text
    (runs / "report.html").write_text(text, encoding="utf-8")
    reader = Reader(browser, runs / "report.html")
    reader.open()
    reader.wait(lambda: reader.text("train-loss"))
    assert reader("return window.taken") is None and browser.get_log("browser") == []
    assert HOSTILE in reader("return document.body.textContent")


def test_a_page_that_cannot_be_written(runs, command):
    done = command("--runs", runs, "--page", runs / "missing" / "x.html")
    assert re.fullmatch(
        r"cannot write .*x\.html: No such file .*; name another .* --page", done.err
    )
    assert "--page" in command("--runs", runs, "--page", runs / "mnist_mlp").err
    assert command("--runs", runs / "nowhere").err.startswith("there is no folder")


def test_the_plateau_is_the_start_of_its_seed():
    found = page.plateau()
    model = plateau.starts()[found["seed"]]
    weights = torch.nn.utils.parameters_to_vector(model.parameters())
    assert found["weights"] == weights.tolist()


# In a browser.


def test_no_error_and_no_request(reader):
    reader.open()
    reader.click("train-play")
    reader.wait(lambda: int(reader.text("train-steps")) > 1000)
    reader.set("rate", -1)
    assert reader.browser.get_log("browser") == []
    requests = reader("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert [name for name in requests if not name.startswith("data:")] == []


def test_the_policy_forbids_requests(reader):
    reader.open()
    blocked = reader.browser.execute_async_script(
        "const done = arguments[0];"
        "const blocked = (event) => done(event.effectiveDirective);"
        "document.addEventListener('securitypolicyviolation', blocked);"
        "fetch('https://example.org/').catch(() => {}); setTimeout(() => done('nothing'), 5000)"
    )
    assert blocked == "connect-src"


def test_a_page_without_runs_still_trains(browser, tmp_path):
    (tmp_path / "report.html").write_text(html(tmp_path), encoding="utf-8")
    reader = Reader(browser, tmp_path / "report.html")
    reader.open()
    reader.set("train-step", 50)
    assert reader.reach(50) and browser.get_log("browser") == []


@pytest.fixture
def screen(browser):
    """`become` for this browser, undone after the test."""
    yield lambda width, scheme: become(browser, width, 800, scheme)
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})


@pytest.mark.parametrize("width", [320, 390, 768, 1920])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_screen(reader, screen, width, scheme):
    screen(width, scheme)
    reader.open()
    root = "document.documentElement"
    assert reader(f"return {root}.scrollWidth <= {root}.clientWidth")
    assert reader("return getComputedStyle(document.getElementById('digit')).touchAction") == "none"
    paper = {"light": "rgb(251, 250, 247)", "dark": "rgb(20, 23, 26)"}[scheme]
    assert reader("return getComputedStyle(document.body).backgroundColor") == paper


def test_paper_is_light_whatever_the_screen_is(reader, screen):
    screen(1280, "dark")
    colours = [{"name": "prefers-color-scheme", "value": "dark"}]
    media = {"media": "print", "features": colours}
    reader.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    reader.open()
    found = [tuple(reader.colour(name)) for name in ("--paper", "--panel", "--text", "--blue")]
    assert found == [(255, 255, 255), (255, 255, 255), (0, 0, 0), (0, 104, 165)]


def test_the_keyboard_alone(reader):
    from selenium.webdriver.common.keys import Keys

    def focus_on(name: str) -> None:
        """Presses Tab until the element has the focus."""
        for _ in range(60):
            if reader("return document.activeElement.id") == name:
                return
            reader.keys(Keys.TAB)
        pytest.fail(f"Tab does not reach {name}")

    def drawn() -> int:
        """How much ink is on the sheet."""
        return int((reader.canvas("digit") < 128).sum())

    reader.open()
    focus_on("rate")
    rate = float(reader.text("rate-value"))
    reader.keys(*[Keys.LEFT] * 5)
    assert float(reader.text("rate-value")) < rate
    focus_on("train-play")
    assert reader("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    reader.keys(Keys.SPACE)
    reader.wait(lambda: int(reader.text("train-steps")) > 100)
    reader.keys(Keys.SPACE)
    focus_on("train-step")
    reader.keys(Keys.HOME)
    reader.reach(0)
    reader.keys(Keys.RIGHT, Keys.RIGHT)
    reader.reach(2)
    focus_on("digit")
    reader.keys(Keys.UP, Keys.UP, Keys.UP, Keys.SPACE, *[Keys.DOWN] * 8)
    ink = drawn()
    rows, columns = np.nonzero((reader.canvas("digit") < 128).all(axis=2))
    assert 0 < columns.max() - columns.min() < 40 < rows.max() - rows.min()  # a stroke downwards
    for key, left in ((Keys.SPACE + "c", 0), ("u", ink), ("C", 0), ("U", ink)):
        reader.keys(*key)
        assert drawn() == left
    for modifier in ("ctrlKey", "metaKey"):  # the browser copies
        reader(
            "document.activeElement.dispatchEvent("
            "new KeyboardEvent('keydown', { key: 'c', [arguments[0]]: true }))",
            modifier,
        )
        assert drawn() == ink
