"""The `manifest.jsonl` or `manifest.csv` of a folder of meshes: what is known of each file beyond its bytes."""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from randscene.errors import LockError

_UID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def read_folder_manifest(folder: Path) -> dict[str, dict[str, Any]]:
    """The rows of a folder's manifest by `file`, the path of the mesh relative to the folder; empty without manifest.

    Columns that mean something: `file`, `uid`, `sha256`, `licence` (or `license`), `attribution`, `name`, `author`,
    `source_repo` (or `source_url`), `category`, `up_axis`. Others are ignored.

    Raises
    ------
    LockError
        If the manifest cannot be read, or a row has no `file` or a `uid` that is no name; names the line.
    """
    rows: dict[str, dict[str, Any]] = {}
    for where, row in _rows(folder):
        file, uid = row.get("file"), row.get("uid")
        if not isinstance(file, str) or not file:
            raise LockError(f"{where}: a row without `file`, the path of the mesh relative to the folder")
        if uid and not (isinstance(uid, str) and _UID.fullmatch(uid)):
            raise LockError(f"{where}: uid {uid!r}: use letters, digits, dot, hyphen and underscore, at most 128")
        rows[file] = row
    return rows


def _rows(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    lines, table = folder / "manifest.jsonl", folder / "manifest.csv"
    try:
        if lines.is_file():
            with lines.open(newline="\n", encoding="utf-8") as handle:
                for number, line in enumerate(handle, start=1):
                    if not line.strip():
                        continue
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise LockError(f"{lines}, line {number}: not a JSON object")
                    yield f"{lines}, line {number}", row
        elif table.is_file():
            with table.open(newline="", encoding="utf-8-sig") as handle:
                for number, row in enumerate(csv.DictReader(handle), start=2):
                    yield f"{table}, line {number}", row
    except (ValueError, RecursionError, csv.Error, OSError) as error:
        raise LockError(f"{lines if lines.is_file() else table}: cannot be read: {error}") from error
