"""STL files: triangles and nothing else, in text or binary."""

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.errors import AssetError
from randscene.manifests.mesh_part import MeshPart, float32_step, plain_surface

_RECORD = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attributes", "<u2")])
_HEAD = 84
_VERTEX = re.compile(rb"\bvertex\s+(\S+)\s+(\S+)\s+(\S+)", re.IGNORECASE)


def stl_parts(path: Path) -> list[MeshPart]:
    """Read an STL file as one part; corners at one place share a vertex.

    Parameters
    ----------
    path : Path

    Raises
    ------
    AssetError
        `unreadable` if it is broken or truncated.
    """
    data = path.read_bytes()
    count = int.from_bytes(data[80:_HEAD], "little")
    if len(data) >= _HEAD and len(data) == _HEAD + count * _RECORD.itemsize:
        corners = np.frombuffer(data, _RECORD, count, _HEAD)["corners"].reshape(-1, 3)
    elif data.lstrip()[:5].lower() == b"solid":
        corners = _text_corners(data)
    else:
        raise AssetError("unreadable", f"{path}: neither text nor as long as its header says: truncated?")
    if len(corners) == 0:
        return []
    points, faces = np.unique(corners, axis=0, return_inverse=True)
    return [
        MeshPart(
            vertices=points.astype(np.float64),
            faces=faces.reshape(-1, 3).astype(np.int64),
            surface=plain_surface(),
            step=float32_step(points),
        )
    ]


def _text_corners(data: bytes) -> NDArray[Any]:
    if b"endsolid" not in data.lower():
        raise AssetError("unreadable", "its last solid does not end: truncated?")
    try:
        corners = np.array(_VERTEX.findall(data), dtype="S").astype(np.float64).astype(np.float32).reshape(-1, 3)
    except ValueError as error:
        raise AssetError("unreadable", f"a corner is not made of numbers: {error}") from error
    if len(corners) % 3:
        raise AssetError("unreadable", f"{len(corners)} corners make no whole number of triangles")
    return corners
