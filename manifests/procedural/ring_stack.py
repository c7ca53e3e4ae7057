"""The one surface builder behind lathes, slabs, lofts and tubes: a stack of rings, with creases where it is sharp."""

import itertools
import math

import numpy as np

from randscene.manifests.procedural.model import FloatArray, IntArray, Surface

_SMOOTH = math.cos(math.radians(38.7))  # rows that bend more than this get a crease


def unit(vectors: FloatArray) -> FloatArray:
    """`vectors` (..., D) scaled to length 1; zero stays zero."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def _creases(rings: FloatArray, *, loop: bool) -> list[int]:
    """Inner rows (any row of a loop) at which the surface bends too sharply to be shaded smoothly."""
    stack = np.concatenate([rings, rings[:1]]) if loop else rings
    around = np.roll(stack, -1, axis=1) - np.roll(stack, 1, axis=1)
    facets = unit(np.cross(around[:-1] + around[1:], stack[1:] - stack[:-1]))
    if loop:
        bend = (facets * np.roll(facets, 1, axis=0)).sum(axis=2).mean(axis=1)
        return [int(i) for i in np.flatnonzero(bend < _SMOOTH)]
    bend = (facets[1:] * facets[:-1]).sum(axis=2).mean(axis=1)
    return [int(i) + 1 for i in np.flatnonzero(bend < _SMOOTH)]


def _hard_columns(ring: FloatArray) -> list[int]:
    """Points at which a ring turns sharply, by more than a coarse circle does."""
    edges = unit(np.roll(ring, -1, axis=0) - ring)
    cosine = (edges * np.roll(edges, 1, axis=0)).sum(axis=1)
    limit = max(math.radians(41.3), 4 * math.pi / len(ring))
    return [int(i) for i in np.flatnonzero(cosine < math.cos(min(limit, math.pi)))]


def _band_normals(
    band: FloatArray, columns: tuple[IntArray, IntArray, IntArray], poles: tuple[bool, bool], *, loop: bool
) -> FloatArray:
    """Normals of the vertices of a band; `columns` holds each vertex's column and the two it takes its tangent from."""
    if loop:  # the last row repeats the first
        along = np.concatenate([band[1:], band[1:2]]) - np.concatenate([band[-2:-1], band[:-1]])
    else:
        along = np.concatenate([band[1:], band[-1:]]) - np.concatenate([band[:1], band[:-1]])
    own, before, after = columns
    around = band[:, after] - band[:, before]
    for pole, row, next_row in ((poles[0], 0, 1), (poles[1], -1, -2)):
        if pole:
            around[row] = around[next_row]
    normals = unit(np.cross(around, along[:, own]))
    for pole, row in ((poles[0], 0), (poles[1], -1)):
        if pole:
            normals[row] = unit(normals[row].mean(axis=0))
    return normals


def _columns(ring: FloatArray) -> tuple[tuple[IntArray, IntArray, IntArray], IntArray, FloatArray]:
    """How a ring of N points becomes columns of vertices: the seam and each sharp point give two.

    Returns
    -------
    columns : three (M,) int64
        Point of each column, and the points before and after it that its tangent runs between.
    gaps : (M - 1,) bool
        Whether column j and j + 1 are joined by faces.
    girth : (M,) float64
        Length around the ring.
    """
    n = len(ring)
    hard = set(_hard_columns(ring))
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.roll(ring, -1, axis=0) - ring, axis=1))])
    own, before, after, place = [], [], [], []
    for i in range(n + 1):
        point = i % n
        left, right = (point - 1) % n, (point + 1) % n
        if point not in hard:
            sides = [(left, right)]
        elif i == 0:
            sides = [(point, right)]
        elif i == n:
            sides = [(left, point)]
        else:
            sides = [(left, point), (point, right)]
        for a, b in sides:
            own.append(point)
            before.append(a)
            after.append(b)
            place.append(i)
    joined = np.diff(np.array(place)) == 1
    return (np.array(own), np.array(before), np.array(after)), joined, length[np.array(place)]


def ring_stack(
    rings: FloatArray, *, loop: bool = False, u_along: str = "rows", planar_ends: bool = False, crease: bool = True
) -> Surface:
    """The closed surface through a stack of rings.

    Parameters
    ----------
    rings : (K, N, 3) float64
        Rings from bottom to top, each counter-clockwise seen from above. The first and the last one must be
        single points (poles), unless the stack is a `loop`, whose last ring joins the first.
    u_along : {"rows", "columns"}
        Whether u runs up the stack or around it.
    planar_ends : bool
        Give the disc at either end its own flat normal and map it by (x, y), so that a pattern does not run
        together at the pole.
    crease : bool
        Split the normals where rows bend sharply; otherwise everything is smooth.

    Returns
    -------
    Surface
    """
    starts = _creases(rings, loop=loop) if crease else []
    if planar_ends:
        starts = sorted({1, *starts, len(rings) - 2})
    wrap = loop and not starts
    if loop:
        first = starts[0] if starts else 0
        rings = np.roll(rings, -first, axis=0)
        rings = np.concatenate([rings, rings[:1]])
        starts = [i - first for i in starts if i != first]
    k = len(rings)
    bounds = [0, *starts, k - 1]
    is_pole = np.ptp(rings, axis=1).max(axis=1) < 1e-9
    steps = np.linalg.norm(np.diff(rings, axis=0), axis=2).mean(axis=1)
    height = np.concatenate([[0.0], np.cumsum(steps)])
    lengths = np.linalg.norm(np.roll(rings, -1, axis=1) - rings, axis=2).sum(axis=1)
    columns, joined, girth = _columns(rings[int(np.argmax(np.round(lengths, 9)))])
    own, m = columns[0], len(girth)

    vertices, normals, uvs, faces = [], [], [], []
    offset = 0
    for a, b in itertools.pairwise(bounds):
        band = rings[a : b + 1]
        poles = (bool(is_pole[a]), bool(is_pole[b]))
        rows = b - a + 1
        up, turn = np.meshgrid(height[a : b + 1], girth, indexing="ij")
        uv = np.stack([up, turn] if u_along == "rows" else [turn, up], axis=2)
        flat = planar_ends and rows == 2 and any(poles)
        vertices.append(band[:, own].reshape(-1, 3))
        normals.append(_band_normals(band, columns, poles, loop=wrap).reshape(-1, 3))
        uvs.append((band[:, own, :2] if flat else uv).reshape(-1, 2))
        index = offset + np.arange(rows * m).reshape(rows, m)
        low, right = index[:-1, :-1], index[:-1, 1:]
        top, corner = index[1:, :-1], index[1:, 1:]
        keep_low = np.broadcast_to(joined, low.shape).copy()
        keep_top = keep_low.copy()
        keep_low[0] &= not poles[0]  # a pole has no edge around itself
        keep_top[-1] &= not poles[1]
        faces.append(np.stack([low, right, corner], axis=2)[keep_low])
        faces.append(np.stack([low, corner, top], axis=2)[keep_top])
        offset += rows * m
    around_period, up_period = float(girth[-1]), float(height[-1]) if loop else 0.0
    return Surface(
        vertices=np.concatenate(vertices),
        normals=np.concatenate(normals),
        uv=np.concatenate(uvs),
        faces=np.concatenate(faces),
        period=(up_period, around_period) if u_along == "rows" else (around_period, up_period),
    )
