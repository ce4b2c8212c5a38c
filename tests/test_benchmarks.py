"""What the benchmarks make of the times they measure; the times themselves are the machine's."""

from benchmarks import run as benchmarks

import numpy as np
import pytest


def test_microseconds_of_a_step_of_one_start():
    took = {"plain": 0.2, "engine": 0.5}
    rivals = {
        "plain": benchmarks.Rival(benchmarks.plain, 1, 1_000),
        "engine": benchmarks.Rival(benchmarks.plain, 8, 250_000),
    }
    found = benchmarks.microseconds(took, rivals)
    assert found == pytest.approx({"plain": 200, "engine": 0.25})


def test_the_rivals_beside_the_engine():
    row = {"plain": 200.0, "torch.compile": 400.0, "NumPy": 30.0, "C": 0.5, "engine": 0.1}
    assert benchmarks.compared(row, 1, 2) == pytest.approx(
        {"plain / engine": 2000, "torch.compile / engine": 4000, "a core's engine / C": 0.2}
    )
    # Of many starts two cores each work 0.04 microseconds on every second one.
    assert benchmarks.compared({"C": 0.5, "JAX": 0.6, "engine": 0.04}, 64, 2) == pytest.approx(
        {"JAX / engine": 15, "a core's engine / C": 0.16}
    )
    assert benchmarks.compared({"engine": 0.04}, 64, 2) == {}


def test_when_compiling_has_paid():
    assert benchmarks.pays_after(3.0, 220.0, 20.0) == 15_000
    assert benchmarks.pays_after(0.0005, 220.0, 20.0) == 3  # 2.5 steps


def test_the_first_round_and_the_median_of_the_others():
    times = [{"import": 9.0, "a": 8.0}]
    times += [{"import": 2.0, "a": 3.0}, {"import": 1.0, "a": 7.0}, {"import": 4.0, "a": 5.0}]
    assert [list(row.values()) for row in benchmarks.first_and_warm(times)] == [
        ["import", 9, 2, 1],
        ["a", 8, 5, 2.5],
    ]


def test_an_epoch_beside_scikit_learn_s():
    alone, beside = {"a": 1.0, "scikit-learn": 4.0}, {"a": 3.0, "scikit-learn": 5.0}
    first, second = benchmarks.epochs({"a": 0.3, "scikit-learn": 0.2}, alone, beside)
    assert list(first.values()) == ["a", 0.3, 1, 3, 0.25]
    assert list(second.values()) == ["scikit-learn", 0.2, 4, 5, 1]


def test_medians_leave_out_the_first_round(monkeypatch):
    took = iter([100.0, 200.0, 1.0, 20.0, 3.0, 60.0, 2.0, 40.0])
    monkeypatch.setattr(benchmarks, "seconds", lambda work: next(took))
    assert benchmarks.medians({"a": None, "b": None}, 3) == {"a": 2, "b": 40}


def test_the_engine_s_limit_in_words():
    row = {"network": "2-9-2", "parameters": 1234, "compile": 0.75, "pays_after": 5678}
    said = benchmarks.limit(row | {"plain": 222.2, "engine": 11.5})
    assert said.partition(". ")[2] == (
        "2-9-2, which has 1,234, takes 0.75 s to compile. Then a step on ten points takes 11.5 "
        "microseconds, and 222 in the plain loop, so compiling pays off after 5,678 steps."
    )


def test_rivals_make_the_lecture_s_steps():
    for loop in (benchmarks.numpy_loop, benchmarks.compiled_starts(1)):
        np.testing.assert_allclose(loop(20), benchmarks.plain(20), rtol=1e-9)
    three = benchmarks.compiled_starts(3)(20)  # a start each row
    assert three.shape == (3, 20)
    for start in range(3):
        np.testing.assert_allclose(three[start], benchmarks.plain(20, start)[0], rtol=1e-9)


def test_a_rival_that_does_other_work_is_noticed():
    with pytest.raises(AssertionError, match="NumPy does different work"):
        benchmarks.check("NumPy", lambda steps: 1.001 * benchmarks.numpy_loop(steps), 1)


def test_a_table_has_every_column_and_three_digits_of_a_number():
    rows = [{"starts": 1, "plain": 1234.5, "C": 0.43812}, {"starts": 512, "C": 0.5, "by": "engine"}]
    assert benchmarks.table(rows).splitlines() == [
        "| starts | plain | C | by |",
        "| --- | --- | --- | --- |",
        "| 1 | 1,234 | 0.438 |  |",
        "| 512 |  | 0.5 | engine |",
    ]


def test_the_first_step_is_a_compiled_one():
    """Its script ends with an error where the loop was not compiled."""
    pytest.importorskip("llvmlite", reason="llvmlite has no build for this Python")
    assert benchmarks.first_step() > 0
