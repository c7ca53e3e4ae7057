"""Prediction: a picture with instance masks to one mesh an instance, all in place in the view-centric cube.

OUT/{key}/prediction.json     what was predicted, with what
OUT/{key}/instance_01.glb     ... one an instance, absent where the occupancy is empty
OUT/{key}/scene.glb           one node an instance
OUT/{key}/scene_world.glb     the same along the world's axes, where the camera is known
OUT/{key}/occupancy.npz       coords (V, 3) uint8, offsets (N + 1,) int32: as `voxels.npz` of a dataset
"""

import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from randscene.canonical_json import digest
from randscene.errors import DatasetError, PredictionError
from randscene.files import explain_os_errors, fsync_folder, write_atomic
from randscene.shards.sample_codec import npz_bytes
from randscene.train.batch import check_frame
from randscene.train.generation import generate_latents
from randscene.train.image_conditioner import MaskedImage, prepare_images
from randscene.train.masked_image import folder_name, read_masked_image
from randscene.train.prediction_source import PredictionSource, find_source
from randscene.train.settings import DataSettings, SamplingSettings
from randscene.train.structure_encoder import decode_latents
from randscene.train.surface import Surface, extract_surface, glb, palette

if TYPE_CHECKING:
    from randscene.shards import Dataset, ViewSample

SCHEMA_VERSION = 1
WORLD_FILE = "scene_world.glb"
_POLE = 1e-6
"""A camera whose horizontal distance from the look-at point is below this share of its distance stands at a pole."""


@dataclass(frozen=True, kw_only=True)
class View:
    """What is predicted: a picture with masks, and where it comes from."""

    key: str
    """Name of the output folder."""
    image: MaskedImage
    scene: int | None = None
    view: int | None = None
    world_to_view: list[list[float]] | None = None
    """4x4, world metres to the view-centric cube; None where the scene's size is not known."""
    fingerprint: str | None = None
    """Of the dataset."""
    world_rotation: list[list[float]] | None = None
    """3x3, the world's axes to the view's: all that a picture's camera tells without the scene's true size."""
    picture_sha256: str | None = None
    """Of the pixels and masks of a picture that is in no dataset."""

    @classmethod
    def of_sample(cls, sample: "ViewSample") -> "View":
        """A view of a dataset."""
        meta = sample.meta
        return cls(
            key=sample.key,
            image=sample,
            scene=meta["scene"],
            view=meta["view"],
            world_to_view=meta["world_to_view"],
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

    def view_to_world(self) -> np.ndarray | None:
        """(4, 4) float64 from the view-centric cube to world metres, or to the world's axes alone; None if unknown."""
        if self.world_to_view is not None:
            return np.linalg.inv(np.asarray(self.world_to_view, np.float64))
        if self.world_rotation is None:
            return None
        matrix = np.eye(4)
        matrix[:3, :3] = np.asarray(self.world_rotation, np.float64).T
        return matrix


@dataclass(frozen=True, kw_only=True)
class PredictedView:
    """One finished prediction."""

    key: str
    folder: Path
    n_instances: int
    empty: tuple[int, ...]
    """Ids of instances for which the model gave no voxel: they have no mesh."""
    seconds: float
    """What the model, decoder and meshing took."""
    skipped: bool
    """Whether it was there already, whole, from the same checkpoint and sampler."""


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


def read_world_rotation(camera: Path, data: DataSettings) -> np.ndarray:
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
    if math.hypot(arm[0], arm[1]) > _POLE * math.hypot(*arm):
        azimuth = math.atan2(arm[1], arm[0])
    elif arm.any() and math.hypot(turn[0, 0], turn[1, 0]) > _POLE:
        azimuth = math.atan2(-turn[0, 0], turn[1, 0])  # from above or below: the picture's right axis tells
    else:
        raise PredictionError(f"{camera}: the camera stands on its look-at point, or has no direction seen from above")
    angle = math.radians(data.azimuth_offset_deg) - math.pi / 2 - azimuth
    cosine, sine = math.cos(angle), math.sin(angle)
    return np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])


