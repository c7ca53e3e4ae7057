"""The files that describe an imported dataset: whose folder it is, and what another one would differ in."""

import re
from dataclasses import replace

import pytest

from randscene.errors import DatasetError
from randscene.generator.front3d_axes import Reading
from randscene.generator.front3d_block import RoomBlock
from randscene.generator.front3d_layout import Room
from randscene.generator.front3d_output import Description, close, committed_header
from randscene.generator.front3d_settings import LICENCE, Front3dSettings
from randscene.shards.commit import commit_shard
from randscene.shards.store import open_store

READING = Reading(axes="x,-z,y", numbering="suffix")
BEGUN = Description(
    settings=Front3dSettings(),
    reading=READING,
    lists="a" * 64,
    list_name="midi_room_ids.json",
    splits={"train": (0, 4)},
)


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"settings": Front3dSettings(resolution=64)}, "import.resolution is 512 there, 64 here"),
        ({"settings": Front3dSettings(max_instances=None)}, "import.max_instances is 7 there, nothing here"),
        ({"settings": Front3dSettings(licence="MIT")}, f"licence is {LICENCE[:37]}... there, MIT here"),
        ({"reading": replace(READING, axes="x,y,z")}, "import.axes is x,-z,y there, x,y,z here"),
        ({"list_name": "mine.json"}, "import.room_list is midi_room_ids.json there, mine.json here"),
        ({"lists": "b" * 64}, "its room and furniture lists had other content"),
        ({"splits": {"train": (0, 3)}}, "splits.train.scenes is 4 there, 3 here"),
        ({"splits": {"train": (0, 4), "test": (4, 5)}}, "splits.test is nothing there, something here"),
    ],
)
def test_who_asks_for_another_dataset_hears_what_differs(change, difference, tmp_path):
    store = open_store(tmp_path / "dataset")
    BEGUN.open(store, {})
    renamed = replace(BEGUN, settings=Front3dSettings(name="mine"))
    assert BEGUN.refuse_others(store) and renamed.refuse_others(store)
    with pytest.raises(DatasetError, match=re.escape(f"holds another dataset (3d-front: {difference}); choose")):
        replace(BEGUN, **change).refuse_others(store)


def test_who_goes_on_with_other_software_hears_which(tmp_path, monkeypatch):
    store = open_store(tmp_path / "dataset")
    BEGUN.open(store, {})
    versions = BEGUN.versions | {"pillow": "1.0"}
    monkeypatch.setattr(Description, "versions", property(lambda self: versions))
    with pytest.raises(DatasetError, match=r"\(3d-front: versions\.pillow is [0-9.]+ there, 1\.0 here\)"):
        BEGUN.refuse_others(store)


@pytest.mark.parametrize(
    "damage",
    [
        {"given_up": [3]},
        {"failures": {"reason": "unreadable"}},
        {"failures": [{}]},
        {"rooms": 4},
        {"rooms": [{"room": "house/room", "objects": [], "left_out": [{"reason": None}]}]},
        {"rooms": [{"room": "house/room", "left_out": []}]},
    ],
    ids=str,
)
def test_an_index_that_does_not_tell_its_rooms_is_not_taken_for_an_imports(damage, tmp_path):
    store = open_store(tmp_path / "dataset")
    block = RoomBlock(split="train", number=0, rooms=(Room(scene=0, split="train", room_id="a/b", furniture=()),))
    header = {"scenes": [0], "attempts": {}, "given_up": {"0": "unreadable"}, "fingerprint": BEGUN.fingerprint}
    whole = header | {"rooms": [], "failures": [{"reason": "unreadable"}]}
    commit_shard(store, f"shards/{block.name}.tar", iter(()), header=whole)
    assert committed_header(store, block, BEGUN.fingerprint) == whole
    commit_shard(store, f"shards/{block.name}.tar", iter(()), header=whole | damage)
    assert committed_header(store, block, BEGUN.fingerprint) is None, "it is imported anew"
    with pytest.raises(
        DatasetError, match=r"train-000000\.index\.json does not tell its rooms.*; run the same command"
    ):
        close(store, BEGUN, [block])
    assert not (tmp_path / "dataset" / "rooms.jsonl").exists()
