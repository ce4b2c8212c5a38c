"""What the runs of the lectures show: for each its figures, a table and a sentence. No file is read or written."""

from common import plotting
from common.datasets import Dataset
from common.run import Run, count_of

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import vector_to_parameters


class Report(NamedTuple):
    """What `Run.finish` writes and prints."""

    figures: dict[str, Any]  # matplotlib figures by name; bytes by file name
    table: str
    summary: str
    files: dict[str, Any] | None = None  # more files by name


def log_spaced(steps: int) -> Tensor:
    """At most 200 numbers of steps up to `steps`, evenly spaced on a logarithmic scale."""
    return torch.from_numpy(np.unique(np.geomspace(1, max(1, steps), 200).astype(int))).clamp(
        max=steps
    )


def settings(run: Run) -> str:
    """The settings that all runs share, for titles."""
    return f"learning rate {run.args.lr:g}, seed {run.args.seed}"


# linear_recovery.


def learning_rate(lr: float, limit: float) -> str:
    """The largest stable learning rate, and whether the one that was asked for is beyond it."""
    beyond = f"; {lr:g} is beyond it, so the loss may grow" if lr > limit else ""
    return f"largest stable learning rate for steps on one pair: {limit:.3g}{beyond}"


def largest_errors(parameters: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """The largest absolute error of W and of b, each of shape (...), of parameters of shape (..., 12)."""
    errors = (parameters - true).abs()
    return errors[..., :10].amax(dim=-1), errors[..., 10:].amax(dim=-1)


def compare(parameters: Tensor, true: Tensor) -> dict:
    """W and b of parameters of shape (12,), each with its largest absolute error."""
    weight_error, bias_error = largest_errors(parameters, true)
    return {
        "weight": parameters[:10].reshape(2, 5),
        "bias": parameters[10:],
        "weight_error": weight_error.item(),
        "bias_error": bias_error.item(),
    }


def linear_recovery(
    run: Run,
    results: dict,
    true: Tensor,
    data: dict,
    iterates: Tensor,
    steps: Tensor,
    curves: dict,
) -> Report:
    """The report of linear_recovery.

    Args:
        results: for metrics.json.
        true: W and b, shape (12,).
        data: x, shape (N, 5), and y, (N, 2).
        iterates: W and b after 0, 1, ... steps, shape (steps made + 1, 12).
        steps: numbers of steps, shape (n,).
        curves: for each name of an estimate W and b after these, shape (n, 12).
    """
    args = run.args
    inputs = f"x in [{args.low:g}, {args.high:g}){'' if args.raw else ', centred'}"
    title = f"{run.ending}, {inputs}, {settings(run)}"
    overflow = run.done if run.ended == "diverged" else None
    estimates = ("last", "averaged", "least_squares")
    errors = {label: largest_errors(found, true) for label, found in curves.items()}
    panels = {
        name: {label: pair[k].numpy() for label, pair in errors.items()}
        for k, name in enumerate("Wb")
    }
    exact = results["least_squares"]
    figures = {
        "loss": plotting.loss_curve(
            run.losses,
            title=f"Loss at every step\n{title}",
            window=100,
            floor=results["noise_floor"],
        ),
        "parameter_error": plotting.error_curves(
            steps.numpy(),
            panels,
            title=f"Error of the parameters\n{title}",
            overflow=overflow,
            limits={"W": exact["weight_error"], "b": exact["bias_error"]},
        ),
    }
    names = [f"W[{i},{j}]" for i in (1, 2) for j in range(1, 6)] + ["b[1]", "b[2]"]
    found = [true.tolist()] + [
        torch.cat([results[name]["weight"].flatten(), results[name]["bias"]]).tolist()
        for name in estimates
    ]
    heads = "".join(f"{name.replace('_', ' '):>15}" for name in ("true", *estimates))
    lines = [f"{'':8}{heads}"] + [
        f"{name:8}" + "".join(f"{value:15.5g}" for value in row)
        for name, row in zip(names, zip(*found))
    ]
    averaged = results["averaged"]
    summary = (
        f"{run.ending}: averaged W within {averaged['weight_error']:.2g} of the truth, b within "
        f"{averaged['bias_error']:.2g}"
    )
    if args.lr > results["stable_lr_limit"]:
        summary += "; the learning rate is beyond the stable one"
    models = {
        f"{name}.pt": {"weight": row[:10].reshape(2, 5), "bias": row[10:]}
        for name, row in (("model_initial", iterates[0]), ("model", iterates[-1]))
    }
    return Report(figures, "\n".join(lines), summary, {"train_data.npz": data, **models})


# ann_revisited.


def ann_revisited(
    run: Run,
    results: dict,
    model: nn.Module,
    points: Tensor,
    labels: Tensor,
    points_correct: Callable[[nn.Module], Tensor],
) -> Report:
    """The report of ann_revisited.

    Args:
        results: for metrics.json.
        points, labels: shape (10, 2).
        points_correct: of a model, whether it classifies each point correctly, shape (10,).
    """
    marks = run.keep[: len(run.kept)]
    grid = plotting.unit_grid(61 if run.args.animate else 2)
    snapshot, values, correct = copy.deepcopy(model), [], []
    for row in torch.from_numpy(run.kept):
        vector_to_parameters(row, snapshot.parameters())
        values.append(outputs(snapshot, grid))
        correct.append(points_correct(snapshot).numpy())
    frames = plotting.Snapshots(marks, np.array(values), np.array(correct))
    title = f"{results['points_correct']} of 10 points right; {run.ending}, {settings(run)}"
    where, classes = points.numpy(), labels.argmax(dim=1).numpy()
    right = points_correct(model).numpy()
    surface = outputs(model, plotting.unit_grid(201))
    drawn = {"right": right}
    figures: dict[str, Any] = {}
    if run.args.animate and run.done:
        figures["training.gif"] = plotting.animation(
            frames, run.losses, where, classes, title=f"Training\n{title}"
        )
    before = [p.numpy() for p in run.initial.values()]
    after = [p.numpy() for p in model.state_dict().values()]
    figures |= {
        "loss": plotting.loss_curve(
            run.losses,
            title=f"Loss at every step\n{title}",
            marks=plotting.milestones(frames.steps, frames.right.sum(axis=1)),
        ),
        "regions": plotting.regions(
            surface, where, classes, title=f"Which output is larger\n{title}", **drawn
        ),
        "surfaces": plotting.surfaces(
            surface, where, classes, title=f"F over the unit square\n{title}", **drawn
        ),
        "layers": plotting.layers(
            {"before training": before, "after training": after},
            inputs=("x₁", "x₂"),
            outputs=("F₁", "F₂"),
            title=f"Weights, and biases in the nodes\n{title}",
        ),
    }
    lines = [f"{'x1':>5}{'x2':>5}   label          output"] + [
        f"{x1:5.1f}{x2:5.1f}   ({a:.0f}, {b:.0f})   ({p:.4f}, {q:.4f})   {'right' if ok else 'WRONG'}"
        for (x1, x2), (a, b), (p, q), ok in zip(
            points.tolist(), labels.tolist(), outputs(model, where), right
        )
    ]
    summary = (
        f"{run.ending}: {results['points_correct']} of 10 points right, loss "
        f"{results['final_loss']:.4g}"
    )
    if run.ended == "finished":  # an interrupted run is to be resumed
        summary += advice(run.losses, outputs(model, where), right)
    return Report(figures, "\n".join(lines), summary)


def outputs(model: nn.Module, points: np.ndarray) -> np.ndarray:
    """The model's outputs at points of shape (..., 2); the same shape."""
    with torch.no_grad():
        return model(torch.from_numpy(points)).numpy()


def advice(losses: np.ndarray, values: np.ndarray, correct: np.ndarray) -> str:
    """A line for points that are wrong: the reason, where the outputs or the last tenth of the losses show it."""
    if correct.all():
        return ""
    if np.abs(values - 0.5).min() > 0.499:
        return "\nall outputs are stuck at 0 or 1, where a sigmoid is flat: the learning rate is likely far too large"
    fall = 1 - losses[-1] / losses[-len(losses) // 10] if len(losses) >= 1000 else 1
    if 0 <= fall < 0.01:
        return (
            f"\nthe loss fell by {fall:.2%} in the last tenth of the steps, a plateau: try more --steps, a larger "
            "--lr or another --seed"
        )
    return ""


# mnist_mlp, and the same network on all images.


def mnist_mlp(
    run: Run,
    results: dict,
    data: Dataset,
    model: nn.Sequential,
    first_five: Tensor,
    train: Tensor,
    test: Tensor,
) -> Report:
    """The report of mnist_mlp.

    Args:
        results: for metrics.json.
        first_five, train, test: the probabilities, shape (n, 10), of the first five training images, of those that
            were trained on, and of the test images.
    """
    names = data.classes
    labels, images, said = data.test_labels.numpy(), data.test_images.numpy(), test.numpy()
    used = f"{data.title}, {count_of(results['train_images'], 'image')}"
    title = f"{used}; {run.ending}\nAdam, {settings(run)}"
    unseen = results["unseen"]["index"]
    wrong = plotting.worst_mistakes(said, labels)
    before, after = (
        [p.cpu().numpy() for p in state.values()] for state in (run.initial, model.state_dict())
    )
    share = f"{100 * results['test_accuracy']:.1f} %"
    counts = np.zeros((10, 10), int)
    np.add.at(counts, (labels, said.argmax(axis=1)), 1)
    five = data.train_images[:5].numpy(), data.train_labels[:5].numpy()
    figures = {
        "first_five": plotting.judged_images(
            *five, first_five.numpy(), names, title=f"The first five training images\n{title}"
        ),
        "loss": plotting.loss_curve(run.losses, title=f"Loss at every step\n{title}", window=100),
        "unseen": plotting.images_with_probabilities(
            images[[unseen]],
            said[[unseen]],
            names,
            title=f"Test image {unseen + 1:,}, never seen before\n{title}",
            captions=plotting.captions(said[[unseen]], labels[[unseen]], names),
        ),
        "confusion": plotting.confusion(
            counts, names, title=f"{len(test):,} test images, {share} right\n{title}"
        ),
        "mistakes": plotting.judged_images(
            images[wrong],
            labels[wrong],
            said[wrong],
            names,
            title=f"The most confident mistakes in the test set\n{title}",
        ),
        "hidden_units": plotting.hidden_units(
            after[0].reshape(-1, 28, 28),
            title=f"Ink that excites the hidden units: blue; inhibits: orange\n{title}",
        ),
        "layers": plotting.layers(
            {"before training": before, "after training": after},
            inputs=five[0][0],
            outputs=names,
            title=f"The network in short\n{title}",
        ),
    }
    known = int(torch.randint(len(train), (), generator=run.generator("training image")))
    shown = torch.cat([first_five, train[[known]], test[[unseen]]])
    right = torch.cat(
        [data.train_labels[:5], data.train_labels[[known]], data.test_labels[[unseen]]]
    )
    rows = [f"image {i}" for i in range(1, len(first_five) + 1)]
    rows += [f"training image {known + 1}", f"unseen test image {unseen + 1}"]
    summary = (
        f"{run.ending}: loss {results['final_loss']:.4f}; {results['train_accuracy']:.1%} of the images trained on "
        f"and {results['test_accuracy']:.2%} of the {len(test):,} test images are classified correctly"
    )
    return Report(figures, probabilities(rows, shown, right, data), summary)


def probabilities(names: Sequence[str], shares: Tensor, labels: Tensor, data: Dataset) -> str:
    """Images, a line each: name, ten probabilities, of shape (n, 10), in percent, prediction, whether it is right."""
    heads = "".join(f"{name[:5]:>6}" for name in data.classes)
    lines = [f"{data.title + ', in %':26}{heads}   prediction"]
    for name, row, label in zip(names, shares, labels):
        guess = int(row.argmax())
        verdict = "right" if guess == label else f"WRONG, it is {data.classes[label]}"
        percents = "".join(f"{100 * p:6.1f}" for p in row.tolist())
        lines.append(f"{name:26}{percents}   {data.classes[guess]} ({verdict})")
    return "\n".join(lines)
