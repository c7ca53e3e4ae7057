"""What a dataset's `dataset.json` says of it, read and checked."""

import json
from typing import Any

from randscene.errors import DatasetError
from randscene.shards.store import Store

DATASET_SCHEMA = 1


def read_info(store: Store) -> dict[str, Any]:
    """Content of a dataset's `dataset.json`.

    Raises
    ------
    DatasetError
        If it is missing, unreadable or of another schema.
    """
    try:
        info = json.loads(store.read("dataset.json"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DatasetError(f"{store.url} is not a dataset: it has no dataset.json; {_meant_folder(store)}") from error
    except ValueError as error:
        raise DatasetError(f"{store.url}/dataset.json is not readable: {error}; copy it again") from error
    if not isinstance(info, dict) or info.get("schema") != DATASET_SCHEMA:
        raise DatasetError(
            f"{store.url}/dataset.json is not of schema {DATASET_SCHEMA}: use the release that wrote the dataset"
        )
    for field, kind in (("name", str), ("fingerprint", str), ("splits", dict)):
        if not isinstance(info.get(field), kind):
            raise DatasetError(f"{store.url}/dataset.json has no {field}: use the release that wrote the dataset")
    for counts in info["splits"].values():
        if not isinstance(counts, dict) or any(type(count) is not int for count in counts.values()):
            raise DatasetError(f"{store.url}/dataset.json has no counts of its splits; copy it again")
    for field in ("spec", "versions"):
        if not isinstance(info.get(field, {}), dict):
            raise DatasetError(f"{store.url}/dataset.json: its {field} is no mapping; copy it again")
    return info


def _meant_folder(store: Store) -> str:
    """What to do about a folder that holds no dataset, as the end of a message; only a local one is searched."""
    folder = store.local
    if folder is not None:
        if (folder.parent / "dataset.json").is_file():  # its shards, say
            return f"the folder around it is one: {folder.parent}"
        if folder.is_file():
            return "it is a file; give the folder that holds dataset.json"
        inside = sorted(found.parent.name for found in folder.glob("*/dataset.json"))
        if inside:
            return f"it holds {', '.join(inside[:5])}{', ...' * (len(inside) > 5)}: give {folder / inside[0]}"
    return "check the path"
