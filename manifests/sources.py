"""Asset sources: where meshes come from, and what a source knows of each before it is opened."""

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from randscene.errors import LockError
from randscene.files import sha256_of
from randscene.manifests.asset_mesh import MESH_SUFFIXES
from randscene.manifests.asset_record import UpAxis
from randscene.manifests.licences import NOASSERTION

SOURCES = ("procedural", "directory", "objaverse")
_UID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """An asset before inspection."""

    uid: str
    source: str
    path: Path
    """Where the file is, or will be written."""
    licence: str
    attribution: str
    up_axis: UpAxis
    category: str
    sha256: str | None
    """What the source says of the file's bytes; None when it says nothing."""
    family: str | None = None
    """Procedural family; the file is made from (family, seed) when this is given."""
    seed: int | None = None


def procedural(folder: Path, *, count: int, seed: int = 0) -> list[Candidate]:
    """The first `count` procedural assets of `seed`, to be written to `folder` as `{uid}.glb`.

    Raises
    ------
    LockError
        If `count` is not positive.
    """
    from randscene.manifests.procedural import enumerate_assets

    if count < 1:
        raise LockError(f"--count must be at least 1, not {count}")
    return [
        Candidate(
            uid=asset.uid,
            source="procedural",
            path=folder / f"{asset.uid}.glb",
            licence="CC0-1.0",
            attribution="randscene procedural asset library",
            up_axis="Y",
            category=asset.family,
            sha256=None,
            family=asset.family,
            seed=asset.seed,
        )
        for asset in enumerate_assets(count, seed=seed)
    ]


def directory(folder: Path, *, up_axis: UpAxis = "Y", count: int | None = None) -> tuple[list[Candidate], int]:
    """The mesh files in `folder` and below, in order of their relative path.

    A `manifest.jsonl` or `manifest.csv` in the folder itself may say more: a row's `file` (relative path) with any of
    `uid`, `licence`, `attribution`, `category`, `up_axis`, `sha256`. Without one, an asset's uid is the start of its
    sha256 and its licence is `NOASSERTION`.

    Parameters
    ----------
    folder : Path
    up_axis : {"Y", "Z"}
        Up direction of `.obj`, `.ply` and `.stl` files for which no manifest states it; glTF is always Y-up.
    count : int, optional
        Stop after so many files.

    Returns
    -------
    candidates : list of Candidate
        Without files whose bytes already came under another path.
    duplicates : int
        Number of files left out for that reason.

    Raises
    ------
    LockError
        If there is no such folder, no mesh in it, or the manifest is malformed.
    """
    if not folder.is_dir():
        raise LockError(f"{folder}: no such folder: give --path the folder that holds the meshes")
    rows = _sidecar(folder)
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in MESH_SUFFIXES and path.is_file())
    if not files:
        raise LockError(f"{folder}: no {', '.join(MESH_SUFFIXES)} file in it or below")
    candidates: list[Candidate] = []
    seen: set[str] = set()
    for path in files[:count]:
        digest = sha256_of(path)
        if digest in seen:
            continue
        seen.add(digest)
        row = rows.get(path.relative_to(folder).as_posix(), {})
        licence = row.get("licence") or row.get("license") or NOASSERTION
        candidates.append(
            Candidate(
                uid=row.get("uid") or digest[:32],
                source="directory",
                path=path.resolve(),
                licence=str(licence),
                attribution=str(row.get("attribution") or row.get("author") or ""),
                up_axis=_up_axis(path, row, up_axis),
                category=str(row.get("category") or ""),
                sha256=row.get("sha256") or None,
            )
        )
    return candidates, len(files[:count]) - len(candidates)


def _up_axis(path: Path, row: dict[str, Any], default: UpAxis) -> UpAxis:
    if path.suffix.lower() in (".glb", ".gltf"):
        return "Y"
    stated = str(row.get("up_axis") or default).upper()
    if stated not in ("Y", "Z"):
        raise LockError(f"{path}: up_axis {stated!r} is neither Y nor Z: convert the file, or leave it out")
    return "Z" if stated == "Z" else "Y"


def _sidecar(folder: Path) -> dict[str, dict[str, Any]]:
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
            for number, line in enumerate(lines.read_text(encoding="utf-8").split("\n"), start=1):
                if not line.strip():
                    continue
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise LockError(f"{lines}, line {number}: not a JSON object")
                yield f"{lines}, line {number}", row
        elif table.is_file():
            with table.open(newline="", encoding="utf-8") as handle:
                for number, row in enumerate(csv.DictReader(handle), start=2):
                    yield f"{table}, line {number}", row
    except (ValueError, csv.Error) as error:
        raise LockError(f"{lines if lines.is_file() else table}: cannot be read: {error}") from error
