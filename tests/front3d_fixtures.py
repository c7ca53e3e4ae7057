"""A small 3D-FRONT in MIDI's layout, drawn by our own rays from procedural furniture."""

import io
import json
import math
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from PIL import Image

from randscene.generator.cameras import Directions, look_at_matrices
from randscene.generator.ray_caster import RayScene
from randscene.generator.recipe import Background, Camera, Light
from randscene.manifests.asset_mesh import AssetMesh, load_asset_mesh
from randscene.manifests.procedural import build_glb, enumerate_assets

SIDE = 96
FOV_DEG = 45.0
HOUSE = "0a8d471a-2587-458a-9214-586e003e9cf9"
TREES = ("3D-FRONT-RENDER", "3D-FRONT-SCENE", "3D-FRONT-SURFACE")


@dataclass
class WrittenRoom:
    """What a room was written from."""

    room_id: str
    names: list[str]
    meshes: list[AssetMesh]
    """In the cameras' world: Z up."""
    cameras: list[Camera]
    ids: list[np.ndarray] = field(default_factory=list)
    pictures: list[np.ndarray] = field(default_factory=list)


def furniture(count: int, folder: Path, *, first: int = 0) -> list[AssetMesh]:
    """Different procedural assets, Z up, metres."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for number, asset in enumerate(enumerate_assets(first + count)):
        if number >= first:
            path = folder / f"{number}.glb"
            if not path.exists():
                path.write_bytes(build_glb(asset.family, asset.seed))
            found.append(load_asset_mesh(path))
    return found


def placed(meshes: Sequence[AssetMesh], *, spread: float = 0.75) -> list[AssetMesh]:
    """The meshes on a ring, each of unit size, all of it scaled so that the largest side is 1.9, as in MIDI's rooms."""
    moved = []
    for number, mesh in enumerate(meshes):
        size = np.ptp(mesh.bounds, axis=0).max()
        angle = 2 * math.pi * number / len(meshes)
        centre = spread * np.array([math.cos(angle), math.sin(angle), 0.0])
        vertices = (mesh.vertices - mesh.bounds.mean(axis=0)) / size + centre
        moved.append(vertices)
    everything = np.concatenate(moved)
    middle, side = (everything.min(0) + everything.max(0)) / 2, np.ptp(everything, axis=0).max()
    return [replace(mesh, vertices=(points - middle) * 1.9 / side) for mesh, points in zip(meshes, moved)]


def cameras(views: int, *, height: float = 0.5, distance: float = 3.5) -> list[Camera]:
    directions = Directions(turns=(np.arange(views) + 0.3) / views, height=np.full(views, height))
    matrices = look_at_matrices(directions, (0.0, 0.0, 0.0), distance)
    return [Camera(camera_to_world=tuple(map(tuple, matrix.tolist())), fov_deg=FOV_DEG) for matrix in matrices]


def write_room(
    root: Path,
    room_id: str,
    meshes: Sequence[AssetMesh],
    views: Sequence[Camera],
    *,
    y_up: bool = True,
    trees: Sequence[str] = TREES,
    side: int = SIDE,
    rerender: bool = False,
    numbers: Sequence[int] | None = None,
) -> WrittenRoom:
    """Write one room: meshes in the cameras' world become files, Y up as glTF or left Z up."""
    numbers = list(numbers or range(1, len(meshes) + 1))
    names = [f"Table_{number:08x}-1d29-47bf-ba38-db51856d3aa5_{number}" for number in numbers]
    room = WrittenRoom(room_id=room_id, names=names, meshes=list(meshes), cameras=list(views))
    render, scene, surface = (root / tree / room_id for tree in trees)
    for folder in (render, scene, surface):
        folder.mkdir(parents=True)
    for name, mesh in zip(names, meshes):
        write_glb(scene / f"{name}.glb", mesh, y_up=y_up)
        write_cloud(surface / f"{name}.npy", mesh, y_up=y_up)
    rays = RayScene(meshes)
    sun = Light(kind="sun", position=(2, -3, 5), target=(0, 0, 0), power=2.0, size=0.0, color=(1.0, 1.0, 1.0))
    values = np.array([0, *numbers], np.uint8)
    for number, camera in enumerate(views):
        ids, _ = rays.ids_and_depth(camera, side)
        picture = rays.shade(camera, side, [sun], Background(color=(0.4, 0.4, 0.4), strength=1.0), shadows=False)
        alpha = ((ids > 0) * 255).astype(np.uint8)
        Image.fromarray(np.dstack([picture, alpha])).save(render / f"render_{number:04d}.webp", lossless=True)
        if rerender:
            other = np.where(ids[..., None] > 0, 255 - picture, 200).astype(np.uint8)
            Image.fromarray(other).save(render / f"rerender_{number:04d}.webp", lossless=True)
        Image.fromarray(values[ids]).save(render / f"semantic_{number:04d}.png")
        room.ids.append(ids)
        room.pictures.append(picture)
    (render / "meta.json").write_text(json.dumps(meta_of(views, side)))
    return room


