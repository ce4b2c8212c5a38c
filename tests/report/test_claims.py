"""The lecture's claims beside what was computed: tolerances, settings, `--check`."""

from report import claims, page
from report.runs import PARTS, SOURCES, Run

import json
import math
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from report_helpers import PROJECT, change, html


def source(name: str):
    return next(source for source in SOURCES if source.name == name)


EXPECTED = {  # of each claim a value just inside, one just outside; how the first is printed
    ("linear_recovery", "averaged_weight_error"): (0.0149, 0.0151, "0.015"),
    ("linear_recovery", "averaged_bias_error"): (0.149, 0.151, "0.15"),
    ("linear_recovery", "last_weight_error"): (0.119, 0.121, "0.12"),
    ("linear_recovery", "last_losses"): (0.119, 0.121, "0.119"),
    ("linear_recovery_raw", "overflow"): (400, 401, "overflows at step 400"),
    ("ann_revisited", "parameters"): (23, 22, "23"),
    ("ann_revisited", "layers"): ("6, 9, 8", "6, 9, 9", "6, 9, 8"),
    ("ann_revisited", "arrays"): (6, 7, "6"),
    ("ann_revisited", "flux_bytes"): (568, 569, "568 bytes"),
    ("ann_revisited", "points_correct"): (10, 9, "10 of 10"),
    ("ann_revisited", "final_loss"): (0.0799, 0.0801, "0.0799"),
    ("mnist_mlp", "labels"): ("5, 0, 4, 1, 9", "5, 0, 4, 1, 8", "5, 0, 4, 1, 9"),
    ("mnist_mlp", "parameters"): (31_810, 31_811, "31,810"),
    ("mnist_mlp", "layers"): ("31,400, 410", "31,400, 411", "31,400, 410"),
    ("mnist_mlp", "flux_kib"): (124.5078125, 124.51, "124.508 KiB"),
    ("mnist_mlp", "first_five"): (5, 4, "5"),
    ("mnist_mlp", "train_accuracy"): (0.99, 0.989, "99.0 %"),
    ("mnist_mlp", "test_accuracy"): (0.621, 0.619, "62.1 %"),
    ("mnist_all", "test_accuracy"): (0.9751, 0.9749, "97.5 %"),
}


@pytest.mark.parametrize("claim", claims.CLAIMS, ids=lambda claim: f"{claim.run}-{claim.fact}")
def test_each_claim_has_its_tolerance(claim, monkeypatch):
    inside, outside, printed = EXPECTED[claim.run, claim.fact]
    run = Run(source(claim.run), "read")
    monkeypatch.setattr(claims, "facts", lambda run: {claim.fact: inside})
    verdict = claims.judge(claim, run)
    assert verdict.mark == (claims.EXPLAINED if claim.explained else claims.AGREES)
    assert verdict.measured == printed
    monkeypatch.setattr(claims, "facts", lambda run: {claim.fact: outside})
    assert claims.judge(claim, run).mark == claims.DIFFERS


def test_every_claim_was_tried():
    assert {(claim.run, claim.fact) for claim in claims.CLAIMS} == set(EXPECTED)


def test_what_runs_computed_stands_beside_its_claim(complete):
    lines = claims.verdicts(page.read_all(complete))
    measured = {(line.claim.run, line.claim.fact): line.measured for line in lines}
    assert measured["linear_recovery", "averaged_weight_error"] == "0.004"
    assert measured["linear_recovery", "averaged_bias_error"] == "0.03"
    assert measured["linear_recovery", "last_weight_error"] == "0.05"
    assert measured["linear_recovery", "last_losses"] == "0.081"
    assert measured["linear_recovery_raw", "overflow"] == "overflows at step 232"
    assert measured["ann_revisited", "layers"] == "6, 9, 8"
    assert measured["ann_revisited", "flux_bytes"] == "568 bytes"
    assert measured["mnist_mlp", "labels"] == "5, 0, 4, 1, 9"
    assert measured["mnist_mlp", "layers"] == "31,400, 410"
    assert measured["mnist_mlp", "flux_kib"] == "124.508 KiB"
    assert measured["mnist_mlp", "test_accuracy"] == "68.0 %"
    assert measured["mnist_all", "test_accuracy"] == "97.8 %"


def test_the_first_five_are_counted_one_by_one(runs):
    five = [{"label": a, "prediction": b} for a, b in zip((5, 0, 4, 1, 9), (5, 6, 4, 9, 1))]
    change(runs / "mnist_mlp", "results", first_five=five)
    lines = claims.verdicts(page.read_all(runs))
    found = {line.claim.fact: line for line in lines if line.claim.run == "mnist_mlp"}
    assert found["first_five"].measured == "2"
    assert found["first_five"].mark == claims.DIFFERS
    assert found["labels"].mark == claims.AGREES


