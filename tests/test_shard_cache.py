"""The cache of remote shards: fetched once a machine, proved by hash, never more than asked for, never another's."""

import dataclasses
import fcntl
import json
import multiprocessing
import os
import shutil
import threading
import time
from pathlib import Path

import pytest
from shard_fixtures import make_dataset

from randscene.errors import DatasetError
from randscene.shards import ShardCache, load_index, open_dataset
from randscene.shards.store import open_store


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A dataset that tests only read."""
    return make_dataset(tmp_path_factory.mktemp("whole") / "data", resolution=24)


@pytest.fixture
def remote(whole):
    """The same dataset behind an fsspec URL, which a test may damage."""
    fsspec = pytest.importorskip("fsspec")
    filesystem = fsspec.filesystem("memory")
    for path in whole.rglob("*"):
        if path.is_file():
            filesystem.pipe_file(f"/cached-data/{path.relative_to(whole)}", path.read_bytes())
    yield "memory://cached-data"
    filesystem.rm("/cached-data", recursive=True)


class CountingStore:
    """A slow store that writes down what is fetched from it, whichever process asks."""

    local = None

    def __init__(self, folder, journal, delay=0.0):
        self._inner = open_store(folder)
        self.url = str(folder)
        self._journal = journal
        self._delay = delay

    def get(self, name, path):
        with open(self._journal, "a") as journal:
            journal.write(f"{name}\n")
        time.sleep(self._delay)
        self._inner.get(name, path)

    def fetched(self):
        return self._journal.read_text().split() if self._journal.exists() else []


NAMES = ("shards/train-000000.tar", "shards/train-000001.tar")


def _indices(folder):
    return {name: load_index(folder / name) for name in NAMES}


def _copies(folder):
    return sorted(folder.glob("??/*.tar"))


def test_cached_shards_read_as_the_remote_ones(whole, remote, tmp_path):
    near, far = open_dataset(whole), open_dataset(remote, cache=tmp_path / "cache")
    assert far.keys == near.keys
    assert [far.members(i) for i in range(len(far))] == [near.members(i) for i in range(len(near))]
    assert far.members(3, ("json",)) == near.members(3, ("json",)) and far[3].key == near[3].key
    assert [path.stem for path in _copies(tmp_path / "cache")] == sorted(i.tar_sha256 for i in _indices(whole).values())


def test_what_is_cached_is_read_without_the_store(remote, tmp_path):
    import fsspec

    dataset = open_dataset(remote, cache=tmp_path / "cache")
    dataset.fetch()
    assert len(_copies(tmp_path / "cache")) == 2
    filesystem = fsspec.filesystem("memory")
    for name in NAMES:
        filesystem.pipe_file(f"/cached-data/{name}", bytes(filesystem.size(f"/cached-data/{name}")))
    again = open_dataset(remote, cache=tmp_path / "cache")
    assert [again[i].key for i in range(len(again))] == list(dataset.keys)


def _read_all(store, cache, indices, barrier):
    barrier.wait()
    for name, index in indices.items():
        cache.read_range(store, name, index, 0, 512)


def test_a_shard_is_fetched_once_by_however_many_processes(whole, tmp_path):
    store = CountingStore(whole, tmp_path / "journal", delay=0.2)
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(4)
    task = (store, ShardCache(tmp_path / "cache"), _indices(whole), barrier)
    readers = [context.Process(target=_read_all, args=task) for _ in range(4)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert [reader.exitcode for reader in readers] == [0] * 4 and sorted(store.fetched()) == sorted(NAMES)


def test_workers_of_a_loader_fetch_each_shard_once(whole, tmp_path):
    torch_data = pytest.importorskip("torch.utils.data")
    from randscene.shards import IterableSamples, Mixture

    dataset = open_dataset(whole, cache=tmp_path / "cache")
    dataset._store = CountingStore(whole, tmp_path / "journal", delay=0.05)
    samples = IterableSamples(Mixture({"a": (dataset, 1.0)}), batch_size=2, steps=6)
    loader = torch_data.DataLoader(samples, batch_size=2, num_workers=3, collate_fn=list)
    assert sum(len(batch) for batch in loader) == 12
    assert sorted(dataset._store.fetched()) == sorted(NAMES)


def _fetch_and_die(store, cache, name, index, ready):
    def get(_name, path):
        path.write_bytes(b"half")
        ready.set()
        time.sleep(60)

    store.get = get
    cache.path(store, name, index)


def test_a_killed_fetch_holds_nobody_up_and_leaves_nothing(whole, tmp_path):
    name, index = next(iter(_indices(whole).items()))
    store, cache = CountingStore(whole, tmp_path / "journal"), ShardCache(tmp_path / "cache")
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    victim = context.Process(target=_fetch_and_die, args=(store, cache, name, index, ready))
    victim.start()
    assert ready.wait(20)
    assert not _copies(tmp_path / "cache")
    victim.kill()
    victim.join()
    begun = time.monotonic()
    assert cache.read_range(store, name, index, 0, 100) == (whole / name).read_bytes()[:100]
    assert time.monotonic() - begun < 5
    assert [path.name for path in (tmp_path / "cache").rglob("*.tmp")] == []


def _truncate(path):
    os.truncate(path, 5000)


def _flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [_truncate, _flip, Path.unlink, lambda path: path.write_bytes(b"")])
@pytest.mark.parametrize("moment", ["before it is opened", "while it is read"])
def test_a_damaged_copy_is_fetched_again(whole, tmp_path, damage, moment):
    store = CountingStore(whole, tmp_path / "journal")
    dataset = open_dataset(whole, cache=tmp_path / "cache")
    dataset._store = store
    whole_members = [dataset.members(i) for i in range(len(dataset))]
    for path in _copies(tmp_path / "cache"):
        damage(path)
    if moment == "before it is opened":
        dataset = open_dataset(whole, cache=tmp_path / "cache")
        dataset._store = store
        assert [dataset.members(i) for i in range(len(dataset))] == whole_members
        assert sorted(store.fetched()) == sorted(2 * NAMES)
    else:
        # What a sample cannot notice (padding of the tar) may stay; what it reads is right.
        keys = [dataset[i].key for i in range(len(dataset))]
        assert keys == list(dataset.keys)


def test_a_copy_that_rots_while_it_is_read_is_noticed_by_its_samples(whole, tmp_path):
    dataset = open_dataset(whole, cache=tmp_path / "cache")
    expected = dataset[2].rgb
    path = next(p for p in _copies(tmp_path / "cache"))
    start, size = dataset.shards[0].index.samples[2].members["ids.png"]
    stat = path.stat()
    data = bytearray(path.read_bytes())
    data[start + size // 2] ^= 255
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # a disk that rots changes no time
    assert (dataset[2].rgb == expected).all()
    assert load_index(whole / NAMES[0]).tar_sha256 == path.stem


def test_what_arrives_damaged_is_refused_and_not_kept(remote, tmp_path, caplog):
    import fsspec

    filesystem = fsspec.filesystem("memory")
    data = bytearray(filesystem.cat_file(f"/cached-data/{NAMES[0]}"))
    data[700] ^= 1
    filesystem.pipe_file(f"/cached-data/{NAMES[0]}", bytes(data))
    dataset = open_dataset(remote, cache=tmp_path / "cache")
    with pytest.raises(DatasetError, match=r"its index says .* `randscene lint`") as raised:
        dataset[0]
    assert "\n" not in str(raised.value) and not _copies(tmp_path / "cache")
    assert dataset[-1].key == dataset.keys[-1]  # the other shard is as good as ever
    assert "did not arrive" in caplog.text


def test_a_shard_built_again_is_another_copy(whole, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "data")
    open_dataset(folder, cache=tmp_path / "cache")[0]
    before = _copies(tmp_path / "cache")
    shutil.rmtree(folder)
    make_dataset(folder, resolution=26)
    dataset = open_dataset(folder, cache=tmp_path / "cache")
    assert dataset[0].rgb.shape == (26, 26, 3)
    assert len(_copies(tmp_path / "cache")) == 2 and set(before) < set(_copies(tmp_path / "cache"))


def test_the_limit_removes_what_was_used_longest_ago(tmp_path):
    folder = make_dataset(tmp_path / "data", scenes=4, scenes_per_shard=1, resolution=24)
    names = [f"shards/train-{number:06d}.tar" for number in range(4)]
    indices = [load_index(folder / name) for name in names]
    store = open_store(folder)
    cache = ShardCache(tmp_path / "cache", limit=sum(index.tar_bytes for index in indices[:3]) + 1)

    def use(number):
        path = cache.path(store, names[number], indices[number])
        os.utime(path.with_suffix(".json"), (use.clock, use.clock))
        use.clock += 10

    use.clock = 1_000_000
    for number in (0, 1, 2, 0):
        use(number)
    cache.path(store, names[3], indices[3])
    held = {path.stem for path in _copies(tmp_path / "cache")}
    assert indices[3].tar_sha256 in held and indices[0].tar_sha256 in held and indices[1].tar_sha256 not in held
    assert sum(path.stat().st_size for path in _copies(tmp_path / "cache")) <= cache.limit


def test_a_cache_that_is_a_file_is_refused_before_anything_is_read(tmp_path):
    (tmp_path / "cache").touch()
    with pytest.raises(DatasetError, match=r"cache is a file, and the cache a folder; choose another one$"):
        ShardCache(tmp_path / "cache")


def test_a_limit_below_one_shard_still_reads(whole, tmp_path, caplog):
    dataset = open_dataset(whole, cache=tmp_path / "cache", cache_limit=1)
    assert "give the cache more room" in caplog.text
    order = [0, len(dataset) - 1] * 3
    assert [dataset[i].key for i in order] == [dataset.keys[i] for i in order]
    assert len(_copies(tmp_path / "cache")) == 1
    with pytest.raises(DatasetError, match="cache_limit must be"):
        open_dataset(whole, cache=tmp_path / "cache", cache_limit=0)
    with pytest.raises(DatasetError, match="leave it out"):
        open_dataset(whole, cache="")


def test_a_removed_copy_is_read_to_the_end_by_who_holds_it(whole, tmp_path):
    dataset = open_dataset(whole, cache=tmp_path / "cache")
    expected = dataset.members(0)
    for path in (tmp_path / "cache").rglob("*"):
        if path.is_file():
            path.unlink()
    assert dataset.members(0) == expected


@pytest.mark.parametrize("sha256", ["../../../tmp/evil", "", "A" * 64, "0" * 63])
def test_a_hash_that_is_none_never_becomes_a_path(whole, tmp_path, sha256):
    cache = ShardCache(tmp_path / "cache")
    index = dataclasses.replace(load_index(whole / NAMES[0]), tar_sha256=sha256)
    with pytest.raises(DatasetError, match="states no SHA-256"):
        cache.path(open_store(whole), NAMES[0], index)
    assert not (tmp_path / "cache").exists()


def test_latents_beside_the_shards_are_cached_too(whole, tmp_path):
    pytest.importorskip("torch")
    import numpy as np

    from randscene.shards import read_tar, write_shard
    from randscene.shards.latent_sidecar import sidecar_folder, sidecar_header
    from randscene.shards.sample_codec import npy_bytes

    folder, sha = shutil.copytree(whole, tmp_path / "data"), "ab" * 32
    for name in NAMES:
        index = load_index(folder / name)
        counts = dict(zip(index.keys, index.n_instances.tolist()))
        latents = {
            key: np.full((counts[key] + 1, 8, 16, 16, 16), 0.5, np.float16) for key, _ in read_tar(folder / name)
        }
        write_shard(
            folder / sidecar_folder(sha) / Path(name).name,
            [(key, {"latents.npy": npy_bytes(array)}) for key, array in latents.items()],
            header=sidecar_header(index, name="flat", sha256=sha),
        )
    dataset = open_dataset(folder, latents="flat", cache=tmp_path / "cache")
    assert (dataset[1].latents == 0.5).all() and len(_copies(tmp_path / "cache")) == 2
    dataset.fetch()
    assert len(_copies(tmp_path / "cache")) == 4


def test_a_lock_left_by_a_dead_owner_is_free(whole, tmp_path):
    name, index = next(iter(_indices(whole).items()))
    cache = ShardCache(tmp_path / "cache")
    lock = tmp_path / "cache" / "locks" / index.tar_sha256[:2]
    lock.parent.mkdir(parents=True)
    lock.write_text("")
    assert cache.path(open_store(whole), name, index).stat().st_size == index.tar_bytes
    with open(lock) as handle:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nobody holds it any more


def test_the_mark_of_a_copy_says_what_was_proved(whole, tmp_path):
    name, index = next(iter(_indices(whole).items()))
    path = ShardCache(tmp_path / "cache").path(open_store(whole), name, index)
    mark = json.loads(path.with_suffix(".json").read_text())
    assert mark == {"bytes": index.tar_bytes, "mtime_ns": path.stat().st_mtime_ns}


def test_a_copy_that_has_just_arrived_is_not_the_one_that_makes_room(tmp_path, monkeypatch):
    from randscene.shards import shard_cache

    folder = make_dataset(tmp_path / "data", scenes=3, scenes_per_shard=1, resolution=24)
    names = [f"shards/train-{number:06d}.tar" for number in range(3)]
    indices = [load_index(folder / name) for name in names]
    store = CountingStore(folder, tmp_path / "journal")
    room = max(index.tar_bytes for index in indices) * 2 + 1
    mine, theirs = (ShardCache(tmp_path / "cache", limit=room) for _ in range(2))
    os.utime(mine.path(store, names[0], indices[0]).with_suffix(".json"), (1e6, 1e6))
    other = threading.Thread(target=theirs.path, args=(store, names[2], indices[2]))
    mark = shard_cache.write_atomic

    def marked_late(path, data):
        if other.ident is None:
            other.start()
            other.join(0.3)  # as far as another process can get between a copy and its mark
        mark(path, data)

    monkeypatch.setattr(shard_cache, "write_atomic", marked_late)
    assert mine.read_range(store, names[1], indices[1], 0, 512) == (folder / names[1]).read_bytes()[:512]
    other.join()
    assert {path.stem for path in _copies(tmp_path / "cache")} == {index.tar_sha256 for index in indices[1:]}
    assert sorted(store.fetched()) == names
