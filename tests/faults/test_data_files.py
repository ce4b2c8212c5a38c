"""Data files changed at random are read as they are, or refused in one line."""

from common import datasets
from common.program import RunError

import gzip
import struct

import numpy as np
import pytest
from conftest import write_idx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

# What a bad disk or a bad download does to a file's bytes: places are shares of its length.
PLACE = st.floats(0, 1)
DAMAGE = st.lists(
    st.one_of(
        st.tuples(st.just("flip"), PLACE, st.integers(1, 255)),
        st.tuples(st.just("flip in the header"), PLACE, st.integers(1, 255)),
        st.tuples(st.just("cut"), PLACE, st.none()),
        st.tuples(st.just("insert"), PLACE, st.binary(min_size=1, max_size=20)),
        st.tuples(st.just("replace"), PLACE, st.binary(min_size=1, max_size=20)),
        st.tuples(st.just("append"), PLACE, st.binary(min_size=1, max_size=20)),
    ),
    min_size=1,
    max_size=3,
)


def damaged(content: bytes, damage) -> bytes:
    for kind, place, what in damage:
        at = int(place * (len(content) - 1)) if content else 0
        if kind == "flip in the header":
            kind, at = "flip", int(place * 15)
        if kind == "flip" and at < len(content):
            content = content[:at] + bytes([content[at] ^ what]) + content[at + 1 :]
        elif kind == "cut":
            content = content[:at]
        elif kind == "insert":
            content = content[:at] + what + content[at:]
        elif kind == "replace":
            content = content[:at] + what + content[at + len(what) :]
        elif kind == "append":
            content += what
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
    field = {"x": "images", "y": "labels"}[which[0]]
    read = getattr(data, f"{which[2:]}_{field}").numpy().astype(np.uint8).tobytes()
    if path.suffix == ".gz":  # its checksum finds every change of the content
        assert read == gzip.decompress(content)[16 if "x" in which else 8 :]
    else:  # the header was whole, the rest is what stands there
        head = 16 if "x" in which else 8
        assert (
            changed[:head] == content[:head]
            and read == changed[head:]
            and len(changed) == len(content)
        )
        assert "x" in which or max(read) <= 9


@given(which=st.sampled_from(["x_train", "y_train", "x_test", "y_test"]), damage=DAMAGE)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_changed_files(files, which, damage):
    check(files, which, damage)


@pytest.mark.soak
@given(which=st.sampled_from(["x_train", "y_train", "x_test", "y_test"]), damage=DAMAGE)
@settings(
    max_examples=2_000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_thousands_of_changed_files(files, which, damage):
    check(files, which, damage)


@given(st.binary(max_size=60), st.integers(1, 4))
@settings(max_examples=100, deadline=None)
def test_any_header_is_read_or_refused(tmp_path_factory, rest, dimensions):
    root = tmp_path_factory.mktemp("data")
    path = write_idx(root)["y_train"]
    path.write_bytes(struct.pack(">I", 0x800 + dimensions) + rest)
    with pytest.raises(RunError):  # 60 labels do not fit in there
        datasets.load("mnist", root)
