"""The heading of a scene is found to a degree, whatever its size and place, and always the same one."""

import numpy as np
import pytest
from output_fixtures import Solid, changed, similar, solids

from randscene.train.heading_search import find_heading
from randscene.train.triangle_mesh import TriangleMesh
from randscene.train.yaw_rotation import about_vertical


def meshes(some: list[Solid]) -> list[TriangleMesh]:
    return [TriangleMesh(vertices=vertices, faces=faces) for vertices, faces in some]


@pytest.mark.parametrize("degrees", [0, 45, 137, -101])
def test_a_turn_is_found_and_undone_to_a_degree(degrees):
    turned = changed(solids(), similar(np.radians(degrees), 7.0, (4, -3, 2)))
    found = find_heading(meshes(turned), meshes(solids()), "a")
    assert abs((found + degrees + 180) % 360 - 180) <= 1
    assert found == find_heading(meshes(turned), meshes(solids()), "a")
    back = turned[0][0] @ about_vertical(found)[:3, :3].T
    edge, true = (np.diff(points[:2], axis=0)[0] for points in (back, solids()[0][0]))
    assert edge @ true / np.linalg.norm(edge) / np.linalg.norm(true) > np.cos(np.radians(1.5))


def test_an_object_less_does_not_turn_the_scene():
    turned = changed(solids(), similar(np.radians(70), 1.0, (0, 0, 0)))
    # Without the box on top the scene's own box keeps its largest side.
    found = find_heading(meshes([turned[0], turned[2]]), meshes(solids()), "a")
    assert abs((found + 70 + 180) % 360 - 180) <= 3


def test_equal_objects_round_a_square_have_their_own_places_where_partners_are_known():
    posts = [
        TriangleMesh(vertices=vertices * 0.2 + np.array([x, y, 0.0]), faces=faces)
        for (vertices, faces), (x, y) in zip([solids()[0]] * 4, ((0.4, 0.4), (-0.4, 0.4), (-0.4, -0.4), (0.4, -0.4)))
    ]
    for degrees in (0, 90, 180):
        turned = [mesh.moved(about_vertical(degrees)) for mesh in posts]
        found = find_heading(turned, posts, "a", range(4))
        assert abs((found + degrees + 180) % 360 - 180) <= 3
