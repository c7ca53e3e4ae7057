"""Packs of the preview page: some scenes with all that their page shows, and sheets of their pictures beside.

A browser that opens a page from a disk may load scripts and pictures but read no other file. So labels, voxels and
recipes travel as a script of one call, and pictures in sheets of equal cells: small ones for the overview, larger ones
for the scene.
"""

import base64
import io
import json
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from randscene import canonical_json
from randscene.shards.preview_index import SceneRow
from randscene.shards.preview_plan import footprints, plan
from randscene.shards.view_sample import RESOLUTION, ViewSample

FORMAT = 2
"""Raised whenever the bytes of a pack change meaning, so that older ones are made anew."""
COLUMNS = 6
SHEET = 36
"""Pictures a sheet, and those in a row of it."""
PACK_VIEWS = 36
"""A pack takes scenes until it has so many views."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureSizes:
    """Pixels of the pictures on the page, and WebP's quality for both."""

    thumbnail: int
    picture: int
    thumbnail_quality: int = 72
    picture_quality: int = 80


def sizes_for(views: int, resolution: int) -> PictureSizes:
    """Sizes that keep a page of `views` views within some tens of megabytes, none above the `resolution` in pixels."""
    if views <= 400:
        sizes = PictureSizes(thumbnail=144, picture=384, picture_quality=84)
    elif views <= 2500:
        sizes = PictureSizes(thumbnail=128, picture=288)
    else:
        sizes = PictureSizes(thumbnail=112, picture=224, thumbnail_quality=66, picture_quality=74)
    return replace(sizes, thumbnail=min(sizes.thumbnail, resolution), picture=min(sizes.picture, resolution))


