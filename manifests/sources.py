"""Asset sources: where meshes come from, and what a source knows of each before it is opened."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from randscene.errors import LockError, RandsceneError
from randscene.files import sha256_of
from randscene.manifests.asset_mesh import CONVERTED_SUFFIXES, SOURCE_SUFFIXES
from randscene.manifests.asset_record import UpAxis
from randscene.manifests.folder_manifest import read_folder_manifest
from randscene.manifests.in_threads import in_threads
from randscene.manifests.licences import NOASSERTION, credit_line, one_line, spdx_spelling

SOURCES = ("procedural", "directory", "objaverse")
_Y_UP = (".glb", ".gltf", *CONVERTED_SUFFIXES)
"""File types that are Y-up whatever a manifest says: glTF, and what is converted to it."""
_HASHING_THREADS = 8
_LONGEST_CREDIT = 2000
_UNREADABLE = "unreadable-"
_LEFT_OUT = {"link_out_of_folder": "links that lead out of it", "name_not_utf8": "files whose names are no UTF-8"}
"""Files of a folder that are left out, in words."""


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
    original: Path | None = None
    """A file of another type that `path` is converted from."""
    remote: str | None = None
    """Where the listing's `fetch` finds the file; None when it needs no fetching."""
    fault: str | None = None
    """A typed reason that is known before the file is opened."""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What a source holds."""

    candidates: list[Candidate]
    duplicates: int = 0
    """Files left out because another one has the same bytes."""
    left_out: dict[str, int] = field(default_factory=dict)
    """What else was left out, by reason."""
    fetch: Callable[[Candidate], None] | None = None
    """Puts a candidate's file in its place; called in threads; raises `AssetError` with a typed reason."""
    stop: Callable[[], None] | None = None
    """Makes fetches that wait end soon."""
    fetches: int = 1
    """How many fetches may run at a time."""


def procedural(folder: Path, *, count: int, seed: int = 0) -> Listing:
    """The first `count` procedural assets of `seed`, to be written to `folder` as `{uid}.glb`.

    Raises
    ------
    LockError
        If `count` is not positive.
    """
    from randscene.manifests.procedural import enumerate_assets

    if count < 1:
        raise LockError(f"--count must be at least 1, not {count}")
    return Listing(
        candidates=[
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
    )


def directory(
    folder: Path,
    *,
    assets: Path,
    up_axis: UpAxis = "Y",
    licence: str = "",
    attribution: str = "",
    count: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Listing:
    """The mesh files in `folder` and below, in order of their relative path.

    A manifest in the folder may say more of each (see `folder_manifest`). Where it does not, an asset's uid is the
    start of its sha256. Links to files outside of the folder are left out: whoever made the folder may not have meant
    to hand those out, and they do not move with it. So are files whose names are no UTF-8: no lock could name them.

    Parameters
    ----------
    folder : Path
    assets : Path
        Where files that must be converted go, named by the hash of their original; not looked into.
    up_axis : {"Y", "Z"}
        Up direction of `.obj`, `.ply` and `.stl` files for which no manifest states it; glTF is always Y-up.
    licence, attribution : str
        Of files for which no manifest states it; `NOASSERTION` and none by default.
    count : int, optional
        Stop after so many files.
    progress : callable, optional
        Called with (files hashed, files).

    Raises
    ------
    LockError
        If there is no such folder, no mesh in it, or the manifest is malformed.
    """
    if not folder.is_dir():
        raise LockError(f"{folder}: no such folder: give --path the folder that holds the meshes")
    rows = read_folder_manifest(folder)
    root, own = folder.resolve(), assets.resolve()
    left_out: Counter[str] = Counter()
    files: list[Path] = []
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in SOURCE_SUFFIXES or not path.is_file() or own in path.resolve().parents:
            continue
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            left_out["link_out_of_folder"] += 1
        elif not _is_text(path.resolve()):
            left_out["name_not_utf8"] += 1
        else:
            files.append(path)
    if not files:
        only = "".join(f", only {count} {_LEFT_OUT[reason]}" for reason, count in left_out.items())
        raise LockError(f"{folder}: no {', '.join(SOURCE_SUFFIXES)} file in it or below{only}")
    names = {path: path.relative_to(folder).as_posix() for path in files}
    if absent := len(rows.keys() - set(names.values())):
        left_out["manifest_row_without_file"] = absent
    files = files[:count]
    digests = _digests(files, progress)
    first: dict[str, Candidate] = {}
    for path in files:
        digest = digests[path]
        if digest not in first:
            row = {"licence": licence, "attribution": attribution} | _stated(rows.get(names[path], {}))
            first[digest] = _candidate(path.resolve(), digest, row, assets=assets, up_axis=up_axis)
    return Listing(candidates=list(first.values()), duplicates=len(files) - len(first), left_out=dict(left_out))


def _is_text(path: Path) -> bool:
    """Whether a path can be written into a lock: names of other systems may hold bytes that are no UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def _stated(row: dict[str, Any]) -> dict[str, Any]:
    """A manifest's row without what it leaves open, so that a default may fill the gap."""
    stated = {name: value for name, value in row.items() if value not in (None, "")}
    if "license" in stated:
        stated.setdefault("licence", stated["license"])
    if "author" in stated and "attribution" not in stated:
        stated["attribution"] = credit_line(
            name=stated.get("name"),
            author=stated["author"],
            origin=stated.get("source_url") or stated.get("source_repo"),
            licence=spdx_spelling(str(stated.get("licence") or "")),
        )
    return stated


def _candidate(path: Path, digest: str, row: dict[str, Any], *, assets: Path, up_axis: UpAxis) -> Candidate:
    converted = path.suffix.lower() in CONVERTED_SUFFIXES
    sha256 = str(row["sha256"]).lower() if row.get("sha256") else None
    return Candidate(
        uid=row.get("uid") or digest[:32],
        source="directory",
        path=assets / f"{digest[:32]}.glb" if converted else path,
        licence=spdx_spelling(str(row.get("licence") or NOASSERTION)),
        attribution=one_line(row.get("attribution"), longest=_LONGEST_CREDIT),
        up_axis=_up_axis(path, row, up_axis),
        category=one_line(row.get("category")),
        sha256=None if converted else sha256,
        original=path if converted else None,
        fault=_fault(digest, sha256 if converted else None),
    )


def _fault(digest: str, sha256: str | None) -> str | None:
    if digest.startswith(_UNREADABLE):
        return "unreadable"
    return "hash_mismatch" if sha256 not in (None, digest) else None


def _up_axis(path: Path, row: dict[str, Any], default: UpAxis) -> UpAxis:
    if path.suffix.lower() in _Y_UP:
        return "Y"
    stated = str(row.get("up_axis") or default).upper()
    if stated not in ("Y", "Z"):
        raise LockError(f"{path}: up_axis {stated!r} is neither Y nor Z: convert the file, or leave it out")
    return "Z" if stated == "Z" else "Y"


def _digests(files: list[Path], progress: Callable[[int, int], None] | None) -> dict[Path, str]:
    """SHA-256 of each file; of one that cannot be read, a name that no other file has."""
    found: dict[Path, str] = {}
    for path, digest in in_threads(_digest, files, threads=_HASHING_THREADS):
        if isinstance(digest, RandsceneError):
            raise digest
        found[path] = digest
        if progress is not None:
            progress(len(found), len(files))
    return found


def _digest(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError:
        return _UNREADABLE + hashlib.sha256(os.fsencode(path)).hexdigest()
