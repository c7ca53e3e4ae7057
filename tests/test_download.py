"""Downloads: whole and verified, or a typed reason; never half a file, never the same bytes twice."""

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from objaverse_server import PREFIX, Objaverse, serving

from randscene.errors import AssetError, RandsceneError
from randscene.manifests.download import Downloader

DATA = bytes(range(256)) * 40
PLACE = "glbs/000-000/a.glb"


@pytest.fixture
def server() -> Iterator[Objaverse]:
    with serving({PLACE: DATA, "plain.txt": b"words"}) as state:
        yield state


def downloader(**changes) -> Downloader:
    return Downloader(**({"timeout_s": 0.4, "attempts": 3, "pause_s": 0.01} | changes))


def fetch(server: Objaverse, target: Path, place: str = PLACE, **options) -> None:
    downloader(**options).fetch(server.url + PREFIX + place, target)


def failure(server: Objaverse, target: Path, **options) -> AssetError:
    with pytest.raises(AssetError) as caught:
        fetch(server, target, **options)
    assert not target.exists()
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_file_arrives_whole_and_nothing_is_left_beside_it(server, tmp_path):
    fetch(server, tmp_path / "below" / "a.glb")
    fetch(server, tmp_path / "below" / "plain.txt", "plain.txt")
    assert (tmp_path / "below" / "a.glb").read_bytes() == DATA
    assert sorted(path.name for path in (tmp_path / "below").iterdir()) == ["a.glb", "plain.txt"]


@pytest.mark.parametrize("faults", [["500", "503"], ["busy"], ["cut"], ["slow"], ["wrong"], ["busy0", "cut"]])
def test_what_passes_is_tried_again(server, tmp_path, faults):
    server.faults[PLACE] = list(faults)
    fetch(server, tmp_path / "a.glb")
    assert (tmp_path / "a.glb").read_bytes() == DATA
    assert len(server.gets()) == len(faults) + 1


@pytest.mark.parametrize(
    ("fault", "reason", "tries"),
    [
        ("404", "dead_link", 1),
        ("410", "dead_link", 1),
        ("403", "download_failed", 1),
        ("500", "download_failed", 3),
        ("busy", "download_failed", 3),
        ("slow", "download_failed", 3),
        ("trickle", "download_failed", 3),
        ("wrong", "hash_mismatch", 3),
    ],
)
def test_what_does_not_pass_ends_with_a_typed_reason(server, tmp_path, fault, reason, tries):
    server.faults[PLACE] = [f"{fault}*"]
    assert failure(server, tmp_path / "a.glb").reason == reason
    assert len(server.gets()) == tries


def test_a_file_that_is_always_cut_off_is_no_file(server, tmp_path):
    server.faults[PLACE] = ["cut*"]
    error = failure(server, tmp_path / "a.glb")
    assert error.reason == "download_failed"
    assert "more expected" in str(error)


def test_a_cut_off_file_is_gone_on_with_in_this_process_and_the_next(server, tmp_path):
    server.faults[PLACE] = ["cut", "cut"]
    assert failure(server, tmp_path / "a.glb", attempts=2).reason == "download_failed"
    fetch(server, tmp_path / "a.glb")
    assert (tmp_path / "a.glb").read_bytes() == DATA
    assert [header for _, _, header in server.asked] == ["", "bytes=5120-", "bytes=7680-"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.glb"]


def test_a_part_of_another_version_is_thrown_away(server, tmp_path):
    server.faults[PLACE] = ["cut"]
    failure(server, tmp_path / "a.glb", attempts=1)
    server.files[PLACE] = other = bytes(reversed(DATA))
    fetch(server, tmp_path / "a.glb")
    assert (tmp_path / "a.glb").read_bytes() == other


def test_a_part_that_is_longer_than_the_file_is_thrown_away(server, tmp_path):
    (tmp_path / ".a.glb.part").write_bytes(DATA + b"more")
    (tmp_path / ".a.glb.part.sha256").write_text(hashlib.sha256(DATA).hexdigest())
    fetch(server, tmp_path / "a.glb")
    assert (tmp_path / "a.glb").read_bytes() == DATA


def test_a_server_that_ignores_ranges_starts_the_file_over(server, tmp_path):
    server.faults[PLACE] = ["cut", "no-range"]
    fetch(server, tmp_path / "a.glb")
    assert (tmp_path / "a.glb").read_bytes() == DATA


def test_the_hash_that_the_caller_states_decides(server, tmp_path):
    url = server.url + PREFIX + PLACE
    with pytest.raises(AssetError) as caught:
        downloader().fetch(url, tmp_path / "a.glb", sha256="0" * 64)
    assert caught.value.reason == "hash_mismatch"
    assert list(tmp_path.iterdir()) == []
    downloader().fetch(url, tmp_path / "a.glb", sha256=hashlib.sha256(DATA).hexdigest())
    assert downloader().published_sha256(url) == hashlib.sha256(DATA).hexdigest()
    assert downloader().published_sha256(server.url + PREFIX + "plain.txt") is None


def test_retry_after_is_waited_for(server, tmp_path):
    server.faults[PLACE] = ["busy1"]
    began = time.monotonic()
    fetch(server, tmp_path / "a.glb")
    assert 1.0 <= time.monotonic() - began < 4.0


def test_a_stop_ends_the_wait_for_another_attempt(server, tmp_path):
    server.faults[PLACE] = ["busy100*"]
    patient = downloader()
    patient.stop()
    began = time.monotonic()
    with pytest.raises(AssetError):
        patient.fetch(server.url + PREFIX + PLACE, tmp_path / "a.glb")
    assert time.monotonic() - began < 5.0


def test_a_token_goes_to_the_hub_and_not_to_its_storage(server, tmp_path):
    fetch(server, tmp_path / "a.glb", token="secret")
    assert server.tokens == {"hub": {"Bearer secret"}, "storage": {""}}


def test_no_server_is_a_typed_reason(tmp_path):
    with pytest.raises(AssetError) as caught:
        downloader().fetch("http://127.0.0.1:9/a.glb", tmp_path / "a.glb")
    assert caught.value.reason == "download_failed"
    assert "Connection refused" in str(caught.value) and "Pool" not in str(caught.value)


def test_a_folder_that_cannot_be_written_is_one_line(server, tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(RandsceneError, match="not a folder"):
        fetch(server, tmp_path / "file" / "below" / "a.glb")
