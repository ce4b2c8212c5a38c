"""Each option of each script does something: two values, what must differ, and what must stay the same."""

from common import plotting

import importlib
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import PROJECT, environment
from helpers import B_TRUE, SCRIPTS, W_TRUE, load_state, no_figures, write_digits

pytestmark = pytest.mark.numbers  # again by make test-arithmetic

QUICK = {
    "linear_recovery": ("--samples", 120),
    "ann_revisited": ("--steps", 120),
    "mnist_mlp": ("--images", 50, "--epochs", 6),
}


@pytest.fixture
def made_up(tmp_path, monkeypatch):
    """MNIST_ROOT with made-up digits in the place of MNIST and, other ones, of Fashion-MNIST; returns the folder."""
    write_digits(tmp_path / "data")
    write_digits(tmp_path / "data", "FashionMNIST", seed=1)
    return tmp_path / "data"


@pytest.fixture
def outcome(run_here, made_up, monkeypatch):
    """A function that makes a short run and returns all that it computed, each thing as bytes or text."""
    no_figures(monkeypatch)

    def call(script: str, *options) -> SimpleNamespace:
        monkeypatch.setenv("MNIST_ROOT", str(made_up))
        done = run_here(script, "--quiet", *QUICK[script], *options)
        assert done.returncode == 0, done.stderr
        losses = np.load(done.folder / "losses.npy")
        found = {"first_loss": losses[0], "losses": losses.tobytes(), "count": len(losses)}
        for name in ("model", "model_initial"):
            state = load_state(done.folder / f"{name}.pt")
            found[name] = b"".join(array.tobytes() for array in state.values())
        found["shapes"] = [array.shape for array in state.values()]
        if script == "linear_recovery":
            with np.load(done.folder / "train_data.npz") as data:
                found |= {"x": data["x"].tobytes(), "y": data["y"].tobytes()}
            found["weight"] = state[
                "weight"
            ].tobytes()  # the initial one, which has no centre in it
        results = done.metrics["results"]
        found |= {key: results[key] for key in ("engine", "dataset") if key in results}
        found["unseen"] = results["unseen"]["index"] if "unseen" in results else None
        return SimpleNamespace(found=found, losses=losses, config=done.metrics["config"])

    return call


# Script, the options of one run, those of the other, what differs, what is the same.
OPTIONS = [
    ("linear_recovery", "--lr 0.01", "--lr 0.004", "losses model", "x y model_initial count"),
    ("linear_recovery", "--noise 0.2", "--noise 0", "y losses model", "x weight count"),
    ("linear_recovery", "--high 10", "--high 10 --low 4", "x y losses model", "weight count"),
    ("linear_recovery", "--high 10", "--high 9", "x y losses model", "weight count"),
    ("linear_recovery", "--lr 0.001", "--lr 0.001 --raw", "losses model", "x y weight count"),
    ("linear_recovery", "--samples 120", "--samples 130", "count losses model x y", "weight"),
    ("linear_recovery", "--engine auto", "--engine eager", "engine", "x y model_initial count"),
    ("linear_recovery", "--seed 0", "--seed 1", "x y model_initial losses model", "count"),
    ("ann_revisited", "--lr 0.01", "--lr 0.02", "losses model", "model_initial count first_loss"),
    (
        "ann_revisited",
        "--steps 120",
        "--steps 130",
        "losses model count",
        "model_initial first_loss",
    ),
    ("ann_revisited", "--train-data randn", "--train-data rand", "", "losses model model_initial"),
    ("ann_revisited", "--engine auto", "--engine eager", "engine", "model_initial count"),
    ("ann_revisited", "--seed 0", "--seed 1", "losses model model_initial", "count"),
    ("mnist_mlp", "--lr 0.001", "--lr 0.002", "losses model", "model_initial first_loss count"),
    ("mnist_mlp", "--hidden 40", "--hidden 30", "losses shapes", "count dataset unseen"),
    (
        "mnist_mlp",
        "--epochs 6",
        "--epochs 7",
        "losses count model",
        "model_initial first_loss unseen",
    ),
    ("mnist_mlp", "--images 50", "--images all", "losses model", "model_initial count unseen"),
    ("mnist_mlp", "--seed 0", "--seed 1", "losses model model_initial", "count dataset"),
    (
        "mnist_mlp",
        "--dataset mnist",
        "--dataset fashion-mnist",
        "dataset losses",
        "model_initial count",
    ),
]


