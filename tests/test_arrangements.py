"""Arrangements: objects that never meet, categories that have what names them, the same bytes everywhere."""

import dataclasses
import hashlib
import itertools
import math
import os
import subprocess
import sys
import typing
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import Point, Polygon

from randscene.errors import PlanError, SpecError
from randscene.generator.arrangements import ARRANGEMENTS, behind, identical, outdoor, ring, rooms, row, small_on_large
from randscene.generator.arrangements.chooser import Chooser, power_of_two, standing
from randscene.generator.arrangements.footprint import Footprint
from randscene.generator.arrangements.tabletop import Topping, clearance_at, stand_on
from randscene.generator.asset_pool import WIDE, AssetPool, AssetPools
from randscene.generator.layout_report import write_report
from randscene.generator.plan_folder import write_plan
from randscene.generator.planning import PlanContext, plan, plan_scene
from randscene.generator.recipe import SceneRecipe, recipe_from_json
from randscene.generator.verification import verify
from randscene.generator.view_centric import apply_transform
from randscene.manifests import AssetRecord, Support, load_spec, parse_spec, preset_names
from randscene.manifests.spec import DatasetSpec
from randscene.manifests.spec_sections import LayoutSpec, SplitSpec

NAMES = sorted(ARRANGEMENTS)
FIRST = {name: 1000 * number for number, name in enumerate(NAMES)}
# An L, whose centroid is near its inner corner: the anchor lies in the upright arm.
L_SHAPE = ((0.0, 0.0), (8.0, 0.0), (8.0, 3.0), (3.0, 3.0), (3.0, 6.0), (0.0, 6.0))
HOLE = ((5.0, 1.0), (5.5, 1.0), (5.5, 2.0), (5.0, 2.0))


def record(number: int, extents: tuple[float, float, float], support: Support | None = None) -> AssetRecord:
    return AssetRecord(
        uid=f"asset-{number:03d}",
        source="procedural",
        locator=f"{number}.glb",
        sha256=hashlib.sha256(str(number).encode()).hexdigest(),
        geometry=hashlib.sha256(f"mesh {number}".encode()).hexdigest()[:32],
        licence="CC0-1.0",
        attribution="",
        up_axis="Y",
        extents=extents,
        bounds_min=(-0.3 * extents[0], 0.1 * extents[1], -0.7 * extents[2]),
        n_faces=12,
        has_texture=False,
        category="",
        support=support,
        status="ok",
    )


