"""Cameras of a room, from MIDI's `meta.json`, and the point that they look at."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.errors import AssetError
from randscene.generator.recipe import Camera, Matrix4

MAX_META_BYTES = 1 << 24
SLACK = 1e-3
"""How far a camera's axes may be from unit length and right angles."""
MAX_VIEWS = 100
"""Views of one kind of picture: those of a second kind are numbered from here on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RoomView:
    """One camera of a room."""

    number: int
    """The `0003` of `render_0003.webp`."""
    camera: Camera


def read_views(path: Path) -> list[RoomView]:
    """The cameras in a `meta.json`, by number.

    The field of view is `camera_angle_x`, in radians and over the whole width, or where that is missing follows from
    `camera_lens` and `sensor_width`. `transform_matrix` is camera to world, Blender's convention.

    Raises
    ------
    AssetError
        `bad_meta` if the file is not readable or lacks a field; `bad_camera` if a matrix is not a rigid motion, or the
        field of view is not between 0 and 180 degrees.
    """
    try:
        if path.stat().st_size > MAX_META_BYTES:
            raise AssetError("bad_meta", f"{path.name}: is larger than any list of cameras")
        meta = json.loads(path.read_bytes())
        fov_deg = _fov_deg(meta)
        views = [
            RoomView(
                number=_number(item["index"]),
                camera=Camera(camera_to_world=_rigid(item["transform_matrix"]), fov_deg=fov_deg),
            )
            for item in meta["locations"]
        ]
    except (OSError, KeyError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
        raise AssetError("bad_meta", f"{path.name}: not a readable list of cameras: {error!r}") from error
    numbers = [view.number for view in views]
    if not views or len(set(numbers)) != len(numbers) or max(numbers) >= MAX_VIEWS:
        raise AssetError("bad_meta", f"{path.name}: its {len(views)} views are not numbered apart, from 0")
    return sorted(views, key=lambda view: view.number)


def _number(index: Any) -> int:
    number = int(index) if isinstance(index, str) and index.isdecimal() else index
    if type(number) is not int or number < 0:
        raise ValueError(f"{index!r} is not the number of a view")
    return number


def _fov_deg(meta: dict[str, Any]) -> float:
    if "camera_angle_x" in meta:
        angle = float(meta["camera_angle_x"])
    else:
        angle = 2 * math.atan(float(meta["sensor_width"]) / (2 * float(meta["camera_lens"])))
    if not 0 < angle < math.pi:
        raise AssetError("bad_camera", f"meta.json: a field of view of {angle} radians is not one of a camera")
    # Twelve decimals: math libraries differ in the last bit of an arc tangent.
    return round(math.degrees(angle), 12)


def _rigid(rows: Any) -> Matrix4:
    matrix = np.array(rows, np.float64)
    if matrix.shape != (4, 4):
        raise ValueError(f"a camera matrix has shape {matrix.shape}")
    turn = matrix[:3, :3]
    good = np.isfinite(matrix).all() and np.allclose(matrix[3], (0, 0, 0, 1), atol=SLACK)
    if not good or not np.allclose(turn.T @ turn, np.eye(3), atol=SLACK) or np.linalg.det(turn) < 0:
        raise AssetError("bad_camera", "meta.json: a camera matrix is not a rotation and a position")
    return tuple(tuple(row) for row in matrix.tolist())


def look_at_point(camera: Camera, middle: NDArray[Any]) -> tuple[float, float, float]:
    """What a camera looks at: the point on its axis that is nearest to the middle of the scene's box.

    `meta.json` names no such point. Taken on the axis, it gives the view-centric frame exactly the direction that the
    camera looks in: right in the picture is +X, as it is in scenes that are made here. The box's own middle would turn
    the scene by a few degrees wherever a camera does not aim at it.

    Parameters
    ----------
    camera : Camera
    middle : numpy.ndarray
        (3,) float64: of the box around all kept instances, in the camera's world.

    Returns
    -------
    (x, y, z)
        The middle itself if it lies behind the camera.
    """
    matrix = np.asarray(camera.camera_to_world, np.float64)
    position, ahead = matrix[:3, 3], -matrix[:3, 2]
    arm = middle - position
    distance = float(ahead[0] * arm[0] + ahead[1] * arm[1] + ahead[2] * arm[2])
    point = position + distance * ahead if distance > 0 else middle
    x, y, z = (round(float(value), 9) for value in point)
    return x, y, z
