"""One room of MIDI's 3D-FRONT as samples: pictures and labels from its files, geometry from its meshes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene import seeding
from randscene.errors import AssetError
from randscene.files import sha256_of
from randscene.generator.cameras import intrinsics
from randscene.generator.front3d_axes import Reading, object_ids, overlap, pixel_values, turned
from randscene.generator.front3d_cameras import MAX_VIEWS, RoomView, look_at_point, read_views
from randscene.generator.front3d_images import picture_on_black, read_semantic, resized_labels
from randscene.generator.front3d_layout import Front3dFolder, Room
from randscene.generator.front3d_settings import IMAGE_KINDS, Front3dSettings, ImageKind
from randscene.generator.front3d_surface import SurfaceCloud, read_surface
from randscene.generator.ray_caster import RayScene
from randscene.generator.scene_maker import SceneFailedError
from randscene.generator.view_centric import world_to_view
from randscene.generator.visibility import count_visible
from randscene.generator.voxelization import SceneVoxelizer
from randscene.manifests.asset_mesh import AssetMesh, load_asset_mesh
from randscene.manifests.mesh_part import plain_surface
from randscene.shards.sample_codec import npz_bytes
from randscene.shards.view_sample import SCHEMA_VERSION, ViewSample, encode_depth

CLOUD_SLACK = 0.03
"""How far the box of an object's points may be from the box of its mesh, in shares of the room's largest side: points
were sampled on watertight copies, which are a little thicker."""
_IDENTITY = np.eye(4).tolist()


@dataclass(frozen=True, kw_only=True)
class ImportedRoom:
    """What a room became."""

    samples: Iterator[ViewSample]
    """In order of view number, each made when it is asked for."""
    record: dict[str, Any]
    """The room's line of `rooms.jsonl`."""
    geometry: list[tuple[NDArray[Any], NDArray[Any]]] | None
    """Of the kept instances, (vertices (V, 3) float64 in the room's axes, faces (F, 3) int32); None where views differ
    in what they keep."""
    surfaces: bytes | None
    """Content of `surfaces/{scene:06d}.npz`, if asked for."""


@dataclass(frozen=True, kw_only=True)
class _View:
    """A view that becomes one sample, or one of each kind of picture."""

    view: RoomView
    pictures: dict[ImageKind, NDArray[Any]]
    """(R, R, 3) uint8 on black, by kind."""
    ids: NDArray[Any]
    """(R, R) uint8 of the kept instances, renumbered from 1."""
    depth: NDArray[Any]
    kept: tuple[int, ...]
    """Places of the kept instances among the room's objects, counted from 0."""
    iou: float


@dataclass(frozen=True, kw_only=True)
class _Kept:
    """Geometry of some instances of a room, as all views that keep them use it."""

    vertices: NDArray[Any]
    """(V, 3) float64 of all of them."""
    middle: NDArray[Any]
    """(3,) of their box."""
    voxelizer: SceneVoxelizer

    @classmethod
    def of(cls, meshes: Sequence[AssetMesh]) -> "_Kept":
        vertices = np.concatenate([mesh.vertices for mesh in meshes])
        return cls(
            vertices=vertices,
            middle=(vertices.min(axis=0) + vertices.max(axis=0)) / 2,
            voxelizer=SceneVoxelizer([(mesh.vertices, mesh.faces) for mesh in meshes]),
        )


def load_objects(folder: Front3dFolder, room: Room) -> list[AssetMesh]:
    """The bare geometry of a room's objects, in the order of its furniture list and in the axes of the files.

    Materials are dropped: MIDI's label pictures do not look at them, so holes that only a texture cuts are filled.

    Raises
    ------
    AssetError
        As `load_asset_mesh`; `unsafe_path`; `too_many_objects` if ids cannot tell them apart.
    """
    pixel_values(room.furniture, "position")
    meshes = []
    for name in room.furniture:
        mesh = load_asset_mesh(folder.mesh(room, name), up_axis="Z", reduce_textures=True)
        meshes.append(
            replace(
                mesh,
                surface_of_face=np.zeros(len(mesh.faces), np.int32),
                surfaces=(plain_surface(),),
                uv=np.zeros((len(mesh.faces), 3, 2), np.float32),
                corner_color=None,
            )
        )
    return meshes


