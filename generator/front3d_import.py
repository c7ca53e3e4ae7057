"""import-3dfront: MIDI's 3D-FRONT as a dataset folder like any other. The unit of work is a shard.

The driver keeps no state of its own: what is done is what lies in the folder, so that the same command goes on where
another was stopped, and ends in the same bytes on any number of workers.
"""

import contextlib
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from randscene.errors import RandsceneError, first_line
from randscene.generator.dataset_folder import LOCK
from randscene.generator.front3d_axes import ALIASES, Numbering, Reading, Verdict
from randscene.generator.front3d_block import BlockActor, RoomBlock, room_blocks
from randscene.generator.front3d_layout import (
    Front3dFolder,
    default_splits,
    find_lists,
    lists_sha256,
    parse_splits,
    read_lists,
    split_rooms,
)
from randscene.generator.front3d_output import RULES, Description, close, committed_header, has_faults, refuse_strangers
from randscene.generator.front3d_probe import find_reading
from randscene.generator.front3d_settings import Front3dSettings
from randscene.ray_session import deaths, ray_session
from randscene.shards.commit import remove_leftovers
from randscene.shards.store import Store, open_store
from randscene.shards.writer_lock import Hold, sole_writer

log = logging.getLogger(__name__)

STRIKES = 2
"""How often a block may kill its process before its rooms are tried one by one, and a room before it is given up."""


@dataclass(frozen=True, kw_only=True)
class ImportProgress:
    """A snapshot for progress displays."""

    rooms_done: int
    rooms_total: int
    samples: int
    left_out: dict[str, int]
    """Rooms without a sample, by reason."""


@dataclass(frozen=True, kw_only=True)
class ImportReport:
    """What an import ended with."""

    url: str
    fingerprint: str
    reading: Reading
    verdicts: list[Verdict]
    """Of the rooms that were looked at to find the axes; empty when they were known."""
    rooms: int
    """Rooms listed in the splits."""
    scenes: int
    """Rooms that have a sample."""
    samples: int
    shards: int
    shards_made: int
    """By this run; the others were there already."""
    samples_made: int
    seconds: float
    left_out: dict[str, int] = field(default_factory=dict)
    """Rooms without a sample, by reason."""
    views_left_out: dict[str, int] = field(default_factory=dict)
    """Views of the other rooms that are no samples, by reason."""

    @property
    def faults(self) -> dict[str, int]:
        """Rooms left out because of their files, not by a rule."""
        return {reason: count for reason, count in self.left_out.items() if reason not in RULES}


def import_3dfront(
    root: str | Path,
    out: str | Path,
    *,
    settings: Front3dSettings | None = None,
    ids: str | None = None,
    splits: Sequence[str] = (),
    test: bool = False,
    axes: str | None = None,
    numbering: Numbering | None = None,
    retry: bool = False,
    ray_address: str | None = None,
    workers: int | None = None,
    progress: Callable[[ImportProgress], None] | None = None,
) -> ImportReport:
    """Import a downloaded 3D-FRONT, or finish an import that was interrupted.

    Parameters
    ----------
    root : path
        Folder in MIDI's layout; on a cluster, on a file system that all nodes share.
    out : path or URL
        Dataset folder.
    settings : Front3dSettings, optional
    ids : str, optional
        The room list; by default the first of `front3d_layout.LISTS` that is there.
    splits : sequence of str
        Slices of the list, `train=:-1000`; by default MIDI's own: the last 1,000 rooms of `midi_room_ids.json` are
        `test`.
    test : bool
        Read the archives of the test set alone where both are there.
    axes, numbering : str, optional
        How to read the files; found out by looking at some rooms by default.
    retry : bool
        Also import those blocks anew in which files were missing or broken.
    ray_address : str, optional
        A running Ray cluster; a local one is started otherwise.
    workers : int, optional
        Blocks imported at the same time; by default one a CPU of the cluster.
    progress : callable, optional
        Called with an `ImportProgress` after every change.

    Raises
    ------
    DatasetError
        If the folder is not in this layout, its parts do not fit together, or `out` holds something else.
    RandsceneError
        If the disk is full or read-only, another import is at work, or workers keep dying.
    """
    settings = settings or Front3dSettings()
    begun = time.monotonic()
    folder = Front3dFolder(root, test=test)
    room_list, furniture_list = find_lists(root, ids, test=test)
    listed = read_lists(room_list, furniture_list)
    chosen = parse_splits(list(splits), len(listed)) if splits else default_splits(room_list.name, len(listed))
    rooms = split_rooms(listed, chosen)
    store = open_store(out)
    reading = refuse_strangers(store)
    verdicts: list[Verdict] = []
    if reading is None or axes is not None or numbering is not None:
        everything = [room for members in rooms.values() for room in members]
        wanted = None if axes is None else ALIASES.get(axes, axes)
        reading, verdicts = find_reading(folder, everything, settings, axes=wanted, numbering=numbering)
    description = Description(
        settings=settings, reading=reading, lists=lists_sha256(listed), list_name=room_list.name, splits=chosen
    )
    description.refuse_others(store)
    with _claimed(store) as hold:
        description.open(store, rooms)
        run = _Import(store, folder, description, room_blocks(rooms, settings.rooms_per_shard), progress)
        run.find_done(retry=retry)
        if run.unfinished:
            with ray_session(ray_address, cpus=workers) as ray:
                run.run(ray, workers, hold)
        closed = close(store, description, run.blocks)
    return ImportReport(
        url=store.url,
        fingerprint=description.fingerprint,
        reading=reading,
        verdicts=verdicts,
        rooms=sum(map(len, rooms.values())),
        scenes=closed.scenes,
        samples=closed.samples,
        shards=len(run.blocks),
        shards_made=run.shards_made,
        samples_made=run.samples_made,
        seconds=time.monotonic() - begun,
        left_out=closed.left_out,
        views_left_out=closed.views_left_out,
    )


