"""Answers the lecture's exercises: runs what they ask for and writes docs/exercises.md from the results.

    python exercises/page.py          all of them, in some minutes
    python exercises/page.py 1 3      these; the others' sections stay as they are

Each exercise is a module with `measure`, which returns results and figures, and `text`, its section of the page. The
results go into outputs/exercises/<module>/metrics.json, of which a section of the page is made.
"""

import io
import json
import os
import platform
import re
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # common/ is found from any folder

import torch
from PIL import Image

from common import files, options, program
from exercises import other_data, rand_for_randn, samples, steps, unseen

EXERCISES = {1: samples, 2: steps, 3: rand_for_randn, 4: unseen, 5: other_data}
OUTPUTS, DOCS = program.PROJECT / "outputs" / "exercises", program.PROJECT / "docs"


def folder_of(number: int) -> Path:
    """Where an exercise's results and figures are."""
    return OUTPUTS / EXERCISES[number].__name__.split(".")[-1]


def run(number: int, data_dir: Path) -> None:
    """Does an exercise; its folder then holds its results and figures, and nothing of an earlier run."""
    begin = time.perf_counter()
    results, figures = EXERCISES[number].measure(data_dir)
    lock = files.open_folder(folder_of(number))
    for old in folder_of(number).glob("*.png"):
        old.unlink()
    for name, figure in figures.items():
        files.save(folder_of(number) / name, figure)
    environment = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cores": os.cpu_count(),
    }
    files.save(
        folder_of(number) / "metrics.json",
        {
            "exercise": number,
            "environment": environment,
            "seconds": time.perf_counter() - begin,
            "results": results,
        },
    )
    lock.release()


def section(number: int) -> str:
    """An exercise's part of the page, from what its folder holds."""
    metrics = json.loads((folder_of(number) / "metrics.json").read_text(encoding="utf-8"))
    environment = ", ".join(f"{name} {value}" for name, value in metrics["environment"].items())
    return (
        f"{EXERCISES[number].text(metrics['results'])}\n`python exercises/page.py {number}`: "
        f"{metrics['seconds']:.0f} s with {environment}\n"
    )


def small(figure: Path) -> bytes:
    """A figure with 256 colours, which take a third of the bytes."""
    content = io.BytesIO()
    with Image.open(figure) as picture:
        picture.convert("RGB").quantize(dither=Image.Dither.NONE).save(
            content, format="png", optimize=True
        )
    return content.getvalue()


def publish(numbers: list[int]) -> None:
    """Writes these exercises' sections of docs/exercises.md and their figures; the others' stay as they are."""
    path = DOCS / "exercises.md"
    page = path.read_text(encoding="utf-8") if path.exists() else ""
    parts = {
        int(part[3]): part for part in re.split(r"^(?=## \d\. )", page, flags=re.MULTILINE)[1:]
    }
    for number in numbers:
        parts[number] = section(number)
        for old in (DOCS / "figures").glob(f"exercise_{number}_*.png"):
            old.unlink()
        for figure in folder_of(number).glob("*.png"):
            files.save(DOCS / "figures" / f"exercise_{number}_{figure.name}", small(figure))
    head = (
        "# The lecture's exercises, answered\n\n"
        "Written by `make exercises`; every number and figure comes from its runs.\n"
    )
    files.save(
        path,
        "\n".join([head, *(parts[number].strip() + "\n" for number in sorted(parts))]).encode(),
    )


def main() -> None:
    parser = options.parser(__doc__.splitlines()[0])
    parser.add_argument(
        "exercises",
        type=options.whole_number(1, len(EXERCISES)),
        nargs="*",
        default=list(EXERCISES),
        help="their numbers, 1 to 5",
    )
    parser.add_argument(
        "--data-dir",
        type=options.folder,
        metavar="DIR",
        default=os.environ.get("MNIST_ROOT") or program.PROJECT / "data",
        help="the folder of MNIST/raw/; the variable MNIST_ROOT sets it",
    )
    args = parser.parse_args()
    torch.set_num_threads(1)  # as the lectures do: no step here is large enough to gain from more
    torch.set_flush_denormal(True)  # as the lectures do while they train
    for number in args.exercises:
        print(str(EXERCISES[number].__doc__).replace("Exercise", "exercise", 1), flush=True)
        run(number, args.data_dir)
    publish(args.exercises)
    print(f"the page: {DOCS / 'exercises.md'}")


if __name__ == "__main__":
    program.execute(main)
