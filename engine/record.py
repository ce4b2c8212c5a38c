"""Recording: what PyTorch does in the body of a loop becomes a `Step`, a description that can be compiled.

A `TorchFunctionMode` is handed every operation of PyTorch while it is entered. `backward()` names the loss; walking
back from it gives the operations that lead there. What changes tensors after `backward()` is the update.
"""

from engine.rules import RULES

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

LARGEST = 2000  # parameters: docs/generated/benchmarks.md has the seconds to compile


class Refused(Exception):
    """A loop that is not compiled; the message says why, in a line."""


class Tape(TorchFunctionMode):
    """Notes down every operation of PyTorch: name, arguments, result; and tensors before they are changed in place."""

    def __init__(self) -> None:
        super().__init__()
        self.listening = True
        self.operations: list[tuple[str, tuple, dict, Any]] = []
        self.before: dict[int, Tensor] = {}  # by the id of a tensor that is changed

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]  # PyTorch's own
        name, kwargs = func.__name__, kwargs or {}
        if name == "__get__":
            name = f"get {func.__self__.__name__}"
        if _in_place(name) and isinstance(args[0], Tensor):
            self.before.setdefault(id(args[0]), args[0].detach().clone())
        result = func(*args, **kwargs)
        if self.listening:
            self.operations.append((NAMES.get(name, name), args, kwargs, result))
        return result


NAMES = {"get T": "t", "get mT": "t", "__rsub__": "rsub", "__rdiv__": "rdiv"}
# Operations that tell or change nothing which a step depends on, besides all that read an attribute.
HARMLESS = {
    "__set__", "_set_grad_enabled", "_record_function_enter_new", "_RecordFunction", "__len__", "size",
    "dim", "numel", "is_complex", "is_floating_point", "requires_grad_", "backward",
}  # fmt: skip


class Operation(NamedTuple):
    """An operation of the loss: a rule's name, and for each operand its kind ("parameter", "data", "value", "number")
    with its place among those, or the number itself."""

    rule: str
    operands: tuple[tuple[str, float], ...]


class Step(NamedTuple):
    """What a step does, apart from its numbers: all that its code depends on."""

    # The last one's result, summed over points and features, is the loss / scale.
    operations: tuple[Operation, ...]
    shapes: tuple[tuple[int, ...], ...]  # of the parameters
    widths: tuple[int, ...]  # of the data: features
    fresh: tuple[bool, ...]  # whether the data are of the step, not constants
    points: int
    # Operation, target, operands: parameters "p", gradients "g", buffers "b0", temporary "t0", or "number"
    update: tuple[tuple[str, ...], ...]

    @property
    def parameters(self) -> int:
        return sum(math.prod(shape) for shape in self.shapes)

    @property
    def buffers(self) -> int:
        """How many numbers an update keeps for each parameter, such as momentum's."""
        names = {name for operation in self.update for name in operation if name[0] == "b"}
        return len(names - {"backward"})


class Recorded(NamedTuple):
    """A step, and the tensors and numbers that belong to it."""

    step: Step
    parameters: list[Tensor]
    buffers: list[list[Tensor]]  # for each buffer of the update those of all parameters
    data: list[Tensor]
    places: list[int | None]  # where in the loop's item the data stand; None: a constant
    numbers: np.ndarray  # scale, twice it, then those of the update
    loss: float


