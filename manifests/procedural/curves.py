"""Plane and space curves that the primitives sweep: outlines, profiles, paths. All arrays are float64, metres."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from randscene.manifests.procedural.model import FloatArray


def circle(segments: int, radius: float = 1.0, phase: float = 0.0) -> FloatArray:
    """(segments, 2) points of a circle, counter-clockwise from angle `phase`."""
    angle = phase + np.arange(segments) * (2 * math.pi / segments)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def superellipse(half_x: float, half_y: float, segments: int = 48, exponent: float = 2.0) -> FloatArray:
    """(segments, 2) outline |x/a|^n + |y/b|^n = 1: an ellipse for n = 2, nearly a rectangle for large n."""
    unit = circle(segments)
    shaped = np.sign(unit) * np.abs(np.where(np.abs(unit) < 1e-12, 0.0, unit)) ** (2.0 / exponent)
    return shaped * np.array([half_x, half_y])


def round_corners(
    points: FloatArray, radius: float | Sequence[float], *, steps: int = 3, closed: bool = True
) -> FloatArray:
    """Replace the corners of a polyline by arcs.

    Parameters
    ----------
    points : (N, 2) float64
        Polyline, metres; its ends stay as they are unless it is `closed`.
    radius : float or N floats
        Radius of each corner, metres; it shrinks where its neighbours leave no room, 0 keeps the corner sharp.
    steps : int
        Segments of each arc.

    Returns
    -------
    (M, 2) float64
    """
    n = len(points)
    radii = [float(radius)] * n if isinstance(radius, int | float) else [float(r) for r in radius]
    rows: list[FloatArray] = []
    for i, p in enumerate(points):
        before, after = points[i - 1] - p, points[(i + 1) % n] - p
        long_before, long_after = float(np.hypot(*before)), float(np.hypot(*after))
        end = not closed and i in (0, n - 1)
        if end or radii[i] <= 0 or min(long_before, long_after) < 1e-9:
            rows.append(p[None])
            continue
        before, after = before / long_before, after / long_after
        half = math.acos(max(-1.0, min(1.0, float(before @ after)))) / 2
        if half > math.pi / 2 - 1e-3 or half < 1e-3:
            rows.append(p[None])
            continue
        reach = min(radii[i] / math.tan(half), 0.49 * long_before, 0.49 * long_after)
        centre = p + (before + after) / np.linalg.norm(before + after) * (reach / math.cos(half))
        start, stop = p + before * reach - centre, p + after * reach - centre
        sweep = math.pi - 2 * half
        t = np.linspace(0.0, 1.0, steps + 1)[:, None]
        rows.append(centre + (np.sin((1 - t) * sweep) * start + np.sin(t * sweep) * stop) / math.sin(sweep))
    return np.concatenate(rows)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Outline:
    """A polygon with rounded corners that can be drawn in without folding over at the corners."""

    corners: FloatArray
    """(N, 2) metres, counter-clockwise."""
    radius: float = 0.0
    """Radius of every corner, metres."""
    steps: int = 3
    """Segments of each rounded corner."""
    hub: tuple[float, float] | None = None
    """A point that sees the whole outline; None for the mean of the corners."""

    @property
    def points(self) -> FloatArray:
        """(N * (steps + 1), 2) float64, or (N, 2) without rounding."""
        return self.drawn_in(0.0)

    def drawn_in(self, distance: float) -> FloatArray:
        """The points of the outline moved inwards by `distance` metres: as many as `points`, in the same order."""
        moved = inset(self.corners, distance)
        if self.radius <= 0:
            return moved
        before, after = moved - np.roll(moved, 1, axis=0), np.roll(moved, -1, axis=0) - moved
        convex = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0] > 0
        radii = np.where(convex, max(self.radius - distance, 5e-4), max(self.radius + distance, 5e-4))
        return round_corners(moved, radii.tolist(), steps=self.steps)

    def shrunk(self, distance: float) -> "Outline":
        """The outline moved inwards, as an outline of its own."""
        return replace(self, corners=inset(self.corners, distance), radius=max(self.radius - distance, 5e-4))


def rectangle(size_x: float, size_y: float, radius: float = 0.0, *, steps: int = 3) -> Outline:
    """A rectangle around the origin."""
    x, y = size_x / 2, size_y / 2
    return Outline(corners=np.array([[-x, -y], [x, -y], [x, y], [-x, y]]), radius=radius, steps=steps)


def regular_polygon(sides: int, size: float, radius: float = 0.0, *, steps: int = 3) -> Outline:
    """A regular polygon with an edge facing -Y, `size` metres from the middle to its corners before rounding."""
    return Outline(corners=circle(sides, size, -math.pi / 2 + math.pi / sides), radius=radius, steps=steps)


def l_shape(size_x: float, size_y: float, arm_x: float, arm_y: float, radius: float, *, steps: int = 4) -> Outline:
    """An L in the box from the origin to (size_x, size_y), its corner at the origin.

    The arm along Y is `arm_x` metres wide (measured in x), the one along X `arm_y` (measured in y).
    """
    corners = np.array(
        [[0, 0], [size_x, 0], [size_x, arm_y], [arm_x, arm_y], [arm_x, size_y], [0, size_y]], dtype=float
    )
    return Outline(corners=corners, radius=radius, steps=steps, hub=(arm_x * 0.6, arm_y * 0.6))


def toothed(radius: float, teeth: int, depth: float, *, per_tooth: int = 8, sharpness: float = 3.0) -> FloatArray:
    """(teeth * per_tooth, 2) wavy outline between `radius` and `radius - depth`; high `sharpness` makes gear teeth."""
    angle = np.arange(teeth * per_tooth) * (2 * math.pi / (teeth * per_tooth))
    wave = np.tanh(sharpness * np.cos(teeth * angle)) / math.tanh(sharpness)
    r = radius - depth * (1 - wave) / 2
    return np.stack([r * np.cos(angle), r * np.sin(angle)], axis=1)


def inset(outline: FloatArray, distance: float) -> FloatArray:
    """(N, 2) counter-clockwise outline moved inwards by `distance` metres (negative: outwards), mitred."""
    edges = np.roll(outline, -1, axis=0) - outline
    normals = np.stack([edges[:, 1], -edges[:, 0]], axis=1)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    both = normals + np.roll(normals, 1, axis=0)
    both /= np.maximum((both * normals).sum(axis=1, keepdims=True), 1e-6)
    return outline - distance * both


def smooth(points: Sequence[Sequence[float]] | FloatArray, samples: int, *, closed: bool = False) -> FloatArray:
    """Catmull-Rom curve through (N, D) points: (samples, D), evenly spaced in the curve's parameter.

    A `closed` curve returns to its first point, which is not repeated at the end.
    """
    p = np.asarray(points, dtype=np.float64)
    if closed:
        p = np.concatenate([p[-1:], p, p[:2]])
        t = np.arange(samples) * ((len(p) - 3) / samples)
    else:
        p = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
        t = np.linspace(0.0, len(p) - 3, samples)
    i = np.minimum(t.astype(np.int64), len(p) - 4)
    f = (t - i)[:, None]
    a, b, c, d = p[i], p[i + 1], p[i + 2], p[i + 3]
    return b + 0.5 * f * (c - a + f * (2 * a - 5 * b + 4 * c - d + f * (3 * (b - c) + d - a)))


def resampled(points: FloatArray, samples: int) -> FloatArray:
    """(samples, D) points evenly spaced along the length of an open polyline."""
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    at = np.linspace(0.0, length[-1], samples)
    return np.stack([np.interp(at, length, points[:, k]) for k in range(points.shape[1])], axis=1)


def helix(radius: float, height: float, turns: float, samples: int) -> FloatArray:
    """(samples, 3) helix about Z from z = 0 to `height`."""
    t = np.linspace(0.0, 1.0, samples)
    angle = 2 * math.pi * turns * t
    return np.stack([radius * np.cos(angle), radius * np.sin(angle), height * t], axis=1)


def torus_knot(p: int, q: int, radius: float, wave: float, samples: int) -> FloatArray:
    """(samples, 3) closed (p, q) torus knot about Z: p turns around the axis, q around a tube of radius `wave`."""
    t = np.arange(samples) * (2 * math.pi / samples)
    r = radius + wave * np.cos(q * t)
    return np.stack([r * np.cos(p * t), r * np.sin(p * t), wave * np.sin(q * t)], axis=1)


def polar_superellipse(segments: int, exponent: float) -> FloatArray:
    """(segments,) radius by angle of the unit superellipse: 1 on the axes; a rounded square for exponents above 2."""
    unit = np.abs(circle(segments))
    return (unit**exponent).sum(axis=1) ** (-1.0 / exponent)


def polar_polygon(segments: int, sides: int) -> FloatArray:
    """(segments,) radius by angle of a regular polygon whose corners lie on the unit circle."""
    step = 2 * math.pi / sides
    angle = np.arange(segments) * (2 * math.pi / segments)
    return math.cos(step / 2) / np.cos((angle + 1e-9) % step - step / 2)


def polar_flutes(segments: int, flutes: int, depth: float) -> FloatArray:
    """(segments,) radius by angle that waves between 1 and 1 - depth; give at least 4 segments a flute."""
    return 1 - depth * (1 - np.cos(np.arange(segments) * (2 * math.pi * flutes / segments))) / 2
