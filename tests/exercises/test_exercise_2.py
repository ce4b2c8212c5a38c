"""Exercise 2: the steps of each way to train, what is counted, and the page's sentences."""

from common.run import generator
from exercises import exercise_2 as exercise
from lectures import ann_revisited as ann

import functools

import numpy as np
import pytest
import torch
from helpers import load_state
from small_exercises import QUICK, measured, small_options, text


@pytest.fixture(autouse=True)
def small():
    with small_options():
        yield


def plain_steps(network, make, count, batches=lambda step: (ann.POINTS, ann.LABELS, 0.5 / 10)):
    """Trains one network step by step; returns after which steps all ten points were correct."""
    optimizer, correct = make(network.parameters()), []
    for step in range(count):
        x, y, scale = batches(step)
        optimizer.zero_grad()
        (scale * ((network(x) - y) ** 2).sum()).backward()
        optimizer.step()
        output = network(ann.POINTS)
        if ((output[:, 0] > output[:, 1]) == (ann.LABELS[:, 0] == 1)).all():
            correct.append(step + 1)
    return correct


def assert_states(states, start: int, network) -> None:
    """A start's parameters are those of the network."""
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(states[name][start], parameter, rtol=1e-9, atol=1e-12)


def last(states):
    *_, final = states
    return final


def test_start_k_is_the_lectures_run_with_seed_k(run_here):
    done = run_here("ann_revisited", "--steps", 200, "--seed", 2)
    models = exercise.initial_models(3)
    for file, counts in (("model_initial.pt", [0]), ("model.pt", [150, 50])):
        states = last(exercise.gradient_descent(models, counts, lr=0.01))
        for name, saved in load_state(done.folder / file).items():
            np.testing.assert_allclose(states[name][2].detach(), saved, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "make, settings",
    [(torch.optim.SGD, {"lr": 0.5, "momentum": 0.9}), (torch.optim.Adam, {"lr": 0.01})],
)
def test_an_optimizer_of_all_starts_makes_the_steps_of_each_alone(make, settings):
    states = last(exercise.optimizer(exercise.initial_models(3), [10, 15], make, **settings))
    for start, network in enumerate(exercise.initial_models(3)):
        plain_steps(network, functools.partial(make, **settings), 25)
        assert_states(states, start, network)


def test_one_point_a_step_takes_the_points_drawn():
    states = last(exercise.one_point(exercise.initial_models(2), [8, 12], lr=0.5))
    source = generator(0, "points")
    draws = torch.cat([torch.randint(10, (count,), generator=source) for count in (8, 12)])
    for start, network in enumerate(exercise.initial_models(2)):
        plain_steps(
            network,
            functools.partial(torch.optim.SGD, lr=0.5),
            20,
            lambda step: (ann.POINTS[draws[step]], ann.LABELS[draws[step]], 0.5),
        )
        assert_states(states, start, network)


def test_history_has_the_points_and_losses_of_plain_steps():
    setting = QUICK._replace(steps=400, method=functools.partial(QUICK.method, lr=2.0))
    seen = exercise.history(setting)
    for start, network in enumerate(exercise.initial_models(3)):
        plain_steps(network, functools.partial(torch.optim.SGD, lr=2.0), 400)
        output = network(ann.POINTS)
        correct = (output[:, 0] > output[:, 1]) == (ann.LABELS[:, 0] == 1)
        assert seen.correct[-1, start].tolist() == correct.tolist()
        loss = ann.loss(network, ann.POINTS, ann.LABELS).item()
        assert seen.losses[-1, start] == pytest.approx(loss, rel=1e-6)
    assert 0 < seen.correct[-1].sum() < 30, "all correct or none, so that nothing was tested"


def test_eval_steps_have_the_tenths_among_them():
    steps = exercise.eval_steps(1_000_000)
    assert steps[0] == 1_000 and {10_000, 100_000, 1_000_000} <= set(steps.tolist())
    assert (np.diff(np.log(steps[1:])) < 1.1 * exercise.GROWTH).all()


def test_a_start_counts_from_the_first_time_that_all_its_points_are_correct():
    correct = np.zeros((3, 2, 10), bool)
    correct[1, 0] = correct[2, 1] = True  # the first loses it again
    seen = exercise.History(np.array([10, 20, 30]), correct, np.zeros((3, 2)))
    assert [exercise.steps_until(seen, share) for share in (0.5, 1)] == [20, 30]
    correct[2, 1] = False
    assert exercise.steps_until(seen, 0.6) is None
    row = exercise.summary(QUICK, seen)
    assert (row["reached"], row["half"], row["most"]) == (1, 20, None)


def test_failures_are_grouped_by_the_points_misclassified():
    correct = np.ones((2, 4, 10), bool)
    correct[1, [0, 3], 4] = False
    correct[1, 2, [0, 1]] = False
    losses = np.array([[9, 9, 9, 9], [0.5, 0.1, 0.7, 0.3]])
    keys = ("wrong", "starts", "seeds", "least_loss", "largest_loss")
    found = exercise.failures(exercise.History(np.array([10, 20]), correct, losses))
    assert [tuple(group[key] for key in keys) for group in found] == [
        (["(0.4, 0.2)"], 2, [0, 3], 0.3, 0.5),
        (["(0.1, 0.1)", "(0.3, 0.4)"], 1, [2], 0.7, 0.7),
    ]


def test_half_of_the_starts_reach_the_count_or_exceed_it():
    counts = np.array([[5, 8, 9, 9], [1, 2, 3, 10], [4, 6, 6, 7]])
    assert exercise.reached_by_half(counts).tolist() == [9, 3, 6]


def test_the_plateau_is_described_after_a_tenth_of_the_steps():
    correct = np.ones((4, 5, 10), bool)
    correct[:3] = False
    correct[2, :, :7] = True  # after 100 steps, 7 points of each start
    correct[2, 0] = True
    correct[2, 1:3, 9] = True
    losses = np.arange(20.0).reshape(4, 5)
    found = exercise.plateau(exercise.History(np.array([1, 10, 100, 1000]), correct, losses))
    assert found["early"] == {
        "steps": 100,
        "all_correct": 1,
        "half": 8,
        "hardest": [("(0.9, 0.2)", 4), ("(0.4, 0.4)", 4), ("(0.7, 0.6)", 2)],
    }
    assert [row["mean"] for row in found["loss"]] == [2, 7, 12, 17]
    assert found["loss"][0]["low"] == pytest.approx(0.4)
    assert found["loss"][0]["high"] == pytest.approx(3.6)


def test_the_page_names_each_settings_own_numbers():
    results = measured(2) | {"most": 0.85, "final_share": 0.4321}
    results["settings"][0] |= {"reached": 456, "starts": 789, "steps": 5000, "half": 321}
    results["settings"][2] |= {"setting": "the quick one", "starts": 90, "half": 12, "most": 34}
    results["early"] |= {"steps": 500, "all_correct": 3, "half": 6}
    page = text(2, results)
    for sentence in (
        "They are 5,000 steps on the same ten points. With the lecture's learning rate 456 of 789 "
        "starts classify all ten points correctly at some evaluation, 43.2 % after the last step. "
        "Half of the starts get there by 321 steps, 85 %: not by 5,000.",
        "the quick one has half of 90 starts there by 12 steps and 85 % by 34.",
        "After 500 steps 3 of 789 starts classify all ten points correctly, half of them at "
        "least 6.",
    ):
        assert sentence in page
