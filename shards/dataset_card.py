"""The dataset card: a README.md in the Hub's form that says what a dataset holds, how to read it, and its terms."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from randscene.errors import DatasetError
from randscene.shards.asset_lock import LOCK
from randscene.shards.card_metadata import CREDITS, front_matter, licences_of, not_commercial
from randscene.shards.dataset import Dataset, open_dataset, shard_files
from randscene.shards.dataset_info import read_info
from randscene.shards.latent_sidecar import sidecar_folder, whole_sets
from randscene.shards.shard_index import ShardIndex, instances_by_scene, read_indices
from randscene.shards.store import Store, open_store

log = logging.getLogger(__name__)

FIGURES = "card"
"""Folder of the card's pictures."""
VIEWS, CHARTS = "views.webp", "charts.png"

_MEMBERS = {
    "depth.png": "depth of each pixel along the camera's axis, 16 bit; `depth` in the json has scale and offset",
    "ids.png": "instance of each pixel: 0 background, i = instance i; hard ids, never antialiased",
    "json": "camera, view-centric frame, instances with asset, licence, credit, visible pixels and pose",
    "latents.npy": "sparse-structure latents, (N+1, 8, 16, 16, 16) float16: the scene, then its instances",
    "rgb.webp": "picture on black, sRGB",
    "voxels.npz": "`coords` (V, 3) uint8 and `offsets` (N+1,): surface voxels of each instance in the cube",
}
_OTHER_FILES = {
    "dataset.json": "spec, fingerprint, versions, counts",
    "recipes.jsonl": "every scene's plan: instances, poses, lights, cameras",
    "rooms.jsonl": "every room's objects and views",
    LOCK: "every mesh with its SHA-256, licence and origin",
    CREDITS: "the authors",
    "SHA256SUMS": "hashes of the shards, for `sha256sum --check SHA256SUMS`",
}
"""Files that every build of the same dataset has: the card must not tell how often one failed, or was looked at."""

_READ = """## Reading

The folder is this one: `folder = huggingface_hub.snapshot_download("OWNER/NAME", repo_type="dataset")` fetches it.

With randscene, by index or in a shuffled order that any process can resume:

```python
from randscene.shards import open_dataset

folder = "."
dataset = open_dataset(folder, split="{split}")
sample = dataset[0]
print(sample.rgb.shape, sample.ids.max(), sample.instance_coords(1).shape)
print(sample.meta["instances"][0]["uid"], sample.meta["instances"][0]["visible_pixels"])
for sample in dataset.ordered(seed=0):
    break
```

With plain [webdataset](https://github.com/webdataset/webdataset), since the shards are its tars:

```python
import glob
import io
import json

import numpy as np
import webdataset
from PIL import Image

for sample in webdataset.WebDataset(sorted(glob.glob("shards/{split}-*.tar")), shardshuffle=False):
    rgb = np.asarray(Image.open(io.BytesIO(sample["rgb.webp"])))
    ids = np.asarray(Image.open(io.BytesIO(sample["ids.png"])))
    voxels = np.load(io.BytesIO(sample["voxels.npz"]))
    first = voxels["coords"][voxels["offsets"][0] : voxels["offsets"][1]]
    meta = json.loads(sample["json"])
    instance_picture = rgb * (ids == 1)[..., None]
    break
```

With `datasets`, e.g. to stream it from the Hub: `datasets.load_dataset("OWNER/NAME", split="{split}", streaming=True)`.
"""

_FRAMES = """## Frames and units

* World: right-handed, Z up, metres. Camera: looks down its -Z, +Y up; `camera_to_world` is 4x4, `intrinsics` in pixels.
* View-centric cube [-0.5, 0.5]^3: the scene turned about the vertical (frame `yaw`) until the camera is on the -Y side
  (+X right in the picture, +Y away, +Z up), then moved and scaled as a whole to fit. `world_to_view` (4x4) does it.
  Instances keep their place and size in the scene's cube.
* Voxels: 64 a side, index (x, y, z), the centre of voxel i at (i + 0.5) / 64 - 0.5. The scene is the union of its
  instances.
"""


