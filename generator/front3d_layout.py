"""The folder that MIDI's authors publish 3D-FRONT in: where its files lie, which rooms it lists, how they are split.

The layout is that of the dataset card of `huanngzh/3D-Front`, as MIDI's own loader (`midi/data/multi_object.py`) reads
it. What comes out of its JSON files is used as names of single files and folders only, never as a path.
"""

import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from randscene import canonical_json
from randscene.errors import AssetError, DatasetError

PREFIXES = ("3D-FRONT", "3D-FRONT-TEST")
"""Folders are called `{prefix}-RENDER`, `{prefix}-SCENE` and `{prefix}-SURFACE`."""
LISTS = ("midi_room_ids.json", "midi_test_room_ids.json", "valid_room_ids.json")
"""Room lists, the preferred one first. The furniture list beside each has `furniture` in place of `room`."""
TEST_ROOMS = 1000
"""MIDI tests on the last so many rooms of `midi_room_ids.json` and trains on the others (`test_indices: [-1000, null]`
in `configs/test/3dfront.yaml`, and its README)."""
MAX_LIST_BYTES = 1 << 28
_NEEDED = ("RENDER", "SCENE")
_SPLIT = re.compile(r"([a-z][a-z0-9_]*)=(-?\d+)?:(-?\d+)?")


@dataclass(frozen=True, kw_only=True, slots=True)
class Room:
    """One line of the lists."""

    scene: int
    """Its place in the room list, counted from 0: the scene index of its samples."""
    split: str
    room_id: str
    """`house/room`, as the list has it."""
    furniture: tuple[str, ...]
    """Names of its objects, without ending, in the order of the furniture list."""


class Front3dFolder:
    """The three trees of a downloaded folder.

    Parameters
    ----------
    root : path
        What holds `3D-FRONT-RENDER` and `3D-FRONT-SCENE`, or their `TEST` siblings.
    test : bool
        Look for the `TEST` trees first.

    Raises
    ------
    DatasetError
        If one of the two is not there.
    """

    def __init__(self, root: str | Path, *, test: bool = False) -> None:
        self.root = Path(root).absolute()
        if not self.root.is_dir():
            raise DatasetError(f"{root} is not a folder: name the one that holds 3D-FRONT-RENDER and 3D-FRONT-SCENE")
        prefixes = PREFIXES[::-1] if test else PREFIXES
        whole = [prefix for prefix in prefixes if all((self.root / f"{prefix}-{kind}").is_dir() for kind in _NEEDED)]
        if not whole:
            raise DatasetError(
                f"{self.root} has no {prefixes[0]}-RENDER and {prefixes[0]}-SCENE: "
                "name the folder into which MIDI's archives were unpacked"
            )
        self._render, self._scene = (self.root / f"{whole[0]}-{kind}" for kind in _NEEDED)
        surface = self.root / f"{whole[0]}-SURFACE"
        self._surface = surface if surface.is_dir() else None

    def meta(self, room: Room) -> Path:
        """The cameras of a room."""
        return self._existing(self._render, room, "meta.json")

    def image(self, room: Room, kind: str, view: int, ending: str) -> Path:
        """A picture of a room: `render`, `rerender` (`webp`) or `semantic` (`png`)."""
        return self._existing(self._render, room, f"{kind}_{view:04d}.{ending}")

    def mesh(self, room: Room, name: str) -> Path:
        """The mesh of one object of a room."""
        return self._existing(self._scene, room, f"{name}.glb")

    def surface(self, room: Room, name: str) -> Path:
        """The point cloud of one object of a room. Some copies of the test set keep it beside the mesh."""
        if self._surface is not None:
            return self._existing(self._surface, room, f"{name}.npy")
        return self._existing(self._scene, room, f"{name}.npy")

    def _existing(self, tree: Path, room: Room, file: str) -> Path:
        """Raises AssetError `unsafe_path`, `missing_file` or `unreadable`."""
        parts = room.room_id.split("/")
        if len(parts) != 2 or not all(map(_is_name, [*parts, file])):
            raise AssetError("unsafe_path", f"{room.room_id!r}, {file!r}: not the names of a house, a room and a file")
        path = tree / parts[0] / parts[1] / file
        try:
            found = path.is_file()
        except OSError as error:
            raise AssetError("unreadable", f"{path.relative_to(self.root)}: {error.strerror}") from error
        if not found:
            raise AssetError("missing_file", f"{path.relative_to(self.root)}: no such file")
        return path


def _is_name(text: str) -> bool:
    """Whether a text from outside names one file or folder right where it is looked for."""
    # What is printable can be encoded: JSON may hold halves of surrogate pairs, which cannot.
    plain = text.isprintable() and text not in (".", "..") and not set(text) & {*"/\\:"}
    return plain and 0 < len(text.encode()) <= 255


