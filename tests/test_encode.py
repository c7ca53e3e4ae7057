"""Latents beside the shards: the same as those stored inside, resumable, never another shard's."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from in_process_ray import InProcessRay
from shard_fixtures import make_dataset

from randscene.errors import DatasetError, RandsceneError
from randscene.files import exclusive
from randscene.generator import encode as encode_module
from randscene.generator.encode import EncodeActor, _placement, encode
from randscene.shards import dataset_card, lint, load_index, open_dataset, read_tar, write_card, write_shard
from randscene.shards.dataset_card import human_bytes
from randscene.shards.latent_sidecar import latent_sets, sidecar_folder, sidecar_header
from randscene.shards.store import open_store
from randscene.train import encode_voxels, load_encoder

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("one_ray")]


@pytest.fixture
def dataset(tmp_path) -> Path:
    make_dataset(tmp_path / "dataset", scenes=4, views=2, latents=False)
    return tmp_path / "dataset"


@pytest.fixture(scope="module")
def encoded(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("encoded") / "dataset"
    make_dataset(root, scenes=4, views=2, latents=False)
    encode(root, "mini", workers=2)
    return root


@pytest.fixture
def copy(encoded, tmp_path) -> Path:
    """The encoded dataset, to be damaged."""
    return shutil.copytree(encoded, tmp_path / "copy")


def tars(root: Path) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes() for path in sorted((root / "latents").glob("*/*")) if path.name != ".encode.lock"
    }


def test_a_sample_s_latents_are_those_of_its_scene_and_of_each_instance(encoded):
    samples = open_dataset(encoded, split=None, latents="mini")
    encoder = load_encoder("mini")
    for index in (0, len(samples) - 1):
        sample = samples[index]
        grids = [sample.scene_coords(), *(sample.instance_coords(i + 1) for i in range(sample.n_instances))]
        np.testing.assert_array_equal(sample.latents, encode_voxels(encoder, grids))
        assert sample.meta["encoder"] == {"name": "mini", "sha256": encoder.sha256}
    assert open_dataset(encoded, split=None)[0].latents is None


def test_a_set_is_found_by_the_first_digits_of_its_hash_and_only_by_its_own(encoded):
    sha256 = load_encoder("mini").sha256
    assert open_dataset(encoded, split=None, latents=sha256[:8])[0].latents is not None
    with pytest.raises(DatasetError, match=r"no latents of encoder other.*mini"):
        open_dataset(encoded, split=None, latents="other")


def test_keys_are_those_of_the_shards_in_their_order(encoded):
    for tar in sorted((encoded / "latents").glob("*/*.tar")):
        shard = [key for key, _ in read_tar(encoded / "shards" / tar.name)]
        assert [key for key, members in read_tar(tar) if set(members) == {"latents.npy"}] == shard


def test_webdataset_reads_the_latents_as_they_are(encoded):
    webdataset = pytest.importorskip("webdataset")
    urls = [str(path) for path in sorted((encoded / "latents").glob("*/*.tar"))]
    found = {item["__key__"]: item for item in webdataset.WebDataset(urls, shardshuffle=False).decode()}
    assert set(found) == set(open_dataset(encoded, split=None).keys)
    assert all(item["latents.npy"].shape[1:] == (8, 16, 16, 16) for item in found.values())


def test_the_same_command_again_has_nothing_to_do(encoded):
    before = tars(encoded)
    report = encode(encoded, "mini")
    assert report.shards_made == 0 and report.shards == len(before) // 2
    assert tars(encoded) == before


def test_any_number_of_workers_gives_the_same_bytes(dataset, encoded):
    encode(dataset, "mini", workers=1)
    assert tars(dataset) == tars(encoded)


def test_a_lost_or_cut_file_is_made_again_and_nothing_else(copy):
    before = tars(copy)
    (folder,) = (copy / "latents").iterdir()
    first, second = sorted(folder.glob("*.tar"))[:2]
    first.write_bytes(first.read_bytes()[:1000])
    second.with_suffix(".index.json").unlink()
    assert encode(copy, "mini").shards_made == 2
    assert tars(copy) == before


def test_latents_of_a_shard_that_was_built_again_are_refused_and_made_again(copy):
    (folder,) = (copy / "latents").iterdir()
    index = sorted(folder.glob("*.index.json"))[0]
    content = json.loads(index.read_text())
    content["header"]["latents_of"] = "0" * 64
    index.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="lack latents of encoder mini or were built again"):
        open_dataset(copy, split=None, latents="mini")
    assert any("another shard" in problem.message for problem in lint(copy).problems)
    assert encode(copy, "mini").shards_made == 1
    assert lint(copy).ok


def test_a_kill_at_any_instant_ends_in_the_same_bytes(dataset, encoded):
    command = [sys.executable, "-m", "randscene.cli.main", "encode", str(dataset), "--workers", "1"]
    for _ in range(2):
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        deadline = time.monotonic() + 60
        while process.poll() is None and not list(dataset.glob("latents/*/*.index.json")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    encode(dataset, "mini")
    assert tars(dataset) == tars(encoded)


def test_lint_reads_latents_too(encoded, dataset, copy):
    report = lint(encoded)
    assert report.ok and report.bytes > lint(dataset).bytes
    tar = sorted(copy.glob("latents/*/*.tar"))[0]
    data = bytearray(tar.read_bytes())
    data[-6000] ^= 1
    tar.write_bytes(data)
    assert any("SHA-256" in problem.message for problem in lint(copy).problems)


def test_lint_compares_the_index_of_latents_with_their_tar(encoded, tmp_path):
    folder = shutil.copytree(encoded, tmp_path / "data")
    path = sorted(folder.glob("latents/*/*.index.json"))[0]
    index = json.loads(path.read_text())
    index["offsets"][0][0] += 1
    path.write_text(json.dumps(index))
    assert [problem.message for problem in lint(folder).problems] == ["the index places its members elsewhere"]
    index["offsets"][0][0] -= 1
    del index["header"]["encoder"]
    path.write_text(json.dumps(index))
    assert any("does not name the encoder" in problem.message for problem in lint(folder).problems)


def _latents_on(folder: Path) -> str:
    return "".join(re.findall(r"## Latents\n.*?(?=## Reading)", (folder / "README.md").read_text(), re.DOTALL))


def test_the_card_of_a_finished_dataset_names_its_latents(encoded):
    sha256, text = load_encoder("mini").sha256, _latents_on(encoded)
    size = sum(path.stat().st_size for path in encoded.glob("latents/*/*.tar"))
    assert f"| mini | `{sha256}` | `{sidecar_folder(sha256)}` | {human_bytes(size)} |" in text
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    done = subprocess.run([sys.executable, "-c", code], cwd=encoded, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"\(\d, 8, 16, 16, 16\)\n", done.stdout)


def test_the_card_of_an_unfinished_dataset_is_left_to_its_build(encoded, tmp_path):
    folder = shutil.copytree(encoded, tmp_path / "data")
    whole, info = (folder / "README.md").read_bytes(), json.loads((folder / "dataset.json").read_text())
    (folder / "README.md").unlink()
    (folder / "dataset.json").write_text(json.dumps(info | {"complete": False}))
    encode(folder, "mini")
    assert not (folder / "README.md").exists()
    (folder / "dataset.json").write_text(json.dumps(info))
    pictures = {path: path.stat() for path in (folder / "card").iterdir()}
    encode(folder, "mini")
    assert (folder / "README.md").read_bytes() == whole
    assert {path: path.stat() for path in (folder / "card").iterdir()} == pictures and len(pictures) == 2


def test_latents_that_are_still_being_made_are_not_on_the_card(encoded, tmp_path):
    folder = shutil.copytree(encoded, tmp_path / "data")
    assert "| mini |" in _latents_on(folder)
    next(folder.glob("latents/*/*.index.json")).unlink()
    write_card(folder)
    assert not _latents_on(folder)


def test_the_last_of_two_that_write_the_card_names_the_latents_of_both(encoded, tmp_path, monkeypatch):
    """Another one, with another encoder, ends between our look at the latents and our text."""
    folder, sha256 = shutil.copytree(encoded, tmp_path / "data"), "ab" * 32
    looked = dataset_card.whole_sets

    def look_before_another_ends(store, shards):
        sets = looked(store, shards)
        if not (folder / sidecar_folder(sha256)).exists():
            for path in sorted(folder.glob("shards/*.tar")):
                index = load_index(path)
                write_shard(
                    folder / sidecar_folder(sha256) / path.name,
                    [(key, {"latents.npy": b"..."}) for key in index.keys],
                    header=sidecar_header(index, name="/home/me/weights/other", sha256=sha256),
                )
            write_card(folder, pictures=False)
        return sets

    monkeypatch.setattr(dataset_card, "whole_sets", look_before_another_ends)
    write_card(folder, pictures=False)
    text = _latents_on(folder)
    assert "| mini |" in text and f"| other | `{sha256}` |" in text and "/home/me" not in text


def test_two_at_once_are_refused(dataset):
    folder = dataset / sidecar_folder(load_encoder("mini").sha256)
    with exclusive(folder / ".encode.lock", busy="mine"), pytest.raises(RandsceneError, match="another `randscene"):
        encode(dataset, "mini")


def test_a_corrupt_shard_is_named_and_not_encoded(dataset):
    tar = sorted((dataset / "shards").glob("*.tar"))[0]
    data = bytearray(tar.read_bytes())
    data[700] ^= 1
    tar.write_bytes(data)
    with pytest.raises(DatasetError, match=rf"{tar.name}: its SHA-256"):
        encode(dataset, "mini")


def test_other_weights_under_the_same_name_are_refused(dataset):
    with pytest.raises(RandsceneError, match="other weights on this machine"):
        EncodeActor(str(dataset), "mini", "0" * 64)


@pytest.mark.parametrize(
    ("resources", "device", "workers", "expected"),
    [
        ({"CPU": 8.0}, None, None, ("cpu", 8)),
        ({"CPU": 16.0, "GPU": 2.0}, None, None, ("cuda", 4)),
        ({"CPU": 16.0, "GPU": 2.0}, None, 1, ("cuda", 1)),
        ({"CPU": 16.0, "GPU": 2.0}, "cpu", None, ("cpu", 10)),
        ({"CPU": 64.0, "GPU": 8.0}, None, None, ("cuda", 10)),
        ({"CPU": 2.0}, None, 4, ("cpu", 2)),
        ({"CPU": 16.0, "GPU": 1.0}, None, 4, ("cuda", 2)),
        ({"CPU": 3.0, "GPU": 2.0}, None, None, ("cuda", 4)),
        ({"GPU": 1.0}, None, None, ("cuda", 2)),
        ({"GPU": 1.0}, "cuda", 1, ("cuda", 1)),
        ({}, None, None, ("cpu", 1)),
    ],
)
def test_actors_go_to_gpus_where_there_are_some_and_are_no_more_than_shards_or_places(
    resources, device, workers, expected
):
    assert _placement(resources, device, workers, 10) == expected


@pytest.mark.parametrize("device", [None, "cuda"])
def test_actors_on_a_gpu_ask_for_no_cpu_so_that_none_need_be_free(dataset, device, monkeypatch):
    """What they ask Ray for; the machine that answers has no card, so their start is as far as it goes."""

    class AsksOfActorsError(Exception):
        pass

    class NoFreeCpu(InProcessRay):
        def cluster_resources(self):
            return {"GPU": 1.0}

        def remote(self, **share):
            assert share == {"num_gpus": 0.5, "num_cpus": 0}
            raise AsksOfActorsError

    monkeypatch.setattr(encode_module, "ray_session", lambda *_, **__: contextlib.nullcontext(NoFreeCpu()))
    with pytest.raises(AsksOfActorsError):
        encode(dataset, "mini", device=device)
    with pytest.raises(RandsceneError, match=r"has GPUs but no CPU.*leave --device out"):
        encode(dataset, "mini", device="cpu")


def test_a_worker_that_cannot_start_is_told_by_its_own_error_not_by_lack_of_memory(dataset, monkeypatch):
    import ray

    page = "ray::EncodeActor.__init__()\n  File x\nRuntimeError: No CUDA GPUs are available\n"
    failed = ray.exceptions.ActorDiedError(ray.exceptions.RayTaskError("__init__", page, RuntimeError()))

    class NoCuda(InProcessRay):
        exceptions = ray.exceptions

        def get(self, reference):
            raise failed

    monkeypatch.setattr(encode_module, "ray_session", lambda *_, **__: contextlib.nullcontext(NoCuda()))
    with pytest.raises(RandsceneError, match=r"could not start \(RuntimeError: No CUDA GPUs are available\): [^\n]*$"):
        encode(dataset, "mini")
    failed = ray.exceptions.ActorDiedError()
    with pytest.raises(RandsceneError, match=r"died while it encoded .*fewer --workers"):
        encode(dataset, "mini")


def test_a_gpu_that_is_not_there_is_named(dataset):
    with pytest.raises(RandsceneError, match="no GPU in this Ray cluster"):
        encode(dataset, "mini", device="cuda")


def test_a_folder_without_shards_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="no committed shard"):
        encode(tmp_path, "mini")


def test_sets_of_several_encoders_live_side_by_side(encoded):
    (only,) = latent_sets(open_store(encoded))
    assert (only.name, len(only.sha256)) == ("mini", 64)
