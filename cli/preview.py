"""`randscene preview`: one static page that shows what a dataset holds."""

from pathlib import Path
from typing import Annotated

import typer

from randscene.cli.console import console


def preview(
    dataset: Annotated[str, typer.Argument(help="Dataset folder or URL.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="The HTML file; DATASET/preview/index.html by default, for a URL NAME.preview.html here."
        ),
    ] = None,
    max_scenes: Annotated[int, typer.Option(min=1, help="Scenes to show at most.")] = 12,
    max_views: Annotated[int, typer.Option(min=1, help="Views of each scene to show at most.")] = 12,
) -> None:
    """Write a page with pictures, instance overlays, layouts, turning voxels and charts. Open it in any browser.

    Example: randscene preview demo/dataset
    """
    from randscene.shards import write_preview
    from randscene.shards.dataset_card import human_bytes

    with console.status("reading the dataset"):
        page = write_preview(dataset, out, max_scenes=max_scenes, max_views=max_views)
    console.print(f"page: {page.absolute()} ({human_bytes(page.stat().st_size)})", markup=False)
