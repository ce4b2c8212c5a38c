"""Records what PyTorch does in the body of a loop as a `Step`, which can be compiled.

While a `TorchFunctionMode` is active, it receives every operation of PyTorch. The tensor that calls
`backward()` is the loss; walking back from it gives the operations that lead to it. What follows
`backward()` is the update.
"""

from engine.rules import RULES

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

LARGEST = 2000  # parameters; docs/generated/benchmarks.md has the time to compile so many


class Refused(Exception):
    """Raised for a loop that cannot be compiled; the message says why, in one line."""


class Call(NamedTuple):
    """A call of a PyTorch operation."""

    name: str
    args: tuple
    kwargs: dict
    result: Any

    @property
    def in_place(self) -> bool:
        by_name = self.name.endswith("_") and not self.name.endswith("__")
        return by_name or "out" in self.kwargs or bool(self.kwargs.get("inplace"))


class Tape(TorchFunctionMode):
    """Records every PyTorch operation, and a copy of each tensor before it is changed in place."""

    def __init__(self) -> None:
        super().__init__()
        self.listening = True
        self.calls: list[Call] = []
        self.before: dict[int, tuple[Tensor, Tensor]] = {}  # by id: a tensor, and a copy
        self.versions: dict[int, int] = {}  # by id: how often an operand was changed

    # The signature is PyTorch's.
    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        name = func.__name__
        if name == "__get__":
            name = f"get {func.__self__.__name__}"
        call = Call(NAMES.get(name, name), args, kwargs or {}, None)
        if call.in_place and isinstance(args[0], Tensor):
            self.before.setdefault(id(args[0]), (args[0], args[0].detach().clone()))
        tensors = (a for a in args if isinstance(a, Tensor) and not a.is_inference())
        self.versions |= {id(a): a._version for a in tensors}
        result = func(*args, **call.kwargs)
        if self.listening:
            self.calls.append(call._replace(result=result))
        return result

    def parts(self) -> tuple[list[Call], Tensor, list[Call]]:
        """The calls before backward(), the loss, and the calls after it."""
        at = [k for k, call in enumerate(self.calls) if call.name == "backward"]
        if len(at) != 1:
            raise Refused(f"{len(at)} calls of backward() in a step, instead of one")
        return self.calls[: at[0]], self.calls[at[0]].args[0], self.calls[at[0] + 1 :]

    def undo(self) -> None:
        """Restores the tensors that were changed in place."""
        for tensor, copy in self.before.values():
            tensor.detach().copy_(copy)


NAMES = {"get T": "t", "get mT": "t", "__rsub__": "rsub", "__rdiv__": "rdiv"}
# Harmless, as is reading an attribute: operations that change no tensor and reveal no value.
HARMLESS = {
    "__set__", "_set_grad_enabled", "_record_function_enter_new", "_RecordFunction", "__len__",
    "size", "dim", "numel", "is_complex", "is_floating_point", "requires_grad_", "backward",
}  # fmt: skip

# An operand of the loss: "parameter", "data" or "value" with its index, or "number" with the number
# itself.
Operand = tuple[str, float]


class Operation(NamedTuple):
    """An operation of the loss: a rule's name, and its operands."""

    rule: str
    operands: tuple[Operand, ...]


class Step(NamedTuple):
    """What a step does, without its numbers; the compiled code depends on nothing else."""

    # The loss is the scale times the last result, summed over points and features.
    operations: tuple[Operation, ...]
    shapes: tuple[tuple[int, ...], ...]  # of the parameters
    widths: tuple[int, ...]  # the features of each data tensor
    points: int
    # Operation, target, operands: parameters "p", gradients "g", buffers "b0", temporary "t0", or
    # "number"
    update: tuple[tuple[str, ...], ...]

    @property
    def parameters(self) -> int:
        return sum(math.prod(shape) for shape in self.shapes)

    @property
    def buffers(self) -> int:
        """How many numbers the update keeps for each parameter, such as its momentum."""
        return len({word for _, *words in self.update for word in words if word[0] == "b"})


class Recorded(NamedTuple):
    """A step, and the tensors and numbers that belong to it."""

    step: Step
    parameters: list[Tensor]
    buffers: list[list[Tensor]]  # for each buffer of the update, one tensor per parameter
    data: list[Tensor]
    places: list[int | None]  # the index of each data tensor in the item; None for a constant
    numbers: np.ndarray  # scale, then those of the update
    loss: float


