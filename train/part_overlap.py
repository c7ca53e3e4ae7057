"""How much the instances of one prediction run into each other: PartCrafter's measure, which needs no truth."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.train.metrics import voxel_iou
from randscene.train.triangle_mesh import TriangleMesh

GRID = 64
"""Cells along a side of [-1, 1]^3."""
_POINTS_AT_ONCE = 2_000_000


def part_overlap(meshes: Sequence[TriangleMesh]) -> float | None:
    """Mean over all pairs of a prediction's instances of the IoU of their filled voxels, in [0, 1]; lower is better.

    The box of all instances is first centred and scaled, alike in all directions, to touch [-1, 1]^3. Cells have side
    2 / 64 and their centres at its multiples; an instance takes the cells that its surface meets and those that the
    surface encloses. A mesh with a hole encloses nothing, so that only its shell counts.

    Parameters
    ----------
    meshes : sequence of TriangleMesh
        With a surface each (see `TriangleMesh.problem`), in one frame.

    Returns
    -------
    float or None
        None with fewer than two instances.
    """
    if len(meshes) < 2:
        return None
    corners = [mesh.vertices[mesh.faces] for mesh in meshes]
    low = np.min([one.min(axis=(0, 1)) for one in corners], axis=0)
    high = np.max([one.max(axis=(0, 1)) for one in corners], axis=0)
    middle, half = (low + high) / 2, float((high - low).max()) / 2
    cells = [filled_cells((one - middle) / half) + GRID for one in corners]
    ious = [voxel_iou(a, b) for a, b in itertools.combinations(cells, 2)]
    return sum(ious) / len(ious)


def filled_cells(triangles: NDArray[Any]) -> NDArray[Any]:
    """(V, 3) int64: the cells that triangles (F, 3, 3) in [-1, 1]^3 meet or enclose, cell i around i / 32."""
    from scipy.ndimage import binary_fill_holes

    cells = surface_cells(triangles, 2 / GRID)
    low = cells.min(axis=0)
    grid = np.zeros(cells.max(axis=0) - low + 1, bool)
    grid[tuple((cells - low).T)] = True
    return np.argwhere(binary_fill_holes(grid)) + low


def surface_cells(triangles: NDArray[Any], side: float) -> NDArray[Any]:
    """(V, 3) int64: the cells of side `side`, cell i around i * side, that hold a point of a fine lattice on (F, 3, 3)
    triangles: neighbours in it are at most half a side apart."""
    edges = triangles - np.roll(triangles, 1, axis=1)
    longest = np.sqrt((edges**2).sum(axis=2)).max(axis=1)
    steps = np.maximum(np.ceil(longest / (side / 2)), 1).astype(np.int64)
    # Every point lies between corners. A grid of all cells there is marked far sooner than points are sorted.
    low, high = (np.rint(end(triangles, axis=(0, 1)) / side).astype(np.int64) for end in (np.min, np.max))
    met = np.zeros(high - low + 3, bool)  # a sum of weights that is not quite 1 may leave the corners' box
    for count in np.unique(steps).tolist():
        some = triangles[steps == count]
        first, second = (axis.ravel() for axis in np.meshgrid(*[np.arange(count + 1)] * 2, indexing="ij"))
        inside = first + second <= count
        weights = np.stack([count - first - second, first, second], axis=1)[inside] / count
        at_once = max(1, _POINTS_AT_ONCE // len(weights))
        for begin in range(0, len(some), at_once):
            points = np.einsum("wc,fcd->fwd", weights, some[begin : begin + at_once]).reshape(-1, 3)
            met[tuple((np.rint(points / side).astype(np.int64) - low + 1).T)] = True
    return np.argwhere(met) + low - 1
