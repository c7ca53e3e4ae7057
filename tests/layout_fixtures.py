"""Hand-made bodies, assets and scenes for the tests of layout checks."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import trimesh

from randscene.generator.collision_body import CollisionBody, PlacedBody
from randscene.generator.recipe import RECIPE_VERSION, Background, Camera, Instance, LayoutFacts, SceneRecipe
from randscene.manifests import AssetRecord, Support


def body(mesh: trimesh.Trimesh) -> CollisionBody:
    return CollisionBody.of_triangles(np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces))


def box(*sides: float) -> trimesh.Trimesh:
    return trimesh.creation.box(sides)


def pose(x: float = 0.0, y: float = 0.0, z: float = 0.0, *, scale: float = 1.0, yaw: float = 0.0) -> np.ndarray:
    matrix = np.eye(4)
    cosine, sine = np.cos(yaw), np.sin(yaw)
    matrix[:3, :3] = scale * np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
    matrix[:3, 3] = x, y, z
    return matrix


def place(mesh: trimesh.Trimesh, *at: float, **turn: float) -> PlacedBody:
    return PlacedBody(body(mesh), pose(*at, **turn))


def merged(*meshes: trimesh.Trimesh) -> trimesh.Trimesh:
    return trimesh.util.concatenate(list(meshes))


def moved(mesh: trimesh.Trimesh, x: float, y: float, z: float) -> trimesh.Trimesh:
    return mesh.copy().apply_translation([x, y, z])


def without(mesh: trimesh.Trimesh, normal: tuple[float, float, float]) -> trimesh.Trimesh:
    """The same mesh without the triangles that face along `normal`."""
    return trimesh.Trimesh(mesh.vertices, mesh.faces[mesh.face_normals @ normal < 0.99], process=False)


def tray(side: float, height: float, wall: float) -> trimesh.Trimesh:
    """A watertight tray, open at the top, standing on z = 0."""
    profile = trimesh.creation.box((side, side, height))
    inner = side - 2 * wall
    base = moved(profile, 0, 0, height / 2)
    # The top face becomes a rim, four inner walls and an inner floor.
    outer = [(x * side / 2, y * side / 2) for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    rim = [(x * inner / side, y * inner / side, height) for x, y in outer]
    floor = [(x, y, wall) for x, y, _ in rim]
    vertices = np.array([*((x, y, height) for x, y in outer), *rim, *floor])
    quads = []
    for k in range(4):
        following = (k + 1) % 4
        quads += [(k, following, 4 + following, 4 + k), (4 + k, 4 + following, 8 + following, 8 + k)]
    quads.append((8, 9, 10, 11))
    faces = [triangle for a, b, c, d in quads for triangle in ((a, b, c), (a, c, d))]
    result = merged(without(base, (0, 0, 1)), trimesh.Trimesh(vertices, faces, process=False))
    result.merge_vertices()
    assert result.is_watertight
    return result


def make_asset(folder: Path, uid: str, mesh: trimesh.Trimesh, support: Support | None = None) -> AssetRecord:
    """Write a mesh (Z up) as a GLB, and the record that a lock would hold of it."""
    folder.mkdir(parents=True, exist_ok=True)
    turned = mesh.copy()
    turned.vertices = turned.vertices[:, [0, 2, 1]] * (1, 1, -1)  # (x, y, z) -> (x, z, -y): glTF is Y up
    path = folder / f"{uid}.glb"
    path.write_bytes(turned.export(file_type="glb"))
    lower, upper = np.asarray(mesh.bounds, np.float32).astype(float)
    return AssetRecord(
        uid=uid,
        source="directory",
        locator=str(path),
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        geometry=hashlib.sha256(uid.encode()).hexdigest()[:32],
        licence="CC0-1.0",
        attribution="",
        up_axis="Y",
        extents=tuple((upper - lower).tolist()),
        bounds_min=tuple(lower.tolist()),
        n_faces=len(mesh.faces),
        has_texture=False,
        category="",
        support=support,
        status="ok",
    )


def square(half: float, height: float, holes: tuple = ()) -> Support:
    """A supporting square about the origin."""
    ring = ((-half, -half), (half, -half), (half, half), (-half, half))
    return Support(height=height, area=4 * half * half, clearance=half, anchor=(0.0, 0.0), polygon=ring, holes=holes)


def recipe(
    *instances: tuple[AssetRecord, np.ndarray, int | None], scene: int = 0, attempt: int = 0, gap: float = 0.0
) -> SceneRecipe:
    """A scene of (asset, pose, support parent); everything on the ground gets a disc about its outline."""
    entries, ids, radii, centres = [], [], [], []
    for number, (asset, matrix, parent) in enumerate(instances, start=1):
        scale = float(np.linalg.det(matrix[:3, :3]) ** (1 / 3))
        entries.append(
            Instance(
                uid=asset.uid,
                sha256=asset.sha256,
                scale=scale,
                pose=tuple(tuple(row) for row in matrix.tolist()),
                support_parent=parent,
            )
        )
        if parent is None:
            low, size = np.array(asset.bounds_min), np.array(asset.extents)
            ids.append(number)
            radii.append(float(np.hypot(*size[:2]) / 2 * scale))
            centres.append(tuple((matrix[:3, :3] @ (low + size / 2) + matrix[:3, 3])[:2].tolist()))
    return SceneRecipe(
        version=RECIPE_VERSION,
        scene=scene,
        split="train",
        attempt=attempt,
        seed=0,
        instances=tuple(entries),
        lights=(),
        background=Background(color=(1.0, 1.0, 1.0), strength=0.1),
        look_at=(0.0, 0.0, 0.5),
        cameras=(Camera(camera_to_world=tuple(tuple(row) for row in np.eye(4).tolist()), fov_deg=40.0),),
        resolution=64,
        layout=_facts(ids, radii, centres, gap),
    )


def _facts(ids: list, radii: list, centres: list, gap: float) -> LayoutFacts:
    known = {"disc_instances": tuple(ids), "radii": tuple(radii), "centres": tuple(centres), "gap": gap}
    known |= {"region": 10.0, "expansions": 1, "tries": 7}
    return LayoutFacts(**{field.name: known[field.name] for field in dataclasses.fields(LayoutFacts)})
