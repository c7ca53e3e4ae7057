"""What the Hub reads of a dataset card: the YAML front matter, and the licences that it is derived from."""

import re
from collections import Counter
from typing import Any

import yaml

from randscene.shards.asset_lock import read_records
from randscene.shards.shard_index import ShardIndex
from randscene.shards.store import Store

CREDITS = "ATTRIBUTION.md"
HUB_LICENCES = frozenset(
    {
        *("apache-2.0", "mit", "unlicense", "odc-by", "odbl", "pddl", "gpl-3.0", "cc0-1.0"),
        *(f"cc-by-{version}" for version in ("2.0", "2.5", "3.0", "4.0")),
        *("cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nd-4.0"),
        *("cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0"),
        *("cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0"),
    }
)
"""SPDX identifiers, in lower case, that the Hub knows by the same name."""
_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
_TYPES: dict[str, dict[str, Any]] = {
    "depth.png": {"dtype": "image"},
    "ids.png": {"dtype": "image"},
    "latents.npy": {"list": {"list": {"list": {"list": {"list": "float16"}}}}},
    "rgb.webp": {"dtype": "image"},
    "voxels.npz": {"struct": [{"name": "coords", "list": {"list": "uint8"}}, {"name": "offsets", "list": "int32"}]},
}
"""What the library `datasets` decodes members to."""
_WHOLE = frozenset({"schema", "scene", "view", "attempt", "support_parent", "visible_pixels", "unoccluded_pixels"})
"""Fields of the json that hold whole numbers, or null; all other numbers are real ones."""
_NOT_COMMERCIAL = re.compile(r"(^|-)NC(-|$)|LicenseRef-3D-FRONT")


def licences_of(store: Store, info: dict[str, Any]) -> dict[str, int]:
    """SPDX expression to the number of usable assets under it, most frequent first.

    Counted in the dataset's lock; an imported dataset without one has one licence, whose count is then 0.

    Raises
    ------
    DatasetError
        If a line of the lock is not a record.
    """
    usable = read_records(store, lambda record: str(record["licence"]) if record["status"] == "ok" else None)
    if usable is None:
        licence = (info.get("spec") or {}).get("licence")
        return {str(licence): 0} if licence else {}
    counts = Counter(licence for licence in usable if licence is not None)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def not_commercial(licences: dict[str, int]) -> bool:
    """Whether one of the licences forbids commercial use."""
    return any(_NOT_COMMERCIAL.search(name) for name in licences)


def front_matter(
    info: dict[str, Any], indexes: list[ShardIndex], licences: dict[str, int], meta: dict[str, Any] | None
) -> str:
    """The YAML block at the head of a card, its fences included.

    `configs` names the tars of each split, since the folder holds other files that the Hub would take for data.
    `dataset_info` states the type of each member: the library `datasets` would guess them from the first five samples,
    and stop at the first object that stands on another one when these have none.

    Parameters
    ----------
    info : dict
        Content of `dataset.json`.
    indexes : list of ShardIndex
    licences : dict
        As `licences_of` gives them.
    meta : dict, optional
        The json of a sample.
    """
    samples = sum(len(index) for index in indexes)
    filled = [name for name in info["splits"] if any(len(i) and i.header.get("split") == name for i in indexes)]
    fields: dict[str, Any] = {
        "pretty_name": info["name"],
        **_licence(licences),
        "task_categories": ["image-to-3d"],
        "tags": ["webdataset", "3d", "3d-scene-generation", "synthetic", "instance-segmentation", "randscene"],
        "size_categories": [next((name for limit, name in _SIZES if samples < limit), "10M<n<100M")],
    }
    if filled:
        files = [{"split": name, "path": f"shards/{name}-*.tar"} for name in filled]
        fields["configs"] = [{"config_name": "default", "data_files": files}]
    members = sorted({name for index in indexes for name in index.members})
    if meta is not None and set(members) <= {*_TYPES, "json"}:
        columns = [_feature(name, meta) if name == "json" else {"name": name, **_TYPES[name]} for name in members]
        columns += [{"name": name, "dtype": "string"} for name in ("__key__", "__url__")]
        fields["dataset_info"] = {"features": columns}
    text = yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=10_000)
    return f"---\n{text}---\n"


def _feature(name: str, value: Any) -> dict[str, Any]:
    """The type of a value of a sample's json as the Hub writes types."""
    return {"name": name, **_type(name, value)}


def _type(name: str, value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return {"struct": [_feature(key, inner) for key, inner in value.items()]}
    if isinstance(value, list) and value:
        inner = _type(name, value[0])
        return {"list": inner.get("struct") or inner.get("dtype") or inner}
    if name in _WHOLE:
        return {"dtype": "int64"}
    return {"dtype": {str: "string", bool: "bool", int: "float64", float: "float64"}.get(type(value), "null")}


def _licence(licences: dict[str, int]) -> dict[str, str]:
    names = sorted(licences)
    if not names:
        return {}
    if len(names) == 1 and names[0].lower() in HUB_LICENCES:
        return {"license": names[0].lower()}
    creative = all(name.startswith(("CC-", "CC0-")) for name in names)
    if len(names) == 1:
        called = re.sub(r"[^a-z0-9.-]+", "-", names[0].lower().removeprefix("licenseref-")).strip("-")
    else:
        called = "mixed-creative-commons" if creative else "mixed"
    return {"license": "other", "license_name": called, "license_link": CREDITS}
