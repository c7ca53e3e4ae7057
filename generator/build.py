"""generate: build a dataset, or finish one. What is done is what lies in the folder; the driver keeps no state."""

import contextlib
import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from randscene.errors import DatasetError
from randscene.generator.block_header import BlockHeader, read_header
from randscene.generator.block_state import BlockState
from randscene.generator.block_task import unpack_block
from randscene.generator.build_driver import BuildDriver, Progress
from randscene.generator.dataset_folder import INFO, READERS, WORK, DatasetFolder, blocks, fingerprint
from randscene.generator.failures import Failure
from randscene.generator.planning import PlanContext, plan_scene
from randscene.generator.render_device import settle_device
from randscene.generator.worker_place import refuse_without_place
from randscene.manifests import AssetRecord, DatasetSpec, attribution_markdown, load_lock, usable
from randscene.manifests.lock import lock_text
from randscene.ray_session import ray_session
from randscene.shards.checksums import read_checksums, write_checksums
from randscene.shards.commit import commit_lines, local_copy
from randscene.shards.dataset_card import write_card
from randscene.shards.energon import write_energon
from randscene.shards.shard_index import INDEX_ENDING, ShardIndex, read_index
from randscene.shards.store import open_store

log = logging.getLogger(__name__)

RECIPES, ASSETS, ATTRIBUTION = "recipes.jsonl", "assets.lock.jsonl", "ATTRIBUTION.md"
ANY_REASON = "any"
"""In place of a reason: scenes that were given up for whatever reason are tried again."""
MAX_STAGED_BYTES = 20 * 2**30
"""Bytes of scenes that wait for the others of their block above which no new block is begun."""


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    """What a build ended with."""

    url: str
    fingerprint: str
    scenes: int
    samples: int
    shards: int
    bytes: int
    """Of all shards."""
    scenes_made: int
    """Scenes made by this run; the others were there already."""
    views_made: int
    seconds: float
    failures: list[Failure] = field(default_factory=list)
    """Of this run."""
    given_up: dict[int, str] = field(default_factory=dict)
    """Scenes that failed every attempt, with the reason of the last one."""

    @property
    def complete(self) -> bool:
        """Whether every scene that was asked for is in a shard."""
        return not self.given_up


