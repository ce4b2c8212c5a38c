"""Counts the pictures of a folder that are read correctly, by kind, and lists the others.

    python handwriting/measure.py FOLDER

FOLDER holds the pictures and labels.tsv, with the columns `file`, `digits` (such as `4 2`, in
reading order), `kind` and, optionally, `layout`. A picture is right if all its digits are; it is
sure if none of its digits is unsure.
"""

import csv
import sys
import time
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common import options, program
from common.program import RunError
from handwriting import read

import torch

COLUMNS = ("pictures", "right", "unsure", "sure and right", "sure and wrong")


def labels(folder: Path) -> list[dict[str, str]]:
    """The rows of a folder's labels.tsv.

    Raises:
        RunError: the file is missing, or lacks a column.
    """
    path = folder / "labels.tsv"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t", restval=""))
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{path} cannot be read ({type(error).__name__})") from None
    if not rows or not {"file", "digits", "kind"} <= rows[0].keys():
        raise RunError(f"{path}: expected the columns file, digits and kind, separated by tabs")
    return rows


def main() -> None:
    parser = options.parser(__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="pictures and labels.tsv")
    parser.add_argument(
        "--half",
        choices=("all", "odd", "even"),
        default="all",
        help="which pictures, counted from 1",
    )
    read.add_model_option(parser)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = labels(args.folder)
    rows = {"all": rows, "odd": rows[::2], "even": rows[1::2]}[args.half]
    if not rows:
        raise RunError(f"{args.folder}: labels.tsv names no picture of this half; leave out --half")
    model = read.chosen_model(args.model)
    counts: dict[str, list[int]] = defaultdict(lambda: [0] * len(COLUMNS))
    wrong = []
    begin = time.process_time()
    for row in rows:
        try:
            reading = read.read(args.folder / row["file"], model)
        except RunError as error:
            said, right, sure = str(error), False, False
        else:
            said = read.sentence(reading)
            digits = [digit for digit in read.digits_of(reading) if digit != "?"]
            right, sure = digits == row["digits"].split(), bool(digits) and "unsure" not in said
        for kind in (row["kind"], row.get("layout") or "", "all"):
            for place, more in enumerate((1, right, not sure, sure and right, sure and not right)):
                counts[kind][place] += more
        if not right:
            wrong.append(f"{row['file']}: {row['digits']}; read as {said}")
    milliseconds = 1000 * (time.process_time() - begin) / len(rows)
    print(f"\n| kind | {' | '.join(COLUMNS)} |\n|{'---|' * (1 + len(COLUMNS))}")
    for kind, numbers in counts.items():
        if kind:
            print(f"| {kind} | {' | '.join(map(str, numbers))} |")
    print(f"\n{milliseconds:.0f} ms of CPU time a picture", *wrong, sep="\n")


if __name__ == "__main__":
    program.execute(main)
