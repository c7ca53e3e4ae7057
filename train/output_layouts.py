"""How other methods write their scenes: which files, one geometry an instance in which order, in which frame.

What a method's public code or paper states is in `LAYOUTS`, with its source in `docs/evaluation.md`. What it does not
state is None there and has to be given by the user: nothing is guessed from the geometry.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from randscene.errors import AssetError, PredictionError, SpecError
from randscene.train.natural_order import natural_order
from randscene.train.prediction_reader import SAMPLE_KEY
from randscene.train.triangle_mesh import count_glb_geometries, glb_header

UpAxis = Literal["Y", "Z"]
UP_AXES: tuple[UpAxis, ...] = ("Y", "Z")
Frame = Literal["view", "world", "camera", "free", "heading"]
"""What a file's coordinates mean.

* `view`: the view-centric cube [-0.5, 0.5]^3 of the truth's view.
* `world`: the truth's own world, in its units.
* `camera`: the view's camera, OpenCV's axes (x right, y down, z forward), in the units of the truth's world. The up
  axis follows from the camera.
* `free`: upright and otherwise anywhere. The scene's box is centred and scaled, alike in all directions, to fill the
  cube; which way the scene looks is left to the protocol's alignment.
* `heading`: the same, but the scene is first turned about the vertical to the truth's heading, which is searched (see
  `heading_search`).
"""
FRAMES: tuple[Frame, ...] = ("view", "world", "camera", "free", "heading")
Match = Literal["id", "hungarian"]
"""How predicted instances find the true ones.

* `id`: by their number or, in layouts without numbers, by their order, which is that of the masks.
* `hungarian`: by shape and place: the assignment of least total Chamfer distance after the scene's alignment.
"""
MATCHES: tuple[Match, ...] = ("id", "hungarian")
RANDSCENE = "randscene"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What is known of one method's output."""

    name: str
    single: bool
    """A scene may be one file `KEY.glb`, a geometry an instance."""
    inside: str | None
    """Pattern of a scene's files below the folder `KEY`; None where it has no folder."""
    joint: bool = False
    """The file in the folder, too, holds all instances."""
    number: re.Pattern[str] | None = None
    """Of a file's name; its first group is the instance's number. Files that it does not fit are not the layout's."""
    first: int = 1
    """The number that the method gives to the first instance."""
    ordered: bool
    """Instances have no numbers: their order tells, so that none may be absent."""
    match: Match
    """By default."""
    up_axis: UpAxis | None
    """Up in the files; None where the record does not say, or the frame makes it meaningless."""
    frame: Frame | None
    ignored: tuple[str, ...] = ()
    """Names of files that repeat the whole scene."""


LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout(
            name="midi",
            single=True,
            inside="output.glb",
            joint=True,
            ordered=True,
            match="id",
            up_axis="Y",
            frame="heading",
        ),
        Layout(name="scenegen", single=True, inside=None, ordered=True, match="id", up_axis="Y", frame="heading"),
        Layout(
            name="partcrafter",
            single=False,
            inside="part_*.glb",
            number=re.compile(r"part_(\d+)\.glb"),
            first=0,
            ordered=True,
            match="hungarian",
            up_axis="Y",
            frame="heading",
        ),
        Layout(
            name="gen3dsr",
            single=False,
            inside="reconstruction/*.glb",
            number=re.compile(r"(\d+)(?:_.*)?\.glb"),
            first=0,
            ordered=False,
            match="hungarian",
            up_axis=None,
            frame="camera",
            ignored=("full_scene.glb",),
        ),
        Layout(
            name="iscene",
            single=False,
            inside="instance_*",
            number=re.compile(r"instance_(\d+)\.(?:glb|ply|obj)"),
            ordered=False,
            match="id",
            up_axis="Y",
            frame="view",
        ),
        Layout(name="glb", single=True, inside="*.glb", ordered=True, match="id", up_axis=None, frame=None),
    )
}


@dataclass(frozen=True, kw_only=True)
class PredictionReading:
    """How a folder of predictions is to be read: a layout, and everything that it leaves open."""

    layout: str = RANDSCENE
    match: Match = "id"
    up_axis: UpAxis | None = None
    """None under `randscene`, whose files say it, and in the frame `camera`."""
    frame: Frame | None = None
    """None under `randscene`."""
    scale: float = 1.0
    """What the coordinates are multiplied by in the frame `view`: 0.5 for a method that fills [-1, 1]."""
    plain_up_axis: UpAxis | None = None
    """Up in files that are no GLB (PLY, OBJ), whose format does not say."""


OWN = PredictionReading()
"""What `randscene predict` writes, matched by id."""


