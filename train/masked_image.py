"""A picture with instance masks from anywhere: what prediction needs of a view, without a dataset."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from randscene.errors import PredictionError
from randscene.train.natural_order import natural_order

MAX_INSTANCES = 255


@dataclass(frozen=True, kw_only=True)
class MaskedPhoto:
    """An image and its instances."""

    rgb: NDArray[Any]
    """(H, W, 3) uint8 sRGB."""
    ids: NDArray[Any]
    """(H, W) uint8: 0 background, i = instance i (1-based, without gaps)."""

    @property
    def n_instances(self) -> int:
        return int(self.ids.max())


def read_masked_image(image: Path, masks: Path) -> MaskedPhoto:
    """Read a picture and its masks.

    Parameters
    ----------
    image : Path
        Any format that Pillow reads, turned as its EXIF orientation says, of 8 or 16 bits; transparency is ignored, the
        masks cut the objects.
    masks : Path
        Either one greyscale or palette PNG of instance ids (0 background; other ids in rising order become 1, 2, ...),
        or a folder of PNG masks, one an instance in the order of their names (numbers in names count as numbers);
        a pixel belongs to an instance where its mask, of 8 or 16 bits, is brighter than half. Where masks overlap the
        later one wins.

    Returns
    -------
    MaskedPhoto

    Raises
    ------
    PredictionError
        If a file is missing or not an image, its pixels are neither of 8 nor of 16 bits, the sizes differ, or an
        instance has no pixel.
    """
    rgb = _colours(image)
    height, width = rgb.shape[:2]
    ids = _ids_of_folder(masks, (height, width)) if masks.is_dir() else _ids_of_file(masks)
    if ids.shape != rgb.shape[:2]:
        raise PredictionError(
            f"{masks} is {ids.shape[1]} x {ids.shape[0]} but {image} is {rgb.shape[1]} x {rgb.shape[0]}: "
            "masks and image must have one size"
        )
    return MaskedPhoto(rgb=rgb, ids=ids)


def folder_name(image: Path) -> str:
    """A name for an image's prediction folder: its own without suffix; letters, digits, `_`, `-` and inner dots."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", image.stem).strip(".") or "image"


def _colours(path: Path) -> NDArray[Any]:
    """(H, W, 3) uint8 of a picture."""
    picture = _open(path)
    if picture.mode.startswith("I") or picture.mode == "F":
        # A conversion would take all above 255 for white, and numbers of a range that nothing tells for black.
        values = np.asarray(picture)
        if picture.mode == "F" or not 0 <= values.min() <= values.max() < 2**16:
            raise PredictionError(f"{path} has pixels of 32 bits: save the picture with 8 or 16 bits a channel")
        return np.repeat((values >> 8).astype(np.uint8)[..., None], 3, axis=2)
    return np.asarray(picture.convert("RGB"))


def _ids_of_file(path: Path) -> NDArray[Any]:
    picture = _open(path)
    if picture.mode not in ("L", "P", "I", "I;16", "1"):
        raise PredictionError(f"{path} has mode {picture.mode}: an id map must be a greyscale or palette PNG")
    values = np.asarray(picture).astype(np.int64)
    found = np.unique(values[values > 0])
    if not 1 <= len(found) <= MAX_INSTANCES:
        raise PredictionError(f"{path} has {len(found)} instance ids; 1 to {MAX_INSTANCES} are possible")
    return np.where(values > 0, np.searchsorted(found, values) + 1, 0).astype(np.uint8)


def _ids_of_folder(folder: Path, size: tuple[int, int]) -> NDArray[Any]:
    paths = sorted((path for path in folder.iterdir() if path.suffix.lower() == ".png"), key=natural_order)
    if not 1 <= len(paths) <= MAX_INSTANCES:
        raise PredictionError(f"{folder} holds {len(paths)} PNG masks; 1 to {MAX_INSTANCES} are possible")
    ids = np.zeros(size, np.uint8)
    for instance, path in enumerate(paths, start=1):
        mask = _is_bright(_open(path))
        if mask.shape != size:
            raise PredictionError(f"{path} is {mask.shape[1]} x {mask.shape[0]}, the image {size[1]} x {size[0]}")
        ids[mask] = instance
    visible = np.bincount(ids.ravel(), minlength=len(paths) + 1)[1:]
    if not visible.all():
        raise PredictionError(f"{paths[int(np.argmin(visible))]} leaves no pixel to its instance: remove or mend it")
    return ids


def _is_bright(mask: Image.Image) -> NDArray[Any]:
    """(H, W) bool: where a mask is brighter than half of its range."""
    if mask.mode.startswith("I"):  # 16 bits, of which a conversion to 8 would take all above 255 for white
        return np.asarray(mask).astype(np.int64) > 2**15 - 1
    return np.asarray(mask.convert("L")) > 127


def _open(path: Path) -> Image.Image:
    """A picture as viewers show it."""
    try:
        with Image.open(path) as picture:
            picture.load()
            return ImageOps.exif_transpose(picture)
    except FileNotFoundError as error:
        raise PredictionError(f"{path} does not exist") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise PredictionError(f"{path} is not a readable image: {error}") from error
