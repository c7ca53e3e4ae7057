"""Latents beside a dataset's shards: `latents/{encoder}/` holds a tar for every shard, with its keys in its order.

They are what `randscene encode` writes for datasets whose samples hold no latents. The folder is named by the first
digits of the SHA-256 of the encoder's weights, so that one dataset can have latents of several encoders. Each tar holds
`{key}.latents.npy` alone, and its index, which commits it, says of which tar it was made.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from randscene.errors import DatasetError
from randscene.shards.shard_index import INDEX_ENDING, ShardIndex, read_indices
from randscene.shards.store import Store

log = logging.getLogger(__name__)

MEMBER = "latents.npy"
FOLDER = "latents"
_DIGITS = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class LatentSet:
    """Latents of one encoder."""

    name: str
    """What the encoder was loaded as."""
    sha256: str
    """Of its weights."""
    shards: Mapping[str, ShardIndex]
    """By the name of the shard, without ending: the index of its latents."""

    @property
    def label(self) -> str:
        """The name for people: of an encoder that was read from a disk the last folder alone, the rest tells of that
        disk."""
        return self.name.rstrip("/").rpartition("/")[2] if self.name.startswith(("/", "~", ".")) else self.name

    def covers(self, shards: Mapping[str, ShardIndex]) -> bool:
        """Whether each of these shards (name to index) has its latents here."""
        return all(name in self.shards and belongs(self.shards[name], index) for name, index in shards.items())


def sidecar_folder(sha256: str) -> str:
    """Folder of the latents of an encoder, relative to the dataset."""
    return f"{FOLDER}/{sha256[:_DIGITS]}"


def sidecar_header(index: ShardIndex, *, name: str, sha256: str) -> dict[str, object]:
    """Header of the index of latents of a shard."""
    return {**index.header, "encoder": {"name": name, "sha256": sha256}, "latents_of": index.tar_sha256}


def belongs(sidecar: ShardIndex, shard: ShardIndex) -> bool:
    """Whether latents were made of this very shard."""
    return sidecar.header.get("latents_of") == shard.tar_sha256 and np.array_equal(sidecar.key_column, shard.key_column)


def latent_sets(store: Store) -> list[LatentSet]:
    """The latents that a dataset has beside its shards, one entry an encoder, sorted by hash.

    Raises
    ------
    DatasetError
        If an index is corrupt or its tar is not whole.
    """
    found = []
    for folder in sorted(store.folders(FOLDER)):
        if not re.fullmatch(rf"[0-9a-f]{{{_DIGITS}}}", folder):
            continue
        sizes = store.sizes(f"{FOLDER}/{folder}")
        names = sorted(file.removesuffix(INDEX_ENDING) for file in sizes if file.endswith(INDEX_ENDING))
        indices = dict(zip(names, read_indices(store, f"{FOLDER}/{folder}", names, sizes)))
        if indices:
            name, first = next(iter(indices.items()))
            encoder = first.header.get("encoder")
            if not isinstance(encoder, dict) or not str(encoder.get("sha256")).startswith(folder):
                raise DatasetError(
                    f"{store.url}/{FOLDER}/{folder}/{name}{INDEX_ENDING} does not name the encoder of this folder; "
                    "remove it and run `randscene encode` again"
                )
            found.append(LatentSet(name=str(encoder.get("name")), sha256=str(encoder["sha256"]), shards=indices))
    return found


def whole_sets(store: Store, shards: Mapping[str, ShardIndex]) -> list[LatentSet]:
    """The sets that hold latents of each of these shards (name to index), for pages that tell of a dataset: what is
    still being made is left out, and what cannot be read is a warning."""
    try:
        return [item for item in latent_sets(store) if item.covers(shards)]
    except DatasetError as error:
        log.warning("no latents are named: %s", error)
        return []


def choose_latents(url: str, sets: Sequence[LatentSet], encoder: str, shards: Mapping[str, ShardIndex]) -> LatentSet:
    """The set of an encoder, by its name or the first digits (eight at least) of its hash.

    Raises
    ------
    DatasetError
        If there is none or more than one, or it lacks some of the shards.
    """
    by_hash = re.fullmatch(r"[0-9a-f]{8,64}", encoder) is not None
    chosen = [item for item in sets if item.name == encoder or (by_hash and item.sha256.startswith(encoder))]
    if len(chosen) != 1:
        held = ", ".join(f"{item.name} ({item.sha256[:12]})" for item in sets) or "none"
        many = "more than one set of" if chosen else "no"
        raise DatasetError(f"{url} has {many} latents of encoder {encoder} beside its shards; it has: {held}")
    if not chosen[0].covers(shards):
        lacking = [name for name, index in shards.items() if not chosen[0].covers({name: index})]
        raise DatasetError(
            f"{url}: {len(lacking)} of {len(shards)} shards lack latents of encoder {encoder} or were built again "
            f"since ({lacking[0]}): run `randscene encode` again"
        )
    return chosen[0]
