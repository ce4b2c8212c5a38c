"""The scripts on accelerators, without one: stand-ins compute nothing, but refuse what a GPU would.

PyTorch's `meta` device goes through whole runs: data, training, evaluation, figures, files.
FakeTensorMode has tensors on "cuda" itself, for the forward pass. On both an operation raises if one
of its tensors was left on the CPU.
"""

from common import run as common_run
from common.onehot import one_hot
from exercises import mnist_all
from exercises.distort import Distortions
from lectures import ann_revisited, linear_recovery, mnist_mlp

import sys
from types import ModuleType

import pytest
import torch
from conftest import PROJECT
from helpers import SCRIPTS, no_figures, write_digits
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

aten = torch.ops.aten


class StandIn(TorchDispatchMode):
    """Makes `meta` like a GPU: copied to the CPU it is 1 everywhere, and no operation mixes the two.

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


@pytest.fixture
def on_a_stand_in(run_here, monkeypatch, tmp_path):
    """As `run_here`, on a stand-in for a GPU."""
    write_digits(tmp_path / "data")
    no_figures(monkeypatch)
    monkeypatch.setenv("MNIST_ROOT", str(tmp_path / "data"))
    monkeypatch.setattr(common_run, "choose_device", lambda requested, *, small: ("meta", "asked"))
    monkeypatch.setattr(torch.Tensor, "__format__", lambda self, form: format(self.item(), form))

    def call(script: str, *options: str):
        with StandIn():
            return run_here(script, *options)

    return call


RUNS = {
    "linear_recovery": ("linear_recovery", "--samples", 30),
    "linear_recovery, raw": ("linear_recovery", "--samples", 30, "--raw"),
    "ann_revisited": ("ann_revisited", "--steps", 30),
    "mnist_mlp": ("mnist_mlp", "--images", 40, "--epochs", 3),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_whole_run(on_a_stand_in, name):
    script, *options = RUNS[name]
    done = on_a_stand_in(script, *options)
    assert done.returncode == 0, done.stderr
    assert "device: meta (asked)" in done.stdout
    results = done.metrics["results"]
    assert results["ended"] == "finished"
    if name != "mnist_mlp":
        assert results["engine"] == "eager"
        assert "engine: not compiled: " in done.stdout
    for file in ("model_initial.pt", "model.pt"):  # can be read where there is no such device
        state = torch.load(done.folder / file, weights_only=True)
        assert {tensor.device.type for tensor in state.values()} == {"cpu"}


def test_a_batch_of_distorted_copies(on_a_stand_in):
    """exercises/mnist_all.py on a device: its batches and their distortions are drawn on the CPU."""
    images, labels = torch.zeros(30, 784, device="meta"), torch.zeros(30, 10, device="meta")
    with StandIn():
        drawn = [*mnist_all.batches(images, labels, 25, 1, Distortions(), torch.Generator())]
    assert [(x.shape, y.shape) for x, y in drawn] == [((25, 784), (25, 10)), ((5, 784), (5, 10))]
    assert {part.device.type for pair in drawn for part in pair} == {"meta"}


PLANTED = {
    "linear_recovery": ("y_train.to(run.device)", "y_train"),
    "ann_revisited": ("LABELS.to(y.device)", "LABELS"),
    "mnist_mlp": ("images.to(device)", "images"),
}


@pytest.mark.parametrize("script", PLANTED)
def test_a_planted_mistake_is_noticed(on_a_stand_in, monkeypatch, tmp_path, script):
    """So that the stand-in is not one on which anything runs: a copy of the script, a tensor left on the CPU."""
    right, wrong = PLANTED[script]
    text = (PROJECT / "lectures" / f"{script}.py").read_text(encoding="utf-8")
    assert right in text
    copy = ModuleType(script)
    copy.__file__ = str(PROJECT / "lectures" / "copy.py")
    exec(text.replace(right, wrong), vars(copy))
    monkeypatch.setattr(sys.modules[f"lectures.{script}"], "main", copy.main)
    with pytest.raises(RuntimeError, match="on the device and on the CPU"):
        on_a_stand_in(*RUNS[script])


def on_cuda(module: nn.Module) -> nn.Module:
    """The module with parameters on FakeTensorMode's "cuda", whose numbers are not there."""
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            made = torch.empty(parameter.shape, dtype=parameter.dtype, device="cuda")
            setattr(part, name, nn.Parameter(made, requires_grad=False))
    return module


def forward_passes():
    """The loss of each script's network and data: its name, the loss, the model, x and y."""
    draw = torch.Generator().manual_seed(0)
    x, y = linear_recovery.training_data(4, 5, 10, 0.2, draw)
    yield linear_recovery.loss, linear_recovery.build_model(draw), x, y
    x, y = next(ann_revisited.random_pairs(1, "randn", draw))
    yield ann_revisited.loss, ann_revisited.build_model(draw), x, y
    images, labels = mnist_mlp.as_vectors(torch.zeros(4, 28, 28)), one_hot(torch.arange(4))
    yield mnist_mlp.loss, mnist_mlp.build_model(40, draw), images, labels


@pytest.mark.parametrize("loss, model, x, y", [*forward_passes()], ids=SCRIPTS)
def test_the_loss_on_cuda(loss, model, x, y):
    with FakeTensorMode(allow_non_fake_inputs=True):
        model, x, y = on_cuda(model), x.to("cuda"), y.to("cuda")
        assert loss(model, x, y).device.type == "cuda"
        if loss is not ann_revisited.loss:  # which does not look at x and y
            with pytest.raises(RuntimeError, match="device"):
                loss(model, x.cpu(), y)
            with pytest.raises(RuntimeError, match="device"):
                loss(model, x, y.cpu())


def test_predictions_on_cuda_come_back():
    model = mnist_mlp.build_model(40, torch.Generator().manual_seed(0))
    with FakeTensorMode(allow_non_fake_inputs=True):
        found = mnist_mlp.predict(on_cuda(model), torch.zeros(4, 784))
        assert found.device.type == "cpu"
