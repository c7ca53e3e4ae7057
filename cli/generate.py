"""`randscene plan` and `randscene generate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from randscene.cli.console import console, logs_to, progress_bar, stops_cleanly
from randscene.errors import DatasetError

if TYPE_CHECKING:
    from randscene.manifests import AssetRecord, DatasetSpec

Spec = Annotated[str, typer.Argument(help="A preset (demo, rand-15k, rand-25k) or the path of a YAML spec.")]
Assets = Annotated[Path, typer.Option("--assets", help="Asset lock, as written by `randscene assets build`.")]
Scenes = Annotated[
    int | None, typer.Option("--scenes", min=1, help="Scenes in the first split, instead of the spec's.")
]
Set = Annotated[list[str] | None, typer.Option("--set", help="Replace one field of the spec: section.field=value.")]


def plan(
    spec: Spec,
    assets: Assets,
    out: Annotated[Path, typer.Option("--out", help="Folder for the plan.")],
    scenes: Scenes = None,
    set_: Set = None,
) -> None:
    """Plan scenes without rendering them: one recipe a line in OUT/recipes.jsonl, with its lock and spec beside it.

    Example: randscene plan rand-15k --assets assets.lock.jsonl --out plans/rand-15k --scenes 1000
    """
    from randscene.generator.plan_folder import write_plan

    dataset_spec, records = _read(spec, assets, scenes, set_ or [])
    with stops_cleanly("nothing was written; run the same command again"), progress_bar() as bar:
        task = bar.add_task("plan", total=len(dataset_spec.indices()))
        planned = write_plan(dataset_spec, records, out, progress=lambda done: bar.update(task, completed=done))
    console.print(f"{planned['scenes']} recipes in {out / 'recipes.jsonl'}; check them with: randscene verify {out}")


def generate(
    spec: Spec,
    assets: Assets,
    out: Annotated[Path, typer.Option("--out", help="Dataset folder; run again to finish or extend it.")],
    scenes: Scenes = None,
    engine: Annotated[
        str | None, typer.Option(help="cycles, eevee (graphics card), or raycast (no Blender: previews, tests).")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, gpu, or a kind of card: cuda, optix, hip, oneapi, metal.")
    ] = None,
    ray_address: Annotated[str | None, typer.Option(help="Address of a running Ray cluster.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Scenes made at the same time.")] = None,
    set_: Set = None,
) -> None:
    """Make a dataset: plan, render, voxelise, encode, pack. The same command resumes after any interruption.

    Example: randscene generate demo --assets assets.lock.jsonl --out demo/dataset
    """
    from randscene.generator import generate as build
    from randscene.generator.build import Progress as BuildProgress

    chosen = {"engine": engine, "device": device}
    overrides = [*(set_ or []), *(f"render.{name}={value}" for name, value in chosen.items() if value)]
    dataset_spec, records = _read(spec, assets, scenes, overrides)
    with progress_bar("{task.fields[note]}") as bar:
        task = bar.add_task("generate", total=len(dataset_spec.indices()), note="starting")

        def show(state: BuildProgress) -> None:
            failed = ", ".join(f"{reason} {count}" for reason, count in state.failures.items())
            note = f"{state.views} views" + (f", failed: {failed}" if failed else "")
            bar.update(task, completed=state.scenes_done, total=state.scenes_total, note=note)

        log_file = out.with_name(f"{out.name}.log")
        with logs_to(log_file), stops_cleanly("what is done is kept; run the same command again to go on"):
            report = build(dataset_spec, records, out, ray_address=ray_address, workers=workers, progress=show)
    rate = report.views_made / report.seconds if report.seconds else 0.0
    console.print(
        f"{report.scenes} scenes, {report.samples} samples in {report.shards} shards at {out} "
        f"(now: {report.scenes_made} scenes, {report.views_made} views in {report.seconds:.0f} s, {rate:.1f} views/s)"
    )
    if not report.complete:
        reasons = {failure.scene: failure.reason for failure in report.failures}
        named = ", ".join(f"{scene} ({reasons.get(scene, 'earlier run')})" for scene in report.given_up)
        raise DatasetError(f"{len(report.given_up)} scenes failed every attempt: {named}; see {out}/failures.jsonl")


def _read(spec: str, assets: Path, scenes: int | None, overrides: list[str]) -> "tuple[DatasetSpec, list[AssetRecord]]":
    from randscene.manifests import load_lock, load_spec, with_overrides

    dataset_spec = with_overrides(load_spec(spec), overrides)
    if scenes is not None:
        dataset_spec = dataset_spec.with_scenes(scenes)
    return dataset_spec, load_lock(assets)
