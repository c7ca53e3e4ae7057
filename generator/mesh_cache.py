"""MeshCache: loaded meshes for the scenes to come, as many as fit into a number of bytes."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from randscene.manifests import AssetMesh

BYTES_KEPT = 1 << 30
"""Memory that loaded meshes may hold before the least recently used are dropped."""


class MeshCache:
    """Meshes by uid, the least recently used dropped first. A mesh larger than the limit is handed over and not kept.

    Parameters
    ----------
    load : callable
        From a uid to its mesh.
    bytes_kept : int
        Bytes of arrays that may be held.
    """

    def __init__(self, load: Callable[[str], AssetMesh], bytes_kept: int = BYTES_KEPT) -> None:
        self._load = load
        self._bytes_kept = bytes_kept
        self._meshes: OrderedDict[str, tuple[AssetMesh, int]] = OrderedDict()
        self.bytes_held = 0

    def __len__(self) -> int:
        return len(self._meshes)

    def get(self, uid: str) -> AssetMesh:
        """The mesh of an asset, loaded unless it is here; raises what `load` raises."""
        if uid in self._meshes:
            self._meshes.move_to_end(uid)
            return self._meshes[uid][0]
        mesh = self._load(uid)
        size = mesh_bytes(mesh)
        if size > self._bytes_kept:
            return mesh
        self._meshes[uid] = (mesh, size)
        self.bytes_held += size
        while self.bytes_held > self._bytes_kept:
            _, (_, dropped) = self._meshes.popitem(last=False)
            self.bytes_held -= dropped
        return mesh


def mesh_bytes(mesh: AssetMesh) -> int:
    """Bytes of the arrays of a mesh, its textures included; a texture that several surfaces share counts once."""
    arrays: list[NDArray[Any]] = [mesh.vertices, mesh.faces, mesh.surface_of_face, mesh.uv]
    if mesh.corner_color is not None:
        arrays.append(mesh.corner_color)
    textures = {id(s.texture): s.texture for s in mesh.surfaces if s.texture is not None}
    return sum(array.nbytes for array in arrays) + sum(texture.nbytes for texture in textures.values())
