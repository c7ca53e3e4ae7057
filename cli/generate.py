"""`randscene plan` and `randscene generate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from randscene.cli.completion import engines, render_devices, spec_presets
from randscene.cli.console import console, log_file, logs_to, progress_bar, stops_cleanly
from randscene.errors import DatasetError

if TYPE_CHECKING:
    from randscene.manifests import AssetRecord, DatasetSpec

Spec = Annotated[
    str,
    typer.Argument(
        help="A preset (demo, rand-15k, eval-demo, ...) or the path of a YAML spec.", autocompletion=spec_presets
    ),
]
Assets = Annotated[Path, typer.Option("--assets", help="Asset lock, as written by `randscene assets build`.")]
Scenes = Annotated[
    int | None, typer.Option("--scenes", min=1, help="Scenes in the first split, instead of the spec's.")
]
RayAddress = Annotated[str | None, typer.Option(help="Address of a running Ray cluster.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Scenes made at the same time.")]
Engine = Annotated[
    str | None,
    typer.Option(
        help="cycles, eevee (graphics card), or raycast (no Blender: previews, tests).", autocompletion=engines
    ),
]
Device = Annotated[
    str | None,
    typer.Option(help="cpu, gpu, or a kind of card: cuda, optix, hip, oneapi, metal.", autocompletion=render_devices),
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

    dataset_spec, records = read_inputs(spec, assets, scenes, set_)
    with stops_cleanly("nothing was written; run the same command again"), progress_bar() as bar:
        task = bar.add_task("plan", total=len(dataset_spec.indices()))
        planned = write_plan(dataset_spec, records, out, progress=lambda done: bar.update(task, completed=done))
    console.print(f"{planned['scenes']} recipes in {out / 'recipes.jsonl'}; check them with: randscene verify {out}")


def generate(
    spec: Spec,
    assets: Assets,
    out: Annotated[str, typer.Option("--out", help="Dataset folder or URL; run again to finish or extend it.")],
    scenes: Scenes = None,
    engine: Engine = None,
    device: Device = None,
    ray_address: RayAddress = None,
    workers: Workers = None,
    check_shards: Annotated[
        bool, typer.Option("--check-shards", help="Hash all shards first and build damaged ones again.")
    ] = False,
    max_staged_gib: Annotated[
        float, typer.Option(min=0.0, help="Begin no new block while more than this waits to be packed.")
    ] = 20.0,
    dashboard: Annotated[bool, typer.Option("--dashboard", help="Start Ray's dashboard (needs ray[default]).")] = False,
    set_: Set = None,
) -> None:
    """Make a dataset: plan, render, voxelise, encode, pack. The same command resumes after any interruption.

    Example: randscene generate demo --assets assets.lock.jsonl --out demo/dataset
    """
    dataset_spec, records = read_inputs(spec, assets, scenes, set_, engine=engine, device=device)
    build_with_progress(
        dataset_spec,
        records,
        out,
        ray_address=ray_address,
        workers=workers,
        check_shards=check_shards,
        max_staged_bytes=int(max_staged_gib * 2**30),
        dashboard=dashboard,
    )


def build_with_progress(spec: "DatasetSpec", records: "list[AssetRecord]", out: str, **options: Any) -> None:
    """`randscene.generator.generate` with a progress bar, a log file, and an exit code other than 0 if scenes lack."""
    from randscene.generator import generate as build
    from randscene.generator.build_driver import Progress as BuildProgress
    from randscene.shards.dataset_card import human_bytes

    resumes = "what is done is kept; run the same command again to go on"
    with stops_cleanly(resumes), progress_bar("{task.fields[note]}") as bar:
        task = bar.add_task("generate", total=len(spec.indices()), note="starting")
        shown = [""]

        def show(state: BuildProgress) -> None:
            if state.dashboard and state.dashboard not in shown:
                shown.append(state.dashboard)
                bar.console.print(f"Ray's dashboard: {state.dashboard}")
            failed = ", ".join(f"{reason} {count}" for reason, count in state.failures.items())
            parts = [
                f"{state.views} views, {state.views_per_s:.1f}/s",
                f"{state.workers} workers",
                human_bytes(state.bytes + state.staged_bytes),
                *([f"{human_bytes(state.free_bytes)} free"] if state.free_bytes is not None else []),
                *([f"failed: {failed}"] if failed else []),
            ]
            done = state.scenes_done + state.scenes_given_up
            bar.update(task, completed=done, total=state.scenes_total, note=", ".join(parts))

        with logs_to(log_file(out)):
            report = build(spec, records, out, progress=show, **options)
    rate = report.views_made / report.seconds if report.seconds else 0.0
    console.print(
        f"{report.scenes} scenes, {report.samples} samples, {human_bytes(report.bytes)} in {report.shards} shards at "
        f"{out} (now: {report.scenes_made} scenes, {report.views_made} views in {report.seconds:.0f} s, "
        f"{rate:.1f} views/s)"
    )
    if not report.complete:
        first = ", ".join(f"{scene} ({reason})" for scene, reason in list(report.given_up.items())[:10])
        more = f" and {len(report.given_up) - 10} more" if len(report.given_up) > 10 else ""
        raise DatasetError(
            f"{len(report.given_up)} scenes failed every attempt: {first}{more}; see `randscene failures {out}`, "
            f"and try again with `randscene retry {out}`"
        )


def read_inputs(
    spec: str, assets: Path, scenes: int | None, assignments: list[str] | None, **render: str | None
) -> "tuple[DatasetSpec, list[AssetRecord]]":
    """Spec and lock as these options name them; `render` are fields of that section, None where they are not given."""
    from randscene.manifests import load_lock, load_spec, with_overrides

    given = [f"render.{name}={value}" for name, value in render.items() if value]
    dataset_spec = with_overrides(load_spec(spec), [*(assignments or []), *given])
    if scenes is not None:
        dataset_spec = dataset_spec.with_scenes(scenes)
    return dataset_spec, load_lock(assets)
