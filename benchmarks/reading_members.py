"""How long each member of a sample takes to decode, by us and by the public `webdataset` package."""

import io
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import webdataset
from PIL import Image

from randscene import seeding
from randscene.shards import Dataset, decode_sample
from randscene.shards import sample_codec as codec


def sixteen_bits(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)), np.uint16)


def decoding(dataset: Dataset, count: int = 100) -> list[dict[str, Any]]:
    """Processor microseconds of decoding a member, ours and theirs, on `count` samples spread over the dataset."""
    places = np.linspace(0, len(dataset) - 1, count).astype(int)
    found = [dataset.members(int(place)) for place in places]
    rng = seeding.generator(0, "benchmark", "latents")
    counts = [len(json.loads(item["json"])["instances"]) for item in found]
    latents = [codec.npy_bytes(rng.standard_normal((n + 1, 8, 16, 16, 16), np.float32).astype("f2")) for n in counts]
    depths = [codec.png_bytes(depth_like(codec.image_array(i["ids.png"], kind="PNG", modes=("L",)))) for i in found]
    unpack = webdataset.autodecode.Decoder([])  # its own for everything but pictures
    rgb8, l8 = webdataset.imagehandler("rgb8", ["webp"]), webdataset.imagehandler("l8", ["png"])

    def basic(name: str, data: bytes) -> Any:
        return unpack({"__key__": "", name: data})[name]

    def npz(data: bytes) -> list[np.ndarray]:
        opened = basic("voxels.npz", data)
        return [opened[name] for name in ("coords", "offsets")]

    table: list[tuple[str, list[Any], Callable[[Any], Any], Callable[[Any], Any] | None]] = [
        ("rgb.webp", [item["rgb.webp"] for item in found],
         lambda data: codec.image_array(data, kind="WEBP", modes=("RGB",)), lambda data: rgb8("rgb.webp", data)),
        ("ids.png", [item["ids.png"] for item in found],
         lambda data: codec.image_array(data, kind="PNG", modes=("L",)), lambda data: l8("ids.png", data)),
        ("voxels.npz", [item["voxels.npz"] for item in found],
         lambda data: codec.npz_arrays(data, ("coords", "offsets")), npz),
        ("json", [item["json"] for item in found], json.loads, lambda data: basic("json", data)),
        ("depth.png, 16 bits", depths,
         lambda data: codec.image_array(data, kind="PNG", modes=("I;16", "I;16B", "I")), sixteen_bits),
        ("latents.npy", latents, codec.npy_array, lambda data: basic("latents.npy", data)),
        ("a sample, checks included", found, decode_sample, None),
    ]  # fmt: skip
    runs = []
    print(f"\n{'decoding, processor µs':<28}{'bytes':>10}{'ours':>10}{'webdataset':>12}")
    for name, items, ours, theirs in table:
        ours_us, theirs_us = (microseconds(work, items) if work else None for work in (ours, theirs))
        size = statistics.mean(sum(map(len, i.values())) if isinstance(i, dict) else len(i) for i in items)
        runs.append({"row": f"decode: {name}", "bytes": size, "ours_us": ours_us, "theirs_us": theirs_us})
        other = f"{theirs_us:>12,.0f}" if theirs_us is not None else ""
        print(f"{name:<28}{size:>10,.0f}{ours_us:>10,.0f}{other}", flush=True)
    return runs


def depth_like(ids: np.ndarray) -> np.ndarray:
    """(H, W) uint16 as smooth as a depth picture, where `ids` are not 0: for its size and cost alone."""
    rows, columns = np.indices(ids.shape)
    return np.where(ids > 0, 20_000 + 37 * rows + 11 * columns + 3_000 * ids.astype(np.int64), 0).astype(np.uint16)


def microseconds(work: Callable[[Any], Any], items: list[Any]) -> float:
    """Median over five passes of the mean of an item; the first pass, which loads decoders, is left out."""
    passes = []
    for _ in range(6):
        begun = time.process_time()
        for item in items:
            work(item)
        passes.append(1e6 * (time.process_time() - begun) / len(items))
    return statistics.median(passes[1:])