@pytest.mark.parametrize(
    ("run", "part", "values", "sentence"),
    [
        ("linear_recovery", "config", {"lr": 0.02}, "lr 0.02 instead of 0.01"),
        (
            "linear_recovery",
            "config",
            {"low": 0.0, "high": 5.0},
            "low 0 instead of 5, high 5 instead of 10",
        ),
        ("linear_recovery", "config", {"noise": 0.1}, "noise 0.1 instead of 0.2"),
        ("linear_recovery_raw", "config", {"raw": False}, "raw false instead of true"),
        ("ann_revisited", "results", {"steps": 3000}, "steps 3,000 instead of 1,000,000"),
        ("ann_revisited", "config", {"train_data": "rand"}, "train_data rand instead of randn"),
        ("mnist_mlp", "results", {"dataset": "digits"}, "dataset digits instead of mnist"),
        ("mnist_mlp", "config", {"hidden": 30}, "hidden 30 instead of 40"),
        ("mnist_all", "results", {"train_images": 999}, "train_images 999 instead of 60,000"),
        ("mnist_all", "results", {"steps": 938}, "steps 938 instead of 18,760"),
    ],
)
def test_other_settings_are_one_line_and_no_claim(runs, command, run, part, values, sentence):
    change(runs / run, part, **values)
    of_its_own = run in ("linear_recovery_raw", "mnist_all")
    of_whom = "the settings of its command" if of_its_own else "the lecture's settings"
    line = f"Not run with {of_whom}: {sentence}."
    done = command("--runs", runs, "--check")
    assert done.err == f"{run} was run with other settings, see above"
    assert f"{run}: {line}" in done.out.splitlines()
    text = html(runs).replace("&#39;", "'")
    assert line in text and "18 agree" in text and text.count("Not run with the") == 1


def test_check_of_good_runs(runs, command):
    done = command("--runs", runs, "--check")
    assert done.err == "" and done.out.count("✓ agrees") == 18
    assert done.out.splitlines()[-1] == "18 agree, 1 differs for a known reason, 0 not run"
    for name in ("linear_recovery", "ann_revisited", "mnist_mlp"):
        assert f"{name}: Run with the lecture's settings." in done.out.splitlines()
    assert not (runs / "report.html").exists()


def test_check_names_what_differs(runs, command):
    change(runs / "ann_revisited", "results", points_correct=9)
    done = command("--runs", runs, "--check")
    assert done.err == "1 of 19 claims differ, see above"
    assert re.search(r"✗ differs +ann_revisited .*plots as before +9 of 10 +exactly", done.out)
    assert "✗ ann_revisited, points classified correctly at the end: One start in ten" in done.out


def test_a_printed_recipe_that_does_not_diverge_differs(runs, command):
    change(runs / "linear_recovery_raw", "results", ended="finished", steps=10_000)
    done = command("--runs", runs, "--check")
    assert "1 of 19 claims differ" in done.err
    assert re.search(r"✗ differs +linear_recovery_raw .* no: finished", done.out)


def test_a_run_that_diverged_differs_without_a_warning(runs, command, recwarn):
    np.save(runs / "linear_recovery" / "losses.npy", np.append(np.full(50, 1e308), np.inf))
    null = {"weight_error": None, "bias_error": None}
    values = {"ended": "diverged", "steps": 51, "averaged": null, "last": null}
    change(runs / "linear_recovery", "results", **values)
    done = command("--runs", runs, "--check")
    assert done.err == "4 of 19 claims differ, see above" and not recwarn.list
    assert done.out.count("not measured") == 3


def test_check_without_a_run(runs, command):
    shutil.rmtree(runs / "linear_recovery_raw")
    shutil.rmtree(runs / "mnist_all")  # neither is the lecture's
    done = command("--runs", runs, "--check")
    assert done.err == "" and done.out.count("- not run ") == 2
    assert done.out.splitlines()[-1] == "17 agree, 0 differ for a known reason, 2 not run"
    shutil.rmtree(runs / "mnist_mlp")
    done = command("--runs", runs, "--check")
    assert done.err == "mnist_mlp was not run: python lectures/mnist_mlp.py"


def test_check_of_a_damaged_run(runs, command):
    (runs / "linear_recovery" / "metrics.json").write_text("{")
    done = command("--runs", runs, "--check")
    assert done.err == "4 of 19 claims differ, see above" and done.out.count(" damaged ") == 4


def test_a_run_without_the_numbers_differs(runs, command):
    metrics = {part: {} for part in PARTS}
    for run in runs.iterdir():
        (run / "metrics.json").write_text(json.dumps(metrics))
        (run / "losses.npy").unlink()
    done = command("--runs", runs, "--check")
    assert done.out.count("not measured") == 12 and "12 of 19 claims differ" in done.err


def test_the_command_ends_with_1_and_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "report", "--check", "--runs", tmp_path / "nowhere"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1 and done.stdout == ""
    assert re.fullmatch(r"error: there is no folder .*nowhere; .*--runs\n", done.stderr)


def test_tolerances_in_words():
    def words(low: float, high: float) -> str:
        return claims.Claim("", "", "", "", (low, high), ".1%").tolerance

    assert words(0.5, 0.5) == "exactly" and words(0.25, 0.5) == "25.0 % to 50.0 %"
    assert words(-math.inf, 0.5) == "at most 50.0 %"
    assert words(0.25, math.inf) == "at least 25.0 %"
