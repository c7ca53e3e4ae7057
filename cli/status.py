"""`randscene status`, `failures` and `retry`: look at a build from outside, and go on with what failed."""

from collections import Counter
from typing import Annotated

import typer
from rich.table import Table

from randscene.cli.console import console
from randscene.cli.generate import RayAddress, Set, Workers, build_with_progress

Dataset = Annotated[str, typer.Argument(help="Dataset folder or URL.")]


def status(
    dataset: Dataset, as_json: Annotated[bool, typer.Option("--json", help="For other programs.")] = False
) -> None:
    """Say how far a build is, from its folder alone, whether it runs or not.

    Example: randscene status demo/dataset
    """
    from randscene.generator.status import build_status, status_json
    from randscene.shards.dataset_card import human_bytes

    found = build_status(dataset)
    if as_json:
        print(status_json(found))  # noqa: T201
        return
    state = "complete" if found.complete else "running" if found.running else "stopped; run the same command to go on"
    table = Table(show_header=False, title=f"{found.name}: {state}")
    table.add_row("scenes", f"{found.scenes_packed} in shards, {found.scenes_staged} waiting, of {found.scenes_total}")
    table.add_row("shards", f"{found.shards_done} of {found.shards_total}, {found.samples} samples")
    table.add_row("bytes", f"{human_bytes(found.bytes)} in shards, {human_bytes(found.staged_bytes)} waiting")
    if found.uncommitted:
        table.add_row("without an index", ", ".join(found.uncommitted[:5]))
    if found.failures:
        table.add_row("failed attempts", ", ".join(f"{reason} {count}" for reason, count in found.failures.items()))
    if found.given_up:
        told = ", ".join(f"{reason} {count}" for reason, count in Counter(found.given_up.values()).most_common())
        table.add_row("given up", f"{len(found.given_up)} scenes: {told}")
    if found.last is not None:
        left = found.last.get("seconds_left")
        workers = found.last.get("workers", 0)  # 0 when they have ended
        told = f" with {workers} worker{'s' * (workers != 1)}" if workers else ""
        rate = f"{found.last.get('views_per_s', 0.0):.1f} views/s{told}"
        end = f", {_duration(left)} left" if left and not found.complete else ""
        table.add_row("last word", f"{found.last.get('time', '')}: {rate}{end}")
    console.print(table)


def _duration(seconds: float) -> str:
    for unit, name in ((3600.0, "h"), (60.0, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.0f} s"


def failures(
    dataset: Dataset,
    scene: Annotated[int | None, typer.Option(help="Show every failed attempt at this scene, with its log.")] = None,
) -> None:
    """Summarise the attempts that failed: by stage and reason, with an example of each.

    Example: randscene failures demo/dataset --scene 17
    """
    from randscene.generator.failures import read_failures
    from randscene.generator.status import build_status
    from randscene.shards.store import open_store

    given_up = build_status(dataset).given_up
    found = read_failures(open_store(dataset))
    if scene is not None:
        mine = [item for item in found if item.scene == scene]
        if not mine:
            console.print(f"no failed attempt at scene {scene}")
        for item in mine:
            console.print(f"attempt {item.attempt}, {item.stage}: {item.reason}: {item.message}")
            if item.log_tail:
                console.print(item.log_tail)
        return
    if not found:
        console.print(f"{dataset}: no attempt has failed")
        return
    table = Table("stage", "reason", "attempts", "scenes", "given up", "example", title="failed attempts")
    for (stage, reason), count in Counter((item.stage, item.reason) for item in found).most_common():
        mine = [item for item in found if (item.stage, item.reason) == (stage, reason)]
        scenes = {item.scene for item in mine}
        lost = sum(given_up.get(one) == reason for one in scenes)
        table.add_row(stage, reason, str(count), str(len(scenes)), str(lost), f"{mine[-1].scene}: {mine[-1].message}")
    console.print(table)
    if given_up:
        named = ", ".join(f"{one} ({why})" for one, why in list(given_up.items())[:20])
        console.print(f"given up: {len(given_up)} scenes: {named}; try again with: randscene retry {dataset}")


def retry(
    dataset: Dataset,
    reason: Annotated[
        list[str] | None, typer.Option(help="Only scenes that were given up for this reason; may be repeated.")
    ] = None,
    ray_address: RayAddress = None,
    workers: Workers = None,
    set_: Set = None,
) -> None:
    """Try the scenes that were given up again, with the spec and the lock that lie in the dataset.

    Only what supervises the renderers may be changed, e.g. --set render.memory_limit_gib=16.

    Example: randscene retry demo/dataset --reason timeout --set render.scene_timeout_s=20000
    """
    from randscene.generator.build import ANY_REASON, ASSETS
    from randscene.generator.dataset_folder import DatasetFolder
    from randscene.manifests import load_lock, with_overrides
    from randscene.manifests.spec import parse_spec
    from randscene.shards.store import open_store

    info = DatasetFolder(open_store(dataset)).read_info()
    spec = with_overrides(parse_spec(info["spec"], where=f"{dataset}/dataset.json"), set_ or [])
    records = load_lock(f"{dataset.rstrip('/')}/{ASSETS}")
    build_with_progress(
        spec, records, dataset, retry=set(reason or [ANY_REASON]), ray_address=ray_address, workers=workers
    )
