"""The unit of an import: some rooms of a split, from MIDI's files to one committed shard. Only counts travel."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from randscene import seeding
from randscene.generator.dataset_folder import DatasetFolder
from randscene.generator.front3d_axes import Reading
from randscene.generator.front3d_layout import Front3dFolder, Room
from randscene.generator.front3d_room import ImportedRoom, import_room
from randscene.generator.front3d_settings import Front3dSettings
from randscene.generator.scene_glb import scene_glb
from randscene.generator.scene_maker import SceneFailedError
from randscene.shards.commit import commit_shard
from randscene.shards.store import open_store
from randscene.shards.view_sample import encode_members

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class RoomBlock:
    """The rooms of one shard: a fixed run of a split."""

    split: str
    number: int
    rooms: tuple[Room, ...]

    @property
    def name(self) -> str:
        """File name of the shard, without its ending."""
        return f"{self.split}-{self.number:06d}"


def room_blocks(rooms: Mapping[str, Sequence[Room]], size: int) -> list[RoomBlock]:
    """Cut every split into blocks of `size` rooms; only a split's last one may be shorter."""
    return [
        RoomBlock(split=split, number=start // size, rooms=tuple(members[start : start + size]))
        for split, members in rooms.items()
        for start in range(0, len(members), size)
    ]


class BlockActor:
    """Imports blocks, one at a time. Ray turns this class into an actor; it also works without Ray.

    Parameters
    ----------
    folder : Front3dFolder
    reading : Reading
    settings : Front3dSettings
    out : str
        Dataset folder or URL.
    fingerprint : str
    token : str
        Names the import; empty for who writes alone.
    """

    def __init__(
        self,
        folder: Front3dFolder,
        reading: Reading,
        settings: Front3dSettings,
        out: str,
        fingerprint: str,
        token: str = "",
    ) -> None:
        self._folder = folder
        self._reading = reading
        self._settings = settings
        self._store = open_store(out)
        self._turn = DatasetFolder(self._store, token).turn
        self._fingerprint = fingerprint

    def pack(self, block: RoomBlock, dead: frozenset[int] = frozenset()) -> int:
        """Import the rooms of a block and commit their shard, views in a seeded order; returns the number of samples.

        Rooms that give none are named in the shard's header, with the reason. `dead` are scenes of rooms that killed
        the processes that read them: they are not touched.

        Raises
        ------
        RandsceneError
            If the disk is full or not writable, or the import that this actor belongs to is over.
        """
        members: list[tuple[str, dict[str, bytes]]] = []
        records, failures = list[dict[str, Any]](), list[dict[str, Any]]()
        for room in block.rooms:
            try:
                if room.scene in dead:
                    raise SceneFailedError("worker_died", "import", f"{room.room_id}: its import killed the process")
                made = self._import(room)
                members += [
                    (sample.key, encode_members(sample, webp_quality=self._settings.webp_quality))
                    for sample in made.samples
                ]
                records.append(made.record)
                with self._turn():
                    self._write_beside(room, made)
            except SceneFailedError as error:
                failures.append(
                    {"scene": room.scene, "stage": error.stage, "reason": error.reason, "message": str(error)}
                )
        order = seeding.generator(self._settings.seed, "shard", block.split, block.number).permutation(len(members))
        header = {
            "split": block.split,
            "block": block.number,
            "scenes": [room.scene for room in block.rooms],
            "attempts": {str(record["scene"]): 0 for record in records},
            "given_up": {str(failure["scene"]): failure["reason"] for failure in failures},
            "fingerprint": self._fingerprint,
            "rooms": records,
            "failures": failures,
        }
        with self._turn():
            commit_shard(self._store, f"shards/{block.name}.tar", (members[place] for place in order), header=header)
        return len(members)

    def survives(self, room: Room) -> None:
        """Do all the work of one room and keep nothing of it: to find out which one of a block kills its process."""
        try:
            for sample in self._import(room).samples:
                encode_members(sample, webp_quality=self._settings.webp_quality)
        except SceneFailedError:
            return

    def _import(self, room: Room) -> ImportedRoom:
        try:
            return import_room(self._folder, room, self._reading, self._settings, self._fingerprint)
        except OSError as error:
            raise SceneFailedError("unreadable", "import", f"{room.room_id}: {error.strerror or error}") from error

    def _write_beside(self, room: Room, made: ImportedRoom) -> None:
        """The files of a room that are no samples, before the shard that commits it."""
        splits = self._settings.scene_glb
        if made.geometry is not None and (room.split != "train" if splits is None else room.split in splits):
            self._store.write(f"scenes/{room.scene:06d}.glb", scene_glb(made.geometry))
        if made.surfaces is not None:
            self._store.write(f"surfaces/{room.scene:06d}.npz", made.surfaces)
