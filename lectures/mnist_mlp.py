"""Recognizing Handwritten Numbers: a 784-40-10 network on the first 100 images of MNIST, or on all of them."""

import os
import sys

# common/ is found from any folder, and through a symbolic link to this file
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

from common.run import Run  # first: it hears Ctrl-C while PyTorch loads
from common import digits, program
from common.layers import describe
from common.onehot import one_cold, one_hot
from common.options import lecture_parser, real_number, whole_number

import argparse
import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn, optim
from torch.nn import functional
from torch.optim.lr_scheduler import ConstantLR, LRScheduler, OneCycleLR


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
def adam(model: nn.Module, args: argparse.Namespace, steps: int) -> tuple[optim.Adam, LRScheduler]:
    """Adam, and the schedule of its learning rate: constant, or up to --lr and down to nearly 0 in `steps` steps.

    Adam divides a running mean of each gradient by the root of a running mean of its square, so that every parameter
    has steps of its own size (Kingma & Ba 2015); 0.9 and 0.999, the means' memories, are PyTorch's and Flux's defaults.
    """
    optimizer = optim.Adam(
        model.parameters(), lr=args.lr, weight_decay=args.weight_decay, fused=True
    )  # in one kernel
    if args.schedule == "one-cycle":
        return optimizer, OneCycleLR(
            optimizer, args.lr, total_steps=steps, cycle_momentum=False
        )  # 0.9 stays
    return optimizer, ConstantLR(optimizer, factor=1)  # --lr at every step


