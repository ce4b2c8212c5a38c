"""The lectures' default runs, each made once, as a user may make them."""

import functools
from types import SimpleNamespace

import pytest
from conftest import PROJECT, run_in


@pytest.fixture(scope="session")
def default_run(tmp_path_factory):
    """A function that runs a lecture as it is, through a symbolic link and without docstrings."""

    @functools.cache
    def call(script: str) -> SimpleNamespace:
        elsewhere = tmp_path_factory.mktemp("a folder with spaces")
        link = elsewhere / "a link.py"
        link.symlink_to(PROJECT / "lectures" / f"{script}.py")
        return run_in(elsewhere, "-OO", link)

    return call
