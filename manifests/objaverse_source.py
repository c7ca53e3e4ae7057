"""The `objaverse` source: which objects of Objaverse 1.0 a lock is built from, under which licence, by whom."""

import difflib
import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from randscene.errors import LockError
from randscene.manifests.in_threads import in_threads
from randscene.manifests.licences import NOASSERTION, LicencePolicy, credit_line, one_line
from randscene.manifests.objaverse_files import NetworkLimits, ObjaverseFiles
from randscene.manifests.sources import Candidate, Listing
from randscene.manifests.trellis_metadata import read_trellis_metadata

logger = logging.getLogger(__name__)

_SPDX = {
    "by": "CC-BY-4.0",
    "by-sa": "CC-BY-SA-4.0",
    "by-nd": "CC-BY-ND-4.0",
    "by-nc": "CC-BY-NC-4.0",
    "by-nc-sa": "CC-BY-NC-SA-4.0",
    "by-nc-nd": "CC-BY-NC-ND-4.0",
    "cc0": "CC0-1.0",
}
"""Objaverse's words for licences; the README of `allenai/objaverse` states the versions."""
_LEAST_BATCH = 1000


@dataclass(frozen=True, kw_only=True)
class ObjaverseOptions:
    """Which objects, and how patiently they are fetched."""

    lvis: tuple[str, ...] | None = None
    """Only objects with an LVIS category: these categories, or any when empty. None: with or without one."""
    metadata: Path | None = None
    """Only objects in this metadata csv of TRELLIS-500K; their bytes must have its SHA-256."""
    min_aesthetic: float | None = None
    """The lowest aesthetic score in that csv that is taken."""
    network: NetworkLimits = field(default_factory=NetworkLimits)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Annotation:
    licence: str
    attribution: str
    category: str


def objaverse(
    assets: Path,
    *,
    folder: Path | None = None,
    options: ObjaverseOptions | None = None,
    count: int | None = None,
    seed: int = 0,
    policy: LicencePolicy | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Listing:
    """Choose objects of Objaverse 1.0; their meshes are fetched later, to `assets` as `{uid}.glb`.

    Objects are taken in an order that only `seed` decides, those whose licence the policy refuses left out, until there
    are `count`: with the same other settings, the first thousand are among the first five thousand.

    Parameters
    ----------
    assets : Path
        Folder for the meshes.
    folder : Path, optional
        Objaverse files that are here already; see `ObjaverseFiles`.
    options : ObjaverseOptions, optional
    count : int, optional
        Number of objects; all by default.
    seed : int
        Order in which objects are taken.
    policy : LicencePolicy, optional
        Accepts everything by default.
    progress : callable, optional
        Called with (annotation files read, annotation files needed as far as is known).

    Raises
    ------
    LockError
        If nothing is left to take, a category or column does not exist, or annotations cannot be had or read.
    """
    options = options or ObjaverseOptions()
    if count is not None and count < 1:
        raise LockError(f"--count must be at least 1, not {count}")
    if options.min_aesthetic is not None and options.metadata is None:
        raise LockError("--min-aesthetic needs --metadata, the csv of TRELLIS-500K that holds the scores")
    left_out: Counter[str] = Counter()
    sha256: dict[str, str] = {}
    if options.metadata is not None:
        sha256, left_out = read_trellis_metadata(options.metadata, min_aesthetic=options.min_aesthetic)
        if not sha256:
            raise LockError(f"{options.metadata}: no row is left ({_listed(left_out)})")
    files = ObjaverseFiles(folder, options.network)
    places = files.mesh_paths()
    category_of = None if options.lvis is None else _lvis(files, options.lvis)
    population = list(places)
    if options.metadata is not None:
        left_out.update(not_in_objaverse=sum(uid not in places for uid in sha256))
        population = [uid for uid in sha256 if uid in places]
    if category_of is not None:
        before = len(population)
        population = [uid for uid in population if uid in category_of]
        if options.metadata is not None:
            left_out.update(not_in_lvis=before - len(population))
    population.sort(key=lambda uid: hashlib.sha256(f"{seed}:{uid}".encode()).digest())
    reader = _AnnotationReader(files, places, options.network.downloads, progress)
    chosen = [
        Candidate(
            uid=uid,
            source="objaverse",
            path=assets / f"{uid}.glb",
            licence=known.licence,
            attribution=known.attribution,
            up_axis="Y",
            category=known.category if category_of is None else category_of[uid],
            sha256=sha256.get(uid),
            remote=places[uid],
        )
        for uid, known in _taken(population, reader, policy or LicencePolicy(), count, left_out)
    ]
    left_out = +left_out
    if not chosen:
        raise LockError(f"no Objaverse object is left to take ({_listed(left_out) or 'the selection is empty'})")
    if count is not None and len(chosen) < count:
        logger.warning("only %d of %d objects are there to take (%s)", len(chosen), count, _listed(left_out))

    def fetch(candidate: Candidate) -> None:
        assert candidate.remote is not None
        files.fetch_mesh(candidate.remote, candidate.path, sha256=candidate.sha256)

    return Listing(
        candidates=chosen,
        duplicates=left_out.pop("same_file", 0),
        left_out=dict(left_out),
        fetch=fetch,
        stop=files.stop,
        fetches=options.network.downloads,
    )


def _taken(
    population: list[str],
    reader: "_AnnotationReader",
    policy: LicencePolicy,
    count: int | None,
    left_out: Counter[str],
) -> Iterator[tuple[str, _Annotation]]:
    """The first `count` objects, in the given order, that the policy accepts; those that it refuses are counted."""
    taken = at = 0
    while at < len(population) and taken != count:
        # Every batch reads every file of annotations: one that allows for refusals saves a second round.
        size = len(population) if count is None else _LEAST_BATCH + 3 * (count - taken) // 2
        batch = population[at : at + size]
        annotations = reader.read(batch)
        for uid in batch:
            if taken == count:
                return
            known = annotations.get(uid) or _annotation(uid, {})
            if policy.accepts(known.licence):
                taken += 1
                yield uid, known
            else:
                left_out.update(licence_refused=1)
        at += size


def _lvis(files: ObjaverseFiles, names: tuple[str, ...]) -> dict[str, str]:
    """LVIS category by uid; an object of several has the first by name."""
    known = files.lvis_categories()
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=3)
            hint = f"; did you mean {', '.join(close)}?" if close else f" of the {len(known)}"
            raise LockError(f"--lvis: {name!r} is no LVIS category{hint}")
    found: dict[str, str] = {}
    for name in sorted(names or known):
        for uid in known[name]:
            found.setdefault(str(uid), name)
    return found


