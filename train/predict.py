"""Prediction: a picture with instance masks to one mesh an instance, all in place in the view-centric cube.

OUT/{key}/prediction.json     what was predicted, with what
OUT/{key}/instance_01.glb     ... one an instance, absent where the occupancy is empty
OUT/{key}/scene.glb           one node an instance
OUT/{key}/occupancy.npz       coords (V, 3) uint8, offsets (N + 1,) int32: as `voxels.npz` of a dataset
"""

import json
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from randscene import seeding
from randscene.canonical_json import digest
from randscene.errors import CheckpointError, DatasetError, PredictionError
from randscene.files import explain_os_errors, fsync_folder, write_atomic
from randscene.shards.sample_codec import npz_bytes
from randscene.train.batch import check_frame
from randscene.train.checkpoint import checkpoint_sha256, latest_checkpoint, load_run_settings, read_state
from randscene.train.conditioned_flow import load_conditioned_flow
from randscene.train.image_conditioner import MaskedImage, prepare_images
from randscene.train.sampler import sample
from randscene.train.settings import SamplingSettings
from randscene.train.structure_encoder import MINI, decode_latents, load_decoder
from randscene.train.surface import Surface, extract_surface, glb, palette

if TYPE_CHECKING:
    from randscene.shards import Dataset, ViewSample

SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class View:
    """What is predicted: a picture with masks, and where it comes from."""

    key: str
    """Name of the output folder."""
    image: MaskedImage
    scene: int | None = None
    view: int | None = None
    world_to_view: list[list[float]] | None = None
    """4x4, world metres to the view-centric cube; None where the camera is not known."""
    fingerprint: str | None = None
    """Of the dataset."""

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


class Predictor:
    """A trained run, ready to predict.

    Parameters
    ----------
    run : Path
        Run folder; its newest checkpoint and averaged weights are used.
    sampling : SamplingSettings, optional
        The run's own by default.
    seed : int
        Of the initial noise; a view's noise follows from it and the view's key.
    smoothing : int
        Passes of Taubin smoothing over the meshes.
    device : str, optional
        `cpu` or `cuda`; CUDA where there is one by default.

    Raises
    ------
    CheckpointError
        If there is no checkpoint, it is damaged, or the decoder is not the one of its latents.
    """

    def __init__(
        self,
        run: Path,
        *,
        sampling: SamplingSettings | None = None,
        seed: int = 0,
        smoothing: int = 0,
        device: str | None = None,
    ) -> None:
        self.settings = load_run_settings(run)
        self.checkpoint = latest_checkpoint(run)
        self.checkpoint_sha256 = checkpoint_sha256(self.checkpoint)
        self.sampling = sampling or self.settings.sampling
        self.seed, self.smoothing = seed, smoothing
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        state = read_state(self.checkpoint)
        self.step = state.step
        self.model = load_conditioned_flow(self.checkpoint).to(self.device)
        self.decoder = load_decoder(self.settings.data.encoder, str(self.device))
        # The mini encoder and decoder share one file; the published ones do not, and only their name can be compared.
        if self.settings.data.encoder == MINI and self.decoder.sha256 != state.data["encoder"]["sha256"]:
            raise CheckpointError(
                f"{self.checkpoint} was trained on latents of another mini encoder than this version's: train it again"
            )

    def check(self, sample: "ViewSample") -> None:
        """Refuse a sample of another frame than the run's.

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
        generator = torch.Generator().manual_seed(seeding.integer(self.seed, view.key, "sampling"))
        half = self.settings.optimiser.precision == "bfloat16" and self.device.type == "cuda"
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            tokens = self.model.conditioner(images.to(self.device))
            _, latents = sample(
                self.model.flow,
                tokens[:1],
                tokens[1:],
                torch.zeros(len(tokens) - 1, dtype=torch.int64, device=self.device),
                generators=[generator],
                settings=self.sampling,
            )
        return decode_latents(self.decoder, latents.cpu().numpy())

    def settings_digest(self) -> str:
        """Identity of everything but the view that a prediction depends on."""
        return digest(
            {
                "checkpoint": self.checkpoint_sha256,
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
            "checkpoint": self.checkpoint_sha256,
            "checkpoint_step": self.step,
            "steps": self.sampling.steps,
            "cfg": self.sampling.cfg_strength,
            "seed": self.seed,
            "settings_digest": self.settings_digest(),
            "seconds": round(seconds, 3),
        }
        _write(folder, about, logits > 0, surfaces)
        return _predicted(folder, about, skipped=False)

    def _finished(self, view: View, folder: Path) -> PredictedView:
        try:
            about = json.loads((folder / "prediction.json").read_text(encoding="utf-8"))
            same = about["settings_digest"] == self.settings_digest()
            same_view = (about["key"], about["dataset_fingerprint"]) == (view.key, view.fingerprint)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise PredictionError(f"{folder} exists and is not a prediction: choose another --out") from error
        if not (same and same_view):
            what = "another checkpoint or sampler" if same_view else "another dataset"
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


def _write(folder: Path, about: dict[str, Any], occupied: np.ndarray, surfaces: Sequence[Surface | None]) -> None:
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
            write_atomic(temporary / "occupancy.npz", npz_bytes({"coords": np.concatenate(coords), "offsets": offsets}))
            write_atomic(temporary / "prediction.json", json.dumps(about, indent=2) + "\n")
            temporary.rename(folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        fsync_folder(folder.parent)
