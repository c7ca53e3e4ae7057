"""The preview page: one static HTML file that shows what a dataset holds. No server, no network, no library."""

import json
from html import escape
from pathlib import Path
from typing import Any

from randscene.errors import DatasetError
from randscene.files import write_atomic
from randscene.shards.dataset import Dataset, open_dataset
from randscene.shards.dataset_card import human_bytes
from randscene.shards.preview_charts import count_chart, histogram
from randscene.shards.preview_data import (
    CHARTED,
    PALETTE,
    ChartData,
    chart_data,
    read_recipes,
    scene_data,
    scenes_of,
    spread,
)
from randscene.shards.store import open_store

ASSETS = Path(__file__).parent / "assets"
SCRIPTS = ("preview_shared", "preview_stage", "preview_cube", "preview_plan", "preview")
"""Parts of the page's script, in the order in which they are joined."""


def write_preview(
    dataset_dir: str | Path, out: str | Path | None = None, *, max_scenes: int = 12, max_views: int = 12
) -> Path:
    """Write the preview page of a dataset.

    The page is one file: scenes spread over all splits, each with pictures and instance overlay, its layout from
    above and a turning view of its view-centric voxels; charts of the whole; light and dark.

    Parameters
    ----------
    dataset_dir : path or URL
        Dataset folder.
    out : path, optional
        The HTML file; by default `preview/index.html` inside the dataset folder, and for a URL `NAME.preview.html` in
        the current folder.
    max_scenes, max_views : int
        Scenes, and views of each, that the page shows at most.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    DatasetError
        If the dataset cannot be read, or a number is below 1.
    RandsceneError
        If the page cannot be written.
    """
    if max_scenes < 1 or max_views < 1:
        raise DatasetError("a preview needs at least one scene and one view")
    store = open_store(dataset_dir)
    dataset = open_dataset(dataset_dir, split=None)
    scenes = scenes_of(dataset)
    shown = _shown(dataset, scenes, max_scenes)
    charted = spread(list(scenes), CHARTED)
    recipes = read_recipes(store, {*shown, *charted})
    charts = chart_data(dataset, {scene: recipes[scene] for scene in charted if scene in recipes})
    content = {
        "palette": PALETTE,
        "scenes": [
            scene_data([dataset[index] for index in spread(scenes[scene], max_views)], recipes.get(scene))
            | {"kept": len(scenes[scene])}
            for scene in shown
        ],
    }
    if out is not None:
        target = Path(out)
    elif store.local is not None:
        target = store.local / "preview" / "index.html"
    else:
        target = Path(f"{store.url.rpartition('/')[2]}.preview.html")
    write_atomic(target, _page(dataset, len(scenes), charts, content))
    return target


def _shown(dataset: Dataset, scenes: dict[int, list[int]], count: int) -> list[int]:
    """Scenes to show: of every split its share, at least one, evenly spaced."""
    splits: dict[str, list[int]] = {}
    owner = {
        int(key.partition("_")[0]): str(shard.index.header["split"])
        for shard in dataset.shards
        for key in shard.index.keys
    }
    for scene in scenes:
        splits.setdefault(owner[scene], []).append(scene)
    shares = {name: max(1, round(count * len(members) / len(scenes))) for name, members in splits.items()}
    while sum(shares.values()) > count and max(shares.values()) > 1:
        shares[max(shares, key=lambda name: shares[name])] -= 1
    return [scene for name, members in splits.items() for scene in spread(members, shares[name])][:count]


def _page(dataset: Dataset, n_scenes: int, charts: ChartData, content: dict[str, Any]) -> str:
    info = dataset.info
    parts = {
        "title": escape(info["name"]),
        "lead": _lead(dataset, n_scenes, charts),
        "facts": _facts(dataset, charts),
        "charts": _charts(charts, len(dataset)),
        "style": (ASSETS / "preview.css").read_text(encoding="utf-8"),
        "script": "\n".join((ASSETS / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS),
        # Inside a script element, "</" could end it.
        "data": json.dumps(content, separators=(",", ":"), ensure_ascii=True).replace("</", "<\\/"),
    }
    page = (ASSETS / "preview.html").read_text(encoding="utf-8")
    pieces = page.split("<!--{")
    filled = [pieces[0]]
    for piece in pieces[1:]:
        name, _, rest = piece.partition("}-->")
        filled += [parts[name], rest]
    return "".join(filled)


def _lead(dataset: Dataset, n_scenes: int, charts: ChartData) -> str:
    state = "" if dataset.info.get("complete") else " <em>The build is not finished yet.</em>"
    return (
        f"{n_scenes:,} random scenes seen from {len(dataset):,} viewpoints, every object with its own mask, pose and "
        f"view-centric voxels.{state}"
    )


def _facts(dataset: Dataset, charts: ChartData) -> str:
    info = dataset.info
    size = sum(shard.index.tar_bytes for shard in dataset.shards)
    splits = " · ".join(
        f"{escape(name)} {count['scenes']:,} / {count['samples']:,}" for name, count in info["splits"].items()
    )
    licences = " · ".join(f"{escape(name)} {count:,}" for name, count in charts.licences.items())
    facts = [
        ("splits, scenes / views", splits),
        ("shards", f"{len(dataset.shards):,} · {human_bytes(size)}"),
        ("bytes a view", human_bytes(size / len(dataset))),
        ("pictures", f"{charts.resolution} px · {escape(charts.engine)}"),
        ("voxels", f"64³ · frame {escape(charts.frame)}"),
        ("latents", escape(charts.encoder)),
        ("licences, assets", licences),
        ("fingerprint", f"<code>{escape(info['fingerprint'][:12])}</code>"),
    ]
    return "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)


def _charts(charts: ChartData, total: int) -> str:
    note = "" if charts.samples == total else f"from {charts.samples:,} of {total:,} views"
    return "".join(
        [
            count_chart(charts.objects, title="Objects a scene", axis="objects"),
            histogram(charts.radii, title="Disc radii", axis="radius, metres"),
            histogram(
                100 * charts.visible,
                title="Visible share",
                axis="% of an object's pixels not hidden",
                note=note,
                bounds=(0, 100),
            ),
            histogram(charts.voxels, title="Voxels an object", axis="surface voxels of 64³", note=note),
        ]
    )