class Predictor:
    """Trained or published weights, ready to predict.

    Parameters
    ----------
    source : Path or str or PredictionSource
        As `find_source` takes it. Of a run, the newest checkpoint; of a checkpoint, the averaged weights.
    sampling : SamplingSettings, optional
        The source's own by default.
    seed : int
        Of the initial noise; a view's noise follows from it and the view's key.
    smoothing : int
        Passes of Taubin smoothing over the meshes.
    device : str, optional
        `cpu` or `cuda`; CUDA where there is one by default.

    Raises
    ------
    CheckpointError, SpecError
        See `find_source` and `PredictionSource.load`.
    """

    def __init__(
        self,
        source: Path | str | PredictionSource,
        *,
        sampling: SamplingSettings | None = None,
        seed: int = 0,
        smoothing: int = 0,
        device: str | None = None,
    ) -> None:
        found = source if isinstance(source, PredictionSource) else find_source(source)
        self.settings = found.settings
        self.sampling = sampling or found.settings.sampling
        self.seed, self.smoothing = seed, smoothing
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.loaded = found.load(str(self.device))
        self.model, self.decoder = self.loaded.flow.to(self.device), self.loaded.decoder

    def check(self, sample: "ViewSample") -> None:
        """Refuse a sample of another frame than the model's.

        Raises
        ------
        DatasetError
        """
        check_frame(sample.meta, self.settings.data, where=f"sample {sample.key}")

    def logits(self, view: View) -> np.ndarray:
        """(N, 64, 64, 64) float32 occupancy logits of each instance, index (x, y, z), in the view-centric cube.

        The scene branch is run along once for all instances; every instance starts from the same noise (I-Scene's
        released inference).

        Raises
        ------
        DatasetError
            If the view shows no instance.
        """
        images = torch.from_numpy(prepare_images(view.image, self.settings.conditioner.image_size))
        _, latents = generate_latents(
            self.model,
            images,
            key=view.key,
            seed=self.seed,
            sampling=self.sampling,
            precision=self.settings.optimiser.precision,
        )
        return decode_latents(self.decoder, latents.numpy())

    def settings_digest(self) -> str:
        """Identity of everything but the view that a prediction depends on."""
        return digest(
            {
                "checkpoint": self.loaded.identity,
                "sampling": self.sampling,
                "seed": self.seed,
                "smoothing": self.smoothing,
            }
        )

    def predict(self, view: View, out: Path) -> PredictedView:
        """Predict one view into `out/{view.key}`, whole or not at all; a finished one of equal settings is kept.

        Raises
        ------
        DatasetError
            If the view shows no instance.
        PredictionError
            If the folder holds something else, or a prediction with other settings or of another view.
        RandsceneError
            If the disk is full or not writable.
        """
        folder = out / view.key
        if folder.exists():
            return self._finished(view, folder)
        begun = time.monotonic()
        logits = self.logits(view)
        surfaces = [extract_surface(field, smoothing=self.smoothing) for field in logits]
        seconds = time.monotonic() - begun
        entries = []
        for instance, (field, surface) in enumerate(zip(logits, surfaces), start=1):
            name = None if surface is None else _file_name(instance)
            entries.append({"id": instance, "file": name, "n_voxels": int((field > 0).sum())})
        about = {
            "schema": SCHEMA_VERSION,
            "key": view.key,
            "scene": view.scene,
            "view": view.view,
            "frame": self.settings.data.frame,
            "up_axis": "Y",
            "world_to_view": view.world_to_view,
            "dataset_fingerprint": view.fingerprint,
            "instances": entries,
            "picture_sha256": view.picture_sha256,
            "world": None if view.view_to_world() is None else _world_facts(view, surfaces),
            "world_rotation": view.world_rotation,
            "checkpoint": self.loaded.sha256,
            "checkpoint_step": self.loaded.step,
            "source": self.loaded.about,
            "steps": self.sampling.steps,
            "cfg": self.sampling.cfg_strength,
            "seed": self.seed,
            "settings_digest": self.settings_digest(),
            "seconds": round(seconds, 3),
        }
        _write(folder, about, logits > 0, surfaces, view.view_to_world())
        return _predicted(folder, about, skipped=False)

    def _finished(self, view: View, folder: Path) -> PredictedView:
        try:
            about = json.loads((folder / "prediction.json").read_text(encoding="utf-8"))
            same = about["settings_digest"] == self.settings_digest()
            same_view = (about["key"], about["dataset_fingerprint"]) == (view.key, view.fingerprint)
            same_picture = (about.get("picture_sha256"), about.get("world_rotation")) == (
                view.picture_sha256,
                view.world_rotation,
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise PredictionError(f"{folder} exists and is not a prediction: choose another --out") from error
        if not (same and same_view and same_picture):
            what = "another dataset" if not same_view else "another checkpoint or sampler"
            what = what if same_picture else "another picture, masks or camera"
            raise PredictionError(f"{folder} was predicted with {what}: choose another --out")
        return _predicted(folder, about, skipped=True)


def _predicted(folder: Path, about: dict[str, Any], *, skipped: bool) -> PredictedView:
    return PredictedView(
        key=about["key"],
        folder=folder,
        n_instances=len(about["instances"]),
        empty=tuple(entry["id"] for entry in about["instances"] if entry["file"] is None),
        seconds=about["seconds"],
        skipped=skipped,
    )


def _file_name(instance: int) -> str:
    return f"instance_{instance:02d}.glb"


def _world_facts(view: View, surfaces: Sequence[Surface | None]) -> dict[str, Any]:
    matrix = view.view_to_world()
    assert matrix is not None
    return {
        "file": WORLD_FILE if any(surface is not None for surface in surfaces) else None,
        "up_axis": "Y",
        "unit": "metre" if view.world_to_view is not None else None,
        "view_to_world": matrix.tolist(),
    }


def _moved(surface: Surface, transform: np.ndarray) -> Surface:
    """The surface mapped by a (4, 4) affine without mirroring."""
    vertices = surface.vertices.astype(np.float64) @ transform[:3, :3].T + transform[:3, 3]
    return Surface(vertices=vertices.astype(np.float32), faces=surface.faces)


def _write(
    folder: Path,
    about: dict[str, Any],
    occupied: np.ndarray,
    surfaces: Sequence[Surface | None],
    view_to_world: np.ndarray | None,
) -> None:
    """Write all files beside `folder`, then give the folder its name."""
    colours = palette(len(surfaces))
    parts = [
        (f"instance_{instance:02d}", surface, colour)
        for instance, (surface, colour) in enumerate(zip(surfaces, colours), start=1)
        if surface is not None
    ]
    coords = [np.argwhere(grid).astype(np.uint8) for grid in occupied]
    offsets = np.cumsum([0, *map(len, coords)]).astype(np.int32)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    with explain_os_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        if temporary.exists():
            shutil.rmtree(temporary)
        try:
            temporary.mkdir()
            for name, surface, colour in parts:
                write_atomic(temporary / f"{name}.glb", glb([(name, surface, colour)]))
            if parts:
                write_atomic(temporary / "scene.glb", glb(parts))
            if parts and view_to_world is not None:
                in_world = [(name, _moved(surface, view_to_world), colour) for name, surface, colour in parts]
                write_atomic(temporary / WORLD_FILE, glb(in_world))
            write_atomic(temporary / "occupancy.npz", npz_bytes({"coords": np.concatenate(coords), "offsets": offsets}))
            write_atomic(temporary / "prediction.json", json.dumps(about, indent=2) + "\n")
            temporary.rename(folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        fsync_folder(folder.parent)