def find_lists(root: str | Path, ids: str | None = None, *, test: bool = False) -> tuple[Path, Path]:
    """The room list and the furniture list beside it.

    Parameters
    ----------
    root : path
        The downloaded folder.
    ids : str, optional
        Name of the room list in that folder, or a path; by default the first of `LISTS` that is there.
    test : bool
        Look for the list of the test set first.

    Raises
    ------
    DatasetError
        If there is none, or the furniture list is missing.
    """
    folder = Path(root)
    if ids is None:
        names = sorted(LISTS, key=lambda name: "test" not in name) if test else LISTS
        rooms = next((folder / name for name in names if (folder / name).is_file()), None)
        if rooms is None:
            raise DatasetError(f"{folder} has none of the lists {', '.join(LISTS)}: download one, or name one by --ids")
    else:
        rooms = folder / ids if (folder / ids).is_file() else Path(ids)
        if not rooms.is_file():
            raise DatasetError(f"{ids}: no such list of rooms, neither in {folder} nor by itself")
    furniture = rooms.with_name(rooms.name.replace("room", "furniture"))
    if furniture == rooms or not furniture.is_file():
        raise DatasetError(f"{rooms} needs the furniture list beside it: {furniture.name} is not there")
    return rooms, furniture


def read_lists(rooms: Path, furniture: Path) -> list[tuple[str, tuple[str, ...]]]:
    """The rooms and the objects of each, in the order of the lists.

    Raises
    ------
    DatasetError
        If a list is not readable, not of the documented form, or the two are not of one length.
    """
    names, objects = _json_list(rooms), _json_list(furniture)
    if len(names) != len(objects):
        raise DatasetError(
            f"{rooms} has {len(names)} rooms, {furniture} has {len(objects)}: they do not belong together"
        )
    if not all(isinstance(name, str) for name in names):
        raise DatasetError(f"{rooms} is not a list of room ids")
    for items in objects:
        if not (isinstance(items, list) and all(isinstance(item, str) for item in items)):
            raise DatasetError(f"{furniture} is not a list of lists of object names")
    if len(set(names)) != len(names):
        raise DatasetError(f"{rooms} lists a room twice")
    for name, items in zip(names, objects):
        try:
            "".join([name, *items]).encode()
        except UnicodeEncodeError as error:
            raise DatasetError(f"{rooms} or {furniture}: {name!a} has a name that is not Unicode text") from error
    return [(name, tuple(items)) for name, items in zip(names, objects)]


def _json_list(path: Path) -> list[Any]:
    try:
        if path.stat().st_size > MAX_LIST_BYTES:
            raise DatasetError(f"{path} is larger than any list of rooms")
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: not readable as JSON: {error}") from error
    if not isinstance(content, list) or not content:
        raise DatasetError(f"{path} is not a list of rooms")
    return content


def default_splits(list_name: str, count: int) -> dict[str, tuple[int, int]]:
    """MIDI's own split of a list: name of each split to (first, end) in the list."""
    if list_name == LISTS[0] and count > TEST_ROOMS:
        return {"train": (0, count - TEST_ROOMS), "test": (count - TEST_ROOMS, count)}
    return {"test" if "test" in list_name else "train": (0, count)}


def parse_splits(texts: list[str], count: int) -> dict[str, tuple[int, int]]:
    """Splits written as slices of a list of `count` rooms, `name=first:end`; either end may be left out or negative.

    Raises
    ------
    DatasetError
        If one is malformed or empty, or two overlap.
    """
    found: dict[str, tuple[int, int]] = {}
    for text in texts:
        match = _SPLIT.fullmatch(text)
        if not match or match[1] in found:
            raise DatasetError(f"--split {text}: write each split once as name=first:end, e.g. test=-1000:")
        first, end, _ = slice(*(int(part) if part else None for part in match.groups()[1:])).indices(count)
        if first >= end:
            raise DatasetError(f"--split {text}: holds none of the {count} rooms")
        found[match[1]] = (first, end)
    ordered = sorted(found.items(), key=lambda item: item[1])
    for (name, (_, end)), (other, (first, _)) in itertools.pairwise(ordered):
        if first < end:
            raise DatasetError(f"splits {name} and {other} share rooms")
    return dict(ordered)


def split_rooms(
    listed: list[tuple[str, tuple[str, ...]]], splits: Mapping[str, tuple[int, int]]
) -> dict[str, list[Room]]:
    """The rooms of each split."""
    return {
        split: [
            Room(scene=scene, split=split, room_id=listed[scene][0], furniture=listed[scene][1])
            for scene in range(first, end)
        ]
        for split, (first, end) in splits.items()
    }


def lists_sha256(listed: list[tuple[str, tuple[str, ...]]]) -> str:
    """SHA-256 of what the lists say."""
    return canonical_json.digest(listed)
