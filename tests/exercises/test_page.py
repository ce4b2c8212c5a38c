"""exercises/page.py: results and figures on the page, no number typed, other sections kept."""

from exercises import page

import functools
import re

import pytest
from conftest import PROJECT
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


@pytest.mark.parametrize("number", EXERCISES)
def test_every_result_stands_on_the_page(number):
    before = text(number, measured(number))
    assert len(leaves(measured(number))) > 10 and "nan" not in before and "None" not in before
    for *way, last in leaves(measured(number)):
        results = measured(number)
        part = functools.reduce(lambda part, key: part[key], way, results)
        part[last] = (71.717 if isinstance(part[last], float) else 71_717) + 3 * (part[last] or 0)
        assert text(number, results) != before, (*way, last)


# Numbers that the templates do have: of headings, formulas, years, names, references.
TYPED = {1: "0 1 2 3 4 1985", 2: "0 2", 3: "0 1 2 3", 4: "4 86 11 1998", 5: "4 5 2019 2020"}


@pytest.mark.parametrize("number", TYPED)
def test_no_number_is_typed(number):
    path = PROJECT / "exercises" / "templates" / f"exercise_{number}.md.j2"
    source = path.read_text(encoding="utf-8")
    prose = re.sub(r"\{([{%#]).*?[}%#]\}|\]\([^)]*\)|`[^`]*`", "", source, flags=re.DOTALL)
    assert set(re.findall(r"\d[\d,.]*\d|\d", prose)) == set(TYPED[number].split())


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