def understand(tape: Tape, item: Any) -> Recorded:
    """The step on a tape; `item` is what the loop handed to it.

    Raises:
        Refused: it has something that cannot be compiled.
    """
    names = [name for name, *_ in tape.operations]
    if names.count("backward") != 1:
        raise Refused(f"{names.count('backward')} calls of backward() in a step; it takes one")
    at = names.index("backward")
    for name in names[:at]:
        if _in_place(name) and name not in ("requires_grad_", "zero_"):
            raise Refused(f"{name} before backward()")
    loss = tape.operations[at][1][0]
    update, parameters, buffers, factors = _update(tape.operations[at + 1 :])
    for name, _, _, result in tape.operations:
        known = name in HARMLESS or name.split(".")[0] in HARMLESS or name.startswith("get ")
        if not (known or "_record_function" in name or _tensors(result)):
            raise Refused(f"{name}: the loop looks at a value")
    if any(p.dtype != torch.float64 or p.device.type != "cpu" for p in parameters):
        raise Refused("only float64 on the CPU is compiled")
    if (count := sum(p.numel() for p in parameters)) > LARGEST:
        raise Refused(f"{count:,} parameters would take long to compile; at most {LARGEST:,} are")
    graph = _Graph(tape.operations[:at], parameters, item)
    scale = graph.follow(loss)
    step = Step(
        tuple(graph.operations), tuple(tuple(p.shape) for p in parameters),
        tuple(1 if d.dim() == 0 else d.shape[-1] for d in graph.data),
        tuple(place is not None for place in graph.places), graph.points, update,
    )  # fmt: skip
    numbers = np.array([scale, 2 * scale, *factors])
    return Recorded(
        step, parameters, buffers, graph.data, graph.places, numbers, float(loss.detach())
    )


def _tensors(value: Any) -> bool:
    return isinstance(value, Tensor) or (
        isinstance(value, (tuple, list)) and any(isinstance(part, Tensor) for part in value)
    )


def _in_place(name: str) -> bool:
    return name.endswith("_") and not name.endswith("__")


