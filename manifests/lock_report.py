"""What a lock build says: snapshots while it runs, and a report at its end."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from randscene.manifests.asset_record import AssetRecord
from randscene.manifests.licences import lacks_credit
from randscene.manifests.lock import same_shape
from randscene.manifests.sources import Listing


@dataclass(frozen=True, kw_only=True, slots=True)
class LockProgress:
    """A snapshot for progress displays."""

    stage: str
    """`list` (a source is read), `check` (finished records are held against their files) or `inspect`."""
    done: int
    total: int
    failures: dict[str, int]
    """Assets that cannot be used so far, by status."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LockReport:
    """What a lock build did."""

    path: Path
    n: int
    """Assets in the lock, usable or not."""
    counts: dict[str, int]
    """Number of assets by status; `ok` first, then by name."""
    duplicates: int
    """Files left out because another one holds the same bytes."""
    left_out: dict[str, int]
    """What else of the source did not come into the lock, by reason."""
    same_shape: tuple[tuple[str, ...], ...]
    """Groups of usable assets, by uid, that are the same shape in another guise (see `lock.same_shape`)."""
    uncredited: int
    """Usable assets whose licence asks for a credit that nobody has stated."""
    reused: int
    """Assets that an earlier, interrupted or equal build had finished."""
    seconds: float

    @classmethod
    def of(
        cls, path: Path, records: Iterable[AssetRecord], listing: Listing, *, reused: int, seconds: float
    ) -> "LockReport":
        """The report on a lock of these records, built from that listing."""
        records = list(records)
        statuses = Counter(record.status for record in records)
        good = [record for record in records if record.status == "ok"]
        return cls(
            path=path,
            n=len(records),
            counts={status: statuses[status] for status in sorted(statuses, key=lambda name: (name != "ok", name))},
            duplicates=listing.duplicates,
            left_out=dict(sorted(listing.left_out.items())),
            same_shape=same_shape(good),
            uncredited=sum(map(lacks_credit, good)),
            reused=reused,
            seconds=seconds,
        )


class ProgressTeller:
    """Turns what the stages count into `LockProgress`."""

    def __init__(self, progress: Callable[[LockProgress], None] | None) -> None:
        self._progress = progress
        self._failures: Counter[str] = Counter()

    def listed(self, done: int, total: int) -> None:
        self.tell("list", done, total)

    def failed(self, status: str) -> None:
        self._failures[status] += 1

    def tell(self, stage: str, done: int, total: int) -> None:
        if self._progress is not None:
            self._progress(LockProgress(stage=stage, done=done, total=total, failures=dict(self._failures)))
