"""Whether the numbers of a spec can be met with the assets there are, before any scene is planned."""

import itertools
import math

from randscene import seeding
from randscene.errors import PlanError, SpecError
from randscene.generator.arrangements import ARRANGEMENTS
from randscene.generator.arrangements.chooser import cut_range
from randscene.generator.asset_pool import AssetPool, AssetPools
from randscene.generator.poisson_disk import poisson_disk
from randscene.generator.posture import upright
from randscene.generator.recipe import MAX_INSTANCES
from randscene.manifests.spec import DatasetSpec
from randscene.manifests.spec_sections import LayoutSpec, SplitSpec

TRIALS = 16
"""Layouts of the smallest discs that are tried before a spec is called too tight."""


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
            _check_split(name, split, rules, pools, spec.assets.kinds)


def _check_split(name: str, split: SplitSpec, rules: LayoutSpec, pools: AssetPools, kinds: int | None) -> None:
    pool = pools.held_out if split.held_out_assets else pools.shared
    which = "held-out assets" if split.held_out_assets else "assets that are not held out"
    counts = f"{len(pools.shared.assets)} usable assets are shared and {len(pools.held_out.assets)} held out"
    direction = "raise" if split.held_out_assets else "lower"
    remedy = f"add assets to the lock (`randscene assets merge`) or {direction} assets.held_out_fraction"
    if kinds is not None:
        remedy += f" or assets.kinds, which is {kinds}"
    if not pool.assets:
        raise SpecError(f"split {name} draws from {which}, of which there are none ({counts}): {remedy}")
    if split.arrangement != "random":
        _check_arrangement(name, split.arrangement, rules, pool, f"{which} ({counts}): {remedy}")
        return
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


def _check_arrangement(name: str, arrangement: str, rules: LayoutSpec, pool: AssetPool, remedy: str) -> None:
    needs = ARRANGEMENTS[arrangement]
    where = f"split {name}: arrangement {arrangement}"
    if rules.pose != "yaw":
        raise SpecError(f"{where} stands its objects upright: set layout.pose to yaw, not {rules.pose}")
    low, high = cut_range(needs.objects, rules.objects)
    if low > high:
        raise SpecError(
            f"{where} has {needs.objects[0]} to {needs.objects[1]} objects, and layout.objects asks for "
            f"{rules.objects[0]} to {rules.objects[1]}: change it so that the two overlap"
        )
    carriers = needs.carriers if not rules.repeat_assets else min(needs.carriers, 1)
    if len(pool.carriers) < carriers:
        wanted = "an asset" if carriers == 1 else f"{carriers} assets"
        raise SpecError(
            f"{where} needs {wanted} with a wide support surface, and there are {len(pool.carriers)} among "
            f"{len(pool.assets)} {remedy}"
        )
    kinds = high if needs.kinds is None else min(high, needs.kinds)
    if len(pool.assets) < kinds and not rules.repeat_assets:
        raise SpecError(
            f"{where} takes up to {kinds} different assets in a scene, and there are {len(pool.assets)} {remedy}, "
            "lower layout.objects, or set layout.repeat_assets"
        )


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
