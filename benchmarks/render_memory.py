"""Memory of one renderer process over many scenes, which shall stay flat.

    python benchmarks/render_memory.py [--scenes 200] [--assets 40] [--resolution 128] [--samples 4] [--views 2]

Each scene has 2 to 8 procedural objects. The first 20 scenes fill the cache of imported assets and Blender's own pools;
from then on the resident memory after each scene may differ by 5 % at most. Exits with 1 if it does not hold.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import psutil

from randscene.generator.blender_process import BlenderProcess
from randscene.generator.planning import PlanContext, plan_scene
from randscene.manifests import build_lock, load_lock, load_spec, with_overrides

SETTLED = 20
"""Scenes after which memory shall not grow any more."""
TOLERANCE = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--assets", type=int, default=40)
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--views", type=int, default=2)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, BlenderProcess() as blender:
        lock_path = Path(folder) / "assets.lock.jsonl"
        build_lock("procedural", count=args.assets, out=lock_path, workers=1)
        lock = load_lock(lock_path)
        paths = {record.uid: record.locator for record in lock}
        overrides = [f"cameras.views={args.views}", f"render.resolution={args.resolution}", "layout.objects=[2, 8]"]
        overrides += ["assets.held_out_fraction=0", "splits.val.held_out_assets=false", "latents.encoder=null"]
        spec = with_overrides(load_spec("demo"), [*overrides, f"splits.train.scenes={args.scenes}"])
        context = PlanContext.of(spec, lock)
        pid, begun, memory = blender.pid, time.perf_counter(), []
        print(f"Blender {blender.hello.bpy}: {psutil.Process(pid).memory_info().rss / 2**20:.0f} MiB at the start")
        for index in range(args.scenes):
            recipe = plan_scene(context, index)
            used = {item.uid: paths[item.uid] for item in recipe.instances}
            views = range(len(recipe.cameras))
            size, samples = args.resolution, args.samples
            for _ in blender.render(recipe, used, views, resolution=size, samples=samples, layers=True):
                pass
            memory.append(psutil.Process(pid).memory_info().rss / 2**20)
            if (index + 1) % 20 == 0:
                seconds = time.perf_counter() - begun
                print(f"{index + 1:>4} scenes {memory[-1]:>7.0f} MiB {seconds:>7.0f} s", flush=True)
    settled = memory[SETTLED - 1 :]
    spread = (max(settled) - min(settled)) / min(settled) if settled else 0.0
    print(f"from scene {SETTLED} on: {min(settled):.0f} to {max(settled):.0f} MiB, a spread of {100 * spread:.1f} %")
    sys.exit(spread > TOLERANCE)


if __name__ == "__main__":
    main()
