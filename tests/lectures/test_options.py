"""Each option of each script does something: two values, what must differ, and what must stay the same."""

from lectures import ann_revisited, linear_recovery, mnist_mlp

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
from helpers import SCRIPTS, at_call, load_state, no_figures, write_digits

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
        found = {"first loss": losses[0], "losses": losses.tobytes(), "count": len(losses)}
        for name in ("model", "model_initial"):
            state = load_state(done.folder / f"{name}.pt")
            found[name] = b"".join(array.tobytes() for array in state.values())
            found[f"{name}'s shapes"] = [array.shape for array in state.values()]
        if script == "linear_recovery":
            with np.load(done.folder / "train_data.npz") as data:
                found |= {"x": data["x"].tobytes(), "y": data["y"].tobytes()}
            found["initial weight"] = load_state(done.folder / "model_initial.pt")[
                "weight"
            ].tobytes()
        results = done.metrics["results"]
        found |= {
            key: str(results[key])
            for key in ("engine", "dataset", "test_accuracy", "unseen")
            if key in results
        }
        return SimpleNamespace(
            found=found, losses=losses, config=done.metrics["config"], results=results
        )

    return call


# Script, what both runs have, the option with its two values, what differs, what is the same.
OPTIONS = [
    (
        "linear_recovery",
        (),
        ("--lr", 0.01),
        ("--lr", 0.004),
        ("losses", "model"),
        ("x", "y", "model_initial", "count"),
    ),
    (
        "linear_recovery",
        (),
        ("--noise", 0.2),
        ("--noise", 0),
        ("y", "losses", "model"),
        ("x", "initial weight", "count"),
    ),
    (
        "linear_recovery",
        ("--high", 10),
        ("--low", 5),
        ("--low", 4),
        ("x", "y", "losses", "model"),
        ("initial weight", "count"),
    ),
    (
        "linear_recovery",
        (),
        ("--high", 10),
        ("--high", 9),
        ("x", "y", "losses", "model"),
        ("initial weight", "count"),
    ),
    (
        "linear_recovery",
        ("--lr", 0.001),
        (),
        ("--raw",),
        ("losses", "model"),
        ("x", "y", "initial weight", "count"),
    ),
    (
        "linear_recovery",
        (),
        ("--samples", 120),
        ("--samples", 130),
        ("count", "losses", "model", "x", "y"),
        ("initial weight",),
    ),
    (
        "linear_recovery",
        (),
        ("--engine", "fused"),
        ("--engine", "eager"),
        ("engine",),
        ("x", "y", "model_initial", "count"),
    ),
    (
        "linear_recovery",
        (),
        ("--seed", 0),
        ("--seed", 1),
        ("x", "y", "model_initial", "losses", "model"),
        ("count",),
    ),
    (
        "ann_revisited",
        (),
        ("--lr", 0.01),
        ("--lr", 0.02),
        ("losses", "model"),
        ("model_initial", "count", "first loss"),
    ),
    (
        "ann_revisited",
        (),
        ("--steps", 120),
        ("--steps", 130),
        ("losses", "model", "count"),
        ("model_initial", "first loss"),
    ),
    (
        "ann_revisited",
        ("--engine", "eager"),
        ("--train-data", "randn"),
        ("--train-data", "rand"),
        (),
        ("losses", "model", "model_initial"),
    ),
    (
        "ann_revisited",
        (),
        ("--engine", "fused"),
        ("--engine", "eager"),
        ("engine",),
        ("model_initial", "count"),
    ),
    (
        "ann_revisited",
        (),
        ("--seed", 0),
        ("--seed", 1),
        ("losses", "model", "model_initial"),
        ("count",),
    ),
    (
        "mnist_mlp",
        (),
        ("--lr", 0.001),
        ("--lr", 0.002),
        ("losses", "model"),
        ("model_initial", "first loss", "count"),
    ),
    (
        "mnist_mlp",
        (),
        ("--hidden", 40),
        ("--hidden", 30),
        ("losses", "model's shapes"),
        ("count", "dataset"),
    ),
    (
        "mnist_mlp",
        (),
        ("--schedule", "constant"),
        ("--schedule", "one-cycle"),
        ("losses", "model"),
        ("model_initial", "first loss", "count"),
    ),
    (
        "mnist_mlp",
        (),
        ("--weight-decay", 0),
        ("--weight-decay", 0.1),
        ("losses", "model"),
        ("model_initial", "first loss", "count"),
    ),
    (
        "mnist_mlp",
        (),
        (),
        ("--distort",),
        ("losses", "model"),
        ("model_initial", "count", "unseen's index"),
    ),
    (
        "mnist_mlp",
        (),
        ("--epochs", 6),
        ("--epochs", 7),
        ("losses", "count", "model"),
        ("model_initial", "first loss", "unseen's index"),
    ),
    (
        "mnist_mlp",
        (),
        (),
        ("--batch-size", 20),
        ("losses", "count", "model"),
        ("model_initial", "unseen's index"),
    ),
    (
        "mnist_mlp",
        (),
        ("--images", 50),
        ("--images", "all"),
        ("losses", "model"),
        ("model_initial", "count"),
    ),
    (
        "mnist_mlp",
        (),
        ("--seed", 0),
        ("--seed", 1),
        ("losses", "model", "model_initial"),
        ("count", "dataset"),
    ),
    (
        "mnist_mlp",
        (),
        ("--dataset", "mnist"),
        ("--dataset", "fashion-mnist"),
        ("dataset", "losses"),
        ("model_initial", "count"),
    ),
]


