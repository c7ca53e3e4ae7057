"""Processes that work beside this one: spawned, with one numeric thread each, deaf to Ctrl-C, gone when it is."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from randscene.errors import RandsceneError

_ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


@contextlib.contextmanager
def worker_pool(
    workers: int, *, does: str, start: Callable[..., object] | None = None, arguments: tuple[Any, ...] = ()
) -> Iterator[ProcessPoolExecutor]:
    """A pool of `workers` spawned processes, shut down at the end; what has not begun by then is dropped.

    A script that comes here must guard its entry with `if __name__ == "__main__"`.

    Parameters
    ----------
    workers : int
    does : str
        What the processes do, for people: "scoring".
    start : callable, optional
        A module's function that each process calls first.
    arguments : tuple
        What it is called with.

    Raises
    ------
    RandsceneError
        If a process was killed.
    """
    with _environment_for_children(_ONE_THREAD):
        spawn = multiprocessing.get_context("spawn")
        pool = _DeafPool(workers, mp_context=spawn, initializer=_begin, initargs=(start, arguments))
        try:
            yield pool
        except BrokenProcessPool as error:
            raise RandsceneError(
                f"a {does} process was killed, most likely for want of memory; run again with fewer --workers"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _DeafPool(ProcessPoolExecutor):
    """Its processes never get SIGINT, not even while they load: Ctrl-C is the parent's business."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **more: Any) -> Future[Any]:
        # A submission may start a process, which inherits the mask.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            return super().submit(function, *arguments, **more)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(start: Callable[..., object] | None, arguments: tuple[Any, ...]) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if start is not None:
        start(*arguments)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextlib.contextmanager
def _environment_for_children(values: dict[str, str]) -> Iterator[None]:
    # Numeric libraries read these when they are first imported, which in a spawned child is before any of our code.
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
