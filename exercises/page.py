"""Answers the lecture's exercises: runs what they ask for and writes docs/exercises.md from the results.

    python exercises/page.py          all of them, in some minutes
    python exercises/page.py 1 3      these; the page takes the others' results from their last run

Each exercise is a module with `measure`, which returns results and figures, and `text`, its section of the page. The
results go into outputs/exercises/<module>/metrics.json, and the page is made from those files alone.
"""

import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from common import cli, outputs
from exercises import other_data, rand_for_randn, samples, steps, unseen

EXERCISES = {1: samples, 2: steps, 3: rand_for_randn, 4: unseen, 5: other_data}
DOCS = cli.PROJECT / "docs"


def folder_of(number: int) -> Path:
    return cli.PROJECT / "outputs" / "exercises" / EXERCISES[number].__name__.split(".")[-1]


def table(head: list[str], rows: list[list]) -> str:
    """Rows as a Markdown table."""
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in (head, ["---"] * len(head), *rows))


def page() -> str:
    """docs/exercises.md, from what the exercises' folders hold."""
    parts, versions = [], set()
    for number, exercise in EXERCISES.items():
        path = folder_of(number) / "metrics.json"
        if not path.exists():
            parts.append(f"## {number}. (not run)\n")
            continue
        metrics = json.loads(path.read_text())
        versions.add(", ".join(f"{key} {metrics['environment'][key]}" for key in ("python", "torch", "cores")))
        for figure in folder_of(number).glob("*.png"):
            shutil.copyfile(figure, DOCS / "figures" / f"exercise_{number}_{figure.name}")
        parts.append(exercise.text(metrics["results"], table)
                     + f"\n`python exercises/page.py {number}`, {metrics['seconds']['all']:.0f} s\n")
    return ("# The lecture's exercises, answered\n\nWritten by `make exercises`; every number and figure comes from "
            f"its runs, with {'; '.join(sorted(versions))}.\n\n" + "\n".join(parts))


def main():
    options = cli.Parser(description=__doc__.splitlines()[0])
    options.add_argument("exercises", type=cli.whole_number(1, len(EXERCISES)), nargs="*", default=list(EXERCISES),
                         help="their numbers, 1 to 5 (default: all)")
    options.add_argument("--data-dir", type=Path, default=os.environ.get("MNIST_ROOT") or cli.PROJECT / "data",
                         metavar="DIR", help="the folder of MNIST/raw/; the variable MNIST_ROOT sets it")
    args = options.parse_args()
    for number in args.exercises:
        print(f"exercise {number}: {EXERCISES[number].__doc__.split(': ', 1)[1]}", flush=True)
        folder, begin = folder_of(number), time.perf_counter()
        outputs.open_folder(folder)
        results, figures = EXERCISES[number].measure(args.data_dir)
        for name, figure in figures.items():
            outputs.save_figure(folder / name, figure)
        setting = argparse.Namespace(exercise=number, data_dir=args.data_dir)
        outputs.save_metrics(folder, setting, torch.device("cpu"), {"all": time.perf_counter() - begin}, results)
    (DOCS / "exercises.md").write_text(page())


if __name__ == "__main__":
    cli.run(main)
