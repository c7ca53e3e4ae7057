"""Simple shading for the ray-cast engine: textured base colours, Lambert with a soft highlight, the recipe's lights."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from randscene.generator.recipe import Background, Light
from randscene.gltf_scene import BLEND_CUTOFF

if TYPE_CHECKING:
    from randscene.manifests.asset_mesh import AssetMesh, Surface

CREASE_COSINE = math.cos(math.radians(30))
"""Corners are shaded smoothly where the vertex normal is within 30 degrees of the face's, flat elsewhere."""

LINEAR_STEPS = 16 * 255

_SIGNALS = np.arange(LINEAR_STEPS + 1) / LINEAR_STEPS
LINEAR = np.where(_SIGNALS <= 0.04045, _SIGNALS / 12.92, ((_SIGNALS + 0.055) / 1.055) ** 2.4).astype(np.float32)
"""(4081,) float32: linear light of sRGB signals, in steps of a sixteenth of an 8-bit code."""


class SurfaceTable:
    """Materials of all triangles of a scene, one after the other in the order of the meshes.

    `surface_of` (T,) int64 is each triangle's index into `surfaces`; `uv` (T, 3, 2) float32 and `corner_color`
    (T, 3, 4) float32 or None are those of the meshes.
    """

    def __init__(self, meshes: Sequence["AssetMesh"]) -> None:
        self.surfaces: list[Surface] = []
        surface_of, uv, color = [], [], []
        for mesh in meshes:
            surface_of.append(np.asarray(mesh.surface_of_face, np.int64) + len(self.surfaces))
            self.surfaces.extend(mesh.surfaces)
            count = len(mesh.faces)
            uv.append(mesh.uv)
            color.append(np.ones((count, 3, 4), np.float32) if mesh.corner_color is None else mesh.corner_color)
        self.surface_of = np.concatenate([np.empty(0, np.int64), *surface_of])
        self.uv = np.concatenate([np.empty((0, 3, 2), np.float32), *uv])
        plain = all(mesh.corner_color is None for mesh in meshes)
        self.corner_color = None if plain else np.concatenate(color)
        holes = [_may_have_holes(surface, plain) for surface in self.surfaces]
        self.masked = np.array(holes, np.bool_)[self.surface_of]
        """(T,) bool: triangles that may have holes."""

    def color(self, triangles: NDArray[Any], weights: NDArray[Any]) -> NDArray[Any]:
        """Linear RGBA at points on triangles.

        Parameters
        ----------
        triangles : numpy.ndarray
            (K,) integer.
        weights : numpy.ndarray
            (K, 3) barycentric.

        Returns
        -------
        numpy.ndarray
            (K, 4) float32: base colour x texture (bilinear, repeated) x vertex colour.
        """
        weights = weights.astype(np.float32)
        if self.corner_color is None:
            result = np.ones((len(triangles), 4), np.float32)
        else:
            result = interpolate(self.corner_color[triangles], weights)
        surface_of = self.surface_of[triangles]
        for number in np.flatnonzero(np.bincount(surface_of)):
            surface, here = self.surfaces[number], surface_of == number
            result[here] *= np.asarray(surface.base_color, np.float32)
            if surface.texture is not None:
                result[here] *= _sample(surface.texture, interpolate(self.uv[triangles[here]], weights[here]))
        return result

    def is_hole(self, triangles: NDArray[Any], weights: NDArray[Any]) -> NDArray[Any]:
        """(K,) bool: the point lies where a masked surface is cut away, or a blended one is as good as clear."""
        hole = np.zeros(len(triangles), np.bool_)
        masked = np.flatnonzero(self.masked[triangles])
        if len(masked):
            cutoffs = [s.alpha_cutoff if s.alpha_mode == "MASK" else BLEND_CUTOFF for s in self.surfaces]
            cutoff = np.array(cutoffs)[self.surface_of[triangles[masked]]]
            hole[masked] = self.color(triangles[masked], weights[masked])[:, 3] < cutoff
        return hole

    def values(self, triangles: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Metallic (K, 1), roughness (K, 1) and emissive colour (K, 3) of the triangles' surfaces, float32."""
        table = np.array([[s.metallic, s.roughness, *s.emissive] for s in self.surfaces], np.float32)
        rows = table[self.surface_of[triangles]]
        return rows[:, :1], rows[:, 1:2], rows[:, 2:]


def _may_have_holes(surface: "Surface", plain: bool) -> bool:
    """Whether alpha may cut parts of a surface away; `plain`: no mesh of the scene has vertex colours."""
    if surface.alpha_mode != "BLEND":
        return surface.alpha_mode == "MASK"
    return not plain or surface.texture is not None or float(surface.base_color[3]) < BLEND_CUTOFF


def corner_normals(vertices: NDArray[Any], faces: NDArray[Any]) -> NDArray[Any]:
    """Shading normals of a mesh without any: area-weighted at each vertex, flat across creases.

    Parameters
    ----------
    vertices : numpy.ndarray
        (V, 3).
    faces : numpy.ndarray
        (F, 3) integer.

    Returns
    -------
    numpy.ndarray
        (F, 3, 3) float32, unit length (zero for faces without area), one for each corner.
    """
    corners = vertices[faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    at_vertex = np.stack(
        [np.bincount(faces.ravel(), np.repeat(cross[:, axis], 3), minlength=len(vertices)) for axis in range(3)], axis=1
    )
    flat = np.repeat(unit(cross)[:, None], 3, axis=1)
    smooth = unit(at_vertex)[faces]
    agrees = dot(flat, smooth) >= CREASE_COSINE
    return np.where(agrees[:, :, None], smooth, flat).astype(np.float32)


def emitters(light: Light) -> list[Light]:
    """A light as one or more small ones: a wide area light in nine parts, any other alone.

    Shading takes light from a light's centre alone, which for a wide panel would leave upright surfaces dark.
    """
    axis = np.asarray(light.target, np.float64) - light.position
    if light.kind != "area" or light.size <= 0.5 * float(np.sqrt(axis @ axis)):
        return [light]
    across = unit(np.cross(axis, np.eye(3)[int(np.argmin(np.abs(axis)))]))
    along = unit(np.cross(axis, across))
    parts = []
    for i in (-1, 0, 1):
        for j in (-1, 0, 1):
            x, y, z = np.asarray(light.position) + light.size / 3 * (i * across + j * along)
            target = (x + axis[0], y + axis[1], z + axis[2])
            parts.append(replace(light, position=(x, y, z), target=target, power=light.power / 9, size=light.size / 3))
    return parts


def light_arrival(light: Light, points: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Where a light comes from, and how strong it is.

    Parameters
    ----------
    light : Light
    points : numpy.ndarray
        (K, 3) float32, metres, world.

    Returns
    -------
    to_light : numpy.ndarray
        (K, 3) float32 from each point to the light's centre, metres; for a sun a unit vector.
    irradiance : numpy.ndarray
        (K, 1) float32, W/m2 on a surface that faces the light, as Blender defines it for the light's power.
    """
    facing = unit(np.asarray(light.target, np.float32) - np.asarray(light.position, np.float32))
    if light.kind == "sun":
        return np.broadcast_to(-facing, points.shape), np.full((len(points), 1), light.power, np.float32)
    to_light = np.asarray(light.position, np.float32) - points
    square = np.maximum(dot(to_light, to_light), np.float32(1e-12))[:, None]
    if light.kind == "point":
        return to_light, np.float32(light.power / (4 * math.pi)) / square
    # A square emitter, one-sided; its size keeps the light finite close to it.
    cosine = np.maximum(0, -(to_light @ facing))[:, None] / np.sqrt(square)
    return to_light, np.float32(light.power) * cosine / (np.float32(math.pi) * square + np.float32(light.size**2))


def reflect(
    base: NDArray[Any],
    metallic: NDArray[Any],
    roughness: NDArray[Any],
    normals: NDArray[Any],
    to_eye: NDArray[Any],
    to_light: NDArray[Any],
) -> NDArray[Any]:
    """Radiance for one W/m2 of irradiance: Lambert plus a normalised Blinn-Phong highlight.

    Parameters
    ----------
    base : (K, 3), metallic : (K, 1), roughness : (K, 1)
        Linear base colour; glTF factors.
    normals, to_eye, to_light : numpy.ndarray
        (K, 3) unit vectors.

    Returns
    -------
    numpy.ndarray
        (K, 3) 1/sr, the cosine at the surface included.
    """
    cosine = np.maximum(0, dot(normals, to_light))[:, None]
    exponent = 2 / np.clip(roughness, 0.3, 1) ** 4 - 1.9
    half = np.maximum(0, dot(normals, unit(to_eye + to_light)))[:, None]
    highlight = (exponent + 2) / (8 * math.pi) * half**exponent
    # A metal has no diffuse part; without surroundings to mirror it would be black, so it keeps a share.
    return (base * (1 - 0.6 * metallic) / math.pi + (0.04 + (base - 0.04) * metallic) * highlight) * cosine


def ambient(base: NDArray[Any], background: Background) -> NDArray[Any]:
    """(K, 3) radiance that a surface of linear colour `base` (K, 3) reflects of the uniform world."""
    return base * (np.asarray(background.color, np.float32) * np.float32(background.strength))


def to_srgb(linear: NDArray[Any]) -> NDArray[Any]:
    """Linear values, clipped to [0, 1], as uint8 sRGB; any shape."""
    clipped = np.clip(linear, 0, 1)
    curve = np.where(clipped <= 0.0031308, 12.92 * clipped, 1.055 * clipped ** (1 / 2.4) - 0.055)
    return np.round(255 * curve).astype(np.uint8)


def _sample(texture: NDArray[Any], uv: NDArray[Any]) -> NDArray[Any]:
    """(K, 4) float32 linear RGBA; texture (H, W, 4) uint8 sRGB, uv (K, 2) with v down, repeated, bilinear.

    Like Cycles, it interpolates the codes as they are stored, and makes them linear afterwards.
    """
    height, width = texture.shape[:2]
    place = uv * (width, height) - 0.5
    corner = np.floor(place)
    across, down = (place - corner).astype(np.float32).T[:, :, None]
    left, top = corner.astype(np.int64).T
    codes = np.zeros((len(uv), 4), np.float32)
    for column, share_x in ((left, 1 - across), (left + 1, across)):
        for row, share_y in ((top, 1 - down), (top + 1, down)):
            codes += texture[row % height, column % width] * (share_x * share_y)
    result = codes / np.float32(255)
    result[:, :3] = LINEAR[np.rint(codes[:, :3] * np.float32(LINEAR_STEPS // 255)).astype(np.int64)]
    return result


def dot(a: NDArray[Any], b: NDArray[Any]) -> NDArray[Any]:
    """(...) inner products of vectors (..., 3)."""
    return a[..., 0] * b[..., 0] + a[..., 1] * b[..., 1] + a[..., 2] * b[..., 2]


def unit(vectors: NDArray[Any]) -> NDArray[Any]:
    """Vectors (..., 3) scaled to length 1; zero stays zero."""
    return vectors / np.maximum(np.sqrt(dot(vectors, vectors)), 1e-30)[..., None].astype(vectors.dtype)


def interpolate(corners: NDArray[Any], weights: NDArray[Any]) -> NDArray[Any]:
    """(K, C) values at barycentric weights (K, 3) of values at triangle corners (K, 3, C)."""
    return corners[:, 0] * weights[:, :1] + corners[:, 1] * weights[:, 1:2] + corners[:, 2] * weights[:, 2:]
