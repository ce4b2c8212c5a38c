"""The process that runs a script: what it hears from its first moment on, what it says, and how it ends.

Exit codes: 0 done; 1 the run could not be done (one line on stderr that begins ``error:``); 2 an argument was
refused; 130 after Ctrl-C, 143 after SIGTERM.

A lecture imports this module before PyTorch, which takes most of a second to load: Ctrl-C is heard meanwhile.
"""

import os
import signal
import sys
import time

SIGNALS = (signal.SIGINT, signal.SIGTERM)
BEGAN: float | None = None  # of time.perf_counter, when a lecture is the program


def _exit_at_once(number: int, frame: object) -> None:
    """While modules are imported: an exception would surface somewhere in their middle."""
    os.write(2, b"interrupted: nothing was saved, training had not begun\n")
    os._exit(128 + number)


def _is_lecture() -> bool:
    """Whether the program that runs is a lecture, or mnist_all, rather than a test, an exercise or a benchmark that
    imports one, or a shell that outlives it."""
    if "IPython" in sys.modules or "idlelib" in sys.modules:
        return False
    program = os.path.realpath(getattr(sys.modules["__main__"], "__file__", None) or "")
    project = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    folder, name = os.path.split(os.path.relpath(program, project))
    return folder == "lectures" or (folder, name) == ("exercises", "mnist_all.py")


if _is_lecture():  # before anything else is imported
    BEGAN = time.perf_counter()
    for _number in SIGNALS:
        signal.signal(_number, _exit_at_once)

# isort: split
import atexit
import contextlib
import gc
import io
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

PROJECT = Path(__file__).resolve().parent.parent

if BEGAN is not None:
    gc.disable()  # imports make millions of objects and no garbage; `Run` switches it on while it trains


class RunError(Exception):
    """A run that cannot be done: the message says in one line what was wrong and what to do."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM ended the run; the message says what became of its results."""

    def __init__(self, number: int, message: str):
        super().__init__(message)
        self.code = 128 + number


def _raise(number: int, frame: object) -> None:
    raise Interrupted(number, "nothing was saved, training had not begun")


class _Stream:
    """stdout or stderr, whose reader may leave or whose disk may fill up: the run goes on, `error` tells the reason."""

    def __init__(self, stream: TextIO | None):
        self.stream = stream
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        if self.stream is not None and self.error is None:
            try:
                self.stream.write(text)
                self.stream.flush()
            except OSError as error:
                self.error = error
        return len(text)

    def flush(self) -> None:
        """Nothing is left to flush after `write`."""

    def isatty(self) -> bool:
        return self.stream is not None and self.stream.isatty()

    def __getattr__(self, name: str) -> object:
        return getattr(self.stream, name)


def outcome(main: Callable[[], None]) -> int:
    """Runs `main` and returns the exit code; foreseeable faults get one line on stderr, and no traceback."""
    handlers = {number: signal.signal(number, _raise) for number in SIGNALS}
    out, err = _Stream(sys.stdout), _Stream(sys.stderr)
    code, line = 0, ""
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            try:
                main()
            finally:  # what comes now is short, and not to be broken off
                for number in SIGNALS:
                    signal.signal(number, signal.SIG_IGN)
        except (RunError, OSError) as error:  # of OSErrors, the message names the file
            code, line = 1, f"error: {error}"
        except Interrupted as interruption:
            code, line = interruption.code, f"interrupted: {interruption}"
        except SystemExit as end:  # a refused argument or a complete run, which have said so
            code = end.code if isinstance(end.code, int) else 0
        except (MemoryError, RuntimeError) as error:
            # "allocate" is PyTorch's word, on CPU and GPU.
            if isinstance(error, RuntimeError) and "allocate" not in str(error):
                raise
            code = 1
            line = "error: out of memory; choose fewer steps, samples, images or hidden units"
        # A reader that leaves, as `| head -1` does, is no fault.
        if code == 0 and out.error and not isinstance(out.error, BrokenPipeError):
            code = 1
            line = f"error: cannot print the results ({out.error.strerror}); they were saved before"
        if line:
            print(line, file=sys.stderr)
    if BEGAN is None:  # nothing comes after a lecture
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return code


def execute(main: Callable[[], None]) -> None:
    """Runs `main` as the program, and ends the process; for a lecture without tearing PyTorch down, which takes half a
    second."""
    for number in range(3):  # a closed stream's number would go to the next file that is opened
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what the encoding has no sign for
    code = outcome(main)
    if BEGAN is None:
        sys.exit(code)
    atexit._run_exitfuncs()  # what other modules have left to do, such as removing a temporary folder
    os._exit(code)
