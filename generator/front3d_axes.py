"""Which way up? Meshes and cameras of MIDI's files are in different axes, and no file says which: the pictures decide.

Rays through the pixel centres of a view tell which object the meshes show there; the `semantic` picture tells which one
MIDI's renderer showed. Of all 24 turns by right angles that could lead from the meshes' axes to the cameras', the right
one makes the two agree; a dataset on which none does is refused.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from randscene.errors import AssetError, DatasetError
from randscene.generator.front3d_cameras import RoomView
from randscene.generator.front3d_images import resized_labels
from randscene.generator.ray_caster import RayScene
from randscene.generator.recipe import Camera, Matrix4

Y_UP = "x,-z,y"
"""glTF's axes (Y up) to Blender's (Z up)."""
Z_UP = "x,y,z"
"""Meshes that are in the cameras' axes already."""
ALIASES = {"y-up": Y_UP, "z-up": Z_UP}
Numbering = Literal["position", "suffix"]
NUMBERINGS: tuple[Numbering, ...] = ("position", "suffix")
"""How pixel values name objects: by their place in the furniture list (MIDI's loader), or by the number at the end of
their name (its author's word). Where both are the same, `position` is taken."""
COARSE = 128
"""Pixels along a picture's side at which all readings are compared."""
PROBED_VIEWS = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """One way to understand the files."""

    axes: str
    """`x,-z,y`: a room's (x, y, z) are the mesh file's x, -z and y."""
    numbering: Numbering


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What one room says about the readings."""

    room_id: str
    best: Reading
    iou: float
    """Of the best reading, at the resolution of the import."""
    any_numbering: bool
    """Whether both numberings name its pixels alike, so that it tells nothing about them."""


def all_axes() -> list[str]:
    """The 24 turns by right angles, the likely ones first."""
    found = []
    for places in itertools.permutations("xyz"):
        for signs in itertools.product(("", "-"), repeat=3):
            text = ",".join(sign + place for sign, place in zip(signs, places))
            if np.linalg.det(_signed_axes(text)) > 0:
                found.append(text)
    return [Y_UP, Z_UP, *(text for text in found if text not in (Y_UP, Z_UP))]


def rotation(axes: str) -> NDArray[Any]:
    """(3, 3) float64: mesh file to room, for axes such as `x,-z,y`, `y-up` or `z-up`.

    Raises
    ------
    DatasetError
        If the text does not name each axis once, or describes a mirror image.
    """
    matrix = _signed_axes(ALIASES.get(axes, axes))
    if round(abs(float(np.linalg.det(matrix)))) != 1:
        raise DatasetError(f"--axes {axes}: write y-up, z-up, or three axes such as {Y_UP}")
    if np.linalg.det(matrix) < 0:
        raise DatasetError(f"--axes {axes}: mirrors the scene; change one sign")
    return matrix


def _signed_axes(text: str) -> NDArray[Any]:
    """(3, 3) of 0, 1 and -1; of determinant 0 where the text does not name three axes."""
    matrix = np.zeros((3, 3))
    parts = text.split(",")
    for row, part in enumerate(parts if len(parts) == 3 else []):
        column = "xyz".find(part.removeprefix("-") or "?")
        if len(part.removeprefix("-")) == 1 and column >= 0:
            matrix[row, column] = -1.0 if part.startswith("-") else 1.0
    return matrix


def turned(points: NDArray[Any], axes: str) -> NDArray[Any]:
    """Points (V, 3) of a mesh file in the room's axes; only signs and places change, no bit of a number."""
    matrix = rotation(axes)
    columns = [int(np.flatnonzero(row)[0]) for row in matrix]
    signs = [float(row.sum()) for row in matrix]
    return np.ascontiguousarray(np.stack([sign * points[:, column] for sign, column in zip(signs, columns)], axis=1))


def suffix_numbers(furniture: Sequence[str]) -> list[int] | None:
    """The numbers at the ends of the names, `Table_..._1`; None unless each name has its own, from 1 to 255."""
    ends = [name.rpartition("_")[2] for name in furniture]
    numbers = [int(end) if end.isdecimal() and len(end) <= 3 else 0 for end in ends]
    apart = len(set(numbers)) == len(numbers)
    return numbers if apart and all(1 <= number <= 255 for number in numbers) else None


def pixel_values(furniture: Sequence[str], numbering: Numbering) -> list[int]:
    """The value of each object's pixels in `semantic`.

    Raises
    ------
    AssetError
        `too_many_objects` if there are more than 255, `bad_numbering` if names end in no numbers of their own.
    """
    if not 1 <= len(furniture) <= 255:
        raise AssetError("too_many_objects", f"the room lists {len(furniture)} objects; 1 to 255 can be told apart")
    if numbering == "position":
        return list(range(1, len(furniture) + 1))
    numbers = suffix_numbers(furniture)
    if numbers is None:
        raise AssetError("bad_numbering", "the names of the room's objects do not end in numbers of their own")
    return numbers


