"""Each option of each script does something: two values, what must differ, what must not."""

from common import plotting

import importlib
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import PROJECT
from helpers import SCRIPTS, states, write_digits

pytestmark = pytest.mark.numbers  # again by make test-arithmetic

QUICK = {
    "linear_recovery": ("--samples", 120),
    "ann_revisited": ("--steps", 120),
    "mnist_mlp": ("--images", 50, "--epochs", 6),
}


@pytest.fixture
def quick(undrawn, tmp_path, monkeypatch):
    """A function that makes a short run without figures; two more data sets are at hand."""
    write_digits(tmp_path / "data", "FashionMNIST", seed=1)
    write_digits(tmp_path / "other", seed=1)
    monkeypatch.chdir(tmp_path)

    def call(script: str, *options: object) -> SimpleNamespace:
        done = undrawn(script, *QUICK[script], *options)
        assert done.returncode == 0, done.stderr
        return done

    return call


def found(done) -> dict[str, object]:
    """What a run computed, each thing as a value that can be compared."""
    losses, (initial, trained) = np.load(done.folder / "losses.npy"), states(done)
    found = {"first_loss": losses[0], "losses": losses.tobytes(), "count": len(losses)}
    found["shapes"] = [array.shape for array in trained.values()]
    for name, state in (("model", trained), ("model_initial", initial)):
        found[name] = [array.tobytes() for array in state.values()]
    if "weight" in initial:  # the bias has the centre in it
        found["weight"] = initial["weight"].tobytes()
        with np.load(done.folder / "train_data.npz") as data:
            found |= {"x": data["x"].tobytes(), "y": data["y"].tobytes()}
    results = done.metrics["results"]
    found |= {key: results[key] for key in ("engine", "dataset") if key in results}
    return found | {"unseen": results.get("unseen", {}).get("index")}


# For each script the options of one run; those of the other; what differs; what is the same.
OPTIONS = {
    "linear_recovery": """
        --lr 0.01 | --lr 0.004 | losses model | x y model_initial count
        --noise 0.2 | --noise 0 | y losses model | x weight count
        --high 10 | --high 10 --low 4 | x y losses model | weight count
        --high 10 | --high 9 | x y losses model | weight count
        --lr 0.001 | --lr 0.001 --raw | losses model | x y weight count
        --samples 120 | --samples 130 | count losses model x | weight
        --engine auto | --engine eager | engine | x y model_initial count
        --seed 0 | --seed 1 | x y model_initial | count
    """,
    "ann_revisited": """
        --lr 0.01 | --lr 0.02 | losses model | model_initial first_loss
        --steps 120 | --steps 130 | losses model count | model_initial first_loss
        --train-data randn | --train-data rand | | losses model
        --engine auto | --engine eager | engine | model_initial count
        --seed 0 | --seed 1 | losses model_initial | count
    """,
    "mnist_mlp": """
        --lr 0.001 | --lr 0.002 | losses model | model_initial first_loss unseen
        --hidden 40 | --hidden 30 | losses shapes | count dataset unseen
        --epochs 6 | --epochs 7 | losses count model | model_initial unseen
        --images 50 | --images all | losses model | model_initial unseen
        --seed 0 | --seed 1 | losses model_initial unseen | count dataset
        --dataset mnist | --dataset fashion-mnist | dataset losses | model_initial count
        --data-dir data | --data-dir other | losses model | model_initial count dataset
    """,
}
ROWS = [
    (script, *(cell.strip() for cell in row.split("|")))
    for script, rows in OPTIONS.items()
    for row in rows.strip().splitlines()
]


@pytest.mark.parametrize("script, one, other, differs, same", ROWS)
def test_what_an_option_changes_and_what_not(quick, script, one, other, differs, same):
    before = quick(script, *one.split())
    was = found(before)
    after = quick(script, *other.split())
    now, config = found(after), after.metrics["config"]
    assert {key for key in differs.split() if was[key] == now[key]} == set()
    assert {key for key in same.split() if was[key] != now[key]} == set()
    changed = {key for key, value in before.metrics["config"].items() if config[key] != value}
    assert changed == {other.split("--")[-1].split()[0].replace("-", "_")}


