"""A dataset to measure reading on: some rendered samples, written again and again under other keys."""

import argparse
import shutil
import time
from pathlib import Path
from typing import Any

from small_builds import RAY_CAST, small_lock, small_spec

from randscene import canonical_json, seeding
from randscene.files import write_atomic
from randscene.generator import generate
from randscene.shards import open_dataset, write_shard

SHARD_SCENES = 16


def copied_samples(folder: Path, args: argparse.Namespace) -> Path:
    """A dataset of `copies` of some rendered samples, each under a key of its own."""
    root = folder / "dataset"
    if (root / "dataset.json").exists():
        return root
    assignments = [
        *RAY_CAST,
        f"splits.train.scenes={args.scenes}",
        f"cameras.views={args.views}",
        f"render.resolution={args.resolution}",
        "layout.objects=[2, 12]",
    ]
    begun = time.monotonic()
    generate(small_spec(assignments), small_lock(folder), folder / "rendered", workers=2)
    made = open_dataset(folder / "rendered")
    parts = [(meta, made.members(place)) for place in range(len(made)) for meta in [made[place].meta]]
    total, number = 0, 0
    for first in range(0, args.scenes * args.copies, SHARD_SCENES):
        scenes = range(first, min(first + SHARD_SCENES, args.scenes * args.copies))
        samples = [renamed(meta, found, scene) for scene in scenes for meta, found in parts
                   if meta["scene"] == scene % args.scenes]  # fmt: skip
        order = seeding.generator(0, "shard", number).permutation(len(samples))
        header = {"split": "train", "block": number, "scenes": list(scenes), "fingerprint": made.info["fingerprint"]}
        write_shard(root / "shards" / f"train-{number:06d}.tar", (samples[i] for i in order), header=header)
        total, number = total + len(samples), number + 1
    counts = {"scenes": args.scenes * args.copies, "samples": total, "shards": number}
    info = {**made.info, "splits": {"train": counts}, "complete": True}
    write_atomic(root / "dataset.json", canonical_json.dumps(info))
    shutil.rmtree(folder / "rendered")
    print(f"built in {time.monotonic() - begun:.0f} s")
    return root


def renamed(meta: dict[str, Any], found: dict[str, bytes], scene: int) -> tuple[str, dict[str, bytes]]:
    """The same sample as that of another scene."""
    members = {**found, "json": canonical_json.dumps({**meta, "scene": scene}).encode()}
    return f"{scene:06d}_{meta['view']:03d}", members