@pytest.mark.parametrize(
    "script, both, one, other, differs, same",
    OPTIONS,
    ids=[f"{script} {' '.join(map(str, other))}" for script, _, _, other, _, _ in OPTIONS],
)
def test_what_an_option_changes_and_what_not(outcome, script, both, one, other, differs, same):
    before, after = outcome(script, *both, *one), outcome(script, *both, *other)
    for run in (before, after):
        if "unseen" in run.results:
            run.found["unseen's index"] = run.results["unseen"]["index"]
    for key in differs:
        assert before.found[key] != after.found[key], key
    for key in same:
        assert before.found[key] == after.found[key], key
    changed = {key for key in before.config if before.config[key] != after.config[key]}
    option = other[0].strip("-").replace("-", "_")
    assert changed == {option} | (
        {"batch_size"} if option == "images" else set()
    )  # all the images at once


@pytest.mark.parametrize("script", ["linear_recovery", "ann_revisited"])
def test_both_engines_make_the_same_steps(outcome, script):
    fused, eager = outcome(script, "--engine", "fused"), outcome(script, "--engine", "eager")
    np.testing.assert_allclose(fused.losses, eager.losses, rtol=1e-9)


def test_more_steps_go_on_from_fewer(outcome):
    for script, option, fewer, more in (
        ("ann_revisited", "--steps", 100, 120),
        ("mnist_mlp", "--epochs", 5, 6),
    ):
        few, many = outcome(script, option, fewer).losses, outcome(script, option, more).losses
        assert len(many) > len(few) and many[: len(few)].tobytes() == few.tobytes()


def test_the_range_of_the_inputs_and_their_noise(outcome, run_here, monkeypatch):
    for low, high in ((5, 10), (0, 5), (-2, 3.5)):
        done = run_here(
            "linear_recovery",
            "--low",
            low,
            "--high",
            high,
            "--samples",
            2000,
            "--noise",
            0.5,
            "--quiet",
            "--lr",
            0.001,
        )
        assert done.returncode == 0, done.stderr
        with np.load(done.folder / "train_data.npz") as data:
            x, y = data["x"], data["y"]
        assert low <= x.min() < low + 0.01 and high - 0.01 < x.max() < high
        noise = y - x @ np.array([[1, 2, 3, 4, 5], [5, 4, 3, 2, 1.0]]).T - [-1, -2]
        assert abs(noise.std() - 0.5) < 0.02 and abs(noise.mean()) < 0.03
    assert (
        run_here("linear_recovery", "--low", -3, "--samples", 20, "--quiet").metrics["config"][
            "high"
        ]
        == 2
    )


