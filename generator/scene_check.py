"""All checks of one planned scene on its real meshes."""

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from randscene.errors import DatasetError
from randscene.generator.collision import penetration
from randscene.generator.collision_body import CollisionBody, PlacedBody
from randscene.generator.contact import overhang, rest_gap, support_margin
from randscene.generator.recipe import LayoutFacts, SceneRecipe
from randscene.manifests import AssetRecord
from randscene.manifests.spec_sections import VerifySpec

CHECKS = ("penetration", "floating", "sunk", "overhang", "disc_distance", "disc_cover")
"""What is checked, in the order of reports; see `check_scene`."""
DISC_SLACK = 1e-8
"""Metres: centres and radii in a recipe are rounded to 1e-9 m."""
COVER_SLACK = 1e-6
"""How far a vertex may lie outside its object's disc, over the radius."""
FAR = 1e9
"""Metres, in place of an infinite gap."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Violation:
    """One value beyond its tolerance."""

    check: str
    """One of `CHECKS`."""
    scene: int
    instances: tuple[int, ...]
    """Ids (1-based) of the one or two instances."""
    uids: tuple[str, ...]
    value: float
    """Metres. A penetration is an upper bound of its depth."""
    tolerance: float
    """Metres."""

    @property
    def ratio(self) -> float:
        """The value over its tolerance: the measure of how bad it is."""
        return self.value / self.tolerance


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceFacts:
    """What was measured of one instance. Lengths are in metres."""

    uid: str
    size: float
    """Largest extent of the asset at its scale."""
    layer: int
    """0 on the ground, 1 on an object on the ground, and so on."""
    carries: int
    """How many objects stand on it."""
    gap: float
    """Signed distance from its lowest point down to what carries it; negative when sunk."""
    overhang: float | None
    """Of a stacked object: how far its outline leaves the supporting polygon."""
    clearance: float | None
    """Of a stacked object: from its outline to the polygon's edge."""
    margin: float
    """From its centre of mass to the edge of its footing; negative when it would topple."""
    outline: tuple[tuple[float, float], ...]
    """Convex hull seen from above; empty unless the scene is to be drawn."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneCheck:
    """The outcome for one scene."""

    scene: int
    attempt: int
    instances: tuple[InstanceFacts, ...]
    violations: tuple[Violation, ...]
    pairs: int
    pairs_near: int
    """Pairs whose boxes come within the tolerance of one another: those that the exact test is for."""
    disc_ratios: tuple[float, ...]
    """Distance of the centres of each pair of discs over the sum of the radii."""
    density: float
    """Area of the discs over the area of the region."""
    layout: LayoutFacts


def check_scene(
    recipe: SceneRecipe,
    records: Mapping[str, AssetRecord],
    body_of: Callable[[str], CollisionBody],
    tolerances: VerifySpec,
    *,
    outlines: bool = False,
) -> SceneCheck:
    """Check one scene.

    * `penetration`: two meshes are deeper inside one another than the tolerance (see `collision.penetration`).
    * `floating`, `sunk`: the lowest point of an object on the ground is above or below it; the smallest gap between a
      stacked object and the surface below it is too large (see `contact.rest_gap`). A stacked object that is sunk
      penetrates what carries it.
    * `overhang`: the outline of a stacked object leaves the supporting polygon (see `contact.overhang`).
    * `disc_distance`: two discs are nearer than the sum of their radii and the gap.
    * `disc_cover`: a vertex of an object lies outside its disc.

    Parameters
    ----------
    recipe : SceneRecipe
    records : mapping of str to AssetRecord
        The lock by uid.
    body_of : callable
        Geometry of a uid.
    tolerances : VerifySpec
    outlines : bool
        Keep the outlines, which a drawing needs; they are kept of scenes with a violation in any case.

    Raises
    ------
    DatasetError
        If the recipe does not fit the lock or is not a scene.
    """
    _refuse_no_scene(recipe)
    placed = _place(recipe, records, body_of)
    measured = _Measured(recipe, placed, _parents(recipe, records), tolerances)
    near = measured.pairs()
    facts = measured.contacts(records)
    ratios = measured.discs()
    if outlines or measured.violations:
        facts = [replace(item, outline=_outline(body)) for item, body in zip(facts, placed)]
    layout = recipe.layout
    return SceneCheck(
        scene=recipe.scene,
        attempt=recipe.attempt,
        instances=tuple(facts),
        violations=tuple(measured.violations),
        pairs=len(placed) * (len(placed) - 1) // 2,
        pairs_near=near,
        disc_ratios=tuple(ratios),
        density=math.pi * math.fsum(radius**2 for radius in layout.radii) / layout.region**2,
        layout=layout,
    )


class _Measured:
    """The measures of one scene; what is beyond its tolerance is put on a list."""

    def __init__(
        self, recipe: SceneRecipe, placed: list[PlacedBody], parents: dict[int, list[int]], tolerances: VerifySpec
    ) -> None:
        self.violations: list[Violation] = []
        self._recipe = recipe
        self._placed = placed
        self._parents = parents
        self._tolerances = tolerances

    def pairs(self) -> int:
        """Test every pair of meshes; returns how many come near enough for the exact test."""
        near = 0
        for one, two in itertools.combinations(range(1, len(self._placed) + 1), 2):
            # The upper one of a stack is moved, so that moving it up is the first thing to try.
            top, base = (one, two) if two in self._parents[one] else (two, one)
            first, second = self._placed[top - 1], self._placed[base - 1]
            tolerance = self._tolerances.penetration * min(first.size, second.size)
            if not _near(first, second, tolerance):
                continue
            near += 1
            depth = penetration(first, second, tolerance, stands=base in self._parents[top])
            if depth is not None:
                self._demand("penetration", (one, two), depth, tolerance)
        return near

    def contacts(self, records: Mapping[str, AssetRecord]) -> list[InstanceFacts]:
        """Test how every instance stands on what carries it; returns what was measured, without outlines."""
        facts = []
        for number, (instance, body) in enumerate(zip(self._recipe.instances, self._placed), start=1):
            contact, outside, clearance = self._tolerances.contact * body.size, None, None
            if instance.support_parent is None:
                where: tuple[int, ...] = (number,)
                gap = body.lowest
                self._demand("sunk", where, -gap, contact)
            else:
                where = (number, instance.support_parent)
                carrier = self._placed[instance.support_parent - 1]
                gap = min(rest_gap(body, carrier, contact), FAR)
                support = records[self._recipe.instances[instance.support_parent - 1].uid].support
                assert support is not None  # seen to by _parents
                outside, clearance = overhang(body, carrier, support)
                self._demand("overhang", where, outside, self._tolerances.overhang * body.size)
            self._demand("floating", where, gap, contact)
            facts.append(
                InstanceFacts(
                    uid=instance.uid,
                    size=body.size,
                    layer=len(self._parents[number]),
                    carries=sum(other.support_parent == number for other in self._recipe.instances),
                    gap=gap,
                    overhang=outside,
                    clearance=clearance,
                    margin=support_margin(body, contact),
                    outline=(),
                )
            )
        return facts

    def discs(self) -> list[float]:
        """Test the discs; returns the distance of each pair over the sum of its radii."""
        layout = self._recipe.layout
        owned = list(zip(layout.disc_instances, layout.radii, layout.centres))
        ratios = []
        for (i, radius_i, centre_i), (j, radius_j, centre_j) in itertools.combinations(owned, 2):
            distance = math.dist(centre_i, centre_j)
            ratios.append(distance / (radius_i + radius_j))
            self._demand("disc_distance", (i, j), radius_i + radius_j + layout.gap - distance, DISC_SLACK)
        for number, radius, centre in owned:
            reach = float(np.linalg.norm(self._placed[number - 1].hull[:, :2] - centre, axis=1).max())
            self._demand("disc_cover", (number,), reach - radius, COVER_SLACK * radius)
        return ratios

    def _demand(self, check: str, ids: tuple[int, ...], value: float, tolerance: float) -> None:
        if value > tolerance:
            self.violations.append(
                Violation(
                    check=check,
                    scene=self._recipe.scene,
                    instances=ids,
                    uids=tuple(self._recipe.instances[i - 1].uid for i in ids),
                    value=min(value, FAR),
                    tolerance=tolerance,
                )
            )


def _near(first: PlacedBody, second: PlacedBody, reach: float) -> bool:
    return bool(
        (first.bounds[0] - reach <= second.bounds[1]).all() and (first.bounds[1] + reach >= second.bounds[0]).all()
    )


def _refuse_no_scene(recipe: SceneRecipe) -> None:
    """A check must not pass because a number is missing or is none."""
    layout, count = recipe.layout, len(recipe.instances)
    numbers = [*layout.radii, layout.gap, layout.region, *itertools.chain(*layout.centres)]
    whole = (
        count > 0
        and len(layout.disc_instances) == len(layout.radii) == len(layout.centres)
        and len(set(layout.disc_instances)) == len(layout.disc_instances)
        and all(number in range(1, count + 1) for number in layout.disc_instances)
        and all(map(math.isfinite, numbers))
        and min([layout.region, *layout.radii]) > 0
    )
    if not whole:
        raise DatasetError(f"scene {recipe.scene}: its layout is not one of its instances; plan the scenes again")


def _place(
    recipe: SceneRecipe, records: Mapping[str, AssetRecord], body_of: Callable[[str], CollisionBody]
) -> list[PlacedBody]:
    placed = []
    for number, instance in enumerate(recipe.instances, start=1):
        where = f"scene {recipe.scene}, instance {number}"
        record = records.get(instance.uid)
        if record is None or record.sha256 != instance.sha256:
            how = "is not in the asset lock" if record is None else "has another sha256 in the asset lock"
            raise DatasetError(f"{where}: asset {instance.uid} {how}: use the lock that the scenes were planned with")
        try:
            placed.append(PlacedBody(body_of(instance.uid), np.array(instance.pose, np.float64)))
        except ValueError as error:
            raise DatasetError(f"{where}: {error}; plan the scenes again") from error
    return placed


def _parents(recipe: SceneRecipe, records: Mapping[str, AssetRecord]) -> dict[int, list[int]]:
    """Ids of what an instance stands on, directly or through others, from the nearest down; by its own id."""
    chains: dict[int, list[int]] = {}
    for number, instance in enumerate(recipe.instances, start=1):
        chain: list[int] = []
        parent = instance.support_parent
        while parent is not None:
            if not 1 <= parent <= len(recipe.instances) or parent == number or parent in chain:
                raise DatasetError(
                    f"scene {recipe.scene}, instance {number}: stands on {parent}, which is none of the other "
                    "instances or stands on it in turn; plan the scenes again"
                )
            if records[recipe.instances[parent - 1].uid].support is None:
                raise DatasetError(
                    f"scene {recipe.scene}, instance {number}: stands on instance {parent}, to which the asset lock "
                    "gives no supporting polygon: use the lock that the scenes were planned with"
                )
            chain.append(parent)
            parent = recipe.instances[parent - 1].support_parent
        chains[number] = chain
    return chains


def _outline(body: PlacedBody) -> tuple[tuple[float, float], ...]:
    import shapely

    hull = shapely.convex_hull(shapely.multipoints(body.hull[:, :2]))
    corners = shapely.get_coordinates(hull)
    # A polygon ends where it began; what stands upright without a width has a line in its place.
    return tuple((float(x), float(y)) for x, y in (corners[:-1] if hull.geom_type == "Polygon" else corners))
