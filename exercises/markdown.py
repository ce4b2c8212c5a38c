"""Sections of a page from Jinja2 templates, with filters for the numbers in them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined


def count(number: int) -> str:
    """A whole number with separators: "10,000"."""
    return f"{number:,}"


def digits(number: float, significant: int) -> str:
    """A number with a given number of significant digits: "0.041"."""
    return f"{number:.{significant}g}"


def percent(share: float, decimals: int | None = None) -> str:
    """A fraction as a percentage, "95 %", or with a given number of decimals, "95.0 %"."""
    return f"{100 * share:g} %" if decimals is None else f"{100 * share:.{decimals}f} %"


def mean_std(shares: Sequence[float]) -> str:
    """Mean and standard deviation of fractions: "97.81 ± 0.13 %"."""
    return f"{100 * np.mean(shares):.2f} ± {100 * np.std(shares):.2f} %"


def steps(number: int | None, given: int) -> str:
    """A number of steps, "10,000"; for None, not reached in the steps given, "not by 20,000"."""
    return f"not by {given:,}" if number is None else f"{number:,}"


_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters |= {f.__name__: f for f in (count, digits, percent, mean_std, steps)}


def render(template: str, results: dict) -> str:
    """Fills in a template with results; raises an error for a name that is not among them."""
    return _TEMPLATES.get_template(template).render(results)
