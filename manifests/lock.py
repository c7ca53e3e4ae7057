"""The asset lock: one AssetRecord a line, sorted by uid. What a build may read, and the hashes that it must find."""

import dataclasses
import functools
import importlib
import itertools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NoReturn

import pydantic

from randscene import canonical_json
from randscene.errors import LockError, first_line
from randscene.files import sha256_of, write_atomic
from randscene.manifests.asset_record import AssetRecord

_FIELDS = frozenset(field.name for field in dataclasses.fields(AssetRecord))
_RECORD: "pydantic.TypeAdapter[AssetRecord]" = pydantic.TypeAdapter(AssetRecord)
_REBUILD = "build it again with `randscene assets build`"


def load_lock(url: str | Path) -> list[AssetRecord]:
    """Read an asset lock.

    Parameters
    ----------
    url : str or Path
        A local path, or any URL that fsspec can open.

    Returns
    -------
    list of AssetRecord
        In ascending order of uid; relative locators are resolved against the lock's folder.

    Raises
    ------
    LockError
        If the lock is missing, empty, malformed, or its uids are unsorted or repeated; names the line.
    """
    text = _read_text(str(url))
    folder = str(url).rpartition("/")[0] if "://" in str(url) else str(Path(url).resolve().parent)
    records: list[AssetRecord] = []
    # Not `splitlines`: a text inside a record may hold other characters that end lines.
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else [], start=1):
        where = f"{url}, line {number}"
        record = parse_record(line, where=where)
        if records and record.uid <= records[-1].uid:
            fault = "appears twice" if record.uid == records[-1].uid else f"comes after {records[-1].uid}"
            raise LockError(f"{where}: asset {record.uid} {fault}; uids must ascend: {_REBUILD}")
        records.append(dataclasses.replace(record, locator=_resolve(record.locator, folder, where)))
    if not records:
        raise LockError(f"{url}: the asset lock is empty: {_REBUILD}")
    return records


def write_lock(path: str | Path, records: Iterable[AssetRecord]) -> None:
    """Write an asset lock whole or not at all: canonical JSON lines, sorted by uid.

    Absolute locators below the lock's folder become relative, so that the folder can be moved. A relative locator is
    taken as relative to the lock's folder already.

    Raises
    ------
    LockError
        If two records share a uid.
    RandsceneError
        If the file cannot be written.
    """
    write_atomic(path, lock_text(path, records))


def lock_text(path: str | Path, records: Iterable[AssetRecord]) -> str:
    """The content that `write_lock` gives to a lock at `path`.

    Raises
    ------
    LockError
        If two records share a uid.
    """
    folder = Path(path).resolve().parent
    ordered = sorted(records, key=lambda record: record.uid)
    for first, second in itertools.pairwise(ordered):
        if first.uid == second.uid:
            raise LockError(f"two assets share the uid {first.uid}: {first.locator} and {second.locator}; drop one")
    lines = [
        canonical_json.dumps(dataclasses.replace(record, locator=_relative(record.locator, folder)))
        for record in ordered
    ]
    return "".join(f"{line}\n" for line in lines)


def merge_locks(locks: Sequence[str | Path]) -> tuple[list[AssetRecord], int]:
    """The records of several locks, for datasets that draw from all of them; nothing is written.

    Parameters
    ----------
    locks : sequence of str or Path
        As `load_lock` takes them.

    Returns
    -------
    records : list of AssetRecord
        In ascending order of uid. Of one file (SHA-256) in several locks the first lock's record stays.
    left_out : int
        How many records were of a file that an earlier lock has.

    Raises
    ------
    LockError
        If a lock cannot be read, or two different files have one uid.
    """
    merged: dict[str, AssetRecord] = {}
    hashes: set[str] = set()
    left_out = 0
    for lock in locks:
        for record in load_lock(lock):
            if record.sha256 and record.sha256 in hashes:
                left_out += 1
                continue
            if record.uid in merged:
                raise LockError(
                    f"{lock}: asset {record.uid} is another file in a lock before it: rename one of the two and build "
                    "its lock again"
                )
            hashes.add(record.sha256)
            merged[record.uid] = record
    return sorted(merged.values(), key=lambda record: record.uid), left_out


