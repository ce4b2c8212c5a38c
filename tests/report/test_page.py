"""The page as a file, with runs that are there, missing or damaged; in a browser at any size."""

from report import page, plateau
from report.screenshots import become

import json
import re
from html import unescape

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
    identifiers = re.findall(r' id="([^"]+)"', text)
    assert len(identifiers) == len(set(identifiers)) > 30
    assert text.count("<img ") == text.count(' alt="') == 5  # a loss.png of each run
    counts = re.sub(r"<[^>]+>", " ", text.split('class="counts">')[1].split("</p>")[0])
    assert " ".join(counts.split()) == "Of 19 claims 18 agree , 1 differs for a known reason ."


def test_starts_and_losses_are_in_the_page(runs):
    text, found = html(runs), page.plateau()
    said = (
        "At 5, five hundred times the lecture's rate, 199 of 200 starts have all ten points right "
        "after 20,000 steps."
    )
    assert said in text
    weights = torch.nn.utils.parameters_to_vector(plateau.starts()[found["seed"]].parameters())
    assert found["weights"] == weights.tolist() == data_of(text)["plateau"]
    losses = np.load(runs / "ann_revisited" / "losses.npy")
    curve = data_of(text)["start"]["curve"]
    assert len(curve) > 100 and curve[0][0] == 0 and curve[-1][0] == len(losses) - 1
    assert [loss for _, loss in curve] == losses[[step for step, _ in curve]].tolist()


def test_the_file_about_other_starts(monkeypatch, tmp_path):
    """The first of the lecture's trainings with nine points right, and how many fast ones have ten."""
    right = {plateau.RATE: [10, 9, 9], plateau.FAST_RATE: [10, 9, 10]}
    monkeypatch.setattr(plateau, "train", lambda models, steps, rate: right[rate])
    monkeypatch.setattr(plateau, "FILE", tmp_path / "plateau.json")
    plateau.main()
    content = json.loads((tmp_path / "plateau.json").read_text())
    assert content["seed"] == 1 and content["fast"]["all_right"] == 2


def test_a_missing_run_is_a_command(tmp_path, command):
    done = command("--runs", tmp_path)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")  # beside the runs by default
    assert done.err == "" and text.count("There is no such run yet") == 5
    for script in ("lectures/linear_recovery", "lectures/mnist_mlp", "exercises/mnist_all"):
        assert f"<code>python {script}.py</code>" in text
    assert "19 belong to runs that are missing" in text and done.out.count("not run") == 5


def test_damaged_files_are_named_in_their_section_alone(runs):
    (runs / "mnist_mlp" / "metrics.json").write_text('{"results": 3}')
    names = ("model.pt", "model_initial.pt", "losses.npy", "loss.png")
    for name in names:
        path = runs / "ann_revisited" / name
        path.write_bytes(path.read_bytes()[:40])
    text = html(runs)
    error = "<strong>Error:</strong> mnist_mlp/metrics.json is damaged"
    assert error in section(text, "digits") and text.count("<strong>Error:</strong>") == 1
    for name in names:
        said = rf"ann_revisited/{name} is (missing or )?damaged"
        assert re.search(said, section(text, "network"))
    assert data_of(text)["start"] is None
    assert (
        "8 agree" in text and "10 differ</strong>" in text
    )  # 7 without metrics, 3 without a model


def test_the_digit_networks_are_named_by_what_they_were_trained_on(runs):
    change(runs / "mnist_mlp", "results", dataset="digits")
    models = data_of(html(runs))["models"]
    assert [(model["run"], model["name"]) for model in models] == [
        ("mnist_all", "60,000 images (test set: 97.8 %)"),
        ("mnist_mlp", "100 images, not MNIST's (test set: 68.0 %)"),
    ]
    wide = torch.nn.Sequential(torch.nn.Linear(784, 81), torch.nn.ReLU(), torch.nn.Linear(81, 10))
    for name in ("mnist_mlp", "mnist_all"):
        torch.save(wide.state_dict(), runs / name / "model.pt")
    text = html(runs)
    assert data_of(text)["models"] == [] and "at most 80 hidden units" in text


