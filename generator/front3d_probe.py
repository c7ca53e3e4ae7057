"""A first look at a downloaded 3D-FRONT: which axes its files are in, before anything is written."""

import logging
from collections.abc import Sequence

from randscene.errors import AssetError, DatasetError
from randscene.generator.front3d_axes import PROBED_VIEWS, Numbering, Reading, Verdict, agreed, judge, rotation
from randscene.generator.front3d_cameras import read_views
from randscene.generator.front3d_images import read_semantic
from randscene.generator.front3d_layout import Front3dFolder, Room
from randscene.generator.front3d_room import load_objects
from randscene.generator.front3d_settings import Front3dSettings
from randscene.generator.ray_caster import RayScene

log = logging.getLogger(__name__)

PROBED_ROOMS = 5
LOOKED_FOR = 200
"""Rooms that are tried at most before the folder is given up."""


def find_reading(
    folder: Front3dFolder,
    rooms: Sequence[Room],
    settings: Front3dSettings,
    *,
    axes: str | None = None,
    numbering: Numbering | None = None,
) -> tuple[Reading, list[Verdict]]:
    """How the files are to be read, by what some rooms spread over the lists show.

    Parameters
    ----------
    folder : Front3dFolder
    rooms : sequence of Room
    settings : Front3dSettings
    axes, numbering : str, optional
        Take this one as given.

    Returns
    -------
    Reading
    list of Verdict
        Of each room that was looked at.

    Raises
    ------
    DatasetError
        If no room can be read, or none fits together under any reading.
    """
    if axes is not None:
        rotation(axes)
    verdicts: list[Verdict] = []
    problem = ""
    here = [room for room in rooms if _is_here(folder, room)]
    if not here:
        raise DatasetError(f"{folder.root}: none of the {len(rooms)} rooms listed has a meta.json; unpack the archives")
    tried = here[:: max(1, len(here) // LOOKED_FOR)][:LOOKED_FOR]
    # Spread over the list first: its neighbours are rooms of one house.
    stride = max(1, len(tried) // PROBED_ROOMS)
    for room in [room for start in range(stride) for room in tried[start::stride]]:
        if len(verdicts) == PROBED_ROOMS:
            break
        try:
            views = [
                (view, read_semantic(folder.image(room, "semantic", view.number, "png")))
                for view in read_views(folder.meta(room))[:PROBED_VIEWS]
            ]
            rays = RayScene(load_objects(folder, room))
            verdict = judge(
                room.room_id, rays, room.furniture, views, settings.resolution, axes=axes, numbering=numbering
            )
        except AssetError as error:
            problem = problem or f"{room.room_id}: {error}"
            continue
        log.info("%s: axes %s, IoU %.3f", verdict.room_id, verdict.best.axes, verdict.iou)
        verdicts.append(verdict)
    if not verdicts:
        raise DatasetError(f"{folder.root}: none of {len(tried)} rooms can be read; the first: {problem}")
    return agreed(verdicts, settings.min_iou), verdicts


def _is_here(folder: Front3dFolder, room: Room) -> bool:
    try:
        return bool(folder.meta(room))
    except AssetError:
        return False
