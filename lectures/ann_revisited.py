"""An Artificial Neural Network Revisited: a 2-2-3-2 sigmoid network on ten labelled points, a million gradient steps.

The lecture's six steps: the task, the training data, the model, the loss, the optimizer, the training.
"""

import time

START = time.perf_counter()  # before the imports, which are a phase of the run

import functools
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # common/ is found from any folder

from common import cli

cli.hear_signals()

import numpy as np
import torch
from torch import nn

from common import device, outputs
from common.layers import describe
from common.onehot import one_cold, one_hot

# The ten points of the previous lecture, from Higham & Higham (2019), section 2: the first five have the label (1, 0),
# the others (0, 1).
POINTS = torch.tensor([[0.1, 0.3, 0.1, 0.6, 0.4, 0.6, 0.5, 0.9, 0.4, 0.7],
                       [0.1, 0.4, 0.5, 0.9, 0.2, 0.3, 0.6, 0.2, 0.4, 0.6]], dtype=torch.float64).T  # (10, 2)
LABELS = one_hot(torch.tensor([0] * 5 + [1] * 5), classes=2, dtype=torch.float64)  # (10, 2)


def training_pairs(kind: str, steps: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """The lecture's xtrain and ytrain, each of shape (steps, 2), drawn by `torch.randn` or `torch.rand`."""
    draw = {"randn": torch.randn, "rand": torch.rand}[kind]
    return tuple(draw(steps, 2, generator=generator, dtype=torch.float64) for _ in range(2))


def random_model(generator: torch.Generator) -> nn.Sequential:
    """M = Chain(L2, L3, L4): 2-2-3-2 with sigmoids, weights and biases 0.5 * randn, in float64."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Sigmoid(), nn.Linear(2, 3), nn.Sigmoid(), nn.Linear(3, 2),
                          nn.Sigmoid()).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def loss(model: nn.Sequential, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """loss = 1/10 sum over the ten points of 1/2 ||y(x1, x2) - M(x1, x2)||^2.

    As in the lecture, `x` and `y` are handed over and not used: every step is one on all ten points.
    """
    return (0.5 * ((model(POINTS.to(x.device)) - LABELS.to(x.device)) ** 2).sum(dim=1)).sum() / 10


def train(model, x_train, y_train, optimizer, losses, advance) -> np.ndarray:
    """The plain PyTorch loop: one step for each pair. Fills in `losses`, shape (steps,), NaN so far; returns them.

    It begins at the first step without a loss, which is not step 0 where a run is resumed. A loss that is not finite
    ends the training.
    """
    optimizer = optimizer(model.parameters())
    for step in range(int(np.isfinite(losses).sum()), len(x_train)):
        value = loss(model, x_train[step], y_train[step])
        losses[step] = value.item()
        if not np.isfinite(losses[step]):
            break
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        if not advance():  # Ctrl-C
            break
    return losses


def train_fused(models, learning_rate, losses, advance, checkpoint=lambda: None) -> np.ndarray:
    """The same steps for all starts at once, in one compiled loop; `losses` as above, of shape (starts, steps)."""
    from common import fused

    made, before = steps_made(losses), -1
    while before < made < losses.shape[1] and not cli.interrupted():  # once, in a run of a few seconds
        if before >= 0:
            checkpoint()
        begin = time.monotonic()
        going = [r for r in range(len(models)) if np.isfinite(losses[r, :made]).all()]
        losses[going, made:] = fused.train_sgd(
            [models[r] for r in going], POINTS[None], LABELS[None], learning_rate=learning_rate,
            steps=losses.shape[1] - made, scale=0.5 / 10,
            advance=lambda steps, begin=begin: advance(steps) and time.monotonic() < begin + cli.CHECKPOINT_SECONDS)
        made, before = steps_made(losses), made
    return losses


def steps_made(losses: np.ndarray) -> int:
    """How many steps the start that came furthest has made; losses of shape (starts, steps), NaN where none was."""
    return int(np.isfinite(losses).sum(axis=1).max())


def points_correct(model: nn.Sequential) -> torch.Tensor:
    """For each of the ten points, whether the model's larger output is the one its label names; shape (10,)."""
    with torch.no_grad():
        return one_cold(model(POINTS)) == one_cold(LABELS)


def table(model: nn.Sequential) -> str:
    """The ten points, a line each: label, output, right or wrong."""
    with torch.no_grad():
        outputs_ = model(POINTS)
    lines = [f"{'x1':>5}{'x2':>5}   label          output"]
    lines += [f"{x1:5.1f}{x2:5.1f}   ({a:.0f}, {b:.0f})   ({p:.4f}, {q:.4f})   {'right' if right else 'WRONG'}"
              for (x1, x2), (a, b), (p, q), right in zip(POINTS.tolist(), LABELS.tolist(), outputs_.tolist(),
                                                         points_correct(model))]
    return "\n".join(lines)


def evaluate(models: list[nn.Sequential], losses: np.ndarray) -> dict:
    """The results of start 0, and where there are several those of all under `starts`; losses (starts, steps)."""
    correct = [int(points_correct(model).sum()) for model in models]
    with torch.no_grad():
        final = [loss(model, POINTS, LABELS).item() for model in models]
    results = {"parameters": sum(p.numel() for p in models[0].parameters()), "initial_loss": losses[0, 0],
               "final_loss": final[0], "points_correct": correct[0], "steps": int(np.isfinite(losses[0]).sum())}
    return results | ({"starts": {"final_loss": final, "points_correct": correct}} if len(models) > 1 else {})


def summary(results: dict) -> str:
    """The results in a line or two."""
    text = (f"after {results['steps']:,} steps: {results['points_correct']} of 10 points right, loss "
            f"{results['final_loss']:.4g}; {results['microseconds_per_step']:.2f} microseconds a step")
    if "starts" in results:
        correct = results["starts"]["points_correct"]
        return f"{text}\n{correct.count(10)} of {len(correct)} starts have all ten points right"
    if results["points_correct"] < 10:
        return (f"{text}\nthis start is still on a plateau, as some are even after a million steps: try more --steps "
                "or another --seed, or --repeats 32 to see how many")
    return text


def draw(losses, model, setting) -> dict:
    """The figures by file name; losses of shape (starts, steps)."""
    from common import plotting  # here, because matplotlib takes a second to import

    side = torch.linspace(0, 1, 201, dtype=torch.float64)
    x1, x2 = torch.meshgrid(side, side, indexing="xy")
    with torch.no_grad():
        values = model(torch.stack([x1, x2], dim=-1)).numpy()  # (201, 201, 2)
    right = f"{int(points_correct(model).sum())} of 10 points right{' (first start)' if len(losses) > 1 else ''}"
    return {
        "loss.png": plotting.loss_curve(losses, title=f"Loss at every step, ten points\n{setting}", log_steps=True),
        "regions.png": plotting.regions(values, POINTS.numpy(), one_cold(LABELS).numpy(),
                                        title=f"Where each output of F wins: {right}\n{setting}"),
    }


def arguments():
    """The options, see --help."""
    options = cli.parser(__doc__.splitlines()[0], "ann_revisited")
    options.add_argument("--steps", type=cli.whole_number(1, 1_000_000_000), default=1_000_000, metavar="N",
                         help="gradient steps, the lecture's number of data points; 1 to 1000000000")
    options.add_argument("--lr", type=cli.real_number(0, 1000, above=True), default=0.01,
                         help="learning rate, above 0 and up to 1000")
    options.add_argument("--train-data", choices=("randn", "rand"), default="randn",
                         help="how the pairs are drawn that the lecture hands to its loss, which ignores them")
    cli.add_engine_options(options)
    cli.add_resume_option(options)
    return options.parse_args()


def main():
    args = arguments()
    lap, report = outputs.stopwatch(START), cli.reporter(args.quiet)
    seconds = {"imports": lap()}
    folder = args.output_dir
    where, why = device.choose_device(args.device, small=True)
    device.require_memory(8 * args.steps * (4 + 2 * args.repeats), "--steps and --repeats")
    outputs.open_folder(folder, size=16 * args.steps * args.repeats)

    # Step 1, the task: tell the five points with the label (1, 0) from the five with (0, 1), POINTS and LABELS above.

    # Step 2, the training data: the lecture's pairs. They have a generator of their own, apart from the weights'.
    x_train, y_train = (t.to(where) for t in training_pairs(args.train_data, args.steps, device.generator(args.seed)))
    seconds["data"] = lap()

    # Step 3, the model. Each start has its own seed, so that start 0 is the run without --repeats.
    models = [random_model(device.generator(args.seed + start)).to(where) for start in range(args.repeats)]
    model = models[0]
    initial = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    report(describe(model))

    # Step 4, the loss: `loss` above, over the ten points. Step 5, the optimizer: gradient descent.
    optimizer = functools.partial(torch.optim.SGD, lr=args.lr)
    engine = device.choose_engine(args.engine, model, len(POINTS), args.repeats * args.steps, where)
    seeds = f"seed {args.seed}" if args.repeats == 1 else f"seeds {args.seed} to {args.seed + args.repeats - 1}"
    setting = f"{args.steps:,} steps, learning rate {args.lr:g}, {seeds}"
    print(f"ten points of Higham & Higham (2019); {setting}; {engine} engine on {where.type}: {why}")
    seconds["engine"] = lap()

    # Step 6, the training.
    losses = np.full((args.repeats, args.steps), np.nan)
    kept = {name: vars(args)[name] for name in ("seed", "steps", "lr", "train_data", "repeats")}
    kept |= {"engine": engine, "device": where.type}
    everything = nn.ModuleList(models)
    if args.resume:
        outputs.load_checkpoint(folder, kept, losses, everything)

    def checkpoint():
        outputs.save_checkpoint(folder, kept, losses[:, :steps_made(losses)], everything)

    resumed = int(np.isfinite(losses).sum())
    with cli.progress(args.repeats * args.steps, "training", quiet=args.quiet, made=resumed,
                      checkpoint=checkpoint if engine == "eager" else None) as advance:
        if engine == "fused":
            train_fused(models, args.lr, losses, advance, checkpoint)
        else:
            for m, row in zip(models, losses):
                train(m, x_train, y_train, optimizer, row, advance)
    seconds["training"] = lap()
    if cli.interrupted():
        checkpoint()

    finite, everything = np.isfinite(losses), everything.cpu()
    steps = int(finite[0].sum())
    results = evaluate(models, losses) | {
        "engine": engine, "microseconds_per_step": 1e6 * seconds["training"] / max(1, int(finite.sum()) - resumed)}
    report(table(model))
    print(summary(results))

    figures = draw(losses[:, :max(1, steps)], model, setting)
    outputs.save_run(folder, losses if args.repeats > 1 else losses[0, :steps], initial, model.state_dict(), figures)
    seconds["figures"] = lap()
    outputs.save_metrics(folder, args, where, seconds, results)
    outputs.remove_checkpoint(folder)
    if not finite.all() and not cli.interrupted():
        raise cli.diverged(np.argwhere(~finite)[0][1] + 1, args.lr, f"try a smaller --lr; the losses so far are in "
                           f"{folder}")
    print(f"figures and numbers: {folder}")
    if args.show:
        from common import plotting

        plotting.show([folder / name for name in figures])


if __name__ == "__main__":
    cli.run(main)
