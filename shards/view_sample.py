"""ViewSample: one view of one scene, the unit that shards hold and training reads."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene import canonical_json
from randscene.errors import DatasetError
from randscene.shards import sample_codec
from randscene.shards.sample_codec import MemberError

SCHEMA_VERSION = 1
RESOLUTION = 64
"""Voxels along a side of the view-centric cube."""
LATENT_SHAPE = (8, 16, 16, 16)
"""One sparse-structure latent: channels, x, y, z."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ViewSample:
    """One view with its labels.

    `meta` (the `json` member) holds: `schema` (int), `scene` (int), `view` (int), `split` (str), `attempt` (int),
    `camera_to_world` (4x4 nested lists, world metres, Blender/OpenGL camera), `fov_deg`, `intrinsics` (3x3, pixels),
    `look_at` (3), `frame` (`yaw`, `full` or `canonical`), `azimuth_offset_deg`, `world_to_view` (4x4, world to the
    view-centric cube [-0.5, 0.5]^3, scale included), `instances` (list in id order of {`uid`, `licence`,
    `attribution`, `visible_pixels`, `unoccluded_pixels`, `pose` 4x4 asset-to-world, `support_parent` id or null}),
    `engine` (`cycles`, `raycast`, ...), `encoder` (null or {`name`, `sha256`}), `depth` (null or {`scale`, `offset`},
    metres = offset + scale * value; 0 = background), `fingerprint` (dataset fingerprint).
    """

    rgb: NDArray[Any]
    """(H, W, 3) uint8, sRGB, on black."""
    ids: NDArray[Any]
    """(H, W) uint8: 0 background, i = instance i (1-based); hard, from pixel-centre rays."""
    coords: NDArray[Any]
    """(V, 3) uint8: surface voxels (x, y, z) of all instances, one after the other, in the 64^3 view-centric cube."""
    offsets: NDArray[Any]
    """(N + 1,) int32: instance i's voxels are `coords[offsets[i - 1]:offsets[i]]`."""
    meta: dict[str, Any]
    depth: NDArray[Any] | None = None
    """(H, W) uint16 or None; see `meta["depth"]`."""
    latents: NDArray[Any] | None = None
    """(N + 1, 8, 16, 16, 16) float16 or None: the scene first, then the instances in id order."""

    @property
    def key(self) -> str:
        """`{scene:06d}_{view:03d}`."""
        return f"{self.meta['scene']:06d}_{self.meta['view']:03d}"

    @property
    def n_instances(self) -> int:
        """Number of instances N; their ids are 1 to N."""
        return len(self.offsets) - 1

    @property
    def world_to_view(self) -> NDArray[Any]:
        """(4, 4) float64: world metres to the view-centric cube, scale included."""
        return np.asarray(self.meta["world_to_view"], np.float64)

    def instance_coords(self, instance: int) -> NDArray[Any]:
        """(V_i, 3) uint8 voxels of instance `instance` (1-based id); `IndexError` if there is none such."""
        if not 0 < instance < len(self.offsets):
            raise self._no_instance(instance)
        return self.coords[self.offsets[instance - 1] : self.offsets[instance]]

    def scene_coords(self) -> NDArray[Any]:
        """(V_s, 3) uint8 voxels of the scene: the union of its instances, sorted lexicographically."""
        x, y, z = self.coords.T.astype(np.intp)
        occupied = np.zeros(RESOLUTION**3, bool)  # marking cells takes a tenth of the time that sorting rows does
        occupied[(x * RESOLUTION + y) * RESOLUTION + z] = True
        cells = np.unravel_index(np.flatnonzero(occupied), (RESOLUTION,) * 3)
        return np.stack(cells, axis=1).astype(np.uint8)

    def instance_rgb(self, instance: int) -> NDArray[Any]:
        """(H, W, 3) uint8: the full frame with all but instance `instance` (1-based id) black; `IndexError` if there is
        none such."""
        if not 0 < instance < len(self.offsets):
            raise self._no_instance(instance)
        return self.rgb * (self.ids == instance)[..., None]

    def _no_instance(self, instance: int) -> IndexError:
        # As `Dataset` says that it has no sample of a number.
        return IndexError(f"sample {self.key} has no instance {instance}: its instances are 1 to {self.n_instances}")