@contextlib.contextmanager
def _claimed(store: Store) -> Iterator[Hold]:
    """Hold a dataset folder against other writers; the lock does not outlive its owner."""
    busy = f"{store.url}: another import or build is writing here; wait for it or stop it first"
    with sole_writer(store, LOCK, busy=busy) as hold:
        remove_leftovers(store, ("", "shards", "scenes", "surfaces", ".nv-meta"))
        yield hold


class _Import:
    """State of one run of the driver."""

    def __init__(
        self,
        store: Store,
        folder: Front3dFolder,
        description: Description,
        blocks: list[RoomBlock],
        progress: Callable[[ImportProgress], None] | None,
    ) -> None:
        self.blocks = blocks
        self.unfinished: list[RoomBlock] = []
        self.shards_made = 0
        self.samples_made = 0
        self._store = store
        self._folder = folder
        self._description = description
        self._progress = progress
        self._left_out: Counter[str] = Counter()

    def find_done(self, *, retry: bool) -> None:
        """Read from the folder which shards are done."""
        sizes = self._store.sizes("shards")
        for block in self.blocks:
            header = committed_header(self._store, block, self._description.fingerprint, sizes)
            if header is None or (retry and has_faults(header)):
                self.unfinished.append(block)
            else:
                self._left_out.update(header["given_up"].values())
        self._report()

    def run(self, ray: Any, workers: int | None, hold: Hold) -> None:
        """Import the missing blocks with a pool of actors."""
        remote = ray.remote(num_cpus=1)(BlockActor)
        shared = ray.put(self._folder), ray.put(self._description.reading), ray.put(self._description.settings)

        out = str(self._store.local or self._store.url)

        def start_actor() -> Any:
            return remote.remote(*shared, out, self._description.fingerprint, hold.token)

        cpus = max(1, int(ray.cluster_resources().get("CPU", 1)))
        todo: deque[RoomBlock] = deque(self.unfinished)
        # More than there are CPUs would never start: those that run keep theirs until the end.
        idle = [start_actor() for _ in range(min(len(todo), workers or cpus, cpus))]
        running: dict[Any, tuple[Any, RoomBlock]] = {}
        died: Counter[str] = Counter()
        dead: dict[str, frozenset[int]] = {}
        while todo or running:
            hold.check()
            while todo and idle:
                actor, block = idle.pop(), todo.popleft()
                running[actor.pack.remote(block, dead.get(block.name, frozenset()))] = (actor, block)
            (finished,), _ = ray.wait(list(running), num_returns=1)
            actor, block = running.pop(finished)
            try:
                samples = ray.get(finished)
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, RandsceneError):
                    raise error.cause from error
                raise
            except deaths(ray) as error:
                log.warning("a worker died in block %s: %s", block.name, first_line(error))
                ray.kill(actor)  # one that is only out of reach would keep its CPU from the next
                died[block.name] += 1
                if died[block.name] > 2 * STRIKES:
                    raise RandsceneError(
                        f"workers keep dying in {block.name}; what is done is kept: run the same command again, "
                        "with fewer --workers if memory ran out"
                    ) from error
                if died[block.name] == STRIKES:
                    dead[block.name] = _killers(ray, start_actor, block)
                idle.append(start_actor())
                todo.appendleft(block)
                continue
            idle.append(actor)
            self.shards_made += 1
            self.samples_made += samples
            self.unfinished.remove(block)
            header = committed_header(self._store, block, self._description.fingerprint) or {"given_up": {}}
            self._left_out.update(header["given_up"].values())
            self._report()

    def _report(self) -> None:
        if self._progress is not None:
            total = sum(len(block.rooms) for block in self.blocks)
            self._progress(
                ImportProgress(
                    rooms_done=total - sum(len(block.rooms) for block in self.unfinished),
                    rooms_total=total,
                    samples=self.samples_made,
                    left_out=dict(self._left_out.most_common()),
                )
            )


def _killers(ray: Any, start_actor: Callable[[], Any], block: RoomBlock) -> frozenset[int]:
    """Scenes of the rooms that kill the process that reads them, each tried by itself."""
    found = set()
    actor = start_actor()
    for room in block.rooms:
        for strike in range(1, STRIKES + 1):
            try:
                ray.get(actor.survives.remote(room))
                break
            except ray.exceptions.RayTaskError:
                break  # not a death: it comes again, with its message, when the block is packed
            except deaths(ray):
                ray.kill(actor)
                actor = start_actor()
                if strike == STRIKES:
                    found.add(room.scene)
    return frozenset(found)
