"""Journal: a file of JSON lines that grows while a build runs. For people and their tools; no dataset depends on it."""

import datetime
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from randscene.errors import DatasetError
from randscene.files import explain_os_errors
from randscene.shards.store import Store

SEND_EVERY_S = 30.0
"""Object stores cannot append: there the whole file is sent again, no more often than this."""


class Journal:
    """Appends records to `name` in a dataset folder.

    Parameters
    ----------
    store : Store
    name : str
    """

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self._name = name
        self._begun = False
        self._lines: list[str] | None = None
        self._sent = float("-inf")

    def add(self, record: Mapping[str, Any]) -> None:
        """Append one record, with the time of writing.

        Raises
        ------
        RandsceneError
            If the disk is full or not writable.
        """
        # The one wall clock in this room: a log line, which no byte of a dataset depends on.
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")  # noqa: TID251
        line = json.dumps({**record, "time": now}, sort_keys=True) + "\n"
        if self._store.local is not None:
            path = self._store.local / self._name
            with explain_os_errors(path), open(path, "ab") as handle:
                if not self._begun:
                    _drop_cut_line(path)
                    self._begun = True
                handle.write(line.encode())
            return
        if self._lines is None:
            self._lines = _text(self._store, self._name).splitlines(keepends=True)
        self._lines.append(line)
        if time.monotonic() - self._sent >= SEND_EVERY_S:
            self.flush()

    def flush(self) -> None:
        """Send what has not been sent yet."""
        if self._lines is not None:
            self._store.write(self._name, "".join(self._lines))
            self._sent = time.monotonic()


def read_journal(store: Store, name: str) -> list[dict[str, Any]]:
    """The records of a journal; empty when there is none. A last line that a kill cut short is left out.

    Raises
    ------
    DatasetError
        If another line is not a record.
    """
    lines = _text(store, name).splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines.pop()
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            raise DatasetError(f"{store.url}/{name}, line {number}: not a record; remove the line")
        records.append(record)
    return records


def _drop_cut_line(path: Path) -> None:
    """Remove a last line that a kill cut short."""
    content = path.read_bytes()
    if not content.endswith(b"\n"):
        os.truncate(path, content.rfind(b"\n") + 1)


def _text(store: Store, name: str) -> str:
    try:
        return store.read(name).decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
