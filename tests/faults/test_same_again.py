"""Same seed, same machine: the same bytes, run after run, whatever was computed before."""

from functools import partial

import numpy as np
import pytest
import torch
from helpers import content, results_of

pytestmark = pytest.mark.numbers  # again by make test-arithmetic

RUNS = {
    "linear, compiled": ("linear_recovery", "--samples", 10_000, "--engine", "compiled"),
    "linear, eager": ("linear_recovery", "--samples", 300, "--engine", "eager"),
    "network, compiled": ("ann_revisited", "--steps", 20_000, "--engine", "compiled"),
    "network, eager": ("ann_revisited", "--steps", 300, "--engine", "eager"),
    "the first hundred digits": ("mnist_mlp", "--dataset", "digits", "--epochs", 20),
    "all digits": ("mnist_mlp", "--dataset", "digits", "--images", "all", "--epochs", 5),
}


@pytest.mark.parametrize("name", RUNS)
def test_again_after_another_program_drew_numbers_and_took_two_threads(undrawn, request, name):
    """A run draws from no generator but its own, and computes with one thread."""
    request.addfinalizer(partial(torch.set_num_threads, torch.get_num_threads()))
    script, *options = RUNS[name]
    outcomes = []
    for number in (1, 2):
        torch.manual_seed(number)
        np.random.seed(number)
        torch.set_num_threads(number)
        done = undrawn(script, "--quiet", *options)
        assert done.returncode == 0, done.stderr
        outcomes.append((content(done.folder), results_of(done)))
    assert outcomes[0] == outcomes[1]
