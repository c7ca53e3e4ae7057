"""The plan folder: recipes with the lock and the spec that they came from, written whole and read back line by line."""

import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import randscene
from randscene.errors import DatasetError, LockError, PlanError
from randscene.files import atomic_writer, sha256_of, write_atomic
from randscene.generator.failures import read_failures, reasons
from randscene.generator.planning import PlanContext, plan_scene
from randscene.generator.recipe import SceneRecipe
from randscene.manifests import AssetRecord, DatasetSpec, load_lock, lock_hash, parse_spec, write_lock
from randscene.settings_file import first_difference
from randscene.shards.store import open_store

PLAN_SCHEMA = 1
RECIPES, LOCK, PLAN, DATASET = "recipes.jsonl", "assets.lock.jsonl", "plan.json", "dataset.json"
NO_LAYOUT = "no_layout"
"""The reason by which builds record that the discs did not fit."""


def write_plan(
    spec: DatasetSpec, records: Sequence[AssetRecord], folder: Path, progress: Callable[[int], None] | None = None
) -> dict[str, Any]:
    """Plan every scene of a spec into a folder: `recipes.jsonl`, `assets.lock.jsonl`, and `plan.json` last.

    Recipes are written as they are planned, so memory does not grow with their number. Writing the same plan again
    changes nothing.

    Parameters
    ----------
    spec : DatasetSpec
    records : sequence of AssetRecord
        The lock.
    folder : Path
    progress : callable, optional
        Called with the number of scenes planned.

    Returns
    -------
    dict
        The content of `plan.json`: schema, name, spec, lock_sha256, recipes_sha256, counts, statistics of the sampler,
        and how many attempts at a layout failed.

    Raises
    ------
    DatasetError
        If the folder holds another plan or a dataset; nothing in it is changed then.
    SpecError, PlanError
        If the spec cannot be met.
    RandsceneError
        If the folder cannot be written.
    """
    lock_sha256 = lock_hash(records)
    _refuse_strangers(folder, spec, lock_sha256)
    target = folder / RECIPES
    context = PlanContext.of(spec, records)
    digest, scenes, counts = hashlib.sha256(), 0, Counter({name: 0 for name in spec.splits})
    instances = stacked = tries = expansions = most_expansions = failures = 0
    with atomic_writer(target) as handle:
        for scenes, index in enumerate(spec.indices(), start=1):
            recipe = _first_that_fits(context, index)
            failures += recipe.attempt
            line = (recipe.to_json() + "\n").encode()
            digest.update(line)
            handle.write(line)
            counts[recipe.split] += 1
            instances += len(recipe.instances)
            stacked += sum(item.support_parent is not None for item in recipe.instances)
            tries += recipe.layout.tries
            expansions += recipe.layout.expansions
            most_expansions = max(most_expansions, recipe.layout.expansions)
            if progress is not None:
                progress(scenes)
        if target.exists() and sha256_of(target) != digest.hexdigest():
            raise DatasetError(f"{folder} holds another plan; choose another --out")
    write_lock(folder / LOCK, records)
    content = {
        "schema": PLAN_SCHEMA,
        "name": spec.name,
        "spec": spec.model_dump(mode="json"),
        "lock_sha256": lock_sha256,
        "recipes_sha256": digest.hexdigest(),
        "scenes": scenes,
        "splits": dict(counts),
        "statistics": {
            "instances": instances,
            "stacked": stacked,
            "tries": tries,
            "expansions": expansions,
            "most_expansions": most_expansions,
        },
        "failures": {NO_LAYOUT: failures} if failures else {},
        "versions": {"randscene": randscene.__version__},
    }
    write_atomic(folder / PLAN, json.dumps(content, indent=2, sort_keys=True) + "\n")
    return content


def _first_that_fits(context: PlanContext, index: int) -> SceneRecipe:
    """As a build does: a layout that does not fit is planned again from the seed of its next attempt."""
    for attempt in range(context.spec.attempts - 1):
        with contextlib.suppress(PlanError):
            return plan_scene(context, index, attempt)
    return plan_scene(context, index, context.spec.attempts - 1)


