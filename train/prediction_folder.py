"""The folder of one predicted view: written whole or not at all, and read back when it is there already.

OUT/{key}/prediction.json     what was predicted, with what
OUT/{key}/instance_01.glb     ... one an instance, absent where the occupancy is empty
OUT/{key}/scene.glb           one node an instance
OUT/{key}/scene_world.glb     the same along the world's axes, where the camera is known
OUT/{key}/occupancy.npz       coords (V, 3) uint8, offsets (N + 1,) int32: as `voxels.npz` of a dataset

With stage 2 also, each absent where it gave nothing:

OUT/{key}/instance_01_textured.glb
OUT/{key}/scene_textured.glb
"""

import errno
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.errors import PredictionError
from randscene.files import explain_os_errors, fsync, temporary_name, write_atomic
from randscene.shards.sample_codec import npz_bytes
from randscene.train.prediction_view import View
from randscene.train.stage_two_mesh import TexturedMesh, textured_glb
from randscene.train.surface import Surface, extract_surface, glb, palette

SCHEMA_VERSION = 1
WORLD_FILE = "scene_world.glb"


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
    untextured: tuple[int, ...] = ()
    """Ids of instances with a mesh of which stage 2, where it was asked for, made no surface."""


def write_prediction(
    view: View,
    folder: Path,
    logits: NDArray[Any],
    about: Mapping[str, Any],
    *,
    seconds: float,
    smoothing: int,
    textured: Sequence[TexturedMesh | None] | None = None,
) -> PredictedView:
    """Mesh a view's instances and write them into `folder`.

    Parameters
    ----------
    view : View
        Its key is the folder's name.
    folder : Path
        Must not exist.
    logits : (N, 64, 64, 64) float32
        Of each instance, in the view-centric cube.
    about : mapping
        What `prediction.json` says of the model and its sampler: `frame`, `settings_digest` and more.
    seconds : float
        What the model took; meshing is added.
    smoothing : int
        Passes of Taubin smoothing.
    textured : sequence of N TexturedMesh or None, optional
        Of stage 2, in the same order; not given where stage 2 was not asked for.

    Raises
    ------
    PredictionError
        If the logits are not finite.
    RandsceneError
        If the disk is full or not writable.
    """
    begun = time.monotonic()
    surfaces = [extract_surface(field, smoothing=smoothing) for field in logits]
    seconds += time.monotonic() - begun
    entries = []
    for instance, (field, surface) in enumerate(zip(logits, surfaces), start=1):
        name = None if surface is None else _file_name(instance)
        entry = {"id": instance, "file": name, "n_voxels": int((field > 0).sum())}
        if textured is not None:
            entry["textured"] = None if textured[instance - 1] is None else f"{_textured_name(instance)}.glb"
        entries.append(entry)
    content = {
        "schema": SCHEMA_VERSION,
        "key": view.key,
        "scene": view.scene,
        "view": view.view,
        "up_axis": "Y",
        "world_to_view": view.world_to_view,
        "dataset_fingerprint": view.fingerprint,
        "instances": entries,
        "picture_sha256": view.picture_sha256,
        "world": None if view.view_to_world() is None else _world_facts(view, surfaces),
        "world_rotation": view.world_rotation,
        **about,
        "seconds": round(seconds, 3),
    }
    _write(folder, content, logits > 0, surfaces, view.view_to_world(), textured or [])
    return _predicted(folder, content, skipped=False)


def finished_prediction(view: View, folder: Path, settings_digest: str) -> PredictedView | None:
    """The prediction that `folder` holds already; None if there is no such folder.

    Raises
    ------
    PredictionError
        If the folder holds something else, or a prediction with other settings or of another view.
    """
    if not folder.exists():
        return None
    try:
        about = json.loads((folder / "prediction.json").read_text(encoding="utf-8"))
        same = about["settings_digest"] == settings_digest
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
        untextured=tuple(
            entry["id"]
            for entry in about["instances"]
            if entry["file"] is not None and entry.get("textured", "") is None
        ),
    )


def _file_name(instance: int) -> str:
    return f"instance_{instance:02d}.glb"


def _textured_name(instance: int) -> str:
    return f"instance_{instance:02d}_textured"


def _world_facts(view: View, surfaces: Sequence[Surface | None]) -> dict[str, Any]:
    matrix = view.view_to_world()
    assert matrix is not None
    return {
        "file": WORLD_FILE if any(surface is not None for surface in surfaces) else None,
        "up_axis": "Y",
        "unit": "metre" if view.world_to_view is not None else None,
        "view_to_world": matrix.tolist(),
    }


def _moved(surface: Surface, transform: NDArray[Any]) -> Surface:
    """The surface mapped by a (4, 4) affine without mirroring."""
    vertices = surface.vertices.astype(np.float64) @ transform[:3, :3].T + transform[:3, 3]
    return Surface(vertices=vertices.astype(np.float32), faces=surface.faces)


def _write(
    folder: Path,
    about: dict[str, Any],
    occupied: NDArray[Any],
    surfaces: Sequence[Surface | None],
    view_to_world: NDArray[Any] | None,
    textured: Sequence[TexturedMesh | None],
) -> None:
    """Write all files beside `folder`, then give the folder its name."""
    colours = palette(len(surfaces))
    parts = [
        (f"instance_{instance:02d}", surface, colour)
        for instance, (surface, colour) in enumerate(zip(surfaces, colours), start=1)
        if surface is not None
    ]
    coloured = [(_textured_name(number), mesh) for number, mesh in enumerate(textured, start=1) if mesh is not None]
    coords = [np.argwhere(grid).astype(np.uint8) for grid in occupied]
    offsets = np.cumsum([0, *map(len, coords)]).astype(np.int32)
    temporary = folder.with_name(temporary_name(folder.name))
    with explain_os_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.mkdir()
            for name, surface, colour in parts:
                write_atomic(temporary / f"{name}.glb", glb([(name, surface, colour)]))
            if parts:
                write_atomic(temporary / "scene.glb", glb(parts))
            if parts and view_to_world is not None:
                in_world = [(name, _moved(surface, view_to_world), colour) for name, surface, colour in parts]
                write_atomic(temporary / WORLD_FILE, glb(in_world))
            for name, mesh in coloured:
                write_atomic(temporary / f"{name}.glb", textured_glb([(name, mesh)]))
            if coloured:
                write_atomic(temporary / "scene_textured.glb", textured_glb(coloured))
            write_atomic(temporary / "occupancy.npz", npz_bytes({"coords": np.concatenate(coords), "offsets": offsets}))
            write_atomic(temporary / "prediction.json", json.dumps(about, indent=2) + "\n")
            _give_name(temporary, folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        fsync(folder.parent)


def _give_name(temporary: Path, folder: Path) -> None:
    try:
        temporary.rename(folder)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
        raise PredictionError(
            f"{folder} has been written by another process meanwhile: give each its own --out, or its own --key views"
        ) from error