def import_room(
    folder: Front3dFolder, room: Room, reading: Reading, settings: Front3dSettings, fingerprint: str
) -> ImportedRoom:
    """The samples of one room; a view in which a kept instance has no visible pixel is not a sample.

    Raises
    ------
    SceneFailedError
        With one of the reasons that `docs/front3d.md` explains, if the room gives no sample.
    """
    try:
        values = pixel_values(room.furniture, reading.numbering)
        views = read_views(folder.meta(room))
    except AssetError as error:
        raise SceneFailedError(error.reason, "cameras", f"{room.room_id}: {error}") from error
    try:
        meshes = [replace(mesh, vertices=turned(mesh.vertices, reading.axes)) for mesh in load_objects(folder, room)]
        hashes = [sha256_of(folder.mesh(room, name)) for name in room.furniture]
    except AssetError as error:
        raise SceneFailedError(error.reason, "load", f"{room.room_id}: {_within(folder, error)}") from error
    source = _Source(folder=folder, room=room, settings=settings, values=values, rays=RayScene(meshes))
    found, left_out, iou = source.labelled(views)
    if not found:
        raise _without_views(room, left_out)
    surfaces = None
    if settings.surfaces:
        try:
            surfaces = _surfaces(folder, room, meshes, reading, settings)
        except AssetError as error:
            raise SceneFailedError(error.reason, "surfaces", f"{room.room_id}: {_within(folder, error)}") from error
    record = {
        "scene": room.scene,
        "room": room.room_id,
        "objects": [{"name": name, "sha256": digest} for name, digest in zip(room.furniture, hashes)],
        "views": {str(_view_number(item.view, kind)): list(item.kept) for item in found for kind in item.pictures},
        "left_out": left_out,
        "iou": round(iou, 4),
    }
    same = len({item.kept for item in found}) == 1 and not settings.skip_small_objects
    geometry = [(meshes[place].vertices, meshes[place].faces) for place in found[0].kept] if same else None
    samples = source.samples(found, meshes, fingerprint)
    return ImportedRoom(samples=samples, record=record, geometry=geometry, surfaces=surfaces)


