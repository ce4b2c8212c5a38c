"""Recognizing Handwritten Numbers: a 784-40-10 network on the first 100 images of MNIST."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the project's folder

from common import datasets, options, program, reports
from common.layers import describe
from common.onehot import one_hot
from common.run import Run

import argparse

import torch
from torch import Tensor, nn, optim
from torch.nn import functional


def as_vectors(images: Tensor) -> Tensor:
    """Flattens images (n, 28, 28) of 0 to 255 to vectors (n, 784) of float32 in [0, 1]."""
    return images.reshape(len(images), -1).to(torch.float32) / 255


def build_model(hidden: int, generator: torch.Generator) -> nn.Sequential:
    """The 784-hidden-10 network with a ReLU after the first layer and Flux's initialization.

    Glorot uniform weights, in [-a, a] with a = sqrt(6 / (inputs + outputs)), and zero biases
    (Glorot & Bengio 2010). The softmax at the end of the lecture's network is in `predict` and
    `loss`: PyTorch's cross_entropy takes the outputs before the softmax, which avoids log(0).
    """
    first, second = nn.Linear(28 * 28, hidden), nn.Linear(hidden, 10)
    for layer in (first, second):
        nn.init.xavier_uniform_(layer.weight, generator=generator)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(first, nn.ReLU(), second)


def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The mean over n images of -sum_k y_k log(softmax(model(x))_k); y is one-hot, (n, 10)."""
    return functional.cross_entropy(model(x), y)


def predict(model: nn.Module, images: Tensor) -> Tensor:
    """The probability of each class for each image, shape (n, 10), on the CPU.

    softmax(x)_k = exp(x_k) / sum_j exp(x_j) turns the ten outputs into probabilities (Goodfellow,
    Bengio & Courville 2016, section 6.2.2.3). The images are vectors, shape (n, 784).
    """
    device = next(model.parameters()).device
    with torch.no_grad():
        return model(images.to(device)).softmax(dim=1).cpu()


def accuracy(probabilities: Tensor, labels: Tensor) -> float:
    """The fraction of n images whose most probable class is the label; shapes (n, 10) and (n,)."""
    return (probabilities.argmax(dim=1) == labels).double().mean().item()


def evaluate(
    run: Run, model: nn.Module, data: datasets.Dataset, images: Tensor, labels: Tensor
) -> tuple[dict, int, list[Tensor]]:
    """Evaluates a model that was trained on images (n, 784) with one-hot labels (n, 10).

    Returns the results for metrics.json, the index of a random training image, and the
    probabilities, each of shape (m, 10), for the first five images, the images trained on, and the
    test images.
    """
    first_five = predict(model, as_vectors(data.train_images[:5]))
    train, test = predict(model, images), predict(model, as_vectors(data.test_images))
    index = int(torch.randint(len(test), size=(), generator=run.generator("unseen image")))
    known = int(torch.randint(len(train), size=(), generator=run.generator("training image")))
    results = {
        "dataset": data.name,
        "parameters": sum(p.numel() for p in model.parameters()),
        "train_images": len(images),
        "test_images": len(test),
        "final_loss": loss(model, images, labels).item(),
        "train_accuracy": accuracy(train, data.train_labels[: len(images)]),
        "test_accuracy": accuracy(test, data.test_labels),
        "first_five": [
            {"label": int(label), "prediction": int(probabilities.argmax())}
            for label, probabilities in zip(data.train_labels, first_five)
        ],
        "unseen": {  # one test image, drawn at random
            "index": index,
            "label": int(data.test_labels[index]),
            "prediction": int(test[index].argmax()),
            "probabilities": test[index],
        },
    }
    return results, known, [first_five, train, test]


def parse_args() -> argparse.Namespace:
    parser = options.lecture_parser(__doc__, "mnist_mlp", lr=0.001)
    options.add_digits_options(parser, images=100)
    parser.add_argument(
        "--epochs",
        type=options.whole_number(1, 100_000),
        default=100,
        help="passes over the images, 1 to 100000",
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    data = datasets.load(args.dataset, args.data_dir)
    count = options.images_to_use(args, data)
    run = Run("mnist_mlp", args, dataset=data.name, images=count)

    # Step 1, representing the labels as one-hot vectors: 5 becomes [0, 0, 0, 0, 0, 1, 0, 0, 0, 0]
    labels = one_hot(data.train_labels[:count]).to(run.device)  # (100, 10)

    # Step 2, representing the images as vectors
    images = as_vectors(data.train_images[:count]).to(run.device)  # (100, 784)

    # Step 3, the model; to test if the definition is valid, evaluate it at the 10th image
    model = build_model(args.hidden, run.generator("model")).to(run.device)
    tenth = predict(model, as_vectors(data.train_images[9:10]))
    run.print(
        describe(model),
        reports.probabilities(["10th image, untrained"], tenth, data.train_labels[9:10], data),
    )

    # Step 4, the loss function: `loss`, above.

    # Step 5, the optimizer: Adam, with Flux's and PyTorch's defaults. It divides a running mean of
    # each gradient by the square root of a running mean of its square, so that every parameter gets
    # its own step size (Kingma & Ba 2015).
    optimizer = optim.Adam(model.parameters(), lr=args.lr)

    # Step 6, training: an epoch is one step on all images. `run` has the bar and checkpoints.
    for _epoch in run.steps(range(args.epochs), model=model, optimizer=optimizer):
        value = loss(model, images, labels)
        optimizer.zero_grad()  # clear the gradients of the previous step
        value.backward()  # the derivative of the loss with respect to each parameter
        optimizer.step()
        run.record(value)

    # Results: the accuracy on the images that were trained on, and on the test images
    results, known, probabilities = evaluate(run, model, data, images, labels)
    run.finish(results, reports.mnist_mlp(run, results, data, model, known, *probabilities))


if __name__ == "__main__":
    program.execute(main)
