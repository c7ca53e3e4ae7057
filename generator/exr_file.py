"""Whether an OpenEXR file is whole: some releases of Blender crash on one that was cut short.

The layout is that of the OpenEXR project's "OpenEXR File Layout": magic number, version, attributes, a table with the
place of every chunk, the chunks.
"""

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

LINES = {0: 1, 1: 1, 2: 1, 3: 16, 4: 32, 5: 16, 6: 32, 7: 32, 8: 32, 9: 256}
"""Scan lines in a chunk by the code of the compression: none, RLE, ZIPS, ZIP, PIZ, PXR24, B44, B44A, DWAA, DWAB."""

NOT_SCAN_LINES = 0x200 | 0x800 | 0x1000
"""Bits of the version field: tiles, deep data, several parts."""


def is_whole_exr(handle: BinaryIO) -> bool:
    """Whether all chunks that an OpenEXR file lists lie within it.

    Files of tiles, deep data or several parts are judged by their header alone.

    Parameters
    ----------
    handle : binary file
    """
    size = handle.seek(0, os.SEEK_END)
    handle.seek(0)
    try:
        magic, version = struct.unpack("<4sI", _take(handle, 8))
        if magic != b"\x76\x2f\x31\x01":
            return False
        attributes = dict(_attributes(handle))
        if version & NOT_SCAN_LINES:
            return True
        _, top, _, bottom = struct.unpack("<4i", attributes[b"dataWindow"])
        lines = LINES[attributes[b"compression"][0]]
        chunks = -(-(bottom - top + 1) // lines)
        if not 0 < chunks <= size // 8:
            return False
        places = struct.unpack(f"<{chunks}Q", _take(handle, 8 * chunks))
        # Chunks may be stored from either end of the picture.
        last = max(places)
        if min(places) < handle.tell() or last > size:
            return False
        handle.seek(last + 4)
        (length,) = struct.unpack("<i", _take(handle, 4))
        return 0 <= length <= size - handle.tell()
    except (EOFError, KeyError, IndexError, struct.error):
        return False


def _attributes(handle: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """(name, value) of each attribute of the header."""
    while name := _text(handle):
        _text(handle)  # the type's name
        (length,) = struct.unpack("<i", _take(handle, 4))
        yield name, _take(handle, length)


def _text(handle: BinaryIO) -> bytes:
    """A name of at most 255 characters that ends with a zero."""
    name = bytearray()
    while (character := _take(handle, 1)) != b"\0":
        name += character
        if len(name) > 255:
            raise EOFError
    return bytes(name)


def _take(handle: BinaryIO, count: int) -> bytes:
    data = handle.read(max(count, 0))
    if len(data) != count:
        raise EOFError
    return data
