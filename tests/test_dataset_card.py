"""The dataset card: the Hub reads it, its counts and links are those of the folder, its code runs, its bytes repeat."""

import io
import json
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from shard_fixtures import make_dataset

from randscene.errors import DatasetError
from randscene.shards import open_dataset, write_card

LICENCES = ("CC0-1.0", "CC0-1.0", "CC-BY-4.0", "CC-BY-NC-SA-4.0")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = make_dataset(
        tmp_path_factory.mktemp("card") / "synthetic", splits=("train", "val"), latents=True, depth=True
    )
    write_lock(root, *LICENCES)
    (root / "ATTRIBUTION.md").write_text("# Credits\n")
    write_card(root)
    return root


def write_lock(root: Path, *licences: str) -> None:
    lines = [json.dumps({"uid": f"a{i}", "licence": name, "status": "ok"}) for i, name in enumerate(licences)]
    lines.append(json.dumps({"uid": "z", "licence": "CC-BY-ND-4.0", "status": "too_large"}))
    (root / "assets.lock.jsonl").write_text("".join(f"{line}\n" for line in lines))


def text_of(folder: Path) -> str:
    return (folder / "README.md").read_text(encoding="utf-8")


def fields_of(folder: Path) -> dict:
    head = text_of(folder).split("---\n")[1]
    return yaml.safe_load(head)


def code_of(folder: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text_of(folder), re.DOTALL)


def test_the_library_of_the_hub_reads_every_field(folder):
    hub = pytest.importorskip("huggingface_hub")
    data = hub.DatasetCard.load(folder / "README.md").data
    assert data.pretty_name == "synthetic" and data.task_categories == ["image-to-3d"]
    assert data.size_categories == ["n<1K"] and "webdataset" in data.tags
    assert hub.DatasetCardData(**data.to_dict()).to_dict() == fields_of(folder)


def test_the_hub_finds_the_tars_of_each_split_and_nothing_else(folder):
    (config,) = fields_of(folder)["configs"]
    files = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    for entry in config["data_files"]:
        found = sorted(name for name in files if fnmatch(name, entry["path"]))
        assert found == sorted(name for name in files if re.fullmatch(rf"shards/{entry['split']}-\d+\.tar", name))
        assert found
    assert [entry["split"] for entry in config["data_files"]] == ["train", "val"]


def test_the_types_on_the_card_are_those_of_the_members(folder):
    columns = {item["name"]: item for item in fields_of(folder)["dataset_info"]["features"]}
    dataset = open_dataset(folder, split="val")
    assert {*dataset.members(0), "__key__", "__url__"} == set(columns)
    meta = dataset[0].meta
    struct = {item["name"]: item for item in columns["json"]["struct"]}
    assert set(struct) == set(meta) and struct["world_to_view"]["list"] == {"list": "float64"}
    (instance,) = [struct["instances"]["list"]]
    types = {item["name"]: item.get("dtype") for item in instance}
    # Null in some samples, a number in others: guessing from a few samples goes wrong.
    assert set(types) == set(meta["instances"][0]) and types["support_parent"] == "int64"


def test_the_library_datasets_loads_every_split(folder, tmp_path):
    datasets = pytest.importorskip("datasets")
    for split in ("train", "val"):
        loaded = datasets.load_dataset(str(folder), split=split, cache_dir=str(tmp_path))
        dataset = open_dataset(folder, split=split)
        assert loaded.num_rows == len(dataset)
        keys = dataset.keys
        for row in loaded:
            sample = dataset[keys.index(row["__key__"])]
            assert (np.asarray(row["ids.png"]) == sample.ids).all()
            parents = [item["support_parent"] for item in sample.meta["instances"]]
            assert [item["support_parent"] for item in row["json"]["instances"]] == parents