@pytest.mark.parametrize("script, one, other, differs, same", OPTIONS)
def test_what_an_option_changes_and_what_not(outcome, script, one, other, differs, same):
    before, after = outcome(script, *one.split()), outcome(script, *other.split())
    for key in differs.split():
        assert before.found[key] != after.found[key], key
    for key in same.split():
        assert before.found[key] == after.found[key], key
    changed = {key for key in before.config if before.config[key] != after.config[key]}
    assert changed == {other.split("--")[-1].split()[0].replace("-", "_")}


@pytest.mark.parametrize("script", ["linear_recovery", "ann_revisited"])
def test_both_engines_make_the_same_steps(outcome, script):
    compiled, eager = (outcome(script, "--engine", name) for name in ("compiled", "eager"))
    np.testing.assert_allclose(compiled.losses, eager.losses, rtol=1e-9)


def test_more_steps_go_on_from_fewer(outcome):
    for script, option, fewer, more in (
        ("ann_revisited", "--steps", 100, 120),
        ("mnist_mlp", "--epochs", 5, 6),
    ):
        few, many = outcome(script, option, fewer).losses, outcome(script, option, more).losses
        assert len(many) > len(few)
        np.testing.assert_allclose(many[: len(few)], few, rtol=1e-12)


def test_the_range_of_the_inputs_and_their_noise(run_here, monkeypatch):
    no_figures(monkeypatch)
    for low, high in ((5, 10), (0, 5), (-2, 3.5)):
        words = ("--low", low, "--high", high, "--samples", 2000, "--noise", 0.5, "--lr", 0.001)
        done = run_here("linear_recovery", "--quiet", *words)
        assert done.returncode == 0, done.stderr
        with np.load(done.folder / "train_data.npz") as data:
            x, y = data["x"], data["y"]
        assert low <= x.min() < low + 0.01 and high - 0.01 < x.max() < high
        noise = y - x @ W_TRUE.T - B_TRUE
        assert abs(noise.std() - 0.5) < 0.02 and abs(noise.mean()) < 0.03
    done = run_here("linear_recovery", "--low", -3, "--samples", 20, "--quiet")
    assert done.metrics["config"]["high"] == 2


def test_the_model_and_the_data_have_numbers_of_their_own(run_here, monkeypatch):
    """One seed for both must not give the model the first numbers of the data."""
    no_figures(monkeypatch)
    done = run_here("linear_recovery", "--raw", "--lr", 0.001, "--samples", 20, "--quiet")
    with np.load(done.folder / "train_data.npz") as data:
        drawn = (data["x"].ravel() - 5) / 5
    weight = load_state(done.folder / "model_initial.pt")["weight"]
    assert np.abs(weight.reshape(-1, 1) - drawn).min() > 1e-9


# What is said and written.


@pytest.mark.parametrize(
    "script, table",
    [
        ("linear_recovery", "least squares"),
        ("ann_revisited", "right\n"),
        ("mnist_mlp", "10th image"),
    ],
)
def test_quiet_leaves_out_the_tables(run_here, made_up, monkeypatch, script, table):
    no_figures(monkeypatch)
    monkeypatch.setenv("MNIST_ROOT", str(made_up))
    loud, quiet = run_here(script, *QUICK[script]), run_here(script, *QUICK[script], "--quiet")
    assert table in loud.stdout and table not in quiet.stdout
    assert quiet.stdout.count("\n") <= loud.stdout.count("\n") - 5
    assert str(quiet.folder) in quiet.stdout


START = {"png": b"\x89PNG\r\n\x1a\n", "svg": b"<?xml", "pdf": b"%PDF-"}


@pytest.mark.parametrize(
    "script, ending",
    [*((script, "svg") for script in SCRIPTS), ("ann_revisited", "pdf"), ("ann_revisited", "png")],
)
def test_the_format_of_the_figures(run_here, made_up, monkeypatch, script, ending):
    monkeypatch.setenv("MNIST_ROOT", str(made_up))
    done = run_here(script, *QUICK[script], "--quiet", "--format", ending)
    assert done.returncode == 0, done.stderr
    figures = [path for path in done.folder.iterdir() if path.suffix in (".png", ".svg", ".pdf")]
    expected = {"linear_recovery": 2, "ann_revisited": 4, "mnist_mlp": 7}
    assert f"loss.{ending}" in [path.name for path in figures] and len(figures) == expected[script]
    for path in figures:
        assert path.suffix == f".{ending}" and path.read_bytes().startswith(START[ending])
    assert done.metrics["config"]["format"] == ending


