"""Reads runs' folders: what is there, what is missing, what is damaged. What stands in their files is not trusted."""

import base64
import io
import json
import math
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, features
from torch import Tensor

from common import files
from common.program import RunError

METRICS_LIMIT = 1_000_000  # bytes of a metrics.json; a run's has some thousand
FIGURE_LIMIT = 2_000_000  # bytes of one figure
SIDE_LIMIT = 5_000  # pixels of a figure, across and down
TEXT_LIMIT = 120  # characters of an option or a name that are shown
LINES_LIMIT = 60  # options, versions or phases that are shown
NOT_SHOWN = (
    "output_dir",
    "data_dir",
    "format",
    "quiet",
    "show",
    "resume",
    "animate",
)  # they change no number
CURVE_POINTS = 400  # of a run's losses in the page

KINDS = {  # the figures a page can show: how a file of that kind begins, and its type
    ".png": (b"\x89PNG\r\n\x1a\n", "image/png"),
    ".gif": (b"GIF8", "image/gif"),
    ".svg": (b"<", "image/svg+xml"),
}


@dataclass(frozen=True)
class Picture:
    """A figure that a run may have left: its file's name without the ending, and what to say about it."""

    name: str
    caption: str
    alternative: str


@dataclass(frozen=True)
class Source:
    """A run that the page shows.

    Attributes:
        name: its folder's.
        command: what makes it.
        needed: whether it is one of the lecture's three; the others add to them.
        pictures: the figures to show, in order.
    """

    name: str
    title: str
    command: str
    needed: bool
    pictures: tuple[Picture, ...]


@dataclass
class Figure:
    """A figure's data and size; `fault` says why there are none."""

    picture: Picture
    file: str
    address: str = ""
    width: int = 0
    height: int = 0
    fault: str = ""

    @property
    def moves(self) -> bool:
        return self.file.endswith(".gif")


