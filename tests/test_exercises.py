"""The exercises: their measurements against slow and plain ones, and the page they make, in small."""

import functools
import json

import numpy as np
import pytest
import torch

from common import outputs
from exercises import other_data, page, rand_for_randn, samples, steps, unseen
from lectures import ann_revisited as ann


def test_enough_is_where_it_stays_good():
    errors = np.full((20, 5), 0.01)
    errors[:2, 2] = 1  # two of twenty are off at the third look: 90 %
    assert samples.enough(np.array([1, 2, 4, 8, 16]), errors, 0.1) == 8
    assert samples.enough(np.array([1, 2, 4, 8, 16]), errors, 0.001) is None
    assert samples.enough(np.array([1, 2, 4, 8, 16]), errors, 2) == 1


def single_steps(network, make, count, batches=lambda step: (ann.POINTS, ann.LABELS, 0.5 / 10)):
    optimizer = make(network.parameters())
    for step in range(count):
        x, y, scale = batches(step)
        optimizer.zero_grad()
        (scale * ((network(x) - y) ** 2).sum()).backward()
        optimizer.step()


@pytest.mark.parametrize("make", [functools.partial(torch.optim.SGD, lr=0.5, momentum=0.9),
                                  functools.partial(torch.optim.Adam, lr=0.01)])
def test_all_starts_at_once_make_the_steps_of_each_alone(make):
    networks, alone = steps.models(3), steps.models(3)
    advance = steps.optimizer(networks, make)
    advance(10)
    advance(15)
    for together, network in zip(networks, alone):
        single_steps(network, make, 25)
        for a, b in zip(together.parameters(), network.parameters()):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_one_point_a_step_takes_the_points_drawn():
    pytest.importorskip("numba")
    (network,), (alone,) = steps.models(1), steps.models(1)
    advance = steps.one_point([network], 0.5)
    advance(7)
    advance(13)
    draws = torch.randint(10, (100_000,), generator=torch.Generator().manual_seed(10_000))
    single_steps(alone, functools.partial(torch.optim.SGD, lr=0.5), 20,
                 lambda step: (ann.POINTS[draws[step]], ann.LABELS[draws[step]], 0.5))
    for a, b in zip(network.parameters(), alone.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


SMALL = [(samples, "STARTS", 3), (samples, "STEPS", 400), (steps, "STARTS", 3), (steps, "STEPS", 120_000),
         (steps, "SETTINGS", {"the lecture": (lambda m: steps.gradient_descent(m, 0.01), 120_000),
                              "quick": (lambda m: steps.gradient_descent(m, 5.0), 3_000)}),
         (rand_for_randn, "STARTS", 2), (rand_for_randn, "PAIRS", 3_000), (rand_for_randn, "PLAIN_STEPS", 20),
         (unseen, "SIZES", (100, 300)), (unseen, "SEEDS", 2), (unseen, "LEAST_STEPS", 20)]


def test_the_page_in_small(tmp_path, monkeypatch):
    pytest.importorskip("numba")
    for module, name, value in SMALL:
        monkeypatch.setattr(module, name, value)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # nothing is downloaded
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    sections = []
    for number, exercise in page.EXERCISES.items():
        results, figures = exercise.measure(tmp_path)
        outputs.save_json(tmp_path / "metrics.json", results)
        for name, figure in figures.items():
            outputs.save_figure(tmp_path / name, figure)
        text = exercise.text(json.loads((tmp_path / "metrics.json").read_text()), page.table)
        assert text.startswith(f"## {number}. ")
        for name in figures:
            assert f"(figures/exercise_{number}_{name})" in text
        sections.append(text)
    whole = "\n".join(sections)
    assert "nan" not in whole and "None" not in whole and "equal bit for bit" in whole
    assert other_data.on_disk("digits", tmp_path) and not other_data.on_disk("mnist", tmp_path)
    assert "Not on this disk, and so not run: MNIST, Fashion-MNIST, KMNIST" in whole
