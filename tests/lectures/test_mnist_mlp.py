"""The third lecture's formulas and numbers, and its script as a user runs it, on made-up and on real images."""

from common.layers import describe
from common.onehot import one_hot
from lectures import mnist_mlp as mnist

import json
import math

import numpy as np
import pytest
import torch
from conftest import assert_contract, write_idx
from helpers import no_figures

pytestmark = pytest.mark.numbers  # again by make test-arithmetic

FIGURES = (
    "first_five.png",
    "unseen.png",
    "confusion.png",
    "mistakes.png",
    "hidden_units.png",
    "layers.png",
)


def model(seed=0, hidden=40):
    return mnist.build_model(hidden, torch.Generator().manual_seed(seed))


def test_loss_by_hand_and_as_the_lecture_writes_it():
    even = model()
    with torch.no_grad():
        for parameter in even.parameters():
            parameter.zero_()
    images, labels = torch.rand(4, 784), one_hot(torch.tensor([5, 0, 4, 1]))
    assert mnist.loss(even, images, labels).item() == pytest.approx(
        math.log(10)
    )  # ten classes, equally likely
    m = model().double()
    formula = -(labels * torch.log(m(images.double()).softmax(dim=1))).sum(dim=1).mean()
    assert mnist.loss(m, images.double(), labels.double()).item() == pytest.approx(
        formula.item(), rel=1e-12
    )


def test_gradient_of_the_loss_against_finite_differences():
    m = model().double()
    images, labels = (
        torch.rand(5, 784, dtype=torch.float64),
        one_hot(torch.arange(5), dtype=torch.float64),
    )
    mnist.loss(m, images, labels).backward()
    generator = torch.Generator().manual_seed(1)
    for parameter in m.parameters():
        flat = parameter.data.view(-1)
        for i in torch.randint(len(flat), (20,), generator=generator):
            values = []
            for step in (1e-6, -2e-6):
                flat[i] += step
                values.append(mnist.loss(m, images, labels).item())
            flat[i] += 1e-6
            assert (values[0] - values[1]) / 2e-6 == pytest.approx(
                parameter.grad.view(-1)[i].item(), abs=1e-7
            )


def test_network_is_the_lecture_s():
    text = describe(model())
    for number in (
        "# 31,400 parameters",
        "# 410 parameters",
        "4 arrays, 31,810 parameters",
        "127,496",
    ):
        assert number in text  # 127,496 bytes are Flux's 124.508 KiB
    m = model()
    bound = math.sqrt(6 / (784 + 40))
    assert 0.99 * bound < m[0].weight.abs().max() <= bound
    assert m[0].bias.abs().max() == m[2].bias.abs().max() == 0
    torch.testing.assert_close(mnist.predict(m, torch.rand(3, 784)).sum(dim=1), torch.ones(3))


