"""Samples: what goes in comes out, equal samples give equal bytes, and nothing malformed is ever read."""

import dataclasses
import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image
from shard_fixtures import make_sample

from randscene.errors import DatasetError
from randscene.shards import decode_sample, encode_members
from randscene.shards.sample_codec import npy_bytes, npz_bytes


@pytest.fixture(scope="module")
def sample():
    return make_sample(7, 2, latents=True, depth=True)


@pytest.fixture(scope="module")
def members(sample):
    return encode_members(sample)


def test_a_sample_comes_back_as_it_was(sample):
    back = decode_sample(encode_members(sample, webp_quality=0))
    for field in ("rgb", "ids", "coords", "offsets", "depth", "latents"):
        before, after = getattr(sample, field), getattr(back, field)
        assert after.dtype == before.dtype and np.array_equal(after, before), field
    assert back.meta == sample.meta
    assert back.key == "000007_002" and back.n_instances == sample.n_instances


def test_lossy_pictures_stay_close(sample):
    back = decode_sample(encode_members(sample, webp_quality=95))
    assert np.abs(back.rgb.astype(int) - sample.rgb).mean() < 6


def test_equal_samples_give_equal_bytes(sample, members):
    moved = dataclasses.replace(
        sample, coords=np.asfortranarray(sample.coords), rgb=np.ascontiguousarray(sample.rgb[::-1])[::-1]
    )
    moved.meta.update(dict(reversed(list(sample.meta.items()))))
    assert encode_members(moved) == members


def test_no_time_stamp_is_in_any_member(members):
    with zipfile.ZipFile(io.BytesIO(members["voxels.npz"])) as archive:
        assert all(entry.date_time == (1980, 1, 1, 0, 0, 0) for entry in archive.infolist())
    for name in ("ids.png", "depth.png"):
        assert b"tIME" not in members[name] and b"tEXt" not in members[name]


def test_optional_members_are_left_out():
    assert sorted(encode_members(make_sample(1, 0))) == ["ids.png", "json", "rgb.webp", "voxels.npz"]


def test_members_are_plain_formats(sample, members):
    with np.load(io.BytesIO(members["voxels.npz"]), allow_pickle=False) as archive:
        assert sorted(archive) == ["coords", "offsets"]
        assert np.array_equal(archive["coords"], sample.coords)
    assert np.array_equal(np.load(io.BytesIO(members["latents.npy"]), allow_pickle=False), sample.latents)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(members["depth.png"]))), sample.depth)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(members["ids.png"]))), sample.ids)


def test_instance_pictures_and_voxels_make_up_the_scene(sample):
    numbers = range(1, sample.n_instances + 1)
    together = sum(sample.instance_rgb(number) for number in numbers)
    assert np.array_equal(together, sample.rgb * (sample.ids > 0)[..., None])
    union = np.unique(np.concatenate([sample.instance_coords(number) for number in numbers]), axis=0)
    assert np.array_equal(union, sample.scene_coords())


@pytest.mark.parametrize("number", [0, -1, 99, np.uint8(0)])
def test_an_instance_that_there_is_not_is_told_with_those_that_there_are(sample, number):
    for parts in (sample.instance_coords, sample.instance_rgb):
        message = f"sample {sample.key} has no instance {number}: its instances are 1 to {sample.n_instances}"
        with pytest.raises(IndexError, match=message):
            parts(number)


BROKEN_FIELDS = {
    "rgb": (lambda s: {"rgb": s.rgb[..., :2]}, "rgb is"),
    "rgb and ids of other sizes": (lambda s: {"ids": s.ids[1:]}, "ids is"),
    "ids above N": (lambda s: {"ids": s.ids + np.uint8(9)}, "ids has an id above"),
    "ids of another type": (lambda s: {"ids": s.ids.astype(np.int32)}, "ids is"),
    "voxels outside": (lambda s: {"coords": s.coords + np.uint8(40)}, "coords has a voxel outside"),
    "offsets that fall": (lambda s: {"offsets": s.offsets[::-1].copy()}, "offsets does not rise"),
    "offsets that end early": (lambda s: {"coords": np.vstack([s.coords, s.coords[:1]])}, "offsets does not rise"),
    "an offset too few": (lambda s: {"offsets": s.offsets[:-1]}, "offsets is"),
    "depth without scale": (lambda s: {"meta": {**s.meta, "depth": None}}, "depth is in only one"),
    "latents of another count": (lambda s: {"latents": s.latents[1:]}, "latents is"),
    "latents with NaN": (lambda s: {"latents": s.latents * np.float16(np.nan)}, "latents has a value"),
    "another schema": (lambda s: {"meta": {**s.meta, "schema": 2}}, "schema is 2"),
    "no instances": (lambda s: {"meta": {**s.meta, "instances": []}}, "instances has 0"),
    "no view": (lambda s: {"meta": {**s.meta, "view": None}}, "view is None"),
}


