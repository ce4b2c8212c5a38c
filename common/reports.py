"""What the lectures report of their runs: for each its figures, a table and a sentence."""

from common import plotting
from common.datasets import Dataset
from common.run import Run, count_of

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn.utils import vector_to_parameters


class Report(NamedTuple):
    """What `Run.finish` writes and prints."""

    figures: dict[str, Figure]  # by name, without an ending
    table: str
    summary: str
    files: dict[str, Any]  # the content of further files, by name


def subtitle(run: Run, *details: str) -> str:
    """A title's second line: how many steps were made, `details`, and the settings."""
    settings = f"learning rate {run.args.lr:g}, seed {run.args.seed}"
    return "\n" + ", ".join([run.ending, *details, settings])


def before_and_after(run: Run, model: nn.Module) -> dict[str, list[np.ndarray]]:
    """A model's weights and biases in turn, by name, before and after training."""
    states = {"before training": run.initial, "after training": model.state_dict()}
    return {name: [p.cpu().numpy() for p in state.values()] for name, state in states.items()}


def learning_rate(lr: float, limit: float) -> str:
    """The largest stable learning rate, and whether the one that was asked for is beyond it."""
    beyond = f"; {lr:g} is beyond it, so the loss may grow" if lr > limit else ""
    return f"largest stable learning rate for steps on one pair: {limit:.3g}{beyond}"


