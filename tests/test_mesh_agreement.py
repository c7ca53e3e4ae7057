"""What is read for labels is what Blender imports for pictures, for every file that inspection accepts."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mesh_pack import PACK, write_pack

from randscene.manifests.asset_mesh import MESH_SUFFIXES

ROOT = Path(__file__).parents[1]
PACKS = ROOT.parent / "shared" / "assets"

CACHE = """
import json, sys
import bpy, numpy as np
bpy.ops.wm.read_factory_settings(use_empty=True)
from randscene.blender_scripts.asset_cache import AssetCache
found = []
for path in sys.argv[1:]:
    for part in AssetCache().get(path).parts:
        nodes = [(node.type, [link.from_node.type for item in node.inputs for link in item.links])
                 for material in part.mesh.materials if material for node in material.node_tree.nodes]
        found.append({"matrix": part.matrix.tolist(), "vertices": part.vertices.tolist(), "nodes": nodes})
sys.stderr.write("answer " + json.dumps(found))
"""


def compared(*paths: Path) -> list[dict]:
    """The rows of the benchmark that compares, in the order of the paths; two processes share the work."""
    processes = 2 if len(paths) > 200 else 1
    command = [sys.executable, str(ROOT / "benchmarks" / "mesh_agreement.py"), "--json"]
    started = [
        subprocess.Popen(
            [*command, *map(str, paths[part::processes])], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for part in range(processes)
    ]
    with ThreadPoolExecutor(processes) as threads:
        told = list(threads.map(lambda process: process.communicate(), started))
    assert not any(process.returncode for process in started), [errors for _, errors in told]
    rows: list[dict] = [{}] * len(paths)
    for part, (output, _) in enumerate(told):
        rows[part::processes] = json.loads(output)
    return rows


def imported(*paths: Path) -> list[dict]:
    """The parts that the renderer's cache holds of some files."""
    done = subprocess.run([sys.executable, "-c", CACHE, *map(str, paths)], capture_output=True, text=True, check=True)
    return json.loads(done.stderr.split("answer ", 1)[1])


@pytest.mark.blender
def test_every_accepted_kind_of_file_is_imported_as_it_is_read(tmp_path):
    verdicts = write_pack(tmp_path)
    good = [tmp_path / name for name, verdict in verdicts.items() if verdict == "ok"]
    rows = compared(*good)
    assert [row["file"] for row in rows] == [str(path) for path in good]
    assert not [row for row in rows if "error" in row]
    for row in rows:
        assert max(row["box"], row["area"], row["vertex"]) < 1e-6, row


@pytest.mark.blender
def test_matrices_that_no_blender_object_holds_are_exact(tmp_path):
    PACK["sheared.glb"][1](tmp_path / "mesh.glb")
    (part,) = imported(tmp_path / "mesh.glb")
    assert part["matrix"] == [[1, 0, 0.7, 5], [0, 2, 0, -7], [0, -0.3, 1, 6], [0, 0, 0, 1]]


@pytest.mark.blender
def test_a_mesh_far_from_its_origin_is_moved_there(tmp_path):
    PACK["far.glb"][1](tmp_path / "mesh.glb")
    (part,) = imported(tmp_path / "mesh.glb")
    assert max(abs(number) for point in part["vertices"] for number in point) <= 1.5
    assert [row[3] for row in part["matrix"][:3]] == [168, 100, 0]


@pytest.mark.blender
def test_vertex_colours_without_a_material_show_and_missing_pictures_do_not(tmp_path):
    names = ("ascii.ply", "colored.obj", "no_bump_map.obj")
    write_pack(tmp_path)
    ply, obj, bump = (part["nodes"] for part in imported(*(tmp_path / name for name in names)))
    for nodes in (ply, obj):
        assert any(kind == "BSDF_PRINCIPLED" and "VERTEX_COLOR" in sources for kind, sources in nodes)
    assert bump and not any(kind == "TEX_IMAGE" for kind, _ in bump)


@pytest.mark.shared
@pytest.mark.blender
@pytest.mark.parametrize("pack", ["dev", "large", "nasty"])
def test_real_files_are_imported_as_they_are_read(pack):
    if not (PACKS / pack).is_dir():
        pytest.skip("the packs of real meshes are not here")
    rows = compared(*sorted(file for file in (PACKS / pack).rglob("*") if file.suffix.lower() in MESH_SUFFIXES))
    good = [row for row in rows if "error" not in row]
    assert len(good) == {"dev": 242, "large": 888, "nasty": 16}[pack]
    for row in good:
        assert max(row["box"], row["area"], row["vertex"]) < 1e-6, row
