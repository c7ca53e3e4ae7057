"""Closed solids with normals and texture coordinates: ring stacks (lathe, slab, loft, tube) and the bevelled box."""

import functools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from randscene.manifests.procedural import curves
from randscene.manifests.procedural.model import FloatArray, IntArray, Surface
from randscene.manifests.procedural.ring_stack import ring_stack, unit


def lathe(
    profile: FloatArray | Sequence[Sequence[float]],
    segments: int = 32,
    *,
    loop: bool = False,
    section: FloatArray | None = None,
    twist: FloatArray | None = None,
    u_along: str = "rows",
    planar_ends: bool = False,
) -> Surface:
    """A surface of revolution about Z.

    Parameters
    ----------
    profile : (K, 2)
        Radius and z, metres, from the bottom up the outer side (and, for a vessel, down the inner one).
        An open profile that does not begin or end on the axis is closed by a flat disc.
    section : (segments,) float64, optional
        Factor on the radius by angle, e.g. for flutes.
    twist : (K,) float64, optional
        Radians by which each row is turned.
    """
    p = np.asarray(profile, dtype=np.float64)
    turns = np.zeros(len(p)) if twist is None else np.asarray(twist, dtype=np.float64)
    if not loop:
        head = [0] if p[0, 0] > 1e-9 else []
        tail = [len(p) - 1] if p[-1, 0] > 1e-9 else []
        rows = [*head, *range(len(p)), *tail]
        p, turns = p[rows].copy(), turns[rows]
        p[0, 0] = p[-1, 0] = 0.0
    angle = np.arange(segments)[None] * (2 * math.pi / segments) + turns[:, None]
    radius = p[:, :1] * (np.ones((1, segments)) if section is None else section[None])
    z = np.broadcast_to(p[:, 1:], radius.shape)
    rings = np.stack([radius * np.cos(angle), radius * np.sin(angle), z], axis=2)
    return ring_stack(rings, loop=loop, u_along=u_along, planar_ends=planar_ends)


def slab(outline: curves.Outline | FloatArray, edge: Sequence[tuple[float, float]]) -> Surface:
    """A flat plate with a shaped edge; its top and bottom are exactly plane.

    Parameters
    ----------
    outline : Outline or (N, 2) float64
        Counter-clockwise, every point visible from its hub (default: the mean of the points).
    edge : sequence of (inset, z)
        The edge from bottom to top: how far the outline is drawn in, and at what height, metres.
    """
    if isinstance(outline, curves.Outline):
        drawn = [outline.drawn_in(distance) for distance, _ in edge]
        centre = outline.corners.mean(axis=0) if outline.hub is None else np.array(outline.hub)
    else:
        drawn = [curves.inset(outline, distance) for distance, _ in edge]
        centre = outline.mean(axis=0)
    hub = np.broadcast_to(centre, drawn[0].shape)
    rows = [hub, *drawn, hub]
    heights = [edge[0][1], *(z for _, z in edge), edge[-1][1]]
    rings = np.empty((len(rows), len(hub), 3))
    for ring, points, z in zip(rings, rows, heights):
        ring[:, :2] = points
        ring[:, 2] = z
    return ring_stack(rings, u_along="columns", planar_ends=True)


def prism(outline: curves.Outline | FloatArray, z_low: float, z_high: float, bevel: float = 0.0) -> Surface:
    """A straight `slab` from `z_low` to `z_high` with bevelled edges."""
    b = min(bevel, (z_high - z_low) * 0.45)
    edge = [(b, z_low), (0.0, z_low + b), (0.0, z_high - b), (b, z_high)] if b > 0 else [(0.0, z_low), (0.0, z_high)]
    return slab(outline, edge)


def loft(outlines: Sequence[FloatArray], heights: Sequence[float]) -> Surface:
    """A solid through (N, 2) outlines of equal length at rising heights, with flat ends; u runs upwards."""
    stack = [np.broadcast_to(outlines[0].mean(axis=0), outlines[0].shape), *outlines]
    stack.append(np.broadcast_to(outlines[-1].mean(axis=0), outlines[-1].shape))
    z = np.array([heights[0], *heights, heights[-1]], dtype=np.float64)
    flat = np.stack(stack)
    rings = np.concatenate([flat, np.broadcast_to(z[:, None, None], (*flat.shape[:2], 1))], axis=2)
    return ring_stack(rings)


