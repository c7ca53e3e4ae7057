"""AssetMesh: the triangles and surfaces of one asset file, in the asset frame (Z up)."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from randscene.errors import AssetError
from randscene.manifests.asset_record import UpAxis
from randscene.manifests.gltf_header import (
    COLOR,
    UV,
    base_texture,
    check_header,
    expose_attributes,
    pack_gltf,
    read_gltf,
    resolve_inside,
    simplify_materials,
)

AlphaMode = Literal["OPAQUE", "MASK", "BLEND"]
MESH_SUFFIXES = (".glb", ".gltf", ".obj", ".ply", ".stl")
"""File types that can be loaded."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Surface:
    """What a set of triangles is made of: glTF's metallic-roughness model without its detail maps."""

    base_color: NDArray[np.float32]
    """(4,) float32, linear RGBA factor in [0, 1]; multiplies the texture and the corner colours."""
    texture: NDArray[np.uint8] | None
    """(H, W, 4) uint8, sRGB colour and linear alpha, row 0 at v = 0 (top); None for a plain colour."""
    metallic: float
    """Factor times the mean of its texture."""
    roughness: float
    """Factor times the mean of its texture."""
    emissive: NDArray[np.float32]
    """(3,) float32, linear RGB; factor times the mean of its texture."""
    alpha_mode: AlphaMode
    alpha_cutoff: float


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


def load_asset_mesh(path: str | Path, up_axis: UpAxis = "Y") -> AssetMesh:
    """Read a mesh file (`.glb`, `.gltf`, `.obj`, `.ply`, `.stl`) as one AssetMesh.

    Parameters
    ----------
    path : str or Path
    up_axis : {"Y", "Z"}
        Up direction of the file. `Y` (any glTF) is converted by (x, y, z) -> (x, -z, y).

    Raises
    ------
    AssetError
        With reason `unsupported_format`, `missing_file`, `unreadable`, `unsafe_path`, `needs_draco`, `needs_meshopt`,
        `unsupported_extension`, `unsupported_accessor`, `no_positions`, `bad_index`, `bad_texture`,
        `empty` (no triangle), `non_finite` or `degenerate` (no area).
    """
    path = Path(path)
    if path.suffix.lower() not in MESH_SUFFIXES:
        raise AssetError("unsupported_format", f"{path}: only {', '.join(MESH_SUFFIXES)} files can be read")
    if not path.is_file():
        raise AssetError("missing_file", f"{path}: no such file")
    try:
        parts = list(_parts(path))
        mesh = _joined(parts, up_axis)
    except AssetError as error:
        raise AssetError(error.reason, f"{path}: {str(error).removeprefix(f'{path}: ')}") from error
    except (MemoryError, ImportError):
        raise
    except Exception as error:  # the mesh library raises anything at all on malformed files
        raise AssetError("unreadable", f"{path}: {type(error).__name__}: {_one_line(error)}") from error
    return mesh


@dataclass(frozen=True, kw_only=True)
class _Part:
    """One placed primitive, still in the file's axes."""

    vertices: NDArray[np.float64]
    faces: NDArray[np.int64]
    uv: NDArray[np.float32] | None
    corner_color: NDArray[np.float32] | None
    surface: Surface


def _parts(path: Path) -> Iterator[_Part]:
    import trimesh

    header: dict[str, Any] | None = None
    suffix = path.suffix.lower()
    if suffix in (".glb", ".gltf"):
        header, rest = read_gltf(path)
        check_header(header, path.parent)
        simplify_materials(header)
        expose_attributes(header)
        data = pack_gltf(header, rest, suffix)
    else:
        data = path.read_bytes()
    resolver = _resolver(path)
    options: Any = {"process": False} | ({"maintain_order": True} if suffix == ".obj" else {})
    scene = trimesh.load_scene(io.BytesIO(data), file_type=suffix[1:], resolver=resolver, **options)
    if resolver.refused is not None:
        raise resolver.refused
    surfaces: dict[int, Surface] = {}
    for node in scene.graph.nodes_geometry:
        matrix, name = scene.graph[node]
        geometry = scene.geometry[name]
        if not isinstance(geometry, trimesh.Trimesh) or len(geometry.faces) == 0:
            continue
        faces = np.asarray(geometry.faces, dtype=np.int64)
        count = len(geometry.vertices)
        if faces.min() < 0 or faces.max() >= count:
            raise AssetError("bad_index", f"a face refers to vertex {faces.max()} of {count}")
        matrix = np.asarray(matrix, dtype=np.float64)
        if not np.isfinite(matrix).all():
            raise AssetError("non_finite", "a node's transform is not made of finite numbers")
        vertices = np.asarray(geometry.vertices, dtype=np.float64) @ matrix[:3, :3].T + matrix[:3, 3]
        material = getattr(geometry.visual, "material", None)
        color = _corner_color(geometry, faces, linear=header is not None)
        key = id(material) if material is not None else -1 - (color is not None)
        if key not in surfaces:
            surfaces[key] = _surface(material, header, has_color=color is not None)
        textured = surfaces[key].texture is not None
        uv = _corner_uv(geometry, faces, _uv_transform(material, header)) if textured else None
        if np.linalg.det(matrix[:3, :3]) < 0:  # a mirrored node turns its triangles inside out
            faces = faces[:, ::-1]
            uv = None if uv is None else uv[:, ::-1]
            color = None if color is None else color[:, ::-1]
        yield _Part(vertices=vertices, faces=faces, uv=uv, corner_color=color, surface=surfaces[key])


