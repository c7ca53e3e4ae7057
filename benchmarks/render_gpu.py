"""How fast samples come from a graphics card, and how good its pictures are.

    python benchmarks/render_gpu.py --engine eevee --device gpu --processes 1 2 4 8 --samples 4 8 16
    python benchmarks/render_gpu.py --engine cycles --device cuda --processes 1 2 4 --samples 8 16 32
    python benchmarks/render_gpu.py --engine eevee --device gpu --quality --samples 4 8 16

A line a configuration: views/s of whole samples (labels from rays, picture, voxels, WebP, a tar on disk) made by that
many processes side by side, processor seconds a view, load and memory of the card. Every process makes a small scene
first that is not counted; then the clock runs from the moment when all are ready to the moment when the first is done.
`--quality` compares with the engine's own picture at many samples, and with Cycles'.
Scenes are random ones of eight procedural assets, or of the assets of a lock.
"""

import argparse
import itertools
import multiprocessing
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from randscene.generator.blender_process import BlenderProcess
from randscene.generator.planning import PlanContext, plan_scene
from randscene.generator.ray_caster import RayScene
from randscene.generator.recipe import SceneRecipe
from randscene.generator.render_device import protocol_device, settle_device
from randscene.generator.scene_maker import SceneMaker
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
from randscene.shards.shard_writer import write_tar
from randscene.shards.view_sample import encode_members


@dataclass(frozen=True, kw_only=True)
class Job:
    """What every process of a configuration needs."""

    spec: DatasetSpec
    lock: list[AssetRecord]
    scenes: int
    out: Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="eevee", choices=("eevee", "cycles"))
    parser.add_argument("--device", default="gpu")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--samples", type=int, nargs="+", default=[16])
    parser.add_argument("--resolution", type=int, default=512)
    parser.add_argument("--views", type=int, default=48, help="views a scene")
    parser.add_argument("--scenes", type=int, default=3, help="scenes that each process makes")
    parser.add_argument("--objects", type=int, default=8)
    parser.add_argument("--assets", type=Path, help="asset lock; procedural assets by default")
    parser.add_argument("--quality", action="store_true", help="compare pictures instead of counting them")
    parser.add_argument("--reference", type=int, default=256, help="samples of the picture to compare with")
    parser.add_argument("--set", action="append", default=[], help="replace a field of the spec: section.field=value")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.assets or Path(folder) / "assets.lock.jsonl"
        if arguments.assets is None:
            build_lock("procedural", count=40, out=path, workers=2)
        lock = usable(load_lock(path))
        spec = with_overrides(
            load_spec("rand-15k"),
            [
                f"render.engine={arguments.engine}",
                f"render.device={arguments.device}",
                f"render.resolution={arguments.resolution}",
                f"cameras.views={arguments.views}",
                f"layout.objects=[{arguments.objects}, {arguments.objects}]",
                "assets.held_out_fraction=0",
                "splits.val.held_out_assets=false",
                *arguments.set,
            ],
        )
        spec = settle_device(spec, cluster=False)
        name = f"{spec.render.engine} on {spec.render.device}, {spec.render.resolution} px"
        if arguments.quality:
            _compare(spec, lock, arguments.samples, arguments.reference, name)
            return
        for samples in arguments.samples:
            chosen = with_overrides(spec, [f"render.samples={samples}"])
            for processes in arguments.processes:
                job = Job(spec=chosen, lock=lock, scenes=arguments.scenes, out=Path(folder))
                print(f"{name}, {samples} samples, {processes} processes: {_measure(job, processes)}", flush=True)


def _measure(job: Job, processes: int) -> str:
    context = multiprocessing.get_context("spawn")
    ready, made = context.Barrier(processes + 1), context.Queue()
    workers = [context.Process(target=_work, args=(job, number, ready, made)) for number in range(processes)]
    for worker in workers:
        worker.start()
    ready.wait()
    with Card() as card:
        begun, busy = time.monotonic(), _busy_seconds()
        finished = [made.get()]
        seconds, busy = time.monotonic() - begun, _busy_seconds() - busy
    finished += [made.get() for _ in range(processes - 1)]
    for worker in workers:
        worker.join()
    # A scene that the end cuts counts by the share of its time that lies before it.
    views = sum(
        count * max(0.0, min(1.0, (begun + seconds - start) / (end - start)))
        for scenes in finished
        for start, end, count in scenes
    )
    return f"{views / seconds:.1f} views/s, {busy / views:.3f} cpu-s a view, {card.summary()}"


