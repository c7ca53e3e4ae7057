"""The files of an imported dataset that describe the whole: identity, counts, rooms, failures, credits, card."""

import importlib.metadata
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import randscene
from randscene import canonical_json
from randscene.errors import DatasetError
from randscene.generator.front3d_axes import NUMBERINGS, Reading, rotation
from randscene.generator.front3d_block import RoomBlock
from randscene.generator.front3d_layout import Room
from randscene.generator.front3d_settings import LICENCE, Front3dSettings
from randscene.manifests import AssetRecord, attribution_markdown
from randscene.settings_file import first_difference
from randscene.shards.checksums import write_checksums
from randscene.shards.dataset_card import write_card
from randscene.shards.dataset_info import DATASET_SCHEMA, read_info
from randscene.shards.energon import write_energon
from randscene.shards.shard_index import INDEX_ENDING, ShardIndex, check_size, parse_index
from randscene.shards.store import Store
from randscene.shards.view_sample import SCHEMA_VERSION

KIND = "3d-front"
"""`source` in `dataset.json`: what tells an imported folder from one that was generated."""
RULES = frozenset({"no_valid_view", "hidden_instance"})
"""Reasons to leave a room or a view out that are no fault of the files."""
_TERMS = """
## What LicenseRef-3D-FRONT-Terms-of-Use means

The agreement under which Alibaba gives out 3D-FRONT and 3D-FUTURE. It comes with the data set, is for research that is
not commercial, and goes with the data to whoever they are passed on to: read it before you publish anything made of
them.
"""
_DESCRIPTION = (
    "Furnished rooms of 3D-FRONT in MIDI's renderings, every object with its own mask and view-centric voxels. "
    "Not for commercial use."
)


