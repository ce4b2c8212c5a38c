"""The small shared rooms: command line, device, one-hot vectors."""

import argparse
import sys

import pytest
import torch
from helpers import have_memory
from hypothesis import given
from hypothesis import strategies as st

from common import device, options
from common.onehot import one_cold, one_hot
from common.program import RunError
from lectures import ann_revisited, linear_recovery, mnist_mlp

REFUSED = [
    (linear_recovery, "--samples", "0"),
    (linear_recovery, "--samples", "1.5e0"),
    (linear_recovery, "--samples", "1e-3"),
    (linear_recovery, "--samples", "1e400"),
    (linear_recovery, "--samples", "-5"),
    (linear_recovery, "--lr", "nan"),
    (linear_recovery, "--lr", "-1"),
    (linear_recovery, "--lr", "0"),
    (linear_recovery, "--noise", "-0.1"),
    (linear_recovery, "--high", "5"),
    (linear_recovery, "--low", "inf"),
    (ann_revisited, "--steps", "0"),
    (ann_revisited, "--steps", "many"),
    (ann_revisited, "--lr", "1e400"),
    (ann_revisited, "--output-dir", ""),
    (ann_revisited, "--engine", "warp"),
    (ann_revisited, "--seed", "-1"),
    (ann_revisited, "--train-data", "sobol"),
    (ann_revisited, "--device", "tpu"),
    (mnist_mlp, "--dataset", "cifar"),
    (mnist_mlp, "--images", "100000"),
    (mnist_mlp, "--images", "none"),
    (mnist_mlp, "--batch-size", "0"),
    (mnist_mlp, "--hidden", "0"),
    (mnist_mlp, "--epochs", "1.5"),
    (mnist_mlp, "--lr", "inf"),
    (mnist_mlp, "--seed", "99999999999"),
]


@pytest.mark.parametrize("script, option, value", REFUSED)
def test_nonsense_is_refused_in_one_line(script, option, value, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["script", f"{option}={value}"])
    with pytest.raises(SystemExit) as caught:
        script.arguments()
    message = capsys.readouterr().err
    assert caught.value.code == 2
    assert message.startswith(f"error: argument {option}") and message.count("\n") == 1
    assert value in message


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
        number = vars(script.arguments())[option]
        assert number == 20_000 and type(number) is int


@pytest.mark.parametrize("script", [linear_recovery, ann_revisited, mnist_mlp])
def test_help_says_which_device_auto_is(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["script", "--help"])
    with pytest.raises(SystemExit):
        script.arguments()
    said = " ".join(capsys.readouterr().out.split())
    assert ("auto: cuda where PyTorch finds it" in said) == (script is mnist_mlp)
    assert ("auto: cpu, because" in said) == (script is not mnist_mlp)


NUMBERS = {
    linear_recovery: "--seed --samples --lr --noise --low --high",
    ann_revisited: "--seed --steps --lr",
    mnist_mlp: "--seed --images --epochs --batch-size --lr --weight-decay --hidden",
}


@pytest.mark.parametrize("script", NUMBERS)
@pytest.mark.parametrize(
    "value", ["nan", "inf", "-inf", "1e400", "-1e9", "1e99", "1" * 5000, "text", "", " ", "0x10"]
)
def test_every_number_refuses_what_is_none(script, value, monkeypatch, capsys):
    for option in NUMBERS[script].split():
        monkeypatch.setattr(sys, "argv", ["script", f"{option}={value}"])
        with pytest.raises(SystemExit) as caught:
            script.arguments()
        message = capsys.readouterr().err
        assert caught.value.code == 2 and message.count("\n") == 1
        assert message.startswith(f"error: argument {option}: expected a") and len(message) < 300


@pytest.mark.parametrize("script", [linear_recovery, ann_revisited, mnist_mlp])
def test_help_names_defaults(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["script", "--help"])
    with pytest.raises(SystemExit) as caught:
        script.arguments()
    text = " ".join(capsys.readouterr().out.split())
    assert caught.value.code == 0
    for part in (
        "--seed",
        "(default: 0)",
        "--output-dir",
        "learning rate, above 0 and up to 1000",
        "(default: auto)",
    ):
        assert part in text


@given(st.floats())
def test_real_numbers_are_in_their_range_or_refused(number):
    convert = options.real_number(0, 10, above=True)
    try:
        assert convert(repr(number)) == number and 0 < number <= 10
    except argparse.ArgumentTypeError:
        assert not 0 < number <= 10


GPU_TAKES_LONGER = "a GPU's launch costs more than a step of so small a network"


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
        ("auto", True, ["cuda", "mps"], "cpu", GPU_TAKES_LONGER),
        ("auto", True, [], "cpu", GPU_TAKES_LONGER),
        ("cpu", False, ["cuda"], "cpu", "as asked"),
        ("cuda", True, ["cuda"], "cuda", "as asked"),
        ("mps", False, ["mps"], "mps", "as asked"),
    ],
)
def test_the_device_and_its_reason(monkeypatch, requested, small, available, chosen, reason):
    monkeypatch.setattr(device, "_available", available.__contains__)
    assert device.choose_device(requested, small=small) == (chosen, reason)


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
    monkeypatch.setattr(device, "_available", available.__contains__)
    with pytest.raises(RunError, match=said):
        device.choose_device(requested, small=small)


def test_the_engine_and_its_reason():
    small, wide = (
        torch.nn.Sequential(torch.nn.Linear(2, n), torch.nn.Tanh(), torch.nn.Linear(n, 2)).double()
        for n in (3, 2000)
    )
    assert device.choose_engine("auto", small, "cpu", 1) == (
        "fused",
        "all steps in one compiled loop",
    )
    assert device.choose_engine("eager", small, "cpu", 1) == ("eager", "as asked")
    assert device.choose_engine("auto", small, "cuda", 1) == (
        "eager",
        "the fused engine computes on the CPU alone",
    )
    with pytest.raises(RunError, match="on the CPU alone, not on cuda"):
        device.choose_engine("fused", small, "cuda", 1)
    assert device.choose_engine("auto", wide, "cpu", 1)[0] == "eager"
    with pytest.raises(RunError, match=r"--engine fused: .*it takes up to"):
        device.choose_engine("fused", wide, "cpu", 1)


def test_threads():
    assert device.choose_threads(31_810 * 128) == (1, "a step is too small to gain much from more")
    assert device.choose_threads(10**10) == (
        torch.get_num_threads(),
        "as PyTorch chooses for large steps",
    )


def test_too_much_memory_is_refused_with_its_size(monkeypatch):
    have_memory(monkeypatch, 3 * 2**29)
    with pytest.raises(
        RunError, match=r"needs 1,000,000\.0 GiB of memory, 1\.5 GiB are free: choose fewer"
    ):
        device.require_memory(1e6 * 2**30)
    device.require_memory(3 * 2**29)


def test_one_hot_and_back():
    labels = torch.arange(10).reshape(2, 5)
    vectors = one_hot(labels)
    assert vectors.shape == (2, 5, 10) and vectors.sum() == 10
    assert torch.equal(one_cold(vectors), labels)
    with pytest.raises(RuntimeError):
        one_hot(torch.tensor([10]))
