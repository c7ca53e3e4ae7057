"""`randscene encode`: latents for a finished dataset."""

from enum import StrEnum
from typing import Annotated

import typer

from randscene.cli.console import console, log_file, logs_to, progress_bar, stops_cleanly


class Device(StrEnum):
    """Where grids are encoded."""

    CPU = "cpu"
    CUDA = "cuda"
    GPU = "gpu"


def encode(
    dataset: Annotated[str, typer.Argument(help="Dataset folder or URL.")],
    encoder: Annotated[
        str, typer.Option(help="mini, a folder in the hub's layout, or a Hugging Face id with TRELLIS's encoder.")
    ] = "mini",
    ray_address: Annotated[str | None, typer.Option(help="Address of a running Ray cluster.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Actors; by default two a GPU, or one a CPU where there is none.")
    ] = None,
    device: Annotated[
        Device | None, typer.Option(help="cuda and gpu are the same; where there are GPUs the default.")
    ] = None,
) -> None:
    """Encode the voxels of every sample and put the latents beside the shards. The same command resumes.

    Example: randscene encode rand-15k --encoder microsoft/TRELLIS-image-large
    """
    from randscene.generator.encode import encode as encode_dataset
    from randscene.shards.dataset_card import human_bytes

    resumes = "what is done is kept; run the same command again to go on"
    with stops_cleanly(resumes), progress_bar("{task.fields[note]}") as bar:
        task = bar.add_task("shards", total=None, note="")

        def show(done: int, total: int, grids: int) -> None:
            seconds = bar.tasks[0].elapsed or 0.0
            rate = f", {grids / seconds:.0f}/s" if grids and seconds else ""
            bar.update(task, completed=done, total=total, note=f"{grids} grids{rate}")

        with logs_to(log_file(dataset)):
            report = encode_dataset(
                dataset,
                encoder,
                ray_address=ray_address,
                workers=workers,
                device=None if device is None else ("cpu" if device is Device.CPU else "cuda"),
                progress=show,
            )
    console.print(
        f"{report.shards} shards have latents in {report.url} (now: {report.shards_made} shards, "
        f"{report.grids_made} grids, {human_bytes(report.bytes_made)}, {report.seconds:.0f} s)"
    )
