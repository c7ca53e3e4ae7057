"""The preview page: one file that holds everything, says what the dataset holds, and runs without a complaint."""

import base64
import dataclasses
import io
import json
import re
import shutil
import subprocess
import zlib
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from shard_fixtures import make_dataset, make_sample

from randscene.errors import DatasetError
from randscene.shards import open_dataset, write_preview
from randscene.shards.preview_charts import count_chart, histogram
from randscene.shards.preview_data import PALETTE, scene_data, spread


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("preview") / "data", scenes=3, views=3, splits=("train", "val"))


@pytest.fixture(scope="module")
def page(dataset):
    return write_preview(dataset)


def _data(page):
    text = page.read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])


def test_the_page_lies_where_it_is_looked_for(dataset, page, tmp_path):
    assert page == dataset / "preview" / "index.html"
    assert write_preview(dataset, tmp_path / "other.html").read_bytes() == page.read_bytes()


def test_the_page_needs_no_other_file_and_no_network(page):
    links = []

    class Links(HTMLParser):
        def handle_starttag(self, tag, attributes):
            links.extend(value for name, value in attributes if name in ("src", "href", "srcset", "action"))

    Links().feed(page.read_text(encoding="utf-8"))
    assert all(link.startswith(("data:", "#")) for link in links)
    text = page.read_text(encoding="utf-8")
    assert "default-src 'none'" in text and "@import" not in text and "fetch(" not in text
    assert set(re.findall(r"https?://[^\s\"'<]*", text)) == {"http://www.w3.org/2000/svg"}
    assert "<!--{" not in text


def test_every_split_is_shown_and_limits_are_kept(dataset, tmp_path):
    scenes = _data(write_preview(dataset, tmp_path / "a.html", max_scenes=2, max_views=1))["scenes"]
    assert [scene["split"] for scene in scenes] == ["train", "val"]
    assert all(len(scene["views"]) == 1 for scene in scenes)


def test_the_page_shows_the_voxels_and_ids_of_the_dataset(dataset, page):
    content = _data(page)
    samples = {sample.key: sample for sample in (open_dataset(dataset, split=None)[i] for i in range(18))}
    for scene in content["scenes"]:
        for view in scene["views"]:
            sample = samples[f"{scene['scene']:06d}_{view['view']:03d}"]
            columns = np.frombuffer(zlib.decompress(base64.b64decode(view["voxels"])), np.uint8).reshape(3, -1)
            assert np.array_equal(columns.T, sample.coords) and view["ends"] == sample.offsets[1:].tolist()
            assert view["visible"] == [item["visible_pixels"] for item in sample.meta["instances"]]
            assert view["rgb"].startswith("data:image/webp;base64,")


def test_label_pictures_carry_the_ids_in_the_palettes_colours():
    sample = make_sample(1, 0)
    view = scene_data([sample], None)["views"][0]
    image = Image.open(io.BytesIO(base64.b64decode(view["ids"].partition(",")[2]))).convert("RGBA")
    pixels = np.asarray(image)
    assert np.array_equal(pixels[..., 3] > 0, sample.ids > 0)
    for number in range(1, sample.n_instances + 1):
        assert (pixels[sample.ids == number][:, :3] == list(bytes.fromhex(PALETTE[number - 1][1:]))).all()


def test_footprints_lie_inside_their_discs():
    sample = make_sample(0, 1)
    footprints = scene_data([sample], None)["footprints"]
    a, b, c, d, e, f = footprints["matrix"]
    for item, path in zip(sample.meta["instances"], footprints["paths"], strict=True):
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
    footprints = scene_data([tilted], None)["footprints"]
    assert footprints["matrix"] == [1, 0, 0, 1, 0, 0]
    assert all(re.fullmatch(r"M(-?[\d.e-]+ -?[\d.e-]+L?){3,}z", path) for path in footprints["paths"])


def test_names_from_outside_cannot_break_out_of_the_page(dataset, tmp_path):
    copy = shutil.copytree(dataset, tmp_path / "data")
    info = json.loads((copy / "dataset.json").read_text())
    (copy / "dataset.json").write_text(json.dumps(info | {"name": "<script>alert(1)</script>"}))
    recipes = (copy / "recipes.jsonl").read_text().replace("synthetic/", "</script><b>")
    (copy / "recipes.jsonl").write_text(recipes)
    text = write_preview(copy).read_text()
    assert "<script>alert" not in text and text.count("</script>") == 2


def test_a_dataset_without_recipes_or_from_a_running_build_is_shown(dataset, tmp_path):
    copy = shutil.copytree(dataset, tmp_path / "data")
    (copy / "recipes.jsonl").unlink()
    info = json.loads((copy / "dataset.json").read_text())
    (copy / "dataset.json").write_text(json.dumps(info | {"complete": False}))
    page = write_preview(copy)
    assert all(scene["plan"] is None for scene in _data(page)["scenes"])
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


@pytest.mark.parametrize("chart", [histogram, count_chart])
def test_charts_draw_any_values(chart):
    for values in ([], [3], [2, 2, 2], list(range(100))):
        figure = chart(np.array(values), title="A <title>", axis="x", note="n")
        assert figure.startswith("<figure") and "&lt;title&gt;" in figure and "nan" not in figure
    heights = re.findall(r'height="([\d.]+)"', count_chart(np.array([1, 1, 2]), title="t", axis="x"))
    assert float(heights[0]) == pytest.approx(2 * float(heights[1]), rel=0.01)


def test_scenes_are_picked_evenly():
    assert spread(range(100), 4) == [0, 25, 50, 75] and spread(range(3), 5) == [0, 1, 2]


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_the_page_runs_without_an_error_and_draws(page, tmp_path):
    probe = tmp_path / "probe.html"
    # Told to the outside by an attribute: how many pixels of the first picture and cube are drawn.
    script = """<script>addEventListener("load", () => setTimeout(() => {
      const drawn = [...document.querySelectorAll(".scene canvas")].slice(0, 2).map((canvas) => {
        const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
        return data.filter((part, at) => at % 4 < 3 && part > 40).length;
      });
      document.body.dataset.probe = JSON.stringify({drawn, thumbs: document.querySelectorAll(".strip img").length,
        rows: document.querySelectorAll(".legend button").length,
        plans: document.querySelectorAll(".plan svg").length});
    }, 2500));</script></body>"""
    probe.write_text(page.read_text(encoding="utf-8").replace("</body>", script), encoding="utf-8")
    done = subprocess.run(
        [
            *("chromium", "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"),
            *("--enable-logging=stderr", "--v=0", "--virtual-time-budget=6000", "--dump-dom", probe.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "CONSOLE" not in done.stderr, done.stderr
    told = json.loads(re.search(r'data-probe="([^"]*)"', done.stdout)[1].replace("&quot;", '"'))
    assert min(told["drawn"]) > 200 and told["thumbs"] > 0 and told["rows"] > 0 and told["plans"] == 6


def test_the_command_says_where_the_page_is(dataset, tmp_path, capsys):
    from randscene.cli.preview import preview

    preview(dataset, out=tmp_path / "x.html")
    assert "x.html" in capsys.readouterr().out
