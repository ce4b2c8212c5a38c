"""Reads the folders of runs, and says what is missing or damaged."""

import base64
import io
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

KINDS = {".png": "image/png", ".gif": "image/gif", ".svg": "image/svg+xml"}  # that a page can show
PARTS = ("config", "environment", "seconds", "results")  # of a metrics.json
NOT_SHOWN = ("output_dir", "data_dir", "format", "quiet", "show", "resume", "animate")  # options
CURVE_POINTS = 400  # of a run's losses in the page


@dataclass(frozen=True)
class Picture:
    """A figure of a run: its file name without the suffix, its caption, its alternative text."""

    name: str
    caption: str
    alternative: str


@dataclass(frozen=True)
class Source:
    """A run that the page shows.

    Attributes:
        name: of its folder.
        command: the command that makes it.
        needed: whether it is one of the lecture's three runs.
        pictures: the figures to show, in order.
    """

    name: str
    title: str
    command: str
    needed: bool
    pictures: tuple[Picture, ...]


@dataclass
class Figure:
    """A figure as a data URL, its size in pixels if known; `fault` says why it is missing."""

    picture: Picture
    file: str
    address: str = ""
    width: int = 0
    height: int = 0
    fault: str = ""


@dataclass
class Run:
    """What was found in a run's folder.

    Attributes:
        state: "read", "missing" or "damaged"; `fault` says what is damaged.
        metrics: the four dicts of metrics.json; empty unless the state is "read".
        losses: every step's loss, shape (steps,), or None.
        initial, model: state_dicts, or None.
        warnings: which other files could not be read.
    """

    source: Source
    state: str
    fault: str = ""
    metrics: dict[str, dict[str, Any]] = field(default_factory=lambda: {part: {} for part in PARTS})
    losses: np.ndarray | None = None
    initial: dict[str, Tensor] | None = None
    model: dict[str, Tensor] | None = None
    figures: list[Figure] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def summary(self) -> str:
        """Where the run was made, and how long it took."""
        labels = {"device": "{}", "torch": "PyTorch {}", "python": "Python {}"}
        found, seconds = self.metrics["environment"], self.metrics["seconds"]
        parts = [text.format(found[key]) for key, text in labels.items() if key in found]
        if "training" in seconds:
            training = short(seconds["training"])
            parts.append(f"{sum(seconds.values()):.1f} s in all, {training} s of them training")
        return "; ".join(parts)

    def lines(self, part: str) -> list[tuple[str, str]]:
        """The entries of one of metrics.json's dicts as texts, such as the options of "config"."""
        entries = self.metrics[part].items()
        return [(name, short(value)) for name, value in entries if name not in NOT_SHOWN]


LOSS = Picture("loss", "The loss at every step.", "Curve of the loss against the step, falling.")
UNSEEN = Picture(
    "unseen",
    "Exercise 4: an image that the network was not trained on, and the ten probabilities.",
    "A handwritten digit beside bars for the ten probabilities.",
)
CONFUSION = Picture(
    "confusion",
    "The test set: how many images of each label got each answer.",
    "Ten by ten table of counts, the largest on its diagonal.",
)
MISTAKES = Picture(
    "mistakes",
    "The mistakes that the network is most sure of.",
    "Handwritten digits with their labels and what the network said.",
)
LAYERS = Picture(
    "layers",
    "The network before training and after, with its largest weights.",
    "Two drawings of the network, from 784 pixels over the hidden units to ten outputs.",
)
HIDDEN = Picture(
    "hidden_units",
    "Where ink excites each hidden unit and where it inhibits it.",
    "Forty small squares of 28 by 28 weights in blue and orange, one for each hidden unit.",
)

