"""Which meshes of a pack can carry objects: precision and recall against what its manifest says, and whether they can.

    python benchmarks/support_surfaces.py PACK [PACK ...]

A pack is a folder of meshes with a `manifest.jsonl` whose rows have `file` and any of `is_table` (somebody's judgement,
by name), `top_level_frac` and `top_area_frac` (height of the largest level surface over the mesh's height; its area
over the footprint), `drop_top_m` (height, metres, at which a dropped body came to rest; negative: it fell off) and
`real_size_m` (x, y up, z, metres). Every support is then tried by rays: over the whole circle around the anchor, the
first thing that is hit from above must be the plane.
"""

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from randscene.errors import AssetError
from randscene.manifests import AssetMesh, find_support, load_asset_mesh
from randscene.manifests.asset_record import Support

RAYS = 61
"""Rays along the diameter of a circle."""
LEVEL_TOP, WIDE_TOP = 0.9, 0.5
"""A top by the manifest's geometry: at least so high, and of at least so much of the footprint."""


@dataclass(kw_only=True)
class Found:
    row: dict[str, Any]
    mesh: AssetMesh
    support: Support | None
    seconds: float

    @property
    def fraction(self) -> float:
        """Height of the plane over the mesh's."""
        assert self.support is not None
        low, high = self.mesh.bounds[:, 2]
        return float((self.support.height - low) / (high - low))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packs", type=Path, nargs="+")
    parser.add_argument("--list", action="store_true", help="name every mesh that can carry")
    args = parser.parse_args()
    for pack in args.packs:
        found = read(pack)
        supports = [item for item in found if item.support is not None]
        seconds = np.array([item.seconds for item in found])
        print(f"{pack.name}: {len(found)} meshes, {len(supports)} can carry")
        print(f"  {1e3 * seconds.mean():.1f} ms a mesh, at most {1e3 * seconds.max():.0f} ms")
        agreement(found)
        worst = sorted(((*rays(item), item.row["name"]) for item in supports), reverse=True)
        print(f"  rays: {sum(share > 0 for share, *_ in worst)} supports with a ray that misses the plane")
        for share, deviation, name in worst[:5]:
            print(f"    {name}: {100 * share:.2f} % of its rays, by up to {deviation:.1e} of its extent")
        if args.list:
            print("  " + ", ".join(sorted(item.row["name"] for item in supports)))


def read(pack: Path) -> list[Found]:
    found = []
    for line in (pack / "manifest.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        try:
            mesh = load_asset_mesh(pack / row["file"], reduce_textures=True)
        except AssetError as error:
            print(f"  left out: {error}")
            continue
        begun = time.perf_counter()
        support = find_support(mesh)
        found.append(Found(row=row, mesh=mesh, support=support, seconds=time.perf_counter() - begun))
    return found


def agreement(found: list[Found]) -> None:
    def against(name: str, rows: list[tuple[bool, bool, str]]) -> None:
        hits = sum(ours and theirs for ours, theirs, _ in rows)
        ours, theirs = sum(row[0] for row in rows), sum(row[1] for row in rows)
        if ours and theirs:
            precision, recall = f"{hits / ours:.3f} ({hits} of {ours})", f"{hits / theirs:.3f} of {theirs}"
            print(f"  against {name}: precision {precision}, recall {recall}")
            print(f"    only theirs: {', '.join(row[2] for row in rows if row[1] and not row[0]) or 'none'}")
            print(f"    only ours: {', '.join(row[2] for row in rows if row[0] and not row[1]) or 'none'}")

    known = [item for item in found if item.row.get("is_table") is not None]
    against("is_table", [(i.support is not None, bool(i.row["is_table"]), label(i)) for i in known])
    tops = [item for item in found if item.row.get("top_level_frac") is not None]
    against(
        f"top_level_frac >= {LEVEL_TOP} and top_area_frac >= {WIDE_TOP}",
        [
            (
                i.support is not None,
                i.row["top_level_frac"] >= LEVEL_TOP and i.row["top_area_frac"] >= WIDE_TOP,
                label(i),
            )
            for i in tops
        ],
    )
    apart = [abs(i.fraction - i.row["top_level_frac"]) for i in tops if i.support is not None]
    median, largest = np.median(apart), max(apart)
    print(f"  plane's height against top_level_frac: median {median:.3f}, largest {largest:.3f} of the height")
    dropped = [i for i in found if i.row.get("drop_top_m") is not None and i.row.get("real_size_m")]
    both = [i for i in dropped if i.support is not None and i.row["drop_top_m"] >= 0]
    if both:
        print(f"  drop_top_m is stated for {len(dropped)}; {len(both)} of them carry; the plane is off by:")
    for item in both:
        error = item.fraction * item.row["real_size_m"][1] - item.row["drop_top_m"]
        print(f"    {item.row['name']}: {1e3 * error:+.0f} mm")


def label(item: Found) -> str:
    return f"{item.row['name']} ({item.row.get('top_level_frac')}, {item.row.get('top_area_frac')})"


def rays(item: Found) -> tuple[float, float]:
    """Share of the rays over the circle that do not meet the plane first, and how far off the worst is."""
    from embreex import rtcore_scene
    from embreex.mesh_construction import TriangleMesh

    support = item.support
    assert support is not None
    mesh = item.mesh
    unit = float((mesh.bounds[1] - mesh.bounds[0]).max())
    origin = np.array([*support.anchor, support.height])
    scene = rtcore_scene.EmbreeScene(robust=True)
    TriangleMesh(scene, (((mesh.vertices - origin) / unit)[mesh.faces]).astype(np.float32))
    at = np.linspace(-1, 1, RAYS) * support.clearance / unit
    x, y = np.meshgrid(at, at)
    inside = x * x + y * y < (0.999 * support.clearance / unit) ** 2
    starts = np.stack((x[inside], y[inside], np.full(inside.sum(), 2.0)), axis=1).astype(np.float32)
    starts[:, :2] += 1e-5  # not through the edges of a regular tessellation
    down = np.tile(np.array([0, 0, -1], np.float32), (len(starts), 1))
    reach = scene.run(starts, down, output=1)["tfar"]
    off = np.abs(np.where(reach < 100, 2.0 - reach, -1.0))
    return float((off > 1e-4).mean()), float(off.max())


if __name__ == "__main__":
    main()
