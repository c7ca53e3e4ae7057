"""The preview page: it says what the dataset holds, as one file or with packs beside it, and is written all or not."""

import base64
import dataclasses
import io
import json
import re
import shutil
import struct
import zlib
from html.parser import HTMLParser
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image
from shard_fixtures import make_dataset, make_sample

from randscene.errors import DatasetError, RandsceneError
from randscene.files import exclusive
from randscene.shards import load_index, open_dataset, preview, preview_pack, write_preview, write_shard
from randscene.shards.latent_sidecar import sidecar_folder, sidecar_header
from randscene.shards.preview_charts import count_chart, histogram
from randscene.shards.preview_data import PALETTE, PER_SCENE, chosen, spread
from randscene.shards.preview_pack import voxel_steps
from randscene.shards.preview_plan import footprints


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("preview") / "data", scenes=3, views=3, splits=("train", "val"))


@pytest.fixture(scope="module")
def page(dataset):
    return write_preview(dataset)


@pytest.fixture
def in_packs(monkeypatch):
    """Makes every page one with packs beside it, of few views each."""
    monkeypatch.setattr(preview, "ONE_FILE", 0)
    monkeypatch.setattr(preview_pack, "PACK_VIEWS", 2)


def _script(page, name):
    text = page.read_text(encoding="utf-8")
    return json.loads(re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', text, re.S)[1])


def _unpacked(labels):
    """Scenes of a pack, and what gives the bytes of their binary parts."""
    data = zlib.decompress(labels)
    (length,) = struct.unpack_from("<I", data)
    blobs = data[4 + length :]
    return json.loads(data[4 : 4 + length])["scenes"], lambda place: blobs[place[0] : sum(place)]


def _packs(page):
    """Of each pack: its name, scenes and binary parts; from the page, or from the folder beside it."""
    for pack in _script(page, "data")["packs"]:
        if text := _script(page, "inside")["packs"].get(pack["name"]):
            yield pack["name"], *_unpacked(base64.b64decode(text))
        else:
            script = (page.with_name(f"{page.stem}_files") / f"{pack['name']}.js").read_text()
            name, text = re.fullmatch(r'randscenePack\("([^"]*)","([^"]*)"\)\n', script).groups()
            assert name == pack["name"]
            yield name, *_unpacked(base64.b64decode(text))


def _cells(steps, ends):
    cells, value, shift, found = [], 0, 0, []
    for byte in steps:
        value |= (byte & 127) << shift
        shift += 7
        if not byte & 128:
            found.append(value)
            value = shift = 0
    for start, end in zip([0, *ends], ends):
        cells += np.cumsum(found[start:end]).tolist()
    assert len(found) == ends[-1]
    return np.array(cells)


def test_the_page_lies_where_it_is_looked_for(dataset, page, tmp_path):
    assert page == dataset / "preview" / "index.html"
    assert write_preview(dataset, tmp_path / "other.html").read_bytes() == page.read_bytes()


def test_a_small_page_needs_no_other_file_and_no_network(page):
    assert [entry.name for entry in page.parent.iterdir()] == ["index.html"]
    links = []

    class Links(HTMLParser):
        def handle_starttag(self, tag, attributes):
            links.extend(value for name, value in attributes if name in ("src", "href", "srcset", "action"))

    Links().feed(page.read_text(encoding="utf-8"))
    assert links and all(link.startswith(("data:", "#")) for link in links)
    text = page.read_text(encoding="utf-8")
    assert "default-src 'none'" in text and "@import" not in text and "fetch(" not in text
    assert set(re.findall(r"https?://[^\s\"'<]*", text)) == {"http://www.w3.org/2000/svg"}
    assert "<!--{" not in text


@pytest.mark.parametrize("form", ["one file", "packs beside"])
def test_the_page_shows_the_voxels_ids_and_recipes_of_the_dataset(dataset, tmp_path, form, request):
    if form == "packs beside":
        request.getfixturevalue("in_packs")
    page = write_preview(dataset, tmp_path / "page.html")
    every = open_dataset(dataset, split=None)
    samples = {sample.key: sample for sample in (every[i] for i in range(len(every)))}
    recipes = {json.loads(line)["scene"]: line for line in (dataset / "recipes.jsonl").read_text().splitlines()}
    seen = set()
    for _, scenes, part in _packs(page):
        for scene in scenes:
            assert scene["recipe"] == recipes[scene["scene"]]
            for view in scene["views"]:
                sample = samples[f"{scene['scene']:06d}_{view['view']:03d}"]
                seen.add(sample.key)
                cells = _cells(part(view["voxels"]), view["ends"])
                assert np.array_equal(np.stack(np.unravel_index(cells, (64, 64, 64)), 1), sample.coords)
                assert view["ends"] == sample.offsets[1:].tolist()
                ids = np.frombuffer(part(view["ids"]), np.uint8).reshape(view["size"][::-1])
                assert np.array_equal(ids, sample.ids)
                assert view["visible"] == [item["visible_pixels"] for item in sample.meta["instances"]]
    assert seen == set(samples) and len(seen) > 10


def test_the_index_says_what_the_samples_say(dataset, page):
    data, every = _script(page, "data"), open_dataset(dataset, split=None)
    samples = sorted((every[i] for i in range(len(every))), key=lambda sample: sample.key)
    scenes, views = data["scenes"], data["views"]
    owners = np.repeat(scenes["scene"], scenes["views"]).tolist()
    assert [(owner, view) for owner, view in zip(owners, views["view"], strict=True)] == [
        (sample.meta["scene"], sample.meta["view"]) for sample in samples
    ]
    for seen, sample in zip(views["seen"], samples, strict=True):
        shares = [item["visible_pixels"] / item["unoccluded_pixels"] for item in sample.meta["instances"]]
        assert seen <= 100 * min(shares) < seen + 1
    assert 0 < min(views["seen"]) < 100
    first = {sample.meta["scene"]: sample for sample in reversed(samples)}
    for place, scene in enumerate(scenes["scene"]):
        items = first[scene].meta["instances"]
        assert [data["assets"][asset][0] for asset in scenes["assets"][place]] == [item["uid"] for item in items]
        assert scenes["stacked"][place] == sum(item["support_parent"] is not None for item in items)
        assert scenes["table"][place] == (scenes["stacked"][place] > 0)
        assert data["splits"][scenes["split"][place]] == first[scene].meta["split"]
        assert (scenes["planned"][place], scenes["kept"][place]) == (3, scenes["views"][place])
    assert {0, 1} == set(scenes["table"])


def test_tables_categories_and_names_of_own_files_come_from_the_asset_lock(dataset, tmp_path):
    copy = shutil.copytree(dataset, tmp_path / "data")
    samples = [open_dataset(copy, split=None)[0]]
    first, second = (samples[0].meta["instances"][n]["uid"] for n in (0, 1))
    records = [
        {"uid": first, "category": "desk", "support": {"clearance": 0.2}},
        {
            "uid": second,
            "category": "mug",
            "support": None,
            "source": "directory",
            "locator": "/my/meshes/Blue mug.v2.glb",
        },
    ]
    (copy / "assets.lock.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    data = _script(write_preview(copy), "data")
    assert [first, "", "desk"] in data["assets"] and [second, "Blue mug.v2", "mug"] in data["assets"]
    assert "/my/meshes" not in (copy / "preview" / "index.html").read_text()
    leads = [data["assets"][assets[0]][0] == first for assets in data["scenes"]["assets"]]
    assert [bool(table) for table in data["scenes"]["table"]] == [
        lead or stacked > 0 for lead, stacked in zip(leads, data["scenes"]["stacked"])
    ]
    assert any(leads)
    (copy / "assets.lock.jsonl").write_text('{"uid": 1}\n{"no": 1}\n')
    with pytest.raises(DatasetError, match=r"assets.lock.jsonl, line 2"):
        write_preview(copy)


def test_sheets_hold_the_pictures_in_the_order_of_the_index(dataset, page):
    data, inside, every = _script(page, "data"), _script(page, "inside"), open_dataset(dataset, split=None)
    pictures = iter(sorted((sample.key, sample.rgb) for sample in (every[i] for i in range(len(every)))))
    cell, columns = data["cells"]["picture"], data["cells"]["columns"]
    for pack in data["packs"]:
        for kind in "tp":
            sheet = Image.open(io.BytesIO(base64.b64decode(inside["sheets"][f"{pack['name']}-{kind}0.webp"])))
            assert sheet.size[0] == columns * data["cells"]["picture" if kind == "p" else "thumbnail"]
        assert cell == 48  # never above the dataset's own
        pixels = np.asarray(sheet.convert("RGB"), float)
        for place in range(pack["views"]):
            top, left = place // columns * cell, place % columns * cell
            shown, (_, rgb) = pixels[top : top + cell, left : left + cell], next(pictures)
            assert np.abs(shown - rgb).mean() < 6
    assert next(pictures, None) is None


def test_limits_are_kept_and_every_split_is_shown(dataset, tmp_path):
    data = _script(write_preview(dataset, tmp_path / "a.html", views=4, per_scene=2), "data")
    assert data["splits"] == ["train", "val"] and sum(data["scenes"]["views"]) <= 4
    assert max(data["scenes"]["views"]) <= 2
    assert "This page shows" in (tmp_path / "a.html").read_text()
    for wrong in ({"views": 0}, {"per_scene": 0}, {"threads": 0}):
        with pytest.raises(DatasetError, match="at least one"):
            write_preview(dataset, tmp_path / "b.html", **wrong)


def test_views_are_chosen_evenly_and_never_too_many():
    scenes = {scene: list(range(100 * scene, 100 * scene + 40)) for scene in range(50)}
    splits = {scene: "val" if scene >= 45 else "train" for scene in scenes}
    assert chosen(scenes, splits, views=2000, per_scene=None) == scenes
    assert chosen(scenes, splits, views=None, per_scene=None) == scenes
    fewer = chosen(scenes, splits, views=1200, per_scene=None)
    assert list(fewer) == list(scenes) and {len(members) for members in fewer.values()} == {PER_SCENE}
    for limit in (1, 5, 24, 100, 777):
        few = chosen(scenes, splits, views=limit, per_scene=None)
        assert 0.6 * min(limit, 1000) <= sum(map(len, few.values())) <= limit
        assert limit < 100 or {splits[scene] for scene in few} == {"train", "val"}
    assert {len(members) for members in chosen(scenes, splits, views=None, per_scene=3).values()} == {3}
    assert spread(range(100), 4) == [0, 25, 50, 75] and spread(range(3), 5) == [0, 1, 2]


def test_steps_of_any_length_are_read_back():
    cells = np.array([0, 1, 127, 128, 300, 16383, 20000, 64**3 - 1, 5, 4, 70000])
    coords = np.stack(np.unravel_index(cells, (64, 64, 64)), 1).astype(np.uint8)
    steps = voxel_steps(coords, np.array([0, 8, 8, 11], np.int32))
    assert _cells(steps, [8, 8, 11]).tolist() == [*cells[:8].tolist(), 4, 5, 70000]


def test_an_interrupted_page_goes_on_where_it_stopped_and_ends_in_the_same_bytes(
    dataset, tmp_path, in_packs, monkeypatch
):
    whole = write_preview(dataset, tmp_path / "whole" / "index.html")
    target = tmp_path / "page" / "index.html"
    made, real = [], preview.make_pack

    def counted(pack, *rest):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(pack.name)
        return real(pack, *rest)

    monkeypatch.setattr(preview, "make_pack", counted)
    with pytest.raises(KeyboardInterrupt):
        write_preview(dataset, target, threads=1)
    assert not target.exists() and len(made) == 2
    monkeypatch.setattr(preview, "make_pack", lambda pack, *rest: made.append(pack.name) or real(pack, *rest))
    told = []
    write_preview(dataset, target, progress=lambda *numbers: told.append(numbers))
    total = len(_script(whole, "data")["packs"])
    assert len(made) == len(set(made)) == total > 3 and told[0] == (2, total) and told[-1] == (total, total)
    for entry in [target, *target.with_name("index_files").iterdir()]:
        assert entry.read_bytes() == (tmp_path / "whole" / entry.relative_to(target.parent)).read_bytes()
    write_preview(dataset, target)
    assert len(made) == total


def test_packs_of_earlier_pages_go_and_other_files_stay(dataset, tmp_path, in_packs, monkeypatch):
    page = write_preview(dataset, tmp_path / "index.html")
    folder = tmp_path / "index_files"
    before = {entry.name for entry in folder.glob("0*")}
    for name in ("mine.txt", ".000000_000-aaaaaaaaaaaa.js.0123456789abcdef.tmp"):
        (folder / name).write_text("x")
    write_preview(dataset, page, per_scene=1)
    after = {entry.name for entry in folder.glob("0*")}
    assert len(before) >= 9 and after and not before & after
    assert not list(folder.glob(".*.tmp")) and (folder / "mine.txt").exists()
    (folder / "mine.txt").unlink()
    monkeypatch.setattr(preview, "ONE_FILE", 400)
    write_preview(dataset, page)
    assert not folder.exists()


def test_two_writers_of_one_page_are_kept_apart(dataset, tmp_path, in_packs):
    with (
        exclusive(tmp_path / "index_files" / ".lock", busy="not this one"),
        pytest.raises(RandsceneError, match="being written by another process"),
    ):
        write_preview(dataset, tmp_path / "index.html")


def test_footprints_lie_inside_their_discs():
    sample = make_sample(0, 1)
    outline = footprints(sample)
    a, b, c, d, e, f = outline["matrix"]
    for item, path in zip(sample.meta["instances"], outline["paths"], strict=True):
        runs = [tuple(map(int, run)) for run in re.findall(r"M(\d+) (\d+)h(\d+)", path)]
        corners = np.array([(x + along, y + up) for x, y, n in runs for along in (0, n) for up in (0, 1)])
        world = corners @ np.array([[a, b], [c, d]]) + (e, f)
        centre, scale = np.array(item["pose"])[:2, 3], np.linalg.norm(np.array(item["pose"])[:3, 0])
        assert np.linalg.norm(world - centre, axis=1).max() < scale * 0.8 + 0.15
        assert np.linalg.norm(world.mean(0) - centre) < 0.1


def test_a_frame_that_tilts_the_scene_gets_hulls():
    sample = make_sample(0, 1)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[0.8, -0.6], [0.6, 0.8]]
    tilted = dataclasses.replace(sample, meta={**sample.meta, "world_to_view": (turn @ sample.world_to_view).tolist()})
    outline = footprints(tilted)
    assert outline["matrix"] == [1, 0, 0, 1, 0, 0]
    assert all(re.fullmatch(r"M(-?[\d.e-]+ -?[\d.e-]+L?){3,}z", path) for path in outline["paths"])


def test_names_from_outside_cannot_break_out_of_the_page(dataset, tmp_path):
    copy = shutil.copytree(dataset, tmp_path / "data")
    info = json.loads((copy / "dataset.json").read_text())
    (copy / "dataset.json").write_text(json.dumps(info | {"name": "<script>alert(1)</script>"}))
    uid = open_dataset(copy, split=None)[0].meta["instances"][0]["uid"]
    record = {"uid": uid, "category": "</script><b><!--"}
    (copy / "assets.lock.jsonl").write_text(json.dumps(record) + "\n")
    page = write_preview(copy)
    text = page.read_text()
    assert "<script>alert" not in text and text.count("</script>") == 3 and "<b><!--" not in text
    assert [uid, "", record["category"]] in _script(page, "data")["assets"]


def test_a_dataset_without_recipes_or_from_a_running_build_is_shown(dataset, tmp_path):
    copy = shutil.copytree(dataset, tmp_path / "data")
    (copy / "recipes.jsonl").unlink()
    info = json.loads((copy / "dataset.json").read_text())
    (copy / "dataset.json").write_text(json.dumps(info | {"complete": False}))
    page = write_preview(copy)
    shown = [scene for _, scenes, _ in _packs(page) for scene in scenes]
    assert shown and all(scene["plan"] is None and scene["recipe"] is None for scene in shown)
    assert "not finished" in page.read_text()


def test_a_folder_that_is_no_dataset_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="not a dataset"):
        write_preview(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_broken_recipe_is_named(dataset, tmp_path):
    copy = shutil.copytree(dataset, tmp_path / "data")
    lines = (copy / "recipes.jsonl").read_text().splitlines()
    (copy / "recipes.jsonl").write_text("\n".join([lines[0], lines[1][:-9], *lines[2:]]))
    with pytest.raises(DatasetError, match=r"recipes.jsonl, line 2"):
        write_preview(copy)


def test_the_instances_colours_differ():
    assert len({*PALETTE}) == len(PALETTE) == 12


@pytest.mark.parametrize("chart", [histogram, count_chart])
def test_charts_draw_any_values(chart):
    for values in ([], [3], [2, 2, 2], list(range(100))):
        figure = chart(np.array(values), title="A <title>", axis="x", note="n")
        assert figure.startswith("<figure") and "&lt;title&gt;" in figure and "nan" not in figure
    heights = re.findall(r'height="([\d.]+)"', count_chart(np.array([1, 1, 2]), title="t", axis="x"))
    assert float(heights[0]) == pytest.approx(2 * float(heights[1]), rel=0.01)


def test_the_command_says_where_the_page_is_and_refuses_other_words(dataset, tmp_path, capsys):
    import typer

    from randscene.cli.preview import preview as command

    command(str(dataset), out=tmp_path / "x.html", views="all")
    assert "x.html" in capsys.readouterr().out
    with pytest.raises(typer.BadParameter, match="nor the word all"):
        command(str(dataset), views="0")


def test_a_page_of_any_name_finds_its_packs(dataset, tmp_path, in_packs):
    """A browser takes what follows a `#` or `?` of an address for another thing."""
    page = write_preview(dataset, tmp_path / "my #1 50%?.html")
    data = _script(page, "data")
    folder = page.parent / unquote(data["folder"])
    assert not {"#", "?", " "} & set(data["folder"])
    assert all((folder / f"{pack['name']}.js").is_file() for pack in data["packs"])


def test_the_page_names_latents_that_lie_beside_all_shards(dataset, tmp_path):
    folder, sha256 = shutil.copytree(dataset, tmp_path / "data"), "ab" * 32
    assert "<dt>latents</dt><dd>none</dd>" in write_preview(folder).read_text()
    for path in sorted(folder.glob("shards/*.tar")):
        index = load_index(path)
        write_shard(
            folder / sidecar_folder(sha256) / path.name,
            [(key, {"latents.npy": b"..."}) for key in index.keys],
            header=sidecar_header(index, name="/home/me/weights/mine", sha256=sha256),
        )
    assert "<dt>latents</dt><dd>mine</dd>" in write_preview(folder).read_text()
