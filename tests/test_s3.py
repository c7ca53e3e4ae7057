"""A dataset on an object store, against a local S3 server: built, killed, resumed, read, shown."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from test_build import BUILD, FAST, NOT_PROMISED, promised_bytes

from randscene.errors import DatasetError, RandsceneError
from randscene.generator import generate
from randscene.manifests import load_spec, with_overrides
from randscene.shards import lint, open_dataset, write_preview
from randscene.shards.store import open_store

SPEC = with_overrides(load_spec("demo"), FAST)
KEYS = {"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """URL of an empty bucket; the environment leads every S3 client here, those of child processes too."""
    pytest.importorskip("s3fs")
    server_module = pytest.importorskip("moto.server")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**KEYS, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}.items():
            patch.setenv(name, value)
        import s3fs

        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir("data")
        yield "s3://data"
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture(scope="module")
def calm(bucket: str, one_ray: None, tmp_path_factory: pytest.TempPathFactory, lock_path: Path) -> Path:
    """The same dataset on a local disk; after `bucket`, as Ray's workers have the environment that Ray started with."""
    root = tmp_path_factory.mktemp("calm") / "dataset"
    generate(SPEC, lock_path, root, workers=1)
    return root


@pytest.fixture(scope="module")
def killed(bucket: str, one_ray: None, lock_path: Path) -> tuple[str, int]:
    """A build that was killed with all its workers while scenes were in the making, then finished by the same command;
    its URL, and the scenes that the second run made."""
    url = f"{bucket}/killed"
    command = [sys.executable, "-c", BUILD, str(lock_path), url, *FAST]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    store, until = open_store(url), time.monotonic() + 120
    while not any(name.endswith(".done.json") for name in store.sizes("work")) and not store.sizes("shards"):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not store.sizes("").get("SHA256SUMS")
    report = generate(SPEC, lock_path, url, workers=2)
    assert report.complete and report.url == url
    return url, report.scenes_made


@pytest.mark.ray
def test_a_killed_build_on_s3_ends_in_the_bytes_of_a_local_one(killed, calm, tmp_path):
    url, made = killed
    assert 0 < made < 6
    copy = tmp_path / "copy"
    import s3fs

    s3fs.S3FileSystem().get(url.removeprefix("s3://"), str(copy), recursive=True)
    assert promised_bytes(copy) == promised_bytes(calm)
    others = {str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file()} - set(promised_bytes(copy))
    assert {Path(name).name for name in others} <= set(NOT_PROMISED) - {".build.lock"}
    assert lint(url).ok


@pytest.mark.ray
def test_a_finished_build_on_s3_is_left_alone_and_a_damaged_one_mended(killed, lock_path, calm):
    url, _ = killed
    assert generate(SPEC, lock_path, url).scenes_made == 0
    store = open_store(url)
    store.remove("shards/train-000000.index.json")  # the tar is whole, and its hash is known
    store.write("shards/train-000001.tar", store.read("shards/train-000001.tar")[:1000])
    assert generate(SPEC, lock_path, url, workers=1).scenes_made == 2
    for name in ("shards/train-000000.index.json", "shards/train-000001.tar"):
        assert store.read(name) == (calm / name).read_bytes()


@pytest.mark.ray
def test_samples_on_s3_are_those_on_disk_by_ranged_reads_and_through_the_cache(killed, calm, tmp_path):
    url, _ = killed
    local = open_dataset(calm, split="train")
    for remote in (open_dataset(url, split="train"), open_dataset(url, split="train", cache=tmp_path / "cache")):
        assert remote.keys == local.keys
        for index in (0, len(local) - 1):
            assert np.array_equal(remote[index].rgb, local[index].rgb)
            assert np.array_equal(remote[index].coords, local[index].coords)
            assert remote[index].meta == local[index].meta
    assert len(list((tmp_path / "cache").rglob("*.tar"))) > 0


@pytest.mark.ray
def test_latents_and_the_preview_page_of_a_dataset_on_s3_are_those_of_a_local_one(killed, calm, tmp_path):
    pytest.importorskip("torch")
    from randscene.generator.encode import encode

    url, _ = killed
    assert encode(url, "mini", workers=1).shards_made == encode(calm, "mini", workers=1).shards_made > 0
    assert encode(url, "mini").shards_made == 0
    remote, local = (open_dataset(place, split="val", latents="mini") for place in (url, calm))
    assert np.array_equal(remote[0].latents, local[0].latents) and remote[0].latents is not None
    pages = [write_preview(place, tmp_path / f"{n}.html").read_text() for n, place in enumerate((url, calm))]
    assert pages[0] == pages[1]


def test_a_store_that_does_not_answer_or_has_no_such_bucket_gives_one_line(bucket, lock_path):
    with pytest.raises(RandsceneError, match=r"^cannot write s3://nowhere/x/") as caught:
        generate(SPEC, lock_path, "s3://nowhere/x")
    assert "\n" not in str(caught.value) and "see that the store is there" in str(caught.value)
    with pytest.raises(DatasetError, match="s3://data/nothing"):
        open_dataset(f"{bucket}/nothing")
