"""Voxel pack: every occupancy grid of some data sets in one file, one bit a voxel, to train the mini VAE from.

The file is a compressed `.npz` that can be carried to another machine alone. It knows which assets are in which grid,
so that grids with assets that are held out never reach training.
"""

import hashlib
import io
import json
import logging
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.errors import DatasetError
from randscene.files import atomic_writer

log = logging.getLogger(__name__)

RESOLUTION = 64


@dataclass(frozen=True, kw_only=True)
class VoxelPack:
    """Occupancy grids of scenes and of single instances, each in its scene's view-centric cube."""

    bits: NDArray[Any]
    """(n, 64, 64, 8) uint8: voxel (x, y, z) is bit `7 - z % 8` of `bits[g, x, y, z // 8]` (NumPy's `packbits`)."""
    is_scene: NDArray[Any]
    """(n,) bool: a whole scene, else one instance."""
    uids: NDArray[Any]
    """(u,) str: the assets that occur, sorted."""
    members: NDArray[Any]
    """(m,) int32: indices into `uids`, grid after grid."""
    offsets: NDArray[Any]
    """(n + 1,) int64: grid g holds `members[offsets[g]:offsets[g + 1]]`."""

    def __len__(self) -> int:
        return len(self.bits)

    def holds(self, chosen: NDArray[Any]) -> NDArray[Any]:
        """(n,) bool: the grids with at least one asset of `chosen`, a (u,) bool mask over `uids`."""
        return np.add.reduceat(chosen[self.members].astype(np.int64), self.offsets[:-1]) > 0

    def split(self, fraction: float) -> tuple[NDArray[Any], NDArray[Any]]:
        """Training and held-out grids (two int64 index arrays); no asset of a held-out instance is in training.

        About `fraction` of the assets, chosen by a hash of their uid, are held out. A scene that has one of them is
        held out whole; the other instances of such a scene are in neither part.
        """
        chosen = np.array([int(hashlib.sha256(str(uid).encode()).hexdigest()[:8], 16) for uid in self.uids])
        held = self.holds(chosen < fraction * 2**32)
        return np.flatnonzero(~held), np.flatnonzero(held)


def pack_grids(grids: Iterable[tuple[NDArray[Any], bool, list[str]]]) -> VoxelPack:
    """A pack of `(coords (V, 3) uint8, is_scene, asset uids)` triples; empty grids are left out.

    Raises
    ------
    DatasetError
        If nothing is left to pack.
    """
    bits, scenes, owners = [], [], []
    for coords, is_scene, uids in grids:
        if len(coords) == 0:
            continue
        dense = np.zeros((RESOLUTION, RESOLUTION, RESOLUTION), bool)
        dense[coords[:, 0], coords[:, 1], coords[:, 2]] = True
        bits.append(np.packbits(dense, axis=-1))
        scenes.append(is_scene)
        owners.append(uids)
    if not bits:
        raise DatasetError("there are no voxels to pack: the data sets hold no samples")
    known = np.array(sorted({uid for uids in owners for uid in uids}), dtype=np.str_)
    index = {str(uid): i for i, uid in enumerate(known)}
    return VoxelPack(
        bits=np.stack(bits),
        is_scene=np.array(scenes, bool),
        uids=known,
        members=np.array([index[uid] for uids in owners for uid in uids], np.int32),
        offsets=np.concatenate([[0], np.cumsum([len(uids) for uids in owners])]).astype(np.int64),
    )


def dataset_grids(urls: Iterable[str], *, every: int = 1) -> Iterator[tuple[NDArray[Any], bool, list[str]]]:
    """The scene and each instance of every `every`-th sample of the data sets, as `pack_grids` takes them.

    Reads only the voxels and the json of a sample, in all splits.

    Raises
    ------
    DatasetError
        If a data set or one of its samples is missing or damaged.
    """
    from randscene.shards import open_dataset
    from randscene.shards.sample_codec import MemberError, npz_arrays

    for url in urls:
        dataset = open_dataset(url, split=None)
        log.info("%s: %d samples", url, len(dataset))
        for i in range(0, len(dataset), every):
            members = dataset.members(i, ("voxels.npz", "json"))
            try:
                arrays = npz_arrays(members["voxels.npz"], ("coords", "offsets"))
            except MemberError as error:
                raise DatasetError(f"{url}: voxels.npz of sample {dataset.keys[i]} {error}") from error
            coords, offsets = arrays["coords"], arrays["offsets"]
            uids = [str(instance["uid"]) for instance in json.loads(members["json"])["instances"]]
            yield coords, True, uids
            for number, uid in enumerate(uids):
                yield coords[offsets[number] : offsets[number + 1]], False, [uid]


def save_pack(pack: VoxelPack, path: str | Path) -> None:
    """Write `pack` to `path`, whole or not at all."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name in ("bits", "is_scene", "uids", "members", "offsets"):
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, getattr(pack, name), allow_pickle=False)
    with atomic_writer(path) as handle:
        handle.write(buffer.getbuffer())


def load_pack(path: str | Path) -> VoxelPack:
    """Read a pack; `DatasetError` if the file is missing or is no pack."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return VoxelPack(**{name: arrays[name] for name in ("bits", "is_scene", "uids", "members", "offsets")})
    except FileNotFoundError as error:
        raise DatasetError(f"{path} is missing: make it with `python -m randscene.train.mini_vae --pack`") from error
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error, OSError) as error:
        raise DatasetError(f"{path} is not a voxel pack ({error}): make it again") from error
