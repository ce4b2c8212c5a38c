"""Recognizing Handwritten Numbers: a 784-40-10 network on the first 100 images of MNIST, or on all of them."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # common/ is found from any folder

from common.run import Run  # before all else, so that Ctrl-C is heard while that loads
from common import digits, program
from common.layers import describe
from common.onehot import one_cold, one_hot
from common.options import lecture_parser, real_number, whole_number

import argparse
import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


# Step 1, representing the labels as vectors: `one_hot` makes [0, 0, 0, 0, 0, 1, 0, 0, 0, 0] of 5.
# Step 2, representing the images as vectors.
def as_vectors(images: Tensor) -> Tensor:
    """Images (n, 28, 28) of uint8 as vectors (n, 784) of float32 in [0, 1], as MLDatasets hands them to Flux."""
    return images.reshape(len(images), -1).to(torch.float32) / 255


# Step 3, defining the model.
def glorot_model(hidden: int, generator: torch.Generator) -> nn.Sequential:
    """Chain(Dense(28*28, hidden, relu), Dense(hidden, 10), softmax), with Flux's initial values.

    Glorot uniform weights, in [-a, a] with a = sqrt(6 / (inputs + outputs)), and zero biases (Glorot & Bengio 2010).
    relu(x) = max(x, 0) leaves a unit silent until its weighted inputs exceed 0; softmax(x)_k = exp(x_k) / sum exp(x_j)
    makes ten probabilities of the ten outputs (Goodfellow, Bengio & Courville 2016, sections 6.3.1 and 6.2.2.3).
    """
    first, second = nn.Linear(28 * 28, hidden), nn.Linear(hidden, 10)
    for layer in (first, second):
        nn.init.xavier_uniform_(layer.weight, generator=generator)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(first, nn.ReLU(), second, nn.Softmax(dim=1))


# Step 4, the loss function.
def loss(model: nn.Sequential, x: Tensor, y: Tensor) -> Tensor:
    """loss(x, y) = crossentropy(model(x), y) = mean over the images of -sum_k y_k log(model(x)_k); y one-hot.

    It is computed from the logits, the model's values before the softmax, where no logarithm of 0 can occur.
    """
    return functional.cross_entropy(model[:-1](x), y)


# Step 5, selecting the optimizer.
def adam(model: nn.Module, args: argparse.Namespace, steps: int) -> tuple[torch.optim.Optimizer,
                                                                          torch.optim.lr_scheduler.LRScheduler]:
    """Adam, and the schedule of its learning rate: constant, or up to --lr and down to nearly 0 in `steps` steps.

    Adam divides a running mean of each gradient by the root of a running mean of its square, so that every parameter
    has steps of its own size (Kingma & Ba 2015); 0.9 and 0.999, the means' memories, are PyTorch's and Flux's defaults.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr, weight_decay=args.weight_decay, fused=True)
    if args.schedule == "one-cycle":
        return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, total_steps=steps,
                                                              cycle_momentum=False)  # which leaves 0.9 as it is
    return optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1)


