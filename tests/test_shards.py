"""Shards: the same bytes for the same samples, committed or not there, found by index, and plain WebDataset."""

import contextlib
import errno
import functools
import hashlib
import io
import json
import multiprocessing
import os
import re
import shutil
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
from shard_fixtures import FINGERPRINT, make_dataset, make_sample

from randscene.errors import DatasetError, RandsceneError
from randscene.shards import (
    decode_sample,
    encode_members,
    lint,
    load_index,
    open_dataset,
    read_tar,
    shard_writer,
    store,
    write_card,
    write_shard,
    write_tar,
)
from randscene.shards.shard_index import index_path

HEADER = {"split": "train", "block": 0, "scenes": [0, 1], "attempts": {"0": 0, "1": 0}, "fingerprint": FINGERPRINT}


@pytest.fixture(scope="module")
def encoded():
    samples = [make_sample(scene, view, resolution=24, latents=True, depth=True) for scene in (0, 1) for view in (0, 1)]
    return [(sample.key, encode_members(sample)) for sample in samples]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A dataset that tests only read."""
    return make_dataset(tmp_path_factory.mktemp("whole") / "data", splits=("train", "val"), resolution=24)


@pytest.fixture
def folder(whole, tmp_path):
    """A dataset that a test may damage."""
    return shutil.copytree(whole, tmp_path / "data")


# --- writing ---


def test_equal_samples_give_equal_shards(encoded, tmp_path):
    for name in ("a", "b"):
        write_shard(tmp_path / name / "train-000000.tar", iter(encoded), header=HEADER)
    reordered = [(key, dict(reversed(list(members.items())))) for key, members in encoded]
    write_shard(tmp_path / "c" / "train-000000.tar", reordered, header=dict(reversed(list(HEADER.items()))))
    for ending in (".tar", ".index.json"):
        first, *others = [(tmp_path / name / f"train-000000{ending}").read_bytes() for name in "abc"]
        assert all(other == first for other in others)


def test_tar_headers_hold_nothing_of_the_machine(encoded, tmp_path):
    write_tar(tmp_path / "x.tar", encoded)
    with tarfile.open(tmp_path / "x.tar") as tar:
        infos = tar.getmembers()
        assert tar.pax_headers == {}
    for info in infos:
        assert (info.mtime, info.uid, info.gid, info.uname, info.gname, info.mode) == (0, 0, 0, "", "", 0o644)
    names = [info.name for info in infos]
    assert names == [f"{key}.{member}" for key, members in encoded for member in sorted(members)]
    assert (tmp_path / "x.tar").read_bytes()[257:265] == b"ustar\x0000"


def test_tar_comes_back_as_it_was(encoded, tmp_path):
    write_tar(tmp_path / "x.tar", encoded)
    assert list(read_tar(tmp_path / "x.tar")) == [(key, dict(sorted(members.items()))) for key, members in encoded]


def test_an_empty_shard_is_a_shard(tmp_path):
    write_shard(tmp_path / "x.tar", [], header=HEADER)
    index = load_index(tmp_path / "x.tar", verify=True)
    assert (len(index), index.samples, list(read_tar(tmp_path / "x.tar"))) == (0, (), [])


def test_index_places_every_member(encoded, tmp_path):
    written = write_shard(tmp_path / "x.tar", encoded, header=HEADER)
    index = load_index(tmp_path / "x.tar", verify=True)
    data = (tmp_path / "x.tar").read_bytes()
    assert index.to_json() == written.to_json() and index.header == HEADER
    assert (index.tar_bytes, index.tar_sha256) == (len(data), hashlib.sha256(data).hexdigest())
    for entry, (key, members) in zip(index.samples, encoded, strict=True):
        assert entry.key == key
        assert {name: data[start : start + size] for name, (start, size) in entry.members.items()} == members
        told = json.loads(members["json"])["instances"]
        assert entry.n_instances == len(told)
        assert entry.min_visible_pixels == min(item["visible_pixels"] for item in told)


def test_a_failing_writer_leaves_nothing(encoded, tmp_path):
    def stream():
        yield encoded[0]
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError):
        write_shard(tmp_path / "x.tar", stream(), header=HEADER)
    assert list(tmp_path.iterdir()) == []


def test_no_index_ever_stands_beside_another_tar(encoded, tmp_path, monkeypatch):
    tar = tmp_path / "x.tar"
    write_shard(tar, encoded, header=HEADER)
    replace, seen = os.replace, []

    def watched(source, target):
        seen.append((Path(target).name, index_path(tar).exists()))
        replace(source, target)

    monkeypatch.setattr(os, "replace", watched)
    write_shard(tar, encoded, header=HEADER)
    assert seen == [("x.tar", True), ("x.index.json", True)]  # the same bytes: the shard is committed all the time
    seen.clear()
    write_shard(tar, encoded[:1], header=HEADER)
    assert seen == [("x.tar", False), ("x.index.json", False)]


def test_a_shard_that_cannot_be_replaced_stays(encoded, tmp_path):
    write_shard(tmp_path / "x.tar", encoded, header=HEADER)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def stream():
        yield encoded[0]
        raise RuntimeError("the source broke")

    with pytest.raises(RuntimeError):
        write_shard(tmp_path / "x.tar", stream(), header=HEADER)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("key", ["", "../up", "a.b", "a/b", "é", "a b"])
def test_keys_that_could_leave_their_place_are_refused(tmp_path, key):
    with pytest.raises(ValueError, match="not a sample key"):
        write_tar(tmp_path / "x.tar", [(key, {"json": b"{}"})])


def test_a_key_twice_and_uneven_members_are_refused(encoded, tmp_path):
    with pytest.raises(ValueError, match="comes twice"):
        write_tar(tmp_path / "x.tar", [encoded[0], encoded[0]])
    fewer = {name: data for name, data in encoded[1][1].items() if name != "depth.png"}
    with pytest.raises(ValueError, match="has members"):
        write_shard(tmp_path / "x.tar", [encoded[0], (encoded[1][0], fewer)], header=HEADER)
    assert not index_path(tmp_path / "x.tar").exists()


# --- damage ---


@pytest.mark.parametrize("keep", [0, 100, 512, 5_000, -512, -10_240 + 1024])
def test_a_cut_tar_is_noticed(encoded, tmp_path, keep):
    write_tar(tmp_path / "x.tar", encoded[:1])
    data = (tmp_path / "x.tar").read_bytes()
    end = data.rstrip(b"\0").__len__()
    cut = data[:keep] if keep >= 0 else data[: end + keep]
    (tmp_path / "x.tar").write_bytes(cut)
    with pytest.raises(DatasetError, match="cut"):
        list(read_tar(tmp_path / "x.tar"))


def test_a_tar_cut_between_samples_is_noticed(encoded, tmp_path):
    index = write_shard(tmp_path / "x.tar", encoded, header=HEADER)
    (tmp_path / "x.tar").write_bytes((tmp_path / "x.tar").read_bytes()[: int(index.offsets[1, 0]) - 512])
    with pytest.raises(DatasetError, match="no end mark"):
        list(read_tar(tmp_path / "x.tar"))
    with pytest.raises(DatasetError, match="its index says"):
        load_index(tmp_path / "x.tar")


@pytest.mark.parametrize("name", ["../evil.json", "/etc/passwd", "folder/x.json", "nodot"])
def test_foreign_names_in_a_tar_are_refused(tmp_path, name):
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo(name))
    with pytest.raises(DatasetError, match="not a member"):
        list(read_tar(tmp_path / "x.tar"))


def test_links_in_a_tar_are_refused(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        info = tarfile.TarInfo("a.json")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(DatasetError, match="not a member"):
        list(read_tar(tmp_path / "x.tar"))


def _edit(**changes):
    def change(text):
        return json.dumps(json.loads(text) | changes)

    return change


BROKEN_INDEXES = {
    "cut": lambda text: text[:-20],
    "not an object": lambda text: "[1, 2]",
    "a column too short": lambda text: _edit(n_instances=[1])(text),
    "a key twice": lambda text: _edit(keys=["000000_000"] * 4)(text),
    "a key that climbs": lambda text: _edit(keys=["../x", "b", "c", "d"])(text),
    "members that overlap": lambda text: _edit(offsets=[[512] * 6] * 4)(text),
    "a member behind the end": lambda text: _edit(sizes=[[10**9] * 6] * 4)(text),
    "words for numbers": lambda text: _edit(offsets="many")(text),
    "too few samples": lambda text: _edit(n_samples=3)(text),
    "scenes that are none": lambda text: _edit(header=HEADER | {"scenes": 2})(text),
    "brackets without end": lambda text: "[" * 100_000,
}


@pytest.mark.parametrize("name", BROKEN_INDEXES)
def test_a_corrupt_index_is_refused(encoded, tmp_path, name):
    write_shard(tmp_path / "x.tar", encoded, header=HEADER)
    path = index_path(tmp_path / "x.tar")
    path.write_text(BROKEN_INDEXES[name](path.read_text()))
    with pytest.raises(DatasetError, match="not a readable shard index") as raised:
        load_index(tmp_path / "x.tar")
    assert "\n" not in str(raised.value)


def test_an_index_of_another_schema_says_so(encoded, tmp_path):
    write_shard(tmp_path / "x.tar", encoded, header=HEADER)
    path = index_path(tmp_path / "x.tar")
    path.write_text(_edit(schema=9)(path.read_text()))
    with pytest.raises(DatasetError, match="index schema 9"):
        load_index(tmp_path / "x.tar")


def test_a_flipped_bit_is_found_by_the_hash(encoded, tmp_path):
    write_shard(tmp_path / "x.tar", encoded, header=HEADER)
    data = bytearray((tmp_path / "x.tar").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "x.tar").write_bytes(data)
    load_index(tmp_path / "x.tar")
    with pytest.raises(DatasetError, match="SHA-256"):
        load_index(tmp_path / "x.tar", verify=True)


# --- reading ---


def test_random_access_gives_what_the_tar_holds(whole):
    for split in ("train", "val"):
        dataset = open_dataset(whole, split=split)
        held = {key: members for path in sorted(whole.glob(f"shards/{split}-*.tar")) for key, members in read_tar(path)}
        assert list(dataset.keys) == list(held) and len(dataset) == len(held)
        for index in np.random.default_rng(0).permutation(len(dataset)).tolist():
            assert dataset.members(index) == held[dataset.keys[index]]
        assert dataset[0].key == dataset.keys[0] and dataset[-1].key == dataset.keys[-1]
    with pytest.raises(IndexError):
        open_dataset(whole)[10_000]


def test_all_splits_can_be_read_together(whole):
    together = open_dataset(whole, split=None)
    assert together.keys == open_dataset(whole, split="train").keys + open_dataset(whole, split="val").keys


def test_who_asks_for_a_key_hears_how_it_is_looked_up(whole):
    dataset = open_dataset(whole)
    key = dataset.keys[1]
    with pytest.raises(TypeError, match=re.escape(f"dataset.keys.index('{key}') is the index of a key")):
        dataset[key]
    with pytest.raises(TypeError, match=r"slice.* is no whole number: one at a time"):
        dataset[:2]
    assert dataset[dataset.keys.index(key)].key == dataset[np.int64(1)].key == key


def test_single_members_are_read_alone(whole):
    dataset = open_dataset(whole)
    assert dataset.members(3, ("json", "latents.npy")) == {"json": dataset.members(3)["json"]}


def test_ordered_gives_each_sample_once_in_its_own_order(whole):
    dataset = open_dataset(whole)
    orders = {(seed, epoch): [s.key for s in dataset.ordered(seed, epoch)] for seed in (0, 1) for epoch in (0, 1)}
    assert all(sorted(order) == sorted(dataset.keys) for order in orders.values())
    assert len({tuple(order) for order in orders.values()}) == 4
    assert orders[0, 0] == [sample.key for sample in open_dataset(whole).ordered(0, 0)]


def test_filters_keep_what_they_say(whole):
    every = open_dataset(whole)
    samples = [every[index] for index in range(len(every))]
    least = {s.key: min(item["visible_pixels"] for item in s.meta["instances"]) for s in samples}
    limit = int(np.median(list(least.values())))
    assert set(open_dataset(whole, min_visible_pixels=limit).keys) == {key for key, n in least.items() if n >= limit}
    counts = {s.key: s.n_instances for s in samples}
    assert set(open_dataset(whole, max_instances=3).keys) == {key for key, n in counts.items() if n <= 3}
    assert set(open_dataset(whole, scenes="first:2").keys) == {key for key in least if int(key[:6]) < 2}
    first = open_dataset(whole, split="val", scenes="first:1")
    assert {key[:6] for key in first.keys} == {"900000"} and first[0].meta["scene"] == 900_000


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"scenes": "first:0"}, "not of the form"),
        ({"scenes": "last:3"}, "not of the form"),
        ({"scenes": "first:99"}, "has 4 scenes"),
        ({"min_visible_pixels": 10**6}, "no sample passes the filters"),
        ({"split": "test"}, "it has train, val"),
    ],
)
def test_filters_that_leave_nothing_say_so(whole, filters, message):
    with pytest.raises(DatasetError, match=message):
        open_dataset(whole, **filters)


def _rename(folder, old, new):
    (folder / old).rename(folder / new)


def _change_info(folder, **changes):
    path = folder / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _folder_for(path):
    path.unlink()
    path.mkdir()


def _foreign_shard(folder):
    write_shard(
        folder / "shards" / "train-000000.tar", [], header={"split": "train", "scenes": [], "fingerprint": "beef"}
    )


BROKEN_FOLDERS = {
    "no dataset.json": (lambda f: (f / "dataset.json").unlink(), "is not a dataset"),
    "dataset.json cut": (lambda f: (f / "dataset.json").write_text("{"), "dataset.json is not readable"),
    "another schema": (lambda f: _change_info(f, schema=3), "not of schema"),
    "no splits": (lambda f: _change_info(f, splits=None), "has no splits"),
    "splits without counts": (lambda f: _change_info(f, splits={"train": 4}), "no counts of its splits"),
    "a folder for dataset.json": (lambda f: _folder_for(f / "dataset.json"), "cannot be read: Is a directory"),
    "counts that are words": (
        lambda f: _change_info(f, splits={"train": {"shards": "two"}}),
        "no counts of its splits",
    ),
    "counts that are missing": (lambda f: _change_info(f, splits={"train": {"samples": None}}), "no counts of its spl"),
    "a spec that is a list": (lambda f: _change_info(f, spec=[1]), "its spec is no mapping; copy it again"),
    "versions that are a number": (lambda f: _change_info(f, versions=3), "its versions is no mapping"),
    "index without tar": (lambda f: (f / "shards/train-000001.tar").unlink(), "train-000001.tar is missing"),
    "lost index": (lambda f: (f / "shards/train-000001.index.json").unlink(), "copy the missing shards"),
    "lost shard": (
        lambda f: [(f / "shards" / f"train-000001{e}").unlink() for e in (".tar", ".index.json")],
        "copy the missing shards",
    ),
    "cut tar": (lambda f: os.truncate(f / "shards/train-000000.tar", 9000), "its index says"),
    "shard of another build": (_foreign_shard, "belongs to another build"),
    "no shards": (lambda f: shutil.rmtree(f / "shards"), "no committed shard"),
}


@pytest.mark.parametrize("name", BROKEN_FOLDERS)
def test_a_broken_dataset_is_refused_in_one_line(folder, name):
    damage, message = BROKEN_FOLDERS[name]
    damage(folder)
    with pytest.raises(DatasetError, match=message) as raised:
        open_dataset(folder)
    assert "\n" not in str(raised.value)
    try:
        assert not lint(folder).ok
    except DatasetError as error:  # no dataset to look at
        assert re.search(message, str(error))


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="check the path"):
        open_dataset(tmp_path / "nowhere")


def test_the_folder_around_a_dataset_or_inside_one_is_refused_with_what_was_meant(folder):
    with pytest.raises(DatasetError, match=f"it holds data: give {folder}$"):
        open_dataset(folder.parent)
    with pytest.raises(DatasetError, match=f"the folder around it is one: {folder}$"):
        open_dataset(folder / "shards")
    (folder.parent / "alone.tar").touch()
    with pytest.raises(DatasetError, match=r"it is a file; give the folder that holds dataset\.json$"):
        open_dataset(folder.parent / "alone.tar")


def test_a_file_that_vanishes_while_its_folder_is_listed_hides_no_other(folder, monkeypatch):
    """Whoever writes beside a reader has temporary files, which come and go."""
    listed = os.scandir

    def scandir(path):
        entries = list(listed(path))
        for entry in entries:
            if entry.name.endswith(".tmp"):
                Path(entry.path).unlink()
        return contextlib.nullcontext(entries)

    whole = open_dataset(folder).keys
    (folder / "shards" / ".train-000002.tar.0123456789abcdef.tmp").write_bytes(b"half")
    monkeypatch.setattr(store.os, "scandir", scandir)
    assert open_dataset(folder).keys == whole
    assert not list((folder / "shards").glob(".*"))


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_a_full_disk_is_told_from_a_store_that_cannot_be_read(whole, tmp_path, monkeypatch, kind):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if kind == "local":
        monkeypatch.setattr(store.shutil, "copyfile", full)
        place = store.open_store(whole)
    else:
        fsspec = pytest.importorskip("fsspec")
        monkeypatch.setattr(type(fsspec.filesystem("memory")), "get_file", full)
        place = store.open_store("memory://anywhere")
    with pytest.raises(RandsceneError, match=rf"cannot write {tmp_path}/copy: the disk is full"):
        place.get("dataset.json", tmp_path / "copy")


def test_uncommitted_shards_are_ignored_and_mentioned(folder, caplog):
    _change_info(folder, complete=False)
    (folder / "shards" / "train-000001.index.json").unlink()
    dataset = open_dataset(folder)
    assert len(dataset.shards) == 1 and {key[:6] for key in dataset.keys} == {"000000", "000001"}
    assert "train-000001" in caplog.text and "not finished" in caplog.text


def test_a_sample_that_broke_after_opening_is_named(folder):
    dataset = open_dataset(folder)
    data = bytearray((folder / "shards/train-000000.tar").read_bytes())
    start, size = load_index(folder / "shards/train-000000.tar").samples[2].members["voxels.npz"]
    data[start + size // 3 : start + size // 2] = bytes(size // 2 - size // 3)
    (folder / "shards/train-000000.tar").write_bytes(data)
    with pytest.raises(DatasetError, match=f"train-000000.tar: {dataset.keys[2]}: voxels.npz"):
        dataset[2]


def test_a_shard_built_again_is_read_anew(folder):
    dataset = open_dataset(folder)
    before = dataset[0].meta
    path = folder / "shards/train-000000.tar"
    samples = list(read_tar(path))
    meta = {**before, "look_at": [9.0, 9.0, 9.0]}
    changed = encode_members(make_sample(before["scene"], before["view"], resolution=24, views=3))
    changed["json"] = json.dumps(meta).encode().ljust(len(samples[0][1]["json"]))
    samples[0] = (samples[0][0], changed)
    write_shard(path, samples, header=load_index(path).header)
    assert open_dataset(folder)[0].meta["look_at"] == [9.0, 9.0, 9.0]


def _read_keys(dataset, indices):
    return [dataset[index].key for index in indices]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_dataset_goes_to_other_processes(whole, method):
    dataset = open_dataset(whole)
    dataset[0]  # a file is open before the fork
    with multiprocessing.get_context(method).Pool(2) as pool:
        halves = pool.map(functools.partial(_read_keys, dataset), [range(0, 6), range(6, len(dataset))])
    assert halves[0] + halves[1] == list(dataset.keys)


def test_threads_may_share_a_dataset(whole):
    dataset, results = open_dataset(whole), {}

    def read(number):
        results[number] = _read_keys(dataset, range(len(dataset)))

    threads = [threading.Thread(target=read, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(results[number] == list(dataset.keys) for number in range(4))


def test_no_files_stay_open(whole):
    dataset = open_dataset(whole)
    _read_keys(dataset, range(len(dataset)))
    assert store._file.cache_info().currsize > 0
    store._file.cache_clear()
    assert not [link for link in os.listdir("/proc/self/fd") if _target(link).endswith(".tar")]


def _target(descriptor):
    try:
        return str(Path(f"/proc/self/fd/{descriptor}").readlink())
    except FileNotFoundError:
        return ""


def test_remote_folders_are_read_through_fsspec(whole):
    fsspec = pytest.importorskip("fsspec")
    remote = fsspec.filesystem("memory")
    for path in whole.rglob("*"):
        if path.is_file():
            remote.pipe_file(f"/remote-data/{path.relative_to(whole)}", path.read_bytes())
    local, dataset = open_dataset(whole), open_dataset("memory://remote-data")
    assert dataset.keys == local.keys and dataset.members(4) == local.members(4)
    assert lint("memory://remote-data").ok
    with pytest.raises(DatasetError, match="check the path"):
        open_dataset("memory://remote-nothing")
    with pytest.raises(DatasetError, match="nosuchscheme"):
        open_dataset("nosuchscheme://x/y")


def test_webdataset_reads_the_same_tars(whole):
    wds = pytest.importorskip("webdataset")
    for path in sorted(whole.glob("shards/train-*.tar")):
        raw = list(wds.WebDataset(str(path), shardshuffle=False))
        ours = list(read_tar(path))
        assert [item["__key__"] for item in raw] == [key for key, _ in ours]
        for item, (_, members) in zip(raw, ours, strict=True):
            assert {name: item[name] for name in members} == members
        decoded = next(iter(wds.WebDataset(str(path), shardshuffle=False).decode("l8")))
        sample = decode_sample(ours[0][1])
        assert decoded["json"] == sample.meta
        assert np.array_equal(decoded["ids.png"], sample.ids)
        assert np.array_equal(decoded["voxels.npz"]["coords"], sample.coords)


# --- lint and card ---


def test_lint_is_content_with_a_whole_dataset(whole):
    report = lint(whole)
    assert (report.ok, report.notes) == (True, [])
    assert (report.scenes, report.shards, report.samples) == (8, 4, len(open_dataset(whole, split=None)))


def _rewrite(folder, change):
    """Write the first shard again with its first sample changed: a consistent tar with a wrong content."""
    path = folder / "shards/train-000000.tar"
    (key, members), *others = read_tar(path)
    write_shard(path, [(key, change(dict(members))), *others], header=load_index(path).header)


def _with_meta(**changes):
    def change(members):
        meta = json.loads(members["json"])
        return members | {"json": json.dumps(meta | changes).encode()}

    return change


def _hide(members):
    sample = decode_sample(members)
    sample.ids[sample.ids == 1] = 0
    return encode_members(sample)


def _flip(folder):
    data = bytearray((folder / "shards/train-000001.tar").read_bytes())
    data[700] ^= 4
    (folder / "shards/train-000001.tar").write_bytes(data)


def _edit_index(folder, **changes):
    path = folder / "shards/train-000000.index.json"
    path.write_text(_edit(**changes)(path.read_text()))


WRONGS = {
    "a flipped bit": (_flip, "SHA-256|not a readable|is not"),
    "filter columns": (lambda f: _edit_index(f, min_visible_pixels=[7] * 6), "other counts"),
    "places": (lambda f: _edit_index(f, offsets=(_offsets(f) + 1).tolist()), "places its members elsewhere"),
    "a sample of another build": (lambda f: _rewrite(f, _with_meta(fingerprint="beef")), "fingerprint is not"),
    "a sample of another scene": (lambda f: _rewrite(f, _with_meta(scene=3)), "its json says 000003"),
    "a sample of another split": (lambda f: _rewrite(f, _with_meta(split="val")), "says split val"),
    "a hidden instance": (lambda f: _rewrite(f, _hide), "visible_pixels says"),
    "a sample less": (lambda f: _change_info(f, splits=_splits(f, samples=11)), "says 11 samples"),
    "a scene more": (lambda f: _change_info(f, splits=_splits(f, scenes=5)), "says 5 scenes"),
    "a recipe less": (lambda f: _cut_recipes(f, slice(1, None)), "no such scene"),
    "another recipe": (lambda f: _swap_recipes(f), "not those of its recipe"),
    "recipes that are no text": (lambda f: (f / "recipes.jsonl").write_bytes(b"\xff\xfe"), "is not a recipe"),
    "scenes of another shard": (
        lambda f: _edit_index(f, header=load_index(f / "shards/train-000000.tar").header | {"scenes": [8]}),
        "does not name all scenes",
    ),
    "checksums that are none": (lambda f: (f / "SHA256SUMS").write_text("x\n"), "line 1: not a hash and a shard"),
    "no checksums": (lambda f: (f / "SHA256SUMS").write_text(""), "lacks shards/train-000000.tar"),
}


def _offsets(folder):
    return load_index(folder / "shards/train-000000.tar").offsets


def _splits(folder, **changes):
    splits = json.loads((folder / "dataset.json").read_text())["splits"]
    return splits | {"train": splits["train"] | changes}


def _cut_recipes(folder, part):
    lines = (folder / "recipes.jsonl").read_text().splitlines(keepends=True)
    (folder / "recipes.jsonl").write_text("".join(lines[part]))


def _swap_recipes(folder):
    recipes = [json.loads(line) for line in (folder / "recipes.jsonl").read_text().splitlines()]
    recipes[0]["instances"][0]["uid"] = "another"
    (folder / "recipes.jsonl").write_text("".join(json.dumps(recipe) + "\n" for recipe in recipes))


@pytest.mark.parametrize("name", WRONGS)
def test_lint_finds_what_is_wrong(folder, name):
    damage, message = WRONGS[name]
    damage(folder)
    report = lint(folder)
    assert any(re.search(message, problem.message) for problem in report.problems), report.problems


@pytest.mark.parametrize("broken", ["visible_pixels", "uid", "all"])
def test_an_instance_without_its_words_is_named_by_readers_and_by_lint(folder, monkeypatch, broken):
    def strip(members):
        meta = json.loads(members["json"])
        if broken == "all":
            meta["instances"][1] = "chair"
        else:
            del meta["instances"][1][broken]
        return members | {"json": json.dumps(meta).encode()}

    monkeypatch.setattr(shard_writer, "_facts", lambda members: (2, 1, 1.0))  # another program wrote it
    _rewrite(folder, strip)
    message = "do not say the uid and visible_pixels of instance 2"
    with pytest.raises(DatasetError, match=message):
        open_dataset(folder)[0]
    assert any(message in problem.message for problem in lint(folder).problems)


def test_recipes_end_at_the_end_of_a_line_only(folder):
    """A name may hold what other texts take for the end of a line."""
    path = folder / "recipes.jsonl"
    first, *others = path.read_text().split("\n")
    note = json.dumps(json.loads(first) | {"note": "a\u2028b\x85c"}, ensure_ascii=False)
    path.write_text("\n".join([note, *others]))
    assert lint(folder).ok


@pytest.mark.parametrize("member", ["json", "ids.png", "rgb.webp", "depth.png", "voxels.npz", "latents.npy"])
def test_bytes_that_rot_end_in_one_line_whatever_they_become(encoded, member):
    members = encoded[0][1]
    head = min(len(members[member]), 130)
    kept = 0
    for place in range(head):
        for value in (0, 10, 34, 0x5B, 255):
            data = bytearray(members[member])
            data[place] = value
            try:
                decode_sample(members | {member: bytes(data)})
                kept += 1
            except DatasetError as error:
                assert "\n" not in str(error)
    assert kept < 5 * head


class _BadSector(io.RawIOBase):
    def __init__(self, good):
        self._good = good

    def readable(self):
        return True

    def readinto(self, buffer):
        if not self._good:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        part = self._good[: len(buffer)]
        buffer[: len(part)], self._good = part, self._good[len(part) :]
        return len(part)


def test_a_disk_that_cannot_be_read_is_a_problem_of_one_shard(folder, monkeypatch):
    bad = folder / "shards" / "train-000001.tar"

    def opened(path, *how, **more):
        return _BadSector(path.read_bytes()[:5000]) if path == bad else open(path, *how, **more)

    monkeypatch.setattr(store, "open", opened, raising=False)
    report = lint(folder)
    assert report.shards == 3 and report.problems[0].where == "shards/train-000001"
    assert report.problems[0].message.endswith("train-000001.tar cannot be read: Input/output error")


def test_lint_finds_the_same_on_several_processes(folder):
    _flip(folder)
    _edit_index(folder, min_visible_ratio=[0.5] * 6)
    alone, together = lint(folder), lint(folder, workers=2)
    assert not alone.ok and together == alone
    assert any("smallest visible ratio" in problem.message for problem in alone.problems)
    assert any("run the build again" in problem.message for problem in alone.problems)


def test_lint_compares_the_list_of_checksums(folder):
    lines = [f"{load_index(path).tar_sha256}  shards/{path.name}\n" for path in sorted(folder.glob("shards/*.tar"))]
    (folder / "SHA256SUMS").write_text("".join(lines))
    assert lint(folder).ok
    (folder / "SHA256SUMS").write_text("".join(["0" * 64 + lines[0][64:], *lines[2:]]))
    found = [problem.message for problem in lint(folder).problems]
    assert len(found) == 2 and "has another hash of" in found[0] and "lacks" in found[1]


def test_lint_goes_on_after_a_problem(folder):
    os.truncate(folder / "shards/train-000000.tar", 9000)
    report = lint(folder)
    assert report.shards == 3 and len(report.problems) >= 2


def test_lint_notes_an_unfinished_build_without_blaming_it(folder):
    _change_info(folder, complete=False)
    (folder / "shards" / "val-000001.index.json").unlink()
    report = lint(folder)
    assert report.ok and len(report.notes) == 2


def test_the_lint_command_fails_in_one_line(folder, capsys):
    from randscene.cli.lint import lint as command

    command(folder)
    assert "all is well" in capsys.readouterr().out
    _flip(folder)
    with pytest.raises(DatasetError, match="problem"):
        command(folder)


def test_the_card_is_a_pure_function_of_the_dataset(folder):
    write_card(folder)
    text = (folder / "README.md").read_text()
    write_card(folder)
    assert (folder / "README.md").read_text() == text
    assert "| train | 4 |" in text and "`voxels.npz`" in text and "Objects a scene" in text
    assert text.startswith("---\n") and text.count("---\n") >= 2


def test_tars_end_as_tar_ends_them(encoded, tmp_path):
    write_tar(tmp_path / "x.tar", encoded)
    data = (tmp_path / "x.tar").read_bytes()
    assert len(data) % 10_240 == 0 and data[-1024:] == bytes(1024)
    buffer = io.BytesIO(data)
    with tarfile.open(fileobj=buffer) as tar:
        assert len(tar.getmembers()) == sum(len(members) for _, members in encoded)