def understand(tape: Tape, item: Any, earlier: tuple[Tape, Any] | None = None) -> Recorded:
    """The step on a tape, whose item in the loop was `item`.

    Args:
        earlier: tape and item of the previous step, which may differ only in its item.

    Raises:
        Refused: something in the step cannot be compiled.
    """
    before, loss, after = tape.parts()
    grads = {id(call.result) for call in before if call.name == "get grad"}
    update, parameters, buffers, factors = _update(before, after)
    for call in tape.calls:
        known = call.name.split(".")[0] in HARMLESS or call.name.startswith("get ")
        tensors = call.result if isinstance(call.result, (tuple, list)) else [call.result]
        if not (known or "_record_function" in call.name or any(map(torch.is_tensor, tensors))):
            raise Refused(f"{call.name}: the loop looks at a value")
    for call in before:
        zeroed = call.name == "zero_" and id(call.args[0]) in grads
        if call.in_place and call.name != "requires_grad_" and not zeroed:
            raise Refused(f"{call.name} before backward()")
    if any(p.dtype != torch.float64 or p.device.type != "cpu" for p in parameters):
        raise Refused("only float64 on the CPU is compiled")
    if any(p.dim() > 2 for p in parameters):
        raise Refused("a parameter with more than two dimensions")
    if (count := sum(p.numel() for p in parameters)) > LARGEST:
        raise Refused(f"{count:,} parameters would take long to compile; the limit is {LARGEST:,}")
    kept = [t for column in buffers for t in column if id(t) not in tape.before]
    graph, scale, fixed, rates = _graph(tape, item, parameters, kept)
    _, _, was_fixed, first_rates = _graph(*(earlier or (tape, item)), parameters, kept)
    if was_fixed != fixed or first_rates - rates:  # in the first step momentum has no rate yet
        raise Refused("more than the tensors of the item changes from step to step")
    step = Step(
        operations=tuple(graph.operations),
        shapes=tuple(tuple(p.shape) for p in parameters),
        widths=tuple(1 if d.dim() == 0 else d.shape[-1] for d in graph.data),
        points=graph.points,
        update=update,
    )
    numbers = np.array([scale, *factors])
    value = float(loss.detach())
    return Recorded(step, parameters, buffers, graph.data, graph.places, numbers, value)


def _graph(
    tape: Tape, item: Any, parameters: list[Tensor], kept: list[Tensor]
) -> tuple["_Graph", float, list, set]:
    """The graph of a step's loss, its scale, what else all steps share, and the update's numbers.

    `kept` are tensors that the update reads and does not change.
    """
    before, loss, after = tape.parts()
    graph = _Graph(before, parameters, item)
    scale = graph.follow(loss)
    constants: list[Any] = [
        (id(tensor), tape.versions.get(id(tensor))) if place is None else place
        for tensor, place in zip(graph.data, graph.places)
    ]
    constants += [tape.versions.get(id(tensor)) for tensor in kept]
    changes = [call for call in after if call.name in UPDATES]
    rates = {o for c in changes for o in [*c.args, *c.kwargs.values()] if not torch.is_tensor(o)}
    return graph, scale, [scale, graph.operations, constants], rates