# Step 6, training the model.
def batches(
    images: Tensor, labels: Tensor, args: argparse.Namespace, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """The images and labels of each step.

    All of them in their order, as in the lecture, or batches that are shuffled anew in every epoch.
    """
    for _ in range(args.epochs):
        if args.batch_size >= len(images):
            order = torch.arange(len(images))
        else:
            order = torch.randperm(len(images), generator=generator)
        for batch in order.to(images.device).split(args.batch_size):
            x = images.index_select(0, batch)
            yield (
                (digits.distorted(x, generator) if args.distort else x),
                labels.index_select(0, batch),
            )


def train(
    model: nn.Sequential,
    optimizer: optim.Adam,
    scheduler: LRScheduler,
    train_data: Iterable,
    losses: np.ndarray,
) -> None:
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
    """The results of training on `count` images; `test` has the test images' probabilities, one of them is `unseen`."""
    train, five = (predict(model, as_vectors(data.x_train[:n])) for n in (count, 5))
    return {
        "dataset": data.name,
        "parameters": sum(p.numel() for p in model.parameters()),
        "train_images": count,
        "test_images": len(test),
        "train_accuracy": accuracy(train, data.y_train[:count]),
        "test_accuracy": accuracy(test, data.y_test),
        "first_five": [
            {"label": int(y), "prediction": int(one_cold(p))} for y, p in zip(data.y_train, five)
        ],
        "unseen": {
            "index": unseen,
            "label": int(data.y_test[unseen]),
            "prediction": int(one_cold(test[unseen])),
            "probabilities": test[unseen],
        },
    }


def draw(
    data: digits.Digits,
    models: Sequence[nn.Sequential],
    losses: np.ndarray,
    unseen: int,
    title: str,
) -> dict:
    """The figures by name; `models` before and after training."""
    from common import plotting  # here, because matplotlib takes its time to import

    names, labels, images = data.classes, data.y_test.numpy(), data.x_test.numpy()
    five, test = (
        predict(models[1], as_vectors(x)).numpy() for x in (data.x_train[:5], data.x_test)
    )
    wrong, right = plotting.worst_mistakes(test, labels), np.mean(test.argmax(axis=1) == labels)
    before, after = ([p.detach().cpu().numpy() for p in model.parameters()] for model in models)
    return {
        "first_five": plotting.judged_images(
            data.x_train[:5].numpy(),
            data.y_train[:5].numpy(),
            five,
            names,
            title=f"The first five training images\n{title}",
        ),
        "loss": plotting.loss_curve(losses, title=f"Loss at every step\n{title}", window=100),
        "unseen": plotting.images_with_probabilities(
            images[[unseen]],
            test[[unseen]],
            names,
            title=f"Test image {unseen + 1:,}, never seen before\n{title}",
            captions=plotting.captions(test[[unseen]], labels[[unseen]], names),
        ),
        "confusion": plotting.confusion(
            np.bincount(10 * labels + test.argmax(axis=1), minlength=100).reshape(10, 10),
            names,
            title=f"{len(test):,} test images, {100 * right:.1f} % right\n{title}",
        ),
        "mistakes": plotting.judged_images(
            images[wrong],
            labels[wrong],
            test[wrong],
            names,
            title=f"The most confident mistakes in the test set\n{title}",
        ),
        "hidden_units": plotting.hidden_units(
            after[0].reshape(-1, 28, 28),
            title=f"Ink that excites the hidden units: blue; inhibits: orange\n{title}",
        ),
        "layers": plotting.layers(
            {"before training": before, "after training": after},
            inputs=data.x_train[0].numpy(),
            outputs=names,
            title=f"The network in short\n{title}",
        ),
    }


def arguments() -> argparse.Namespace:
    parser = lecture_parser(__doc__, "mnist_mlp", lr=0.001)
    digits.add_options(parser)
    parser.add_argument("--epochs", type=whole_number(1, 100_000), default=100, help="1 to 100000")
    parser.add_argument(
        "--batch-size",
        type=whole_number(1, 60_000),
        help="1 to 60000 (default: all images at once)",
    )
    parser.add_argument(
        "--schedule",
        choices=("constant", "one-cycle"),
        default="constant",
        help="of the learning rate; one-cycle: it rises to LR and falls to nearly 0",
    )
    parser.add_argument(
        "--weight-decay",
        type=real_number(0, 1),
        default=0.0,
        metavar="DECAY",
        help="Adam's: adds DECAY times each parameter to its gradient, 0 to 1",
    )
    parser.add_argument(
        "--distort", action="store_true", help="turn, scale, shear and shift the images at random"
    )
    parser.add_argument(
        "--hidden", type=whole_number(1, 10_000), default=40, help="hidden units, 1 to 10000"
    )
    return parser.parse_args()


def main() -> None:
    args = arguments()
    run = Run(
        args,
        memory=5e8
        + 24 * args.hidden * (60_000 if args.images == "all" else max(args.images, 10_000)),
    )
    data = digits.load_chosen(args)
    args.batch_size = min(args.batch_size or args.images, args.images)

    # Steps 1 and 2, representing the labels and the images as vectors.
    labels = one_hot(data.y_train[: args.images]).to(args.device)  # (images, 10)
    images = as_vectors(data.x_train[: args.images]).to(args.device)  # (images, 784)

    # Step 3, defining the model. To test whether it is valid, it is evaluated at the 10th image.
    model = glorot_model(args.hidden, run.generator("model")).to(args.device)
    if not args.quiet:
        tenth = predict(model, as_vectors(data.x_train[[9]]))
        print(
            describe(model),
            digits.table(["10th image, untrained"], tenth, data.y_train[[9]], data),
            sep="\n",
        )
    # Steps 4, 5 and 6, the loss, the optimizer and the training.
    steps = args.epochs * math.ceil(args.images / args.batch_size)
    optimizer, scheduler = adam(model, args, steps)
    losses = run.begin(steps, model=model, optimizer=optimizer, scheduler=scheduler)
    train_data = run.steps(
        enumerate(batches(images, labels, args, run.generator("batches"))),
        progress=lambda: f"loss(images, labels) = {loss(model, images, labels):.4f}",
    )
    train(model, optimizer, scheduler, train_data, losses)

    # The results.
    test = predict(model, as_vectors(data.x_test))
    known = int(torch.randint(args.images, (), generator=run.generator("training image")))
    unseen = int(torch.randint(len(test), (), generator=run.generator("unseen image")))
    results = evaluate(model, data, args.images, test, unseen) | {
        "final_loss": loss(model, images, labels).item()
    }
    shown = torch.cat([data.x_train[[0, 1, 2, 3, 4, known]], data.x_test[[unseen]]])
    right = torch.cat([data.y_train[[0, 1, 2, 3, 4, known]], data.y_test[[unseen]]])
    names = [
        *(f"image {i}" for i in range(1, 6)),
        f"training image {known + 1}",
        f"unseen test image {unseen + 1}",
    ]
    table = digits.table(names, predict(model, as_vectors(shown)), right, data)
    done = f"{run.ending(results)} (epoch {round(run.made / steps * args.epochs, 2):,g} of {args.epochs:,})"
    images_used = f"{data.title}, {args.images:,} of {len(data.x_train):,} images{', distorted' * args.distort}"
    adam_at = f"Adam at {args.lr:g} ({args.schedule}), weight decay {args.weight_decay:g}, seed {args.seed}"
    title = f"{images_used}; {done}\nBatches of {args.batch_size:,}, {adam_at}"
    models = (
        glorot_model(args.hidden, run.generator("model")),
        model,
    )  # the same start again, and what became of it
    run.finish(
        results,
        draw(data, models, losses[: run.made + 1], unseen, title),
        table,
        f"{done}: loss {results['final_loss']:.4f}; right are {results['train_accuracy']:.1%} of the images "
        f"trained on and {results['test_accuracy']:.2%} of the {len(test):,} test images",
    )


if __name__ == "__main__":
    program.execute(main)