@dataclass(frozen=True, kw_only=True)
class _Source:
    """A room with all that its views share."""

    folder: Front3dFolder
    room: Room
    settings: Front3dSettings
    values: list[int]
    rays: RayScene

    def labelled(self, views: Sequence[RoomView]) -> tuple[list[_View], list[dict[str, Any]], float]:
        """The views that are samples, those left out with the reason, and the room's agreement.

        Raises SceneFailedError `label_mismatch` if meshes and pictures disagree in most views.
        """
        found: list[_View] = []
        left_out: list[dict[str, Any]] = []
        same = either = judged = 0
        for view in views:
            try:
                semantic = read_semantic(self.folder.image(self.room, "semantic", view.number, "png"))
            except AssetError as error:
                left_out.append(_left_out(view, error.reason, str(error)))
                continue
            resolution = self.settings.resolution
            objects, foreign = object_ids(resized_labels(semantic, resolution), self.values)
            shown, depth = self.rays.ids_and_depth(view.camera, resolution)
            agree, of = overlap(objects, shown, foreign)
            same, either, judged = same + agree, either + of, judged + 1
            iou = agree / of if of else 0.0
            if of and iou < self.settings.min_iou:
                left_out.append(_left_out(view, "label_mismatch", f"meshes and semantic agree to {iou:.2f} only"))
                continue
            counts = count_visible(objects, len(self.values))
            kept = self._kept(counts)
            hidden = [self.room.furniture[place] for place in kept if not counts[place]]
            if hidden or not kept:
                left_out.append(_left_out(view, "hidden_instance", f"{', '.join(hidden) or 'nothing'} shows no pixel"))
                continue
            new = np.zeros(256, np.uint8)
            new[[place + 1 for place in kept]] = np.arange(1, len(kept) + 1)
            pictures, bad = self._pictures(view, semantic, [self.values[place] for place in kept])
            left_out += bad
            if pictures:
                found.append(_View(view=view, pictures=pictures, ids=new[objects], depth=depth, kept=kept, iou=iou))
        pooled = same / either if either else 0.0
        if sum(item["reason"] == "label_mismatch" for item in left_out) > judged / 2:
            raise SceneFailedError(
                "label_mismatch",
                "check",
                f"{self.room.room_id}: meshes and semantic pictures agree to an IoU of {pooled:.2f} only, "
                f"{self.settings.min_iou:.2f} is needed in most views: a camera, mesh or picture is of another room",
            )
        return found, left_out, pooled

    def _pictures(
        self, view: RoomView, semantic: NDArray[Any], values: list[int]
    ) -> tuple[dict[ImageKind, NDArray[Any]], list[dict[str, Any]]]:
        """The pictures of a view that can be read, and the others with the reason."""
        pictures: dict[ImageKind, NDArray[Any]] = {}
        left_out = []
        for kind in self.settings.images:
            try:
                path = self.folder.image(self.room, kind, view.number, "webp")
                pictures[kind] = picture_on_black(path, semantic, values, self.settings.resolution)
            except AssetError as error:
                left_out.append(_left_out(view, error.reason, str(error), kind))
        return pictures, left_out

    def _kept(self, counts: NDArray[Any]) -> tuple[int, ...]:
        """Places of the objects that a view keeps; the room's own random order decides where there are too many."""
        order = seeding.generator(self.settings.seed, "3d-front", self.room.room_id).permutation(len(self.values))
        candidates = order.tolist()
        if self.settings.skip_small_objects:
            least = self.settings.small_image_proportion * self.settings.resolution**2
            candidates = [place for place in candidates if counts[place] > least]
        return tuple(sorted(candidates[: self.settings.max_instances]))

    def samples(self, found: Sequence[_View], meshes: Sequence[AssetMesh], fingerprint: str) -> Iterator[ViewSample]:
        """The samples of labelled views, the views of each kind of picture after those of the one before."""
        shared: dict[tuple[int, ...], _Kept] = {}
        for kind in self.settings.images:
            for item in found:
                if kind not in item.pictures:
                    continue
                if item.kept not in shared:
                    shared[item.kept] = _Kept.of([meshes[place] for place in item.kept])
                yield self._sample(item, kind, shared[item.kept], fingerprint)

    def _sample(self, item: _View, kind: ImageKind, kept: _Kept, fingerprint: str) -> ViewSample:
        settings, camera = self.settings, item.view.camera
        look_at = look_at_point(camera, kept.middle)
        transform = world_to_view(
            np.asarray(camera.camera_to_world),
            np.asarray(look_at),
            kept.vertices,
            frame=settings.frame,
            azimuth_offset_deg=settings.azimuth_offset_deg,
        )
        coords, offsets = kept.voxelizer.view(transform)
        # Pixels at an outline can belong to an object in MIDI's picture and to none in ours: those have no depth.
        depth = np.where(item.ids > 0, item.depth, np.inf).astype(np.float32)
        code, depth_code = encode_depth(depth) if settings.depth else (None, None)
        visible = count_visible(item.ids, len(item.kept))
        instances = []
        for number, place in enumerate(item.kept):
            alone = self.rays.unoccluded_pixels(camera, settings.resolution, place + 1)
            instances.append(
                {
                    "uid": f"3d-front/{self.room.room_id}/{self.room.furniture[place]}",
                    "licence": settings.licence,
                    "attribution": settings.attribution,
                    "visible_pixels": int(visible[number]),
                    "unoccluded_pixels": max(int(visible[number]), alone),
                    "pose": _IDENTITY,
                    "support_parent": None,
                }
            )
        meta = {
            "schema": SCHEMA_VERSION,
            "scene": self.room.scene,
            "view": _view_number(item.view, kind),
            "split": self.room.split,
            "attempt": 0,
            "camera_to_world": camera.camera_to_world,
            "fov_deg": camera.fov_deg,
            "intrinsics": intrinsics(camera.fov_deg, settings.resolution).tolist(),
            "look_at": look_at,
            "frame": settings.frame,
            "azimuth_offset_deg": settings.azimuth_offset_deg,
            "world_to_view": transform.tolist(),
            "instances": instances,
            "engine": f"midi-{kind}",
            "encoder": None,
            "depth": depth_code,
            "fingerprint": fingerprint,
            "source": {
                "dataset": "3D-FRONT",
                "room": self.room.room_id,
                "image": f"{kind}_{item.view.number:04d}.webp",
                "label_iou": round(item.iou, 4),
            },
        }
        return ViewSample(rgb=item.pictures[kind], ids=item.ids, coords=coords, offsets=offsets, meta=meta, depth=code)


