"""The command line of every lecture: shared options, argument types that refuse nonsense, progress, Ctrl-C.

Exit codes: 0 done; 1 the run could not be done (one line on stderr that begins ``error:``); 2 an argument was
refused; 130 interrupted by Ctrl-C, 143 by SIGTERM, with what was computed so far saved.

A script imports this module first, before PyTorch, and calls `hear_signals`: it takes a few hundredths of a second.
"""

import argparse
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

from tqdm import tqdm

PROJECT = Path(__file__).resolve().parent.parent

CHECKPOINT_SECONDS = 10  # of training, from one checkpoint to the next

# The signal that asked the run to end; whether `run` is there to catch a KeyboardInterrupt; and whether training has
# begun, so that there is something to save.
_interrupt = SimpleNamespace(signal=None, running=False, training=False)


class RunError(Exception):
    """A run that cannot be done: the message says in one line what was wrong and what to do."""


class Parser(argparse.ArgumentParser):
    """argparse's parser, with one line instead of a page when an argument is refused (exit code 2)."""

    def error(self, message: str):
        self.exit(2, f"error: {message} (see --help)\n")


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """--help with the defaults, except of flags and of options whose text says what leaving them out means."""

    def _get_help_string(self, action):
        return action.help if action.default is None or action.default is False else super()._get_help_string(action)


def parser(description: str, script: str) -> Parser:
    """A parser with the options all lectures have.

    Args:
        description: what the script does, for ``--help``.
        script: its name without ``.py``; the run's folder is ``outputs/<script>`` of the project by default.
    """
    options = Parser(description=description, formatter_class=_Help)
    options.add_argument("--seed", type=whole_number(0, 2**32 - 1), default=0,
                         help="seed of every random draw, 0 to 4294967295")
    options.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to compute")
    options.add_argument("--output-dir", type=Path, default=PROJECT / "outputs" / script, metavar="DIR",
                         help="where figures, losses, models and metrics are written")
    options.add_argument("--quiet", action="store_true", help="no progress bars, no tables")
    options.add_argument("--show", action="store_true", help="open the figures when done")
    return options


def add_engine_options(options: Parser) -> None:
    """Adds ``--engine`` and ``--repeats``, which the two small networks have."""
    options.add_argument("--engine", choices=("auto", "fused", "eager"), default="auto",
                         help="fused: all steps in one compiled loop; eager: the plain PyTorch loop, some hundred "
                              "times slower; auto: fused where numba is installed")
    options.add_argument("--repeats", type=whole_number(1, 100_000), default=1, metavar="R",
                         help="train R starts, with the seeds SEED to SEED + R - 1; 1 to 100000")


def add_resume_option(options: Parser) -> None:
    """Adds ``--resume``, for runs that can take longer than a student's patience."""
    options.add_argument("--resume", action="store_true",
                         help="go on from the checkpoint that an interrupted or killed run with the same options left "
                              "in the folder")


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """An argparse type: whole numbers from `low` to `high`, both included; ``1_000_000`` is one."""

    def convert(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = None
        if number is None or not low <= number <= high:
            raise argparse.ArgumentTypeError(f"expected a whole number from {low} to {high}, got {text[:40]!r}")
        return number

    return convert


def real_number(low: float, high: float, *, above: bool = False) -> Callable[[str], float]:
    """An argparse type: finite numbers from `low` (or, with `above`, greater than it) to `high`."""

    def convert(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not low <= number <= high or (above and number == low):
            kind = f"above {low:g} and up to" if above else f"from {low:g} to"
            raise argparse.ArgumentTypeError(f"expected a number {kind} {high:g}, got {text[:40]!r}")
        return number

    return convert


@contextmanager
def progress(total: int, label: str, *, quiet: bool = False, made: int = 0,
             checkpoint: Callable[[], None] | None = None) -> Iterator[Callable[..., bool]]:
    """A progress bar for training, which also hears Ctrl-C and SIGTERM.

    Yields ``advance(steps=1)``: it moves the bar and returns False once the run was asked to end. From the first call
    of this function on, such a request no longer raises: the loop ends by itself after a whole step, and what was
    computed can be saved. A second request ends the run at once.

    Args:
        total: the number of steps.
        label: what stands before the bar; it is drawn from the second second on, and only on a terminal.
        quiet: no bar.
        made: steps that an earlier run made, whose checkpoint this one goes on from.
        checkpoint: called by `advance` about every CHECKPOINT_SECONDS.
    """
    _interrupt.training = True
    saved = time.monotonic()
    with tqdm(total=total, initial=made, desc=label, delay=1, disable=quiet or not sys.stderr.isatty(),
              unit_scale=True, unit=" steps") as bar:

        def advance(steps: int = 1) -> bool:
            nonlocal saved
            bar.update(steps)
            if checkpoint and time.monotonic() - saved >= CHECKPOINT_SECONDS:
                checkpoint()
                saved = time.monotonic()
            return _interrupt.signal is None

        yield advance


def reporter(quiet: bool) -> Callable[[str], None]:
    """`print` for tables, or with ``--quiet`` a function that prints nothing."""
    return (lambda text: None) if quiet else print


def interrupted() -> bool:
    """Whether Ctrl-C or SIGTERM has asked this run to end."""
    return _interrupt.signal is not None


def diverged(step: int, learning_rate: float, hint: str) -> RunError:
    """The error of a loss that became infinite or not a number at `step` (counted from 1)."""
    return RunError(f"the loss is not finite at step {step:,} with learning rate {learning_rate:g}: {hint}")


def hear_signals() -> None:
    """From here on Ctrl-C and SIGTERM end the run with one line and the contract's exit code."""
    signal.signal(signal.SIGINT, _on_signal)
    signal.signal(signal.SIGTERM, _on_signal)


def _on_signal(number: int, frame) -> None:
    again = _interrupt.signal is not None
    _interrupt.signal = number
    if not _interrupt.running:  # while PyTorch is imported: an exception would surface somewhere in its middle
        os.write(2, b"interrupted: nothing was saved, training had not begun\n")
        os._exit(128 + number)
    if again or not _interrupt.training:
        raise KeyboardInterrupt


def run(main: Callable[[], None]) -> None:
    """Runs a script's `main` and ends the process with the contract's exit codes; foreseeable faults get one line."""
    hear_signals()
    _interrupt.running = True
    code = 0
    try:
        main()
        last_line = "interrupted: what was computed so far is saved"
    except (RunError, OSError) as error:  # of OSErrors, the message names the file
        last_line = f"error: {error}"
        code = 1
    except KeyboardInterrupt:
        last_line = ("interrupted a second time: what was not yet saved is lost" if _interrupt.training else
                     "interrupted: nothing was saved, training had not begun")
    if interrupted():
        code = 128 + _interrupt.signal
    if code:
        print(last_line, file=sys.stderr)
    for number in (signal.SIGINT, signal.SIGTERM):  # all is done; Python still takes its time to end
        signal.signal(number, signal.SIG_IGN)
    sys.exit(code)
