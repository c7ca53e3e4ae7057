"""What reading other methods' outputs does to the scores of a perfect prediction, frame by frame.

    python benchmarks/output_frames.py DATASET [--views 24] [--points 2000]

The true meshes of a dataset's views are written as MIDI writes scenes (Y-up, in a room's axes, turned by a random
angle), the same unturned, and as Gen3DSR does (in the camera's frame), and scored under `iscene` with fewer points and
without the level of realigned objects. What is lost against the last rows is lost by the frame alone.
"""

import argparse
import dataclasses
import tempfile
import time
from pathlib import Path

import numpy as np
import trimesh

from randscene.seeding import generator
from randscene.train.evaluate import evaluate
from randscene.train.ground_truth import GroundTruth, read_ground_truth
from randscene.train.output_layouts import prediction_reading
from randscene.train.output_scene import OPENCV_TO_BLENDER
from randscene.train.protocols import ISCENE
from randscene.train.triangle_mesh import TriangleMesh
from randscene.train.yaw_rotation import about_vertical

READINGS = (
    ("turned", "midi", "free", "id"),
    ("turned", "midi", "heading", "id"),
    ("turned", "midi", "heading", "hungarian"),
    ("unturned", "midi", "world", "id"),
    ("camera", "gen3dsr", "camera", "hungarian"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--views", type=int, default=24)
    parser.add_argument("--points", type=int, default=2000, help="an object")
    args = parser.parse_args()
    truths = [truth for truth in read_ground_truth(args.dataset, split=None) if truth.glb.is_file()]
    truths = truths[:: max(1, len(truths) // args.views)][: args.views]
    rules = dataclasses.replace(ISCENE, points_per_object=args.points, realigned_objects=False)
    print(f"{len(truths)} views, {sum(truth.n_instances for truth in truths)} instances")
    print("| written | frame | matched by | CD-S | F-S | CD-O | F-O | IoU-B | own partner | s a view |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="randscene-frames-") as folder:
        root = Path(folder)
        for truth in truths:
            write(truth, root)
        for name, layout, frame, match in READINGS:
            reading = prediction_reading(layout, frame=frame, match=match)
            begun = time.process_time()
            report = evaluate(root / name, args.dataset, rules, reading=reading, workers=1)
            seconds = (time.process_time() - begun) / len(truths)
            means = report.means()
            own = sum(one.partner == one.id for scene in report.scenes for one in scene.instances)
            print(
                f"| {name} | {frame} | {match} | {means['scene_cd_squared']:.4f} | {100 * means['scene_f_score']:.1f} "
                f"| {means['object_cd_squared']:.4f} | {100 * means['object_f_score']:.1f} "
                f"| {means['scene_aabb_iou']:.3f} | {own} of {report.n_instances} | {seconds:.2f} |",
                flush=True,
            )


def write(truth: GroundTruth, root: Path) -> None:
    """One view's true meshes in the three forms."""
    scene = truth.scene()
    assert scene.camera_to_world is not None
    to_world = np.linalg.inv(scene.world_to_view)
    world = [mesh.moved(to_world) for mesh in scene.meshes]
    turn = about_vertical(360 * generator(0, "frames", truth.key).random())
    for name, transform in (("turned", turn), ("unturned", np.eye(4))):
        place = root / name / truth.key / "output.glb"
        place.parent.mkdir(parents=True)
        place.write_bytes(glb([y_up(mesh.moved(transform)) for mesh in world]))
    to_camera = OPENCV_TO_BLENDER @ np.linalg.inv(scene.camera_to_world)
    folder = root / "camera" / truth.key / "reconstruction"
    folder.mkdir(parents=True)
    for number, mesh in enumerate(world):
        (folder / f"{number}_object.glb").write_bytes(glb([mesh.moved(to_camera)]))


def y_up(mesh: TriangleMesh) -> TriangleMesh:
    """From Z-up axes to glTF's."""
    x, y, z = mesh.vertices.T
    return TriangleMesh(vertices=np.stack([x, z, -y], axis=1), faces=mesh.faces)


def glb(meshes: list[TriangleMesh]) -> bytes:
    parts = [trimesh.Trimesh(mesh.vertices, mesh.faces, process=False) for mesh in meshes]
    return trimesh.Scene(parts).export(file_type="glb")


if __name__ == "__main__":
    main()
