"""The scripts on accelerators, without one: a stand-in refuses what a GPU would.

PyTorch's `meta` device goes through whole runs: data, training, evaluation, figures, files. An
operation raises if one of its tensors was left on the CPU.
"""

from common import run as common_run
from exercises import mnist_all
from exercises.distort import Distortions

import re

import pytest
import torch
from helpers import states
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten


class StandIn(TorchDispatchMode):
    """Makes `meta` like a GPU: on the CPU it is 1 everywhere, and no operation mixes both.

    Excepted are, as on a GPU, single numbers, and indices in brackets.
    """

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is aten._local_scalar_dense.default and args[0].is_meta:
            return args[0].dtype.is_floating_point or 1
        if function is aten._to_copy.default and args[0].is_meta:
            if torch.device(kwargs.get("device") or "meta").type == "cpu":
                return torch.ones(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
        if function is aten.copy_.default:
            out = args[1].is_meta and not args[0].is_meta
            return args[0].fill_(1) if out else function(*args, **kwargs)
        places = {x.is_meta for x in tree_leaves((args, kwargs)) if torch.is_tensor(x) and x.dim()}
        if len(places) > 1 and function.overloadpacket not in (aten.index, aten.index_put_):
            raise RuntimeError(f"{function} has tensors on the device and on the CPU")
        return function(*args, **kwargs)


@pytest.mark.parametrize(
    "script, options, engine",
    [
        ("linear_recovery", ("--samples", 30), ["engine: not compiled: "]),
        ("ann_revisited", ("--steps", 30), ["engine: not compiled: "]),
        ("mnist_mlp", ("--images", 40, "--epochs", 3), []),
    ],
)
def test_a_whole_run(undrawn, monkeypatch, script, options, engine):
    monkeypatch.setattr(common_run, "choose_device", lambda requested, *, small: "meta")
    monkeypatch.setattr(torch.Tensor, "__format__", lambda self, form: format(self.item(), form))
    with StandIn():
        done = undrawn(script, *options)
    assert done.returncode == 0, done.stderr
    assert "device: meta;" in done.stdout
    assert re.findall("^engine: not compiled: ", done.stdout, re.MULTILINE) == engine
    assert done.metrics["results"]["ended"] == "finished"
    states(done)  # fails if a tensor is not on the CPU


def test_a_batch_of_distorted_copies():
    """exercises/mnist_all.py on a device: batches and distortions are drawn on the CPU."""
    images, labels = torch.zeros(30, 784, device="meta"), torch.zeros(30, 10, device="meta")
    with StandIn():
        drawn = [*mnist_all.batches(images, labels, 25, 1, Distortions(), torch.Generator())]
    assert [(x.shape, y.shape) for x, y in drawn] == [((25, 784), (25, 10)), ((5, 784), (5, 10))]
    assert {part.device.type for pair in drawn for part in pair} == {"meta"}


@pytest.mark.parametrize("model, data", [("cpu", "meta"), ("meta", "cpu")])
def test_the_stand_in_refuses_what_was_left_on_the_cpu(model, data):
    with StandIn(), pytest.raises(RuntimeError, match="on the device and on the CPU"):
        nn.Linear(2, 3, device=model)(torch.ones(4, 2, device=data))
