"""plan: from a dataset spec and an asset lock to scene recipes. It reads the lock's facts alone, never a mesh."""

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from randscene import seeding
from randscene.errors import SpecError
from randscene.generator.cameras import directions, distance_for, look_at_matrices
from randscene.generator.lighting import make_lights
from randscene.generator.placement import PlacedAsset, bounding_radius, bounds
from randscene.generator.poisson_disk import DiscLayout, poisson_disk
from randscene.generator.recipe import (
    DECIMALS,
    MAX_INSTANCES,
    RECIPE_VERSION,
    Camera,
    LayoutFacts,
    SceneRecipe,
    Vector3,
)
from randscene.generator.stacking import half_diagonal, stack
from randscene.generator.trigonometry import cos_sin
from randscene.manifests.asset_record import AssetRecord
from randscene.manifests.spec import DatasetSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class AssetPool:
    """The assets that one kind of split may draw from, sorted by uid."""

    assets: tuple[AssetRecord, ...]
    tables: tuple[AssetRecord, ...]
    """Those of `assets` that have a supporting polygon."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanContext:
    """What planning derives once from a spec and a lock."""

    spec: DatasetSpec
    shared: AssetPool
    """For splits that do not ask for held-out assets."""
    held_out: AssetPool

    @classmethod
    def of(cls, spec: DatasetSpec, lock: Iterable[AssetRecord]) -> "PlanContext":
        """Sort the lock's usable assets into pools, and check that the spec can be met with them.

        Raises
        ------
        SpecError
            If a split has no assets to draw from, lacks tables that the layout asks for, or the layout asks for what
            this release cannot do.
        """
        usable = sorted(
            (record for record in lock if record.status == "ok" and half_diagonal(record) > 0),
            key=lambda record: (record.uid, record.sha256),
        )
        fraction = spec.assets.held_out_fraction
        context = cls(
            spec=spec,
            shared=_pool(record for record in usable if not is_held_out(record.geometry, fraction)),
            held_out=_pool(record for record in usable if is_held_out(record.geometry, fraction)),
        )
        context._check()
        return context

    def pool(self, split: str) -> AssetPool:
        """The assets that a split draws from."""
        return self.held_out if self.spec.splits[split].held_out_assets else self.shared

    def _check(self) -> None:
        layout = self.spec.layout
        if layout.pose == "so3":
            raise SpecError(
                "layout.pose: so3 needs each mesh's lowest vertex under any rotation, which an asset lock does not "
                "hold; use yaw in this release"
            )
        if layout.objects[1] > MAX_INSTANCES:
            raise SpecError(f"layout.objects: ids are one byte, so a scene holds at most {MAX_INSTANCES} objects")
        for name, split in self.spec.splits.items():
            if not split.scenes:
                continue
            pool = self.pool(name)
            which = "held-out assets" if split.held_out_assets else "assets that are not held out"
            counts = f"{len(self.shared.assets)} usable assets are shared and {len(self.held_out.assets)} held out"
            remedy = "add assets to the lock or change assets.held_out_fraction"
            if not pool.assets:
                raise SpecError(f"split {name} draws from {which}, of which there are none ({counts}): {remedy}")
            if layout.table_probability > 0 and not pool.tables:
                raise SpecError(
                    f"split {name} needs a table, and none of its {len(pool.assets)} {which} can carry an object "
                    f"({counts}): {remedy}, or set layout.table_probability to 0"
                )


def plan(spec: DatasetSpec, lock: Iterable[AssetRecord], indices: Iterable[int] | None = None) -> Iterator[SceneRecipe]:
    """Recipes of the first attempt at each scene.

    Parameters
    ----------
    spec : DatasetSpec
    lock : iterable of AssetRecord
        In any order; records whose status is not `ok` are left out.
    indices : iterable of int, optional
        Scene indices; all of the spec's by default. A recipe does not depend on which others are planned.

    Raises
    ------
    SpecError
        If the spec cannot be met with these assets, or an index belongs to no split.
    PlanError
        If a layout does not fit within its budget.
    """
    context = PlanContext.of(spec, lock)
    for index in spec.indices() if indices is None else indices:
        yield plan_scene(context, index)


def plan_scene(context: PlanContext, index: int, attempt: int = 0) -> SceneRecipe:
    """The recipe of one attempt at one scene.

    A pure function of the context, the index and the attempt; the spec's name and numbers of scenes play no part, so
    two datasets that differ only in size share the scenes that both have.

    Raises
    ------
    SpecError
        If the index belongs to no split.
    PlanError
        If the layout does not fit within its budget.
    """
    spec = context.spec
    split = spec.split_of(index)

    def stream(purpose: str) -> np.random.Generator:
        return seeding.generator(spec.seed, index, attempt, purpose)

    placed, facts = _lay_out(spec, context.pool(split), stream("assets"), stream("layout"))
    low, high = bounds(placed)
    look_at: Vector3 = (0.0, 0.0, round((low[2] + high[2]) / 2, DECIMALS))
    radius = bounding_radius(placed, look_at)
    lights, background = make_lights(
        spec.lights.kind,
        stream("lights"),
        look_at=look_at,
        radius=radius,
        extent=max(high[axis] - low[axis] for axis in range(3)),
    )
    towards = directions(spec.cameras.kind, spec.cameras.views, stream("cameras"))
    distance = distance_for(radius, spec.cameras.fov_deg, spec.cameras.margin)
    # Adding zero turns -0.0 into 0.0.
    matrices = np.round(look_at_matrices(towards, look_at, distance), DECIMALS) + 0.0
    return SceneRecipe(
        version=RECIPE_VERSION,
        scene=index,
        split=split,
        attempt=attempt,
        seed=spec.seed,
        instances=tuple(item.instance() for item in placed),
        lights=lights,
        background=background,
        look_at=look_at,
        cameras=tuple(
            Camera(camera_to_world=tuple(tuple(row) for row in matrix), fov_deg=spec.cameras.fov_deg)
            for matrix in matrices.tolist()
        ),
        resolution=spec.render.resolution,
        layout=facts,
    )


def is_held_out(geometry: str, fraction: float) -> bool:
    """Whether a shape belongs to the held-out share; a function of `AssetRecord.geometry`, so copies stay together."""
    number = int.from_bytes(hashlib.sha256(b"held out:" + geometry.encode()).digest()[:8], "big")
    return number < fraction * 2**64


def _pool(records: Iterable[AssetRecord]) -> AssetPool:
    assets = tuple(records)
    tables = tuple(record for record in assets if record.support is not None and record.support.clearance > 0)
    return AssetPool(assets=assets, tables=tables)


def _lay_out(
    spec: DatasetSpec, pool: AssetPool, choice: np.random.Generator, layout: np.random.Generator
) -> tuple[list[PlacedAsset], LayoutFacts]:
    """Draw the instances and stand them on the ground and the table; the scene's box is centred above the origin."""
    rules = spec.layout

    # Only random() is drawn anywhere: NumPy keeps no promise that its other methods stay the same between releases.
    def between(rng: np.random.Generator, low: float, high: float) -> float:
        return low + (high - low) * rng.random()

    def pick(records: Sequence[AssetRecord]) -> AssetRecord:
        return records[int(choice.random() * len(records))]

    def scale_of(record: AssetRecord, sizes: tuple[float, float]) -> float:
        return between(choice, *sizes) / max(record.extents)

    def turn() -> tuple[float, float]:
        return cos_sin(layout.random())

    count = rules.objects[0] + int(choice.random() * (rules.objects[1] - rules.objects[0] + 1))
    with_table = choice.random() < rules.table_probability
    with_stack = choice.random() < rules.stack_probability and with_table and count > 1
    fill = between(choice, *rules.stack_fill)
    discs: list[tuple[AssetRecord, float]] = []
    if with_table:
        table = pick(pool.tables)
        discs.append((table, scale_of(table, rules.table_scale)))
    stacked = pick(pool.assets) if with_stack else None
    while len(discs) + with_stack < count:
        record = pick(pool.assets)
        discs.append((record, scale_of(record, rules.scale)))

    radii = [round(scale * half_diagonal(record), DECIMALS) for record, scale in discs]
    gap = round(math.fsum(radii) / len(radii) * between(layout, *rules.gap), DECIMALS)
    drawn = poisson_disk(
        radii,
        gap,
        layout,
        leading=int(with_table),
        tries=rules.tries,
        expansion=rules.expansion,
        max_expansions=rules.max_expansions,
    )
    placed = [
        PlacedAsset(asset=record, scale=scale, turn=turn(), centre=(x, y), base=0.0, parent=None)
        for (record, scale), (x, y) in zip(discs, drawn.centres.tolist())
    ]
    if stacked is not None:
        # Ids follow the order of the list: the table is 1, what it carries is 2.
        placed.insert(1, _stacked(stacked, placed[0], turn(), fill=fill, largest=rules.scale[1]))
    placed = _centred(placed)
    return placed, _facts(placed, radii, gap, drawn)