class _Graph:
    """The operations that lead to the loss, and their operands."""

    def __init__(self, operations: list, parameters: list[Tensor], item: Any):
        self.made_by = {  # by the ids of results; `to` may have handed back what it was given
            id(op[3]): op
            for op in operations
            if isinstance(op[3], Tensor) and not any(op[3] is operand for operand in op[1])
        }
        self.places_of: dict[int, tuple[str, float]] = {
            id(p): ("parameter", k) for k, p in enumerate(parameters)
        }
        self.item = [id(part) for part in (item if isinstance(item, (tuple, list)) else [item])]
        self.operations: list[Operation] = []
        self.data: list[Tensor] = []
        self.places: list[int | None] = []
        self.parameters = len(parameters)
        self.points = 1
        self.axes: dict[tuple[str, float], str] = {}  # of values: "points", "features", both, none
        self.used: set[int] = set()

    def follow(self, loss: Tensor) -> float:
        """Notes down what leads to the loss. Returns the factor of the sum over points and features that it is."""
        scale, tensor = 1.0, loss
        while op := self.made_by.get(id(tensor)):
            name, args, kwargs, _ = op
            if (
                name == "mse_loss"
                and kwargs.get("weight") is None
                and kwargs["reduction"] != "none"
            ):
                scale /= args[0].numel() if kwargs["reduction"] == "mean" else 1
                found = [self.find(operand) for operand in args[:2]]
                self.note("square", (self.note("sub", tuple(found), args[0].dim()),), args[0].dim())
                break
            numbers = [a for a in args[1:] if isinstance(a, (int, float))]
            if name in ("sum", "mean"):
                scale *= tensor.numel() / args[0].numel() if name == "mean" else 1
            elif name in ("mul", "div") and numbers and not kwargs:
                scale *= numbers[0] if name == "mul" else 1 / numbers[0]
            elif name == "neg":
                scale = -scale
            else:
                self.find(tensor)
                break
            tensor = args[0]
        last = ("value", len(self.operations) - 1)
        if not self.operations or (self.points > 1 and "points" not in self.axes[last]):
            raise Refused("the loss is no sum over the points")
        if len(self.used) < self.parameters:
            raise Refused("a parameter that is updated is not in the loss")
        return scale

    def find(self, tensor: Any) -> tuple[str, float]:
        """The reference to a tensor or number; what leads to it is noted down before."""
        if isinstance(tensor, (int, float)) and not isinstance(tensor, bool):
            return ("number", float(tensor))
        if not isinstance(tensor, Tensor):
            raise Refused(f"an operand of type {type(tensor).__name__}")
        if id(tensor) in self.places_of:
            return self.parameter_or_known(tensor)
        if id(tensor) in self.made_by:
            reference = self.compute(*self.made_by[id(tensor)])
        else:
            reference = self.datum(tensor)
        self.places_of[id(tensor)] = reference  # a tensor that is used twice is computed once
        return reference

    def parameter_or_known(self, tensor: Tensor) -> tuple[str, float]:
        reference = self.places_of[id(tensor)]
        if reference[0] == "parameter":
            self.used.add(int(reference[1]))
            self.axes[reference] = {1: "features", 2: "matrix"}.get(tensor.dim(), "")
        return reference

    def datum(self, tensor: Tensor) -> tuple[str, float]:
        if tensor.dtype != torch.float64 or tensor.device.type != "cpu" or tensor.dim() > 2:
            raise Refused(f"a tensor of {tensor.dtype} of shape {tuple(tensor.shape)}")
        if tensor.requires_grad:
            raise Refused("a tensor that requires a gradient and is not updated")
        if tensor.dim() == 2:
            if self.points not in (1, len(tensor)):
                raise Refused(f"data with {self.points} and {len(tensor)} points")
            self.points = len(tensor)
        self.data.append(tensor)
        self.places.append(self.item.index(id(tensor)) if id(tensor) in self.item else None)
        reference = ("data", len(self.data) - 1)
        self.axes[reference] = ("", "features", "points features")[tensor.dim()]
        return reference

    def compute(self, name: str, args: tuple, kwargs: dict, result: Tensor) -> tuple[str, float]:
        """Notes down an operation, and before it what leads to its operands."""
        if name == "pow" and args[1:] in ((2,), (3,)):
            name, args = {2: "square", 3: "cube"}[args[1]], args[:1]
        elif name in ("rsub", "rdiv"):
            name, args = {"rsub": "sub", "rdiv": "div"}[name], (args[1], args[0])
        elif name == "div" and len(args) == 2 and isinstance(args[1], (int, float)):
            name, args = "mul", (args[0], 1 / args[1])
        elif name in ("t", "relu"):
            args, kwargs = args[:1], {}
        elif name in ("sum", "mean"):
            return self.reduce(name, args, kwargs, result)
        elif name == "detach" or name not in RULES or kwargs:
            raise Refused(
                f"{name}{' with ' + ', '.join(kwargs) if kwargs else ''} is not known to the engine"
            )
        if name == "linear" and len(args) == 3 and args[2] is None:
            args = args[:2]
        return self.note(name, tuple(self.find(operand) for operand in args), result.dim())

    def reduce(self, name: str, args: tuple, kwargs: dict, result: Tensor) -> tuple[str, float]:
        """A sum or mean over the features, inside of the loss."""
        operand = self.find(args[0])
        axes, dim = self.axes[operand], kwargs.get("dim", args[1] if len(args) > 1 else None)
        dim = dim[0] if isinstance(dim, (tuple, list)) and len(dim) == 1 else dim
        over = "features" if dim in (-1, args[0].dim() - 1) else "points"
        over = "points features" if dim is None else over
        if "features" not in axes or (over != "features" and "points" in axes):
            raise Refused(f"{name} over the points, and then more than a factor")
        reference = self.note("sum", (operand,), result.dim())
        if not kwargs.get("keepdim", len(args) > 2 and args[2]):
            self.axes[reference] = axes.replace("features", "").strip()
        if name == "mean":
            kept = self.axes[reference]
            factor = ("number", result.numel() / args[0].numel())
            reference = self.note("mul", (reference, factor), result.dim())
            self.axes[reference] = kept
        return reference

    def note(
        self, name: str, operands: tuple[tuple[str, float], ...], dim: int
    ) -> tuple[str, float]:
        axes = [self.axes.get(operand, "") for operand in operands]
        if name in ("linear", "matmul"):
            fits = axes[1] == "matrix" and "features" in axes[0] and axes[2:] in ([], ["features"])
            axes = axes[:1]
        elif name == "t":
            fits = axes == ["matrix"]
        else:
            fits = "matrix" not in axes and not ("points" in axes and "points features" in axes)
            fits = fits and not ("points" in axes and "features" in axes)
        if not fits:
            raise Refused(f"{name} of these operands is not known to the engine")
        self.operations.append(Operation(name, operands))
        reference = ("value", len(self.operations) - 1)
        self.axes[reference] = max(axes, key=len)
        return reference


