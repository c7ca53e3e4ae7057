"""`randscene predict`."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from randscene.cli.completion import run_presets, splits, torch_devices
from randscene.cli.console import check_folder, console, progress_bar, stops_cleanly
from randscene.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Callable

    from randscene.shards import Dataset
    from randscene.train.predict import Predictor
    from randscene.train.prediction_view import View


def predict(
    source: Annotated[
        str,
        typer.Argument(
            help="A run folder or one of its checkpoints; or published weights: a Hugging Face id, a folder in the "
            "hub's layout or of I-Scene, a .safetensors or .pt file."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for one folder a view; finished views are kept.")],
    dataset: Annotated[Path | None, typer.Option(help="Dataset to take the views from.")] = None,
    split: Annotated[
        str, typer.Option(help="Split of the dataset; all takes every one.", autocompletion=splits)
    ] = "val",
    views: Annotated[int | None, typer.Option(min=1, help="So many views, spread evenly; all by default.")] = None,
    keys: Annotated[list[str] | None, typer.Option("--key", help="These views only, e.g. 000012_003.")] = None,
    any_frame: Annotated[
        bool, typer.Option("--any-frame", help="Also views of a dataset in another frame than the model's.")
    ] = False,
    image: Annotated[Path | None, typer.Option(help="A picture of your own instead of a dataset.")] = None,
    masks: Annotated[Path | None, typer.Option(help="Its masks: a PNG of ids, or a folder of one PNG each.")] = None,
    camera: Annotated[
        Path | None, typer.Option(help="Its camera: JSON with camera_to_world (4x4, Blender/OpenGL) and look_at.")
    ] = None,
    best: Annotated[bool, typer.Option("--best", help="The run's checkpoint of the lowest validation loss.")] = False,
    preset: Annotated[
        str | None,
        typer.Option(
            help="Settings that published weights are used with; iscene by default.", autocompletion=run_presets
        ),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Replace one field of these settings: section.field=value.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Sampler steps, instead of the settings'.")] = None,
    cfg: Annotated[float | None, typer.Option(min=0.0, help="Guidance strength w, instead of the settings'.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the initial noise.")] = 0,
    smoothing: Annotated[int, typer.Option(min=0, help="Passes of Taubin smoothing over the meshes.")] = 0,
    stage_two: Annotated[
        str | None,
        typer.Option(
            help="Also coloured meshes, by the public TRELLIS package if it is installed: a Hugging Face id "
            "(microsoft/TRELLIS-image-large) or a folder in its layout."
        ),
    ] = None,
    stage_two_texture: Annotated[
        bool,
        typer.Option("--stage-two-texture", help="Simplify them and bake a texture; colours at vertices otherwise."),
    ] = False,
    at_once: Annotated[
        int | None, typer.Option(min=1, help="Views computed together; default: 8 on a GPU, 1 on a CPU.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that write beside the model; default: all cores with a GPU.")
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(help="cpu or gpu (cuda); a GPU where there is one by default.", autocompletion=torch_devices),
    ] = None,
) -> None:
    """Predict one mesh an instance, and the scene of them, from views of a dataset or from a picture with masks.

    Example: randscene predict runs/mini --dataset demo/dataset --split val --views 2 --out predictions

    Example: randscene predict runs/mini --image room.png --masks room-ids.png --out predictions

    Example: randscene predict iscene-folder --dataset demo/dataset --out predictions

    Example: randscene predict iscene-folder --image room.png --masks masks --out predictions
    --stage-two microsoft/TRELLIS-image-large
    """
    if (dataset is None) == (image is None) or (image is None) != (masks is None):
        raise SpecError("give either --dataset, or --image together with --masks")
    if camera is not None and image is None:
        raise SpecError("--camera belongs to --image: the views of a dataset bring their own")
    if stage_two_texture and stage_two is None:
        raise SpecError("--stage-two-texture belongs to --stage-two: add it")
    from randscene.train.devices import choose_device
    from randscene.train.predict import Predictor, usual_pace
    from randscene.train.prediction_source import find_source
    from randscene.train.prediction_view import View
    from randscene.train.settings import with_overrides

    check_folder(out)
    found = find_source(source, best=best, preset=preset, overrides=set_ or [])
    stated = {"sampling.steps": steps, "sampling.cfg_strength": cfg}
    given = [f"{field}={value}" for field, value in stated.items() if value is not None]
    sampling = with_overrides(found.settings, given).sampling
    picture = View.of_picture(image, masks, camera=camera, data=found.settings.data) if image and masks else None
    arguments: dict[str, Any] = {
        "sampling": sampling,
        "seed": seed,
        "smoothing": smoothing,
        "device": str(choose_device(device)),
    }
    if stage_two is None:
        predictor = Predictor(found, **arguments)
    else:
        from randscene.train.stage_two_predictor import load_two_stages

        predictor = load_two_stages(found, stage_two, texture=stage_two_texture, **arguments)
    jobs = [lambda: picture] if picture else _dataset_views(predictor, dataset, split, views, keys, any_frame)
    usual = usual_pace(predictor.device, len(jobs))
    at_once, workers = at_once or usual.at_once, workers or usual.workers
    made, seconds, empty, untextured = 0, 0.0, list[str](), list[str]()
    bar = progress_bar()
    with stops_cleanly("finished views are kept; run the same command again to go on"), bar:
        task = bar.add_task("predict", total=len(jobs))
        for done in predictor.predict_all(jobs, out, at_once=at_once, workers=workers):
            made += not done.skipped
            seconds += 0.0 if done.skipped else done.seconds
            empty += [f"{done.key} instance {instance}" for instance in done.empty]
            untextured += [f"{done.key} instance {instance}" for instance in done.untextured]
            bar.advance(task)
    for what, named in (("no geometry", empty), ("no surface from stage 2", untextured)):
        if named:
            console.print(f"{what} for {len(named)} instances: {', '.join(named[:8])}{', ...' * (len(named) > 8)}")
    rate = f", {seconds / made:.1f} s a view" if made else ""
    console.print(f"{len(jobs)} views in {out} ({made} predicted now{rate})")


def _dataset_views(
    predictor: "Predictor", url: Path | None, split: str, views: int | None, keys: list[str] | None, any_frame: bool
) -> "list[Callable[[], View]]":
    from randscene.shards import open_dataset
    from randscene.train.prediction_view import choose_views

    assert url is not None
    data = open_dataset(url, split=None if split == "all" else split)
    chosen = choose_views(data, views=views, keys=keys)
    return [functools.partial(_view, predictor, data, index, any_frame) for index in chosen]


def _view(predictor: "Predictor", data: "Dataset", index: int, any_frame: bool) -> "View":
    return predictor.view(data[index], any_frame=any_frame)
