"""Data files changed at random are read as they are, or refused in one line."""

from common import datasets
from common.program import RunError

import gzip
import os

import numpy as np
import pytest
from conftest import write_idx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

# What a bad disk or a bad download does to a file, at a place, or at a share of its length: some
# bytes are gone (as many as come where it is None), and others come in their place.
PLACE = st.floats(0, 1) | st.integers(0, 15)
DAMAGE = st.lists(
    st.tuples(PLACE, st.sampled_from([None, None, 0, 20, 10**6]), st.binary(max_size=20)),
    min_size=1,
    max_size=3,
)


def damaged(content: bytes, damage) -> bytes:
    for place, gone, new in damage:
        at = place if isinstance(place, int) else int(place * len(content))
        content = content[:at] + new + content[at + (len(new) if gone is None else gone) :]
    return content


@pytest.fixture(scope="module", params=[False, True], ids=["raw", "gz"])
def files(request, tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    paths = write_idx(root, packed=request.param)
    return root, {name: (path, path.read_bytes()) for name, path in paths.items()}


def check(files, which, damage):
    root, originals = files
    path, content = originals[which]
    changed = damaged(content, damage)
    path.write_bytes(changed)
    try:
        data = datasets.load("auto", root)
    except RunError as error:
        assert str(path.parent) in str(error) and "\n" not in str(error)
        return
    finally:
        path.write_bytes(content)
    kind, part = which.split("_")
    head, name = {"x": (16, "images"), "y": (8, "labels")}[kind]
    read = getattr(data, f"{part}_{name}").numpy().astype(np.uint8)
    if path.suffix == ".gz":  # its checksum finds every change of the content
        changed = content = gzip.decompress(content)
    # The header was whole, the rest is what stands there.
    assert changed[:head] == content[:head] and read.tobytes() == changed[head:]
    assert len(changed) == len(content)


CASES = given(which=st.sampled_from(["x_train", "y_train", "x_test", "y_test"]), damage=DAMAGE)
QUIET = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}


@CASES
@settings(max_examples=60, **QUIET)
def test_changed_files(files, which, damage):
    check(files, which, damage)


@pytest.mark.soak
@CASES
@settings(max_examples=int(os.environ.get("SOAK_FILES", 2_000)), **QUIET)
def test_thousands_of_changed_files(files, which, damage):
    check(files, which, damage)
