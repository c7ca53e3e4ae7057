"""Wavefront files: polygons of an `.obj`, and their materials from the `.mtl` beside it."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from randscene.errors import AssetError
from randscene.manifests.mesh_part import MeshPart, Surface, float32_step, linear_from_srgb, plain_surface
from randscene.manifests.polygons import triangulated
from randscene.manifests.texture import TextureRules
from randscene.manifests.wavefront_material import read_materials

_CONTROLS = {code: " " for code in range(32) if code != ord("\n")}
"""Control characters count as spaces."""
_NUMERIC = ("v", "vt", "f")
"""Statements made of numbers."""


@dataclass(kw_only=True)
class _Group:
    """Polygons of one material; indices are of the whole file."""

    counts: list[int] = field(default_factory=list)
    vertex: list[int] = field(default_factory=list)
    uv: list[int] = field(default_factory=list)
    """-1 where a corner has none."""


@dataclass(kw_only=True)
class _Document:
    points: list[float] = field(default_factory=list)
    colors: list[float] = field(default_factory=list)
    uv: list[float] = field(default_factory=list)
    groups: dict[str, _Group] = field(default_factory=lambda: defaultdict(_Group))
    libraries: list[str] = field(default_factory=list)


def obj_parts(path: Path, *, textures: TextureRules) -> list[MeshPart]:
    """Read a Wavefront file, one part for each of its materials.

    Faces whose material is not described, because the `.mtl` is missing or does not name it, are grey, as in Blender;
    colours of vertices show on faces that ask for no material.

    Parameters
    ----------
    path : Path
    textures : TextureRules

    Raises
    ------
    AssetError
        `unreadable` if it is no such file, `bad_index` if a face refers to what has not been defined above it,
        `malformed` if a face passes a vertex twice; and the reasons of `read_materials`.
    """
    data = path.read_bytes()
    if b"\0" in data or data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise AssetError("unreadable", f"{path}: not plain text (UTF-16?)")
    document = _parse(data.decode("utf-8-sig", errors="replace"))
    if not document.points:
        raise AssetError("unreadable", f"{path}: no Wavefront file: it defines no vertices")
    surfaces = read_materials(path, document.libraries, set(document.groups), textures)
    points = np.array(document.points, dtype=np.float64).reshape(-1, 3).astype(np.float32)
    colors = None
    if len(document.colors) == len(document.points):
        colors = linear_from_srgb(
            np.clip(np.nan_to_num(np.array(document.colors, dtype=np.float32)), 0, 1).reshape(-1, 3)
        )
    uv = np.array(document.uv, dtype=np.float64).reshape(-1, 2) * (1, -1) + (0, 1)
    return [_part(group, surfaces.get(name), points, colors, uv) for name, group in document.groups.items()]


def _part(
    group: _Group,
    surface: Surface | None,
    points: NDArray[np.float32],
    colors: NDArray[np.float32] | None,
    uv: NDArray[np.float64],
) -> MeshPart:
    corners = np.array(group.vertex, dtype=np.int64)
    triangles = triangulated(corners, np.array(group.counts, dtype=np.int64), points)
    used, faces = np.unique(corners[triangles], return_inverse=True)
    corner_color = corner_uv = None
    if surface is None and colors is not None:
        corner_color = np.ones((len(triangles), 3, 4), np.float32)
        corner_color[..., :3] = colors[corners[triangles]]
    if surface is not None and surface.texture is not None and len(uv):
        chosen = np.array(group.uv, dtype=np.int64)[triangles]
        corner_uv = np.where(chosen[..., None] >= 0, uv[chosen], 0.0).astype(np.float32)
    if surface is None:
        surface = plain_surface() if corner_color is None else plain_surface((1, 1, 1, 1))
    return MeshPart(
        vertices=points[used].astype(np.float64),
        faces=faces.reshape(-1, 3).astype(np.int64),
        surface=surface,
        uv=corner_uv,
        corner_color=corner_color,
        step=float32_step(points[used]),
    )


def _parse(text: str) -> _Document:
    document = _Document()
    points, uv = document.points, document.uv
    group: _Group | None = None
    material = ""
    for number, words in _lines(text):
        key = words[0]
        try:
            if key in _NUMERIC and any("_" in word for word in words):
                raise ValueError("Python's numbers may hold underscores, Wavefront's may not")
            if key == "v":
                points.extend((float(words[1]), float(words[2]), float(words[3])))
                if len(words) == 7:
                    document.colors.extend((float(words[4]), float(words[5]), float(words[6])))
            elif key == "vt":
                uv.extend((float(words[1]), float(words[2]) if len(words) > 2 else 0.0))
            elif key == "f":
                if group is None:
                    group = document.groups[material]
                _add_face(group, words[1:], len(points) // 3, len(uv) // 2)
            elif key == "usemtl":
                material, group = " ".join(words[1:]), None
            elif key == "mtllib":
                document.libraries.append(" ".join(words[1:]))
        except (ValueError, IndexError) as error:
            raise AssetError(
                "unreadable", f"line {number} is no Wavefront statement: {' '.join(words)[:80]}"
            ) from error
        except AssetError as error:
            raise AssetError(error.reason, f"line {number}: {error}") from error
    return document


def _lines(text: str) -> Iterator[tuple[int, list[str]]]:
    """Statements as words, and the number of the line that they begin on; a backslash joins lines."""
    pending: list[str] = []
    for number, line in enumerate(text.translate(_CONTROLS).split("\n"), start=1):
        words = line.split()
        if words and words[-1].endswith("\\"):
            pending += [*words[:-1], words[-1][:-1]]
            continue
        words, pending = [word for word in pending + words if word], []
        if words and not words[0].startswith("#"):
            yield number, words


def _add_face(group: _Group, references: list[str], points: int, uvs: int) -> None:
    corners = []
    for reference in references:
        vertex, _, rest = reference.partition("/")
        coordinate = rest.partition("/")[0]
        uv = _resolved(int(coordinate), uvs, "texture coordinate") if coordinate else -1
        corners.append((_resolved(int(vertex), points, "vertex"), uv))
    if len({vertex for vertex, _ in corners}) < len(corners):
        if len(corners) == 4:  # a triangle that was written as a quadrilateral
            corners = [corner for i, corner in enumerate(corners) if corner[0] != corners[i - 1][0]]
        if len(corners) > 3:
            raise AssetError("malformed", f"a face passes a vertex twice: {' '.join(references)[:80]}")
    group.counts.append(len(corners))
    for vertex_index, uv_index in corners:
        group.vertex.append(vertex_index)
        group.uv.append(uv_index)


def _resolved(number: int, defined: int, what: str) -> int:
    """Wavefront counts from 1, or backwards from the last one so far."""
    index = number - 1 if number > 0 else defined + number
    if number == 0 or not 0 <= index < defined:
        raise AssetError("bad_index", f"a face refers to {what} {number}, but {defined} are defined above it")
    return index