def test_the_code_on_the_card_runs_in_the_folder(folder):
    pytest.importorskip("webdataset")
    blocks = code_of(folder, "python")
    assert len(blocks) == 2 and "randscene.shards" in blocks[0] and "webdataset.WebDataset" in blocks[1]
    for block in blocks:
        assert block.count("split=") + block.count("shards/train-") == 1
    checks = (
        "assert rgb.shape[:2] == ids.shape and len(first) and instance_picture.any()\nassert meta['split'] == 'train'"
    )
    code = "\n".join([*blocks, checks, "assert sample['__key__']"])
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_link_and_picture_is_in_the_folder(folder):
    links = re.findall(r"\]\(([^)]+)\)", text_of(folder))
    local = [link for link in links if "://" not in link]
    assert {"card/views.webp", "card/charts.png", "ATTRIBUTION.md", "dataset.json"} <= set(local)
    for link in local:
        assert (folder / link).is_file(), link
    assert not [link for link in links if "://" in link and "github.com/webdataset/webdataset" not in link]


def test_counts_are_those_of_the_files(folder):
    text = text_of(folder)
    for split in ("train", "val"):
        dataset = open_dataset(folder, split=split)
        scenes = {key.partition("_")[0] for key in dataset.keys}
        assert f"| {split} | {len(scenes)} | {len(dataset)} | 2 |" in text
    assert "| CC0-1.0 | 2 |" in text and "| CC-BY-4.0 | 1 |" in text and "CC-BY-ND" not in text


@pytest.mark.parametrize(
    ("licences", "expected"),
    [
        (("CC0-1.0", "CC0-1.0"), {"license": "cc0-1.0"}),
        (("CC-BY-NC-SA-4.0",), {"license": "cc-by-nc-sa-4.0"}),
        (LICENCES, {"license": "other", "license_name": "mixed-creative-commons", "license_link": "ATTRIBUTION.md"}),
        (("MIT", "CC0-1.0"), {"license": "other", "license_name": "mixed", "license_link": "ATTRIBUTION.md"}),
        (("LicenseRef-Mine",), {"license": "other", "license_name": "mine", "license_link": "ATTRIBUTION.md"}),
    ],
)
def test_the_licence_is_told_as_the_hub_wants_it(tmp_path, licences, expected):
    root = make_dataset(tmp_path / "one", scenes=1, views=1)
    (root / "ATTRIBUTION.md").write_text("# Credits\n")
    write_lock(root, *licences)
    write_card(root)
    fields = fields_of(root)
    assert {name: value for name, value in fields.items() if name.startswith("license")} == expected
    assert ("Not for commercial use" in text_of(root)) is any("NC" in name for name in licences)


def test_pictures_show_views_above_their_masks_and_charts(folder):
    sheet = np.asarray(Image.open(folder / "card" / "views.webp").convert("RGB")).astype(int)
    assert sheet.shape == (388, 4 * 196 - 4, 3)
    for column in range(4):
        above, below = (sheet[top : top + 192, 196 * column : 196 * column + 192] for top in (0, 196))
        lit, painted = above.max(-1) > 40, below.max(-1) > 40
        assert 0.01 < lit.mean() < 0.9
        # The masks cover what the picture shows, up to WebP's blur and dark sides.
        assert (lit & painted).sum() > 0.9 * lit.sum()
    charts = np.asarray(Image.open(folder / "card" / "charts.png").convert("RGB")).astype(int)
    bars = np.abs(charts - (64, 120, 180)).max(-1) < 20
    assert all(bars[:, panel * 380 : (panel + 1) * 380].any() for panel in range(3))
    assert sum(path.stat().st_size for path in (folder / "card").iterdir()) < 300_000


def test_bytes_repeat_whatever_happened_beside_the_dataset(folder):
    def everything() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in [folder / "README.md", *(folder / "card").iterdir()]}

    before = everything()
    (folder / "failures.jsonl").write_text("{}\n")
    (folder / "card" / ".views.webp.0123456789abcdef.tmp").write_bytes(b"half")
    (folder / "preview").mkdir()
    (folder / "preview" / "index.html").write_text("page")
    write_card(folder)
    assert everything() == before and set(before) == {"README.md", "views.webp", "charts.png"}


