"""The work on one block as a Ray task: its staged scenes into a shard, or a shard back into staged scenes."""

import contextlib
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from randscene import seeding
from randscene.errors import DatasetError, RandsceneError
from randscene.generator.block_header import BlockHeader
from randscene.generator.dataset_folder import Block, DatasetFolder, StagedScene
from randscene.shards.commit import commit_shard, local_copy
from randscene.shards.shard_index import ShardIndex, read_index
from randscene.shards.store import open_store

Places = dict[str, dict[str, tuple[tarfile.TarFile, tarfile.TarInfo]]]
"""Key to member name to the open tar and the entry in it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedBlock:
    """What became of a block. Errors travel as words: Ray would wrap an exception in a page of its own."""

    samples: int = 0
    bytes: int = 0
    sha256: str = ""
    damaged: Mapping[int, str] = field(default_factory=dict)
    """Staged scenes that are not what their done mark says: there is no shard, and they must be made again."""
    error: str = ""
    """Why the build must stop."""


def pack_block(
    url: str,
    block: Block,
    staged: Mapping[int, StagedScene],
    given_up: Mapping[int, str],
    seed: int,
    fingerprint: str,
    token: str = "",
) -> PackedBlock:
    """Write one shard from the staged scenes of its block, views in a seeded order, and remove the staged scenes.

    Parameters
    ----------
    url : str
        Dataset folder.
    block : Block
    staged : mapping of int to StagedScene
        The scenes that are done.
    given_up : mapping of int to str
        The other scenes of the block, with the reason of their last failure.
    seed : int
        Dataset seed.
    fingerprint : str
    token : str
        Names the build.
    """
    folder = DatasetFolder(open_store(url), token)
    header = BlockHeader(
        fingerprint=fingerprint,
        scenes=block.scenes,
        attempts={scene: done.attempt for scene, done in staged.items()},
        given_up=given_up,
    ).as_written(split=block.split, block=block.number)
    try:
        with contextlib.ExitStack() as tars, folder.turn():
            places: Places = {}
            damaged = {}
            for scene in sorted(staged):
                try:
                    copy = local_copy(folder.store, folder.scene_name(scene), sha256=staged[scene].sha256)
                    _find_members(tars.enter_context(copy), tars, places)
                except DatasetError as error:
                    damaged[scene] = str(error)
            index = _committed(folder, block, header) if damaged else None
            if damaged and index is None:
                for scene in damaged:
                    folder.unstage(scene)
                return PackedBlock(damaged=damaged)
            if index is None:
                keys = sorted(places)
                order = seeding.generator(seed, "shard", block.split, block.number).permutation(len(keys))
                # Read one sample at a time: a block with latents can be larger than memory.
                samples = ((keys[i], _members(places[keys[i]])) for i in order)
                index = commit_shard(folder.store, folder.shard_name(block), samples, header=header)
            for scene in staged:
                folder.unstage(scene)
    except RandsceneError as error:
        return PackedBlock(error=str(error))
    return PackedBlock(samples=len(index), bytes=index.tar_bytes, sha256=index.tar_sha256)


def _committed(folder: DatasetFolder, block: Block, header: Mapping[str, Any]) -> ShardIndex | None:
    """The index of the very shard that would be packed, where a packer died between its commit and its clean-up."""
    name = folder.shard_name(block)
    try:
        index = read_index(folder.store, name)
        with local_copy(folder.store, name, sha256=index.tar_sha256):
            return index if index.header == header else None
    except (FileNotFoundError, DatasetError):
        return None


def unpack_block(url: str, block: Block, sha256: str, fingerprint: str) -> dict[int, StagedScene]:
    """Stage the scenes that a shard holds, so that it can be packed anew with others; the shard stays.

    Parameters
    ----------
    url : str
        Dataset folder.
    block : Block
    sha256 : str
        Of the shard as it was committed.
    fingerprint : str

    Returns
    -------
    dict
        The staged scenes; none where the tar is not the one that was committed.

    Raises
    ------
    RandsceneError
        If the disk is full or not writable.
    """
    folder = DatasetFolder(open_store(url))
    found: dict[int, StagedScene] = {}
    with contextlib.ExitStack() as tars:
        places: Places = {}
        try:
            path = tars.enter_context(local_copy(folder.store, folder.shard_name(block), sha256=sha256))
            _find_members(path, tars, places)
        except DatasetError:
            return {}
        scenes: dict[int, list[str]] = {}
        for key in sorted(places):
            scenes.setdefault(int(key.partition("_")[0]), []).append(key)
        for scene, keys in scenes.items():
            meta = json.loads(_content(*places[keys[0]]["json"]))
            samples = ((key, _members(places[key])) for key in keys)
            found[scene] = folder.stage(scene, samples, int(meta["attempt"]), fingerprint)
    return found


def _find_members(path: Path, tars: contextlib.ExitStack, places: Places) -> None:
    try:
        tar = tars.enter_context(tarfile.open(path))  # noqa: SIM115
        for entry in tar:
            key, _, member = entry.name.partition(".")
            places.setdefault(key, {})[member] = (tar, entry)
    except (OSError, tarfile.TarError) as error:
        raise DatasetError(f"{path} is not a readable tar: {error}") from error


def _members(places: Mapping[str, tuple[tarfile.TarFile, tarfile.TarInfo]]) -> dict[str, bytes]:
    return {name: _content(*place) for name, place in places.items()}


def _content(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    stream = tar.extractfile(entry)
    if stream is None:
        raise DatasetError(f"{tar.name!r}: {entry.name} is not a plain file")
    return stream.read()