@dataclass(frozen=True, kw_only=True, slots=True)
class Pack:
    """Some scenes in a row, and the name of the files that hold them."""

    name: str
    """`{key of the first view}-{12 hex digits}`; the digits name all that goes into the files."""
    rows: tuple[SceneRow, ...]
    indices: tuple[tuple[int, ...], ...]
    """Indices of each scene's views in the dataset."""

    @property
    def views(self) -> int:
        """Number of views."""
        return sum(map(len, self.indices))

    @property
    def sheets(self) -> int:
        """Sheets of thumbnails, and as many of pictures."""
        return -(-self.views // SHEET)

    @property
    def files(self) -> tuple[str, ...]:
        """Names of all its files."""
        return (f"{self.name}.js", *(f"{self.name}-{kind}{n}.webp" for kind in "tp" for n in range(self.sheets)))


def grouped(
    rows: Sequence[SceneRow],
    indices: Sequence[Sequence[int]],
    recipes: dict[int, dict[str, Any]],
    *,
    sizes: PictureSizes,
    origin: Callable[[int], str],
) -> list[Pack]:
    """Scenes in their order, dealt into packs.

    Parameters
    ----------
    rows, indices : sequence
        Each scene's row and the dataset's indices of its views.
    recipes : dict
        By scene index.
    sizes : PictureSizes
    origin : callable
        Names the bytes that the sample of an index comes from.
    """
    packs, begin, total = list[Pack](), 0, 0
    for end in range(1, len(rows) + 1):
        total += len(indices[end - 1])
        if total < PACK_VIEWS and end < len(rows):
            continue
        members = tuple(rows[begin:end])
        content = [
            *(FORMAT, SHEET, COLUMNS, sizes),
            [(row, recipes.get(row.scene)) for row in members],
            [origin(index) for places in indices[begin:end] for index in places],
        ]
        packs.append(
            Pack(
                name=f"{members[0].scene:06d}_{members[0].views[0]:03d}-{canonical_json.digest(content)[:12]}",
                rows=members,
                indices=tuple(map(tuple, indices[begin:end])),
            )
        )
        begin, total = end, 0
    return packs


@dataclass(frozen=True, kw_only=True, slots=True)
class PackContent:
    """What a pack holds."""

    labels: bytes
    """Deflated: the length of a JSON (uint32, little-endian), the JSON, the binary parts that it points into."""
    sheets: dict[str, bytes]
    """WebP files by name."""


def as_script(pack: Pack, labels: bytes) -> bytes:
    """The labels as a script that hands them to the page."""
    return f'randscenePack("{pack.name}","{base64.b64encode(labels).decode()}")\n'.encode()


def make_pack(
    pack: Pack, read: Callable[[int], ViewSample], recipes: dict[int, dict[str, Any]], sizes: PictureSizes
) -> PackContent:
    """Read the samples of a pack and make what it holds.

    Parameters
    ----------
    pack : Pack
    read : callable
        Sample of an index.
    recipes : dict
        By scene index, plain JSON.
    sizes : PictureSizes
    """
    scenes, blobs = list[dict[str, Any]](), _Blobs()
    small, large = _Sheets(sizes.thumbnail), _Sheets(sizes.picture)
    for row, indices in zip(pack.rows, pack.indices):
        views, outline = list[dict[str, Any]](), None
        for place, index in enumerate(indices):
            sample = read(index)
            outline = outline or footprints(sample)
            picture = Image.fromarray(sample.rgb)
            small.add(picture)
            width, height = large.add(picture)
            ids = Image.fromarray(sample.ids).resize((width, height), Image.Resampling.NEAREST)
            items = sample.meta["instances"]
            views.append(
                {
                    "view": row.views[place],
                    "direction": row.directions[place],
                    "frame": sample.meta.get("frame", ""),
                    "size": [width, height],
                    "ids": blobs.add(ids.tobytes()),
                    "voxels": blobs.add(voxel_steps(sample.coords, sample.offsets)),
                    "ends": sample.offsets[1:].tolist(),
                    "visible": [item["visible_pixels"] for item in items],
                    "unoccluded": [item.get("unoccluded_pixels") for item in items],
                }
            )
        recipe = recipes.get(row.scene)
        scenes.append(
            {
                "scene": row.scene,
                "instances": row.instances,
                "footprints": outline,
                "plan": plan(recipe) if recipe else None,
                "recipe": canonical_json.dumps(recipe) if recipe else None,
                "views": views,
            }
        )
    sheets = {f"{pack.name}-t{n}.webp": data for n, data in enumerate(small.saved(sizes.thumbnail_quality))}
    sheets |= {f"{pack.name}-p{n}.webp": data for n, data in enumerate(large.saved(sizes.picture_quality))}
    head = json.dumps({"scenes": scenes}, separators=(",", ":")).encode()
    return PackContent(labels=zlib.compress(struct.pack("<I", len(head)) + head + bytes(blobs.data), 6), sheets=sheets)


def voxel_steps(coords: NDArray[Any], offsets: NDArray[Any]) -> bytes:
    """Voxels as steps along the cube's cells, which take two thirds of what coordinates take once deflated.

    Parameters
    ----------
    coords : np.ndarray
        (V, 3) uint8 voxels of all instances, one after the other.
    offsets : np.ndarray
        (N + 1,) int32.

    Returns
    -------
    bytes
        For each instance, its cells `(x * 64 + y) * 64 + z` in rising order; each as its distance from the one before
        (the first from 0), seven bits a byte from the lowest, the high bit set where another byte follows.
    """
    cells = (coords.astype(np.int64) * (RESOLUTION**2, RESOLUTION, 1)).sum(axis=1)
    steps = [np.diff(np.sort(cells[start:end]), prepend=0) for start, end in pairwise(offsets.tolist())]
    values = np.concatenate(steps) if steps else cells
    parts = values[:, None] >> (0, 7, 14) & 127
    used = np.stack([np.ones(len(values), bool), values >= 1 << 7, values >= 1 << 14], axis=1)
    more = np.concatenate([used[:, 1:], np.zeros((len(values), 1), bool)], axis=1)
    return bytes((parts | more << 7)[used].astype(np.uint8))


class _Blobs:
    """Binary parts, one after the other; each is named by its first byte and its length."""

    def __init__(self) -> None:
        self.data = bytearray()

    def add(self, part: bytes) -> list[int]:
        self.data += part
        return [len(self.data) - len(part), len(part)]


class _Sheets:
    """Pictures pasted into sheets of square cells, each as large as its cell allows, never larger than it is."""

    def __init__(self, cell: int) -> None:
        self._cell = cell
        self._sheets = list[Image.Image]()
        self._count = 0

    def add(self, picture: Image.Image) -> tuple[int, int]:
        """Paste a picture into the middle of the next cell; returns its width and height there."""
        place = self._count % SHEET
        if place == 0:
            self._sheets.append(Image.new("RGB", (COLUMNS * self._cell, SHEET // COLUMNS * self._cell)))
        self._count += 1
        shown = picture.copy()
        shown.thumbnail((self._cell, self._cell), Image.Resampling.LANCZOS)
        across, down = ((self._cell - side) // 2 for side in shown.size)
        self._sheets[-1].paste(shown, (place % COLUMNS * self._cell + across, place // COLUMNS * self._cell + down))
        return shown.size

    def saved(self, quality: int) -> list[bytes]:
        """The sheets as WebP; the last one is cut below its last picture."""
        saved = []
        for number, sheet in enumerate(self._sheets):
            rows = -(-min(SHEET, self._count - number * SHEET) // COLUMNS)
            buffer = io.BytesIO()
            sheet.crop((0, 0, sheet.width, rows * self._cell)).save(buffer, "WEBP", quality=quality, method=4)
            saved.append(buffer.getvalue())
        return saved