def object_ids(semantic: NDArray[Any], values: Sequence[int]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Pixel values as ids.

    Parameters
    ----------
    semantic : numpy.ndarray
        (H, W) integer.
    values : sequence of int
        Value of each object.

    Returns
    -------
    ids : numpy.ndarray
        (H, W) uint8; i for object i (1-based), 0 elsewhere.
    foreign : numpy.ndarray
        (H, W) bool: pixels of something that is none of the objects and not the background.
    """
    ids = np.zeros(semantic.shape, np.uint8)
    for number, value in enumerate(values, start=1):
        ids[semantic == value] = number
    return ids, (semantic != 0) & (ids == 0)


def overlap(ids: NDArray[Any], shown: NDArray[Any], foreign: NDArray[Any]) -> tuple[int, int]:
    """Pixels on which two labellings show the same object, and those on which either shows one.

    Their quotient is an intersection over union that confuses no object with another. Pixels of foreign things, which
    could hide anything, do not count.
    """
    counted = ((ids > 0) | (shown > 0)) & ~foreign
    return int(np.count_nonzero((ids == shown) & counted)), int(np.count_nonzero(counted))


def judge(
    room_id: str,
    rays: RayScene,
    furniture: Sequence[str],
    views: Sequence[tuple[RoomView, NDArray[Any]]],
    resolution: int,
    *,
    axes: str | None = None,
    numbering: Numbering | None = None,
) -> Verdict:
    """Compare all readings on one room.

    Parameters
    ----------
    room_id : str
    rays : RayScene
        Its meshes, in the axes of their files.
    furniture : sequence of str
        Names of its objects.
    views : sequence of (RoomView, (H, W) integer)
        Some cameras, each with its semantic picture.
    resolution : int
        At which the best reading's agreement is stated.
    axes, numbering : str, optional
        Consider only this one.
    """
    numbers = suffix_numbers(furniture)
    alike = numbers == pixel_values(furniture, "position")
    numberings: list[Numbering] = ["position"] if numbering is None else [numbering]
    if numbering is None and numbers is not None and not alike:
        numberings.append("suffix")
    best, best_score = Reading(axes=axes or Y_UP, numbering=numberings[0]), -1.0
    for turn in all_axes() if axes is None else [axes]:
        shown = [rays.ids_and_depth(_in_file_axes(view.camera, turn), COARSE)[0] for view, _ in views]
        for way in numberings:
            score = _score(shown, views, pixel_values(furniture, way))
            if score > best_score:
                best, best_score = Reading(axes=turn, numbering=way), score
    shown = [rays.ids_and_depth(_in_file_axes(view.camera, best.axes), resolution)[0] for view, _ in views]
    iou = _score(shown, views, pixel_values(furniture, best.numbering))
    return Verdict(room_id=room_id, best=best, iou=iou, any_numbering=alike and numbering is None)


def agreed(verdicts: Sequence[Verdict], least: float) -> Reading:
    """The reading that most rooms bear out.

    Parameters
    ----------
    verdicts : sequence of Verdict
    least : float
        IoU that a room's best reading must reach to count.

    Raises
    ------
    DatasetError
        If none does.
    """
    votes: dict[Reading, list[float]] = {}
    for verdict in verdicts:
        if verdict.iou >= least:
            # A room that both numberings read alike must not outvote one that tells them apart.
            for numbering in NUMBERINGS if verdict.any_numbering else (verdict.best.numbering,):
                votes.setdefault(replace(verdict.best, numbering=numbering), []).append(verdict.iou)
    if not votes:
        top = max(verdicts, key=lambda verdict: verdict.iou)
        raise DatasetError(
            f"meshes, cameras and semantic pictures do not fit together: of {len(verdicts)} rooms that were looked at, "
            f"under any of 24 axes, the best ({top.room_id}, axes {top.best.axes}) reaches an IoU of {top.iou:.2f}, "
            f"{least:.2f} is needed; check that all parts are of one release and were unpacked whole"
        )
    return max(votes, key=lambda reading: (len(votes[reading]), sum(votes[reading])))


def _score(
    shown: Sequence[NDArray[Any]], views: Sequence[tuple[RoomView, NDArray[Any]]], values: Sequence[int]
) -> float:
    pairs = [_overlap_with(ids, semantic, values) for ids, (_, semantic) in zip(shown, views)]
    same, either = (sum(part) for part in zip(*pairs))
    return same / either if either else 0.0


def _overlap_with(shown: NDArray[Any], semantic: NDArray[Any], values: Sequence[int]) -> tuple[int, int]:
    ids, foreign = object_ids(resized_labels(semantic, len(shown)), values)
    return overlap(ids, shown, foreign)


def _in_file_axes(camera: Camera, axes: str) -> Camera:
    """The same camera for a scene that stayed in its file's axes: turning it back costs less than turning meshes."""
    matrix = np.asarray(camera.camera_to_world, np.float64)
    back = np.eye(4)
    back[:3, :3] = rotation(axes).T
    rows: Matrix4 = tuple(tuple(row) for row in (back @ matrix).tolist())
    return replace(camera, camera_to_world=rows)
