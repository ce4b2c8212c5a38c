"""Starts that share a step: their memory layout, and the calls of compiled functions."""

from engine.compile import Case, compiled
from engine.record import Recorded, Refused, Tape
from engine.vector import LANES

import itertools
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

CHUNK_SECONDS = 0.1  # of a call of compiled code, so that a bar moves and Ctrl-C is handled
FIRST_CHUNK = 100  # steps of the first call, whose time sets the number of steps of the next


class Starts:
    """Starts that make the same steps, each from its own parameters; LANES of them are a group.

    Attributes:
        running: the groups in which at least one start's last loss was finite.
    """

    def __init__(self, recorded: Recorded, weights: np.ndarray, *, iterates: bool = False):
        """weights: (starts, 1 + buffers, parameters): parameters, then buffers of the update."""
        starts, arrays, count = weights.shape
        # LANES starts in the lanes cost about as much as four starts one after another.
        lanes = LANES if starts > LANES // 2 * cores() else 1
        self.case = Case(recorded.step, lanes, iterates)
        self.function = compiled(self.case)
        groups = -(-starts // lanes)
        # Copies of the last start fill up the last group.
        self.members = np.arange(groups * lanes).clip(max=starts - 1).reshape(groups, lanes)
        self.memory = np.zeros((groups, arrays, count + LANES, lanes))
        self.memory[:, :, :count] = weights[self.members].transpose(0, 2, 3, 1)
        self.last = np.zeros((groups, lanes))
        self.recorded = recorded
        self.running = list(range(groups))

    @property
    def weights(self) -> np.ndarray:
        """The current parameters and buffers, shape (starts, 1 + buffers, parameters)."""
        found = self.memory[:, :, : self.case.step.parameters].transpose(0, 3, 1, 2)
        return found.reshape(-1, *found.shape[2:])[: self.members.max() + 1]

    def laid_out(self, parts: dict[int, np.ndarray]) -> np.ndarray:
        """The data of some steps in the layout of compiled code, for each group or once for all.

        Args:
            parts: the tensors of the items that the steps use, by their index in the item, each
                (starts or 1, batches, points, features).
        """
        _, _, _, data, places, *_ = self.recorded
        case, points = self.case, self.case.step.points
        columns = [np.ones((1, 1, points, int(case.padded)))]
        for tensor, place in zip(reversed(data), reversed(places)):
            columns.insert(0, per_point(tensor, points) if place is None else parts[place])
        starts, batches = np.broadcast_shapes(*(column.shape[:2] for column in columns))
        table = np.concatenate(
            [np.broadcast_to(c, (starts, batches, *c.shape[2:])) for c in columns], axis=3
        )
        members = self.members if starts > 1 else np.zeros((1, case.lanes), int)
        point = np.arange(case.parts * case.pairs).reshape(case.pairs, case.parts).T
        memory = np.zeros((len(members), batches * case.batch + LANES))
        shape = batches, case.rows, case.parts, case.pairs, case.lanes
        for group, taken in zip(memory[:, :-LANES].reshape(len(members), *shape), members):
            # Copies of the last point are the padding, so that it alone can never become infinite.
            group[:] = table[taken].transpose(1, 3, 2, 0)[:, :, point.clip(max=points - 1)]
            if case.padded:
                group[:, -1] = (point < points)[..., None]
        return memory

    def advance(
        self, steps: int, data: np.ndarray, first: int = 0
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Makes steps, on as many threads as there are cores.

        Args:
            steps: how many.
            data: from `laid_out`; step k uses batch k modulo the number of batches.
            first: the number of the first step.

        Returns:
            The losses (starts, steps) and, if kept, the parameters after each step (starts, steps,
            parameters); both NaN after a loss that is not finite.
        """
        case, count = self.case, self.case.step.parameters
        batches = (data.shape[1] - LANES) // case.batch if case.batch else 1
        losses = np.full((len(self.memory), steps, case.lanes), np.nan)
        iterates = np.full((*losses.shape[:2], count * case.iterates, case.lanes), np.nan)

        def call(group: int) -> bool:
            arrays = (
                self.recorded.numbers,
                self.memory[group],
                data[group % len(data)],
                losses[group],
                iterates[group],
                self.last[group],
            )
            made = self.function(first, steps, batches, *(a.ctypes.data for a in arrays))
            return np.isfinite(losses[group, made - 1]).any()

        if len(self.running) > 1:
            with ThreadPoolExecutor(cores()) as pool:
                run_on = list(pool.map(call, self.running))
        else:
            run_on = [call(group) for group in self.running]
        self.running = list(itertools.compress(self.running, run_on))
        number = self.members.max() + 1
        by_start = losses.transpose(0, 2, 1).reshape(-1, steps)[:number]
        if not case.iterates:
            return by_start, None
        return by_start, iterates.transpose(0, 3, 1, 2).reshape(-1, steps, count)[:number]


def starts_of(recorded: Recorded, tape: Tape | None = None, *, iterates: bool = False) -> Starts:
    """One start with a recorded step's parameters and buffers, as now or before `tape`."""
    before = tape.before if tape else {}
    rows = [
        torch.cat([before.get(id(t), (t, t))[1].detach().flatten() for t in tensors])
        for tensors in (recorded.parameters, *recorded.buffers)
    ]
    return Starts(recorded, torch.stack(rows)[None].numpy(), iterates=iterates)


def check(recorded: Recorded, tape: Tape, item: Any, *, iterates: bool = False) -> None:
    """Refuses a step unless its compiled form agrees with it to 1e-12.

    Both start from the state before the step; loss, parameters and buffers must agree.
    """
    try:
        again = starts_of(recorded, tape, iterates=iterates)
    except (ImportError, OSError) as error:
        raise Refused(f"llvmlite cannot be used ({error}): pip install llvmlite") from None
    losses, _ = again.advance(1, again.laid_out(draw([item], 1, recorded)[0]))
    now = starts_of(recorded).weights
    near: Any = {"rtol": 1e-12, "atol": 1e-12}
    if not (np.allclose(losses, recorded.loss, **near) and np.allclose(again.weights, now, **near)):
        raise Refused("the compiled step differs from the recorded one")


def chunks(first: int, last: int, stops: Sequence[int] = ()) -> Iterator[slice]:
    """The steps from `first` to before `last`, a tenth of a second each, none beyond a stop."""
    count = FIRST_CHUNK
    while first < last:
        end = min([first + count, last, *(stop for stop in stops if stop > first)])
        begin = time.perf_counter()
        yield slice(first, end)
        count = max(1, int((end - first) * min(10, CHUNK_SECONDS / (time.perf_counter() - begin))))
        first = end


def put_into(tensors: Sequence[Tensor], numbers: np.ndarray) -> None:
    """Copies numbers into tensors, one tensor after another."""
    parts = torch.from_numpy(numbers.copy()).split([tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts):
        tensor.detach().copy_(part.reshape(tensor.shape))


def draw(
    items: Iterable[Any], count: int, recorded: Recorded
) -> tuple[dict[int, np.ndarray], list[Any]]:
    """Draws up to `count` items and copies the tensors that the step uses: items may share them.

    Returns:
        The tensors by their index in the item, each (1, items, points, features), and a list that
        is empty or holds the item whose different shapes ended the drawing.
    """
    taken = {place: d for d, place in zip(recorded.data, recorded.places) if place is not None}
    points, others = recorded.step.points, []
    found: dict[int, list[np.ndarray]] = {place: [] for place in taken}
    for item in itertools.islice(items, count):
        parts = {k: item[k] if isinstance(item, (tuple, list)) else item for k in taken}
        like = [(parts[k].shape, parts[k].dtype) == (t.shape, t.dtype) for k, t in taken.items()]
        if not all(like):
            others.append(item)
            break
        for place, part in parts.items():
            found[place].append(per_point(part, points).copy())
    return {k: np.concatenate(rows, axis=1) for k, rows in found.items() if rows}, others


def per_point(data: Tensor, points: int) -> np.ndarray:
    """Data of shape (points, features), (features,) or () as (1, 1, points, features)."""
    rows = np.atleast_1d(data.detach().numpy())
    return np.broadcast_to(rows, (1, 1, points, rows.shape[-1]))


def cores() -> int:
    """The processor's cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
