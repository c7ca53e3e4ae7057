"""Files that are either whole or absent: written beside their place, flushed to disk, then renamed."""

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets  # noqa: TID251 -- names that no byte of a dataset depends on
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from randscene.errors import RandsceneError

_WHY = {
    errno.ENOSPC: "the disk is full; free some space, then run the same command again",
    errno.EDQUOT: "the disk quota is used up; free some space, then run the same command again",
    errno.EROFS: "the disk is read-only; choose a folder that can be written",
    errno.EACCES: "permission denied; choose a folder that you can write to",
    errno.EPERM: "permission denied; choose a folder that you can write to",
    errno.EEXIST: "a part of the path is a file, not a folder; choose another path",
    errno.ENOTDIR: "a part of the path is a file, not a folder; choose another path",
    errno.ENOLCK: "its file system has no file locks; mount it with locks, or choose a folder on another one",
    errno.ENOSYS: "its file system has no file locks; mount it with locks, or choose a folder on another one",
    errno.ENOTSUP: "its file system has no file locks; mount it with locks, or choose a folder on another one",
}
_NO_ROOM = {
    os.strerror(errno.ENOSPC): _WHY[errno.ENOSPC],
    os.strerror(errno.EDQUOT): _WHY[errno.EDQUOT],
    "No usable temporary directory": "there is no room for temporary files; free some space, then run the same "
    "command again",
}
"""By what the system, Python and programs such as Blender say where a disk takes no more."""


@contextlib.contextmanager
def explain_os_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn the disk errors that a user can mend (full, read-only, no permission) into one clear line.

    Raises
    ------
    RandsceneError
        With the path and what to do; other `OSError`s pass through unchanged.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _WHY:
            raise RandsceneError(f"cannot write {os.fspath(path)}: {_WHY[error.errno]}") from error
        if line := no_room(str(error), path):
            raise RandsceneError(line) from error
        raise


def no_room(said: str, where: str | os.PathLike[str]) -> str | None:
    """The line for people if what a program said tells of a full disk, else None: no file is to blame for that.

    Parameters
    ----------
    said : str
        An error's text, or what a process printed last.
    where : path
        What was being written.
    """
    why = next((why for words, why in _NO_ROOM.items() if words in said), None)
    return why and f"cannot write {os.fspath(where)}: {why}"


def _make_folder(folder: Path, wanted: Path) -> None:
    """Make a folder and its parents, for the sake of `wanted`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileNotFoundError as error:  # parents are there: the file system makes no folders, as /proc does not
        raise RandsceneError(f"cannot write {wanted}: no folder can be made there; choose another path") from error


def fsync(path: str | os.PathLike[str]) -> None:
    """Make what was written to a file durable; of a folder, the renames inside it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def unique_token() -> str:
    """16 hex digits that no other call gives, on whatever machine."""
    return secrets.token_hex(8)


def temporary_name(name: str) -> str:
    """Where a file is written before it is whole: hidden, easy to tell, and another each time. Process ids would not
    do: two machines that share a disk, or two containers, have the same ones."""
    return f".{name}.{unique_token()}.tmp"


@contextlib.contextmanager
def atomic_writer(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open `path` for writing in binary; the file appears under its name only once whole and on disk.

    The temporary name begins with a dot and ends in `.tmp`, so that left-overs of a killed process are easy to tell.
    Parent folders are created. On any error the temporary file is removed and `path` is untouched.

    Raises
    ------
    RandsceneError
        If the disk is full, read-only or not writable, or `path` is a folder.
    """
    target = Path(path)
    if target.is_dir():
        raise RandsceneError(f"cannot write {target}: a folder has this name; choose another path")
    with explain_os_errors(target):
        _make_folder(target.parent, target)
        temporary = target.with_name(temporary_name(target.name))
        try:
            with open(temporary, "wb") as handle:
                yield handle
                handle.flush()
                os.fsync(handle.fileno())
            os.replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        fsync(target.parent)


def write_atomic(path: str | os.PathLike[str], data: bytes | str) -> None:
    """Write `data` (text as UTF-8) to `path`, whole or not at all; see `atomic_writer`."""
    with atomic_writer(path) as handle:
        handle.write(data.encode() if isinstance(data, str) else data)


@contextlib.contextmanager
def exclusive(lock: str | os.PathLike[str], *, busy: str) -> Iterator[None]:
    """Hold the lock file `lock` for this process alone; it is the operating system's own and dies with its owner.

    Raises
    ------
    RandsceneError
        `busy`, if another process holds it; or if the file cannot be written.
    """
    path = Path(lock)
    with explain_os_errors(path.parent):
        _make_folder(path.parent, path.parent)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            with explain_os_errors(path):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RandsceneError(busy) from error
        yield
    finally:
        os.close(handle)


def sha256_of(path: str | os.PathLike[str]) -> str:
    """SHA-256 (64 hex digits) of a file's bytes."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