class _AnnotationReader:
    """Reads what is needed of annotation files, each file once for each batch of objects that asks for it."""

    def __init__(
        self,
        files: ObjaverseFiles,
        places: dict[str, str],
        threads: int,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self._files = files
        self._places = places
        self._threads = threads
        self._progress = progress

    def read(self, uids: list[str]) -> dict[str, _Annotation]:
        by_shard: dict[str, list[str]] = {}
        for uid in uids:
            by_shard.setdefault(self._places[uid].split("/")[1], []).append(uid)
        found: dict[str, _Annotation] = {}
        fetched = in_threads(self._files.fetch_annotations, sorted(by_shard), threads=self._threads)
        for read, (shard, error) in enumerate(fetched, start=1):
            if error is not None:
                raise error
            annotations = self._files.annotations(shard)
            for uid in by_shard[shard]:
                if isinstance(annotation := annotations.get(uid), dict):
                    found[uid] = _annotation(uid, annotation)
            if self._progress is not None:
                self._progress(read, len(by_shard))
        return found


def _annotation(uid: str, data: dict[str, Any]) -> _Annotation:
    licence = _SPDX.get(str(data.get("license") or "").lower(), NOASSERTION)
    user = data.get("user")
    user = user if isinstance(user, dict) else {}
    link = one_line(data.get("viewerUrl"))
    if not link.startswith(("https://", "http://")):
        link = f"https://sketchfab.com/3d-models/{uid}"
    categories = data.get("categories")
    first = categories[0] if isinstance(categories, list) and categories else None
    return _Annotation(
        licence=licence,
        attribution=credit_line(
            name=one_line(data.get("name")) or uid,
            author=one_line(user.get("displayName")) or user.get("username"),
            origin=link,
            licence=licence,
        ),
        category=one_line(first.get("name")) if isinstance(first, dict) else "",
    )


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{number} {reason}" for reason, number in sorted(counts.items()) if number)