# Step 6, training the model.
def batches(images: Tensor, labels: Tensor, args: argparse.Namespace,
            generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    """The images and labels of each step; they are shuffled anew in every epoch."""
    for _ in range(args.epochs):
        for batch in torch.randperm(len(images), generator=generator).split(args.batch_size):
            batch = batch.to(images.device)
            x = images.index_select(0, batch)
            yield digits.distorted(x, generator) if args.distort else x, labels.index_select(0, batch)


def train(model: nn.Sequential, optimizer: torch.optim.Optimizer, scheduler: torch.optim.lr_scheduler.LRScheduler,
          train_data: Iterable, losses: np.ndarray) -> None:
    """One step for each (step, (x, y)) of `train_data`."""
    for step, (x, y) in train_data:
        # Forward pass
        value = loss(model, x, y)
        losses[step] = value.item()
        if not math.isfinite(losses[step]):
            break
        # Backward pass, and the step down the gradient
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        scheduler.step()


# The results.
def predict(model: nn.Module, images: Tensor) -> Tensor:
    """The probability of each class for each image, shape (n, 10), on the CPU; images as vectors (n, 784)."""
    with torch.no_grad():
        return model(images.to(next(model.parameters()).device)).cpu()


def accuracy(probabilities: Tensor, labels: Tensor) -> float:
    """The share of the images whose largest probability, of shape (n, 10), is the label's, of shape (n,)."""
    return (one_cold(probabilities) == labels).double().mean().item()


def evaluate(model: nn.Module, data: digits.Digits, count: int, test: Tensor, unseen: int) -> dict:
    """The results of a model trained on the first `count` images.

    `test` are its probabilities for the test images, `unseen` is the index of one of them.
    """
    trained = predict(model, as_vectors(data.x_train[:count]))
    first_five = one_cold(predict(model, as_vectors(data.x_train[:5]))).tolist()
    return {"dataset": data.name, "parameters": sum(p.numel() for p in model.parameters()), "train_images": count,
            "test_images": len(test), "train_accuracy": accuracy(trained, data.y_train[:count]),
            "test_accuracy": accuracy(test, data.y_test),
            "first_five": [{"label": label, "prediction": guess}
                           for label, guess in zip(data.y_train[:5].tolist(), first_five)],
            "unseen": {"index": unseen, "label": int(data.y_test[unseen]), "prediction": int(one_cold(test[unseen])),
                       "probabilities": test[unseen]}}


def draw(data: digits.Digits, models: Sequence[nn.Sequential], losses: np.ndarray, unseen: int, title: str) -> dict:
    """The figures by name; `models` before and after training."""
    from common import plotting  # here, because matplotlib takes its time to import

    names, labels, images = data.classes, data.y_test.numpy(), data.x_test.numpy()
    five, test = (predict(models[1], as_vectors(x)).numpy() for x in (data.x_train[:5], data.x_test))
    guesses = test.argmax(axis=1)
    wrong = np.flatnonzero(guesses != labels)
    wrong = wrong[np.argsort(-test.max(axis=1)[wrong], kind="stable")][:10]
    counts = np.bincount(10 * labels + guesses, minlength=100).reshape(10, 10)
    before, after = ([p.detach().cpu().numpy() for p in model.parameters()] for model in models)
    return {
        "first_five": plotting.image_row(
            data.x_train[:5].numpy(), plotting.captions(five, data.y_train[:5].tolist(), names),
            title=f"The first five training images\n{title}"),
        "loss": plotting.loss_curve(losses, title=f"Loss at every step\n{title}", window=100),
        "unseen": plotting.images_with_probabilities(
            images[[unseen]], test[[unseen]], names, title=f"Test image {unseen + 1:,}, never seen before\n{title}",
            captions=plotting.captions(test[[unseen]], labels[[unseen]].tolist(), names)),
        "confusion": plotting.confusion(counts, names, title=f"Test set: {len(test):,} images, "
                                        f"{np.mean(guesses == labels):.1%} right\n{title}"),
        "mistakes": plotting.image_row(images[wrong], plotting.captions(test[wrong], labels[wrong].tolist(), names),
                                       title=f"The most confident mistakes in the test set\n{title}"),
        "hidden_units": plotting.hidden_units(after[0].reshape(-1, 28, 28), title="Weights of the hidden units: ink "
                                              f"where they are blue excites the unit, orange inhibits it\n{title}"),
        "layers": plotting.layers({"before training": before, "after training": after}, inputs=data.x_train[0].numpy(),
                                  outputs=names, title="The network in short: a grey line for 784 weights; negative "
                                  f"biases are squares\n{title}")}


def arguments() -> argparse.Namespace:
    """The options, see --help."""
    parser = lecture_parser(__doc__, "mnist_mlp", lr=0.001)
    digits.add_options(parser)
    parser.add_argument("--epochs", type=whole_number(1, 100_000), default=100, help="1 to 100000")
    parser.add_argument("--batch-size", type=whole_number(1, 60_000), help="1 to 60000 (default: all images at once)")
    parser.add_argument("--schedule", choices=("constant", "one-cycle"), default="constant",
                        help="one-cycle: the learning rate rises to LR and falls to nearly 0")
    parser.add_argument("--weight-decay", type=real_number(0, 1), default=0.0, metavar="DECAY",
                        help="Adam's: adds DECAY times each parameter to its gradient, 0 to 1")
    parser.add_argument("--distort", action="store_true",
                        help="train on copies of the images that are turned, scaled, sheared and shifted at random")
    parser.add_argument("--hidden", type=whole_number(1, 10_000), default=40, help="hidden units, 1 to 10000")
    return parser.parse_args()


def settings(args: argparse.Namespace) -> str:
    """The settings that a figure's title names."""
    return (f"Adam at {args.lr:g}{', one-cycle' * (args.schedule == 'one-cycle')}, batches of {args.batch_size:,}"
            f"{f', weight decay {args.weight_decay:g}' * (args.weight_decay > 0)}{', distorted' * args.distort}, seed "
            f"{args.seed}")


def main() -> None:
    args = arguments()
    run = Run(args, memory=10_000 * 60_000)
    data = digits.load_chosen(args)
    args.batch_size = min(args.batch_size or args.images, args.images)

    # Steps 1 and 2, representing the labels and the images as vectors.
    labels = one_hot(data.y_train[:args.images]).to(args.device)  # (images, 10)
    images = as_vectors(data.x_train[:args.images]).to(args.device)  # (images, 784)

    # Step 3, defining the model. To test whether it is valid, it is evaluated at the 10th image.
    model = glorot_model(args.hidden, run.generator("model")).to(args.device)
    if not args.quiet:
        tenth = predict(model, as_vectors(data.x_train[[9]]))
        print(describe(model), digits.table(["10th image, untrained"], tenth, data.y_train[[9]], data), sep="\n")

    # Steps 4 and 5, the loss and the optimizer.
    steps = args.epochs * math.ceil(args.images / args.batch_size)
    optimizer, scheduler = adam(model, args, steps)

    # Step 6, training the model.
    losses = run.begin(steps, model=model, optimizer=optimizer, scheduler=scheduler)
    order = batches(images, labels, args, run.generator("batches"))
    train(model, optimizer, scheduler, run.steps(
        enumerate(order), progress=lambda: f"loss(images, labels) = {loss(model, images, labels):.4f}"), losses)

    # The results.
    test = predict(model, as_vectors(data.x_test))
    known, unseen = (int(torch.randint(count, (), generator=run.generator(f"{name} image")))
                     for name, count in (("training", args.images), ("unseen", len(test))))
    results = evaluate(model, data, args.images, test, unseen) | {"final_loss": loss(model, images, labels).item()}
    shown = torch.cat([data.x_train[[0, 1, 2, 3, 4, known]], data.x_test[[unseen]]])
    right = torch.cat([data.y_train[[0, 1, 2, 3, 4, known]], data.y_test[[unseen]]])
    names = [*(f"image {i}" for i in range(1, 6)), f"training image {known + 1}", f"unseen test image {unseen + 1}"]
    table = digits.table(names, predict(model, as_vectors(shown)), right, data)
    epochs, count = run.made / steps * args.epochs, f"{args.images:,} image{'s' * (args.images != 1)}"
    done = f"{run.done(results)} ({epochs:.3g} epoch{'s' * (epochs != 1)})"
    title = f"{data.title}; {count}; {done}\n{settings(args)}"
    models = glorot_model(args.hidden, run.generator("model")), model
    run.finish(results, draw(data, models, losses[:run.made + 1], unseen, title), table,
               f"{done}: loss {results['final_loss']:.4f}; right are {results['train_accuracy']:.1%} of the "
               f"{count} trained on and {results['test_accuracy']:.2%} of the {len(test):,} test images")


if __name__ == "__main__":
    program.execute(main)
