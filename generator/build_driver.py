"""BuildDriver: hands scenes to the pool, packs blocks whose scenes are there, and books what fails."""

import logging
import shutil
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from randscene.errors import RandsceneError
from randscene.generator.block_packers import BlockPackers
from randscene.generator.block_state import BlockState, Totals
from randscene.generator.block_task import PackedBlock
from randscene.generator.dataset_folder import WORK, DatasetFolder, versions
from randscene.generator.failures import NAME as FAILURES
from randscene.generator.failures import Failure, reasons
from randscene.generator.journal import Journal
from randscene.generator.planning import PlanContext
from randscene.generator.render_device import actor_options
from randscene.generator.scene_pool import ScenePool
from randscene.generator.scene_task import SceneActor, SceneOutcome
from randscene.generator.worker_place import waits_for
from randscene.manifests import AssetRecord, DatasetSpec
from randscene.ray_session import dashboard_url
from randscene.shards.commit import remove_leftovers
from randscene.shards.writer_lock import Hold

log = logging.getLogger(__name__)

PROGRESS = "progress.jsonl"
TRANSIENT_RETRIES = {"timeout": 1, "actor_died": 20}
OTHER_RETRIES = 5
"""How often one attempt is tried again, by reason, before the scene is planned anew, which changes the bytes. An actor
dies of what happens to its machine, hardly of its scene; a time-out has cost hours and will mostly come again."""
PACK_RETRIES = 20
"""How often a block is packed again because its packer died."""
PACKERS = 4
"""Blocks that are packed at the same time."""
TICK_S = 1.0
RESIZE_S = 5.0
"""How often to look for machines that came or went."""
PATIENCE_S = 15.0
"""How long to be silent while no machine can hold a worker."""
JOURNAL_S = 30.0
"""How often a line is added to the progress journal."""
FREE_BYTES = 16 * 2**20
"""Room that must be left on a local disk beyond what the scenes at hand will take."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """A snapshot for progress displays; a line of `progress.jsonl`."""

    scenes_done: int
    """Scenes that are staged or in shards."""
    scenes_total: int
    scenes_given_up: int
    shards_done: int
    shards_total: int
    views: int
    """Views made by this run."""
    views_per_s: float
    """Since the first worker of this run was ready."""
    failures: dict[str, int]
    """Failed attempts of this run by reason."""
    bytes: int
    """Of committed shards."""
    staged_bytes: int
    """Of scenes that wait for the others of their block."""
    free_bytes: int | None
    """Room on the disk; None for object stores."""
    seconds_left: float | None
    """At the pace of this run; None until a scene is done."""
    workers: int
    """Actors that run."""
    dashboard: str
    """URL of Ray's dashboard, or empty."""


