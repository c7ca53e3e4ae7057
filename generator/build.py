"""generate: the Ray driver of a build. It keeps no state of its own: what is done is what lies in the folder."""

import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from randscene.errors import DatasetError, RandsceneError
from randscene.files import write_atomic
from randscene.generator.dataset_folder import Block, DatasetFolder, blocks, fingerprint
from randscene.generator.failures import Failure, append_failure, reasons
from randscene.generator.planning import PlanContext, plan_scene
from randscene.generator.render_device import actor_options, settle_device
from randscene.generator.scene_task import SceneActor, SceneOutcome, pack_block, scene_is_staged
from randscene.manifests import AssetRecord, DatasetSpec, attribution_markdown, load_lock, usable, write_lock
from randscene.ray_session import deaths, ray_session
from randscene.shards import load_index
from randscene.shards.dataset_card import write_card

log = logging.getLogger(__name__)

TRANSIENT_RETRIES = 3
"""How often one attempt is tried again after its renderer or its actor died, before the scene is planned anew."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """A snapshot for progress displays."""

    scenes_done: int
    scenes_total: int
    views: int
    """Views made by this run."""
    failures: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class BuildReport:
    """What a build ended with."""

    root: Path
    fingerprint: str
    scenes: int
    samples: int
    shards: int
    scenes_made: int
    """Scenes made by this run; the others were there already."""
    views_made: int
    seconds: float
    failures: list[Failure] = field(default_factory=list)
    given_up: tuple[int, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every scene that was asked for is in a shard."""
        return not self.given_up


@dataclass
class _BlockState:
    block: Block
    attempts: dict[int, int] = field(default_factory=dict)
    given_up: set[int] = field(default_factory=set)

    @property
    def ready(self) -> bool:
        return len(self.attempts) + len(self.given_up) == len(self.block.scenes)


