"""Draco: the compressed geometry of a glTF primitive (KHR_draco_mesh_compression), decoded by DracoPy."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.errors import AssetError
from randscene.manifests.gltf_accessors import COMPONENTS, TYPES, GltfData, normalised
from randscene.manifests.gltf_header import DRACO


def decode_draco(data: GltfData, primitive: dict[str, Any]) -> tuple[NDArray[np.int64], dict[str, NDArray[Any]]]:
    """The triangles and the compressed attributes of a primitive.

    Parameters
    ----------
    data : GltfData
    primitive : dict
        With the extension.

    Returns
    -------
    faces : ndarray
        (F, 3) int64.
    attributes : dict
        (V, components) by glTF name, of the types that the accessors state; fractions as float32.

    Raises
    ------
    AssetError
        `needs_draco` if DracoPy is not installed; `bad_draco` if the data cannot be decoded or is not what the
        accessors state.
    """
    try:
        import DracoPy
    except ImportError as error:
        raise AssetError(
            "needs_draco", "its geometry is compressed by Draco: pip install DracoPy to read it"
        ) from error
    extension = primitive["extensions"][DRACO]
    try:
        decoded = DracoPy.decode(bytes(data.view(extension["bufferView"])))
    except (AssetError, MemoryError):
        raise
    except Exception as error:  # DracoPy raises several types of its own
        raise AssetError("bad_draco", f"its compressed geometry cannot be decoded: {error}") from error
    if "indices" not in primitive or getattr(decoded, "faces", None) is None:
        raise AssetError("bad_draco", "its compressed geometry holds points, not triangles")
    by_id = {stored["unique_id"]: stored["data"] for stored in decoded.attributes}
    names = primitive.get("attributes", {})
    attributes = {}
    for name, number in extension["attributes"].items():
        if name not in names or number not in by_id:
            raise AssetError("bad_draco", f"its compressed geometry lacks the attribute {name}")
        accessor = data.item("accessors", names[name])
        attributes[name] = _as_stated(np.asarray(by_id[number]), accessor, name)
    accessor = data.item("accessors", primitive["indices"])
    if accessor.get("componentType") not in (5121, 5123, 5125):
        raise AssetError("bad_draco", "its indices are not stated to be unsigned integers")
    indices = _as_stated(np.asarray(decoded.faces).reshape(-1, 1), accessor, "indices")
    return indices.astype(np.int64).reshape(-1, 3), attributes


def _as_stated(values: NDArray[Any], accessor: dict[str, Any], name: str) -> NDArray[Any]:
    dtype = TYPES.get(accessor.get("componentType", 0))
    width = COMPONENTS.get(accessor.get("type", ""))
    values = values.reshape(len(values), -1)
    if dtype is None or values.shape[1] != width or (values.dtype.kind == "f") != (dtype is np.float32):
        raise AssetError("bad_draco", f"{name} is not stored as its accessor states")
    cast = values.astype(dtype)
    if values.dtype.kind != "f" and (cast != values).any():
        raise AssetError("bad_draco", f"{name} is not stored as its accessor states")
    return normalised(cast) if accessor.get("normalized", False) else cast
