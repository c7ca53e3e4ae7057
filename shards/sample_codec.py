"""Arrays to the bytes of a sample's members and back: equal arrays give equal bytes, and nothing is ever unpickled.

The bytes are a function of the arrays and of the versions of libwebp and zlib that Pillow and Python carry.
"""

import io
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_UNREADABLE = (
    *(OSError, ValueError, SyntaxError, EOFError, tokenize.TokenError),
    *(zipfile.BadZipFile, zlib.error, Image.DecompressionBombError),
)
"""What Pillow, zipfile and NumPy raise on bytes that are not what they should be."""


class MemberError(Exception):
    """Bytes that do not hold the array that they should; the message continues the name of the member."""


def webp_bytes(image: NDArray[Any], quality: int) -> bytes:
    """(H, W, 3) uint8 sRGB as WebP: lossy at `quality` 1 to 100, lossless at 0."""
    buffer = io.BytesIO()
    settings = {"lossless": True, "quality": 75} if quality == 0 else {"quality": quality}
    Image.fromarray(image).save(buffer, "WEBP", method=4, **settings)
    return buffer.getvalue()


def png_bytes(image: NDArray[Any]) -> bytes:
    """(H, W) uint8 or uint16 as a greyscale PNG of 8 or 16 bits."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def image_array(data: bytes, *, kind: str, modes: tuple[str, ...]) -> NDArray[Any]:
    """The pixels of a WebP or PNG member.

    Parameters
    ----------
    data : bytes
    kind : str
        `WEBP` or `PNG`; another format is refused.
    modes : tuple of str
        Pillow modes that are allowed, e.g. `("RGB",)`.

    Raises
    ------
    MemberError
        If the bytes are not a whole image of that kind and mode.
    """
    try:
        with Image.open(io.BytesIO(data), formats=(kind,)) as image:
            if image.mode not in modes:
                raise MemberError(f"has pixels of mode {image.mode}, not {' or '.join(modes)}")
            array = np.array(image)  # a copy that may be written to, as torch wants it
    except _UNREADABLE as error:
        raise MemberError(f"is not a readable {kind} image") from error
    return array.astype(np.uint16) if image.mode.startswith("I") else array


def npy_bytes(array: NDArray[Any], *, order: Literal["C", "F"] = "C") -> bytes:
    """An array in NumPy's `.npy` format, version 1.0, in C or Fortran order whatever its own order is."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asarray(array, order=order), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def npy_array(data: bytes) -> NDArray[Any]:
    """The array of a `.npy` member.

    Raises
    ------
    MemberError
        If the bytes are not a whole array, or hold Python objects.
    """
    buffer = io.BytesIO(data)
    try:
        array = np.lib.format.read_array(buffer, allow_pickle=False)
    except _UNREADABLE as error:
        raise MemberError("is not a readable .npy array") from error
    if buffer.read(1):
        raise MemberError("has bytes after the end of its array")
    return array


def npz_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Named arrays as a compressed `.npz`, readable by `numpy.load`.

    Arrays are stored column by column (Fortran order): sorted coordinates then compress to a tenth of their size.
    Written here, not by `numpy.savez_compressed`, so that time stamps, file modes and the order of the entries are
    fixed on every platform and with every NumPy.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name in sorted(arrays):
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, npy_bytes(arrays[name], order="F"))
    return buffer.getvalue()


def npz_arrays(data: bytes, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """The arrays of a `.npz` member, which must be exactly those called `names`.

    Raises
    ------
    MemberError
        If the bytes are not such an archive, or an array is missing, additional or holds Python objects.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            found = sorted(archive.namelist())
            if found != sorted(f"{name}.npy" for name in names):
                raise MemberError(f"holds {found}, not {sorted(names)}")
            return {name: np.ascontiguousarray(npy_array(archive.read(f"{name}.npy"))) for name in names}
    except (*_UNREADABLE, NotImplementedError, RuntimeError) as error:
        raise MemberError("is not a readable .npz archive") from error
