"""GeometryCache: loaded assets for the scenes to come, as many as fit into a number of bytes."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from numpy.typing import NDArray

from randscene.manifests import AssetMesh

BYTES_KEPT = 1 << 30
"""Memory that the meshes of a process may hold before the least recently used are dropped."""

Geometry = TypeVar("Geometry")


class GeometryCache(Generic[Geometry]):
    """What was loaded, by uid, the least recently used dropped first. What is larger than the limit is not kept.

    Parameters
    ----------
    load : callable
        From a uid to its geometry.
    bytes_of : callable
        Bytes that a loaded geometry holds.
    bytes_kept : int
        Bytes that may be held.
    """

    def __init__(
        self, load: Callable[[str], Geometry], bytes_of: Callable[[Geometry], int], bytes_kept: int = BYTES_KEPT
    ) -> None:
        self._load = load
        self._bytes_of = bytes_of
        self._bytes_kept = bytes_kept
        self._held: OrderedDict[str, tuple[Geometry, int]] = OrderedDict()
        self.bytes_held = 0

    def __len__(self) -> int:
        return len(self._held)

    def get(self, uid: str) -> Geometry:
        """The geometry of an asset, loaded unless it is here; raises what `load` raises."""
        if uid in self._held:
            self._held.move_to_end(uid)
            return self._held[uid][0]
        geometry = self._load(uid)
        size = self._bytes_of(geometry)
        if size > self._bytes_kept:
            return geometry
        self._held[uid] = (geometry, size)
        self.bytes_held += size
        while self.bytes_held > self._bytes_kept:
            _, (_, dropped) = self._held.popitem(last=False)
            self.bytes_held -= dropped
        return geometry


def mesh_bytes(mesh: AssetMesh) -> int:
    """Bytes of the arrays of a mesh, its textures included; a texture that several surfaces share counts once."""
    arrays: list[NDArray[Any]] = [mesh.vertices, mesh.faces, mesh.surface_of_face, mesh.uv]
    if mesh.corner_color is not None:
        arrays.append(mesh.corner_color)
    textures = {id(s.texture): s.texture for s in mesh.surfaces if s.texture is not None}
    return sum(array.nbytes for array in arrays) + sum(texture.nbytes for texture in textures.values())
