"""Seconds a scene of the evaluation's alignment, beside the same pipeline made of Open3D's parts, in the same run.

    python benchmarks/registration.py [--assets LOCK] [--scenes 20] [--open3d-scenes 20] [--json FILE]

A scene is what the protocol `iscene` aligns: eight objects of 20,480 points a side; the whole scene in both
normalisations, then each object by itself. Both pipelines have the same stages, parameters and clouds, but each ends a
stage by its own rule: ours once a step moves nothing by more than 1e-5; Open3D's once fitness and rmse change by less
than 1e-6 of themselves, its default, which is earlier. So a second row of Open3D's has 1e-9 there, for results as
converged as ours. First one thread each, in turns; then all cores: ours by scenes in processes, Open3D's by its own
threads and by scenes in processes of one thread. Open3D's part is left out, with a word, where it is not installed
(extra `benchmarks`).
"""

import argparse
import copy
import importlib.util
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from randscene.train.registration_steps import rotation_from_vector, similarity
from randscene.train.robust_icp import RobustIcpParams, robust_icp

Job = tuple[np.ndarray, np.ndarray]
PAIRS = 1000
DEFAULT, TIGHT = 1e-6, 1e-9
"""Open3D's relative change of fitness and rmse at which a stage ends."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, help="an asset lock; 120 procedural assets by default")
    parser.add_argument("--scenes", type=int, default=20)
    parser.add_argument("--open3d-scenes", type=int, default=20, help="of these, the first")
    parser.add_argument("--tight-scenes", type=int, default=5, help="of these, the first also with tight convergence")
    parser.add_argument("--objects", type=int, default=8)
    parser.add_argument("--points", type=int, default=20_480)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--threads-only", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.threads_only is not None:
        timed_in_threads(args.threads_only)
        return
    results = measure(args)
    if args.json is not None:
        args.json.write_text(json.dumps(results, indent=2) + "\n")


def measure(args: argparse.Namespace) -> dict[str, Any]:
    from registration_scenes import pair, scenes

    placed = scenes(args.assets, args.scenes, args.objects)
    work = [jobs_of(pair(meshes, args.points, i)) for i, meshes in enumerate(placed)]
    cores = len(os.sched_getaffinity(0))
    results: dict[str, Any] = {"cores": cores, "scenes": len(work), "objects": args.objects, "points": args.points}
    print(f"{len(work)} scenes of {args.objects} objects x {args.points:,} points a side, {cores} cores")
    begun = time.perf_counter()
    robust_icp(work[0][-1][0], work[0][-1][1])
    print(f"first call, with compiling or loading compiled code: {time.perf_counter() - begun:.1f} s")

    beside = importlib.util.find_spec("open3d") is not None
    ours: list[float] = []
    rows: dict[float, dict[str, list[float]]] = {
        relative: {"seconds": [], "degrees_apart": []} for relative in (DEFAULT, TIGHT)
    }
    for number, jobs in enumerate(work):
        seconds, found = timed(lambda job: robust_icp(*job).transform, jobs)
        ours.append(seconds)
        for relative, row in rows.items():
            if beside and number < (args.open3d_scenes if relative == DEFAULT else args.tight_scenes):
                seconds, other = timed(lambda job, relative=relative: open3d_robust_icp(job, relative), jobs)
                row["seconds"].append(seconds)
                row["degrees_apart"] += [degrees(a, b) for a, b in zip(found, other)]
    results["seconds"] = ours
    say("randscene, one thread", ours)
    for relative, row in rows.items() if beside else ():
        import open3d

        ratios = np.array(row["seconds"]) / np.array(ours[: len(row["seconds"])])
        apart = np.array(row["degrees_apart"])
        results[f"open3d {relative:g}"] = row | {"version": open3d.__version__, "ratios": ratios.tolist()}
        say(f"open3d {open3d.__version__}, one thread, converged to {relative:g}", row["seconds"])
        print(
            f"  ratio a scene: median {np.median(ratios):.1f}, {ratios.min():.1f} to {ratios.max():.1f} "
            f"({len(ratios)} scenes); rotations apart from ours: median {np.median(apart):.3f} degrees, "
            f"{np.mean(apart < 0.1):.0%} of {len(apart)} below 0.1"
        )
    if not beside:
        print("open3d is not installed: left out")

    rates = {"randscene, processes": in_processes(ours_alone, work, cores)}
    if beside:
        some = work[: args.open3d_scenes]
        rates["open3d, processes of one thread"] = in_processes(theirs_alone, some, cores)
        rates["open3d, its own threads"] = in_threads(some, cores)
    results["all_cores"] = rates
    for name, (wall, processor) in rates.items():
        print(f"{name}, {cores} cores: {wall:.2f} s a scene by the clock, {processor:.2f} s processor time")
    mine = rates.pop("randscene, processes")
    minutes = PAIRS / 60 * np.array([mine[0], mine[1] / cores])
    print(
        f"{PAIRS:,} scene pairs on {cores} cores, extrapolated from {len(work)} scenes: {minutes[0]:.0f} min by the "
        f"clock, {minutes[1]:.0f} min by processor time (what it takes where nothing else runs)"
    )
    if rates:
        best = min(processor for _, processor in rates.values())
        print(f"  open3d at its best: {PAIRS / 60 * best / cores:.0f} min by processor time")
    return results


def jobs_of(pair: Any) -> list[Job]:
    """What `iscene` aligns in one scene: the scene in both normalisations, then every object by itself."""
    from randscene.train.registration_steps import apply

    def recentred(points: np.ndarray) -> np.ndarray:
        low, high = points.min(axis=0), points.max(axis=0)
        scale = 2 / float((high - low).max())
        return similarity(scale, np.eye(3), -scale * (low + high) / 2)

    predicted = np.concatenate([pair.predicted[i] for i in sorted(pair.predicted)])
    true = np.concatenate(pair.true)
    jobs = [(2 * predicted, 2 * true), (apply(recentred(predicted), predicted), apply(recentred(true), true))]
    for number, cloud in enumerate(pair.true, start=1):
        mine = pair.predicted[number]
        jobs.append((apply(recentred(mine), mine), apply(recentred(cloud), cloud)))
    return jobs


def open3d_robust_icp(job: Job, relative: float = DEFAULT) -> np.ndarray:
    """`robust_icp` with its default parameters, written with Open3D as its users would; the (4, 4) transform."""
    import open3d

    registration = open3d.pipelines.registration
    params = RobustIcpParams()
    low = np.minimum(job[0].min(axis=0), job[1].min(axis=0))
    high = np.maximum(job[0].max(axis=0), job[1].max(axis=0))
    centre, side = (low + high) / 2, float((high - low).max())
    v = params.voxel
    source, target = (
        open3d.geometry.PointCloud(open3d.utility.Vector3dVector((points - centre) / side)) for points in job
    )
    small_source, small_target = source.voxel_down_sample(v), target.voxel_down_sample(v)
    rng = np.random.default_rng(0)
    few_source, few_target = (sub_sample(cloud, params.prescore_points, rng) for cloud in (small_source, small_target))
    starts = []
    for yaw in params.yaws_deg:
        rotation = rotation_from_vector(np.radians(yaw) * np.array([0, 0, 1.0]))
        shift = target.get_axis_aligned_bounding_box().get_center() - rotation @ (
            source.get_axis_aligned_bounding_box().get_center()
        )
        start = similarity(1.0, rotation, shift)
        moved = copy.deepcopy(few_source).transform(start)
        score = sum(
            trimmed(np.asarray(a.compute_point_cloud_distance(b)), params.trim)
            for a, b in ((moved, few_target), (few_target, moved))
        )
        starts.append((score, start))
    starts.sort(key=lambda one: one[0])

    def icp(a: Any, b: Any, threshold: float, start: np.ndarray, how: Any, iterations: int) -> Any:
        criteria = registration.ICPConvergenceCriteria(relative, relative, iterations)
        return registration.registration_icp(a, b, threshold, start, how, criteria)

    to_points = registration.TransformationEstimationPointToPoint(False)
    seeds = [
        icp(small_source, small_target, params.seed_threshold * v, start, to_points, params.seed_iterations)
        for _, start in starts[: params.keep]
    ]
    seed = min(seeds, key=lambda one: one.inlier_rmse + v * (1 - one.fitness) if one.fitness > 0 else np.inf)
    coarse = icp(
        small_source,
        small_target,
        params.coarse_threshold * v,
        seed.transformation,
        to_points,
        params.coarse_iterations,
    )
    target.estimate_normals(
        open3d.geometry.KDTreeSearchParamHybrid(radius=params.normal_radius * v, max_nn=params.normal_neighbours)
    )
    to_planes = registration.TransformationEstimationPointToPlane(registration.TukeyLoss(k=params.tukey * v))
    fine = icp(
        source, target, params.fine_threshold * v, coarse.transformation, to_planes, params.fine_iterations
    ).transformation
    whole = np.array(fine)
    whole[:3, 3] = side * fine[:3, 3] + centre - fine[:3, :3] @ centre
    return whole


def sub_sample(cloud: Any, most: int, rng: np.random.Generator) -> Any:
    count = len(cloud.points)
    return cloud if count <= most else cloud.select_by_index(np.sort(rng.choice(count, most, replace=False)))


def trimmed(distances: np.ndarray, trim: float) -> float:
    keep = max(1, int(np.ceil((1 - trim) * len(distances))))
    return float(np.partition(distances, keep - 1)[:keep].mean())


def degrees(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.degrees(2 * np.arcsin(min(1.0, np.linalg.norm(a[:3, :3] - b[:3, :3]) / np.sqrt(8)))))


def timed(align: Callable[[Job], np.ndarray], jobs: list[Job]) -> tuple[float, list[np.ndarray]]:
    """Processor seconds of one scene's alignments, and their transforms."""
    begun = time.process_time()
    found = [align(job) for job in jobs]
    return time.process_time() - begun, found


