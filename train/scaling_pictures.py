"""What every arm of a study predicts for the same scenes, side by side: rows are scenes, columns are arms."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from randscene.errors import CheckpointError, PredictionError
from randscene.train.image_conditioner import crop_images
from randscene.train.picture_sheet import picture_sheet, scaled
from randscene.train.prediction_reader import read_occupancy
from randscene.train.scaling_plan import StudyFolder
from randscene.train.scaling_study import EvaluationSet
from randscene.train.scaling_units import Plan, Unit
from randscene.train.voxel_picture import instance_colours, voxel_picture

SIZE = 160
"""Pixels of a picture."""


def draw_predictions(folder: StudyFolder, plan: Plan, wanted: EvaluationSet) -> bytes | None:
    """A sheet of an evaluation set: image, truth, and each arm's prediction by its first seed.

    The scenes are spread evenly over the set and the same for all arms: none is chosen. Arms that predict in another
    frame are shown in theirs.

    Returns
    -------
    bytes or None
        PNG; None where the set asks for no pictures or nothing is predicted.

    Raises
    ------
    CheckpointError
        If a prediction is damaged.
    """
    units = _first_seeds(folder, plan, wanted)
    if not (wanted.pictures and units):
        return None
    keys = folder.chosen_keys(wanted)
    count = min(wanted.pictures, len(keys))
    chosen = [keys[(2 * number + 1) * len(keys) // (2 * count)] for number in range(count)]
    data = folder.evaluation_data(wanted)
    index = {key: place for place, key in enumerate(data.keys)}
    rows = []
    for key in chosen:
        sample = data[index[key]]
        tints = instance_colours(sample.n_instances)
        truth = [sample.instance_coords(number) for number in range(1, sample.n_instances + 1)]
        image = np.asarray(crop_images(sample, SIZE)[0]).transpose(1, 2, 0)
        row = [(scaled(np.ascontiguousarray(image), SIZE), key), (voxel_picture(truth, SIZE, colours=tints), "")]
        for unit in units:
            made = _occupancy(folder.scores(unit, wanted.name) / "predictions" / key)
            row.append((voxel_picture(made, SIZE, colours=tints[: len(made)]), ""))
        rows.append(row)
    sheet = picture_sheet(["image", "truth", *(unit.arm.name for unit in units)], rows, SIZE)
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _first_seeds(folder: StudyFolder, plan: Plan, wanted: EvaluationSet) -> list[Unit]:
    """Of each arm the unit of its first seed that has predicted the set."""
    units: dict[str, Unit] = {}
    for unit in plan.units:
        protocols = [piece for piece in unit.pieces if piece.set == wanted.name and piece.kind != "loss"]
        there = bool(protocols) and all(piece.done for piece in protocols)
        if there and (folder.scores(unit, wanted.name) / "predictions").is_dir():
            units.setdefault(unit.arm.name, unit)
    return list(units.values())


def _occupancy(prediction: Path) -> Sequence[NDArray[Any]]:
    """(V, 3) uint8 voxels of each instance in id order, in the prediction's own frame."""
    try:
        coords, offsets = read_occupancy(prediction / "occupancy.npz")
    except PredictionError as error:
        raise CheckpointError(f"{prediction} is damaged: delete it to predict it again") from error
    return np.split(coords, offsets[1:-1])
