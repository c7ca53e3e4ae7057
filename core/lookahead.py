"""Work on the next item while the present one is in use."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")
_END: Any = object()


def lookahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items in the same order, each made by a second thread while the one before is in use.

    An error of `items` is raised where its item would have come.
    """
    with ThreadPoolExecutor(1) as thread:
        upcoming = thread.submit(next, items, _END)
        while (item := upcoming.result()) is not _END:
            upcoming = thread.submit(next, items, _END)
            yield item
