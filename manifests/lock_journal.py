"""The journal of a lock build that has not ended: finished records, one line each, so that the build can go on."""

import logging
from pathlib import Path
from typing import Self

import randscene
from randscene import canonical_json
from randscene.errors import LockError
from randscene.files import explain_os_errors, write_atomic
from randscene.manifests.asset_record import AssetRecord
from randscene.manifests.lock import parse_record

logger = logging.getLogger(__name__)


class LockJournal:
    """Finished records beside the lock `out`, as a hidden file. A context manager: inside it, records can be added."""

    def __init__(self, out: Path) -> None:
        self._path = out.with_name(f".{out.name}.journal")
        self._head = canonical_json.dumps({"journal": 1, "version": randscene.__version__})

    def read(self) -> dict[str, AssetRecord]:
        """Records by uid; none if there is no journal or another release wrote it.

        Reading ends at the first line that is not whole: a killed process may leave half a line.
        """
        found: dict[str, AssetRecord] = {}
        if not self._path.is_file():
            return found
        head, *lines = self._path.read_text(encoding="utf-8", errors="replace").split("\n")
        if head != self._head:
            logger.info("%s is left out: another release wrote it", self._path)
            return found
        for number, line in enumerate(lines[:-1], start=2):
            try:
                record = parse_record(line, where=f"{self._path}, line {number}")
            except LockError as error:
                logger.warning("the journal ends here: %s", error)
                break
            found[record.uid] = record
        return found

    def __enter__(self) -> Self:
        # The whole part of what an earlier build left, under its name before anything is added to it.
        lines = [self._head, *map(canonical_json.dumps, self.read().values())]
        write_atomic(self._path, "".join(f"{line}\n" for line in lines))
        with explain_os_errors(self._path):
            self._handle = self._path.open("a", encoding="utf-8")
        return self

    def __exit__(self, *exc: object) -> None:
        self._handle.close()

    def append(self, record: AssetRecord) -> None:
        """Note one finished asset, with its locator as it is."""
        with explain_os_errors(self._path):
            self._handle.write(canonical_json.dumps(record) + "\n")
            self._handle.flush()

    def remove(self) -> None:
        """Forget the journal: the lock is written."""
        self._path.unlink(missing_ok=True)
