"""Scenes that other methods wrote, brought into the view-centric cube of the truth that they are compared with.

As in `prediction_reader`, nothing is silent: what makes a score meaningless is *refused* with `PredictionError` before
anything is scored (a wrong number of instances where order is all that tells them apart, a link out of the folder, a
file that is cut off, a camera's frame without a camera), and what the model failed to give is *penalised* as a missing
instance (a mesh without faces, without area, with NaN or infinite coordinates).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.errors import AssetError, PredictionError, first_line
from randscene.train.file_truth import FileTruth
from randscene.train.ground_truth import GroundTruth, TrueScene
from randscene.train.heading_search import find_heading
from randscene.train.output_layouts import (
    LAYOUTS,
    RANDSCENE,
    Piece,
    PredictionReading,
    check_file,
    find_pieces,
    layout_keys,
)
from randscene.train.prediction_reader import Prediction, check_against, list_predictions, read_prediction
from randscene.train.triangle_mesh import TriangleMesh, cube_transform, join, read_glb_geometries, z_up
from randscene.train.yaw_rotation import about_vertical

OPENCV_TO_BLENDER = np.diag([1.0, -1.0, -1.0, 1.0])
"""(4, 4): a camera's axes x right, y down, z forward to x right, y up, z backward."""
CAMERA_FILE = "cam_params.json"
"""Gen3DSR's: `c2w`, which it moves its meshes by. The identity unless it was given a pose."""


@dataclass(frozen=True, kw_only=True)
class OutputScene:
    """One scene as another method wrote it; geometry is read when asked for."""

    key: str
    reading: PredictionReading
    pieces: tuple[Piece, ...]
    """By number."""
    to_camera: NDArray[Any] | None = None
    """(4, 4) float64, frame `camera` alone: what leads from the files' coordinates to the camera's, if not the
    identity."""

    @property
    def seconds(self) -> float | None:
        """None: other methods' files do not tell the time that they took."""
        return None

    def occupancy(self) -> dict[int, NDArray[Any]] | None:
        """None: other methods write no voxels."""
        return None

    def meshes(self, truth: TrueScene) -> dict[int, TriangleMesh | str]:
        """Each instance's mesh by number, in the cube of `truth`, Z-up; or why it counts as missing.

        In the frames `free` and `heading` the box of all instances that can be scored is centred and scaled to fill the
        cube.

        Raises
        ------
        PredictionError
            If a file cannot be read.
        """
        whole: dict[Path, list[TriangleMesh]] = {}
        found: dict[int, TriangleMesh | str] = {}
        for piece in self.pieces:
            if piece.path not in whole:
                whole[piece.path] = self._read(piece.path)
            parts = whole[piece.path]
            mesh = join(parts) if piece.place is None else parts[piece.place]
            found[piece.number] = mesh.problem() or mesh
        usable = {number: mesh for number, mesh in found.items() if not isinstance(mesh, str)}
        place = self._placement(usable, truth)
        return {number: mesh if isinstance(mesh, str) else mesh.moved(place) for number, mesh in found.items()}

    def _read(self, path: Path) -> list[TriangleMesh]:
        """A file's geometries in their order, Z-up; in the frame `camera` in the camera's axes."""
        up = self.reading.up_axis if path.suffix == ".glb" else self.reading.plain_up_axis
        try:
            meshes = read_glb_geometries(path) if path.suffix == ".glb" else [read_plain_mesh(path)]
        except AssetError as error:
            raise PredictionError(f"prediction {self.key}: {error}") from error
        return [z_up(mesh) for mesh in meshes] if up == "Y" else meshes

    def _placement(self, numbered: Mapping[int, TriangleMesh], truth: TrueScene) -> NDArray[Any]:
        """(4, 4) from what `_read` gives to the cube."""
        meshes = list(numbered.values())
        if self.reading.frame == "free":
            return centred_in_cube(meshes)
        if self.reading.frame == "heading":
            if not meshes:
                return np.eye(4)
            partners = [number - 1 for number in numbered] if self.reading.match == "id" else None
            turn = about_vertical(find_heading(meshes, truth.meshes, self.key, partners))
            return np.asarray(centred_in_cube([mesh.moved(turn) for mesh in meshes]) @ turn)
        if self.reading.frame == "world":
            return truth.world_to_view
        if self.reading.frame == "camera":
            if truth.camera_to_world is None:
                raise PredictionError(f"prediction {self.key} is in its camera's frame; the truth has no camera")
            to_camera = np.eye(4) if self.to_camera is None else self.to_camera
            return np.asarray(truth.world_to_view @ truth.camera_to_world @ OPENCV_TO_BLENDER @ to_camera)
        return np.diag([*[self.reading.scale] * 3, 1.0])


Predicted = Prediction | OutputScene
Truth = GroundTruth | FileTruth


def centred_in_cube(meshes: list[TriangleMesh]) -> NDArray[Any]:
    """(4, 4) that centres the common box of some meshes and makes its largest side 1; the identity without any."""
    points = [mesh.vertices[mesh.faces].reshape(-1, 3) for mesh in meshes]
    if not points:
        return np.eye(4)
    return cube_transform(np.concatenate(points), np.eye(3))


