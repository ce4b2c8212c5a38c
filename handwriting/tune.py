"""Evaluates settings of the distorted copies, and the accuracy of the reader's sure answers.

    python handwriting/tune.py --pen 0.3 --bend 0.5 --output model.pt
    python handwriting/measure.py --half odd --model model.pt FOLDER

The first command trains on the first 55,000 training images. It evaluates the network on the last
5,000, then on copies distorted twice as much as in training, since people's handwriting differs
more from MNIST: at least 95 % of the sure answers must be correct, and at most 1 digit in 500 may
be taken for no digit. The second command evaluates half of the pictures that people made. The test
set is not used.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common import datasets, options, program
from common.onehot import one_hot
from common.run import generator
from exercises import mnist_all
from exercises.distort import MOST, SIDE, Distortions, distorted
from handwriting import read
from lectures.mnist_mlp import accuracy, as_vectors, build_model, predict

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

KEPT = 55_000


def train(images: Tensor, labels: Tensor, most: Distortions, epochs: int = 40) -> nn.Sequential:
    """The network, trained as exercises/mnist_all.py does; images (n, 784), labels (n,)."""
    model, draw = build_model(40, generator(0, "model")), generator(0, "batches")
    labels = one_hot(labels)
    mnist_all.train(model, images, labels, draw, epochs=epochs, batch_size=128, lr=0.015, most=most)
    return model


def calibration(chances: NDArray, labels: NDArray) -> str:
    """How many answers, from `chances` of shape (n, 10), are sure and correct, or "no digit"."""
    first, right = chances.max(axis=1), chances.argmax(axis=1) == labels
    sure, none = first >= read.UNSURE, first < read.NO_DIGIT
    return (
        f"distorted copies: {sure.mean():.1%} sure, {right[sure].mean():.1%} of these correct\n"
        f"taken for no digit: {none.mean():.2%}"
    )


def main() -> None:
    parser = options.parser(__doc__.splitlines()[0])
    for name, value in MOST._asdict().items():
        parser.add_argument(f"--{name}", type=float, default=value, help="see exercises/distort.py")
    parser.add_argument("--output", type=Path, default="model.pt", help="the model's file")
    options.add_data_dir_option(parser)
    args = parser.parse_args()
    torch.set_num_threads(1)
    most = Distortions(*(getattr(args, name) for name in Distortions._fields))
    data = datasets.load("mnist", args.data_dir)
    images, labels = as_vectors(data.train_images), data.train_labels
    model = train(images[:KEPT], labels[:KEPT], most)
    torch.save(model.state_dict(), args.output)
    held, truth = images[KEPT:], labels[KEPT:]
    print(f"{most}\naccuracy on the held-out images: {accuracy(predict(model, held), truth):.2%}")
    twice = distorted(held, generator(0, "held out"), Distortions(*(2 * value for value in most)))
    copies = (255 * twice).round().clamp(0, 255).to(torch.uint8).reshape(-1, SIDE, SIDE).numpy()
    chances = read.probabilities(model, copies)
    print(calibration(chances, truth.numpy()))


if __name__ == "__main__":
    program.execute(main)
