"""What an import of 3D-FRONT can be told, and whose work it is."""

import math
from dataclasses import dataclass
from typing import Literal

from randscene.errors import DatasetError
from randscene.generator.view_centric import FRAMES

ImageKind = Literal["render", "rerender"]
IMAGE_KINDS: tuple[ImageKind, ...] = ("render", "rerender")

MIN_IOU = 0.9
"""Agreement of meshes and semantic pictures below which a room is not believed."""
LICENCE = "CC-BY-NC-4.0 AND LicenseRef-3D-FRONT-Terms-of-Use"
"""CC-BY-NC-4.0 is the licence of MIDI's release; houses and furniture stay under the terms of use of 3D-FRONT, which
SPDX does not list: for research, not for commercial use, to be passed on with the data."""
ATTRIBUTION = (
    "3D-FRONT and 3D-FUTURE by Alibaba (Fu et al., ICCV 2021 and IJCV 2021); processed and rendered by the authors of "
    "MIDI (Huang et al., CVPR 2025), https://huggingface.co/datasets/huanngzh/3D-Front"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Front3dSettings:
    """Everything that decides what a room becomes; defaults are MIDI's or the paper's.

    Raises
    ------
    DatasetError
        If a value is out of range.
    """

    name: str = "3d-front"
    images: tuple[ImageKind, ...] = ("render",)
    """`render`: MIDI's renderings, views 0 to 10; `rerender`: the same views redrawn by an image model, numbered from
    100. MIDI trains on both."""
    resolution: int = 512
    """Side of pictures and labels, pixels (`height`, `width` in MIDI's `configs/test/3dfront.yaml`)."""
    max_instances: int | None = 7
    """A room of more objects keeps so many, drawn once for all its views (`max_num_instances`; MIDI draws anew each
    time). None keeps all."""
    skip_small_objects: bool = False
    """Leave an object out of those views in which it shows too little, instead of the view (`skip_small_object`)."""
    small_image_proportion: float = 0.001
    """Too little, with `skip_small_objects`: no more than this share of the picture (`configs/test/3dfront.yaml`)."""
    min_iou: float = MIN_IOU
    depth: bool = False
    surfaces: bool = False
    """Also read the point clouds, compare them with the meshes, and write them to `surfaces/`."""
    surface_points: int = 20_480
    """Points of each object in `surfaces/` (`num_surface_samples_per_object`)."""
    scene_glb: tuple[str, ...] | None = None
    """Splits whose true geometry is written to `scenes/`; None: all but `train`."""
    frame: str = "yaw"
    azimuth_offset_deg: float = 0.0
    webp_quality: int = 95
    rooms_per_shard: int = 32
    seed: int = 0
    """Of the order of views in a shard, and of what is drawn."""
    licence: str = LICENCE
    attribution: str = ATTRIBUTION

    def __post_init__(self) -> None:
        _require(bool(self.name) and self.name.isprintable(), "the name is empty or not printable")
        _require(bool(self.images) and len(set(self.images)) == len(self.images), "name each kind of picture once")
        _require(set(self.images) <= set(IMAGE_KINDS), f"kinds of pictures are {' and '.join(IMAGE_KINDS)}")
        _require(16 <= self.resolution <= 4096, "the resolution must lie between 16 and 4096")
        _require(self.max_instances is None or 1 <= self.max_instances <= 255, "keep between 1 and 255 instances")
        _require(0 <= self.small_image_proportion < 1, "the small-image proportion must lie in [0, 1)")
        _require(0 < self.min_iou <= 1, "the least IoU must lie in (0, 1]")
        _require(self.surface_points >= 1, "at least one surface point is needed")
        _require(self.frame in FRAMES, f"the frame must be one of {', '.join(FRAMES)}")
        _require(math.isfinite(self.azimuth_offset_deg), "the azimuth offset must be a finite number")
        _require(0 <= self.webp_quality <= 100, "the WebP quality must lie between 0 and 100")
        _require(self.rooms_per_shard >= 1, "a shard needs at least one room")
        _require(self.seed >= 0, "the seed must not be negative")
        _require(bool(self.licence.strip()) and bool(self.attribution.strip()), "licence and credit must be stated")


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise DatasetError(f"import-3dfront: {message}")
