"""Points that span a convex hull."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def hull_points(points: NDArray[Any]) -> NDArray[Any]:
    """Those of some points that span their convex hull, in their order: what is farthest in any direction is one.

    Parameters
    ----------
    points : (P, 3) float64

    Returns
    -------
    (H, 3) float64
        All of the points where they are flat, or nearly so.
    """
    from scipy.spatial import ConvexHull, QhullError

    try:
        return np.ascontiguousarray(points[np.sort(ConvexHull(points).vertices)])
    except QhullError:
        return points