def _frames(path: FloatArray, *, closed: bool, up: FloatArray | None) -> tuple[FloatArray, FloatArray]:
    """Unit side vectors (K, 3) each along a path, carried along with as little turning as possible."""
    if closed:
        tangents = unit(np.roll(path, -1, axis=0) - np.roll(path, 1, axis=0))
    else:
        tangents = unit(np.concatenate([path[1:], path[-1:]]) - np.concatenate([path[:1], path[:-1]]))
    if up is None:
        up = np.eye(3)[int(np.argmin(np.abs(np.round(tangents[0], 6))))]
    side = np.empty_like(path)
    current = up
    for i, tangent in enumerate(tangents):
        current = current - tangent * (current @ tangent)
        current = current / max(float(np.linalg.norm(current)), 1e-12)
        side[i] = current
    other = np.cross(tangents, side)
    if closed:  # spread the angle that is left after one round over the whole path
        back = side[-1] - tangents[0] * (side[-1] @ tangents[0])
        left = math.atan2(float(back @ other[0]), float(back @ side[0]))
        angle = -left * np.arange(len(path)) / len(path)
        c, s = np.cos(angle)[:, None], np.sin(angle)[:, None]
        side, other = side * c + other * s, other * c - side * s
    return side, other


def tube(
    path: FloatArray | Sequence[Sequence[float]],
    radius: float | FloatArray,
    segments: int = 12,
    *,
    closed: bool = False,
    section: FloatArray | None = None,
    up: Sequence[float] | None = None,
) -> Surface:
    """A tube along a space curve; u runs along it.

    Parameters
    ----------
    path : (K, 3)
        Centre line, metres; a `closed` one must not repeat its first point.
    radius : float or (K,) or (K, 2)
        Radius, metres, by point; two columns give it along the section's first and second axis.
    section : (N, 2) float64, optional
        Counter-clockwise outline of unit size (default: a circle of `segments` points).
    up : 3 floats, optional
        Direction that the section's first axis takes at the start, made perpendicular to the path.
    """
    p = np.asarray(path, dtype=np.float64)
    outline = curves.circle(segments) if section is None else section
    size = np.broadcast_to(
        np.asarray(radius, dtype=np.float64).reshape(-1, 1) if np.ndim(radius) < 2 else radius, (len(p), 2)
    )
    side, other = _frames(p, closed=closed, up=None if up is None else np.asarray(up, dtype=np.float64))
    across = outline[None, :, :1] * size[:, None, :1] * side[:, None]
    rings = p[:, None] + across + outline[None, :, 1:] * size[:, None, 1:] * other[:, None]
    if not closed:
        ends = np.broadcast_to(p[[0, -1], None], (2, *rings.shape[1:]))
        rings = np.concatenate([ends[:1], rings, ends[1:]])
    return ring_stack(rings, loop=closed)


def rod(start: Sequence[float], end: Sequence[float], radius: float, segments: int = 12, rows: int = 2) -> Surface:
    """A straight round bar between two points."""
    a, b = np.array([float(x) for x in start]), np.array([float(x) for x in end])
    return tube(np.stack([a + (b - a) * t for t in np.linspace(0.0, 1.0, rows)]), radius, segments)


def ball(radius: float, segments: int = 32, rows: int = 16) -> Surface:
    """A sphere around the origin, poles on Z."""
    angle = np.linspace(-math.pi / 2, math.pi / 2, rows + 1)
    return lathe(np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1), segments)


def torus(radius: float, thickness: float, segments: int = 36, rows: int = 12) -> Surface:
    """A ring about Z with `radius` to the middle of a tube of radius `thickness`."""
    return lathe(curves.circle(rows, thickness) + np.array([radius, 0.0]), segments, loop=True)


