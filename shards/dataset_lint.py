"""lint: does a dataset hold what it says? Every byte is hashed, every sample decoded, every count compared."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from randscene.errors import DatasetError, RandsceneError
from randscene.shards.checksums import NAME as CHECKSUMS
from randscene.shards.checksums import read_checksums
from randscene.shards.dataset import shard_files
from randscene.shards.dataset_info import read_info
from randscene.shards.latent_sidecar import belongs, latent_sets, sidecar_folder
from randscene.shards.shard_index import ShardIndex
from randscene.shards.shard_lint import LintReport, ShardFindings, ShardJob, lint_latents, lint_shard
from randscene.shards.store import Store, open_store
from randscene.worker_pool import worker_pool


def lint(url: str | Path, *, workers: int = 1, progress: Callable[[int, int], None] | None = None) -> LintReport:
    """Read a whole dataset and list everything that is wrong with it; stops at nothing that it can get past.

    Checked: `dataset.json`; that every committed shard belongs to it, has the size and SHA-256 of its index, and
    agrees with the index in keys, places and filter columns; that every sample decodes and is what `ViewSample`
    states, shows each instance, counts its visible pixels right, and names its licence and credit; that no key comes
    twice; that latents beside the shards are whole and theirs; that shards, samples, scenes and recipes agree in
    number and content; and that `SHA256SUMS`, where there is one, lists the shards with their hashes.

    Parameters
    ----------
    url : str or path
        Dataset folder or URL.
    workers : int
        Processes that read shards; 1 reads in this one.
    progress : callable, optional
        Called with (shards read, shards in all) after each shard.

    Returns
    -------
    LintReport
        The same for any number of workers.

    Raises
    ------
    DatasetError
        If there is no dataset to look at.
    RandsceneError
        If `workers` is below 1, or a process died.
    """
    if workers < 1:
        raise RandsceneError(f"workers must be at least 1, not {workers}")
    store = open_store(url)
    info = read_info(store)
    report = LintReport()
    names, uncommitted, sizes = shard_files(store, None)
    recipes = _recipes(store, report)
    indices: dict[str, ShardIndex] = {}
    scenes: dict[str, set[int]] = {split: set() for split in info["splits"]}
    found: dict[str, Counter[str]] = {split: Counter() for split in info["splits"]}
    seen: dict[str, str] = {}
    jobs = [ShardJob(name=name, tar_bytes=sizes.get(f"{name}.tar")) for name in names]
    for number, (name, findings) in enumerate(zip(names, _findings(store, jobs, info, recipes, workers)), start=1):
        report.merge(findings.report)
        for key in sorted(findings.keys):
            if seen.setdefault(key, name) != name:
                report.add(f"{name}: {key}", f"the key comes twice in the dataset: {seen[key]} has it, too")
        if findings.index is not None:
            indices[name] = findings.index
            split = str(findings.index.header.get("split"))
            if findings.whole and split in found:
                scenes[split] |= findings.scenes
                found[split].update(shards=1, samples=len(findings.index))
        if progress is not None:
            progress(number, len(names))
    report.scenes = sum(map(len, scenes.values()))
    _latents(store, indices, report)
    _checksums(store, indices, report)
    for name in uncommitted:
        report.notes.append(f"shards/{name}.tar has no index: it was never committed, and readers ignore it")
    if not info.get("complete"):
        report.notes.append("the build is not finished")
    else:
        _counts(info, found, scenes, recipes, report)
    return report


def _findings(
    store: Store,
    jobs: Sequence[ShardJob],
    info: dict[str, Any],
    recipes: dict[int, dict[str, Any]] | None,
    workers: int,
) -> Iterator[ShardFindings]:
    """Findings of the shards, in their order."""
    if min(workers, len(jobs)) <= 1:
        for job in jobs:
            yield lint_shard(store, job, info, recipes)
        return
    with worker_pool(
        min(workers, len(jobs)), does="checking", start=_start_worker, arguments=(store, info, recipes)
    ) as pool:
        yield from pool.map(_lint_here, jobs)


_here: tuple[Store, dict[str, Any], dict[int, dict[str, Any]] | None] | None = None  # of a worker process


def _start_worker(store: Store, info: dict[str, Any], recipes: dict[int, dict[str, Any]] | None) -> None:
    global _here
    _here = store, info, recipes


def _lint_here(job: ShardJob) -> ShardFindings:
    assert _here is not None
    store, info, recipes = _here
    return lint_shard(store, job, info, recipes)


def _latents(store: Store, indices: Mapping[str, ShardIndex], report: LintReport) -> None:
    """Latents beside the shards: made of these very shards, whole, and one for every scene and instance."""
    try:
        sets = latent_sets(store)
    except DatasetError as error:
        report.add("latents", str(error))
        return
    for item in sets:
        folder = sidecar_folder(item.sha256)
        lacking = sum(name not in item.shards for name in indices)
        if lacking:
            report.notes.append(f"{folder} lacks {lacking} of {len(indices)} shards: run `randscene encode` again")
        for name, sidecar in item.shards.items():
            if name not in indices or not belongs(sidecar, indices[name]):
                report.add(f"{folder}/{name}", "was made of another shard: run `randscene encode` again")
            else:
                counts = indices[name].n_instances.tolist()
                report.merge(lint_latents(store, f"{folder}/{name}", sidecar, counts))


def _checksums(store: Store, indices: Mapping[str, ShardIndex], report: LintReport) -> None:
    if CHECKSUMS not in store.sizes(""):
        return
    try:
        told = read_checksums(store)
    except DatasetError as error:
        report.add(CHECKSUMS, str(error))
        return
    for name, index in indices.items():
        stated = told.get(f"shards/{name}.tar")
        if stated != index.tar_sha256:
            what = "lacks" if stated is None else "has another hash of"
            report.add(CHECKSUMS, f"{what} shards/{name}.tar: run the build again, which writes it anew")


def _recipes(store: Store, report: LintReport) -> dict[int, dict[str, Any]] | None:
    try:
        lines = store.read("recipes.jsonl").splitlines()
    except FileNotFoundError:
        report.notes.append("there is no recipes.jsonl to compare with")
        return None
    recipes = {}
    for number, line in enumerate(lines, start=1):
        try:
            recipe = json.loads(line)
            uids = [item["uid"] for item in recipe["instances"]]
            recipes[int(recipe["scene"])] = {"split": recipe["split"], "uids": uids}
        except (ValueError, KeyError, TypeError):
            report.add(f"recipes.jsonl, line {number}", "is not a recipe")
    return recipes


def _counts(
    info: dict[str, Any],
    found: dict[str, Counter[str]],
    scenes: dict[str, set[int]],
    recipes: dict[int, dict[str, Any]] | None,
    report: LintReport,
) -> None:
    for split, told in info["splits"].items():
        have = {"shards": found[split]["shards"], "samples": found[split]["samples"], "scenes": len(scenes[split])}
        for what, count in have.items():
            if told.get(what) != count:
                report.add("dataset.json", f"says {told.get(what)} {what} in split {split}, found {count}")
        if recipes is not None:
            planned = {scene for scene, recipe in recipes.items() if recipe["split"] == split}
            if planned != scenes[split]:
                report.add(
                    "recipes.jsonl", f"has {len(planned)} scenes of split {split}, the shards have {len(scenes[split])}"
                )
