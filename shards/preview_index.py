"""The preview page's index: a few numbers for every view and scene, by which the page filters without opening any."""

import json
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from randscene.errors import DatasetError
from randscene.shards.asset_lock import read_records
from randscene.shards.dataset import Dataset
from randscene.shards.preview_plan import direction
from randscene.shards.store import Store

READERS = 8
"""Samples whose labels are read at a time: what an object store needs to answer quickly."""
BATCH = 64
"""Scenes whose labels are in memory at a time."""
_TITLE = re.compile(r'"([^"]{1,60})" by ')


@dataclass(frozen=True, kw_only=True, slots=True)
class AssetNote:
    """What the asset lock says about an asset, as far as the page shows it."""

    category: str
    """Empty where the lock has none."""
    carries: bool
    """Whether it can carry objects: a table."""
    file: str
    """Name of its file, without folder and ending, where the asset is one of a directory; else empty."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneRow:
    """One scene of the page."""

    scene: int
    split: str
    instances: list[dict[str, Any]]
    """In id order: `uid`, `licence`, `parent` (id or None), `title` and `category` (empty where not known)."""
    table: bool
    """Whether an object carries another, or the first one, the layout's largest or its table, could."""
    planned: int
    """Cameras of the recipe; 0 without one."""
    kept: int
    """Views in the dataset: those in which every object shows, as far as the dataset asks for it."""
    views: list[int]
    """Numbers of the views on the page."""
    seen: list[int]
    """Of each view: the smallest share of its pixels that any object shows, whole percent, rounded down."""
    directions: list[tuple[float, float]]
    """Of each view: azimuth and elevation of the camera, degrees."""


def read_assets(store: Store) -> dict[str, AssetNote]:
    """Notes of all assets, by uid, from the dataset's asset lock; empty when it has none.

    Raises
    ------
    DatasetError
        If a line of the lock is not a record.
    """
    return dict(read_records(store, _note) or [])


def _note(record: dict[str, Any]) -> tuple[str, AssetNote]:
    support = record.get("support") or {}
    carries = support.get("clearance", 0) > 0
    file = PurePosixPath(str(record.get("locator") or "")).stem if record.get("source") == "directory" else ""
    return str(record["uid"]), AssetNote(category=str(record.get("category") or ""), carries=carries, file=file)


def read_labels(dataset: Dataset, scenes: Sequence[Sequence[int]]) -> Iterator[list[dict[str, Any]]]:
    """The `json` members of the samples of each scene, given by their indices; a scene at a time.

    Raises
    ------
    DatasetError
        If a sample has gone or its labels are not readable.
    """

    def read(index: int) -> dict[str, Any]:
        try:
            labels = json.loads(dataset.members(index, ("json",))["json"])
            labels["scene"], labels["view"], labels["instances"]
        except (KeyError, TypeError, ValueError) as error:
            raise DatasetError(
                f"{dataset.url}: labels of {dataset.keys[index]} are not readable ({error}); see `randscene lint`"
            ) from error
        return labels

    with ThreadPoolExecutor(READERS) as pool:
        for start in range(0, len(scenes), BATCH):
            part = scenes[start : start + BATCH]
            labels = iter(list(pool.map(read, [index for members in part for index in members])))
            for members in part:
                yield [next(labels) for _ in members]


def scene_row(
    labels: Sequence[dict[str, Any]], notes: dict[str, AssetNote], recipe: dict[str, Any] | None, kept: int
) -> SceneRow:
    """The row of one scene.

    Parameters
    ----------
    labels : sequence of dict
        The `json` of each view to show, in view order.
    notes : dict
        From `read_assets`.
    recipe : dict or None
        The scene's recipe as plain JSON.
    kept : int
        Views of the scene in the dataset.
    """
    first = labels[0]["instances"]
    instances = [
        {
            "uid": str(item["uid"]),
            "licence": item.get("licence"),
            "parent": item.get("support_parent"),
            "title": _title(item) or (note.file if note else ""),
            "category": note.category if note else "",
        }
        for item in first
        for note in [notes.get(str(item["uid"]))]
    ]
    leading = notes.get(str(first[0]["uid"]))
    return SceneRow(
        scene=int(labels[0]["scene"]),
        split=str(labels[0].get("split", "")),
        instances=instances,
        table=any(item["parent"] is not None for item in instances) or (leading is not None and leading.carries),
        planned=len(recipe["cameras"]) if recipe else 0,
        kept=kept,
        views=[int(view["view"]) for view in labels],
        seen=[min(map(percent_seen, view["instances"])) for view in labels],
        directions=[direction(view["camera_to_world"], view["look_at"]) for view in labels],
    )


def percent_seen(instance: dict[str, Any]) -> int:
    """Share of an instance's pixels that is not hidden, whole percent, rounded down; 100 where nobody counted."""
    alone = instance.get("unoccluded_pixels")
    return min(100, 100 * int(instance["visible_pixels"]) // alone) if alone else 100 if alone is None else 0


def index_content(rows: Sequence[SceneRow]) -> dict[str, Any]:
    """The rows as the page's script reads them: columns, and each asset's words once."""
    assets: dict[str, int] = {}
    words = list[list[str]]()
    for row in rows:
        for item in row.instances:
            if item["uid"] not in assets:
                assets[item["uid"]] = len(assets)
                words.append([item["uid"], item["title"], item["category"]])
    splits = sorted({row.split for row in rows})
    return {
        "assets": words,
        "splits": splits,
        "scenes": {
            "scene": [row.scene for row in rows],
            "split": [splits.index(row.split) for row in rows],
            "assets": [[assets[item["uid"]] for item in row.instances] for row in rows],
            "stacked": [sum(item["parent"] is not None for item in row.instances) for row in rows],
            "table": [int(row.table) for row in rows],
            "planned": [row.planned for row in rows],
            "kept": [row.kept for row in rows],
            "views": [len(row.views) for row in rows],
        },
        "views": {
            "view": [view for row in rows for view in row.views],
            "seen": [seen for row in rows for seen in row.seen],
            "elevation": [round(elevation) for row in rows for _, elevation in row.directions],
        },
    }


def _title(instance: dict[str, Any]) -> str:
    """The work's own name, where its credit begins with one: `"Teapot" by ...`."""
    match = _TITLE.match(str(instance.get("attribution") or ""))
    return match[1] if match else ""