class _Graph:
    """The operations that lead to the loss, and their operands."""

    def __init__(self, calls: list[Call], parameters: list[Tensor], item: Any):
        self.made_by = {  # by the ids of results; without a `to` that returned its operand
            id(call.result): call
            for call in calls
            if isinstance(call.result, Tensor) and all(a is not call.result for a in call.args)
        }
        self.item = [id(part) for part in (item if isinstance(item, (tuple, list)) else [item])]
        self.operands: dict[int, Operand] = {}  # by the ids of tensors
        self.axes: dict[Operand, str] = {}  # "p" for an axis of points, "f" of features
        for k, p in enumerate(parameters):
            self.operands[id(p)] = ("parameter", k)
            self.axes["parameter", k] = ("", "f", "matrix")[p.dim()]
        self.unused = set(self.axes)
        self.operations: list[Operation] = []
        self.data: list[Tensor] = []
        self.places: list[int | None] = []
        self.points = 1

    def follow(self, loss: Tensor) -> float:
        """Records the operations that lead to the loss; returns the factor after its last sum."""
        if loss.numel() != 1:
            raise Refused("the loss is not one number")
        scale, tensor = 1.0, loss
        while (call := self.made_by.get(id(tensor))) and call.args:
            name, args, kwargs, _ = call
            mean = 1 / max(1, args[0].numel()) if torch.is_tensor(args[0]) else 1.0
            mean *= tensor.numel()
            if (
                name == "mse_loss"
                and kwargs.get("weight") is None
                and kwargs["reduction"] != "none"
            ):
                scale *= mean if kwargs["reduction"] == "mean" else 1
                self.note("square", self.note("sub", *map(self.find, args[:2])))
                break
            if name in ("sum", "mean"):
                scale *= mean if name == "mean" else 1
            elif name in ("mul", "div") and isinstance(args[-1], (int, float)) and not kwargs:
                scale *= args[-1] if name == "mul" else 1 / args[-1]
            elif name == "neg":
                scale = -scale
            else:
                self.find(tensor)
                break
            tensor = args[0]
        last = ("value", len(self.operations) - 1)
        if not self.operations or (self.points > 1 and "p" not in self.axes[last]):
            raise Refused("the loss is not a sum over the points")
        if self.unused:
            raise Refused("the loss does not depend on a parameter that is updated")
        return scale

    def find(self, tensor: Any) -> Operand:
        """The operand of a tensor or number; first records the operations that lead to it."""
        if isinstance(tensor, (int, float)) and not isinstance(tensor, bool):
            return ("number", float(tensor))
        if not isinstance(tensor, Tensor):
            raise Refused(f"an operand of type {type(tensor).__name__}")
        if tensor._backward_hooks or tensor._post_accumulate_grad_hooks:
            raise Refused("a tensor has a hook")
        if id(tensor) not in self.operands:  # a tensor that is used twice is computed once
            call = self.made_by.get(id(tensor))
            self.operands[id(tensor)] = self.compute(call) if call else self.datum(tensor)
        return self.operands[id(tensor)]

    def datum(self, tensor: Tensor) -> Operand:
        if (
            tensor.dtype != torch.float64
            or tensor.device.type != "cpu"
            or tensor.dim() > 2
            or not tensor.numel()
        ):
            raise Refused(f"a tensor of {tensor.dtype} of shape {tuple(tensor.shape)}")
        if tensor.requires_grad:
            raise Refused("a tensor that requires a gradient and is not updated")
        if tensor.dim() == 2:
            if self.points not in (1, len(tensor)):
                raise Refused(f"data with {self.points} and {len(tensor)} points")
            self.points = len(tensor)
        operand = ("data", len(self.data))
        self.data.append(tensor)
        self.places.append(self.item.index(id(tensor)) if id(tensor) in self.item else None)
        self.axes[operand] = ("", "f", "pf")[tensor.dim()]
        return operand

    def compute(self, call: Call) -> Operand:
        """Records an operation, after the operations that lead to its operands."""
        name, args, kwargs, result = call
        needed = any(torch.is_tensor(a) and a.requires_grad for a in args)
        if needed and not result.requires_grad:
            raise Refused(f"{name} without a gradient")
        if name in ("sum", "mean") and args:
            return self.reduce(call)
        power = args[1] if name == "pow" and len(args) == 2 else None
        if isinstance(power, (int, float)) and power in (2, 3):
            name, args = "square" if power == 2 else "cube", args[:1]
        elif name in ("rsub", "rdiv"):
            name, args = name[1:], (args[1], args[0])
        elif name in ("t", "relu") or (name == "linear" and args[-1] is None):
            args, kwargs = tuple(a for a in args if torch.is_tensor(a)), {}
        if name not in RULES or kwargs:
            raise Refused(
                f"{name}{' with ' + ', '.join(kwargs) if kwargs else ''} is not known to the engine"
            )
        return self.note(name, *map(self.find, args))

    def reduce(self, call: Call) -> Operand:
        """Records a sum or mean over the features."""
        (tensor, *rest), kwargs = call.args, call.kwargs
        operand = self.find(tensor)
        dim, keepdim = (
            kwargs.get("dim", (rest or [None])[0]),
            kwargs.get("keepdim", rest[1:] == [True]),
        )
        over = {-1: "f", tensor.dim() - 1: "f", None: "pf"}.get(
            dim[0] if isinstance(dim, (tuple, list)) and len(dim) == 1 else dim, "p"
        )
        axes = self.axes[operand]
        if "f" not in axes or ("p" in over and "p" in axes):
            raise Refused(f"{call.name} over the points, followed by more than a factor")
        reduced = self.note("sum", operand)
        if call.name == "mean":
            reduced = self.note("mul", reduced, ("number", call.result.numel() / tensor.numel()))
        self.axes[reduced] = axes if keepdim else axes.replace("f", "")
        return reduced

    def note(self, name: str, *operands: Operand) -> Operand:
        axes = [self.axes.get(operand, "") for operand in operands]
        if name in ("linear", "matmul"):
            fits = axes[1] == "matrix" and "f" in axes[0] and axes[2:] in ([], ["f"])
            axes = axes[:1]
        elif name == "t":
            fits = axes == ["matrix"]
        else:
            fits = "matrix" not in axes and not ("p" in axes and {"f", "pf"} & set(axes))
        if not fits:
            raise Refused(f"{name} of these operands is not known to the engine")
        self.unused -= set(operands)
        self.operations.append(Operation(name, operands))
        value = ("value", len(self.operations) - 1)
        self.axes[value] = max(axes, key=len)
        return value


