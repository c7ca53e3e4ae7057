"""Which views are samples: those in which every instance has a visible pixel (I-Scene, section 3.2)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from randscene.generator.ray_caster import RayScene
from randscene.generator.recipe import Camera

FIRST_LOOK = 64
"""Pixels along a picture's side at which a first look at a view is taken."""


@dataclass(frozen=True, kw_only=True)
class VisibleView:
    """Labels of a view."""

    view: int
    """Index of the camera in the recipe."""
    ids: NDArray[Any]
    """(H, W) uint8; 0 is background, i is instance i (1-based)."""
    depth: NDArray[Any]
    """(H, W) float32, metres along the camera's axis; infinite for background."""
    visible_pixels: NDArray[Any]
    """(N,) int64, pixels of each instance in `ids`."""
    unoccluded_pixels: NDArray[Any]
    """(N,) int64, pixels that each instance would have alone in the picture; never below `visible_pixels`."""


def count_visible(ids: NDArray[Any], n_instances: int) -> NDArray[Any]:
    """Pixels of each instance.

    Parameters
    ----------
    ids : numpy.ndarray
        uint8, of any shape.
    n_instances : int

    Returns
    -------
    numpy.ndarray
        (N,) int64, in id order.
    """
    return np.bincount(ids.ravel(), minlength=n_instances + 1)[1 : n_instances + 1]


def keepable_views(rays: RayScene, cameras: Sequence[Camera], resolution: int) -> list[int]:
    """The views of a scene that show every instance, found at a fraction of the cost of labelling all of them.

    The verdict on each view is that of its full picture: what shows at a few of the picture's own pixels shows in the
    picture, and what does not is looked for at every pixel that it could cover.

    Parameters
    ----------
    rays : RayScene
        The placed scene.
    cameras : sequence of Camera
    resolution : int
        Width and height, pixels.

    Returns
    -------
    list of int
        Indices into `cameras`, ascending.
    """
    return [view for view, camera in enumerate(cameras) if _shows_all(rays, camera, resolution)]


def _shows_all(rays: RayScene, camera: Camera, resolution: int) -> bool:
    step = max(1, resolution // FIRST_LOOK)
    seen = count_visible(rays.ids_inside(camera, resolution, step=step), rays.n_instances) > 0
    while not seen.all():
        instance = int(np.argmin(seen)) + 1
        around = rays.ids_inside(camera, resolution, instance=instance)
        seen |= count_visible(around, rays.n_instances) > 0
        if not seen[instance - 1]:
            return False
    return True


def label_view(rays: RayScene, cameras: Sequence[Camera], view: int, resolution: int) -> VisibleView:
    """Labels of one view of a scene.

    Parameters
    ----------
    rays : RayScene
        The placed scene.
    cameras : sequence of Camera
    view : int
        Index into `cameras`.
    resolution : int
        Width and height, pixels.
    """
    camera = cameras[view]
    ids, depth = rays.ids_and_depth(camera, resolution)
    visible = count_visible(ids, rays.n_instances)
    alone = [rays.unoccluded_pixels(camera, resolution, i + 1) for i in range(rays.n_instances)]
    return VisibleView(
        view=view,
        ids=ids,
        depth=depth,
        visible_pixels=visible,
        unoccluded_pixels=np.maximum(visible, np.asarray(alone, np.int64)),
    )
