"""The dataset folder: its identity, the fixed blocks that become shards, and who may write to it."""

import contextlib
import importlib.metadata
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import randscene
from randscene import canonical_json
from randscene.errors import DatasetError, SpecError
from randscene.generator.light_pictures import light_pictures
from randscene.manifests import AssetRecord, DatasetSpec, lock_hash, parse_spec
from randscene.settings_file import first_difference
from randscene.shards.commit import commit_tar, remove_leftovers
from randscene.shards.dataset_info import DATASET_SCHEMA, read_info
from randscene.shards.store import Store
from randscene.shards.view_sample import SCHEMA_VERSION
from randscene.shards.writer_lock import Hold, sole_writer, worker_turn

log = logging.getLogger(__name__)

INFO, LOCK, WORK = "dataset.json", ".build.lock", "work"
DONE_ENDING = ".done.json"
READERS = 16
"""Small files that are read at a time."""

_SUPERVISION = ("view_timeout_s", "scene_timeout_s", "memory_limit_gib", "recycle_scenes", "processes_per_gpu")
"""Render settings that decide whether and how fast a picture comes, never what is on it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Block:
    """The scenes of one shard: a fixed run of a split's scene indices."""

    split: str
    number: int
    scenes: tuple[int, ...]

    @property
    def name(self) -> str:
        """File name of the shard, without its ending."""
        return f"{self.split}-{self.number:06d}"


