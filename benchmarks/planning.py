"""Planning rates: scenes a second on one core, how the cost grows, and another package on the same objects.

    python benchmarks/planning.py [--assets LOCK] [--scenes 10000] [--out FOLDER]

Plans with the rand-15k preset (2 to 12 objects, 150 cameras) from a lock that is in memory, 300 procedural assets by
default. All times are processor time of this one process. The side-by-side part places the same objects at the same
sizes on a plane as large as our region: randscene by bounding circles, scene_synthesizer (extra
`benchmarks`) by random trials against its collision manager, meshes loaded beforehand for both. It is left out,
with a word, where that package is not installed.
"""

import argparse
import importlib.util
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from randscene.generator.layout import lay_out
from randscene.generator.planning import PlanContext, plan_scene
from randscene.manifests import (
    AssetRecord,
    DatasetSpec,
    build_lock,
    load_asset_mesh,
    load_lock,
    load_spec,
    usable,
    with_overrides,
)
from randscene.seeding import generator

COUNTS = (2, 4, 8, 12, 24, 48, 96)
BATCHES = (100, 300, 1000, 3000, 10000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, help="an asset lock; 300 procedural assets by default")
    parser.add_argument("--scenes", type=int, default=10_000)
    parser.add_argument("--compare", type=int, default=40, help="scenes of the side-by-side part")
    parser.add_argument("--out", type=Path, help="folder for planning.json and planning.png")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = args.assets
        if path is None:
            path = Path(folder) / "assets.lock.jsonl"
            build_lock("procedural", count=300, out=path)
        lock = load_lock(path)
        results = measure(lock, args.scenes, args.compare)
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "planning.json").write_text(json.dumps(results, indent=2) + "\n")
        draw(results, args.out / "planning.png")


def measure(lock: list[AssetRecord], scenes: int, compare: int) -> dict[str, Any]:
    results: dict[str, Any] = {"assets": len(usable(lock))}
    context = context_of(lock, [f"splits.train.scenes={max(scenes, 1)}"])
    plan_scene(context, 0).to_json()
    batches = []
    for size in [size for size in BATCHES if size <= scenes]:
        seconds = timed(lambda size=size: [plan_scene(context, index).to_json() for index in range(size)])
        batches.append([size, seconds])
        say(f"plan {size} scenes, 150 cameras, with JSON", size, seconds)
    results["seconds_by_scenes"] = batches

    pool = context.pool("train")
    by_count = []
    for count in [count for count in COUNTS if count <= len(pool.assets)]:
        rules = context_of(lock, [f"layout.objects=[{count}, {count}]"]).spec.layout
        layouts = max(50, 4000 // count)
        seconds = timed(
            lambda rules=rules, layouts=layouts: [
                lay_out(rules, pool, lambda purpose, n=n: generator(n, purpose)) for n in range(layouts)
            ]
        )
        by_count.append([count, seconds / layouts])
        say(f"layout alone, N = {count}", layouts, seconds)
    results["seconds_by_objects"] = by_count

    facts = [plan_scene(context, index).layout for index in range(min(scenes, 2000))]
    results["tries_per_object"] = sum(fact.tries for fact in facts) / sum(len(fact.radii) for fact in facts)
    results["expansions_per_scene"] = sum(fact.expansions for fact in facts) / len(facts)
    print(
        f"{results['tries_per_object']:.2f} tries an object, "
        f"{results['expansions_per_scene']:.3f} expansions a scene over {len(facts)} scenes"
    )

    turned = context_of(lock, ["layout.pose=so3", "splits.train.scenes=200"])
    for index in range(200):  # reads the meshes that it meets
        plan_scene(turned, index)
    seconds = timed(lambda: [plan_scene(turned, index).to_json() for index in range(200)])
    results["so3_scenes_per_second"] = 200 / seconds
    say("plan with layout.pose=so3, hulls in memory", 200, seconds)
    results["side_by_side"] = side_by_side(context, compare)
    return results


def side_by_side(context: PlanContext, scenes: int) -> dict[str, float] | None:
    """The same objects laid out by both; seconds a scene and objects that found no place."""
    if importlib.util.find_spec("scene_synthesizer") is None:
        print("scene_synthesizer is not installed: side-by-side part left out")
        return None
    import scene_synthesizer as synth
    import trimesh
    from scene_synthesizer import assets, utils

    spec = with_overrides(context.spec, ["layout.table_probability=0"])
    pool = context.pool("train")
    ours = theirs = 0.0
    objects = left_out = 0
    for index in range(scenes):
        streams = {purpose: generator(index, purpose) for purpose in ("assets", "layout", "pose")}
        begun = time.process_time()
        placed, facts = lay_out(spec.layout, pool, streams.__getitem__)
        ours += time.process_time() - begun
        models = []
        for item in placed:
            mesh = load_asset_mesh(item.asset.locator, up_axis=item.asset.up_axis)
            low, high = mesh.bounds
            base = np.array([*(low[:2] + high[:2]) / 2, low[2]])
            models.append(trimesh.Trimesh((mesh.vertices - base) * item.scale, mesh.faces, process=False))
        order = np.argsort([-radius for radius in facts.radii])  # the largest first, as ours
        begun = time.process_time()
        scene = synth.Scene(seed=index)
        scene.add_object(assets.BoxAsset([facts.region, facts.region, 0.01]), "ground")
        scene.label_support("ground", min_area=0.01)
        for number in order:
            found = scene.place_object(
                f"object{number}",
                assets.TrimeshAsset(models[number]),
                support_id="ground",
                obj_position_iterator=utils.PositionIteratorUniform(seed=index),
                max_iter=64,
            )
            left_out += not found
        theirs += time.process_time() - begun
        objects += len(placed)
    result = {
        "scenes": scenes,
        "objects": objects,
        "ours_seconds_per_scene": ours / scenes,
        "scene_synthesizer_seconds_per_scene": theirs / scenes,
        "ratio": theirs / ours,
        "scene_synthesizer_left_out": left_out,
    }
    print(
        f"the same {objects} objects in {scenes} scenes: randscene {1e3 * ours / scenes:.3f} ms a scene, "
        f"scene_synthesizer {1e3 * theirs / scenes:.1f} ms ({left_out} objects found no place): {theirs / ours:.0f}x"
    )
    return result


def context_of(lock: list[AssetRecord], overrides: list[str]) -> PlanContext:
    spec: DatasetSpec = with_overrides(
        load_spec("rand-15k"), ["assets.held_out_fraction=0", "splits.val.held_out_assets=false", *overrides]
    )
    return PlanContext.of(spec, lock)


def timed(work: Callable[[], Any]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


def say(name: str, count: int, seconds: float) -> None:
    print(f"{name:<44} {count / seconds:>10.1f} /s   ({count} in {seconds:.2f} s)", flush=True)


def draw(results: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axes, rows, label, unit in (
        (left, results["seconds_by_scenes"], "scenes", "seconds"),
        (right, [[n, 1e3 * s] for n, s in results["seconds_by_objects"]], "objects a scene", "milliseconds a layout"),
    ):
        x, y = np.array(rows).T
        axes.loglog(x, y, "o-", label="measured")
        axes.loglog(x, y[0] * x / x[0], ":", color="grey", label="linear")
        axes.set_xlabel(label)
        axes.set_ylabel(unit)
        axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
