"""Where a dataset's files lie: a local folder by plain system calls, or any other URL through fsspec."""

import importlib
import os
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from randscene.errors import DatasetError

OPEN_FILES = 128
"""Tars that a process keeps open at most; well under the usual limit of 1,024 open files."""


class Store(Protocol):
    """Read access to the files of one dataset folder, by names relative to it. Instances survive fork and pickling."""

    url: str

    def read(self, name: str) -> bytes:
        """The whole file; FileNotFoundError when it is not there."""

    def open(self, name: str) -> BinaryIO:
        """The file as a binary stream."""

    def read_range(self, name: str, start: int, size: int) -> bytes:
        """`size` bytes from byte `start`; fewer where the file ends."""

    def sizes(self, folder: str) -> dict[str, int]:
        """Name (without the folder) to bytes, for each file of a folder; empty when there is no such folder."""

    def folders(self, folder: str) -> list[str]:
        """Names of the folders in a folder; empty when there is no such folder."""


def open_store(url: str | os.PathLike[str]) -> Store:
    """The store for a path or a URL; only a URL with a scheme (`s3://`, `gs://`, ...) needs fsspec."""
    text = os.fspath(url)
    return _RemoteStore(text) if "://" in text else _LocalStore(text)


class _File:
    """A file descriptor that is closed when nobody holds it any more. `pread` moves no shared position, so that
    threads and forked processes may use it at the same time."""

    def __init__(self, path: str) -> None:
        self._descriptor = -1
        self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))

    def read(self, start: int, size: int) -> bytes:
        parts = []
        while size > 0 and (part := os.pread(self._descriptor, size, start)):
            parts.append(part)
            start += len(part)
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)


@lru_cache(maxsize=OPEN_FILES)
def _file(path: str, identity: tuple[int, int, int]) -> _File:
    return _File(path)


class _LocalStore:
    def __init__(self, root: str) -> None:
        self.url = root
        self._root = Path(root).absolute()

    def read(self, name: str) -> bytes:
        return (self._root / name).read_bytes()

    def open(self, name: str) -> BinaryIO:
        return open(self._root / name, "rb")

    def read_range(self, name: str, start: int, size: int) -> bytes:
        path = self._root / name
        # A shard that was built again under the same name is another file: never read the old one's bytes.
        stat = path.stat()
        return _file(str(path), (stat.st_dev, stat.st_ino, stat.st_mtime_ns)).read(start, size)

    def sizes(self, folder: str) -> dict[str, int]:
        try:
            with os.scandir(self._root / folder) as entries:
                return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
        except (FileNotFoundError, NotADirectoryError):
            return {}

    def folders(self, folder: str) -> list[str]:
        try:
            with os.scandir(self._root / folder) as entries:
                return [entry.name for entry in entries if entry.is_dir()]
        except (FileNotFoundError, NotADirectoryError):
            return []


class _RemoteStore:
    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._filesystem()

    def _filesystem(self) -> tuple[Any, str]:
        # Looked up each time: fsspec caches instances a process, so that none crosses a fork.
        try:
            fsspec = importlib.import_module("fsspec")
        except ImportError as error:
            raise DatasetError(f"{self.url}: reading URLs needs fsspec; pip install fsspec") from error
        try:
            filesystem, root = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise DatasetError(f"{self.url}: {error}") from error
        return filesystem, str(root)

    def read(self, name: str) -> bytes:
        filesystem, root = self._filesystem()
        return bytes(filesystem.cat_file(f"{root}/{name}"))

    def open(self, name: str) -> BinaryIO:
        filesystem, root = self._filesystem()
        return cast(BinaryIO, filesystem.open(f"{root}/{name}", "rb"))

    def read_range(self, name: str, start: int, size: int) -> bytes:
        filesystem, root = self._filesystem()
        return bytes(filesystem.cat_file(f"{root}/{name}", start=start, end=start + size))

    def sizes(self, folder: str) -> dict[str, int]:
        entries = self._entries(folder)
        return {entry["name"].rsplit("/", 1)[-1]: int(entry["size"]) for entry in entries if entry["type"] == "file"}

    def folders(self, folder: str) -> list[str]:
        entries = self._entries(folder)
        return [entry["name"].rstrip("/").rsplit("/", 1)[-1] for entry in entries if entry["type"] == "directory"]

    def _entries(self, folder: str) -> list[dict[str, Any]]:
        filesystem, root = self._filesystem()
        try:
            return list(filesystem.ls(f"{root}/{folder}", detail=True))
        except (FileNotFoundError, NotADirectoryError):
            return []