def _stacked(
    asset: AssetRecord, table: PlacedAsset, turn: tuple[float, float], *, fill: float, largest: float
) -> PlacedAsset:
    assert table.asset.support is not None  # tables are drawn from assets that have one
    rest = stack(asset, table.asset, table.asset.support, table.scale, fill=fill, largest=largest)
    x, y = table.turned(*rest.offset)
    return PlacedAsset(
        asset=asset,
        scale=rest.scale,
        turn=turn,
        centre=(table.centre[0] + x, table.centre[1] + y),
        base=rest.height,
        parent=1,
    )


def _centred(placed: list[PlacedAsset]) -> list[PlacedAsset]:
    """Shift the scene so that its bounding box is centred above the origin."""
    low, high = bounds(placed)
    x, y = (round((low[axis] + high[axis]) / 2, DECIMALS) for axis in (0, 1))
    return [item.moved(-x, -y) for item in placed]


def _facts(placed: list[PlacedAsset], radii: list[float], gap: float, drawn: DiscLayout) -> LayoutFacts:
    on_ground = [(index, item) for index, item in enumerate(placed, start=1) if item.parent is None]
    return LayoutFacts(
        disc_instances=tuple(index for index, _ in on_ground),
        radii=tuple(radii),
        centres=tuple((round(item.centre[0], DECIMALS), round(item.centre[1], DECIMALS)) for _, item in on_ground),
        gap=gap,
        region=round(drawn.region, DECIMALS),
        expansions=drawn.expansions,
        tries=drawn.tries,
    )
