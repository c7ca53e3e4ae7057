"""AssetMesh: the triangles and surfaces of one asset file, in the asset frame (Z up)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from randscene.errors import AssetError
from randscene.manifests.asset_record import UpAxis
from randscene.manifests.mesh_part import AlphaMode, MeshPart, Surface
from randscene.manifests.texture import MAX_TEXTURE_PIXELS, TextureRules

__all__ = ["AlphaMode", "AssetMesh", "Surface", "load_asset_mesh"]

MESH_SUFFIXES = (".glb", ".gltf", ".obj", ".ply", ".stl")
"""File types that can be loaded."""
CONVERTED_SUFFIXES = (".fbx",)
"""File types that Blender first writes anew as `.glb`."""
SOURCE_SUFFIXES = (*MESH_SUFFIXES, *CONVERTED_SUFFIXES)
"""File types that a lock can be built from."""
MAX_FACES = 5_000_000
"""Most triangles of an asset."""
THINNEST = 1e-6
"""A mesh whose second largest extent is below this share of the largest, or its area below this share of the largest
extent squared, is a line rather than a surface."""
SIZES = (1e-9, 1e9)
"""Range of the largest extent, in the file's units; 32-bit arithmetic of renderers fails far outside."""
STEPS = 256
"""Steps that the file's 32-bit coordinates must resolve along the largest extent."""


@dataclass(frozen=True, kw_only=True, eq=False)
class AssetMesh:
    """Triangles of a whole file: scene-graph transforms applied, instanced nodes repeated, duplicates kept.

    Every vertex belongs to at least one triangle, so that the vertices' box is the box of what can be seen.
    """

    vertices: NDArray[np.float64]
    """(V, 3) float64, asset frame: right-handed, Z up, the file's own units."""
    faces: NDArray[np.int32]
    """(F, 3) int32, counter-clockwise seen from outside."""
    surface_of_face: NDArray[np.int32]
    """(F,) int32, index into `surfaces`."""
    surfaces: tuple[Surface, ...]
    uv: NDArray[np.float32]
    """(F, 3, 2) float32 per face corner, glTF convention: (0, 0) is the texture's top left, v points down.
    Zeros where the surface has no texture."""
    corner_color: NDArray[np.float32] | None
    """(F, 3, 4) float32 per face corner, linear RGBA; None where the file has none."""

    @property
    def bounds(self) -> NDArray[np.float64]:
        """(2, 3) float64: lower and upper corner of the axis-aligned box, asset frame, own units."""
        return np.stack((self.vertices.min(axis=0), self.vertices.max(axis=0)))

    @property
    def has_texture(self) -> bool:
        """Whether any surface has a base-colour texture."""
        return any(surface.texture is not None for surface in self.surfaces)


