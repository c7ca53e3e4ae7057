"""The dataset folder: its identity, the fixed blocks that become shards, and who may write to it."""

import contextlib
import importlib.metadata
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import randscene
from randscene import canonical_json
from randscene.errors import DatasetError
from randscene.files import exclusive, remove_leftovers, write_atomic
from randscene.generator.light_pictures import light_pictures
from randscene.manifests import AssetRecord, DatasetSpec, lock_hash
from randscene.shards.view_sample import SCHEMA_VERSION

FOLDER_SCHEMA = 1

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
    content = spec.model_dump(mode="json")
    del content["name"], content["version"], content["verify"]
    for name in _SUPERVISION:
        content["render"].pop(name, None)
    # A quality is only a name for a number.
    content["render"] |= {"quality": None, "samples": spec.render.samples_a_pixel}
    for split in content["splits"].values():
        del split["scenes"]
    # The pictures that light the scenes count, wherever they lie.
    content["lights"]["folder"] = [[picture.sha256, picture.name] for picture in light_pictures(spec.lights)]
    return canonical_json.digest(
        {"spec": content, "lock": lock_hash(lock), "encoder": encoder_sha256, "versions": versions(spec)}
    )


class DatasetFolder:
    """A dataset folder that this process may write to.

    Parameters
    ----------
    root : Path
        The folder; created when it does not exist.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def info_path(self) -> Path:
        return self.root / "dataset.json"

    @property
    def work(self) -> Path:
        """Scenes that are done but not yet in a shard."""
        return self.root / "work"

    def shard_path(self, block: Block) -> Path:
        return self.root / "shards" / f"{block.name}.tar"

    def scene_path(self, scene: int) -> Path:
        return self.work / f"{scene:06d}.tar"

    def scene_glb_path(self, scene: int) -> Path:
        return self.root / "scenes" / f"{scene:06d}.glb"

    @contextlib.contextmanager
    def claim(self, spec: DatasetSpec, identity: str) -> Iterator[None]:
        """Hold the folder for one build: create it, check that it holds this dataset or none, lock out other builds.

        The lock is the operating system's own and dies with its owner.

        Raises
        ------
        DatasetError
            If the folder holds another dataset, more scenes than asked for, or other files.
        RandsceneError
            If another build is at work, or the folder cannot be written.
        """
        self._refuse_strangers(spec, identity)
        busy = f"{self.root}: another build is writing here; wait for it or stop it first"
        with exclusive(self.root / ".build.lock", busy=busy):
            for folder in (self.root, self.root / "shards", self.root / "scenes", self.work):
                remove_leftovers(folder)
            yield

    def _refuse_strangers(self, spec: DatasetSpec, identity: str) -> None:
        if not self.root.exists():
            return
        if not self.root.is_dir():
            raise DatasetError(f"{self.root} is a file, not a folder; choose another --out")
        if not self.info_path.exists():
            others = sorted(path.name for path in self.root.iterdir() if not path.name.startswith("."))
            if others:
                raise DatasetError(
                    f"{self.root} is not empty and holds no dataset (it has {others[0]}); choose another --out"
                )
            return
        info = self.read_info()
        if info["fingerprint"] != identity:
            raise DatasetError(
                f"{self.root} holds another dataset ({info['name']}, fingerprint {info['fingerprint'][:12]}, "
                f"asked for {spec.name}, {identity[:12]}); choose another --out, "
                "or the spec, lock, engine and software versions that it began with"
            )
        for name, split in spec.splits.items():
            held = info["spec"]["splits"][name]["scenes"]
            if held > split.scenes:
                raise DatasetError(
                    f"{self.root} was begun with {held} scenes in {name}, asked for {split.scenes}: "
                    "a dataset can grow, not shrink; choose another --out"
                )

    def read_info(self) -> dict[str, Any]:
        """Content of `dataset.json`.

        Raises
        ------
        DatasetError
            If it is not readable.
        """
        try:
            info = json.loads(self.info_path.read_text(encoding="utf-8"))
            info["fingerprint"], info["name"], info["spec"]["splits"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DatasetError(f"{self.info_path}: not a readable dataset description: {error}") from error
        return info

    def write_info(
        self, spec: DatasetSpec, lock: Sequence[AssetRecord], identity: str, *, counts: dict[str, Any], complete: bool
    ) -> None:
        """Write `dataset.json`; `counts` maps a split to its numbers of scenes, samples and shards."""
        info = {
            "schema": FOLDER_SCHEMA,
            "name": spec.name,
            "fingerprint": identity,
            "lock_sha256": lock_hash(lock),
            "spec": spec.model_dump(mode="json"),
            "versions": versions(spec),
            "splits": counts,
            "complete": complete,
        }
        write_atomic(self.info_path, json.dumps(info, indent=2, sort_keys=True) + "\n")