@pytest.mark.parametrize("engine", ["compiled", "eager"])
def test_animate_writes_the_training_too(run_here, engine):
    words = ("--steps", 300, "--quiet", "--engine", engine)
    done = run_here("ann_revisited", *words, "--animate")
    assert (done.folder / "training.gif").read_bytes().startswith(b"GIF89a")
    files = {path.name for path in done.folder.iterdir()}
    without = run_here("ann_revisited", *words).folder  # the same one: the animation goes
    assert {path.name for path in without.iterdir()} == files - {"training.gif"}


def test_the_figures_are_png_unless_asked(run_here, monkeypatch):
    no_figures(monkeypatch)
    done = run_here("linear_recovery", "--samples", 20, "--quiet")
    assert done.metrics["config"]["format"] == "png"
    assert sorted(path.name for path in done.folder.glob("*.png")) == [
        "loss.png",
        "parameter_error.png",
    ]


def test_another_format_leaves_no_figures_of_the_run_before(run_here, monkeypatch):
    no_figures(monkeypatch)
    run_here("linear_recovery", "--samples", 20, "--quiet")
    done = run_here("linear_recovery", "--samples", 30, "--quiet", "--format", "svg")
    assert sorted(path.name for path in done.folder.glob("*.[ps][nv]g")) == [
        "loss.svg",
        "parameter_error.svg",
    ]


def test_the_home_folder_and_no_folder(run_here, monkeypatch, tmp_path):
    no_figures(monkeypatch)
    monkeypatch.chdir(tmp_path)
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    done = run_here("linear_recovery", "--samples", 20, "--quiet", "--output-dir", "~/out")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "home" / "out" / "model.pt").exists() and not (tmp_path / "~").exists()
    done = run_here("linear_recovery", "--samples", 20, "--output-dir", "")
    assert done.returncode == 2 and done.stderr.startswith("error: argument --output-dir")
    assert done.stderr.count("\n") == 1 and not (tmp_path / "losses.npy").exists()


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_device(run_here, made_up, monkeypatch, script):
    no_figures(monkeypatch)
    monkeypatch.setenv("MNIST_ROOT", str(made_up))
    done = run_here(script, *QUICK[script], "--device", "cpu")
    assert done.metrics["config"]["device"] == "cpu" and done.metrics["environment"][
        "device"
    ].startswith("cpu")
    if not torch.cuda.is_available():
        done = run_here(script, *QUICK[script], "--device", "cuda")
        assert done.returncode == 1 and done.stderr.startswith("error: --device cuda")
        assert "--device cpu" in done.stderr and done.stderr.count("\n") == 1


def test_show_opens_the_figures(run_here, monkeypatch):
    no_figures(monkeypatch)
    shown = []
    monkeypatch.setattr(plotting, "show", lambda figures: shown.append(sorted(figures)))
    assert run_here("linear_recovery", "--samples", 20, "--quiet").returncode == 0 and not shown
    assert run_here("linear_recovery", "--samples", 20, "--quiet", "--show").returncode == 0
    assert shown == [["loss.png", "parameter_error.png"]]


# The options in metrics.json.


def options_of(run_here, script: str) -> set[str]:
    """The names of a script's options, from its --help, as in `config`."""
    text = run_here(script, "--help").stdout
    return {
        name.replace("-", "_") for name in re.findall(r"^  --([a-z][a-z-]*)", text, re.MULTILINE)
    }  # without -h, --help


