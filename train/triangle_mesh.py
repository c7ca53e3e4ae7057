"""Triangle meshes as the evaluator needs them: read from GLB, checked, sampled."""

import io
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.errors import AssetError, first_line

_PACKED = ("KHR_draco_mesh_compression", "EXT_meshopt_compression")
"""glTF extensions without whose decoder a mesh reads as nothing."""
_JSON_CHUNK = 0x4E4F534A


@dataclass(frozen=True, kw_only=True)
class TriangleMesh:
    """Bare geometry."""

    vertices: NDArray[Any]
    """(V, 3) float64, Z-up."""
    faces: NDArray[Any]
    """(F, 3) int64, rows of `vertices`."""

    def problem(self) -> str | None:
        """Why no surface point can be drawn, or None: `empty_mesh`, `nan_mesh` (or infinite), `zero_area`."""
        if not len(self.faces):
            return "empty_mesh"
        if not np.isfinite(self.vertices[self.faces]).all():
            return "nan_mesh"
        return None if face_areas(self).sum() > 0 else "zero_area"

    def moved(self, transform: NDArray[Any]) -> "TriangleMesh":
        """The mesh under a (4, 4) transform."""
        return TriangleMesh(vertices=self.vertices @ transform[:3, :3].T + transform[:3, 3], faces=self.faces)


def face_areas(mesh: TriangleMesh) -> NDArray[Any]:
    """(F,) float64 areas, in squared units of the vertices."""
    a, b, c = (mesh.vertices[mesh.faces[:, corner]] for corner in range(3))
    return np.asarray(np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2)


def sample_surface(mesh: TriangleMesh, count: int, rng: np.random.Generator) -> NDArray[Any]:
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


def glb_header(path: Path) -> dict[str, Any]:
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
    if not isinstance(header, dict):
        raise AssetError("unreadable", f"{path} is not a GLB file: its JSON part is no object")
    try:
        packed = [name for name in _PACKED if name in header.get("extensionsUsed", [])]
        external = any("uri" in buffer for buffer in header.get("buffers", []))
    except TypeError as error:
        raise AssetError("unreadable", f"{path} is not a GLB file: its JSON part is no glTF") from error
    if packed:
        raise AssetError("packed", f"{path} uses {packed[0]}; export it without mesh compression")
    if external:
        raise AssetError("external", f"{path} keeps its geometry in another file; export it as one GLB")
    return dict(header)


def glb_nodes(header: dict[str, Any]) -> list[int]:
    """The nodes of a GLB's scene that show a mesh, in the order of the file's meshes, then of its nodes.

    It is the order in which a program put its objects into the file; the names of nodes are not looked at.
    """
    nodes, scenes = header.get("nodes", []), header.get("scenes", [])
    waiting = list(scenes[header.get("scene", 0)].get("nodes", [])) if scenes else []
    seen: set[int] = set()
    while waiting:
        number = waiting.pop()
        if number not in seen:
            seen.add(number)
            waiting += nodes[number].get("children", [])
    return sorted((number for number in seen if "mesh" in nodes[number]), key=lambda n: (nodes[n]["mesh"], n))


def count_glb_geometries(path: Path) -> int:
    """How many objects `read_glb_geometries` finds; reads no geometry.

    Raises
    ------
    AssetError
        See `glb_header`.
    """
    header = glb_header(path)
    try:
        return len(glb_nodes(header))
    except (LookupError, TypeError, AttributeError) as error:
        raise AssetError("unreadable", f"{path} does not parse: its nodes do not fit together") from error


def read_glb(path: Path) -> dict[str, TriangleMesh]:
    """Every mesh of a GLB file, by node name, turned from glTF's Y-up to Z-up: (x, y, z) -> (x, -z, y).

    Node transforms are applied; the primitives of one node, and nodes of one name, are put together; materials are not
    read.

    Parameters
    ----------
    path : Path

    Returns
    -------
    dict of str to TriangleMesh
        Sorted by name. Empty if the file holds no triangles. Vertices may be NaN: see `TriangleMesh.problem`.

    Raises
    ------
    AssetError
        See `glb_header`; `unreadable` also if the geometry does not parse or a face names a vertex that is not there.
    """
    named: dict[str, list[TriangleMesh]] = {}
    for name, mesh in _read_nodes(path):
        if mesh is not None:
            named.setdefault(name, []).append(z_up(mesh))
    return {name: join(named[name]) for name in sorted(named)}