class BuildDriver:
    """One run over the blocks of a dataset.

    Parameters
    ----------
    folder : DatasetFolder
        Claimed by this process.
    spec : DatasetSpec
    context : PlanContext
    identity : str
        Fingerprint of the dataset.
    states : sequence of BlockState
        All blocks, as they were found.
    max_staged_bytes : int
        Bytes of staged scenes above which no new block is begun.
    hold : Hold
        Of the folder.
    progress : callable, optional
        Called with a `Progress`.
    """

    def __init__(
        self,
        folder: DatasetFolder,
        spec: DatasetSpec,
        context: PlanContext,
        identity: str,
        states: Sequence[BlockState],
        max_staged_bytes: int,
        hold: Hold,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self.identity = identity
        self.states = states
        self.unfinished = [state for state in states if not state.committed]
        self.failures: list[Failure] = []
        self.scenes_made = 0
        self.views_made = 0
        self._folder = folder
        self._spec = spec
        self._context = context
        self._max_staged_bytes = max_staged_bytes
        self._hold = hold
        self._progress = progress
        self._scenes_total = sum(len(state.block.scenes) for state in states)
        self._totals = Totals.of(states)
        self._owner: dict[int, BlockState] = {}
        """The blocks that are begun and not in a shard, by scene."""
        self._todo: deque[tuple[int, int]] = deque()
        """Scenes of those blocks to make, and their attempts."""
        self._fresh: deque[BlockState] = deque()
        """Blocks that are not begun."""
        self._fresh_scenes = 0
        self._ready: deque[BlockState] = deque()
        """Blocks to pack."""
        self._tries: dict[tuple[int, int], int] = {}
        self._failure_journal = Journal(folder.store, FAILURES)
        self._progress_journal = Journal(folder.store, PROGRESS)
        self._journal_at = time.monotonic()
        self._pool: ScenePool | None = None
        self._packers: BlockPackers | None = None
        self._working_since: float | None = None
        self._report()

    def run(self, ray: Any, records: Sequence[AssetRecord], workers: int | None) -> None:
        """Make the missing scenes and pack each block once its scenes are there.

        Raises
        ------
        RandsceneError
            If the disk or store is full, the lock was lost, or a worker met a fault of the program.
        """
        try:
            self._run(ray, records, workers)
        finally:
            for actors in (self._pool, self._packers):
                if actors is not None:
                    actors.close()
            self._progress_journal.add(asdict(self._snapshot()))
            self._progress_journal.flush()
            self._failure_journal.flush()

    def _run(self, ray: Any, records: Sequence[AssetRecord], workers: int | None) -> None:
        url = self._folder.store.url
        options, _ = actor_options(self._spec.render, ray.cluster_resources())
        remote_actor = ray.remote(**options)(SceneActor)
        shared = [ray.put(self._spec), ray.put(list(records))]
        pool = self._pool = ScenePool(
            ray,
            lambda: remote_actor.remote(*shared, url, self.identity, self._context.pictures, self._hold.token),
            versions(self._spec),
        )
        packers = self._packers = BlockPackers(ray)
        self._line_up()
        resized = ticked = float("-inf")
        silent_until = time.monotonic() + PATIENCE_S
        room = 0
        while self._totals.shards < len(self.states):
            now = time.monotonic()
            if now - resized >= RESIZE_S:
                resized = now
                self._hold.check()
                room = self._room(ray, workers)
                if now >= silent_until and not pool.ready and (what := waits_for(options, ray.nodes())):
                    silent_until = float("inf")  # once is enough
                    log.warning("no worker can start yet: waiting for %s", what)
            pool.grow(min(self._scenes_left + pool.at_work, room))
            while self._ready and packers.at_work < PACKERS:
                state = self._ready.popleft()
                scenes = state.staged, state.given_up
                packers.pack(state, url, state.block, *scenes, self._spec.seed, self.identity, self._hold.token)
            while pool.has_idle and (following := self._next_scene()) is not None:
                pool.assign(*following)
            if self._scenes_left and not (pool.at_work or packers.at_work) and pool.has_idle:
                raise RandsceneError(
                    f"{url}: the disk is nearly full; free some space, then run the same command again"
                )
            for ref in ray.wait([*pool.refs, *packers.refs], num_returns=1, timeout=TICK_S)[0]:
                if ref in packers.refs:
                    self._settle_block(*packers.take(ref))
                elif (outcome := pool.take(ref)) is not None:
                    self._settle_scene(outcome)
                elif self._working_since is None and pool.ready:
                    self._working_since = time.monotonic()
            if time.monotonic() - ticked >= TICK_S / 4:
                ticked = time.monotonic()
                self._report()
        self._sweep()
        self._report()

    def _room(self, ray: Any, workers: int | None) -> int:
        """How many actors to have."""
        options, room = actor_options(self._spec.render, ray.cluster_resources())
        # More would wait for a card until the others are done.
        return min(workers, room) if workers and "num_gpus" in options else workers or room

    def _line_up(self) -> None:
        """Sort what is left to do: blocks to pack, scenes of blocks that are begun, blocks that are not."""
        self._totals = Totals.of(self.states)
        for state in self.unfinished:
            if state.ready:
                self._ready.append(state)
            elif state.staged or state.given_up:
                self._begin(state)
            else:
                self._fresh.append(state)
                self._fresh_scenes += len(state.block.scenes)

    def _begin(self, state: BlockState) -> None:
        self._owner |= dict.fromkeys(state.block.scenes, state)
        self._todo.extend((scene, 0) for scene in state.missing)

    @property
    def _scenes_left(self) -> int:
        """Scenes that nobody makes yet."""
        return len(self._todo) + self._fresh_scenes

    def _next_scene(self) -> tuple[int, int] | None:
        """The next scene to make and its attempt; None where there is none, or no room for what it would leave."""
        assert self._pool is not None
        if not self._scenes_left or not self._disk_has_room():
            return None
        if not self._todo:
            # While too much waits, finish what is begun.
            if self._totals.staged_bytes > self._max_staged_bytes and self._pool.at_work:
                return None
            state = self._fresh.popleft()
            self._fresh_scenes -= len(state.block.scenes)
            self._begin(state)
        return self._todo.popleft()

    def _disk_has_room(self) -> bool:
        local = self._folder.store.local
        if local is None:
            return True
        assert self._pool is not None
        # Each scene at work, this one, and one shard beside its staged scenes.
        needed = self._totals.largest * (self._pool.at_work + 1 + self._spec.shards.scenes_per_shard)
        return shutil.disk_usage(local).free > FREE_BYTES + needed

    def _sweep(self) -> None:
        """Remove what killed workers left half written: all is committed, nobody writes any more."""
        remove_leftovers(self._folder.store, ("shards", "scenes", WORK))

    def _settle_block(self, state: BlockState, packed: PackedBlock | None) -> None:
        """Book what became of a block, and put it or its damaged scenes back where they shall be tried again."""
        name = self._folder.shard_name(state.block)
        if packed is None:
            key = (-1, state.block.scenes[0])
            self._tries[key] = self._tries.get(key, 0) + 1
            if self._tries[key] > PACK_RETRIES:
                raise RandsceneError(f"{name}: each process that packed it died; see that memory does not run out")
            self._ready.appendleft(state)
            return
        if packed.error:
            raise RandsceneError(f"{name}: {packed.error}")
        for scene, message in packed.damaged.items():
            staged = state.staged.pop(scene)
            self._totals.unstage(staged)
            self._owner[scene] = state
            lost = SceneOutcome(scene=scene, attempt=staged.attempt, reason="damaged", stage="pack", message=message)
            self._fail(lost, True)
            self._todo.appendleft((scene, staged.attempt))
        if packed.damaged:
            return
        for scene in state.block.scenes:
            self._owner.pop(scene, None)
        self._totals.commit(state.staged.values(), packed.bytes)
        state.commit(len(state.staged), packed.samples, packed.bytes, packed.sha256)

    def _settle_scene(self, outcome: SceneOutcome) -> None:
        """Book what became of a scene, and put it back where it shall be tried again."""
        if outcome.fatal:
            if outcome.log_tail:
                log.error("%s", outcome.log_tail)
            raise RandsceneError(f"scene {outcome.scene}, attempt {outcome.attempt}: {outcome.message}")
        state = self._owner[outcome.scene]
        if outcome.staged is not None:
            state.staged[outcome.scene] = outcome.staged
            self._totals.stage(outcome.staged)
            self.scenes_made += 1
            self.views_made += outcome.staged.samples
            self._pack_if_ready(state)
            return
        key = (outcome.scene, outcome.attempt)
        self._tries[key] = self._tries.get(key, 0) + 1
        same_again = outcome.transient and self._tries[key] <= TRANSIENT_RETRIES.get(outcome.reason, OTHER_RETRIES)
        self._fail(outcome, same_again)
        if same_again:
            self._todo.appendleft((outcome.scene, outcome.attempt))
        elif outcome.attempt + 1 < self._spec.attempts:
            self._todo.appendleft((outcome.scene, outcome.attempt + 1))
        else:
            state.given_up[outcome.scene] = outcome.reason
            self._totals.given_up += 1
            self._pack_if_ready(state)

    def _pack_if_ready(self, state: BlockState) -> None:
        if state.ready:
            self._ready.append(state)

    def _fail(self, outcome: SceneOutcome, same_again: bool) -> None:
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
        self._failure_journal.add(asdict(failure))

    def _snapshot(self) -> Progress:
        totals = self._totals
        left = self._scenes_total - totals.scenes - totals.given_up
        local, since = self._folder.store.local, self._working_since
        seconds = time.monotonic() - since if since is not None else 0.0
        return Progress(
            scenes_done=totals.scenes,
            scenes_total=self._scenes_total,
            scenes_given_up=totals.given_up,
            shards_done=totals.shards,
            shards_total=len(self.states),
            views=self.views_made,
            views_per_s=round(self.views_made / seconds, 3) if seconds else 0.0,
            failures=reasons(self.failures),
            bytes=totals.bytes,
            staged_bytes=totals.staged_bytes,
            free_bytes=shutil.disk_usage(local).free if local is not None else None,
            seconds_left=round(seconds / self.scenes_made * left, 1) if self.scenes_made else None,
            workers=self._pool.ready if self._pool is not None else 0,
            dashboard=dashboard_url(),
        )

    def _report(self) -> None:
        due = time.monotonic() - self._journal_at >= JOURNAL_S
        if self._progress is None and not due:
            return
        snapshot = self._snapshot()
        if self._progress is not None:
            self._progress(snapshot)
        if due:
            self._journal_at = time.monotonic()
            self._progress_journal.add(asdict(snapshot))
