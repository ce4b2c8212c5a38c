"""The exercises with small options."""

import pytest
from small_exercises import small_options


@pytest.fixture
def small():
    with small_options():
        yield
