"""The command line: the options that all lectures have, and types that refuse nonsense."""

from common import datasets
from common.program import PROJECT, RunError

import argparse
import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import psutil


class Parser(argparse.ArgumentParser):
    """argparse's parser, which says in one line why it refuses an argument (exit code 2)."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (see --help)\n")


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """--help with the defaults, except of flags and where None stands for one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        unsaid = action.default is None or action.default is False
        return action.help if unsaid else super()._get_help_string(action)


def parser(description: str | None) -> Parser:
    """A parser whose help has the defaults and the first line of a docstring (None with -OO)."""
    first = description.splitlines()[0] if description else None
    return Parser(description=first, formatter_class=_Help)


def lecture_parser(
    description: str | None, script: str, *, lr: float, small: bool = False
) -> Parser:
    """A parser with the options that all lectures have, from a docstring and a script's name.

    `lr` is the lecture's learning rate. A `small` network stays on the CPU with ``--device auto``,
    and has the option ``--engine``.
    """
    options = parser(description)
    add = options.add_argument
    add("--lr", type=real_number(1e-9, 1000), default=lr, help="learning rate, 1e-9 to 1000")
    add("--seed", type=whole_number(0, 2**32 - 1), default=0, help="of all draws, 0 to 2^32-1")
    auto = "auto: cuda where PyTorch finds it, else cpu"
    if small:
        auto = "auto: cpu, because launching a step on a GPU takes longer than making it"
    add("--device", choices=("auto", "cpu", "cuda", "mps", "xpu"), default="auto", help=auto)
    outputs = PROJECT / "outputs" / script
    add("--output-dir", type=folder, default=outputs, metavar="DIR", help="where all files go")
    add("--format", choices=("png", "svg", "pdf"), default="png", help="format of the figures")
    add("--quiet", action="store_true", help="no progress bars, no tables")
    add("--show", action="store_true", help="open the figures when done")
    add("--resume", action="store_true", help="go on from the folder's checkpoint, if it has one")
    if small:
        how = "compiled: on the CPU; eager: PyTorch's plain loop; auto: compiled if it can be"
        add("--engine", choices=("auto", "compiled", "eager"), default="auto", help=how)
    return options


def add_data_dir_option(options: Parser) -> None:
    """Adds ``--data-dir``."""
    root = os.environ.get("MNIST_ROOT") or PROJECT / "data"
    where = "folder that has MNIST/raw/ with the IDX files; MNIST_ROOT sets the default"
    options.add_argument("--data-dir", type=folder, default=root, metavar="DIR", help=where)


def add_digits_options(options: Parser, *, images: int | str) -> None:
    """Adds ``--dataset``, ``--data-dir``, ``--hidden``, and ``--images`` with its default."""
    add, names = options.add_argument, ("auto", *datasets.TITLES)
    auto = "auto: mnist, or without files and network scikit-learn's digits, with a warning"
    add("--dataset", choices=names, default="auto", help=auto)
    add_data_dir_option(options)
    number = whole_number(1, 60_000)
    many = "train on so many, the first ones, 1 to 60000, or on all"
    add("--images", type=lambda n: n if n == "all" else number(n), default=images, help=many)
    add("--hidden", type=whole_number(1, 10_000), default=40, help="hidden units, 1 to 10000")


def images_to_use(args: argparse.Namespace, data: datasets.Dataset) -> int:
    """How many training images ``--images`` comes to; says so, and where the data are from.

    More than there are end the program as a refused argument, too little memory as an error.
    """
    available = len(data.train_images)
    count = available if args.images == "all" else args.images
    if count > available:
        images = f"{data.title} has {available:,} training images"
        Parser().error(f"argument --images: {images}, got {count:,}")
    used = f"{count:,} of {available:,} images to train on, {len(data.test_images):,} to test"
    print(f"{data.title}: {data.source}; {used}")
    require_memory(24 * args.hidden * max(count, len(data.test_images)))
    return count


def require_memory(size: float) -> None:
    """Raises a RunError where a run needs more bytes at once than are free."""
    free = psutil.virtual_memory().available
    if size > free:
        need = f"this run needs {size / 2**30:,.1f} GiB of memory, {free / 2**30:,.1f} GiB are free"
        raise RunError(f"{need}: choose fewer steps, samples, images or hidden units")


def folder(text: str) -> Path:
    """An argparse type: a folder's absolute path; ``~`` is the home folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError("expected a folder, got ''")
    return Path(os.path.expanduser(text)).absolute()


def real_number(low: float, high: float) -> Callable[[str], float]:
    """An argparse type: numbers from `low` to `high`."""
    return lambda text: _number(text, low, high)


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """An argparse type: whole numbers from `low` to `high`; ``1_000_000``, ``1e6``, ``5.0`` too."""
    return lambda text: int(_number(text, low, high, whole=True))


def _number(text: str, low: float, high: float, whole: bool = False) -> float:
    with contextlib.suppress(ValueError):
        number = float(text)
        if low <= number <= high and (number.is_integer() or not whole):
            return number
    kind = "whole number" if whole else "number"
    raise argparse.ArgumentTypeError(f"expected a {kind} from {low} to {high}, got {text[:40]!r}")
