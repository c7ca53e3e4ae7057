"""What the preview page shows of a whole dataset: which views, the recipes and assets behind them, chart values."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.errors import DatasetError
from randscene.shards.dataset import Dataset
from randscene.shards.order import permute
from randscene.shards.sample_codec import MemberError, npz_arrays
from randscene.shards.shard_index import instances_by_scene
from randscene.shards.store import Store

PALETTE = (
    *("#56b4e9", "#e69f00", "#2dbd8f", "#f0e442", "#cc79a7", "#d55e00"),
    *("#8c8cff", "#a6d854", "#66e0d0", "#f781bf", "#b98a5a", "#c9c9c9"),
)
"""Colours of the instances, in id order, then again from the start. The first are Okabe and Ito's, which differ under
every common colour blindness; the page also writes the id beside the colour."""
CHARTED = 1500
"""Samples, and recipes, that the charts are drawn from at most, spread over the whole dataset."""
PER_SCENE = 24
"""Views of each scene, at most, on a page that cannot show all views."""

RECIPES = "recipes.jsonl"
_SCENE = re.compile(rb'"scene":\s*(\d+)')


@dataclass(frozen=True, kw_only=True)
class ChartData:
    """Values that the charts show."""

    objects: NDArray[Any]
    """Instances of each scene."""
    radii: NDArray[Any]
    """Disc radii, metres."""
    visible: NDArray[Any]
    """Visible pixels over unoccluded pixels, each instance of each charted view."""
    voxels: NDArray[Any]
    """Surface voxels, each instance of each charted view."""
    licences: dict[str, int]
    """Assets under each licence, among the charted views."""
    engine: str
    frame: str
    encoder: str
    """Of the latents in the samples; empty where they hold none."""
    resolution: int
    samples: int
    """Views that were read."""


def scenes_of(dataset: Dataset) -> dict[int, list[int]]:
    """Scene index to the indices of its samples, in view order; scenes ascending."""
    found: dict[int, list[tuple[str, int]]] = {}
    for index, key in enumerate(dataset.keys):
        found.setdefault(int(key.partition("_")[0]), []).append((key, index))
    return {scene: [index for _, index in sorted(found[scene])] for scene in sorted(found)}


def spread(items: Sequence[int], count: int) -> list[int]:
    """At most `count` of the items, evenly spaced, the first one among them."""
    if len(items) <= count:
        return list(items)
    return [items[place * len(items) // count] for place in range(count)]


def chosen(
    scenes: dict[int, list[int]], splits: dict[int, str], *, views: int | None, per_scene: int | None
) -> dict[int, list[int]]:
    """The views that a page of at most `views` views shows, by scene.

    All of them where they fit. Otherwise at most `PER_SCENE` of each scene, evenly spaced, and, where these are still
    too many, scenes evenly spaced over each split.

    Parameters
    ----------
    scenes : dict
        Scene to the indices of its views.
    splits : dict
        Scene to the name of its split; every split gets its share, at least one scene while there is room.
    views : int or None
        None for no limit.
    per_scene : int or None
        Views of each scene at most; None for no limit but `PER_SCENE` where needed.
    """

    def total(of: dict[int, list[int]]) -> int:
        return sum(map(len, of.values()))

    if per_scene is not None:
        scenes = {scene: spread(members, per_scene) for scene, members in scenes.items()}
    if views is None or total(scenes) <= views:
        return scenes
    scenes = {scene: spread(members, per_scene or PER_SCENE) for scene, members in scenes.items()}
    count = len(scenes)
    while total(scenes) > views and count > 1:
        # In proportion, then one by one: scenes differ in their views.
        count = min(count - 1, max(1, int(count * views / total(scenes))))
        scenes = {scene: scenes[scene] for scene in _spread_over_splits(scenes, splits, count)}
    return {scene: spread(members, views) for scene, members in scenes.items()}


def _spread_over_splits(scenes: Iterable[int], splits: dict[int, str], count: int) -> list[int]:
    members: dict[str, list[int]] = {}
    for scene in scenes:
        members.setdefault(splits[scene], []).append(scene)
    total = sum(map(len, members.values()))
    shares = {name: max(1, round(count * len(of) / total)) for name, of in members.items()}
    while sum(shares.values()) > count and max(shares.values()) > 1:
        shares[max(shares, key=lambda name: shares[name])] -= 1
    return sorted([scene for name, of in members.items() for scene in spread(of, shares[name])][:count])


def read_recipes(store: Store, wanted: Iterable[int]) -> dict[int, dict[str, Any]]:
    """The recipes of the wanted scenes, as plain JSON; empty when the dataset has no `recipes.jsonl`.

    Raises
    ------
    DatasetError
        If a wanted line is not a recipe.
    """
    scenes, found = set(wanted), {}
    try:
        lines = store.open(RECIPES)
    except FileNotFoundError:
        return {}
    with lines:
        for number, line in enumerate(lines, start=1):
            match = _SCENE.search(line)
            if match and int(match[1]) not in scenes:
                continue
            try:
                recipe = json.loads(line)
                found[int(recipe["scene"])] = recipe
            except (ValueError, KeyError, TypeError) as error:
                raise DatasetError(
                    f"{store.url}/{RECIPES}, line {number} is not a recipe; run the build again"
                ) from error
    return found


def chart_data(dataset: Dataset, recipes: dict[int, dict[str, Any]]) -> ChartData:
    """Read at most `CHARTED` samples, without their pictures, and gather what the charts show."""
    scenes = scenes_of(dataset)
    counts = instances_by_scene(shard.index for shard in dataset.shards)
    sampled = permute(0, 0, len(dataset), np.arange(min(len(dataset), CHARTED)))
    visible, voxels, owners = list[float](), list[int](), dict[str, str]()
    meta: dict[str, Any] = {}
    for index in sorted(sampled.tolist()):
        members = dataset.members(index, ("json", "voxels.npz"))
        try:
            meta = json.loads(members["json"])
            voxels += np.diff(npz_arrays(members["voxels.npz"], ("coords", "offsets"))["offsets"]).tolist()
            for item in meta["instances"]:
                alone = item.get("unoccluded_pixels") or 0
                visible.append(item["visible_pixels"] / max(alone, item["visible_pixels"], 1))
                owners[str(item["uid"])] = str(item.get("licence") or "not stated")
        except (KeyError, TypeError, ValueError, MemberError) as error:
            raise DatasetError(
                f"{dataset.url}: sample {dataset.keys[index]} is not readable ({error}); see `randscene lint`"
            ) from error
    licences = sorted(owners.values())
    encoder = meta.get("encoder")
    return ChartData(
        objects=np.array([counts[scene] for scene in scenes]),
        radii=np.array([radius for recipe in recipes.values() for radius in recipe["layout"]["radii"]], float),
        visible=np.array(visible),
        voxels=np.array(voxels),
        licences={name: licences.count(name) for name in dict.fromkeys(licences)},
        engine=str(meta.get("engine", "")),
        frame=str(meta.get("frame", "")),
        encoder=str(encoder["name"]) if isinstance(encoder, dict) else "",
        resolution=dataset[0].ids.shape[1],
        samples=len(sampled),
    )
