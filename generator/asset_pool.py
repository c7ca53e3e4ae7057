"""Asset pools: what each split may draw from, and whether a layout's numbers can be met with it."""

import hashlib
import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass

from randscene import seeding
from randscene.errors import PlanError, SpecError
from randscene.generator.poisson_disk import poisson_disk
from randscene.generator.posture import upright
from randscene.generator.recipe import MAX_INSTANCES
from randscene.manifests.asset_record import AssetRecord
from randscene.manifests.spec import DatasetSpec, LayoutSpec

TRIALS = 16
"""Layouts of the smallest discs that are tried before a spec is called too tight."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AssetPool:
    """The assets that one kind of split may draw from, sorted by uid."""

    assets: tuple[AssetRecord, ...]
    tables: tuple[AssetRecord, ...]
    """Those of `assets` that have a supporting polygon."""

    @classmethod
    def of(cls, records: Iterable[AssetRecord]) -> "AssetPool":
        assets = tuple(records)
        tables = tuple(record for record in assets if record.support is not None and record.support.clearance > 0)
        return cls(assets=assets, tables=tables)


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
        fraction = spec.assets.held_out_fraction
        return cls(
            shared=AssetPool.of(record for record in usable if not is_held_out(record.geometry, fraction)),
            held_out=AssetPool.of(record for record in usable if is_held_out(record.geometry, fraction)),
        )


def is_held_out(geometry: str, fraction: float) -> bool:
    """Whether a shape belongs to the held-out share; a function of `AssetRecord.geometry`, so copies stay together."""
    number = int.from_bytes(hashlib.sha256(b"held out:" + geometry.encode()).digest()[:8], "big")
    return number < fraction * 2**64


def check_feasible(spec: DatasetSpec, pools: AssetPools) -> None:
    """Refuse a spec whose numbers these assets cannot meet, before any scene is planned.

    Raises
    ------
    SpecError
        With the setting, the number that is there and what to change.
    """
    rules = spec.layout
    if rules.objects[1] > MAX_INSTANCES:
        raise SpecError(f"layout.objects: ids are one byte, so a scene holds at most {MAX_INSTANCES} objects")
    for name, split in spec.splits.items():
        if split.scenes:
            _check_split(name, rules, pools, held_out=split.held_out_assets)


def _check_split(name: str, rules: LayoutSpec, pools: AssetPools, *, held_out: bool) -> None:
    pool = pools.held_out if held_out else pools.shared
    which = "held-out assets" if held_out else "assets that are not held out"
    counts = f"{len(pools.shared.assets)} usable assets are shared and {len(pools.held_out.assets)} held out"
    remedy = "add assets to the lock or change assets.held_out_fraction"
    if not pool.assets:
        raise SpecError(f"split {name} draws from {which}, of which there are none ({counts}): {remedy}")
    most = rules.objects[1]
    if most > len(pool.assets) and not rules.repeat_assets:
        raise SpecError(
            f"split {name}: layout.objects asks for up to {most} different assets in a scene, and there are "
            f"{len(pool.assets)} {which} ({counts}): {remedy}, lower layout.objects, or set layout.repeat_assets"
        )
    if rules.table_probability > 0 and not pool.tables:
        raise SpecError(
            f"split {name} needs a table, and none of its {len(pool.assets)} {which} can carry an object "
            f"({counts}): {remedy}, or set layout.table_probability to 0"
        )
    stacking = rules.table_probability > 0 and rules.stack_probability > 0
    if stacking and rules.layers > 1 and len(pool.tables) < 2 and not rules.repeat_assets:
        raise SpecError(
            f"split {name}: layout.layers of {rules.layers} needs two assets that can carry an object, and its "
            f"{len(pool.assets)} {which} have {len(pool.tables)} ({counts}): {remedy}, or set layout.layers to 1"
        )
    _check_room(name, rules, pool, discs=max(1, most - rules.layers * stacking))


def _check_room(name: str, rules: LayoutSpec, pool: AssetPool, *, discs: int) -> None:
    """Whether the most objects, each as small and as close as allowed, find room."""
    smallest = sorted(upright(asset).radius / max(asset.extents) * rules.scale[0] for asset in pool.assets)
    if rules.max_region is not None and 2 * smallest[-1] > rules.max_region:
        raise SpecError(
            f"split {name}: an object of the least size, layout.scale {rules.scale[0]:g} m, can be "
            f"{2 * smallest[-1]:.3g} m across, more than layout.max_region, {rules.max_region:g} m: change one of them"
        )
    radii = list(itertools.islice(itertools.cycle(smallest) if len(smallest) < discs else smallest, discs))
    gap = math.fsum(radii) / discs * rules.gap[0]
    for trial in range(TRIALS):
        try:
            poisson_disk(
                radii,
                gap,
                seeding.generator(trial, "room"),
                density=rules.density,
                tries=rules.tries,
                expansion=rules.expansion,
                max_expansions=rules.max_expansions,
                max_region=rules.max_region,
            )
            return
        except PlanError as error:
            reason = error
    raise SpecError(
        f"split {name}: even {discs} objects of the least size ({rules.scale[0]:g} m) with the least gap "
        f"({rules.gap[0]:g} mean radii) cannot be laid out: {reason}"
    )
