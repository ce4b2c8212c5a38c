"""Chooses the settings of mnist_mlp's full training on 5,000 held-out training images; the test set is not read.

    python benchmarks/tune_mnist.py

prints, for each batch size, learning rate, weight decay and number of epochs with the one-cycle schedule, the accuracy
on the last 5,000 training images after training on the 55,000 before them (mean and standard deviation over the seeds),
and the seconds of training. README names the setting that was taken.
"""

import argparse
import itertools
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch

from common import cli, device, digits
from common.onehot import one_hot
from lectures import mnist_mlp

HELD_OUT = 5_000


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--data-dir", type=Path, default=os.environ.get("MNIST_ROOT") or cli.PROJECT / "data")
    options.add_argument("--batch-sizes", type=int, nargs="+", default=[128, 256])
    options.add_argument("--rates", type=float, nargs="+", default=[0.01, 0.015])
    options.add_argument("--decays", type=float, nargs="+", default=[0, 1e-4, 2e-4])
    options.add_argument("--epochs", type=int, nargs="+", default=[12, 20])
    options.add_argument("--seeds", type=int, default=4)
    args = options.parse_args()
    data = digits.load("mnist", args.data_dir)
    images, labels = mnist_mlp.as_vectors(data.x_train), one_hot(data.y_train)
    known, held = slice(0, -HELD_OUT), slice(-HELD_OUT, None)
    print(f"{'batch':>6}{'rate':>8}{'decay':>8}{'epochs':>8}{'held-out accuracy':>20}{'seconds':>9}")
    for batch_size, rate, decay, epochs in itertools.product(args.batch_sizes, args.rates, args.decays, args.epochs):
        scores, seconds = [], []
        for seed in range(args.seeds):
            generator = device.generator(seed)
            model = mnist_mlp.glorot_model(40, generator)
            optimizer = torch.optim.Adam(model.parameters(), lr=rate, weight_decay=decay, fused=True)
            steps = epochs * -(-(len(images) - HELD_OUT) // batch_size)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
            start = time.perf_counter()
            mnist_mlp.train(model, images[known], labels[known], optimizer, schedule, batch_size, generator,
                            np.full(steps, np.nan), lambda: True, lambda line: None)
            seconds.append(time.perf_counter() - start)
            scores.append(100 * mnist_mlp.accuracy(mnist_mlp.predict(model, images[held]), data.y_train[held]))
        print(f"{batch_size:6}{rate:8g}{decay:8g}{epochs:8}{np.mean(scores):13.2f} +- {np.std(scores):.2f}"
              f"{np.median(seconds):9.1f}", flush=True)


if __name__ == "__main__":
    main()
