"""The preview page: what a dataset holds, view by view. No server, no network, no library."""

import base64
import json
import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from randscene.errors import DatasetError
from randscene.files import exclusive, write_atomic
from randscene.shards.dataset import Dataset, open_dataset
from randscene.shards.latent_sidecar import whole_sets
from randscene.shards.preview_data import CHARTED, PALETTE, chart_data, chosen, read_recipes, scenes_of, spread
from randscene.shards.preview_facts import charts_html, facts_html, lead_html
from randscene.shards.preview_index import READERS, index_content, read_assets, read_labels, scene_row
from randscene.shards.preview_pack import (
    COLUMNS,
    SHEET,
    Pack,
    PackContent,
    PictureSizes,
    as_script,
    grouped,
    make_pack,
    sizes_for,
)
from randscene.shards.store import Store, open_store

ASSETS = Path(__file__).parent / "assets"
SCRIPTS = (
    *("shared", "files", "recipe", "stage", "cube", "plan", "filter", "filter_form", "gallery", "scene"),
    "page",
)
"""Parts of the page's script, in the order in which they are joined."""
VIEWS = 2000
"""Views on the page unless more are asked for: a minute's work."""
ONE_FILE = 400
"""Up to so many views the page is one file; beyond, packs lie in a folder beside it."""
_PACK_FILE = re.compile(r"\d{6,}_\d{3,}-[0-9a-f]{12}(\.js|-[pt]\d+\.webp)|\..*\.tmp")

Progress = Callable[[int, int], None]