def test_batches_and_epochs_make_the_steps(outcome):
    assert outcome("mnist_mlp", "--batch-size", 20, "--epochs", 4).found["count"] == 3 * 4
    assert outcome("mnist_mlp", "--batch-size", 50, "--epochs", 4).found["count"] == 4
    whole = outcome(
        "mnist_mlp", "--batch-size", 60_000, "--epochs", 4
    )  # more than there are: all at once
    assert whole.found["count"] == 4 and whole.config["batch_size"] == 50


def test_the_seed_moves_the_model_the_data_and_the_shuffles(outcome, monkeypatch):
    pairs = {}
    drawn = ann_revisited.training_pairs

    def spy(kind, steps, generator):
        pairs[kind, generator.initial_seed()] = drawn(kind, steps, generator)
        return pairs[kind, generator.initial_seed()]

    with monkeypatch.context() as patch:
        patch.setattr(ann_revisited, "training_pairs", spy)
        for seed in (0, 1):
            outcome("ann_revisited", "--engine", "eager", "--seed", seed)
    assert len(pairs) == 2 and len({x.numpy().tobytes() for x, _ in pairs.values()}) == 2

    fixed = mnist_mlp.glorot_model
    with (
        monkeypatch.context() as patch
    ):  # the same model for every seed: what is left are the shuffles
        patch.setattr(
            mnist_mlp,
            "glorot_model",
            lambda hidden, _: fixed(hidden, torch.Generator().manual_seed(5)),
        )
        assert (
            len(
                {
                    outcome("mnist_mlp", "--batch-size", 20, "--seed", seed).found["losses"]
                    for seed in (0, 1)
                }
            )
            == 2
        )
        all_at_once = [outcome("mnist_mlp", "--seed", seed).found["losses"] for seed in (0, 1)]
        assert all_at_once[0] == all_at_once[1]  # in their order, whatever the seed

    with monkeypatch.context() as patch:  # the model and the data have numbers of their own
        draws = {}
        for name in ("training_data", "random_model"):
            patch.setattr(
                linear_recovery, name, recorded(draws, name, getattr(linear_recovery, name))
            )
        outcome("linear_recovery")
    x, weight = (
        draws["training_data"][0].ravel(),
        next(draws["random_model"].parameters()).detach().ravel(),
    )
    assert not np.isin(weight, (x - 5) / 5).any()


def recorded(results: dict, name: str, function):
    def call(*values):
        results[name] = function(*values)
        return results[name]

    return call


# The rate and the moments at each step.


@pytest.fixture
def adam_steps(monkeypatch):
    """A list that every step of an Adam adds its settings to."""
    steps, step = [], torch.optim.Adam.step

    def spy(self, *values, **settings):
        steps.append(dict(self.param_groups[0]))
        return step(self, *values, **settings)

    monkeypatch.setattr(torch.optim.Adam, "step", spy)
    return steps


def test_the_constant_rate(outcome, adam_steps):
    outcome("mnist_mlp", "--batch-size", 20, "--lr", 0.003, "--weight-decay", 0.02)
    assert len(adam_steps) == 18
    assert {step["lr"] for step in adam_steps} == {0.003} and {
        step["weight_decay"] for step in adam_steps
    } == {0.02}


