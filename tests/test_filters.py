"""Filters: what is read of a dataset, decided by the indexes, and the same list in every build of it."""

import json

import numpy as np
import pytest
from shard_fixtures import make_dataset

from randscene.errors import DatasetError
from randscene.shards import load_index, open_dataset, permute, read_tar, write_shard


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A dataset that tests only read."""
    return make_dataset(tmp_path_factory.mktemp("whole") / "data", splits=("train", "val"), resolution=24)


def _samples(folder, **filters):
    dataset = open_dataset(folder, **filters)
    return [dataset[index] for index in range(len(dataset))]


def _least_share(sample):
    return min(item["visible_pixels"] / item["unoccluded_pixels"] for item in sample.meta["instances"])


def test_the_least_visible_share_of_any_instance_can_be_asked_for(whole):
    shares = {sample.key: _least_share(sample) for sample in _samples(whole)}
    assert min(shares.values()) < max(shares.values())
    for limit in (0.0, float(np.median(list(shares.values()))), max(shares.values()), 1.0):
        wanted = {key for key, share in shares.items() if round(share, 4) >= round(limit, 4)}
        if wanted:
            assert set(open_dataset(whole, min_visible_ratio=limit).keys) == wanted
        else:
            with pytest.raises(DatasetError, match="no sample passes"):
                open_dataset(whole, min_visible_ratio=limit)


def test_the_number_of_instances_can_be_bounded_from_both_sides(whole):
    counts = {sample.key: sample.n_instances for sample in _samples(whole)}
    assert len(set(counts.values())) > 1
    for low, high in ((None, 2), (3, None), (3, 3)):
        wanted = {key for key, count in counts.items() if (low or 0) <= count <= (high or 99)}
        assert set(open_dataset(whole, min_instances=low, max_instances=high).keys) == wanted


def test_filters_hold_together(whole):
    filters = {"min_visible_pixels": 4, "min_visible_ratio": 0.2, "min_instances": 3, "views": "0:2", "scenes": "1:4"}
    alone = [set(open_dataset(whole, **{name: value}).keys) for name, value in filters.items()]
    assert set(open_dataset(whole, **filters).keys) == set.intersection(*alone)


@pytest.mark.parametrize(("views", "numbers"), [("first:1", {0}), ("first:2", {0, 1}), ("1:3", {1, 2}), ("2:99", {2})])
def test_views_are_chosen_by_their_number(whole, views, numbers):
    every = open_dataset(whole).keys
    assert list(open_dataset(whole, views=views).keys) == [key for key in every if int(key[7:]) in numbers]


@pytest.mark.parametrize("split", ["train", "val"])
def test_scenes_are_chosen_by_their_place_in_the_split(whole, split):
    every = sorted(open_dataset(whole, split=split).keys)
    first = 900_000 * (split == "val")
    for scenes, numbers in (("first:2", {0, 1}), ("0:2", {0, 1}), ("1:3", {1, 2}), ("3:4", {3})):
        wanted = [key for key in every if int(key[:6]) - first in numbers]
        assert list(open_dataset(whole, split=split, scenes=scenes).keys) == wanted


def test_a_subset_is_the_same_list_in_a_larger_build(tmp_path):
    """Also where the smaller build's last shard holds fewer scenes, in another order, than the larger one's."""
    small = make_dataset(tmp_path / "small", scenes=3, views=4, scenes_per_shard=2, resolution=24)
    large = make_dataset(tmp_path / "large", scenes=6, views=4, scenes_per_shard=2, resolution=24)
    other = make_dataset(tmp_path / "other", scenes=6, views=4, scenes_per_shard=3, resolution=24)
    for scenes in ("first:3", "1:3", "2:3"):
        one, two, three = (open_dataset(folder, scenes=scenes) for folder in (small, large, other))
        assert one.keys == two.keys == three.keys
        order = permute(5, 0, len(one), np.arange(len(one)))
        assert [one[i].key for i in order] == [two[i].key for i in order] == [one.keys[i] for i in order]
    assert open_dataset(small).keys != open_dataset(large, scenes="first:3").keys  # where the order does depend on it


def test_scenes_that_were_given_up_keep_their_place(tmp_path):
    folder = make_dataset(tmp_path / "data", scenes=4, scenes_per_shard=4, resolution=24)
    path = folder / "shards/train-000000.tar"
    kept = [(key, members) for key, members in read_tar(path) if key[:6] != "000001"]
    write_shard(path, kept, header=load_index(path).header)
    info = json.loads((folder / "dataset.json").read_text())
    info["splits"]["train"]["samples"] = len(kept)
    (folder / "dataset.json").write_text(json.dumps(info))
    assert {key[:6] for key in open_dataset(folder, scenes="first:3").keys} == {"000000", "000002"}


def test_a_dataset_in_another_frame_is_refused(whole, tmp_path):
    assert len(open_dataset(whole, frame="yaw")) == len(open_dataset(whole))
    with pytest.raises(DatasetError, match="in frame yaw, not canonical") as raised:
        open_dataset(whole, frame="canonical")
    assert "\n" not in str(raised.value)


def test_the_frame_of_a_dataset_that_was_imported_is_read_from_its_samples(tmp_path):
    folder = make_dataset(tmp_path / "data", scenes=1, resolution=24)
    info = json.loads((folder / "dataset.json").read_text())
    del info["spec"]
    (folder / "dataset.json").write_text(json.dumps(info))
    assert len(open_dataset(folder, frame="yaw"))
    with pytest.raises(DatasetError, match="in frame yaw, not full"):
        open_dataset(folder, frame="full")


def _without_ratio(folder):
    path = folder / "shards/train-000001.index.json"
    content = json.loads(path.read_text())
    del content["min_visible_ratio"]
    path.write_text(json.dumps(content))
    return folder


def test_an_index_without_the_ratio_is_read_and_only_that_filter_refused(tmp_path):
    folder = _without_ratio(make_dataset(tmp_path / "data", resolution=24))
    assert open_dataset(folder)[7].key and load_index(folder / "shards/train-000001.tar").min_visible_ratio is None
    assert len(open_dataset(folder, min_visible_pixels=1)) == len(open_dataset(folder))
    with pytest.raises(DatasetError, match="1 of 2 shard indexes do not say") as raised:
        open_dataset(folder, min_visible_ratio=0.1)
    assert "\n" not in str(raised.value)


def test_samples_that_do_not_state_unoccluded_pixels_give_an_index_without_the_ratio(whole, tmp_path):
    def silenced(members):
        meta = json.loads(members["json"])
        for item in meta["instances"]:
            item["unoccluded_pixels"] = None
        return members | {"json": json.dumps(meta).encode()}

    samples = [(key, silenced(members)) for key, members in read_tar(whole / "shards/train-000000.tar")]
    index = write_shard(tmp_path / "x.tar", samples, header={})
    assert index.min_visible_ratio is None and load_index(tmp_path / "x.tar").to_json() == index.to_json()


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"scenes": "0:5"}, "has 4 scenes, fewer than scenes=0:5"),
        ({"scenes": "2:2"}, "not of the form first:N or A:B"),
        ({"scenes": "-1:2"}, "not of the form"),
        ({"views": "first:0"}, "views='first:0' is not of the form"),
        ({"views": "24"}, "not of the form"),
        ({"views": "50:60"}, "no sample passes the filters .views=50:60"),
        ({"min_instances": 200}, "no sample passes"),
        ({"min_visible_ratio": 1.5}, "not between 0 and 1"),
        ({"min_visible_ratio": float("nan")}, "not between 0 and 1"),
        ({"scenes": 3}, "scenes=3 is not of the form"),
        ({"min_visible_pixels": "5"}, "min_visible_pixels='5' is not a number"),
        ({"min_visible_pixels": -1}, "min_visible_pixels=-1 is below 0; leave it out"),
        ({"min_visible_ratio": "half"}, "min_visible_ratio='half' is not a number"),
    ],
)
def test_filters_that_make_no_sense_say_so_in_one_line(whole, filters, message):
    with pytest.raises(DatasetError, match=message) as raised:
        open_dataset(whole, **filters)
    assert "\n" not in str(raised.value)


def test_keys_that_name_no_scene_have_no_subsets_by_scene(tmp_path):
    folder = make_dataset(tmp_path / "data", scenes=1, scenes_per_shard=1, resolution=24)
    path = folder / "shards/train-000000.tar"
    renamed = [(f"sample-{number}", members) for number, (_, members) in enumerate(read_tar(path))]
    write_shard(path, renamed, header=load_index(path).header)
    assert open_dataset(folder).keys[0] == "sample-0"
    with pytest.raises(DatasetError, match="do not name scene and view"):
        open_dataset(folder, views="first:1")


def test_scenes_and_views_of_any_width_are_read_from_the_keys(tmp_path):
    from randscene.shards.filters import scenes_and_views

    for keys in (["000012_034", "999999_999"], ["000012_034", "1234567_1000"], ["000000_000"], []):
        index = write_shard(tmp_path / "x.tar", [(key, {"a": b"x"}) for key in keys], header={})
        scenes, views = scenes_and_views([index], "here")
        assert [f"{scene:06d}_{view:03d}" for scene, view in zip(scenes, views, strict=True)] == keys