def read_plain_mesh(path: Path) -> TriangleMesh:
    """The triangles of a PLY or OBJ file, in its own axes; materials and other files that it names are not read.

    Raises
    ------
    AssetError
        `unreadable` if it does not parse, `no_faces` if it holds points alone, such as Gaussians.
    """
    import trimesh

    try:
        with open(path, "rb") as handle:
            loaded = trimesh.load(
                handle, file_type=path.suffix[1:], process=False, maintain_order=True, skip_materials=True
            )
        parts = loaded.dump() if isinstance(loaded, trimesh.Scene) else [loaded]
        if not any(isinstance(part, trimesh.Trimesh) for part in parts):
            raise AssetError("no_faces", f"{path} holds points and no faces; write meshes to have them scored")
        meshes = [
            TriangleMesh(
                vertices=np.asarray(part.vertices, np.float64).reshape(-1, 3),
                faces=np.asarray(part.faces, np.int64).reshape(-1, 3),
            )
            for part in parts
            if isinstance(part, trimesh.Trimesh)
        ]
    except (AssetError, MemoryError):
        raise
    except Exception as error:  # the parser's own exceptions are of many kinds
        raise AssetError("unreadable", f"{path} does not parse: {type(error).__name__}: {first_line(error)}") from error
    if any(len(m.faces) and (m.faces.min() < 0 or m.faces.max() >= len(m.vertices)) for m in meshes):
        raise AssetError("unreadable", f"{path}: a face names a vertex that is not there")
    return join(meshes)


def predicted_keys(root: Path, reading: PredictionReading, *, depth: int = 1) -> list[str]:
    """The keys of the scenes in a folder of predictions, sorted; raises PredictionError if there is none."""
    if reading.layout == RANDSCENE:
        return list_predictions(root)
    return layout_keys(root, LAYOUTS[reading.layout], depth=depth)


def read_predicted(root: Path, key: str, reading: PredictionReading) -> Predicted:
    """One scene of a folder of predictions; everything but geometry is checked.

    Raises
    ------
    PredictionError
        If a file cannot be read or is not what it should be.
    """
    if reading.layout == RANDSCENE:
        return read_prediction(root / key)
    pieces = find_pieces(root, key, LAYOUTS[reading.layout])
    for piece in pieces:
        if piece.path.suffix != ".glb" and reading.plain_up_axis is None and reading.frame != "camera":
            raise PredictionError(f"{piece.path.name} of {key} does not say which axis is up; give --up-axis Y or Z")
    to_camera = _to_camera(root, root / key / CAMERA_FILE) if reading.frame == "camera" else None
    return OutputScene(key=key, reading=reading, pieces=tuple(pieces), to_camera=to_camera)


def check_predicted(prediction: Predicted, truth: Truth, reading: PredictionReading) -> None:
    """Refuse a prediction that cannot be compared with this truth as it stands.

    Raises
    ------
    PredictionError
        If it is in a frame that cannot be reached, or its instances cannot be told apart.
    """
    by_id = reading.match == "id"
    if isinstance(prediction, Prediction):
        if not isinstance(truth, GroundTruth):
            raise PredictionError(
                "the layout randscene belongs to one of our datasets as the truth; against other truths read its "
                "GLBs with --layout iscene, which names them alike"
            )
        check_against(prediction, truth, by_id=by_id)
        return
    if reading.frame == "camera" and not truth.has_camera:
        raise PredictionError(
            f"prediction {prediction.key} is in its camera's frame, and the truth has no camera; give another --frame"
        )
    if not by_id:
        return
    layout, numbers = LAYOUTS[reading.layout], [piece.number for piece in prediction.pieces]
    if layout.ordered and numbers != list(range(1, truth.n_instances + 1)):
        raise PredictionError(
            f"prediction {prediction.key} has {len(numbers)} instances, the truth {truth.n_instances}; the layout "
            f"{layout.name} tells instances apart by their order alone: give --match hungarian, or remove the scene"
        )
    if extra := [number for number in numbers if not 1 <= number <= truth.n_instances]:
        raise PredictionError(
            f"prediction {prediction.key} names instance {extra[0]}, the truth has 1 to {truth.n_instances}; "
            f"give --match hungarian if its numbers are not the truth's"
        )


def _to_camera(root: Path, path: Path) -> NDArray[Any] | None:
    """The inverse of the pose that Gen3DSR says it moved its meshes by, None if it says none."""
    if not path.exists():
        return None
    check_file(root, path)
    try:
        content: Mapping[str, object] = json.loads(path.read_text(encoding="utf-8"))
        pose = np.asarray(content["c2w"], dtype=np.float64)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise PredictionError(f"{path} cannot be read: {error!r}") from error
    if pose.shape != (4, 4) or not np.isfinite(pose).all() or abs(np.linalg.det(pose[:3, :3])) < 1e-9:
        raise PredictionError(f"{path}: c2w is not the pose of a camera")
    return np.asarray(np.linalg.inv(pose))
