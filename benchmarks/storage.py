"""Bytes a view, by member, of a dataset; and what a whole Rand-15K of the same kind would take.

    randscene generate rand-15k --assets LOCK --out DIR --scenes 8 --set cameras.views=16 --set splits.val.scenes=0
    python benchmarks/storage.py DIR [--encoder mini]

With --encoder, latents are encoded for some views and their size is stated raw (as `latents.npy` stores them) and
deflated. The extrapolation is 15,000 scenes x 150 views x the share of views that are samples here.
"""

import argparse
import json
import lzma
import zlib
from pathlib import Path

import numpy as np

from randscene.shards import open_dataset
from randscene.shards.sample_codec import npy_bytes

SCENES, VIEWS = 15_000, 150


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--encoder", help="mini, a folder or a Hugging Face id")
    parser.add_argument("--views", type=int, default=24, help="views that are encoded")
    args = parser.parse_args()
    dataset = open_dataset(args.dataset, split=None)
    sizes = np.concatenate([shard.index.sizes for shard in dataset.shards])
    names = dataset.shards[0].index.members
    tars = sum(shard.index.tar_bytes for shard in dataset.shards)
    instances = np.concatenate([shard.index.n_instances for shard in dataset.shards]).mean()
    info = json.loads((args.dataset / "dataset.json").read_text())
    planned = sum(split["scenes"] for split in info["splits"].values()) * info["spec"]["cameras"]["views"]
    kept = len(dataset) / planned
    total = SCENES * VIEWS * kept
    print(f"{len(dataset)} samples of {planned} views ({100 * kept:.1f} % kept), {instances:.2f} instances each")
    rows = [(name, float(sizes[:, column].mean())) for column, name in enumerate(names)]
    rows.append(("tar headers and padding", (tars - sizes.sum()) / len(dataset)))
    rows.append(("a sample", tars / len(dataset)))
    if args.encoder:
        rows += latents(args.dataset, args.encoder, args.views)
    for name, size in rows:
        print(f"{name:<34} {size:>12,.0f} B a view  {size * total / 1e9:>10,.1f} GB for Rand-15K")


def latents(root: Path, encoder: str, views: int) -> list[tuple[str, float]]:
    """Mean bytes of the latents of some views: as stored, deflated, and by lzma."""
    from randscene.train import encode_voxels, load_encoder

    dataset = open_dataset(root, split=None)
    loaded = load_encoder(encoder)
    raw, deflated, strong = [], [], []
    for index in np.linspace(0, len(dataset) - 1, views).astype(int):
        sample = dataset[int(index)]
        grids = [sample.scene_coords(), *(sample.instance_coords(i + 1) for i in range(sample.n_instances))]
        data = npy_bytes(encode_voxels(loaded, grids))
        raw.append(len(data))
        deflated.append(len(zlib.compress(data, 6)))
        strong.append(len(lzma.compress(data)))
    return [
        (f"latents.npy ({encoder}), raw float16", float(np.mean(raw))),
        (f"latents.npy ({encoder}), deflated", float(np.mean(deflated))),
        (f"latents.npy ({encoder}), lzma", float(np.mean(strong))),
    ]


if __name__ == "__main__":
    main()
