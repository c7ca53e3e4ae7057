"""Which predicted instance is which true one, where neither ids nor order tell."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.train.metrics import as_cloud

MATCHED_POINTS = 2_000
"""At most so many points of each cloud are compared: they only choose partners, and scores use all."""


def match_instances(
    predicted: Mapping[int, NDArray[Any]], true: Sequence[NDArray[Any]], *, squared: bool = True
) -> dict[int, int]:
    """Pair predicted with true instances so that the sum of their Chamfer distances is least.

    min(predicted, true) pairs are made, however far apart they are. Equal sums fall to the assignment that the
    algorithm finds first, always the same one.

    Parameters
    ----------
    predicted : mapping of int to (P, 3) float64
        Points of each predicted instance by its number, in random order, none empty.
    true : sequence of (P, 3) float64
        Points of each true instance in id order, in the same space.
    squared : bool
        Whether the Chamfer distance is the sum of mean squared distances, or of mean distances.

    Returns
    -------
    dict of int to int
        1-based id of a true instance to the number of its partner, in id order.
    """
    from scipy.optimize import linear_sum_assignment

    numbers = sorted(predicted)
    if not numbers or not true:
        return {}
    costs = chamfer_matrix([predicted[number] for number in numbers], true, squared=squared)
    rows, columns = linear_sum_assignment(costs)
    return {int(column) + 1: numbers[row] for column, row in sorted(zip(columns.tolist(), rows.tolist(), strict=True))}


def chamfer_matrix(
    first: Sequence[NDArray[Any]], second: Sequence[NDArray[Any]], *, squared: bool = True
) -> NDArray[Any]:
    """(A, B) float64: Chamfer distance of each two clouds, by their first `MATCHED_POINTS` points."""
    from scipy.spatial import cKDTree

    a, b = ([as_cloud(cloud, "a cloud")[:MATCHED_POINTS] for cloud in side] for side in (first, second))
    trees_a, trees_b = [cKDTree(cloud) for cloud in a], [cKDTree(cloud) for cloud in b]
    power = 2 if squared else 1
    costs = np.empty((len(a), len(b)))
    for i in range(len(a)):
        for j in range(len(b)):
            there, back = trees_b[j].query(a[i])[0], trees_a[i].query(b[j])[0]
            costs[i, j] = np.mean(there**power) + np.mean(back**power)
    return costs
