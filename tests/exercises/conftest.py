"""The exercises with options so small that each takes seconds."""

import pytest
from small_exercises import SMALL


@pytest.fixture(autouse=True)
def small(monkeypatch):
    for module, options in SMALL.items():
        for name, value in options.items():
            monkeypatch.setattr(module, name, value)
