"""What the exercises' sections of docs/exercises.md are put together from."""

from collections.abc import Iterable, Sequence

import numpy as np


def table(head: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Rows as a Markdown table."""
    return "\n".join(
        "| " + " | ".join(map(str, row)) + " |" for row in (head, ["---"] * len(head), *rows)
    )


def spread(shares: Sequence[float]) -> str:
    """Mean and standard deviation of some shares: "97.81 ± 0.13 %"."""
    return f"{100 * np.mean(shares):.2f} ± {100 * np.std(shares):.2f} %"


def steps(number: float | None, given: int) -> str:
    """A number of steps, or that it was not reached in those given."""
    return f"not by {given:,}" if number is None else f"{number:,.0f}"
