"""Exercise 4: a random image that is not in the training data, ten of them, and the whole test set."""

import numpy as np
import torch
from tqdm import tqdm

from common import device, digits, plotting
from common.onehot import one_cold, one_hot
from exercises.figures import lines
from lectures import mnist_mlp as mnist

SIZES, SEEDS = (100, 300, 1_000, 3_000, 10_000, 30_000, 60_000), 5
BATCH, RATE, DECAY, EPOCHS, LEAST_STEPS = 128, 0.015, 1e-4, 20, 600
LECUN = {"LeCun et al. 1998, 300 hidden units: 4.7 %": 4.7, "LeCun et al. 1998, 500 and 150 hidden units: 2.95 %": 2.95}


def lecture_model(data: digits.Digits, seed: int) -> torch.nn.Sequential:
    """The lecture's: 100 images, 100 epochs over the one batch."""
    generator = device.generator(seed)
    model = mnist.glorot_model(40, generator)
    mnist.train(model, mnist.as_vectors(data.x_train[:100]), one_hot(data.y_train[:100]),
                torch.optim.Adam(model.parameters(), fused=True), None, 100, generator, np.full(100, np.nan),
                lambda: True, print)
    return model


def quick_model(data: digits.Digits, count: int, seed: int) -> torch.nn.Sequential:
    """`count` images, one-cycle schedule: EPOCHS epochs, or more where that makes fewer than LEAST_STEPS steps."""
    generator = device.generator(seed)
    model = mnist.glorot_model(40, generator)
    batch = min(BATCH, count)
    batches = -(-count // batch)
    steps = batches * max(EPOCHS, -(-LEAST_STEPS // batches))
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE, weight_decay=DECAY, fused=True)
    mnist.train(model, mnist.as_vectors(data.x_train[:count]), one_hot(data.y_train[:count]), optimizer,
                mnist.one_cycle(optimizer, RATE, steps, 0), batch, generator, np.full(steps, np.nan), lambda: True,
                lambda line: None)
    return model


def measure(data_dir) -> tuple[dict, dict]:
    """The results, and the figures by file name."""
    data = digits.load("auto", data_dir)
    test = mnist.as_vectors(data.x_test)
    lecture = [mnist.predict(lecture_model(data, seed), test) for seed in range(SEEDS)]
    chosen = torch.randperm(len(test), generator=device.generator(0))[:10]
    ten = [{"image": int(i) + 1, "label": int(data.y_test[i]), "probabilities": lecture[0][i].tolist()} for i in chosen]

    sizes = [count for count in SIZES if count < len(data.x_train)] + [len(data.x_train)]
    accuracy = {}
    for count in tqdm(sizes, delay=2, leave=False, disable=None):
        accuracy[count] = [mnist.accuracy(mnist.predict(quick_model(data, count, seed), test), data.y_test)
                           for seed in range(SEEDS)]
    errors = 100 * (1 - np.array(list(accuracy.values()))).T  # (seeds, sizes)
    figures = {
        "ten.png": plotting.image_row(
            data.x_test[chosen].numpy(),
            plotting.captions(lecture[0][chosen].numpy(), data.y_test[chosen].tolist(), data.classes),
            title=f"Ten test images, never seen before\n{data.title}, model of 100 images, seed 0"),
        "errors.png": lines(
            {f"784-40-10, mean and 10-90 % of {SEEDS} seeds": (np.array(list(accuracy)), errors)},
            title="Learning from experience: performance P at task T improves with experience E\n"
                  f"T: tell the {len(data.classes)} classes of {data.title} apart; P: the error on {len(test):,} test "
                  "images; E: the training images",
            xlabel="training images (experience E)", ylabel="test error in % (performance P)",
            scales=("log", "log"), yticks=(2, 3, 5, 10, 20, 30), horizontal=LECUN if data.name == "mnist" else None),
    }
    return {"dataset": data.title, "test_images": len(test), "ten": ten, "seeds": SEEDS,
            "right": [bool(one_cold(lecture[0])[i] == data.y_test[i]) for i in chosen],
            "lecture": [mnist.accuracy(p, data.y_test) for p in lecture],
            "accuracy": {str(count): values for count, values in accuracy.items()}}, figures


def text(results: dict, table) -> str:
    """The section of the page; `table` makes Markdown of rows."""
    def spread(values):
        return f"{100 * np.mean(values):.2f} % ± {100 * np.std(values):.2f}"

    ten = [[t["image"], t["label"], *(f"{100 * p:.1f}" for p in t["probabilities"]), "right" if good else "WRONG"]
           for t, good in zip(results["ten"], results["right"])]
    sizes = [[f"{int(count):,}", spread(values), f"{100 - 100 * np.mean(values):.2f} %"]
             for count, values in results["accuracy"].items()]
    most, best = [(int(count), values) for count, values in results["accuracy"].items()][-1]
    mnist_only = results["dataset"] == "MNIST"
    return f"""## 4. A random image that is not in the training data

Of ten random test images of {results["dataset"]}, the lecture's model, trained on 100 images, gets
{sum(results["right"])} right; of all {results["test_images"]:,}, {spread(results["lecture"])} (mean and standard
deviation of {results["seeds"]} seeds). With the same network and all {most:,} training images it is {spread(best)}.

{table(["image", "label", *(f"{k} (%)" for k in range(10)), ""], ten)}

![Ten images](figures/exercise_4_ten.png)

Accuracy against the number of training images (batches of {BATCH}, one-cycle Adam up to {RATE}, weight decay {DECAY:g},
{EPOCHS} epochs or {LEAST_STEPS} steps, whichever is more):

{table(["training images", "test set right", "error"], sizes)}

![Test error against the number of training images](figures/exercise_4_errors.png)
{'''
For comparison, LeCun, Bottou, Bengio and Haffner (Proceedings of the IEEE 86(11), 1998) report test errors of 4.7 % for
a network with 300 hidden units and 2.95 % for one with 500 and 150, trained on the same 60,000 images.
''' if mnist_only else ""}"""
