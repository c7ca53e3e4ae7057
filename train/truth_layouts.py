"""The kinds of truth: a dataset of ours, MIDI's 3D-FRONT test rooms, and folders of GLB files."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from randscene.errors import DatasetError, PredictionError, SpecError
from randscene.train.file_truth import FileTruth, chosen_keys, file_truth
from randscene.train.ground_truth import GroundTruth, read_ground_truth
from randscene.train.midi_truth import midi_truths
from randscene.train.output_layouts import LAYOUTS, UP_AXES, UpAxis, find_pieces, layout_keys

TruthKind = Literal["dataset", "midi", "glb"]
TRUTHS: tuple[TruthKind, ...] = ("dataset", "midi", "glb")


@dataclass(frozen=True, kw_only=True)
class TruthReading:
    """What kind of folder the truth is, and what it leaves open."""

    kind: TruthKind = "dataset"
    up_axis: UpAxis | None = None
    """Up in the files of `glb`; the other kinds know it."""

    @property
    def depth(self) -> int:
        """2 where keys are `house/room`."""
        return 2 if self.kind == "midi" else 1


DATASET = TruthReading()
"""A dataset of ours."""


def truth_reading(kind: str = "dataset", *, up_axis: str | None = None) -> TruthReading:
    """How to read a truth of this kind.

    Raises
    ------
    SpecError
        If a word is unknown, or the up axis is lacking or of no use.
    """
    if kind not in TRUTHS:
        raise SpecError(f"unknown kind of truth {kind!r}; known: {', '.join(TRUTHS)}")
    if up_axis is not None and up_axis not in UP_AXES:
        raise SpecError(f"unknown up axis {up_axis!r}; known: {', '.join(UP_AXES)}")
    if (kind == "glb") != (up_axis is not None):
        raise SpecError(
            "a truth of GLB files does not say which axis is up; give --truth-up-axis Y or Z"
            if kind == "glb"
            else f"the truth {kind} knows its up axis; leave out --truth-up-axis"
        )
    return TruthReading(kind=kind, up_axis=up_axis)


def read_truths(
    dataset: Path,
    reading: TruthReading = DATASET,
    keys: Iterable[str] | None = None,
    split: str | None = None,
) -> list[GroundTruth] | list[FileTruth]:
    """The truths of a folder.

    Parameters
    ----------
    dataset : Path
    reading : TruthReading
    keys : iterable of str, optional
        Only these, in this order; all by default.
    split : str, optional
        Only this split; for a dataset alone.

    Raises
    ------
    SpecError
        If a split is asked for of a truth that has none.
    DatasetError
        If the folder cannot be read or lacks one of `keys`.
    """
    if reading.kind == "dataset":
        return read_ground_truth(dataset, keys, split)
    if split is not None:
        raise SpecError(f"the truth {reading.kind} has no splits; leave out --split")
    wanted = None if keys is None else list(keys)
    return midi_truths(dataset, wanted) if reading.kind == "midi" else _glb_truths(dataset, wanted, reading.up_axis)


def _glb_truths(dataset: Path, keys: Sequence[str] | None, up_axis: UpAxis | None) -> list[FileTruth]:
    if up_axis is None:
        raise SpecError("a truth of GLB files does not say which axis is up; give --truth-up-axis Y or Z")
    if not dataset.is_dir():
        raise DatasetError(f"{dataset} is no folder; give the one that holds the true GLB files")
    layout = LAYOUTS["glb"]
    try:
        every = layout_keys(dataset, layout)
        found = {key: find_pieces(dataset, key, layout) for key in chosen_keys(dataset, every, keys)}
    except PredictionError as error:
        raise DatasetError(f"ground truth: {error}") from error
    return [file_truth(key, pieces, up_axis, None) for key, pieces in found.items()]
