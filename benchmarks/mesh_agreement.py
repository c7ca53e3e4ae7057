"""Verdicts and speed of inspection, and whether Blender imports the geometry that labels are made from.

    python benchmarks/mesh_agreement.py DIR_OR_FILE [DIR_OR_FILE ...] [--no-inspect] [--json]

Every mesh file is inspected by one worker; the files that end `ok` are then read by `load_asset_mesh` and imported by
the renderer's `AssetCache`, and the two are compared: boxes and areas (without copies of triangles, which Blender
drops), and how far the farthest vertex of one lies from the nearest of the other, all over the largest extent.
Up is Y in glTF and Wavefront files, Z in the others.
"""

import argparse
import contextlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from randscene.errors import RandsceneError
from randscene.manifests import inspect_assets, load_asset_mesh
from randscene.manifests.asset_mesh import MESH_SUFFIXES

MEASURES = ("box", "area", "vertex")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", type=Path, nargs="+")
    parser.add_argument("--inspect", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--json", action="store_true", help="print the comparisons alone, as JSON")
    arguments = parser.parse_args()
    files = [file for path in arguments.paths for file in mesh_files(path)]
    good = files
    if arguments.inspect and not arguments.json:
        good = inspected(files)
    with quiet_standard_output():
        rows = list(compared(good))
    if arguments.json:
        print(json.dumps(rows))
    else:
        report(rows)


def mesh_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(file for file in path.rglob("*") if file.suffix.lower() in MESH_SUFFIXES)


def up_axis(path: Path) -> str:
    return "Z" if path.suffix.lower() in (".ply", ".stl") else "Y"


def inspected(files: list[Path]) -> list[Path]:
    """The files that end `ok`; prints the verdicts and the time."""
    begun = time.perf_counter()
    good, verdicts = [], Counter[str]()
    for axis in ("Y", "Z"):
        chosen = [file for file in files if up_axis(file) == axis]
        for position, facts in inspect_assets(chosen, up_axis=axis):
            verdicts[facts.status] += 1
            if facts.status == "ok":
                good.append(chosen[position])
    spent = time.perf_counter() - begun
    print(f"{len(files)} files inspected in {spent:.1f} s by 1 worker: {1000 * spent / len(files):.1f} ms each")
    print("  " + ", ".join(f"{status} {count}" for status, count in verdicts.most_common()))
    return good


def compared(files: list[Path]) -> Iterator[dict[str, object]]:
    import bpy

    from randscene.blender_scripts.asset_cache import AssetCache

    bpy.app.debug_value = 1
    bpy.ops.wm.read_factory_settings(use_empty=True)
    cache = AssetCache(bytes_kept=1)
    for file in files:
        try:
            mesh = load_asset_mesh(file, up_axis=up_axis(file), reduce_textures=True)
            theirs = imported_triangles(cache.get(str(file), up_axis(file)))
        except RandsceneError as error:
            yield {"file": str(file), "error": str(error)}
            continue
        finally:
            cache.trim()
        yield {"file": str(file)} | dict(zip(MEASURES, deviations(mesh.vertices[mesh.faces], theirs)))


def imported_triangles(asset: object) -> np.ndarray:
    """(T, 3, 3) float64 corners, asset frame."""
    triangles = []
    for part in asset.parts:
        part.mesh.calc_loop_triangles()
        indices = np.empty(3 * len(part.mesh.loop_triangles), np.int32)
        part.mesh.loop_triangles.foreach_get("vertices", indices)
        points = part.vertices.astype(np.float64) @ part.matrix[:3, :3].T + part.matrix[:3, 3]
        triangles.append(points[indices.reshape(-1, 3)])
    return np.concatenate(triangles)


def deviations(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float, float]:
    """Of boxes, areas and vertices, over the largest extent of `ours`."""
    lower = ours.reshape(-1, 3).min(axis=0)
    size = np.ptp(ours.reshape(-1, 3), axis=0).max()
    corners = [(triangles - lower).reshape(-1, 3) / size for triangles in (ours, theirs)]
    places = [distinct_rows(points) for points in corners]
    areas = [area(points, number) for points, (_, number) in zip(corners, places)]
    a, b = (points[first] for points, (first, _) in zip(corners, places))
    box = max(np.abs(a.min(axis=0) - b.min(axis=0)).max(), np.abs(a.max(axis=0) - b.max(axis=0)).max())
    vertex = max(cKDTree(a).query(b)[0].max(), cKDTree(b).query(a)[0].max())
    return float(box), abs(areas[0] - areas[1]) / areas[0], float(vertex)


def area(corners: np.ndarray, number: np.ndarray) -> float:
    """Area of the triangles that differ in their corners: (3 T, 3) points, and for each the number of its place."""
    chosen, _ = distinct_rows(np.sort(number.reshape(-1, 3), axis=1))
    a, b, c = corners.reshape(-1, 3, 3)[chosen].transpose(1, 0, 2)
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


def distinct_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One index of each row that differs from the others, and for every row which of these it equals.

    Column by column, by rank: several times as fast as `np.unique(axis=0)`, which compares rows as bytes.
    """
    key = np.zeros(len(rows), np.int64)
    for column in rows.T:
        values, rank = np.unique(column, return_inverse=True)
        _, first, key = np.unique(key * len(values) + rank, return_index=True, return_inverse=True)
    return first, key


def report(rows: list[dict[str, object]]) -> None:
    failed = [row for row in rows if "error" in row]
    for row in failed:
        print(f"  not imported: {row['file']}: {row['error']}")
    good = [row for row in rows if "error" not in row]
    print(f"{len(good)} files compared, {len(failed)} not imported; worst deviations over the largest extent:")
    for measure in MEASURES:
        worst = max(good, key=lambda row: row[measure])
        print(f"  {measure:<8} {worst[measure]:.1e}  {Path(str(worst['file'])).name}")


@contextlib.contextmanager
def quiet_standard_output() -> Iterator[None]:
    """Send what importers print, also from C, to nowhere."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


if __name__ == "__main__":
    main()
