"""What a rendered view costs, and how good it is, against a plain Blender script with TRELLIS's settings.

    python benchmarks/render.py --references FOLDER [--meshes FOLDER] [--samples 2 3 6 16] [--plot FILE.png]

Everything is processor time of one process with one thread, measured in one run, on the same views of the same scenes:

* the plain script (`plain_render.py`), time inside Blender's render call alone;
* this package: the renderer's time for the view, and that of what makes labels and picture from it (ids, depth, visible
  and unoccluded pixel counts, the exact guide, the 8-bit picture). WebP and PNG encoding is a column of its own.

Quality is the PSNR of the 8-bit picture on black against a render with 2,048 samples, over the pixels that it covers by
more than half. References are kept in a folder, since they take minutes a view.
"""

import argparse
import dataclasses
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from render_scenes import BenchmarkScene, procedural_scene, real_scene

from randscene.display import srgb_on_black
from randscene.generator.blender_process import BlenderProcess
from randscene.generator.guide_sampler import GuideSampler
from randscene.generator.guided_reconstruction import reconstruct
from randscene.generator.ray_caster import RayScene
from randscene.generator.scene_maker import SceneMaker
from randscene.generator.visibility import label_view
from randscene.manifests import load_asset_mesh
from randscene.manifests.spec_sections import QUALITY_SAMPLES
from randscene.shards import sample_codec

RESOLUTION = 512
WARM_UP = 0
"""A view that is rendered first and not counted: it builds the scene."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--references", type=Path, required=True, help="folder that keeps reference renders")
    parser.add_argument("--meshes", type=Path, help="folder of textured .glb files for two more scenes")
    parser.add_argument("--large", action="store_true", help="add the cost, not the quality, of a million triangles")
    parser.add_argument("--scenes", nargs="+", help="only these of procedural, real-a, real-b, large")
    parser.add_argument("--views", type=int, nargs="+", default=[20, 75, 120])
    parser.add_argument("--samples", type=int, nargs="+", default=sorted(QUALITY_SAMPLES["cycles"].values()))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        scenes = [procedural_scene(Path(scratch) / "meshes")]
        if args.meshes is not None:
            files = sorted(args.meshes.rglob("*.glb"))
            scenes += [real_scene("real-a", files, 0), real_scene("real-b", files, 1)]
        if args.large:
            scenes.append(procedural_scene(Path(scratch) / "large", scale=3))
        scenes = [scene for scene in scenes if not args.scenes or scene.name in args.scenes]
        results = [_measure(scene, args, Path(scratch)) for scene in scenes]
    if args.json is not None:
        args.json.write_text(json.dumps(results, indent=1) + "\n")
    if args.plot is not None:
        _plot(results, args.plot)


def _measure(scene: BenchmarkScene, args: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    truth = _references(scene, args.views, args.references / scene.name, scratch) if scene.name != "large" else {}
    print(f"\n{scene.name}: {scene.triangles:,} triangles, covered {_covered(truth):.0f} % of the picture", flush=True)
    plain = _plain(scene, args.views, "trellis", scratch / f"{scene.name}-trellis", scratch)
    baseline = {"cpu_seconds": plain[1], "psnr": _psnr({v: srgb_on_black(p) for v, p in plain[0].items()}, truth)}
    print(
        f"  plain script, TRELLIS's settings: {baseline['cpu_seconds']:.2f} cpu-s, {baseline['psnr']:.2f} dB",
        flush=True,
    )
    begun = time.process_time()
    placed = [
        SceneMaker.place(load_asset_mesh(scene.paths[item.uid]), np.asarray(item.pose))
        for item in scene.recipe.instances
    ]
    rays = RayScene(placed)
    sampler = GuideSampler(rays)
    print(f"  meshes, rays and tables of the scene, once: {time.process_time() - begun:.2f} cpu-s", flush=True)
    rows = []
    with BlenderProcess(threads=1) as blender:
        for samples in args.samples:
            row = _ours(blender, scene, rays, sampler, samples, args.views, truth)
            row["ratio"] = baseline["cpu_seconds"] / (row["renderer"] + row["labels"] + row["picture"])
            rows.append(row)
            print(
                f"  {samples:3d} samples: {row['renderer']:.2f} renderer + {row['labels']:.2f} labels + "
                f"{row['picture']:.2f} picture (+ {row['encode']:.2f} encoding) cpu-s, {row['psnr']:.2f} dB: "
                f"{row['ratio']:.1f} times less; {row['memory_mb']} MB",
                flush=True,
            )
    return {"scene": scene.name, "triangles": scene.triangles, "plain": baseline, "ours": rows}


def _ours(
    blender: BlenderProcess,
    scene: BenchmarkScene,
    rays: RayScene,
    sampler: GuideSampler,
    samples: int,
    views: list[int],
    truth: dict[int, np.ndarray],
) -> dict[str, Any]:
    renderer, labels, picture, encoding, pictures = [], [], [], [], {}
    cameras = scene.recipe.cameras
    answers = blender.render(
        scene.recipe, scene.paths, [WARM_UP, *views], resolution=RESOLUTION, samples=samples, layers=True
    )
    for answer in answers:
        assert answer.layers is not None
        clock = [time.process_time()]
        view = label_view(rays, cameras, answer.view, RESOLUTION)
        clock.append(time.process_time())
        rgb = reconstruct(answer.layers, sampler, cameras[answer.view], RESOLUTION, samples)
        clock.append(time.process_time())
        sample_codec.webp_bytes(rgb, 95)
        sample_codec.png_bytes(view.ids)
        clock.append(time.process_time())
        if answer.view == WARM_UP:
            continue
        renderer.append(answer.cpu_seconds)
        for times, seconds in zip((labels, picture, encoding), np.diff(clock)):
            times.append(float(seconds))
        pictures[answer.view] = rgb
    status = dict(line.split(":", 1) for line in Path(f"/proc/{blender.pid}/status").read_text().splitlines())
    return {
        "samples": samples,
        "renderer": statistics.mean(renderer),
        "labels": statistics.mean(labels),
        "picture": statistics.mean(picture),
        "encode": statistics.mean(encoding),
        "psnr": _psnr(pictures, truth),
        "memory_mb": int(status["VmHWM"].split()[0]) // 1024,
    }


def _references(scene: BenchmarkScene, views: list[int], folder: Path, scratch: Path) -> dict[int, np.ndarray]:
    """(R, R, 4) float32 linear renders with 2,048 samples, from the folder or made now."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [view for view in views if not (folder / f"{view}.npy").exists()]
    if missing:
        print(f"rendering {len(missing)} references of {scene.name}: some minutes each", flush=True)
        _plain(scene, missing, "reference", folder, scratch)
    return {view: np.load(folder / f"{view}.npy") for view in views}


