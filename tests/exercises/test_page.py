"""exercises/page.py: results and figures on the page, no number typed, other sections kept."""

from exercises import page

import functools
import json
import re

import pytest
from small_exercises import EXERCISES, data_folder, measured, run_once, text


def leaves(value, path=()) -> list[tuple]:
    """The places of all numbers and missing numbers in some results."""
    if isinstance(value, dict):
        value = value.items()
    elif isinstance(value, list):
        value = enumerate(value)
    else:
        return [] if isinstance(value, str) else [path]
    return [leaf for key, item in value for leaf in leaves(item, (*path, key))]


def changed(results: dict, path: tuple, place: int) -> dict:
    """The results with another value at `path`, not to be mistaken for any other."""
    *way, last = path
    part = functools.reduce(lambda part, key: part[key], way, results)
    old = part[last]
    if old is None:
        part[last] = 71_717 + place
    elif isinstance(old, float):
        part[last] = 1.5 * old + 71.717 * place
    else:
        part[last] = (1 + old) % 10 if last in ("label", "prediction") else 3 * old + 71_717
    return results


def numbers(text: str) -> set[str]:
    """The numbers in a text, but for those of addresses, code and file names."""
    return set(re.findall(r"\d+(?:,\d{3})*(?:\.\d+)?", re.sub(r"\]\([^)]*\)|`[^`]*`", "", text)))


@pytest.mark.parametrize("number", EXERCISES)
def test_every_result_stands_on_the_page(number):
    before = text(number, measured(number))
    assert len(leaves(measured(number))) > 10 and "nan" not in before and "None" not in before
    for path in leaves(measured(number)):
        assert text(number, changed(measured(number), path, 1)) != before, path


# Numbers that the templates do have: of headings, formulas, years, names, references.
TYPED = {1: "0 1 2 3 4 1985", 2: "0 2", 3: "0 1 2 3", 4: "0 1 2 3 4 5 6 7 8 9 86 11 1998"}
TYPED |= {5: "0.16 4 5 2019 2020"}


@pytest.mark.parametrize("number", EXERCISES)
def test_no_number_is_typed(number):
    results = measured(number)
    before = numbers(text(number, results))
    for place, path in enumerate(leaves(results), 1):
        changed(results, path, place)
    names = " ".join(re.findall(r'"[^"]*"', json.dumps(results)))
    kept = before & numbers(text(number, results)) - numbers(names)
    assert kept <= set(TYPED[number].split())


@pytest.mark.parametrize("number", EXERCISES)
def test_the_page_shows_every_figure(number):
    shown = re.findall(rf"\(exercise_{number}_([\w.-]+)\)", text(number, measured(number)))
    assert sorted(shown) == sorted(run_once(number)[1])


def test_sections_and_figures_of_other_exercises_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "OUTPUTS", tmp_path / "outputs")
    monkeypatch.setattr(page, "DOCS", tmp_path)
    for number in (2, 3):
        (tmp_path / f"exercise_{number}_old.png").write_bytes(b"of an earlier page")
    (tmp_path / "exercises.md").write_text("# Title\n\n## 3. Three\n\nold\n\n## 2. Two\n\nkept\n")
    page.run(3, data_folder())
    page.publish(3)
    written = (tmp_path / "exercises.md").read_text(encoding="utf-8")
    pictures = sorted(path.name for path in tmp_path.glob("*.png"))
    assert pictures == ["exercise_2_old.png", "exercise_3_loss.png"]
    assert re.findall(r"^## \d", written, re.MULTILINE) == ["## 2", "## 3"]
    assert "\nkept\n" in written and "\nold\n" not in written
    assert "Here 2 starts were trained on 1,000 pairs" in written
