"""Polygons cut into triangles: the area, the side and the order are kept."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from randscene.manifests.polygons import triangulated


def signed_area(points: np.ndarray) -> float:
    x, y = points.T
    return float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)) / 2)


@given(
    radii=st.lists(st.floats(0.2, 1), min_size=3, max_size=30),
    backwards=st.booleans(),
    turn=st.floats(0, 3),
    first=st.integers(0, 29),
)
def test_star_shaped_polygons_keep_their_area_and_side(radii, backwards, turn, first):
    angles = np.linspace(0, 2 * np.pi, len(radii), endpoint=False)
    flat = np.stack((radii * np.cos(angles), radii * np.sin(angles)), axis=1)
    flat = np.roll(flat[::-1] if backwards else flat, first, axis=0)
    axis = np.array([[1, 0, 0], [0, np.cos(turn), np.sin(turn)]])
    corners = np.arange(len(flat))
    cut = triangulated(corners, np.array([len(flat)]), flat @ axis)
    assert len(cut) == len(flat) - 2
    areas = [signed_area(flat[triangle]) for triangle in cut]
    assert np.isclose(sum(areas), signed_area(flat))
    assert np.isclose(np.abs(areas).sum(), abs(signed_area(flat)))  # no two triangles overlap


def test_polygons_stay_in_order_and_lines_have_no_triangles():
    points = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], float)
    corners = np.array([0, 1, 2, 3, 0, 1, 2, 0, 1, 1, 2, 3])
    cut = triangulated(corners, np.array([4, 3, 2, 0, 3]), points)
    assert corners[cut].tolist() == [[0, 1, 2], [0, 2, 3], [0, 1, 2], [1, 2, 3]]


def test_a_dart_is_cut_along_the_diagonal_inside():
    points = np.array([[0, 0, 0], [4, 0, 0], [1, 1, 0], [0, 4, 0]], float)
    assert triangulated(np.array([1, 2, 3, 0]), np.array([4]), points).tolist() == [[0, 1, 3], [1, 2, 3]]