UPDATES = {"add_", "add", "sub_", "sub", "mul_", "mul", "div_", "div", "neg_", "neg"}
Update = tuple[tuple[str, ...], ...]


def _update(
    before: list[Call], calls: list[Call]
) -> tuple[Update, list[Tensor], list[list[Tensor]], list[float]]:
    """What a step does with its gradients: operations, parameters, buffers and numbers."""
    parameters: list[Tensor] = []
    places: dict[int, int] = {}  # by a tensor's id: the index of its parameter
    names: dict[int, str] = {}
    changes = []
    for call in calls:
        if call.name == "get grad" and call.result is not None:
            p = call.args[0]
            if id(p) not in places:
                places[id(p)] = len(parameters)
                parameters.append(p)
            places[id(call.result)] = places[id(p)]
            names |= {id(p): "p", id(call.result): "g"}
        elif call.name in UPDATES or (call.in_place and call.name != "requires_grad_"):
            operands = [*call.args, *call.kwargs.values()]
            plain = all(isinstance(o, (Tensor, int, float)) for o in operands)
            if call.name not in UPDATES or set(call.kwargs) - {"alpha"} or not plain:
                raise Refused(f"{call.name} in the update is not known to the engine")
            changes.append((call, operands, [o for o in operands if isinstance(o, Tensor)]))
    # Twice, since a buffer may be changed before an operation connects it with a gradient
    for call, _, tensors in changes * 2:
        found = {places[id(t)] for t in tensors if id(t) in places}
        if len(found) > 1 or (found and len({t.shape for t in tensors}) > 1):
            raise Refused(f"{call.name} in the update mixes parameters")
        places |= {id(t): place for t in [*tensors, call.result] for place in found}

    made = {id(c.result): c.name for c in before + calls if all(a is not c.result for a in c.args)}
    updates: list[list[tuple[str, ...]]] = [[] for _ in parameters]
    numbers: list[list[float]] = [[] for _ in parameters]
    buffers: list[list[Tensor]] = [[] for _ in parameters]
    for call, operands, tensors in changes:
        if id(call.result) not in places:
            if call.in_place:
                raise Refused("the update changes a tensor that belongs to no parameter")
            continue
        place = places[id(call.result)]
        for tensor in tensors:
            if id(tensor) not in names and id(tensor) in made:
                raise Refused(f"{made[id(tensor)]} in the update is not known to the engine")
            if id(tensor) not in names:
                names[id(tensor)] = f"b{len(buffers[place])}"
                buffers[place].append(tensor)
        words = [names.get(id(o), "number") for o in operands]
        numbers[place] += [float(o) for o in operands if not isinstance(o, Tensor)]
        target = names.setdefault(id(call.result), f"t{len(updates[place])}")
        updates[place].append((call.name.rstrip("_"), target, *words))
    if not any(updates):
        raise Refused("no parameter is updated")
    if not all(updates):
        raise Refused("a parameter that has a gradient is not updated")
    if any(u != updates[0] for u in updates) or any(n != numbers[0] for n in numbers):
        raise Refused("the parameters are not all updated in the same way")
    return tuple(updates[0]), parameters, [list(column) for column in zip(*buffers)], numbers[0]
