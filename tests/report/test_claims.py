"""The lecture's claims beside what was computed: tolerances, settings, `--check`."""

from report import claims, page
from report.runs import SOURCES, Run

import math
import re
import shutil

import pytest
from report_helpers import change, html

MEASURED = {  # of the runs made up for these tests, and what agrees
    ("linear_recovery", "averaged_weight_error"): ("0.004", "at most 0.015"),
    ("linear_recovery", "averaged_bias_error"): ("0.03", "at most 0.15"),
    ("linear_recovery", "last_weight_error"): ("0.05", "at most 0.12"),
    ("linear_recovery", "last_losses"): ("0.081", "0.06 to 0.12"),
    ("linear_recovery_raw", "overflow"): ("overflows at step 232", "150 to 400"),
    ("ann_revisited", "parameters"): ("23", "exactly"),
    ("ann_revisited", "layers"): ("6, 9, 8", "exactly"),
    ("ann_revisited", "arrays"): ("6", "exactly"),
    ("ann_revisited", "flux_bytes"): ("568 bytes", "exactly"),
    ("ann_revisited", "points_correct"): ("10 of 10", "exactly"),
    ("mnist_mlp", "labels"): ("5, 0, 4, 1, 9", "exactly"),
    ("mnist_mlp", "first_five"): ("5", "exactly"),
    ("mnist_mlp", "parameters"): ("31,810", "exactly"),
    ("mnist_mlp", "layers"): ("31,400, 410", "exactly"),
    ("mnist_mlp", "flux_kib"): ("124.508 KiB", "exactly"),
    ("mnist_mlp", "train_accuracy"): ("100.0 %", "at least 99.0 %"),
    ("mnist_mlp", "test_accuracy"): ("68.0 %", "62.0 % to 72.0 %"),
    ("mnist_all", "test_accuracy"): ("97.8 %", "at least 97.5 %"),
}


def test_what_runs_computed_stands_beside_its_claim(complete):
    runs, found = page.read_all(complete), {}
    for line in claims.verdicts(runs):
        found[line.claim.run, line.claim.fact] = line.measured, line.claim.tolerance
    loss = runs["ann_revisited"].metrics["results"]["final_loss"]
    assert found == MEASURED | {("ann_revisited", "final_loss"): (f"{loss:.3g}", "at most 0.08")}


@pytest.mark.parametrize("claim", claims.CLAIMS, ids=lambda claim: f"{claim.run}-{claim.fact}")
def test_a_claim_differs_just_outside_its_tolerance(claim):
    if isinstance(claim.expected, str):
        inside, outside = {claim.expected}, {f"{claim.expected}9"}
    else:
        inside, (low, high) = set(claim.expected), claim.expected
        outside = {math.nextafter(low, -math.inf), math.nextafter(high, math.inf)} - inside
    good = claims.EXPLAINED if claim.explained else claims.AGREES
    for values, mark in ((inside, good), (outside, claims.DIFFERS)):
        for value in values:
            facts = {"config": {claim.fact: value}, "results": {}}
            assert claims.judge(claim, Run(SOURCES[0], "read", metrics=facts)).mark == mark


OTHER_SETTINGS = [
    ("linear_recovery", "config", {"lr": 0.02}, "lr 0.02 instead of 0.01"),
    ("linear_recovery", "config", {"noise": 0.1}, "noise 0.1 instead of 0.2"),
    ("linear_recovery_raw", "config", {"raw": False}, "raw false instead of true"),
    ("ann_revisited", "results", {"steps": 3000}, "steps 3,000 instead of 1,000,000"),
    ("ann_revisited", "config", {"train_data": "rand"}, "train_data rand instead of randn"),
    ("mnist_mlp", "results", {"dataset": "digits"}, "dataset digits instead of mnist"),
    ("mnist_mlp", "config", {"hidden": 30}, "hidden 30 instead of 40"),
    ("mnist_all", "results", {"train_images": 999}, "train_images 999 instead of 60,000"),
    ("mnist_all", "results", {"steps": 938}, "steps 938 instead of 18,760"),
]


@pytest.mark.parametrize("run, part, values, sentence", OTHER_SETTINGS)
def test_other_settings_are_one_line_and_no_claim(runs, command, run, part, values, sentence):
    change(runs / run, part, **values)
    of_its_own = run in ("linear_recovery_raw", "mnist_all")
    of_whom = "the settings of its command" if of_its_own else "the lecture's settings"
    line = f"Not run with {of_whom}: {sentence}."
    done = command("--runs", runs, "--check")
    assert done.err == f"error: {run} was run with other settings, see above\n"
    assert f"{run}: {line}" in done.out.splitlines()
    text = html(runs).replace("&#39;", "'")
    assert line in text and "18 agree" in text and text.count("Not run with the") == 1


NONE = {"weight_error": None, "bias_error": None}
MIXED = [{"label": a, "prediction": b} for a, b in zip((5, 0, 4, 1, 9), (5, 6, 4, 9, 1))]
# A run, what its results are, how many claims differ then, and what `--check` says of it.
CHANGED = [
    ("ann_revisited", {"points_correct": 9}, 1, r"plots as before +9 of 10 +exactly"),
    ("ann_revisited", {"points_correct": 9}, 1, r"correctly at the end: One start in ten"),
    ("mnist_mlp", {"first_five": MIXED}, 1, r"these five, classified correctly +all +2 +exactly"),
    ("linear_recovery_raw", {"ended": "finished", "steps": 10_000}, 1, r" no: finished"),
    ("linear_recovery", {"averaged": NONE, "last": NONE}, 3, r"not measured"),
]


@pytest.mark.parametrize("run, results, count, said", CHANGED)
def test_check_names_what_differs(runs, command, run, results, count, said):
    change(runs / run, "results", **results)
    done = command("--runs", runs, "--check")
    assert (done.code, done.err) == (1, f"error: {count} of 19 claims differ, see above\n")
    assert re.search(rf"^✗ (differs +)?{run}.*{said}", done.out, re.MULTILINE)
    assert done.out.count("✗ differs") == count


def test_check_of_good_runs_and_without_some(runs, command):
    done = command("--runs", runs, "--check")
    assert (done.code, done.err) == (0, "") and done.out.count("✓ agrees") == 18
    assert done.out.splitlines()[-1] == "18 agree, 1 differs for a known reason, 0 not run"
    assert done.out.count(": Run with the lecture's settings.\n") == 3
    assert not (runs / "report.html").exists()
    shutil.rmtree(runs / "linear_recovery_raw")
    shutil.rmtree(runs / "mnist_all")  # neither is the lecture's
    change(runs / "linear_recovery", "results", steps=300, ended="diverged")  # is no other setting
    done = command("--runs", runs, "--check")
    assert done.err == "" and done.out.count("- not run ") == 2
    assert done.out.splitlines()[-1] == "17 agree, 0 differ for a known reason, 2 not run"
    shutil.rmtree(runs / "mnist_mlp")
    done = command("--runs", runs, "--check")
    assert done.err == "error: mnist_mlp was not run: python lectures/mnist_mlp.py\n"