def generate(
    spec: DatasetSpec,
    lock: Sequence[AssetRecord] | str | Path,
    out: str | Path,
    *,
    ray_address: str | None = None,
    workers: int | None = None,
    retry: Collection[str] = (),
    check_shards: bool = False,
    max_staged_bytes: int = MAX_STAGED_BYTES,
    dashboard: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> BuildReport:
    """Build a dataset, or finish one that was interrupted: plan, render, voxelise, encode, pack.

    The same call on the same machine type ends in the same shard bytes, however often it was killed and on however
    many workers it runs.

    Parameters
    ----------
    spec : DatasetSpec
    lock : sequence of AssetRecord, or path of a lock file
    out : path or URL
        Dataset folder: a local path, on a cluster on a file system that all nodes share, or a URL that fsspec knows
        (`s3://...`, `gs://...`).
    ray_address : str, optional
        A running Ray cluster; a local one is started otherwise.
    workers : int, optional
        Scenes made at the same time; by default one for every `spec.render.threads` CPUs of the cluster as it is at
        the time, and where a graphics card renders, no more than `spec.render.processes_per_gpu` for each card.
    retry : collection of str
        Scenes that an earlier run gave up for one of these reasons are tried again from their first attempt;
        `any` stands for all reasons.
    check_shards : bool
        Compare the SHA-256 of every shard with its index first, and build damaged ones again. Size is always compared.
    max_staged_bytes : int
        Bytes of finished scenes that wait for the others of their block above which no new block is begun.
    dashboard : bool
        Start Ray's dashboard too, where Ray is started here.
    progress : callable, optional
        Called with a `Progress` after every change, and about once a second.

    Raises
    ------
    SpecError, LockError
        If the spec cannot be met with these assets, or an asset does not match its lock.
    DatasetError
        If the folder holds something else.
    RenderError
        If this machine, or the cluster, has no such device, or no machine of the cluster can hold a worker.
    RandsceneError
        If the disk or store is full or cannot be written, or a worker met a fault of the program.
    """
    records = load_lock(lock) if isinstance(lock, str | Path) else list(lock)
    context = PlanContext.of(spec, records)
    spec = settle_device(spec, cluster=ray_address not in (None, "local"))
    identity = fingerprint(spec, records, _encoder_sha256(spec))
    store = open_store(out if "://" in str(out) else Path(out).absolute())
    folder = DatasetFolder(store)
    begun = time.monotonic()
    with folder.claim(spec, identity) as hold:
        states, unpack = _survey(folder, spec, identity, retry, check_shards)
        driver = BuildDriver(folder, spec, context, identity, states, max_staged_bytes, hold, progress)
        if driver.unfinished:
            cpus = workers and workers * spec.render.threads
            with ray_session(ray_address, cpus=cpus, dashboard=dashboard) as ray:
                # Before anything is written: what must change decides what the dataset is.
                refuse_without_place(spec.render, ray.cluster_resources(), ray.nodes())
                _write_entrance(folder, spec, records, identity)
                for state, sha256 in unpack:
                    state.staged = unpack_block(store.url, state.block, sha256, identity)
                    if not state.staged:
                        log.warning("%s is damaged; it is built again", folder.shard_name(state.block))
                driver.run(ray, records, workers)
            fresh = True
        else:
            fresh = _write_entrance(folder, spec, records, identity)
        return _close(folder, spec, records, context, driver, fresh, time.monotonic() - begun)


def _survey(
    folder: DatasetFolder, spec: DatasetSpec, identity: str, retry: Collection[str], check_shards: bool
) -> tuple[list[BlockState], list[tuple[BlockState, str]]]:
    """What the folder holds, block by block, and which shards to take apart (with their SHA-256): those with scenes to
    try again, those that have grown, and those that lost their index and can be told by their hash."""
    store = folder.store
    states = [BlockState(block) for block in blocks(spec)]
    sizes = store.sizes("shards")
    sums = read_checksums(store)
    with ThreadPoolExecutor(READERS) as pool:
        committed = list(pool.map(lambda state: _committed(folder, state, sizes, identity, check_shards), states))
    staged, in_work = folder.staged(identity), folder.scenes_in_work()
    unpack = []
    for state, found in zip(states, committed):
        name, scenes = folder.shard_name(state.block), state.block.scenes
        if found is None:
            state.staged = {scene: staged[scene] for scene in scenes if scene in staged}
            if not state.staged and name.removeprefix("shards/") in sizes and name in sums:
                unpack.append((state, sums[name]))
            continue
        index, header = found
        again = {scene for scene, reason in header.given_up.items() if reason in retry or ANY_REASON in retry}
        if header.scenes == scenes and not again:
            state.given_up = dict(header.given_up)
            state.commit(len(header.attempts), len(index), index.tar_bytes, index.tar_sha256)
            for scene in in_work.intersection(scenes):  # left by a packer that died between commit and clean-up
                folder.unstage(scene)
            continue
        state.given_up = {scene: reason for scene, reason in header.given_up.items() if scene not in again}
        unpack.append((state, index.tar_sha256))
    return states, unpack


def _committed(
    folder: DatasetFolder, state: BlockState, sizes: dict[str, int], identity: str, check_shards: bool
) -> tuple[ShardIndex, BlockHeader] | None:
    """The index of a block's shard and its header, if the shard is committed, whole and of this dataset."""
    store, name = folder.store, folder.shard_name(state.block)
    index_name = name.removesuffix(".tar") + INDEX_ENDING
    file = name.removeprefix("shards/")
    if index_name.removeprefix("shards/") not in sizes:
        return None
    try:
        index = read_index(store, name)
        header = read_header(index, where=f"{store.url}/{index_name}")
        if sizes.get(file) != index.tar_bytes:
            raise DatasetError(f"{store.url}/{name} has {sizes.get(file, 0)} bytes, its index says {index.tar_bytes}")
        if check_shards:
            with local_copy(store, name, sha256=index.tar_sha256):
                pass
    except DatasetError as error:
        log.warning("%s; the shard is built again", error)
        return None
    mine = header.fingerprint == identity and header.scenes == state.block.scenes[: len(header.scenes)]
    return (index, header) if mine else None


def _close(
    folder: DatasetFolder,
    spec: DatasetSpec,
    records: Sequence[AssetRecord],
    context: PlanContext,
    driver: BuildDriver,
    changed: bool,
    seconds: float,
) -> BuildReport:
    """Write the files that describe the whole, and say what the build ended with."""
    store, states = folder.store, driver.states
    given_up = {scene: reason for state in states for scene, reason in sorted(state.given_up.items())}
    if changed:
        commit_lines(store, RECIPES, _recipes(folder, context, states))
        write_checksums(store, {folder.shard_name(state.block): state.sha256 for state in states})
        if any(state.samples for state in states):
            write_energon(store.url)
    counts = {name: {"scenes": 0, "samples": 0, "shards": 0} for name in spec.splits}
    for state in states:
        counts[state.block.split]["scenes"] += state.scenes
        counts[state.block.split]["samples"] += state.samples
        counts[state.block.split]["shards"] += 1
    folder.write_info(spec, records, driver.identity, counts=counts, complete=not given_up)
    write_card(store.url)
    if store.local is not None:
        with contextlib.suppress(OSError):
            (store.local / WORK).rmdir()  # only when empty: a file left there belongs to a scene of another run
    return BuildReport(
        url=store.url,
        fingerprint=driver.identity,
        scenes=sum(state.scenes for state in states),
        samples=sum(state.samples for state in states),
        shards=len(states),
        bytes=sum(state.bytes for state in states),
        scenes_made=driver.scenes_made,
        views_made=driver.views_made,
        seconds=seconds,
        failures=driver.failures,
        given_up=given_up,
    )


def _recipes(folder: DatasetFolder, context: PlanContext, states: Iterable[BlockState]) -> Iterable[str]:
    """The recipe of every scene that is in a shard, in the order of the scenes."""
    for state in states:
        where = f"{folder.store.url}/shards/{state.block.name}{INDEX_ENDING}"
        header = read_header(read_index(folder.store, folder.shard_name(state.block)), where=where)
        for scene, attempt in sorted(header.attempts.items()):
            yield plan_scene(context, scene, attempt).to_json()


def _write_entrance(folder: DatasetFolder, spec: DatasetSpec, records: Sequence[AssetRecord], identity: str) -> bool:
    """The files that make a folder a dataset, written before any scene so that a second run knows whose it is.

    Returns
    -------
    bool
        Whether the files that describe the whole must be written: False for a dataset that a build has closed.
    """
    store = folder.store
    lock_path = store.local / ASSETS if store.local is not None else f"{store.url}/{ASSETS}"
    store.write(ASSETS, lock_text(lock_path, records))
    store.write(ATTRIBUTION, attribution_markdown(usable(records)))
    if INFO in store.sizes(""):
        info = folder.read_info()
        if info["complete"] and info["spec"]["splits"] == spec.model_dump(mode="json")["splits"]:
            return False
    empty = {name: {"scenes": 0, "samples": 0, "shards": 0} for name in spec.splits}
    folder.write_info(spec, records, identity, counts=empty, complete=False)
    return True


def _encoder_sha256(spec: DatasetSpec) -> str | None:
    if spec.latents.encoder is None:
        return None
    from randscene.train import load_encoder  # needs torch, which builds without latents do without

    return str(load_encoder(spec.latents.encoder).sha256)
