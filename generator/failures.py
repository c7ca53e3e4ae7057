"""failures.jsonl: every attempt that did not become a scene, with its typed reason."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from randscene.errors import DatasetError
from randscene.generator.journal import read_journal
from randscene.shards.store import Store

NAME = "failures.jsonl"


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """One failed attempt. The record is for people; nothing is derived from it."""

    scene: int
    attempt: int
    stage: str
    reason: str
    message: str
    transient: bool
    """True when the same attempt was tried again, False when the scene was planned anew."""
    log_tail: str = ""


def read_failures(store: Store) -> list[Failure]:
    """All failures that the builds of a dataset recorded, oldest first.

    Raises
    ------
    DatasetError
        If a line is not a record of a failure.
    """
    return [_failure(record, f"{store.url}/{NAME}") for record in read_journal(store, NAME)]


def reasons(failures: Iterable[Failure]) -> dict[str, int]:
    """How often each reason occurred, most frequent first."""
    return dict(Counter(failure.reason for failure in failures).most_common())


def _failure(record: Mapping[str, Any], where: str) -> Failure:
    try:
        return Failure(
            scene=int(record["scene"]),
            attempt=int(record["attempt"]),
            stage=str(record["stage"]),
            reason=str(record["reason"]),
            message=str(record["message"]),
            transient=bool(record["transient"]),
            log_tail=str(record.get("log_tail", "")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{where}: not a record of a failure: {record}") from error
