"""Processes that work beside this one: spawned, with one numeric thread each, deaf to Ctrl-C."""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from randscene.errors import RandsceneError

_THREAD_SETTINGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@contextlib.contextmanager
def worker_pool(workers: int, *, does: str) -> Iterator[ProcessPoolExecutor]:
    """A pool of `workers` spawned processes, shut down at the end; what has not begun by then is dropped.

    A script that comes here must guard its entry with `if __name__ == "__main__"`.

    Parameters
    ----------
    workers : int
    does : str
        What the processes do, for people: "scoring".

    Raises
    ------
    RandsceneError
        If a process was killed.
    """
    with _single_threaded_children():
        spawn = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(workers, mp_context=spawn, initializer=_leave_interrupts_to_parent)
        try:
            yield pool
        except BrokenProcessPool as error:
            raise RandsceneError(
                f"a {does} process was killed, most likely for want of memory; run again with fewer workers"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _leave_interrupts_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextlib.contextmanager
def _single_threaded_children() -> Iterator[None]:
    # Numeric libraries read these when they are first imported, which in a spawned child is before any of our code.
    before = {name: os.environ.get(name) for name in _THREAD_SETTINGS}
    os.environ.update(dict.fromkeys(_THREAD_SETTINGS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
