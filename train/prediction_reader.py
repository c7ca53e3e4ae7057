"""Prediction folders as `randscene predict` writes them: `OUT/{key}/prediction.json`, one GLB an instance, voxels.

What can be wrong with a prediction has one of two outcomes, never silence:

* *Refused* with `PredictionError`, because the folder is not what it claims to be and a score would mean nothing:
  no or broken `prediction.json`, another schema or up axis, another frame than the ground truth's, an instance that
  the ground truth does not have or that is named twice, a named file that is absent, cut off or not a GLB.
* *Penalised* as a missing instance, because the model failed to give one: `file` is null, the instance is not listed,
  its mesh has no faces, no area, or NaN or infinite coordinates. The problem is named in the scores.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.errors import AssetError, PredictionError
from randscene.shards.sample_codec import MemberError, npz_arrays
from randscene.train.ground_truth import GroundTruth, TrueScene
from randscene.train.triangle_mesh import TriangleMesh, cube_transform, glb_header, join, read_glb

PREDICTION_SCHEMA = 1
FRAME_TOLERANCE = 1e-4
"""Largest difference between the entries of two `world_to_view` matrices that are taken for the same."""
SAMPLE_KEY = re.compile(r"\d{6,}_\d{3,}")
"""What a sample of a dataset is called: `{scene:06d}_{view:03d}`."""


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One predicted view, as its `prediction.json` tells it; geometry is read when asked for."""

    folder: Path
    key: str
    frame: str
    world_to_view: NDArray[Any] | None
    """(4, 4) float64; None for a dataset's view that was predicted in another frame than its own (see `meshes`)."""
    files: Mapping[int, Path | None]
    """Instance id to its GLB, None where the model gave no geometry; in the order of `prediction.json`."""
    seconds: float | None
    """Time that the model took, if it is told."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """`checkpoint`, `steps`, `cfg` as they stand in the file."""

    def mesh(self, instance: int) -> TriangleMesh | str:
        """Instance `instance`'s mesh, view-centric, Z-up, in the cube [-0.5, 0.5]^3; or why it counts as missing.

        Returns
        -------
        TriangleMesh or str
            The reason is `missing`, `empty_mesh`, `nan_mesh` or `zero_area`.

        Raises
        ------
        PredictionError
            If the file cannot be read.
        """
        path = self.files.get(instance)
        if path is None:
            return "missing"
        try:
            mesh = join(list(read_glb(path).values()))
        except AssetError as error:
            raise PredictionError(f"prediction {self.key}, instance {instance}: {error}") from error
        return mesh.problem() or mesh

    def meshes(self, truth: TrueScene) -> dict[int, TriangleMesh | str]:
        """The listed instances' meshes, or why they count as missing, by id: see `mesh`.

        In the frame `canonical` of a dataset of another one the true scene's box tells where the cube of the
        prediction lies: it is not turned, and the box is centred and scaled to fill it. So the meshes are moved into
        the truth's cube, where errors count alike in every frame. Otherwise `truth` is not looked at.
        """
        found = {number: self.mesh(number) for number in self.files}
        if self.world_to_view is not None:
            return found
        to_world = np.linalg.inv(truth.world_to_view)
        world = join([mesh.moved(to_world) for mesh in truth.meshes])
        own = cube_transform(world.vertices[world.faces].reshape(-1, 3), np.eye(3))
        move = truth.world_to_view @ np.linalg.inv(own)
        return {number: mesh if isinstance(mesh, str) else mesh.moved(move) for number, mesh in found.items()}

    def occupancy(self) -> dict[int, NDArray[Any]] | None:
        """Predicted voxels (V_i, 3) integer of each instance, in the truth's view-centric cube.

        None without `occupancy.npz`, and for a prediction in another frame, whose grid is another.

        Raises
        ------
        PredictionError
            If the file is broken or does not fit `prediction.json`.
        """
        path = self.folder / "occupancy.npz"
        if self.world_to_view is None or not path.exists():
            return None
        coords, offsets = read_occupancy(path)
        if coords.ndim != 2 or coords.shape[1] != 3 or coords.dtype.kind not in "iu":
            raise PredictionError(f"{path}: coords must be (V, 3) integers, not {coords.shape} {coords.dtype}")
        if (
            offsets.shape != (len(self.files) + 1,)
            or offsets.dtype.kind not in "iu"
            or offsets[0] != 0
            or offsets[-1] != len(coords)
            or (np.diff(offsets.astype(np.int64)) < 0).any()
        ):
            raise PredictionError(f"{path}: offsets do not cut {len(coords)} voxels into {len(self.files)} instances")
        if len(coords) and (coords.min() < 0 or coords.max() > 63):
            raise PredictionError(f"{path}: coords must lie in the 64^3 grid")
        return {number: coords[offsets[i] : offsets[i + 1]] for i, number in enumerate(self.files)}


def read_occupancy(path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    """`coords` and `offsets` of an `occupancy.npz`, as they stand there.

    Raises
    ------
    PredictionError
        If the file is missing or is no archive of these two.
    """
    try:
        arrays = npz_arrays(path.read_bytes(), ("coords", "offsets"))
    except OSError as error:
        raise PredictionError(f"{path} cannot be read ({error.strerror}): run predict again") from error
    except MemberError as error:
        raise PredictionError(f"{path} {error}: run predict again") from error
    return arrays["coords"], arrays["offsets"]


def list_predictions(root: Path) -> list[str]:
    """The keys of the predictions in a folder, sorted: its sub-folders with a `prediction.json` or a sample's key.

    Raises
    ------
    PredictionError
        If the folder is absent or holds no prediction.
    """
    if not root.is_dir():
        raise PredictionError(f"{root} is no folder of predictions; give the --out of `randscene predict`")
    folders = [entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    keys = sorted(
        entry.name for entry in folders if SAMPLE_KEY.fullmatch(entry.name) or (entry / "prediction.json").exists()
    )
    if not keys:
        raise PredictionError(f"{root} holds no prediction (folders such as 000012_003, each with a prediction.json)")
    return keys


def read_prediction(folder: Path) -> Prediction:
    """Read and check one prediction's `prediction.json`, and that the files it names are there.

    Raises
    ------
    PredictionError
        See the head of this module.
    """
    path = folder / "prediction.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PredictionError(f"{path} is missing: the prediction was not finished; run predict again") from None
    except (OSError, ValueError) as error:
        raise PredictionError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict) or content.get("schema") != PREDICTION_SCHEMA:
        found = content.get("schema") if isinstance(content, dict) else None
        raise PredictionError(f"{path}: schema is {found!r}, this version reads {PREDICTION_SCHEMA}")
    try:
        key, frame, up_axis = content["key"], content["frame"], content["up_axis"]
        placed = content["world_to_view"]
        matrix = None if placed is None else np.asarray(placed, dtype=np.float64)
        entries = [(int(entry["id"]), entry["file"]) for entry in content["instances"]]
        seconds = content.get("seconds")
        seconds = None if seconds is None else float(seconds)
        if seconds is not None and not math.isfinite(seconds):
            raise ValueError(f"seconds is {seconds}")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise PredictionError(f"{path} lacks a field or has a wrong one: {error!r}") from error
    if key != folder.name:
        raise PredictionError(f"{path} is the prediction of {key!r}, not of {folder.name}; was the folder renamed?")
    if up_axis != "Y":
        raise PredictionError(f"{path}: up_axis is {up_axis!r}; GLB files are read as glTF has them, Y-up")
    if matrix is None and content.get("dataset_fingerprint") is None:
        raise PredictionError(f"{path} has no world_to_view: a picture without a known camera has no ground truth")
    if matrix is None and frame != "canonical":
        raise PredictionError(
            f"{path}: predicted in frame {frame!r} for a dataset of another; only from canonical space can it be moved"
        )
    if matrix is not None and (matrix.shape != (4, 4) or not np.isfinite(matrix).all()):
        raise PredictionError(f"{path}: world_to_view is not a finite 4x4 matrix")
    files: dict[int, Path | None] = {}
    for number, name in entries:
        if number in files:
            raise PredictionError(f"{path} names instance {number} twice")
        files[number] = None if name is None else _file(folder, name)
    return Prediction(
        folder=folder,
        key=key,
        frame=frame,
        world_to_view=matrix,
        files=files,
        seconds=seconds,
        about={name: content.get(name) for name in ("checkpoint", "steps", "cfg")},
    )


def check_against(prediction: Prediction, truth: GroundTruth, *, by_id: bool = True) -> None:
    """Refuse a prediction that cannot be compared with this ground truth.

    Parameters
    ----------
    prediction : Prediction
    truth : GroundTruth
    by_id : bool
        Instances are matched by their ids, so that each must be one of the truth's.

    Raises
    ------
    PredictionError
        If it lives in another frame or names an instance that the truth does not have.
    """
    if prediction.frame != truth.frame and prediction.world_to_view is not None:
        raise PredictionError(
            f"prediction {prediction.key} is in frame {prediction.frame!r}, the ground truth in {truth.frame!r}; "
            f"predict again for this dataset"
        )
    placed = truth.world_to_view if prediction.world_to_view is None else prediction.world_to_view
    if not np.allclose(placed, truth.world_to_view, rtol=0, atol=FRAME_TOLERANCE):
        raise PredictionError(
            f"prediction {prediction.key} has another world_to_view than the ground truth: it was made for another "
            f"view or another dataset; predict again for this one"
        )
    if extra := [number for number in prediction.files if by_id and not 1 <= number <= truth.n_instances]:
        raise PredictionError(
            f"prediction {prediction.key} names instance {extra[0]}, the ground truth has 1 to {truth.n_instances}; "
            f"predict again for this dataset"
        )


def _file(folder: Path, name: object) -> Path:
    if not isinstance(name, str) or Path(name).name != name or name in ("", ".", ".."):
        raise PredictionError(f"{folder / 'prediction.json'}: {name!r} is not the name of a file in this folder")
    path = folder / name
    if not path.is_file() or path.resolve().parent != folder.resolve():
        raise PredictionError(
            f"{folder / 'prediction.json'} names {name}, which is not in the folder; run predict again"
        )
    try:
        glb_header(path)
    except AssetError as error:
        raise PredictionError(str(error)) from error
    return path
