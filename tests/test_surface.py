"""Surfaces from 64^3 fields: closed, outward, in place; GLB files that say the same."""

import io

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from randscene.errors import PredictionError
from randscene.train.surface import extract_surface, glb, palette, smooth


def solid(surface):
    return trimesh.Trimesh(surface.vertices, surface.faces, process=False)


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.float32, (5, 5, 5), elements=st.floats(-1e6, 1e6, width=32)),
)
def test_any_field_gives_a_closed_consistently_oriented_surface_inside_the_cube(field):
    surface = extract_surface(field)
    if not (field > 0).any():
        assert surface is None
        return
    edges = np.sort(solid(surface).edges, axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] % 2 == 0).all()
    assert np.abs(surface.vertices).max() <= 0.5
    assert solid(surface).is_winding_consistent
    assert solid(surface).volume > 0
    assert solid(surface).area_faces.min() > 0


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.float32, (4, 4, 4), elements=st.floats(-8, 8, width=32)), st.integers(0, 63))
def test_the_surface_separates_occupied_from_empty_cell_centres(field, probe):
    surface = extract_surface(field)
    if surface is None:
        return
    cell = np.unravel_index(probe, field.shape)
    centre = (np.array(cell) + 0.5) / 4 - 0.5
    assert (winding_number(surface, centre) > 0.5) == (field[cell] > 0)


def winding_number(surface, point):
    """Sum of signed solid angles over 4 pi: 1 inside, 0 outside."""
    a, b, c = (surface.vertices[surface.faces[:, i]].astype(float) - point for i in range(3))
    la, lb, lc = (np.linalg.norm(v, axis=1) for v in (a, b, c))
    numerator = np.einsum("ij,ij->i", a, np.cross(b, c))
    dots = [np.einsum("ij,ij->i", u, v) for u, v in ((a, b), (b, c), (c, a))]
    return np.arctan2(numerator, la * lb * lc + dots[0] * lc + dots[1] * la + dots[2] * lb).sum() / (2 * np.pi)


def test_voxels_keep_their_place_and_size():
    occupancy = np.zeros((64, 64, 64), bool)
    occupancy[10:20, 30:34, 50:64] = True
    low, high = extract_surface(occupancy).vertices.min(axis=0), extract_surface(occupancy).vertices.max(axis=0)
    np.testing.assert_allclose(low, np.array([10, 30, 50]) / 64 - 0.5, atol=1e-6)
    np.testing.assert_allclose(high, np.array([20, 34, 64]) / 64 - 0.5, atol=1e-6)


def test_a_full_cube_closes_on_the_cubes_border():
    surface = extract_surface(np.full((8, 8, 8), 3.0))
    assert solid(surface).is_watertight
    np.testing.assert_allclose(solid(surface).bounds, [[-0.5] * 3, [0.5] * 3])


def test_smoothing_softens_steps_without_shrinking():
    grid = np.indices((32, 32, 32)) - 15.5
    ball = extract_surface(np.linalg.norm(grid, axis=0) < 10)
    softer = smooth(ball, passes=10)

    def radius(surface):
        return np.linalg.norm(surface.vertices * 32, axis=1)

    assert radius(softer).std() < 0.6 * radius(ball).std()
    assert abs(radius(softer).mean() - radius(ball).mean()) < 0.15
    np.testing.assert_array_equal(
        extract_surface(np.linalg.norm(grid, axis=0) < 10, smoothing=10).vertices, softer.vertices
    )


def test_a_field_that_is_no_finite_cube_is_refused():
    with pytest.raises(PredictionError, match="cube of cells"):
        extract_surface(np.zeros((4, 4, 5)))
    with pytest.raises(PredictionError, match="NaN or infinity"):
        extract_surface(np.full((4, 4, 4), np.nan))


def test_a_glb_is_y_up_with_one_coloured_node_a_surface_and_the_same_bytes_each_time():
    occupancy = np.zeros((16, 16, 16), bool)
    occupancy[2:4, 5:9, 10:16] = True
    surface = extract_surface(occupancy)
    parts = [(f"instance_{i:02d}", surface, colour) for i, colour in enumerate(palette(3), start=1)]
    data = glb(parts)
    assert data == glb(parts)
    scene = trimesh.load_scene(io.BytesIO(data), file_type="glb")
    assert set(scene.graph.nodes_geometry) == {"instance_01", "instance_02", "instance_03"}
    x, y, z = surface.vertices.T
    expected = np.stack([x, z, -y], axis=1)
    np.testing.assert_allclose(scene.bounds, [expected.min(axis=0), expected.max(axis=0)], atol=1e-6)
    colours = {tuple(geometry.visual.material.baseColorFactor) for geometry in scene.geometry.values()}
    assert len(colours) == 3


def test_the_palette_tells_twelve_instances_apart():
    colours = np.array(palette(12), int)[:, :3]
    distance = np.linalg.norm(colours[:, None] - colours[None], axis=-1) + 1e3 * np.eye(12)
    assert distance.min() > 30
