"""Write tars to any store: on a local disk straight to their place, elsewhere as a scratch file that is then sent."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from randscene.errors import DatasetError
from randscene.files import atomic_writer, explain_os_errors, sha256_of
from randscene.scratch_folder import ScratchFolder
from randscene.shards.shard_index import INDEX_ENDING, ShardIndex
from randscene.shards.shard_writer import is_index_of, write_shard, write_tar
from randscene.shards.store import Store

SCRATCH = "randscene-shard-"


def commit_tar(store: Store, name: str, samples: Iterable[tuple[str, Mapping[str, bytes]]]) -> tuple[int, str]:
    """Write a tar of samples, whole or not at all; returns its bytes and SHA-256. See `write_tar`.

    Raises
    ------
    ValueError
        If a key is malformed or comes twice.
    RandsceneError
        If the store, or the disk for scratch files, is full or not writable.
    """
    if store.local is not None:
        return write_tar(store.local / name, samples)
    with _scratch(name) as path:
        facts = write_tar(path, samples)
        store.put(name, path)
    return facts


def commit_shard(
    store: Store, name: str, samples: Iterable[tuple[str, Mapping[str, bytes]]], *, header: Mapping[str, Any]
) -> ShardIndex:
    """Write a shard: first the tar, then the index beside it, which commits it. See `write_shard`.

    Parameters
    ----------
    store : Store
    name : str
        Of the tar in the dataset folder, e.g. `shards/train-000000.tar`.
    samples : iterable of (key, members)
    header : mapping
        Stored in the index.

    Raises
    ------
    ValueError
        If a key is malformed or comes twice, or the samples differ in their members.
    RandsceneError
        If the store, or the disk for scratch files, is full or not writable.
    """
    if store.local is not None:
        return write_shard(store.local / name, samples, header=header)
    index_name = name.removesuffix(".tar") + INDEX_ENDING
    with _scratch(name) as path:
        index = write_shard(path, samples, header=header)
        with contextlib.suppress(FileNotFoundError):
            # No index may ever stand beside another tar.
            if not is_index_of(store.read(index_name), index.tar_sha256):
                store.remove(index_name)
        store.put(name, path)
    store.write(index_name, index.to_json())
    return index


def commit_lines(store: Store, name: str, lines: Iterable[str]) -> None:
    """Write a text file line by line, whole or not at all, without holding it in memory.

    Parameters
    ----------
    store : Store
    name : str
    lines : iterable of str
        Without their ends.

    Raises
    ------
    RandsceneError
        If the store, or the disk for scratch files, is full or not writable.
    """
    with contextlib.ExitStack() as held:
        path = store.local / name if store.local is not None else held.enter_context(_scratch(name))
        with atomic_writer(path) as handle:
            for line in lines:
                handle.write(f"{line}\n".encode())
        if store.local is None:
            store.put(name, path)


def remove_leftovers(store: Store, folders: Iterable[str]) -> None:
    """Delete what killed writers left in these folders (the dataset folder itself: ""); only for the sole writer.

    Raises
    ------
    RandsceneError
        If the store cannot be written.
    """
    for folder in folders:
        for name in store.sizes(folder):
            if name.startswith(".") and name.endswith(".tmp"):
                store.remove(f"{folder}/{name}" if folder else name)


@contextlib.contextmanager
def local_copy(store: Store, name: str, *, sha256: str) -> Iterator[Path]:
    """A local file with the bytes of `name`: itself, or a copy for the time of the context.

    Raises
    ------
    DatasetError
        If there is no such file, or its SHA-256 is not `sha256`.
    RandsceneError
        If the disk for scratch files is full.
    """
    with contextlib.ExitStack() as held:
        if store.local is not None:
            path = store.local / name
        else:
            path = held.enter_context(_scratch(name))
        try:
            if store.local is None:
                store.get(name, path)
            whole = sha256_of(path) == sha256
        except FileNotFoundError as error:
            raise DatasetError(f"{store.url}/{name} is missing") from error
        if not whole:
            raise DatasetError(f"{store.url}/{name}: its SHA-256 is not the one that it was written with")
        yield path


@contextlib.contextmanager
def _scratch(name: str) -> Iterator[Path]:
    with explain_os_errors("scratch files"):
        folder = ScratchFolder(SCRATCH)
    try:
        yield folder.path / name.rpartition("/")[2]
    finally:
        folder.remove()