def write_preview(
    dataset_dir: str | Path,
    out: str | Path | None = None,
    *,
    views: int | None = VIEWS,
    per_scene: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write the preview page of a dataset.

    An overview of all views with filters; a page of each scene with its pictures, ids, layout from above, turning
    voxels and recipe; charts of the whole. Up to `ONE_FILE` views it is one file. Beyond, `NAME_files/` beside it
    holds packs of scenes that the page loads when they are looked at. What was made before and still holds is kept:
    after an interruption the same call goes on, and the page appears, or changes, when all its packs are there.

    Parameters
    ----------
    dataset_dir : path or URL
        Dataset folder.
    out : path, optional
        The HTML file; by default `preview/index.html` inside the dataset folder, and for a URL `NAME.preview.html` in
        the current folder.
    views : int or None
        Views on the page at most, spread over all splits and scenes; None for all.
    per_scene : int or None
        Views of each scene at most; by default all, or 24 where `views` does not hold all.
    threads : int, optional
        Threads that make packs; by default one a processor, at most eight; eight for a URL.
    progress : callable, optional
        Called with the number of packs that are there, and of all.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    DatasetError
        If the dataset cannot be read, or a number is below 1.
    RandsceneError
        If the page cannot be written, or another process writes it.
    """
    if min(1 if number is None else number for number in (views, per_scene, threads)) < 1:
        raise DatasetError("a preview needs at least one view, one view of each scene and one thread")
    store = open_store(dataset_dir)
    dataset = open_dataset(dataset_dir, split=None)
    scenes = scenes_of(dataset)
    shown = chosen(scenes, _splits(dataset), views=views, per_scene=per_scene)
    charted = spread(list(scenes), CHARTED)
    recipes = read_recipes(store, {*shown, *charted})
    latents = whole_sets(store, {shard.name.removesuffix(".tar"): shard.index for shard in dataset.shards})
    charts = chart_data(dataset, {scene: recipes[scene] for scene in charted if scene in recipes})

    indices = list(shown.values())
    notes = read_assets(store)
    rows = [
        scene_row(labels, notes, recipes.get(scene), len(scenes[scene]))
        for scene, labels in zip(shown, read_labels(dataset, indices))
    ]
    total = sum(map(len, indices))
    sizes = sizes_for(total, max(dataset[indices[0][0]].rgb.shape[:2]))
    packs = grouped(rows, indices, recipes, sizes=sizes, origin=_origins(dataset, indices).__getitem__)

    target = _target(out, store)
    folder = target.with_name(f"{target.stem}_files")
    page = {
        "palette": PALETTE,
        "cells": {"columns": COLUMNS, "sheet": SHEET, "thumbnail": sizes.thumbnail, "picture": sizes.picture},
        "packs": [{"name": pack.name, "views": pack.views} for pack in packs],
        "total": {"scenes": len(scenes), "views": len(dataset)},
        **index_content(rows),
    }
    parts = {
        "title": escape(dataset.info["name"]),
        "lead": lead_html(dataset, len(scenes), total),
        "facts": facts_html(dataset, charts, latents),
        "charts": charts_html(charts, len(dataset)),
    }
    # A local disk keeps processors busy; an object store is waited for.
    threads = threads or (READERS if store.local is None else min(READERS, os.cpu_count() or 1))
    work = _Work(dataset, recipes, sizes, threads, progress)
    if total <= ONE_FILE:
        inside: dict[str, PackContent] = {}
        work.run(packs, lambda pack, content: inside.update({pack.name: content}))
        write_atomic(target, _html(parts, page | {"folder": None}, inside))
        if folder.is_dir():
            with exclusive(folder / ".lock", busy=_busy(target)):
                _clean(folder, set())
    else:
        with exclusive(folder / ".lock", busy=_busy(target)):
            there = {entry.name for entry in folder.iterdir()}
            missing = [pack for pack in packs if not there.issuperset(pack.files)]
            work.run(missing, lambda pack, content: _write_pack(folder, pack, content), done=len(packs) - len(missing))
            write_atomic(target, _html(parts, page | {"folder": quote(folder.name)}, {}))
            _clean(folder, {name for pack in packs for name in pack.files})
    return target


def _target(out: str | Path | None, store: Store) -> Path:
    if out is not None:
        return Path(out)
    if store.local is not None:
        return store.local / "preview" / "index.html"
    return Path(f"{store.url.rpartition('/')[2]}.preview.html")


def _busy(target: Path) -> str:
    return f"{target} is being written by another process; wait for it, or name another file with --out"


def _splits(dataset: Dataset) -> dict[int, str]:
    return {
        int(key.partition("_")[0]): str(shard.index.header.get("split", ""))
        for shard in dataset.shards
        for key in shard.index.keys
    }


def _origins(dataset: Dataset, indices: list[list[int]]) -> dict[int, str]:
    """What names the bytes of each of these samples: the shard's hash, and the key in it."""
    wanted = {dataset.keys[index]: index for members in indices for index in members}
    return {
        wanted[key]: f"{shard.index.tar_sha256} {key}"
        for shard in dataset.shards
        for key in shard.index.keys
        if key in wanted
    }


class _Work:
    """Makes packs in threads: decoding and encoding pictures, and deflating, run beside one another."""

    def __init__(
        self,
        dataset: Dataset,
        recipes: dict[int, dict[str, Any]],
        sizes: PictureSizes,
        threads: int,
        progress: Progress | None,
    ) -> None:
        self._dataset, self._recipes, self._sizes = dataset, recipes, sizes
        self._threads = threads
        self._progress = progress or (lambda done, total: None)

    def run(self, packs: list[Pack], store: Callable[[Pack, PackContent], None], *, done: int = 0) -> None:
        """Make packs and store each; `done` others are there already."""

        def make(pack: Pack) -> None:
            store(pack, make_pack(pack, self._dataset.__getitem__, self._recipes, self._sizes))

        total = done + len(packs)
        self._progress(done, total)
        with ThreadPoolExecutor(self._threads) as pool:
            jobs = [pool.submit(make, pack) for pack in packs]
            try:
                for number, job in enumerate(as_completed(jobs), start=done + 1):
                    job.result()
                    self._progress(number, total)
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise


def _write_pack(folder: Path, pack: Pack, content: PackContent) -> None:
    for name, data in content.sheets.items():
        write_atomic(folder / name, data)
    write_atomic(folder / f"{pack.name}.js", as_script(pack, content.labels))


def _clean(folder: Path, used: set[str]) -> None:
    """Remove the packs of earlier pages, and what a killed process left half written; nothing else."""
    for entry in folder.iterdir():
        if entry.name not in used and _PACK_FILE.fullmatch(entry.name):
            entry.unlink(missing_ok=True)
    if not used:
        (folder / ".lock").unlink(missing_ok=True)
        if not any(folder.iterdir()):
            folder.rmdir()


def _html(parts: dict[str, str], page: dict[str, Any], inside: dict[str, PackContent]) -> str:
    """The page; `inside` are packs that it carries itself."""
    carried = {
        "packs": {name: base64.b64encode(inside[name].labels).decode() for name in sorted(inside)},
        "sheets": {
            name: base64.b64encode(data).decode()
            for pack in sorted(inside)
            for name, data in inside[pack].sheets.items()
        },
    }
    content = parts | {
        "style": (ASSETS / "preview.css").read_text(encoding="utf-8"),
        "script": "\n".join((ASSETS / f"preview_{name}.js").read_text(encoding="utf-8") for name in SCRIPTS),
        "data": _json(page),
        "inside": _json(carried),
    }
    template = (ASSETS / "preview.html").read_text(encoding="utf-8")
    pieces = template.split("<!--{")
    filled = [pieces[0]]
    for piece in pieces[1:]:
        name, _, rest = piece.partition("}-->")
        filled += [content[name], rest]
    return "".join(filled)


def _json(value: Any) -> str:
    # Inside a script element, "</" could end it, and "<!--" hide its end.
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True).replace("<", "\\u003c")
