"""The page that shows the runs, and what a reader does to it in a real browser; `python -m report --check`."""

import base64
import io
import json
import os
import re
import shlex
import shutil
import sys
import zipfile
from html import unescape
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from common import folder, fused, program
from common.run import generator
from exercises import own_digit
from exercises.own_digit import prepare
from lectures import ann_revisited, mnist_mlp
from lectures.linear_recovery import B_TRUE, W_TRUE
from report import __main__ as report
from report import claims, page, plateau
from report.runs import SOURCES, Run

STEPS = 1_000_000
PARTS = ("config", "environment", "seconds", "results")  # of a metrics.json
HOSTILE = "</script><script>window.taken = true</script><img src=x onerror='window.taken = true'>"


# Runs made up for the tests: the files that a run leaves, with numbers that agree with the lecture.


def write_run(path: Path, config: dict, results: dict, **states: torch.nn.Module) -> Path:
    """Writes a run's metrics.json, its models `initial` and `model`, and a small figure."""
    path.mkdir(parents=True)
    folder.save(
        path / "metrics.json",
        {
            "script": path.name,
            "config": {"seed": 0, **config},
            "seconds": {"imports": 1.0, "training": 0.5},
            "environment": {"python": "3.11", "torch": "2.14", "device": "cpu (x86_64)"},
            "results": results,
        },
    )
    for name, model in states.items():
        folder.save(path / f"{name}.pt", model.state_dict())
    Image.new("RGB", (40, 30), "white").save(path / "loss.png")
    return path


def write_linear_runs(runs: Path) -> None:
    model = torch.nn.Linear(5, 2, dtype=torch.float64)
    numbers = {
        "weight": W_TRUE + 0.05,
        "bias": B_TRUE,
        "weight_average": W_TRUE + 0.004,
        "bias_average": B_TRUE + 0.05,
    }
    config = {"lr": 0.01, "low": 5.0, "high": 10.0, "noise": 0.2}
    path = write_run(
        runs / "linear_recovery",
        config,
        numbers | {"steps": 10_000, "ended": "finished"},
        model=model,
    )
    folder.save(path / "losses.npy", np.full(10_000, 0.08))
    path = write_run(
        runs / "linear_recovery_raw",
        {"lr": 0.01, "raw": True},
        numbers | {"steps": 231, "ended": "diverged", "final_loss": None},
        model=model,
    )
    folder.save(path / "losses.npy", np.geomspace(1, 1e300, 231))


def write_digit_runs(runs: Path, model: torch.nn.Module, **more: object) -> None:
    five = [{"label": label, "prediction": label} for label in (5, 0, 4, 1, 9)]
    for name, images, share in (("mnist_mlp", 100, 0.68), ("mnist_mlp_all", 60_000, 0.978)):
        results = {
            "dataset": "mnist",
            "train_images": images,
            "steps": 100,
            "first_five": five,
            "train_accuracy": 1.0,
            "test_accuracy": share,
        }
        write_run(runs / name, {"lr": 0.001}, results | more, model=model)


@pytest.fixture(scope="module")
def complete(tmp_path_factory) -> Path:
    """A folder with all five runs; the small network's is real, a million steps of it."""
    runs = tmp_path_factory.mktemp("runs")
    write_linear_runs(runs)
    write_digit_runs(runs, digit_network())
    model = ann_revisited.random_model(generator(0, "model"))
    path = write_run(runs / "ann_revisited", {"lr": 0.01}, {}, model_initial=model)
    losses = fused.train_sgd(
        model,
        ann_revisited.POINTS[None],
        ann_revisited.LABELS[None],
        learning_rate=0.01,
        steps=STEPS,
        scale=0.5 / 10,
    )
    folder.save(path / "losses.npy", losses)
    folder.save(path / "model.pt", model.state_dict())
    results = ann_revisited.evaluate(model, losses) | {"steps": STEPS, "ended": "finished"}
    change(path / "metrics.json", lambda metrics: metrics["results"].update(results))
    return runs


def digit_network() -> torch.nn.Sequential:
    """The digit network, trained a little on MNIST or, without its files, on scikit-learn's digits."""
    images, labels, _ = some_digits()
    model = mnist_mlp.glorot_model(40, generator(0, "model"))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(
            model[:-1](images.reshape(-1, 784) / 255), labels
        ).backward()
        optimizer.step()
    return model


def some_digits() -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """1,000 images of float32 (n, 28, 28) and their labels to train on; 100 others of uint8."""
    from common import digits

    root = os.environ.get("MNIST_ROOT")
    there = root and (Path(root) / "MNIST" / "raw").is_dir()
    data = digits.load("mnist" if there else "digits", Path(root or "."))
    return data.x_train[:1000].float(), data.y_train[:1000], data.x_test[:100].numpy()


def change(path: Path, edit) -> None:
    """Edits a metrics.json in place."""
    metrics = json.loads(path.read_text())
    edit(metrics)
    path.write_text(json.dumps(metrics))