def _work(job: Job, number: int, ready: Any, made: Any) -> None:
    """Make scenes; sends a list of (begin, end, views)."""
    context = PlanContext.of(job.spec, job.lock)
    small = PlanContext.of(with_overrides(job.spec, ["cameras.views=4"]), job.lock)
    maker = SceneMaker(job.spec, {record.uid: record for record in job.lock}, "benchmark")
    done = []
    for turn in range(job.scenes + 1):
        if turn == 1:
            ready.wait()
        start = time.monotonic()
        recipe = plan_scene(context if turn else small, 1000 * number + turn)
        views = itertools.count()
        members = (
            (sample.key, encode_members(sample, webp_quality=95))
            for sample, _ in zip(maker.make(recipe).samples, views)
        )
        write_tar(job.out / f"{number}.tar", members)
        done.append((start, time.monotonic(), next(views)))
    made.put(done[1:])
    maker.close()


def _busy_seconds() -> float:
    """Processor seconds that this machine has spent on programs."""
    times = psutil.cpu_times()
    return times.user + times.system + times.nice


class Card:
    """Load and memory of the graphics card, read once a second from nvidia-smi where it is there."""

    def __init__(self) -> None:
        self._readings: list[tuple[float, float]] = []
        command = ["nvidia-smi", "--query-gpu=utilization.gpu,memory.used", "--format=csv,noheader,nounits", "-l", "1"]
        try:
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        except OSError:
            self._process = None
            return
        threading.Thread(target=self._read, args=(self._process,), daemon=True).start()

    def __enter__(self) -> "Card":
        self._readings.clear()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def summary(self) -> str:
        if not self._readings:
            return "no card's readings"
        load, memory = np.array(self._readings).T
        return f"card {load.mean():.0f} % busy, {memory.max() / 1024:.1f} GiB"

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            load, _, memory = line.partition(",")
            if load.strip().isdigit():
                self._readings.append((float(load), float(memory)))


@dataclass(frozen=True, kw_only=True)
class Sight:
    """Some views of a scene and what they show of it."""

    recipe: SceneRecipe
    paths: dict[str, str]
    views: list[int]
    masks: list[np.ndarray]

    def pictures(self, blender: BlenderProcess, samples: int, engine: str, device: str) -> list[np.ndarray]:
        """Foreground pixels of each view, (K, 3) uint8."""
        resolution = self.recipe.resolution
        rendered = blender.render(
            self.recipe,
            self.paths,
            self.views,
            resolution=resolution,
            samples=samples,
            engine=engine,
            device=device,
        )
        return [picture.rgb[mask] for picture, mask in zip(rendered, self.masks)]


def _compare(spec: DatasetSpec, lock: list[AssetRecord], samples: list[int], reference: int, name: str) -> None:
    """Foreground PSNR against the engine's own reference and against Cycles, over 3 scenes of 2 views."""
    context, records = PlanContext.of(spec, lock), {record.uid: record for record in lock}
    own: dict[int, list[float]] = {count: [] for count in samples}
    traced: dict[int, list[float]] = {count: [] for count in [*samples, reference]}
    with BlenderProcess(view_timeout_s=1200) as blender:
        kinds = {device["type"] for device in blender.hello.devices}
        cycles = next((kind for kind in ("OPTIX", "CUDA") if kind in kinds), "CPU")
        for scene in range(3):
            recipe = plan_scene(context, scene)
            paths = {item.uid: records[item.uid].locator for item in recipe.instances}
            placed = [
                SceneMaker.place(load_asset_mesh(paths[item.uid]), np.asarray(item.pose)) for item in recipe.instances
            ]
            rays = RayScene(placed)
            views = [0, len(recipe.cameras) // 2]
            masks = [rays.ids_and_depth(recipe.cameras[view], recipe.resolution)[0] > 0 for view in views]

            sight = Sight(recipe=recipe, paths=paths, views=views, masks=masks)
            truth = sight.pictures(blender, reference, "cycles", cycles)
            best = sight.pictures(blender, reference, spec.render.engine, protocol_device(spec.render))
            traced[reference] += [_psnr(*pair) for pair in zip(best, truth)]
            for count in samples:
                result = sight.pictures(blender, count, spec.render.engine, protocol_device(spec.render))
                own[count] += [_psnr(*pair) for pair in zip(result, best)]
                traced[count] += [_psnr(*pair) for pair in zip(result, truth)]
    for count, values in traced.items():
        itself = f"{np.mean(own[count]):.1f} dB of its own at {reference}, " if count in own else ""
        print(f"{name}, {count} samples: {itself}{np.mean(values):.1f} dB of Cycles on {cycles} at {reference}")


def _psnr(picture: np.ndarray, reference: np.ndarray) -> float:
    error = np.mean((picture.astype(np.float64) - reference) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-6)))


if __name__ == "__main__":
    main()