def prediction_reading(
    layout: str = RANDSCENE,
    *,
    match: str | None = None,
    up_axis: str | None = None,
    frame: str | None = None,
    scale: float | None = None,
) -> PredictionReading:
    """How to read predictions of this layout, with what the user states in place of the layout's defaults.

    Raises
    ------
    SpecError
        If a word is unknown, something has to be stated that is not, or is stated that the layout has no use for.
    """
    if layout != RANDSCENE and layout not in LAYOUTS:
        raise SpecError(f"unknown layout {layout!r}; known: {', '.join([RANDSCENE, *LAYOUTS])}")
    matching = cast("Match | None", _one_of("match", match, MATCHES))
    up = cast("UpAxis | None", _one_of("up axis", up_axis, UP_AXES))
    axes = cast("Frame | None", _one_of("frame", frame, FRAMES))
    if scale is not None and not 0 < scale < float("inf"):
        raise SpecError(f"a scale of {scale} is no length; give what the coordinates are to be multiplied by")
    if layout == RANDSCENE:
        if up or axes or scale is not None:
            raise SpecError("randscene's predictions state their frame themselves; leave out up axis, frame and scale")
        return PredictionReading(match=matching or "id")
    known = LAYOUTS[layout]
    axes = axes or known.frame
    if axes is None:
        raise SpecError(f"layout {layout} does not say which frame its files are in; give --frame {'|'.join(FRAMES)}")
    if scale is not None and axes != "view":
        raise SpecError(f"--scale is for the frame view; in the frame {axes} it would change nothing or be wrong")
    if axes == "camera":
        if up:
            raise SpecError("the frame camera has OpenCV's axes; leave out the up axis, the camera tells it")
        return PredictionReading(layout=layout, match=matching or known.match, frame=axes)
    if up is None and known.up_axis is None:
        raise SpecError(f"layout {layout} does not say which axis is up in its files; give --up-axis Y or Z")
    return PredictionReading(
        layout=layout,
        match=matching or known.match,
        up_axis=up or known.up_axis,
        frame=axes,
        scale=1.0 if scale is None else scale,
        plain_up_axis=up,
    )


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Where one predicted instance is."""

    number: int
    """Its id, 1-based, or its place."""
    path: Path
    place: int | None
    """Which of the file's geometries, counted from 0; None if the whole file is the instance."""


def layout_keys(root: Path, layout: Layout, *, depth: int = 1) -> list[str]:
    """The keys of the scenes in a folder, sorted; folders named like a sample count even if they hold nothing.

    Parameters
    ----------
    root : Path
    layout : Layout
    depth : int
        2 where keys are `house/room`.

    Raises
    ------
    PredictionError
        If the folder is absent or holds no scene, or a scene is there as a file and as a folder.
    """
    if not root.is_dir():
        raise PredictionError(
            f"{root} is no folder of predictions; give the folder that {layout.name} wrote its scenes to"
        )
    keys: list[str] = []
    for prefix, folder in _parents(root, depth):
        for entry in sorted(folder.iterdir()):
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                if SAMPLE_KEY.fullmatch(entry.name) or any(True for _ in _files(entry, layout)):
                    keys.append(prefix + entry.name)
            elif layout.single and entry.suffix == ".glb":
                keys.append(prefix + entry.stem)
    if twice := sorted(key for key, number in Counter(keys).items() if number > 1):
        raise PredictionError(f"{root} holds {twice[0]} both as a file and as a folder; remove one of them")
    if not keys:
        form = " or ".join(
            [*(["KEY.glb"] if layout.single else []), *([f"KEY/{layout.inside}"] if layout.inside else [])]
        )
        raise PredictionError(f"{root} holds no scene in the layout {layout.name} ({form})")
    return sorted(keys)


def find_pieces(root: Path, key: str, layout: Layout) -> list[Piece]:
    """The instances of one scene, by number; reads no geometry.

    Raises
    ------
    PredictionError
        If a file is cut off or not what its name says, leads out of its folder, or two have one number.
    """
    single = root / f"{key}.glb"
    if layout.single and (single.is_file() or single.is_symlink()):
        files, joint = [single], True
    else:
        files, joint = list(_files(root / key, layout)), layout.joint
    for path in files:
        check_file(root, path)
    try:
        if joint:
            # One file at most: `_files` finds one name.
            return [
                Piece(number=place + 1, path=path, place=place)
                for path in files
                for place in range(count_glb_geometries(path))
            ]
    except AssetError as error:
        raise PredictionError(f"prediction {key}: {error}") from error
    pieces = []
    for place, path in enumerate(sorted(files, key=natural_order)):
        found = layout.number.fullmatch(path.name) if layout.number else None
        number = int(found.group(1)) - layout.first + 1 if found else place + 1
        pieces.append(Piece(number=number, path=path, place=None))
    numbers = [piece.number for piece in pieces]
    if twice := sorted({number for number in numbers if numbers.count(number) > 1}):
        names = [piece.path.name for piece in pieces if piece.number == twice[0]]
        raise PredictionError(f"{root / key} holds one instance twice, as {' and '.join(names)}; remove one of them")
    return sorted(pieces, key=lambda piece: piece.number)


def _files(folder: Path, layout: Layout) -> Iterator[Path]:
    """A scene's files in its folder, in no special order."""
    if layout.inside is not None:
        # A plain name finds no link that leads nowhere, which must not pass for nothing.
        plain = folder / layout.inside
        for path in [plain] if plain.is_symlink() else folder.glob(layout.inside):
            fits = layout.number is None or layout.number.fullmatch(path.name)
            if fits and path.name not in layout.ignored and not path.name.startswith("."):
                yield path


def _parents(root: Path, depth: int) -> Iterator[tuple[str, Path]]:
    """The folders in which scenes lie, and what comes before the scene's name in its key."""
    if depth == 1:
        yield "", root
        return
    for entry in sorted(root.iterdir()):
        if entry.is_dir() and not entry.name.startswith("."):
            yield f"{entry.name}/", entry


def check_file(root: Path, path: Path) -> None:
    """Refuse a file of a folder of predictions that is a link, is not there, or is no GLB though it is named so.

    Raises
    ------
    PredictionError
    """
    if path.resolve() != root.resolve() / path.relative_to(root):
        raise PredictionError(f"{path} is a link or lies behind one; put the file itself into the folder")
    if not path.is_file():
        raise PredictionError(f"{path} is no file; remove it or run the method again")
    if path.suffix == ".glb":
        try:
            glb_header(path)
        except AssetError as error:
            raise PredictionError(str(error)) from error


def _one_of(what: str, word: str | None, known: Sequence[str]) -> str | None:
    if word is not None and word not in known:
        raise SpecError(f"unknown {what} {word!r}; known: {', '.join(known)}")
    return word