def ours_alone(jobs: list[Job]) -> float:
    return timed(lambda job: robust_icp(*job).transform, jobs)[0]


def theirs_alone(jobs: list[Job]) -> float:
    return timed(open3d_robust_icp, jobs)[0]


def in_processes(align: Callable[[list[Job]], float], work: list[list[Job]], cores: int) -> tuple[float, float]:
    """Seconds a scene, by the clock and of processors, with one process a core, each of one thread; without start."""
    with ProcessPoolExecutor(cores, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(align, [work[0][-1:]] * (4 * cores)))
        begun = time.perf_counter()
        processor = sum(pool.map(align, work))
        return (time.perf_counter() - begun) / len(work), processor / len(work)


def in_threads(work: list[list[Job]], cores: int) -> tuple[float, float]:
    """The same of Open3D with its own threads, in a process that may start them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "work.npz"
        clouds = [cloud for jobs in work for job in jobs for cloud in job]
        np.savez(path, *clouds, scenes=len(work))
        environment = os.environ | {"OMP_NUM_THREADS": str(cores)}
        done = subprocess.run(
            [sys.executable, __file__, "--threads-only", str(path)],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
    wall, processor = map(float, done.stdout.split()[-2:])
    return wall, processor


def timed_in_threads(path: Path) -> None:
    with np.load(path, allow_pickle=False) as data:
        scenes = int(data["scenes"])
        clouds = [data[f"arr_{i}"] for i in range(len(data.files) - 1)]
    jobs = list(zip(clouds[::2], clouds[1::2]))
    open3d_robust_icp(jobs[-1])
    begun = time.perf_counter()
    processor = theirs_alone(jobs)
    print((time.perf_counter() - begun) / scenes, processor / scenes)


def say(name: str, seconds: list[float]) -> None:
    low, middle, high = np.percentile(seconds, [10, 50, 90])
    print(
        f"{name}: {middle:.2f} s a scene, processor time (10th to 90th percentile {low:.2f} to {high:.2f})", flush=True
    )


if __name__ == "__main__":
    main()
