"""The folder of pictures that light scenes: named by content, and refused in one line where it cannot be used."""

import dataclasses
import io
import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from randscene.errors import SpecError
from randscene.files import sha256_of
from randscene.generator.dataset_folder import fingerprint
from randscene.generator.exr_file import LINES, is_whole_exr
from randscene.generator.light_pictures import light_pictures, picture_paths
from randscene.generator.recipe import Background, EnvironmentMap
from randscene.manifests.spec import DatasetSpec, load_spec, with_overrides
from randscene.manifests.spec_sections import LightSpec

HDR = b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 1 +X 1\n"


def exr(*, compression: int = 3, height: int = 40, falling: bool = False) -> bytes:
    """A file of scan lines, whole as far as its layout goes; its chunks hold nothing that could be decoded."""

    def attribute(name: str, kind: str, value: bytes) -> bytes:
        return name.encode() + b"\0" + kind.encode() + b"\0" + struct.pack("<i", len(value)) + value

    header = (
        b"\x76\x2f\x31\x01\x02\0\0\0"
        + attribute("compression", "compression", bytes([compression]))
        + attribute("dataWindow", "box2i", struct.pack("<4i", 0, 5, 7, 4 + height))
        + b"\0"
    )
    count = -(-height // LINES[compression])
    chunks = [struct.pack("<2i", number, 10 + number) + bytes(10 + number) for number in range(count)]
    begin = len(header) + 8 * count
    places = [begin + sum(map(len, chunks[:number])) for number in range(count)]
    return header + struct.pack(f"<{count}Q", *(places[::-1] if falling else places)) + b"".join(chunks)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "sky"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.hdr").write_bytes(HDR + bytes([number] * 4))
    (folder / "night.EXR").write_bytes(exr())
    (folder / "licence.txt").write_text("CC0")
    (folder / "._0.hdr").write_bytes(b"what a file manager leaves behind")
    (folder / "more").mkdir()
    return folder


def rules(folder: Path) -> LightSpec:
    return LightSpec(kind="hdri", folder=str(folder))


def planned_with(sha256: str) -> Background:
    image = EnvironmentMap(sha256=sha256, name="0.hdr", turns=0.0)
    return Background(color=(1.0, 1.0, 1.0), strength=1.0, image=image)


def test_pictures_are_listed_by_content_and_copies_once(folder):
    (folder / "copy.hdr").write_bytes((folder / "1.hdr").read_bytes())
    found = light_pictures(rules(folder))
    assert [p.sha256 for p in found] == sorted(p.sha256 for p in found)
    assert {p.name for p in found} == {"0.hdr", "1.hdr", "2.hdr", "3.hdr", "night.EXR"}
    for picture in found:
        assert picture.path == folder / picture.name and picture.sha256 == sha256_of(picture.path)


@pytest.mark.parametrize("kind", ["random", "trellis"])
def test_other_lights_look_at_no_folder(kind):
    assert light_pictures(LightSpec(kind=kind)) == ()


@pytest.mark.parametrize("compression", sorted(LINES))
@pytest.mark.parametrize("height", [1, 40, 512])
def test_an_exr_file_cut_anywhere_is_not_whole(compression, height):
    for falling in (False, True):
        whole = exr(compression=compression, height=height, falling=falling)
        assert is_whole_exr(io.BytesIO(whole))
        for length in {*range(0, len(whole), max(1, len(whole) // 60)), len(whole) - 1}:
            assert not is_whole_exr(io.BytesIO(whole[:length]))


@given(noise=st.binary(max_size=300), keep=st.integers(0, 120))
def test_no_bytes_upset_the_check_of_exr_files(noise, keep):
    assert is_whole_exr(io.BytesIO(exr()[:keep] + noise)) in (True, False)


@pytest.mark.parametrize("suffix", ["hdr", "exr"])
def test_a_file_that_is_no_picture_is_named(folder, suffix):
    (folder / f"fake.{suffix}").write_bytes(b"\x89PNG....")
    with pytest.raises(SpecError, match=rf"fake\.{suffix} is not a whole {suffix} picture") as caught:
        light_pictures(rules(folder))
    assert "\n" not in str(caught.value)


def test_links_and_folders_that_pass_for_pictures_are_refused(folder, tmp_path):
    outside = tmp_path / "outside.hdr"
    outside.write_bytes(HDR)
    link = folder / "link.hdr"
    link.symlink_to(outside)
    with pytest.raises(SpecError, match=r"link\.hdr is not a plain file"):
        light_pictures(rules(folder))
    link.unlink()
    (folder / "nested.exr").mkdir()
    with pytest.raises(SpecError, match=r"nested\.exr is not a plain file"):
        light_pictures(rules(folder))


def test_a_missing_or_empty_folder_is_one_line(tmp_path):
    with pytest.raises(SpecError, match=r"lights\.folder: .*absent cannot be read"):
        light_pictures(rules(tmp_path / "absent"))
    with pytest.raises(SpecError, match=r"holds no \.hdr or \.exr picture"):
        light_pictures(rules(tmp_path))


def test_a_picture_is_found_by_its_content_under_any_name(folder):
    sha256 = sha256_of(folder / "0.hdr")
    (folder / "0.hdr").rename(folder / "renamed.hdr")
    assert picture_paths(planned_with(sha256), rules(folder)) == {sha256: str(folder / "renamed.hdr")}
    assert picture_paths(dataclasses.replace(planned_with(sha256), image=None), rules(folder)) == {}


def test_a_picture_that_changed_since_planning_is_refused(folder):
    background = planned_with(sha256_of(folder / "0.hdr"))
    assert picture_paths(background, rules(folder))
    content = bytearray((folder / "0.hdr").read_bytes())
    content[-1] ^= 1
    (folder / "0.hdr").write_bytes(content)
    os.utime(folder / "0.hdr", ns=(1, 1))
    with pytest.raises(SpecError, match=r"no longer holds the picture .* 0\.hdr .*put it back"):
        picture_paths(background, rules(folder))


def spec(folder: Path) -> DatasetSpec:
    return with_overrides(load_spec("demo"), ["latents.encoder=null"]).model_copy(update={"lights": rules(folder)})


def test_the_identity_of_a_dataset_is_the_pictures_not_where_they_lie(folder, tmp_path):
    first = fingerprint(spec(folder), [], None)
    moved = folder.rename(tmp_path / "elsewhere")
    assert fingerprint(spec(moved), [], None) == first
    (moved / "3.hdr").write_bytes(HDR + b"changed")
    assert fingerprint(spec(moved), [], None) != first
