"""MIDI's 3D-FRONT test rooms as published: object meshes, Y-up, and Blender cameras, Z-up, of one frame a room.

What comes out of JSON files is used as names of single files and folders only, never as a path; the point clouds beside
the meshes are pickles and are not opened.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.errors import DatasetError
from randscene.train.file_truth import FileTruth, chosen_keys, file_truth
from randscene.train.output_layouts import Piece

SCENES, RENDERS = "3D-FRONT-TEST-SCENE", "3D-FRONT-TEST-RENDER"
ROOMS, FURNITURE = "midi_test_room_ids.json", "midi_test_furniture_ids.json"
VIEW = 0
"""MIDI's evaluation shows its model this view of each room."""
MAX_JSON_BYTES = 1 << 28


def midi_truths(dataset: Path, keys: Sequence[str] | None) -> list[FileTruth]:
    """The rooms of MIDI's test set, by `house/room`.

    Parameters
    ----------
    dataset : Path
        Folder with `3D-FRONT-TEST-SCENE` and `3D-FRONT-TEST-RENDER`, and the two lists where they are at hand.
    keys : sequence of str, optional
        Only these rooms, in this order; all by default.

    Raises
    ------
    DatasetError
        If a tree, a list, a camera or an object is missing or broken.
    """
    for name in (SCENES, RENDERS):
        if not (dataset / name).is_dir():
            raise DatasetError(
                f"{dataset} has no {name}: give the folder into which MIDI's test archives were unpacked"
            )
    listed = _midi_lists(dataset)
    every = list(listed) if listed else _midi_folders(dataset)
    truths = []
    for key in chosen_keys(dataset, every, keys):
        house, room = _room_parts(key)
        folder = dataset / SCENES / house / room
        names = listed.get(key) or _unlisted(folder, room)
        paths = [folder / f"{_plain(name)}.glb" for name in names]
        if absent := [path for path in paths if not path.is_file()]:
            raise DatasetError(f"ground truth of {key}: {absent[0].relative_to(dataset)} is missing")
        pieces = [Piece(number=number, path=path, place=None) for number, path in enumerate(paths, start=1)]
        camera = _midi_camera(dataset / RENDERS / house / room / "meta.json", key)
        truths.append(file_truth(key, pieces, "Y", camera))
    return truths


def _midi_lists(dataset: Path) -> dict[str, list[str]]:
    """The objects of each listed room, in the order of the masks; an empty list where only rooms are listed."""
    if not (dataset / ROOMS).is_file():
        return {}
    rooms = _json(dataset / ROOMS)
    if not isinstance(rooms, list) or not rooms or not all(isinstance(room, str) for room in rooms):
        raise DatasetError(f"{dataset / ROOMS} is not a list of rooms")
    if not (dataset / FURNITURE).is_file():
        return {room: [] for room in rooms}
    furniture = _json(dataset / FURNITURE)
    if (
        not isinstance(furniture, list)
        or len(furniture) != len(rooms)
        or not all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in furniture)
    ):
        raise DatasetError(f"{dataset / FURNITURE} is not a list of object names for each of {len(rooms)} rooms")
    if len(set(rooms)) != len(rooms):
        raise DatasetError(f"{dataset / ROOMS} lists a room twice")
    return dict(zip(rooms, furniture, strict=True))


def _midi_folders(dataset: Path) -> list[str]:
    root = dataset / SCENES
    found = sorted(path for path in root.glob("*/*") if path.is_dir() and not path.name.startswith("."))
    if not found:
        raise DatasetError(f"{root} holds no house/room folder")
    return [f"{path.parent.name}/{path.name}" for path in found]


def _unlisted(folder: Path, room: str) -> list[str]:
    """A room's objects without a list: its GLBs but those of the whole room, by the number that ends their names."""
    names = [path.stem for path in folder.glob("*.glb") if path.stem not in (room, f"{room}_full")]
    ends = {name: re.search(r"_(\d+)$", name) for name in names}
    if odd := sorted(name for name, end in ends.items() if end is None):
        raise DatasetError(f"{folder}: {odd[0]}.glb does not end in a number, and {FURNITURE} is not there to order it")
    numbers = {name: int(end.group(1)) for name, end in ends.items() if end is not None}
    if len(set(numbers.values())) != len(numbers):
        raise DatasetError(f"{folder}: two objects end in one number, and {FURNITURE} is not there to order them")
    return sorted(names, key=lambda name: numbers[name])


def _midi_camera(path: Path, key: str) -> NDArray[Any]:
    try:
        places = _json(path)["locations"]
        matrices = [place["transform_matrix"] for place in places if int(place["index"]) == VIEW]
        matrix = np.asarray(matrices[0], dtype=np.float64)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise DatasetError(f"ground truth of {key}: {path.name} has no camera {VIEW:04d}: {error!r}") from error
    turn = matrix[:3, :3] if matrix.shape == (4, 4) else np.zeros((3, 3))
    if not np.isfinite(matrix).all() or not np.allclose(turn.T @ turn, np.eye(3), atol=1e-3) or np.linalg.det(turn) < 0:
        raise DatasetError(f"ground truth of {key}: camera {VIEW:04d} in {path.name} is no rotation and position")
    return matrix


def _room_parts(key: str) -> tuple[str, str]:
    parts = key.split("/")
    if len(parts) != 2:
        raise DatasetError(f"{key!r} is not the name of a house and a room")
    return _plain(parts[0]), _plain(parts[1])


def _plain(name: str) -> str:
    """`name`, if it names one file or folder right where it is looked for."""
    if not name or name in (".", "..") or not name.isprintable() or set(name) & {*"/\\:"}:
        raise DatasetError(f"{name!r} is not the name of a file or folder")
    return name


def _json(path: Path) -> Any:
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise DatasetError(f"{path} is larger than any list of rooms")
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error
