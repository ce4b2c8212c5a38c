"""The pages: every line they quote stands where they say, every file they link to exists."""

import re

import pytest
from conftest import PROJECT

PAGES = [PROJECT / "README.md", *(PROJECT / "docs").glob("*.md")]


def test_quoted_lines_stand_where_the_page_says():
    page = (PROJECT / "docs" / "from_flux_to_pytorch.md").read_text()
    rows = re.findall(r"^\| `.*` \| `(.*)` \| \[.*\]\(\.\./(.*)#L(\d+)\) \|$", page, re.MULTILINE)
    assert len(rows) == len(re.findall(r"^\| `", page, re.MULTILINE)) > 20
    for code, file, number in rows:
        lines = (PROJECT / file).read_text().splitlines()
        assert code in lines[int(number) - 1], f"{code} is not line {number} of {file}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?:)([^)#]+)", re.sub("`[^`]*`", "code", page.read_text()))
    assert links or page.name == "benchmarks.md"
    for link in links:
        assert (page.parent / link).exists(), link


def test_pictures_are_small():
    for picture in (PROJECT / "docs" / "figures").iterdir():
        assert picture.stat().st_size <= 150 * 1024, picture.name
