"""Same seed, same machine: the same bytes, run after run, whatever was computed before."""

import numpy as np
import pytest
import torch
from helpers import content, no_figures, results_of

pytestmark = pytest.mark.numbers  # again by make test-arithmetic

RUNS = {
    "linear, compiled": ("linear_recovery", "--samples", 10_000, "--engine", "compiled"),
    "linear, eager": ("linear_recovery", "--samples", 300, "--engine", "eager"),
    "network, compiled": ("ann_revisited", "--steps", 20_000, "--engine", "compiled"),
    "network, eager": ("ann_revisited", "--steps", 300, "--engine", "eager"),
    "the first hundred digits": ("mnist_mlp", "--dataset", "digits", "--epochs", 20),
    "all digits": ("mnist_mlp", "--dataset", "digits", "--images", "all", "--epochs", 5),
}


@pytest.fixture
def outcome(run_here, monkeypatch):
    no_figures(monkeypatch)

    def call(name: str, threads: int):
        """The bytes and the results of a run that begins with so many threads."""
        script, *options = RUNS[name]
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            done = run_here(script, "--quiet", *options)
        finally:
            torch.set_num_threads(before)
        assert done.returncode == 0, done.stderr
        return content(done.folder), results_of(done)

    return call


@pytest.mark.parametrize("name", RUNS)
def test_again_and_where_another_program_had_two_threads(outcome, name):
    """A run computes with one, also where many images are multiplied at once."""
    once = outcome(name, threads=1)
    assert outcome(name, threads=1) == once
    assert outcome(name, threads=2) == once


def test_what_was_drawn_before_changes_nothing(outcome):
    """No numbers are from PyTorch's own generator, which another program may have moved."""
    for name in ("linear, eager", "network, compiled", "all digits"):
        torch.manual_seed(1)
        once = outcome(name, threads=1)
        torch.manual_seed(2)
        np.random.seed(3)
        assert outcome(name, threads=1) == once
