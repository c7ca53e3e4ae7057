"""Planning: pure functions of the spec, the lock and the index; layouts that can stand; pools that stay apart."""

import dataclasses
import hashlib
import itertools
import json
import math
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from shapely.geometry import Point, Polygon

from randscene.errors import DatasetError, SpecError
from randscene.generator.asset_pool import is_held_out
from randscene.generator.planning import PlanContext, plan, plan_scene
from randscene.generator.recipe import SceneRecipe, recipe_from_json
from randscene.generator.view_centric import apply_transform
from randscene.manifests.asset_record import AssetRecord, Support
from randscene.manifests.spec import DatasetSpec, load_spec, parse_spec, with_overrides

# An L, whose centroid is near its inner corner: the anchor lies in the upright arm.
L_SHAPE = ((0.0, 0.0), (8.0, 0.0), (8.0, 3.0), (3.0, 3.0), (3.0, 6.0), (0.0, 6.0))


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


def make_lock() -> list[AssetRecord]:
    rng = np.random.default_rng(5)
    lock = []
    for number in range(100):
        extents = tuple(float(v) for v in rng.uniform(0.05, 1.0, 3) * 10.0 ** rng.integers(-2, 3))
        lock.append(record(number, extents))
    for number in range(100, 124):
        width, depth, height = (float(v) for v in rng.uniform(0.5, 1.5, 3))
        left, front, bottom = record(number, (width, depth, height)).bounds_min
        shape = [(left + width * x / 8, front + depth * y / 6) for x, y in L_SHAPE]
        anchor = (left + width * 1.5 / 8, front + depth * 4.5 / 6)
        support = Support(
            height=bottom + 0.9 * height,  # a rim or a back rises above the plane
            area=Polygon(shape).area,
            clearance=Polygon(shape).exterior.distance(Point(anchor)),
            anchor=anchor,
            polygon=tuple(shape),
            holes=(),
        )
        lock.append(record(number, (width, depth, height), support))
    return lock


def make_spec(**changes: object) -> DatasetSpec:
    data = load_spec("demo").model_dump()
    data["splits"] = {
        "train": {"first": 0, "scenes": 300},
        "val": {"first": 900, "scenes": 20, "held_out_assets": True},
    }
    data["layout"]["objects"] = (2, 12)
    for path, value in changes.items():
        section, _, field = path.partition("__")
        if field:
            data[section][field] = value
        else:
            data[section] = value
    return parse_spec(data, where="test")


LOCK = make_lock()
BY_UID = {item.uid: item for item in LOCK}
SPEC = make_spec()


@pytest.fixture(scope="module")
def recipes() -> list[SceneRecipe]:
    return list(plan(SPEC, LOCK))


def box_corners(recipe: SceneRecipe, position: int) -> np.ndarray:
    """(8, 3) corners of an instance's turned bounding box, metres, world."""
    instance = recipe.instances[position]
    asset = BY_UID[instance.uid]
    local = [
        [low + side * extent for low, side, extent in zip(asset.bounds_min, sides, asset.extents)]
        for sides in itertools.product((0, 1), repeat=3)
    ]
    return apply_transform(np.asarray(instance.pose), np.asarray(local))


def footprint(recipe: SceneRecipe, position: int) -> Polygon:
    return Polygon(box_corners(recipe, position)[:, :2]).convex_hull


# What differs between machines: hash seeds, and the vector units that NumPy and its linear algebra find.
OTHER_MACHINES = [
    {"PYTHONHASHSEED": "1"},
    {"PYTHONHASHSEED": "2", "OPENBLAS_CORETYPE": "Nehalem", "NPY_DISABLE_CPU_FEATURES": "FMA3 AVX2 AVX512F AVX512_SKX"},
]


