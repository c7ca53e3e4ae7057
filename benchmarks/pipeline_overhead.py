"""What Ray adds to a build: the same scenes by a plain loop and by `generate`, one worker and two.

    python benchmarks/pipeline_overhead.py [--scenes 40] [--views 16] [--resolution 256] [--repeats 3] [--json FILE]

The plain side is the very code that an actor runs, called in a loop, and each block packed when its scenes are there:
in one process, then in two that halve the blocks. The other side is `generate` with as many workers, Ray having been
started before. Each run is a process of its own, plain and Ray in turn. Both are timed from the moment that a worker
is ready until the last shard is committed; what comes once is stated apart: starting Ray, starting the workers, closing
the dataset. The shards of both sides must be equal. Processor seconds are those of all processes of a side, by kind.

Two plain processes seldom end at the same time, and a pool leaves less idle. The ratio for two is therefore against the
mean of the two halves, as if they had been halved perfectly; the slower half is stated beside.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from small_builds import RAY_CAST, ProcessorTime, folder_for, promised_bytes, small_lock, small_spec

PLAIN_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""One thread, as Ray gives an actor of one CPU."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=40)
    parser.add_argument("--views", type=int, default=16)
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--assets", type=int, default=40)
    parser.add_argument("--block", type=int, default=5, help="scenes in a shard")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--json", type=Path, help="write every run to this file")
    parser.add_argument("--side", choices=("plain", "ray"), help=argparse.SUPPRESS)
    parser.add_argument("--part", type=int, nargs=2, default=(0, 1), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help="keep lock and datasets here")
    args = parser.parse_args()
    assignments = [
        *RAY_CAST,
        f"splits.train.scenes={args.scenes}",
        f"cameras.views={args.views}",
        f"render.resolution={args.resolution}",
        f"shards.scenes_per_shard={args.block}",
    ]
    if args.side == "plain":
        print(json.dumps(plain_side(args.folder, assignments, *args.part)))
    elif args.side == "ray":
        print(json.dumps(ray_side(args.folder, assignments, args.workers[0])))
    else:
        compare(args, assignments)


def plain_side(folder: Path, assignments: Sequence[str], part: int, parts: int) -> dict[str, Any]:
    """Make every `parts`-th block from block `part` on in this process."""
    from randscene.generator.block_task import pack_block
    from randscene.generator.dataset_folder import blocks, fingerprint
    from randscene.generator.planning import PlanContext
    from randscene.generator.scene_task import SceneActor
    from randscene.manifests import load_lock

    begun = time.monotonic()
    spec, records = small_spec(assignments), load_lock(folder / "assets.lock.jsonl")
    context, identity = PlanContext.of(spec, records), fingerprint(spec, records, None)
    url = str(folder / "plain")
    actor = SceneActor(spec, records, url, identity, context.pictures)
    ready, cpu_ready = time.monotonic(), time.process_time()
    scenes = views = 0
    for block in blocks(spec)[part::parts]:
        staged = {}
        for scene in block.scenes:
            for attempt in range(spec.attempts):
                outcome = actor.make(scene, attempt)
                if outcome.fatal:
                    raise SystemExit(outcome.message)
                if outcome.staged is not None:
                    staged[scene] = outcome.staged
                    scenes, views = scenes + 1, views + outcome.staged.samples
                    break
        packed = pack_block(url, block, staged, {}, spec.seed, identity)
        if packed.error or packed.damaged or len(staged) < len(block.scenes):
            raise SystemExit(f"{block.name}: {packed}")
    done = time.monotonic()
    return {
        "scenes": scenes,
        "views": views,
        "ready": ready,
        "done": done,
        "start_s": ready - begun,
        "cpu": {"plain": time.process_time() - cpu_ready},
    }


def ray_side(folder: Path, assignments: Sequence[str], workers: int) -> dict[str, Any]:
    """Make all blocks with `generate`, Ray started before."""
    from randscene.generator import generate
    from randscene.generator.build_driver import Progress
    from randscene.ray_session import ray_session

    marks: dict[str, tuple[float, dict[str, float]]] = {}

    def mark(name: str) -> None:
        if name not in marks:
            marks[name] = time.monotonic(), spent.by_kind()

    def note(state: Progress) -> None:
        if state.workers:
            mark("ready")
        if state.shards_done == state.shards_total:
            mark("done")

    spec = small_spec(assignments)
    spent = ProcessorTime()
    mark("begun")
    with ray_session(None, cpus=workers), spent:
        mark("ray started")
        report = generate(spec, folder / "assets.lock.jsonl", folder / "ray", workers=workers, progress=note)
        mark("closed")
    times = {name: moment for name, (moment, _) in marks.items()}
    before, after = marks["ready"][1], marks["done"][1]
    return {
        "scenes": report.scenes,
        "views": report.samples,
        "ready": times["ready"],
        "done": times["done"],
        "ray_start_s": times["ray started"] - times["begun"],
        "start_s": times["ready"] - times["ray started"],
        "close_s": times["closed"] - times["done"],
        "cpu": {kind: after[kind] - before[kind] for kind in after},
    }


def compare(args: argparse.Namespace, assignments: Sequence[str]) -> None:
    runs: list[dict[str, Any]] = []
    with folder_for(args.folder) as folder:
        small_lock(folder, args.assets)
        for workers in args.workers:
            for repeat in range(args.repeats):
                order = ("plain", "ray") if repeat % 2 == 0 else ("ray", "plain")
                pair = {side: run_side(side, folder, workers) for side in order}
                shards = {side: shards_of(folder / side) for side in order}
                if shards["plain"] != shards["ray"]:
                    raise SystemExit("the two sides wrote different shards")
                for side in order:
                    shutil.rmtree(folder / side)
                    runs.append({"workers": workers, "repeat": repeat, "side": side, **pair[side]})
                    print(line(runs[-1]), flush=True)
            report([run for run in runs if run["workers"] == workers], workers)
    if args.json is not None:
        args.json.write_text(json.dumps(runs, indent=2) + "\n")


def run_side(side: str, folder: Path, workers: int) -> dict[str, Any]:
    """One side with `workers` processes; several plain ones are added up."""
    command = [sys.executable, __file__, *sys.argv[1:], "--folder", str(folder), "--side", side]
    parts = [["--workers", str(workers)]]
    environment = dict(os.environ)
    if side == "plain":
        parts = [["--part", str(part), str(workers)] for part in range(workers)]
        environment |= PLAIN_ENVIRONMENT
    begun = [subprocess.Popen([*command, *part], stdout=subprocess.PIPE, text=True, env=environment) for part in parts]
    results = []
    for process in begun:
        output, _ = process.communicate()
        if process.returncode:
            raise SystemExit(f"the {side} side ended with {process.returncode}")
        results.append(json.loads(output.splitlines()[-1]))
    ready, scenes = min(result["ready"] for result in results), sum(result["scenes"] for result in results)
    spans = [result["done"] - result["ready"] for result in results]
    kinds = results[0]["cpu"]
    return {
        "scenes": scenes,
        "views": sum(result["views"] for result in results),
        "wall_s": max(result["done"] for result in results) - ready,
        "mean_s": statistics.mean(spans),
        "cpu_s": {kind: sum(result["cpu"][kind] for result in results) for kind in kinds},
        "once_s": {name: result[name] for result in results for name in result if name.endswith("_s")},
        "load": os.getloadavg()[0],
    }


def shards_of(root: Path) -> dict[str, str]:
    """SHA-256 of every tar and index; what else lies beside them is written when a dataset is closed."""
    endings = (".tar", ".index.json")
    return {name: sha256 for name, sha256 in promised_bytes(root).items() if name.endswith(endings)}


def line(run: dict[str, Any]) -> str:
    scenes, cpu = run["scenes"], sum(run["cpu_s"].values())
    return (
        f"{run['workers']} {run['side']:<6} {run['wall_s'] / scenes:.3f} s a scene, {cpu / scenes:.3f} processor "
        f"seconds, {run['wall_s']:.1f} s for {scenes} scenes and {run['views']} views, load {run['load']:.1f}"
    )


def report(runs: Sequence[dict[str, Any]], workers: int) -> None:
    """Medians, and the ratios of runs that followed one another."""
    sides = {side: [run for run in runs if run["side"] == side] for side in ("plain", "ray")}
    scenes = runs[0]["scenes"]
    print(f"\n{workers} {'process' if workers == 1 else 'processes'}, {scenes} scenes, {runs[0]['views']} views")
    print(f"{'':<34}{'plain':>9}{'Ray':>9}{'ratio':>9}  spread")
    rows = {
        "seconds a scene": lambda run: run["mean_s" if run["side"] == "plain" else "wall_s"],
        "processor seconds a scene": lambda run: sum(run["cpu_s"].values()),
    }
    if workers > 1:
        rows["seconds a scene, slower half"] = lambda run: run["wall_s"]
    for name, value in rows.items():
        plain, ray = ([value(run) / scenes for run in sides[side]] for side in ("plain", "ray"))
        ratios = sorted(b / a for a, b in zip(plain, ray))
        middle = statistics.median(ratios)
        print(
            f"{name:<34}{statistics.median(plain):>9.3f}{statistics.median(ray):>9.3f}{middle:>9.3f}"
            f"  {ratios[0]:.3f} to {ratios[-1]:.3f}"
        )
    for kind in sides["ray"][0]["cpu_s"]:
        spent = statistics.median(run["cpu_s"][kind] for run in sides["ray"])
        if spent >= 0.005:
            print(f"{'  of these: ' + kind:<34}{'':>9}{spent / scenes:>9.3f}")
    names = {"ray_start_s": "once: start Ray", "start_s": "once: until a worker is ready", "close_s": "once: close"}
    for name, words in names.items():
        told = [statistics.median([run["once_s"][name] for run in sides[side]] or [0])
                if name in sides[side][0]["once_s"] else None for side in ("plain", "ray")]  # fmt: skip
        print(f"{words:<34}" + "".join(f"{value:>9.2f}" if value is not None else f"{'':>9}" for value in told) + "  s")
    print(flush=True)


if __name__ == "__main__":
    main()
