"""The layout of a scene from above, as the preview page draws it: discs, cameras' directions, outlines of objects."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.shards.view_sample import RESOLUTION, ViewSample

_SHOWN = ("disc_instances", "radii", "centres", "gap", "region", "expansions", "tries")


def direction(camera_to_world: Any, look_at: Any) -> tuple[float, float]:
    """Azimuth and elevation of a camera as seen from the look-at point, degrees.

    Parameters
    ----------
    camera_to_world : (4, 4) nested lists or array, world metres
    look_at : (3,) list or array, world metres
    """
    x, y, z = (camera_to_world[row][3] - look_at[row] for row in range(3))
    return round(math.degrees(math.atan2(y, x)), 1), round(math.degrees(math.atan2(z, math.hypot(x, y))), 1)


def plan(recipe: dict[str, Any]) -> dict[str, Any]:
    """What the page draws of a scene's recipe (plain JSON): layout facts, and the azimuth of each planned camera."""
    return {
        **{name: recipe["layout"][name] for name in _SHOWN},
        "cameras": [direction(camera["camera_to_world"], recipe["look_at"])[0] for camera in recipe["cameras"]],
        "look_at": recipe["look_at"][:2],
    }


def footprints(sample: ViewSample) -> dict[str, Any]:
    """Outline of each instance from above: an SVG matrix from path units to world metres, and a path each.

    In a frame that keeps the vertical, the voxels' columns are squares of a turned grid, and the path is their
    union, run by run. Otherwise it is the convex hull of the voxels' centres.
    """
    to_world = np.linalg.inv(sample.world_to_view)
    parts = [sample.instance_coords(number + 1).astype(int) for number in range(sample.n_instances)]
    if np.allclose(to_world[:2, 2], 0, atol=1e-9 * np.abs(to_world[:3, :3]).max()):
        linear = to_world[:2, :2] / RESOLUTION
        shift = to_world[:2, 3] - to_world[:2, :2] @ (0.5, 0.5)
        matrix = [*linear.T.ravel(), *shift]
        paths = [_runs(coords[:, :2]) for coords in parts]
    else:
        matrix = [1, 0, 0, 1, 0, 0]
        paths = [
            _hull(((coords + 0.5) / RESOLUTION - 0.5) @ to_world[:3, :3].T[:, :2] + to_world[:2, 3]) for coords in parts
        ]
    return {"matrix": [round(float(value), 6) for value in matrix], "paths": paths}


def _runs(cells: NDArray[Any]) -> str:
    grid = np.zeros((RESOLUTION + 2, RESOLUTION), np.int8)
    grid[cells[:, 0] + 1, cells[:, 1]] = 1
    steps = np.diff(grid, axis=0)
    path = []
    for row in np.flatnonzero(grid.any(axis=0)):
        starts, ends = np.flatnonzero(steps[:, row] > 0), np.flatnonzero(steps[:, row] < 0)
        path += [f"M{start} {row}h{end - start}v1h{start - end}z" for start, end in zip(starts, ends)]
    return "".join(path)


def _hull(points: NDArray[Any]) -> str:
    """Convex hull (Andrew's monotone chain) as a closed path."""
    order = sorted(set(map(tuple, np.round(points, 4).tolist())))
    chains = []
    for sequence in (order, order[::-1]):
        chain: list[tuple[float, ...]] = []
        for x, y in sequence:
            while len(chain) > 1 and (
                (chain[-1][0] - chain[-2][0]) * (y - chain[-2][1]) <= (chain[-1][1] - chain[-2][1]) * (x - chain[-2][0])
            ):
                chain.pop()
            chain.append((x, y))
        chains += chain[:-1] if len(chain) > 1 else chain
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in chains) + "z" if chains else ""
