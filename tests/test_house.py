"""The house as docs/design.md draws it: imports, requirements, what a run's folder holds."""

import ast
import re
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from conftest import KEYS, PROJECT

# What each room may import, besides itself. Arrows run one way.
MAY_IMPORT = {
    "engine": set(),
    "common": {"engine"},
    "lectures": {"common"},
    "exercises": {"engine", "common", "lectures"},
    "handwriting": {"common", "lectures", "exercises"},
    "report": {"engine", "common", "lectures"},
    "benchmarks": {"engine", "common", "lectures", "exercises", "handwriting"},
    "tests": {"engine", "common", "lectures", "exercises", "handwriting", "report", "benchmarks"},
}
RUNNING = tuple(room for room in MAY_IMPORT if room not in ("benchmarks", "tests"))
# Packages that are imported under another name; that are run; that may be missing.
OTHER_NAMES = {"PIL": "pillow", "sklearn": "scikit-learn", "cv2": "opencv-python-headless"}
TOOLS = {"pytest-xdist", "ruff", "mypy"}
OPTIONAL = {"jax"}
FOR_FIGURES = PROJECT / "report" / "screenshots.py"  # run in `make figures`, after requirements-dev


def files(*rooms: str) -> list[Path]:
    return sorted(path for room in rooms for path in (PROJECT / room).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """The modules that a file imports, also in functions: of `from a import b`, a and a.b."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{name.name}" for name in node.names}
    return found


def third_party(paths: Iterable[Path]) -> set[str]:
    """The packages that files import, under the names that pip knows."""
    own = set(MAY_IMPORT) | {path.stem for path in files(*MAY_IMPORT)}
    names = {module.split(".")[0] for path in paths for module in imports(path)}
    return {OTHER_NAMES.get(name, name).lower() for name in names - own - sys.stdlib_module_names}


def declared(name: str) -> set[str]:
    """The packages that a requirements file names."""
    lines = (PROJECT / name).read_text(encoding="utf-8").splitlines()
    return {re.split("[<>=;[ ]", line)[0].lower() for line in lines if line and line[0] not in "#-"}


def test_what_is_imported_is_declared_and_nothing_else():
    running = third_party(set(files(*RUNNING)) - {FOR_FIGURES})
    assert running == declared("requirements.txt")
    more = third_party([*files("tests", "benchmarks"), FOR_FIGURES]) - running - OPTIONAL
    assert more | TOOLS == declared("requirements-dev.txt")


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_arrows_run_one_way(room):
    for path in files(room):
        names = {module.split(".")[0] for module in imports(path)}
        wrong = names & set(MAY_IMPORT) - MAY_IMPORT[room] - {room}
        if room == "lectures":  # none imports another
            wrong |= names & {"lectures", *(path.stem for path in files("lectures"))}
        assert not wrong, f"{path.relative_to(PROJECT)} imports {wrong}: docs/design.md, the arrows"


def test_what_students_read_is_short():
    """CONTRIBUTING.md, "What a change must keep"."""
    limits = {PROJECT / "README.md": 100, PROJECT / "CONTRIBUTING.md": 40}
    for path, most in (limits | dict.fromkeys(files("lectures"), 170)).items():
        assert len(path.read_text(encoding="utf-8").splitlines()) <= most, path.name


@pytest.mark.parametrize("path", files("lectures"), ids=lambda path: path.stem)
def test_main_is_the_lecture_s_six_steps(path):
    """In their order, each under its own comment, and the textbook's training loop in it."""
    text = path.read_text(encoding="utf-8")
    main = text[text.index("\ndef main()") :]
    assert re.findall(r"^    # Step (\d), ", main, re.MULTILINE) == list("123456")
    loop = main[main.index("# Step 6") : main.index("# Results")]
    body = ["value = loss(model, ", "optimizer.zero_grad()", "value.backward()", "optimizer.step()"]
    places = [loop.find(line) for line in (*body, "run.record(value)")]
    assert -1 not in places and places == sorted(places)


def section(title: str) -> str:
    """The text of docs/design.md from a heading to the next of any depth."""
    page = (PROJECT / "docs" / "design.md").read_text(encoding="utf-8")
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", page, re.MULTILINE | re.DOTALL)
    assert found, f"docs/design.md has no heading {title!r}"
    return found[1]


RUNS = {
    "linear_recovery": ("--samples", 100),
    "ann_revisited": ("--steps", 100),
    "mnist_mlp": ("--dataset", "digits", "--epochs", 1),
}


@pytest.mark.parametrize("script", RUNS)
def test_design_names_all_that_a_run_writes(run_here, script):
    done = run_here(script, *RUNS[script])
    assert done.returncode == 0, done.stderr
    shared, own = section("What a run leaves"), section(f"`results` of {script}")
    for name in {file.name.removesuffix(".png") for file in done.folder.iterdir()} - {".lock"}:
        assert f"`{name}`" in shared + own
    for part in ("environment", "seconds"):
        for key in (part, *done.metrics[part]):
            assert f"`{key}`" in shared, f"{part}: {key}"
    cells = re.findall(r"^\| (`.*?) \|", own, re.MULTILINE)
    named = {key for cell in cells for key in re.findall(r"`(\w+)`", cell)}
    assert named == set(done.metrics["results"]) >= set(KEYS[script].split())