def read_glb_geometries(path: Path) -> list[TriangleMesh]:
    """The objects of a GLB file in the order of `glb_nodes`, in the file's own axes, whatever is up in them.

    Node transforms are applied. A node that shows points or lines alone is an object without faces.

    Raises
    ------
    AssetError
        As `read_glb`.
    """
    return [join([]) if mesh is None else mesh for _, mesh in _read_nodes(path)]


def z_up(mesh: TriangleMesh) -> TriangleMesh:
    """A mesh with Y up, turned so that Z is: (x, y, z) -> (x, -z, y)."""
    x, y, z = mesh.vertices.T
    return TriangleMesh(vertices=np.stack([x, -z, y], axis=1), faces=mesh.faces)


def _read_nodes(path: Path) -> list[tuple[str, TriangleMesh | None]]:
    """Name and geometry, in the file's axes, of each node in the order of `glb_nodes`; None without triangles."""
    header = glb_header(path)
    if not header.get("meshes"):
        return []
    import trimesh

    try:
        order = glb_nodes(header)
        names = [str(node.get("name", number)) for number, node in enumerate(header["nodes"])]
        # The parser makes names of its own where two are the same or a node has several primitives, at random even.
        # Names that are numbers can be told apart whatever it adds to them.
        for number, node in enumerate(header["nodes"]):
            node["name"] = f"{number:09d}"
        scene = trimesh.load_scene(
            io.BytesIO(_with_header(path, header)), file_type="glb", process=False, skip_materials=True
        )
        place = {name: number for number, name in enumerate(scene.geometry)}
        found: dict[int, list[tuple[int, TriangleMesh]]] = {}
        for node in scene.graph.nodes_geometry:
            matrix, geometry_name = scene.graph[node]
            geometry = scene.geometry[geometry_name]
            if not isinstance(geometry, trimesh.Trimesh):
                continue
            vertices = np.asarray(geometry.vertices, dtype=np.float64) @ matrix[:3, :3].T + matrix[:3, 3]
            faces = np.asarray(geometry.faces, dtype=np.int64).reshape(-1, 3)
            if len(faces) and (faces.min() < 0 or faces.max() >= len(vertices)):
                raise AssetError(
                    "unreadable", f"{path}: a face of {names[int(node[:9])]} names a vertex that is not there"
                )
            part = TriangleMesh(vertices=vertices, faces=faces)
            found.setdefault(int(node[:9]), []).append((place[geometry_name], part))
    except (AssetError, MemoryError):
        raise
    except Exception as error:  # the parser's own exceptions are of many kinds
        raise AssetError("unreadable", f"{path} does not parse: {type(error).__name__}: {first_line(error)}") from error
    whole = {node: join([part for _, part in sorted(parts, key=lambda one: one[0])]) for node, parts in found.items()}
    return [(names[number], whole.get(number)) for number in order]


def _with_header(path: Path, header: dict[str, Any]) -> bytes:
    """The bytes of a GLB file with another JSON part."""
    content = path.read_bytes()
    (chunk,) = struct.unpack_from("<I", content, 12)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 4)
    rest = content[20 + chunk :]
    return struct.pack("<4sIIII", b"glTF", 2, 20 + len(text) + len(rest), len(text), _JSON_CHUNK) + text + rest


def join(meshes: list[TriangleMesh]) -> TriangleMesh:
    """One mesh out of several."""
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    return TriangleMesh(
        vertices=np.concatenate([np.zeros((0, 3)), *(mesh.vertices for mesh in meshes)]),
        faces=np.concatenate(
            [np.zeros((0, 3), np.int64), *(mesh.faces + start for mesh, start in zip(meshes, starts, strict=False))]
        ),
    )


def cube_transform(vertices: NDArray[Any], rotation: NDArray[Any]) -> NDArray[Any]:
    """(4, 4) that rotates points (V, 3), then centres their box and makes its largest side 1."""
    turned = vertices @ rotation.T
    low, high = turned.min(axis=0), turned.max(axis=0)
    side = float((high - low).max())
    transform = np.eye(4)
    transform[:3, :3] = rotation / side
    transform[:3, 3] = -(low + high) / (2 * side)
    return transform