def _plain(
    scene: BenchmarkScene, views: list[int], settings: str, out: Path, scratch: Path
) -> tuple[dict[int, np.ndarray], float]:
    """Pictures (R, R, 4) float32 of the plain script, and its mean processor seconds a view."""
    out.mkdir(parents=True, exist_ok=True)
    job = scratch / "job.json"
    job.write_text(
        json.dumps(
            {
                "recipe": dataclasses.asdict(scene.recipe),
                "paths": {uid: str(path) for uid, path in scene.paths.items()},
                "views": views,
                "out": str(out),
                "resolution": RESOLUTION,
                "settings": settings,
            }
        )
    )
    script = Path(__file__).with_name("plain_render.py")
    run = subprocess.run(
        [sys.executable, str(script), str(job)], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    seconds = [json.loads(line)["cpu_seconds"] for line in run.stdout.splitlines()]
    return {view: np.load(out / f"{view}.npy") for view in views}, statistics.mean(seconds)


def _psnr(pictures: dict[int, np.ndarray], truth: dict[int, np.ndarray]) -> float:
    """Decibels of 8-bit pictures on black, over the pixels that a reference covers by more than half: mean of views."""
    values = []
    for view, reference in truth.items():
        covered = reference[..., 3] > 0.5
        error = (pictures[view].astype(np.float64) - srgb_on_black(reference))[covered] / 255
        values.append(-10 * np.log10((error**2).mean()))
    return float(np.mean(values)) if values else math.nan


def _covered(truth: dict[int, np.ndarray]) -> float:
    shares = [(picture[..., 3] > 0.5).mean() for picture in truth.values()]
    return 100 * float(np.mean(shares)) if shares else math.nan


def _plot(results: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for number, result in enumerate(result for result in results if result["scene"] != "large"):
        costs = [row["renderer"] + row["labels"] + row["picture"] for row in result["ours"]]
        axes.plot(costs, [row["psnr"] for row in result["ours"]], "o-", color=f"C{number}", label=result["scene"])
        for cost, row in zip(costs, result["ours"]):
            axes.annotate(
                str(row["samples"]), (cost, row["psnr"]), textcoords="offset points", xytext=(4, -9), fontsize=7
            )
        plain = result["plain"]
        axes.plot(plain["cpu_seconds"], plain["psnr"], "x", color=f"C{number}", markersize=9)
    axes.plot([], [], "kx", label="plain script, TRELLIS's settings (128 samples)")
    axes.set(xscale="log", xlabel="processor seconds a view, labels included", ylabel="PSNR of the foreground, dB")
    axes.grid(alpha=0.3, which="both")
    axes.legend(title="numbers: samples a pixel")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
