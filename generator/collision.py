"""Exact mesh against mesh: do two surfaces meet, and how deep is one inside the other."""

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.generator.collision_body import PlacedBody
from randscene.generator.containment import holds_part_of

_SIDES = np.array([side for side in itertools.product((-1, 0, 1), repeat=3) if any(side)], np.float64)
_SIDES /= np.linalg.norm(_SIDES, axis=1, keepdims=True)
_NORMALS = 24
"""How many normals of the triangles that meet are tried as directions of escape."""
_FINENESS = 0.02
"""Share of a depth to which it is narrowed down."""


class SurfacePair:
    """Two surfaces near one another, of which the first may be shifted by up to `reach` metres.

    Triangles are tested pair by pair in double precision, by the separating axes of two triangles over trees of
    bounding boxes (FCL); only those near the place where the boxes of the two bodies overlap are taken up.

    Parameters
    ----------
    first, second : PlacedBody
    reach : float
        Metres.
    """

    def __init__(self, first: PlacedBody, second: PlacedBody, reach: float) -> None:
        self._reach = reach
        margin = reach * (1 + 1e-9)
        lower = np.maximum(first.bounds[0] - margin, second.bounds[0])
        box = np.stack((lower, np.minimum(first.bounds[1] + margin, second.bounds[1])))
        self._objects: tuple[Any, Any] | None = None
        if (box[0] > box[1]).any():
            return
        surfaces = [first.triangles_in(np.stack((box[0] - margin, box[1] + margin))), second.triangles_in(box)]
        if not all(len(faces) for _, faces in surfaces):
            return
        origin = box.mean(axis=0)
        self._triangles = [vertices[faces] for vertices, faces in surfaces]
        self._objects = (_object(surfaces[0], origin), _object(surfaces[1], origin))

    def meet(self, shift: NDArray[Any]) -> bool:
        """Whether a triangle of the first surface, moved by `shift` (3,) metres, touches or cuts one of the second."""
        assert np.linalg.norm(shift) <= self._reach * (1 + 1e-9)
        return bool(self._collide(shift, 1))

    def normals(self) -> NDArray[Any]:
        """(K, 3) float64: unit normals of some of the triangles that meet as they are, of both surfaces."""
        pairs = self._collide(np.zeros(3), _NORMALS)
        if not pairs:
            return np.empty((0, 3))
        corners = np.concatenate([triangles[list(which)] for triangles, which in zip(self._triangles, zip(*pairs))])
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        _, first = np.unique(np.round(normals, 6), axis=0, return_index=True)
        return normals[first]

    def _collide(self, shift: NDArray[Any], limit: int) -> list[tuple[int, int]]:
        """Up to `limit` pairs of triangles that meet, as positions in the two surfaces."""
        import fcl  # type: ignore[import-untyped]  # imported here: only checks of layouts need it

        if self._objects is None:
            return []
        self._objects[0].setTranslation(np.asarray(shift, np.float64))
        # Without contact points, which are not needed and for which FCL has absolute tolerances of its own (1e-5).
        request, result = fcl.CollisionRequest(num_max_contacts=limit, enable_contact=False), fcl.CollisionResult()
        fcl.collide(*self._objects, request, result)
        return [(contact.b1, contact.b2) for contact in result.contacts]


def penetration(first: PlacedBody, second: PlacedBody, tolerance: float, *, stands: bool = False) -> float | None:
    """How deep two bodies are inside one another, if it is more than the tolerance.

    The depth is the length of the smallest shift after which the surfaces do not meet and no part of one lies inside a
    closed shell of the other (see `containment`). A shift of at most `tolerance` that frees them proves that they do
    not penetrate: bodies that stand on or touch one another are freed by a small one. What is wedged between two
    walls without any room is not, and counts as penetrating.

    Parameters
    ----------
    first, second : PlacedBody
    tolerance : float
        Metres, positive.
    stands : bool
        The first stands on the second: a shift upwards is tried before any other.

    Returns
    -------
    float or None
        None where a shift within the tolerance was found. Otherwise the length in metres of the shortest shift that
        frees them along some sixty directions: an upper bound of the depth.
    """
    pair = SurfacePair(first, second, tolerance)

    def freed(shift: NDArray[Any]) -> bool:
        return _apart(pair, first, second, shift)

    if stands and freed(np.array([0.0, 0.0, tolerance])):
        return None
    if freed(np.zeros(3)):
        return None
    directions = _directions(first, second)
    if any(freed(tolerance * direction) for direction in directions):
        return None
    normals = pair.normals()
    more = np.concatenate((normals, -normals))
    if any(freed(tolerance * direction) for direction in more):
        return None
    return _depth(first, second, tolerance, np.concatenate((directions, more)))


def _apart(pair: SurfacePair, first: PlacedBody, second: PlacedBody, shift: NDArray[Any]) -> bool:
    return not (pair.meet(shift) or holds_part_of(second, first, shift) or holds_part_of(first, second, -shift))


def _directions(first: PlacedBody, second: PlacedBody) -> NDArray[Any]:
    """(K, 3) unit vectors: along the line of centres, across it in the plane, then 26 all around, likely ones first."""
    away = first.bounds.mean(axis=0) - second.bounds.mean(axis=0)
    level = away * (1, 1, 0)
    along = [axis / np.linalg.norm(axis) for axis in (away, level) if np.linalg.norm(axis) > 1e-9]
    order = np.argsort(-(_SIDES @ away), kind="stable")
    return np.concatenate((np.reshape(along, (-1, 3)), _SIDES[order]))


def _depth(first: PlacedBody, second: PlacedBody, tolerance: float, directions: NDArray[Any]) -> float:
    """The shortest shift along any of the directions that is known to free two bodies, metres."""
    # A shift is long enough, whatever the shapes, once it takes the boxes apart along one axis.
    ahead = second.bounds[1] - first.bounds[0]
    back = first.bounds[1] - second.bounds[0]
    with np.errstate(divide="ignore"):
        needed = np.where(directions > 0, ahead, back) / np.abs(directions)
    limits = needed.min(axis=1) * (1 + 1e-9)
    best = float(limits.min())
    pair = SurfacePair(first, second, best)
    for direction, limit in zip(directions, limits):
        if limit > best and not _apart(pair, first, second, best * direction):
            continue
        low = tolerance
        while best - low > _FINENESS * best:
            middle = (low + best) / 2
            if _apart(pair, first, second, middle * direction):
                best = middle
            else:
                low = middle
    return best


def _object(surface: tuple[NDArray[Any], NDArray[Any]], origin: NDArray[Any]) -> Any:
    import fcl

    vertices, faces = surface
    model = fcl.BVHModel()
    model.beginModel(len(faces), len(vertices))
    model.addSubModel(vertices - origin, faces.tolist())
    model.endModel()
    return fcl.CollisionObject(model, fcl.Transform())
