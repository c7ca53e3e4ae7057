"""What checks of a layout need of a mesh: its surface, convex hull, closed shells, and where a pose puts them."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.convex_hull import hull_points
from randscene.generator.view_centric import apply_transform
from randscene.manifests.asset_mesh import AssetMesh

_NO_AREA = 1e-14
"""Triangles of a smaller area, over the square of the mesh's largest extent, are no surface."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Shell:
    """A connected part of a mesh in which every edge belongs to an even number of triangles: it has an inside."""

    vertices: NDArray[Any]
    """(V, 3) float64, asset frame; equal points are one vertex."""
    faces: NDArray[Any]
    """(F, 3) int64, in no particular orientation."""

    @cached_property
    def bounds(self) -> NDArray[Any]:
        """(2, 3) lower and upper corner, asset frame."""
        return np.stack((self.vertices.min(axis=0), self.vertices.max(axis=0)))


@dataclass(frozen=True, kw_only=True, eq=False)
class CollisionBody:
    """The bare geometry of one asset, in the asset frame (Z up, own units)."""

    vertices: NDArray[Any]
    """(V, 3) float64."""
    faces: NDArray[Any]
    """(F, 3) int32; triangles without area are left out."""
    hull: NDArray[Any]
    """(H, 3) float64: vertices that span the convex hull. What is farthest in any direction is among them."""
    centroid: NDArray[Any]
    """(3,) float64: centre of mass of the surface, taken as a sheet of even weight."""

    @classmethod
    def of(cls, mesh: AssetMesh) -> "CollisionBody":
        """Take over a mesh's triangles; its materials are let go."""
        return cls.of_triangles(mesh.vertices, mesh.faces)

    @classmethod
    def of_triangles(cls, vertices: NDArray[Any], faces: NDArray[Any]) -> "CollisionBody":
        """The body of a bare mesh: vertices (V, 3) float64, all of them in use, and faces (F, 3), some with an area."""
        corners = vertices[faces]
        areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
        return cls(
            vertices=vertices,
            faces=faces[areas > _NO_AREA * np.ptp(vertices, axis=0).max() ** 2].astype(np.int32),
            hull=hull_points(vertices),
            centroid=(areas[:, None] * corners.mean(axis=1)).sum(axis=0) / areas.sum(),
        )

    @cached_property
    def extent(self) -> float:
        """Largest side of the bounding box, own units."""
        return float(np.ptp(self.hull, axis=0).max())

    @property
    def nbytes(self) -> int:
        """Memory that it holds; shells come to as much again."""
        return 2 * (self.vertices.nbytes + self.faces.nbytes) + self.hull.nbytes

    @cached_property
    def parts(self) -> tuple[NDArray[Any], tuple[Shell, ...]]:
        """One vertex of each connected part, (K, 3) float64, and those of the parts that are closed shells."""
        return _parts(self.vertices, self.faces)


class PlacedBody:
    """A body in the world. What is dear is worked out on first use.

    Parameters
    ----------
    body : CollisionBody
    pose : numpy.ndarray
        (4, 4) float64, asset frame to world metres: a rotation with one scale for all axes, and a shift.

    Raises
    ------
    ValueError
        If the pose is something else.
    """

    def __init__(self, body: CollisionBody, pose: NDArray[Any]) -> None:
        self.body = body
        self.pose = np.asarray(pose, np.float64)
        self.scale = _uniform_scale(self.pose)
        self.hull = apply_transform(self.pose, body.hull)
        self.bounds = np.stack((self.hull.min(axis=0), self.hull.max(axis=0)))

    @property
    def size(self) -> float:
        """Largest extent of the asset at its scale, metres: the unit of the tolerances."""
        return self.body.extent * self.scale

    @property
    def lowest(self) -> float:
        """Height of the lowest point, metres."""
        return float(self.bounds[0, 2])

    @cached_property
    def vertices(self) -> NDArray[Any]:
        """(V, 3) float64, metres, world."""
        return apply_transform(self.pose, self.body.vertices)

    @cached_property
    def _inverse(self) -> NDArray[Any]:
        return np.linalg.inv(self.pose)

    def in_asset_frame(self, points: NDArray[Any]) -> NDArray[Any]:
        """World points (K, 3) in the frame and the units of the asset."""
        return apply_transform(self._inverse, points)

    def triangles_in(self, box: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """The triangles whose own boxes touch `box` (2, 3), metres: vertices (K, 3) float64 and faces (F, 3) int64."""
        lower, upper = self._triangle_bounds
        inside = np.flatnonzero(((lower <= box[1]) & (upper >= box[0])).all(axis=1))
        used, faces = np.unique(self.body.faces[inside], return_inverse=True)
        return self.vertices[used], faces.reshape(-1, 3).astype(np.int64)

    @cached_property
    def _triangle_bounds(self) -> tuple[NDArray[Any], NDArray[Any]]:
        first, second, third = (self.vertices[self.body.faces[:, corner]] for corner in range(3))
        return np.minimum(np.minimum(first, second), third), np.maximum(np.maximum(first, second), third)


def _uniform_scale(pose: NDArray[Any]) -> float:
    linear = pose[:3, :3]
    determinant = float(np.linalg.det(linear)) if np.isfinite(pose).all() else 0.0
    scale = determinant ** (1 / 3) if determinant > 0 else 0.0
    if scale == 0 or not np.allclose(linear @ linear.T, scale**2 * np.eye(3), rtol=0, atol=1e-6 * scale**2):
        raise ValueError("the pose is not a rotation with one positive scale")
    return scale


def _parts(vertices: NDArray[Any], faces: NDArray[Any]) -> tuple[NDArray[Any], tuple[Shell, ...]]:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    # Files split vertices where normals or texture coordinates jump; equal positions are the same point of the surface.
    points, index = np.unique(vertices, axis=0, return_inverse=True)
    faces = index.reshape(-1)[faces].astype(np.int64)
    faces = faces[(faces != np.roll(faces, 1, axis=1)).all(axis=1)]
    edges = np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    graph = coo_array((np.ones(len(edges), bool), (edges[:, 0], edges[:, 1])), shape=(len(points), len(points)))
    _, part_of_point = connected_components(graph, directed=False)
    used, part_of_face = np.unique(part_of_point[faces[:, 0]], return_inverse=True)
    _, first_face = np.unique(part_of_face, return_index=True)
    unique, count = np.unique(edges[:, 0] * len(points) + edges[:, 1], return_counts=True)
    open_points = unique[count % 2 == 1] // len(points)
    is_open = np.isin(used, part_of_point[open_points])
    shells = []
    for part in np.flatnonzero(~is_open):
        members, own = np.unique(faces[part_of_face == part], return_inverse=True)
        shells.append(Shell(vertices=points[members], faces=own.reshape(-1, 3)))
    return points[faces[first_face, 0]], tuple(shells)