def test_the_one_cycle_rises_to_the_rate_and_falls_to_nearly_nothing(outcome, adam_steps):
    outcome(
        "mnist_mlp", "--batch-size", 25, "--epochs", 10, "--lr", 0.03, "--schedule", "one-cycle"
    )
    rates = np.array([float(step["lr"]) for step in adam_steps])
    assert len(rates) == 20  # as many as the run's steps
    top = rates.argmax()
    assert rates[top] == pytest.approx(0.03) and 2 <= top <= 10
    assert (np.diff(rates[: top + 1]) > 0).all() and (np.diff(rates[top:]) < 0).all()
    assert rates[0] <= 0.03 / 20 and rates[-1] < 0.03 / 1000
    assert {tuple(map(float, step["betas"])) for step in adam_steps} == {
        (0.9, 0.999)
    }  # Flux's, all the time


def test_the_lecture_s_optimizers(outcome, adam_steps, monkeypatch):
    outcome("mnist_mlp")
    assert len(adam_steps) == 6
    assert adam_steps[0]["betas"] == (0.9, 0.999) and adam_steps[0]["eps"] == 1e-8
    assert not adam_steps[0]["amsgrad"] and adam_steps[0]["weight_decay"] == 0
    plain, step = [], torch.optim.SGD.step

    def spy(self, *values, **settings):
        plain.append(dict(self.param_groups[0]))
        return step(self, *values, **settings)

    monkeypatch.setattr(torch.optim.SGD, "step", spy)
    for script in ("linear_recovery", "ann_revisited"):
        outcome(script, "--engine", "eager", "--lr", 0.002)
    assert len(plain) == 240 and {step["lr"] for step in plain} == {0.002}
    assert not any(step["momentum"] or step["weight_decay"] or step["nesterov"] for step in plain)


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
    assert f"loss.{ending}" in [path.name for path in figures] and len(figures) >= 2
    for path in figures:
        assert path.suffix == f".{ending}" and path.read_bytes().startswith(START[ending])
    assert done.metrics["config"]["format"] == ending


def test_animate_writes_the_training_too(run_here, monkeypatch):
    no_figures(monkeypatch)
    done = run_here("ann_revisited", "--steps", 300, "--quiet", "--animate")
    assert (done.folder / "training.gif").read_bytes().startswith(b"GIF89a")
    assert done.metrics["config"]["animate"] is True
    files = {path.name for path in done.folder.iterdir()}
    shutil.rmtree(done.folder)
    assert {
        path.name for path in run_here("ann_revisited", "--steps", 300, "--quiet").folder.iterdir()
    } == files - {"training.gif"}
    refused = run_here("ann_revisited", "--steps", 300, "--animate", "--engine", "eager")
    assert refused.returncode == 1 and refused.stderr.startswith(
        "error: --animate needs the fused engine"
    )
    assert refused.stderr.count("\n") == 1


def test_the_figures_are_png_unless_asked(run_here, monkeypatch):
    no_figures(monkeypatch)
    done = run_here("linear_recovery", "--samples", 20, "--quiet")
    assert done.metrics["config"]["format"] == "png"
    assert sorted(path.name for path in done.folder.glob("*.png")) == [
        "loss.png",
        "parameter_error.png",
    ]
    assert run_here("linear_recovery", "--format", "bmp").returncode == 2


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
    plt = pytest.importorskip("matplotlib.pyplot")
    shown = []
    monkeypatch.setattr(plt, "show", lambda *values, **settings: shown.append(plt.get_fignums()))
    monkeypatch.setattr(plt, "get_backend", lambda: "a window")
    monkeypatch.setattr("matplotlib.get_backend", lambda *values, **settings: "a window")
    assert run_here("linear_recovery", "--samples", 20, "--quiet").returncode == 0 and not shown
    done = run_here("linear_recovery", "--samples", 20, "--quiet", "--show")
    plt.close("all")
    assert done.returncode == 0 and [len(figures) for figures in shown] == [2]


# The options in metrics.json.


def options_of(run_here, script: str) -> set[str]:
    """The names of a script's options, from its --help, as in `config`."""
    text = run_here(script, "--help").stdout
    return {
        name.replace("-", "_") for name in re.findall(r"^  --([a-z][a-z-]*)", text, re.MULTILINE)
    }


