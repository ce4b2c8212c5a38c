"""The lecture's network on all images: its batches, rates and files, on made-up digits."""

from common import datasets
from exercises import exercise_4, mnist_all
from exercises.distort import Distortions, distorted

import sys

import numpy as np
import pytest
import torch
from conftest import KEYS
from helpers import cross_entropy, digit_probabilities, load_state, no_figures, write_digits
from torch.optim.optimizer import register_optimizer_step_pre_hook

pytestmark = pytest.mark.numbers  # again by make test-arithmetic

IMAGES, LABELS = torch.rand(25, 784), torch.arange(25)[:, None]


def batches(size, epochs, distort=None, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return [*mnist_all.batches(IMAGES, LABELS, size, epochs, distort, draw)]


def test_batches_cover_every_image_once_an_epoch():
    seen = [(x, y[:, 0].tolist()) for x, y in batches(10, 2)]
    assert [len(y) for _, y in seen] == [10, 10, 5] * 2
    assert all(torch.equal(x, IMAGES[y]) for x, y in seen)  # each image with its own label
    epochs = [[image for _, y in part for image in y] for part in (seen[:3], seen[3:])]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(25))
    assert epochs[0] != epochs[1] and epochs[0] != sorted(epochs[0])  # shuffled, each time anew
    other = [image for _, y in batches(10, 1, seed=1) for image in y[:, 0].tolist()]
    assert other != epochs[0]


def test_distorted_copies_are_others_in_every_epoch():
    seen = batches(1, 2, distort=Distortions())
    one, two = ({y.item(): x for x, y in part} for part in (seen[:25], seen[25:]))
    for label in range(25):
        assert not torch.equal(one[label], two[label])
        assert not torch.equal(one[label], IMAGES[[label]])


def test_turn_and_slant_are_drawn_apart_and_pens_are_wide_and_narrow():
    bars, none = torch.zeros(2000, 28, 28), Distortions(0, 0, 0, 0, 0, 0)
    bars[:, 4:24, 12:16] = 1

    def copies(images=bars, **most):
        found = distorted(images.flatten(1), torch.Generator(), none._replace(**most))
        return found.reshape(bars.shape)

    def lean(images):
        column, row = torch.arange(28) - 13.5, torch.arange(28)[:, None] - 13.5
        return (images * row * column).sum(dim=(1, 2)) / (images * row**2).sum(dim=(1, 2))

    assert torch.allclose(copies(), bars, atol=1e-5)
    ink = copies(pen=1).sum(dim=(1, 2)) / bars[0].sum()
    assert ink.min() < 0.6 and ink.max() > 1.4
    # A bar that lies turns as one that stands: its end goes down where the other's goes to the left.
    lying = copies(bars.mT, turn=0.15)
    assert torch.allclose(lean(copies(turn=0.15)), -lean(lying.mT), atol=0.02)
    # The variance of a uniform number in +-0.15 is 0.15^2 / 3; those of turn and slant add up.
    assert lean(copies(turn=0.15, slant=0.15)).std().item() == pytest.approx(
        0.15 * (2 / 3) ** 0.5, rel=0.05
    )


@pytest.fixture
def outcome(run_here, monkeypatch, tmp_path):
    """A function that makes a short run on 60 made-up images: losses, metrics, model, data."""
    no_figures(monkeypatch)
    data = write_digits(tmp_path / "data")
    monkeypatch.setitem(sys.modules, "lectures.mnist_all", mnist_all)  # where `run_here` looks

    def call(*options):
        words = ("--data-dir", tmp_path / "data", "--batch-size", 25, "--epochs", 4, "--hidden", 9)
        done = run_here("mnist_all", *words, "--quiet", *options)
        assert done.returncode == 0, done.stderr
        done.data, done.losses = data, np.load(done.folder / "losses.npy")
        done.state = load_state(done.folder / "model.pt")
        return done

    return call


def test_a_short_run(outcome):
    done = outcome()
    results, config = done.metrics["results"], done.metrics["config"]
    assert done.metrics["script"] == "mnist_all" and set(KEYS["mnist_mlp"].split()) <= set(results)
    assert len(done.losses) == results["steps"] == 12  # three batches, four epochs
    assert config["images"] == results["train_images"] == 60 and config["no_distort"] is False
    known = digit_probabilities(done.state, done.data.x_train)
    unseen = digit_probabilities(done.state, done.data.x_test)
    right = (known.argmax(axis=1) == done.data.y_train).mean()
    right_unseen = (unseen.argmax(axis=1) == done.data.y_test).mean()
    assert results["train_accuracy"] == pytest.approx(right) != pytest.approx(right_unseen)
    assert results["test_accuracy"] == pytest.approx(right_unseen)
    expected = cross_entropy(known, done.data.y_train)
    assert results["final_loss"] == pytest.approx(expected, rel=1e-5)


def test_the_one_cycle_rises_to_the_rate_and_falls_to_nearly_nothing(outcome):
    groups = []
    hook = register_optimizer_step_pre_hook(
        lambda adam, *_: groups.append(adam.param_groups[0].copy())
    )
    with hook:
        outcome("--epochs", 8, "--lr", 0.03)
    rates = np.array([group["lr"] for group in groups])
    assert len(rates) == 24  # as many as the run's steps
    top = rates.argmax()
    assert 0.0295 < rates[top] < 0.03001 and top == 2  # 12 % of 24 steps
    assert (np.diff(rates[: top + 1]) > 0).all() and (np.diff(rates[top:]) < 0).all()
    assert rates[0] <= 0.03 / 20 and rates[-1] < 0.03 / 1000
    assert {group["betas"] for group in groups} == {(0.9, 0.999)}  # Flux's


def test_what_its_options_change(outcome):
    losses = outcome().losses
    decayed = outcome("--weight-decay", 0.1).losses
    assert decayed[0] == losses[0] and decayed[2] != losses[2]
    assert outcome("--seed", 1).losses[0] != losses[0]
    assert len(outcome("--batch-size", 60).losses) == len(outcome("--images", 20).losses) == 4


@pytest.mark.parametrize("steps", (1, 7, 10))  # at 10 a rise of 10 % would end where it begins
def test_runs_may_be_short(outcome, steps):
    assert len(outcome("--batch-size", 60, "--epochs", steps).losses) == steps


def test_exercise_4_trains_in_the_same_way(outcome, tmp_path):
    tuned = {"batch_size": 25, "lr": 0.02, "weight_decay": 0.01, "epochs": 3, "least_steps": 5}
    words = "--no-distort --hidden 40 --lr 0.02 --weight-decay 0.01 --epochs 3 --seed 2".split()
    data = datasets.load("mnist", tmp_path / "data")
    model = exercise_4.tuned_model(data, 60, 2, tuned)
    state = outcome("--dataset", "mnist", *words).state
    for name, values in model.state_dict().items():
        np.testing.assert_allclose(state[name], values, rtol=1e-5, atol=1e-6)


def test_copies_are_distorted_unless_that_is_not_wanted(outcome):
    """The first loss on all images is the starting model's, on them as they are, or on others."""
    for words, same in ((("--no-distort",), True), ((), False)):
        done = outcome("--batch-size", 60, *words)
        initial = load_state(done.folder / "model_initial.pt")
        expected = cross_entropy(digit_probabilities(initial, done.data.x_train), done.data.y_train)
        assert (done.losses[0] == pytest.approx(expected, rel=1e-5)) == same
