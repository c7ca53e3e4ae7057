"""Embree rays: hard ids and depth of every engine, occlusion, and the quick `raycast` engine."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from randscene.errors import AssetError
from randscene.generator import shading
from randscene.generator.recipe import MAX_INSTANCES, Background, Camera, Light
from randscene.generator.trigonometry import tan_half

if TYPE_CHECKING:
    from randscene.manifests.asset_mesh import AssetMesh

BAND_RAYS = 1 << 18
"""Rays that are shaded at a time, which bounds the memory of large pictures."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """Pixels `[top, bottom) x [left, right)` of a picture that is `resolution` pixels wide and high."""

    top: int
    bottom: int
    left: int
    right: int
    resolution: int

    @property
    def shape(self) -> tuple[int, int]:
        return self.bottom - self.top, self.right - self.left

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.top, self.bottom), slice(self.left, self.right)


class RayScene:
    """A scene that rays can be shot at.

    Rays go through pixel centres of Blender's camera: square pixels, the field of view over the whole width, row 0 at
    the top. Surfaces are seen from both sides. Alpha-masked surfaces have holes where their alpha is below the cutoff,
    blended ones where it is next to nothing (`gltf_scene.BLEND_CUTOFF`). Results are the same each time and do not
    depend on threads.

    Parameters
    ----------
    meshes : sequence of AssetMesh
        Instance i (1-based) is `meshes[i - 1]`, its vertices in metres, world.

    Raises
    ------
    AssetError
        If a vertex is not finite.
    ValueError
        If there are more than 255 meshes: ids are one byte.
    """

    def __init__(self, meshes: Sequence["AssetMesh"]) -> None:
        # Imported here, since the module above is light and a plan or a reader needs no rays.
        from embreex.rtcore import EmbreeDevice

        if len(meshes) > MAX_INSTANCES:
            raise ValueError(f"RayScene: ids are one byte, so {len(meshes)} instances are too many")
        for mesh in meshes:
            if not np.isfinite(mesh.vertices).all():
                raise AssetError("non_finite", "a mesh has vertices that are not finite; drop the asset")
        self._device = EmbreeDevice()
        self._meshes = list(meshes)
        self._table = shading.SurfaceTable(meshes)
        corners = [mesh.vertices[mesh.faces] for mesh in meshes]
        self._first = np.concatenate([[0], np.cumsum([len(part) for part in corners])]).astype(np.int64)
        self._corners = np.concatenate([np.empty((0, 3, 3)), *corners]).astype(np.float32)
        self._owner = np.repeat(np.arange(1, len(meshes) + 1), np.diff(self._first)).astype(np.uint8)
        self._boxes = [_box(part) for part in corners]
        self._all = self._embree(0, len(self._corners))
        self._alone: dict[int, Any] = {}
        self._normals: NDArray[Any] | None = None

    @property
    def n_instances(self) -> int:
        return len(self._meshes)

    def ids_and_depth(self, camera: Camera, resolution: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Labels of one view.

        Parameters
        ----------
        camera : Camera
        resolution : int
            Width and height, pixels.

        Returns
        -------
        ids : numpy.ndarray
            (H, W) uint8; 0 is background, i is instance i (1-based).
        depth : numpy.ndarray
            (H, W) float32, metres along the camera's axis; infinite for background.
        """
        ids = np.zeros((resolution, resolution), np.uint8)
        depth = np.full((resolution, resolution), np.inf, np.float32)
        window = _window(camera, resolution, self._boxes)
        origins, directions = _rays(camera, window)
        triangles, distances, _ = self._trace(self._all, 0, origins, directions)
        hit = triangles >= 0
        ids[window.slices] = np.where(hit, self._owner[triangles] if len(self._owner) else 0, 0).reshape(window.shape)
        # Directions have length 1 along the camera's axis, so the distance along the ray is the depth.
        depth[window.slices] = np.where(hit, distances, np.inf).reshape(window.shape)
        return ids, depth

    def ids_inside(
        self, camera: Camera, resolution: int, *, step: int = 1, instance: int | None = None
    ) -> NDArray[Any]:
        """Ids where they can be other than background, for who asks what a view shows and not where.

        Parameters
        ----------
        camera : Camera
        resolution : int
            Width and height, pixels.
        step : int
            Look at every `step`-th pixel of a row and of a column only.
        instance : int, optional
            Look only where this instance (1-based) can be.

        Returns
        -------
        numpy.ndarray
            (K,) uint8: what `ids_and_depth` has at those pixels, in no promised order.
        """
        boxes = self._boxes if instance is None else self._boxes[instance - 1 : instance]
        origins, directions = _rays(camera, _window(camera, resolution, boxes), step)
        triangles, _, _ = self._trace(self._all, 0, origins, directions)
        return self._owner[triangles[triangles >= 0]]

    @property
    def surfaces(self) -> shading.SurfaceTable:
        """Materials of all triangles, in the order of the meshes."""
        return self._table

    def first_hits(
        self, origins: NDArray[Any], directions: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """What rays meet first, holes of cut-out surfaces left out.

        Parameters
        ----------
        origins, directions : numpy.ndarray
            (K, 3) float32, world metres.

        Returns
        -------
        triangles : numpy.ndarray
            (K,) int64, counted over all meshes in their order; -1 for nothing.
        u, v : numpy.ndarray
            (K,) float32 barycentric weights of the triangle's second and third corner.
        """
        hits = self._all.run(origins, directions, output=1)
        triangles, u, v = hits["primID"].astype(np.int64), hits["u"].astype(np.float32), hits["v"].astype(np.float32)
        if self._table.masked.any():
            doubtful = np.flatnonzero((triangles >= 0) & self._table.masked[triangles])
            triangles[doubtful], _, weights = self._trace(self._all, 0, origins[doubtful], directions[doubtful])
            u[doubtful], v[doubtful] = weights[:, 1], weights[:, 2]
        return triangles, u, v

    def unoccluded_pixels(self, camera: Camera, resolution: int, instance: int) -> int:
        """How many pixels instance `instance` (1-based) would cover if it stood alone."""
        window = _window(camera, resolution, self._boxes[instance - 1 : instance])
        first, last = int(self._first[instance - 1]), int(self._first[instance])
        if instance not in self._alone:
            self._alone[instance] = self._embree(first, last)
        origins, directions = _rays(camera, window)
        if not self._table.masked[first:last].any():
            return int(np.count_nonzero(_is_blocked(self._alone[instance], origins, directions)))
        triangles, _, _ = self._trace(self._alone[instance], first, origins, directions)
        return int(np.count_nonzero(triangles >= 0))

    def shade(
        self,
        camera: Camera,
        resolution: int,
        lights: Sequence[Light],
        background: Background,
        *,
        shadows: bool = True,
    ) -> NDArray[Any]:
        """A picture: textured base colours, the recipe's lights with hard shadows, uniform ambient, 2x2 samples.

        Parameters
        ----------
        camera : Camera
        resolution : int
            Width and height, pixels.
        lights : sequence of Light
        background : Background
            Its light; the background itself is black.
        shadows : bool

        Returns
        -------
        numpy.ndarray
            (H, W, 3) uint8 sRGB.
        """
        fine = np.zeros((2 * resolution, 2 * resolution, 3), np.float32)
        for window in _bands(_window(camera, 2 * resolution, self._boxes)):
            origins, directions = _rays(camera, window)
            triangles, distances, weights = self._trace(self._all, 0, origins, directions)
            hit = np.flatnonzero(triangles >= 0)
            band = np.zeros((len(triangles), 3), np.float32)
            if len(hit):
                points = origins[hit] + distances[hit, None].astype(np.float32) * directions[hit]
                band[hit] = self._radiance(
                    triangles[hit], weights[hit], points, directions[hit], lights, background, shadows
                )
            fine[window.slices] = np.minimum(band, 1).reshape(*window.shape, 3)
        return shading.to_srgb((fine[::2, ::2] + fine[1::2, ::2] + fine[::2, 1::2] + fine[1::2, 1::2]) / 4)

    def _embree(self, first: int, last: int) -> Any:
        """An embree scene of the triangles `[first, last)`."""
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene

        scene = EmbreeScene(self._device, robust=True)
        if last > first:
            TriangleMesh(scene, np.ascontiguousarray(self._corners[first:last]))
        return scene

    def _trace(
        self, scene: Any, first: int, origins: NDArray[Any], directions: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """First hits of K rays, those through holes of alpha-masked surfaces left out.

        Returns triangles (K,) int64 (-1 for none), distances (K,) float64 in lengths of the direction, and barycentric
        weights (K, 3) float64.
        """
        count = len(origins)
        triangles, distances, weights = np.full(count, -1, np.int64), np.zeros(count), np.zeros((count, 3))
        rays, start = np.arange(count), origins
        travelled = np.zeros(count)
        step = 1e-6 * float(np.abs(self._corners).max(initial=0)) + 1e-9
        while len(rays):
            hits = scene.run(np.ascontiguousarray(start), directions[rays], output=1)
            found = hits["primID"] >= 0
            rays = rays[found]
            triangle = hits["primID"][found].astype(np.int64) + first
            u, v = hits["u"][found].astype(np.float64), hits["v"][found].astype(np.float64)
            weight = np.stack([1 - u - v, u, v], axis=1)
            travelled[rays] += hits["tfar"][found]
            hole = self._table.is_hole(triangle, weight)
            solid = rays[~hole]
            triangles[solid], distances[solid], weights[solid] = triangle[~hole], travelled[solid], weight[~hole]
            rays = rays[hole]
            # Embree starts every ray at its origin: go on from just behind the hole.
            travelled[rays] += step
            start = (origins[rays] + travelled[rays, None] * directions[rays]).astype(np.float32)
        return triangles, distances, weights

    def _radiance(
        self,
        triangles: NDArray[Any],
        weights: NDArray[Any],
        points: NDArray[Any],
        directions: NDArray[Any],
        lights: Sequence[Light],
        background: Background,
        shadows: bool,
    ) -> NDArray[Any]:
        """(K, 3) linear radiance of points on the scene's surface towards the camera."""
        if self._normals is None:
            normals = [shading.corner_normals(mesh.vertices, mesh.faces) for mesh in self._meshes]
            self._normals = np.concatenate([np.empty((0, 3, 3), np.float32), *normals])
        weights = weights.astype(np.float32)
        to_eye = -shading.unit(directions)
        corners = self._corners[triangles]
        flat = shading.unit(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]))
        normals_here = shading.unit(shading.interpolate(self._normals[triangles], weights))
        away = shading.dot(flat, to_eye) < 0
        flat[away] *= -1
        normals_here[away] *= -1
        base = self._table.color(triangles, weights)[:, :3]
        metallic, roughness, emissive = self._table.values(triangles)
        result = shading.ambient(base, background) + emissive
        lift = np.float32(1e-4 * np.abs(self._corners).max())
        for light in itertools.chain.from_iterable(map(shading.emitters, lights)):
            to_light, irradiance = shading.light_arrival(light, points)
            lit = np.flatnonzero((shading.dot(flat, to_light) > 0) & (irradiance[:, 0] > 0))
            if shadows and len(lit):
                lit = lit[~self._in_shadow(points[lit] + lift * flat[lit], to_light[lit], light)]
            if len(lit):
                share = shading.reflect(
                    base[lit],
                    metallic[lit],
                    roughness[lit],
                    normals_here[lit],
                    to_eye[lit],
                    shading.unit(to_light[lit]),
                )
                result[lit] += share * irradiance[lit] * np.asarray(light.color, np.float32)
        return result

    def _in_shadow(self, points: NDArray[Any], to_light: NDArray[Any], light: Light) -> NDArray[Any]:
        """(K,) bool: something solid lies between the points and the light's centre."""
        reach = 1e37 if light.kind == "sun" else 1.0
        directions = np.ascontiguousarray(to_light)
        if not self._table.masked.any():
            return _is_blocked(self._all, points, directions, reach)
        triangles, distances, _ = self._trace(self._all, 0, points, directions)
        return (triangles >= 0) & (distances < reach)


