"""The fused engine: plain SGD on a small fully connected network, all steps in one compiled loop.

A PyTorch step of a network with a few dozen parameters costs hundreds of microseconds, nearly all of it the price of
calling some fifty operations one by one. Here forward pass, backward pass and update are written down once, as
arithmetic on Vectors (common/vector.py). Run for the network at hand, it leaves a program behind, which LLVM compiles
in a few hundredths of a second. It makes the same steps as the plain loop in the lectures, which stays the reference.

For one start, the points of a batch lie in the lanes of a vector. Several starts lie there themselves and take the
points one pair after another. The operations and their order are the same both times, sums over points included. So a
start has the same bits alone and among others, on any number of cores, in one call or in several.
"""

import functools
import itertools
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from common.vector import (
    LANES,
    Program,
    Vector,
    dot,
    fma,
    host,
    join,
    relu,
    sigmoid,
    tanh,
    transpose,
    where,
)

CHUNK_SECONDS = 0.1  # the compiled loop returns this often, so that a bar moves and Ctrl-C is heard
LARGEST = 2000  # parameters: docs/benchmarks.md says how long compiling takes then, and after how many steps it pays

# What may follow a layer: its values, and from a value and the derivative by it the one by what it was applied to.
ACTIVATIONS: dict[type | None, tuple[Callable, Callable]] = {
    None: (lambda z: z, lambda value, delta: delta),
    nn.Sigmoid: (sigmoid, lambda value, delta: delta * fma(-value, value, value)),
    nn.Tanh: (tanh, lambda value, delta: delta * fma(-value, value, 1.0)),
    nn.ReLU: (relu, lambda value, delta: where(value > 0.0, delta, 0.0)),
}


def train_sgd(
    models: nn.Sequential | Sequence[nn.Sequential],
    inputs: torch.Tensor,
    targets: torch.Tensor,
    *,
    learning_rate: float,
    steps: int,
    scale: float = 1.0,
    iterates: np.ndarray | None = None,
    advance: Callable[[int], bool] = lambda steps: True,
) -> np.ndarray:
    """Makes `steps` steps of plain SGD, cycling through the batches, one a step, in order.

    The loss of a step is ``scale * ((model(x) - y) ** 2).sum()`` over its batch, and every parameter moves by
    ``-learning_rate`` times the loss's derivative, as `torch.optim.SGD` does. The models' parameters are updated in
    place, also when the call ends early.

    Args:
        models: an nn.Sequential of nn.Linear with nn.Sigmoid, nn.Tanh, nn.ReLU or nothing after each, in float64; or a
            sequence of such models alike in shape: independent starts, spread over the cores.
        inputs: shape (batches, points, features), or (starts, batches, points, features) with each start's own.
        targets: shape (batches, points, outputs), or with the starts' axis.
        learning_rate: the factor of the gradient.
        steps: the number of steps.
        scale: the factor of the sum of squares.
        iterates: float64, shape (steps, parameters), or (starts, steps, parameters) for a sequence of models: filled
            in with the parameters after each step, in the order of `torch.nn.utils.parameters_to_vector`.
        advance: called about ten times a second with the number of steps made since; returning False ends the call.

    Returns:
        Every step's loss, before its update: float64, shape (steps,), or (starts, steps) for a sequence of models.
        NaN where no step was made: after a loss that is not finite, which ends its start, and after an early end.

    Raises:
        TypeError: a module that the engine cannot take; it is named.
        ValueError: a network too large for it; shapes that do not fit each other.
    """
    alone = isinstance(models, nn.Sequential)
    starts = [models] if isinstance(models, nn.Sequential) else list(models)
    losses = np.empty((len(starts), steps))
    iterates = iterates[None] if alone and iterates is not None else iterates
    descent = _Descent(starts, (inputs, targets), losses, iterates)
    for made in descent.chunks(0, learning_rate, scale):
        if not advance(made * len(starts)):
            break
    descent.update_models()
    for starts_of_group, count in zip(descent.members, descent.noted):
        losses[starts_of_group, count:] = np.nan
    return losses[0] if alone else losses


