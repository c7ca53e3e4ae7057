"""How often registration finds the true motion: against yaw, overlap and outliers, for three methods.

    python benchmarks/registration_success.py [--assets LOCK] [--scenes 60] [--out FOLDER]

Two draws of points from the same planned scene, one of them turned, shifted, cut by an upright plane or mixed with
random points of the scene's box. A success is a rotation less than 1 degree and a middle of the scene less than 1 % of
its side from the truth: another pose that fits as well is none. Where yaw is not what varies it is 10 degrees, within
plain ICP's reach; robust ICP is shown at a random yaw, too. Writes registration_success.csv and .png.
"""

import argparse
import csv
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from registration_scenes import scenes

from randscene.seeding import generator
from randscene.train.legacy_icp import LegacyIcpParams, legacy_icp
from randscene.train.registration_steps import apply, rotation_from_vector, similarity
from randscene.train.robust_icp import robust_icp
from randscene.train.triangle_mesh import TriangleMesh, sample_surface

DEGREES, SHARE = 1.0, 0.01
NEAR_YAW = 10.0
PANELS = {
    "yaw": (0, 10, 20, 30, 45, 60, 75, 90, 105, 120, 135, 150, 165, 180),
    "overlap": (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3),
    "outliers": (0.0, 0.1, 0.2, 0.3, 0.4, 0.5),
}
LABELS = {"yaw": "yaw, degrees", "overlap": "share of the source kept", "outliers": "share of outliers"}
METHODS = {
    "robust ICP": robust_icp,
    "plain ICP": lambda a, b: legacy_icp(a, b, LegacyIcpParams(wrong_transpose=False)),
    "plain ICP, wrong transpose": lambda a, b: legacy_icp(a, b, LegacyIcpParams(wrong_transpose=True)),
}
ANY_YAW = "robust ICP, any yaw"


@dataclass(frozen=True, kw_only=True)
class Case:
    source: np.ndarray
    target: np.ndarray
    truth: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, help="an asset lock; 120 procedural assets by default")
    parser.add_argument("--scenes", type=int, default=60)
    parser.add_argument("--objects", type=int, default=8)
    parser.add_argument("--points", type=int, default=500, help="an object")
    parser.add_argument("--out", type=Path, default=Path())
    args = parser.parse_args()
    meshes = list(scenes(args.assets, args.scenes, args.objects))
    wins: dict[tuple[str, float, str], int] = {}
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for found in pool.map(one_scene, meshes, [args.points] * len(meshes), range(len(meshes))):
            for key, won in found.items():
                wins[key] = wins.get(key, 0) + won
    rows = [(*key, count, args.scenes, f"{count / args.scenes:.4f}") for key, count in wins.items()]
    args.out.mkdir(parents=True, exist_ok=True)
    with open(args.out / "registration_success.csv", "w", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(["panel", "value", "method", "successes", "scenes", "rate"])
        writer.writerows(rows)
    for panel in PANELS:
        for method in (*METHODS, ANY_YAW):
            line = [
                f"{value:g}: {wins[panel, value, method] / args.scenes:.0%}" for value in values(wins, panel, method)
            ]
            if line:
                print(f"{panel}, {method}: {', '.join(line)}")
    draw(wins, args.scenes, args.out / "registration_success.png")


def one_scene(meshes: list[TriangleMesh], points: int, number: int) -> dict[tuple[str, float, str], int]:
    """1 or 0 for each panel, value and method."""
    found = {}
    for panel, panel_values in PANELS.items():
        for value in panel_values:
            case = make(meshes, points, number, panel, value)
            for name, method in METHODS.items():
                found[panel, value, name] = success(case, method(case.source, case.target).transform)
            if panel != "yaw":
                case = make(meshes, points, number, panel, value, any_yaw=True)
                found[panel, value, ANY_YAW] = success(case, robust_icp(case.source, case.target).transform)
    return found


def make(
    meshes: list[TriangleMesh], points: int, number: int, panel: str, value: float, *, any_yaw: bool = False
) -> Case:
    # The same draws at every value, so that neighbouring points of a curve differ in the value alone.
    rng = generator(number, "registration-success")
    source, target = (np.concatenate([sample_surface(mesh, points, rng) for mesh in meshes]) for _ in range(2))
    yaw = rng.uniform(0, 360) if any_yaw else rng.choice([-1.0, 1.0]) * (value if panel == "yaw" else NEAR_YAW)
    angle = rng.uniform(0, 2 * np.pi)
    if panel == "overlap":
        along = source @ [np.cos(angle), np.sin(angle), 0.0]
        source = source[along <= np.quantile(along, value)]
    if panel == "outliers":
        stray = rng.random(len(source)) < value
        low, high = source.min(axis=0), source.max(axis=0)
        source = np.where(stray[:, None], rng.uniform(low, high, source.shape), source)
    rotation = rotation_from_vector(np.array([0, 0, np.radians(yaw)]))
    truth = similarity(1.0, rotation, rng.normal(0, 0.03, 3))
    return Case(source=apply(np.linalg.inv(truth), source), target=target, truth=truth)


def success(case: Case, transform: np.ndarray) -> int:
    off = np.linalg.norm(transform[:3, :3] - case.truth[:3, :3])
    degrees = np.degrees(2 * np.arcsin(min(1.0, off / np.sqrt(8))))
    middle = apply(np.linalg.inv(case.truth), (case.target.min(axis=0) + case.target.max(axis=0))[None] / 2)
    shift = np.linalg.norm(apply(transform, middle) - apply(case.truth, middle))
    side = np.ptp(case.target, axis=0).max()
    return int(degrees < DEGREES and shift < SHARE * side)


def values(wins: dict[tuple[str, float, str], int], panel: str, method: str) -> list[float]:
    return [value for value in PANELS[panel] if (panel, value, method) in wins]


def draw(wins: dict[tuple[str, float, str], int], count: int, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 3, figsize=(13, 3.8), layout="constrained", sharey=True)
    for axes, panel in zip(panels, PANELS):
        for method, style in zip((*METHODS, ANY_YAW), ("o-", "s-", "^-", "o:")):
            line = values(wins, panel, method)
            if line:
                rates = [100 * wins[panel, value, method] / count for value in line]
                axes.plot(line, rates, style, label=method, color="C0" if method == ANY_YAW else None)
        axes.set_xlabel(LABELS[panel])
        axes.set_ylim(-3, 103)
    panels[1].invert_xaxis()
    panels[0].set_ylabel(f"success, % of {count} scenes")
    panels[2].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
