"""Pictures in rows and named columns, on one sheet in the preview page's dark colours."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

PAPER, INK, SOFT = (17, 19, 23), (232, 233, 236), (154, 161, 173)
"""Behind the pictures, words, and lesser words."""


def picture_sheet(
    columns: Sequence[str], rows: Sequence[Sequence[tuple[NDArray[Any], str]]], size: int
) -> NDArray[Any]:
    """Pictures in rows under the columns' names, each with words in its lower left corner.

    Parameters
    ----------
    columns : sequence of str
    rows : sequence of sequences of (picture, words)
        Pictures are (size, size, 3) uint8; a row has as many as there are columns.
    size : int
        Pixels along a side of a picture.

    Returns
    -------
    (H, W, 3) uint8
    """
    gap, letters = max(2, size // 32), max(9, size // 18)
    font, head = ImageFont.load_default(letters), 2 * letters
    canvas = Image.new("RGB", (len(columns) * (size + gap) + gap, head + len(rows) * (size + gap)), PAPER)
    pen = ImageDraw.Draw(canvas)
    for column, name in enumerate(columns):
        pen.text((gap + column * (size + gap), head / 2), name, fill=INK, font=font, anchor="lm")
    for number, row in enumerate(rows):
        for column, (picture, words) in enumerate(row):
            left, top = gap + column * (size + gap), head + number * (size + gap)
            canvas.paste(Image.fromarray(picture), (left, top))
            pen.text((left + gap, top + size - gap), words, fill=SOFT, font=font, anchor="lb")
    return np.asarray(canvas)


def scaled(pixels: NDArray[Any], size: int) -> NDArray[Any]:
    """(size, size, 3) uint8 of a square picture (s, s, 3) uint8."""
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.LANCZOS))
