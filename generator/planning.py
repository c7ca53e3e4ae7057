"""plan: from a dataset spec and an asset lock to scene recipes.

Upright poses need the lock's facts alone; only `layout.pose: so3` reads meshes, for their lowest vertex under any turn.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from randscene import seeding
from randscene.generator.asset_pool import AssetPool, AssetPools, check_feasible
from randscene.generator.cameras import directions, distance_for, look_at_matrices
from randscene.generator.layout import lay_out
from randscene.generator.lighting import make_lights
from randscene.generator.placement import bounding_radius, bounds
from randscene.generator.recipe import DECIMALS, RECIPE_VERSION, Camera, SceneRecipe, Vector3
from randscene.manifests.asset_record import AssetRecord
from randscene.manifests.spec import DatasetSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanContext:
    """What planning derives once from a spec and a lock."""

    spec: DatasetSpec
    pools: AssetPools

    @classmethod
    def of(cls, spec: DatasetSpec, lock: Iterable[AssetRecord]) -> "PlanContext":
        """Sort the lock's usable assets into pools, and check that the spec can be met with them.

        Raises
        ------
        SpecError
            If a split has too few assets to draw from, lacks tables that the layout asks for, or the layout's numbers
            leave no room.
        """
        pools = AssetPools.of(spec, lock)
        check_feasible(spec, pools)
        return cls(spec=spec, pools=pools)

    def pool(self, split: str) -> AssetPool:
        """The assets that a split draws from."""
        return self.pools.held_out if self.spec.splits[split].held_out_assets else self.pools.shared


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

    placed, facts = lay_out(spec.layout, context.pool(split), stream)
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
