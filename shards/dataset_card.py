"""The dataset card: a README.md that says what a dataset holds and how to read it."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from randscene.shards.dataset import read_info, shard_files
from randscene.shards.shard_index import ShardIndex, read_indices
from randscene.shards.store import open_store

_MEMBERS = {
    "depth.png": "depth of each pixel, 16 bit; scale and offset in the json",
    "ids.png": "instance of each pixel: 0 background, i = instance i; hard ids",
    "json": "camera, view-centric frame, instances with licence and visibility",
    "latents.npy": "sparse-structure latents, (N+1, 8, 16, 16, 16) float16: the scene, then its instances",
    "rgb.webp": "picture on black, sRGB",
    "voxels.npz": "surface voxels of each instance in the 64^3 view-centric cube",
}

_READ = """## Reading

```python
from randscene.shards import open_dataset

dataset = open_dataset("{path}", split="{split}")
sample = dataset[0]                      # .rgb .ids .coords .offsets .latents .meta
for sample in dataset.ordered(seed=0):   # a shuffled pass that any process can resume
    ...
```

The shards are plain [WebDataset](https://github.com/webdataset/webdataset) tars and can be read without this package.
`recipes.jsonl` holds every scene's plan, `assets.lock.jsonl` every mesh with its hash and licence,
`ATTRIBUTION.md` the authors, `preview/index.html` (`randscene preview`) a page to look at.
"""


def write_card(folder: str | Path, info: dict[str, Any] | None = None) -> None:
    """Write `README.md`, the dataset card, into a dataset folder.

    Everything in it comes from `dataset.json` and the shard indexes, so that the same dataset gets the same bytes.

    Parameters
    ----------
    folder : path or URL
        Dataset folder.
    info : dict, optional
        Content of `dataset.json`; read from the folder by default.

    Raises
    ------
    DatasetError
        If the folder is no dataset or an index is corrupt.
    RandsceneError
        If the folder cannot be written.
    """
    store = open_store(folder)
    info = read_info(store) if info is None else info
    names, _, sizes = shard_files(store, None)
    indexes = read_indices(store, "shards", names, sizes)
    lines = [*_front_matter(info, indexes), f"# {info['name']}", "", _sentence(info), ""]
    lines += [*_splits(info, indexes), *_settings(info), *_members(indexes), *_objects(indexes)]
    first = next(iter(info["splits"]), "train")
    lines.append(_READ.format(path="path/to/this/folder", split=first))
    store.write("README.md", "\n".join(lines))


def _front_matter(info: dict[str, Any], indexes: list[ShardIndex]) -> list[str]:
    return [
        "---",
        f"pretty_name: {json.dumps(info['name'])}",
        "task_categories: [image-to-3d]",
        "tags: [webdataset, 3d-scene-generation, synthetic, randscene]",
        f"size_categories: [{_size_category(sum(len(index) for index in indexes))}]",
        "---",
        "",
    ]


def _size_category(samples: int) -> str:
    for limit, name in ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M")):
        if samples < limit:
            return name
    return "1M<n<10M"


def _sentence(info: dict[str, Any]) -> str:
    state = "" if info.get("complete") else " **This build is not finished.**"
    if isinstance(info.get("description"), str):
        return f"{info['description']}{state}"
    return (
        "Random, physically plausible scenes of separate objects, rendered from many sides, with per-instance masks "
        f"and view-centric voxels.{state} Fingerprint `{info['fingerprint'][:16]}`."
    )


def _splits(info: dict[str, Any], indexes: list[ShardIndex]) -> list[str]:
    lines = ["## Splits", "", "| split | scenes | samples | shards | size |", "|---|---:|---:|---:|---:|"]
    for name, count in info["splits"].items():
        size = sum(index.tar_bytes for index in indexes if index.header.get("split") == name)
        lines.append(
            f"| {name} | {count['scenes']:,} | {count['samples']:,} | {count['shards']:,} | {human_bytes(size)} |"
        )
    return [*lines, ""]


def _settings(info: dict[str, Any]) -> list[str]:
    spec = info.get("spec") or {}
    lines = ["## Settings", "", "| setting | value |", "|---|---|"]
    for section, values in sorted(spec.items()):
        if section == "splits":
            continue
        if not isinstance(values, dict):
            lines.append(f"| {section} | `{json.dumps(values)}` |")
            continue
        lines += [f"| {section}.{name} | `{json.dumps(value)}` |" for name, value in sorted(values.items())]
    lines += [f"| version of {name} | `{version}` |" for name, version in sorted((info.get("versions") or {}).items())]
    return [*lines, ""]


def _members(indexes: list[ShardIndex]) -> list[str]:
    total: dict[str, int] = {}
    count = sum(len(index) for index in indexes)
    for index in indexes:
        for name, size in zip(index.members, index.sizes.sum(axis=0).tolist()):
            total[name] = total.get(name, 0) + size
    lines = ["## A sample", "", "One view of one scene, key `{scene:06d}_{view:03d}`:", ""]
    lines += ["| member | content | mean size |", "|---|---|---:|"]
    lines += [
        f"| `{name}` | {_MEMBERS.get(name, '')} | {human_bytes(size / count)} |" for name, size in sorted(total.items())
    ]
    return [*lines, ""]


def _objects(indexes: list[ShardIndex]) -> list[str]:
    counts: dict[str, int] = {}
    for index in indexes:
        counts |= {key.partition("_")[0]: count for key, count in zip(index.keys, index.n_instances.tolist())}
    if not counts:
        return []
    numbers, scenes = np.unique(list(counts.values()), return_counts=True)
    lines = ["## Objects a scene", "", "| objects | " + " | ".join(map(str, numbers)) + " |"]
    lines += ["|---" * (len(numbers) + 1) + "|", "| scenes | " + " | ".join(f"{n:,}" for n in scenes) + " |"]
    return [*lines, ""]


def human_bytes(size: float) -> str:
    """A size for people: `1.4 MB`, in powers of 1,000."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
