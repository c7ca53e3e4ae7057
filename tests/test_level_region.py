"""Regions seen from above: exact unions of level faces, slices, and shadows that are never too small."""

import numpy as np
import pytest
import shapely
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from randscene.manifests import level_region
from randscene.manifests.level_region import level_planes, shadow, slice_at, union_from_above


def from_above(triangles):
    return shapely.union_all(shapely.convex_hull(shapely.linestrings(triangles[:, :, :2])))


def sheet(size: int, z: float = 0.5) -> np.ndarray:
    """(2 * size^2, 3, 3) triangles of a level unit square."""
    x, y = np.meshgrid(np.linspace(0, 1, size + 1), np.linspace(0, 1, size + 1), indexing="ij")
    at = np.arange(size * (size + 1)).reshape(size, size + 1)[:, :-1].ravel()
    low = np.stack((at, at + size + 1, at + 1), axis=1)
    faces = np.concatenate((low, low[:, [2, 1, 1]] + [0, 0, 1]))
    return np.stack((x.ravel(), y.ravel(), np.full(x.size, z)), axis=1)[faces]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 60))
def test_the_union_of_any_triangles_is_that_of_their_outlines(seed, count):
    rng = np.random.default_rng(seed)
    triangles = rng.random((count, 3, 3))
    triangles[:, :, 2] = rng.integers(0, 3, (count, 1))
    assert union_from_above(triangles).symmetric_difference(from_above(triangles)).area < 1e-9


def test_doubled_and_repeated_sheets_are_one_square():
    upper, lower = sheet(20), sheet(7, z=0.499)
    union = union_from_above(np.concatenate((upper, lower, upper[::3, [1, 2, 0]], upper[:, ::-1])))
    assert union.symmetric_difference(shapely.box(0, 0, 1, 1)).area < 1e-12


def test_planes_come_from_above_and_hold_what_is_level_alone():
    slope = sheet(1)
    slope[:, :, 2] += 0.1 * slope[:, :, 0]
    parts = [sheet(3, z=0.2), sheet(3, z=0.9), sheet(2, z=0.9 - 5e-6), slope, 0.1 * sheet(1, z=7.0)]
    planes = list(level_planes(np.concatenate(parts), within=1e-5, least_area=0.5))
    assert [plane.height for plane in planes] == [0.9, 0.2]
    assert [len(plane.triangles) for plane in planes] == [18 + 8, 18]


def test_no_plane_reaches_deeper_than_allowed():
    steps = np.concatenate([sheet(1, z=0.5 - 4e-6 * i) for i in range(6)])
    planes = list(level_planes(steps, within=1e-5, least_area=0.5))
    assert all(np.ptp(plane.triangles[:, :, 2]) <= 1e-5 + 1e-12 for plane in planes)
    assert sum(len(plane.triangles) for plane in planes) == len(steps)


def test_a_slice_is_the_body_and_none_of_a_sheet():
    box = trimesh.creation.box((1, 2, 3)).triangles
    assert slice_at(box, 0.7).symmetric_difference(shapely.box(-0.5, -1, 0.5, 1)).area < 1e-5
    assert slice_at(box, 1.6) is None
    assert slice_at(sheet(3), 0.4) is None
    walls = box[np.ptp(box[:, :, 0], axis=1) == 0][:2]  # one wall: open
    assert slice_at(walls, 0.7) is None


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), height=st.floats(0, 1))
def test_a_shadow_is_that_of_the_parts_above(seed, height):
    triangles = np.random.default_rng(seed).random((12, 3, 3))
    parts = []
    for triangle in triangles:
        solid = trimesh.intersections.slice_faces_plane(triangle, np.array([[0, 1, 2]]), (0, 0, 1), (0, 0, height))
        parts.append(from_above(np.asarray(solid[0])[np.asarray(solid[1], int)].reshape(-1, 3, 3)))
    assert shadow(triangles, above=height).symmetric_difference(shapely.union_all(parts)).area < 1e-9


@pytest.mark.parametrize("size", [0.002, 0.01, 0.05])
def test_a_shadow_of_many_triangles_is_never_too_small_and_little_too_large(size, monkeypatch):
    rng = np.random.default_rng(3)
    triangles = rng.random((3000, 1, 3)) * [0.5, 0.3, 1] + size * rng.standard_normal((3000, 3, 3)) - 0.5
    quick = shadow(triangles)
    monkeypatch.setattr(level_region, "MANY_TRIANGLES", 10**9)
    exact = shadow(triangles)
    assert exact.difference(quick).area < 1e-12
    reach = shapely.distance(shapely.points(shapely.get_coordinates(quick)), exact)
    assert reach.max() < 6 * max(level_region.CELLS)


def test_a_wall_throws_a_line():
    wall = np.array([[[0, 0, 0], [1, 0, 0], [1, 0, 1.0]]])
    assert shadow(wall).equals(shapely.LineString([(0, 0), (1, 0)]))
    assert shadow(wall, above=1.0).is_empty