def test_figures_of_every_format(runs):
    run = runs / "linear_recovery"
    (run / "loss.png").rename(run / "loss.pdf")
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
    said = "cpu (x86_64); PyTorch 2.14; Python 3.11; 2.1 s in all, 0.1235 s of them training"
    assert said in text


def test_what_a_run_says_is_text_and_no_html(runs):
    for run in runs.iterdir():
        change(run, "config", **{HOSTILE: HOSTILE})
        change(run, "results", dataset=HOSTILE, train_images=HOSTILE)
    text = html(runs)
    assert "<script>window" not in text and "<img src=x" not in text
    assert HOSTILE in unescape(text)


def test_a_page_that_cannot_be_written(runs, command):
    done = command("--runs", runs, "--page", runs / "missing" / "x.html")
    said = r"error: cannot write .*x\.html: No such file .*; name another .* --page\n"
    assert done.code == 1 and re.fullmatch(said, done.err)
    assert command("--runs", runs / "nowhere").err.startswith("error: there is no folder")


# In a browser.


def test_no_error_and_no_request(reader):
    reader.open()
    reader.click("train-play")
    reader.wait(lambda: int(reader.text("train-steps")) > 1000)
    reader.set("rate", -1)
    assert reader.browser.get_log("browser") == []
    requests = reader("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert [name for name in requests if not name.startswith("data:")] == []
    blocked = reader.browser.execute_async_script(  # by the page's own policy
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


@pytest.mark.parametrize("scheme, paper", [("light", (251, 250, 247)), ("dark", (20, 23, 26))])
def test_nothing_is_wider_than_the_screen(reader, screen, scheme, paper):
    reader.open()
    for width in (320, 768, 1920):
        screen(width, scheme)
        root = "document.documentElement"
        assert reader(f"return {root}.scrollWidth <= {root}.clientWidth"), width
        assert reader("return getComputedStyle(document.body).backgroundColor") == f"rgb{paper}"


def test_paper_is_light_whatever_the_screen_is(reader, screen):
    screen(1280, "dark")
    dark = {"name": "prefers-color-scheme", "value": "dark"}
    media = {"media": "print", "features": [dark]}
    reader.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    reader.open()
    found = [tuple(reader.colour(name)) for name in ("--paper", "--panel", "--text", "--blue")]
    assert found == [(255, 255, 255), (255, 255, 255), (0, 0, 0), (0, 104, 165)]


def test_the_keyboard_alone(reader):
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys

    def press(*keys: str) -> None:
        ActionChains(reader.browser).send_keys(*keys).perform()

    def focus_on(name: str) -> None:
        """Presses Tab until the element has the focus."""
        for _ in range(60):
            if reader("return document.activeElement.id") == name:
                return
            press(Keys.TAB)
        pytest.fail(f"Tab does not reach {name}")

    def ink() -> np.ndarray:
        return (reader.canvas("digit") < 128).all(axis=2)

    reader.open()
    focus_on("train-play")
    assert reader("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    press(Keys.SPACE)
    reader.wait(lambda: int(reader.text("train-steps")) > 100)
    press(Keys.SPACE)
    focus_on("digit")
    press(Keys.UP, Keys.UP, Keys.UP, Keys.SPACE, *[Keys.DOWN] * 8, *[Keys.RIGHT] * 3)
    rows, columns = np.nonzero(ink())  # a stroke down from above the middle, then to the right
    assert (rows.min(), rows.max()) == pytest.approx((98, 202), abs=3)
    assert (columns.min(), columns.max()) == pytest.approx((128, 182), abs=3)
    drawn = len(rows)
    for key, left in ((Keys.SPACE + "c", 0), ("u", drawn), ("C", 0), ("U", drawn)):
        press(*key)
        assert ink().sum() == left
    event = "new KeyboardEvent('keydown', { key: 'c', ctrlKey: true })"  # the browser copies
    reader(f"document.activeElement.dispatchEvent({event})")
    assert ink().sum() == drawn
