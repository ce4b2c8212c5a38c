"""A loop that compiles itself: its first steps are recorded, checked against compiled ones, and the others made so."""

from engine.record import Recorded, Refused, Tape, understand
from engine.source import check_body
from engine.starts import Starts, check, draw, put_into, starts_of

import inspect
import itertools
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor

CHUNK_SECONDS = 0.1  # the compiled loop returns this often, so that a bar moves and Ctrl-C is heard
FIRST_CHUNK = 100  # steps of its first call; how long they took tells how many the next one makes
RECORDED = 2  # steps: the first is special, since optimizers make their buffers in it


class Loop:
    """Goes over items, a training step each. Write the step as ever; where it can be compiled it is.

        loop = engine.steps(data)
        for x, y in loop:
            value = loss(model, x, y)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        print(loop.how)

    The first two steps run as they stand and are recorded. The second is made again by the compiled function, from the
    state before it; if loss and parameters agree to 1e-12, the compiled function makes the other steps, all but the
    last, which runs as it stands again, so that every name has its value. Else the loop goes on uncompiled.

    Attributes:
        losses: every step's loss, shape (steps,); in a loop that is not compiled, those that `record` was told.
        done: the number of steps made.
        how: what was compiled, or why nothing was.
        compiled: whether steps were.
        diverged: whether the last step's loss was not finite, which ends the loop.
    """

    def __init__(
        self,
        items: Iterable[Any],
        count: int | None = None,
        *,
        done: int = 0,
        compile: bool = True,
        losses: np.ndarray | None = None,
        parameters: Sequence[Tensor] = (),
        iterates: np.ndarray | None = None,
        stops: Sequence[int] = (),
        restore: Callable[[], None] = lambda: None,
        after: Callable[[], bool] = lambda: False,
        own: Sequence[Callable] = (),
    ):
        """
        Args:
            items: a step each.
            count: how many there are (default: their length).
            done: the steps that were made before, whose items are passed over.
            compile: False leaves the loop as it is.
            losses: room for the losses, shape (count,).
            parameters: with `iterates`, those that are kept, in this order.
            iterates: shape (count, number of parameters), filled in with the parameters after each step.
            stops: numbers of steps after which `after` is called in any case, in ascending order.
            restore: with `done`, goes back to the state before the first step; called if recording it was in vain.
            after: called after each step, and after the compiled ones about ten times a second; True ends the loop.
            own: functions of who makes this loop for others: those that make it, and those that record a step's loss.
        """
        self.items = items
        self.count = len(items) if count is None else count  # type: ignore[arg-type]  # it says so itself
        self.done = done
        self.losses = np.full(self.count, np.nan) if losses is None else losses
        self.parameters, self.iterates, self.stops = list(parameters), iterates, stops
        self.restore, self.after = restore, after
        self.own = (type(self), self.record, *own)
        self.how = "" if compile else "not compiled, as asked"
        self.compiled = self.diverged = False
        self._tape: Tape | None = None
        self._drawn: list[Any] = []  # items that the compiled function cannot take
        self._told: float | None = None  # the last loss that `record` was told

    def record(self, value: Tensor) -> None:
        """Notes the loss of a step; one that is not finite ends the loop after the step."""
        if self._tape:
            self._tape.listening = False
        self._told = value.item()
        self._note(self._told)
        if self._tape:
            self._tape.listening = True

    def _note(self, loss: float) -> None:
        self.losses[self.done : self.done + 1] = loss  # a slice, empty where all steps are made
        self.diverged = not np.isfinite(loss)

    def __iter__(self) -> Iterator[Any]:
        items = iter(self.items)
        if not self.how:
            yield from self._recorded(items)
        else:
            self._pass_over(items, self.done)
        for item in itertools.islice(itertools.chain(self._drawn, items), self.count - self.done):
            if self.compiled:
                yield from self._taped(item)  # for its loss
            else:
                yield item
            if self._made():
                return

    def _taped(self, item: Any) -> Generator[Any, None, Tape]:
        """Lets the loop make a step, and returns what PyTorch did; a loss not recorded is that of backward()."""
        self._told = None
        with Tape() as self._tape:
            yield item
        tape, self._tape = self._tape, None
        for name, args, _, _ in tape.operations:
            if name == "backward" and self._told is None:
                self._note(args[0].item())
        return tape

    def _made(self) -> bool:
        """Counts a step that ran as it stands; tells whether the loop ends."""
        if self.iterates is not None:
            vector = torch.cat([p.detach().flatten() for p in self.parameters])
            self.iterates[self.done] = vector.cpu().numpy()
        self.done += 1
        if self.after() or self.diverged:
            self.count = self.done  # nothing is left to do
        return self.done == self.count

    def _recorded(self, items: Iterator[Any]) -> Iterator[Any]:
        """Records steps, and makes the others compiled, all but the last, if it can."""
        frame = sys._getframe(1)
        while frame.f_code.co_flags & inspect.CO_GENERATOR and frame.f_back:
            frame = frame.f_back
        # A resumed loop makes this step only to record it; its effect is undone, so that the bits are those of a loop
        # that was never stopped.
        rehearsal = self.done >= RECORDED
        if self.count <= RECORDED + 1:
            self.how = "not compiled: there are few steps"
            self._pass_over(items, self.done)
            return
        if not rehearsal:
            self._pass_over(items, self.done)
        tape = item = None
        for item in itertools.islice(items, 1 if rehearsal else RECORDED - self.done):
            tape = yield from self._taped(item)
            if not rehearsal and self._made():
                self.how = "not compiled: it ended before"
                return
        if tape is None or self.done < RECORDED:
            self.how = "not compiled: there are few items"
            return
        try:
            recorded, starts = self._checked(tape, item, frame)
        except Refused as reason:
            self.how = f"not compiled: {reason}"
            if rehearsal:
                self.diverged = False
                self.restore()
                self._pass_over(items, self.done - 1)
            return
        self.compiled = True
        fresh = any(place is not None for place in recorded.places)
        if rehearsal:
            self.diverged = False
            starts = starts_of(recorded, tape.before, iterates=self.iterates is not None)
            self._put_back(starts, recorded)
            if fresh:
                self._pass_over(items, self.done - 1)
        last = self.count - 1
        self._make_compiled(starts, recorded, items if fresh else None)
        self.how = f"steps {RECORDED + 1:,} to {min(self.done, last):,} compiled"

    def _checked(self, tape: Tape, item: Any, frame: FrameType) -> tuple[Recorded, Starts]:
        """The recorded step, after its checks, and starts from where the loop is."""
        results = {id(r) for _, _, _, r in tape.operations if isinstance(r, Tensor)}
        check_body(frame, item, self, self.own, results)
        recorded = understand(tape, item)
        if self._told not in (None, recorded.loss):
            raise Refused("record() is told another loss than backward()")
        if self.iterates is not None and list(map(id, self.parameters)) != list(
            map(id, recorded.parameters)
        ):
            raise Refused("the parameters that are to be kept are not those that are updated")
        check(recorded, tape, item)
        return recorded, starts_of(recorded, {}, iterates=self.iterates is not None)

    def _make_compiled(
        self, starts: Starts, recorded: Recorded, items: Iterator[Any] | None
    ) -> None:
        """Makes all steps but the last; `items` are drawn only where the step looks at them."""
        count, last = FIRST_CHUNK, self.count - 1
        while self.done < last:
            stop = min((s for s in self.stops if s > self.done), default=last)
            count = min(count, last - self.done, stop - self.done)
            data = None
            if items is not None:
                rows_drawn, self._drawn = draw(items, count, recorded)
                if not (count := rows_drawn.shape[1]):
                    return
                items = itertools.chain(self._drawn, items)
                data = starts.laid_out(rows_drawn)
            begin = time.perf_counter()
            rows = slice(self.done, self.done + count)
            (made,) = starts.advance(
                count,
                self.losses[None, rows],
                None if self.iterates is None else self.iterates[None, rows],
                data=data,
                batches=count,
            ).values()
            self.done += made
            self._put_back(starts, recorded)
            self.diverged = not starts.running
            if self.after() or self.diverged:
                self.count = self.done  # nothing is left to do
                return
            count = next_count(count, time.perf_counter() - begin)

    def _put_back(self, starts: Starts, recorded: Recorded) -> None:
        """Puts the weights and buffers as they are now into their tensors."""
        for tensors, row in zip([recorded.parameters, *recorded.buffers], starts.weights[0]):
            put_into(tensors, row)

    def _pass_over(self, items: Iterator[Any], count: int) -> None:
        """Draws items that were used before."""
        next(itertools.islice(items, count, count), None)


def next_count(count: int, seconds: float) -> int:
    """How many steps the next call makes, after one that took so many seconds for `count`."""
    return max(1, int(count * min(10, CHUNK_SECONDS / seconds)))
