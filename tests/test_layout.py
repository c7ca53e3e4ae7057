"""Layouts: different assets in a scene, two stacked layers, poses of any turn standing on the lowest vertex."""

import itertools
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from randscene.errors import PlanError, SpecError
from randscene.generator.planning import PlanContext, plan, plan_scene
from randscene.generator.posture import random_rotation, turned, upright
from randscene.generator.recipe import SceneRecipe
from randscene.generator.view_centric import apply_transform
from randscene.manifests import AssetRecord, DatasetSpec, load_asset_mesh, parse_spec


def make_spec(scenes: int = 100, seed: int = 3, **layout: object) -> DatasetSpec:
    return parse_spec(
        {
            "name": "layouts",
            "seed": seed,
            "splits": {"train": {"first": 0, "scenes": scenes}},
            "cameras": {"views": 1},
            "layout": {"objects": [2, 8], **layout},
        },
        where="test",
    )


def world_vertices(recipe: SceneRecipe, lock: list[AssetRecord]) -> list[np.ndarray]:
    paths = {record.uid: Path(record.locator) for record in lock}
    return [
        apply_transform(np.asarray(item.pose), load_asset_mesh(paths[item.uid]).vertices) for item in recipe.instances
    ]


def test_no_asset_comes_twice_in_a_scene_unless_asked_for(lock):
    for recipe in plan(make_spec(), lock):
        assert len({item.uid for item in recipe.instances}) == len(recipe.instances)
    repeated = [len({i.uid for i in r.instances}) < len(r.instances) for r in plan(make_spec(repeat_assets=True), lock)]
    assert any(repeated)


def test_a_scene_may_use_every_asset_there_is(lock):
    spec = make_spec(scenes=3, objects=[len(lock), len(lock)], layers=2)
    for recipe in plan(spec, lock):
        assert {item.uid for item in recipe.instances} == {record.uid for record in lock}


def test_two_layers_put_an_object_on_an_object_on_a_table(lock):
    by_uid = {record.uid: record for record in lock}
    spec = make_spec(layers=2, table_probability=1.0, stack_probability=0.8, objects=[1, 6])
    depth = {0: 0, 1: 0, 2: 0}
    for recipe in plan(spec, lock):
        parents = [item.support_parent for item in recipe.instances]
        stacked = [parent for parent in parents if parent is not None]
        assert stacked == [1, 2][: len(stacked)] and parents[0] is None
        depth[len(stacked)] += 1
        if len(stacked) < 2:
            continue
        middle, top = recipe.instances[1], recipe.instances[2]
        support = by_uid[middle.uid].support
        vertices = world_vertices(recipe, lock)
        plane = apply_transform(np.asarray(middle.pose), np.array([[*support.anchor, support.height]]))[0]
        assert vertices[2][:, 2].min() == pytest.approx(plane[2], abs=1e-8)
        radius = np.linalg.norm(vertices[2][:, :2] - plane[:2], axis=1).max()
        assert radius <= support.clearance * middle.scale + 1e-8
        assert max(by_uid[top.uid].extents) * top.scale <= spec.layout.scale[1] + 1e-9
    assert min(depth.values()) > 5 and depth[2] > 30


def test_turned_objects_stand_on_their_lowest_vertex_inside_their_disc(lock):
    spec = make_spec(scenes=12, pose="so3", table_probability=0.5, stack_probability=1.0)
    tilted = 0
    for recipe in plan(spec, lock):
        vertices = world_vertices(recipe, lock)
        carriers = {item.support_parent for item in recipe.instances}
        for number, item in enumerate(recipe.instances, start=1):
            linear = np.asarray(item.pose)[:3, :3] / item.scale
            assert np.allclose(linear @ linear.T, np.eye(3), atol=1e-9) and np.linalg.det(linear) > 0
            tilted += linear[2, 2] < 0.9
            if number in carriers:
                assert linear[2, 2] == pytest.approx(1)
            if item.support_parent is None:
                assert vertices[number - 1][:, 2].min() == pytest.approx(0, abs=1e-8)
        facts = recipe.layout
        for number, radius, centre in zip(facts.disc_instances, facts.radii, facts.centres):
            assert np.linalg.norm(vertices[number - 1][:, :2] - centre, axis=1).max() <= radius + 1e-8
    assert tilted > 20