@pytest.mark.parametrize("name", BROKEN_FIELDS)
def test_malformed_samples_are_not_written(sample, name):
    change, message = BROKEN_FIELDS[name]
    with pytest.raises(DatasetError, match=message) as raised:
        encode_members(dataclasses.replace(sample, **change(sample)))
    assert "\n" not in str(raised.value)


def _gif() -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (48, 48)).save(buffer, "GIF")
    return buffer.getvalue()


class _Payload:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was run",))


def _pickled() -> np.ndarray:
    return np.array([_Payload()], dtype=object)


def _pickled_npy() -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, _pickled(), allow_pickle=True)
    return buffer.getvalue()


BROKEN_MEMBERS = {
    "json missing": ("json", None, "has no member json"),
    "json cut": ("json", lambda data: data[:-3], "json is not readable"),
    "json of another kind": ("json", lambda data: b"[]", "json is not an object"),
    "picture missing": ("rgb.webp", None, "has no member rgb.webp"),
    "picture cut": ("rgb.webp", lambda data: data[: len(data) // 2], "rgb.webp is not a readable"),
    "ids as GIF": ("ids.png", lambda data: _gif(), "ids.png is not a readable PNG"),
    "ids cut": ("ids.png", lambda data: data[: len(data) // 2], "ids.png is not a readable"),
    "voxels not a zip": ("voxels.npz", lambda data: b"nothing", "voxels.npz is not a readable"),
    "voxels damaged": ("voxels.npz", lambda data: data[:200] + b"\xff" * 20 + data[220:], "voxels.npz is not"),
    "voxels incomplete": ("voxels.npz", lambda data: npz_bytes({"coords": np.eye(3)}), "voxels.npz holds"),
    "latents pickled": ("latents.npy", lambda data: _pickled_npy(), "latents.npy is not a readable"),
    "latents cut": ("latents.npy", lambda data: data[:-1], "latents.npy is not a readable"),
    "latents too long": ("latents.npy", lambda data: data + b"0", "latents.npy has bytes after"),
    "latents in double": ("latents.npy", lambda data: npy_bytes(np.zeros((3, 8, 16, 16, 16))), "latents is"),
    "depth in colour": ("depth.png", lambda data: _gif(), "depth.png is not a readable PNG"),
}


@pytest.mark.parametrize("name", BROKEN_MEMBERS)
def test_malformed_members_are_refused_with_key_and_field(members, name):
    member, change, message = BROKEN_MEMBERS[name]
    broken = dict(members)
    data = broken.pop(member)
    if change is not None:
        broken[member] = change(data)
    with pytest.raises(DatasetError, match=message) as raised:
        decode_sample(broken, where="train-000000.tar: 000007_002")
    assert str(raised.value).startswith("train-000000.tar: 000007_002: ")
    assert "\n" not in str(raised.value)


def test_errors_name_the_sample_even_when_nobody_said_its_key(members):
    with pytest.raises(DatasetError, match=r"^sample 000007_002: "):
        decode_sample({**members, "ids.png": b""})


def test_not_finite_numbers_never_reach_the_json(sample):
    with pytest.raises(ValueError):
        encode_members(dataclasses.replace(sample, meta={**sample.meta, "fov_deg": float("nan")}))


def test_json_is_canonical(members):
    text = members["json"].decode()
    assert json.dumps(json.loads(text), sort_keys=True, separators=(",", ":")) == text