@pytest.mark.parametrize("machine", OTHER_MACHINES)
def test_recipes_have_the_same_bytes_on_another_machine_and_in_any_order(recipes, machine):
    indices = [900, 17, 3, 250]
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_planning as t\n"
        "sys.stdout.write('\\n'.join(r.to_json() for r in t.plan(t.SPEC, t.LOCK[::-1], [900, 17, 3, 250])))\n"
        "sys.stdout.write('\\n' + t.frozen_digest())"
    )
    folder = str(__file__).rsplit("/", 1)[0]
    other = subprocess.run(
        [sys.executable, "-c", code, folder],
        env={**os.environ, **machine},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    here = {recipe.scene: recipe.to_json() for recipe in recipes}
    assert other.split("\n") == [*(here[index] for index in indices), FROZEN]


# Whoever changes this number changes every dataset: raise RECIPE_VERSION with it.
FROZEN = "1e15c98c6d9dcd93d34ece727ce189116dc5f0c5223b0ed23a5cffc1e34d00c3"

FROZEN_CAMERAS = (
    {"kind": "uniform"},
    {"kind": "trellis", "framing": "trellis"},
    {"kind": "upper", "framing": "sphere", "look_at_jitter": 0.2},
    {"kind": "random", "fov_deg": [30, 50], "look_at_jitter": 0.1, "distance_jitter": [1, 1.3], "roll_deg": [-15, 15]},
)


def frozen_digest() -> str:
    """SHA-256 of recipes that use every setting of cameras, lights and ground."""
    support = Support(
        height=0.7,
        area=0.8,
        clearance=0.4,
        anchor=(0.5, 0.4),
        polygon=((0.0, 0.0), (1.0, 0.0), (1.0, 0.8), (0.0, 0.8)),
        holes=(),
    )
    lock = [
        dataclasses.replace(record(0, (1.0, 0.8, 0.7)), bounds_min=(0.0, 0.0, 0.0), support=support),
        record(1, (0.31, 0.17, 2.9)),
        record(2, (123.0, 456.0, 78.9)),
    ]
    texts = []
    for cameras in FROZEN_CAMERAS:
        kind = cameras["kind"]
        spec = parse_spec(
            {
                "name": "frozen",
                "seed": 11,
                "splits": {"train": {"first": 0, "scenes": 10}},
                "layout": {"repeat_assets": True, "layers": 2 if kind == "random" else 1},
                "cameras": {**cameras, "views": 20},
                "lights": {"kind": "trellis" if kind == "trellis" else "random"},
                "ground": {"kind": "plane" if kind == "upper" else "none"},
            },
            where="test",
        )
        texts += [recipe.to_json() for recipe in plan(spec, lock)]
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def test_recipes_have_the_same_bytes_on_every_machine_and_in_every_release():
    assert frozen_digest() == FROZEN


def test_a_recipe_survives_its_json_and_holds_short_plain_numbers(recipes):
    for recipe in recipes[::10]:
        text = recipe.to_json()
        assert recipe_from_json(text) == recipe
        assert "\n" not in text and not re.search(r"-0\.0[,\]}]", text)
        for camera in json.loads(text)["cameras"]:
            assert all(value == round(value, 9) for row in camera["camera_to_world"] for value in row)


def test_scenes_do_not_depend_on_the_name_or_the_number_of_scenes():
    overrides = ["assets.held_out_fraction=0.2"]
    small, large = (with_overrides(load_spec(name), overrides) for name in ("rand-15k", "rand-25k"))
    indices = [0, 7, 14_999, 900_000]
    first, second = plan(small, LOCK, indices), plan(large, LOCK, indices)
    for a, b in zip(first, second, strict=True):
        assert a.to_json() == b.to_json()


def test_seed_index_and_attempt_each_give_another_scene():
    context = PlanContext.of(SPEC, LOCK)
    texts = [
        plan_scene(context, 3).to_json(),
        plan_scene(context, 4).to_json(),
        plan_scene(context, 3, attempt=1).to_json(),
        plan_scene(PlanContext.of(make_spec(seed=1), LOCK), 3).to_json(),
    ]
    poses = {json.dumps([item["pose"] for item in json.loads(text)["instances"]]) for text in texts}
    assert len(poses) == 4


def test_the_number_of_objects_covers_its_whole_range(recipes):
    counts = {len(recipe.instances) for recipe in recipes}
    assert counts == set(range(2, 13))


def test_discs_keep_their_distance_and_hold_their_objects(recipes):
    for recipe in recipes:
        facts = recipe.layout
        on_ground = [i for i, item in enumerate(recipe.instances, start=1) if item.support_parent is None]
        assert list(facts.disc_instances) == on_ground
        for (radius_a, a), (radius_b, b) in itertools.combinations(zip(facts.radii, facts.centres), 2):
            assert math.dist(a, b) >= radius_a + radius_b + facts.gap - 1e-8
        for number, radius, centre in zip(facts.disc_instances, facts.radii, facts.centres):
            flat = box_corners(recipe, number - 1)[:, :2]
            assert np.linalg.norm(flat - centre, axis=1).max() == pytest.approx(radius, abs=1e-8)


def test_ground_objects_do_not_overlap_and_stand_on_the_ground(recipes):
    for recipe in recipes[:100]:
        ground = [i - 1 for i in recipe.layout.disc_instances]
        for a, b in itertools.combinations([footprint(recipe, i) for i in ground], 2):
            assert a.distance(b) > 0
        for position in ground:
            assert box_corners(recipe, position)[:, 2].min() == pytest.approx(0, abs=2e-9)


def test_a_stacked_object_stands_on_its_table_inside_the_supporting_polygon(recipes):
    stacked = 0
    for recipe in recipes:
        for position, instance in enumerate(recipe.instances):
            if instance.support_parent is None:
                continue
            stacked += 1
            table = recipe.instances[instance.support_parent - 1]
            support = BY_UID[table.uid].support
            plane = [[x, y, support.height] for x, y in support.polygon]
            placed = apply_transform(np.asarray(table.pose), np.asarray(plane))
            assert Polygon(placed[:, :2]).contains(footprint(recipe, position))
            assert box_corners(recipe, position)[:, 2].min() == pytest.approx(placed[0, 2], abs=2e-9)
            assert max(BY_UID[instance.uid].extents) * instance.scale <= SPEC.layout.scale[1] + 1e-9
    assert stacked > 50


def test_tables_and_stacks_come_as_often_as_the_spec_says():
    def shares(table: float, stack: float) -> tuple[float, float]:
        spec = make_spec(layout__table_probability=table, layout__stack_probability=stack, cameras__views=1)
        made = list(plan(spec, LOCK, range(300)))
        low, high = spec.layout.table_scale
        tables = [
            r for r in made if low - 1e-9 <= r.instances[0].scale * max(BY_UID[r.instances[0].uid].extents) <= high
        ]
        stacks = [r for r in made if any(i.support_parent is not None for i in r.instances)]
        return len(tables) / 300, len(stacks) / 300

    assert shares(0.0, 1.0)[1] == 0
    assert shares(1.0, 1.0) == (1.0, 1.0)
    assert shares(1.0, 0.5)[1] == pytest.approx(0.5, abs=0.1)


def test_every_camera_sees_the_whole_scene_and_some_box_reaches_its_margin(recipes):
    limit = math.tan(math.radians(SPEC.cameras.fov_deg) / 2) * (1 - SPEC.cameras.margin)
    for recipe in recipes[:60]:
        corners = np.concatenate([box_corners(recipe, i) for i in range(len(recipe.instances))])
        low, high = corners.min(axis=0), corners.max(axis=0)
        assert (low + high) / 2 == pytest.approx(recipe.look_at, abs=2e-9)
        for camera in recipe.cameras:
            matrix = np.asarray(camera.camera_to_world)
            local = (corners - matrix[:3, 3]) @ matrix[:3, :3]
            slope = np.abs(local[:, :2]).max(axis=1) / -local[:, 2]
            assert local[:, 2].max() < 0 and slope.max() == pytest.approx(limit, abs=1e-6)


def test_a_scene_has_ground_where_the_spec_asks_for_it_and_nothing_else_moves():
    plain, floored = (
        list(plan(make_spec(ground__kind=kind, cameras__views=2), LOCK, range(100))) for kind in ("none", "plane")
    )
    assert all(recipe.ground is None for recipe in plain)
    assert [dataclasses.replace(recipe, ground=None) for recipe in floored] == plain
    greys = [recipe.ground.color for recipe in floored]
    assert all(red == green == blue for red, green, blue in greys)
    assert 0.2 <= min(greys)[0] < 0.25 and 0.75 < max(greys)[0] <= 0.8
    assert 0.5 <= min(r.ground.roughness for r in floored) < max(r.ground.roughness for r in floored) <= 1
    assert recipe_from_json(floored[0].to_json()) == floored[0]


def test_a_scene_lit_by_a_picture_names_it_and_survives_its_json(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.hdr").write_bytes(b"#?RADIANCE\n" + bytes([number]))
    spec = make_spec(lights={"kind": "hdri", "folder": str(tmp_path)}, cameras__views=2)
    context = PlanContext.of(spec, LOCK)
    by_hash = {hashlib.sha256((tmp_path / f"{n}.hdr").read_bytes()).hexdigest(): f"{n}.hdr" for n in range(3)}
    seen = set()
    for index in range(20):
        recipe = plan_scene(context, index)
        image = recipe.background.image
        assert by_hash[image.sha256] == image.name and recipe.lights == ()
        assert str(tmp_path) not in recipe.to_json()
        assert recipe_from_json(recipe.to_json()) == recipe
        seen.add(image.name)
    assert len(seen) == 3


def test_a_recipe_of_an_older_version_is_refused(recipes):
    older = json.loads(recipes[0].to_json()) | {"version": 2}
    with pytest.raises(DatasetError, match="recipe version 2 is not 3: use the release that wrote it"):
        recipe_from_json(json.dumps(older))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"lights": [3]}, "lights: 3 has not the fields kind, "),
        ({"ground": 1.5}, "ground: 1.5 has not the fields"),
        ({"attempt": "0"}, "attempt: '0' is not of type int"),
        ({"attempt": True}, "attempt: True is not of type int"),
        ({"instances": None}, "instances: None is not a list"),
        ({"look_at": [0.0, 0.0]}, "look_at: .* is not a list of 3"),
        ({"look_at": [0.0, 0.0, math.nan]}, "look_at: nan is not a finite number"),
        ({"look_at": [0.0, 0.0, 10**400]}, "look_at: 1000"),
        ({"cameras": [{"camera_to_world": [[1.0]], "fov_deg": 40.0}]}, "cameras: camera_to_world: .* list of 4"),
        ({"more": 1}, "has not the fields"),
    ],
)
def test_a_recipe_with_a_value_of_another_type_is_refused_by_its_field(recipes, change, words):
    text = json.dumps(json.loads(recipes[0].to_json()) | change)
    with pytest.raises(DatasetError, match=f"^not a scene recipe: .*{words}"):
        recipe_from_json(text)
    for other in ("[]", "3", "null", "{}", "{", "[" * 100_000):
        with pytest.raises(DatasetError, match="not a scene recipe"):
            recipe_from_json(other)


