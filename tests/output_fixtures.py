"""One small truth of boxes, and its perfect prediction as every method would have written it."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import trimesh
from test_evaluate import BOXES, SCENE, about_z, box, moved, sample_of, view_frame

from randscene import canonical_json
from randscene.files import write_atomic
from randscene.generator.scene_glb import scene_glb
from randscene.shards import ViewSample, encode_members, write_shard

Solid = tuple[np.ndarray, np.ndarray]
"""Vertices (V, 3) and faces (F, 3)."""


def camera_of(view: int) -> np.ndarray:
    """A camera that the view's frame puts on the -Y side: above the scene, 4 m off, looking at it."""
    heading = -np.pi / 2 - (0.4 + 1.3 * view)
    position = np.array([4 * np.cos(heading), 4 * np.sin(heading), 2.0])
    backwards = position / np.linalg.norm(position)
    right = np.cross([0.0, 0.0, 1.0], backwards)
    right /= np.linalg.norm(right)
    camera = np.eye(4)
    camera[:3, :4] = np.stack([right, np.cross(backwards, right), backwards, position], axis=1)
    return camera


def write_dataset(root: Path, splits: Sequence[str] = ("val", "val")) -> Path:
    """Two views of the boxes of `test_evaluate`, with cameras, each in a split."""
    counts: dict[str, dict[str, int]] = {}
    for split in sorted(set(splits)):
        members = []
        for view, own in enumerate(splits):
            if own == split:
                plain = sample_of(view)
                meta = plain.meta | {"split": split, "camera_to_world": camera_of(view).tolist()}
                sample = ViewSample(rgb=plain.rgb, ids=plain.ids, coords=plain.coords, offsets=plain.offsets, meta=meta)
                members.append((sample.key, encode_members(sample)))
        header = {"split": split, "block": 0, "scenes": [SCENE], "attempts": {str(SCENE): 0}, "fingerprint": "f00d"}
        write_shard(root / "shards" / f"{split}-000000.tar", members, header=header)
        counts[split] = {"scenes": 1, "samples": len(members), "shards": 1}
    info = {"schema": 1, "name": "boxes", "fingerprint": "f00d", "splits": counts, "complete": True}
    write_atomic(root / "dataset.json", canonical_json.dumps(info))
    write_atomic(root / "scenes" / f"{SCENE:06d}.glb", scene_glb([box(*one) for one in BOXES]))
    return root


def solids(view: int | None = 0) -> list[Solid]:
    """The boxes in id order: in the view's cube, or in the world where there is no view."""
    found = [box(*one) for one in BOXES]
    return found if view is None else [(moved(view_frame(view), vertices), faces) for vertices, faces in found]


def y_up(points: np.ndarray) -> np.ndarray:
    return np.stack([points[:, 0], points[:, 2], -points[:, 1]], axis=1)


def changed(some: Sequence[Solid], change: Callable[[np.ndarray], np.ndarray]) -> list[Solid]:
    return [(change(vertices), faces) for vertices, faces in some]


def similar(angle: float, scale: float, shift: Sequence[float]) -> Callable[[np.ndarray], np.ndarray]:
    """Upright: a turn about Z (radians), a scale, a shift."""
    turn = about_z(angle)
    return lambda points: scale * moved(turn, points) + np.asarray(shift)


def glb_of(*some: Solid) -> bytes:
    """As the methods' own code writes them: nameless geometries in one scene."""
    scene = trimesh.Scene([trimesh.Trimesh(vertices, faces, process=False) for vertices, faces in some])
    return bytes(scene.export(file_type="glb"))


def write_midi(root: Path, key: str, some: Sequence[Solid]) -> None:
    """In a room's own frame: turned, 1.9 wide, Y-up."""
    write_atomic(
        root / key / "output.glb", glb_of(*changed(changed(some, similar(np.pi / 2, 1.9, (0.1, 0, 0.2))), y_up))
    )


def write_scenegen(root: Path, key: str, some: Sequence[Solid]) -> None:
    """About the first asset, which stands in the origin; Y-up."""
    first = some[0][0].mean(axis=0)
    write_atomic(
        root / f"{key}.glb",
        glb_of(*changed(changed(some, lambda v: similar(-np.pi, 1.96, (0, 0, 0))(v - first)), y_up)),
    )


def write_partcrafter(root: Path, key: str, some: Sequence[Solid]) -> None:
    """In [-1, 1], in no order of ours, and once more in one piece; Y-up."""
    parts = changed(changed(some, lambda v: 2 * v), y_up)
    for number, part in enumerate([*parts[1:], parts[0]]):
        write_atomic(root / key / f"part_{number:02d}.glb", glb_of(part))
    write_atomic(root / key / "object.glb", glb_of(*parts))


def write_gen3dsr(root: Path, key: str, some: Sequence[Solid], view: int = 0) -> None:
    """In the camera's metres: x right, y down, z forward; background and whole scene beside the instances."""
    to_camera = np.diag([1.0, -1, -1, 1]) @ np.linalg.inv(camera_of(view)) @ np.linalg.inv(view_frame(view))
    parts = changed(some, lambda v: moved(to_camera, v))
    folder = root / key / "reconstruction"
    for number, part in enumerate(reversed(parts)):
        write_atomic(folder / f"{number}_some_box.glb", glb_of(part))
    write_atomic(folder / "full_scene.glb", glb_of(*parts))
    (folder / "background.ply").write_bytes(b"ply")
    write_atomic(root / key / "cam_params.json", json.dumps({"K": [], "c2w": np.eye(4).tolist()}))


def write_iscene(root: Path, key: str, some: Sequence[Solid]) -> None:
    """In the view's cube, Y-up, named by the mask's id, and once more in one piece."""
    parts = changed(some, y_up)
    for number, part in enumerate(parts, start=1):
        write_atomic(root / key / f"instance_{number:02d}.glb", glb_of(part))
    write_atomic(root / key / "scene_pred.glb", glb_of(*parts))


def write_glbs(root: Path, key: str, some: Sequence[Solid]) -> None:
    """In the view's cube, left Z-up."""
    for number, part in enumerate(some):
        write_atomic(root / key / f"box {number}.glb", glb_of(part))


WRITERS = {
    "midi": write_midi,
    "scenegen": write_scenegen,
    "partcrafter": write_partcrafter,
    "gen3dsr": write_gen3dsr,
    "iscene": write_iscene,
    "glb": write_glbs,
}
STATED = {"glb": {"frame": "view", "up_axis": "Z"}}
"""What the user has to say of a layout."""
