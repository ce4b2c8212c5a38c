"""Writes outputs/report.html: one page that shows the lectures' runs. With --check, compares them with the lecture.

`python -m report --check` prints a line for each claim and ends with 0 where all of them agree or differ for a reason
that is known, and with 1 where one differs, or where one of the lecture's three runs is missing or damaged. The runs
that add to the lecture (the printed recipe, the network on all images) may be missing.
"""

import argparse
from pathlib import Path

from common import files, options, program
from common.program import PROJECT, RunError
from report import claims, page
from report.runs import SOURCES

PAGE_LIMIT = 3_000_000  # bytes


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
        help="write no page; print what the runs measured beside what the lecture says, and end with 1 "
        "where they differ beyond the tolerance or a run of the lecture is missing",
    )
    return parser.parse_args()


def check(lines: list[claims.Verdict]) -> None:
    """Prints the claims as a table.

    Raises:
        RunError: one differs, or a run of the lecture is missing.
    """
    print(claims.table(lines))
    for line in lines:
        if line.mark in (claims.DIFFERS, claims.EXPLAINED) and (line.claim.hint or line.claim.note):
            print(
                f"{line.sign} {line.claim.run}, {line.claim.text}: {line.claim.hint or line.claim.note}"
            )
    needed = {source.name: source.command for source in SOURCES if source.needed}
    missing = [
        run for run in needed if any(v.claim.run == run and v.mark == claims.MISSING for v in lines)
    ]
    differ = sum(line.mark == claims.DIFFERS for line in lines)
    faults = [f"{differ} of {len(lines)} claims differ, see above"] if differ else []
    faults += [f"{run} was not run: {needed[run]}" for run in missing]
    if faults:
        raise RunError("; ".join(faults))
    explained = sum(line.mark == claims.EXPLAINED for line in lines)
    absent = sum(line.mark == claims.MISSING for line in lines)
    print(
        f"{len(lines) - explained - absent} agree, {explained} differ{'s' if explained == 1 else ''} for a known "
        f"reason, {absent} not run"
    )


def write(runs: Path, path: Path) -> None:
    """Writes the page of the runs in a folder."""
    found = page.read_all(runs)
    content = page.render(found).encode()
    if len(content) > PAGE_LIMIT:
        raise RunError(f"the page would have {len(content):,} bytes, more than {PAGE_LIMIT:,}")
    if not path.parent.is_dir():
        raise RunError(f"there is no folder {path.parent}; name another file with --page")
    try:
        files.save(path, content)
    except RunError as error:  # it names an option that this command lacks
        raise RunError(f"{str(error).rpartition(';')[0]}; name another file with --page") from None
    for run in found.values():
        if run.state != "read":
            print(f"{run.source.name}: {run.fault or 'not run; its section says how'}")
    print(f"page: {path} ({len(content) / 1e6:.2f} MB)")


def main() -> None:
    args = arguments()
    if not args.runs.is_dir():
        raise RunError(f"there is no folder {args.runs}; name the folder of the runs with --runs")
    if args.check:
        check(claims.verdicts(page.read_all(args.runs, figures=False)))
    else:
        write(args.runs, args.page or args.runs / "report.html")


if __name__ == "__main__":
    program.execute(main)
