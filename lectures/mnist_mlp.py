"""Recognizing Handwritten Numbers: a 784-40-10 network on the first 100 images of MNIST, or on all of them.

The lecture's six steps: labels as vectors, images as vectors, the model, the loss, the optimizer, the training.
"""

import time

START = time.perf_counter()  # before the imports, which are a phase of the run

import functools
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # common/ is found from any folder

from common import cli

cli.hear_signals()

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from common import device, digits, outputs
from common.layers import describe
from common.onehot import one_cold, one_hot

DRAWN = 10  # of the pictures classified, those in classified.png
FIGURES = ("first_five.png", "loss.png", "unseen.png", "confusion.png", "mistakes.png")


def as_vectors(images: torch.Tensor) -> torch.Tensor:
    """Images (n, 28, 28) of uint8 as vectors (n, 784) of float32 in [0, 1], as MLDatasets hands them to Flux."""
    return images.reshape(len(images), -1).to(torch.float32).div_(255)


def glorot_model(hidden: int, generator: torch.Generator) -> nn.Sequential:
    """Chain(Dense(28*28, hidden, relu), Dense(hidden, 10), softmax), with Flux's initial values.

    Glorot uniform weights, in [-a, a] with a = sqrt(6 / (inputs + outputs)), and zero biases.
    """
    model = nn.Sequential(nn.Linear(28 * 28, hidden), nn.ReLU(), nn.Linear(hidden, 10), nn.Softmax(dim=1))
    for layer in (model[0], model[2]):
        nn.init.xavier_uniform_(layer.weight, generator=generator)
        nn.init.zeros_(layer.bias)
    return model


