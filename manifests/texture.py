"""Pictures on meshes: which kinds can be read, how large they may be, and their pixels.

Only kinds that Blender reads as well are accepted, so that a texture that is here is also in the rendered view.
"""

import io
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from randscene.errors import AssetError

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_TEXTURE_PIXELS = 1 << 27
"""Most pixels of a texture: 16384 x 8192."""
_KINDS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "TGA")
_FOREIGN = {
    b"\xabKTX": "KTX",
    b"sB": "Basis Universal",
    b"DDS ": "DDS",
    b"GIF8": "GIF",
    b"8BPS": "Photoshop",
    b"v/1\x01": "OpenEXR",
    b"#?RADIANCE": "Radiance HDR",
}
"""First bytes of kinds that are known but not read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TextureRules:
    """How textures are read."""

    max_pixels: int = MAX_TEXTURE_PIXELS
    reduced: bool = False
    """Decode every picture, to know that it can be, but keep one pixel, its mean."""


def open_picture(data: bytes | memoryview, name: str, rules: TextureRules) -> "Image":
    """A picture whose header has been read and found good; its pixels are not decoded yet.

    Raises
    ------
    AssetError
        `unsupported_texture` for kinds that are not read, `too_large`, `bad_texture`.
    """
    from PIL import Image, UnidentifiedImageError

    head = bytes(data[:16])
    kind = next((kind for mark, kind in _FOREIGN.items() if head.startswith(mark)), None)
    if head[4:12] == b"ftypavif":
        kind = "AVIF"
    if kind is not None:
        raise AssetError("unsupported_texture", f"the texture {name} is a {kind} picture, which is not supported")
    kinds = _KINDS if name.lower().endswith(".tga") else _KINDS[:-1]  # TGA has no mark of its own
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(data), formats=kinds)
    except Image.DecompressionBombError as error:
        raise AssetError("too_large", f"the texture {name} has more pixels than can be handled") from error
    except UnidentifiedImageError as error:
        raise AssetError("bad_texture", f"the texture {name} is no picture of a known kind") from error
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise AssetError("bad_texture", f"the texture {name} cannot be read: {error}") from error
    width, height = picture.size
    if width * height > rules.max_pixels:
        raise AssetError("too_large", f"the texture {name} has {width} x {height} pixels; {rules.max_pixels:,} may be")
    return picture


def decoded(picture: "Image", name: str) -> "Image":
    """The picture as 8-bit RGBA.

    Raises
    ------
    AssetError
        `bad_texture` if its data is broken.
    """
    from PIL import Image

    try:
        if picture.mode.startswith("I"):  # 16 bits a pixel; converting would clip them, not scale them
            grey = np.asarray(picture).astype(np.int64)
            picture = Image.fromarray(np.clip(grey >> 8, 0, 255).astype(np.uint8))
        return picture.convert("RGBA")
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise AssetError("bad_texture", f"the texture {name} cannot be read: {error}") from error


def pixels(picture: "Image", name: str, rules: TextureRules) -> NDArray[np.uint8]:
    """(H, W, 4) uint8 RGBA, row 0 at the top; (1, 1, 4) if the rules ask for the mean."""
    rgba = decoded(picture, name)
    if rules.reduced:
        return np.rint(channel_means(rgba, np.arange(256.0))).astype(np.uint8).reshape(1, 1, 4)
    return np.array(rgba, dtype=np.uint8)


def channel_means(rgba: "Image", value_of: NDArray[Any]) -> NDArray[np.float64]:
    """(4,) float64: mean of each channel of an 8-bit picture, each level counted as `value_of[level]`."""
    counts = np.asarray(rgba.histogram(), dtype=np.float64).reshape(4, 256)
    means: NDArray[np.float64] = counts @ value_of / counts.sum(axis=1)
    return means
