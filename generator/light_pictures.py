"""The user's own light: a folder of equirectangular HDR pictures, listed and named by content.

Planning reads no pixels: which pictures there are follows from their bytes alone, and a recipe's bits from no decoder.
The renderer decodes a picture and scales its exposure.
"""

import functools
import os
from dataclasses import dataclass
from pathlib import Path

from randscene.errors import SpecError
from randscene.files import sha256_of
from randscene.generator.exr_file import is_whole_exr
from randscene.generator.recipe import Background
from randscene.manifests.spec_sections import LightSpec

SUFFIXES = frozenset({".hdr", ".exr"})
"""Radiance RGBE and OpenEXR."""

RADIANCE = b"#?"
"""How a Radiance file begins."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """One file of the folder."""

    sha256: str
    name: str
    path: Path


def light_pictures(rules: LightSpec) -> tuple[Picture, ...]:
    """The pictures that a spec's lights draw from, sorted by SHA-256, copies left out; none unless the kind is `hdri`.

    Taken are the `.hdr` and `.exr` files in the folder itself; hidden files and other endings are passed over.

    Raises
    ------
    SpecError
        If the folder is missing or holds no picture, or one is a link, not a file, or not a whole one of its format.
    """
    if rules.kind != "hdri" or rules.folder is None:
        return ()
    folder = Path(rules.folder)
    try:
        names = sorted(
            name for name in os.listdir(folder) if Path(name).suffix.lower() in SUFFIXES and not name.startswith(".")
        )
        found = {picture.sha256: picture for picture in (_picture(folder / name) for name in reversed(names))}
    except OSError as error:
        raise SpecError(
            f"lights.folder: {error.filename or folder} cannot be read: {error.strerror or error}"
        ) from error
    if not found:
        raise SpecError(f"lights.folder: {folder} holds no .hdr or .exr picture; name a folder that does")
    return tuple(found[sha256] for sha256 in sorted(found))


def picture_paths(background: Background, rules: LightSpec) -> dict[str, str]:
    """Where the picture that lights a scene lies: its SHA-256 to its absolute path; empty for a scene without one.

    Raises
    ------
    SpecError
        If the folder no longer holds it: the file was changed, renamed to another ending or removed since planning.
    """
    if background.image is None:
        return {}
    for picture in light_pictures(rules):
        if picture.sha256 == background.image.sha256:
            return {picture.sha256: str(picture.path)}
    raise SpecError(
        f"lights.folder: {rules.folder} no longer holds the picture that the scene was planned with, "
        f"{background.image.name} (sha256 {background.image.sha256[:12]}): put it back"
    )


def _picture(path: Path) -> Picture:
    if path.is_symlink() or not path.is_file():
        raise SpecError(f"lights.folder: {path} is not a plain file; put the picture itself there")
    kind = path.suffix[1:].lower()
    with open(path, "rb") as handle:
        if not (is_whole_exr(handle) if kind == "exr" else handle.read(len(RADIANCE)) == RADIANCE):
            raise SpecError(f"lights.folder: {path} is not a whole {kind} picture; remove it or fetch it again")
    status = path.stat()
    return Picture(sha256=_sha256(path, status.st_size, status.st_mtime_ns), name=path.name, path=path)


@functools.lru_cache(maxsize=65536)
def _sha256(path: Path, size: int, changed_ns: int) -> str:
    """Hashed again only when the file's size or time changes."""
    return sha256_of(path)