def load_asset_mesh(
    path: str | Path,
    up_axis: UpAxis = "Y",
    *,
    max_faces: int = MAX_FACES,
    max_texture_pixels: int = MAX_TEXTURE_PIXELS,
    reduce_textures: bool = False,
) -> AssetMesh:
    """Read a mesh file (`.glb`, `.gltf`, `.obj`, `.ply`, `.stl`) as one AssetMesh.

    Parameters
    ----------
    path : str or Path
    up_axis : {"Y", "Z"}
        Up direction of the file. `Y` (any glTF) is converted by (x, y, z) -> (x, -z, y).
    max_faces : int
        Most triangles that it may have.
    max_texture_pixels : int
        Most pixels that one of its textures may have.
    reduce_textures : bool
        Decode textures, but keep only one pixel of each, its mean: for those who want the geometry alone.

    Raises
    ------
    AssetError
        With one of the reasons that `docs/assets.md` explains: `unsupported_format`, `missing_file`, `unsafe_path`,
        `unreadable`, `malformed`, `bad_index`, `bad_buffer`, `bad_draco`, `bad_texture`, `needs_draco`,
        `needs_meshopt`, `unsupported_extension`, `unsupported_texture`, `no_positions`, `empty`, `non_finite`,
        `degenerate`, `too_far` or `too_large`.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in MESH_SUFFIXES:
        hint = f"; {suffix} files are converted when a lock is built" if suffix in CONVERTED_SUFFIXES else ""
        raise AssetError("unsupported_format", f"{path}: only {', '.join(MESH_SUFFIXES)} files can be read{hint}")
    if not path.is_file():
        raise AssetError("missing_file", f"{path}: no such file")
    rules = TextureRules(max_pixels=max_texture_pixels, reduced=reduce_textures)
    try:
        return _joined(_parts(path, max_faces, rules), up_axis)
    except AssetError as error:
        raise AssetError(error.reason, f"{path}: {_one_line(str(error).removeprefix(f'{path}: '))}") from error
    except (MemoryError, ImportError):
        raise
    except OSError as error:
        raise AssetError("unreadable", f"{path}: {error.strerror or error}") from error
    except Exception as error:  # a file may hold anything at all where a reader expects numbers, lists or names
        raise AssetError("unreadable", f"{path}: {type(error).__name__}: {_one_line(str(error))}") from error


def _parts(path: Path, max_faces: int, rules: TextureRules) -> list[MeshPart]:
    suffix = path.suffix.lower()
    if suffix in (".glb", ".gltf"):
        from randscene.manifests.gltf_mesh import gltf_parts

        return gltf_parts(path, max_faces=max_faces, textures=rules)
    if suffix == ".obj":
        from randscene.manifests.wavefront import obj_parts

        parts = obj_parts(path, textures=rules)
    elif suffix == ".ply":
        from randscene.manifests.ply import ply_parts

        parts = ply_parts(path)
    else:
        from randscene.manifests.stl import stl_parts

        parts = stl_parts(path)
    faces = sum(len(part.faces) for part in parts)
    if faces > max_faces:
        raise AssetError("too_large", f"it has {faces:,} triangles; {max_faces:,} are allowed")
    return parts


def _joined(parts: Sequence[MeshPart], up_axis: UpAxis) -> AssetMesh:
    parts = [part for part in map(_without_lines, parts) if len(part.faces)]
    if not parts:
        raise AssetError("empty", "it holds no triangle")
    offsets = np.cumsum([0, *(len(part.vertices) for part in parts)])
    vertices = np.concatenate([part.vertices for part in parts])
    faces = np.concatenate([part.faces + offset for part, offset in zip(parts, offsets)])
    used = np.zeros(len(vertices), np.bool_)
    used[faces] = True
    faces = (np.cumsum(used) - 1)[faces]
    vertices = vertices[used]
    if not np.isfinite(vertices).all():
        raise AssetError("non_finite", "it holds vertices that are not finite numbers")
    if up_axis == "Y":
        vertices = np.stack((vertices[:, 0], -vertices[:, 2], vertices[:, 1]), axis=1)
    _check_shape(vertices, faces, max(part.step for part in parts))
    uv = np.concatenate([np.zeros((len(p.faces), 3, 2), np.float32) if p.uv is None else p.uv for p in parts])
    if not np.isfinite(uv).all():
        raise AssetError("non_finite", "it holds texture coordinates that are not finite numbers")
    color = None
    if any(part.corner_color is not None for part in parts):
        color = np.concatenate(
            [np.ones((len(p.faces), 3, 4), np.float32) if p.corner_color is None else p.corner_color for p in parts]
        )
    surfaces = list({id(part.surface): part.surface for part in parts}.values())
    index = {id(surface): i for i, surface in enumerate(surfaces)}
    surface_of_part = np.array([index[id(part.surface)] for part in parts], dtype=np.int32)
    return AssetMesh(
        vertices=vertices,
        faces=faces.astype(np.int32),
        surface_of_face=np.repeat(surface_of_part, [len(part.faces) for part in parts]),
        surfaces=tuple(surfaces),
        uv=uv,
        corner_color=color,
    )


def _without_lines(part: MeshPart) -> MeshPart:
    """Leave out triangles that use a vertex twice: nothing of them can be seen, and Blender drops them."""
    a, b, c = part.faces.T
    good = (a != b) & (b != c) & (c != a)
    if good.all():
        return part
    return replace(
        part,
        faces=part.faces[good],
        uv=None if part.uv is None else part.uv[good],
        corner_color=None if part.corner_color is None else part.corner_color[good],
    )


def _check_shape(vertices: NDArray[np.float64], faces: NDArray[np.int64], step: float) -> None:
    """Refuse what is no surface, or none that 32-bit arithmetic can handle."""
    with np.errstate(over="ignore", invalid="ignore"):
        extents = np.sort(np.ptp(vertices, axis=0))
        corners = vertices[faces] / max(extents[2], np.finfo(np.float64).tiny)
        crosses = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        area = np.linalg.norm(crosses, axis=1).sum() / 2
    if not SIZES[0] <= extents[2] <= SIZES[1]:
        raise AssetError("degenerate", f"its size of {extents[2]:.3g} units is beyond what can be handled")
    if extents[1] < THINNEST * extents[2] or not area >= THINNEST:
        raise AssetError("degenerate", "it is a point or a line: its triangles are without area")
    if step * STEPS > extents[2]:
        raise AssetError(
            "too_far", "it lies so far from its origin that its 32-bit coordinates are too coarse for its shape"
        )


def _one_line(text: str) -> str:
    lines = text.splitlines()
    return lines[0][:300] if lines else "no further word"