def carrier(number: int, width: float, depth: float, height: float) -> AssetRecord:
    """An L-shaped table with a hole, below a rim."""
    left, front, bottom = record(number, (width, depth, height)).bounds_min

    def here(ring: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
        return tuple((left + width * x / 8, front + depth * y / 6) for x, y in ring)

    region = Polygon(here(L_SHAPE), [here(HOLE)])
    anchor = here(((1.5, 4.5),))[0]
    support = Support(
        height=bottom + 0.9 * height,
        area=region.area,
        clearance=region.boundary.distance(Point(anchor)),
        anchor=anchor,
        polygon=here(L_SHAPE),
        holes=(here(HOLE),),
    )
    return record(number, (width, depth, height), support)


def make_lock() -> list[AssetRecord]:
    """100 boxes of any proportion and unit, 24 carriers of which some are too narrow for several objects."""
    rng = np.random.default_rng(5)
    lock = []
    for number in range(100):
        lock.append(record(number, tuple(float(v) for v in rng.uniform(0.05, 1.0, 3) * 10.0 ** rng.integers(-2, 3))))
    for number in range(100, 124):
        lock.append(carrier(number, *(float(v) for v in rng.uniform(0.5, 1.5, 3))))
    return lock


LOCK = make_lock()
BY_UID = {item.uid: item for item in LOCK}
CARRIERS = {item.uid for item in AssetPool.of(LOCK).carriers}


def make_spec(seed: int = 0, scenes: int = 1000, arrangements: list[str] = NAMES, **layout: object) -> DatasetSpec:
    return parse_spec(
        {
            "name": "arrangements",
            "seed": seed,
            "splits": {name: {"first": FIRST[name], "scenes": scenes, "arrangement": name} for name in arrangements},
            "cameras": {"views": 1, "kind": "front"},
            "layout": layout,
        },
        where="test",
    )


CONTEXT = PlanContext.of(make_spec(), LOCK)


def scenes(name: str, count: int = 60) -> list[SceneRecipe]:
    return [plan_scene(CONTEXT, FIRST[name] + number) for number in range(count)]


def corners(recipe: SceneRecipe, position: int) -> np.ndarray:
    """(8, 3) corners of an instance's turned bounding box, metres, world."""
    instance = recipe.instances[position]
    asset = BY_UID[instance.uid]
    local = [
        [low + side * extent for low, side, extent in zip(asset.bounds_min, sides, asset.extents)]
        for sides in itertools.product((0, 1), repeat=3)
    ]
    return apply_transform(np.asarray(instance.pose), np.asarray(local))


def outline(recipe: SceneRecipe, position: int) -> Polygon:
    return Polygon(corners(recipe, position)[:, :2]).convex_hull


def middle(recipe: SceneRecipe, position: int) -> np.ndarray:
    return corners(recipe, position)[:, :2].mean(axis=0)


def size(recipe: SceneRecipe, position: int) -> float:
    instance = recipe.instances[position]
    return instance.scale * max(BY_UID[instance.uid].extents)


def on_ground(recipe: SceneRecipe) -> list[int]:
    return [position for position, item in enumerate(recipe.instances) if item.support_parent is None]


def yaw_deg(recipe: SceneRecipe, position: int) -> float:
    pose = np.asarray(recipe.instances[position].pose)
    return math.degrees(math.atan2(pose[1, 0], pose[0, 0]))


def off(angle: float, step: float = 360.0) -> float:
    """Distance of an angle from the nearest multiple of `step`, degrees."""
    return abs((angle + step / 2) % step - step / 2)


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(NAMES), seed=st.integers(0, 2**32 - 1), attempt=st.integers(0, 3))
def test_no_two_objects_meet_and_all_stand_on_the_ground_or_inside_a_support(name, seed, attempt):
    context = dataclasses.replace(CONTEXT, spec=CONTEXT.spec.model_copy(update={"seed": seed}))
    recipe = plan_scene(context, FIRST[name], attempt)
    low, high = ARRANGEMENTS[name].objects
    assert low <= len(recipe.instances) <= high and recipe.split == name
    ground = on_ground(recipe)
    prints = {position: outline(recipe, position) for position in range(len(recipe.instances))}
    for a, b in itertools.combinations(ground, 2):
        assert prints[a].intersection(prints[b]).area == 0
    for position, item in enumerate(recipe.instances):
        bottom = corners(recipe, position)[:, 2].min()
        if item.support_parent is None:
            assert bottom == pytest.approx(0, abs=2e-9)
            continue
        below = recipe.instances[item.support_parent - 1]
        support = BY_UID[below.uid].support
        assert recipe.instances[item.support_parent - 1].support_parent is None

        def world(ring, below=below, support=support):
            return apply_transform(np.asarray(below.pose), np.array([[*point, support.height] for point in ring]))

        region = Polygon(world(support.polygon)[:, :2], [world(hole)[:, :2] for hole in support.holes])
        # Within the circle that holds it at any yaw, so within the polygon and off its hole.
        assert region.contains(prints[position])
        assert bottom == pytest.approx(world(support.polygon)[0, 2], abs=2e-9)
        others = [
            other
            for other, thing in enumerate(recipe.instances)
            if thing.support_parent == item.support_parent and other != position
        ]
        assert all(prints[position].distance(prints[other]) > 0 for other in others)
    everything = np.concatenate([corners(recipe, position) for position in range(len(recipe.instances))])
    assert everything[:, :2].min(axis=0) + everything[:, :2].max(axis=0) == pytest.approx(0, abs=1e-8)
    facts = recipe.layout
    assert facts.region > 0 and facts.tries > 0
    if facts.disc_instances:
        assert [number - 1 for number in facts.disc_instances] == ground
    else:
        assert facts.radii == facts.centres == () and facts.gap == 0
        assert facts.region == pytest.approx(np.ptp(everything[:, :2], axis=0).max(), abs=1e-8)
    assert recipe_from_json(recipe.to_json()) == recipe