@pytest.fixture
def runs(complete, tmp_path) -> Path:
    """A copy of the complete folder that a test may damage."""
    shutil.copytree(complete, tmp_path / "runs")
    return tmp_path / "runs"


def html(path: Path) -> str:
    return page.render(page.read_all(path))


@pytest.fixture
def command(monkeypatch, capfd):
    """A function that runs `python -m report` with options, in this process; returns exit code, stdout, stderr."""

    def call(*options: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["report", *map(str, options)])
        code = program.outcome(report.main)
        return code, *capfd.readouterr()

    return call


# The page as a file.


def test_one_file_without_a_network(runs, command):
    code, _, err = command("--runs", runs, "--page", runs / "my page.html")
    assert (code, err) == (0, "")
    text = (runs / "my page.html").read_text(encoding="utf-8")
    assert len(text.encode()) < 3_000_000
    assert not re.search(r"""(?:src|href|action)=["']?(?:https?:)?//|@import|url\(""", text)
    assert "default-src 'none'" in unescape(text) and "unsafe" not in text.split("<title>")[0]
    for name in (
        "train-play",
        "train-reset",
        "train-step",
        "train-rate",
        "train-loss",
        "train-steps",
        "regions",
        "digit",
        "digit-clear",
        "digit-answer",
        "digit-model",
        "rate",
        "rate-answer",
    ):
        assert text.count(f'id="{name}"') == 1
    assert "28 agree" in text and "1 differs for a known reason" in text
    assert text.count("<img ") == text.count(' alt="') == 5  # a loss.png of each run


def test_the_page_goes_into_the_folder_of_the_runs_by_default(runs, command):
    assert command("--runs", runs)[0] == 0
    assert (runs / "report.html").is_file()


def test_a_missing_run_is_a_command(tmp_path, command):
    code, out, _ = command("--runs", tmp_path)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert code == 0 and text.count("There is no such run yet") == 5
    for script in ("linear_recovery", "ann_revisited", "mnist_mlp"):
        assert f"<code>python lectures/{script}.py</code>" in text
    assert "29 belong to runs that are missing" in text and out.count("not run") == 5


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"results": 3}',
        "[" * 100_000,
        "9" * 10_000,
        json.dumps({part: {} for part in PARTS}) + " " * 1_100_000,
    ],
)
def test_a_damaged_run_is_an_error_in_its_section_alone(runs, content):
    (runs / "mnist_mlp" / "metrics.json").write_text(content)
    text = html(runs)
    assert text.count("<strong>Error:</strong>") == 1
    error = text.index("<strong>Error:</strong>")
    assert (
        text.index('id="digits"') < error and "mnist_mlp/metrics.json" in text[error : error + 200]
    )
    assert "17 agree" in text


def test_damaged_files_beside_a_good_metrics_are_named(runs):
    for name in ("model.pt", "model_initial.pt", "losses.npy", "loss.png"):
        (runs / "ann_revisited" / name).write_bytes(b"nonsense")
    text = html(runs)
    for fault in (
        "model.pt is missing or damaged",
        "model_initial.pt is missing or damaged",
        "losses.npy cannot be read",
        "loss.png is damaged",
    ):
        assert f"ann_revisited/{fault}" in text
    assert '"start": null' in text


def test_a_start_that_is_not_finite_is_none(runs):
    state = folder.load(runs / "ann_revisited" / "model_initial.pt")
    state["0.weight"][0, 0] = torch.nan
    folder.save(runs / "ann_revisited" / "model_initial.pt", state)
    assert '"start": null' in html(runs)


def test_the_digit_networks_are_named_by_what_they_were_trained_on(runs):
    names = [model["name"] for model in page.data(page.read_all(runs))["models"]]
    assert names == ["60,000 images (test set: 97.8 %)", "100 images (test set: 68.0 %)"]
    change(
        runs / "mnist_mlp" / "metrics.json",
        lambda metrics: metrics["results"].update(dataset="digits"),
    )
    assert (
        page.data(page.read_all(runs))["models"][1]["name"]
        == "100 images, not MNIST's (test set: 68.0 %)"
    )


@pytest.mark.parametrize("value", [None, True, "many", [1], {"a": 1}, 10**400, -1.5, 1e308])
def test_nonsense_among_the_results_differs_and_breaks_nothing(runs, value):
    for path in runs.glob("*/metrics.json"):
        change(
            path,
            lambda metrics: [
                metrics[part].update(dict.fromkeys(metrics[part], value))
                for part in ("config", "results", "environment", "seconds")
            ],
        )
    assert "differ</strong>" in html(runs)