def _is_blocked(scene: Any, origins: NDArray[Any], directions: NDArray[Any], reach: float = 1e37) -> NDArray[Any]:
    """(K,) bool: the ray meets anything within `reach` lengths of its direction."""
    # embreex overwrites the distances that it is given.
    reaches = np.full(len(origins), reach, np.float32)
    return scene.run(np.ascontiguousarray(origins), directions, dists=reaches, query="OCCLUDED") != -1


def _box(corners: NDArray[Any]) -> NDArray[Any]:
    """(8, 3) corners of the axis-aligned box around triangles (F, 3, 3); (0, 3) when there are none."""
    if not len(corners):
        return np.empty((0, 3))
    points = corners.reshape(-1, 3)
    sides = np.stack([points.min(axis=0), points.max(axis=0)])
    pick = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    return sides[pick, np.arange(3)]


def _window(camera: Camera, resolution: int, boxes: Sequence[NDArray[Any]]) -> Window:
    """The least window that holds what the boxes can cover, a pixel to spare; the whole picture if the camera is near.

    Everything outside is background: rays are shot inside only.
    """
    points = np.concatenate([np.empty((0, 3)), *boxes])
    if not len(points):
        return Window(top=0, bottom=0, left=0, right=0, resolution=resolution)
    matrix = np.asarray(camera.camera_to_world, np.float64)
    local = (points - matrix[:3, 3]) @ matrix[:3, :3]
    ahead = -local[:, 2]
    if ahead.min() <= 1e-6 * np.abs(local).max():
        return Window(top=0, bottom=resolution, left=0, right=resolution, resolution=resolution)
    scale = resolution / (2 * tan_half(camera.fov_deg))
    columns = resolution / 2 + scale * local[:, 0] / ahead
    rows = resolution / 2 - scale * local[:, 1] / ahead

    def within(value: float) -> int:
        return int(min(max(value, 0), resolution))

    left, right = within(np.floor(columns.min()) - 1), within(np.ceil(columns.max()) + 1)
    top, bottom = within(np.floor(rows.min()) - 1), within(np.ceil(rows.max()) + 1)
    return Window(top=top, bottom=bottom, left=left, right=right, resolution=resolution)


