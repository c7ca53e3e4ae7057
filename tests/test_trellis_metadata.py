"""The metadata tables of TRELLIS-500K: which rows are taken, and that a broken table is named with its line."""

from pathlib import Path

import pytest

from randscene.errors import LockError
from randscene.manifests.trellis_metadata import read_trellis_metadata

HEAD = "sha256,file_identifier,aesthetic_score,captions\n"
UID, HASH = "0123456789abcdef0123456789abcdef", "a" * 64
LINK = f"https://sketchfab.com/3d-models/{UID}"


@pytest.fixture
def table(tmp_path):
    def write(text: str) -> Path:
        (tmp_path / "table.csv").write_text(text)
        return tmp_path / "table.csv"

    return write


def test_rows_are_taken_by_score_and_identifier(table):
    other, third = "f" * 32, "b" * 64
    path = table(
        HEAD
        + f'{HASH},{LINK},5.5,"[""one, two"",\n""three""]"\n'
        + f"{third},https://sketchfab.com/models/a-chair-{other},9,\n"
        + f"{'c' * 64},https://github.com/a/b/blob/main/c.glb,9,\n"
        + f"{'d' * 64},https://sketchfab.com/3d-models/{'e' * 32},5.4,\n"
        + f"{third},https://sketchfab.com/3d-models/{'1' * 32},6,\n"
        + f"{'2' * 64},{LINK}/,6,\n"
    )
    taken, left_out = read_trellis_metadata(path, min_aesthetic=5.5)
    assert taken == {UID: HASH, other: third}
    assert left_out == {"no_sketchfab_model": 1, "below_min_aesthetic": 1, "same_file": 2}


def test_scores_are_not_looked_at_without_a_threshold(table):
    assert read_trellis_metadata(table(f"file_identifier,sha256\n{LINK},{HASH}\n"), min_aesthetic=None)[0] == {
        UID: HASH
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "line 1: no column sha256, file_identifier, aesthetic_score"),
        ("sha256,file_identifier\n", "line 1: no column aesthetic_score"),
        (HEAD + f"{HASH},{LINK},6,\n{HASH},{LINK},good,\n", "line 3: aesthetic_score is 'good', not a number"),
        (HEAD + f"{HASH},{LINK},nan,\n", "line 2: aesthetic_score is 'nan'"),
        (HEAD + f"{HASH},{LINK}\n", "line 2: aesthetic_score is None"),
        (HEAD + f"abc,{LINK},6,\n", "line 2: sha256 is 'abc', not 64 hex digits"),
        (HEAD + f'{HASH},{LINK},6,"{"x" * 200_000}"\n', "line 1 or the next: cannot be read"),
    ],
)
def test_a_broken_table_is_named_with_its_line(table, text, expected):
    with pytest.raises(LockError, match=expected) as caught:
        read_trellis_metadata(table(text), min_aesthetic=5.0)
    assert "table.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_table_is_one_line(tmp_path):
    with pytest.raises(LockError, match="no such file: --metadata"):
        read_trellis_metadata(tmp_path / "gone.csv", min_aesthetic=None)
    with pytest.raises(LockError, match="cannot be read"):
        read_trellis_metadata(tmp_path, min_aesthetic=None)
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(LockError, match="cannot be read"):
        read_trellis_metadata(tmp_path / "binary.csv", min_aesthetic=None)
    with pytest.raises(LockError, match="--min-aesthetic must be a number"):
        read_trellis_metadata(tmp_path / "gone.csv", min_aesthetic=float("inf"))
