"""How fast pictures come: python benchmarks/render_engines.py [--meshes FOLDER] [--threads N]

Prints one line a configuration: processor seconds and wall seconds a view (median, without the first view of the
scene), share of the picture that is covered, and the renderer's memory. Objects are textured primitives, or the GLB
files of a folder.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import trimesh
from PIL import Image

from randscene import seeding
from randscene.generator.blender_process import BlenderProcess
from randscene.generator.recipe import Background, Camera, Instance, LayoutFacts, Light, Matrix4, SceneRecipe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--meshes", type=Path, help="folder of GLB files to draw from")
    parser.add_argument("--objects", type=int, default=8)
    parser.add_argument("--views", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--resolutions", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--samples", type=int, nargs="+", default=[16])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        paths = _meshes(arguments.meshes, arguments.objects, Path(scratch))
        recipe = _recipe(paths, arguments.views)
        start = time.perf_counter()
        with BlenderProcess(threads=arguments.threads, scratch=scratch) as blender:
            print(f"start-up {time.perf_counter() - start:.2f} s wall, {_cpu(blender):.2f} cpu-s, {_rss(blender)}")
            print(f"bpy {blender.hello.bpy} on {blender.hello.devices[0]['name']}, {arguments.threads} thread(s)")
            for resolution in arguments.resolutions:
                for samples in arguments.samples:
                    _measure(blender, recipe, paths, resolution, samples)


def _measure(
    blender: BlenderProcess, recipe: SceneRecipe, paths: dict[str, Path], resolution: int, samples: int
) -> None:
    cpu, wall, covered = [], [], []
    before, clock = _cpu(blender), time.perf_counter()
    views = range(len(recipe.cameras))
    for picture in blender.render(recipe, paths, views, resolution=resolution, samples=samples):
        now, tick = _cpu(blender), time.perf_counter()
        cpu.append(now - before)
        wall.append(tick - clock)
        covered.append(float((picture.ids > 0).mean()))
        before, clock = now, tick
    print(
        f"{resolution} px, {samples} spp: {statistics.median(cpu[1:]):.2f} cpu-s, {statistics.median(wall[1:]):.2f} s "
        f"wall a view; first view {wall[0]:.2f} s; covered {100 * statistics.mean(covered):.0f} %; {_rss(blender)}"
    )


def _cpu(blender: BlenderProcess) -> float:
    """Processor seconds of the renderer so far (resolution: one tick of 10 ms)."""
    fields = Path(f"/proc/{blender.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _rss(blender: BlenderProcess) -> str:
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{blender.pid}/status").read_text().splitlines())
    return f"memory {int(lines['VmRSS'].split()[0]) // 1024} MB, peak {int(lines['VmHWM'].split()[0]) // 1024} MB"


def _meshes(folder: Path | None, count: int, scratch: Path) -> dict[str, Path]:
    rng = seeding.generator(0, "benchmark", "meshes")
    if folder is not None:
        files = sorted(folder.glob("*.glb"))
        return {files[i].stem: files[i] for i in rng.choice(len(files), min(count, len(files)), replace=False)}
    makers = [
        lambda: trimesh.creation.icosphere(subdivisions=5, radius=0.5),
        lambda: trimesh.creation.torus(0.35, 0.15, major_sections=128, minor_sections=64),
        lambda: trimesh.creation.cylinder(0.4, 1.0, sections=256),
        lambda: trimesh.creation.capsule(0.5, 0.3, count=(64, 64)),
    ]
    paths = {}
    for number in range(count):
        mesh = makers[number % len(makers)]()
        noise = Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).resize(
            (1024, 1024), Image.Resampling.BICUBIC
        )
        material = trimesh.visual.material.PBRMaterial(baseColorTexture=noise, metallicFactor=0.1, roughnessFactor=0.5)
        uv = mesh.vertices[:, :2] - mesh.vertices[:, :2].min(axis=0)
        mesh.visual = trimesh.visual.TextureVisuals(uv=uv, material=material)
        paths[f"object{number}"] = scratch / f"object{number}.glb"
        mesh.export(paths[f"object{number}"])
    return paths


def _recipe(paths: dict[str, Path], views: int) -> SceneRecipe:
    columns = int(np.ceil(np.sqrt(len(paths))))
    instances = []
    for number, (uid, path) in enumerate(paths.items()):
        scale = 1 / trimesh.load_scene(path).extents.max()
        place = np.array([number % columns, number // columns]) - (columns - 1) / 2
        pose = np.diag([scale, scale, scale, 1.0])
        pose[:2, 3] = 1.3 * place
        instances.append(Instance(uid=uid, sha256="0" * 64, scale=scale, pose=_rows(pose), support_parent=None))
    lights = tuple(
        Light(kind="area", position=p, target=(0.0, 0.0, 0.0), power=400.0, size=2.0, color=(1.0, 1.0, 1.0))
        for p in ((4.0, 1.0, 6.0), (-4.0, 3.0, 5.0), (0.0, -5.0, 4.0))
    )
    return SceneRecipe(
        version=1,
        scene=0,
        split="train",
        attempt=0,
        seed=0,
        instances=tuple(instances),
        lights=lights,
        background=Background(color=(1.0, 1.0, 1.0), strength=0.5),
        look_at=(0.0, 0.0, 0.0),
        cameras=tuple(_camera(number, views, 0.95 * columns) for number in range(views)),
        resolution=512,
        layout=LayoutFacts(disc_instances=(), radii=(), centres=(), gap=0.0, region=1.0, expansions=0, tries=0),
    )


def _camera(number: int, views: int, radius: float) -> Camera:
    """On a Fibonacci sphere, so far away that a ball of `radius` fills the picture."""
    height, yaw = 1 - (2 * number + 1) / views, number * np.pi * (3 - np.sqrt(5))
    flat = np.sqrt(1 - height * height)
    back = np.array([flat * np.cos(yaw), flat * np.sin(yaw), height])
    right = np.array([-np.sin(yaw), np.cos(yaw), 0.0])
    matrix = np.eye(4)
    matrix[:3] = np.column_stack([right, np.cross(back, right), back, back * radius / np.sin(np.radians(20))])
    return Camera(camera_to_world=_rows(matrix), fov_deg=40.0)


def _rows(matrix: np.ndarray) -> Matrix4:
    return tuple(tuple(row) for row in matrix.tolist())


if __name__ == "__main__":
    main()