def test_held_out_assets_are_used_by_their_splits_and_by_no_other(recipes):
    fraction = SPEC.assets.held_out_fraction
    shape = {item.uid: item.geometry for item in LOCK}
    used = {"train": set(), "val": set()}
    for recipe in recipes:
        used[recipe.split] |= {shape[item.uid] for item in recipe.instances}
    assert used["train"] and used["val"]
    assert not any(is_held_out(geometry, fraction) for geometry in used["train"])
    assert all(is_held_out(geometry, fraction) for geometry in used["val"])


def test_the_held_out_share_is_nested_and_near_its_fraction():
    hashes = [hashlib.sha256(str(n).encode()).hexdigest() for n in range(5000)]
    small, large = ({h for h in hashes if is_held_out(h, fraction)} for fraction in (0.02, 0.2))
    assert small < large
    assert len(large) / 5000 == pytest.approx(0.2, abs=0.02)
    assert not any(is_held_out(h, 0.0) for h in hashes) and all(is_held_out(h, 1.0) for h in hashes)


def test_assets_with_another_status_play_no_part(recipes):
    broken = [dataclasses.replace(record(n, (1.0, 1.0, 1.0)), status="no_faces") for n in range(200, 220)]
    for recipe, other in zip(recipes[:5], plan(SPEC, [*broken, *LOCK], range(5))):
        assert recipe == other


@pytest.mark.parametrize(
    ("changes", "lock", "words"),
    [
        ({"layout__objects": (2, 300)}, LOCK, "255"),
        ({"assets__held_out_fraction": 0.0}, LOCK, "split val draws from held-out assets, of which there are none"),
        ({"assets__held_out_fraction": 1.0}, LOCK, "split train"),
        ({}, [], "there are none"),
        ({}, LOCK[:100], "table_probability"),
    ],
)
def test_a_spec_that_the_lock_cannot_meet_is_refused_at_once(changes, lock, words):
    with pytest.raises(SpecError, match=words):
        next(plan(make_spec(**changes), lock))


def test_no_tables_are_needed_where_none_are_drawn():
    assert next(plan(make_spec(layout__table_probability=0.0), LOCK[:100])).instances


def test_a_single_object_is_a_table_without_a_stack_or_a_ground_object():
    spec = make_spec(layout__objects=(1, 1), layout__table_probability=1.0, layout__stack_probability=1.0)
    assert all(len(recipe.instances) == 1 for recipe in plan(spec, LOCK, range(10)))


def test_an_index_outside_every_split_is_refused():
    with pytest.raises(SpecError, match="belongs to no split"):
        plan_scene(PlanContext.of(SPEC, LOCK), 500)