def parse_record(line: str, *, where: str) -> AssetRecord:
    """One line of a lock as a record, its locator as written.

    Raises
    ------
    LockError
        If the line is no asset record; `where` says which line.
    """
    try:
        data = json.loads(line, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise LockError(f"{where}: not a line of JSON ({error}): {_REBUILD}") from error
    if not isinstance(data, dict) or data.keys() != _FIELDS:
        odd = sorted(_FIELDS ^ data.keys()) if isinstance(data, dict) else ["not an object"]
        raise LockError(f"{where}: not an asset record (missing or unknown: {', '.join(odd)}): {_REBUILD}")
    try:
        return _RECORD.validate_python(data)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise LockError(f"{where}: {field}: {first['msg']}: {_REBUILD}") from error


def lock_hash(records: Iterable[AssetRecord]) -> str:
    """What the assets are, not where they lie: SHA-256 (64 hex digits) over the records without their locators."""
    entries = [dataclasses.asdict(record) for record in sorted(records, key=lambda record: record.uid)]
    for entry in entries:
        del entry["locator"]
    return canonical_json.digest(entries)


def usable(records: Sequence[AssetRecord]) -> list[AssetRecord]:
    """The records that generation may draw from: those with status `ok`, in the given order."""
    return [record for record in records if record.status == "ok"]


def same_shape(records: Iterable[AssetRecord]) -> tuple[tuple[str, ...], ...]:
    """Groups of assets that are the same shape: copies that differ in materials, names, units or vertex order.

    Returns
    -------
    tuple of tuple of str
        Uids in ascending order, two or more a group; the largest groups first, then by their first uid.
    """
    groups: dict[str, list[str]] = {}
    for record in records:
        if record.geometry:
            groups.setdefault(record.geometry, []).append(record.uid)
    shared = [tuple(sorted(uids)) for uids in groups.values() if len(uids) > 1]
    return tuple(sorted(shared, key=lambda uids: (-len(uids), uids)))


def verified_path(record: AssetRecord) -> Path:
    """The local file of an asset, once its SHA-256 has been found to be the lock's; checked once a process.

    Raises
    ------
    LockError
        If the file is missing or its bytes are not those that were locked.
    """
    return _verified(record.uid, record.locator, record.sha256)


@functools.lru_cache(maxsize=65536)
def _verified(uid: str, locator: str, sha256: str) -> Path:
    if "://" in locator:
        raise LockError(f"asset {uid}: {locator} is a URL; copy the file to disk and {_REBUILD}")
    path = Path(locator)
    if not path.is_file():
        raise LockError(f"asset {uid}: {path} is missing: put it back, or {_REBUILD}")
    found = sha256_of(path)
    if found != sha256:
        raise LockError(f"asset {uid}: {path} has changed since it was locked (sha256 {found[:12]}): {_REBUILD}")
    return path


def _read_text(url: str) -> str:
    try:
        if "://" in url:
            return _read_remote(url).decode()
        return Path(url).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise LockError(f"{url}: the asset lock is not UTF-8 text: {_REBUILD}") from error
    except FileNotFoundError as error:
        raise LockError(f"{url}: no asset lock there; make one with `randscene assets build --out {url}`") from error
    except OSError as error:
        raise LockError(f"{url}: the asset lock cannot be read: {error.strerror or error}") from error


def _read_remote(url: str) -> bytes:
    try:
        fsspec = importlib.import_module("fsspec")
    except ImportError as error:
        raise LockError(f"{url}: reading a URL needs fsspec: pip install fsspec") from error
    try:
        with fsspec.open(url, "rb") as handle:
            data: bytes = handle.read()
    except OSError:
        raise
    except Exception as error:  # each store's client raises errors of its own
        raise LockError(f"{url}: the asset lock cannot be read: {first_line(error)}") from error
    return data


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a finite number")


def _resolve(locator: str, folder: str, where: str) -> str:
    if "://" in locator or Path(locator).is_absolute():
        return locator
    if not locator or ".." in Path(locator).parts:
        raise LockError(f"{where}: the locator {locator!r} leaves the lock's folder; use an absolute path: {_REBUILD}")
    return f"{folder}/{locator}"


def _relative(locator: str, folder: Path) -> str:
    if "://" in locator or not Path(locator).is_absolute():
        return locator
    path = Path(locator)
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)
