"""Answers the lecture's exercises: makes their runs and writes docs/generated/exercises.md.

    python exercises/page.py          all exercises, in some minutes
    python exercises/page.py 1 3      exercises 1 and 3; the other sections stay unchanged

Each exercise is a module whose `measure` returns results and figures, and a template for its
section of the page. The results are also in outputs/exercises/exercise_N/metrics.json.
"""

import io
import json
import os
import platform
import re
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the project's folder

from common import files, options, program
from exercises import exercise_1, exercise_2, exercise_3, exercise_4, exercise_5, markdown

import torch
from matplotlib.figure import Figure
from PIL import Image

EXERCISES = {1: exercise_1, 2: exercise_2, 3: exercise_3, 4: exercise_4, 5: exercise_5}
OUTPUTS = program.PROJECT / "outputs" / "exercises"
DOCS = program.PROJECT / "docs" / "generated"
HEAD = """# The lecture's exercises, answered

Written by `make exercises`; every number and figure comes from its runs.
"""


def run(number: int, data_dir: Path) -> None:
    """Runs an exercise; writes its results to OUTPUTS and figures to DOCS, replacing old ones."""
    begin = time.perf_counter()
    results, figures = EXERCISES[number].measure(data_dir)
    python, cores = platform.python_version(), os.cpu_count()
    metrics = {
        "exercise": number,
        "environment": {"python": python, "torch": torch.__version__, "cores": cores},
        "seconds": time.perf_counter() - begin,
        "results": results,
    }
    (OUTPUTS / f"exercise_{number}").mkdir(parents=True, exist_ok=True)
    files.save(OUTPUTS / f"exercise_{number}" / "metrics.json", metrics)
    for old in DOCS.glob(f"exercise_{number}_*.png"):
        old.unlink()
    for name, figure in figures.items():
        files.save(DOCS / f"exercise_{number}_{name}", small_png(figure))


def small_png(figure: Figure) -> bytes:
    """A figure as a PNG with 256 colours, which takes a third of the bytes."""
    full, small = io.BytesIO(), io.BytesIO()
    figure.savefig(full, format="png")
    picture = Image.open(full).convert("RGB").quantize(dither=Image.Dither.NONE)
    picture.save(small, format="png", optimize=True)
    return small.getvalue()


def section(number: int) -> str:
    """An exercise's part of the page, from its results."""
    path = OUTPUTS / f"exercise_{number}" / "metrics.json"
    metrics = json.loads(path.read_text(encoding="utf-8"))
    text = markdown.render(f"exercise_{number}.md.j2", metrics["results"])
    environment = ", ".join(f"{name} {value}" for name, value in metrics["environment"].items())
    command = f"`python exercises/page.py {number}`"
    return f"{text.strip()}\n\n{command}: {metrics['seconds']:.0f} s with {environment}\n"


def publish(number: int) -> None:
    """Writes an exercise's section of the page; the others stay unchanged."""
    path = DOCS / "exercises.md"
    page = path.read_text(encoding="utf-8") if path.exists() else ""
    old = re.split(r"^(?=## \d\. )", page, flags=re.MULTILINE)[1:]
    sections = {int(text[3]): text.strip() + "\n" for text in old} | {number: section(number)}
    files.save(path, "\n".join([HEAD, *(sections[n] for n in sorted(sections))]).encode())


def main() -> None:
    parser = options.parser(__doc__.splitlines()[0])
    parser.add_argument(
        "exercises",
        type=options.whole_number(1, len(EXERCISES)),
        nargs="*",
        default=list(EXERCISES),
        help="their numbers, 1 to 5 (default: all)",
    )
    parser.add_argument(
        "--data-dir",
        type=options.folder,
        metavar="DIR",
        default=os.environ.get("MNIST_ROOT") or program.PROJECT / "data",
        help="the folder with MNIST/raw/ (default: MNIST_ROOT, or data/)",
    )
    args = parser.parse_args()
    torch.set_num_threads(1)  # no step here is large enough to gain from more
    torch.set_flush_denormal(True)  # as the lectures do while they train
    for number in args.exercises:
        print(str(EXERCISES[number].__doc__).replace("Exercise", "exercise", 1), flush=True)
        run(number, args.data_dir)
        publish(number)
    print(f"the page: {DOCS / 'exercises.md'}")


if __name__ == "__main__":
    program.execute(main)