def test_hostile_text_is_text(runs):
    def edit(metrics):
        metrics["config"] = {HOSTILE: HOSTILE}
        metrics["environment"] = {"device": HOSTILE}
        metrics["results"]["dataset"] = metrics["results"]["steps"] = HOSTILE

    for path in runs.glob("*/metrics.json"):
        change(path, edit)
    text = html(runs)
    assert (
        "<script>window" not in text and "<img src=x" not in text and "&lt;script&gt;window" in text
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_none_are_not_in_the_data(runs, value):
    for path in runs.glob("*/metrics.json"):
        change(
            path,
            lambda metrics: [
                metrics[part].update(dict.fromkeys(metrics[part], value))
                for part in ("config", "results", "seconds")
            ],
        )
    found = re.search(r'id="page-data">(.*?)</script>', html(runs), re.DOTALL)
    assert json.loads(found[1], parse_constant=pytest.fail)["start"]["rate"] is None


def test_a_model_that_unpacks_to_too_much_is_not_read(runs):
    path = runs / "mnist_mlp" / "model.pt"
    with (
        zipfile.ZipFile(path) as parts,
        zipfile.ZipFile(runs / "large.pt", "w", zipfile.ZIP_DEFLATED) as large,
    ):
        for part in parts.infolist():
            large.writestr(part.filename, parts.read(part))
        large.writestr(f"{part.filename.partition('/')[0]}/data/9", bytes(50_000_000))
    os.replace(runs / "large.pt", path)
    assert path.stat().st_size < 1_000_000
    assert "mnist_mlp/model.pt is missing or damaged, or larger than 2,000,000 bytes" in html(runs)


def test_figures_that_would_make_the_page_too_large_are_left_out(runs):
    noise = np.random.default_rng(0).integers(0, 255, (500, 500, 3), dtype=np.uint8)
    for path in runs.iterdir():
        for name in ("loss", "parameter_error", "confusion", "mistakes", "regions"):
            Image.fromarray(noise).save(path / f"{name}.png")
    text = html(runs)
    assert len(text.encode()) < 3_000_000 and "with it the page would be too large" in text


# The check.


def test_check_of_a_good_folder(runs, command):
    code, out, err = command("--runs", runs, "--check")
    assert (code, err) == (0, "") and out.count("✓ agrees") == 28 and "overflows at step 232" in out
    assert out.splitlines()[-1] == "28 agree, 1 differs for a known reason, 0 not run"
    assert not (runs / "report.html").exists()


def test_check_names_what_differs(runs, command):
    change(
        runs / "ann_revisited" / "metrics.json",
        lambda metrics: metrics["results"].update(points_correct=9),
    )
    code, out, err = command("--runs", runs, "--check")
    assert code == 1 and err == "error: 1 of 29 claims differ, see above\n"
    assert re.search(r"✗ differs +ann_revisited .*9 of 10", out) and "plateau" in out


def test_check_of_a_recipe_that_did_not_diverge(runs, command):
    change(
        runs / "linear_recovery_raw" / "metrics.json",
        lambda metrics: metrics["results"].update(ended="finished"),
    )
    assert command("--runs", runs, "--check")[0] == 1


def test_check_without_a_run(runs, command):
    shutil.rmtree(runs / "linear_recovery_raw")
    shutil.rmtree(runs / "mnist_mlp_all")  # neither is the lecture's
    code, out, _ = command("--runs", runs, "--check")
    assert code == 0 and out.count("- not run ") == 3
    assert out.splitlines()[-1] == "26 agree, 0 differ for a known reason, 3 not run"
    shutil.rmtree(runs / "mnist_mlp")
    code, _, err = command("--runs", runs, "--check")
    assert (code, err) == (1, "error: mnist_mlp was not run: python lectures/mnist_mlp.py\n")


def test_check_of_other_inputs(runs, command):
    change(
        runs / "linear_recovery" / "metrics.json",
        lambda metrics: metrics["config"].update(low=0.0, high=5.0),
    )
    code, out, _ = command("--runs", runs, "--check")
    assert code == 1 and re.search(r"✗ differs +linear_recovery .*0 to 5, noise 0.2", out)


def test_the_command_of_the_page_is_that_of_make():
    tuned = re.search(
        r"^TUNED = (.*)$", (program.PROJECT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE
    )
    source = next(source for source in SOURCES if source.name == "mnist_mlp_all")
    start = ["python", "lectures/mnist_mlp.py", "--output-dir", "outputs/mnist_mlp_all"]
    assert shlex.split(source.command) == [*start, *shlex.split(tuned[1])]


def test_a_page_in_a_folder_that_is_not_there(runs, command):
    code, _, err = command("--runs", runs, "--page", runs / "missing" / "x.html")
    assert (
        code == 1
        and err == f"error: there is no folder {runs / 'missing'}; name another file with --page\n"
    )
    code, _, err = command("--runs", runs, "--page", runs / "mnist_mlp")
    assert (
        code == 1
        and err.startswith("error: cannot write ")
        and "--page" in err
        and "--output-dir" not in err
    )


def test_check_of_a_damaged_run(runs, command):
    (runs / "linear_recovery" / "metrics.json").write_text("{")
    code, out, _ = command("--runs", runs, "--check")
    assert code == 1 and out.count("damaged") == 7


def test_a_folder_that_is_not_there(tmp_path, command):
    code, _, err = command("--runs", tmp_path / "nowhere")
    assert code == 1 and err.startswith("error: there is no folder")


TOLERANCES = {  # for each claim a value just inside and one just outside
    ("linear_recovery", "steps"): (10_000, 10_001),
    ("linear_recovery", "lr"): (0.01, 0.0101),
    ("linear_recovery", "weight_error"): (0.0149, 0.0151),
    ("linear_recovery", "bias_error"): (0.149, 0.151),
    ("linear_recovery", "last_weight_error"): (0.119, 0.121),
    ("linear_recovery", "last_losses"): (0.119, 0.121),
    ("linear_recovery", "inputs"): ("5 to 10, noise 0.2", "0 to 5, noise 0.2"),
    ("linear_recovery_raw", "overflow"): (400, 401),
    ("ann_revisited", "parameters"): (23, 22),
    ("ann_revisited", "layers"): ("6, 9, 8", "6, 9, 9"),
    ("ann_revisited", "arrays"): (6, 7),
    ("ann_revisited", "flux_bytes"): (568, 569),
    ("ann_revisited", "steps"): (1_000_000, 999_999),
    ("ann_revisited", "lr"): (0.01, 0.0099),
    ("ann_revisited", "points_correct"): (10, 9),
    ("ann_revisited", "final_loss"): (0.0799, 0.0801),
    ("mnist_mlp", "dataset"): ("mnist", "digits"),
    ("mnist_mlp", "labels"): ("5, 0, 4, 1, 9", "5, 0, 4, 1, 8"),
    ("mnist_mlp", "parameters"): (31_810, 31_811),
    ("mnist_mlp", "layers"): ("31,400, 410", "31,400, 411"),
    ("mnist_mlp", "flux_kib"): (124.5078125, 124.51),
    ("mnist_mlp", "train_images"): (100, 99),
    ("mnist_mlp", "steps"): (100, 101),
    ("mnist_mlp", "lr"): (0.001, 0.0011),
    ("mnist_mlp", "first_five"): (5, 4),
    ("mnist_mlp", "train_accuracy"): (0.99, 0.989),
    ("mnist_mlp", "test_accuracy"): (0.621, 0.619),
    ("mnist_mlp_all", "train_images"): (60_000, 59_999),
    ("mnist_mlp_all", "test_accuracy"): (0.9751, 0.9749),
}


@pytest.mark.parametrize("claim", claims.CLAIMS, ids=lambda claim: f"{claim.run}-{claim.fact}")
def test_the_tolerance_of_each_claim(claim):
    source = next(source for source in SOURCES if source.name == claim.run)
    marks = []
    for value in TOLERANCES[claim.run, claim.fact]:
        parts: dict = {
            "config": {},
            "environment": {},
            "seconds": {},
            "results": {claim.fact: value},
        }
        marks.append(claims.judge(claim, Run(source, "read", metrics=parts)).mark)
    assert marks == [claims.EXPLAINED if claim.explained else claims.AGREES, claims.DIFFERS]


# The starts that come with the page.


def train(steps: int, rate: float) -> int:
    """The points right after training from the start on the plateau."""
    model = ann_revisited.random_model(generator(0, "model"))
    vector_to_parameters(
        torch.tensor(page.plateau()["weights"], dtype=torch.float64), model.parameters()
    )
    fused.train_sgd(
        model,
        ann_revisited.POINTS[None],
        ann_revisited.LABELS[None],
        learning_rate=rate,
        steps=steps,
        scale=0.5 / 10,
    )
    return int(ann_revisited.points_correct(model).sum())


def test_the_start_on_the_plateau_stays_there_and_leaves_it_at_the_larger_rate():
    assert (train(plateau.STEPS, plateau.RATE), train(plateau.FAST_STEPS, plateau.FAST_RATE)) == (
        9,
        10,
    )


def test_the_plateau_is_the_start_of_its_seed():
    found = page.plateau()
    model = ann_revisited.random_model(generator(found["seed"], "model"))
    assert parameters_to_vector(model.parameters()).tolist() == found["weights"]


# The page in a browser.


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium; the tests are skipped where there is none, or no selenium."""
    pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    from report.screenshots import open_browser

    try:
        window = open_browser()
    except program.RunError as error:
        pytest.skip(str(error))
    yield window
    window.quit()


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

    def wait(self, condition, seconds: float = 60) -> None:
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.browser, seconds, poll_frequency=0.05).until(lambda _: condition())

    def reach(self, steps: int) -> float:
        """Waits until the training rests at a step; returns its loss as the page shows it."""
        self.wait(
            lambda: self.text("train-steps") == str(steps) and self.text("train-play") == "Play"
        )
        return float(self.text("train-loss"))

    def picture(self, name: str) -> str:
        return self("return document.getElementById(arguments[0]).toDataURL()", name)


@pytest.fixture(scope="module")
def reader(browser, complete, tmp_path_factory) -> Reader:
    path = tmp_path_factory.mktemp("a page") / "report #1.html"
    path.write_text(html(complete), encoding="utf-8")
    return Reader(browser, path)


def test_no_error_and_no_request(reader):
    reader.open()
    reader.click("train-play")
    reader.wait(lambda: int(reader.text("train-steps")) > 1000)
    reader.set("rate", -1)
    assert reader.browser.get_log("browser") == []
    requests = reader("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert [name for name in requests if not name.startswith(("data:", "blob:"))] == []


def test_the_policy_forbids_requests(reader):
    reader.open()
    blocked = reader.browser.execute_async_script(
        "const done = arguments[0];"
        "document.addEventListener('securitypolicyviolation', (event) => done(event.effectiveDirective));"
        "fetch('https://example.org/').catch(() => {}); setTimeout(() => done('nothing'), 5000)"
    )
    assert blocked == "connect-src"


def test_the_same_losses_as_the_run(reader, complete):
    losses = np.load(complete / "ann_revisited" / "losses.npy")
    model = ann_revisited.random_model(generator(0, "model"))
    model.load_state_dict(folder.load(complete / "ann_revisited" / "model.pt"))
    end = ann_revisited.loss(model, ann_revisited.POINTS, ann_revisited.LABELS).item()
    reader.open()
    assert reader.reach(0) == pytest.approx(losses[0], rel=1e-9)
    for steps, expected in ((10_000, losses[10_000]), (999_999, losses[999_999]), (STEPS, end)):
        reader.set("train-step", steps)
        assert reader.reach(steps) == pytest.approx(expected, rel=1e-9), steps
    reader.set("train-step", 10_000)  # back again
    assert reader.reach(10_000) == pytest.approx(losses[10_000], rel=1e-9)


def test_play_pause_reset(reader):
    reader.open()
    reader.reach(0)
    regions, chart = reader.picture("regions"), reader.picture("train-chart")
    reader.click("train-play")
    assert reader.text("train-play") == "Pause"
    reader.wait(lambda: int(reader.text("train-steps")) > 2000)
    reader.click("train-play")
    steps = int(reader.text("train-steps"))
    assert reader.text("train-play") == "Play" and int(reader.text("train-speed")) > 0
    assert reader.picture("regions") != regions and reader.picture("train-chart") != chart
    assert f"start=run&rate=0.01&steps={steps}" in reader.browser.current_url
    reader.click("train-reset")
    assert reader.reach(0) and reader.picture("regions") == regions


def test_an_address_is_a_moment(reader):
    reader.open("#start=77&rate=5&steps=3000&inputs=quickstart&eta=0.01")
    loss, regions = reader.reach(3000), reader.picture("regions")
    assert reader("return document.getElementById('train-rate').value") == "5"
    assert (
        reader("return document.querySelector('input[name=inputs]:checked').value") == "quickstart"
    )
    reader.set("train-step", 1234)
    reader.reach(1234)
    sent = reader.browser.current_url.partition("#")[2]
    assert sent == "start=77&rate=5&steps=1234&inputs=quickstart&eta=0.01"
    reader.open("#" + sent.replace("1234", "3000"))
    assert reader.reach(3000) == loss and reader.picture("regions") == regions


@pytest.mark.parametrize(
    "settings",
    [
        "#start=<b>&rate=7&steps=-4&inputs='&eta=x",
        "#steps=1e99",
        "#network",
        "#=&&=#",
        "#start=__proto__&rate=constructor&steps=10",
    ],
)
def test_an_address_with_nonsense_is_the_start(reader, settings):
    reader.open(settings)
    reader.wait(lambda: reader.text("train-loss") and reader.text("rate-answer"))
    assert reader("return document.getElementById('train-rate').value") == "0.01"
    assert reader.browser.get_log("browser") == []


def test_three_buttons(reader):
    reader.open()
    reader("document.querySelector('button[data-start=plateau]').click()")
    reader.reach(STEPS)
    assert reader.text("train-right") == "9 of 10" and "Wrong: (0.4, 0.2)" in reader.text(
        "train-wrong"
    )
    reader.set("train-rate", "5", "change")
    assert reader.text("train-steps") == "0"
    reader.set("train-step", 20_000)
    reader.reach(20_000)
    assert (
        reader.text("train-right") == "10 of 10"
        and "start=plateau&rate=5" in reader.browser.current_url
    )
    reader("document.querySelector('button[data-rate=\"5\"]').click()")
    reader.wait(lambda: int(reader.text("train-steps")) > 100)
    reader("document.querySelector('button[data-start=run][data-rate=\"0.01\"]').click()")
    reader.reach(STEPS)
    assert reader.text("train-right") == "10 of 10"
    reader.click("train-play")  # beyond the slider's end
    reader.wait(lambda: int(reader.text("train-steps")) > STEPS)


def test_another_start(reader):
    reader.open()
    first = reader.reach(0)
    reader.click("train-another")
    second = reader.reach(0)
    reader.click("train-another")
    assert len({first, second, reader.reach(0)}) == 3


def test_the_weights_as_json(reader):
    reader.open("#start=run&rate=1&steps=500")
    reader.reach(500)
    saved = json.loads(
        reader.browser.execute_async_script(
            "const done = arguments[0]; URL.createObjectURL = (blob) => { blob.text().then(done); return '#'; };"
            "document.getElementById('train-save').click()"
        )
    )
    model = ann_revisited.random_model(generator(0, "model"))
    like = {name: tensor.shape for name, tensor in model.state_dict().items()}
    state = {
        name: torch.tensor(numbers, dtype=torch.float64)
        for name, numbers in saved["weights"].items()
    }
    assert {name: tensor.shape for name, tensor in state.items()} == like
    model.load_state_dict(state)
    points, labels = ann_revisited.POINTS, ann_revisited.LABELS
    assert ann_revisited.loss(model, points, labels).item() == pytest.approx(
        saved["loss"], rel=1e-12
    )
    assert (saved["steps"], saved["learning_rate"]) == (500, 1)


def test_the_learning_rate(reader):
    reader.open()
    reader.wait(lambda: reader.text("rate-answer"))
    assert re.search(
        r"overflows at step 2\d\d\.", reader.text("rate-answer")
    )  # the printed recipe, at 0.01
    assert float(reader.text("rate-edge-value")) == pytest.approx(0.0035, rel=0.02)
    reader.set("rate", -3)
    assert "diverges" not in reader.text("rate-answer")
    for inputs, edge in (("centred", 0.47), ("quickstart", 0.029)):
        reader(f"document.querySelector('input[value={inputs}]').click()")
        assert float(reader.text("rate-edge-value")) == pytest.approx(edge, rel=0.05)
        reader.set("rate", -2)
        assert reader.text("rate-value") == "0.01" and reader.text("rate-answer").startswith(
            "It settles"
        )
        reader.set("rate", 0)
        assert "diverges" in reader.text("rate-answer")


def test_a_rate_that_diverges_slowly_names_the_step(reader):
    reader.open("#inputs=printed&eta=0.00347")
    slowly = r"It diverges: from step (\d+) on the mean loss stays above the first one; after 10,000 steps it is .*"
    reader.wait(lambda: re.fullmatch(slowly, reader.text("rate-answer")))
    assert 100 < int(re.match(slowly, reader.text("rate-answer"))[1]) < 1000
    reader.set("rate", -2.47)  # it comes and goes
    assert reader.text("rate-answer").startswith("It is far from settled")


def test_another_address_in_the_open_page(reader):
    def go(settings: str) -> None:
        reader("location.hash = arguments[0]", settings)

    reader.open("#model=mnist_mlp_all")
    go("model=mnist_mlp")
    reader.wait(
        lambda: reader("return document.getElementById('digit-model').value") == "mnist_mlp"
    )
    reader.set("train-step", 50)
    reader.reach(50)
    go("start=plateau&rate=5")
    reader.wait(lambda: "start=plateau&rate=5&steps=0" in reader.browser.current_url)
    assert reader.reach(0) and reader("return document.getElementById('train-rate').value") == "5"


def test_hostile_text_in_the_browser(browser, runs):
    def edit(metrics):
        metrics["config"]["lr"] = metrics["results"]["dataset"] = metrics["results"][
            "train_images"
        ] = HOSTILE
        metrics["environment"] = {HOSTILE: HOSTILE}

    for path in runs.glob("*/metrics.json"):
        change(path, edit)
    (runs / "report.html").write_text(html(runs), encoding="utf-8")
    reader = Reader(browser, runs / "report.html")
    reader.open()
    reader.wait(lambda: reader.text("train-loss"))
    assert reader("return window.taken") is None and browser.get_log("browser") == []
    assert HOSTILE[:30] in reader("return document.body.textContent")


def test_a_page_without_runs_still_trains(browser, tmp_path):
    (tmp_path / "report.html").write_text(html(tmp_path), encoding="utf-8")
    reader = Reader(browser, tmp_path / "report.html")
    reader.open()
    reader.set("train-step", 50)
    assert reader.reach(50) and browser.get_log("browser") == []


@pytest.fixture
def device(browser):
    """A function that makes the browser that of a device: its width, and "light" or "dark"; undone after the test."""

    def become(width: int, scheme: str) -> None:
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500},
        )
        browser.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
        )

    yield become
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})


def test_paper_is_light_whatever_the_screen_is(reader, device):
    device(1280, "dark")
    reader.browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"media": "print", "features": [{"name": "prefers-color-scheme", "value": "dark"}]},
    )
    reader.open()
    names = ("--paper", "--panel", "--text", "--blue")
    found = reader(
        "const style = getComputedStyle(document.documentElement);"
        "return arguments[0].map((name) => style.getPropertyValue(name))",
        names,
    )
    assert found == ["#ffffff", "#ffffff", "#000000", "#0068a5"]


@pytest.mark.parametrize("width", [320, 390, 768, 1920])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_screen(reader, device, width, scheme):
    device(width, scheme)
    reader.open()
    assert reader(
        "return document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    )
    assert reader("return getComputedStyle(document.getElementById('digit')).touchAction") == "none"
    paper = {"light": "rgb(251, 250, 247)", "dark": "rgb(20, 23, 26)"}[scheme]
    assert reader("return getComputedStyle(document.body).backgroundColor") == paper


def test_the_keyboard_alone(reader):
    from selenium.webdriver.common.keys import Keys

    def focus_on(name: str) -> None:
        """Presses Tab until the element has the focus."""
        for _ in range(60):
            if reader("return document.activeElement.id") == name:
                return
            reader.keys(Keys.TAB)
        pytest.fail(f"Tab does not reach {name}")

    reader.open()
    focus_on("rate")
    rate = reader.text("rate-value")
    reader.keys(*[Keys.LEFT] * 5)
    assert float(reader.text("rate-value")) < float(rate)
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
    empty = reader.picture("digit")
    reader.keys(Keys.UP, Keys.UP, Keys.UP, Keys.SPACE, *[Keys.DOWN] * 8)
    drawn = reader.picture("digit")
    assert drawn != empty
    reader.keys(Keys.SPACE, "c")
    assert reader.picture("digit") == empty
    reader.keys("u")
    assert reader.picture("digit") == drawn
    reader.keys("C")
    assert reader.picture("digit") == empty
    reader.keys("U")
    assert reader.picture("digit") == drawn
    for modifier in ("ctrlKey", "metaKey"):  # the browser copies
        reader(
            "document.activeElement.dispatchEvent(new KeyboardEvent('keydown', { key: 'c', [arguments[0]]: true }))",
            modifier,
        )
        assert reader.picture("digit") == drawn


# Handwriting in the page, beside the same preparation in Python.


def answers(model: torch.nn.Module, found: list) -> list[int]:
    """The digits that a network says, for what `prepare` found."""
    images = torch.from_numpy(np.stack([digit.image for digit in found]))
    return mnist_mlp.predict(model, mnist_mlp.as_vectors(images)).argmax(dim=1).tolist()


PAINT = """
const [images, done] = arguments;
const sheet = document.getElementById("digit"), answer = document.getElementById("digit-answer");
const until = async (condition) => { while (!condition()) await new Promise((r) => setTimeout(r, 5)); };
(async () => {
  const results = [];
  for (const image of images) {
    const small = Object.assign(document.createElement("canvas"), { width: 28, height: 28 });
    const pixels = new ImageData(28, 28);
    image.forEach((grey, i) => pixels.data.set([grey, grey, grey, 255], 4 * i));
    small.getContext("2d").putImageData(pixels, 0, 0);
    sheet.getContext("2d").drawImage(small, 0, 0, 280, 280);
    answer.textContent = "";
    sheet.dispatchEvent(new PointerEvent("pointerup"));
    await until(() => /^[0-9]/.test(answer.textContent));
    results.push([answer.textContent, sheet.toDataURL()]);
  }
  done(results);
})();
"""


def test_a_hundred_images_painted_on_the_sheet(reader, complete):
    _, _, images = some_digits()
    reader.open("#model=mnist_mlp")
    assert reader("return document.getElementById('digit-model').value") == "mnist_mlp"
    reader.browser.set_script_timeout(120)
    painted = reader.browser.execute_async_script(PAINT, images.reshape(len(images), -1).tolist())
    model = mnist_mlp.glorot_model(40, generator(0, "model"))
    model.load_state_dict(folder.load(complete / "mnist_mlp" / "model.pt"))
    same = 0
    for answer, address in painted:
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))))
        same += answer[0] == str(answers(model, prepare(picture))[0])
    assert same >= 97, same


PREPARE = """
const [address, done] = arguments;
(async () => {
  const bytes = Uint8Array.from(atob(address), (letter) => letter.charCodeAt(0));
  const picture = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
  const paper = new OffscreenCanvas(picture.width, picture.height).getContext("2d");
  paper.drawImage(picture, 0, 0);
  const found = prepareDigits(paper.getImageData(0, 0, picture.width, picture.height));
  done(found.map(({ image, box }) => [[...image], box]));
})();
"""


def scene(kind: str, image: np.ndarray) -> np.ndarray:
    """A picture of a digit on paper, 600 pixels wide, as `kind` says."""
    noise = np.random.default_rng(0)
    ink = np.zeros((400, 600))
    ink[90:314, 200:424] = np.kron(image / 255, np.ones((8, 8)))
    paper = np.full((400, 600, 3), 235.0)
    if kind == "ruled":
        paper[::32] = paper[1::32] = 150, 170, 220
    if kind == "shade":
        paper -= np.linspace(0, 60, 600)[:, None]
    picture = paper * (1 - ink[..., None]) + np.array([40, 50, 120]) * ink[..., None]
    if kind == "desk":
        picture = np.pad(picture, ((60, 60), (80, 80), (0, 0)), constant_values=70)
    if kind == "narrow":  # a strip with a thin stroke from edge to edge, which is no ruled line
        picture = np.pad(picture[80:330, 160:460], ((0, 550), (0, 0), (0, 0)), constant_values=235)
        picture[300:304] = 40, 50, 120
    if kind == "transparent":
        return np.dstack([np.zeros((400, 600, 3)), 255 * ink]).astype(np.uint8)
    if kind == "tiny":
        return picture[::5, ::5].astype(np.uint8)
    if kind == "large":
        picture = np.kron(picture, np.ones((2, 2, 1)))
    return (picture + noise.normal(0, 6, picture.shape)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    "kind", ["plain", "ruled", "shade", "desk", "transparent", "tiny", "large", "narrow"]
)
def test_the_preparation_is_that_of_own_digit(reader, kind):
    reader.open()
    for image in some_digits()[2][:3]:
        picture = scene(kind, image)
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "PNG")
        found = reader.browser.execute_async_script(
            PREPARE, base64.b64encode(buffer.getvalue()).decode()
        )
        expected = prepare(picture)
        assert [tuple(box) for _, box in found] == [digit.box for digit in expected] and expected
        for (greys, _), digit in zip(found, expected):
            assert np.abs(np.array(greys) - digit.image.ravel()).max() <= 1


def test_the_preparation_has_the_constants_of_own_digit():
    text = (page.HERE / "prepare.js").read_text(encoding="utf-8")
    found = re.findall(r"\b([A-Z_]{3,}) = ([0-9.]+)(?: / ([0-9]+))?[,;]", text)
    assert len(found) == 21
    for name, number, divisor in found:
        assert float(number) / float(divisor or 1) == getattr(own_digit, name), name


def photo(path: Path, *images: np.ndarray) -> Path:
    """A picture of digits side by side on uneven paper, 800 pixels wide."""
    ink = np.zeros((300, 800))
    for place, image in enumerate(images):
        ink[30:254, 60 + 300 * place : 284 + 300 * place] = np.kron(image / 255, np.ones((8, 8)))
    paper = 235 - np.linspace(0, 40, 800) + np.random.default_rng(0).normal(0, 4, (300, 800))
    Image.fromarray((paper * (1 - ink) + 40 * ink).clip(0, 255).astype(np.uint8)).convert(
        "RGB"
    ).save(path)
    return path


def test_pictures(reader, complete, tmp_path):
    _, _, images = some_digits()
    model = mnist_mlp.glorot_model(40, generator(0, "model"))
    model.load_state_dict(folder.load(complete / "mnist_mlp" / "model.pt"))
    reader.open()
    file = reader.browser.find_element("id", "digit-file")
    paths = [
        photo(tmp_path / "one.png", images[0]),
        photo(tmp_path / "two.png", images[0], images[1]),
    ]
    for path, end in zip(paths, (r"\(?.*%\)", r"\([0-9.]+ %, [0-9.]+ %\)")):
        file.send_keys(str(path))
        reader.wait(lambda name=path.name: name in reader.text("digit-said"))
        expected = " ".join(map(str, answers(model, prepare(np.asarray(Image.open(path))))))
        reader.wait(lambda text=expected: reader.text("digit-answer").startswith(text))
        assert re.fullmatch(expected + ".*" + end, reader.text("digit-answer"))
    assert reader("return document.getElementById('digit-seen').width") == 56
    (tmp_path / "notes.txt").write_text("no picture")
    file.send_keys(str(tmp_path / "notes.txt"))
    reader.wait(lambda: "notes.txt is no picture" in reader.text("digit-said"))
    reader.click("digit-clear")
    reader.wait(lambda: reader.text("digit-answer") == "Draw a digit on the sheet.")
    reader.click("digit-undo")  # the picture again, and not what the sheet shows of it
    reader.wait(lambda: re.fullmatch(expected + ".*" + end, reader.text("digit-answer")))
    assert reader("return document.getElementById('digit-seen').width") == 56


def test_a_digit_drawn_with_the_mouse_and_an_unsure_network(browser, runs):
    from selenium.webdriver import ActionChains

    for name in ("mnist_mlp", "mnist_mlp_all"):
        state = folder.load(runs / name / "model.pt")
        folder.save(runs / name / "model.pt", {key: 0.1 * tensor for key, tensor in state.items()})
    (runs / "report.html").write_text(html(runs), encoding="utf-8")
    reader = Reader(browser, runs / "report.html")
    reader.open()
    sheet = browser.find_element("id", "digit")
    reader("document.getElementById('digit').scrollIntoView({ block: 'center' })")
    where = reader("return scrollY")
    ActionChains(browser).move_to_element_with_offset(
        sheet, -60, -70
    ).click_and_hold().move_by_offset(110, 0).move_by_offset(-60, 140).release().perform()
    reader.wait(
        lambda: re.fullmatch(
            r"(\d)\? unsure: \1 \(\d+ %\) or \d \(\d+ %\)", reader.text("digit-answer")
        )
    )
    assert reader("return scrollY") == where
    shares = [
        float(text.split()[0])
        for text in reader(
            "return [...document.querySelectorAll('#digit-bars .share')].map((share) => share.textContent)"
        )
    ]
    assert sum(shares) == pytest.approx(100, abs=0.5) and len(shares) == 10
    reader.click("digit-undo")
    reader.wait(lambda: reader.text("digit-answer") == "Draw a digit on the sheet.")
