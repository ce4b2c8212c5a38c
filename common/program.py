"""The process that runs a script: signals, error messages, exit codes.

Exit codes: 0 done; 1 the run could not be done (one line on stderr that begins ``error:``); 2 an
argument was refused; 130 after Ctrl-C, 143 after SIGTERM.

A script imports this module before PyTorch, which takes most of a second to load: Ctrl-C is heard
meanwhile. Two things save a third of a short run (2.8 s of ann_revisited's 4.2 s are left): no
garbage is collected during the imports (0.7 s), and PyTorch is not torn down at the end (0.3 s).
"""

import atexit
import contextlib
import gc
import io
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TextIO

BEGAN = time.perf_counter()
PROJECT = Path(__file__).resolve().parent.parent
SIGNALS = (signal.SIGINT, signal.SIGTERM)
NOTHING_SAVED = "nothing was saved, training had not begun"


class RunError(Exception):
    """A run that cannot be done: the message says in one line what was wrong and what to do."""


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt(number, NOTHING_SAVED)


def _exit_at_once(number: int, frame: object) -> NoReturn:
    """While modules are imported: an exception would surface somewhere in their middle."""
    os.write(2, f"interrupted: {NOTHING_SAVED}\n".encode())
    os._exit(128 + number)


# Whether a lecture or exercise is the program: no test, notebook or shell, which would outlive it.
_main = Path(getattr(sys.modules["__main__"], "__file__", None) or "").resolve()
_shells = {"IPython", "idlelib"} & sys.modules.keys()
IS_SCRIPT = _main.parent in (PROJECT / "lectures", PROJECT / "exercises") and not _shells
if IS_SCRIPT:
    for _number in SIGNALS:
        signal.signal(_number, _exit_at_once)
    gc.disable()  # until `execute`: imports make millions of objects and no garbage


class _Stream:
    """stdout or stderr; if its reader leaves or its disk is full, `error` says so, and no more."""

    error: OSError | None = None

    def __init__(self, stream: TextIO):
        self.stream = stream

    def write(self, text: str) -> int:
        if self.error is None:
            try:
                self.stream.write(text)
                self.stream.flush()
            except OSError as error:
                self.error = error
        return len(text)

    def flush(self) -> None:
        """`write` has done it."""

    def __getattr__(self, name: str) -> object:
        return getattr(self.stream, name)


def outcome(main: Callable[[], None]) -> int:
    """Runs `main` and returns the exit code; a foreseeable fault is one line on stderr."""
    handlers = {number: signal.signal(number, _interrupt) for number in SIGNALS}
    code, line = 0, ""
    with (
        contextlib.redirect_stdout(_Stream(sys.stdout)) as out,
        contextlib.redirect_stderr(_Stream(sys.stderr)) as err,
    ):
        try:
            try:
                main()
            finally:  # what comes now is short, and not to be broken off
                for number in SIGNALS:
                    signal.signal(number, signal.SIG_IGN)
        except (RunError, OSError) as error:  # of OSErrors, the message names the file
            code, line = 1, f"error: {error}"
        except KeyboardInterrupt as interruption:
            number, what = interruption.args or (signal.SIGINT, NOTHING_SAVED)
            code, line = 128 + number, f"interrupted: {what}"
        except SystemExit as end:  # a refused argument or a complete run, which have said so
            code = end.code if isinstance(end.code, int) else 0
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "allocate" not in str(error):
                raise  # it is not PyTorch's, which has no memory on CPU or GPU
            code = 1
            line = "error: out of memory; choose fewer steps, samples, images or hidden units"
        # A reader that leaves, as `| head -1` does, is no fault.
        if code == 0 and out.error and not isinstance(out.error, BrokenPipeError):
            code = 1
            line = f"error: cannot print the results ({out.error.strerror}); they were saved before"
        if line:
            print(line, file=err)
    if not IS_SCRIPT:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return code


def execute(main: Callable[[], None]) -> None:
    """Runs `main` as the program, and ends the process."""
    gc.freeze()  # what was imported stays
    gc.set_threshold(20_000)  # matplotlib makes many objects, too
    gc.enable()
    # Else a closed stream's number would go to the next file that is opened.
    sys.stdin = sys.stdin or open(os.devnull)
    sys.stdout = sys.stdout or open(os.devnull, "w")
    sys.stderr = sys.stderr or open(os.devnull, "w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what the encoding has no sign for
    code = outcome(main)
    if not IS_SCRIPT:
        sys.exit(code)
    atexit._run_exitfuncs()  # what other modules have left to do, such as removing their folders
    os._exit(code)  # without tearing PyTorch down
