"""Where a dataset's files lie: a local folder by plain system calls, or any other URL through fsspec.

Writing is atomic in both: a file is whole or not there. A local file is renamed to its place; an object store shows an
object only once all of it has arrived; other remote file systems rename as well.
"""

import contextlib
import errno
import importlib
import io
import os
import shutil
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from randscene.errors import DatasetError, RandsceneError, first_line
from randscene.files import atomic_writer, explain_os_errors, fsync, temporary_name, write_atomic

OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "oci", "r2", "memory"})
"""Schemes whose objects appear at once when their upload is complete; elsewhere a file can be seen half written."""
STREAM_BUFFER = 1 << 20
"""Bytes that a stream asks for at a time."""
OPEN_FILES = 128
"""Tars that a process keeps open at most; well under the usual limit of 1,024 open files."""


class Store(Protocol):
    """The files of one dataset folder, by names relative to it. Instances survive fork and pickling.

    Reading raises FileNotFoundError for what is not there and DatasetError for what cannot be had; writing raises
    RandsceneError.
    """

    url: str
    local: Path | None
    """The folder itself, where it is a local one."""

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

    def write(self, name: str, data: bytes | str) -> None:
        """Make `name` a file of these bytes (text as UTF-8), whole or not at all; replaces what was there."""

    def create(self, name: str, data: bytes | str) -> bool:
        """As `write`, but only where there is no such file; False when there is one, of two callers at least to one."""

    def put(self, name: str, path: Path) -> None:
        """Make `name` a file of the same bytes as the local file `path`, whole or not at all."""

    def get(self, name: str, path: Path) -> None:
        """Copy `name` to the local file `path`."""

    def remove(self, name: str) -> None:
        """Delete a file; fine when there is none."""


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
    local: Path | None

    def __init__(self, root: str) -> None:
        self.url = root
        self._root = self.local = Path(root).absolute()

    def read(self, name: str) -> bytes:
        with _reading(self.url, name):
            return (self._root / name).read_bytes()

    def open(self, name: str) -> BinaryIO:
        with _reading(self.url, name):
            return _stream(open(self._root / name, "rb", buffering=0), self.url, name)

    def read_range(self, name: str, start: int, size: int) -> bytes:
        path = self._root / name
        with _reading(self.url, name):
            # A shard that was built again under the same name is another file: never read the old one's bytes.
            stat = path.stat()
            return _file(str(path), (stat.st_dev, stat.st_ino, stat.st_mtime_ns)).read(start, size)

    def sizes(self, folder: str) -> dict[str, int]:
        found = {}
        for entry in self._entries(folder):
            with contextlib.suppress(FileNotFoundError):  # temporary files of others come and go
                if entry.is_file():
                    found[entry.name] = entry.stat().st_size
        return found

    def folders(self, folder: str) -> list[str]:
        return [entry.name for entry in self._entries(folder) if entry.is_dir()]

    def write(self, name: str, data: bytes | str) -> None:
        write_atomic(self._root / name, data)

    def create(self, name: str, data: bytes | str) -> bool:
        path = self._root / name
        with explain_os_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with open(path, "xb") as handle:
                    handle.write(data.encode() if isinstance(data, str) else data)
            except FileExistsError:
                return False
        return True

    def put(self, name: str, path: Path) -> None:
        with open(path, "rb") as source, atomic_writer(self._root / name) as target:
            shutil.copyfileobj(source, target, 1 << 20)

    def get(self, name: str, path: Path) -> None:
        with explain_os_errors(path), _reading(self.url, name):
            shutil.copyfile(self._root / name, path)

    def remove(self, name: str) -> None:
        path = self._root / name
        with explain_os_errors(path), contextlib.suppress(FileNotFoundError):
            path.unlink()
            fsync(path.parent)

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        try:
            with _reading(self.url, folder), os.scandir(self._root / folder) as entries:
                return list(entries)
        except (FileNotFoundError, NotADirectoryError):
            return []


