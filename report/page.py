"""Assembles the page from runs, claims, template, style and scripts in a single file."""

from lectures.ann_revisited import LABELS, POINTS
from lectures.linear_recovery import B_TRUE, W_TRUE
from report import claims
from report.runs import SOURCES, Run, curve, read, short, vector

import base64
import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

HERE = Path(__file__).resolve().parent
SCRIPTS = ("shared", "chart", "network", "train", "rate", "prepare", "digit")  # in this order
SMALL_NETWORK = [(2, 2), (2,), (3, 2), (3,), (2, 3), (2,)]  # the 2-2-3-2 network's parameters
HIDDEN_LIMIT = 80  # the most hidden units of a digit network in the page


SECTIONS = (  # of the lecture, with the runs that belong to them
    ("recovery", "Getting Started with Flux", ("linear_recovery", "linear_recovery_raw")),
    ("network", "An Artificial Neural Network Revisited", ("ann_revisited",)),
    ("digits", "Recognizing Handwritten Numbers", ("mnist_mlp", "mnist_all")),
)


def read_all(runs: Path, *, figures: bool = True) -> dict[str, Run]:
    """All runs of the page in the folder `runs`, by name; their figures only if they are wanted."""
    return {source.name: read(source, runs, figures=figures) for source in SOURCES}


def render(runs: dict[str, Run]) -> str:
    """The page as HTML, which needs no other file."""
    lines = claims.verdicts(runs)
    sections = []
    for name, title, names in SECTIONS:
        section: dict[str, Any] = {"name": name, "title": title}
        section["runs"] = [runs[run] for run in names]
        section["verdicts"] = [line for line in lines if line.claim.run in names]
        sections.append(section)
    style = (HERE / "static" / "page.css").read_text(encoding="utf-8")
    scripts = [(HERE / "static" / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS]
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["tied"] = tied
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False}  # browsers stop at a NaN
    return (
        environment.get_template("page.html")
        .render(
            sections=sections,
            counts=Counter(line.mark for line in lines),
            data=data(runs),
            claims=claims,
            fast=plateau()["fast"],
            style=Markup(style),
            scripts=[Markup(script) for script in scripts],
            policy=policy(style, scripts),
        )
        .lstrip()
    )


def tied(text: str) -> str:
    """A text with no-break spaces in "95 %" and "6 · 64"."""
    return text.replace(" %", "\u00a0%").replace(" · ", "\u00a0·\u00a0")


def policy(style: str, scripts: list[str]) -> str:
    """The Content-Security-Policy: these scripts, this style, images as data URLs, no more."""
    allowed = " ".join(_hash(script) for script in scripts)
    return (
        f"default-src 'none'; script-src {allowed}; style-src {_hash(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def data(runs: dict[str, Run]) -> dict[str, Any]:
    """What the scripts of the page work with."""
    models = [digit_model(runs[name]) for name in ("mnist_all", "mnist_mlp")]
    return {
        "points": POINTS.tolist(),
        "labels": LABELS.tolist(),
        "weight": W_TRUE.tolist(),
        "bias": B_TRUE.tolist(),
        "start": start(runs["ann_revisited"]),
        "plateau": plateau()["weights"],
        "models": [model for model in models if model],
    }


def plateau() -> dict[str, Any]:
    """What `python -m report.plateau` found about other starts."""
    return json.loads((HERE / "plateau.json").read_text(encoding="utf-8"))


def start(run: Run) -> dict[str, Any] | None:
    """The start of the lecture's run: weights, learning rate, some losses; None without a run."""
    weights = vector(run.initial, SMALL_NETWORK)
    if weights is None:
        return None
    return {"weights": weights, "rate": run.metrics["config"].get("lr"), "curve": curve(run.losses)}


def digit_model(run: Run) -> dict[str, Any] | None:
    """A digit network, its float32 parameters in base64; None if it cannot be used."""
    hidden = run.model["0.bias"].numel() if run.model and "0.bias" in run.model else 0
    numbers = vector(run.model, [(hidden, 784), (hidden,), (10, hidden), (10,)])
    if hidden > HIDDEN_LIMIT or numbers is None:
        return None
    results = run.metrics["results"]
    name = f"{short(results.get('train_images'))} images"
    if results.get("dataset") != "mnist":
        name += ", not MNIST's"
    if isinstance(share := results.get("test_accuracy"), float):
        name += f" (test set: {100 * share:.1f} %)"
    packed = base64.b64encode(np.array(numbers, "<f4").tobytes()).decode()
    return {"run": run.source.name, "name": name, "hidden": hidden, "parameters": packed}