def _joined(parts: list[_Part], up_axis: UpAxis) -> AssetMesh:
    if not parts:
        raise AssetError("empty", "it holds no triangle")
    offsets = np.cumsum([0, *(len(part.vertices) for part in parts)])
    vertices = np.concatenate([part.vertices for part in parts])
    faces = np.concatenate([part.faces + offset for part, offset in zip(parts, offsets)])
    used, inverse = np.unique(faces, return_inverse=True)
    vertices = vertices[used]
    if not np.isfinite(vertices).all():
        raise AssetError("non_finite", "it holds vertices that are not finite numbers")
    if up_axis == "Y":
        vertices = np.stack((vertices[:, 0], -vertices[:, 2], vertices[:, 1]), axis=1)
    faces = inverse.reshape(-1, 3).astype(np.int32)
    corners = vertices[faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    if not np.isfinite(area).all():
        raise AssetError("non_finite", "its triangles are too large for finite areas")
    if not area.any():
        raise AssetError("degenerate", "all of its triangles are without area")
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
        faces=faces,
        surface_of_face=np.repeat(surface_of_part, [len(part.faces) for part in parts]),
        surfaces=tuple(surfaces),
        uv=uv,
        corner_color=color,
    )


def _corner_uv(
    geometry: Any, faces: NDArray[np.int64], transform: NDArray[np.float64] | None
) -> NDArray[np.float32] | None:
    uv: NDArray[np.float64] | None = None
    if UV in geometry.vertex_attributes:
        uv = _unit_floats(geometry.vertex_attributes[UV])
    else:
        stored = getattr(geometry.visual, "uv", None)
        if stored is not None:
            uv = np.asarray(stored, dtype=np.float64)[:, :2] * (1, -1) + (0, 1)
    if uv is None or len(uv) != len(geometry.vertices):
        return None
    if transform is not None:
        uv = uv @ transform[:2, :2].T + transform[:2, 2]
    return uv[faces].astype(np.float32)


def _unit_floats(stored: Any) -> NDArray[np.float64]:
    """Colours or coordinates as stored in a glTF: unsigned integers stand for [0, 1]."""
    values = np.asarray(stored)
    return values / np.iinfo(values.dtype).max if values.dtype.kind == "u" else values.astype(np.float64)


def _uv_transform(material: Any, header: dict[str, Any] | None) -> NDArray[np.float64] | None:
    """3x3 of KHR_texture_transform: translate, rotate, scale, in that order from the left."""
    if header is None or material is None:
        return None
    extension = base_texture(header, int(material.name)).get("extensions", {}).get("KHR_texture_transform")
    if extension is None:
        return None
    angle = extension.get("rotation", 0.0)
    sine, cosine = np.sin(angle), np.cos(angle)
    matrix = np.eye(3)
    matrix[:2, :2] = np.array([[cosine, sine], [-sine, cosine]]) * extension.get("scale", [1, 1])
    matrix[:2, 2] = extension.get("offset", [0, 0])
    return matrix


def _corner_color(geometry: Any, faces: NDArray[np.int64], *, linear: bool) -> NDArray[np.float32] | None:
    visual = geometry.visual
    if COLOR in geometry.vertex_attributes:
        stored = _unit_floats(geometry.vertex_attributes[COLOR])
        if len(stored) != len(geometry.vertices):
            raise AssetError("unreadable", "it has another number of vertex colours than of vertices")
        color = stored[faces].astype(np.float32)
    elif visual.kind == "face":
        color = np.repeat(_unit_floats(visual.face_colors)[:, None], 3, axis=1).astype(np.float32)
    elif visual.kind == "vertex":
        color = _unit_floats(visual.vertex_colors)[faces].astype(np.float32)
    else:
        return None
    if color.shape[-1] == 3:
        color = np.concatenate((color, np.ones_like(color[..., :1])), axis=-1)
    if not linear:  # formats other than glTF store colours for the screen
        color[..., :3] = _linear(color[..., :3])
    return color