def generate(
    spec: DatasetSpec,
    lock: Sequence[AssetRecord] | str | Path,
    out: str | Path,
    *,
    ray_address: str | None = None,
    workers: int | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> BuildReport:
    """Build a dataset, or finish one that was interrupted: plan, render, voxelise, encode, pack.

    The same call on the same machine type ends in the same shard bytes, however often it was killed and on however
    many workers it runs.

    Parameters
    ----------
    spec : DatasetSpec
    lock : sequence of AssetRecord, or path of a lock file
    out : path
        Dataset folder. On a cluster it must lie on a file system that all nodes share.
    ray_address : str, optional
        A running Ray cluster; a local one is started otherwise.
    workers : int, optional
        Scenes made at the same time; by default one for every `spec.render.threads` CPUs of the cluster, and where a
        graphics card renders, no more than `spec.render.processes_per_gpu` for each card.
    progress : callable, optional
        Called with a `Progress` after every change.

    Raises
    ------
    SpecError, LockError
        If the spec cannot be met with these assets, or an asset does not match its lock.
    DatasetError
        If the folder holds something else.
    RenderError
        If this machine, or the cluster, has no such device.
    RandsceneError
        If the disk is full or read-only, or a worker met a fault of the program.
    """
    if "://" in str(out):
        raise DatasetError(f"{out}: this release writes to local or mounted folders only; give a path")
    records = load_lock(lock) if isinstance(lock, str | Path) else list(lock)
    context = PlanContext.of(spec, records)
    spec = settle_device(spec, cluster=ray_address not in (None, "local"))
    identity = fingerprint(spec, records, _encoder_sha256(spec))
    folder = DatasetFolder(Path(out).absolute())
    begun = time.monotonic()
    with folder.claim(spec, identity):
        _write_entrance(folder, spec, records, identity)
        build = _Build(folder, spec, context, identity, progress)
        build.find_done()
        if build.unfinished:
            with ray_session(ray_address, cpus=workers and workers * spec.render.threads) as ray:
                build.run(ray, records, workers)
        return build.close(records, time.monotonic() - begun)


class _Build:
    """State of one run of the driver."""

    def __init__(
        self,
        folder: DatasetFolder,
        spec: DatasetSpec,
        context: PlanContext,
        identity: str,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self.folder = folder
        self.spec = spec
        self.context = context
        self.identity = identity
        self.states = [_BlockState(block) for block in blocks(spec)]
        self.failures: list[Failure] = []
        self.views_made = 0
        self.scenes_made = 0
        self.unfinished: list[_BlockState] = []
        self._progress = progress
        self._retries: dict[tuple[int, int], int] = {}

    def find_done(self) -> None:
        """Read from the folder which shards and scenes are done."""
        for state in self.states:
            header = self._committed_header(state.block)
            if header is not None:
                state.attempts = {int(scene): attempt for scene, attempt in header["attempts"].items()}
                state.given_up = set(state.block.scenes) - set(state.attempts)
                for scene in state.block.scenes:  # left by a run that was killed between its commit and its clean-up
                    self.folder.scene_path(scene).unlink(missing_ok=True)
                continue
            for scene in state.block.scenes:
                attempt = scene_is_staged(self.folder, scene, self.identity)
                if attempt is not None:
                    state.attempts[scene] = attempt
            self.unfinished.append(state)
        self._report()

    def _committed_header(self, block: Block) -> dict[str, Any] | None:
        path = self.folder.shard_path(block)
        if not path.with_suffix(".index.json").exists():
            return None
        try:
            index = load_index(path)
        except DatasetError as error:
            log.warning("%s; it is built again", error)
            return None
        whole = index.header["fingerprint"] == self.identity and tuple(index.header["scenes"]) == block.scenes
        return index.header if whole else None

    def run(self, ray: Any, records: Sequence[AssetRecord], workers: int | None) -> None:
        """Make the missing scenes with a pool of actors, and pack each block once its scenes are there."""
        options, room = actor_options(self.spec.render, ray.cluster_resources())
        remote_actor = ray.remote(**options)(SceneActor)
        remote_pack = ray.remote(num_cpus=0, max_retries=3)(pack_block)
        shared = [ray.put(self.spec), ray.put(list(records))]

        def start_actor() -> Any:
            return remote_actor.remote(*shared, str(self.folder.root), self.identity, self.context.pictures)

        owner = {scene: state for state in self.unfinished for scene in state.block.scenes}
        todo = deque((s, 0) for state in self.unfinished for s in state.block.scenes if s not in state.attempts)
        count = min(len(todo), workers or room)
        if "num_gpus" in options:
            # More would wait for a card until the others are done, each with a scene of its own.
            count = min(count, room)
        idle = [start_actor() for _ in range(count)]
        running: dict[Any, tuple[Any, int, int]] = {}
        packing: set[Any] = set()
        waiting = list(self.unfinished)

        while todo or running or packing or waiting:
            for state in [state for state in waiting if state.ready]:
                waiting.remove(state)
                packing.add(
                    remote_pack.remote(
                        str(self.folder.root), state.block, state.attempts, self.spec.seed, self.identity
                    )
                )
            while todo and idle:
                actor = idle.pop()
                scene, attempt = todo.popleft()
                running[actor.make.remote(scene, attempt)] = (actor, scene, attempt)
            (finished,), _ = ray.wait([*running, *packing], num_returns=1)
            if finished in packing:
                ray.get(finished)
                packing.remove(finished)
                continue
            actor, scene, attempt = running.pop(finished)
            try:
                outcome = ray.get(finished)
                idle.append(actor)
            except deaths(ray) as error:
                outcome = SceneOutcome(
                    scene=scene, attempt=attempt, reason="actor_died", stage="ray", message=str(error), transient=True
                )
                idle.append(start_actor())
            again = self._settle(outcome, owner[scene])
            if again is not None:
                todo.appendleft((scene, again))
            self._report()

    def _settle(self, outcome: SceneOutcome, state: _BlockState) -> int | None:
        """Book one outcome; returns the attempt to try next, or None when the scene is settled."""
        if outcome.fatal:
            if outcome.log_tail:
                log.error("%s", outcome.log_tail)
            raise RandsceneError(f"scene {outcome.scene}, attempt {outcome.attempt}: {outcome.message}")
        if not outcome.reason:
            state.attempts[outcome.scene] = outcome.attempt
            self.scenes_made += 1
            self.views_made += outcome.views
            return None
        key = (outcome.scene, outcome.attempt)
        self._retries[key] = self._retries.get(key, 0) + 1
        same_again = outcome.transient and self._retries[key] <= TRANSIENT_RETRIES
        failure = Failure(
            scene=outcome.scene,
            attempt=outcome.attempt,
            stage=outcome.stage,
            reason=outcome.reason,
            message=outcome.message,
            transient=same_again,
            log_tail=outcome.log_tail,
        )
        self.failures.append(failure)
        append_failure(self.folder.root / "failures.jsonl", failure)
        if same_again:
            return outcome.attempt
        if outcome.attempt + 1 < self.spec.attempts:
            return outcome.attempt + 1
        state.given_up.add(outcome.scene)
        return None

    def _report(self) -> None:
        if self._progress is not None:
            self._progress(
                Progress(
                    scenes_done=sum(len(state.attempts) for state in self.states),
                    scenes_total=sum(len(state.block.scenes) for state in self.states),
                    views=self.views_made,
                    failures=reasons(self.failures),
                )
            )

    def close(self, records: Sequence[AssetRecord], seconds: float) -> BuildReport:
        """Write the files that describe the whole, and say what the build ended with."""
        attempts = {scene: attempt for state in self.states for scene, attempt in state.attempts.items()}
        recipes = (plan_scene(self.context, scene, attempts[scene]).to_json() + "\n" for scene in sorted(attempts))
        write_atomic(self.folder.root / "recipes.jsonl", "".join(recipes))
        counts = _counts(self.folder, self.spec)
        given_up = tuple(sorted(scene for state in self.states for scene in state.given_up))
        self.folder.write_info(self.spec, records, self.identity, counts=counts, complete=not given_up)
        write_card(self.folder.root)
        with contextlib.suppress(FileNotFoundError, OSError):
            self.folder.work.rmdir()  # only when empty: a file left there belongs to a scene of another run
        return BuildReport(
            root=self.folder.root,
            fingerprint=self.identity,
            scenes=len(attempts),
            samples=sum(count["samples"] for count in counts.values()),
            shards=len(self.states),
            scenes_made=self.scenes_made,
            views_made=self.views_made,
            seconds=seconds,
            failures=self.failures,
            given_up=given_up,
        )


def _counts(folder: DatasetFolder, spec: DatasetSpec) -> dict[str, dict[str, int]]:
    counts = {name: {"scenes": 0, "samples": 0, "shards": 0} for name in spec.splits}
    for block in blocks(spec):
        index = load_index(folder.shard_path(block))
        counts[block.split]["scenes"] += len(index.header["attempts"])
        counts[block.split]["samples"] += len(index.samples)
        counts[block.split]["shards"] += 1
    return counts


def _write_entrance(folder: DatasetFolder, spec: DatasetSpec, records: Sequence[AssetRecord], identity: str) -> None:
    """The files that make a folder a dataset, written before any scene so that a second run knows whose it is."""
    empty = {name: {"scenes": 0, "samples": 0, "shards": 0} for name in spec.splits}
    write_lock(folder.root / "assets.lock.jsonl", records)
    write_atomic(folder.root / "ATTRIBUTION.md", attribution_markdown(usable(records)))
    if not folder.info_path.exists() or not folder.read_info()["complete"]:
        folder.write_info(spec, records, identity, counts=empty, complete=False)


def _encoder_sha256(spec: DatasetSpec) -> str | None:
    if spec.latents.encoder is None:
        return None
    from randscene.train import load_encoder  # needs torch, which builds without latents do without

    return str(load_encoder(spec.latents.encoder).sha256)
