"""The shared core: canonical JSON, atomic files, seeds."""

import errno
import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from randscene import canonical_json, seeding
from randscene.errors import AssetError, RandsceneError, RenderError
from randscene.files import atomic_writer, exclusive, explain_os_errors, sha256_of, write_atomic
from randscene.lookahead import lookahead

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(values)
def test_canonical_json_reads_back_and_ignores_key_order(value):
    text = canonical_json.dumps({"a": value, "b": 1})
    assert json.loads(text)["a"] == value
    assert text == canonical_json.dumps({"b": 1, "a": value})


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_canonical_json_refuses_numbers_without_a_json_form(bad):
    with pytest.raises(ValueError):
        canonical_json.dumps(bad)


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "folder" / "file"
    write_atomic(target, "old")
    with pytest.raises(RuntimeError), atomic_writer(target) as handle:
        handle.write(b"half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert [path.name for path in target.parent.iterdir()] == ["file"]
    write_atomic(target, "new")
    assert target.read_text() == "new"
    assert sha256_of(target) == "11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437"


def test_a_folder_in_the_place_of_a_file_is_told_before_anything_is_written(tmp_path):
    (tmp_path / "page").mkdir()
    with pytest.raises(RandsceneError, match=r"cannot write .*page: a folder has this name"):
        write_atomic(tmp_path / "page", "x")
    assert [path.name for path in tmp_path.iterdir()] == ["page"]


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="only Linux has /proc")
def test_a_file_system_that_makes_no_folders_is_told_in_one_line():
    with pytest.raises(RandsceneError, match=r"cannot write /proc/x/file: no folder can be made there"):
        write_atomic("/proc/x/file", "x")
    with (
        pytest.raises(RandsceneError, match=r"cannot write /proc/x: no folder can be made there"),
        exclusive("/proc/x/lock", busy="busy"),
    ):
        pass


@pytest.mark.parametrize("code, words", [(errno.ENOSPC, "disk is full"), (errno.EROFS, "read-only")])
def test_disk_errors_become_one_line_that_says_what_to_do(code, words):
    with pytest.raises(RandsceneError, match=words), explain_os_errors("somewhere"):
        raise OSError(code, "x")
    with pytest.raises(OSError), explain_os_errors("somewhere"):
        raise OSError(errno.EIO, "x")


@pytest.mark.parametrize(
    "error",
    [AssetError("too_large", "a line"), RenderError("timeout", "a line", log_tail="last words", transient=True)],
)
def test_errors_come_whole_out_of_another_process(error):
    other = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(other) is type(error) and str(other) == "a line" and vars(other) == vars(error) != {}


def test_streams_depend_on_every_part_and_on_nothing_else():
    base = seeding.generator(1, 2, "layout").random(4)
    assert np.array_equal(base, seeding.generator(1, 2, "layout").random(4))
    for other in [(1, 2, "lights"), (1, 3, "layout"), (2, 2, "layout"), (2, 1, "layout"), (1, 2)]:
        assert not np.array_equal(base, seeding.generator(*other).random(4))
    # The stream itself is a promise: recipes of published datasets hang on it.
    assert seeding.integer(0, "fixed") == 3352306362283222401


def test_lookahead_keeps_order_and_raises_an_error_in_its_place():
    def items():
        yield from range(5)
        raise ValueError("here")

    seen = []
    with pytest.raises(ValueError, match="here"):
        for item in lookahead(items()):
            seen.append(item)
    assert seen == list(range(5))
    assert list(lookahead(iter([]))) == []
