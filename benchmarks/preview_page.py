"""The preview page of a dataset of 10,000 views: seconds to write it, its bytes, and how fast a browser shows it.

    python benchmarks/preview_page.py DATASET [--views 10000] [--work DIR] [--runs 5]

DATASET is any dataset. Its samples are written again and again, as new scenes and under new keys, into shards of a
larger dataset in the work folder, until that holds the views. The page is then written with all of them, opened from
the disk in headless Chromium at 1280 x 800, each run in a fresh profile, and timed from the start of the navigation by
the page's own marks: each is set once what it names is on the screen. Needs Chromium and playwright.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from randscene import canonical_json
from randscene.files import write_atomic
from randscene.shards import open_dataset, write_preview
from randscene.shards.preview_data import read_recipes, scenes_of
from randscene.shards.shard_writer import write_shard
from randscene.shards.store import open_store

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from browser import chromium, marks, wait_until, why_not

PER_SHARD = 250
"""Scenes a shard of the larger dataset."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--views", type=int, default=10_000)
    parser.add_argument("--work", type=Path, help="where the larger dataset and the page go, and stay")
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    if reason := why_not():
        parser.error(reason)
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.work or Path(scratch)
        enlarge(args.dataset, folder / "data", args.views)
        page = folder / "page" / "index.html"
        begun = time.perf_counter()
        write_preview(folder / "data", page, views=None)
        seconds = time.perf_counter() - begun
        again = time.perf_counter()
        write_preview(folder / "data", page, views=None)
        again = time.perf_counter() - again
        files = [entry.stat().st_size for entry in page.with_name("index_files").iterdir()]
        print(f"{len(open_dataset(folder / 'data', split=None)):,} views, {args.dataset} over again")
        print(f"writing the page           {seconds:8.1f} s, again with all packs there {again:.1f} s")
        print(f"page                       {page.stat().st_size / 1e6:8.2f} MB")
        print(f"folder beside it           {sum(files) / 1e6:8.1f} MB in {len(files)} files")
        runs = list(visits(page, args.runs))
    for name in runs[0]:
        values = [run[name] for run in runs]
        print(f"{name:<26} {statistics.median(values):8.0f} ms  ({min(values):.0f} to {max(values):.0f})")


def enlarge(source: str, target: Path, views: int) -> None:
    """Write a dataset of `views` views: the samples of `source`, over and over, each time as new scenes."""
    if (target / "dataset.json").exists():
        return
    dataset = open_dataset(source, split=None)
    scenes = scenes_of(dataset)
    recipes = read_recipes(open_store(source), scenes)
    lines, shard, total, number, shards = list[str](), list[tuple[str, dict[str, bytes]]](), 0, 0, 0
    names = list(scenes)
    fingerprint = dataset.info["fingerprint"]

    def flush() -> None:
        nonlocal shards
        first = number - len({key[:6] for key, _ in shard})
        header = {
            "split": "train",
            "block": shards,
            "scenes": list(range(first, number)),
            "attempts": {},
            "fingerprint": fingerprint,
        }
        write_shard(target / "shards" / f"train-{shards:06d}.tar", shard, header=header)
        shards += 1
        shard.clear()

    while total < views:
        scene = names[number % len(names)]
        for index in scenes[scene][: views - total]:
            members = dataset.members(index, ("rgb.webp", "ids.png", "voxels.npz", "json"))
            meta = json.loads(members["json"]) | {"scene": number, "split": "train"}
            members["json"] = canonical_json.dumps(meta).encode()
            shard.append((f"{number:06d}_{meta['view']:03d}", members))
            total += 1
        if scene in recipes:
            lines.append(canonical_json.dumps(recipes[scene] | {"scene": number, "split": "train"}) + "\n")
        number += 1
        if number % PER_SHARD == 0:
            flush()
    if shard:
        flush()
    write_atomic(target / "recipes.jsonl", "".join(lines))
    write_atomic(target / "assets.lock.jsonl", open_store(source).read("assets.lock.jsonl"))
    splits = {"train": {"scenes": number, "samples": total, "shards": shards}}
    write_atomic(target / "dataset.json", canonical_json.dumps(dataset.info | {"splits": splits, "complete": True}))


def visits(page: Path, runs: int) -> Iterator[dict[str, float]]:
    """Milliseconds of each step, a run at a time."""
    for _ in range(runs):
        with chromium() as browser:
            tab = browser.new_page(viewport={"width": 1280, "height": 800})
            said = list[str]()
            tab.on("console", lambda message, said=said: said.append(message.text))
            tab.on("pageerror", lambda error, said=said: said.append(str(error)))
            tab.goto(page.as_uri())
            took = {"load, thumbnails painted": _mark(tab, "thumbnails", 0)}
            steps = {
                "filter by objects": "document.querySelector('.bars button').click()",
                "search": "location.hash = '#q=table'",
                "filter by visibility": "location.hash = '#seen=60&order=hidden'",
            }
            for name, step in steps.items():
                took[name] = _after(tab, step, "thumbnails")
            took["jump to the end"] = _after(tab, "scrollTo(0, 1e9)", "thumbnails")
            took["open a scene"] = _after(tab, "document.querySelector('#grid a:last-of-type').click()", "scene")
            took["next view of it"] = _after(tab, "document.querySelectorAll('.strip button')[1].click()", "scene")
            if said:
                raise SystemExit(f"the page complains: {said}")
            yield took


def _after(tab: Any, step: str, name: str) -> float:
    """Milliseconds from a step to the mark that follows it."""
    count = len(marks(tab, name))
    # A function of the step's own text: the page's policy forbids text that is evaluated.
    begun = tab.evaluate(f"() => {{ const begun = performance.now(); {step}; return begun; }}")
    return _mark(tab, name, count) - begun


def _mark(tab: Any, name: str, known: int) -> float:
    return wait_until(tab, lambda: marks(tab, name)[known:], name)[0]


if __name__ == "__main__":
    main()