def _bands(window: Window) -> Iterator[Window]:
    """Parts of a window, from the top, of a bounded number of pixels each."""
    height = max(1, BAND_RAYS // max(1, window.right - window.left))
    for top in range(window.top, window.bottom, height):
        yield Window(
            top=top,
            bottom=min(top + height, window.bottom),
            left=window.left,
            right=window.right,
            resolution=window.resolution,
        )


def _rays(camera: Camera, window: Window, step: int = 1) -> tuple[NDArray[Any], NDArray[Any]]:
    """Rays through the pixel centres of a window, row by row; with a step, through a regular part of them.

    Returns origins and directions, each (K, 3) float32; directions have length 1 along the camera's axis.
    """
    matrix = np.asarray(camera.camera_to_world, np.float64)
    spread = tan_half(camera.fov_deg)
    across = ((np.arange(window.left + step // 2, window.right, step) + 0.5) / window.resolution * 2 - 1) * spread
    down = ((np.arange(window.top + step // 2, window.bottom, step) + 0.5) / window.resolution * 2 - 1) * spread
    right, up, backwards = matrix[:3, 0], matrix[:3, 1], matrix[:3, 2]
    directions = across[None, :, None] * right - down[:, None, None] * up - backwards
    origins = np.broadcast_to(matrix[:3, 3].astype(np.float32), directions.shape)
    return np.ascontiguousarray(origins).reshape(-1, 3), directions.astype(np.float32).reshape(-1, 3)
