"""plan: from a dataset spec and an asset lock to scene recipes.

Upright poses need the lock's facts alone; only `layout.pose: so3` reads meshes, for their lowest vertex under any turn.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from randscene import seeding
from randscene.generator.arrangements import arrange
from randscene.generator.asset_pool import AssetPool, AssetPools
from randscene.generator.feasibility import check_feasible
from randscene.generator.framing import Subject, make_cameras
from randscene.generator.ground import make_ground
from randscene.generator.layout import lay_out
from randscene.generator.light_pictures import Picture, light_pictures
from randscene.generator.lighting import make_lights
from randscene.generator.recipe import RECIPE_VERSION, SceneRecipe
from randscene.manifests.asset_record import AssetRecord
from randscene.manifests.spec import DatasetSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanContext:
    """What planning derives once from a spec and a lock."""

    spec: DatasetSpec
    pools: AssetPools
    pictures: tuple[Picture, ...] = ()
    """For `lights.kind: hdri`: what lights the scenes, sorted by SHA-256."""

    @classmethod
    def of(
        cls, spec: DatasetSpec, lock: Iterable[AssetRecord], pictures: tuple[Picture, ...] | None = None
    ) -> "PlanContext":
        """Sort the lock's usable assets into pools, and check that the spec can be met with them.

        The folder that the lights ask for is listed, unless somebody has done so before: `pictures`.

        Raises
        ------
        SpecError
            If a split has too few assets to draw from, lacks tables that the layout asks for, the layout's numbers
            leave no room, or there are no pictures in the folder that the lights ask for.
        """
        pools = AssetPools.of(spec, lock)
        check_feasible(spec, pools)
        return cls(spec=spec, pools=pools, pictures=light_pictures(spec.lights) if pictures is None else pictures)

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

    arrangement, pool = spec.splits[split].arrangement, context.pool(split)
    if arrangement == "random":
        placed, facts = lay_out(spec.layout, pool, stream)
    else:
        placed, facts = arrange(arrangement, spec.layout, pool, stream)
    subject = Subject.of(placed)
    lights, background = make_lights(
        spec.lights,
        stream("lights"),
        look_at=subject.look_at,
        radius=subject.radius,
        extent=subject.extent,
        pictures=context.pictures,
    )
    return SceneRecipe(
        version=RECIPE_VERSION,
        scene=index,
        split=split,
        attempt=attempt,
        seed=spec.seed,
        instances=tuple(item.instance() for item in placed),
        lights=lights,
        background=background,
        look_at=subject.look_at,
        cameras=make_cameras(spec.cameras, stream("cameras"), subject),
        resolution=spec.render.resolution,
        layout=facts,
        ground=make_ground(spec.ground, stream),
    )
