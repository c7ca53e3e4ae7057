"""docs/sample_format.md and docs/shards.md: their tables are what real samples, folders and records hold, both ways."""

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from docs_pages import read
from front3d_fixtures import write_front3d
from in_process_ray import in_process_ray
from shard_fixtures import make_dataset

from randscene.generator import generate, import_3dfront
from randscene.generator.build_driver import Progress
from randscene.generator.encode import encode
from randscene.generator.failures import Failure
from randscene.generator.front3d_settings import Front3dSettings
from randscene.generator.recipe import SceneRecipe
from randscene.manifests import AssetRecord, load_spec, with_overrides
from randscene.shards import ViewSample, load_index, open_dataset
from randscene.shards.filters import Filters

PAGE, SHARDS = "docs/sample_format.md", "docs/shards.md"


def table(page: str, head: str, *, after: str = "") -> list[list[str]]:
    """Cells of the rows of the first table whose head begins with `head`, behind the text `after`."""
    body = read(page).split(after, 1)[1] if after else read(page)
    rows = body.split(f"\n| {head}", 1)[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def fields(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Every field of plain data, `a.b` and `list[].c`, with its value; lists of numbers are values."""
    if isinstance(value, dict):
        for key, below in value.items():
            yield f"{path}{key}", below
            if isinstance(below, dict):
                yield from fields(below, f"{path}{key}.")
            elif isinstance(below, list) and below and isinstance(below[0], dict):
                for item in below:
                    yield from fields(item, f"{path}{key}[].")


KINDS = {
    "integer": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "number": lambda v: isinstance(v, int | float) and not isinstance(v, bool),
    "text": lambda v: isinstance(v, str),
    "true or false": lambda v: isinstance(v, bool),
    "list": lambda v: isinstance(v, list),
    "object": lambda v: isinstance(v, dict),
    "null": lambda v: v is None,
    "4x4": lambda v: np.shape(v) == (4, 4),
    "3x3": lambda v: np.shape(v) == (3, 3),
    "3 numbers": lambda v: np.shape(v) == (3,),
}


def fits(value: object, told: str) -> bool:
    """Whether a value is of the type that a table tells."""
    if told in KINDS:
        return KINDS[told](value)
    return any(KINDS[kind](value) for kind in told.split(" or "))


@pytest.fixture(scope="module")
def folders(lock, tmp_path_factory) -> dict[str, Path]:
    """Datasets of every kind: with all that is optional, bare, imported."""
    root = tmp_path_factory.mktemp("format")
    small = [
        "cameras.views=3", "render.resolution=96", "render.engine=raycast", "layout.objects=[2, 3]",
        "splits.train.scenes=1", "splits.val.scenes=1", "assets.held_out_fraction=0.5",
    ]  # fmt: skip
    full = with_overrides(load_spec("demo"), [*small, "shards.depth=true", "scene_glb=[val]"])
    bare = with_overrides(load_spec("demo"), [*small, "latents.encoder=null"])
    write_front3d(root / "front", rooms=2)
    settings = Front3dSettings(resolution=96, surfaces=True)
    with in_process_ray():
        generate(full, lock, str(root / "full"), workers=1)
        generate(bare, lock, str(root / "bare"), workers=1)
        encode(str(root / "bare"), "mini", workers=1)
        import_3dfront(root / "front", str(root / "imported"), settings=settings, splits=("train=:1", "test=1:2"))
    return {kind: root / kind for kind in ("full", "bare", "imported")}


def conditions(kind: str) -> set[str]:
    """What the last columns of the tables say of what is in a dataset of this kind."""
    return {
        "full": {"always", "generated", "with `latents.encoder`", "with `shards.depth=true`"},
        "bare": {"always", "generated"},
        "imported": {"always", "imported"},
    }[kind]


@pytest.mark.parametrize("kind", ["full", "bare", "imported"])
def test_the_members_of_a_sample_are_those_of_the_table(folders, kind):
    dataset = open_dataset(folders[kind], split=None)
    rows = [row for row in table(PAGE, "member |") if row[5] in conditions(kind)]
    assert {names(row[0])[0] for row in rows} == set(dataset.shards[0].index.members)
    assert {names(row[1])[0] for row in table(PAGE, "member |")} == {f.name for f in dataclasses.fields(ViewSample)}
    for sample in (dataset[i] for i in range(len(dataset))):
        sizes = {"H": sample.rgb.shape[0], "W": sample.rgb.shape[1], "N+1": sample.n_instances + 1}
        for row in rows:
            value = getattr(sample, names(row[1])[0])
            if not row[2]:
                continue
            shape, dtype = re.fullmatch(r"\((.*)\) (\w+)", row[2]).groups()
            told = [sizes.get(side, side) for side in re.split(r",\s*", shape) if side]
            assert value.dtype == dtype, row[0]
            assert len(told) == value.ndim, row[0]
            assert all(side == "V" or int(side) == have for side, have in zip(told, value.shape)), row[0]


@pytest.mark.parametrize("kind", ["full", "bare", "imported"])
def test_the_json_of_a_sample_has_the_fields_of_the_table_with_their_types(folders, kind):
    dataset = open_dataset(folders[kind], split=None)
    rows = {names(row[0])[0]: row for row in table(PAGE, "field | type", after="## Fields of `json`")}
    wanted = {name for name, row in rows.items() if row[4] in conditions(kind)}
    assert {row[4] for row in rows.values()} <= {*conditions("full"), *conditions("imported")}
    for sample in (dataset[i] for i in range(len(dataset))):
        found = list(fields(sample.meta))
        assert {name for name, _ in found} == wanted
        for name, value in found:
            assert fits(value, rows[name][1]), f"{name}: {value!r} is no {rows[name][1]}"


@pytest.mark.parametrize("kind", ["full", "bare", "imported"])
def test_the_frames_of_the_page_lead_from_voxels_to_pixels(folders, kind):
    """As the page tells cube, `world_to_view`, `camera_to_world` and `intrinsics`, voxels fall on their own pixels."""
    dataset = open_dataset(folders[kind], split=None)
    for sample in (dataset[i] for i in range(len(dataset))):
        meta = sample.meta
        to_camera = np.diag([1, -1, -1, 1]) @ np.linalg.inv(meta["camera_to_world"])
        for instance in range(1, sample.n_instances + 1):
            centres = (sample.instance_coords(instance) + 0.5) / 64 - 0.5
            world = np.c_[centres, np.ones(len(centres))] @ np.linalg.inv(sample.world_to_view).T
            x, y, z = np.asarray(meta["intrinsics"]) @ (to_camera @ world.T)[:3]
            columns, rows = np.floor(x / z).astype(int), np.floor(y / z).astype(int)
            side = sample.ids.shape[0]
            inside = (columns >= 0) & (columns < side) & (rows >= 0) & (rows < side)
            hit = np.unique(np.stack([rows, columns])[:, inside], axis=1)
            own = sample.ids == instance
            near = np.zeros_like(own)
            near[hit[0], hit[1]] = True
            for axis in (0, 1):  # a voxel may cover several pixels
                for step in (-2, -1, 1, 2):
                    near |= np.roll(near, step, axis)
            assert (own & near).sum() >= 0.9 * own.sum(), (kind, sample.key, instance)


def pattern(name: str) -> str:
    """A regular expression for a file name of the table."""
    parts = re.split(r"(\{[^}]*\}|\.\.\.)", name)
    return "".join(".+" if part == "..." else r"[^/]+" if part.startswith("{") else re.escape(part) for part in parts)


def test_the_files_of_a_folder_are_those_of_the_table(folders):
    rows = [(names(row[0]), row[2]) for row in table(PAGE, "file |")]
    told = {pattern(name): (name, when) for listed, when in rows for name in listed}
    seen: dict[str, set[str]] = {}
    for kind, folder in folders.items():
        for path in folder.rglob("*"):
            if path.is_file():
                name = str(path.relative_to(folder))
                match = [regex for regex in told if re.fullmatch(regex, name)]
                assert match, f"{kind}: {name} is not on the page"
                seen.setdefault(told[match[0]][0], set()).add(kind)
    made_by_others = {"preview/...", "verify/...", "work/..."}
    for name, when in told.values():
        kinds = seen.get(name, set())
        if when == "always":
            assert kinds == set(folders), name
        elif when == "generated":
            assert kinds == {"full", "bare"}, name
        elif when == "imported" or when.startswith("imported"):
            assert kinds == {"imported"}, name
        else:
            assert kinds or name in made_by_others, name


def test_dataset_json_has_the_fields_of_the_table(folders):
    rows = {names(row[0])[0]: row for row in table(PAGE, "field | type", after="### `dataset.json`")}
    for kind, folder in folders.items():
        info = json.loads((folder / "dataset.json").read_text())
        assert set(info) == {name for name, row in rows.items() if row[3] in conditions(kind)}, kind
        for name, value in info.items():
            assert fits(value, rows[name][1]), name


@pytest.mark.parametrize(
    ("heading", "record", "file"),
    [
        ("### A line of `recipes.jsonl`", SceneRecipe, "recipes.jsonl"),
        ("### A line of `assets.lock.jsonl`", AssetRecord, "assets.lock.jsonl"),
    ],
)
def test_recipes_and_locks_have_the_fields_of_the_tables(folders, heading, record, file):
    rows = {name: row for row in table(PAGE, "field | type", after=heading) for name in names(row[0])}
    assert set(rows) == {field.name for field in dataclasses.fields(record)}
    for line in (folders["full"] / file).read_text().splitlines():
        for name, value in json.loads(line).items():
            assert fits(value, rows[name][1]), (name, value)


def test_the_journals_have_the_fields_of_the_page(folders):
    failures, progress = read(PAGE).split("### Journals")[1].strip().split("\n\n")
    assert {field.name for field in dataclasses.fields(Failure)} | {"time"} == set(names(failures)[1:])
    assert {field.name for field in dataclasses.fields(Progress)} | {"time"} == set(names(progress)[1:])
    lines = (folders["full"] / "progress.jsonl").read_text().splitlines()
    assert lines and all(set(json.loads(line)) == set(names(progress)[1:]) for line in lines)


def test_the_pages_on_shards_name_every_filter_and_field_of_an_index(tmp_path):
    make_dataset(tmp_path / "dataset", depth=True)
    content = json.loads(load_index(tmp_path / "dataset/shards/train-000000.tar").to_json())
    rows = table(SHARDS, "field |")
    assert {name for row in rows for name in names(row[0])} == set(content)
    told = {names(row[0])[0]: set(names(row[1])) for row in rows}
    assert told["header"] == {*content["header"], "given_up"}  # which builds add
    assert told["tar"] == set(content["tar"])
    parameters = {name for row in table(SHARDS, "parameter") for name in names(row[0])}
    assert parameters == {field.name for field in dataclasses.fields(Filters)}
