"""The preview page's words and charts on the dataset as a whole, as HTML."""

from collections.abc import Sequence
from html import escape

from randscene.shards.dataset import Dataset
from randscene.shards.dataset_card import human_bytes
from randscene.shards.latent_sidecar import LatentSet
from randscene.shards.preview_charts import count_chart, histogram
from randscene.shards.preview_data import ChartData


def lead_html(dataset: Dataset, n_scenes: int, shown: int) -> str:
    """One sentence: how much there is, how much of it the page shows, and whether it is all."""
    state = "" if dataset.info.get("complete") else " <em>The build is not finished yet.</em>"
    part = "" if shown == len(dataset) else f" This page shows {shown:,} of the views, spread over all splits."
    return (
        f"{n_scenes:,} scenes seen from {len(dataset):,} viewpoints, every object with its own mask, pose and "
        f"view-centric voxels.{part}{state}"
    )


def facts_html(dataset: Dataset, charts: ChartData, latents: Sequence[LatentSet]) -> str:
    """Names and values for a description list; `latents` are those that lie beside the shards."""
    info = dataset.info
    encoders = [*([charts.encoder] if charts.encoder else []), *(item.label for item in latents)]
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
        ("latents", escape(", ".join(encoders) or "none")),
        ("licences, assets", licences),
        ("fingerprint", f"<code>{escape(info['fingerprint'][:12])}</code>"),
    ]
    return "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)


def charts_html(charts: ChartData, total: int) -> str:
    """Four histograms; `total` is the number of views in the dataset."""
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