@pytest.mark.parametrize("script", ["linear_recovery", "ann_revisited"])
def test_what_stands_in_the_loop_is_what_runs(quick, monkeypatch, script):
    """A loss three times as large, in the script, and a third of the rate: the same steps."""
    module = importlib.import_module(f"lectures.{script}")
    plain = module.loss

    def losses(*options: object) -> np.ndarray:
        return np.load(quick(script, *options).folder / "losses.npy")

    as_it_was = losses("--lr", 0.003)

    def thrice(model, x, y):
        return 3 * plain(model, x, y)

    monkeypatch.setattr(module, "loss", thrice)
    for engine in ("compiled", "eager"):
        found = losses("--lr", 0.001, "--engine", engine)
        np.testing.assert_allclose(found, 3 * as_it_was, rtol=1e-9)


@pytest.mark.parametrize("script", SCRIPTS)
def test_quiet_leaves_out_the_tables(quick, script):
    loud, quiet = quick(script), quick(script, "--quiet")
    assert quiet.stdout.count("\n") <= loud.stdout.count("\n") - 5
    assert str(quiet.folder) in quiet.stdout


@pytest.mark.parametrize("engine", ["compiled", "eager"])
def test_figures_have_the_format_asked_for_and_none_of_the_run_before_stays(undrawn, engine):
    names = ("loss", "regions", "surfaces", "layers")
    for ending, more in (("svg", ["--animate"]), ("pdf", []), ("png", ["--animate"])):
        words = ("--steps", 9, "--engine", engine, "--format", ending, *more)
        folder = undrawn("ann_revisited", *words).folder
        animations = {"training.gif"} if more else set()
        numbers = {".lock", "metrics.json", "losses.npy", "model_initial.pt", "model.pt"}
        found = {path.name for path in folder.iterdir()}
        assert found - numbers == {f"{name}.{ending}" for name in names} | animations
    assert (folder / "training.gif").read_bytes().startswith(b"GIF89a")


def test_show_opens_the_figures(quick, monkeypatch):
    shown = []
    monkeypatch.setattr(plotting, "show", lambda figures: shown.append(sorted(figures)))
    quick("linear_recovery", "--quiet")
    assert shown == []
    quick("linear_recovery", "--quiet", "--show")
    assert shown == [["loss.png", "parameter_error.png"]]


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_without_docstrings(undrawn, monkeypatch, script):
    """As with python -OO."""
    monkeypatch.setattr(importlib.import_module(f"lectures.{script}"), "__doc__", None)
    assert "--seed" in undrawn(script, "--help").stdout


def test_the_output_folder(undrawn, monkeypatch, tmp_path):
    text = re.sub(r"\s+", "", undrawn("ann_revisited", "--help").stdout)
    assert "".join(str(PROJECT / "outputs" / "ann_revisited").split()) in text
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    undrawn("linear_recovery", "--samples", 20, "--output-dir", "~/out")
    assert (tmp_path / "home" / "out" / "model.pt").exists()


# The options in metrics.json: what `auto` and `all` came to, and all as they were given.
USED = {
    "linear_recovery": {"high": 10, "engine": "compiled", "device": "cpu"},
    "ann_revisited": {"engine": "compiled", "device": "cpu"},
    "mnist_mlp": {"images": 60, "dataset": "mnist", "device": "cpu"},
}
GIVEN = {
    "linear_recovery": {"samples": 30, "low": 4.0, "high": 8.0, "raw": True, "engine": "eager"},
    "ann_revisited": {"steps": 30, "train_data": "rand", "animate": True, "engine": "eager"},
    "mnist_mlp": {"dataset": "fashion-mnist", "images": 40, "epochs": 3, "hidden": 12},
}
SHARED = {"device": "cpu", "format": "svg", "seed": 3, "quiet": True, "lr": 0.005}


@pytest.mark.skipif(torch.cuda.is_available(), reason="auto is another device")
@pytest.mark.parametrize("script", SCRIPTS)
def test_config_has_every_option_as_it_was_used(quick, script):
    done = quick(script, *(["--images", "all"] if script == "mnist_mlp" else []))
    assert done.metrics["config"].items() >= USED[script].items()
    words, given = [], SHARED | GIVEN[script]
    for name, value in given.items():
        words += [f"--{name.replace('_', '-')}", *([] if value is True else [value])]
    config = quick(script, *words).metrics["config"]
    assert config.items() >= given.items()
    text = quick(script, "--help").stdout
    names = re.findall(r"^  --([a-z][a-z-]*)", text, re.MULTILINE)
    assert set(config) == {name.replace("-", "_") for name in names}
