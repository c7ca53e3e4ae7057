"""Small synthetic datasets, written by the project's own writer: spheres, boxes and cylinders, traced as distance
fields, so that pictures, ids, voxels and recipes of a scene agree with one another. No renderer, no mesh."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from randscene import canonical_json, seeding
from randscene.files import write_atomic
from randscene.shards.dataset_card import write_card
from randscene.shards.shard_writer import write_shard
from randscene.shards.view_sample import ViewSample, encode_members

KINDS = ("sphere", "box", "cylinder")
FINGERPRINT = "f00d" * 16


@dataclass(frozen=True, kw_only=True)
class Solid:
    kind: str
    centre: np.ndarray
    half: float
    """Half of the height; a box and a cylinder are as wide as `half * 2 * girth`."""
    girth: float
    yaw: float
    parent: int | None = None

    @property
    def radius(self) -> float:
        return self.half * self.girth * (math.sqrt(2) if self.kind == "box" else 1)

    def distance(self, points: np.ndarray) -> np.ndarray:
        p = points - self.centre
        if self.kind == "sphere":
            return np.linalg.norm(p, axis=-1) - self.half
        wide = self.half * self.girth
        if self.kind == "cylinder":
            q = np.stack([np.hypot(p[..., 0], p[..., 1]) - wide, np.abs(p[..., 2]) - self.half], -1)
        else:
            cos, sin = math.cos(self.yaw), math.sin(self.yaw)
            turned = np.stack([cos * p[..., 0] + sin * p[..., 1], cos * p[..., 1] - sin * p[..., 0], p[..., 2]], -1)
            q = np.abs(turned) - (wide, wide, self.half)
        return np.linalg.norm(np.maximum(q, 0), axis=-1) + np.minimum(q.max(-1), 0)


def solids_of(scene: int, objects: tuple[int, int] = (2, 4)) -> list[Solid]:
    """The objects of one scene: one in the middle, others around it, now and then one on top of the first."""
    rng = seeding.generator(scene, "solids")
    count = int(rng.integers(objects[0], objects[1] + 1))
    stacked = count >= 3 and rng.random() < 0.6
    base = Solid(kind="box" if stacked else "cylinder", centre=np.array([0, 0, 0.45]), half=0.45, girth=0.9, yaw=0.3)
    solids = [base]
    if stacked:
        solids.append(Solid(kind="sphere", centre=np.array([0, 0, 1.15]), half=0.25, girth=1.0, yaw=0.0, parent=1))
    ring = count - len(solids)
    for number in range(ring):
        half = float(rng.uniform(0.25, 0.5))
        angle = 2 * math.pi * (number + rng.uniform(-0.15, 0.15)) / max(ring, 1)
        at = 1.35 * np.array([math.cos(angle), math.sin(angle)])
        kind = KINDS[int(rng.integers(len(KINDS)))]
        girth = 1.0 if kind == "sphere" else float(rng.uniform(0.5, 1.1))
        solids.append(
            Solid(kind=kind, centre=np.array([*at, half]), half=half, girth=girth, yaw=float(rng.uniform(0, 3)))
        )
    return solids


def make_sample(
    scene: int,
    view: int,
    *,
    views: int = 4,
    resolution: int = 48,
    latents: bool = False,
    depth: bool = False,
    split: str = "train",
    fingerprint: str = FINGERPRINT,
    objects: tuple[int, int] = (2, 4),
    frame: str = "yaw",
) -> ViewSample:
    """One whole sample of a synthetic scene; `frame` is what it is called, its geometry is that of `yaw`."""
    solids = solids_of(scene, objects)
    camera, look_at = _camera(view, views), np.array([0.0, 0.0, 0.5])
    ids, rgb, distance, alone = _trace(solids, camera, resolution)
    transform = _world_to_view(solids, camera[:3, 3], look_at)
    grids = [_shell(solid, transform) for solid in solids]
    rng = seeding.generator(scene, view, "latents")
    scale = 1e-3
    meta: dict[str, Any] = {
        "schema": 1,
        "scene": scene,
        "view": view,
        "split": split,
        "attempt": 0,
        "camera_to_world": camera.tolist(),
        "fov_deg": 40.0,
        "intrinsics": np.diag([1.0, 1.0, 1.0]).tolist(),
        "look_at": look_at.tolist(),
        "frame": frame,
        "azimuth_offset_deg": 0.0,
        "world_to_view": transform.tolist(),
        "instances": [
            {
                "uid": f"synthetic/{solid.kind}-{number}",
                "licence": "CC0-1.0",
                "attribution": "",
                "visible_pixels": int((ids == number).sum()),
                "unoccluded_pixels": alone[number - 1],
                "pose": _pose(solid).tolist(),
                "support_parent": solid.parent,
            }
            for number, solid in enumerate(solids, start=1)
        ],
        "engine": "synthetic",
        "encoder": {"name": "synthetic", "sha256": "0" * 64} if latents else None,
        "depth": {"scale": scale, "offset": 0.0} if depth else None,
        "fingerprint": fingerprint,
    }
    return ViewSample(
        rgb=rgb,
        ids=ids,
        coords=np.concatenate(grids),
        offsets=np.cumsum([0, *map(len, grids)]).astype(np.int32),
        meta=meta,
        depth=np.where(ids > 0, distance / scale, 0).astype(np.uint16) if depth else None,
        latents=rng.standard_normal((len(solids) + 1, 8, 16, 16, 16)).astype(np.float16) if latents else None,
    )


def make_dataset(
    folder: Path,
    *,
    scenes: int = 4,
    views: int = 3,
    scenes_per_shard: int = 2,
    splits: tuple[str, ...] = ("train",),
    complete: bool = True,
    **sample: Any,
) -> Path:
    """Write a dataset folder of `scenes` scenes a split and return it; `sample` goes on to `make_sample`."""
    recipes, counts = [], {}
    for number, split in enumerate(splits):
        first = 900_000 * number
        indices = range(first, first + scenes)
        blocks = [indices[start : start + scenes_per_shard] for start in range(0, scenes, scenes_per_shard)]
        total = 0
        for block, members in enumerate(blocks):
            made = [
                make_sample(scene, view, views=views, split=split, **sample)
                for scene in members
                for view in range(views)
            ]
            order = seeding.generator(0, "shard", split, block).permutation(len(made))
            kept = [made[place] for place in order if min(_visible(made[place])) > 0]
            write_shard(
                folder / "shards" / f"{split}-{block:06d}.tar",
                ((item.key, encode_members(item)) for item in kept),
                header={
                    "split": split,
                    "block": block,
                    "scenes": list(members),
                    "attempts": {str(scene): 0 for scene in members},
                    "fingerprint": sample.get("fingerprint", FINGERPRINT),
                },
            )
            total += len(kept)
        counts[split] = {"scenes": scenes, "samples": total, "shards": len(blocks)}
        recipes += [_recipe(scene, split, views, sample) for scene in indices]
    info = {
        "schema": 1,
        "name": "synthetic",
        "fingerprint": sample.get("fingerprint", FINGERPRINT),
        "lock_sha256": "0" * 64,
        "spec": {
            "name": "synthetic",
            "seed": 0,
            "frame": {"name": sample.get("frame", "yaw")},
            "render": {"engine": "synthetic"},
        },
        "versions": {"randscene": "0"},
        "splits": counts,
        "complete": complete,
    }
    write_atomic(folder / "dataset.json", canonical_json.dumps(info))
    write_atomic(folder / "recipes.jsonl", "".join(canonical_json.dumps(recipe) + "\n" for recipe in recipes))
    write_card(folder)
    return folder


def _visible(sample: ViewSample) -> list[int]:
    return [item["visible_pixels"] for item in sample.meta["instances"]]


def _recipe(scene: int, split: str, views: int, sample: dict[str, Any]) -> dict[str, Any]:
    solids = solids_of(scene, sample.get("objects", (2, 4)))
    ground = [number for number, solid in enumerate(solids, start=1) if solid.parent is None]
    return {
        "version": 1,
        "scene": scene,
        "split": split,
        "attempt": 0,
        "seed": 0,
        "instances": [
            {
                "uid": f"synthetic/{solid.kind}-{number}",
                "sha256": "0" * 64,
                "scale": 2 * solid.half,
                "pose": _pose(solid),
                "support_parent": solid.parent,
            }
            for number, solid in enumerate(solids, start=1)
        ],
        "lights": [],
        "background": {"color": [1, 1, 1], "strength": 1.0},
        "look_at": [0.0, 0.0, 0.5],
        "cameras": [{"camera_to_world": _camera(view, views), "fov_deg": 40.0} for view in range(views)],
        "resolution": sample.get("resolution", 48),
        "layout": {
            "disc_instances": ground,
            "radii": [solids[number - 1].radius for number in ground],
            "centres": [solids[number - 1].centre[:2] for number in ground],
            "gap": 0.12,
            "region": 3.6,
            "expansions": 1,
            "tries": 9,
        },
    }


def _pose(solid: Solid) -> np.ndarray:
    cos, sin, scale = math.cos(solid.yaw), math.sin(solid.yaw), 2 * solid.half
    pose = np.eye(4)
    pose[:2, :2] = [[cos, -sin], [sin, cos]]
    pose[:3, :3] *= scale
    pose[:3, 3] = solid.centre
    return pose


def _camera(view: int, views: int) -> np.ndarray:
    height = 0.9 - 0.7 * (view + 0.5) / views  # from steep to shallow, always from above
    angle = view * math.pi * (3 - math.sqrt(5))
    away = np.array([math.cos(angle) * math.sqrt(1 - height**2), math.sin(angle) * math.sqrt(1 - height**2), height])
    right = np.cross((0, 0, 1), away)
    right /= np.linalg.norm(right)
    camera = np.eye(4)
    camera[:3, :3] = np.stack([right, np.cross(away, right), away], axis=1)
    camera[:3, 3] = np.array([0, 0, 0.5]) + 6.0 * away
    return camera


def _trace(solids: list[Solid], camera: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[int]]:
    """Ids, picture, distance along the ray, and the pixels that each solid would show if it were alone."""
    span = math.tan(math.radians(20)) * (2 * (np.arange(size) + 0.5) / size - 1)
    rays = np.stack([*np.meshgrid(span, -span), -np.ones((size, size))], -1) @ camera[:3, :3].T
    rays = (rays / np.linalg.norm(rays, axis=-1, keepdims=True)).reshape(-1, 3)
    eye, light = camera[:3, 3], np.array([0.42, -0.36, 0.83])
    nearest, ids, rgb = np.full(len(rays), np.inf), np.zeros(len(rays), np.uint8), np.zeros((len(rays), 3))
    alone = []
    for number, solid in enumerate(solids, start=1):
        along = rays @ (solid.centre - eye)
        miss = np.linalg.norm(eye + rays * along[:, None] - solid.centre, axis=-1)
        where = np.flatnonzero(miss < math.hypot(solid.radius, solid.half))
        travelled = along[where] - 1.5
        for _ in range(32):
            travelled += solid.distance(eye + rays[where] * travelled[:, None])
        points = eye + rays[where] * travelled[:, None]
        hit = solid.distance(points) < 4e-3
        where, travelled, points = where[hit], travelled[hit], points[hit]
        alone.append(len(where))
        front = travelled < nearest[where]
        where, travelled, points = where[front], travelled[front], points[front]
        steps = 1e-4 * np.eye(3)
        normal = np.stack([solid.distance(points + step) - solid.distance(points - step) for step in steps], -1)
        normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-9)
        tint = 0.6 + 0.35 * np.cos(2.1 * number + np.array([0, 2, 4]))
        nearest[where], ids[where] = travelled, number
        rgb[where] = tint * (0.25 + 0.75 * np.clip(normal @ light, 0, 1))[:, None]
    shape = (size, size)
    return ids.reshape(shape), (255 * rgb.reshape(*shape, 3)).astype(np.uint8), nearest.reshape(shape), alone


def _world_to_view(solids: list[Solid], eye: np.ndarray, look_at: np.ndarray) -> np.ndarray:
    psi = math.atan2(eye[1] - look_at[1], eye[0] - look_at[0])
    cos, sin = math.cos(-math.pi / 2 - psi), math.sin(-math.pi / 2 - psi)
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    reach = [(turn @ solid.centre, max(solid.radius, solid.half)) for solid in solids]
    low = np.min([centre - radius for centre, radius in reach], axis=0)
    high = np.max([centre + radius for centre, radius in reach], axis=0)
    scale = 1 / (high - low).max()
    transform = np.eye(4)
    transform[:3, :3] = scale * turn
    transform[:3, 3] = -scale * (low + high) / 2
    return transform


def _shell(solid: Solid, transform: np.ndarray) -> np.ndarray:
    reach = 64 * np.cbrt(np.linalg.det(transform[:3, :3])) * max(solid.radius, solid.half) + 1
    middle = 64 * (transform[:3, :3] @ solid.centre + transform[:3, 3] + 0.5)
    sides = [np.arange(max(0, int(m - reach)), min(64, int(m + reach) + 1)) for m in middle]
    grid = np.stack(np.meshgrid(*sides, indexing="ij"), -1).reshape(-1, 3)
    inverse = np.linalg.inv(transform)
    world = ((grid + 0.5) / 64 - 0.5) @ inverse[:3, :3].T + inverse[:3, 3]
    pitch = np.cbrt(np.linalg.det(inverse[:3, :3])) / 64
    return grid[np.abs(solid.distance(world)) < 0.7 * pitch].astype(np.uint8)