def _view_number(view: RoomView, kind: ImageKind) -> int:
    return view.number + MAX_VIEWS * IMAGE_KINDS.index(kind)


def _left_out(view: RoomView, reason: str, message: str, kind: ImageKind = "render") -> dict[str, Any]:
    return {"view": _view_number(view, kind), "reason": reason, "message": message}


def _without_views(room: Room, left_out: Sequence[dict[str, Any]]) -> SceneFailedError:
    """Why a room has no sample: the first fault of its files, which can be mended, or that no view shows everything."""
    for item in left_out:
        if item["reason"] != "hidden_instance":
            return SceneFailedError(item["reason"], "views", f"{room.room_id}: {item['message']}")
    return SceneFailedError("no_valid_view", "views", f"{room.room_id}: no view shows every kept instance")


def _surfaces(
    folder: Front3dFolder, room: Room, meshes: Sequence[AssetMesh], reading: Reading, settings: Front3dSettings
) -> bytes:
    """Points and normals of all objects of a room, in the room's axes, as the bytes of a `.npz`."""
    clouds = [read_surface(folder.surface(room, name)) for name in room.furniture]
    moved = [
        SurfaceCloud(points=turned(cloud.points, reading.axes), normals=turned(cloud.normals, reading.axes))
        for cloud in clouds
    ]
    vertices = np.concatenate([mesh.vertices for mesh in meshes])
    side = float(np.ptp(vertices, axis=0).max())
    for name, mesh, cloud in zip(room.furniture, meshes, moved):
        box = np.stack((cloud.points.min(axis=0), cloud.points.max(axis=0)))
        apart = float(np.abs(box - mesh.bounds).max()) / side
        if apart > CLOUD_SLACK:
            raise AssetError(
                "surface_mismatch", f"the points of {name} are off its mesh by {100 * apart:.0f} % of the room's size"
            )
    count = min([settings.surface_points, *(len(cloud.points) for cloud in moved)])
    chosen = [
        seeding.generator(settings.seed, "3d-front points", room.room_id, place).permutation(len(cloud.points))[:count]
        for place, cloud in enumerate(moved)
    ]
    return npz_bytes(
        {
            "points": np.stack([cloud.points[rows] for cloud, rows in zip(moved, chosen)]).astype(np.float32),
            "normals": np.stack([cloud.normals[rows] for cloud, rows in zip(moved, chosen)]).astype(np.float32),
        }
    )


def _within(folder: Front3dFolder, error: AssetError) -> str:
    """The message without the folder's own path: records must not differ between machines."""
    return str(error).replace(f"{folder.root}/", "")
