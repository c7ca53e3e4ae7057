"""The `.nv-meta` folder: what Megatron-Energon needs to read a dataset as it is."""

import dataclasses
import json
import shutil
import sqlite3
import tarfile
import uuid

import numpy as np
import pytest
import yaml
from shard_fixtures import make_dataset

from randscene.errors import DatasetError
from randscene.shards import decode_sample, lint, load_index, open_dataset, read_tar, write_energon, write_shard

NAMES = {
    split: [f"shards/{split}-{number:06d}.tar" for number in range(count)]
    for split, count in (("train", 2), ("val", 2))
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A dataset that tests only read."""
    folder = make_dataset(tmp_path_factory.mktemp("energon") / "data", splits=("train", "val"), resolution=24)
    write_energon(folder, by_key=True)
    return folder


@pytest.fixture
def folder(prepared, tmp_path):
    """A dataset that a test may change."""
    return shutil.copytree(prepared, tmp_path / "data")


def _written(folder):
    files = [*(folder / ".nv-meta").iterdir(), *folder.glob("shards/*.idx")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


# --- the files, by their documented form ---


def test_counts_and_splits_name_every_shard(prepared):
    info = json.loads((prepared / ".nv-meta/.info.json").read_text())
    assert info.keys() <= {"energon_version", "shard_counts"}
    assert info["shard_counts"] == {
        name: len(load_index(prepared / name)) for names in NAMES.values() for name in names
    }
    split = yaml.safe_load((prepared / ".nv-meta/split.yaml").read_text())
    assert split == {"split_parts": NAMES, "exclude": []}
    sample = yaml.safe_load((prepared / ".nv-meta/dataset.yaml").read_text())
    assert (sample["__module__"], sample["__class__"]) == ("megatron.energon", "CrudeWebdataset")


def test_offsets_are_where_tar_finds_the_samples(prepared):
    for names in NAMES.values():
        for name in names:
            offsets = np.frombuffer((prepared / name).with_suffix(".tar.idx").read_bytes(), "<u8").tolist()
            starts = {}
            with tarfile.open(prepared / name) as tar:
                for member in tar:
                    starts.setdefault(member.name.partition(".")[0], member.offset)
                assert offsets == [*starts.values(), tar.offset]


def test_the_database_places_every_sample_and_member(prepared):
    database = sqlite3.connect(prepared / ".nv-meta/index.sqlite")
    names = [name for names in NAMES.values() for name in names]
    for number, name in enumerate(names):
        data = (prepared / name).read_bytes()
        for row, (key, members) in enumerate(read_tar(prepared / name)):
            [(place, start, size)] = database.execute(
                "SELECT sample_index, byte_offset, byte_size FROM samples WHERE sample_key = ? AND tar_file_id = ?",
                (key, number),
            )
            assert place == row and data[start : start + len(key)].decode() == key
            assert start + size == len(data) or data[start + size : start + size + 1] in (b"\0", b"9", b"0")
            parts = database.execute(
                "SELECT part_name, content_byte_offset, content_byte_size FROM sample_parts "
                "WHERE tar_file_id = ? AND sample_index = ?",
                (number, row),
            )
            assert {name: data[first : first + size] for name, first, size in parts} == members
    database.close()


def test_the_same_shards_give_the_same_files(folder):
    before = _written(folder)
    shutil.rmtree(folder / ".nv-meta")
    for path in folder.glob("shards/*.idx"):
        path.unlink()
    write_energon(folder, by_key=True)
    assert _written(folder) == before
    assert uuid.UUID((folder / ".nv-meta/index.uuid").read_text()).version == 8


def test_other_shards_take_the_old_database_away(folder):
    write_energon(folder)
    assert (folder / ".nv-meta/index.sqlite").exists()  # still of these shards
    identity = (folder / ".nv-meta/index.uuid").read_text()
    path = folder / NAMES["train"][0]
    write_shard(path, list(read_tar(path))[:2], header=load_index(path).header)
    info = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(info | {"complete": False}))
    write_energon(folder)
    assert not (folder / ".nv-meta/index.sqlite").exists()
    assert (folder / ".nv-meta/index.uuid").read_text() != identity


def test_a_shard_without_samples_is_left_out(folder):
    write_shard(folder / "shards/train-000002.tar", [], header=load_index(folder / NAMES["train"][0]).header)
    write_energon(folder)
    assert "shards/train-000002.tar" not in (folder / ".nv-meta/.info.json").read_text()
    assert "shards/train-000002.tar" not in (folder / ".nv-meta/split.yaml").read_text()


def test_readers_and_lint_do_not_mind_the_files(prepared):
    report = lint(prepared)
    assert (report.ok, report.notes) == (True, []) and len(open_dataset(prepared)) > 0


def test_a_remote_dataset_gets_the_same_files(prepared):
    fsspec = pytest.importorskip("fsspec")
    remote = fsspec.filesystem("memory")
    for path in prepared.rglob("*"):
        if path.is_file() and ".nv-meta" not in str(path) and path.suffix != ".idx":
            remote.pipe_file(f"/energon-data/{path.relative_to(prepared)}", path.read_bytes())
    write_energon("memory://energon-data", by_key=True)
    for name, data in _written(prepared).items():
        assert remote.cat_file(f"/energon-data/{name}") == data
    remote.rm("/energon-data", recursive=True)


def test_what_is_no_dataset_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="is not a dataset"):
        write_energon(tmp_path)
    assert list(tmp_path.iterdir()) == []


# --- the package itself, where it is installed ---


@pytest.fixture
def energon():
    return pytest.importorskip("megatron.energon", reason="megatron-energon is not installed")


def _task(energon):
    @dataclasses.dataclass
    class Scene(energon.Sample):
        sample: object

    @energon.stateless
    def cook(crude):
        members = {name: data for name, data in crude.items() if not name.startswith("__")}
        return Scene(**energon.basic_sample_keys(crude), sample=decode_sample(members))

    class Task(energon.DefaultTaskEncoder):
        cookers = (energon.Cooker(cook),)

        @energon.stateless
        def batch(self, samples):
            return [scene.sample for scene in samples]

        @energon.stateless
        def encode_batch(self, batch):
            return batch

    return Task()


@pytest.mark.parametrize("split", ["train", "val"])
def test_energon_reads_each_sample_of_a_split_as_it_is(energon, prepared, split):
    worker = energon.WorkerConfig(rank=0, world_size=1, num_workers=0)
    dataset = energon.get_val_dataset(
        prepared, split_part=split, batch_size=1, worker_config=worker, task_encoder=_task(energon)
    )
    read = {sample.key: sample for batch in energon.get_loader(dataset) for sample in batch}
    ours = open_dataset(prepared, split=split)
    assert sorted(read) == sorted(ours.keys)
    for index, key in enumerate(ours.keys):
        assert np.array_equal(read[key].rgb, ours[index].rgb) and np.array_equal(read[key].coords, ours[index].coords)


def test_energon_trains_and_resumes_on_it(energon, prepared):
    def loader():
        worker = energon.WorkerConfig(rank=0, world_size=1, num_workers=0)
        return energon.get_savable_loader(
            energon.get_train_dataset(
                prepared,
                batch_size=2,
                shuffle_buffer_size=4,
                max_samples_per_sequence=4,
                worker_config=worker,
                task_encoder=_task(energon),
            )
        )

    first = loader()
    batches = iter(first)
    for _ in range(3):
        next(batches)
    state = first.save_state_rank()
    following = [[sample.key for sample in next(batches)] for _ in range(3)]
    second = loader()
    second.restore_state_rank(state)
    batches = iter(second)
    assert [[sample.key for sample in next(batches)] for _ in range(3)] == following


def test_energon_finds_samples_by_key(energon, prepared):
    from megatron.energon.epathlib import EPath
    from megatron.energon.flavors.webdataset.itar_reader import SqliteITarEntryReader

    reader = SqliteITarEntryReader(EPath(prepared))
    dataset = open_dataset(prepared, split="val")
    for index, key in enumerate(dataset.keys):
        found = reader[key]
        assert {name: data for name, data in found.items() if not name.startswith("__")} == dataset.members(index)
    reader.close()


def test_energon_takes_the_index_for_its_own(energon, prepared):
    from megatron.energon.epathlib import EPath
    from megatron.energon.tools.lint import check_index

    assert check_index(EPath(prepared))