RESOLVED = {
    "linear_recovery": {"high": 10, "engine": "compiled", "raw": False},
    "ann_revisited": {"engine": "compiled", "train_data": "randn", "animate": False},
    "mnist_mlp": {"images": 60, "dataset": "mnist"},
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_config_says_what_auto_and_all_came_to(run_here, made_up, monkeypatch, script):
    no_figures(monkeypatch)
    monkeypatch.setenv("MNIST_ROOT", str(made_up))
    words = ("--images", "all", "--epochs", 2) if script == "mnist_mlp" else QUICK[script]
    config = run_here(script, "--quiet", *words).metrics["config"]
    assert set(config) == options_of(run_here, script)
    assert not {"auto", "all", None} & set(config.values())
    assert config["device"] in ("cpu", "cuda")
    assert {key: config[key] for key in RESOLVED[script]} == RESOLVED[script]


GIVEN = {
    "linear_recovery": {
        "samples": 30,
        "lr": 0.005,
        "noise": 0.25,
        "low": 4.0,
        "high": 8.0,
        "raw": True,
        "engine": "eager",
    },
    "ann_revisited": {
        "steps": 30,
        "lr": 0.005,
        "train_data": "rand",
        "engine": "eager",
        "animate": True,
    },
    "mnist_mlp": {"dataset": "fashion-mnist", "images": 40, "epochs": 3, "lr": 0.005, "hidden": 12},
}
COMMON = {"seed", "device", "output_dir", "quiet", "show", "resume", "format"}


@pytest.mark.parametrize("script", SCRIPTS)
def test_config_has_every_option_as_given(run_here, made_up, monkeypatch, script):
    no_figures(monkeypatch)
    given = GIVEN[script] | {"seed": 3, "device": "cpu", "quiet": True, "format": "svg"}
    if script == "mnist_mlp":
        given["data_dir"] = str(made_up)
    words = []
    for name, value in given.items():
        words += [f"--{name.replace('_', '-')}", *([] if value is True else [value])]
    done = run_here(script, *words)
    assert done.returncode == 0, done.stderr
    assert options_of(run_here, script) == set(given) | COMMON  # all that there are
    config = done.metrics["config"]
    assert {name: config[name] for name in given} == given
    assert config["show"] is config["resume"] is False
    assert config["output_dir"] == str(done.folder)


def test_the_folder_of_the_data(run_here, made_up, monkeypatch, tmp_path):
    no_figures(monkeypatch)
    shutil.copytree(made_up / "FashionMNIST", tmp_path / "other" / "MNIST")
    monkeypatch.setenv("MNIST_ROOT", str(made_up))
    losses = set()
    for options in ((), ("--data-dir", tmp_path / "other"), ("--dataset", "digits")):
        done = run_here("mnist_mlp", *QUICK["mnist_mlp"], "--quiet", *options)
        losses.add((done.folder / "losses.npy").read_bytes())
    assert len(losses) == 3


IMPORT = """
import gc, signal, sys
sys.path.insert(0, sys.argv[1])
import torch
def state():
    return (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), torch.get_num_threads(), gc.isenabled(),
            gc.get_freeze_count(), torch.get_default_dtype(), sys.excepthook, sys.stdout, sys.stderr)
before = state()
import lectures.linear_recovery, lectures.ann_revisited, lectures.mnist_mlp
assert state() == before
"""


def test_importing_a_lecture_changes_nothing(tmp_path):
    """No signal handler, no threads, no files, nothing said: exercises and notebooks import lectures too."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORT, PROJECT],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0 and done.stderr == "" and done.stdout == "", done.stderr
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("script", ["linear_recovery", "ann_revisited"])
def test_what_stands_in_the_loop_is_what_runs(outcome, monkeypatch, script):
    """A loss three times as large, in the script: both engines train with it."""
    module = importlib.import_module(f"lectures.{script}")
    as_it_was, plain = outcome(script, "--lr", 0.001).losses, module.loss

    def thrice(model, x, y):
        return 3 * plain(model, x, y)

    monkeypatch.setattr(module, "loss", thrice)
    compiled, eager = (
        outcome(script, "--lr", 0.001, "--engine", engine) for engine in ("compiled", "eager")
    )
    np.testing.assert_allclose(compiled.losses, eager.losses, rtol=1e-9)
    assert eager.losses[0] == pytest.approx(3 * as_it_was[0], rel=1e-12)
    assert (eager.losses[2:] != 3 * as_it_was[2:]).all()  # larger steps, too


def test_output_dir_is_the_project_s_without_the_option(run_here):
    text = re.sub(r"\s+", "", run_here("ann_revisited", "--help").stdout)
    assert "".join(str(PROJECT / "outputs" / "ann_revisited").split()) in text