def test_images_and_labels_as_vectors():
    image = torch.zeros(2, 28, 28, dtype=torch.uint8)
    image[1, 0, 1] = 255
    image[1, 1, 0] = 51
    vectors = mnist.as_vectors(image)
    assert vectors.shape == (2, 784) and vectors.dtype == torch.float32
    assert (
        vectors[1, 1] == 1
        and vectors[1, 28] == pytest.approx(0.2)
        and vectors.sum() == pytest.approx(1.2)
    )
    assert one_hot(torch.tensor(5)).tolist() == [0, 0, 0, 0, 0, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("packed", [False, True])
def test_made_up_data_set(run_here, tmp_path, packed):
    write_idx(tmp_path / "some data", packed=packed)
    done = run_here(
        "mnist_mlp", "--dataset", "mnist", "--data-dir", tmp_path / "some data", "--images", 50
    )
    assert done.returncode == 0, done.stderr
    results = assert_contract(done, "mnist_mlp", *FIGURES)
    assert (
        results["dataset"] == "mnist"
        and results["train_images"] == 50
        and results["test_images"] == 30
    )
    assert results["train_accuracy"] == 1 and results["test_accuracy"] > 0.9
    assert [five["label"] for five in results["first_five"]] == [0, 7, 4, 1, 8]
    assert sum(results["unseen"]["probabilities"]) == pytest.approx(1)
    assert 0 <= results["unseen"]["index"] < 30
    trained = model()
    trained.load_state_dict(torch.load(done.folder / "model.pt", weights_only=True))
    assert "10th image, untrained" in done.stdout and "MNIST" in done.stdout


def test_without_files_and_network_the_bundled_digits_with_a_warning(run, tmp_path):
    done = run("mnist_mlp", "--data-dir", tmp_path / "nothing")
    assert done.returncode == 0, done.stderr
    results = assert_contract(done, "mnist_mlp", *FIGURES)
    assert "warning:" in done.stderr and "bundled digits instead of MNIST" in done.stderr
    assert results["dataset"] == "digits" and results["test_accuracy"] > 0.7
    assert "scikit-learn digits" in done.stdout and "MNIST" not in done.stdout


def test_mnist_never_falls_back(run_here, tmp_path):
    (tmp_path / "nothing").mkdir()
    done = run_here("mnist_mlp", "--dataset", "mnist", "--data-dir", tmp_path / "nothing")
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("error: MNIST is not in") and done.stderr.count("\n") == 1
    for part in (
        str(tmp_path / "nothing" / "MNIST" / "raw"),
        "train-images-idx3-ubyte",
        "--dataset digits",
    ):
        assert part in done.stderr
    assert not any((tmp_path / "nothing").iterdir())


def test_a_diverged_run_says_so_everywhere(run_here, tmp_path, monkeypatch):
    write_idx(tmp_path / "data")
    plain, calls = mnist.loss, []

    def overflows(m, x, y):
        calls.append(len(x))
        return plain(m, x, y) * (1e60 if len(calls) > 4 else 1)  # beyond float32

    monkeypatch.setattr(mnist, "loss", overflows)
    done = run_here(
        "mnist_mlp", "--data-dir", tmp_path / "data", "--images", 50, "--epochs", 9, "--quiet"
    )
    assert done.returncode == 1
    assert "the loss is not finite at step 5 with learning rate 0.001" in done.stderr
    assert done.metrics["results"]["ended"] == "diverged" and done.metrics["results"]["steps"] == 5
    losses = np.load(done.folder / "losses.npy")
    assert np.isfinite(losses).tolist() == [True] * 4 + [False]
    assert "diverged at step 5 of 9: loss" in done.stdout


@pytest.mark.parametrize("seed", range(3))
def test_first_five_of_mnist(mnist_root, run_here, monkeypatch, seed):
    no_figures(monkeypatch)
    done = run_here("mnist_mlp", "--data-dir", mnist_root, "--seed", seed, "--quiet")
    results = done.metrics["results"]
    labels = [five["label"] for five in results["first_five"]]
    assert labels == [five["prediction"] for five in results["first_five"]] == [5, 0, 4, 1, 9]
    assert 0.62 < results["test_accuracy"] < 0.73 and results["train_accuracy"] == 1


def test_real_mnist_run(run, mnist_root):
    done = run("mnist_mlp", MNIST_ROOT=mnist_root)
    assert done.returncode == 0, done.stderr
    results = assert_contract(done, "mnist_mlp", *FIGURES)
    assert (
        results["dataset"] == "mnist"
        and results["parameters"] == 31_810
        and results["test_images"] == 10_000
    )
    assert results["train_accuracy"] == 1
    assert json.dumps(results["first_five"]) == json.dumps(
        [{"label": k, "prediction": k} for k in (5, 0, 4, 1, 9)]
    )


@pytest.mark.skipif(
    not torch.set_flush_denormal(False), reason="this processor computes with them only"
)
@pytest.mark.parametrize("end", ["well", "diverged", "broken off"])
def test_training_takes_numbers_under_the_least_normal_one_for_zero(run_here, monkeypatch, end):
    """Weights that decay come there, and such a step took three times as long; afterwards they are numbers again."""
    no_figures(monkeypatch)
    plain, products = mnist.loss, []

    def product() -> float:
        return (torch.tensor([1e-30]) * 1e-10).item()

    def watched(model, x, y):
        products.append(product())
        if len(products) == 2 and end == "broken off":
            raise MemoryError
        return plain(model, x, y) * (math.inf if len(products) == 2 and end == "diverged" else 1)

    monkeypatch.setattr(mnist, "loss", watched)
    done = run_here("mnist_mlp", "--dataset", "digits", "--epochs", 2)
    assert (done.returncode == 0) == (end == "well") and product() > 0
    assert products[:2] == [0.0] * 2
