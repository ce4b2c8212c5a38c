"""The command line: what is refused, what --help says, which device a run takes, how much memory it may need."""

from common import options, run
from common.program import RunError
from exercises import mnist_all
from lectures import ann_revisited, linear_recovery, mnist_mlp

import argparse
import sys

import pytest
from helpers import have_memory
from hypothesis import given
from hypothesis import strategies as st

SCRIPTS = (linear_recovery, ann_revisited, mnist_mlp, mnist_all)
REFUSED = [
    (linear_recovery, "--samples", "0"),
    (linear_recovery, "--samples", "1.5e0"),
    (linear_recovery, "--samples", "1e-3"),
    (linear_recovery, "--samples", "-5"),
    (linear_recovery, "--lr", "-1"),
    (linear_recovery, "--lr", "0"),
    (linear_recovery, "--noise", "-0.1"),
    (linear_recovery, "--high", "5"),
    (ann_revisited, "--steps", "many"),
    (ann_revisited, "--output-dir", ""),
    (ann_revisited, "--engine", "warp"),
    (ann_revisited, "--seed", "-1"),
    (ann_revisited, "--train-data", "sobol"),
    (ann_revisited, "--device", "tpu"),
    (ann_revisited, "--format", "bmp"),
    (mnist_mlp, "--dataset", "cifar"),
    (mnist_mlp, "--images", "100000"),
    (mnist_mlp, "--images", "none"),
    (mnist_mlp, "--hidden", "0"),
    (mnist_mlp, "--epochs", "1.5"),
    (mnist_mlp, "--seed", "99999999999"),
    (mnist_all, "--batch-size", "0"),
    (mnist_all, "--weight-decay", "1.5"),
]


@pytest.fixture
def refusal(monkeypatch, capsys):
    """A function that calls a script with an option that it refuses, and returns what it says."""

    def call(script, option: str, value: str) -> str:
        monkeypatch.setattr(sys, "argv", ["script", f"{option}={value}"])
        with pytest.raises(SystemExit) as caught:
            script.parse_args()
        message = capsys.readouterr().err
        assert caught.value.code == 2 and message.count("\n") == 1
        return message

    return call


@pytest.mark.parametrize("script, option, value", REFUSED)
def test_nonsense_is_refused_in_one_line(refusal, script, option, value):
    message = refusal(script, option, value)
    assert message.startswith(f"error: argument {option}") and value in message


NUMBERS = {
    linear_recovery: "--seed --samples --lr --noise --low --high",
    ann_revisited: "--seed --steps --lr",
    mnist_mlp: "--seed --images --epochs --lr --hidden",
    mnist_all: "--seed --images --epochs --batch-size --lr --weight-decay --hidden",
}


@pytest.mark.parametrize("script", NUMBERS)
@pytest.mark.parametrize(
    "value", ["nan", "inf", "-inf", "1e400", "-1e9", "1e99", "1" * 5000, "text", "", " ", "0x10"]
)
def test_every_number_refuses_what_is_none(refusal, script, value):
    for option in NUMBERS[script].split():
        message = refusal(script, option, value)
        assert message.startswith(f"error: argument {option}: expected a") and len(message) < 300


@pytest.mark.parametrize("text", ["20000", "20_000", "2e4", "2.0E+4"])
def test_whole_numbers_as_people_write_them(text, monkeypatch):
    for script, option in (
        (linear_recovery, "samples"),
        (ann_revisited, "steps"),
        (mnist_mlp, "images"),
        (mnist_mlp, "epochs"),
        (mnist_mlp, "seed"),
    ):
        monkeypatch.setattr(sys, "argv", ["script", f"--{option}={text}"])
        number = vars(script.parse_args())[option]
        assert number == 20_000 and type(number) is int


@given(st.floats())
def test_real_numbers_are_in_their_range_or_refused(number):
    convert = options.real_number(0, 10, above=True)
    try:
        assert convert(repr(number)) == number and 0 < number <= 10
    except argparse.ArgumentTypeError:
        assert not 0 < number <= 10


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_names_defaults_and_the_device_that_auto_is(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["script", "--help"])
    with pytest.raises(SystemExit) as caught:
        script.parse_args()
    said = " ".join(capsys.readouterr().out.split())
    assert caught.value.code == 0
    assert "seed of every random draw, 0 to 4294967295 (default: 0)" in said
    assert "learning rate, above 0 and up to 1000 (default: 0.0" in said
    digits = script in (mnist_mlp, mnist_all)
    assert ("auto: cuda where PyTorch finds it, else cpu" in said) == digits
    assert ("auto: cpu, because launching" in said) == (not digits)
    assert "(default: None)" not in said and "(default: False)" not in said


# The device, and memory.

LAUNCH = "launching a step on a GPU takes longer than making it here"


@pytest.mark.parametrize(
    "requested, small, available, chosen, reason",
    [
        ("auto", False, [], "cpu", "no CUDA device here"),
        ("auto", False, ["cuda"], "cuda", "there is one"),
        (
            "auto",
            False,
            ["mps"],
            "cpu",
            "no CUDA device here; --device mps would take the other one",
        ),
        ("auto", False, ["cuda", "xpu"], "cuda", "there is one"),
        ("auto", True, ["cuda", "mps"], "cpu", LAUNCH),
        ("auto", True, [], "cpu", LAUNCH),
        ("cpu", False, ["cuda"], "cpu", "as asked"),
        ("cuda", True, ["cuda"], "cuda", "as asked"),
        ("mps", False, ["mps"], "mps", "as asked"),
    ],
)
def test_the_device_and_its_reason(monkeypatch, requested, small, available, chosen, reason):
    monkeypatch.setattr(run, "_available", available.__contains__)
    assert run.choose_device(requested, small=small) == (chosen, reason)


@pytest.mark.parametrize(
    "requested, small, available, said",
    [
        ("cuda", False, [], "finds no CUDA device here; use --device cpu"),
        ("cuda", True, ["mps"], "finds no CUDA device"),
        ("mps", False, ["cuda"], "finds no MPS device"),
        ("mps", True, ["mps"], "computes in float64"),
        ("xpu", True, ["xpu"], "computes in float64"),
    ],
)
def test_a_device_that_cannot_be_had(monkeypatch, requested, small, available, said):
    monkeypatch.setattr(run, "_available", available.__contains__)
    with pytest.raises(RunError, match=said):
        run.choose_device(requested, small=small)


def test_too_much_memory_is_refused_with_its_size(monkeypatch):
    have_memory(monkeypatch, 3 * 2**29)
    expected = r"needs 1,000,000\.0 GiB of memory, 1\.5 GiB are free: choose fewer"
    with pytest.raises(RunError, match=expected):
        options.require_memory(1e6 * 2**30)
    options.require_memory(3 * 2**29)
