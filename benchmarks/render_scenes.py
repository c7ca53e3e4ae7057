"""The scenes of the rendering benchmarks, the same bytes each time: eight objects on a grid, three area lights."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trimesh
from PIL import Image

from randscene import seeding
from randscene.generator.recipe import (
    RECIPE_VERSION,
    Background,
    Camera,
    Instance,
    LayoutFacts,
    Light,
    Matrix4,
    SceneRecipe,
)
from randscene.manifests import load_asset_mesh

VIEWS = 150
MARGIN = 0.05
FOV_DEG = 40.0


@dataclass(frozen=True, kw_only=True)
class BenchmarkScene:
    """A recipe and the files of its assets."""

    name: str
    recipe: SceneRecipe
    paths: dict[str, Path]
    triangles: int


def procedural_scene(folder: Path, scale: int = 1) -> BenchmarkScene:
    """Eight smooth primitives, 0.5 million triangles (`scale` = 1) or 1.1 million (3); every second one textured."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = seeding.generator(0, "benchmark", "meshes")
    rounds = round(math.sqrt(scale) * 256)
    makers = [
        lambda: trimesh.creation.icosphere(subdivisions=6, radius=0.5),
        lambda: trimesh.creation.torus(0.35, 0.15, major_sections=rounds, minor_sections=rounds // 2),
        lambda: trimesh.creation.capsule(0.5, 0.3, count=(rounds // 2, rounds // 2)),
        lambda: trimesh.creation.torus(0.4, 0.1, major_sections=rounds, minor_sections=rounds // 2),
    ]
    paths = {}
    for number in range(8):
        mesh = makers[number % 4]()
        color = rng.uniform(0.2, 0.9, 3)
        noise = rng.integers(0, 256, (64, 64, 3), np.uint8)
        texture = Image.fromarray(noise).resize((1024, 1024), Image.Resampling.BICUBIC)
        plain = number % 2 == 1
        material = trimesh.visual.material.PBRMaterial(
            baseColorTexture=None if plain else texture,
            baseColorFactor=[*(255 * color).astype(int), 255] if plain else None,
            metallicFactor=1.0 if number == 3 else 0.0,
            roughnessFactor=0.35 if number in (1, 3) else 0.7,
        )
        uv = mesh.vertices[:, :2] - mesh.vertices[:, :2].min(axis=0)
        mesh.visual = trimesh.visual.TextureVisuals(uv=uv, material=material)
        paths[f"object{number}"] = folder / f"object{number}.glb"
        mesh.export(paths[f"object{number}"])
    return _scene("procedural" if scale == 1 else "large", paths)


def real_scene(name: str, files: Sequence[Path], draw: int) -> BenchmarkScene:
    """Eight of some textured `.glb` files, drawn by a number."""
    rng = seeding.generator(0, "benchmark", "real", draw)
    chosen: dict[str, Path] = {}
    for index in rng.permutation(len(files)):
        path = files[int(index)]
        mesh = load_asset_mesh(path)
        if mesh.has_texture and len(mesh.faces) > 2000:
            chosen[path.stem] = path
        if len(chosen) == 8:
            return _scene(name, chosen)
    raise SystemExit(f"fewer than eight textured .glb files with over 2,000 triangles: {len(chosen)}")


def _scene(name: str, paths: dict[str, Path]) -> BenchmarkScene:
    instances, corners, triangles = [], [], 0
    for number, (uid, path) in enumerate(paths.items()):
        mesh = load_asset_mesh(path)
        low, high = mesh.bounds
        scale = 1 / float((high - low).max())
        pose = np.diag([scale, scale, scale, 1.0])
        pose[:3, 3] = -scale * (low + high) / 2 + (
            1.15 * (number % 3 - 1),
            1.15 * (number // 3 - 1),
            scale * (high - low)[2] / 2,
        )
        instances.append(Instance(uid=uid, sha256="0" * 64, scale=scale, pose=_rows(pose), support_parent=None))
        corners.append(mesh.vertices @ pose[:3, :3].T + pose[:3, 3])
        triangles += len(mesh.faces)
    points = np.concatenate(corners)
    centre = (points.min(axis=0) + points.max(axis=0)) / 2
    lights = tuple(
        Light(kind="area", position=place, target=(0.0, 0.0, 0.3), power=power, size=2.0, color=color)
        for place, power, color in (
            ((4.0, 1.0, 6.0), 300.0, (1.0, 0.95, 0.9)),
            ((-4.0, 3.0, 5.0), 150.0, (0.9, 0.95, 1.0)),
            ((0.0, -5.0, -3.0), 120.0, (1.0, 1.0, 1.0)),
        )
    )
    recipe = SceneRecipe(
        version=RECIPE_VERSION,
        scene=0,
        split="train",
        attempt=0,
        seed=0,
        instances=tuple(instances),
        lights=lights,
        background=Background(color=(1.0, 1.0, 1.0), strength=0.3),
        look_at=(float(centre[0]), float(centre[1]), float(centre[2])),
        cameras=tuple(_camera(number, points, centre) for number in range(VIEWS)),
        resolution=512,
        layout=LayoutFacts(disc_instances=(), radii=(), centres=(), gap=0.0, region=1.0, expansions=0, tries=0),
    )
    return BenchmarkScene(name=name, recipe=recipe, paths=paths, triangles=triangles)


def _camera(number: int, points: np.ndarray, centre: np.ndarray) -> Camera:
    """On a Fibonacci sphere, as near as every point still fits."""
    height, yaw = 1 - (2 * number + 1) / VIEWS, number * np.pi * (3 - np.sqrt(5))
    flat = np.sqrt(1 - height * height)
    back = np.array([flat * np.cos(yaw), flat * np.sin(yaw), height])
    right = np.array([-np.sin(yaw), np.cos(yaw), 0.0])
    up = np.cross(back, right)
    slope = (1 - MARGIN) * math.tan(math.radians(FOV_DEG / 2))
    local = points - centre
    distance = (local @ back + np.maximum(np.abs(local @ right), np.abs(local @ up)) / slope).max()
    matrix = np.eye(4)
    matrix[:3] = np.column_stack([right, up, back, centre + distance * back])
    return Camera(camera_to_world=_rows(matrix), fov_deg=FOV_DEG)


def _rows(matrix: np.ndarray) -> Matrix4:
    return tuple(tuple(row) for row in matrix.tolist())