def cushion(
    size: Sequence[float], *, puff: float = 4.0, segments: int = 36, rows: int = 12, folded: bool = True
) -> Surface:
    """A pillow-like box around the origin: a superellipsoid; higher `puff` is squarer.

    A `folded` one is mapped flat from its broad side with the rims folded over, as cloth lies; else around Z.
    """
    angle = np.linspace(-math.pi / 2, math.pi / 2, rows + 1)
    c, s = np.cos(angle), np.sin(angle)
    c[0] = c[-1] = 0.0
    power = 2.0 / puff
    outline = curves.superellipse(size[0] / 2, size[1] / 2, segments, puff)
    rings = np.empty((rows + 1, segments, 3))
    rings[:, :, :2] = outline[None] * (c**power)[:, None, None]
    rings[:, :, 2] = (np.sign(s) * np.abs(s) ** power * size[2] / 2)[:, None]
    if not folded:
        return ring_stack(rings, u_along="columns", crease=False)
    surface = ring_stack(rings, crease=False)
    half = np.array(size, dtype=np.float64) / 2
    u, v, thin = sorted(range(3), key=lambda axis: (-half[axis], axis))
    p = surface.vertices
    flat = [p[:, axis] - p[:, thin] * (p[:, axis] / half[axis]) ** 3 for axis in (u, v)]
    return replace(surface, uv=np.stack(flat, axis=1), period=(0.0, 0.0))


def _signs(by_axis: dict[int, int]) -> tuple[int, int, int]:
    return (by_axis[0], by_axis[1], by_axis[2])


@functools.cache
def _box_template() -> tuple[IntArray, IntArray, IntArray]:
    """Vertices of a bevelled box as (corner signs, own axis, axis of the face that maps them), and its faces."""
    corners = [(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]
    signs: list[tuple[int, int, int]] = []
    axes: list[tuple[int, int]] = []
    index: dict[tuple[tuple[int, int, int], int, int], int] = {}
    for own, mapped in ((0, 0), (1, 1), (2, 2), (0, 2), (1, 2), (1, 0)):
        for corner in corners:
            index[corner, own, mapped] = len(signs)
            signs.append(corner)
            axes.append((own, mapped))
    polygons: list[list[int]] = []
    for axis in range(3):
        p, q = [a for a in range(3) if a != axis]
        for s in (-1, 1):
            ring = [_signs({axis: s, p: sp, q: sq}) for sp, sq in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
            polygons.append([index[corner, axis, axis] for corner in ring])
    for other, owner in ((0, 2), (1, 2), (1, 0)):
        axis = 3 - other - owner
        for so in (-1, 1):
            for sw in (-1, 1):
                a, b = (_signs({axis: s, other: so, owner: sw}) for s in (-1, 1))
                owned = [index[a, owner, owner], index[b, owner, owner]]
                polygons.append([*owned, index[b, other, owner], index[a, other, owner]])
    polygons += [[index[c, 2, 2], index[c, 0, 2], index[c, 1, 2]] for c in corners]
    sign_array, axis_array = np.array(signs), np.array(axes)
    points = _box_points(sign_array, axis_array, np.ones(3), 0.2)
    faces = []
    for polygon in polygons:
        first, second, third = points[polygon[:3]]
        outward = np.cross(second - first, third - first) @ points[polygon].mean(axis=0) > 0
        turn = polygon if outward else polygon[::-1]
        faces += [[turn[0], turn[i], turn[i + 1]] for i in range(1, len(turn) - 1)]
    return sign_array, axis_array, np.array(faces)


def _box_points(signs: IntArray, axes: IntArray, half: FloatArray, bevel: float) -> FloatArray:
    reach = np.where(np.arange(3)[None] == axes[:, :1], half[None], half[None] - bevel)
    return signs * reach


def box(size: Sequence[float], bevel: float = 0.004) -> Surface:
    """A box around the origin with bevelled edges that shade as if rounded; u runs along the longer side of a face.

    Parameters
    ----------
    size : 3 floats
        Lengths along x, y, z, metres.
    bevel : float
        Width of the bevel, metres; at most a fifth of the shortest side is used.
    """
    lengths = np.asarray(size, dtype=np.float64)
    signs, axes, faces = _box_template()
    points = _box_points(signs, axes, lengths / 2, min(bevel, float(lengths.min()) * 0.2))
    order = sorted(range(3), key=lambda axis: (-lengths[axis], axis))
    plane = np.array([[a for a in order if a != mapped] for mapped in range(3)])[axes[:, 1]]
    rows = np.arange(len(points))
    return Surface(
        vertices=points,
        normals=np.eye(3)[axes[:, 0]] * signs,
        uv=np.stack([points[rows, plane[:, 0]], points[rows, plane[:, 1]]], axis=1),
        faces=faces,
    )