def blocks(spec: DatasetSpec) -> list[Block]:
    """Cut every split into blocks of `spec.shards.scenes_per_shard` scenes; only a split's last one may be shorter."""
    size = spec.shards.scenes_per_shard
    result = []
    for name, split in sorted(spec.splits.items(), key=lambda item: item[1].first):
        scenes = range(split.first, split.first + split.scenes)
        result += [
            Block(split=name, number=start // size, scenes=tuple(scenes[start : start + size]))
            for start in range(0, len(scenes), size)
        ]
    return result


def versions(spec: DatasetSpec) -> dict[str, str]:
    """Versions of the software that decide a sample's bytes."""
    found = {"randscene": randscene.__version__, "sample_schema": str(SCHEMA_VERSION)}
    packages = ["embreex", "pillow"]
    if spec.render.engine != "raycast":
        packages.append("bpy")
    if spec.latents.encoder is not None:
        packages.append("torch")
    return found | {name: importlib.metadata.version(name) for name in packages}


def fingerprint(spec: DatasetSpec, lock: Sequence[AssetRecord], encoder_sha256: str | None) -> str:
    """Identity of a dataset: equal fingerprints promise equal bytes for equal scenes.

    Scene counts, the preset's name, tolerances, and what supervises the renderers are left out: a larger build of the
    same spec extends a smaller one.
    """
    content = _deciding(spec)
    # The pictures that light the scenes count, wherever they lie.
    content["lights"]["folder"] = [[picture.sha256, picture.name] for picture in light_pictures(spec.lights)]
    return canonical_json.digest(
        {"spec": content, "lock": lock_hash(lock), "encoder": encoder_sha256, "versions": versions(spec)}
    )


def _deciding(spec: DatasetSpec) -> dict[str, Any]:
    """The fields of a spec that decide a sample's bytes."""
    content = spec.model_dump(mode="json")
    del content["name"], content["version"], content["verify"]
    for name in _SUPERVISION:
        content["render"].pop(name, None)
    # A quality is only a name for a number.
    content["render"] |= {"quality": None, "samples": spec.render.samples_a_pixel}
    for split in content["splits"].values():
        del split["scenes"]
    return content


def _difference(info: dict[str, Any], spec: DatasetSpec) -> str:
    """What a dataset that is there was made with, and not asked for: the first field of the spec that differs."""
    try:
        held, asked = _deciding(parse_spec(info["spec"], where=INFO)), _deciding(spec)
    except SpecError:
        return "its spec is of another release"
    for content in (held, asked):
        del content["lights"]["folder"]  # the pictures count, not where they lie
    said = first_difference(held | {"versions": info.get("versions")}, asked | {"versions": versions(spec)})
    return said or "in its asset lock, its encoder's weights or the pictures of its lights"


@dataclass(frozen=True, kw_only=True, slots=True)
class StagedScene:
    """A scene that is done and not yet in a shard: what its done mark says of its tar."""

    attempt: int
    samples: int
    bytes: int
    sha256: str


class DatasetFolder:
    """The names in a dataset folder that a build writes to, and who may do so.

    Parameters
    ----------
    store : Store
        The folder; created when it does not exist.
    token : str
        Names the build whose worker this is, as `claim` gave it; empty for who writes alone.
    """

    def __init__(self, store: Store, token: str = "") -> None:
        self.store = store
        self._token = token

    @staticmethod
    def shard_name(block: Block) -> str:
        return f"shards/{block.name}.tar"

    @staticmethod
    def scene_name(scene: int) -> str:
        return f"{WORK}/{scene:06d}.tar"

    @staticmethod
    def done_name(scene: int) -> str:
        return f"{WORK}/{scene:06d}{DONE_ENDING}"

    @staticmethod
    def glb_name(scene: int) -> str:
        return f"scenes/{scene:06d}.glb"

    @contextlib.contextmanager
    def claim(self, spec: DatasetSpec, identity: str) -> Iterator[Hold]:
        """Hold the folder for one build: create it, check that it holds this dataset or none, lock out other builds.

        The lock dies with its owner: see `shards.writer_lock`.

        Yields
        ------
        Hold

        Raises
        ------
        DatasetError
            If the folder holds another dataset, more scenes than asked for, or other files.
        RandsceneError
            If another build is at work, or the folder cannot be written.
        """
        self._refuse_strangers(spec, identity)
        busy = f"{self.store.url}: another build is writing here; wait for it or stop it first"
        with sole_writer(self.store, LOCK, busy=busy) as hold:
            remove_leftovers(self.store, ("", "shards", "scenes", ".nv-meta", WORK))
            yield hold

    def turn(self) -> contextlib.AbstractContextManager[None]:
        """The time in which a worker writes; refused when its build is over. See `shards.writer_lock.worker_turn`."""
        return worker_turn(self.store, LOCK, self._token)

    def _refuse_strangers(self, spec: DatasetSpec, identity: str) -> None:
        url, root = self.store.url, self.store.local
        if root is not None and root.exists() and not root.is_dir():
            raise DatasetError(f"{url} is a file, not a folder; choose another --out")
        held = [*self.store.sizes(""), *self.store.folders("")]
        if INFO not in held:
            others = sorted(name for name in held if not name.startswith("."))
            if others:
                raise DatasetError(
                    f"{url} is not empty and holds no dataset (it has {others[0]}); choose another --out"
                )
            return
        info = self.read_info()
        if info["fingerprint"] != identity:
            raise DatasetError(
                f"{url} holds another dataset ({info['name']}: {_difference(info, spec)}); choose another --out, "
                "or the spec, lock, engine and software versions that it began with"
            )
        for name, split in spec.splits.items():
            begun = info["spec"]["splits"][name]["scenes"]
            if begun > split.scenes:
                raise DatasetError(
                    f"{url} was begun with {begun} scenes in {name}, asked for {split.scenes}: "
                    "a dataset can grow, not shrink; choose another --out"
                )

    def staged(self, identity: str) -> dict[int, StagedScene]:
        """The scenes of this dataset that are done and not in a shard, by index.

        A scene is done when its done mark says so and its tar has the size that the mark states; whether the bytes
        are right is seen when they are read.
        """
        sizes = self.store.sizes(WORK)
        names = sorted(name for name in sizes if name.endswith(DONE_ENDING))
        with ThreadPoolExecutor(READERS) as pool:
            marks = pool.map(lambda name: self._read_mark(f"{WORK}/{name}", identity), names)
        found = {}
        for name, mark in zip(names, marks):
            scene = name.removesuffix(DONE_ENDING)
            if mark is not None and scene.isdecimal() and sizes.get(f"{scene}.tar") == mark.bytes:
                found[int(scene)] = mark
            else:
                log.warning("%s/%s/%s is not of a whole scene; it is made again", self.store.url, WORK, scene)
        return found

    def scenes_in_work(self) -> set[int]:
        """Every scene that has a tar or a done mark, whatever it is worth."""
        names = (name.removesuffix(DONE_ENDING).removesuffix(".tar") for name in self.store.sizes(WORK))
        return {int(name) for name in names if name.isdecimal()}

    def _read_mark(self, name: str, identity: str) -> StagedScene | None:
        try:
            mark = json.loads(self.store.read(name))
            if mark["fingerprint"] != identity:
                return None
            return StagedScene(
                attempt=int(mark["attempt"]),
                samples=int(mark["samples"]),
                bytes=int(mark["bytes"]),
                sha256=str(mark["sha256"]),
            )
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def stage(
        self, scene: int, samples: Iterable[tuple[str, dict[str, bytes]]], attempt: int, identity: str
    ) -> StagedScene:
        """Write a scene's tar and then its done mark, which commits it.

        Raises
        ------
        RandsceneError
            If the folder cannot be written.
        """
        count = 0

        def counted() -> Iterator[tuple[str, dict[str, bytes]]]:
            nonlocal count
            for sample in samples:
                count += 1
                yield sample

        self.store.remove(self.done_name(scene))  # of a tar that was damaged
        size, sha256 = commit_tar(self.store, self.scene_name(scene), counted())
        mark = StagedScene(attempt=attempt, samples=count, bytes=size, sha256=sha256)
        self.store.write(self.done_name(scene), canonical_json.dumps({**asdict(mark), "fingerprint": identity}) + "\n")
        return mark

    def unstage(self, scene: int) -> None:
        """Remove a scene's tar and its done mark."""
        self.store.remove(self.done_name(scene))
        self.store.remove(self.scene_name(scene))

    def read_info(self) -> dict[str, Any]:
        """Content of the `dataset.json` of a build.

        Raises
        ------
        DatasetError
            If it is missing, not readable, or that of an import.
        """
        info = read_info(self.store)
        if "source" in info:
            raise DatasetError(
                f"{self.store.url} was imported ({info['source']}), not built; the command that imported it goes on "
                "with it, and its failures.jsonl says what was left out"
            )
        try:
            info["spec"]["splits"], info["complete"]
        except (KeyError, TypeError) as error:
            raise DatasetError(
                f"{self.store.url}/{INFO} is not that of a build ({error!r}); use the release that wrote it"
            ) from error
        return info

    def write_info(
        self, spec: DatasetSpec, lock: Sequence[AssetRecord], identity: str, *, counts: dict[str, Any], complete: bool
    ) -> None:
        """Write `dataset.json`; `counts` maps a split to its numbers of scenes, samples and shards."""
        info = {
            "schema": DATASET_SCHEMA,
            "name": spec.name,
            "fingerprint": identity,
            "lock_sha256": lock_hash(lock),
            "spec": spec.model_dump(mode="json"),
            "versions": versions(spec),
            "splits": counts,
            "complete": complete,
        }
        self.store.write(INFO, json.dumps(info, indent=2, sort_keys=True) + "\n")
