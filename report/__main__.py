"""Writes outputs/report.html, a page that shows the runs; --check compares them with the lecture.

`python -m report --check` prints a line for each claim and one for each run's settings. Its exit
code is 0 if all claims agree or differ for a known reason; it is 1 if one differs otherwise, if a
run has other settings than the lecture, or if one of the lecture's three runs is missing or
damaged. The two runs beyond the lecture (the printed recipe, all images) may be missing.
"""

from common import options, program
from common.program import PROJECT, RunError
from report import claims, page
from report.runs import Run

import argparse
from collections import Counter
from pathlib import Path


def arguments() -> argparse.Namespace:
    """The options, see --help."""
    parser = options.parser(__doc__.splitlines()[0])
    parser.prog = "python -m report"
    parser.add_argument(
        "--runs",
        type=options.folder,
        default=PROJECT / "outputs",
        metavar="DIR",
        help="the folder that holds the runs' folders",
    )
    parser.add_argument(
        "--page",
        type=options.folder,
        metavar="FILE",
        help="the page to write (default: report.html in the folder of the runs)",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="write no page; compare the runs with the lecture, and exit with 1 if they differ by "
        "more than the tolerance or if a run of the lecture is missing",
    )
    return parser.parse_args()


def check(runs: dict[str, Run]) -> None:
    """Prints the claims as a table, and each run's settings.

    Raises:
        RunError: a claim or a setting differs, or a run of the lecture is missing.
    """
    lines = claims.verdicts(runs)
    print(claims.table(lines))
    for line in lines:
        if line.mark in (claims.DIFFERS, claims.EXPLAINED) and line.claim.note:
            print(
                f"{claims.SIGNS[line.mark]} {line.claim.run}, {line.claim.text}: {line.claim.note}"
            )
    for name, run in runs.items():
        if run.state == "read":
            print(f"{name}: {claims.settings(run)}")
    counts = Counter(line.mark for line in lines)
    faults = []
    if counts[claims.DIFFERS]:
        faults.append(f"{counts[claims.DIFFERS]} of {len(lines)} claims differ, see above")
    for name, run in runs.items():
        if claims.differing(run):
            faults.append(f"{name} was run with other settings, see above")
        if run.state == "missing" and run.source.needed:
            faults.append(f"{name} was not run: {run.source.command}")
    if faults:
        raise RunError("; ".join(faults))
    differ = counts[claims.EXPLAINED]
    print(
        f"{counts[claims.AGREES]} agree, {differ} differ{'s' if differ == 1 else ''} "
        f"for a known reason, {counts[claims.MISSING]} not run"
    )


def write(runs: dict[str, Run], path: Path) -> None:
    """Writes the page of the runs."""
    content = page.render(runs).encode()
    try:
        path.write_bytes(content)
    except OSError as error:
        raise RunError(
            f"cannot write {path}: {error.strerror}; name another file with --page"
        ) from None
    for name, run in runs.items():
        if run.state != "read":
            print(f"{name}: {run.fault or 'not run; its section says how'}")
    print(f"page: {path} ({len(content) / 1e6:.2f} MB)")


def main() -> None:
    args = arguments()
    if not args.runs.is_dir():
        raise RunError(f"there is no folder {args.runs}; name the folder of the runs with --runs")
    if args.check:
        check(page.read_all(args.runs, figures=False))
    else:
        write(page.read_all(args.runs), args.page or args.runs / "report.html")


if __name__ == "__main__":
    program.execute(main)
