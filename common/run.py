"""One run of one model: what a lecture's six steps need around them, and a reader of the lecture does not.

Options, device, engine, random numbers, the run's folder, the progress bar, Ctrl-C, checkpoints, divergence, files.
"""

from common import program  # before PyTorch: from here on Ctrl-C is heard

# isort: split
import argparse
import gc
import json
import math
import os
import platform
import signal
import sys
import time
import weakref
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import numpy as np
import torch
from tqdm import tqdm

from common import device, files
from common.program import Interrupted, RunError

Item = TypeVar("Item")

# Options that change nothing in the files, and those that change figures alone. A checkpoint fits a run that differs in
# either; a complete run must have the same figures.
_WITHOUT_EFFECT = ("output_dir", "data_dir", "quiet", "show", "resume")
_OF_FIGURES = ("format", "animate")


def generator(seed: int, purpose: str) -> torch.Generator:
    """A source of random numbers for one purpose, such as ``"model"``: what else a run draws does not change them.

    It is on the CPU, so that a seed means the same numbers on every device.
    """
    return torch.Generator().manual_seed(zlib.crc32(f"{purpose} {seed}".encode()))


class Run:
    """One run of one model, from its options to its files.

    Attributes:
        args: the options as used; `begin` resolves what is ``auto``.
        made: the number of steps made so far, those of a checkpoint included.
    """

    CHECKPOINT_SECONDS = 10.0  # of training, from one checkpoint to the next
    PROGRESS_SECONDS = (
        10.0  # from one report of the loss to the next, as in the lecture's throttle(progress, 10)
    )
    BAR_SECONDS = 0.1  # from one look of the progress bar to the next

    def __init__(self, args: argparse.Namespace, *, memory: float = 0):
        """Opens the run's folder and chooses the device.

        Args:
            args: the options, from a parser of `common.options`.
            memory: the bytes that the run needs at once, about.

        Raises:
            RunError: too little memory, no such device, or a folder that cannot be written.
        """
        self.args = args
        self.made = 0
        self._clock = time.perf_counter()
        self._seconds = {"imports": self._clock - (program.BEGAN or self._clock)}
        self._signal: int | None = None  # that asked the run to end
        self._stopped = False  # whether training ended because of it
        self._loop: weakref.ref[Generator] | None = (
            None  # over the steps; held by who goes over it alone, so that it
        )
        # ends with that one, also by an exception
        device.require_memory(memory)
        args.device, self._reason = device.choose_device(args.device, small="engine" in args)
        self._lock = files.open_folder(args.output_dir)
        self._checkpoint = args.output_dir / "checkpoint.pt"

    def generator(self, purpose: str) -> torch.Generator:
        """The source of random numbers for one purpose, from ``--seed``."""
        return generator(self.args.seed, purpose)

    def begin(self, steps: int, **parts: Any) -> np.ndarray:
        """Ends the preparations: all is drawn and made, training comes next.

        Chooses the engine, says where the run computes, and with ``--resume`` goes back to the folder's checkpoint.
        From here on Ctrl-C ends the training after a whole step, and what was computed is saved.

        Args:
            steps: how many will be made.
            parts: what training changes, for checkpoints: `model`, and whatever else has a ``state_dict()``, or is a
                tensor that training fills in.

        Returns:
            Room for the loss of every step, shape (steps,).

        Raises:
            RunError: too little room on the disk, or a checkpoint that does not fit.
        """
        args = self.args
        self._parts = parts
        self._losses = np.full(steps, np.nan)
        where = f"device {args.device} ({self._reason})"
        if "engine" in args:
            args.engine, reason = device.choose_engine(
                args.engine, parts["model"], args.device, steps
            )
            where += f"; engine {args.engine} ({reason})"
        if args.device == "cpu":
            weights = sum(p.numel() for p in parts["model"].parameters())
            threads, reason = device.choose_threads(weights * getattr(args, "batch_size", 1))
            torch.set_num_threads(threads)
            where += f"; {threads} thread{'s' * (threads > 1)} ({reason})"
        print(where)
        self._initial = {
            name: tensor.clone() for name, tensor in parts["model"].state_dict().items()
        }
        tensors = [part for part in parts.values() if isinstance(part, torch.Tensor)]
        weights = sum(parameter.nbytes for parameter in parts["model"].parameters())
        checkpoint_size = (
            8 * steps + 3 * weights + sum(tensor.nbytes for tensor in tensors)
        )  # Adam: 2 more
        files.require_room(
            args.output_dir, 8 * steps + 2 * checkpoint_size + 2**20
        )  # one lies beside the next
        if args.resume:
            self._resume()
        for number in program.SIGNALS:
            signal.signal(number, self._hear)
        self._made_before = self.made
        return self._losses

    def steps(
        self, items: Iterable[Item], progress: Callable[[], str] | None = None
    ) -> Iterator[Item]:
        """Goes over `items`, a training step each; those that a resumed run has made already are passed over.

        Shows a bar with the loss, writes checkpoints, and ends after Ctrl-C. What `progress` returns is printed at the
        start, every ten seconds, and at the end. A loop that leaves by ``break`` has diverged.
        """
        loop = self._each(items, progress)
        self._loop = weakref.ref(loop)
        return loop

    def _each(
        self, items: Iterable[Item], progress: Callable[[], str] | None
    ) -> Generator[Item, None, None]:
        with self._training(progress):
            passed = 0
            for item in items:
                new = passed >= self._made_before  # else a resumed run has made it
                passed += 1
                if new:
                    yield item
                if self._note(int(new)):
                    break

    def follow(self, chunks: Iterator[int]) -> None:
        """Goes over the chunks of a compiled loop, as `steps` goes over steps; each is the number of steps made in it.

        A loop that ends before all steps are made has diverged.
        """
        with self._training(None):
            for count in chunks:
                if self._note(count):
                    break

    @contextmanager
    def _training(self, progress: Callable[[], str] | None) -> Iterator[None]:
        self._phase("preparation")
        self._progress = None if self.args.quiet else progress
        self._saved = self._looked = self._reported = self._clock
        self._bar = tqdm(
            total=len(self._losses),
            initial=self.made,
            desc="training",
            delay=1,
            unit=" steps",
            unit_scale=True,
            disable=self.args.quiet or not sys.stderr.isatty(),
        )
        self._report()
        if (
            program.BEGAN is not None
        ):  # `program` switched it off for the imports, whose objects stay
            gc.freeze()
            gc.enable()
        # Weights that decay come below float32's least normal number, 1e-38, where a step takes three times as long.
        torch.set_flush_denormal(True)
        try:
            with self._bar:
                yield
                self._bar.update(self.made - self._bar.n)
            self._report()
        finally:
            torch.set_flush_denormal(False)
            if program.BEGAN is not None:  # matplotlib comes next, and then the end
                gc.disable()
            self._phase("training")
        if (
            self._stopped
        ):  # now, because what follows may change the model, as folding a centre into it does
            self._save_checkpoint()

    def _note(self, count: int) -> bool:
        """Notes that `count` more steps were made, with bar, report and checkpoint where it is time for them; tells
        whether the run was asked to end."""
        self.made += count
        now = time.perf_counter()
        if now - self._looked >= self.BAR_SECONDS:
            self._looked = now
            self._bar.set_postfix(loss=f"{self._losses[self.made - 1]:.4g}", refresh=False)
            self._bar.update(self.made - self._bar.n)
        if now - self._reported >= self.PROGRESS_SECONDS:
            self._reported = now
            self._report()
        if now - self._saved >= self.CHECKPOINT_SECONDS:
            self._save_checkpoint()
            self._saved = time.perf_counter()
        self._stopped = self._signal is not None
        return self._stopped

    def _report(self) -> None:
        if self._progress is not None:
            with torch.no_grad():
                self._bar.write(self._progress())  # above the bar

    def ending(self, results: dict) -> str:
        """What was done, in words, for the titles of figures: "10,000 steps", "diverged at step 232 of 10,000"."""
        made, planned = self.made, len(self._losses)
        return {
            "finished": _steps(planned),
            "interrupted": f"interrupted after {made:,} of {_steps(planned)}",
            "diverged": f"diverged at step {made + 1:,} of {planned:,}"
            if made < planned
            else f"diverged in the last of {_steps(planned)}",
        }[self._ended(results)]

    def _ended(self, results: dict) -> str:
        """How the training ended. Only the final loss shows an overflow in the last update."""
        loop = self._loop() if self._loop else None
        if loop is not None:
            loop.close()  # one that was left by `break` has not ended yet
        if not math.isfinite(results["final_loss"]) or (
            self.made < len(self._losses) and not self._stopped
        ):
            return "diverged"
        return "interrupted" if self.made < len(self._losses) else "finished"

    def finish(self, results: dict, files: dict[str, Any], table: str, summary: str) -> None:
        """Writes everything, then prints the results, and ends the run in one of three ways: finished, interrupted,
        diverged.

        Args:
            results: for metrics.json; at least ``final_loss``.
            files: by name, what `files.save` writes; a name without an ending is a figure's. The losses and the model
                before and after training are written in any case; a name in `files` takes precedence.
            table: the results at length, which ``--quiet`` leaves out.
            summary: the results in a line or two.

        Raises:
            RunError: the run diverged, or a file cannot be written.
            Interrupted: Ctrl-C was pressed.
        """
        args, ended = self.args, self._ended(results)
        figures = {
            f"{name}.{args.format}": content for name, content in files.items() if "." not in name
        }
        try:
            written = self._save(
                {name: content for name, content in files.items() if "." in name} | figures
            )
            self._save_metrics(results | {"ended": ended}, written)
        finally:  # where the disk is full, the results are on the terminal at least
            self._lock.release()
            if not args.quiet:
                print(table)
            print(summary)
        print(f"figures and numbers: {args.output_dir}")
        if args.show:
            from common import plotting

            plotting.show(figures)
        if ended == "diverged":
            where = (
                f"at step {self.made + 1:,}"
                if self.made < len(self._losses)
                else "after the last step"
            )
            raise RunError(
                f"the loss is not finite {where} with learning rate {args.lr:g}: try a smaller --lr; the "
                f"losses so far are in {args.output_dir}"
            )
        if self._signal is not None:
            raise Interrupted(
                self._signal,
                "training had ended, and everything is saved"
                if ended == "finished"
                else "what was computed so far is saved"
                + "; the same command with --resume goes on" * self._checkpoint.exists(),
            )

    def _save(self, contents: dict[str, Any]) -> list[str]:
        """Writes all files but metrics.json, which is there only if the others are of its run: gone first, written
        last. Returns their names."""
        directory = self.args.output_dir
        earlier = self._metrics().get("files", [])
        (directory / "metrics.json").unlink(missing_ok=True)
        trained = {name: tensor.cpu() for name, tensor in self._parts["model"].state_dict().items()}
        initial = {name: tensor.cpu() for name, tensor in self._initial.items()}
        contents = {
            "losses.npy": self._losses[: self.made],
            "model_initial.pt": initial,
            "model.pt": trained,
        } | contents
        for name, content in contents.items():
            files.save(directory / name, content)
        for name in earlier:  # what an earlier run left would be taken for this one's
            if name not in contents and Path(name).name == name:
                (directory / name).unlink(missing_ok=True)
        self._phase("figures")
        return sorted(contents)

    def _metrics(self) -> dict:
        """The content of the folder's metrics.json, or nothing where it is missing or damaged."""
        try:
            content = json.loads(
                (self.args.output_dir / "metrics.json").read_text(encoding="utf-8")
            )
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def _save_metrics(self, results: dict, written: list[str]) -> None:
        args = self.args
        results |= {
            "steps": self.made,
            "microseconds_per_step": 1e6
            * self._seconds["training"]
            / max(1, self.made - self._made_before),
        }
        if "engine" in args:
            results["engine"] = args.engine
        name = torch.cuda.get_device_name() if args.device == "cuda" else platform.machine()
        environment = {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "device": f"{args.device} ({name})",
            "threads": torch.get_num_threads(),
            "cores": os.cpu_count(),
            "system": platform.system(),
        }
        files.save(
            args.output_dir / "metrics.json",
            {
                "script": Path(sys.argv[0]).stem,
                "config": vars(args),
                "environment": environment,
                "seconds": self._seconds,
                "results": results,
                "files": written,
            },
        )
        if results["ended"] != "interrupted":
            self._checkpoint.unlink(missing_ok=True)

    def _resume(self) -> None:
        """Goes back to the checkpoint; or says that the run is complete, and ends it; or says that it begins."""
        settings = self._settings(_WITHOUT_EFFECT + _OF_FIGURES)
        if self._checkpoint.exists():
            found = files.load_checkpoint(self._checkpoint, settings)
            for name, part in self._parts.items():
                files.restore(part, found["states"].get(name), self._checkpoint)
            self.made = len(found["losses"])
            self._losses[: self.made] = found["losses"]
            print(f"resumed: {self.made:,} of {_steps(len(self._losses))} were made before")
            return
        metrics, wanted = self._metrics(), self._settings(_WITHOUT_EFFECT)
        try:
            found = {name: metrics["config"].get(name) for name in wanted}
            complete = (
                found == json.loads(json.dumps(wanted))
                and metrics["results"]["ended"] == "finished"
                and all((self.args.output_dir / name).is_file() for name in metrics["files"])
            )
        except (LookupError, AttributeError, TypeError):
            complete = False
        if complete:
            print(
                f"complete: the run in {self.args.output_dir} has all {_steps(len(self._losses))}"
            )
            self._lock.release()
            sys.exit(0)
        print(f"no checkpoint in {self.args.output_dir}: beginning at the start")

    def _settings(self, without: tuple[str, ...]) -> dict:
        return {name: value for name, value in vars(self.args).items() if name not in without}

    def _save_checkpoint(self) -> None:
        try:
            states = {
                name: part if isinstance(part, torch.Tensor) else part.state_dict()
                for name, part in self._parts.items()
            }
            files.save_checkpoint(
                self._checkpoint,
                self._settings(_WITHOUT_EFFECT + _OF_FIGURES),
                self._losses[: self.made],
                states,
            )
        except RunError as error:  # as on a full disk: the training goes on
            tqdm.write(f"warning: no checkpoint: {error}", file=sys.stderr)  # above the bar

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if (
            self._signal is not None and number == signal.SIGINT
        ):  # job schedulers send SIGTERM more than once
            raise Interrupted(number, "a second time; what was not yet saved is lost")
        self._signal = number

    def _phase(self, name: str) -> None:
        """Notes that a phase ends now."""
        now = time.perf_counter()
        self._seconds[name], self._clock = now - self._clock, now


def _steps(count: int) -> str:
    return f"{count:,} step{'' if count == 1 else 's'}"
