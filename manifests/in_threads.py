"""Work that mostly waits (networks, disks) done in threads, a few items ahead of whoever takes the results."""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from randscene.errors import RandsceneError

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(
    work: Callable[[Item], Result], items: Iterable[Item], *, threads: int
) -> Iterator[tuple[Item, Result | RandsceneError]]:
    """Yield (item, `work(item)`) in order of completion.

    At most 2 * `threads` items are begun and not yet taken, whatever the number of items. The threads do not outlive
    the process: an interrupted program ends at once, even while one of them waits for a server.

    Parameters
    ----------
    work : callable
        Called in the threads. A `RandsceneError` that it raises is yielded as the result.
    items : iterable
        Read in the caller's thread.
    threads : int
        At least 1.

    Raises
    ------
    Exception
        Whatever else `work` raises.
    """
    todo: queue.SimpleQueue[Item | None] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[Item, Result | RandsceneError | None, BaseException | None]] = queue.SimpleQueue()
    stopped = threading.Event()

    def serve() -> None:
        while (item := todo.get()) is not None and not stopped.is_set():
            try:
                done.put((item, work(item), None))
            except RandsceneError as error:
                done.put((item, error, None))
            except BaseException as error:
                done.put((item, None, error))

    waiting = iter(items)
    begun = running = 0
    try:
        while True:
            while running < 2 * threads and (item := next(waiting, None)) is not None:
                todo.put(item)
                running += 1
                if begun < threads:
                    threading.Thread(target=serve, daemon=True).start()
                    begun += 1
            if running == 0:
                return
            item, result, fault = done.get()
            running -= 1
            if fault is not None:
                raise fault
            yield item, result  # type: ignore[misc]  # None only if `work` gives it
    finally:
        stopped.set()
        for _ in range(begun):
            todo.put(None)