def largest_errors(parameters: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """The largest absolute errors of W and of b, each of shape (...), of parameters (..., 12)."""
    errors = (parameters - true).abs()
    return errors[..., :10].amax(dim=-1), errors[..., 10:].amax(dim=-1)


def state(parameters: Tensor) -> dict[str, Tensor]:
    """Parameters of shape (12,) by their names in a model: weight, (2, 5), and bias, (2,)."""
    return {"weight": parameters[:10].reshape(2, 5), "bias": parameters[10:]}


def compare(parameters: Tensor, true: Tensor) -> dict:
    """The `state` of parameters of shape (12,), and its largest absolute errors."""
    weight_error, bias_error = (error.item() for error in largest_errors(parameters, true))
    return {**state(parameters), "weight_error": weight_error, "bias_error": bias_error}


def linear_recovery(
    run: Run, results: dict, true: Tensor, steps: Tensor, curves: dict[str, Tensor], files: dict
) -> Report:
    """The report of linear_recovery, whose `results` are those for metrics.json.

    `true` is W and b, shape (12,). `curves` are estimates of them, shape (n, 12), after `steps`,
    shape (n,), the first before training, by their names in the results. `files` are more files
    by name; with them go the models, whose bias has the centre folded back.
    """
    args, averaged, floor = run.args, results["averaged"], results["noise_floor"]
    below = subtitle(run, f"x in [{args.low:g}, {args.high:g}){'' if args.raw else ', centred'}")
    panels: dict[str, dict] = {"largest error of W": {}, "largest error of b": {}}
    for name, curve in curves.items():
        for panel, errors in zip(panels.values(), largest_errors(curve, true)):
            panel[name.replace("_", " ")] = (steps[1:].numpy(), errors[1:].numpy())
    overflow = {f"overflow at step {run.done:,}": run.done} if run.ended == "diverged" else None
    head = "Error of the last iterate, the averaged one and least squares"
    figures = {
        "loss": plotting.loss_curve("Loss at every step" + below, run.losses, 100, floor),
        "parameter_error": plotting.lines(head + below, panels, vertical=overflow),
    }
    columns = {"true": true} | {name: curve[-1] for name, curve in curves.items()}
    rows = [f"W[{i},{j}]" for i in (1, 2) for j in range(1, 6)] + ["b[1]", "b[2]"]
    table = [" " * 8 + "".join(f"{name.replace('_', ' '):>15}" for name in columns)]
    for name, *values in zip(rows, *columns.values()):
        table.append(f"{name:8}" + "".join(f"{value:15.5g}" for value in values))
    summary = (
        f"{run.ending}: averaged W within {averaged['weight_error']:.2g} of the truth, b within "
        f"{averaged['bias_error']:.2g}"
    )
    last = curves["last"]
    models = {"model_initial.pt": state(last[0]), "model.pt": state(last[-1])}
    return Report(figures, "\n".join(table), summary, files | models)


@torch.no_grad()
def ann_revisited(
    run: Run, results: dict, model: nn.Module, points: Tensor, labels: Tensor, correct: Callable
) -> Report:
    """The report of ann_revisited, whose `results` are those for metrics.json.

    `points` and `labels` have shape (10, 2). `correct` tells of a model whether it classifies each
    point correctly, shape (10,).
    """
    side, snapshot, values, right = np.linspace(0, 1, 101), copy.deepcopy(model), [], []
    grid = torch.from_numpy(np.stack(np.meshgrid(side, side), axis=-1))  # (101, 101, 2)
    for parameters in torch.from_numpy(run.kept):
        vector_to_parameters(parameters, snapshot.parameters())
        right.append(correct(snapshot).numpy())
        if run.args.animate:
            values.append(snapshot(grid[::2, ::2]).numpy())
    steps = run.keep[: len(run.kept)]
    outputs, verdicts = model(points).numpy(), correct(model).numpy()
    surface = dict(zip(("F₁", "F₂"), model(grid).numpy().transpose(2, 0, 1)))
    difference = {"F₁ \N{MINUS SIGN} F₂": surface["F₁"] - surface["F₂"]}
    found = f"{results['points_correct']} of 10 points right"
    below, ten = subtitle(run, found), (points.numpy(), labels.argmax(dim=1).numpy())
    networks, ends = before_and_after(run, model), (("x₁", "x₂"), ("F₁", "F₂"))
    marks = plotting.milestones(steps, np.sum(right, axis=1))
    figures = {
        "loss": plotting.loss_curve("Loss at every step" + below, run.losses, marks=marks),
        "regions": plotting.squares("Which output is larger" + below, difference, *ten, verdicts),
        "surfaces": plotting.squares("F over the unit square" + below, surface, *ten, verdicts),
        "layers": plotting.layers("Weights, and biases in the nodes" + below, networks, *ends),
    }
    files = {}
    if run.args.animate and run.done:
        frames = steps, np.stack(values), np.stack(right)
        files["training.gif"] = plotting.animation("Training" + below, frames, run.losses, *ten)
    table = [f"{'x1':>5}{'x2':>5}   label          output"]
    for (x1, x2), (a, b), (p, q), ok in zip(points.tolist(), labels.tolist(), outputs, verdicts):
        verdict = "right" if ok else "WRONG"
        table.append(f"{x1:5.1f}{x2:5.1f}   ({a:.0f}, {b:.0f})   ({p:.4f}, {q:.4f})   {verdict}")
    summary = f"{run.ending}: {found}, loss {results['final_loss']:.4g}"
    if run.ended == "finished":  # an interrupted run is to be resumed
        summary += advice(run.losses, outputs, verdicts)
    return Report(figures, "\n".join(table), summary, files)


def advice(losses: np.ndarray, values: np.ndarray, correct: np.ndarray) -> str:
    """A line for points that are wrong: the reason, if outputs or losses show it, else "".

    `losses` has shape (steps,); `values`, the outputs, (10, 2); `correct` (10,).
    """
    if correct.all():
        return ""
    if np.abs(values - 0.5).min() > 0.499:
        return (
            "\nall outputs are stuck at 0 or 1, where a sigmoid is flat: the learning rate is "
            "likely far too large"
        )
    fall = 1 - losses[-1] / losses[-len(losses) // 10] if len(losses) >= 1000 else 1
    if 0 <= fall < 0.01:
        return (
            f"\nthe loss fell by {fall:.2%} in the last tenth of the steps, a plateau: try more "
            "--steps, a larger --lr or another --seed"
        )
    return ""


def mnist_mlp(
    run: Run, results: dict, data: Dataset, model: nn.Module, known: int, *judged: Tensor
) -> Report:
    """The report of mnist_mlp, whose `results` are those for metrics.json.

    `known` is the number of a training image for the table. `judged` are the probabilities, shape
    (n, 10), of the first five training images, of those trained on, and of the test images.
    """
    first, train, test = judged
    names, unseen = data.classes, results["unseen"]["index"]
    below = subtitle(run, data.title, count_of(results["train_images"], "image"), "Adam")
    five = data.train_images[:5].numpy(), data.train_labels[:5].numpy(), first.numpy()
    tests = data.test_images.numpy(), data.test_labels.numpy(), test.numpy()
    labels, answers = tests[1], tests[2].argmax(axis=1)
    wrong = np.flatnonzero(answers != labels)
    wrong = wrong[np.argsort(-tests[2][wrong].max(axis=1), kind="stable")][:10]
    one, worst = (tuple(part[places] for part in tests) for places in (unseen, wrong))
    tested = f"{len(test):,} test images, {100 * results['test_accuracy']:.1f} % right"
    mistakes = "The most confident mistakes in the test set"
    never_seen = f"Test image {unseen + 1:,}, never seen before"
    counts = np.bincount(10 * labels + answers, minlength=100).reshape(10, 10)
    networks = before_and_after(run, model)
    figures = {
        "first_five": plotting.judged_images("First five training images" + below, names, *five),
        "loss": plotting.loss_curve("Loss at every step" + below, run.losses, 100),
        "unseen": plotting.probability_bars(never_seen + below, names, *one),
        "confusion": plotting.confusion(tested + below, names, counts),
        "mistakes": plotting.judged_images(mistakes + below, names, *worst),
        "hidden_units": plotting.hidden_units(
            "Ink that excites the hidden units: blue; inhibits: orange" + below,
            networks["after training"][0].reshape(-1, 28, 28),
        ),
        "layers": plotting.layers("The network in short" + below, networks, five[0][0], names),
    }
    rows = [f"image {i}" for i in range(1, len(first) + 1)]
    rows += [f"training image {known + 1}", f"unseen test image {unseen + 1}"]
    shares = torch.cat([first, train[[known]], test[[unseen]]])
    right = [*data.train_labels[:5], data.train_labels[known], data.test_labels[unseen]]
    summary = (
        f"{run.ending}: loss {results['final_loss']:.4f}; {results['train_accuracy']:.1%} of the "
        f"images trained on and {results['test_accuracy']:.2%} of the {len(test):,} test images "
        "are classified correctly"
    )
    return Report(figures, probabilities(rows, shares, right, data), summary, {})


def probabilities(rows: Sequence[str], shares: Tensor, labels: Iterable, data: Dataset) -> str:
    """A table of images: names, probabilities, (rows, 10), predictions, and which are right."""
    heads = "".join(f"{name[:5]:>6}" for name in data.classes)
    lines = [f"{data.title + ', in %':26}{heads}   prediction"]
    for name, row, label in zip(rows, shares, labels):
        guess = int(row.argmax())
        verdict = "right" if guess == label else f"WRONG, it is {data.classes[label]}"
        percents = "".join(f"{100 * p:6.1f}" for p in row.tolist())
        lines.append(f"{name:26}{percents}   {data.classes[guess]} ({verdict})")
    return "\n".join(lines)
