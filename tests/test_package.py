"""What may be imported where."""

import ast
import importlib
import subprocess
import sys
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GENERATION_ONLY = ("bpy", "ray", "trimesh", "objaverse", "pydantic", "embreex", "shapely")

BLOCKED = """
import sys
import types
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ImportError(f"{{name}} must not be needed here")
sys.meta_path.insert(0, Block())
import importlib
for room in map(importlib.import_module, {rooms!r}):
    for name in room.__all__:
        getattr(room, name)
"""


def test_a_training_node_needs_nothing_of_the_generator():
    code = BLOCKED.format(blocked=GENERATION_ONLY, rooms=("randscene.shards", "randscene.train"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_reading_shards_needs_no_torch():
    code = BLOCKED.format(blocked=(*GENERATION_ONLY, "torch"), rooms=("randscene.shards",))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


ALLOWED = {
    "core": set(),
    "manifests": set(),
    "shards": set(),
    "blender_scripts": set(),
    "train": {"shards"},
    "generator": {"manifests", "shards", "train", "blender_scripts.protocol"},
}


@pytest.mark.parametrize("room", ALLOWED)
def test_dependencies_point_down_only(room):
    for path in (ROOT / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for name in names:
                if name == "bpy" or name.startswith("bpy."):
                    assert room == "blender_scripts", f"{path} imports bpy"
                parts = name.split(".")
                rooms = {*ALLOWED, "cli"} - {"core", room}
                if parts[0] == "randscene" and len(parts) > 1 and parts[1] in rooms:
                    below = ".".join(parts[1:])
                    fits = any(below == able or below.startswith(f"{able}.") for able in ALLOWED[room])
                    parent = any(able.startswith(f"{below}.") for able in ALLOWED[room])
                    assert fits or parent, f"{path} imports {name}"


@pytest.mark.parametrize("room", ["manifests", "generator", "shards", "train"])
def test_no_public_name_is_hidden_by_a_module_of_the_same_name(room):
    package = importlib.import_module(f"randscene.{room}")
    for path in (ROOT / room).glob("*.py"):
        importlib.import_module(f"randscene.{room}.{path.stem}" if path.stem != "__init__" else f"randscene.{room}")
    hidden = [name for name in package.__all__ if isinstance(getattr(package, name), types.ModuleType)]
    assert not hidden
