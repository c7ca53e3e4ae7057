"""Where the instances of a prediction stand: their centres, their yaw, and whether equal objects share one place.

Chamfer distances mix shape and place; these measures tell place alone. All clouds lie in the space of the metrics,
after the scene's alignment, Z up.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.seeding import generator
from randscene.train.yaw_rotation import about_vertical

YAWS = 24
"""Turns that are tried, evenly spaced: 15 degrees apart."""
POINTS = 1000
"""Most points of a cloud that a turn is judged by."""
AS_GOOD = 1.1
"""A turn fits as well as the best one if its distance is at most this many times the best one's: of an object with
symmetries several do, and the least of them is the error. Two samplings of one round surface differ by up to 5 %."""


@dataclass(frozen=True, kw_only=True)
class InstancePlacement:
    """How one predicted instance stands."""

    centre_error: float
    """Distance of the centroids of the surfaces, in the space of the metrics, [-1, 1]^3."""
    yaw_error_deg: float
    """Least of `YAWS` turns about Z (0 to 180 degrees) after which the prediction fits the true instance as well as
    after any, both centred and scaled alike to one size: so neither place nor size counts, and nor do symmetries."""


def instance_placement(predicted: NDArray[Any], true: NDArray[Any]) -> InstancePlacement:
    """Compare one predicted instance with the true one.

    Parameters
    ----------
    predicted, true : (N, 3) and (M, 3) float64
        Points of the surfaces; neither empty.
    """
    return InstancePlacement(
        centre_error=float(np.linalg.norm(predicted.mean(axis=0) - true.mean(axis=0))),
        yaw_error_deg=_yaw_error(_unit(predicted, "predicted"), _unit(true, "true")),
    )


def duplicate_rate(
    predicted: Mapping[int, NDArray[Any]], true: Sequence[NDArray[Any]], kinds: Sequence[str]
) -> float | None:
    """Share of the pairs of equal objects of which both were put in the place of one.

    A predicted instance stands in the place of that true instance of its kind whose centroid is nearest to its own.

    Parameters
    ----------
    predicted : mapping of int to (N, 3) float64
        Points by 1-based id; missing instances are left out, and so are their pairs.
    true : sequence of (M, 3) float64
        Points of every true instance in id order.
    kinds : sequence of str
        What each true instance is: equal words for equal objects.

    Returns
    -------
    float or None
        None where no two equal objects were predicted.
    """
    centres = np.array([cloud.mean(axis=0) for cloud in true])
    shared = pairs = 0
    for kind in set(kinds):
        alike = [number for number, one in enumerate(kinds, start=1) if one == kind]
        places = {
            number: min(alike, key=lambda other: float(np.linalg.norm(centre - centres[other - 1])))
            for number in alike
            if number in predicted
            for centre in [predicted[number].mean(axis=0)]
        }
        for one, other in itertools.combinations(places.values(), 2):
            pairs += 1
            shared += one == other
    return shared / pairs if pairs else None


def _unit(points: NDArray[Any], name: str) -> NDArray[Any]:
    """At most `POINTS` of the points, centred at the centroid of all, whose root mean square distance from it is 1."""
    points = points - points.mean(axis=0)
    size = math.sqrt(float(np.mean(np.sum(points**2, axis=1))))
    if len(points) > POINTS:
        points = points[generator(0, "placement", name).choice(len(points), POINTS, replace=False)]
    return points / size if size > 0 else points


def _yaw_error(predicted: NDArray[Any], true: NDArray[Any]) -> float:
    from scipy.spatial import cKDTree

    predicted_tree, true_tree = cKDTree(predicted), cKDTree(true)
    turns = 360 / YAWS * np.arange(YAWS)
    distances = []
    for turn in turns:
        rotation = about_vertical(turn)[:3, :3]
        # A turn keeps distances: the truth is turned back instead of building a tree for every turn.
        there = true_tree.query(predicted @ rotation.T)[0].mean()
        back = predicted_tree.query(true @ rotation)[0].mean()
        distances.append(there + back)
    fits = np.array(distances) <= AS_GOOD * min(distances)
    return float(np.minimum(turns, 360 - turns)[fits].min())
