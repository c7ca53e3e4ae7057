"""The metadata tables of TRELLIS-500K: which Sketchfab models were judged good enough to train on.

One row an asset: `sha256` of the file, `file_identifier` (for Objaverse's Sketchfab models
`https://sketchfab.com/3d-models/{uid}`), `aesthetic_score`, `captions`; see
https://github.com/microsoft/TRELLIS/blob/main/DATASET.md. Only the first three columns are read.
"""

import csv
import math
import re
from collections import Counter
from pathlib import Path

from randscene.errors import LockError

_SKETCHFAB = re.compile(r"https?://(?:www\.)?sketchfab\.com/(?:3d-models|models)/(?:[^/?#]*-)?([0-9a-f]{32})/?")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def read_trellis_metadata(path: Path, *, min_aesthetic: float | None) -> tuple[dict[str, str], Counter[str]]:
    """The Sketchfab models of a table, read row by row.

    Parameters
    ----------
    path : Path
        A csv file with a header.
    min_aesthetic : float, optional
        The lowest `aesthetic_score` that is taken; the column is not looked at when this is None.

    Returns
    -------
    sha256 : dict of str to str
        SHA-256 of each model's file by its uid, in the order of the table; the first row of a uid counts.
    left_out : Counter of str
        Rows that were not taken, by reason: `below_min_aesthetic`, `no_sketchfab_model` (such as files on GitHub),
        `same_file` (the uid or the file came before).

    Raises
    ------
    LockError
        If the file is missing, is no such table, or a row's score or hash cannot be read; names the line.
    """
    if min_aesthetic is not None and not math.isfinite(min_aesthetic):
        raise LockError(f"--min-aesthetic must be a number, not {min_aesthetic}")
    wanted = ["sha256", "file_identifier", *(["aesthetic_score"] if min_aesthetic is not None else [])]
    taken: dict[str, str] = {}
    files: set[str] = set()
    left_out: Counter[str] = Counter()
    line = 1
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            table = csv.DictReader(handle)
            missing = [name for name in wanted if name not in (table.fieldnames or ())]
            if missing:
                raise LockError(f"{path}, line 1: no column {', '.join(missing)}: give a metadata csv of TRELLIS-500K")
            for row in table:
                line = table.line_num
                where = f"{path}, line {line}"
                if min_aesthetic is not None and _number(row["aesthetic_score"], where) < min_aesthetic:
                    left_out["below_min_aesthetic"] += 1
                    continue
                match = _SKETCHFAB.fullmatch((row["file_identifier"] or "").strip())
                if match is None:
                    left_out["no_sketchfab_model"] += 1
                    continue
                uid, sha256 = match[1], (row["sha256"] or "").strip().lower()
                if not _SHA256.fullmatch(sha256):
                    raise LockError(f"{where}: sha256 is {row['sha256']!r}, not 64 hex digits")
                if uid in taken or sha256 in files:
                    left_out["same_file"] += 1
                    continue
                taken[uid] = sha256
                files.add(sha256)
    except FileNotFoundError as error:
        raise LockError(f"{path}: no such file: --metadata names a metadata csv of TRELLIS-500K") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LockError(f"{path}, line {line} or the next: cannot be read as a csv table: {error}") from error
    return taken, left_out


def _number(text: str | None, where: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise LockError(f"{where}: aesthetic_score is {text!r}, not a number")
    return value
