"""The order in which people put files with numbers in their names."""

import re
from pathlib import Path


def natural_order(path: Path) -> tuple[list[tuple[int, str]], str]:
    """A key that sorts files by the value of the numbers in their names: `mask_9.png` comes before `mask_10.png`."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if place % 2 else (-1, part) for place, part in enumerate(parts)], path.name
