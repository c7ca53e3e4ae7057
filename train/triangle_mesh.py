"""Triangle meshes as the evaluator needs them: read from GLB, checked, sampled."""

import json
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from randscene.errors import AssetError

_PACKED = ("KHR_draco_mesh_compression", "EXT_meshopt_compression")
"""glTF extensions without whose decoder a mesh reads as nothing."""
_JSON_CHUNK = 0x4E4F534A


@dataclass(frozen=True, kw_only=True)
class TriangleMesh:
    """Bare geometry."""

    vertices: np.ndarray
    """(V, 3) float64, Z-up."""
    faces: np.ndarray
    """(F, 3) int64, rows of `vertices`."""

    def problem(self) -> str | None:
        """Why no surface point can be drawn, or None: `empty_mesh`, `nan_mesh` (or infinite), `zero_area`."""
        if not len(self.faces):
            return "empty_mesh"
        if not np.isfinite(self.vertices[self.faces]).all():
            return "nan_mesh"
        return None if face_areas(self).sum() > 0 else "zero_area"

    def moved(self, transform: np.ndarray) -> "TriangleMesh":
        """The mesh under a (4, 4) transform."""
        return TriangleMesh(vertices=self.vertices @ transform[:3, :3].T + transform[:3, 3], faces=self.faces)


def face_areas(mesh: TriangleMesh) -> np.ndarray:
    """(F,) float64 areas, in squared units of the vertices."""
    a, b, c = (mesh.vertices[mesh.faces[:, corner]] for corner in range(3))
    return np.asarray(np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2)


def sample_surface(mesh: TriangleMesh, count: int, rng: np.random.Generator) -> np.ndarray:
    """Points spread evenly over a mesh's surface: a face by its area, then uniform inside it.

    Parameters
    ----------
    mesh : TriangleMesh
    count : int
    rng : numpy.random.Generator

    Returns
    -------
    (count, 3) float64, in the mesh's frame.

    Raises
    ------
    ValueError
        If the mesh has no surface (see `TriangleMesh.problem`).
    """
    if problem := mesh.problem():
        raise ValueError(f"cannot sample the surface: {problem}")
    edges = np.cumsum(face_areas(mesh))
    picks = np.searchsorted(edges, rng.random(count) * edges[-1], side="right")
    corners = mesh.vertices[mesh.faces[np.minimum(picks, len(edges) - 1)]]
    # sqrt(u) makes the density even between the first corner and the opposite edge.
    root, along = np.sqrt(rng.random((count, 1))), rng.random((count, 1))
    return np.asarray((1 - root) * corners[:, 0] + root * ((1 - along) * corners[:, 1] + along * corners[:, 2]))


def glb_header(path: Path) -> dict:
    """The JSON part of a GLB file; reads no geometry.

    Raises
    ------
    AssetError
        `unreadable` if the file is missing, is not a GLB or is cut off, `packed` if its geometry needs a decoder,
        `external` if it refers to other files.
    """
    try:
        with open(path, "rb") as handle:
            head = handle.read(20)
            if len(head) < 20:
                raise AssetError("unreadable", f"{path} is not a GLB file")
            magic, version, length, chunk, kind = struct.unpack("<4sIIII", head)
            if magic != b"glTF" or version != 2 or kind != _JSON_CHUNK:
                raise AssetError("unreadable", f"{path} is not a GLB file (glTF 2.0, binary)")
            if path.stat().st_size < length or 20 + chunk > length:
                raise AssetError("unreadable", f"{path} is cut off")
            header = json.loads(handle.read(chunk))
    except OSError as error:
        raise AssetError("unreadable", f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise AssetError("unreadable", f"{path} is not a GLB file: its JSON part does not parse") from error
    used = header.get("extensionsUsed", [])
    if packed := [name for name in _PACKED if name in used]:
        raise AssetError("packed", f"{path} uses {packed[0]}; export it without mesh compression")
    if any("uri" in buffer for buffer in header.get("buffers", [])):
        raise AssetError("external", f"{path} keeps its geometry in another file; export it as one GLB")
    return dict(header)


def read_glb(path: Path) -> dict[str, TriangleMesh]:
    """Every mesh of a GLB file, by node name, turned from glTF's Y-up to Z-up: (x, y, z) -> (x, -z, y).

    Node transforms are applied; the primitives of one node are put together; materials are not read.

    Parameters
    ----------
    path : Path

    Returns
    -------
    dict of str to TriangleMesh
        Empty if the file holds no triangles. Vertices may be NaN: see `TriangleMesh.problem`.

    Raises
    ------
    AssetError
        See `glb_header`; `unreadable` also if the geometry does not parse or a face names a vertex that is not there.
    """
    header = glb_header(path)
    if not header.get("meshes"):
        return {}
    import trimesh

    try:
        with open(path, "rb") as handle:
            scene = trimesh.load_scene(handle, file_type="glb", process=False, skip_materials=True)
        parts: dict[str, list[TriangleMesh]] = {}
        for node in sorted(scene.graph.nodes_geometry):
            matrix, geometry_name = scene.graph[node]
            geometry = scene.geometry[geometry_name]
            if not isinstance(geometry, trimesh.Trimesh):
                continue
            vertices = np.asarray(geometry.vertices, dtype=np.float64) @ matrix[:3, :3].T + matrix[:3, 3]
            x, y, z = vertices.T
            faces = np.asarray(geometry.faces, dtype=np.int64).reshape(-1, 3)
            if len(faces) and (faces.min() < 0 or faces.max() >= len(vertices)):
                raise AssetError("unreadable", f"{path}: a face of {node} names a vertex that is not there")
            parts.setdefault(node, []).append(TriangleMesh(vertices=np.stack([x, -z, y], axis=1), faces=faces))
    except (AssetError, MemoryError):
        raise
    except Exception as error:  # the parser's own exceptions are of many kinds
        raise AssetError("unreadable", f"{path} does not parse: {type(error).__name__}: {error}") from error
    return {node: join(meshes) for node, meshes in parts.items()}


def join(meshes: list[TriangleMesh]) -> TriangleMesh:
    """One mesh out of several."""
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    return TriangleMesh(
        vertices=np.concatenate([np.zeros((0, 3)), *(mesh.vertices for mesh in meshes)]),
        faces=np.concatenate(
            [np.zeros((0, 3), np.int64), *(mesh.faces + start for mesh, start in zip(meshes, starts, strict=False))]
        ),
    )
