"""What the preview page shows, taken from a dataset folder as plain values and compressed bytes."""

import base64
import io
import json
import math
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from randscene.errors import DatasetError
from randscene.shards.dataset import Dataset
from randscene.shards.order import permute
from randscene.shards.sample_codec import MemberError, npz_arrays
from randscene.shards.store import Store
from randscene.shards.view_sample import RESOLUTION, ViewSample

PALETTE = (
    *("#56b4e9", "#e69f00", "#2dbd8f", "#f0e442", "#cc79a7", "#d55e00"),
    *("#8c8cff", "#a6d854", "#66e0d0", "#f781bf", "#b98a5a", "#c9c9c9"),
)
"""Colours of the instances, in id order, then again from the start. The first are Okabe and Ito's, which differ under
every common colour blindness; the page also writes the id beside the colour."""
IMAGE_SIZE = 384
"""Pictures are shown at most this many pixels wide."""
CHARTED = 1500
"""Samples, and recipes, that the charts are drawn from at most, spread over the whole dataset."""

RECIPES = "recipes.jsonl"
_SCENE = re.compile(rb'"scene":\s*(\d+)')


@dataclass(frozen=True, kw_only=True)
class ChartData:
    """Values that the charts show."""

    objects: np.ndarray
    """Instances of each scene."""
    radii: np.ndarray
    """Disc radii, metres."""
    visible: np.ndarray
    """Visible pixels over unoccluded pixels, each instance of each charted view."""
    voxels: np.ndarray
    """Surface voxels, each instance of each charted view."""
    licences: dict[str, int]
    """Assets under each licence, among the charted views."""
    engine: str
    frame: str
    encoder: str
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
    counts = {int(key.partition("_")[0]): n for shard in dataset.shards for key, n in _counts(shard.index)}
    chosen = permute(0, 0, len(dataset), np.arange(min(len(dataset), CHARTED)))
    visible, voxels, owners = list[float](), list[int](), dict[str, str]()
    meta: dict[str, Any] = {}
    for index in sorted(chosen.tolist()):
        members = dataset.members(index, ("json", "voxels.npz"))
        try:
            meta = json.loads(members["json"])
            voxels += np.diff(npz_arrays(members["voxels.npz"], ("coords", "offsets"))["offsets"]).tolist()
            for item in meta["instances"]:
                visible.append(item["visible_pixels"] / max(item["unoccluded_pixels"], item["visible_pixels"], 1))
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
        encoder=str(encoder["name"]) if isinstance(encoder, dict) else "none",
        resolution=dataset[0].ids.shape[1],
        samples=len(chosen),
    )


def _counts(index: Any) -> Iterable[tuple[str, int]]:
    return zip(index.keys, index.n_instances.tolist())


def scene_data(samples: list[ViewSample], recipe: dict[str, Any] | None) -> dict[str, Any]:
    """One scene for the page: its instances, views and plan as JSON values.

    Parameters
    ----------
    samples : list of ViewSample
        The views to show, of one scene, in view order.
    recipe : dict or None
        The scene's recipe as plain JSON.
    """
    meta = samples[0].meta
    return {
        "scene": meta["scene"],
        "split": meta.get("split", ""),
        "instances": [
            {"uid": item["uid"], "licence": item.get("licence"), "parent": item.get("support_parent")}
            for item in meta["instances"]
        ],
        "views": [_view(sample) for sample in samples],
        "plan": None if recipe is None else _plan(recipe),
        "footprints": _footprints(samples[0]),
    }


def _view(sample: ViewSample) -> dict[str, Any]:
    items = sample.meta["instances"]
    azimuth, elevation = _direction(sample.meta["camera_to_world"], sample.meta["look_at"])
    return {
        "view": sample.meta["view"],
        "azimuth": azimuth,
        "elevation": elevation,
        "frame": sample.meta.get("frame", ""),
        "rgb": _picture(sample.rgb),
        "ids": _labels(sample.ids),
        "voxels": _voxels(sample.coords),
        "ends": sample.offsets[1:].tolist(),
        "visible": [item["visible_pixels"] for item in items],
        "unoccluded": [item["unoccluded_pixels"] for item in items],
    }


