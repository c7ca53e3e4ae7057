"""Filters: which samples of a dataset are read, decided by the columns of the shard indexes alone."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.errors import DatasetError
from randscene.shards.shard_index import RATIO_DIGITS, ShardIndex

_SPAN = re.compile(r"first:([1-9]\d{0,8})|(0|[1-9]\d{0,8}):([1-9]\d{0,8})")
_KEY_LENGTH = len("000000_000")


@dataclass(frozen=True, kw_only=True, slots=True)
class Filters:
    """What a sample must be to be read; None asks for nothing. The parameters are those of `open_dataset`."""

    min_visible_pixels: int | None = None
    min_visible_ratio: float | None = None
    min_instances: int | None = None
    max_instances: int | None = None
    scenes: str | None = None
    views: str | None = None

    def __post_init__(self) -> None:
        for name in ("min_visible_pixels", "min_visible_ratio", "min_instances", "max_instances"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, Real):
                raise DatasetError(f"{name}={value!r} is not a number")
            if value is not None and value < 0:
                raise DatasetError(f"{name}={value} is below 0; leave it out to take all")

    def select(self, indices: Sequence[ShardIndex], *, where: str) -> NDArray[Any]:
        """Numbers of the samples that pass.

        Parameters
        ----------
        indices : sequence of ShardIndex
            Of the shards, in order.
        where : str
            What errors call the dataset.

        Returns
        -------
        np.ndarray
            (K,) int64, counted over the samples of all shards. In rising order; where scenes are chosen, sorted by
            scene and view instead, so that the list does not depend on how the samples were cut into shards.

        Raises
        ------
        DatasetError
            If a filter is malformed, an index lacks its column, or nothing passes.
        """
        keep = np.ones(sum(map(len, indices)), bool)
        if self.min_visible_pixels is not None:
            keep &= np.concatenate([index.min_visible_pixels for index in indices]) >= self.min_visible_pixels
        if self.min_visible_ratio is not None:
            keep &= _ratios(indices, where) >= _share(self.min_visible_ratio)
        if self.min_instances is not None:
            keep &= np.concatenate([index.n_instances for index in indices]) >= self.min_instances
        if self.max_instances is not None:
            keep &= np.concatenate([index.n_instances for index in indices]) <= self.max_instances
        order = None
        if self.scenes is not None or self.views is not None:
            scenes, views = scenes_and_views(indices, where)
            if self.views is not None:
                first, end = _span("views", self.views)
                keep &= (views >= first) & (views < end)
            if self.scenes is not None:
                chosen = _chosen_scenes(indices, self.scenes, where)
                keep &= (scenes >= chosen[0]) & (scenes <= chosen[1])
                order = np.lexsort((views, scenes))
        if not keep.any():
            told = ", ".join(f"{name}={value}" for name, value in asdict(self).items() if value is not None)
            raise DatasetError(f"{where}: no sample passes the filters ({told or 'none given: the shards are empty'})")
        return np.flatnonzero(keep) if order is None else order[keep[order]]


def scenes_and_views(indices: Sequence[ShardIndex], where: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Scene and view of each sample, (S,) int64 each, from the keys `{scene:06d}_{view:03d}`.

    Raises
    ------
    DatasetError
        If a key is not of that form.
    """
    pairs = [_numbers(index.key_column, where) for index in indices]
    return np.concatenate([scene for scene, _ in pairs]), np.concatenate([view for _, view in pairs])


def _numbers(keys: NDArray[Any], where: str) -> tuple[NDArray[Any], NDArray[Any]]:
    if keys.itemsize == _KEY_LENGTH and len(keys):
        digits = keys.view(np.uint8).reshape(len(keys), _KEY_LENGTH).astype(np.int64) - ord("0")
        numbers = np.delete(digits, 6, axis=1)
        if (digits[:, 6] == ord("_") - ord("0")).all() and ((numbers >= 0) & (numbers <= 9)).all():
            return numbers[:, :6] @ 10 ** np.arange(5, -1, -1), numbers[:, 6:] @ 10 ** np.arange(2, -1, -1)
    pairs = [re.fullmatch(r"(\d{6,15})_(\d{3,15})", key) for key in keys.astype(str).tolist()]
    if None in pairs:
        raise DatasetError(f"{where}: its keys do not name scene and view, so it has no subsets by them")
    found = np.array([[int(pair[1]), int(pair[2])] for pair in pairs if pair], np.int64).reshape(-1, 2)
    return found[:, 0], found[:, 1]


def _ratios(indices: Sequence[ShardIndex], where: str) -> NDArray[Any]:
    columns = [index.min_visible_ratio for index in indices]
    silent = sum(column is None for column in columns)
    if silent:
        raise DatasetError(
            f"{where}: {silent} of {len(indices)} shard indexes do not say which share of each instance is visible; "
            "leave min_visible_ratio out (min_visible_pixels works), or build the dataset again with this release"
        )
    return np.concatenate([column for column in columns if column is not None])


def _share(value: float) -> float:
    if not 0 <= value <= 1:
        raise DatasetError(f"min_visible_ratio={value} is not between 0 and 1")
    return round(value, RATIO_DIGITS)


def _chosen_scenes(indices: Sequence[ShardIndex], scenes: str, where: str) -> tuple[int, int]:
    """First and last scene index of a span of places in the split."""
    first, end = _span("scenes", scenes)
    # Scenes that were given up count too: `first:N` names the same scenes in every build of the spec.
    known = sorted({int(scene) for index in indices for scene in index.header.get("scenes", ())})
    if end > len(known):
        raise DatasetError(f"{where}: has {len(known)} scenes, fewer than scenes={scenes} asks for")
    return known[first], known[end - 1]


def _span(name: str, text: str) -> tuple[int, int]:
    match = _SPAN.fullmatch(text) if isinstance(text, str) else None
    first, end = (0, int(match[1])) if match and match[1] else (int(match[2]), int(match[3])) if match else (0, 0)
    if first >= end:
        raise DatasetError(f"{name}={text!r} is not of the form first:N or A:B with A below B")
    return first, end