def test_the_command_on_the_card_has_the_spec_of_the_dataset(tmp_path):
    pytest.importorskip("pydantic")
    from randscene.manifests import load_spec, with_overrides

    spec = with_overrides(load_spec("demo"), ["cameras.views=7", "seed=11"])
    root = make_dataset(tmp_path / "made", scenes=1, views=1)
    write_lock(root, "CC0-1.0")
    info = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps(info | {"spec": spec.model_dump(mode="json")}))
    write_card(root)
    (code,) = code_of(root, "bash")
    line, command = code.strip().splitlines()
    subprocess.run(["sh", "-c", line.replace("python", sys.executable, 1)], cwd=root, check=True)
    assert load_spec(str(root / "spec.yaml")) == spec
    assert command == "randscene generate spec.yaml --assets assets.lock.jsonl --out again"
    assert f"| asset lock | `{info['lock_sha256']}` |" in text_of(root)


def test_arranged_splits_are_told_from_random_ones(tmp_path):
    root = make_dataset(tmp_path / "set", scenes=1, views=1, splits=("train", "rows"))
    assert "carry no meaning" in text_of(root) and "arrangement" not in text_of(root)
    info = json.loads((root / "dataset.json").read_text())
    info["spec"]["splits"] = {"train": {"arrangement": "random"}, "rows": {"arrangement": "around_table"}}
    (root / "dataset.json").write_text(json.dumps(info))
    write_card(root)
    assert "| split | arrangement | scenes |" in text_of(root) and "| rows | around table | 1 |" in text_of(root)
    assert "carry no meaning" not in text_of(root)


def test_a_dataset_without_samples_has_a_card_without_pictures(folder, tmp_path):
    root = tmp_path / "empty"
    (root / "card").mkdir(parents=True)
    (root / "card" / "views.webp").write_bytes(b"of an earlier build")
    info = json.loads((folder / "dataset.json").read_text())
    counts = {"train": {"scenes": 0, "samples": 0, "shards": 0}}
    (root / "dataset.json").write_text(json.dumps(info | {"splits": counts, "complete": False}))
    write_card(root)
    assert "not finished" in text_of(root) and "card/" not in text_of(root)
    assert "configs" not in fields_of(root) and not list((root / "card").iterdir())


def test_an_unreadable_sample_costs_the_card_its_views_only(folder, tmp_path, caplog):
    root = make_dataset(tmp_path / "broken", scenes=2, views=2)
    path = root / "shards" / "train-000000.tar"
    index = json.loads((root / "shards" / "train-000000.index.json").read_text())
    data = bytearray(path.read_bytes())
    for offsets, sizes in zip(index["offsets"], index["sizes"]):
        for offset, size in zip(offsets, sizes):
            data[offset : offset + size] = bytes(size)
    path.write_bytes(data)
    write_card(root)
    assert "no views" in caplog.text and "views.webp" not in text_of(root) and "charts.png" in text_of(root)


def test_a_lock_that_is_no_lock_is_one_line(tmp_path):
    root = make_dataset(tmp_path / "set", scenes=1, views=1)
    (root / "assets.lock.jsonl").write_text('{"licence": "CC0-1.0"}\n')
    with pytest.raises(DatasetError, match=r"assets\.lock\.jsonl, line 1"):
        write_card(root)


def test_pictures_are_drawn_from_the_samples_alone(folder):
    from randscene.shards.card_figures import view_sheet

    one = view_sheet(open_dataset(folder, split="val"))
    again = view_sheet(open_dataset(folder, split="val"))
    assert one is not None and one == again and Image.open(io.BytesIO(one)).format == "WEBP"
