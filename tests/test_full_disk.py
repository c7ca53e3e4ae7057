"""A disk that is full: one line that says so, nothing lost, and the same command goes on once there is room."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_build import FAST, promised_bytes

from randscene.errors import RandsceneError
from randscene.generator import build_driver, generate
from randscene.manifests import load_spec, with_overrides

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("one_ray")]
SPEC = with_overrides(load_spec("demo"), [*FAST, "render.resolution=256", "shards.scenes_per_shard=3"])


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, with half a megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "none", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory, lock_path: Path) -> Path:
    root = tmp_path_factory.mktemp("calm") / "dataset"
    assert generate(SPEC, lock_path, root, workers=1).complete
    return root


def test_a_build_stops_before_the_disk_is_full_and_goes_on_when_there_is_room(small_disk, calm, lock_path):
    root = small_disk / "dataset"
    with pytest.raises(RandsceneError, match="the disk is nearly full; free some space, then run the same command"):
        generate(SPEC, lock_path, root, workers=2)
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    generate(SPEC, lock_path, root, workers=2)
    assert promised_bytes(root) == promised_bytes(calm)


def test_a_build_that_meets_a_full_disk_stops_with_one_line_and_goes_on_when_there_is_room(
    small_disk, calm, lock_path, monkeypatch
):
    root = small_disk / "dataset"
    assert sum(path.stat().st_size for path in calm.rglob("*")) > 2**19
    monkeypatch.setattr(build_driver, "FREE_BYTES", -(2**40))  # as if somebody else filled it a moment ago
    with pytest.raises(RandsceneError, match="the disk is full; free some space, then run the same command again") as e:
        generate(SPEC, lock_path, root, workers=2)
    assert "\n" not in str(e.value)
    kept = {path.name: path.read_bytes() for path in root.glob("work/*.tar")}
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    report = generate(SPEC, lock_path, root, workers=2)
    assert report.scenes_made <= 6 - len(kept)
    assert promised_bytes(root) == promised_bytes(calm)