def _direction(camera_to_world: Any, look_at: Any) -> tuple[float, float]:
    """Azimuth and elevation of the camera as seen from the look-at point, degrees."""
    x, y, z = np.asarray(camera_to_world, float)[:3, 3] - np.asarray(look_at, float)
    return round(math.degrees(math.atan2(y, x)), 1), round(math.degrees(math.atan2(z, math.hypot(x, y))), 1)


def _picture(rgb: np.ndarray) -> str:
    image = Image.fromarray(rgb)
    image.thumbnail((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=84, method=4)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _labels(ids: np.ndarray) -> str:
    """The ids as a PNG in the page's colours, see-through where there is no instance."""
    image = Image.fromarray(ids)
    image.thumbnail((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.NEAREST)
    colours = [bytes.fromhex(PALETTE[place % len(PALETTE)][1:]) for place in range(255)]
    image.putpalette(b"\0\0\0" + b"".join(colours))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", transparency=0, optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _voxels(coords: np.ndarray) -> str:
    """All x, then all y, then all z, deflated: columns of sorted coordinates are nearly constant."""
    return base64.b64encode(zlib.compress(np.ascontiguousarray(coords.T).tobytes(), 9)).decode()


def _plan(recipe: dict[str, Any]) -> dict[str, Any]:
    shown = ("disc_instances", "radii", "centres", "gap", "region", "expansions", "tries")
    return {
        **{name: recipe["layout"][name] for name in shown},
        "cameras": [_direction(camera["camera_to_world"], recipe["look_at"])[0] for camera in recipe["cameras"]],
        "look_at": recipe["look_at"][:2],
    }


def _footprints(sample: ViewSample) -> dict[str, Any]:
    """Outline of each instance from above: an SVG matrix from path units to world metres, and a path each.

    In a frame that keeps the vertical, the voxels' columns are squares of a turned grid, and the path is their
    union, run by run. Otherwise it is the convex hull of the voxels' centres.
    """
    to_world = np.linalg.inv(sample.world_to_view)
    parts = [sample.instance_coords(number + 1).astype(int) for number in range(sample.n_instances)]
    if np.allclose(to_world[:2, 2], 0, atol=1e-9 * np.abs(to_world[:3, :3]).max()):
        linear = to_world[:2, :2] / RESOLUTION
        shift = to_world[:2, 3] - to_world[:2, :2] @ (0.5, 0.5)
        matrix = [*linear.T.ravel(), *shift]
        paths = [_runs(coords[:, :2]) for coords in parts]
    else:
        matrix = [1, 0, 0, 1, 0, 0]
        paths = [
            _hull(((coords + 0.5) / RESOLUTION - 0.5) @ to_world[:3, :3].T[:, :2] + to_world[:2, 3]) for coords in parts
        ]
    return {"matrix": [round(float(value), 6) for value in matrix], "paths": paths}


def _runs(cells: np.ndarray) -> str:
    grid = np.zeros((RESOLUTION + 2, RESOLUTION), np.int8)
    grid[cells[:, 0] + 1, cells[:, 1]] = 1
    steps = np.diff(grid, axis=0)
    path = []
    for row in np.flatnonzero(grid.any(axis=0)):
        starts, ends = np.flatnonzero(steps[:, row] > 0), np.flatnonzero(steps[:, row] < 0)
        path += [f"M{start} {row}h{end - start}v1h{start - end}z" for start, end in zip(starts, ends)]
    return "".join(path)


def _hull(points: np.ndarray) -> str:
    """Convex hull (Andrew's monotone chain) as a closed path."""
    order = sorted(set(map(tuple, np.round(points, 4).tolist())))
    chains = []
    for sequence in (order, order[::-1]):
        chain: list[tuple[float, ...]] = []
        for x, y in sequence:
            while len(chain) > 1 and (
                (chain[-1][0] - chain[-2][0]) * (y - chain[-2][1]) <= (chain[-1][1] - chain[-2][1]) * (x - chain[-2][0])
            ):
                chain.pop()
            chain.append((x, y))
        chains += chain[:-1] if len(chain) > 1 else chain
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in chains) + "z" if chains else ""