def write_card(folder: str | Path, *, pictures: bool = True) -> None:
    """Write `README.md`, the dataset card, and its pictures in `card/` into a dataset folder.

    Everything in it comes from `dataset.json`, the lock, the shard indexes, a few samples and the indexes of latents
    beside the shards, so that the same dataset gets the same bytes; those of the pictures also depend on the version of
    Pillow, which the fingerprint holds.

    Parameters
    ----------
    folder : path or URL
        Dataset folder.
    pictures : bool
        Draw the pictures, which is for the sole writer of the dataset; otherwise those that there are stay. The text
        may be written by several processes at once: the last one has seen all latents that are there.

    Raises
    ------
    DatasetError
        If the folder is no dataset, or an index or the lock is corrupt.
    RandsceneError
        If the folder cannot be written.
    """
    store = open_store(folder)
    info = read_info(store)
    names, _, sizes = shard_files(store, None)
    shards = dict(zip(names, read_indices(store, "shards", names, sizes)))
    indexes = list(shards.values())
    licences = licences_of(store, info)
    split = _first_split(info, indexes)
    dataset, meta = None, None
    if any(len(index) for index in indexes):
        try:
            dataset = open_dataset(store.url, split=split)
            meta = dataset[0].meta
        except DatasetError as error:
            log.warning("the dataset card shows no views: %s", error)
    shown = _write_pictures(store, indexes, dataset) if pictures else {VIEWS, CHARTS}.intersection(store.sizes(FIGURES))
    above = [
        front_matter(info, indexes, licences, meta),
        f"# {info['name']}\n",
        f"{_sentence(info)}\n",
        _picture(VIEWS, "Views of some scenes, and the instances that each pixel shows", shown),
        _splits(info, indexes),
        _objects(indexes),
        _picture(CHARTS, "Objects a scene, and how well the least visible object of a view can be seen", shown),
        _members(indexes),
    ]
    below = [
        _READ.format(split=split) if dataset is not None else "",
        *(_FRAMES, _licences(licences), _origin(info), _files(store), _limits(info, licences), _settings(info)),
    ]
    told = None
    while told != (latents := _latents(store, shards, split)):  # more may have come since they were looked at
        told = latents
        store.write("README.md", "\n".join(part for part in [*above, latents, *below] if part))


def _write_pictures(store: Store, indexes: list[ShardIndex], dataset: Dataset | None) -> set[str]:
    """Write the card's pictures; the names of those that there are."""
    # Only here: whoever needs the text alone need not load what draws.
    from randscene.shards.card_figures import charts, view_sheet
    from randscene.shards.commit import remove_leftovers

    made: dict[str, bytes | None] = {VIEWS: None, CHARTS: charts(indexes)}
    if dataset is not None:
        try:
            made[VIEWS] = view_sheet(dataset)
        except DatasetError as error:
            log.warning("the dataset card shows no views: %s", error)
    remove_leftovers(store, [FIGURES])
    for name, data in made.items():
        if data is None:
            store.remove(f"{FIGURES}/{name}")
        else:
            store.write(f"{FIGURES}/{name}", data)
    return {name for name, data in made.items() if data is not None}


def _first_split(info: dict[str, Any], indexes: list[ShardIndex]) -> str:
    """The first split that has samples: `train` where that is one."""
    filled = {index.header.get("split") for index in indexes if len(index)}
    names = [name for name in info["splits"] if name in filled]
    return "train" if "train" in names or not names else names[0]


def _picture(name: str, words: str, there: set[str]) -> str:
    return f"![{words}]({FIGURES}/{name})\n" if name in there else ""


