"""The work that Ray actors do: one scene, or one shard, from files to files. Only paths and counts travel."""

import contextlib
import json
import logging
import os
import tarfile
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from randscene import seeding
from randscene.errors import DatasetError, PlanError, RandsceneError, RenderError
from randscene.generator.dataset_folder import Block, DatasetFolder
from randscene.generator.light_pictures import Picture
from randscene.generator.planning import PlanContext, plan_scene
from randscene.generator.scene_glb import write_scene_glb
from randscene.generator.scene_maker import SceneFailedError, SceneMaker
from randscene.manifests import AssetRecord, DatasetSpec
from randscene.shards.shard_writer import read_tar, write_shard, write_tar
from randscene.shards.view_sample import encode_members

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneOutcome:
    """What became of one attempt at one scene."""

    scene: int
    attempt: int
    views: int = 0
    reason: str = ""
    """Empty when the scene is done."""
    stage: str = ""
    message: str = ""
    transient: bool = False
    fatal: bool = False
    """The whole build must stop: a full disk, a changed asset, a fault of the program."""
    log_tail: str = ""


class SceneActor:
    """Makes scenes, one at a time. Ray turns this class into an actor; it also works without Ray.

    `pictures` are the light pictures that the driver found: an actor that started later could find others.
    """

    def __init__(
        self,
        spec: DatasetSpec,
        lock: Sequence[AssetRecord],
        root: str,
        fingerprint: str,
        pictures: tuple[Picture, ...] | None = None,
    ) -> None:
        self._spec = spec
        self._folder = DatasetFolder(Path(root))
        self._context = PlanContext.of(spec, lock, pictures)
        self._records = {record.uid: record for record in lock}
        self._fingerprint = fingerprint
        self._maker: SceneMaker | None = None

    def pid(self) -> int:
        """Process id, for supervision."""
        return os.getpid()

    def make(self, scene: int, attempt: int) -> SceneOutcome:
        """Plan, render, voxelise and encode one scene; commit it to the work folder. Never raises."""
        try:
            return self._make(scene, attempt)
        except SceneFailedError as error:
            return SceneOutcome(
                scene=scene, attempt=attempt, reason=error.reason, stage=error.stage, message=str(error)
            )
        except PlanError as error:
            return SceneOutcome(scene=scene, attempt=attempt, reason="no_layout", stage="plan", message=str(error))
        except RenderError as error:
            return SceneOutcome(
                scene=scene,
                attempt=attempt,
                reason=error.reason,
                stage="render",
                message=str(error),
                transient=error.transient,
                fatal=not error.transient,
                log_tail=error.log_tail,
            )
        except RandsceneError as error:
            return SceneOutcome(
                scene=scene, attempt=attempt, reason="stopped", stage="make", message=str(error), fatal=True
            )
        except Exception as error:
            return SceneOutcome(
                scene=scene,
                attempt=attempt,
                reason="program_error",
                stage="make",
                message=f"{type(error).__name__}: {error}",
                fatal=True,
                log_tail=traceback.format_exc(),
            )

    def _make(self, scene: int, attempt: int) -> SceneOutcome:
        recipe = plan_scene(self._context, scene, attempt)
        if self._maker is None:
            self._maker = SceneMaker(self._spec, self._records, self._fingerprint)
        made = self._maker.make(recipe)
        views = 0

        def members() -> Iterator[tuple[str, dict[str, bytes]]]:
            nonlocal views
            for sample in made.samples:
                yield sample.key, encode_members(sample, webp_quality=self._spec.shards.webp_quality)
                views += 1
            # Before the tar appears under its name, which says that the scene is done.
            if recipe.split in self._spec.scene_glb:
                write_scene_glb(self._folder.scene_glb_path(scene), made.instances)

        write_tar(self._folder.scene_path(scene), members())
        return SceneOutcome(scene=scene, attempt=attempt, views=views)


def scene_is_staged(folder: DatasetFolder, scene: int, fingerprint: str) -> int | None:
    """The attempt that a scene's staged file holds, or None when there is no whole file of this dataset.

    Files are committed by rename, so one that exists was written whole; what is checked is whose it is.
    """
    path = folder.scene_path(scene)
    if not path.exists():
        return None
    try:
        metas = [json.loads(members["json"]) for _, members in read_tar(path)]
        if metas and all(meta["fingerprint"] == fingerprint for meta in metas):
            return int(metas[0]["attempt"])
    except (DatasetError, KeyError, ValueError):
        log.warning("%s is not a whole scene file; the scene is made again", path)
    return None


def pack_block(root: str, block: Block, attempts: dict[int, int], seed: int, fingerprint: str) -> int:
    """Write one shard from the staged scenes of its block, views in a seeded order; returns the number of samples.

    Parameters
    ----------
    root : str
        Dataset folder.
    block : Block
    attempts : dict
        Scene index to the attempt that succeeded. Scenes of the block that are not in it were given up.
    seed : int
        Dataset seed.
    fingerprint : str
    """
    folder = DatasetFolder(Path(root))
    header = {
        "split": block.split,
        "block": block.number,
        "scenes": list(block.scenes),
        "attempts": {str(scene): attempt for scene, attempt in sorted(attempts.items())},
        "fingerprint": fingerprint,
    }
    with contextlib.ExitStack() as tars:
        places: dict[str, dict[str, tuple[tarfile.TarFile, tarfile.TarInfo]]] = {}
        for scene in sorted(attempts):
            tar = tars.enter_context(tarfile.open(folder.scene_path(scene)))
            for entry in tar:
                key, _, member = entry.name.partition(".")
                places.setdefault(key, {})[member] = (tar, entry)
        keys = sorted(places)
        order = seeding.generator(seed, "shard", block.split, block.number).permutation(len(keys))
        # Read one sample at a time: a block with latents can be larger than memory.
        samples = ((keys[i], {name: _content(*place) for name, place in places[keys[i]].items()}) for i in order)
        write_shard(folder.shard_path(block), samples, header=header)
    for scene in attempts:
        folder.scene_path(scene).unlink(missing_ok=True)
    return len(keys)


def _content(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    stream = tar.extractfile(entry)
    if stream is None:
        raise DatasetError(f"{tar.name!r}: {entry.name} is not a plain file")
    return stream.read()