@pytest.mark.parametrize("script", SCRIPTS)
def test_config_names_every_option_resolved(run_here, made_up, monkeypatch, script):
    no_figures(monkeypatch)
    monkeypatch.setenv("MNIST_ROOT", str(made_up))
    quick = {"mnist_mlp": ("--images", "all", "--epochs", 2)}.get(script, QUICK[script])
    config = run_here(script, "--quiet", *quick).metrics["config"]
    assert set(config) == options_of(run_here, script) - {"help"} and {
        "seed",
        "lr",
        "resume",
        "format",
    } <= set(config)
    assert not {"auto", "all", None} & {
        value for value in config.values() if not isinstance(value, (list, dict))
    }
    assert config["device"] in ("cpu", "cuda")
    resolved = {
        "linear_recovery": {"high": 10, "engine": "fused", "raw": False},
        "ann_revisited": {"engine": "fused", "train_data": "randn", "animate": False},
        "mnist_mlp": {
            "images": 60,
            "batch_size": 60,
            "dataset": "mnist",
            "data_dir": str(made_up),
            "distort": False,
        },
    }[script]
    for key, value in resolved.items():
        assert config[key] == value, key


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
    "ann_revisited": {"steps": 30, "lr": 0.005, "train_data": "rand", "engine": "eager"},
    "mnist_mlp": {
        "dataset": "fashion-mnist",
        "images": 40,
        "epochs": 3,
        "batch_size": 10,
        "lr": 0.005,
        "schedule": "one-cycle",
        "weight_decay": 0.01,
        "hidden": 12,
        "distort": True,
    },
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_config_has_every_option_as_given(run_here, made_up, monkeypatch, tmp_path, script):
    no_figures(monkeypatch)
    given = GIVEN[script] | {"seed": 3, "device": "cpu", "quiet": True, "format": "svg"}
    if script == "mnist_mlp":
        given["data_dir"] = str(made_up)
    words = []
    for name, value in given.items():
        words += [f"--{name.replace('_', '-')}", *([] if value is True else [value])]
    done = run_here(script, *words)
    assert done.returncode == 0, done.stderr
    missing = (
        options_of(run_here, script)
        - set(given)
        - {"help", "show", "resume", "output_dir", "animate"}
    )
    assert not missing, f"an option without a test: {missing}"
    config = done.metrics["config"]
    for name, value in given.items():
        assert config[name] == value, name
    assert (
        config["show"] is False
        and config["resume"] is False
        and config["output_dir"] == str(done.folder)
    )


def test_every_option_is_where_design_says(run_here):
    common = {"seed", "device", "output_dir", "quiet", "show", "resume", "format", "help"}
    own = {script: set(given) for script, given in GIVEN.items()}
    own["mnist_mlp"].add("data_dir")
    own["ann_revisited"].add("animate")
    for script in SCRIPTS:
        assert options_of(run_here, script) == (common | own[script]) - {"help"}


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


def test_the_loss_is_asked_for_once_a_step(outcome, monkeypatch):
    """The plain loop is the one that runs: a step for each pair, each with one loss and one update."""
    for script, steps in (("linear_recovery", 120), ("ann_revisited", 120)):
        with monkeypatch.context() as patch:
            calls = at_call(patch, importlib.import_module(f"lectures.{script}"), 0, lambda: None)
            outcome(script, "--engine", "eager")
            assert steps <= len(calls) <= steps + 3
            del calls[:]
            outcome(script, "--engine", "fused")
            assert len(calls) <= 3


def test_output_dir_is_the_project_s_without_the_option(run_here):
    text = re.sub(r"\s+", "", run_here("ann_revisited", "--help").stdout)
    assert "".join(str(PROJECT / "outputs" / "ann_revisited").split()) in text
