"""What tests of a run need: random digits, the lectures in NumPy, acts at a step, figures."""

from common import files, plotting
from common.run import Run
from engine import starts

import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from conftest import write_mnist
from matplotlib.figure import Figure
from matplotlib.text import Text

W_TRUE, B_TRUE = np.array([[1.0, 2, 3, 4, 5], [5, 4, 3, 2, 1]]), np.array([-1.0, -2])
POINTS = np.column_stack(
    [
        [0.1, 0.3, 0.1, 0.6, 0.4, 0.6, 0.5, 0.9, 0.4, 0.7],
        [0.1, 0.4, 0.5, 0.9, 0.2, 0.3, 0.6, 0.2, 0.4, 0.6],
    ]
)  # (10, 2)
LABELS = np.array([[1.0, 0]] * 5 + [[0, 1]] * 5)  # (10, 2)
SCRIPTS = ("linear_recovery", "ann_revisited", "mnist_mlp")


def write_digits(
    root: Path, name: str = "MNIST", seed: int = 0, train: int = 60, test: int = 50
) -> SimpleNamespace:
    """Writes noisy random images of ten classes where torchvision keeps them: `root`/`name`/raw.

    They are so noisy that a model knows those it was trained on better than others. Returns the
    arrays x_train, y_train, x_test, y_test, and `root`.
    """
    draw = np.random.default_rng(seed)
    patterns = np.random.default_rng(7).random((10, 28, 28))
    arrays = {}
    for part, count in (("train", train), ("test", test)):
        labels = draw.integers(0, 10, count)
        images = 255 * (0.2 * patterns[labels] + 0.8 * draw.random((count, 28, 28)))
        arrays |= {f"x_{part}": images.astype(np.uint8), f"y_{part}": labels}
    write_mnist(root / name / "raw", arrays)
    return SimpleNamespace(**arrays, root=root)


def load_state(path: Path) -> dict[str, np.ndarray]:
    """A saved state_dict as arrays."""
    return {name: tensor.numpy() for name, tensor in torch.load(path, weights_only=True).items()}


def states(done) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """A run's model before training and after it."""
    return load_state(done.folder / "model_initial.pt"), load_state(done.folder / "model.pt")


def have_memory(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Makes the free memory `size` bytes."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=size))


def content(folder: Path) -> dict[str, bytes]:
    """The bytes of a run's numbers by file: losses, both models, and training data, if any."""
    paths = [*folder.glob("*.np?"), *folder.glob("model*.pt")]
    return {path.name: path.read_bytes() for path in paths}


def results_of(done) -> dict:
    """A run's results without the one that is a time."""
    return done.metrics["results"] | {"microseconds_per_step": None}


# The lectures once more, in NumPy.


def descend(x: np.ndarray, y: np.ndarray, weight: np.ndarray, bias: np.ndarray, rate: float):
    """Gradient descent on sum (W x + b - y)^2, a pair a step.

    Returns the losses (N,), and W (N, 2, 5) and b (N, 2) after each step.
    """
    losses, weights, biases = [], [], []
    for one, target in zip(x, y):
        error = weight @ one + bias - target
        losses.append((error**2).sum())
        weight, bias = weight - rate * 2 * np.outer(error, one), bias - rate * 2 * error
        weights.append(weight)
        biases.append(bias)
    return np.array(losses), np.array(weights), np.array(biases)


def sigmoid_network(state: dict[str, np.ndarray], x: np.ndarray) -> list[np.ndarray]:
    """The values of each layer of the 2-2-3-2 network, its inputs first."""
    values = [x]
    for layer in ("0", "2", "4"):
        sums = values[-1] @ state[f"{layer}.weight"].T + state[f"{layer}.bias"]
        values.append(1 / (1 + np.exp(-sums)))
    return values


def ten_points_loss(state: dict[str, np.ndarray]) -> float:
    """1/10 sum over the ten points of 1/2 ||y - F||^2."""
    return 0.5 * ((LABELS - sigmoid_network(state, POINTS)[-1]) ** 2).sum() / 10


def descend_on_ten_points(state: dict[str, np.ndarray], rate: float, steps: int):
    """Gradient descent on all ten points a step: the losses, and the state after the last step."""
    state, losses = dict(state), []
    for _ in range(steps):
        losses.append(ten_points_loss(state))
        values = sigmoid_network(state, POINTS)
        slope = (values[-1] - LABELS) / 10
        gradients = {}
        for layer, inputs, outputs in zip(("4", "2", "0"), values[-2::-1], values[:0:-1]):
            slope = slope * outputs * (1 - outputs)
            gradients[f"{layer}.weight"] = slope.T @ inputs
            gradients[f"{layer}.bias"] = slope.sum(axis=0)
            slope = slope @ state[f"{layer}.weight"]
        state = {name: value - rate * gradients[name] for name, value in state.items()}
    return np.array(losses), state


def digit_probabilities(state: dict[str, np.ndarray], images: np.ndarray) -> np.ndarray:
    """softmax(W2 relu(W1 x + b1) + b2), shape (n, 10), for images (n, 28, 28) of 0 to 255."""
    x = images.reshape(len(images), -1) / 255
    state = {name: value.astype(float) for name, value in state.items()}
    hidden = np.maximum(x @ state["0.weight"].T + state["0.bias"], 0)
    logits = hidden @ state["2.weight"].T + state["2.bias"]
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def cross_entropy(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """The mean of -log p of the true class."""
    return -np.log(probabilities[np.arange(len(labels)), labels]).mean()


# Acts at a certain step of a run in this process.


def press(number: int = signal.SIGINT) -> None:
    """Ctrl-C, or another signal to this process; Python hears it before the next line."""
    os.kill(os.getpid(), number)


def at_step(patch: pytest.MonkeyPatch, step: int, act: Callable[[], None]) -> list[int]:
    """Does `act` at the end of a step; returns the numbers of the steps as they are made.

    The compiled loop, which else makes a hundred steps or more at once, makes one at a time.
    """
    patch.setattr(starts, "FIRST_CHUNK", 1)
    patch.setattr(starts, "CHUNK_SECONDS", 0)
    after, made = Run._after_steps, []

    def watched(run: Run) -> bool:
        made.append(run._loop.done)
        if made[-1] == step:
            act()
        return after(run)

    patch.setattr(Run, "_after_steps", watched)
    return made


# Figures, as they were drawn.


def watch_figures(patch: pytest.MonkeyPatch) -> dict[str, Figure]:
    """The figures that runs write from here on, by their files' names without the ending.

    They are not turned into pictures, which saves time.
    """
    figures, save = {}, files.save

    def watched(path: Path, content: object) -> None:
        if isinstance(content, Figure):
            figures[path.stem] = content
            content = b"a figure"
        save(path, content)

    patch.setattr(files, "save", watched)
    return figures


def no_figures(patch: pytest.MonkeyPatch) -> None:
    """Lets runs from here on draw no figure but a blank one, which saves most of their time."""
    watch_figures(patch)
    blank = Figure()
    for name, function in list(vars(plotting).items()):
        if getattr(function, "__annotations__", {}).get("return") is Figure:
            patch.setattr(plotting, name, lambda *values, **settings: blank)


def texts(figure: Figure) -> list[str]:
    """Every text of a figure that is seen: titles, captions, labels, legends."""
    found = [text.get_text() for text in figure.findobj(Text) if text.get_visible()]
    return [text for text in found if text]