UPDATES = {"add_", "add", "sub_", "sub", "mul_", "mul", "neg_", "neg"}


def _update(operations: list) -> tuple[tuple, list[Tensor], list[list[Tensor]], list[float]]:
    """What is done with the gradients: the update's operations, parameters, buffers and numbers."""
    names: dict[
        int, tuple[str, int]
    ] = {}  # of tensors: "p", "g", "b0", "t0", and the parameter's place
    parameters: list[Tensor] = []
    programs: list[list[tuple]] = []
    numbers: list[list[float]] = []
    buffers: list[list[Tensor]] = []
    waiting: dict[
        int, list
    ] = {}  # operations on a tensor that may be a buffer, until a gradient says whose

    def note(place: int, name: str, operands: Sequence[Any], result: Tensor) -> None:
        words = []
        for operand in operands:
            if isinstance(operand, Tensor):
                words.append(names[id(operand)][0])
            else:
                words.append("number")
                numbers[place].append(float(operand))
        if not _in_place(name):
            names[id(result)] = (f"t{len(programs[place])}", place)
        programs[place].append((name.rstrip("_"), names[id(result)][0], *words))

    for name, args, kwargs, result in operations:
        if name == "get grad":
            if result is not None:
                if not any(p is args[0] for p in parameters):
                    parameters.append(args[0])
                    programs.append([])
                    numbers.append([])
                    buffers.append([])
                    names[id(args[0])] = ("p", len(parameters) - 1)
                names[id(result)] = ("g", names[id(args[0])][1])
        elif name in UPDATES or (_in_place(name) and name != "requires_grad_"):
            if name not in UPDATES or set(kwargs) - {"alpha"}:
                raise Refused(f"{name} in the update is not known to the engine")
            operands = [*args, *kwargs.values()]
            if not all(isinstance(o, (Tensor, int, float)) for o in operands):
                raise Refused(
                    f"{name} in the update has an operand that is not known to the engine"
                )
            tensors = [o for o in operands if isinstance(o, Tensor)]
            found = {names[id(o)][1] for o in tensors if id(o) in names}
            if not found:
                if _in_place(name):
                    waiting.setdefault(id(args[0]), []).append((name, operands, result))
                continue
            if len(found) > 1 or len({o.shape for o in tensors}) > 1:
                raise Refused(f"{name} in the update mixes parameters")
            place = found.pop()
            for tensor in tensors:
                if id(tensor) not in names:
                    names[id(tensor)] = (f"b{len(buffers[place])}", place)
                    buffers[place].append(tensor)
                    for earlier in waiting.pop(id(tensor), []):
                        note(place, *earlier)
            note(place, name, operands, result)
    if waiting:
        raise Refused("a tensor is changed that the update does not know")
    moved = [k for k, program in enumerate(programs) if program]
    if not moved:
        raise Refused("no parameter is updated")
    if len(moved) < len(parameters):
        raise Refused("a parameter has a gradient and no update")
    if any(programs[k] != programs[0] or numbers[k] != numbers[0] for k in moved):
        raise Refused("the parameters are not all updated alike")
    return tuple(programs[0]), parameters, [list(column) for column in zip(*buffers)], numbers[0]
