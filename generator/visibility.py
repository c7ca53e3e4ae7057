"""Which views are samples: those in which every instance has a visible pixel (I-Scene, section 3.2)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from randscene.generator.ray_caster import RayScene
from randscene.generator.recipe import Camera


@dataclass(frozen=True, kw_only=True)
class VisibleView:
    """Labels of a view that shows every instance."""

    view: int
    """Index of the camera in the recipe."""
    ids: np.ndarray
    """(H, W) uint8; 0 is background, i is instance i (1-based)."""
    depth: np.ndarray
    """(H, W) float32, metres along the camera's axis; infinite for background."""
    visible_pixels: np.ndarray
    """(N,) int64, pixels of each instance in `ids`."""
    unoccluded_pixels: np.ndarray
    """(N,) int64, pixels that each instance would have alone in the picture; never below `visible_pixels`."""


def count_visible(ids: np.ndarray, n_instances: int) -> np.ndarray:
    """Pixels of each instance.

    Parameters
    ----------
    ids : numpy.ndarray
        (H, W) uint8.
    n_instances : int

    Returns
    -------
    numpy.ndarray
        (N,) int64, in id order.
    """
    return np.bincount(ids.ravel(), minlength=n_instances + 1)[1 : n_instances + 1]


def shows_all(visible_pixels: np.ndarray, min_pixels: int = 1) -> bool:
    """Whether every instance has at least `min_pixels` visible pixels; `visible_pixels` (N,) integer."""
    return bool((visible_pixels >= min_pixels).all())


def visible_views(rays: RayScene, cameras: Sequence[Camera], resolution: int) -> list[VisibleView]:
    """The views of a scene that show every instance, with their labels, in the order of the cameras.

    Parameters
    ----------
    rays : RayScene
        The placed scene.
    cameras : sequence of Camera
    resolution : int
        Width and height, pixels.
    """
    views = []
    for view, camera in enumerate(cameras):
        ids, depth = rays.ids_and_depth(camera, resolution)
        visible = count_visible(ids, rays.n_instances)
        if not shows_all(visible):
            continue
        alone = [rays.unoccluded_pixels(camera, resolution, i + 1) for i in range(rays.n_instances)]
        views.append(
            VisibleView(
                view=view,
                ids=ids,
                depth=depth,
                visible_pixels=visible,
                unoccluded_pixels=np.maximum(visible, np.asarray(alone, np.int64)),
            )
        )
    return views
