"""Code for a step: its rules are applied to Vectors, which leaves a program behind that LLVM compiles.

For one start, the points of a batch lie in the lanes of a Vector. Several starts lie there themselves and take the
points one pair after another. The operations and their order are the same both times, sums over points included, so
that a start has the same bits alone and among others.
"""

from engine.record import Step
from engine.rules import RULES
from engine.vector import LANES, Program, Vector, dot, fma, host, join, transpose, where

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple


class Case(NamedTuple):
    """What a function is compiled for: a step, and how points and starts are laid out."""

    step: Step
    lanes: int  # starts in the lanes; 1 if the points are there
    iterates: bool  # whether the parameters are kept after each step

    @property
    def parts(self) -> int:
        """Points that are taken at once: a pair, or one where there is no other."""
        return min(2, self.step.points)

    @property
    def pairs(self) -> int:
        """As many as hold the points; with the points in the lanes a multiple of LANES, if they are more."""
        pairs = -(-self.step.points // self.parts)
        return -(-pairs // LANES) * LANES if self.lanes == 1 and pairs > LANES else pairs

    @property
    def padded(self) -> bool:
        return self.step.points < self.parts * self.pairs

    @property
    def rows(self) -> tuple[int, int]:
        """Numbers of a point: constants, with one more that is 1 for a point and 0 for none; and those of the step."""
        fresh = sum(width for width, new in zip(self.step.widths, self.step.fresh) if new)
        return sum(self.step.widths) - fresh + self.padded, fresh


# The arguments of a compiled function. It makes `steps` steps, or fewer if the losses of all its starts cease to be
# finite, and returns how many it made, that with the last loss included.
ARGUMENTS = {
    "first": "i64",  # the first step's number, which chooses its batch
    "steps": "i64",
    "batches": "i64",
    "numbers": "ptr",  # scale, twice it, then those of the update
    "weights": "ptr",  # (1 + buffers, parameters + LANES, lanes), the last LANES of each unused
    "constants": "ptr",  # (rows, parts, pairs, lanes), and LANES doubles more
    "data": "ptr",  # (batches, rows, parts, pairs, lanes), and LANES doubles more
    "losses": "ptr",  # (steps,), or LANES such arrays' addresses
    "iterates": "ptr",  # (steps, parameters), or LANES such arrays' addresses
    "last": "ptr",  # (lanes,), the last losses
}


@functools.cache
def compiled(case: Case, *target: str) -> Callable[..., int]:
    """The function for a case and a processor, by default this one; see ARGUMENTS."""
    program = Program(ARGUMENTS)
    with program.loop("%steps") as done:
        (_points_in_lanes if case.lanes == 1 else _starts_in_lanes)(program, case, done)
    return program.compile("%steps", *(target or host()))


def terms(case: Case, parameters: list, data: list) -> Iterator[tuple[int, Vector]]:
    """Forward and backward pass over two points, one in each part of the Vectors, or over one in a single part.

    Args:
        parameters: a Vector each, in rows and matrices as their shapes say.
        data: lists of Vectors; perhaps a mask as the last, 1 where there is a point and 0 where there is none.

    Yields:
        For the place after the last parameter the sum over both points that the loss is a multiple of; then for each
        parameter, by its place, half the derivative of that sum.
    """
    step = case.step
    places = [0, *itertools.accumulate(math.prod(shape) for shape in step.shapes)]
    values: list[Any] = []
    backward: list[list[Callable]] = []
    found: dict[str, list] = {"parameter": parameters, "data": data, "value": values}
    for operation in step.operations:
        operands = [
            [place] if kind == "number" else found[kind][int(place)]
            for kind, place in operation.operands
        ]
        value, derivatives = RULES[operation.rule](*operands)
        values.append(value)
        backward.append(derivatives)

    half = values[-1][0].constant(0.5)
    total = sum(values[-1][1:], values[-1][0])
    if case.padded:
        half, total = data[-1][0] * 0.5, total * data[-1][0]
    yield places[-1], _both(total)
    first_use = {
        operand: k
        for k, operation in reversed([*enumerate(step.operations)])
        for operand in operation.operands
    }
    entries: dict[int, list] = {}  # of a parameter's derivative, one for each use
    gradients: dict[int, Any] = {len(values) - 1: [half] * len(values[-1])}
    for k in reversed(range(len(values))):
        if k not in gradients:
            continue
        d = gradients.pop(k)
        for (kind, place), derivative in zip(step.operations[k].operands, backward[k]):
            place = int(place)
            if kind == "value":
                new = derivative(d)
                if place in gradients:
                    new = [a + b for a, b in zip(gradients[place], new)]
                gradients[place] = new
            elif kind == "parameter":
                entries.setdefault(place, []).append(_flat(derivative(d)))
        for place in [p for p in entries if first_use["parameter", p] == k]:
            for number, uses in enumerate(zip(*entries.pop(place)), places[place]):
                yield number, sum(map(_both, uses[1:]), _both(uses[0]))


def _flat(value: Any) -> Iterator[Any]:
    """The entries of a vector or of a matrix, row by row."""
    for entry in value:
        if isinstance(entry, list):
            yield from entry
        else:
            yield entry


def _both(entry: Any) -> Vector:
    """The sum over both points of a Vector, or of a product that is given by its factors."""
    if isinstance(entry, tuple):
        return dot(*(factor.split() for factor in entry))
    first, *rest = entry.split()
    return sum(rest, first)


def _points_in_lanes(program: Program, case: Case, done: str) -> None:
    """A step of one start, LANES pairs of points at a time."""
    count = case.step.parameters
    sums = [
        program.accumulator(-0.0) for _ in range(count // LANES + 1)
    ]  # LANES each, that of the loss last
    with program.loop(-(-case.pairs // LANES)) as group:
        found = dict(terms(case, *_operands(program, case, done, program.scaled(group, LANES))))
        for n, place in enumerate(sums):
            total = program.load(place)
            rows = [found[k] for k in range(LANES * n, min(LANES * (n + 1), len(found)))]
            for column in transpose(rows)[: case.pairs]:  # in the order of the points
                total += column
            program.store(total, place)

    totals = [program.load(place) for place in sums]
    loss = program.spread_lane(totals[-1], count % LANES) * program.load_spread("%numbers", 0)
    program.store(loss, "%losses", done, count=1)
    for number in range(0, count, LANES):
        weights = _updated(program, case, totals[number // LANES], number)
        if case.iterates:
            row = program.address("%iterates", program.scaled(done, count))
            program.store(weights, row, number, min(LANES, count - number))
    program.leave_unless(loss - loss < math.inf, program.value(f"add i64 {done}, 1"))


def _starts_in_lanes(program: Program, case: Case, done: str) -> None:
    """A step of LANES starts, a pair of points at a time. Those whose last loss is not finite stay as they are."""
    count = case.step.parameters
    sums = [program.accumulator(-0.0) for _ in range(count + 1)]
    with program.loop(case.pairs) as pair:
        for number, term in terms(case, *_operands(program, case, done, pair)):
            program.store(program.load(sums[number]) + term, sums[number])

    last = program.load("%last")
    running = last - last < math.inf  # 0 where it was finite, else a NaN
    loss = where(running, program.load(sums[-1]) * program.load_spread("%numbers", 0), math.nan)
    program.store(loss, "%last")
    program.scatter(loss, "%losses", done)
    for place in range(count):
        weights = _updated(program, case, program.load(sums[place]), LANES * place, running)
        if case.iterates:
            row = program.value(f"add i64 {program.scaled(done, count)}, {place}")
            program.scatter(weights, "%iterates", row, running)
    program.leave_unless(loss - loss < math.inf, program.value(f"add i64 {done}, 1"))


def _updated(
    program: Program, case: Case, total: Vector, place: int, running: Vector | None = None
) -> Vector:
    """LANES parameters after the update that the step recorded, of their sums; they and their buffers are stored."""
    size = (case.step.parameters + LANES) * case.lanes
    addresses = {"p": place} | {f"b{k}": (k + 1) * size + place for k in range(case.step.buffers)}
    old = {name: program.load("%weights", index) for name, index in addresses.items()}
    values = old | {"g": total * program.load_spread("%numbers", 1)}
    number = itertools.count(2)
    for name, target, *words in case.step.update:
        a, *others = (
            program.load_spread("%numbers", next(number)) if word == "number" else values[word]
            for word in words
        )
        if name == "mul":
            values[target] = a * others[0]
        elif name == "neg":
            values[target] = -a
        else:  # add and sub, perhaps with a factor of the second operand
            b = others[0] if name == "add" else -others[0]
            values[target] = fma(b, others[1], a) if len(others) > 1 else a + b
    for name, index in addresses.items():
        new = values[name] if running is None else where(running, values[name], old[name])
        program.store(new, "%weights", index)
        values[name] = new
    return values["p"]


def _operands(program: Program, case: Case, done: str, pair: str) -> tuple[list, list]:
    """What `terms` works on, read from memory: the parameters, and the data of a step from a pair of points on."""
    load = program.load_spread if case.lanes == 1 else program.load
    numbers = (
        join([load("%weights", case.lanes * place)] * case.parts) for place in itertools.count()
    )
    parameters = []
    for *rows, width in (shape or (1,) for shape in case.step.shapes):
        found = [list(itertools.islice(numbers, width)) for _ in range(rows[0] if rows else 1)]
        parameters.append(found if rows else found[0])

    batch = program.value(f"urem i64 {program.value(f'add i64 %first, {done}')}, %batches")
    start, vectors = "0", []
    for array, rows_of_array in zip(("%constants", "%data"), case.rows):
        first = program.value(
            f"add i64 {program.scaled(start, rows_of_array * case.parts * case.pairs)}, {pair}"
        )
        begin = program.address(array, program.scaled(first, case.lanes))
        size = case.pairs * case.lanes  # from a part of a row to the next
        vectors.append(
            iter([
                join([program.load(begin, (row * case.parts + part) * size) for part in range(case.parts)])
                for row in range(rows_of_array)
            ])
        )  # fmt: skip
        start = batch
    data = [
        list(itertools.islice(vectors[new], width))
        for width, new in zip(case.step.widths, case.step.fresh)
    ]
    return parameters, [*data, list(vectors[0])]