# Whoever changes this number changes every dataset with such splits.
FROZEN = "70d4f09c4fdecbdf01ad444a0169d2da6528886cb35d344fa5bb98c8e284ff2d"


def frozen_digest() -> str:
    """SHA-256 of recipes of all arrangements."""
    made = plan(CONTEXT.spec, LOCK, [FIRST[name] + number for number in range(8) for name in NAMES])
    return hashlib.sha256("\n".join(recipe.to_json() for recipe in made).encode()).hexdigest()


def test_recipes_have_the_same_bytes_in_every_release():
    assert frozen_digest() == FROZEN


# What differs between machines: hash seeds, and the vector units that NumPy and its linear algebra find.
OTHER_MACHINES = [
    {"PYTHONHASHSEED": "1"},
    {"PYTHONHASHSEED": "2", "OPENBLAS_CORETYPE": "Nehalem", "NPY_DISABLE_CPU_FEATURES": "FMA3 AVX2 AVX512F AVX512_SKX"},
]


@pytest.mark.parametrize("machine", OTHER_MACHINES)
def test_recipes_have_the_same_bytes_on_another_machine_and_in_any_order(machine):
    indices = [FIRST[name] + number for name in NAMES for number in (0, 7)]
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_arrangements as t\n"
        f"made = t.plan(t.CONTEXT.spec, t.LOCK[::-1], {indices[::-1]})\n"
        "sys.stdout.write('\\n'.join(r.to_json() for r in made))"
    )
    other = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent)],
        env={**os.environ, **machine},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert other.split("\n")[::-1] == [plan_scene(CONTEXT, index).to_json() for index in indices]


def test_what_stands_around_a_table_faces_it_and_is_of_like_size():
    counts, topped = set(), 0
    for recipe in scenes("around_table"):
        table, *others = on_ground(recipe)
        above = [item for item in recipe.instances if item.support_parent is not None]
        assert table == 0 and recipe.instances[0].uid in CARRIERS
        assert all(item.support_parent == 1 for item in above) and len(above) <= 1
        topped += len(above)
        counts.add(len(others))
        angles = []
        for position in others:
            towards = middle(recipe, 0) - middle(recipe, position)
            front = np.asarray(recipe.instances[position].pose)[:2, 1] * -1
            turn = math.degrees(math.atan2(*towards[::-1]) - math.atan2(*front[::-1]))
            assert off(turn) <= ring.FACING_JITTER_DEG + 1e-6
            angles.append(math.degrees(math.atan2(*towards[::-1])))
        gaps = np.diff(sorted(angles), append=min(angles) + 360)
        assert gaps == pytest.approx(np.full(len(others), 360 / len(others)), rel=0.3)
        sizes = [size(recipe, position) for position in others]
        assert max(sizes) <= 1.25 * min(sizes) and max(sizes) < size(recipe, 0)
    assert counts == {2, 3, 4, 5, 6} and 10 < topped < 50


def test_rows_are_straight_even_and_turned_alike():
    rows = set()
    for recipe in scenes("row"):
        count = len(recipe.instances)
        points = np.array([middle(recipe, position) for position in range(count)])
        steps = np.diff(points, axis=0)
        # A second row starts where the step goes back.
        breaks = [index + 1 for index, step in enumerate(steps) if step @ steps[0] < 0]
        assert len(breaks) <= 1 and (count <= row.LONGEST or breaks)
        rows.add(1 + len(breaks))
        lines = [line for line in np.split(points, breaks) if len(line) > 1]
        direction = lines[0][1] - lines[0][0]
        assert off(math.degrees(math.atan2(*direction[::-1]))) <= row.HEADING_DEG + 1e-6
        for line in lines:
            assert np.abs(np.diff(line, axis=0) - direction).max() < 1e-8
        yaws = [yaw_deg(recipe, position) for position in range(count)]
        assert max(off(yaw - yaws[0]) for yaw in yaws) <= 2 * row.YAW_JITTER_DEG + 1e-6
    assert rows == {1, 2}


