"""ViewSample: one view of one scene, the unit that shards hold and training reads."""

from dataclasses import dataclass
from typing import Any

import numpy as np

SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
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

    rgb: np.ndarray
    """(H, W, 3) uint8, sRGB, on black."""
    ids: np.ndarray
    """(H, W) uint8: 0 background, i = instance i (1-based); hard, from pixel-centre rays."""
    coords: np.ndarray
    """(V, 3) uint8: surface voxels (x, y, z) of all instances, one after the other, in the 64^3 view-centric cube."""
    offsets: np.ndarray
    """(N + 1,) int32: instance i's voxels are `coords[offsets[i - 1]:offsets[i]]`."""
    meta: dict[str, Any]
    depth: np.ndarray | None = None
    """(H, W) uint16 or None; see `meta["depth"]`."""
    latents: np.ndarray | None = None
    """(N + 1, 8, 16, 16, 16) float16 or None: the scene first, then the instances in id order."""

    @property
    def key(self) -> str:
        """`{scene:06d}_{view:03d}`."""
        return f"{self.meta['scene']:06d}_{self.meta['view']:03d}"

    @property
    def n_instances(self) -> int:
        return len(self.offsets) - 1

    def instance_coords(self, instance: int) -> np.ndarray:
        """(V_i, 3) uint8 voxels of instance `instance` (1-based id)."""
        return self.coords[self.offsets[instance - 1] : self.offsets[instance]]

    def scene_coords(self) -> np.ndarray:
        """(V_s, 3) uint8 voxels of the scene: the union of its instances, sorted lexicographically."""
        return np.unique(self.coords, axis=0)