def _linear(srgb: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4).astype(np.float32)


def _surface(material: Any, header: dict[str, Any] | None, *, has_color: bool) -> Surface:
    if material is None:  # as Blender shows an object without a material
        base = np.ones(4) if has_color else np.array([0.8, 0.8, 0.8, 1.0])
        return _plain_surface(base, None, roughness=0.5)
    if header is None:
        return _simple_surface(material)
    entry = header["materials"][int(material.name)]
    pbr = entry.get("pbrMetallicRoughness", {})
    rough = _pixels(material.metallicRoughnessTexture, wanted="metallicRoughnessTexture" in pbr)
    metal_mean, rough_mean = (1.0, 1.0) if rough is None else rough[..., [2, 1]].mean(axis=(0, 1)) / 255
    glow = _pixels(material.emissiveTexture, wanted="emissiveTexture" in entry)
    glow_mean = 1.0 if glow is None else _linear(glow[..., :3].astype(np.float32) / 255).mean(axis=(0, 1))
    strength = entry.get("extensions", {}).get("KHR_materials_emissive_strength", {}).get("emissiveStrength", 1.0)
    emissive = np.asarray(entry.get("emissiveFactor", (0, 0, 0)), dtype=np.float64) * strength * glow_mean
    return Surface(
        base_color=np.asarray(pbr.get("baseColorFactor", (1, 1, 1, 1)), dtype=np.float32),
        texture=_pixels(material.baseColorTexture, wanted="baseColorTexture" in pbr),
        metallic=float(pbr.get("metallicFactor", 1.0) * metal_mean),
        roughness=float(pbr.get("roughnessFactor", 1.0) * rough_mean),
        emissive=emissive.astype(np.float32),
        alpha_mode=entry.get("alphaMode", "OPAQUE"),
        alpha_cutoff=float(entry.get("alphaCutoff", 0.5)),
    )


def _simple_surface(material: Any) -> Surface:
    """A Wavefront material: diffuse colour, image and shininess."""
    shininess = float(np.clip(getattr(material, "glossiness", None) or 0.0, 0, 1000))
    base = np.asarray(material.main_color, dtype=np.float64) / 255
    return _plain_surface(base, _pixels(getattr(material, "image", None)), roughness=1 - (shininess / 1000) ** 0.5)


def _plain_surface(base: NDArray[np.float64], texture: NDArray[np.uint8] | None, *, roughness: float) -> Surface:
    return Surface(
        base_color=base.astype(np.float32),
        texture=texture,
        metallic=0.0,
        roughness=roughness,
        emissive=np.zeros(3, np.float32),
        alpha_mode="OPAQUE" if base[3] >= 1 else "BLEND",
        alpha_cutoff=0.5,
    )


def _pixels(image: Any, *, wanted: bool = False) -> NDArray[np.uint8] | None:
    if image is None:
        if wanted:
            raise AssetError("bad_texture", "a texture is missing or of a type that cannot be read")
        return None
    try:
        return np.array(image.convert("RGBA"), dtype=np.uint8)
    except (OSError, ValueError, SyntaxError) as error:
        raise AssetError("bad_texture", f"a texture cannot be read: {_one_line(error)}") from error


def _resolver(path: Path) -> Any:
    """The object through which the mesh library opens neighbours: only files in the mesh's folder or below."""
    import trimesh

    class FolderResolver(trimesh.resolvers.Resolver):
        def __init__(self) -> None:
            self.refused: AssetError | None = None

        def get(self, name: str) -> bytes:
            try:
                return resolve_inside(path.parent, name.strip()).read_bytes()
            except AssetError as error:
                self.refused = error
                raise

        def write(self, name: str, data: bytes) -> None:
            raise AssetError("unsafe_path", f"reading a mesh must not write {name!r}")

        def namespaced(self, namespace: str) -> "FolderResolver":
            raise AssetError("unsafe_path", f"a mesh must not look into {namespace!r}")

        def keys(self) -> list[str]:
            return []

    return FolderResolver()


def _one_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0][:200] if lines else "no further word"
