"""The layout of one scene: which assets, how large, how turned, and where they stand (I-Scene, section 3.2)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from randscene.generator.asset_pool import AssetPool
from randscene.generator.placement import PlacedAsset, bounds
from randscene.generator.poisson_disk import DiscLayout, poisson_disk
from randscene.generator.posture import Posture, random_rotation, turned, upright
from randscene.generator.recipe import DECIMALS, LayoutFacts
from randscene.generator.stacking import stack
from randscene.generator.trigonometry import cos_sin
from randscene.manifests.asset_record import AssetRecord
from randscene.manifests.spec_sections import LayoutSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class _Choice:
    """What a scene is made of, before anything has a place."""

    ground: list[tuple[AssetRecord, float]]
    """Assets with their scales, metres an own unit; a table comes first."""
    stacked: list[AssetRecord]
    """On the table, from the lowest up."""
    fills: list[float]
    """For each stacked asset: its radius over the room that it has."""
    with_table: bool


def lay_out(
    rules: LayoutSpec, pool: AssetPool, stream: Callable[[str], np.random.Generator]
) -> tuple[list[PlacedAsset], LayoutFacts]:
    """Draw the instances and stand them on the ground and on one another.

    Parameters
    ----------
    rules : LayoutSpec
    pool : AssetPool
        What may be drawn; `check_feasible` must have accepted it.
    stream : callable
        From a purpose to its own generator; only `random()` of each is used, since NumPy keeps no promise that its
        other methods stay the same between releases.

    Returns
    -------
    placed : list of PlacedAsset
        In id order: a table is 1, what it carries comes next, from the lowest up. The scene's box is centred above the
        origin.
    facts : LayoutFacts

    Raises
    ------
    PlanError
        If the discs do not fit within their budget.
    """
    choice = _choose(rules, pool, stream("assets"))
    layout = stream("layout")
    pose = stream("pose")

    def posture(asset: AssetRecord, *, carries: bool) -> Posture:
        if rules.pose == "yaw" or carries:
            return upright(asset)
        return turned(asset, random_rotation(pose))

    postures = [
        posture(asset, carries=index == 0 and bool(choice.stacked)) for index, (asset, _) in enumerate(choice.ground)
    ]
    radii = [round(scale * item.radius, DECIMALS) for (_, scale), item in zip(choice.ground, postures)]
    gap = round(math.fsum(radii) / len(radii) * _between(layout, *rules.gap), DECIMALS)
    drawn = poisson_disk(
        radii,
        gap,
        layout,
        leading=int(choice.with_table),
        density=rules.density,
        tries=rules.tries,
        expansion=rules.expansion,
        max_expansions=rules.max_expansions,
        max_region=rules.max_region,
    )
    placed = [
        PlacedAsset(
            asset=asset, posture=item, scale=scale, turn=cos_sin(layout.random()), centre=(x, y), base=0.0, parent=None
        )
        for (asset, scale), item, (x, y) in zip(choice.ground, postures, drawn.centres.tolist())
    ]
    for layer, (asset, fill) in enumerate(zip(choice.stacked, choice.fills), start=1):
        above = stack(
            asset,
            posture(asset, carries=layer < len(choice.stacked)),
            cos_sin(layout.random()),
            placed[layer - 1],
            parent=layer,
            fill=fill,
            largest=rules.scale[1],
        )
        placed.insert(layer, above)
    placed = centred(placed)
    return placed, disc_facts(placed, radii, gap, drawn)


def _choose(rules: LayoutSpec, pool: AssetPool, rng: np.random.Generator) -> _Choice:
    used: set[str] = set()

    def pick(records: Sequence[AssetRecord]) -> AssetRecord:
        while True:
            record = records[int(rng.random() * len(records))]
            if rules.repeat_assets or record.uid not in used:
                used.add(record.uid)
                return record

    def sized(record: AssetRecord, sizes: tuple[float, float]) -> tuple[AssetRecord, float]:
        return record, _between(rng, *sizes) / max(record.extents)

    count = rules.objects[0] + int(rng.random() * (rules.objects[1] - rules.objects[0] + 1))
    with_table = rng.random() < rules.table_probability
    layers = 0
    fills = []
    # What one scene does not need is drawn all the same, so that a change of one setting moves as little as it can.
    for layer in range(1, rules.layers + 1):
        more = rng.random() < rules.stack_probability
        fills.append(_between(rng, *rules.stack_fill))
        if more and with_table and layers == layer - 1 and count > layer:
            layers = layer
    ground = [sized(pick(pool.tables), rules.table_scale)] if with_table else []
    stacked = [pick(pool.tables if layer < layers else pool.assets) for layer in range(1, layers + 1)]
    while len(ground) + len(stacked) < count:
        ground.append(sized(pick(pool.assets), rules.scale))
    return _Choice(ground=ground, stacked=stacked, fills=fills[:layers], with_table=with_table)


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    return low + (high - low) * rng.random()


def centred(placed: list[PlacedAsset]) -> list[PlacedAsset]:
    """The scene shifted so that its bounding box is centred above the origin."""
    low, high = bounds(placed)
    x, y = (round((low[axis] + high[axis]) / 2, DECIMALS) for axis in (0, 1))
    return [item.moved(-x, -y) for item in placed]


def disc_facts(placed: list[PlacedAsset], radii: list[float], gap: float, drawn: DiscLayout) -> LayoutFacts:
    """Facts of a layout in which every instance on the ground owns a disc; `radii` are in their order, metres."""
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
