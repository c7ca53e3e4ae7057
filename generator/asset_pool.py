"""Asset pools: what each split may draw from."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from randscene.generator.posture import upright
from randscene.manifests.asset_record import AssetRecord
from randscene.manifests.spec import DatasetSpec

WIDE = 0.15
"""Least clearance of a carrier's anchor over the largest extent: room for things that are seen beside it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AssetPool:
    """The assets that one kind of split may draw from, sorted by uid."""

    assets: tuple[AssetRecord, ...]
    tables: tuple[AssetRecord, ...]
    """Those of `assets` that have a supporting polygon."""
    carriers: tuple[AssetRecord, ...]
    """Those of `tables` on which several objects find room (`WIDE`)."""

    @classmethod
    def of(cls, records: Iterable[AssetRecord], kinds: int | None = None) -> "AssetPool":
        """A pool of these records; with `kinds`, of those that have one of that many shapes, chosen by a hash."""
        assets = tuple(records)
        if kinds is not None:
            shapes = sorted({record.geometry for record in assets}, key=lambda shape: _rank("kinds:", shape))
            kept = frozenset(shapes[:kinds])
            assets = tuple(record for record in assets if record.geometry in kept)
        tables = tuple(record for record in assets if record.support is not None and record.support.clearance > 0)
        carriers = tuple(
            record
            for record in tables
            if record.support is not None and record.support.clearance >= WIDE * max(record.extents)
        )
        return cls(assets=assets, tables=tables, carriers=carriers)


@dataclass(frozen=True, kw_only=True, slots=True)
class AssetPools:
    """The lock's usable assets, cut in two by shape."""

    shared: AssetPool
    """For splits that do not ask for held-out assets."""
    held_out: AssetPool

    @classmethod
    def of(cls, spec: DatasetSpec, lock: Iterable[AssetRecord]) -> "AssetPools":
        """Sort the lock's usable assets into pools; what has no horizontal extent is left out."""
        usable = sorted(
            (record for record in lock if record.status == "ok" and upright(record).radius > 0),
            key=lambda record: (record.uid, record.sha256),
        )
        fraction, kinds = spec.assets.held_out_fraction, spec.assets.kinds
        return cls(
            shared=AssetPool.of((record for record in usable if not is_held_out(record.geometry, fraction)), kinds),
            held_out=AssetPool.of((record for record in usable if is_held_out(record.geometry, fraction)), kinds),
        )


def is_held_out(geometry: str, fraction: float) -> bool:
    """Whether a shape belongs to the held-out share; a function of `AssetRecord.geometry`, so copies stay together."""
    return _rank("held out:", geometry) < fraction * 2**64


def _rank(purpose: str, geometry: str) -> int:
    """Uniform below 2**64; another purpose ranks the shapes in another order."""
    return int.from_bytes(hashlib.sha256((purpose + geometry).encode()).digest()[:8], "big")