@dataclass(frozen=True, kw_only=True)
class Description:
    """What an import is: settings, the reading of the files, lists and splits."""

    settings: Front3dSettings
    reading: Reading
    lists: str
    """SHA-256 of what the room and furniture lists say."""
    list_name: str
    splits: dict[str, tuple[int, int]]

    @property
    def spec(self) -> dict[str, Any]:
        """The `spec` of `dataset.json`."""
        plain = asdict(self.settings) | asdict(self.reading)
        named = {key: plain.pop(key) for key in ("name", "licence", "attribution")}
        return {
            **named,
            "import": {**plain, "room_list": self.list_name, "lists_sha256": self.lists},
            "splits": {name: {"first": first, "scenes": end - first} for name, (first, end) in self.splits.items()},
        }

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the software that decide a sample's bytes."""
        packages = {name: importlib.metadata.version(name) for name in ("embreex", "pillow")}
        return {"randscene": randscene.__version__, "sample_schema": str(SCHEMA_VERSION)} | packages

    @property
    def fingerprint(self) -> str:
        """Identity of the dataset: equal fingerprints promise equal bytes for equal files. Its name is left out."""
        spec = self.spec
        del spec["name"]
        return canonical_json.digest({"source": KIND, "spec": spec, "versions": self.versions})

    def refuse_others(self, store: Store) -> bool:
        """Whether the folder holds this dataset already.

        Raises
        ------
        DatasetError
            If it holds another one: the message names the first field that differs.
        """
        info = _read_info(store)
        if info is not None and info["fingerprint"] != self.fingerprint:
            raise DatasetError(
                f"{store.url} holds another dataset ({info['name']}: {self._difference(info)}); choose another --out, "
                "or the lists, splits, options and software versions that it began with"
            )
        return info is not None

    def _difference(self, info: Mapping[str, Any]) -> str:
        """What a dataset that is there was made with, and not asked for: the first field that differs, both values."""
        held: dict[str, Any] = {**info["spec"], "versions": info.get("versions")}
        # As it would be read back: a file has no tuples.
        asked: dict[str, Any] = json.loads(json.dumps({**self.spec, "versions": self.versions}))
        for content in (held, asked):
            content.pop("name", None)
            # A hash tells nobody anything: what is left when all else is equal has words of its own.
            content["import"] = {key: value for key, value in content["import"].items() if key != "lists_sha256"}
        return first_difference(held, asked) or "its room and furniture lists had other content"

    def open(self, store: Store, rooms: Mapping[str, Sequence[Room]]) -> None:
        """Write the files that make a folder a dataset, before any shard, so that a second run knows whose it is.

        Raises
        ------
        DatasetError
            If the folder holds another dataset.
        """
        if not self.refuse_others(store):
            empty = {split: {"scenes": 0, "samples": 0, "shards": 0} for split in self.splits}
            self.write_info(store, empty, complete=False)
            names = (
                f"{room.room_id}/{name}" for members in rooms.values() for room in members for name in room.furniture
            )
            store.write("ATTRIBUTION.md", self._attribution(names))

    def write_info(
        self, store: Store, counts: dict[str, dict[str, int]], *, complete: bool, **more: dict[str, int]
    ) -> None:
        """Write `dataset.json`."""
        info = {
            "schema": DATASET_SCHEMA,
            "name": self.settings.name,
            "description": _DESCRIPTION,
            "source": KIND,
            "fingerprint": self.fingerprint,
            "spec": self.spec,
            "versions": self.versions,
            "splits": counts,
            "complete": complete,
            **more,
        }
        store.write("dataset.json", json.dumps(info, indent=2, sort_keys=True) + "\n")

    def _attribution(self, names: Iterator[str]) -> str:
        text = attribution_markdown(self._record(name) for name in names)
        return text + (_TERMS if self.settings.licence == LICENCE else "")

    def _record(self, name: str) -> AssetRecord:
        return AssetRecord(
            uid=f"{KIND}/{name}",
            source=KIND,
            locator=name,
            sha256="",
            geometry="",
            licence=self.settings.licence,
            attribution=self.settings.attribution,
            up_axis="Y",
            extents=(0.0, 0.0, 0.0),
            bounds_min=(0.0, 0.0, 0.0),
            n_faces=0,
            has_texture=False,
            category="",
            support=None,
            status="ok",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Closed:
    """Counts of a finished import."""

    scenes: int
    samples: int
    left_out: dict[str, int]
    views_left_out: dict[str, int]


def refuse_strangers(store: Store) -> Reading | None:
    """See that a folder is empty or holds an imported dataset; returns how that one read its files.

    Raises
    ------
    DatasetError
        If it holds other files, or a dataset that was not imported.
    """
    info = _read_info(store)
    if info is None:
        others = sorted(name for name in [*store.sizes(""), *store.folders("")] if not name.startswith("."))
        if others:
            raise DatasetError(
                f"{store.url} is not empty and holds no dataset (it has {others[0]}); choose another --out"
            )
        return None
    if info.get("source") != KIND:
        raise DatasetError(f"{store.url} holds a dataset that was not imported from 3D-FRONT; choose another --out")
    try:
        settings = info["spec"]["import"]
        reading = Reading(axes=str(settings["axes"]), numbering=settings["numbering"])
        rotation(reading.axes)
    except (KeyError, TypeError) as error:
        raise DatasetError(f"{store.url}/dataset.json is not that of an import; choose another --out") from error
    if reading.numbering not in NUMBERINGS:
        raise DatasetError(f"{store.url}/dataset.json names an unknown numbering; use the release that wrote it")
    return reading


def _read_info(store: Store) -> dict[str, Any] | None:
    """Content of `dataset.json`; None where there is none yet."""
    return read_info(store) if "dataset.json" in store.sizes("") else None


def committed_header(
    store: Store, block: RoomBlock, fingerprint: str, sizes: Mapping[str, int] | None = None
) -> dict[str, Any] | None:
    """The header of a block's shard, or None where it is not committed, not this one, or not an import's."""
    index = _index(store, block, store.sizes("shards") if sizes is None else sizes)
    if index is None or index.header.get("fingerprint") != fingerprint:
        return None
    same = index.header.get("scenes") == [room.scene for room in block.rooms]
    return index.header if same and _tells_its_rooms(index.header) else None


def _tells_its_rooms(header: Mapping[str, Any]) -> bool:
    """Whether a header has what is read of it here, so that nothing else is taken for an import's."""
    try:
        words = [
            *header["given_up"].values(),
            *(failure["reason"] for failure in header["failures"]),
            *(item["reason"] for record in header["rooms"] for item in record["left_out"]),
            *(item["name"] for record in header["rooms"] for item in record["objects"]),
            *(record["room"] for record in header["rooms"]),
        ]
    except (AttributeError, KeyError, TypeError):
        return False
    return all(isinstance(word, str) for word in words)


def has_faults(header: Mapping[str, Any]) -> bool:
    """Whether files of a block were missing or broken, as its shard's header has it."""
    rooms = set(header["given_up"].values())
    views = {item["reason"] for record in header["rooms"] for item in record["left_out"]}
    return bool((rooms | views) - RULES)


def _index(store: Store, block: RoomBlock, sizes: Mapping[str, int]) -> ShardIndex | None:
    if f"{block.name}.tar" not in sizes or f"{block.name}{INDEX_ENDING}" not in sizes:
        return None
    try:
        index = parse_index(store.read(f"shards/{block.name}{INDEX_ENDING}"), where=f"{block.name}{INDEX_ENDING}")
        check_size(index, sizes[f"{block.name}.tar"], where=f"{block.name}.tar")
    except (DatasetError, FileNotFoundError):
        return None
    return index


def close(store: Store, description: Description, blocks: Sequence[RoomBlock]) -> Closed:
    """Write the files that describe the whole, from the headers of the shards alone.

    Raises
    ------
    DatasetError
        If a shard has gone, or its index is not that of an import.
    """
    counts = {split: {"scenes": 0, "samples": 0, "shards": 0} for split in description.splits}
    records, failures = list[dict[str, Any]](), list[dict[str, Any]]()
    sizes, hashes = store.sizes("shards"), dict[str, str]()
    for block in blocks:
        index = _index(store, block, sizes)
        if index is None:
            raise DatasetError(f"{store.url}: shards/{block.name}.tar has gone; run the same command again")
        if not _tells_its_rooms(index.header):
            raise DatasetError(
                f"{store.url}: shards/{block.name}{INDEX_ENDING} does not tell its rooms, as an import's does; "
                "run the same command again to import them anew"
            )
        hashes[f"shards/{block.name}.tar"] = index.tar_sha256
        count = counts[block.split]
        count["scenes"] += len(index.header["rooms"])
        count["samples"] += len(index)
        count["shards"] += 1
        records += [{**record, "split": block.split} for record in index.header["rooms"]]
        failures += index.header["failures"]
    left_out = Counter(failure["reason"] for failure in failures)
    views = Counter(item["reason"] for record in records for item in record["left_out"])
    store.write("rooms.jsonl", "".join(canonical_json.dumps(record) + "\n" for record in records))
    lines = [{**failure, "attempt": 0, "transient": False, "log_tail": ""} for failure in failures]
    store.write("failures.jsonl", "".join(json.dumps(line, sort_keys=True) + "\n" for line in lines))
    names = (f"{record['room']}/{item['name']}" for record in records for item in record["objects"])
    store.write("ATTRIBUTION.md", description._attribution(names))
    description.write_info(
        store,
        counts,
        complete=True,
        rooms_left_out=dict(sorted(left_out.items())),
        views_left_out=dict(sorted(views.items())),
    )
    write_checksums(store, hashes)
    write_card(store.url)
    write_energon(store.url)
    return Closed(
        scenes=sum(count["scenes"] for count in counts.values()),
        samples=sum(count["samples"] for count in counts.values()),
        left_out=dict(left_out.most_common()),
        views_left_out=dict(views.most_common()),
    )
