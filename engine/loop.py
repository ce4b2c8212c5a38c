"""A loop that compiles itself: after two recorded steps, compiled code makes the others."""

from engine.record import Recorded, Refused, Tape, understand
from engine.source import Watch, check_python
from engine.starts import check, chunks, draw, put_into, starts_of

import itertools
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

RECORDED = 2  # steps; the first differs, since optimizers create their buffers in it


class Loop:
    """Iterates over items, with one training step for each.

    The step is written as usual, and compiled if it can be:

        loop = engine.steps(data)
        for x, y in loop:
            value = loss(model, x, y)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        print(loop.how)

    The loop's body makes the first two steps, which are recorded. The compiled function repeats the
    second from the state before it. If loss and parameters agree to 1e-12, the compiled function
    makes all other steps but the last. The body makes that one, so that every name in it has its
    final value (but for items that the step does not use, which are not drawn). If they do not
    agree, the body makes all steps.

    Attributes:
        losses: the loss of every step, shape (steps,); without compilation, only the losses that
            were passed to `record`, and those of the two recorded steps.
        done: the number of steps made.
        how: what was compiled, or why nothing was.
        compiled: whether any steps were.
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
            items: one for each step.
            count: the number of items (default: their length).
            done: the number of steps made by an earlier loop; their items are skipped.
            compile: whether to compile at all.
            losses: an array to fill with the losses, shape (count,) (default: a new one).
            parameters: those to store in `iterates`, in this order.
            iterates: an array to fill with the parameters after each step, shape (count, number of
                parameters).
            stops: numbers of steps after which `after` is always called, ascending.
            restore: with `done`, restores the state in which the loop began; called if the steps
                that it recorded cannot be compiled.
            after: called after each step of the body, and about ten times a second during the
                compiled steps; True ends the loop.
            own: the functions of a wrapper around this loop, which are not checked: those that
                create the loop, and those that record a loss.
        """
        self.items = items
        # Items without a length raise their own error.
        self.count = len(items) if count is None else count  # type: ignore[arg-type]
        self.done = done
        self.losses = np.full(self.count, np.nan) if losses is None else losses
        self.parameters, self.iterates, self.stops = list(parameters), iterates, stops
        self.restore, self.after = restore, after
        self.own = own
        self.how = "" if compile else "not compiled, as asked"
        self.compiled = self.diverged = False
        self._tape: Tape | None = None
        self._noted: float | None = None  # the loss of the step

    def record(self, value: Tensor) -> None:
        """Records the loss of a step; if it is not finite, the loop ends after the step."""
        if self._tape:
            self._tape.listening = False
        self._note(value.item())
        if self._tape:
            self._tape.listening = True

    def _note(self, loss: float) -> None:
        self._noted = loss
        self.losses[self.done : self.done + 1] = loss  # a slice, which is empty after the last step
        self.diverged = not np.isfinite(loss)

    def __iter__(self) -> Iterator[Any]:
        items = iter(self.items)
        if not self.how and self.count <= RECORDED + 1:
            self.how = "not compiled: too few steps"
        elif not self.how and sys.getprofile():
            self.how = "not compiled: a profiler is running"
        if self.how:
            _pass_over(items, self.done)
        else:
            items = yield from self._recorded(items)
        for item in itertools.islice(items, self.count - self.done):
            if self.compiled:
                yield from self._taped(item)  # for its loss
            else:
                yield item
            if self._made():
                return

    def _taped(self, item: Any) -> Generator[Any, None, tuple[Tape, Watch]]:
        """Records a step of the body; takes its loss from backward() if `record` was not called."""
        self._noted = None
        with Tape() as self._tape, Watch(self.own) as watch:
            yield item
        tape, self._tape = self._tape, None
        for call in tape.calls:
            alone = call.name == "backward" and call.args[0].numel() == 1
            if alone and self._noted is None:
                self._note(call.args[0].item())
        return tape, watch

    def _made(self) -> bool:
        """Counts a step of the body; returns whether the loop ends."""
        if self.iterates is not None:
            vector = torch.cat([p.detach().flatten() for p in self.parameters])
            self.iterates[self.done] = vector.cpu().numpy()
        self.done += 1
        return self._ended()

    def _ended(self) -> bool:
        if self.after() or self.diverged:
            self.count = self.done  # nothing is left to do
        return self.done == self.count

    def _recorded(self, items: Iterator[Any]) -> Generator[Any, None, Iterator[Any]]:
        """Records two steps, makes the others but the last if they compile, returns the items left.

        A resumed loop makes these two steps only to record them, and undoes them, so that it ends
        with the same bits as a loop that was never stopped.
        """
        resumed = self.done > 0
        drawn: list[Any] = []
        tapes: list[Tape] = []
        try:
            recorded = yield from self._record(items, drawn, tapes)
        except Refused as reason:
            self.how = f"not compiled: {reason}"
            if resumed:
                self.diverged = False
                self.restore()
                _pass_over(items, self.done - len(drawn))
            return itertools.chain(drawn[self.done :], items)
        if resumed:
            self.diverged = False
            for tape in reversed(tapes):
                tape.undo()
            items = itertools.chain(drawn[self.done :], items)
            for item in itertools.islice(items, max(0, RECORDED - self.done)):
                yield item
                if self._made():
                    self.how = "not compiled: the loop ended before"
                    return items
            if any(place is not None for place in recorded.places):
                _pass_over(items, self.done - RECORDED)
        last = self.count - 1
        items = self._make_compiled(recorded, items, last)
        self.compiled = self.compiled or self.done >= last
        steps = f"steps {RECORDED + 1:,} to {min(self.done, last):,} compiled"
        self.how = steps if self.compiled else "not compiled: the loop ended before"
        return items

    def _record(
        self, items: Iterator[Any], drawn: list[Any], tapes: list[Tape]
    ) -> Generator[Any, None, Recorded]:
        """Records two steps of the body, or raises Refused.

        Their items are appended to `drawn`, the tapes to `tapes`, also of steps that are refused.
        """
        resumed = self.done > 0
        frame, own = sys._getframe(), {function.__code__ for function in self.own}
        while frame.f_back and (frame.f_globals.get("__name__") == __name__ or frame.f_code in own):
            frame = frame.f_back
        for item in itertools.islice(items, RECORDED):
            drawn.append(item)
            tape, watch = yield from self._taped(item)
            tapes.append(tape)
            if not resumed and self._made():
                raise Refused("the loop ended during recording")
        if len(drawn) < RECORDED:
            raise Refused("too few items")
        check_python(watch, frame, self, item, tapes)
        recorded = understand(tape, item, (tapes[0], drawn[0]))
        if self._noted != recorded.loss:
            raise Refused("record() and backward() are given different losses")
        if self.iterates is not None and list(map(id, self.parameters)) != list(
            map(id, recorded.parameters)
        ):
            raise Refused("the parameters to store are not the ones that are updated")
        check(recorded, tape, item, iterates=self.iterates is not None)
        return recorded

    def _make_compiled(self, recorded: Recorded, items: Iterator[Any], last: int) -> Iterator[Any]:
        """Makes all steps but the last; draws items only if the step uses them."""
        starts = starts_of(recorded, iterates=self.iterates is not None)
        fresh = any(place is not None for place in recorded.places)
        data = starts.laid_out({}) if not fresh else np.empty(0)
        for rows in chunks(self.done, last, self.stops):
            count = rows.stop - rows.start
            if fresh:
                parts, others = draw(items, count, recorded)
                items = itertools.chain(others, items)
                if not parts:
                    break
                data = starts.laid_out(parts)
                count = next(iter(parts.values())).shape[1]
            losses, iterates = starts.advance(count, data)
            made = int(np.isfinite(losses).sum()) + (not starts.running)
            rows = slice(self.done, self.done + made)
            self.losses[rows] = losses[0, :made]
            if iterates is not None and self.iterates is not None:
                self.iterates[rows] = iterates[0, :made]
            self.done += made
            self.compiled = True
            for tensors, row in zip([recorded.parameters, *recorded.buffers], starts.weights[0]):
                put_into(tensors, row)
            self.diverged = not starts.running
            if self._ended():
                break
        return items


def _pass_over(items: Iterator[Any], count: int) -> None:
    """Skips items that were used before."""
    for _ in itertools.islice(items, max(0, count)):
        pass
