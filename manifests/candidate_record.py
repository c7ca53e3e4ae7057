"""From a candidate to its record: the task for a worker, the record of its answer, and when a record still stands."""

from dataclasses import replace
from typing import Any

from randscene.files import sha256_of
from randscene.manifests.asset_record import AssetRecord
from randscene.manifests.inspection import facts_from
from randscene.manifests.licences import LicencePolicy
from randscene.manifests.sources import Candidate

DOWNLOAD_REASONS = ("dead_link", "download_failed", "hash_mismatch")
"""Statuses of a file that could not be fetched."""
WORTH_ANOTHER_TRY = (
    *DOWNLOAD_REASONS,
    "crashed",
    "timeout",
    "out_of_memory",
    "needs_draco",
    "needs_blender",
    "conversion_failed",
)
"""Statuses that may come out otherwise the next time, or on another machine."""
REFUSED = "licence_refused"
"""Status of an asset that the licence policy refuses."""


def task_of(candidate: Candidate, *, force: bool) -> dict[str, Any]:
    """What a worker is to do (see `asset_worker.perform`); `force` lets it replace a file of other content."""
    task: dict[str, Any] = {"path": str(candidate.path), "up_axis": candidate.up_axis}
    if candidate.family is not None:
        task.update(family=candidate.family, seed=candidate.seed, replace=force)
    if candidate.original is not None:
        task.update(original=str(candidate.original), replace=force)
    return task


def record_of(candidate: Candidate, answer: dict[str, Any]) -> AssetRecord:
    """The record of what a worker answered, or of the `status` and `message` of a file that never reached one."""
    facts = facts_from(answer)
    status = facts.status
    if candidate.sha256 is not None and facts.sha256 and facts.sha256 != candidate.sha256:
        status = "hash_mismatch"
    return AssetRecord(
        uid=candidate.uid,
        source=candidate.source,
        locator=str(candidate.path),
        sha256=facts.sha256,
        geometry=facts.geometry,
        licence=candidate.licence,
        attribution=candidate.attribution,
        up_axis=candidate.up_axis,
        extents=facts.extents,
        bounds_min=facts.bounds_min,
        n_faces=facts.n_faces,
        has_texture=facts.has_texture,
        category=candidate.category,
        support=facts.support,
        status=status,
    )


def still_true(record: AssetRecord, candidate: Candidate) -> bool:
    """Whether a finished record stands for this candidate: same description, same place, same bytes."""
    return (
        record.sha256 != ""
        and record.locator == str(candidate.path)
        and record.source == candidate.source
        and record.licence == candidate.licence
        and record.attribution == candidate.attribution
        and record.category == candidate.category
        and record.up_axis == candidate.up_axis
        and record.status not in (*WORTH_ANOTHER_TRY, REFUSED)
        and candidate.fault is None
        and candidate.path.is_file()
        and sha256_of(candidate.path) == record.sha256
        and candidate.sha256 in (None, record.sha256)
    )


def under_policy(record: AssetRecord, policy: LicencePolicy) -> AssetRecord:
    """The record, refused when it would be usable but for its licence."""
    refused = record.status == "ok" and not policy.accepts(record.licence)
    return replace(record, status=REFUSED) if refused else record