def _sentence(info: dict[str, Any]) -> str:
    state = "" if info.get("complete") else "\n\n**This build is not finished.**"
    if isinstance(info.get("description"), str):
        return f"{info['description']}{state}"
    kind = "Random" if set(_arrangements(info).values()) <= {"random"} else "Random and arranged"
    return (
        f"{kind}, physically plausible scenes of separate objects, rendered from many sides. Every picture has hard "
        "instance masks, every object its view-centric voxels, pose, licence and credit: made to train and to score "
        f"models that turn one picture into a 3D scene.{state}"
    )


def _arrangements(info: dict[str, Any]) -> dict[str, str]:
    """How the scenes of each split are arranged; `random` where nothing is said."""
    splits = (info.get("spec") or {}).get("splits") or {}
    return {name: str((splits.get(name) or {}).get("arrangement", "random")) for name in info["splits"]}


def _splits(info: dict[str, Any], indexes: list[ShardIndex]) -> str:
    arranged = _arrangements(info)
    told = set(arranged.values()) - {"random"}
    head = ["split", *(["arrangement"] if told else []), "scenes", "samples", "shards", "size"]
    rule = "|---" * (2 if told else 1) + "|---:" * 4 + "|"
    lines = ["## Splits", "", f"| {' | '.join(head)} |", rule]
    for name, count in info["splits"].items():
        size = sum(index.tar_bytes for index in indexes if index.header.get("split") == name)
        cells = [name, *([arranged[name].replace("_", " ")] if told else [])]
        cells += [f"{count[what]:,}" for what in ("scenes", "samples", "shards")]
        lines.append(f"| {' | '.join([*cells, human_bytes(size)])} |")
    return "\n".join([*lines, ""])


def _objects(indexes: list[ShardIndex]) -> str:
    counts = instances_by_scene(indexes)
    if not counts:
        return ""
    numbers, scenes = np.unique(list(counts.values()), return_counts=True)
    lines = ["## Objects a scene", "", "| objects | " + " | ".join(map(str, numbers)) + " |"]
    lines += ["|---" * (len(numbers) + 1) + "|", "| scenes | " + " | ".join(f"{n:,}" for n in scenes) + " |"]
    return "\n".join([*lines, ""])


def _members(indexes: list[ShardIndex]) -> str:
    total: dict[str, int] = {}
    count = sum(len(index) for index in indexes)
    for index in indexes:
        for name, size in zip(index.members, index.sizes.sum(axis=0).tolist()):
            total[name] = total.get(name, 0) + size
    lines = ["## A sample", "", "One view of one scene, key `{scene:06d}_{view:03d}`:", ""]
    lines += ["| member | content | mean size |", "|---|---|---:|"]
    lines += [
        f"| `{name}` | {_MEMBERS.get(name, '')} | {human_bytes(size / max(count, 1))} |"
        for name, size in sorted(total.items())
    ]
    note = "The picture of an instance is `rgb * (ids == i)`. A view in which an object shows no pixel is no sample."
    return "\n".join([*lines, "", note, ""])


def _latents(store: Store, shards: Mapping[str, ShardIndex], split: str) -> str:
    """The section on latents beside the shards; empty where there are none."""
    sets = whole_sets(store, shards)
    if not sets:
        return ""
    words = (
        "Beside the shards lie sparse-structure latents of every sample: of its scene, then of its instances, "
        "(N+1, 8, 16, 16, 16) float16. Their tars have the keys of the shards, in the same order."
    )
    lines = ["## Latents", "", words, "", "| encoder | SHA-256 of its weights | folder | size |", "|---|---|---|---:|"]
    for item in sets:
        size = human_bytes(sum(index.tar_bytes for index in item.shards.values()))
        lines.append(f"| {item.label} | `{item.sha256}` | `{sidecar_folder(item.sha256)}` | {size} |")
    read = f'dataset = open_dataset(".", split="{split}", latents="{sets[0].sha256[:12]}")'
    lines += ["", "```python", "from randscene.shards import open_dataset", "", read, "print(dataset[0].latents.shape)"]
    return "\n".join([*lines, "```", ""])


