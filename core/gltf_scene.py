"""What a glTF document shows: its meshes, each with its place and pose.

Reader and renderer both follow this module, so that labels and pictures show the same geometry. An asset is the
document's default scene at rest: nodes where the document puts them, morph targets at their default weights, skins bent
by their joints; animations, cameras, lights and further scenes are left out (glTF 2.0 specification, sections 3.5, 3.7
and 5.25).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.errors import AssetError

MODES_WITH_FACES = (4, 5, 6)
"""Primitive modes TRIANGLES, TRIANGLE_STRIP and TRIANGLE_FAN."""
BLEND_CUTOFF = 0.02
"""Alpha below which a surface of alpha mode BLEND counts as not being there: glass counts as its object, the clear part
of a leaf's picture does not."""
INSTANCING = "EXT_mesh_gpu_instancing"

Matrix = NDArray[np.float64]
ReadAccessor = Callable[[int], NDArray[Any]]
"""Accessor index -> (count, components): floats, or integers as stored."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Placement:
    """One appearance of a mesh. All matrices act on column vectors, in the file's axes and units."""

    mesh: int
    """Index of the mesh."""
    matrix: Matrix
    """(4, 4) float64: mesh coordinates to the scene; for primitives that are not bound to joints."""
    joints: NDArray[np.float64] | None
    """(J, 4, 4) float64: mesh coordinates to the scene by each joint of the skin; None without a skin."""
    weights: tuple[float, ...]
    """Default weights of the mesh's morph targets; empty when all of them are zero."""


def placements(document: Mapping[str, Any], read: ReadAccessor) -> list[Placement]:
    """The meshes of the default scene, in the order of its nodes.

    The default scene is the one that the document names, else the first: the nodes that it lists and all below, each
    once and where its ancestors put it. A document without scenes shows all its nodes. Meshes without faces are left
    out.

    Parameters
    ----------
    document : Mapping
        `nodes`, `meshes`, `scenes`, `scene`, `skins` as in the JSON of a glTF file; None counts as absent.
    read : callable
        Reads an accessor (inverse bind matrices, instances).

    Raises
    ------
    AssetError
        `bad_index` if a node, mesh or skin that does not exist is referred to; `malformed` if the nodes are no forest,
        or a transform is not made of numbers; `non_finite` if it is not finite.
    """
    nodes = _items(document, "nodes")
    meshes = _items(document, "meshes")
    parents = _parents(nodes)
    worlds = _world_matrices(nodes, parents)
    found = []
    stack = list(reversed(_roots(document, nodes, parents)))
    seen = set()
    while stack:
        index = stack.pop()
        if index in seen:  # some exporters list every node of a scene, not its roots alone
            continue
        seen.add(index)
        node = nodes[index]
        stack.extend(reversed(node.get("children") or ()))
        if node.get("mesh") is None:
            continue
        mesh = _item(meshes, node["mesh"], "mesh")
        if not any(has_faces(primitive) for primitive in mesh.get("primitives") or ()):
            continue
        skin = node.get("skin")
        joints = None if skin is None else _joint_matrices(document, skin, worlds, read)
        weights = tuple(float(weight) for weight in node.get("weights") or mesh.get("weights") or ())
        for matrix in _instances(node, worlds[index], read):
            placed = Placement(mesh=node["mesh"], matrix=matrix, joints=joints, weights=weights if any(weights) else ())
            found.append(placed)
    return found


def has_faces(primitive: Mapping[str, Any]) -> bool:
    """Whether a primitive is made of triangles, not of points or lines."""
    mode = primitive.get("mode")
    return (4 if mode is None else mode) in MODES_WITH_FACES


def morphed(
    positions: NDArray[Any], deltas: Sequence[NDArray[Any] | None], weights: Sequence[float]
) -> NDArray[np.float64]:
    """Positions with morph targets mixed in.

    Parameters
    ----------
    positions : ndarray
        (V, 3).
    deltas : sequence of ndarray or None
        (V, 3) each; None where a target does not move vertices.
    weights : sequence of float
        One a target; missing ones are zero.
    """
    result = positions.astype(np.float64)
    for delta, weight in zip(deltas, weights):
        if delta is not None and weight:
            result += weight * delta.astype(np.float64)
    return result