def test_turned_layouts_have_the_same_bytes_on_another_machine_and_in_any_order(lock, lock_path):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import test_layout as t; from randscene.manifests import load_lock\n"
        "spec, lock = t.make_spec(pose='so3'), load_lock(sys.argv[2])\n"
        "sys.stdout.write('\\n'.join(r.to_json() for r in t.plan(spec, lock, [5, 2])))"
    )
    machine = {
        "PYTHONHASHSEED": "2",
        "OPENBLAS_CORETYPE": "Nehalem",
        "NPY_DISABLE_CPU_FEATURES": "FMA3 AVX2 AVX512F AVX512_SKX",
    }
    other = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent), str(lock_path)],
        env={**os.environ, **machine},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    here = [recipe.to_json() for recipe in plan(make_spec(pose="so3"), lock, [2, 5])]
    assert other.split("\n") == here[::-1]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_random_rotations_are_rotations(seed):
    matrix = np.array(random_rotation(np.random.default_rng(seed)))
    assert np.allclose(matrix @ matrix.T, np.eye(3), atol=1e-14)
    assert np.linalg.det(matrix) == pytest.approx(1)


def test_random_rotations_are_uniform():
    rng = np.random.default_rng(0)
    rotations = np.array([random_rotation(rng) for _ in range(20_000)])
    # For Haar measure every entry has mean 0 and variance 1/3, and the trace's mean is 0 with variance 1.
    assert np.abs(rotations.mean(axis=0)).max() < 0.02
    assert np.abs(rotations.var(axis=0) - 1 / 3).max() < 0.01
    trace = np.trace(rotations, axis1=1, axis2=2)
    assert abs(trace.mean()) < 0.03 and abs(trace.var() - 1) < 0.03


def test_an_upright_turn_gives_the_box_of_the_lock(lock):
    for record in lock:
        exact = turned(record, upright(record).rotation)
        assert exact.bounds_min == pytest.approx(record.bounds_min, rel=1e-12, abs=1e-12)
        assert exact.extents == pytest.approx(record.extents, rel=1e-12, abs=1e-12)


def test_the_region_stays_within_its_bound(lock):
    spec = make_spec(max_region=6.0, objects=[2, 4])
    sides = [recipe.layout.region for recipe in plan(spec, lock)]
    assert max(sides) <= 6.0 and len(set(sides)) > 10
    for recipe in plan(spec, lock, range(20)):
        for (ra, a), (rb, b) in itertools.combinations(zip(recipe.layout.radii, recipe.layout.centres), 2):
            assert math.dist(a, b) >= ra + rb + recipe.layout.gap - 1e-8


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        ({"objects": [2, 41]}, "up to 41 different assets in a scene, and there are 40 assets"),
        ({"max_region": 2.0, "gap": [3.0, 4.0]}, "even 7 objects of the least size"),
        ({"max_region": 0.3}, "more than layout.max_region"),
        ({"max_expansions": 0, "tries": 1, "objects": [20, 24]}, "cannot be laid out"),
    ],
)
def test_numbers_that_cannot_be_met_are_refused_before_any_scene(lock, layout, words):
    with pytest.raises(SpecError, match=words):
        PlanContext.of(make_spec(**layout), lock)


def test_two_layers_need_two_carriers(lock):
    tables = [record for record in lock if record.support is not None]
    others = [record for record in lock if record.support is None]
    with pytest.raises(SpecError, match="layers of 2 needs two assets"):
        PlanContext.of(make_spec(layers=2), [tables[0], *others])
    PlanContext.of(make_spec(layers=2, repeat_assets=True), [tables[0], *others])


def test_a_layout_that_happens_not_to_fit_is_a_failed_plan_not_a_bad_spec(lock):
    spec = make_spec(scenes=200, objects=[6, 8], max_region=3.5, table_probability=0.0)
    context = PlanContext.of(spec, lock)
    fates = []
    for index in range(200):
        try:
            plan_scene(context, index)
            fates.append(True)
        except PlanError as error:
            fates.append(False)
            assert "layout.max_region" in str(error)
    assert 0 < sum(fates) < 200
