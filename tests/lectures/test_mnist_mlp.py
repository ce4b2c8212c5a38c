"""The third lecture: its numbers computed again from its own files, in NumPy; what it says."""

from common.onehot import one_hot
from lectures import mnist_mlp as mnist

import json
import math
import re

import numpy as np
import pytest
import torch
from helpers import cross_entropy, digit_probabilities, load_state, states, write_digits
from torch import nn

pytestmark = pytest.mark.numbers  # again by make test-arithmetic


@pytest.mark.parametrize(
    "options",
    [
        ("--images", 45, "--epochs", 3, "--hidden", 15),
        ("--images", "all", "--epochs", 4, "--seed", 3),
    ],
)
def test_the_numbers_of_a_run(undrawn, digits, options):
    digits = write_digits(digits.root, seed=4)
    done = undrawn("mnist_mlp", *options)
    assert done.returncode == 0 and done.stderr == ""
    results, config = done.metrics["results"], done.metrics["config"]
    count, hidden, epochs = config["images"], config["hidden"], config["epochs"]
    initial, trained = states(done)
    for layer, size in (("0", 784 + hidden), ("2", hidden + 10)):
        largest, bound = np.abs(initial[f"{layer}.weight"]).max(), math.sqrt(6 / size)
        assert 0.9 * bound < largest <= bound and not initial[f"{layer}.bias"].any()

    images, labels = digits.x_train[:count], digits.y_train[:count]
    known, unseen = (digit_probabilities(trained, x) for x in (images, digits.x_test))
    train_accuracy = (known.argmax(axis=1) == labels).mean()
    test_accuracy = (unseen.argmax(axis=1) == digits.y_test).mean()
    assert len({train_accuracy, test_accuracy, 1.0, 0.0}) == 4  # not one for the other
    first = known[:5].argmax(axis=1).tolist()
    assert (digits.y_train[:5] != digits.y_test[:5]).any() and len(set(first)) > 1
    index = results["unseen"]["index"]
    assert results == {
        "dataset": "mnist",
        "parameters": 784 * hidden + hidden + hidden * 10 + 10,
        "train_images": count,
        "test_images": 50,
        "final_loss": pytest.approx(cross_entropy(known, labels), rel=1e-5),
        "train_accuracy": pytest.approx(train_accuracy),
        "test_accuracy": pytest.approx(test_accuracy),
        "first_five": [{"label": a, "prediction": b} for a, b in zip(labels.tolist(), first)],
        "unseen": {
            "index": index,
            "label": digits.y_test[index],
            "prediction": unseen[index].argmax(),
            "probabilities": pytest.approx(unseen[index], rel=1e-4, abs=1e-7),
        },
        "steps": epochs,
        "microseconds_per_step": pytest.approx(1e6 * done.metrics["seconds"]["training"] / epochs),
        "ended": "finished",
    }
    assert np.load(done.folder / "losses.npy").shape == (epochs,)

    table = {line[:26].strip(): line[26:].split() for line in done.stdout.splitlines()}
    assert table["MNIST, in %"] == [*"0123456789", "prediction"]
    tenth = digit_probabilities(initial, digits.x_train[9:10])[0]  # before it has learned anything
    number = int(re.search(r"^training image (\d+)", done.stdout, re.MULTILINE)[1])
    for row, shares, label in (
        ("10th image, untrained", tenth, digits.y_train[9]),
        ("image 3", known[2], labels[2]),
        (f"training image {number}", known[number - 1], labels[number - 1]),
        (f"unseen test image {index + 1}", unseen[index], digits.y_test[index]),
    ):
        guess = shares.argmax()
        verdict = "(right)" if guess == label else f"(WRONG, it is {label})"
        assert table[row] == [*(f"{100 * p:.1f}" for p in shares), *f"{guess} {verdict}".split()]
    assert f"; {count} of 60 images to train on, 50 to test" in done.stdout
    assert (
        f"loss {results['final_loss']:.4f}; {train_accuracy:.1%} of the images trained on and "
        f"{test_accuracy:.2%} of the 50 test images are classified correctly"
    ) in done.stdout


def test_a_step_is_adam_s_on_all_images(undrawn, digits):
    done = undrawn("mnist_mlp", "--images", 40, "--epochs", 8, "--hidden", 6, "--lr", 0.002)
    model = nn.Sequential(nn.Linear(784, 6), nn.ReLU(), nn.Linear(6, 10)).double()
    model.load_state_dict(torch.load(done.folder / "model_initial.pt"))
    x, y = torch.from_numpy(digits.x_train[:40] / 255), torch.from_numpy(digits.y_train[:40])
    adam, losses = torch.optim.Adam(model.parameters(), 0.002), []
    for _ in range(8):
        value = -model(x.flatten(1)).log_softmax(dim=1)[torch.arange(40), y].mean()
        losses.append(value.item())
        adam.zero_grad()
        value.backward()
        adam.step()
    np.testing.assert_allclose(np.load(done.folder / "losses.npy"), losses, rtol=1e-4)
    for key, array in load_state(done.folder / "model.pt").items():
        np.testing.assert_allclose(array, model.state_dict()[key], atol=2e-4)


def test_the_loss_has_no_logarithm_of_zero():
    model = mnist.build_model(40, torch.Generator().manual_seed(0))
    with torch.no_grad():
        model[2].bias[0] = 1000
    value = mnist.loss(model, torch.rand(1, 784), one_hot(torch.tensor([5])))
    assert 990 < value.item() < 1010


@pytest.mark.parametrize("seed", range(3))
def test_first_five_of_mnist(mnist_root, undrawn, seed):
    done = undrawn("mnist_mlp", "--data-dir", mnist_root, "--seed", seed, "--quiet")
    results = done.metrics["results"]
    assert results["dataset"] == "mnist" and results["parameters"] == 31_810
    five = [{"label": label, "prediction": label} for label in (5, 0, 4, 1, 9)]
    assert json.dumps(results["first_five"]) == json.dumps(five)
    assert 0.62 < results["test_accuracy"] < 0.73 and results["train_accuracy"] == 1


@pytest.mark.skipif(not torch.set_flush_denormal(False), reason="not on this processor")
def test_training_takes_numbers_under_the_least_normal_one_for_zero(undrawn, monkeypatch):
    """Weights that decay come there, and such a step takes three times as long."""
    plain, products = mnist.loss, []

    def product() -> float:
        return (torch.tensor([1e-30]) * 1e-10).item()

    def watched(model, x, y):
        products.append(product())
        return plain(model, x, y)

    monkeypatch.setattr(mnist, "loss", watched)
    undrawn("mnist_mlp", "--dataset", "digits", "--epochs", 2)
    assert products[:2] == [0.0] * 2 and product() > 0
