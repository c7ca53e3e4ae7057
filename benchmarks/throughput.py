"""Rates of the stages between assets and samples, one after the other on this machine.

    python benchmarks/throughput.py [--assets 100] [--scenes 6] [--resolution 256] [--no-blender]

Every rate is wall time in one process with one thread, except the asset build, which uses two processes.
The first call of each compiled function is left out.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from randscene.generator.planning import PlanContext, plan_scene
from randscene.generator.ray_caster import RayScene
from randscene.generator.scene_maker import SceneMaker
from randscene.generator.view_centric import world_to_view
from randscene.generator.visibility import keepable_views, label_view
from randscene.generator.voxelization import SceneVoxelizer
from randscene.manifests import build_lock, load_asset_mesh, load_lock, load_spec, with_overrides

seconds: dict[str, float] = {}


@contextmanager
def timed(name: str) -> Iterator[None]:
    begun = time.perf_counter()
    yield
    seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - begun


def report(name: str, count: int, unit: str) -> None:
    print(f"{name:<34} {count / seconds[name]:>9.1f} {unit}/s   ({count} in {seconds[name]:.1f} s)", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=int, default=100)
    parser.add_argument("--scenes", type=int, default=6)
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--blender", action=argparse.BooleanOptionalAction, default=True)
    args = parser.parse_args()
    import torch

    from randscene.train import encode_voxels, load_encoder

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        with timed("assets build, 2 processes"):
            build_lock("procedural", count=args.assets, out=Path(folder) / "assets.lock.jsonl", workers=2)
        report("assets build, 2 processes", args.assets, "assets")
        lock = load_lock(Path(folder) / "assets.lock.jsonl")
        overrides = ["cameras.views=12", f"render.resolution={args.resolution}", "latents.encoder=null"]
        overrides += ["splits.train.scenes=1000", "assets.held_out_fraction=0", "splits.val.held_out_assets=false"]
        spec = with_overrides(load_spec("demo"), overrides)
        context = PlanContext.of(spec, lock)
        plan_scene(context, 0)
        with timed("plan"):
            recipes = [plan_scene(context, index) for index in range(300)][: args.scenes]
        report("plan", 300, "scenes")

        records = {record.uid: record for record in lock}
        views = grids = 0
        encoder = load_encoder("mini")
        SceneVoxelizer([(np.eye(3) * 0.1, np.array([[0, 1, 2]], np.int32))]).view(np.eye(4))
        world_to_view(np.eye(4), np.ones(3), np.eye(3))
        latents = 0
        for recipe in recipes:
            meshes = [load_asset_mesh(records[item.uid].locator) for item in recipe.instances]
            placed = [SceneMaker.place(mesh, np.asarray(item.pose)) for mesh, item in zip(meshes, recipe.instances)]
            rays = RayScene(placed)
            label_view(rays, recipe.cameras, 0, recipe.resolution)
            with timed("which views show everything"):
                kept = keepable_views(rays, recipe.cameras, recipe.resolution)
            with timed("labels (ids, depth, counts)"):
                for view in kept:
                    label_view(rays, recipe.cameras, view, recipe.resolution)
            with timed("raycast picture"):
                for view in kept:
                    rays.shade(recipe.cameras[view], recipe.resolution, recipe.lights, recipe.background)
            with timed("view-centric voxels"):
                vertices = np.concatenate([mesh.vertices for mesh in placed])
                voxelizer = SceneVoxelizer([(mesh.vertices, mesh.faces) for mesh in placed])
                for view in kept:
                    camera = np.asarray(recipe.cameras[view].camera_to_world)
                    coords, offsets = voxelizer.view(world_to_view(camera, np.asarray(recipe.look_at), vertices))
                    grids += len(placed)
            with timed("latents, mini encoder"):
                encode_voxels(encoder, [coords[offsets[i] : offsets[i + 1]] for i in range(len(placed))])
            latents += len(placed)
            views += len(kept)
        report("which views show everything", len(recipes) * spec.cameras.views, "views")
        report("labels (ids, depth, counts)", views, "views")
        report("raycast picture", views, "views")
        report("view-centric voxels", grids, "grids")
        report("latents, mini encoder", latents, "grids")
        if args.blender:
            maker = SceneMaker(spec, records, "benchmark")
            list(maker.make(recipes[0]).samples)
            with timed("Cycles sample, all of it"):
                count = sum(1 for recipe in recipes for _ in maker.make(recipe).samples)
            maker.close()
            report("Cycles sample, all of it", count, "views")


if __name__ == "__main__":
    main()
