"""Arrangements: structured layouts, each a category that a split can be made of (`SplitSpec.arrangement`).

Every one is a pure function of (rules, pool, streams), as `layout.lay_out` is for `random`: only `random()` of the
streams is used, and arithmetic whose rounding IEEE 754 fixes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from randscene.errors import PlanError
from randscene.generator.arrangements import behind, identical, outdoor, ring, rooms, row, small_on_large
from randscene.generator.arrangements.chooser import Chooser
from randscene.generator.arrangements.outcome import Outcome
from randscene.generator.arrangements.scattered import Scattered
from randscene.generator.asset_pool import AssetPool
from randscene.generator.placement import PlacedAsset
from randscene.generator.recipe import LayoutFacts
from randscene.manifests.spec_sections import LayoutSpec

__all__ = ["ARRANGEMENTS", "Arrangement", "arrange"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrangement:
    """One category of scenes, and what it needs of a pool."""

    lay_out: Callable[[Chooser, np.random.Generator], Outcome | Scattered]
    """From what draws assets and sizes, and the stream of places; PlanError where the objects find no room."""
    objects: tuple[int, int]
    """Its own range of the number of objects; `layout.objects` cuts it."""
    carriers: int = 0
    """Different assets with a support surface that a scene may need."""
    kinds: int | None = None
    """Most different assets in a scene; None for as many as objects."""


ARRANGEMENTS: Mapping[str, Arrangement] = MappingProxyType(
    {
        "around_table": Arrangement(lay_out=ring.around_table, objects=ring.OBJECTS, carriers=1),
        "row": Arrangement(lay_out=row.row, objects=row.OBJECTS),
        "small_on_large": Arrangement(
            lay_out=small_on_large.small_on_large, objects=small_on_large.OBJECTS, carriers=small_on_large.CARRIERS
        ),
        "behind": Arrangement(lay_out=behind.behind, objects=behind.OBJECTS),
        "identical": Arrangement(lay_out=identical.identical, objects=identical.OBJECTS, kinds=2),
        "outdoor": Arrangement(lay_out=outdoor.outdoor, objects=outdoor.OBJECTS),
        "rooms": Arrangement(lay_out=rooms.rooms, objects=rooms.OBJECTS, carriers=1),
    }
)
"""By the name in a spec; `random` is not among them (see `layout.lay_out`)."""


def arrange(
    name: str, rules: LayoutSpec, pool: AssetPool, stream: Callable[[str], np.random.Generator]
) -> tuple[list[PlacedAsset], LayoutFacts]:
    """Draw and place the instances of one structured scene.

    Parameters
    ----------
    name : str
        A key of `ARRANGEMENTS`.
    rules : LayoutSpec
    pool : AssetPool
        What may be drawn; `check_feasible` must have accepted it.
    stream : callable
        From a purpose to its own generator.

    Returns
    -------
    placed : list of PlacedAsset
        In id order, the scene's box centred above the origin.
    facts : LayoutFacts
        Without discs where rectangles kept the objects apart: `region` is then the side of the square that holds them.

    Raises
    ------
    PlanError
        If the objects do not fit within their budget.
    """
    placed, facts = ARRANGEMENTS[name].lay_out(Chooser(rules, pool, stream("assets")), stream("layout")).scene()
    if rules.max_region is not None and facts.region > rules.max_region:
        raise PlanError(
            f"arrangement {name} is {facts.region:.3g} m wide, more than layout.max_region, {rules.max_region:g} m: "
            "raise that, or lower layout.objects or layout.scale"
        )
    return placed, facts