def encode_members(sample: ViewSample, *, webp_quality: int = 95) -> dict[str, bytes]:
    """The bytes of a sample's members, by name: `rgb.webp`, `ids.png`, `voxels.npz`, `json` and, where the sample
    has them, `depth.png` and `latents.npy`. Equal samples give equal bytes.

    Parameters
    ----------
    sample : ViewSample
    webp_quality : int
        1 to 100; 0 stores the picture without loss.

    Raises
    ------
    DatasetError
        If a field does not have the shape, dtype or range that `ViewSample` states.
    """
    _check(sample, f"sample {_key_in(sample.meta)}")
    members = {
        "rgb.webp": sample_codec.webp_bytes(sample.rgb, webp_quality),
        "ids.png": sample_codec.png_bytes(sample.ids),
        "voxels.npz": sample_codec.npz_bytes({"coords": sample.coords, "offsets": sample.offsets}),
        "json": canonical_json.dumps(sample.meta).encode(),
    }
    if sample.depth is not None:
        members["depth.png"] = sample_codec.png_bytes(sample.depth)
    if sample.latents is not None:
        members["latents.npy"] = sample_codec.npy_bytes(sample.latents)
    return members


def decode_sample(members: Mapping[str, bytes], *, where: str = "sample") -> ViewSample:
    """The sample that `members` (name to bytes, as `encode_members` gives them) hold; other members are ignored.

    Parameters
    ----------
    members : mapping of str to bytes
    where : str
        What errors call this sample until its key is known, e.g. `train-000003.tar: 000048_007`.

    Raises
    ------
    DatasetError
        If a member is missing or unreadable, or a field is not what `ViewSample` states. Names sample and field.
    """
    meta = _decode_meta(members, where)
    if where == "sample":
        where = f"sample {_key_in(meta)}"
    name = "rgb.webp"
    try:
        rgb = sample_codec.image_array(members[name], kind="WEBP", modes=("RGB",))
        name = "ids.png"
        ids = sample_codec.image_array(members[name], kind="PNG", modes=("L",))
        name = "voxels.npz"
        voxels = sample_codec.npz_arrays(members[name], ("coords", "offsets"))
        name = "depth.png"
        depth = (
            sample_codec.image_array(members[name], kind="PNG", modes=("I;16", "I;16B", "I"))
            if name in members
            else None
        )
        name = "latents.npy"
        latents = sample_codec.npy_array(members[name]) if name in members else None
    except KeyError as error:
        raise DatasetError(f"{where}: has no member {name}") from error
    except MemberError as error:
        raise DatasetError(f"{where}: {name} {error}") from error
    sample = ViewSample(rgb=rgb, ids=ids, **voxels, meta=meta, depth=depth, latents=latents)
    _check(sample, where)
    return sample


def _decode_meta(members: Mapping[str, bytes], where: str) -> dict[str, Any]:
    if "json" not in members:
        raise DatasetError(f"{where}: has no member json")
    try:
        meta = json.loads(members["json"])
    except ValueError as error:
        raise DatasetError(f"{where}: json is not readable: {error}") from error
    if not isinstance(meta, dict):
        raise DatasetError(f"{where}: json is not an object")
    return meta


def _key_in(meta: Mapping[str, Any]) -> str:
    scene, view = meta.get("scene"), meta.get("view")
    return f"{scene:06d}_{view:03d}" if isinstance(scene, int) and isinstance(view, int) else "without key"


