"""The wheel holds everything that the code needs, and its core works with the libraries of the bare installation."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = {"core": "randscene"} | {
    room: f"randscene/{room}" for room in ("manifests", "generator", "blender_scripts", "shards", "train", "cli")
}
NOT_CORE = ("bpy", "ray", "torch", "scipy", "numba", "trimesh", "shapely", "embreex", "pydantic", "requests", "psutil")

USE = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ImportError(f"{{name}} is not part of the bare installation")
sys.meta_path.insert(0, Block())
import randscene
from randscene import shards
assert randscene.__file__.startswith({wheel!r}), randscene.__file__
for name in shards.__all__:
    getattr(shards, name)
assert len(shards.open_dataset({dataset!r})[0].rgb)
"""


def in_git() -> list[Path]:
    done = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard", *ROOMS],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        pytest.skip("not a git checkout: nothing says which files belong to the package")
    return [Path(line) for line in done.stdout.splitlines() if (ROOT / line).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for file in [*in_git(), *map(Path, ("build_backend.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"))]:
        (source / file).parent.mkdir(parents=True, exist_ok=True)
        (source / file).write_bytes((ROOT / file).read_bytes())
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*pip, "--wheel-dir", out, source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return next(out.glob("*.whl"))


def test_every_file_of_the_rooms_is_in_the_wheel(wheel):
    held = set(zipfile.ZipFile(wheel).namelist())
    wanted = {f"{ROOMS[file.parts[0]]}/{Path(*file.parts[1:])}" for file in in_git()}
    assert "randscene/py.typed" in wanted and "randscene/train/weights/mini_ss_vae.safetensors" in wanted
    assert wanted - held == set(), "name these in setup.cfg: packages, package_dir or package_data"


def test_shards_can_be_read_with_the_bare_installation(wheel, tmp_path):
    from shard_fixtures import make_dataset

    dataset = make_dataset(tmp_path / "set", scenes=1, views=1, resolution=16)
    script = USE.format(blocked=NOT_CORE, wheel=str(wheel), dataset=str(dataset))
    environment = {**os.environ, "PYTHONPATH": str(wheel)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
