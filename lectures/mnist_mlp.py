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
    """Images (n, 28, 28) of uint8 as vectors (n, 784) of float32 in [0, 1], as MLDatasets hands them to Flux."""
    return images.reshape(len(images), -1).to(torch.float32) / 255


def build_model(hidden: int, generator: torch.Generator) -> nn.Sequential:
    """Chain(Dense(28*28, hidden, relu), Dense(hidden, 10), softmax), with Flux's initial values.

    Glorot uniform weights, in [-a, a] with a = sqrt(6 / (inputs + outputs)), and zero biases (Glorot & Bengio 2010).
    relu(x) = max(x, 0); softmax(x)_k = exp(x_k) / sum exp(x_j) makes ten probabilities of the ten outputs (Goodfellow,
    Bengio & Courville 2016, sections 6.3.1 and 6.2.2.3).
    """
    first, second = nn.Linear(28 * 28, hidden), nn.Linear(hidden, 10)
    for layer in (first, second):
        nn.init.xavier_uniform_(layer.weight, generator=generator)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(first, nn.ReLU(), second, nn.Softmax(dim=1))


def loss(model: nn.Sequential, x: Tensor, y: Tensor) -> Tensor:
    """loss(x, y) = crossentropy(model(x), y) = mean over the images of -sum_k y_k log(model(x)_k); y one-hot.

    It is computed from the logits, the values before the softmax, where no logarithm of 0 can occur.
    """
    first, relu, second, _softmax = model
    return functional.cross_entropy(second(relu(first(x))), y)


def predict(model: nn.Module, images: Tensor) -> Tensor:
    """The probability of each class for each image, shape (n, 10), on the CPU; images as vectors (n, 784)."""
    with torch.no_grad():
        return model(images.to(next(model.parameters()).device)).cpu()


def accuracy(probabilities: Tensor, labels: Tensor) -> float:
    """The share of the images whose largest probability, of shape (n, 10), is the label's, of shape (n,)."""
    return (probabilities.argmax(dim=1) == labels).double().mean().item()


def evaluate(
    run: Run, model: nn.Sequential, data: datasets.Dataset, images: Tensor, labels: Tensor
) -> tuple[dict, int, list[Tensor]]:
    """The results of training on some images as vectors with labels one-hot, and the network's probabilities.

    These are, of shape (n, 10), those of the first five training images, of those that were trained on, and of the
    test images. A test image is drawn at random, which the network has not seen, for the results; and one that it was
    trained on, whose number is returned.
    """
    count, five = len(images), as_vectors(data.train_images[:5])
    first, train, test = (predict(model, x) for x in (five, images, as_vectors(data.test_images)))
    unseen = int(torch.randint(len(test), (), generator=run.generator("unseen image")))
    known = int(torch.randint(count, (), generator=run.generator("training image")))
    results = {
        "dataset": data.name,
        "parameters": sum(p.numel() for p in model.parameters()),
        "train_images": count,
        "test_images": len(test),
        "final_loss": loss(model, images, labels).item(),
        "train_accuracy": accuracy(train, data.train_labels[:count]),
        "test_accuracy": accuracy(test, data.test_labels),
        "first_five": [
            {"label": int(label), "prediction": int(row.argmax())}
            for label, row in zip(data.train_labels[:5], first)
        ],
        "unseen": {
            "index": unseen,
            "label": int(data.test_labels[unseen]),
            "prediction": int(test[unseen].argmax()),
            "probabilities": test[unseen],
        },
    }
    return results, known, [first, train, test]


def parse_args() -> argparse.Namespace:
    parser = options.lecture_parser(__doc__, "mnist_mlp", lr=0.001)
    options.add_dataset_options(parser, images=100)
    parser.add_argument(
        "--epochs",
        type=options.whole_number(1, 100_000),
        default=100,
        help="passes over the images, 1 to 100000",
    )
    options.add_hidden_option(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    data = datasets.load(args.dataset, args.data_dir)
    count = options.images_to_use(args, data)
    run = Run("mnist_mlp", args, dataset=data.name, images=count)

    # Step 1, representing the labels as vectors: 5 becomes [0, 0, 0, 0, 0, 1, 0, 0, 0, 0]
    labels = one_hot(data.train_labels[:count]).to(run.device)  # (100, 10)

    # Step 2, representing the images as vectors
    images = as_vectors(data.train_images[:count]).to(run.device)  # (100, 784)

    # Step 3, the model; to test if the definition is valid, it is evaluated at the 10th image
    model = build_model(args.hidden, run.generator("model")).to(run.device)
    tenth = predict(model, as_vectors(data.train_images[9:10]))
    run.print(
        describe(model),
        reports.probabilities(["10th image, untrained"], tenth, data.train_labels[9:10], data),
    )

    # Step 4, the loss function: `loss`, above.

    # Step 5, the optimizer: Adam, with Flux's and PyTorch's defaults. It divides a running mean of each gradient by the
    # root of a running mean of its square, so that every parameter has steps of its own size (Kingma & Ba 2015).
    optimizer = optim.Adam(model.parameters(), lr=args.lr)

    # Step 6, training: an epoch is one step on all images
    for _epoch in run.steps(range(args.epochs), model=model, optimizer=optimizer):
        value = loss(model, images, labels)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        run.record(value)

    # Results: the share of the images that is classified correctly, of those trained on and of the test images
    results, known, predictions = evaluate(run, model, data, images, labels)
    run.finish(results, reports.mnist_mlp(run, results, data, model, known, *predictions))


if __name__ == "__main__":
    program.execute(main)
