"""View-centric voxels of one scene over all its views, beside Open3D's in the same run.

    python benchmarks/voxelize.py [--views 150] [--open3d-views 10]

Eight embedded assets, their triangles divided until each has 20,000 to 100,000; one thread, processor time. Open3D
does what TRELLIS does (dataset_toolkits/voxelize.py): transform, clip, create_from_triangle_mesh_within_bounds. Open3D
is left out, with a word, where it is not installed (extra `benchmarks`). Both must give the same voxels.
"""

import argparse
import importlib.util
import os
import resource
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from randscene.generator.cameras import directions, look_at_matrices
from randscene.generator.view_centric import world_to_view
from randscene.generator.voxelization import SceneVoxelizer, voxelize
from randscene.manifests import load_asset_mesh
from randscene.manifests.procedural import build_glb, enumerate_assets
from randscene.seeding import generator

Mesh = tuple[np.ndarray, np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--views", type=int, default=150)
    parser.add_argument("--open3d-views", type=int, default=10)
    args = parser.parse_args()
    meshes = scene()
    print("triangles:", ", ".join(f"{len(faces):,}" for _, faces in meshes))
    look_at = np.zeros(3)
    cameras = look_at_matrices(directions("uniform", args.views, generator(0, "cameras")), (0.0, 0.0, 0.0), 8.0)
    vertices = np.concatenate([points for points, _ in meshes])

    voxelizer = SceneVoxelizer(meshes)

    def ours(camera: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return voxelizer.view(world_to_view(camera, look_at, vertices))

    ours(cameras[0])
    begun = time.process_time()
    results = [ours(camera) for camera in cameras]
    seconds = (time.process_time() - begun) / args.views
    grids = len(meshes)
    print(f"randscene: {1e3 * seconds:.1f} ms a view, {grids / seconds:,.0f} grids/s")
    if importlib.util.find_spec("open3d") is None:
        print("open3d is not installed: left out")
    else:
        beside_open3d(meshes, vertices, cameras[: args.open3d_views], results, seconds)
    million()


def beside_open3d(
    meshes: list[Mesh],
    vertices: np.ndarray,
    cameras: np.ndarray,
    results: list[tuple[np.ndarray, np.ndarray]],
    seconds: float,
) -> None:
    import open3d

    spent = 0.0
    same = total = 0
    for camera, (coords, offsets) in zip(cameras, results):
        begun = time.process_time()
        transform = world_to_view(camera, np.zeros(3), vertices)
        theirs = []
        for points, faces in meshes:
            moved = np.clip(points @ transform[:3, :3].T + transform[:3, 3], -0.5 + 1e-6, 0.5 - 1e-6)
            mesh = open3d.geometry.TriangleMesh(
                open3d.utility.Vector3dVector(moved), open3d.utility.Vector3iVector(faces)
            )
            grid = open3d.geometry.VoxelGrid.create_from_triangle_mesh_within_bounds(
                mesh, voxel_size=1 / 64, min_bound=(-0.5,) * 3, max_bound=(0.5,) * 3
            )
            theirs.append(np.array([voxel.grid_index for voxel in grid.get_voxels()]))
        spent += time.process_time() - begun
        for i, found in enumerate(theirs):
            mine = coords[offsets[i] : offsets[i + 1]]
            same += np.array_equal(mine, np.unique(found, axis=0))
            total += 1
    each = spent / len(cameras)
    print(
        f"open3d {open3d.__version__}: {1e3 * each:.1f} ms a view; equal grids {same} of {total}; {each / seconds:.1f}x"
    )


def scene() -> list[Mesh]:
    """Eight placed meshes of 20,000 to 100,000 triangles, metres."""
    import trimesh

    placed = []
    with tempfile.TemporaryDirectory() as folder:
        for number, asset in enumerate(enumerate_assets(8, seed=1)):
            path = Path(folder) / f"{number}.glb"
            path.write_bytes(build_glb(asset.family, asset.seed))
            mesh = load_asset_mesh(path)
            points, faces = mesh.vertices, mesh.faces
            while len(faces) < 20_000:
                points, faces = trimesh.remesh.subdivide(points, faces)
            low, high = points.min(axis=0), points.max(axis=0)
            offset = np.array([number % 4 * 1.2, number // 4 * 1.2, 0])
            placed.append(((points - low) / (high - low).max() + offset, np.asarray(faces, np.int32)))
    return placed


def million() -> None:
    """Peak memory of one mesh of a million triangles."""
    import trimesh

    sphere = trimesh.creation.icosphere(subdivisions=8, radius=0.49)  # 1,310,720 triangles
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.process_time()
    voxelize(sphere.vertices, sphere.faces)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"one mesh of {len(sphere.faces):,} triangles: {time.process_time() - begun:.2f} s, "
        f"peak memory {after / 1024:.0f} MiB, of which its voxels took {(after - before) / 1024:.0f}"
    )


if __name__ == "__main__":
    main()