def skinning_matrices(
    joints: NDArray[np.integer[Any]], weights: NDArray[np.floating[Any]], matrices: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The matrix of each vertex of a skin: its joints' matrices, mixed (linear blend skinning).

    Parameters
    ----------
    joints : ndarray
        (V, K) integer, indices into `matrices`.
    weights : ndarray
        (V, K); rows are scaled to a sum of one. A vertex without any weight follows its first joint.
    matrices : ndarray
        (J, 4, 4) float64.

    Returns
    -------
    ndarray
        (V, 3, 4) float64.

    Raises
    ------
    AssetError
        `bad_index` if a joint does not exist, `non_finite` if a weight is no finite number.
    """
    if not np.isfinite(weights).all():
        raise AssetError("non_finite", "weights of its skin are not finite numbers")
    share = np.maximum(weights.astype(np.float64), 0.0)
    share[share.sum(axis=1) == 0, 0] = 1.0
    share /= share.sum(axis=1, keepdims=True)
    used = np.where(share > 0, joints, 0)
    if used.size and not 0 <= used.min() <= used.max() < len(matrices):
        worst = used.min() if used.min() < 0 else used.max()
        raise AssetError("bad_index", f"a vertex follows joint {worst} of {len(matrices)}")
    result = np.zeros((len(share), 3, 4))
    for column in range(share.shape[1]):
        result += share[:, column, None, None] * matrices[used[:, column], :3]
    return result


def apply(matrices: NDArray[np.float64], points: NDArray[Any]) -> NDArray[np.float64]:
    """Points (V, 3) moved by one matrix (3 or 4, 4), or each by its own (V, 3, 4); they need not be finite."""
    points = points.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        if matrices.ndim == 2:
            return points @ matrices[:3, :3].T + matrices[:3, 3]
        return np.einsum("vij,vj->vi", matrices[:, :, :3], points) + matrices[:, :, 3]


def _items(document: Mapping[str, Any], key: str) -> Sequence[Mapping[str, Any]]:
    return document.get(key) or ()


def _item(items: Sequence[Any], index: int, what: str) -> Any:
    if not 0 <= index < len(items):
        raise AssetError("bad_index", f"it refers to {what} {index} of {len(items)}")
    return items[index]


def _parents(nodes: Sequence[Mapping[str, Any]]) -> list[int]:
    parents = [-1] * len(nodes)
    for index, node in enumerate(nodes):
        for child in node.get("children") or ():
            _item(nodes, child, "node")
            if parents[child] != -1:
                raise AssetError("malformed", f"node {child} has two parents")
            parents[child] = index
    return parents


def _roots(document: Mapping[str, Any], nodes: Sequence[Mapping[str, Any]], parents: list[int]) -> list[int]:
    scenes = _items(document, "scenes")
    if not scenes:
        return [index for index, parent in enumerate(parents) if parent == -1]
    roots = _item(scenes, document.get("scene") or 0, "scene").get("nodes") or ()
    for root in roots:
        _item(nodes, root, "node")
    return list(roots)


def _world_matrices(nodes: Sequence[Mapping[str, Any]], parents: list[int]) -> list[Matrix]:
    worlds: list[Matrix] = [np.eye(4)] * len(nodes)
    waiting = [index for index, parent in enumerate(parents) if parent == -1]
    reached = 0
    while waiting:
        index = waiting.pop()
        reached += 1
        local = _local_matrix(nodes[index])
        worlds[index] = local if parents[index] == -1 else worlds[parents[index]] @ local
        waiting.extend(nodes[index].get("children") or ())
    if reached != len(nodes):
        raise AssetError("malformed", "some of its nodes hang below themselves, in a loop")
    return worlds


def _local_matrix(node: Mapping[str, Any]) -> Matrix:
    if node.get("matrix") is not None:
        matrix = _numbers(node["matrix"], 16).reshape(4, 4).T
        matrix[3] = (0, 0, 0, 1)
        return matrix
    return _compose(
        _numbers(node.get("translation") or (0, 0, 0), 3),
        _numbers(node.get("rotation") or (0, 0, 0, 1), 4),
        _numbers(node.get("scale") or (1, 1, 1), 3),
    )


def _compose(translation: NDArray[np.float64], rotation: NDArray[np.float64], scale: NDArray[np.float64]) -> Matrix:
    """Scale, then turn by a quaternion (x, y, z, w), then move."""
    length = np.sqrt(rotation @ rotation)
    if not length > 0:
        raise AssetError("malformed", "a node's rotation is no quaternion")
    x, y, z, w = rotation / length
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    matrix[:3, :3] *= scale
    matrix[:3, 3] = translation
    return matrix


def _numbers(values: Any, count: int) -> NDArray[np.float64]:
    try:
        numbers = np.array(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        numbers = np.empty(0)
    if numbers.shape != (count,):
        raise AssetError("malformed", f"a transform is not made of {count} numbers")
    if not np.isfinite(numbers).all():
        raise AssetError("non_finite", "a node's transform is not made of finite numbers")
    return numbers


def _joint_matrices(
    document: Mapping[str, Any], index: int, worlds: list[Matrix], read: ReadAccessor
) -> NDArray[np.float64]:
    skin = _item(_items(document, "skins"), index, "skin")
    joints = skin.get("joints") or ()
    if not joints:
        raise AssetError("malformed", f"skin {index} has no joints")
    matrices = np.array([_item(worlds, joint, "node") for joint in joints])
    if skin.get("inverseBindMatrices") is not None:
        stored = read(skin["inverseBindMatrices"])
        if stored.ndim != 2 or stored.shape[1] != 16 or len(stored) < len(joints):
            raise AssetError("malformed", f"skin {index} has too few inverse bind matrices")
        matrices = matrices @ stored[: len(joints)].astype(np.float64).reshape(-1, 4, 4).transpose(0, 2, 1)
    return matrices


def _instances(node: Mapping[str, Any], world: Matrix, read: ReadAccessor) -> list[Matrix]:
    """The node's own place, or those of its copies (EXT_mesh_gpu_instancing)."""
    extension = (node.get("extensions") or {}).get(INSTANCING)
    if extension is None:
        return [world]
    names = {"TRANSLATION": 3, "ROTATION": 4, "SCALE": 3}
    stored = {name: read(index) for name, index in (extension.get("attributes") or {}).items() if name in names}
    counts = {len(values) for values in stored.values()}
    if len(counts) != 1 or any(values.shape[1] != names[name] for name, values in stored.items()):
        raise AssetError("malformed", "the copies of a node are not described one by one")
    count = counts.pop()
    nothing = {"TRANSLATION": (0, 0, 0), "ROTATION": (0, 0, 0, 1), "SCALE": (1, 1, 1)}
    rows = {name: stored.get(name, np.broadcast_to(np.array(nothing[name]), (count, names[name]))) for name in names}
    return [
        world @ _compose(_numbers(t, 3), _numbers(r, 4), _numbers(s, 3))
        for t, r, s in zip(rows["TRANSLATION"], rows["ROTATION"], rows["SCALE"])
    ]