def meta_of(views: Sequence[Camera], side: int = SIDE) -> dict[str, Any]:
    angle = math.radians(FOV_DEG)
    return {
        "camera_angle_x": angle,
        "sensor_width": 32.0,
        "camera_lens": 16.0 / math.tan(angle / 2),
        "locations": [
            {
                "index": f"{number:04d}",
                "position": "around",
                "transform_matrix": [list(row) for row in camera.camera_to_world],
                "frames": [
                    {"type": kind, "name": f"{kind}_{number:04d}.{end}", "width": side, "height": side}
                    for kind, end in (("render", "webp"), ("depth", "exr"), ("normal", "webp"))
                ],
            }
            for number, camera in enumerate(views)
        ],
    }


def in_file(points: np.ndarray, *, y_up: bool) -> np.ndarray:
    return np.stack([points[:, 0], points[:, 2], -points[:, 1]], axis=1) if y_up else points


def write_glb(path: Path, mesh: AssetMesh, *, y_up: bool = True) -> None:
    body = trimesh.Trimesh(in_file(mesh.vertices, y_up=y_up), mesh.faces, process=False)
    path.write_bytes(body.export(file_type="glb"))


def write_cloud(path: Path, mesh: AssetMesh, *, y_up: bool = True, count: int = 600) -> None:
    """As `numpy.save` writes a dict: a pickle."""
    body = trimesh.Trimesh(in_file(mesh.vertices, y_up=y_up), mesh.faces, process=False)
    points, faces = trimesh.sample.sample_surface(body, count, seed=1)
    np.save(path, {"surface_points": np.asarray(points), "surface_normals": np.asarray(body.face_normals[faces])})


def write_lists(root: Path, rooms: Sequence[WrittenRoom], *, name: str = "midi") -> None:
    (root / f"{name}_room_ids.json").write_text(json.dumps([room.room_id for room in rooms]))
    (root / f"{name}_furniture_ids.json").write_text(json.dumps([room.names for room in rooms]))


def write_front3d(root: Path, *, rooms: int = 3, objects: int = 3, views: int = 3, **options: Any) -> list[WrittenRoom]:
    """Write a whole folder; `options` go on to `write_room`."""
    written = []
    for number in range(rooms):
        meshes = placed(furniture(objects, root.parent / "furniture", first=number * objects))
        written.append(write_room(root, f"{HOUSE}/Bedroom-{100 + number}", meshes, cameras(views), **options))
    write_lists(root, written)
    return written


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, target: Path) -> None:
        self.target = str(target)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (Path(self.target),)


def write_bomb(path: Path, target: Path) -> None:
    np.save(path, np.array({"surface_points": Bomb(target)}, dtype=object), allow_pickle=True)


def pickled(value: Any, protocol: int) -> bytes:
    """A `.npy` of one object, pickled with another protocol than this NumPy's own."""
    array = np.array(None, dtype=object)
    array.fill(value)
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|O", "fortran_order": False, "shape": ()})
    pickle.dump(array, buffer, protocol=protocol)
    return buffer.getvalue()
