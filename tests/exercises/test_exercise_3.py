"""Exercise 3: rand for randn changes nothing, unless the loss uses its arguments."""

from common.run import generator
from exercises import exercise_3 as exercise
from exercises.exercise_2 import initial_models
from lectures import ann_revisited as ann

import numpy as np
import pytest
import torch
from small_exercises import measured, text


def test_starts_are_trained_on_the_pairs():
    for row in measured(3)["kinds"]:
        draw = getattr(torch, row["kind"])
        x, y = draw(2, 1000, 2, generator=generator(0, "pairs"), dtype=torch.float64)
        first, final = [], []
        for network in initial_models(2):
            optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
            for step, (a, b) in enumerate(zip(x, y)):
                value = 0.5 * ((network(a) - b) ** 2).sum()
                if step == 0:
                    first.append(value.item())
                optimizer.zero_grad()
                value.backward()
                optimizer.step()
            final.append(0.5 * ((network(x) - y) ** 2).sum(dim=1).mean().item())
        reachable = y.mean(dim=0).clip(0, 1)  # by a sigmoid
        best = 0.5 * ((y - reachable) ** 2).sum(dim=1).mean().item()
        numbers = [row[key] for key in ("first", "final", "worst", "best_possible")]
        assert numbers == pytest.approx([np.mean(first), np.mean(final), max(final), best])
        assert row["mean_target"] == pytest.approx(y.mean(dim=0).tolist())
        assert (row["kind"] == "randn") == (y.mean(dim=0).min() < 0)


def test_no_weight_differs_unless_the_loss_uses_its_arguments(monkeypatch, tmp_path):
    assert "0 of the 23 parameters differ" in text(3, measured(3))
    monkeypatch.setattr(ann, "loss", lambda model, x, y: ((model(x) - y) ** 2).sum())
    results, _ = exercise.measure(tmp_path)
    assert results["weights_that_differ"] > 20


def test_the_page_names_each_kinds_own_numbers():
    results = measured(3)
    numbers = {"first": 0.3, "final": 0.4, "worst": 0.5, "best_possible": 0.6}
    results["kinds"][1] |= numbers | {"mean_target": [0.1, 0.2]}
    page = text(3, results)
    heads = (
        "loss of the first steps | final loss, mean of the starts | final loss, worst start "
        "| best possible loss"
    )
    assert f"| pairs of | mean of the targets | {heads} |" in page
    assert "| rand | 0.100, 0.200 | 0.3000 | 0.4000 | 0.5000 | 0.6000 |" in page