def sgd(
    model: nn.Sequential,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    losses: np.ndarray,
    *,
    learning_rate: float,
    scale: float = 1.0,
    iterates: np.ndarray | None = None,
    first: int = 0,
) -> Iterator[int]:
    """The steps of `train_sgd` with one model, as an iterator that makes those of a tenth of a second at a time.

    It yields their number; model, losses and iterates are up to date then. A loss that is not finite is put down too,
    though its step is not counted, and ends the iterator. Arguments and what is raised, before the first step, are as
    in `train_sgd`, but for:

    Args:
        losses: float64, shape (steps,): filled in.
        first: the number of the first step to make; those before it have been made.
    """
    descent = _Descent(
        [model], (inputs, targets), losses[None], None if iterates is None else iterates[None]
    )
    return descent.chunks_with_models(first, learning_rate, scale)


def refusal(model: nn.Sequential) -> str | None:
    """Why the engine cannot take this model, or None if it can."""
    try:
        _case(model, points=1, lanes=1, iterates=False)
    except (TypeError, ValueError) as error:
        return str(error)
    return None


class Case(NamedTuple):
    """What a function is compiled for."""

    widths: tuple[int, ...]  # of the layers, the inputs first
    activations: tuple[type | None, ...]  # what follows each layer, a key of ACTIVATIONS
    parameters: int
    points: int  # in a batch
    parts: int  # points that are taken at once: a pair, or one where there is no other
    pairs: int  # as many as hold the points, with the points in the lanes a multiple of LANES if they are more
    lanes: int  # starts in the lanes; 1 if the points are there
    iterates: bool  # whether the parameters are kept after each step

    @property
    def rows(self) -> tuple[int, int]:
        """The numbers of an input point and of a target, with one more if not every place is taken, see `_terms`."""
        return self.widths[0], self.widths[-1] + (self.points < self.parts * self.pairs)