def _check(sample: ViewSample, where: str) -> None:
    """Raise a DatasetError that names the first field which is not what `ViewSample` states."""

    def must(holds: bool, field: str, message: str) -> None:
        if not holds:
            raise DatasetError(f"{where}: {field} {message}")

    meta = sample.meta
    must(
        meta.get("schema") == SCHEMA_VERSION,
        "schema",
        f"is {meta.get('schema')!r}, this release reads {SCHEMA_VERSION}: use the release that wrote it",
    )
    for field in ("scene", "view"):
        value = meta.get(field)
        must(isinstance(value, int) and value >= 0, field, f"is {value!r}, not a number from 0")
    must(isinstance(meta.get("instances"), list), "instances", "is not a list")
    count = len(meta["instances"])
    must(1 <= count <= 255, "instances", f"has {count} entries, not 1 to 255")
    for number, item in enumerate(meta["instances"], start=1):
        said = item if isinstance(item, dict) else {}
        must(
            isinstance(said.get("uid"), str) and isinstance(said.get("visible_pixels"), int | np.integer),
            "instances",
            f"do not say the uid and visible_pixels of instance {number}",
        )

    _array(sample.rgb, "rgb", np.uint8, (None, None, 3), where)
    size = sample.rgb.shape[:2]
    _array(sample.ids, "ids", np.uint8, size, where)
    must(int(sample.ids.max(initial=0)) <= count, "ids", f"has an id above {count}, the number of instances")
    _array(sample.coords, "coords", np.uint8, (None, 3), where)
    must(int(sample.coords.max(initial=0)) < RESOLUTION, "coords", f"has a voxel outside the {RESOLUTION}^3 cube")
    _array(sample.offsets, "offsets", np.int32, (count + 1,), where)
    ends = sample.offsets
    must(
        bool(ends[0] == 0 and ends[-1] == len(sample.coords) and (np.diff(ends) >= 0).all()),
        "offsets",
        f"does not rise from 0 to the {len(sample.coords)} voxels",
    )
    must(
        (sample.depth is None) == (meta.get("depth") is None),
        "depth",
        "is in only one of the json and the members",
    )
    if sample.depth is not None:
        _array(sample.depth, "depth", np.uint16, size, where)
    if sample.latents is not None:
        _array(sample.latents, "latents", np.float16, (count + 1, *LATENT_SHAPE), where)
        must(bool(np.isfinite(sample.latents).all()), "latents", "has a value that is not finite")


def encode_depth(depth: NDArray[Any]) -> tuple[NDArray[Any], dict[str, float]]:
    """A depth picture as a sample holds it.

    Parameters
    ----------
    depth : np.ndarray
        (H, W) float: camera z in metres, `inf` where nothing was hit.

    Returns
    -------
    (np.ndarray, dict)
        (H, W) uint16, 0 where nothing was hit, and the `scale` and `offset`, metres, that undo it:
        `code * scale + offset`.
    """
    hit = np.isfinite(depth)
    near, far = (float(depth[hit].min()), float(depth[hit].max())) if hit.any() else (0.0, 1.0)
    # 1..65535 spans [near, far]; a scene of zero depth range still needs a scale above zero.
    scale = max(far - near, 1e-6) / 65534
    code = np.zeros(depth.shape, np.uint16)
    code[hit] = np.round((depth[hit].astype(np.float64) - near) / scale).astype(np.uint16) + 1
    return code, {"scale": scale, "offset": near - scale}


def _array(array: NDArray[Any], field: str, dtype: type, shape: tuple[int | None, ...], where: str) -> None:
    fits = array.ndim == len(shape) and all(want in (None, have) for want, have in zip(shape, array.shape))
    if array.dtype != dtype or not fits:
        wanted = ", ".join("*" if side is None else str(side) for side in shape)
        raise DatasetError(f"{where}: {field} is {array.shape} {array.dtype}, not ({wanted}) {np.dtype(dtype).name}")
