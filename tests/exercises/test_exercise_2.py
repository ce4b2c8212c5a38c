"""Exercise 2: the steps of each way to train, what is counted, and the page's sentences."""

from common.run import generator
from exercises import exercise_2 as exercise
from lectures import ann_revisited as ann

import functools

import numpy as np
import pytest
import torch
from helpers import LABELS, POINTS, sigmoid_network, states
from small_exercises import QUICK, measured, text


def test_start_k_is_the_lecture_s_run_with_seed_k(undrawn):
    method = functools.partial(exercise.gradient_descent, lr=2.0)
    seen = exercise.history(QUICK._replace(steps=400, method=method))
    for start in range(3):
        done = undrawn("ann_revisited", "--steps", 400, "--lr", 2, "--seed", start)
        outputs = sigmoid_network(states(done)[1], POINTS)[-1]
        correct = outputs.argmax(axis=1) == LABELS.argmax(axis=1)
        assert seen.correct[-1, start].tolist() == correct.tolist()
        assert seen.losses[-1, start] == pytest.approx(done.metrics["results"]["final_loss"])
    assert 0 < seen.correct[-1].sum() < 30, "all correct or none, so that nothing was tested"


def assert_steps_are(final, make, loss) -> None:
    """Each start's parameters are those of 25 steps alone, each on `loss(network, step)`."""
    for start, network in enumerate(exercise.initial_models(3)):
        optimizer = make(network.parameters())
        for step in range(25):
            optimizer.zero_grad()
            loss(network, step).backward()
            optimizer.step()
        for name, parameter in network.named_parameters():
            torch.testing.assert_close(final[name][start], parameter, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "make, settings",
    [(torch.optim.SGD, {"lr": 0.5, "momentum": 0.9}), (torch.optim.Adam, {"lr": 0.01})],
)
def test_an_optimizer_of_all_starts_makes_the_steps_of_each_alone(make, settings):
    *_, final = exercise.optimizer(exercise.initial_models(3), [10, 15], make, **settings)
    alone = functools.partial(make, **settings)
    assert_steps_are(final, alone, lambda net, step: ann.loss(net, ann.POINTS, ann.LABELS))


def test_one_point_a_step_takes_the_points_drawn():
    *_, final = exercise.one_point(exercise.initial_models(3), [10, 15], lr=0.5)
    source = generator(0, "points")
    draws = torch.cat([torch.randint(10, (count,), generator=source) for count in (10, 15)])

    def loss(network, step):
        point = draws[step]
        return 0.5 * ((network(ann.POINTS[point]) - ann.LABELS[point]) ** 2).sum()

    assert_steps_are(final, functools.partial(torch.optim.SGD, lr=0.5), loss)


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
    correct = np.ones((5, 5, 10), bool)
    correct[:4] = False
    correct[3, :, :7] = True  # after 100 steps, 7 points of each start
    correct[3, 0] = True
    correct[3, 1:3, 9] = True
    losses = np.arange(25.0).reshape(5, 5)
    found = exercise.plateau(exercise.History(np.array([1, 5, 10, 100, 1000]), correct, losses))
    hardest = [("(0.9, 0.2)", 4), ("(0.4, 0.4)", 4), ("(0.7, 0.6)", 2)]
    assert found["early"] == {"steps": 100, "all_correct": 1, "half": 8, "hardest": hardest}
    shown = [(row["steps"], row["mean"]) for row in found["loss"]]
    assert shown == [(1, 2), (10, 12), (100, 17), (1000, 22)]
    assert [found["loss"][0][key] for key in ("low", "high")] == pytest.approx([0.4, 3.6])


def test_the_page_names_each_settings_own_numbers():
    results = measured(2) | {"most": 0.85, "final_share": 0.4321}
    results["settings"][0] |= {"reached": 456, "starts": 789, "steps": 5000, "half": 321}
    results["settings"][2] |= {"setting": "the quick one", "starts": 90, "half": 12, "most": 34}
    results["early"] |= {"steps": 500, "all_correct": 3, "half": 6, "hardest": [["(1, 2)", 77]]}
    results["loss"] = [{"steps": 70, "mean": 0.5, "low": 0.25, "high": 0.75}]
    results["failures"] = [
        {"wrong": ["(1, 2)"], "starts": 8, "seeds": [5, 6], "least_loss": 0.1, "largest_loss": 0.9}
    ]
    page = text(2, results)
    for sentence in (
        "The million data points stand for 5,000 steps on the same ten points. With the lecture's "
        "learning rate 456 of 789 starts classify all ten points correctly at some evaluation, "
        "43.2 % after the last step. "
        "Half of the starts get there by 321 steps, 85 %: not by 5,000.",
        "with the quick one, half of 90 starts are there by 12 steps and 85 % by 34.",
        "| steps | mean loss | 10 % of the starts are below | 10 % of the starts are above |",
        "| 70 | 0.5 | 0.25 | 0.75 |",
        "After 500 steps 3 of 789 starts classify all ten points correctly, half of them at "
        "least 6. The points that most starts misclassify then: (1, 2) (in 77 starts).",
        "| points wrong | starts | least loss | largest loss | seeds, for example |",
        "| (1, 2) | 8 | 0.1 | 0.9 | 5, 6 |",
        "| setting, learning rate | steps given | reach ten of ten | half by | 85 % by |",
        "| the lecture | 5,000 | 456 of 789 | 321 | not by 5,000 |",
    ):
        assert sentence in page
