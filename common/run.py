"""One run of a lecture: what its six steps need around them."""

import engine
from common import files, program
from common.program import RunError

import argparse
import copy
import json
import os
import platform
import signal
import sys
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from types import FrameType
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector
from tqdm import tqdm

Item = TypeVar("Item")

# Options without effect on what a run leaves, and those that change its figures alone
WITHOUT_EFFECT = ("output_dir", "data_dir", "quiet", "show", "resume")
OF_FIGURES = ("format", "animate")


def generator(seed: int, purpose: str) -> torch.Generator:
    """A source of random numbers for one purpose: what else a run draws does not change them.

    It is on the CPU, so that a seed means the same numbers on every device.
    """
    return torch.Generator().manual_seed(zlib.crc32(f"{purpose} {seed}".encode()))


class Run:
    """One run: its folder, device, random numbers, loop and files.

    - ``run.device`` is where to compute; ``run.generator("model")`` draws for one purpose.
    - ``for item in run.steps(items, model=..., ...):`` goes over the training steps.
    - ``run.record(loss)`` ends a step; ``run.losses`` has those of all ``run.done`` steps.
    - ``run.kept`` are the parameters after the steps that `keep` named.
    - ``run.print(...)`` is silent with ``--quiet``; ``run.finish(...)`` writes every file.
    """

    # Between checkpoints, and between reports of the loss: the lecture's throttle(progress, 10)
    CHECKPOINT_SECONDS = 10.0
    _loop: engine.steps

    def __init__(self, script: str, args: argparse.Namespace, **used: Any):
        """Chooses the device and opens the folder ``--output-dir``, or raises a RunError.

        `args` are from a parser of `common.options`; `used` those that were ``auto`` or ``all``.
        """
        self.script, self.args, self.folder = script, args, args.output_dir
        self.device = choose_device(args.device, small="engine" in args)
        self.config = vars(args) | {"device": self.device} | used
        self.generator = partial(generator, args.seed)
        self._signal: int | None = None
        self._seconds: dict[str, float] = {}
        self._clock = program.BEGAN
        self._phase("imports")
        self._lock = files.open_folder(self.folder)
        self._checkpoint = self.folder / "checkpoint.pt"
        if self.device == "cpu":
            # On steps so small a second thread gains little, and loses much beside another program.
            torch.set_num_threads(1)
        print(f"device: {self.device}; seed {args.seed}")

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
        """Goes over the training steps, an item each, until the last one, Ctrl-C or divergence.

        There are `count` (default: the items' length). `parts` are `model`, and what else training
        changes: whatever has a ``state_dict()``. After each of the steps `keep`, ascending numbers
        of which 0 is before the first, the model's parameters are kept in ``run.kept``, shape
        (those that were reached, parameters). Raises a RunError if the checkpoint does not fit, or
        ``--engine compiled`` was in vain.
        """
        count = len(items) if count is None else count  # type: ignore[arg-type]  # it says so
        self._parts, self.keep, self._planned = parts, np.asarray(keep, int), count
        parameters = list(parts["model"].parameters())
        self.done, self.losses = 0, np.full(count, np.nan)
        self.kept = np.zeros((len(self.keep), sum(p.numel() for p in parameters)))
        self.initial = {name: t.cpu().clone() for name, t in parts["model"].state_dict().items()}
        self._keep_parameters()
        if self.args.resume:
            self._resume()
        self._done_before = self.done
        self._keeps_all = len(self.keep) > count  # 0 and each step: then the loop itself keeps them
        self._loop = engine.steps(
            items,
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
        self._saved = self._clock
        # Where weights decay below float32's normal numbers, 1e-38, a step takes thrice as long.
        torch.set_flush_denormal(True)
        hidden = self.args.quiet or None  # None: unless stderr is a terminal
        self._bar = tqdm(desc="training", total=count, initial=self.done, delay=1, disable=hidden)
        try:
            with self._bar:
                steps = iter(self._loop)
                for first in steps:  # until the first is there, Ctrl-C ends the run at once
                    for number in program.SIGNALS:
                        signal.signal(number, self._on_signal)
                    yield first
                    yield from steps
                self._bar.update(self.done - self._bar.n)
        finally:
            torch.set_flush_denormal(False)
        self._phase("training")
        self.losses = self.losses[: self.done]
        self.kept = self.kept[: np.searchsorted(self.keep, self.done, side="right")]

    def record(self, value: Tensor) -> None:
        """Notes the loss of a step, a tensor of one number; if it is not finite the loop ends."""
        self._loop.record(value)

    def _keep_parameters(self) -> None:
        """Keeps the model's parameters, if they are to be kept after so many steps."""
        if self.done in self.keep:
            vector = parameters_to_vector(self._parts["model"].parameters())
            self.kept[np.searchsorted(self.keep, self.done)] = vector.detach().cpu()

    def _after_steps(self) -> bool:
        """Keeps, shows and saves what is to be; tells whether the run was asked to end."""
        self.done = self._loop.done
        if not self._keeps_all:
            self._keep_parameters()
        if self.config.get("engine") == "compiled" and self._loop.how.startswith("not"):
            raise RunError(f"--engine compiled: {self._loop.how}; use --engine eager")
        loss = self.losses[self.done - 1]
        self._bar.set_postfix_str(f"loss={loss:.4g}", refresh=False)
        self._bar.update(self.done - self._bar.n)
        due = time.perf_counter() - self._saved >= self.CHECKPOINT_SECONDS
        if due and not self.args.quiet:
            self._bar.write(f"step {self.done:,}: loss {loss:.4f}")
        if due or self._signal is not None:
            self._save_checkpoint()
            self._saved = time.perf_counter()
        return self._signal is not None

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        # Job schedulers send SIGTERM more than once.
        if self._signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt(number, "a second time; what was not yet saved is lost")
        self._signal = number

    @property
    def ended(self) -> str:
        """How the training ended: ``finished``, ``interrupted`` or ``diverged``."""
        if self._loop.diverged:
            return "diverged"
        return "finished" if self.done == self._planned else "interrupted"

    @property
    def ending(self) -> str:
        """The same for titles, such as "10,000 steps" or "diverged at step 232 of 10,000"."""
        if self.ended == "finished":
            return count_of(self.done, "step")
        return f"{self.ended} at step {self.done:,} of {self._planned:,}"

    def finish(self, results: dict, report: Any) -> None:
        """Writes `results`, losses, models and what `report` has, then prints the latter's texts.

        The report is a `common.reports.Report`, whose files take precedence. Raises a RunError if
        the run diverged or a file cannot be written, a KeyboardInterrupt if Ctrl-C was pressed.
        """
        training = self._seconds["training"] / max(1, self.done - self._done_before)
        made = {"steps": self.done, "microseconds_per_step": 1e6 * training, "ended": self.ended}
        if "engine" in self.config:
            print(f"engine: {self._loop.how}")
            self.config["engine"] = "compiled" if self._loop.compiled else "eager"
            made["engine"] = self.config["engine"]
        figures = {f"{name}.{self.args.format}": figure for name, figure in report.figures.items()}
        model = {name: t.cpu() for name, t in self._parts["model"].state_dict().items()}
        contents = {"losses.npy": self.losses, "model_initial.pt": self.initial, "model.pt": model}
        try:
            self._save(contents | report.files | figures, results | made)
        finally:  # where the disk is full, the results are on the terminal at least
            self._lock.release()
            self.print(report.table)
            print(report.summary)
        print(f"figures and numbers: {self.folder}")
        if self.args.show:
            from common import plotting

            plotting.show(figures)
        if self.ended == "diverged":
            where = f"at step {self.done:,} with learning rate {self.args.lr:g}"
            advice = f"try a smaller --lr; the losses so far are in {self.folder}"
            raise RunError(f"the loss is not finite {where}: {advice}")
        if self._signal is not None:
            what = "what was computed so far is saved"
            if self._checkpoint.exists():
                what += "; the same command with --resume goes on"
            raise KeyboardInterrupt(self._signal, what)

    def _save(self, contents: dict[str, Any], results: dict) -> None:
        """Writes all files, metrics.json last: where there is one, the others are whole."""
        earlier = self._metrics().get("files", [])
        (self.folder / "metrics.json").unlink(missing_ok=True)
        for name, content in contents.items():
            files.save(self.folder / name, content)
        for name in set(earlier) - contents.keys():  # they would be taken for this run's
            (self.folder / name).unlink(missing_ok=True)
        self._phase("figures")
        processor = torch.cuda.get_device_name() if self.device == "cuda" else platform.machine()
        metrics = {
            "script": self.script,
            "config": self.config,
            "environment": {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "device": f"{self.device} ({processor})",
                "threads": torch.get_num_threads(),
                "cores": os.cpu_count(),
                "system": platform.system(),
            },
            "seconds": self._seconds,
            "results": results,
            "files": sorted(contents),
        }
        files.save(self.folder / "metrics.json", metrics)
        if self.ended != "interrupted":
            self._checkpoint.unlink(missing_ok=True)

    def _metrics(self) -> dict:
        """The content of the folder's metrics.json; nothing where there is none."""
        try:
            return json.loads((self.folder / "metrics.json").read_bytes())
        except (OSError, ValueError):  # absent, or edited
            return {}

    def _save_checkpoint(self) -> None:
        content = {
            "settings": _settings(self.config, OF_FIGURES),
            "losses": torch.from_numpy(self.losses[: self.done]),
            "kept": torch.from_numpy(self.kept),
            "states": {name: part.state_dict() for name, part in self._parts.items()},
        }
        try:
            files.save(self._checkpoint, content)
        except RunError as error:  # as on a full disk: the training goes on
            tqdm.write(f"warning: no checkpoint: {error}", file=sys.stderr)  # above the bar

    def _resume(self) -> None:
        """Goes back to the checkpoint; or says that the run is complete, or that it begins."""
        if self._checkpoint.exists():
            content = files.load(self._checkpoint)
            try:
                settings = _settings(self.config, OF_FIGURES).items()
                if other := dict(content["settings"].items() - settings):
                    begun = f"the run in {self.folder} was begun with {other}"
                    raise RunError(f"--resume: {begun}; use its options, or run without --resume")
                self.done = len(content["losses"])
                self.losses[: self.done] = content["losses"]
                self.kept[:] = content["kept"]
                self._states = content["states"]
                self._restore()
            except (AttributeError, LookupError, RuntimeError, TypeError, ValueError):
                reason = "is damaged, or another script's; delete it, or run without --resume"
                raise RunError(f"{self._checkpoint} {reason}") from None
            print(f"resumed: {self.done:,} of {self._planned:,} steps were made before")
            return
        metrics, engines = self._metrics(), ("engine",)  # metrics.json has the one that was used
        same = _settings(metrics.get("config", {}), engines) == _settings(self.config, engines)
        if same and metrics["results"]["ended"] == "finished":
            print(f"complete: the run in {self.folder} has all steps")
            self._lock.release()
            sys.exit(0)
        print(f"no checkpoint in {self.folder}: beginning at the start")

    def _restore(self) -> None:
        """Puts the checkpoint's states back."""
        for name, part in self._parts.items():
            # A copy, because an optimizer goes on with the tensors that it is given.
            part.load_state_dict(copy.deepcopy(self._states[name]))

    def _phase(self, name: str) -> None:
        """Notes that a phase ends now."""
        now = time.perf_counter()
        self._seconds[name], self._clock = now - self._clock, now


def _settings(config: dict, without: tuple[str, ...]) -> dict:
    """The options that two runs must share for one to go on with the other's steps."""
    return {name: v for name, v in config.items() if name not in WITHOUT_EFFECT + without}


def count_of(number: int, thing: str) -> str:
    """A number of things: "1 step", "10,000 steps"."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def choose_device(requested: str, *, small: bool) -> str:
    """The device's name, for ``--device`` as requested.

    `small` is a float64 network whose step takes a GPU less time than the launch of its kernels.
    Raises a RunError if PyTorch finds no such device, or it cannot compute in float64.
    """
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    found = accelerator.type if accelerator else "cpu"
    if requested == "auto":
        return "cuda" if found == "cuda" and not small else "cpu"
    if requested not in ("cpu", found):
        raise RunError(f"--device {requested}: PyTorch finds no such device; use --device cpu")
    if small and requested in ("mps", "xpu"):
        raise RunError(f"--device {requested}: this network computes in float64; use --device cpu")
    return requested
