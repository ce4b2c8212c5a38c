"""Same seed, same machine: the same bytes, run after run, with one thread and with two."""

import numba
import numpy as np
import pytest
import torch
from conftest import write_idx

RUNS = {
    "linear, fused": ("linear_recovery", "--samples", 10_000, "--repeats", 3),
    "linear, eager": ("linear_recovery", "--samples", 300, "--engine", "eager"),
    "network, fused": ("ann_revisited", "--steps", 20_000, "--repeats", 3),
    "network, eager": ("ann_revisited", "--steps", 300, "--engine", "eager"),
    "digits": ("mnist_mlp", "--dataset", "digits", "--images", "all", "--epochs", 2, "--batch-size", 64),
}


@pytest.fixture
def outcome(run_here):
    def call(name: str, threads: int):
        """The bytes of losses.npy and model.pt, the results, and the losses, of a run with so many threads."""
        script, *options = RUNS[name]
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
        try:
            done = run_here(script, "--quiet", *options)
        finally:
            torch.set_num_threads(before)
            numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
        assert done.returncode == 0, done.stderr
        results = done.metrics["results"]
        results.pop("microseconds_per_step", None)  # a time
        files = [(done.folder / file).read_bytes() for file in ("losses.npy", "model.pt")]
        return files, results, np.load(done.folder / "losses.npy")

    return call


@pytest.mark.parametrize("name", RUNS)
def test_again_and_with_another_thread(outcome, name):
    files, results, losses = outcome(name, threads=2)
    assert outcome(name, threads=2)[:2] == (files, results)
    once, alone, slowly = outcome(name, threads=1)
    if name == "digits":  # PyTorch sums a matrix product in another order where it has another number of threads
        np.testing.assert_allclose(slowly, losses, rtol=1e-4)
    else:
        assert once == files
        for key in ("weight_least_squares", "bias_least_squares", "stable_lr_limit"):  # LAPACK's order differs too
            np.testing.assert_allclose(alone.pop(key, 0), results.pop(key, 0), rtol=1e-9)
        assert alone == results


def test_losses_differ_with_the_seed(run_here, tmp_path):
    write_idx(tmp_path / "data")
    for script, *options in (("linear_recovery", "--samples", 50), ("ann_revisited", "--steps", 50),
                             ("mnist_mlp", "--epochs", 3, "--images", 50, "--data-dir", tmp_path / "data")):
        found = set()
        for seed in (0, 1):
            done = run_here(script, "--quiet", "--seed", seed, *options)
            found.add((done.folder / "losses.npy").read_bytes())
        assert len(found) == 2
