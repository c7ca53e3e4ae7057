"""Pictures of a dataset card: a sheet of views with their masks, and charts of the whole. Pillow draws them, so their
bytes are those of one version of Pillow; the version is part of a dataset's fingerprint."""

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from randscene.shards.dataset import Dataset
from randscene.shards.preview_data import PALETTE, spread
from randscene.shards.shard_index import ShardIndex, instances_by_scene

SCENES = 6
TILE, GAP = 192, 4
"""Side of a picture on the sheet, and the room between two, pixels."""
PANEL = (380, 250)
"""Width and height of one chart, pixels."""
INK, FAINT, BAR, PAPER = (60, 60, 60), (214, 214, 214), (64, 120, 180), (255, 255, 255)


def view_sheet(dataset: Dataset) -> bytes | None:
    """A WebP picture: views of up to `SCENES` scenes, spread over the dataset, above their instance masks.

    Of each scene the view that shows its least visible instance best.

    Raises
    ------
    DatasetError
        If a sample cannot be read.
    """
    chosen = _best_views(dataset)
    if not chosen:
        return None
    width = len(chosen) * (TILE + GAP) - GAP
    sheet = Image.new("RGB", (width, 2 * TILE + GAP))
    for column, index in enumerate(chosen):
        sample = dataset[index]
        place = column * (TILE + GAP)
        picture = Image.fromarray(sample.rgb).resize((TILE, TILE), Image.Resampling.LANCZOS)
        ids = np.asarray(Image.fromarray(sample.ids).resize((TILE, TILE), Image.Resampling.NEAREST))
        sheet.paste(picture, (place, 0))
        sheet.paste(Image.fromarray(_mask(np.asarray(picture), ids)), (place, TILE + GAP))
    return _encoded(sheet, "WEBP", quality=88, method=4)


def charts(indexes: Sequence[ShardIndex]) -> bytes | None:
    """A PNG picture: objects a scene, and how well the least visible object of a view can be seen."""
    filled = [index for index in indexes if len(index)]
    if not filled:
        return None
    counts = np.array(list(instances_by_scene(filled).values()))
    pixels = np.concatenate([index.min_visible_pixels for index in filled])
    ratios = [index.min_visible_ratio for index in filled if index.min_visible_ratio is not None]
    panels: list[Callable[[ImageDraw.ImageDraw, int], None]] = [
        lambda draw, left: _bars(
            draw,
            left,
            "objects a scene",
            np.bincount(counts)[counts.min() :],
            [str(number) for number in range(counts.min(), counts.max() + 1)],
        ),
        lambda draw, left: _bars(draw, left, "pixels of a view's smallest object", *_doublings(pixels)),
    ]
    if ratios:
        shares = np.histogram(100 * np.concatenate(ratios), bins=10, range=(0, 100))[0]
        ticks = [str(10 * number) for number in range(11)]
        panels.insert(
            1, lambda draw, left: _bars(draw, left, "visible % of a view's most hidden object", shares, ticks)
        )
    picture = Image.new("RGB", (PANEL[0] * len(panels), PANEL[1]), PAPER)
    draw = ImageDraw.Draw(picture)
    for number, panel in enumerate(panels):
        panel(draw, number * PANEL[0])
    return _encoded(picture.quantize(64), "PNG", optimize=True)


def _best_views(dataset: Dataset) -> list[int]:
    """Indices of the views on the sheet, one a scene."""
    best: dict[int, tuple[int, str, int]] = {}
    first = 0
    for shard in dataset.shards:
        for row, (key, pixels) in enumerate(zip(shard.index.keys, shard.index.min_visible_pixels.tolist())):
            scene = int(key.partition("_")[0])
            # Of equal views the first one, whatever the order in the shard.
            if scene not in best or (-pixels, key) < best[scene][:2]:
                best[scene] = (-pixels, key, first + row)
        first += len(shard.index)
    return [best[scene][2] for scene in spread(sorted(best), SCENES)]


def _mask(rgb: NDArray[Any], ids: NDArray[Any]) -> NDArray[Any]:
    """(H, W, 3) uint8: the instances in their colours over the greyed picture, with dark lines between them."""
    colours = np.array([(0, 0, 0), *(_rgb(PALETTE[place % len(PALETTE)]) for place in range(255))], float)
    grey = rgb.mean(axis=-1, keepdims=True)
    painted = np.where(ids[..., None] > 0, 0.7 * colours[ids] + 0.3 * grey, 0.0)
    edge = np.zeros(ids.shape, bool)
    edge[1:] |= ids[1:] != ids[:-1]
    edge[:, 1:] |= ids[:, 1:] != ids[:, :-1]
    painted[edge] *= 0.4
    return painted.round().astype(np.uint8)


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(colour[1:]))


def _doublings(values: NDArray[Any]) -> tuple[NDArray[Any], list[str]]:
    """Counts of positive whole numbers in [1, 2), [2, 4), ..., and the bounds as words."""
    powers = np.frexp(values.astype(float))[1] - 1
    low, high = int(powers.min()), int(powers.max())
    return np.bincount(powers - low, minlength=high - low + 1), [_short(2**power) for power in range(low, high + 2)]


def _short(value: int) -> str:
    return f"{value // 1024}Ki" if value >= 1024 else str(value)


def _bars(draw: ImageDraw.ImageDraw, left: int, title: str, counts: NDArray[Any], ticks: Sequence[str]) -> None:
    """One chart. As many ticks as counts stand below their bars; one more stand between them."""
    font, small = ImageFont.load_default(15), ImageFont.load_default(11)
    x0, x1, y0, y1 = left + 46, left + PANEL[0] - 16, 40, PANEL[1] - 34
    draw.text((x0, 12), title, INK, font)
    top = int(counts.max())
    for level in sorted({0, top // 2, top}):
        y = y1 - (y1 - y0) * level // max(top, 1)
        draw.line([(x0, y), (x1, y)], FAINT)
        draw.text((x0 - 6, y), f"{level:,}", INK, small, anchor="rm")
    step = (x1 - x0) / len(counts)
    for place, count in enumerate(counts.tolist()):
        if count:
            height = max(1, (y1 - y0) * count // top)
            draw.rectangle([round(x0 + place * step) + 1, y1 - height, round(x0 + (place + 1) * step) - 1, y1 - 1], BAR)
    shift = 0.5 if len(ticks) == len(counts) else 0.0
    every = -(-len(ticks) // 12)
    for place, tick in enumerate(ticks):
        if place % every == 0:
            draw.text((round(x0 + (place + shift) * step), y1 + 12), tick, INK, small, anchor="mm")


def _encoded(image: Image.Image, kind: str, **options: int | bool) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
