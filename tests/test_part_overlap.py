"""Overlap of a prediction's instances: known volumes, and trimesh's voxels that PartCrafter uses."""

import itertools

import numpy as np
import pytest
import trimesh

from randscene.train.part_overlap import filled_cells, part_overlap, surface_cells
from randscene.train.triangle_mesh import TriangleMesh


def mesh_of(body: trimesh.Trimesh, shift=(0.0, 0.0, 0.0), scale: float = 1.0) -> TriangleMesh:
    return TriangleMesh(vertices=scale * (np.asarray(body.vertices) + shift), faces=np.asarray(body.faces))


BOX = trimesh.creation.box((1, 1, 1))


def test_equal_parts_overlap_wholly_and_parts_apart_not_at_all():
    assert part_overlap([mesh_of(BOX), mesh_of(BOX)]) == 1
    assert part_overlap([mesh_of(BOX), mesh_of(BOX, (1.2, 0, 0))]) == 0
    assert part_overlap([mesh_of(BOX)]) is part_overlap([]) is None


def test_the_mean_is_over_pairs():
    parts = [mesh_of(BOX), mesh_of(BOX), mesh_of(BOX, (3, 0, 0))]
    assert part_overlap(parts) == pytest.approx(1 / 3)


def test_parts_are_filled_and_neither_place_nor_size_matter():
    inner = trimesh.creation.box((0.5, 0.5, 0.5))
    found = part_overlap([mesh_of(BOX), mesh_of(inner)])
    assert found == pytest.approx((33 / 65) ** 3, rel=0.03)
    moved = [mesh_of(body, (4, -2, 7), 0.01) for body in (BOX, inner)]
    assert part_overlap(moved) == pytest.approx(found, rel=0.05)
    half = part_overlap([mesh_of(BOX), mesh_of(BOX, (0.5, 0, 0))])
    assert half == pytest.approx(1 / 3, abs=0.03)


def test_a_mesh_with_a_hole_counts_as_its_shell():
    lidless = trimesh.Trimesh(BOX.vertices, BOX.faces[BOX.face_normals[:, 2] < 0.5], process=False)
    corners = [2 * np.asarray(body.vertices)[np.asarray(body.faces)] for body in (BOX, lidless)]
    assert len(filled_cells(corners[0])) == 65**3
    assert len(filled_cells(corners[1])) < 0.12 * 65**3


@pytest.mark.parametrize("side", [0.31, 0.7, 1.1])
def test_cells_are_those_that_trimesh_fills(side):
    bodies = [
        trimesh.creation.icosphere(4, radius=side / 2),
        trimesh.creation.box((side, side / 2, side / 3)).apply_transform(
            trimesh.transformations.euler_matrix(0.3, 1, 2)
        ),
        trimesh.creation.cylinder(side / 3, side),
    ]
    theirs = []
    for body in bodies:
        grid = body.voxelized(pitch=1 / 32).fill()
        theirs.append({tuple(cell) for cell in np.round(grid.points * 32).astype(int).tolist()})
    ours = [set(map(tuple, filled_cells(np.asarray(body.vertices)[body.faces]).tolist())) for body in bodies]
    for a, b in zip(ours, theirs, strict=True):
        assert len(a & b) / len(a | b) > 0.95
    for (a, b), (c, d) in zip(itertools.combinations(ours, 2), itertools.combinations(theirs, 2), strict=True):
        assert len(a & b) / len(a | b) == pytest.approx(len(c & d) / len(c | d), abs=0.03)


def test_large_and_small_triangles_meet_the_same_cells():
    corners = np.asarray(BOX.vertices)[BOX.faces]
    fine = BOX.subdivide().subdivide().subdivide()
    some, same = (set(map(tuple, surface_cells(c, 1 / 32).tolist())) for c in (corners, fine.vertices[fine.faces]))
    assert some == same
