"""Getting Started with Flux: recover a 2x5 matrix and a 2-vector from noisy samples by gradient descent.

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
from torch.nn.utils import parameters_to_vector

from common import device, outputs

W_TRUE = torch.tensor([[1, 2, 3, 4, 5], [5, 4, 3, 2, 1]], dtype=torch.float64)
B_TRUE = torch.tensor([-1, -2], dtype=torch.float64)


def f_true(x: torch.Tensor) -> torch.Tensor:
    """F_true(x) = W_true x + b_true for x of shape (N, 5); shape (N, 2)."""
    return x @ W_TRUE.T + B_TRUE


def training_data(samples: int, low: float, high: float, noise: float,
                  generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """x, shape (N, 5), uniform in [low, high), and y = F_true(x) + noise * v, shape (N, 2), v standard normal."""
    x = low + (high - low) * torch.rand(samples, 5, generator=generator, dtype=torch.float64)
    return x, f_true(x) + noise * torch.randn(samples, 2, generator=generator, dtype=torch.float64)


def random_model(generator: torch.Generator) -> nn.Linear:
    """M(x) = W x + b with W and b uniform in [0, 1), as Flux's `rand` draws them."""
    model = nn.Linear(5, 2, dtype=torch.float64)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def loss(model: nn.Linear, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """loss(x, y) = sum over i of (y_i - yhat_i)^2, with yhat = M(x)."""
    return ((y - model(x)) ** 2).sum()


def train(model, x_train, y_train, optimizer, iterates, advance) -> np.ndarray:
    """The plain PyTorch loop: one step for each pair, in order. Returns the loss of every step, shape (N,).

    The parameters after each step go into `iterates`, shape (N, 12). A loss that is not finite ends the training;
    steps that were not made have the loss NaN.
    """
    losses = np.full(len(x_train), np.nan)
    optimizer = optimizer(model.parameters())
    for step in range(len(x_train)):
        value = loss(model, x_train[step], y_train[step])
        losses[step] = value.item()
        if not np.isfinite(losses[step]):
            break
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        iterates[step] = parameters_to_vector(model.parameters()).detach().cpu().numpy()
        if not advance():  # Ctrl-C
            break
    return losses


def train_fused(models, x_train, y_train, learning_rate, iterates, advance) -> np.ndarray:
    """The same steps for all starts at once, in one compiled loop; losses of shape (starts, N)."""
    from common import fused

    return fused.train_sgd([nn.Sequential(model) for model in models], x_train.unsqueeze(-2), y_train.unsqueeze(-2),
                           learning_rate=learning_rate, steps=x_train.shape[1], iterates=iterates, advance=advance)


def stable_learning_rate(x: torch.Tensor) -> float:
    """2 / lambda_max of the loss's Hessian, the mean over the pairs of 2 (x, 1)(x, 1)^T; for x of shape (N, 5).

    Gradient descent on the mean loss multiplies its error along an eigenvector by 1 - learning_rate * lambda, which
    is larger than 1 in size, and grows, beyond this rate.
    """
    ones = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], dim=1)  # (N, 6)
    hessian = 2 * ones.T @ ones / len(x)  # (6, 6)
    return (2 / torch.linalg.eigvalsh(hessian)[-1]).item()


