"""`randscene import-3dfront`: MIDI's 3D-FRONT as a dataset that mixes with any other."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from randscene.cli.console import console, log_file, logs_to, progress_bar, stops_cleanly
from randscene.errors import DatasetError

if TYPE_CHECKING:
    from randscene.generator.front3d_import import ImportProgress


class Images(StrEnum):
    """Kinds of pictures in MIDI's release."""

    RENDER = "render"
    RERENDER = "rerender"


class Numbering(StrEnum):
    """How pixel values name objects."""

    POSITION = "position"
    SUFFIX = "suffix"


def import_3dfront(
    folder: Annotated[Path, typer.Argument(help="Folder that holds 3D-FRONT-RENDER, 3D-FRONT-SCENE and the lists.")],
    out: Annotated[str, typer.Option("--out", help="Dataset folder or URL; run again to finish an import.")],
    ids: Annotated[
        str | None,
        typer.Option(help="The room list; midi_room_ids.json by default. Its furniture list lies beside it."),
    ] = None,
    split: Annotated[
        list[str] | None,
        typer.Option(help="A slice of the list, name=first:end. By default train=:-1000 and test=-1000:, as in MIDI."),
    ] = None,
    test: Annotated[
        bool, typer.Option("--test", help="Read the archives of the test set (3D-FRONT-TEST-...).")
    ] = False,
    images: Annotated[
        list[Images] | None, typer.Option(help="render, rerender, or both; rerendered views are numbered from 100.")
    ] = None,
    resolution: Annotated[int, typer.Option(min=16, max=4096, help="Side of pictures and labels, pixels.")] = 512,
    max_instances: Annotated[
        int, typer.Option(min=0, max=255, help="A room of more objects keeps so many, drawn at random; 0 keeps all.")
    ] = 7,
    skip_small_objects: Annotated[
        bool, typer.Option("--skip-small-objects", help="Leave objects out of views in which they show too little.")
    ] = False,
    small_image_proportion: Annotated[
        float, typer.Option(min=0, max=0.999, help="Too little: no more than this share of the picture.")
    ] = 0.001,
    depth: Annotated[bool, typer.Option("--depth", help="Store the depth of each pixel.")] = False,
    surfaces: Annotated[
        bool, typer.Option("--surfaces", help="Check the point clouds and keep them in OUT/surfaces.")
    ] = False,
    axes: Annotated[
        str | None, typer.Option(help="y-up, z-up or e.g. x,-z,y: the files' axes, instead of finding them out.")
    ] = None,
    numbering: Annotated[
        Numbering | None, typer.Option(help="How pixel values name objects, instead of finding it out.")
    ] = None,
    min_iou: Annotated[
        float, typer.Option(min=0.01, max=1, help="Agreement of meshes and labels that a room must reach.")
    ] = 0.9,
    name: Annotated[str, typer.Option(help="Name of the dataset.")] = "3d-front",
    rooms_per_shard: Annotated[int, typer.Option(min=1, help="Rooms a shard.")] = 32,
    retry: Annotated[bool, typer.Option("--retry", help="Import again what had missing or broken files.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Shards made at the same time.")] = None,
    ray_address: Annotated[str | None, typer.Option(help="Address of a running Ray cluster.")] = None,
) -> None:
    """Import 3D-FRONT as MIDI's authors publish it (not for commercial use). The same command resumes.

    Example: randscene import-3dfront data/3d-front --out 3d-front/dataset
    """
    from randscene.generator.front3d_import import import_3dfront as import_rooms
    from randscene.generator.front3d_settings import Front3dSettings

    settings = Front3dSettings(
        name=name,
        images=tuple(kind.value for kind in images or [Images.RENDER]),
        resolution=resolution,
        max_instances=max_instances or None,
        skip_small_objects=skip_small_objects,
        small_image_proportion=small_image_proportion,
        min_iou=min_iou,
        depth=depth,
        surfaces=surfaces,
        rooms_per_shard=rooms_per_shard,
    )
    resumes = "what is done is kept; run the same command again to go on"
    with stops_cleanly(resumes), progress_bar("{task.fields[note]}") as bar:
        task = bar.add_task("rooms", total=None, note="looking at the axes")

        def show(state: "ImportProgress") -> None:
            reasons = ", ".join(f"{reason} {count}" for reason, count in state.left_out.items())
            note = f"{state.samples} views" + (f", left out: {reasons}" if reasons else "")
            bar.update(task, completed=state.rooms_done, total=state.rooms_total, note=note)

        with logs_to(log_file(out)):
            report = import_rooms(
                folder,
                out,
                settings=settings,
                ids=ids,
                splits=split or [],
                test=test,
                axes=axes,
                numbering=None if numbering is None else numbering.value,
                retry=retry,
                ray_address=ray_address,
                workers=workers,
                progress=show,
            )
    found = f", IoU {min(v.iou for v in report.verdicts):.3f} or more" if report.verdicts else ""
    console.print(f"axes: a room's x, y, z are a file's {report.reading.axes}{found}")
    console.print(
        f"{report.scenes} of {report.rooms} rooms, {report.samples} samples in {report.shards} shards at {out} "
        f"(now: {report.shards_made} shards, {report.samples_made} samples, {report.seconds:.0f} s)"
    )
    for what, counts in (("rooms", report.left_out), ("views of the others", report.views_left_out)):
        if counts:
            told = ", ".join(f"{reason} {count}" for reason, count in counts.items())
            console.print(f"{what} left out: {told}")
    if report.faults:
        count = sum(report.faults.values())
        raise DatasetError(
            f"{count} room{'s' * (count > 1)} could not be imported; {out}/failures.jsonl says why: "
            "mend the files and run the same command with --retry, or go on without them"
        )