def test_small_objects_all_stand_on_carriers():
    loads, carriers = set(), set()
    for recipe in scenes("small_on_large"):
        parents = [item.support_parent for item in recipe.instances]
        large = on_ground(recipe)
        assert all(recipe.instances[position].uid in CARRIERS for position in large)
        for position in large:
            load = [other for other, parent in enumerate(parents) if parent == position + 1]
            assert all(size(recipe, other) <= size(recipe, position) / 2 + 1e-9 for other in load)
            loads.add(len(load))
        carriers.add(len(large))
    assert loads == set(range(1, small_on_large.ON_EACH + 1))
    assert carriers == set(range(1, small_on_large.CARRIERS + 1))


def test_what_is_behind_is_no_larger_partly_covered_and_never_alone_in_front():
    seen = 0
    for recipe in scenes("behind"):
        boxes = [(corners(recipe, i).min(axis=0), corners(recipe, i).max(axis=0)) for i in range(len(recipe.instances))]
        # Groups come one after the other: a front object, then one behind it; the last may have two.
        count = len(boxes)
        fronts = list(range(0, count - count % 2, 2))
        for position in range(count):
            if position in fronts:
                continue
            front = fronts[min(position // 2, len(fronts) - 1)]
            (low, high), (low_f, high_f) = boxes[position], boxes[front]
            assert low[1] > high_f[1]
            assert behind.SIZE[0] - 1e-9 <= size(recipe, position) / size(recipe, front) <= behind.SIZE[1] + 1e-9
            covered = min(high[0], high_f[0]) - max(low[0], low_f[0])
            share = covered / min(high[0] - low[0], high_f[0] - low_f[0])
            assert behind.COVERED[0] - 1e-6 <= share <= behind.COVERED[1] + 1e-6
            # Something of it is beside the front object, so it can be seen.
            assert low[0] < low_f[0] or high[0] > high_f[0]
            seen += 1
    assert seen > 100


def test_identical_objects_are_one_or_two_assets_of_one_size_at_clearly_different_places():
    kinds, regular = [], 0
    for recipe in scenes("identical"):
        uids = [item.uid for item in recipe.instances]
        kinds.append(len(set(uids)))
        assert all(uids.count(uid) >= 2 for uid in uids)
        for a, b in itertools.combinations(range(len(uids)), 2):
            if uids[a] == uids[b]:
                assert recipe.instances[a].scale == recipe.instances[b].scale
            width, depth, _ = BY_UID[uids[a]].extents
            apart = np.linalg.norm(middle(recipe, a) - middle(recipe, b))
            assert apart >= min(width, depth) * recipe.instances[a].scale
        regular += not recipe.layout.disc_instances
    assert set(kinds) == {1, 2} and kinds.count(1) > kinds.count(2) and 15 < regular < 45
    assert identical.OBJECTS == (3, 8)


def test_outdoor_sizes_are_log_uniform_over_an_order_of_magnitude():
    sizes = np.array([size(recipe, i) for recipe in scenes("outdoor", 200) for i in range(len(recipe.instances))])
    low, high = outdoor.SIZE
    assert low <= sizes.min() and sizes.max() <= high and sizes.max() / sizes.min() > 10
    quarters = np.histogram(np.log(sizes), np.linspace(math.log(low), math.log(high), 5))[0] / len(sizes)
    assert quarters == pytest.approx(np.full(4, 0.25), abs=0.04)


def test_rooms_have_furniture_with_its_back_to_a_wall_and_seats_that_face_a_table():
    stacked = walls = 0
    sides = set()
    for recipe in scenes("rooms"):
        stacked += sum(item.support_parent is not None for item in recipe.instances)
        ground = on_ground(recipe)
        square = [position for position in ground if off(yaw_deg(recipe, position), 90) < 1e-6]
        turned = [position for position in ground if position not in square]
        # The table comes right before its seats, whose fronts differ from a quarter turn by their jitter.
        first = min(turned)
        table, seats = first - 1, range(first, max(turned) + 1)
        assert 2 <= len(seats) <= 4 and recipe.instances[table].uid in CARRIERS
        for position in seats:
            towards = middle(recipe, table) - middle(recipe, position)
            front = np.asarray(recipe.instances[position].pose)[:2, 1] * -1
            turn = math.degrees(math.atan2(*towards[::-1]) - math.atan2(*front[::-1]))
            assert off(turn) <= ring.FACING_JITTER_DEG + 1e-6
        against = [position for position in ground if position != table and position not in seats]
        assert len(against) >= 2
        everything = np.concatenate([corners(recipe, position) for position in ground])[:, :2]
        for position in against:
            walls += 1
            assert position in square
            back = np.round(np.asarray(recipe.instances[position].pose)[:2, 1] / recipe.instances[position].scale)
            sides.add(tuple(back.tolist()))
            # Nothing reaches farther towards its wall than its back does, but for the play that backs have.
            reach = (corners(recipe, position)[:, :2] @ back).max()
            assert reach >= (everything @ back).max() - rooms.OFF_WALL - 1e-8
    assert stacked > 60 and walls > 150 and sides == {(0.0, 1.0), (-1.0, 0.0), (0.0, -1.0), (1.0, 0.0)}


RECTANGLE = st.builds(
    lambda x, y, w, d, turn: Footprint.of(
        standing(record(0, (w, d, 0.01)), max(w, d), turn, (x, y)),
    ),
    *[st.floats(-2, 2)] * 2,
    *[st.floats(0.05, 2)] * 2,
    st.floats(0, 1),
)


def as_polygon(item: Footprint) -> Polygon:
    (ux, uy), (vx, vy) = item.axes()
    (a, b), (x, y) = item.half, item.centre
    return Polygon(
        [(x + i * a * ux + j * b * vx, y + i * a * uy + j * b * vy) for i, j in ((1, 1), (-1, 1), (-1, -1), (1, -1))]
    )


@settings(max_examples=300, deadline=None)
@given(one=RECTANGLE, two=RECTANGLE, gap=st.floats(0, 1))
def test_footprints_are_apart_only_if_they_keep_the_gap_and_meet_only_if_they_are_not(one, two, gap):
    distance = as_polygon(one).distance(as_polygon(two))
    assert one.apart(two, gap) == two.apart(one, gap)
    if one.apart(two, gap):
        assert distance >= gap - 1e-9
    if not one.apart(two, 0.0):
        assert distance < 1e-9


@settings(max_examples=100, deadline=None)
@given(one=RECTANGLE, two=RECTANGLE, gap=st.floats(0, 1), turn=st.floats(0, 1))
def test_the_distance_along_a_direction_is_the_least_that_is_apart(one, two, gap, turn):
    direction = (math.cos(2 * math.pi * turn), math.sin(2 * math.pi * turn))
    distance = one.distance_along(direction, two, gap)

    def at(length: float) -> Footprint:
        return dataclasses.replace(two, centre=tuple(c + length * d for c, d in zip(one.centre, direction)))

    assert one.apart(at(distance * (1 + 1e-9)), gap) and not one.apart(at(distance * (1 - 1e-6)), gap)


@settings(max_examples=200, deadline=None)
@given(x=st.floats(-1, 9), y=st.floats(-1, 7))
def test_clearance_is_the_distance_to_the_edge_of_the_polygon_or_its_hole(x, y):
    region = Polygon(L_SHAPE, [HOLE])
    support = Support(height=0.0, area=1.0, clearance=1.0, anchor=(1.0, 1.0), polygon=L_SHAPE, holes=(HOLE,))
    found = clearance_at(support, x, y)
    assert abs(found) == pytest.approx(region.boundary.distance(Point(x, y)), abs=1e-9)
    if abs(found) > 1e-9:
        assert (found > 0) == region.contains(Point(x, y))


def test_what_finds_no_place_becomes_smaller_and_at_last_the_plan_fails():
    table = standing(carrier(0, 1.0, 1.0, 0.5), 1.0, 0.3)
    thing = record(1, (1.0, 1.0, 1.0))
    rng = np.random.default_rng(0)
    full = [Topping(asset=thing, share=1.0)] * 12
    placed, _ = stand_on(table, 1, full, rng, tries=64)
    sizes = [item.scale for item in placed]
    assert len(placed) == 12 and min(sizes) < max(sizes)
    with pytest.raises(PlanError, match="no room for 400 objects"):
        stand_on(table, 1, [Topping(asset=thing, share=1.0)] * 400, rng, tries=1)


@given(exponent=st.floats(0, 12))
def test_powers_of_two_are_those_of_the_library(exponent):
    assert power_of_two(exponent) == pytest.approx(2.0**exponent, rel=1e-14)


def test_the_number_of_objects_is_the_arrangements_own_cut_to_the_layouts():
    spec = make_spec(objects=[5, 7])
    for name in NAMES:
        low, high = ARRANGEMENTS[name].objects
        made = [len(r.instances) for r in plan(spec, LOCK, range(FIRST[name], FIRST[name] + 40))]
        assert set(made) == set(range(max(low, 5), min(high, 7) + 1))


def test_no_asset_comes_twice_but_where_the_arrangement_repeats_it():
    for name in ("row", "small_on_large", "behind", "outdoor"):
        for recipe in scenes(name, 20):
            assert len({item.uid for item in recipe.instances}) == len(recipe.instances)


def test_a_scene_wider_than_the_region_may_be_is_a_failed_plan():
    context = PlanContext.of(make_spec(max_region=3.0, scenes=40), LOCK)
    fates = []
    for name in NAMES:
        for index in range(FIRST[name], FIRST[name] + 40):
            try:
                assert plan_scene(context, index).layout.region <= 3.0
                fates.append((name, True))
            except PlanError as error:
                assert "layout.max_region" in str(error)
                fates.append((name, False))
    assert {(name, False) for name in NAMES} <= set(fates)
    assert {("around_table", True), ("identical", True)} <= set(fates)


@pytest.mark.parametrize(
    ("name", "lock", "layout", "words"),
    [
        ("row", LOCK, {"pose": "so3"}, "arrangement row stands its objects upright: set layout.pose to yaw"),
        ("outdoor", LOCK, {"objects": [2, 3]}, "has 4 to 12 objects, and layout.objects asks for 2 to 3"),
        ("around_table", LOCK[:100], {}, "needs an asset with a wide support surface, and there are 0 among 100"),
        ("rooms", LOCK[:100], {}, "needs an asset with a wide support surface"),
        ("small_on_large", [*LOCK[:100], LOCK[100]], {}, "needs 3 assets with a wide support surface"),
        ("outdoor", LOCK[:11], {}, "takes up to 12 different assets in a scene, and there are 11"),
        ("identical", LOCK[:1], {}, "takes up to 2 different assets in a scene, and there are 1"),
        ("behind", [], {}, "there are none"),
    ],
)
def test_what_an_arrangement_cannot_do_with_the_assets_is_refused_before_any_scene(name, lock, layout, words):
    with pytest.raises(SpecError, match=words) as caught:
        PlanContext.of(make_spec(arrangements=[name], **layout), lock)
    assert "\n" not in str(caught.value)


def test_few_assets_do_where_they_may_be_repeated():
    few = [LOCK[0], next(item for item in LOCK if item.uid in CARRIERS)]
    for name in NAMES:
        context = PlanContext.of(make_spec(arrangements=[name], repeat_assets=True), few)
        assert all(plan_scene(context, FIRST[name] + number).instances for number in range(10))


def test_narrow_tops_are_no_carriers():
    pool = AssetPool.of(LOCK)
    assert 0 < len(pool.carriers) < len(pool.tables) == 24
    assert all(item.support.clearance >= WIDE * max(item.extents) for item in pool.carriers)


def pools(kinds: int | None, fraction: float = 0.3, lock: list[AssetRecord] = LOCK) -> AssetPools:
    spec = load_spec("demo").model_copy(
        update={"assets": load_spec("demo").assets.model_copy(update={"kinds": kinds, "held_out_fraction": fraction})}
    )
    return AssetPools.of(spec, lock)


def test_kinds_limits_each_pool_to_shapes_chosen_by_hash_and_more_hold_the_fewer():
    whole, ten, four = pools(None), pools(10), pools(4)
    assert [len(p.assets) for p in (ten.shared, ten.held_out, four.shared)] == [10, 10, 4]
    assert set(four.shared.assets) < set(ten.shared.assets) < set(whole.shared.assets)
    assert set(ten.held_out.assets) < set(whole.held_out.assets)
    assert set(ten.shared.tables) <= set(ten.shared.assets)
    assert ten.shared.assets == pools(10, lock=LOCK[::-1]).shared.assets
    assert pools(1000).shared == whole.shared
    # Copies of a shape stay together, and count as one.
    copies = [dataclasses.replace(item, uid=f"{item.uid}-copy") for item in LOCK]
    assert len(pools(4, lock=[*LOCK, *copies]).shared.assets) == 8


def test_a_chooser_takes_another_asset_when_those_asked_for_are_all_taken():
    choose = Chooser(LayoutSpec(), AssetPool.of(LOCK[:3]), np.random.default_rng(0))
    assert choose.asset(LOCK[:1]) == LOCK[0]
    assert {choose.asset(LOCK[:1]).uid for _ in range(2)} == {LOCK[1].uid, LOCK[2].uid}
    with pytest.raises(PlanError, match="more than the 3 assets"):
        choose.asset()


def test_no_arrangement_violates_a_tolerance_on_real_meshes_and_its_report_needs_no_discs(lock, tmp_path):
    spec = make_spec(scenes=6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_plan(spec, lock, tmp_path / "plan")
        report = verify(plan(spec, lock), lock)
        assert report.scenes == 6 * len(NAMES) and report.ok, report.worst_violation
        assert report.checked["overhang"] > 10
        # Scenes without a single disc.
        bare = verify([r for r in plan(spec, lock) if not r.layout.disc_instances], lock)
        assert bare.ok and bare.checked["disc_distance"] == bare.checked["disc_cover"] == 0
        write_report(bare, tmp_path / "report")
    assert "density" not in bare.data()["statistics"]["quantities"]
    assert "tries_over_objects" in bare.data()["statistics"]["quantities"]


def test_a_spec_knows_the_arrangements_that_there_are_and_random():
    known = typing.get_args(SplitSpec.model_fields["arrangement"].annotation)
    assert sorted(known) == sorted(["random", *ARRANGEMENTS])


EVALUATION = ("eval-demo", "eval-random", "eval-structured")


@pytest.mark.parametrize("name", EVALUATION)
def test_evaluation_presets_have_200_scenes_with_truth_and_hold_out_what_training_holds_out(name):
    spec = load_spec(name)
    assert sum(split.scenes for split in spec.splits.values()) >= 200
    assert set(spec.scene_glb) == set(spec.splits)
    assert all(split.held_out_assets for split in spec.splits.values())
    trained = [load_spec(other) for other in preset_names() if other not in EVALUATION]
    assert len(trained) >= 4
    for other in trained:
        assert spec.assets.held_out_fraction <= other.assets.held_out_fraction
        assert not set(spec.indices()) & set(other.indices())


def test_the_evaluation_demo_has_a_split_for_every_arrangement():
    spec = load_spec("eval-demo")
    assert {split.arrangement for split in spec.splits.values()} == {"random", *NAMES}
    assert all(name == split.arrangement for name, split in spec.splits.items())