def _refuse_strangers(folder: Path, spec: DatasetSpec, lock_sha256: str) -> None:
    """Before any work: the folder must hold nothing that another plan or a build has put there."""
    if (folder / DATASET).exists():
        raise DatasetError(f"{folder} holds a dataset; choose another --out")
    difference = "its asset lock is another"
    if (folder / PLAN).exists():
        held = _read_json(folder / PLAN)
        other = first_difference(_identity(held.get("spec")), _identity(spec.model_dump(mode="json")))
        if other is None and held.get("lock_sha256") == lock_sha256:
            return
        difference = other or difference
    elif not (folder / LOCK).exists() or lock_hash(load_lock(folder / LOCK)) == lock_sha256:
        return
    raise DatasetError(f"{folder} holds another plan ({difference}); choose another --out")


def _identity(spec: object) -> dict[str, Any]:
    # Tolerances decide nothing of a plan.
    return {key: value for key, value in spec.items() if key != "verify"} if isinstance(spec, dict) else {}


@dataclass(kw_only=True)
class LayoutFolder:
    """A plan folder or a dataset folder, open for reading its layouts."""

    root: Path
    spec: DatasetSpec
    records: list[AssetRecord]
    scenes: int
    """How many recipes it should hold."""
    failures: dict[str, int]
    """Failed attempts by reason: of the sampler, and of a build."""
    recipes_sha256: str | None
    """Of `recipes.jsonl` as planned; unknown for a dataset."""
    notes: list[str] = field(default_factory=list)
    """What was odd; complete once all recipes are read."""

    def recipes(self, limit: int | None = None) -> Iterator[str]:
        """The recipes' JSON texts, the first `limit` of them if given.

        Raises
        ------
        DatasetError
            If the file ends within a line, or holds another number of recipes than it should.
        """
        path, digest, number = self.root / RECIPES, hashlib.sha256(), 0
        with open(path, "rb") as handle:
            for number, line in enumerate(handle, start=1):
                if not line.endswith(b"\n"):
                    raise DatasetError(f"{path}, line {number}: the file ends within a recipe; plan the scenes again")
                try:
                    text = line.decode()
                except UnicodeDecodeError as error:
                    raise DatasetError(f"{path}, line {number}: not UTF-8 text; plan the scenes again") from error
                digest.update(line)
                yield text
                if number == limit:
                    return
        if limit is None and number != self.scenes:
            raise DatasetError(f"{path} holds {number} recipes, not the {self.scenes} that were planned; plan again")
        if self.recipes_sha256 not in (None, digest.hexdigest()):
            self.notes.append(f"{RECIPES} is not as it was planned: it has been changed since")


def open_layouts(folder: Path) -> LayoutFolder:
    """Open a folder that `randscene plan` or `randscene generate` wrote.

    Raises
    ------
    DatasetError, SpecError
        If it is no such folder, or its recipes are missing.
    LockError
        If the lock is missing or is not the one that the scenes were planned with.
    """
    planned = (folder / PLAN).is_file()
    if not planned and not (folder / DATASET).is_file():
        raise DatasetError(
            f"{folder} holds no {PLAN} and no {DATASET}: give a folder that `randscene plan` or `randscene generate` "
            "wrote"
        )
    described = folder / (PLAN if planned else DATASET)
    info = _read_json(described)
    if "source" in info:
        raise DatasetError(f"{folder} was imported ({info['source']}): it has no layouts of ours to look at")
    try:
        spec = parse_spec(info["spec"], where=str(described))
        splits = info["splits"]
        scenes = int(info["scenes"]) if planned else sum(int(split["scenes"]) for split in splits.values())
        lock_sha256, recipes_sha256 = str(info["lock_sha256"]), str(info["recipes_sha256"]) if planned else None
        failures = {str(reason): int(n) for reason, n in info["failures"].items()} if planned else {}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DatasetError(f"{described}: not a description of a plan or a dataset: {error!r}") from error
    if not (folder / RECIPES).is_file():
        remedy = "run `randscene plan` again" if planned else "it comes with the end of the build: finish that first"
        raise DatasetError(f"{folder} holds no {RECIPES}; {remedy}")
    if not (folder / LOCK).is_file():
        raise LockError(f"{folder} holds no {LOCK}; put back the lock that the scenes were planned with")
    records = load_lock(folder / LOCK)
    if lock_hash(records) != lock_sha256:
        raise LockError(f"{folder / LOCK} is not the lock that the scenes were planned with; put that one back")
    return LayoutFolder(
        root=folder,
        spec=spec,
        records=records,
        scenes=scenes,
        failures=failures or reasons(read_failures(open_store(folder))),
        recipes_sha256=recipes_sha256,
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: not readable as JSON: {error}") from error
    if not isinstance(data, dict):
        raise DatasetError(f"{path}: not an object of JSON")
    return data