class _RemoteStore:
    local: Path | None = None

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
        with _reading(self.url, name):
            return bytes(filesystem.cat_file(f"{root}/{name}"))

    def open(self, name: str) -> BinaryIO:
        filesystem, root = self._filesystem()
        with _reading(self.url, name):
            return _stream(filesystem.open(f"{root}/{name}", "rb"), self.url, name)

    def read_range(self, name: str, start: int, size: int) -> bytes:
        filesystem, root = self._filesystem()
        with _reading(self.url, name):
            return bytes(filesystem.cat_file(f"{root}/{name}", start=start, end=start + size))

    def sizes(self, folder: str) -> dict[str, int]:
        entries = self._entries(folder)
        return {entry["name"].rsplit("/", 1)[-1]: int(entry["size"]) for entry in entries if entry["type"] == "file"}

    def folders(self, folder: str) -> list[str]:
        entries = self._entries(folder)
        return [entry["name"].rstrip("/").rsplit("/", 1)[-1] for entry in entries if entry["type"] == "directory"]

    def write(self, name: str, data: bytes | str) -> None:
        filesystem, root = self._filesystem()
        content = data.encode() if isinstance(data, str) else data
        with self._writing(name), self._arriving(f"{root}/{name}") as target:
            filesystem.pipe_file(target, content)

    def create(self, name: str, data: bytes | str) -> bool:
        filesystem, root = self._filesystem()
        content = data.encode() if isinstance(data, str) else data
        with self._writing(name):
            self._make_parent(f"{root}/{name}")
            try:
                filesystem.pipe_file(f"{root}/{name}", content, mode="create")
            except FileExistsError:
                return False
            except NotImplementedError:  # a store that cannot: as good as can be
                if filesystem.exists(f"{root}/{name}"):
                    return False
                filesystem.pipe_file(f"{root}/{name}", content)
        return True

    def put(self, name: str, path: Path) -> None:
        filesystem, root = self._filesystem()
        with self._writing(name), self._arriving(f"{root}/{name}") as target:
            filesystem.put_file(str(path), target)

    def get(self, name: str, path: Path) -> None:
        filesystem, root = self._filesystem()
        with explain_os_errors(path), _reading(self.url, name):
            filesystem.get_file(f"{root}/{name}", str(path))

    def remove(self, name: str) -> None:
        filesystem, root = self._filesystem()
        with self._writing(name), contextlib.suppress(FileNotFoundError):
            filesystem.rm_file(f"{root}/{name}")

    def _entries(self, folder: str) -> list[dict[str, Any]]:
        filesystem, root = self._filesystem()
        # Others write here too: what fsspec remembers of a listing may be old.
        filesystem.invalidate_cache()
        try:
            with _reading(self.url, folder):
                return list(filesystem.ls(f"{root}/{folder}".rstrip("/"), detail=True))
        except (FileNotFoundError, NotADirectoryError):
            return []

    @contextlib.contextmanager
    def _arriving(self, target: str) -> Iterator[str]:
        """Where to write what shall be at `target` once it is whole."""
        filesystem, _ = self._filesystem()
        self._make_parent(target)
        if self.url.partition("://")[0] in OBJECT_STORES:
            yield target
            return
        folder, _, name = target.rpartition("/")
        temporary = f"{folder}/{temporary_name(name)}"
        yield temporary
        filesystem.mv(temporary, target)

    def _make_parent(self, target: str) -> None:
        if self.url.partition("://")[0] not in OBJECT_STORES:
            self._filesystem()[0].makedirs(target.rpartition("/")[0], exist_ok=True)

    @contextlib.contextmanager
    def _writing(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # each store's client raises errors of its own
            raise RandsceneError(
                f"cannot write {self.url}/{name}: {_why(error)}; see that the store is there and may be written to, "
                "then run the same command again"
            ) from error


@contextlib.contextmanager
def _reading(url: str, name: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, DatasetError):
        raise
    except Exception as error:  # each store's client raises errors of its own
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise  # of the disk that a copy goes to
        raise DatasetError(f"{url}/{name} cannot be read: {_why(error)}") from error


class _Raw(io.RawIOBase):
    """A file whose reading fails, if it does, as a store's."""

    def __init__(self, source: Any, url: str, name: str) -> None:
        self._source = source
        self._place = url, name

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        with _reading(*self._place):
            return self._source.readinto(buffer)

    def close(self) -> None:
        if not self.closed:
            self._source.close()
        super().close()


def _stream(source: Any, url: str, name: str) -> BinaryIO:
    return io.BufferedReader(_Raw(source, url, name), STREAM_BUFFER)


def _why(error: Exception) -> str:
    """What an error of a store says, for the middle of a sentence."""
    told = error.strerror if isinstance(error, OSError) else None
    return told or first_line(error).rstrip(".")
