"""What is predicted: views of a dataset, or a picture of one's own with masks and perhaps a camera."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from randscene.errors import DatasetError, PredictionError
from randscene.train.image_conditioner import MaskedImage
from randscene.train.masked_image import folder_name, read_masked_image
from randscene.train.settings import DataSettings
from randscene.train.yaw_rotation import about_vertical, yaw_rotation

if TYPE_CHECKING:
    from randscene.shards import Dataset, ViewSample


@dataclass(frozen=True, kw_only=True)
class View:
    """What is predicted: a picture with masks, and where it comes from."""

    key: str
    """Name of the output folder."""
    image: MaskedImage
    scene: int | None = None
    view: int | None = None
    world_to_view: list[list[float]] | None = None
    """4x4, world metres to the model's cube; None where the scene's size or its place in the model's frame is open."""
    fingerprint: str | None = None
    """Of the dataset."""
    world_rotation: list[list[float]] | None = None
    """3x3, the world's axes to the view's: all that a picture's camera tells without the scene's true size."""
    picture_sha256: str | None = None
    """Of the pixels and masks of a picture that is in no dataset."""

    @classmethod
    def of_sample(cls, sample: "ViewSample", *, same_frame: bool = True) -> "View":
        """A view of a dataset; `same_frame` says whether the dataset's frame is the model's.

        If not, the prediction's place in the world is left open: the truth's true geometry tells it when it is scored.
        """
        meta = sample.meta
        return cls(
            key=sample.key,
            image=sample,
            scene=meta["scene"],
            view=meta["view"],
            world_to_view=meta["world_to_view"] if same_frame else None,
            fingerprint=meta.get("fingerprint"),
        )

    @classmethod
    def of_picture(cls, image: Path, masks: Path, *, camera: Path | None, data: DataSettings) -> "View":
        """A picture with masks (`read_masked_image`); `camera` as `read_world_rotation` takes it.

        Raises
        ------
        PredictionError
            If a file is missing or not what it should be.
        """
        picture = read_masked_image(image, masks)
        pixels = hashlib.sha256(repr(picture.rgb.shape).encode() + picture.rgb.tobytes() + picture.ids.tobytes())
        return cls(
            key=folder_name(image),
            image=picture,
            world_rotation=None if camera is None else read_world_rotation(camera, data).tolist(),
            picture_sha256=pixels.hexdigest(),
        )

    def view_to_world(self) -> NDArray[Any] | None:
        """(4, 4) float64 from the view-centric cube to world metres, or to the world's axes alone; None if unknown."""
        if self.world_to_view is not None:
            return np.linalg.inv(np.asarray(self.world_to_view, np.float64))
        if self.world_rotation is None:
            return None
        matrix = np.eye(4)
        matrix[:3, :3] = np.asarray(self.world_rotation, np.float64).T
        return matrix


def choose_views(dataset: "Dataset", *, views: int | None = None, keys: Sequence[str] | None = None) -> list[int]:
    """Indices of the samples to predict: those of `keys`, or `views` of them spread evenly over the sorted keys.

    Raises
    ------
    DatasetError
        If a key is not in the dataset.
    """
    index = {key: number for number, key in enumerate(dataset.keys)}
    if keys:
        for key in keys:
            if key not in index:
                raise DatasetError(f"{dataset.url} has no sample {key} in this split: keys are such as {min(index)}")
        return [index[key] for key in dict.fromkeys(keys)]
    ordered = sorted(index)
    count = len(ordered) if views is None else min(views, len(ordered))
    return [index[ordered[(2 * number + 1) * len(ordered) // (2 * count)]] for number in range(count)]


def read_world_rotation(camera: Path, data: DataSettings) -> NDArray[Any]:
    """The turn from the world's axes (Z up) to those of the yaw frame that a camera file implies.

    The frame looks from the camera to the scene: picture right is +X, away from the camera +Y, up +Z. Its scale and
    middle follow from the scene's true box, which a picture does not tell.

    Parameters
    ----------
    camera : Path
        JSON with `camera_to_world` (4x4, a camera that looks down its -Z, +Y up, as in Blender and OpenGL) and
        `look_at` (3), both in the same unit; more is ignored, so that a sample's JSON will do.
    data : DataSettings
        `frame` must be `yaw`; `azimuth_offset_deg` is a further turn about +Z.

    Returns
    -------
    (3, 3) float64

    Raises
    ------
    PredictionError
        If the file does not hold such a camera, the camera has no azimuth, or the model has another frame.
    """
    if data.frame != "yaw":
        raise PredictionError(f"--camera needs a model of the yaw frame; this one was trained in {data.frame}: omit it")
    try:
        content = json.loads(camera.read_text(encoding="utf-8"))
        matrix = np.asarray(content["camera_to_world"], np.float64)
        target = np.asarray(content["look_at"], np.float64)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PredictionError(f"{camera} is no camera: it must be JSON with camera_to_world and look_at") from error
    if matrix.shape != (4, 4) or target.shape != (3,) or not (np.isfinite(matrix).all() and np.isfinite(target).all()):
        raise PredictionError(f"{camera}: camera_to_world must be 4x4 and look_at 3 finite numbers")
    turn = matrix[:3, :3]
    if not (np.allclose(turn.T @ turn, np.eye(3), atol=1e-3) and np.linalg.det(turn) > 0):
        raise PredictionError(f"{camera}: camera_to_world does not turn and move alone: take scale and mirroring out")
    arm = matrix[:3, 3] - target
    rotation = yaw_rotation(arm, turn[:, 0]) if arm.any() else None
    if rotation is None:
        raise PredictionError(f"{camera}: the camera stands on its look-at point, or has no direction seen from above")
    turned: NDArray[Any] = about_vertical(data.azimuth_offset_deg)[:3, :3] @ rotation
    return turned
