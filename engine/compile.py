"""Compiles a step: its rules, applied to Vectors, write a program, which LLVM compiles.

For one start, the lanes of a Vector hold the points of a batch. For many starts, each lane holds a
start, and the points are computed one pair after another. Both layouts have the same operations in
the same order, sums over points included, so a start has the same bits alone and among others.
"""

from engine.record import Operand, Step
from engine.rules import RULES
from engine.vector import LANES, Program, Vector, dot, fma, host, join, transpose, where

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple


class Case(NamedTuple):
    """What a function is compiled for: a step, and the layout of points and starts."""

    step: Step
    lanes: int  # starts in the lanes; 1 if the lanes hold points
    iterates: bool  # whether the parameters are kept after each step

    @property
    def parts(self) -> int:
        """Points computed at once: two, or one if the batch has only one."""
        return min(2, self.step.points)

    @property
    def pairs(self) -> int:
        """Pairs of points; if one start has more than LANES, rounded up to a multiple of LANES."""
        pairs = -(-self.step.points // self.parts)
        return -(-pairs // LANES) * LANES if self.lanes == 1 and pairs > LANES else pairs

    @property
    def padded(self) -> bool:
        return self.step.points < self.parts * self.pairs

    @property
    def rows(self) -> int:
        """Numbers per point: its data and, in a padded batch, 1 for a point or 0 for padding."""
        return sum(self.step.widths) + self.padded

    @property
    def batch(self) -> int:
        """Numbers in a batch."""
        return self.rows * self.parts * self.pairs * self.lanes


# The arguments of a compiled function. It makes `steps` steps, but ends after a step in which no
# start has a finite loss. It returns the number of steps made, that one included.
ARGUMENTS = {
    "first": "i64",  # the number of the first step, which selects its batch
    "steps": "i64",
    "batches": "i64",
    "numbers": "ptr",  # scale, then those of the update
    "weights": "ptr",  # (1 + buffers, parameters + LANES, lanes); the last LANES rows are unused
    "data": "ptr",  # (batches, rows, parts, pairs, lanes), then LANES unused doubles
    "losses": "ptr",  # (steps, lanes)
    "iterates": "ptr",  # (steps, parameters, lanes)
    "last": "ptr",  # (lanes,), the last losses
}


@functools.cache
def compiled(case: Case, *target: str) -> Callable[..., int]:
    """Compiles the function of a case for a processor (default: this one); see ARGUMENTS."""
    program = Program(ARGUMENTS)
    with program.loop("%steps") as done:
        (_points_in_lanes if case.lanes == 1 else _starts_in_lanes)(program, case, done)
    return program.compile("%steps", *(target or host()))


def terms(case: Case, parameters: list, data: list) -> list[Vector]:
    """Forward and backward pass over one or two points, one in each part of the Vectors.

    Args:
        parameters: lists of Vectors, nested as their shapes are.
        data: lists of Vectors; in a padded batch, the last holds 1 for a point, 0 for padding.

    Returns:
        The gradient of the sum over these points with respect to each parameter, then that sum;
        the loss is a multiple of the sum over all points.
    """
    operations = case.step.operations
    values: list[Any] = []
    backward: list[list[Callable]] = []
    found: dict[str, list] = {"parameter": parameters, "data": data, "value": values}
    for operation in operations:
        operands = [
            [place] if kind == "number" else found[kind][int(place)]
            for kind, place in operation.operands
        ]
        value, derivatives = RULES[operation.rule](*operands)
        values.append(value)
        backward.append(derivatives)

    total = sum(values[-1][1:], values[-1][0])
    present = data[-1][0] if case.padded else total.constant(1.0)
    gradients: dict[Operand, Any] = {("value", len(values) - 1): [present] * len(values[-1])}
    for k in reversed(range(len(values))):
        d = gradients.pop(("value", k), None)
        for operand, derivative in zip(operations[k].operands, backward[k]) if d else ():
            if operand[0] in ("value", "parameter"):
                new = derivative(d)
                if operand[0] == "parameter":
                    new = [_both(entry) for entry in _flat(new)]
                old = gradients.get(operand)
                gradients[operand] = [a + b for a, b in zip(old, new)] if old else new
    return [v for k in range(len(parameters)) for v in gradients["parameter", k]] + [
        _both(total * present)
    ]


def _flat(value: Any) -> Iterator[Any]:
    """The entries of a vector or of a matrix, row by row."""
    for entry in value:
        if isinstance(entry, list):
            yield from entry
        else:
            yield entry


def _both(entry: Any) -> Vector:
    """The sum over both points of a Vector, or of the product of a pair of Vectors."""
    if isinstance(entry, tuple):
        return dot(*(factor.split() for factor in entry))
    first, *rest = entry.split()
    return sum(rest, first)


def _points_in_lanes(program: Program, case: Case, done: str) -> None:
    """A step of one start, LANES pairs of points at a time."""
    count = case.step.parameters
    sums = [program.accumulator(-0.0) for _ in range(0, count + 1, LANES)]  # LANES each
    with program.loop(-(-case.pairs // LANES)) as group:
        found = terms(case, *_operands(program, case, done, program.scaled(group, LANES)))
        for n, memory in enumerate(sums):
            total = program.load(memory)
            columns = transpose(found[LANES * n : LANES * (n + 1)])
            for column in columns[: case.pairs]:  # in the order of the points
                total += column
            program.store(total, memory)

    totals = [program.load(memory) for memory in sums]
    loss = program.spread_lane(totals[-1], count % LANES) * program.load_spread("%numbers", 0)
    program.store(loss, "%losses", done, count=1)
    row = program.address("%iterates", program.scaled(done, count))
    for place in range(0, count, LANES):
        weights = _updated(program, case, totals[place // LANES], place)
        if case.iterates:
            program.store(weights, row, place, min(LANES, count - place))
    program.leave_unless(loss - loss < math.inf, program.value(f"add i64 {done}, 1"))


def _starts_in_lanes(program: Program, case: Case, done: str) -> None:
    """A step of LANES starts, a pair of points at a time.

    Starts whose last loss was not finite stay unchanged.
    """
    count = case.step.parameters
    sums = [program.accumulator(-0.0) for _ in range(count + 1)]
    with program.loop(case.pairs) as pair:
        for total, term in zip(sums, terms(case, *_operands(program, case, done, pair))):
            program.store(program.load(total) + term, total)

    last = program.load("%last")
    running = last - last < math.inf  # x - x is 0 if x is finite, else NaN
    loss = where(running, program.load(sums[-1]) * program.load_spread("%numbers", 0), math.nan)
    program.store(loss, "%last")
    program.store(loss, "%losses", program.scaled(done, LANES))
    row = program.address("%iterates", program.scaled(done, LANES * count))
    for place in range(count):
        weights = _updated(program, case, program.load(sums[place]), LANES * place, running)
        if case.iterates:
            program.store(where(running, weights, math.nan), row, LANES * place)
    program.leave_unless(loss - loss < math.inf, program.value(f"add i64 {done}, 1"))


def _updated(
    program: Program, case: Case, total: Vector, place: int, running: Vector | None = None
) -> Vector:
    """Updates and stores LANES parameters and their buffers; `total` is their unscaled gradient."""
    size = (case.step.parameters + LANES) * case.lanes
    addresses = {"p": place} | {f"b{k}": (k + 1) * size + place for k in range(case.step.buffers)}
    old = {name: program.load("%weights", index) for name, index in addresses.items()}
    values = old | {"g": total * program.load_spread("%numbers", 0)}
    number = itertools.count(1)
    for name, target, *words in case.step.update:
        a, *others = (
            program.load_spread("%numbers", next(number)) if word == "number" else values[word]
            for word in words
        )
        if name == "mul":
            values[target] = a * others[0]
        elif name == "div":
            values[target] = a / others[0]
        elif name == "neg":
            values[target] = -a
        else:  # add or sub, perhaps with a factor (alpha) for the second operand
            b = others[0] if name == "add" else -others[0]
            values[target] = fma(b, others[1], a) if len(others) > 1 else a + b
    for name, index in addresses.items():
        new = values[name] if running is None else where(running, values[name], old[name])
        program.store(new, "%weights", index)
        values[name] = new
    return values["p"]


def _operands(program: Program, case: Case, done: str, pair: str) -> tuple[list, list]:
    """Loads the arguments of `terms`: the parameters, and the data of the points from `pair` on."""
    load = program.load_spread if case.lanes == 1 else program.load
    numbers = (
        join([load("%weights", case.lanes * place)] * case.parts) for place in itertools.count()
    )
    parameters = []
    for *rows, width in (shape or (1,) for shape in case.step.shapes):
        found = [list(itertools.islice(numbers, width)) for _ in range(rows[0] if rows else 1)]
        parameters.append(found if rows else found[0])

    number = program.value(f"add i64 %first, {done}")
    batch = program.scaled(program.value(f"urem i64 {number}, %batches"), case.batch)
    index = program.value(f"add i64 {batch}, {program.scaled(pair, case.lanes)}")
    begin, size = program.address("%data", index), case.pairs * case.lanes
    vectors = (
        join([program.load(begin, (row * case.parts + part) * size) for part in range(case.parts)])
        for row in range(case.rows)
    )
    return parameters, [
        list(itertools.islice(vectors, n)) for n in (*case.step.widths, case.padded)
    ]
