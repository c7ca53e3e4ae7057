"""The asset lock that lies in a dataset folder, as far as readers of the dataset look at it."""

import json
from collections.abc import Callable
from typing import Any, TypeVar

from randscene.errors import DatasetError
from randscene.shards.store import Store

LOCK = "assets.lock.jsonl"
T = TypeVar("T")


def read_records(store: Store, take: Callable[[dict[str, Any]], T]) -> list[T] | None:
    """What `take` makes of each record of the dataset's lock, in its order; None where there is no lock.

    Raises
    ------
    DatasetError
        If a line is no record, or lacks what `take` looks for.
    """
    try:
        lines = store.open(LOCK)
    except FileNotFoundError:
        return None
    found = []
    with lines:
        for number, line in enumerate(lines, start=1):
            try:
                found.append(take(json.loads(line)))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise DatasetError(
                    f"{store.url}/{LOCK}, line {number} is not an asset record; copy the lock again"
                ) from error
    return found