@dataclass
class Run:
    """What was found in a run's folder.

    Attributes:
        state: "read", "missing", or "damaged", as `fault` says then.
        metrics: the four dicts of metrics.json; empty ones unless the state is "read".
        losses: every step's loss, shape (steps,), or None.
        initial, model: state_dicts, or None.
        warnings: what else could not be read.
    """

    source: Source
    state: str
    fault: str = ""
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)
    losses: np.ndarray | None = None
    initial: dict[str, Tensor] | None = None
    model: dict[str, Tensor] | None = None
    figures: list[Figure] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def summary(self) -> str:
        """Where the run was made, and how long it took."""
        environment, seconds = self.metrics.get("environment", {}), self.metrics.get("seconds", {})
        labels = {"device": "{}", "torch": "PyTorch {}", "python": "Python {}"}
        parts = [
            label.format(short(environment[key]))
            for key, label in labels.items()
            if key in environment
        ]
        if seconds and all(isinstance(value, float) for value in seconds.values()):
            parts.append(
                f"{sum(seconds.values()):.1f} s in all, {seconds.get('training', 0):.2g} s of them training"
            )
        return "; ".join(parts)

    def lines(self, part: str) -> list[tuple[str, str]]:
        """The entries of one of metrics.json's dicts as short texts, such as the options of "config"."""
        entries = [
            entry for entry in self.metrics.get(part, {}).items() if entry[0] not in NOT_SHOWN
        ]
        return [(short(name), short(value)) for name, value in entries[:LINES_LIMIT]]


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
                "The loss of each step, one pair (x, y) each, with its mean over some steps around; the noise "
                "lets no model stay under the dashed line.",
                "Curve of the loss against the step, on a logarithmic scale.",
            ),
            Picture(
                "parameter_error",
                "The largest error of W and of b after each number of steps: the last iterate goes "
                "on jumping with the noise, the mean of the last half of the iterates settles.",
                "Two panels, for W and for b: the error against the number of steps, both on logarithmic scales.",
            ),
        ),
    ),
    Source(
        "linear_recovery_raw",
        "The recipe as it is printed",
        "python lectures/linear_recovery.py --raw --output-dir outputs/linear_recovery_raw",
        False,
        (
            Picture(
                "loss",
                "The loss of the printed recipe: inputs from 5 to 10, not centred, at 0.01. It grows until it "
                "overflows.",
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
                "Where each of the two outputs wins at the end, with the ten points.",
                "The unit square in two colours with a curved boundary between the five circles and the five squares.",
            ),
            Picture(
                "surfaces",
                "The two outputs over the unit square, with the ten points.",
                "Two maps of the unit square, each high on one side of a steep, curved slope and low on the other.",
            ),
            Picture(
                "layers",
                "The weights between the neurons, and the biases in them, before training and after.",
                "Two drawings of the 2-2-3-2 network; after training most of its lines are far stronger.",
            ),
            Picture(
                "loss",
                "The loss at every step, and from which step on how many points stay right.",
                "Curve of the loss against the step, nearly level for a long time, then falling.",
            ),
            Picture(
                "training",
                "The network while it trains: where each output wins, and the loss.",
                "Animation: the boundary bends until the circles and the squares are apart, while the loss falls.",
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
        "mnist_mlp_all",
        "The same network on distorted copies of all 60,000 images",
        "python lectures/mnist_mlp.py --output-dir outputs/mnist_mlp_all --images all --batch-size 128 --epochs 40 "
        "--lr 0.015 --schedule one-cycle --distort",
        False,
        (LOSS, UNSEEN, CONFUSION, MISTAKES, LAYERS, HIDDEN),
    ),
)


def short(value: object) -> str:
    """A value of a metrics.json as a text that fits a line: numbers with few digits, long texts cut off."""
    if isinstance(value, float):
        return f"{value:.4g}"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= TEXT_LIMIT else text[: TEXT_LIMIT - 1] + "…"


def read(source: Source, runs: Path, *, figures: bool = True) -> Run:
    """Reads a run's folder in `runs`; its figures only if they are wanted."""
    path = runs / source.name
    if not (path / "metrics.json").is_file():
        return Run(source, "missing")
    try:
        run = Run(source, "read", metrics=_metrics(path / "metrics.json"))
    except RunError as error:
        return Run(source, "damaged", fault=str(error))
    wanted = source.pictures if figures else ()
    run.figures = [figure for figure in (_figure(path, picture) for picture in wanted) if figure]
    run.losses = _kept(run, _losses, path / "losses.npy")
    run.initial = _kept(run, _state, path / "model_initial.pt")
    run.model = _kept(run, _state, path / "model.pt")
    return run


def _kept(run: Run, reader: Any, path: Path) -> Any:
    """What `reader` makes of a file; a RunError becomes a warning of the run, and None."""
    try:
        return reader(path)
    except RunError as error:
        run.warnings.append(str(error))
        return None


def _metrics(path: Path) -> dict[str, dict[str, Any]]:
    """The dicts `config`, `environment`, `seconds`, `results` of a metrics.json.

    Raises:
        RunError: it cannot be read, or is not what a run writes.
    """
    try:
        size = path.stat().st_size
        if size > METRICS_LIMIT:
            raise RunError(f"{path.name} has {size:,} bytes, more than a run writes")
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise RunError(f"{path.name} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise RunError(f"{path.name} is damaged: it is not JSON") from None
    parts = ("config", "environment", "seconds", "results")
    if not isinstance(content, dict) or not all(
        isinstance(content.get(part), dict) for part in parts
    ):
        raise RunError(f"{path.name} is damaged: it lacks {', '.join(parts)}")
    return {part: content[part] for part in parts}


def _losses(path: Path) -> np.ndarray:
    """losses.npy, mapped and not read. Raises a RunError unless it is an array of floats of shape (steps,)."""
    try:
        losses = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise RunError(f"{path.name} cannot be read ({type(error).__name__})") from None
    if losses.ndim != 1 or losses.dtype.kind != "f":
        raise RunError(
            f"{path.name} holds {losses.dtype} of shape {losses.shape}, expected one loss a step"
        )
    return losses


def _state(path: Path) -> dict[str, Tensor]:
    """A state_dict of tensors. Raises a RunError unless it is one, of a size that a lecture's model has."""
    try:
        state = files.load(path)
    except RunError:
        raise RunError(f"{path.name} is missing or damaged") from None
    if not isinstance(state, dict) or not all(
        isinstance(tensor, Tensor) and tensor.layout == torch.strided and tensor.is_floating_point()
        for tensor in state.values()
    ):
        raise RunError(f"{path.name} holds no model's parameters")
    return state


def _figure(path: Path, picture: Picture) -> Figure | None:
    """The figure's data as an address, None if the run has no such file, a fault if it cannot be shown."""
    files = [file for file in sorted(path.glob(f"{picture.name}.*")) if file.is_file()]
    file = next((f for f in files if f.suffix in KINDS), files[0] if files else None)
    if file is None:
        return None
    figure = Figure(picture, file.name)
    if file.suffix not in KINDS:
        figure.fault = f"{file.name} is in the run's folder; a page cannot show such files"
        return figure
    begins, kind = KINDS[file.suffix]
    try:
        data = file.read_bytes() if file.stat().st_size <= FIGURE_LIMIT else b""
        if not data.startswith(begins):
            raise ValueError
        if file.suffix != ".svg":
            figure.width, figure.height, smaller = _measured(data)
            data, kind = (smaller, "image/webp") if smaller else (data, kind)
    except (
        OSError,
        ValueError,
        SyntaxError,
        EOFError,
        struct.error,
        zlib.error,
        Image.DecompressionBombError,
    ):
        figure.fault = f"{file.name} is damaged, or larger than {FIGURE_LIMIT:,} bytes"
        return figure
    figure.address = f"data:{kind};base64,{base64.b64encode(data).decode()}"
    return figure


def _measured(data: bytes) -> tuple[int, int, bytes]:
    """Width and height of a PNG or GIF, and a PNG as lossless WebP, which takes a third of the room; b"" if it cannot.

    Raises:
        ValueError, or what Pillow's readers raise: the picture is damaged or too large.
    """
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(data), formats=("PNG", "GIF")) as image:
        if max(image.size) > SIDE_LIMIT:
            raise ValueError
        image.load()
        if image.format == "PNG" and features.check("webp"):
            image.save(buffer, "WEBP", lossless=True, method=2)
        smaller = buffer.getvalue()
        return image.width, image.height, smaller if len(smaller) < len(data) else b""


def curve(losses: np.ndarray | None) -> list[tuple[int, float]]:
    """Some (steps made, loss) of a run, closer at the start, for the page to draw beside its own."""
    if losses is None or not len(losses):
        return []
    places = np.unique(np.geomspace(1, len(losses), CURVE_POINTS).astype(int)) - 1
    return [(int(place), float(losses[place])) for place in places if math.isfinite(losses[place])]


def vector(state: dict[str, Tensor] | None, shapes: list[tuple[int, ...]]) -> list[float] | None:
    """The parameters of a state_dict, one after another, if they have these shapes and are all finite; else None."""
    if state is None or [tuple(tensor.shape) for tensor in state.values()] != shapes:
        return None
    numbers = [float(number) for tensor in state.values() for number in tensor.flatten().tolist()]
    return numbers if all(map(math.isfinite, numbers)) else None
