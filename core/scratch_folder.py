"""Folders for files on their way, which go with their owner, however it ends."""

import contextlib
import fcntl
import os
import shutil
import tempfile
import weakref
from pathlib import Path

_OLD_S = 60.0
"""A folder this much older than a new one has been locked by its owner, if it has one."""


class ScratchFolder:
    """A new folder that is removed by `remove`, or when this object is forgotten or the process exits.

    What an owner that was killed left behind, the next folder of the same kind in the same place removes: an owner
    holds the operating system's lock on its folder, which dies with it.

    Parameters
    ----------
    prefix : str
        Beginning of the name, shared by the folders of one kind.
    parent : path, optional
        Where to put it; by default where the system keeps temporary files.
    """

    def __init__(self, prefix: str, parent: str | os.PathLike[str] | None = None) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        lock = _try_lock(self.path)
        self._end = weakref.finalize(self, _remove, self.path, lock)
        _remove_orphans(self.path, prefix)

    def remove(self) -> None:
        """Delete the folder with all that is in it. May be called any number of times."""
        self._end()


def _try_lock(folder: Path) -> int | None:
    """A descriptor that holds the lock on a folder, or None if another process does (or the disk knows no locks)."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def _remove(folder: Path, lock: int | None) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    if lock is not None:
        os.close(lock)


def _remove_orphans(own: Path, prefix: str) -> None:
    for folder in own.parent.glob(f"{prefix}*"):
        # Another process may remove the same folder, and folders of other users cannot be removed.
        with contextlib.suppress(OSError):
            if folder == own or own.stat().st_mtime - folder.stat().st_mtime < _OLD_S:
                continue
            if folder.stat().st_uid == os.getuid() and (lock := _try_lock(folder)) is not None:
                _remove(folder, lock)
