"""Scenes to register: planned from real or procedural assets, and predictions of them with known errors.

The benchmarks of registration share this. A prediction is drawn anew from the same surfaces: every object resized,
shifted and bent a little, smoothly, as a decoded mesh differs from the true one; the whole turned about the vertical
and shifted.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from randscene.generator.planning import PlanContext, plan_scene
from randscene.generator.scene_maker import SceneMaker
from randscene.generator.view_centric import world_to_view
from randscene.manifests import AssetRecord, build_lock, load_asset_mesh, load_lock, load_spec, with_overrides
from randscene.seeding import generator
from randscene.train.registration_steps import apply, rotation_from_vector, similarity
from randscene.train.triangle_mesh import TriangleMesh, sample_surface

PROCEDURAL = 120
RESIZED = 0.05
"""Largest relative error of an object's size."""
SHIFTED = 0.01
"""Standard deviation of an object's shift along each axis, in sides of the view-centric cube."""
BENT = 0.004
"""Standard deviation of the bending along each axis, about a quarter of a voxel (1/64)."""
WAVES, LONGEST = 8, 0.3
"""Sine waves that an object is bent by, and the longest one's length; the shortest is a third of it."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One scene and a prediction of it, in the view-centric cube."""

    predicted: dict[int, np.ndarray]
    """(P, 3) float64 points of each object by its 1-based id."""
    true: list[np.ndarray]
    """(P, 3) float64 points of each object in id order."""
    motion: np.ndarray
    """(4, 4): the turn and shift that were applied to the whole prediction."""


def scenes(lock: Path | None, count: int, objects: int) -> Iterator[list[TriangleMesh]]:
    """The placed meshes of `count` planned scenes of `objects` each, in their first view's cube.

    Of the assets of a lock, or of `PROCEDURAL` procedural ones.
    """
    with tempfile.TemporaryDirectory() as folder:
        if lock is None:
            lock = Path(folder) / "assets.lock.jsonl"
            build_lock("procedural", count=PROCEDURAL, out=lock)
        yield from planned(load_lock(lock), count, objects)


def planned(lock: list[AssetRecord], count: int, objects: int) -> Iterator[list[TriangleMesh]]:
    """The same of the records of a lock."""
    records = {record.uid: record for record in lock}
    overrides = [
        "assets.held_out_fraction=0",
        "splits.val.held_out_assets=false",
        "cameras.views=1",
        f"layout.objects=[{objects}, {objects}]",
    ]
    context = PlanContext.of(with_overrides(load_spec("rand-15k"), overrides), lock)
    for index in range(count):
        recipe = plan_scene(context, index)
        placed = []
        for item in recipe.instances:
            record = records[item.uid]
            mesh = SceneMaker.place(load_asset_mesh(record.locator, up_axis=record.up_axis), np.asarray(item.pose))
            placed.append(TriangleMesh(vertices=mesh.vertices, faces=np.asarray(mesh.faces, np.int64)))
        vertices = np.concatenate([mesh.vertices for mesh in placed])
        to_view = world_to_view(np.asarray(recipe.cameras[0].camera_to_world), np.asarray(recipe.look_at), vertices)
        yield [mesh.moved(to_view) for mesh in placed]


def pair(meshes: list[TriangleMesh], points: int, seed: int, *, yaw_deg: float | None = None) -> Pair:
    """A scene's points and a prediction's, `points` an object; turned by a random yaw unless one is given."""
    rng = generator(seed, "registration-pair")
    yaw = rng.uniform(0, 360) if yaw_deg is None else yaw_deg
    rotation = rotation_from_vector(np.array([0, 0, np.radians(yaw)]))
    motion = similarity(1.0, rotation, rng.normal(0, 0.03, 3))
    predicted = {}
    for number, mesh in enumerate(meshes, start=1):
        cloud = sample_surface(mesh, points, rng)
        middle = (cloud.min(axis=0) + cloud.max(axis=0)) / 2
        cloud = middle + (cloud - middle) * rng.uniform(1 - RESIZED, 1 + RESIZED) + rng.normal(0, SHIFTED, 3)
        predicted[number] = apply(motion, bend(cloud, rng))
    return Pair(predicted=predicted, true=[sample_surface(mesh, points, rng) for mesh in meshes], motion=motion)


def bend(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(N, 3) points moved by a smooth random field of `BENT` standard deviation."""
    directions = rng.normal(size=(WAVES, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    lengths = rng.uniform(LONGEST / 3, LONGEST, (WAVES, 1))
    waves = np.sin(points @ (2 * np.pi * directions / lengths).T + rng.uniform(0, 2 * np.pi, WAVES))
    return points + waves @ rng.normal(0, BENT * np.sqrt(2 / WAVES), (WAVES, 3))