def least_squares(x: torch.Tensor, y: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The W, shape (2, 5), and b, shape (2,), with the smallest sum of squares over all pairs."""
    ones = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], dim=1)
    solution = torch.linalg.lstsq(ones, y, driver="gelsd").solution.numpy()  # (6, 2)
    return solution[:5].T, solution[5]


def split(parameters: np.ndarray, centre: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """W, shape (..., 2, 5), and b, shape (..., 2), of parameters of shape (..., 12), for inputs that are not centred.

    M(x) = W (x - centre) + c is folded back into W x + b with b = c - W centre.
    """
    weight = parameters[..., :10].reshape(*parameters.shape[:-1], 2, 5)
    return weight, parameters[..., 10:] - weight @ centre


def averages(iterates: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """The mean of the last half of the first n iterates, for each n of `steps` (Polyak and Ruppert's average).

    `iterates` has shape (N, 12); the result (len(steps), 12).
    """
    sums = np.concatenate([np.zeros((1, iterates.shape[1])), np.cumsum(iterates, axis=0)])
    return (sums[steps] - sums[steps // 2]) / (steps - steps // 2)[:, None]


def largest_errors(parameters: np.ndarray, centre: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The largest absolute error of W and of b, each of shape (...), of parameters of shape (..., 12)."""
    weight, bias = split(parameters, centre)
    return np.abs(weight - W_TRUE.numpy()).max(axis=(-2, -1)), np.abs(bias - B_TRUE.numpy()).max(axis=-1)


def evaluate(losses, iterates, x, y, centre, initial) -> dict:
    """The results of one start: losses (N,), iterates (N, 12), x (N, 5), y (N, 2), centre (5,), initial (12,)."""
    steps = int(np.isfinite(losses).sum())
    trail = iterates[:steps] if steps else initial[None]
    average = averages(trail, np.array([len(trail)]))[0]
    (weight, bias), (weight_average, bias_average) = split(trail[-1], centre), split(average, centre)
    weight_least_squares, bias_least_squares = least_squares(x, y)
    weight_error, bias_error = largest_errors(average, centre)
    return {"weight": weight, "bias": bias, "weight_average": weight_average, "bias_average": bias_average,
            "weight_least_squares": weight_least_squares, "bias_least_squares": bias_least_squares,
            "max_weight_error": float(weight_error), "max_bias_error": float(bias_error),
            "final_loss": losses[steps - 1] if steps else None, "steps": steps}


def table(results: dict) -> str:
    """The entries of W and b, a line each: true, last iterate, averaged iterate, least squares."""
    names = [f"W[{i},{j}]" for i in (1, 2) for j in range(1, 6)] + ["b[1]", "b[2]"]
    columns = [np.concatenate([W_TRUE.numpy().ravel(), B_TRUE.numpy()])]
    columns += [np.concatenate([results["weight" + kind].ravel(), results["bias" + kind]])
                for kind in ("", "_average", "_least_squares")]
    head = f"{'':8}{'true':>6}{'last':>15}{'averaged':>15}{'least squares':>15}"
    return "\n".join([head] + [f"{name:8}{row[0]:6g}" + "".join(f"{value:15.5g}" for value in row[1:])
                               for name, row in zip(names, zip(*columns))])


def summary(results: dict) -> str:
    """The results in a line or two."""
    text = (f"after {results['steps']:,} steps: averaged W within {results['max_weight_error']:.2g} of the truth, "
            f"b within {results['max_bias_error']:.2g}")
    if "starts" in results:
        weight, bias = results["starts"].values()
        text += f"\nall {len(weight)} starts: W within {np.max(weight):.2g}, b within {np.max(bias):.2g}"
    return text


def draw(losses, iterates, centres, results, setting) -> dict:
    """The figures by file name, of losses (starts, N), iterates (starts, N, 12), centres (starts, 5)."""
    from common import plotting  # here, because matplotlib takes a second to import

    made = max(1, results["steps"])
    grid = np.unique(np.geomspace(1, made, 200).astype(int))  # numbers of steps
    with np.errstate(all="ignore"):  # a run that diverges has huge iterates, whose sums overflow
        last = [largest_errors(run[grid - 1], centre) for run, centre in zip(iterates, centres)]
        mean = [largest_errors(averages(run[:made], grid), centre) for run, centre in zip(iterates, centres)]
        exact = largest_errors(np.append(results["weight_least_squares"], results["bias_least_squares"]), np.zeros(5))
    panels = {name: {"last iterate": np.array([e[k] for e in last]), "averaged iterate": np.array([e[k] for e in mean])}
              for k, name in enumerate("Wb")}
    return {
        "loss.png": plotting.loss_curve(losses[:, :made], title=f"Loss at every step\n{setting}", window=100,
                                        floor=results["noise_floor"]),
        "parameter_error.png": plotting.error_curves(grid, panels, title=f"Error of the parameters; {setting}",
                                                     limits=dict(zip("Wb", exact))),
    }


def state(parameters: np.ndarray, centre: np.ndarray) -> dict[str, torch.Tensor]:
    """The state_dict of the nn.Linear(5, 2) that takes inputs as they are in train_data.npz."""
    weight, bias = split(parameters, centre)
    return {"weight": torch.from_numpy(weight.copy()), "bias": torch.from_numpy(bias.copy())}


def arguments():
    """The options, see --help."""
    options = cli.parser(__doc__.splitlines()[0], "linear_recovery")
    options.add_argument("--samples", type=cli.whole_number(1, 10_000_000), default=10_000, metavar="N",
                         help="pairs, one step each; 1 to 10000000")
    options.add_argument("--lr", type=cli.real_number(0, 1000, above=True), default=0.01,
                         help="learning rate, above 0 and up to 1000")
    options.add_argument("--noise", type=cli.real_number(0, 1000), default=0.2,
                         help="standard deviation of the noise on y, 0 to 1000")
    options.add_argument("--low", type=cli.real_number(-1000, 1000), default=5.0,
                         help="inputs are uniform from here, -1000 to 1000")
    options.add_argument("--high", type=cli.real_number(-1000, 1000), help="to here (default: LOW + 5)")
    options.add_argument("--raw", action="store_true",
                         help="do not centre the inputs: the printed recipe; with --low 0 Flux's quickstart")
    cli.add_engine_options(options)
    args = options.parse_args()
    if args.high is None:
        args.high = args.low + 5
    if args.high <= args.low:
        options.error(f"argument --high: expected a number above --low ({args.low:g}), got {args.high:g}")
    return args


def main():
    args = arguments()
    lap, report = outputs.stopwatch(START), cli.reporter(args.quiet)
    seconds = {"imports": lap()}
    folder = args.output_dir
    where, why = device.choose_device(args.device, small=True)
    device.require_memory(args.repeats * args.samples * 8 * (1 + 12 + 2 * 7), "--samples and --repeats")
    outputs.open_folder(folder, size=8 * args.samples * (args.repeats + 7))

    # Step 1, the task: recover W_TRUE and B_TRUE, above, from x_train and y_train.

    # Step 2, the training data. Each start has a generator of its own, so that start 0 is the run without --repeats.
    generators = [device.generator(args.seed + start) for start in range(args.repeats)]
    pairs = [training_data(args.samples, args.low, args.high, args.noise, generator) for generator in generators]
    x_train, y_train = (torch.stack(column).to(where) for column in zip(*pairs))  # (starts, N, 5), (starts, N, 2)
    centres = torch.zeros_like(x_train[:, 0]) if args.raw else x_train.mean(dim=1)  # (starts, 5)
    x_used = x_train - centres.unsqueeze(1)
    seconds["data"] = lap()

    # Step 3, the model: M(x) = W x + b from random W and b.
    models = [random_model(generator).to(where) for generator in generators]
    initial = parameters_to_vector(models[0].parameters()).detach().cpu().numpy()  # (12,)

    # Step 4, the loss: `loss` above, the sum of squares. Step 5, the optimizer: gradient descent.
    optimizer = functools.partial(torch.optim.SGD, lr=args.lr)
    limit = stable_learning_rate(x_used[0])
    engine = device.choose_engine(args.engine, nn.Sequential(models[0]), 1, args.repeats * args.samples, where)
    setting = (f"{args.samples:,} random pairs, x in [{args.low:g}, {args.high:g}){'' if args.raw else ', centred'}, "
               f"learning rate {args.lr:g}")
    print(f"{setting}; the largest stable rate, 2 / lambda_max of the Hessian, is {limit:.3g}")
    print(f"{engine} engine on {where.type}: {why}")
    seconds["engine"] = lap()

    # Step 6, the training: one step for each pair.
    iterates = np.full((args.repeats, args.samples, len(initial)), np.nan)  # (starts, N, 12)
    with cli.progress(args.repeats * args.samples, "training", quiet=args.quiet) as advance:
        if engine == "fused":
            losses = train_fused(models, x_used, y_train, args.lr, iterates, advance)  # (starts, N)
        else:
            losses = np.stack([train(model, x, y, optimizer, trail, advance)
                               for model, x, y, trail in zip(models, x_used, y_train, iterates)])
    seconds["training"] = lap()

    # The results are those of start 0; `starts` has the errors of all.
    x_train, y_train, centres = x_train.cpu(), y_train.cpu(), centres.cpu().numpy()
    starts = [evaluate(*of_start, initial) for of_start in zip(losses, iterates, x_train, y_train, centres)]
    results = starts[0] | {"noise_floor": 2 * args.noise**2, "stable_lr_limit": limit, "engine": engine}
    if args.repeats > 1:
        results["starts"] = {key: [start[key] for start in starts] for key in ("max_weight_error", "max_bias_error")}
    report(table(results))
    print(summary(results))

    figures = draw(losses, iterates, centres, results, setting)
    trained = {key: torch.from_numpy(results[key]) for key in ("weight", "bias")}
    outputs.save_arrays(folder / "train_data.npz", x=x_train[0].numpy(), y=y_train[0].numpy())
    outputs.save_run(folder, losses if args.repeats > 1 else losses[0, :results["steps"]],
                     state(initial, centres[0]), trained, figures)
    seconds["figures"] = lap()
    outputs.save_metrics(folder, args, where, seconds, results)
    failed = np.argwhere(~np.isfinite(losses))
    if len(failed) and not cli.interrupted():
        raise cli.diverged(failed[0][1] + 1, args.lr, f"the largest stable rate is {limit:.3g}, and a step on one pair "
                           f"needs less; the losses so far are in {folder}; try a smaller --lr"
                           + (", or leave out --raw" if args.raw else ""))
    print(f"figures and numbers: {folder}")
    if args.show:
        from common import plotting

        plotting.show([folder / name for name in figures])


if __name__ == "__main__":
    cli.run(main)