def _licences(licences: dict[str, int]) -> str:
    if not licences:
        return ""
    lines = ["## Licences", "", "| licence of the assets | assets |", "|---|---:|"]
    lines += [f"| {name} | {count:,} |" if count else f"| {name} | |" for name, count in licences.items()]
    kept = f"The authors are named in [{CREDITS}]({CREDITS}), and with every instance in a sample's `json`."
    if not_commercial(licences):
        kept += " **Not for commercial use.**"
    if any("-SA" in name for name in licences):
        kept += " What is derived from share-alike assets keeps their licence."
    return "\n".join([*lines, "", kept, ""])


def _origin(info: dict[str, Any]) -> str:
    lines = ["## How it was made", ""]
    spec = info.get("spec") or {}
    if "lock_sha256" in info and "render" in spec:
        lines += [
            "By randscene; the same versions, spec and asset lock give the same "
            "bytes (pictures of Blender on the same kind of processor):",
            "",
            "```bash",
            "python -c \"import json; print(json.dumps(json.load(open('dataset.json'))['spec']))\" > spec.yaml",
            f"randscene generate spec.yaml --assets {LOCK} --out again",
            "```",
            "",
        ]
    lines += ["| | |", "|---|---|"]
    if "seed" in spec:
        lines.append(f"| seed | `{spec['seed']}` |")
    lines.append(f"| fingerprint | `{info['fingerprint']}` |")
    if "lock_sha256" in info:
        lines.append(f"| asset lock | `{info['lock_sha256']}` |")
    lines += [f"| version of {name} | `{version}` |" for name, version in sorted((info.get("versions") or {}).items())]
    return "\n".join([*lines, ""])


def _files(store: Store) -> str:
    there = store.sizes("")
    lines = [f"* [{name}]({name}): {words}" for name, words in _OTHER_FILES.items() if name in there]
    page = "`randscene preview .` writes a page to look at, without a server: `preview/index.html`."
    return "\n".join(["## Other files", "", *lines, "", page, ""]) if lines else ""


def _limits(info: dict[str, Any], licences: dict[str, int]) -> str:
    spec = info.get("spec") or {}
    lines = [
        "An object counts as visible from its first pixel on: filter by `visible_pixels` and `unoccluded_pixels`.",
        "Voxels are surfaces, 64 a side of the whole scene: small objects get few of them, thin parts close up.",
    ]
    if set(_arrangements(info).values()) <= {"random"} and not info.get("source"):
        lines.insert(0, "Scenes are random and carry no meaning: what stands beside what teaches no habits of rooms.")
    if (spec.get("shards") or {}).get("webp_quality"):
        lines.append(
            f"Pictures are lossy WebP of quality {spec['shards']['webp_quality']}; masks and voxels are exact."
        )
    if (spec.get("ground") or {}).get("kind") == "none":
        lines.append("There is no ground in the pictures: objects float on black, without shadows on a floor.")
    if (spec.get("render") or {}).get("engine") == "raycast":
        lines.append("Pictures are previews by a ray caster: direct light with hard shadows, no path tracing.")
    if (spec.get("frame") or {}).get("name", "yaw") != "yaw":
        lines.append(f"Voxels are in the frame `{spec['frame']['name']}`, not in the view-centric `yaw`.")
    if "NOASSERTION" in licences:
        lines.append("Some assets state no licence: find out before you pass anything on.")
    return "\n".join(["## Known limits", "", *(f"* {line}" for line in lines), ""])


def _settings(info: dict[str, Any]) -> str:
    spec = info.get("spec") or {}
    lines = ["<details><summary>All settings</summary>", "", "| setting | value |", "|---|---|"]
    for section, values in sorted(spec.items()):
        if section == "splits":
            continue
        if not isinstance(values, dict):
            lines.append(f"| {section} | `{json.dumps(values)}` |")
            continue
        lines += [f"| {section}.{name} | `{json.dumps(value)}` |" for name, value in sorted(values.items())]
    return "\n".join([*lines, "", "</details>", ""])


def human_bytes(size: float) -> str:
    """A size for people: `1.4 MB`, in powers of 1,000."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"