def _case(model: nn.Sequential, points: int, lanes: int, iterates: bool) -> Case:
    """The case of a model; raises what `train_sgd` does."""
    widths: list[int] = []
    activations: list[type | None] = []
    layers: list[nn.Linear] = []
    for module in model:
        if type(module) is nn.Linear and module.bias is not None and module not in layers:
            widths += [module.out_features] if widths else [module.in_features, module.out_features]
            activations.append(None)
            layers.append(module)
        elif type(module) in ACTIVATIONS and activations[-1:] == [None]:
            activations[-1] = type(module)
        else:
            raise TypeError(
                f"the fused engine cannot take {module} here; it takes nn.Linear with a bias, each once "
                "and followed by nn.Sigmoid, nn.Tanh, nn.ReLU or nothing"
            )
    kinds = {layer.weight.dtype for layer in layers}
    if kinds != {torch.float64}:
        raise TypeError(
            f"the fused engine cannot take {model} in {kinds or 'no type'}; it takes nn.Linear in float64"
        )
    parameters = sum((n + 1) * m for n, m in itertools.pairwise(widths))
    if parameters > LARGEST:
        raise ValueError(
            f"the fused engine cannot take a network with {parameters:,} parameters, which would take "
            f"long to compile; it takes up to {LARGEST:,}"
        )
    parts = min(2, points)
    pairs = -(-points // parts)
    if lanes == 1 and pairs > LANES:
        pairs = -(-pairs // LANES) * LANES
    return Case(
        tuple(widths), tuple(activations), parameters, points, parts, pairs, lanes, iterates
    )


def _terms(
    layers: list, activations: Sequence, x: list[Vector], y: list[Vector]
) -> Iterator[tuple[int, Vector]]:
    """Forward and backward pass over two points, one in each part of the Vectors, or over one in a single part.

    Args:
        layers: a matrix, row by row, and a bias for each layer; a Vector a weight.
        activations: what follows each layer, a key of ACTIVATIONS.
        x: a Vector for each input.
        y: a Vector for each target; perhaps one more, which is 1 where there is a point and 0 where there is none.

    Yields:
        For each parameter, its place among all and half the derivative by it of the sum of squares over the two
        points; for the place after the last, that sum.
    """
    values = [x]
    for (matrix, bias), activation in zip(layers, activations):
        z = [dot(row, values[-1], b) for row, b in zip(matrix, bias)]
        values.append(ACTIVATIONS[activation][0](z))

    deltas = [value - target for value, target in zip(values[-1], y)]
    if len(y) > len(deltas):
        deltas = [delta * y[-1] for delta in deltas]
    place = sum(len(bias) * (len(inputs) + 1) for (_, bias), inputs in zip(layers, values))
    both = [part for delta in deltas for part in delta.split()]
    yield place, dot(both, both)

    for (matrix, bias), activation, inputs, outputs in reversed(
        [*zip(layers, activations, values, values[1:])]
    ):
        deltas = [ACTIVATIONS[activation][1](value, delta) for value, delta in zip(outputs, deltas)]
        # By the inputs comes first, which the layer before waits for. Nothing waits for it at the first layer.
        by_inputs = [dot(column, deltas) for column in zip(*matrix)] if inputs is not x else []
        place -= len(bias) * (len(inputs) + 1)
        yield from enumerate(
            (dot(delta.split(), value.split()) for delta in deltas for value in inputs), place
        )
        yield from enumerate(
            (sum(rest, first) for first, *rest in (delta.split() for delta in deltas)),
            place + len(bias) * len(inputs),
        )
        deltas = by_inputs


# Of a compiled function. It makes steps, the first with the number `first`, and returns how many: `steps`, or fewer if
# all its starts have ended. Weights move by `rate` times the sums of `_terms`, the loss is `scale` times its sum.
_ARGUMENTS = {
    "first": "i64",
    "steps": "i64",
    "rate": "double",
    "scale": "double",
    "batches": "i64",
    "weights": "ptr",  # (parameters + LANES, lanes), the last LANES unused
    "inputs": "ptr",
    "targets": "ptr",  # (batches, rows, parts, pairs, lanes), and LANES doubles more
    "losses": "ptr",
    "iterates": "ptr",  # (steps,) and (steps, parameters), or LANES such arrays' addresses
    "last": "ptr",  # (lanes,), the last losses
}


@functools.cache
def _compiled(case: Case, *target: str) -> Callable[..., int]:
    """The function for a case and a processor."""
    program = Program(_ARGUMENTS)
    with program.loop("%steps") as done:
        step = program.value(f"add i64 %first, {done}")
        (_points_in_lanes if case.lanes == 1 else _starts_in_lanes)(program, case, step, done)
    return program.compile("%steps", *target)


def _points_in_lanes(program: Program, case: Case, step: str, done: str) -> None:
    """A step of one start, LANES pairs of points at a time."""
    rooms = [
        program.room(-0.0) for _ in range(case.parameters // LANES + 1)
    ]  # LANES sums each, that of the loss last
    with program.loop(-(-case.pairs // LANES)) as group:
        operands = _operands(program, case, step, program.value(f"mul i64 {group}, {LANES}"))
        terms = dict(_terms(*operands))
        if case.pairs > LANES and case.points < 2 * case.pairs:
            there = operands[-1][-1].split()[0] > 0.0
            terms = {
                place: where(there, term, -0.0) for place, term in terms.items()
            }  # -0.0 + x is x to the bit
        for n, room in enumerate(rooms):
            total = program.load(room)
            rows = [terms[place] for place in range(LANES * n, min(LANES * (n + 1), len(terms)))]
            for column in transpose(rows)[: case.pairs]:  # in the order of the points
                total += column
            program.store(total, room)

    sums = [program.load(room) for room in rooms]
    loss = program.spread_lane(sums[-1], case.parameters % LANES) * program.spread("%scale")
    program.store(loss, "%losses", step, count=1)
    program.leave_unless(loss - loss < math.inf, done)  # 0 if the loss is finite, else a NaN
    for place in range(0, case.parameters, LANES):
        weights = fma(
            sums[place // LANES], program.spread("%rate"), program.load("%weights", place)
        )
        program.store(weights, "%weights", place)
        if case.iterates:
            row = program.address("%iterates", program.value(f"mul i64 {step}, {case.parameters}"))
            program.store(weights, row, place, min(LANES, case.parameters - place))


def _starts_in_lanes(program: Program, case: Case, step: str, done: str) -> None:
    """A step of LANES starts, a pair of points at a time. Those that have ended stay as they are."""
    rooms = [program.room(-0.0) for _ in range(case.parameters + 1)]
    with program.loop(case.pairs) as pair:
        for place, term in _terms(*_operands(program, case, step, pair)):
            program.store(program.load(rooms[place]) + term, rooms[place])

    last, total = program.load("%last"), program.load(rooms[-1])
    running = last - last < math.inf  # 0 where it was finite, else a NaN
    loss = where(running, total * program.spread("%scale"), math.nan)
    finite = loss - loss < math.inf
    program.store(loss, "%last")
    program.scatter(loss, "%losses", step)
    program.leave_unless(finite, done)
    for place, room in enumerate(rooms[:-1]):
        old = program.load("%weights", LANES * place)
        weights = where(finite, fma(program.load(room), program.spread("%rate"), old), old)
        program.store(weights, "%weights", LANES * place)
        if case.iterates:
            row = program.value(f"mul i64 {step}, {case.parameters}")
            program.scatter(weights, "%iterates", program.value(f"add i64 {row}, {place}"), finite)


def _operands(
    program: Program, case: Case, step: str, pair: str
) -> tuple[list, tuple, list[Vector], list[Vector]]:
    """What `_terms` works on, read from memory: the weights, and the points of a step from a pair on."""
    load = program.load_spread if case.lanes == 1 else program.load
    weights = (
        join([load("%weights", case.lanes * place)] * case.parts)
        for place in range(case.parameters)
    )
    layers = [
        ([list(itertools.islice(weights, n)) for _ in range(m)], list(itertools.islice(weights, m)))
        for n, m in itertools.pairwise(case.widths)
    ]
    batch, points = program.value(f"urem i64 {step}, %batches"), []
    for array, rows in zip(("%inputs", "%targets"), case.rows):
        first = program.value(f"mul i64 {batch}, {rows * case.parts * case.pairs}")
        first = program.value(f"mul i64 {program.value(f'add i64 {first}, {pair}')}, {case.lanes}")
        begin = program.address(array, first)
        points.append(
            [
                join(
                    [
                        program.load(begin, (row * case.parts + part) * case.pairs * case.lanes)
                        for part in range(case.parts)
                    ]
                )
                for row in range(rows)
            ]
        )
    x, y = points
    return layers, case.activations, x, y


class _Descent:
    """Starts on their way down: the arrays that a compiled function works on, and its calls."""

    def __init__(
        self,
        models: Sequence[nn.Sequential],
        data: Sequence[torch.Tensor],
        losses: np.ndarray,
        iterates: np.ndarray | None,
    ):
        """data: inputs and targets of `train_sgd`; losses (starts, steps), iterates (starts, steps, parameters)."""
        inputs, targets = (
            _batches(tensor, name) for tensor, name in zip(data, ("inputs", "targets"))
        )
        lanes = _lanes(len(models))
        case, *others = (
            _case(model, inputs.shape[2], lanes, iterates is not None) for model in models
        )
        if any(other != case for other in others):
            raise ValueError("the models differ in their layers")
        if (
            inputs.shape[3] != case.widths[0]
            or targets.shape[3] != case.widths[-1]
            or inputs.shape[1:3] != targets.shape[1:3]
            or {len(inputs), len(targets)} - {1, len(models)}
        ):
            raise ValueError(
                f"inputs {tuple(data[0].shape)} and targets {tuple(data[1].shape)} do not fit "
                f"{len(models)} models with {case.widths[0]} inputs and {case.widths[-1]} outputs"
            )
        for array, shape in (losses, losses.shape), (iterates, (*losses.shape, case.parameters)):
            if array is not None and (array.shape, array.dtype, array.flags.c_contiguous) != (
                shape,
                np.float64,
                True,
            ):
                raise ValueError(
                    f"losses and iterates: expected float64, contiguous, here of shape {shape}; got "
                    f"{array.dtype} of shape {array.shape}"
                )

        groups = -(-len(models) // lanes)
        # The numbers of each group's starts. The last start fills up the last group: its twins write what it writes.
        self.members = members = (
            np.arange(groups * lanes).clip(max=len(models) - 1).reshape(groups, lanes)
        )
        self.noted, self.running = (
            [0] * groups,
            [*range(groups)],
        )  # how many losses each has; those that go on
        self.columns = [*zip(*map(_parameters, models))]  # for each parameter those of all starts
        vectors = (
            torch.cat([torch.stack(column).flatten(1) for column in self.columns], dim=1)
            .detach()
            .cpu()
            .numpy()
        )
        weights = np.zeros((groups, case.parameters + LANES, lanes))
        self.weights = weights[:, : case.parameters]
        self.weights[...] = vectors[members].transpose(0, 2, 1)
        last = np.zeros((groups, lanes))
        points = [
            _laid_out(array, case, rows, members)
            for array, rows in zip((inputs, targets), case.rows)
        ]
        addresses = [
            np.zeros_like(members)
            if array is None
            else array.ctypes.data + array.strides[0] * members
            for array in (losses, iterates)
        ]
        self.steps, self.function = losses.shape[1], _compiled(case, *host())
        self.calls = [
            (
                inputs.shape[1],
                weights[g].ctypes.data,
                *(array[g % len(array)].ctypes.data for array in points),
                *(int(rows[g, 0]) if lanes == 1 else rows[g].ctypes.data for rows in addresses),
                last[g].ctypes.data,
            )
            for g in range(groups)
        ]
        self.arrays = (
            last,
            points,
            addresses,
            losses,
            iterates,
        )  # alive, since the calls have their addresses alone

    def chunks(self, first: int, learning_rate: float, scale: float) -> Iterator[int]:
        """Makes the steps from number `first` on; gives how many the start made that came furthest, each time."""
        count = 100
        with ThreadPoolExecutor(_cores()) as pool:
            while first < self.steps and self.running:
                count = min(count, self.steps - first)
                calls = [
                    (first, count, -2 * scale * learning_rate, scale, *self.calls[g])
                    for g in self.running
                ]
                begin = time.perf_counter()
                made = list((pool.map if len(calls) > 1 else map)(self.function, *zip(*calls)))
                for g, steps in zip(self.running, made):
                    self.noted[g] = first + min(
                        steps + 1, count
                    )  # one more than steps: the loss that ended it
                first += count
                self.running = [g for g, steps in zip(self.running, made) if steps == count]
                count = max(1, int(count * min(10, CHUNK_SECONDS / (time.perf_counter() - begin))))
                yield max(made)

    def chunks_with_models(self, first: int, learning_rate: float, scale: float) -> Iterator[int]:
        """As `chunks`, with the models up to date after each."""
        for made in self.chunks(first, learning_rate, scale):
            self.update_models()
            yield made

    def update_models(self) -> None:
        """Puts the weights as they are now into the models."""
        vectors = torch.from_numpy(
            self.weights.transpose(0, 2, 1).reshape(-1, self.weights.shape[1])
        )  # a row a start
        for column, values in zip(
            self.columns, vectors.split([column[0].numel() for column in self.columns], dim=1)
        ):
            for parameter, numbers in zip(column, values.reshape(-1, *column[0].shape)):
                parameter.data.copy_(numbers)


def _parameters(model: nn.Sequential) -> list[torch.Tensor]:
    """`model.parameters()` of a model that `_case` takes, in a quarter of the time, which counts for many starts."""
    return [
        parameter
        for layer in model
        if type(layer) is nn.Linear
        for parameter in (layer.weight, layer.bias)
    ]


def _batches(tensor: torch.Tensor, name: str) -> np.ndarray:
    """(batches, points, n) or with starts before, as an array of float64 (starts or 1, batches, points, n)."""
    if tensor.dim() not in (3, 4) or 0 in tensor.shape:
        raise ValueError(
            f"{name}: expected shape (batches, points, n) or (starts, batches, points, n), none of them "
            f"0, got {tuple(tensor.shape)}"
        )
    return tensor.detach().to("cpu", torch.float64).reshape(-1, *tensor.shape[-3:]).numpy()


def _laid_out(batches: np.ndarray, case: Case, rows: int, members: np.ndarray) -> np.ndarray:
    """(starts or 1, batches, points, n) as a compiled function reads it, for each group of starts or once for all."""
    if len(batches) == 1:
        members = np.zeros((1, case.lanes), int)
    point = np.arange(case.parts * case.pairs).reshape(case.pairs, case.parts).T
    shape = len(members), batches.shape[1], rows, *point.shape, case.lanes
    memory = np.zeros(math.prod(shape) + LANES)
    result, n = memory[:-LANES].reshape(shape), batches.shape[3]
    for group, starts in zip(result, members):
        # Where there is no point the last one stands, so that nothing becomes infinite there alone.
        numbers = batches[starts].transpose(1, 3, 2, 0)[:, :, point.clip(max=case.points - 1)]
        group[:, :n], group[:, n:] = numbers, (point < case.points)[..., None]
    return result


def _lanes(starts: int) -> int:
    """How many starts share a vector's lanes; 1 if the points of each lie there.

    LANES starts in the lanes take as long as some four with their points there, one after another.
    """
    return LANES if starts > LANES // 2 * _cores() else 1


def _cores() -> int:
    """The processor's cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
