"""One run of a lecture: what its six steps need around them, and a reader of the lecture does not."""

import engine
from common import files, program
from common.program import Interrupted, RunError

import argparse
import gc
import json
import os
import platform
import signal
import sys
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector
from tqdm import tqdm

Item = TypeVar("Item")

# Options without effect on what is computed or drawn, and those that change figures alone
WITHOUT_EFFECT = ("output_dir", "data_dir", "quiet", "show", "resume")
OF_FIGURES = ("format", "animate")


def generator(seed: int, purpose: str) -> torch.Generator:
    """A source of random numbers for one purpose, such as ``"model"``: what else a run draws does not change them.

    It is on the CPU, so that a seed means the same numbers on every device.
    """
    return torch.Generator().manual_seed(zlib.crc32(f"{purpose} {seed}".encode()))


class Run:
    """One run: its folder, device, random numbers, loop and files.

    - ``run.device`` is where to compute, ``run.generator("model")`` draws for one purpose, from ``--seed``.
    - ``run.print(...)`` prints, unless ``--quiet``.
    - ``for item in run.steps(items, model=..., optimizer=...):`` goes over the training steps, one for each item.
    - ``run.record(value)`` at the end of a step notes its loss; then ``run.losses`` has those of the ``run.done``
      steps, and ``run.kept`` the parameters after those that `keep` named.
    - ``run.finish(results, report)`` writes every file, then prints what came out.
    """

    CHECKPOINT_SECONDS = 10.0  # of training, from one checkpoint to the next
    PROGRESS_SECONDS = (
        10.0  # between reports of the loss, as in the lecture's throttle(progress, 10)
    )

    def __init__(self, script: str, args: argparse.Namespace, **used: Any):
        """Opens the run's folder and chooses the device.

        Args:
            script: its name, without ``.py``.
            args: the options, from a parser of `common.options`.
            used: what options came to that were ``auto`` or ``all``.

        Raises:
            RunError: no such device, or a folder that cannot be written.
        """
        self.script, self.args = script, args
        self.device, reason = choose_device(args.device, small="engine" in args)
        self.config = vars(args) | {"device": self.device} | used
        self.done = 0
        self.losses = np.empty(0)
        self.kept = np.empty((0, 0))
        self._clock = time.perf_counter()
        self._seconds = {"imports": self._clock - (program.BEGAN or self._clock)}
        self._signal: int | None = None
        self._loop: engine.steps | None = None
        self._lock = files.open_folder(args.output_dir)
        self._checkpoint = args.output_dir / "checkpoint.pt"
        if self.device == "cpu":
            # On steps so small a second thread gains little, and loses much beside another program.
            torch.set_num_threads(1)
        print(f"device: {self.device} ({reason}); seed {args.seed}")

    def generator(self, purpose: str) -> torch.Generator:
        """The source of random numbers for one purpose, from ``--seed``."""
        return generator(self.args.seed, purpose)

    def print(self, *values: object) -> None:
        """Prints values, a line each, unless ``--quiet``."""
        if not self.args.quiet:
            print(*values, sep="\n")

    def steps(
        self,
        items: Iterable[Item],
        count: int | None = None,
        *,
        keep: Sequence[int] | np.ndarray = (),
        **parts: Any,
    ) -> Iterator[Item]:
        """Goes over the training steps: shows a bar, writes checkpoints, ends early after Ctrl-C or divergence.

        With ``--engine`` the loop is compiled, if it can be, see docs/engine.md. With ``--resume`` it goes on from the
        checkpoint, where there is one.

        Args:
            items: a step each.
            count: how many there are (default: their length).
            keep: numbers of steps after which the model's parameters are kept, in ascending order; ``run.kept`` then
                has them, shape (those that were reached, parameters). 0 is before the first step.
            parts: `model`, and what else training changes and a checkpoint needs: whatever has a ``state_dict()``.

        Raises:
            RunError: too little room on the disk; a checkpoint that does not fit; ``--engine compiled`` in vain.
        """
        count = len(items) if count is None else count  # type: ignore[arg-type]  # it says so itself
        self._parts, self.keep, self._planned = parts, np.asarray(keep, int), count
        parameters = list(parts["model"].parameters())
        self.losses = np.full(count, np.nan)
        self.kept = np.zeros((len(self.keep), sum(p.numel() for p in parameters)))
        self.initial = {name: t.cpu().clone() for name, t in parts["model"].state_dict().items()}
        checkpoint = self.losses.nbytes + self.kept.nbytes + 3 * sum(p.nbytes for p in parameters)
        files.require_room(self.args.output_dir, 3 * checkpoint + 2**20)
        if len(self.keep) and self.keep[0] == 0:
            self.kept[0] = parameters_to_vector(parameters).detach().cpu()
        if self.args.resume:
            self._resume()
        self._done_before = self.done
        for number in program.SIGNALS:
            signal.signal(number, self._on_signal)
        self._keeps_all = len(self.keep) > count  # 0 and each step: then the loop itself keeps them
        self._loop = engine.steps(
            self._until_signal(items),
            count,
            done=self.done,
            compile=self.config.get("engine", "eager") != "eager",
            losses=self.losses,
            parameters=parameters,
            iterates=self.kept[1:] if self._keeps_all else None,
            stops=() if self._keeps_all else self.keep.tolist(),
            restore=self._restore,
            after=self._after_steps,
            own=(self.steps, self.record),
        )
        self._phase("preparation")
        self._saved = self._reported = self._shown = self._clock
        self._bar = tqdm(
            total=count,
            initial=self.done,
            desc="training",
            delay=1,
            unit=" steps",
            unit_scale=True,
            disable=self.args.quiet or not sys.stderr.isatty(),
        )
        if program.BEGAN is not None:  # `program` has switched it off for the imports
            gc.freeze()  # their objects stay
            gc.enable()
        # Weights that decay come below float32's least normal number, 1e-38, where a step takes three times as long.
        torch.set_flush_denormal(True)
        try:
            with self._bar:
                yield from self._loop
                self._bar.update(self.done - self._bar.n)
        finally:
            torch.set_flush_denormal(False)
            if program.BEGAN is not None:  # matplotlib draws next, and then comes the end
                gc.disable()
            self._phase("training")
        if self.ended == "interrupted":  # now, because what follows may change the model
            self._save_checkpoint()
        self.losses = self.losses[: self.done]
        self.kept = self.kept[: np.searchsorted(self.keep, self.done, side="right")]

    def _until_signal(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items, until the run is asked to end: a resumed one may pass over many."""
        for item in items:
            if self._signal is not None:
                return
            yield item

    def record(self, value: Tensor) -> None:
        """Notes the loss of a step, a tensor of one number; one that is not finite ends the loop after the step."""
        assert self._loop is not None
        self._loop.record(value)

    def _after_steps(self) -> bool:
        """Keeps what is to be kept after some steps, shows and saves; tells whether the run was asked to end."""
        assert self._loop is not None
        self.done = self._loop.done
        if not self._keeps_all and self.done in self.keep:
            vector = parameters_to_vector(self._parts["model"].parameters())
            self.kept[np.searchsorted(self.keep, self.done)] = vector.detach().cpu()
        if self.config.get("engine") == "compiled" and self._loop.how.startswith("not"):
            reason = self._loop.how.removeprefix("not compiled: ")
            raise RunError(f"--engine compiled: {reason}; use --engine eager")
        now = time.perf_counter()
        if now - self._shown >= 0.1:
            self._shown = now
            self._bar.set_postfix(loss=f"{self.losses[self.done - 1]:.4g}", refresh=False)
            self._bar.update(self.done - self._bar.n)
        if now - self._reported >= self.PROGRESS_SECONDS and not self.args.quiet:
            self._bar.write(f"step {self.done:,}: loss {self.losses[self.done - 1]:.4f}")
            self._reported = now
        if now - self._saved >= self.CHECKPOINT_SECONDS:
            self._save_checkpoint()
            self._saved = time.perf_counter()
        return self._signal is not None

    @property
    def ended(self) -> str:
        """How the training ended: ``finished``, ``interrupted`` or ``diverged``."""
        if self._loop is not None and self._loop.diverged:
            return "diverged"
        return "finished" if self.done == self._planned else "interrupted"

    @property
    def ending(self) -> str:
        """The same in words, for titles: "10,000 steps", "diverged at step 232 of 10,000"."""
        planned = count_of(self._planned, "step")
        return {
            "finished": planned,
            "interrupted": f"interrupted after {self.done:,} of {planned}",
            "diverged": f"diverged at step {self.done:,} of {self._planned:,}",
        }[self.ended]

    def finish(self, results: dict, report: Any) -> None:
        """Writes everything, then prints the results.

        Args:
            results: for metrics.json.
            report: a `common.reports.Report`. Its figures are matplotlib's by name, or bytes by file name. Its files
                take precedence over the losses and the model before and after training, which are written in any case.
                Its table is left out with ``--quiet``, its summary is not.

        Raises:
            RunError: the run diverged, or a file cannot be written.
            Interrupted: Ctrl-C was pressed.
        """
        args = self.args
        if self._loop is not None and "engine" in self.config:
            print(f"engine: {self._loop.how}")
            self.config["engine"] = "compiled" if self._loop.compiled else "eager"
            results |= {"engine": self.config["engine"]}
        named = {
            name if "." in name else f"{name}.{args.format}": figure
            for name, figure in report.figures.items()
        }
        model = {name: t.cpu() for name, t in self._parts["model"].state_dict().items()}
        training = self._seconds["training"] / max(1, self.done - self._done_before)
        results |= {
            "steps": self.done,
            "microseconds_per_step": 1e6 * training,
            "ended": self.ended,
        }
        try:
            self._save(
                {"losses.npy": self.losses, "model_initial.pt": self.initial, "model.pt": model}
                | (report.files or {})
                | named,
                results,
            )
        finally:  # where the disk is full, the results are on the terminal at least
            self._lock.release()
            self.print(report.table)
            print(report.summary)
        print(f"figures and numbers: {args.output_dir}")
        if args.show:
            from common import plotting

            plotting.show({name: f for name, f in named.items() if not isinstance(f, bytes)})
        if self.ended == "diverged":
            raise RunError(
                f"the loss is not finite at step {self.done:,} with learning rate {args.lr:g}: try a smaller --lr; "
                f"the losses so far are in {args.output_dir}"
            )
        if self._signal is not None:
            what = "what was computed so far is saved"
            if self._checkpoint.exists():
                what += "; the same command with --resume goes on"
            if self.ended == "finished":
                what = "training had ended, and everything is saved"
            raise Interrupted(self._signal, what)

    def _save(self, contents: dict[str, Any], results: dict) -> None:
        """Writes all files. metrics.json is deleted first and written last, so its presence proves the others whole."""
        folder = self.args.output_dir
        earlier = self._metrics().get("files", [])
        (folder / "metrics.json").unlink(missing_ok=True)
        for name, content in contents.items():
            files.save(folder / name, content)
        for name in earlier:  # what an earlier run left would be taken for this one's
            if name not in contents and Path(name).name == name:
                (folder / name).unlink(missing_ok=True)
        self._phase("figures")
        name = torch.cuda.get_device_name() if self.device == "cuda" else platform.machine()
        environment = {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "device": f"{self.device} ({name})",
            "threads": torch.get_num_threads(),
            "cores": os.cpu_count(),
            "system": platform.system(),
        }
        metrics = {
            "script": self.script,
            "config": self.config,
            "environment": environment,
            "seconds": self._seconds,
            "results": results,
            "files": sorted(contents),
        }
        files.save(folder / "metrics.json", metrics)
        if self.ended != "interrupted":
            self._checkpoint.unlink(missing_ok=True)

    def _metrics(self) -> dict:
        """The content of the folder's metrics.json, or nothing where it is missing or damaged."""
        try:
            content = json.loads(
                (self.args.output_dir / "metrics.json").read_text(encoding="utf-8")
            )
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def _resume(self) -> None:
        """Goes back to the checkpoint; or says that the run is complete, and ends it; or says that it begins."""
        if self._checkpoint.exists():
            try:
                content = files.load_checkpoint(self._checkpoint, self._settings(OF_FIGURES))
                self._states = content["states"]
                self.done = len(content["losses"])
                self.losses[: self.done] = content["losses"]
                self.kept[:] = self._states["kept"]
                self._restore()
            except (AttributeError, LookupError, TypeError, ValueError):
                raise RunError(
                    f"{self._checkpoint} is damaged; delete it, or run without --resume"
                ) from None
            print(f"resumed: {self.done:,} of {count_of(self._planned, 'step')} were made before")
            return
        metrics, wanted = self._metrics(), json.loads(json.dumps(self._settings(), default=str))
        try:
            found = {name: metrics["config"].get(name) for name in wanted}
            same = {name for name in wanted if found[name] == wanted[name]} | {"engine"}
            complete = same >= set(wanted) and metrics["results"]["ended"] == "finished"
            complete &= all((self.args.output_dir / name).is_file() for name in metrics["files"])
        except (LookupError, AttributeError, TypeError):
            complete = False
        if complete:
            print(
                f"complete: the run in {self.args.output_dir} has all {count_of(self._planned, 'step')}"
            )
            self._lock.release()
            sys.exit(0)
        print(f"no checkpoint in {self.args.output_dir}: beginning at the start")

    def _restore(self) -> None:
        """Puts the checkpoint's states back."""
        for name, part in self._parts.items():
            files.restore(part, self._states[name], self._checkpoint)

    def _settings(self, without: tuple[str, ...] = ()) -> dict:
        """The options that a run which is gone on with must share."""
        left_out = WITHOUT_EFFECT + without
        return {name: value for name, value in self.config.items() if name not in left_out}

    def _save_checkpoint(self) -> None:
        states = {name: part.state_dict() for name, part in self._parts.items()}
        states["kept"] = torch.from_numpy(self.kept)
        settings = self._settings(OF_FIGURES)
        try:
            files.save_checkpoint(self._checkpoint, settings, self.losses[: self.done], states)
        except RunError as error:  # as on a full disk: the training goes on
            tqdm.write(f"warning: no checkpoint: {error}", file=sys.stderr)  # above the bar

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        # Job schedulers send SIGTERM more than once.
        if self._signal is not None and number == signal.SIGINT:
            raise Interrupted(number, "a second time; what was not yet saved is lost")
        self._signal = number

    def _phase(self, name: str) -> None:
        """Notes that a phase ends now."""
        now = time.perf_counter()
        self._seconds[name], self._clock = now - self._clock, now


def count_of(number: int, thing: str) -> str:
    """A number of things: "1 step", "10,000 steps"."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def choose_device(requested: str, *, small: bool) -> tuple[str, str]:
    """The device's name and, in a few words, the reason.

    Args:
        requested: ``auto``, ``cpu``, ``cuda``, or an accelerator that `auto` does not take: ``mps``, ``xpu``.
        small: a float64 network whose step takes a GPU less time than the launch of its kernels; `auto` keeps it on
            the CPU.

    Raises:
        RunError: PyTorch finds no such device, or it cannot compute in float64.
    """
    if requested in ("mps", "xpu") and small:
        raise RunError(
            f"--device {requested}: this network computes in float64, which such a device may "
            "not have; use --device cpu"
        )
    if requested == "cpu" or (requested != "auto" and _available(requested)):
        return requested, "as asked"
    if requested != "auto":
        raise RunError(
            f"--device {requested}: PyTorch finds no {requested.upper()} device here; use --device cpu"
        )
    if small:
        return "cpu", "launching a step on a GPU takes longer than making it here"
    if _available("cuda"):
        return "cuda", "there is one"
    others = [name for name in ("mps", "xpu") if _available(name)]
    would = "".join(f"; --device {name} would take the other one" for name in others)
    return "cpu", f"no CUDA device here{would}"


def _available(name: str) -> bool:
    backend = torch.backends.mps if name == "mps" else getattr(torch, name, None)
    return backend is not None and backend.is_available()
