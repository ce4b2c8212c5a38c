"""The pages: what they quote, link to and tell to type is there, and can be typed."""

import importlib
import re
import sys

import pytest
from conftest import PROJECT

PAGES = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *(PROJECT / "docs").rglob("*.md")]
READ = {page.name: page.read_text(encoding="utf-8") for page in sorted(PAGES)}
MAKEFILE = (PROJECT / "Makefile").read_text(encoding="utf-8")


def spans(text: str) -> list[str]:
    """What stands between single backticks."""
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)


def typed(text: str) -> list[str]:
    """The indented lines, which are there to be typed; a fenced block is code to be read."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return [line.strip() for line in re.findall(r"^ {4}(\S.*)$", text, re.MULTILINE)]


CODE = [(name, code) for name, text in READ.items() for code in spans(text) + typed(text)]


def test_what_the_quoted_pytorch_names_stands_in_its_script():
    _, *sections = re.split(
        r"^In \[`.*`\]\(\.\./", READ["from_flux_to_pytorch.md"], flags=re.MULTILINE
    )
    quoted = []
    for section in sections:
        script = (PROJECT / section.split(")")[0]).read_text(encoding="utf-8")
        rows = re.findall(r"^\| (?:\d|results) \| .* \| .* \| (.*) \|$", section, re.MULTILINE)
        quoted += rows
        for code in spans("\n".join(rows)):
            for name in re.findall(r"[A-Za-z_][\w.]*", code.split("  #")[0]):
                assert name in script, code
    assert len(sections) == 3 and len(quoted) > 25


def headings(page: str) -> set[str]:
    """The anchors that a page's headings get."""
    titles = re.findall(r"^#+ (.*)", READ[page], re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    plain = re.sub(r"`[^`]*`", "code", READ[page.name])
    links = re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", plain)
    links += [(source, "") for source in re.findall(r'src="(?!https?:)([^"]+)"', plain)]
    for link, anchor in links:
        assert (page.parent / link).exists(), link
        name = link.split("/")[-1] or page.name
        if anchor:
            assert anchor in headings(name), f"{link}#{anchor}"


def test_pictures_are_small_and_shown():
    shown = "".join(READ.values())
    for picture in (PROJECT / "docs" / "figures").iterdir():
        limit = 1_500_000 if picture.suffix == ".gif" else 150 * 1024
        assert picture.stat().st_size <= limit, f"{picture.name}: {picture.stat().st_size:,} bytes"
        assert picture.name in shown, f"no page shows {picture.name}"


COMMAND = re.compile(r"(python3? |uv run )?(-m report|[\w/]+\.py)((?: [^\s#;]+)*)")


def commands() -> list[tuple[str, list[str]]]:
    """(module, arguments) of each command on the pages and in the Makefile.

    `python lectures/a.py --b`, `a.py --b`, `python -m report`, and the like.
    """
    found = []
    recipes = re.findall(r'^\t"\$\(PYTHON\)" (.*)', MAKEFILE, re.MULTILINE)
    for code in [*(f"python {recipe}" for recipe in recipes), *(code for _, code in CODE)]:
        command = COMMAND.match(code)
        if command and (command[1] or command[3]):
            script = command[2].removesuffix(".py").replace("/", ".")
            script = script if "." in script else f"lectures.{script}"
            module = "report.__main__" if command[2] == "-m report" else script
            found.append((module, command[3].split()))
    return found


def test_every_shell_takes_the_lines_that_are_to_be_typed():
    """zsh and cmd.exe take no comment after a command, PowerShell 5 no `&&`, cmd.exe no `;`."""
    assert typed(READ["README.md"])
    for name, text in READ.items():
        for line in typed(text):
            assert not re.search("#|&&|;", line), f"{name}: {line}"
    for name, code in CODE:
        assert "&&" not in code, f"{name}: {code}"


def test_commands_name_files_and_options_that_exist(monkeypatch, capsys):
    assert len(commands()) > 25
    helps = {}
    for name, arguments in commands():
        module = importlib.import_module(name)
        if name not in helps:
            monkeypatch.setattr(sys, "argv", [name, "--help"])
            with pytest.raises(SystemExit):
                module.main()
            helps[name] = capsys.readouterr().out
        for option in arguments:
            if option.startswith("--"):
                assert re.search(rf"{option}\b(?!-)", helps[name]), f"{name} has no {option}"
        if name.startswith("lectures.") and not {"--help", "…"} & set(arguments):
            words = ["7" if word == "k" else word for word in arguments]  # seed k
            monkeypatch.setattr(sys, "argv", [name, *words])
            module.parse_args()  # ends the test where it refuses them


def test_files_that_pages_name_exist():
    for name, text in READ.items():
        for file in re.findall(r"`([\w/.-]+\.(?:py|md|txt|toml|c|js))`", text):
            found = [place for place in ("", "*/", "*/*/") if any(PROJECT.glob(f"{place}{file}"))]
            assert found, f"{name}: there is no {file}"


def test_make_has_the_targets_that_the_pages_name():
    targets = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)[1].split()
    words = {word for _, code in CODE if code.startswith("make ") for word in code.split()[1:]}
    assert {word for word in words if "=" not in word} <= set(targets)
    assert set(targets) == set(re.findall(r"^([\w-]+):", MAKEFILE, re.MULTILINE))


def test_quoted_messages_are_the_programs():
    paths = [path for path in PROJECT.glob("*/*.py") if path.parent.name != "tests"]
    source = "".join(path.read_text(encoding="utf-8") for path in paths)
    source = re.sub(r'"\s*\n\s*f?"', "", source)  # a message may be broken into lines
    first = r"^\| `((?:error|warning|interrupted|complete|no checkpoint)[^`]*)`"
    for message in re.findall(first, READ["troubleshooting.md"], re.MULTILINE):
        parts = re.sub(r"^(error|warning|interrupted): ", "", message).split("…")
        for part in (part for part in parts if len(part) > 7):
            assert part.strip() in source, f"{message}: no program says {part!r}"
