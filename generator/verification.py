"""verify: the layouts of planned scenes against the meshes that they place, on any number of processes."""

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

from randscene.errors import AssetError, DatasetError, LockError, RandsceneError
from randscene.generator.collision_body import CollisionBody
from randscene.generator.geometry_cache import GeometryCache
from randscene.generator.layout_report import LayoutReport, ReportBuilder
from randscene.generator.recipe import SceneRecipe, recipe_from_json
from randscene.generator.scene_check import SceneCheck, check_scene
from randscene.manifests import AssetRecord, load_asset_mesh, load_lock, verified_path
from randscene.manifests.spec_sections import VerifySpec
from randscene.worker_pool import worker_pool

DRAWN = 12
"""Layouts that are kept for a drawing."""
CACHE_BYTES = 1 << 29
"""Geometry that each process keeps."""
CHUNK = 16
"""Scenes that a process gets at a time."""

_Task = tuple[int, SceneRecipe | str]
"""Position in the input (1-based), and the recipe."""


def verify(
    recipes: Iterable[SceneRecipe | str],
    lock: Sequence[AssetRecord] | str | Path,
    *,
    tolerances: VerifySpec | None = None,
    workers: int = 1,
    failures: Mapping[str, int] | None = None,
    notes: Callable[[], Iterable[str]] = tuple,
    progress: Callable[[int], None] | None = None,
) -> LayoutReport:
    """Check layouts on the real meshes: penetration, contact, overhang and discs (see `scene_check.check_scene`).

    The recipes are taken one after the other, so there may be any number of them. The report does not depend on the
    number of workers.

    Parameters
    ----------
    recipes : iterable of SceneRecipe or str
        Recipes, or their JSON texts.
    lock : sequence of AssetRecord, or path of a lock file
        The lock that they were planned with.
    tolerances : VerifySpec, optional
        The defaults otherwise.
    workers : int
        Processes; 1 works in this one. More are started afresh, so a script needs its `if __name__ == "__main__"`.
    failures : mapping of str to int, optional
        Failed attempts by reason, for the report.
    notes : callable
        Gives lines for the report once all recipes are read.
    progress : callable, optional
        Called with the number of scenes done.

    Raises
    ------
    DatasetError
        If a text is not a recipe, a scene appears twice, there is none, or a recipe does not fit the lock.
    LockError
        If an asset's file is missing, has changed or cannot be read.
    """
    records = load_lock(lock) if isinstance(lock, str | Path) else list(lock)
    tolerances = tolerances or VerifySpec()
    begun = time.monotonic()
    builder = ReportBuilder(tolerances, {record.uid: Path(record.locator).name for record in records}, DRAWN)
    seen: set[int] = set()
    for check in _checks(enumerate(recipes, start=1), records, tolerances, workers):
        if check.scene in seen:
            raise DatasetError(f"scene {check.scene} appears twice in the recipes; plan the scenes again")
        seen.add(check.scene)
        builder.add(check)
        if progress is not None:
            progress(len(seen))
    if not seen:
        raise DatasetError("there are no recipes to check")
    return builder.finish(failures=failures or {}, notes=notes(), seconds=time.monotonic() - begun)


class _Checker:
    """What one process holds."""

    def __init__(self, records: Sequence[AssetRecord], tolerances: VerifySpec) -> None:
        self._records = {record.uid: record for record in records}
        self._tolerances = tolerances
        self._bodies = GeometryCache(self._load, lambda body: body.nbytes, CACHE_BYTES)

    def check(self, task: _Task) -> SceneCheck:
        position, item = task
        try:
            recipe = recipe_from_json(item) if isinstance(item, str) else item
        except DatasetError as error:
            raise DatasetError(f"recipe {position}: {error}") from error
        return check_scene(recipe, self._records, self._bodies.get, self._tolerances, outlines=position <= DRAWN)

    def _load(self, uid: str) -> CollisionBody:
        record = self._records[uid]
        try:
            return CollisionBody.of(load_asset_mesh(verified_path(record), up_axis=record.up_axis))
        except AssetError as error:
            raise LockError(f"asset {uid}: {error}; build the lock again with `randscene assets build`") from error


def _checks(
    tasks: Iterator[_Task], records: Sequence[AssetRecord], tolerances: VerifySpec, workers: int
) -> Iterator[SceneCheck]:
    """The outcomes in the order of the tasks."""
    if workers < 1:
        raise RandsceneError(f"workers must be at least 1, not {workers}")
    if workers == 1:
        checker = _Checker(records, tolerances)
        yield from map(checker.check, tasks)
        return
    with worker_pool(workers, does="checking", start=_start_worker, arguments=(list(records), tolerances)) as pool:
        pending: deque[Future[list[SceneCheck]]] = deque()
        while True:
            # A bounded number of chunks is under way, whatever the number of scenes.
            while len(pending) < 4 * workers and (chunk := list(itertools.islice(tasks, CHUNK))):
                pending.append(pool.submit(_check_chunk, chunk))
            if not pending:
                return
            yield from pending.popleft().result()


_checker: _Checker | None = None  # of a worker process


def _start_worker(records: Sequence[AssetRecord], tolerances: VerifySpec) -> None:
    global _checker
    _checker = _Checker(records, tolerances)


def _check_chunk(chunk: list[_Task]) -> list[SceneCheck]:
    assert _checker is not None
    return [_checker.check(task) for task in chunk]
