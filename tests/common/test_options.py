"""The command line: what it takes and refuses, what --help says, the device, the memory."""

from common import options, run
from common.program import RunError
from exercises import mnist_all
from lectures import ann_revisited, linear_recovery, mnist_mlp

import sys
from types import SimpleNamespace

import pytest
import torch
from helpers import have_memory

SCRIPTS = {
    "linear": linear_recovery,
    "network": ann_revisited,
    "digits": mnist_mlp,
    "all": mnist_all,
}


@pytest.fixture
def parsed(monkeypatch, capsys):
    """A function that reads a command line; returns the options, exit code, stdout and stderr."""

    def call(script: str, *words: str) -> SimpleNamespace:
        monkeypatch.setattr(sys, "argv", ["script", *words])
        found, code = {}, None
        try:
            found = vars(SCRIPTS[script].parse_args())
        except SystemExit as end:
            code = end.code
        said = capsys.readouterr()
        return SimpleNamespace(found=found, code=code, out=" ".join(said.out.split()), err=said.err)

    return call


RANGES = {  # the first and the last that are taken, and two that are not
    "linear --samples": "1 10000000 0 10000001",
    "linear --seed": "0 4294967295 -1 4294967296",
    "linear --lr": "1e-9 1000 0 1000.1",
    "linear --noise": "0 1000 -0.1 1000.1",
    "linear --low": "-1000 994 -1000.1 1000.1",
    "linear --high": "5.1 1000 5 1000.1",
    "network --steps": "1 1e5 0 1000000001",
    "digits --images": "1 60000 0 60001",
    "digits --epochs": "1 100000 0 100001",
    "digits --hidden": "1 10000 0 10001",
    "all --batch-size": "1 60000 0 60001",
    "all --weight-decay": "0 1 -0.1 1.1",
}
NUMBERLESS = ("nan", "inf", "-inf", "1e400", "1e99", "1" * 5000, "text", "", " ", "0x10")
CHOICES = {  # all that are taken, and some that are not
    "linear --engine": ("auto compiled eager", "warp"),
    "network --train-data": ("randn rand", "sobol"),
    "network --device": ("auto cpu cuda mps xpu", "tpu"),
    "network --format": ("png svg pdf", "bmp"),
    "digits --dataset": ("auto mnist fashion-mnist kmnist digits", "cifar"),
    "digits --images": ("all 1", "none"),
    "network --steps": ("20_000 2e4 2.0E+4", "1.5 1.5e0 1e-3"),
    "network --output-dir": ("x ~/y", ""),
}
CASES = [
    *((name, line.split()[:2], [*line.split()[2:], *NUMBERLESS]) for name, line in RANGES.items()),
    *((name, taken.split(), refused.split(" ")) for name, (taken, refused) in CHOICES.items()),
]


@pytest.mark.parametrize("name, taken, refused", CASES)
def test_what_an_option_takes_and_what_it_refuses_in_one_line(parsed, name, taken, refused):
    script, option = name.split()
    for text in taken:
        assert option.strip("-").replace("-", "_") in parsed(script, f"{option}={text}").found
    for text in refused:
        done = parsed(script, f"{option}={text}")
        assert done.code == 2 and done.err.count("\n") == 1 and len(done.err) < 300, text
        assert done.err.startswith(f"error: argument {option}: ") and text[:40] in done.err


def test_whole_numbers_as_people_write_them(parsed):
    for text in ("20000", "20_000", "2e4", "2.0E+4"):
        number = parsed("network", f"--steps={text}").found["steps"]
        assert number == 20_000 and type(number) is int


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_names_defaults_and_the_device_that_auto_is(parsed, script):
    done = parsed(script, "--help")
    assert done.code == 0
    assert "of all draws, 0 to 2^32-1 (default: 0)" in done.out
    assert "learning rate, 1e-9 to 1000 (default: 0.0" in done.out
    digits = script in ("digits", "all")
    assert ("auto: cuda where PyTorch finds it, else cpu" in done.out) == digits
    assert ("auto: cpu, because launching" in done.out) == (not digits)
    assert "(default: None)" not in done.out and "(default: False)" not in done.out


NO_DEVICE = "PyTorch finds no such device; use --device cpu"
NO_FLOAT64 = "this network computes in float64; use --device cpu"


@pytest.mark.parametrize(
    "requested, small, found, expected",
    [
        ("auto", False, None, "cpu"),
        ("auto", False, "cuda", "cuda"),
        ("auto", False, "mps", "cpu"),
        ("auto", True, "cuda", "cpu"),
        ("cpu", False, "cuda", "cpu"),
        ("cuda", True, "cuda", "cuda"),
        ("mps", False, "mps", "mps"),
        ("cuda", False, None, f"--device cuda: {NO_DEVICE}"),
        ("mps", True, "cuda", f"--device mps: {NO_DEVICE}"),
        ("mps", True, "mps", f"--device mps: {NO_FLOAT64}"),
        ("xpu", True, "xpu", f"--device xpu: {NO_FLOAT64}"),
    ],
)
def test_the_device(monkeypatch, requested, small, found, expected):
    device = found and torch.device(found)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **settings: device)
    try:
        chosen = run.choose_device(requested, small=small)
    except RunError as error:
        chosen = str(error)
    assert chosen == expected


def test_too_much_memory_is_refused_with_its_size(monkeypatch):
    have_memory(monkeypatch, 3 * 2**29)
    expected = r"needs 1,000,000\.0 GiB of memory, 1\.5 GiB are free: choose fewer"
    with pytest.raises(RunError, match=expected):
        options.require_memory(1e6 * 2**30)
    options.require_memory(3 * 2**29)
