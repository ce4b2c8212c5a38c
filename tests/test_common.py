"""The shared rooms: command line, outputs, one-hot vectors, figures."""

import json
import math
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from common import cli, device, outputs, plotting
from common.onehot import one_cold, one_hot
from lectures import ann_revisited, linear_recovery, mnist_mlp

REFUSED = [
    (linear_recovery, "--samples", "0"), (linear_recovery, "--samples", "1e4"), (linear_recovery, "--samples", "-5"),
    (linear_recovery, "--lr", "nan"), (linear_recovery, "--lr", "-1"), (linear_recovery, "--lr", "0"),
    (linear_recovery, "--noise", "-0.1"), (linear_recovery, "--high", "5"), (linear_recovery, "--low", "inf"),
    (ann_revisited, "--steps", "0"), (ann_revisited, "--steps", "many"), (ann_revisited, "--lr", "1e400"),
    (ann_revisited, "--repeats", "0"), (ann_revisited, "--engine", "warp"), (ann_revisited, "--seed", "-1"),
    (ann_revisited, "--train-data", "sobol"), (ann_revisited, "--device", "tpu"),
    (mnist_mlp, "--dataset", "cifar"), (mnist_mlp, "--images", "100000"), (mnist_mlp, "--images", "none"),
    (mnist_mlp, "--batch-size", "0"), (mnist_mlp, "--hidden", "0"), (mnist_mlp, "--epochs", "1.5"),
    (mnist_mlp, "--lr", "inf"), (mnist_mlp, "--seed", "99999999999"),
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


NUMBERS = {linear_recovery: "--seed --samples --lr --noise --low --high --repeats",
           ann_revisited: "--seed --steps --lr --repeats",
           mnist_mlp: "--seed --images --epochs --batch-size --lr --weight-decay --hidden"}


@pytest.mark.parametrize("script", NUMBERS)
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e400", "-1e9", "1e99", "1" * 5000, "text", "", " ", "0x10"])
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
    for part in ("--seed", "(default: 0)", "--output-dir", "learning rate, above 0 and up to 1000", "(default: auto)"):
        assert part in text


@given(st.floats())
def test_real_numbers_are_in_their_range_or_refused(number):
    convert = cli.real_number(0, 10, above=True)
    try:
        assert convert(repr(number)) == number and 0 < number <= 10
    except cli.argparse.ArgumentTypeError:
        assert not 0 < number <= 10


def test_cuda_without_a_device_and_the_choice_of_device():
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    with pytest.raises(cli.RunError, match="--device cpu"):
        device.choose_device("cuda", small=False)
    assert device.choose_device("auto", small=True)[0].type == "cpu"


def test_auto_takes_the_plain_loop_for_wide_networks():
    wide = torch.nn.Sequential(torch.nn.Linear(2, 2000), torch.nn.Tanh(), torch.nn.Linear(2000, 2000))
    assert device.choose_engine("auto", wide, 10, 1, torch.device("cpu")) == "eager"


def test_too_much_memory_is_refused_with_its_size():
    with pytest.raises(cli.RunError, match=r"--steps need 1,000,000\.0 GiB"):
        device.require_memory(1e6 * 2**30, "--steps")
    device.require_memory(1e6, "--steps")


def test_one_hot_and_back():
    labels = torch.arange(10).reshape(2, 5)
    vectors = one_hot(labels)
    assert vectors.shape == (2, 5, 10) and vectors.sum() == 10
    assert torch.equal(one_cold(vectors), labels)
    with pytest.raises(RuntimeError):
        one_hot(torch.tensor([10]))


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "numbers.npy"
    outputs.save_array(path, np.arange(3))
    with pytest.raises(ZeroDivisionError), outputs._whole(path) as file:
        file.write(b"half of it")
        raise ZeroDivisionError
    assert np.load(path).tolist() == [0, 1, 2]
    assert [p.name for p in tmp_path.iterdir()] == ["numbers.npy"]


def test_json_has_no_nan(tmp_path):
    outputs.save_json(tmp_path / "m.json", {"a": math.nan, "b": [np.float64(math.inf), np.int64(3)], "c": np.eye(2),
                                            "d": torch.tensor([1.5, math.nan])})
    assert json.loads((tmp_path / "m.json").read_text(), parse_constant=pytest.fail) == {
        "a": None, "b": [None, 3], "c": [[1, 0], [0, 1]], "d": [1.5, None]}


@given(st.integers(1, 20_000), st.booleans(), st.randoms(use_true_random=False))
def test_a_thinned_curve_keeps_its_extremes(length, log_steps, random):
    values = np.array([random.random() for _ in range(min(length, 50))])
    values = np.resize(values, length)
    values[random.randrange(length)] = 2
    values[random.randrange(length)] = -1
    steps, kept = plotting._envelope(values, log_steps)
    assert len(steps) == len(kept) <= 2 * plotting.CURVE_COLUMNS + 2
    assert kept.max() == values.max() and kept.min() == values.min()
    assert steps[0] == 1 and steps[-1] <= length and (np.diff(steps) >= 0).all()


def test_figures_take_the_extreme_runs(tmp_path):
    for number, losses in enumerate([np.array([1.0]), np.array([1e308, 1e-300]), np.ones((3, 2))]):
        outputs.save_figure(tmp_path / f"{number}.png", plotting.loss_curve(losses, title="t", window=1, floor=0.1))
    outputs.save_figure(tmp_path / "none.png", plotting.image_row(np.zeros((0, 2, 2)), [], title="no mistakes"))
    assert len(list(tmp_path.iterdir())) == 4