SOURCES = (
    Source(
        "linear_recovery",
        "The lecture's run, with centred inputs",
        "python lectures/linear_recovery.py",
        True,
        (
            Picture(
                "loss",
                "The loss of each step, on one pair (x, y), and its mean over some steps.",
                "Curve of the loss against the step, on a logarithmic scale.",
            ),
            Picture(
                "parameter_error",
                "The largest error of W and of b after each number of steps: the last iterate "
                "keeps jumping with the noise, the mean of the last half of the iterates settles.",
                "Two panels, for W and for b: the error against the steps, logarithmic scales.",
            ),
        ),
    ),
    Source(
        "linear_recovery_raw",
        "The recipe as printed",
        "python lectures/linear_recovery.py --raw --output-dir outputs/linear_recovery_raw",
        False,
        (
            Picture(
                "loss",
                "The loss of the printed recipe: it grows until it overflows.",
                "Curve of the loss against the step, rising by hundreds of powers of ten.",
            ),
        ),
    ),
    Source(
        "ann_revisited",
        "The lecture's run",
        "python lectures/ann_revisited.py",
        True,
        (
            Picture(
                "regions",
                "Where each of the two outputs is larger at the end, with the ten points.",
                "The unit square in two colours, a curved boundary between circles and squares.",
            ),
            Picture(
                "surfaces",
                "The two outputs over the unit square, with the ten points.",
                "Two maps of the unit square, high on one side of a steep slope, low on the other.",
            ),
            Picture(
                "layers",
                "The weights between the neurons and the biases in them, before and after.",
                "Two drawings of the 2-2-3-2 network; after training most lines are stronger.",
            ),
            Picture(
                "loss",
                "The loss at every step, marked where more points are correct for good.",
                "Curve of the loss against the step, nearly level for a long time, then falling.",
            ),
            Picture(
                "training",
                "The network while it trains: where each output is larger, and the loss.",
                "Animation: the boundary bends to separate circles and squares; the loss falls.",
            ),
        ),
    ),
    Source(
        "mnist_mlp",
        "The lecture's run, on 100 images",
        "python lectures/mnist_mlp.py",
        True,
        (
            Picture(
                "first_five",
                "The first five images: label, prediction and its probability.",
                "Five handwritten digits with their labels and predictions.",
            ),
            *(LOSS, UNSEEN, CONFUSION, MISTAKES, LAYERS, HIDDEN),
        ),
    ),
    Source(
        "mnist_all",
        "The same network on distorted copies of all 60,000 images",
        "python exercises/mnist_all.py",
        False,
        (LOSS, UNSEEN, CONFUSION, MISTAKES, LAYERS, HIDDEN),
    ),
)


def short(value: object) -> str:
    """A value of a metrics.json as text, with few digits of a number."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def read(source: Source, runs: Path, *, figures: bool = True) -> Run:
    """Reads a run's folder in `runs`; its figures only if they are wanted."""
    path = runs / source.name
    if not (path / "metrics.json").is_file():
        return Run(source, "missing")
    try:
        metrics = json.loads((path / "metrics.json").read_bytes())
        run = Run(source, "read", metrics={part: dict(metrics[part]) for part in PARTS})
    except (OSError, ValueError, KeyError, TypeError):
        return Run(source, "damaged", fault="metrics.json is damaged")
    run.losses = _kept(run, path / "losses.npy", _losses)
    run.initial = _kept(run, path / "model_initial.pt", _state)
    run.model = _kept(run, path / "model.pt", _state)
    if figures:
        found = (_figure(path, picture) for picture in source.pictures)
        run.figures = [figure for figure in found if figure]
    return run


def _kept(run: Run, path: Path, reader: Any) -> Any:
    """What `reader` returns for a file; if it fails, adds a warning to the run, returns None."""
    try:
        return reader(path)
    except Exception:  # a damaged pickle or array can raise any exception
        run.warnings.append(f"{path.name} is missing or damaged")
        return None


def _losses(path: Path) -> np.ndarray:
    return np.load(path, mmap_mode="r")


def _state(path: Path) -> dict[str, Tensor]:
    state = torch.load(path, map_location="cpu", weights_only=True)
    return {name: tensor.detach() for name, tensor in state.items()}


def _figure(path: Path, picture: Picture) -> Figure | None:
    """A figure from a run's folder; None if the run has none of that name."""
    files = [file for file in sorted(path.glob(f"{picture.name}.*")) if file.is_file()]
    if not files:
        return None
    file = next((file for file in files if file.suffix in KINDS), files[0])
    figure = Figure(picture, file.name)
    if file.suffix not in KINDS:
        figure.fault = f"{file.name} is in the run's folder; a page cannot show such files"
        return figure
    try:
        data, kind = file.read_bytes(), KINDS[file.suffix]
        if file.suffix != ".svg":
            with Image.open(io.BytesIO(data)) as image:
                figure.width, figure.height = image.size
                if file.suffix == ".png":  # lossless WebP takes a third of the space
                    buffer = io.BytesIO()
                    image.save(buffer, "WEBP", lossless=True, method=2)
                    data, kind = buffer.getvalue(), "image/webp"
    except (OSError, SyntaxError):  # Pillow's, for damaged pictures
        figure.fault = f"{file.name} is damaged"
        return figure
    figure.address = f"data:{kind};base64,{base64.b64encode(data).decode()}"
    return figure


def curve(losses: np.ndarray | None) -> list[tuple[int, float]]:
    """Some pairs (step, loss) of a run, denser at the start, for the page to draw."""
    if losses is None or not len(losses):
        return []
    places = np.unique(np.geomspace(1, len(losses), CURVE_POINTS).astype(int)) - 1
    return [(int(place), float(losses[place])) for place in places if math.isfinite(losses[place])]


def vector(state: dict[str, Tensor] | None, shapes: list[tuple[int, ...]]) -> list[float] | None:
    """A state_dict's parameters in one list; None unless all are finite and of these shapes."""
    if state is None or [tuple(tensor.shape) for tensor in state.values()] != shapes:
        return None
    numbers = torch.cat([tensor.flatten().double() for tensor in state.values()])
    return numbers.tolist() if numbers.isfinite().all() else None