def loss(model: nn.Sequential, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """loss(x, y) = crossentropy(model(x), y) = mean over the images of -sum_k y_k log(model(x)_k); y one-hot.

    It is computed from the logits, the model's values before the softmax, where no logarithm of 0 can occur.
    """
    return functional.cross_entropy(model[:-1](x), y)


def train(model, images, labels, optimizer, scheduler, batch_size, generator, losses, advance, report) -> np.ndarray:
    """The plain PyTorch loop over epochs and batches. Fills in `losses`, one a step, NaN so far; returns them.

    With more than one batch, the images are shuffled in every epoch. Steps that have a loss already, because a run is
    resumed, are not made again; the shuffles are, so that the generator goes on as if it had never stopped. A loss
    that is not finite ends the training.
    """
    batches = -(-len(images) // batch_size)
    made, reported = int(np.isfinite(losses).sum()), time.perf_counter()
    for epoch in range(len(losses) // batches):
        order = torch.randperm(len(images), generator=generator)
        shuffled = [slice(None)] if batches == 1 else order.to(images.device).split(batch_size)
        for step, batch in enumerate(shuffled, start=epoch * batches):
            if step < made:
                continue
            value = loss(model, images[batch], labels[batch])
            losses[step] = value.item()
            if not np.isfinite(losses[step]):
                return losses
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            if scheduler:
                scheduler.step()
            if time.perf_counter() - reported >= 10:  # as the lecture's throttle(progress, 10)
                reported = time.perf_counter()
                report(f"epoch {epoch + 1} of {len(losses) // batches}: loss {losses[step]:.4f}")
            if not advance():  # Ctrl-C
                return losses
    return losses


def one_cycle(optimizer, learning_rate: float, steps: int, made: int):
    """The one-cycle schedule up to `learning_rate` over `steps` steps, `made` of which were made before."""
    schedule = functools.partial(torch.optim.lr_scheduler.OneCycleLR, optimizer, learning_rate, total_steps=steps)
    scheduler = schedule()  # also marks the optimizer as a schedule's, which the next line expects
    return schedule(last_epoch=made - 1) if made else scheduler


def predict(model: nn.Sequential, images: torch.Tensor) -> torch.Tensor:
    """The probability of each class for each image, shape (n, 10), on the CPU."""
    with torch.no_grad():
        return model(images).cpu()


def accuracy(probabilities: torch.Tensor, labels: torch.Tensor) -> float:
    """The share of the images whose largest probability, of shape (n, 10), is the label's, of shape (n,)."""
    return (one_cold(probabilities) == labels).double().mean().item()


def table(rows: list[tuple[str, torch.Tensor, int]], data: digits.Digits) -> str:
    """Images, a line each: name, ten probabilities in percent, prediction; `rows` of (name, probabilities, label)."""
    classes = data.classes
    lines = [f"{data.title + ', in %':26}" + "".join(f"{name[:5]:>6}" for name in classes) + "   prediction"]
    for name, probabilities, label in rows:
        guess = int(one_cold(probabilities))
        lines.append(f"{name:26}" + "".join(f"{100 * p:6.1f}" for p in probabilities.tolist())
                     + f"   {classes[guess]} ({'right' if guess == label else f'WRONG, it is {classes[label]}'})")
    return "\n".join(lines)


def evaluate(model, data, images, labels, generator) -> tuple[dict, str, torch.Tensor, torch.Tensor]:
    """The results, their table, and the probabilities of the first five training images and of the test images.

    `images`, shape (count, 784), and `labels`, one-hot, are those trained on.
    """
    count = len(images)
    with torch.no_grad():
        final_loss = loss(model, images, labels).item()
    train_probabilities = predict(model, images)  # (count, 10)
    first_five = predict(model, as_vectors(data.x_train[:5]).to(images.device))
    test = predict(model, as_vectors(data.x_test).to(images.device))
    known, index = (int(torch.randint(size, (), generator=generator)) for size in (count, len(test)))
    train_labels = data.y_train.tolist()
    rows = [(f"image {i + 1}", p, train_labels[i]) for i, p in enumerate(first_five)]
    rows += [(f"training image {known + 1}", train_probabilities[known], train_labels[known]),
             (f"unseen test image {index + 1}", test[index], int(data.y_test[index]))]
    results = {
        "dataset": data.name, "parameters": sum(p.numel() for p in model.parameters()), "train_images": count,
        "test_images": len(test), "final_loss": final_loss,
        "train_accuracy": accuracy(train_probabilities, data.y_train[:count]),
        "test_accuracy": accuracy(test, data.y_test),
        "first_five": [{"label": label, "prediction": int(one_cold(p))} for p, label in zip(first_five, train_labels)],
        "unseen": {"index": index, "label": int(data.y_test[index]), "prediction": int(one_cold(test[index])),
                   "probabilities": test[index]},
    }
    return results, table(rows, data), first_five, test


def draw(data, setting, losses, first_five, test, index, batches) -> dict:
    """The figures by file name; `test` are the test images' probabilities, `index` the unseen image's place there."""
    from common import plotting  # here, because matplotlib takes a second to import

    images, labels = data.x_test.numpy(), data.y_test.numpy()
    guesses = one_cold(test).numpy()
    sure = test.max(dim=1).values.numpy()
    wrong = np.flatnonzero(guesses != labels)
    wrong = wrong[np.argsort(-sure[wrong], kind="stable")][:10]
    counts = np.zeros((10, 10), int)
    np.add.at(counts, (labels, guesses), 1)
    return dict(zip(FIGURES, (
        plotting.image_row(data.x_train[:5].numpy(), [
            f"{data.classes[label]}: {data.classes[guess]} ({p[guess]:.0%})"
            for p, label, guess in zip(first_five.numpy(), data.y_train[:5].tolist(), one_cold(first_five).tolist())],
            title=f"The first five training images of {data.title}, label: prediction"),
        plotting.loss_curve(losses, title=f"Loss at every step\n{setting}", window=batches if batches > 1 else None),
        plotting.images_with_probabilities(
            images[index:index + 1], test[index:index + 1].numpy(), data.classes, filled=[labels[index]],
            captions=[f"label: {data.classes[labels[index]]}"], bars="the true class",
            title=f"Test image {index + 1}, not trained on\n{setting}"),
        plotting.confusion(counts, data.classes, title=f"Test set: {len(labels):,} images, "
                                                       f"{(guesses == labels).mean():.1%} right\n{setting}"),
        plotting.image_row(images[wrong], [
            f"{data.classes[labels[i]]}, said {data.classes[guesses[i]]}\n({sure[i]:.1%})" for i in wrong],
            title=f"The most confident mistakes in the test set\n{setting}"),
    )))


def save_losses(folder, losses, setting) -> None:
    """What a run leaves that diverged: its losses and their figure. What an earlier run left is removed."""
    from common import plotting

    for name in (*FIGURES, "metrics.json", "model_initial.pt", "model.pt"):
        (folder / name).unlink(missing_ok=True)
    outputs.save_array(folder / "losses.npy", losses)
    outputs.save_figure(folder / "loss.png", plotting.loss_curve(losses, title=f"Loss until it diverged\n{setting}"))


def classify(files: list[Path], path: Path, folder: Path) -> None:
    """Classifies pictures with the model in `path`: prints a line each, draws what the network saw into `folder`.

    Raises:
        RunError: no model in `path`, or a file that cannot be classified; that is said when all others are done.
    """
    from common import plotting

    state = outputs.load_state(path)
    hidden = next((len(tensor) for name, tensor in state.items() if name == "0.bias" and tensor.dim() == 1), 40)
    model = glorot_model(min(hidden, 10_000), device.generator(0))
    outputs.check_state(path, state, model.state_dict())
    model.load_state_dict(state)
    print(f"model: {path}")
    images = []
    for file in files:
        try:
            image = digits.read_picture(file)  # (28, 28)
        except cli.RunError as error:
            print(f"error: {error}", file=sys.stderr)
            continue
        probabilities = predict(model, as_vectors(image[None]))[0]
        images.append((image.numpy(), probabilities.numpy(), f"{file.name}, as the network saw it"))
        print(f"{file}: {int(one_cold(probabilities))} ({100 * probabilities.max():.1f} %)")
    if images:
        seen, probabilities, captions = zip(*images[:DRAWN])
        figure = plotting.images_with_probabilities(
            seen, probabilities, [str(k) for k in range(10)], captions=captions, bars="the prediction",
            filled=[int(p.argmax()) for p in probabilities],
            title=f"The first {DRAWN} pictures" if len(images) > DRAWN else "What the network saw and said")
        outputs.save_figure(folder / "classified.png", figure)
    if len(images) < len(files):
        raise cli.RunError(f"{len(files) - len(images)} of {len(files)} files could not be classified, see above")


def images_option(text: str) -> int | str:
    """The type of --images: a whole number from 1 to 60000, or ``all``."""
    return text if text == "all" else cli.whole_number(1, 60_000)(text)


def arguments():
    """The parser and the options, see --help."""
    options = cli.parser(__doc__.splitlines()[0], "mnist_mlp")
    options.add_argument("--dataset", choices=("auto", *digits.TORCHVISION_NAMES, "digits"), default="auto",
                         help="auto: mnist, or without files and network scikit-learn's digits, with a warning")
    options.add_argument("--data-dir", type=Path, default=os.environ.get("MNIST_ROOT") or cli.PROJECT / "data",
                         metavar="DIR", help="the folder of MNIST/raw/ with IDX files; the variable MNIST_ROOT sets it")
    options.add_argument("--images", type=images_option, default=100, metavar="N",
                         help="train on the first N images, 1 to 60000, or on all")
    options.add_argument("--epochs", type=cli.whole_number(1, 100_000), default=100, help="1 to 100000")
    options.add_argument("--batch-size", type=cli.whole_number(1, 60_000), metavar="N",
                         help="images a step, 1 to 60000 (default: all the images at once)")
    options.add_argument("--lr", type=cli.real_number(0, 1000, above=True), default=0.001,
                         help="learning rate, above 0 and up to 1000")
    options.add_argument("--schedule", choices=("constant", "one-cycle"), default="constant",
                         help="one-cycle: the learning rate rises to LR and falls to nearly 0")
    options.add_argument("--weight-decay", type=cli.real_number(0, 1), default=0.0, metavar="DECAY",
                         help="Adam's: adds DECAY times each parameter to its gradient, 0 to 1")
    options.add_argument("--hidden", type=cli.whole_number(1, 10_000), default=40, help="hidden units, 1 to 10000")
    options.add_argument("--classify", type=Path, nargs="+", metavar="PICTURE",
                         help="do not train: say which digits these picture files show, with the model of the last run")
    options.add_argument("--model", type=Path, metavar="FILE", help="the model for --classify (default: DIR/model.pt)")
    cli.add_resume_option(options)
    return options, options.parse_args()


def main():
    options, args = arguments()
    lap, report = outputs.stopwatch(START), cli.reporter(args.quiet)
    seconds = {"imports": lap()}
    folder = args.output_dir
    outputs.open_folder(folder, size=2**20)
    if args.classify:
        return classify(args.classify, args.model or folder / "model.pt", folder)
    where, why = device.choose_device(args.device, small=False)
    generator = device.generator(args.seed)
    data = digits.load(args.dataset, args.data_dir)
    count = len(data.x_train) if args.images == "all" else args.images
    if count > len(data.x_train):
        options.error(f"argument --images: {data.title} has {len(data.x_train)} training images, got {count}")
    batch_size = min(args.batch_size or count, count)
    device.require_memory(4 * (2 * 784 * count + 6 * args.hidden * max(batch_size, 10_000)), "--images and --hidden")
    print(f"{data.title}: {data.source}; {count:,} of {len(data.x_train):,} images to train on; {where.type}: {why}")

    # Step 1, the labels as vectors: 5 is [0, 0, 0, 0, 0, 1, 0, 0, 0, 0].
    labels = one_hot(data.y_train[:count]).to(where)  # (count, 10)

    # Step 2, the images as vectors of numbers in [0, 1].
    images = as_vectors(data.x_train[:count]).to(where)  # (count, 784)
    seconds["data"] = lap()

    # Step 3, the model; it is tried at the 10th image before it has learned anything.
    model = glorot_model(args.hidden, generator).to(where)
    initial = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    report(describe(model))
    tenth = predict(model, as_vectors(data.x_train[9:10]).to(where))[0]
    report(table([("10th image, untrained", tenth, int(data.y_train[9]))], data))

    # Step 4, the loss: `loss` above, the cross-entropy.

    # Step 5, the optimizer: Adam, whose moments are Flux's and PyTorch's default, (0.9, 0.999).
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr, weight_decay=args.weight_decay, fused=True)
    batches = -(-count // batch_size)
    losses = np.full(args.epochs * batches, np.nan)
    kept = {name: vars(args)[name] for name in ("seed", "epochs", "lr", "weight_decay", "schedule", "hidden")}
    kept |= {"dataset": data.name, "images": count, "batch size": batch_size, "device": where.type}
    if args.resume:
        outputs.load_checkpoint(folder, kept, losses, model, optimizer)
    made = int(np.isfinite(losses).sum())
    scheduler = one_cycle(optimizer, args.lr, len(losses), made) if args.schedule == "one-cycle" else None
    seconds["model"] = lap()

    # Step 6, the training.
    def checkpoint():
        outputs.save_checkpoint(folder, kept, losses[:int(np.isfinite(losses).sum())], model, optimizer)

    with cli.progress(len(losses), "training", quiet=args.quiet, made=made, checkpoint=checkpoint) as advance:
        train(model, images, labels, optimizer, scheduler, batch_size, generator, losses, advance, report)
    seconds["training"] = lap()

    setting = (f"{data.title}; {count:,} images, {args.epochs} epochs, "
               f"{f'batches of {batch_size}' if batches > 1 else 'one batch'},\n"  # two lines of a figure's title
               f"Adam with learning rate {args.lr:g}{', one-cycle' if scheduler else ''}"
               f"{f', weight decay {args.weight_decay:g}' if args.weight_decay else ''}")
    steps = int(np.isfinite(losses).sum())
    if cli.interrupted() and steps:
        checkpoint()
    if steps < len(losses) and not cli.interrupted():
        save_losses(folder, losses[:steps], setting)
        raise cli.diverged(steps + 1, args.lr, f"try a smaller --lr; the losses so far are in {folder}")
    results, rows, first_five, test = evaluate(model, data, images, labels, generator)
    results["steps"] = steps
    report(rows)
    print(f"after {steps:,} steps: loss {results['final_loss']:.4f}; right are {results['train_accuracy']:.1%} "
          f"of the {count:,} images trained on and {results['test_accuracy']:.2%} of the {len(test):,} test images; "
          f"{seconds['training'] / max(1, steps - made) * batches:.2g} s an epoch")

    figures = draw(data, setting, losses[:max(1, steps)], first_five, test, results["unseen"]["index"], batches)
    outputs.save_run(folder, losses[:steps], initial, model.state_dict(), figures)
    seconds["figures"] = lap()
    outputs.save_metrics(folder, args, where, seconds, results)
    outputs.remove_checkpoint(folder)
    print(f"figures and numbers: {folder}")
    if args.show:
        from common import plotting

        plotting.show([folder / name for name in figures])


if __name__ == "__main__":
    cli.run(main)
