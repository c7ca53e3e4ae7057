"""`randscene preview`: a page that shows what a dataset holds."""

from pathlib import Path
from typing import Annotated

import typer

from randscene.cli.console import console, progress_bar, stops_cleanly


def preview(
    dataset: Annotated[str, typer.Argument(help="Dataset folder or URL.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="The HTML file; DATASET/preview/index.html by default, for a URL NAME.preview.html here."
        ),
    ] = None,
    views: Annotated[
        str, typer.Option(metavar="N|all", help="Views on the page at most, spread over all splits and scenes.")
    ] = "2000",
    per_scene: Annotated[
        int | None,
        typer.Option(min=1, help="Views of each scene at most; by default all, or 24 where --views cannot hold all."),
    ] = None,
) -> None:
    """Write a page with all views, filters, and for each scene its ids, layout, turning voxels and recipe.

    Open it in any browser; it needs no server. The same command goes on where an interrupted one stopped.

    Example: randscene preview demo/dataset

    Example: randscene preview rand-15k --views all --per-scene 8
    """
    from randscene.shards import write_preview
    from randscene.shards.dataset_card import human_bytes

    if views != "all" and not (views.isdecimal() and int(views) > 0):
        raise typer.BadParameter("not a number above 0, nor the word all", param_hint="--views")
    with stops_cleanly("what is done is kept; run the same command again to go on"), progress_bar() as bar:
        task = bar.add_task("preview", total=None)
        page = write_preview(
            dataset,
            out,
            views=None if views == "all" else int(views),
            per_scene=per_scene,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    folder = page.with_name(f"{page.stem}_files")
    beside = [entry.stat().st_size for entry in folder.iterdir()] if folder.is_dir() else []
    size = human_bytes(page.stat().st_size + sum(beside))
    with_folder = f", with {folder.name}/ beside it" if beside else ""
    console.print(f"page: {page.absolute()} ({size}{with_folder})")
