"""Which way an upright scene looks, where its method does not say: a search over headings before boxes are compared.

The box of a scene that is turned has other sides, so that two scenes scaled by their own boxes are of one size only if
they look the same way. Rigid alignment cannot mend the difference afterwards.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.seeding import generator
from randscene.train.metrics import nearest_distances
from randscene.train.triangle_mesh import TriangleMesh, join, sample_surface
from randscene.train.yaw_rotation import about_vertical

POINTS = 2_000
"""Of each side, shared out to the instances where these have partners."""
LEAST_POINTS = 200
"""Of an instance."""
COARSE, FINE = 10, 1
"""Degrees between headings: all round, then about the best."""
KEPT = 0.8
"""Share of the nearest distances that counts, in each direction: what is missing or too much should not decide."""


def find_heading(
    meshes: Sequence[TriangleMesh], true: Sequence[TriangleMesh], key: str, partners: Sequence[int] | None = None
) -> float:
    """The turn about Z, in whole degrees, after which a scene fits the true one best when both fill their cubes.

    Fit is the sum over both directions of the mean distance to the nearest point, without the largest fifth; where it
    is known which true instance each one stands for, the mean of the instances' own.

    Parameters
    ----------
    meshes, true : sequence of TriangleMesh
        Upright (Z-up), with a surface each; the true ones in the cube [-0.5, 0.5]^3.
    key : str
        Of the scene: the points drawn follow from it.
    partners : sequence of int, optional
        For each of `meshes` the place of its partner in `true`. Scenes that look alike from several sides, such as
        equal chairs round a table, have one heading only if this is known.

    Returns
    -------
    float
        In (-360, 360). Of equal fits the first counted from 0.
    """
    if partners is None:
        pairs, points = [(join(list(meshes)), join(list(true)))], POINTS
    else:
        pairs = [(mesh, true[place]) for mesh, place in zip(meshes, partners)]
        points = max(POINTS // max(len(pairs), 1), LEAST_POINTS)
    sources, targets = (
        [
            sample_surface(pair[side], points, generator("heading", key, name, number))
            for number, pair in enumerate(pairs)
        ]
        for side, name in enumerate(("prediction", "truth"))
    )
    fits = {angle: _misfit(sources, targets, angle) for angle in range(0, 360, COARSE)}
    best = min(fits, key=lambda angle: (fits[angle], angle))
    near = range(best - COARSE + FINE, best + COARSE, FINE)
    fits |= {angle: _misfit(sources, targets, angle) for angle in near if angle not in fits}
    return float(min(fits, key=lambda angle: (fits[angle], angle)))


def _misfit(sources: Sequence[NDArray[Any]], targets: Sequence[NDArray[Any]], degrees: float) -> float:
    turned = [source @ about_vertical(degrees)[:3, :3].T for source in sources]
    low = np.min([cloud.min(axis=0) for cloud in turned], axis=0)
    high = np.max([cloud.max(axis=0) for cloud in turned], axis=0)
    centre, side = (low + high) / 2, float((high - low).max())
    fits = []
    for cloud, target in zip(turned, targets):
        distances = nearest_distances((cloud - centre) / side, target)
        for one in (distances.forward, distances.backward):
            fits.append(float(np.sort(one)[: max(1, int(KEPT * len(one)))].mean()))
    return sum(fits) / len(targets)
