"""failures.jsonl: every attempt that did not become a scene, with its typed reason."""

import datetime
import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from randscene.files import explain_os_errors


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


def append_failure(path: Path, failure: Failure) -> None:
    """Append one line to `path`, with the time of writing."""
    # The one wall clock in this room: a log line, which no byte of a dataset depends on.
    record = {**asdict(failure), "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")}  # noqa: TID251
    with explain_os_errors(path), open(path, "a", encoding="utf-8") as handle:
        handle.write(json.dumps(record, sort_keys=True) + "\n")


def reasons(failures: list[Failure]) -> dict[str, int]:
    """How often each reason occurred, most frequent first."""
    return dict(Counter(failure.reason for failure in failures).most_common())
