"""Pictures of MIDI's rooms: labels as they are, colours on black."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from randscene.errors import AssetError, first_line
from randscene.shards.sample_codec import MemberError, image_array

MAX_SIDE = 8192
MAX_BYTES = 1 << 27


def read_semantic(path: Path) -> NDArray[Any]:
    """The label picture `semantic_0000.png`: (H, H) integer, 0 background.

    Raises
    ------
    AssetError
        `bad_image` if it is not a whole PNG with one channel, `not_square`.
    """
    return _read(path, "PNG", ("L", "P", "1", "I;16", "I;16B", "I")).astype(np.int32)


def picture_on_black(path: Path, semantic: NDArray[Any], values: Sequence[int], resolution: int) -> NDArray[Any]:
    """A rendered view with everything but some objects black.

    The mask is applied before the picture is made smaller, so that outlines blend with black, as they do in views that
    are rendered on it.

    Parameters
    ----------
    path : Path
        WebP, RGB or RGBA.
    semantic : numpy.ndarray
        (S, S) integer labels of the same view.
    values : sequence of int
        Labels of the objects to keep.
    resolution : int

    Returns
    -------
    numpy.ndarray
        (resolution, resolution, 3) uint8 sRGB.

    Raises
    ------
    AssetError
        `bad_image`, `not_square`.
    """
    picture = _read(path, "WEBP", ("RGB", "RGBA"))
    mask = np.isin(resized_labels(semantic, len(picture)), values)
    colour = picture[..., :3]
    if picture.shape[2] == 4:
        colour = ((colour.astype(np.uint16) * picture[..., 3:] + 127) // 255).astype(np.uint8)
    colour = colour * mask[..., None]
    if len(colour) == resolution:
        return colour
    # The mean over a pixel's area keeps black black next to an object; larger pictures have no such mean.
    method = Image.Resampling.BOX if len(colour) > resolution else Image.Resampling.BICUBIC
    return np.array(Image.fromarray(colour).resize((resolution, resolution), method))


def resized_labels(semantic: NDArray[Any], side: int) -> NDArray[Any]:
    """A square label picture at another size: each pixel takes the label at its centre."""
    if len(semantic) == side:
        return semantic
    places = np.minimum(((np.arange(side) + 0.5) * len(semantic) / side).astype(np.int64), len(semantic) - 1)
    return semantic[places[:, None], places[None, :]]


def _read(path: Path, kind: str, modes: tuple[str, ...]) -> NDArray[Any]:
    where = f"{path.parent.parent.name}/{path.parent.name}/{path.name}"
    try:
        if path.stat().st_size > MAX_BYTES:
            raise AssetError("bad_image", f"{where}: is larger than any view")
        picture = image_array(path.read_bytes(), kind=kind, modes=modes)
    except (MemberError, OSError, MemoryError) as error:
        # Not the folder's own path, which an OSError carries: records must not differ between machines.
        why = getattr(error, "strerror", None) or first_line(error)
        raise AssetError("bad_image", f"{where}: {why}") from error
    height, width = picture.shape[:2]
    if height != width:
        raise AssetError("not_square", f"{where}: has {width} x {height} pixels; only square views can be read")
    if height > MAX_SIDE:
        raise AssetError("bad_image", f"{where}: has more pixels than any view")
    return picture
