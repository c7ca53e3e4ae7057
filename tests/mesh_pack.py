"""Broken, hostile and exotic mesh files, made here, each with the verdict that inspection must give it."""

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import DracoPy
import numpy as np
import trimesh
from mesh_fixtures import BOX, BOX_FACES, TRIANGLE, Draft, box_draft, gltf_of, picture

PACK: dict[str, tuple[str, Callable[[Path], object]]] = {}
"""By file name: the verdict, and what writes the file."""
UV = np.linspace(0, 1, 2 * len(BOX), dtype=np.float32).reshape(-1, 2)
RED = picture(np.full((4, 4, 3), (200, 30, 30)))
KTX2 = b"\xabKTX 20\xbb\r\n\x1a\n" + bytes(64)
TEXTURED = {"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}
L_SHAPE = "v 0 0 0\nv 4 0 0\nv 4 1 0\nv 1 1 0\nv 1 4 0\nv 0 4 0\n"


def entry(name: str, verdict: str) -> Callable[[Callable[[Path], object]], Callable[[Path], object]]:
    def register(write: Callable[[Path], object]) -> Callable[[Path], object]:
        PACK[name] = (verdict, write)
        return write

    return register


def glb(name: str, verdict: str, draft: Callable[[], Draft]) -> None:
    PACK[name] = (verdict, lambda path: draft().save(path))


def text(name: str, verdict: str, content: str | bytes) -> None:
    PACK[name] = (verdict, lambda path: path.write_bytes(content.encode() if isinstance(content, str) else content))


def write_pack(folder: Path) -> dict[str, str]:
    """Write all files; the verdicts by name."""
    for name, (_, write) in PACK.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path)
    return {name: verdict for name, (verdict, _) in PACK.items()}


def changed(change: Callable[[Draft], object]) -> Callable[[], Draft]:
    """A box whose draft is changed in place."""

    def make() -> Draft:
        draft = box_draft()
        change(draft)
        return draft

    return make


def set_in(*path: str | int, to: object) -> Callable[[], Draft]:
    """A box with one field of its header set."""

    def change(draft: Draft) -> None:
        inner = draft.header
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = to

    return changed(change)


# Containers and headers.
text("empty_file.glb", "unreadable", "")
text("no_header.glb", "unreadable", b"\0")
text("wrong_magic.glb", "unreadable", b"glXX" + struct.pack("<4I", 2, 20, 0, 0x4E4F534A))
text("wrong_length.glb", "unreadable", b"glTF" + struct.pack("<4I", 2, 99, 0, 0x4E4F534A))
text("not_json.gltf", "unreadable", "{")
text("a_list.gltf", "unreadable", "[]")
text("version_1.gltf", "unreadable", '{"asset": {"version": "1.0"}}')
glb("infinity.glb", "unreadable", set_in("nodes", 0, "scale", to=[float("inf"), 1, 1]))
glb("overflow.glb", "malformed", set_in("nodes", 0, "scale", to=[10**400, 1, 1]))
glb("fractional_count.glb", "malformed", set_in("accessors", 0, "count", to=8.0))
glb("text_as_list.glb", "malformed", set_in("meshes", to="box"))
glb("null_attribute.glb", "malformed", set_in("meshes", 0, "primitives", 0, "attributes", "TEXCOORD_0", to=None))
glb("undeclared.glb", "malformed", set_in("extensionsRequired", to=["KHR_texture_transform"]))
glb("null_name.glb", "ok", set_in("nodes", 0, "name", to=None))


@entry("truncated.glb", "unreadable")
def truncated(path: Path) -> None:
    box_draft().save(path)
    path.write_bytes(path.read_bytes()[:-8])


# Nodes and scenes.
glb("loop.glb", "malformed", lambda: box_draft({"mesh": 0, "children": [1]}, {"children": [0]}))
glb(
    "two_parents.glb",
    "malformed",
    lambda: box_draft({"children": [2]}, {"children": [2]}, {"mesh": 0}).show_roots(0, 1),
)
glb("no_such_mesh.glb", "bad_index", lambda: box_draft({"mesh": 7}))
glb("no_such_node.glb", "bad_index", lambda: box_draft({"mesh": 0, "children": [5]}))
glb("no_such_scene.glb", "bad_index", set_in("scene", to=3))
glb("empty_nodes.glb", "empty", lambda: box_draft({"name": "nothing"}, {}))
glb("no_nodes.glb", "empty", lambda: Draft())
glb("no_rotation.glb", "malformed", lambda: box_draft({"mesh": 0, "rotation": [0, 0, 0, 0]}))
glb("short_matrix.glb", "malformed", lambda: box_draft({"mesh": 0, "matrix": [1, 2, 3]}))
glb("mirrored.glb", "ok", lambda: box_draft({"mesh": 0, "scale": [-1, 2, 1], "rotation": [0, 0.6, 0, 0.8]}))
glb("sheared.glb", "ok", lambda: box_draft({"mesh": 0, "matrix": [1, 0, 0, 0, 0.7, 1, 0, 0, 0, 0.3, 2, 0, 5, 6, 7, 1]}))
glb(
    "flattened_node.glb",
    "ok",
    lambda: box_draft({"mesh": 0}, {"mesh": 0, "scale": [1, 0, 1], "translation": [0, 4, 0]}),
)
glb(
    "every_node_listed.glb",
    "ok",
    lambda: box_draft({"children": [1], "translation": [3, 0, 0]}, {"mesh": 0, "translation": [0, 1, 0]}, {"mesh": 0}),
)
glb(
    "cancelled.glb",
    "ok",
    lambda: box_draft({"translation": [1e6, 0, 0], "children": [1]}, {"mesh": 0, "translation": [-1e6, 3, 0]}),
)


@entry("deep.glb", "ok")
def deep(path: Path) -> None:
    chain = [{"children": [number], "translation": [0.01, 0, 0]} for number in range(1500)]
    box_draft({"mesh": 0, "translation": [0, 0, 1]}, *chain).show_roots(1500).save(path)


@entry("five_hundred_nodes.glb", "ok")
def many(path: Path) -> None:
    nodes = [{"mesh": 0, "translation": [i % 8 * 4, i // 8 % 8 * 4, i // 64 * 4]} for i in range(501)]
    box_draft(*nodes).save(path)


for suffix, fields in (("second", {"scene": 1}), ("first", {}), ("none", {"scenes": None})):

    def scenes(fields: dict = fields) -> Draft:
        draft = box_draft({"mesh": 0}, {"mesh": 0, "translation": [9, 0, 0]}, {"mesh": 0, "translation": [0, 9, 0]})
        draft.header["scenes"] = [{"nodes": [0]}, {"nodes": [1]}]
        del draft.header["scene"]
        draft.header |= fields
        return draft

    glb(f"scene_{suffix}.glb", "ok", scenes)


# Vertices and indices.
glb("point_cloud.glb", "empty", lambda: box_draft(mode=0))
glb("lines.glb", "empty", lambda: box_draft(mode=1))
glb("no_such_mode.glb", "empty", lambda: box_draft(mode=9))
glb("no_such_accessor.glb", "bad_index", set_in("meshes", 0, "primitives", 0, "attributes", "POSITION", to=17))
glb("negative_accessor.glb", "bad_index", set_in("meshes", 0, "primitives", 0, "attributes", "POSITION", to=-1))
glb("no_positions.glb", "no_positions", set_in("meshes", 0, "primitives", 0, "attributes", to={}))
glb("remainder.glb", "malformed", set_in("accessors", 1, "count", to=35))
glb("fewer_uv.glb", "malformed", changed(lambda d: add_attribute(d, "TEXCOORD_0", UV[:3], "VEC2")))
glb("flat_positions.glb", "malformed", set_in("accessors", 0, "type", to="VEC2"))
glb("float_indices.glb", "malformed", set_in("accessors", 1, "componentType", to=5126))
glb("unknown_type.glb", "malformed", set_in("accessors", 0, "componentType", to=5130))
glb("short_view.glb", "bad_buffer", set_in("bufferViews", 0, "byteLength", to=8))
glb("short_buffer.glb", "bad_buffer", set_in("bufferViews", 1, "byteOffset", to=4096))
glb("negative_offset.glb", "bad_buffer", set_in("bufferViews", 1, "byteOffset", to=-4))
glb("no_data.glb", "bad_buffer", changed(lambda d: d.header["accessors"][0].pop("bufferView")))
glb("zero_length_view.glb", "bad_buffer", set_in("bufferViews", 1, "byteLength", to=0))
glb("narrow_stride.glb", "malformed", set_in("bufferViews", 0, "byteStride", to=4))
glb("unused_nan.glb", "ok", lambda: one_mesh(np.vstack((BOX, [[np.nan] * 3])), BOX_FACES))
glb("used_nan.glb", "non_finite", lambda: one_mesh([[0, 0, 0], [1, 0, 0], [0, np.nan, 0]]))
glb("infinite.glb", "non_finite", lambda: one_mesh([[0, 0, 0], [1, 0, 0], [0, np.inf, 0]]))
glb("nan_normals.glb", "ok", changed(lambda d: add_attribute(d, "NORMAL", np.full_like(BOX, np.nan), "VEC3")))
glb("zero_normals.glb", "ok", changed(lambda d: add_attribute(d, "NORMAL", np.zeros_like(BOX), "VEC3")))
glb("out_of_range.glb", "bad_index", lambda: one_mesh(TRIANGLE, (0, 1, 3)))
glb("garbage_indices.glb", "bad_index", lambda: one_mesh(BOX, np.uint32([4294967295, 3340704960, 7])))
glb("strip.glb", "ok", lambda: one_mesh([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 2, 1]], range(5), mode=5))
glb("fan.glb", "ok", lambda: one_mesh([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [-1, 1, 1]], range(5), mode=6))
glb("not_indexed.glb", "ok", lambda: one_mesh(BOX[BOX_FACES].reshape(-1, 3), None))
glb("doubled_faces.glb", "ok", lambda: one_mesh(BOX, np.vstack((BOX_FACES, BOX_FACES[:4], BOX_FACES[:2, ::-1]))))
glb("folded_faces.glb", "ok", lambda: one_mesh(np.vstack((BOX, [[9, 9, 9]])), [*BOX_FACES, [8, 8, 0]]))

# Shape and place.
glb("line.glb", "degenerate", lambda: one_mesh([[0, 0, 0], [1, 0, 0], [2, 0, 0]]))
glb("point.glb", "degenerate", lambda: one_mesh([[1, 1, 1]] * 3))
glb("needle.glb", "degenerate", lambda: one_mesh([[0, 0, 0], [1, 1, 1], [1, 1, 1 + 1e-6]]))
glb("overlong.glb", "degenerate", lambda: one_mesh([[0, 0, 0], [2147483648.0, 0, 0], [0, 1, 0]]))
glb("denormal.glb", "degenerate", lambda: one_mesh(TRIANGLE * np.float32(1e-39)))
glb("sheet.glb", "ok", lambda: one_mesh([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], [[0, 1, 2], [0, 2, 3]]))
glb("millimetres.glb", "ok", lambda: one_mesh(BOX * 1000, BOX_FACES))
glb("decimetres.glb", "ok", lambda: one_mesh(BOX * np.float32(0.1), BOX_FACES))
glb("far.glb", "ok", lambda: one_mesh(BOX + np.float32([56 * 3, 0, -100]), BOX_FACES))
glb("too_far.glb", "too_far", lambda: one_mesh(BOX + np.float32([3e6, 0, 0]), BOX_FACES))
glb("far_node.glb", "ok", lambda: box_draft({"mesh": 0, "translation": [3e6, -4e6, 5e6]}))

# Extensions and compression.
glb("meshopt.glb", "needs_meshopt", lambda: box_draft().require("EXT_meshopt_compression"))
glb("vendor.glb", "unsupported_extension", lambda: box_draft().require("VENDOR_unheard_of"))
glb("vendor_unused.glb", "ok", set_in("extensionsUsed", to=["VENDOR_unheard_of"]))


def one_mesh(positions: object, indices: object = (0, 1, 2), **extra: object) -> Draft:
    draft = Draft()
    draft.add_mesh(positions, indices, **extra)
    return draft.show({"mesh": 0})


def add_attribute(draft: Draft, name: str, values: object, kind: str, **options: object) -> Draft:
    draft.header["meshes"][0]["primitives"][0]["attributes"][name] = draft.add(values, kind, **options)
    return draft


def draco(
    corrupt: bool = False, *, material: dict | None = None, preserve_order: bool = True, faces: object = BOX_FACES
) -> Draft:
    colors = (np.arange(len(BOX) * 4) * 7 % 256).astype(np.uint8).reshape(-1, 4)
    content = DracoPy.encode(
        BOX, faces, quantization_bits=20, preserve_order=preserve_order, colors=colors, tex_coord=UV.astype(float)
    )
    kinds = {stored["attribute_type"]: stored["unique_id"] for stored in DracoPy.decode(content).attributes}
    if corrupt:
        content = content[: len(content) // 2]
    draft = Draft()
    view = draft.add_view(content)
    counts = {"POSITION": (5126, "VEC3"), "COLOR_0": (5121, "VEC4"), "TEXCOORD_0": (5126, "VEC2")}
    draft.header["accessors"] = [
        {"componentType": component, "type": kind, "count": len(BOX)} for component, kind in counts.values()
    ]
    draft.header["accessors"][1]["normalized"] = True
    draft.header["accessors"].append({"componentType": 5125, "type": "SCALAR", "count": 3 * len(BOX_FACES)})
    numbers = {"POSITION": kinds.get(0, 7), "COLOR_0": kinds.get(2, 7), "TEXCOORD_0": kinds.get(3, 7)}
    extension = {"bufferView": view, "attributes": numbers}
    primitive = {"attributes": {name: number for number, name in enumerate(counts)}, "indices": 3}
    primitive["extensions"] = {"KHR_draco_mesh_compression": extension}
    draft.header["meshes"] = [{"primitives": [primitive]}]
    if material is not None:
        draft.add_image(RED)
        draft.header["materials"] = [material]
        primitive["material"] = 0
    return draft.show({"mesh": 0}).require("KHR_draco_mesh_compression")


glb("draco.glb", "ok", draco)
glb("draco_textured.glb", "ok", lambda: draco(material=TEXTURED))
glb("draco_reordered.glb", "ok", lambda: draco(preserve_order=False))
glb("draco_corrupt.glb", "bad_draco", lambda: draco(True))
glb("draco_points.glb", "bad_draco", lambda: draco(faces=None))


@entry("draco_wrong_type.glb", "bad_draco")
def draco_wrong_type(path: Path) -> None:
    draft = draco()
    draft.header["accessors"][0]["componentType"] = 5123
    draft.save(path)


@entry("draco_float_indices.glb", "bad_draco")
def draco_float_indices(path: Path) -> None:
    draft = draco()
    draft.header["accessors"][3]["componentType"] = 5126
    draft.save(path)


def quantised(dtype: type, *, normalized: bool) -> Draft:
    draft = Draft()
    stored = np.round((BOX + 2) * 25).astype(dtype)
    positions = draft.add(stored, "VEC3", normalized=normalized, padding=4 - 3 * np.dtype(dtype).itemsize % 4)
    draft.add_mesh(positions, BOX_FACES)
    return draft.show({"mesh": 0, "scale": [0.01, 0.02, 0.01]}).require("KHR_mesh_quantization")


glb("quantised_8.glb", "ok", lambda: quantised(np.uint8, normalized=False))
glb("quantised_16.glb", "ok", lambda: quantised(np.int16, normalized=False))
glb("normalised_8.glb", "ok", lambda: quantised(np.int8, normalized=True))
glb("normalised_16.glb", "ok", lambda: quantised(np.uint16, normalized=True))


def sparse(places: object = (1, 6)) -> Draft:
    draft = box_draft()
    indices, values = (
        draft.add(places, "SCALAR", dtype=np.uint16),
        draft.add([[5, 5, 5], [-4, 0, 0]], "VEC3", dtype="f4"),
    )
    views = [draft.header["accessors"][number]["bufferView"] for number in (indices, values)]
    draft.header["accessors"][0]["sparse"] = {
        "count": 2,
        "indices": {"bufferView": views[0], "componentType": 5123},
        "values": {"bufferView": views[1]},
    }
    return draft


glb("sparse.glb", "ok", sparse)
glb("sparse_out_of_range.glb", "bad_index", lambda: sparse((1, 8)))


def instanced() -> Draft:
    draft = box_draft({"mesh": 0, "translation": [0, 0, 1], "scale": [2, 2, 2]})
    places = draft.add([[4, 0, 0], [0, 5, 0], [-3, 0, 2]], "VEC3", dtype="f4")
    turns = draft.add([[0, 0, 0, 32767], [0, 23170, 0, 23170], [0, 0, -32767, 0]], "VEC4", dtype="i2", normalized=True)
    extension = {"attributes": {"TRANSLATION": places, "ROTATION": turns}}
    draft.header["nodes"][0]["extensions"] = {"EXT_mesh_gpu_instancing": extension}
    return draft.require("EXT_mesh_gpu_instancing")


glb("instanced.glb", "ok", instanced)


def skinned(joint: int = 1) -> Draft:
    """Two joints, scaled and turned; the mesh's own node lies elsewhere, which must not matter."""
    draft = box_draft()
    add_attribute(draft, "JOINTS_0", np.tile(np.uint8([0, joint, 0, 0]), (len(BOX), 1)), "VEC4")
    weights = np.zeros((len(BOX), 4), np.float32)
    weights[:, 0] = np.linspace(0, 1, len(BOX))
    weights[:, 1] = 1 - weights[:, 0]
    weights[3] = 0
    add_attribute(draft, "WEIGHTS_0", weights, "VEC4")
    add_attribute(draft, "NORMAL", BOX / np.linalg.norm(BOX, axis=1, keepdims=True), "VEC3")
    binds = np.stack([np.eye(4), np.diag([0.5, 0.5, 0.5, 1])]).astype(np.float32)
    binds[1, 3, :3] = (1, 2, 3)
    matrices = draft.add(binds.reshape(2, 16), "MAT4")
    draft.header["skins"] = [{"joints": [1, 2], "inverseBindMatrices": matrices}]
    return draft.show(
        {"mesh": 0, "skin": 0, "translation": [100, 0, 0]},
        {"children": [2], "scale": [2, 3, 1], "rotation": [0, 0.6, 0, 0.8]},
        {"translation": [1, 0, 0], "scale": [2, 2, 2]},
        {"mesh": 0, "translation": [0, 0, 50]},
        roots=[0, 1, 3],
    )


glb("skinned.glb", "ok", skinned)
glb("no_such_joint.glb", "bad_index", lambda: skinned(joint=2))


def morphing() -> Draft:
    draft = box_draft()
    target = draft.add(BOX[::-1] * np.float32(0.3), "VEC3")
    draft.header["meshes"][0] |= {"weights": [0.5]}
    draft.header["meshes"][0]["primitives"][0]["targets"] = [{"POSITION": target}]
    return draft.show(
        {"mesh": 0},
        {"mesh": 0, "weights": [-1.5], "translation": [9, 0, 0]},
        {"mesh": 0, "weights": [0], "translation": [0, 9, 0]},
    )


glb("morphing.glb", "ok", morphing)


def animated() -> Draft:
    """Its animation would move it and bend it at its first moment."""
    draft = morphing()
    times = draft.add([0, 1], "SCALAR", dtype="f4")
    moves, weights = draft.add([[0, 50, 0]] * 2, "VEC3", dtype="f4"), draft.add([1, 1], "SCALAR", dtype="f4")
    draft.header["animations"] = [
        {
            "samplers": [{"input": times, "output": moves}, {"input": times, "output": weights}],
            "channels": [
                {"sampler": 0, "target": {"node": 0, "path": "translation"}},
                {"sampler": 1, "target": {"node": 1, "path": "weights"}},
            ],
        }
    ]
    draft.header["cameras"] = [{"type": "perspective", "perspective": {"yfov": 1.0, "znear": 0.1}}]
    draft.header["nodes"].append({"camera": 0})
    return draft


glb("animated.glb", "ok", animated)


# Materials and textures.
def textured(
    content: bytes = RED, *, material: dict | None = None, mime: str = "image/png", **texture: object
) -> Draft:
    draft = box_draft()
    add_attribute(draft, "TEXCOORD_0", UV, "VEC2")
    draft.add_image(content, mime)
    if texture:
        draft.header["textures"] = [texture]
        draft.header["extensionsUsed"] = list(texture.get("extensions", {}))
    draft.header["materials"] = [TEXTURED if material is None else material]
    draft.header["meshes"][0]["primitives"][0]["material"] = 0
    return draft


WEBP = picture(np.full((4, 4, 3), 90), "WEBP")
GLOSSY = {"extensions": {"KHR_materials_pbrSpecularGlossiness": {"diffuseTexture": {"index": 0}}}}
glb("textured.glb", "ok", textured)
glb("specular_glossiness.glb", "ok", lambda: textured(material=GLOSSY))
glb("webp.glb", "ok", lambda: textured(WEBP, mime="image/webp", extensions={"EXT_texture_webp": {"source": 0}}))
glb("webp_and_png.glb", "ok", lambda: textured(source=0, extensions={"EXT_texture_webp": {"source": 9}}))
glb("basis_only.glb", "unsupported_texture", lambda: textured(KTX2, extensions={"KHR_texture_basisu": {"source": 0}}))
glb("basis_and_png.glb", "ok", lambda: textured(source=0, extensions={"KHR_texture_basisu": {"source": 9}}))
glb("ktx_required.glb", "unsupported_texture", lambda: textured().require("KHR_texture_basisu"))
glb("ktx_as_png.glb", "unsupported_texture", lambda: textured(KTX2))
glb("no_picture.glb", "bad_texture", lambda: textured(b"no picture"))
glb("half_a_picture.glb", "bad_texture", lambda: textured(picture(np.arange(3072).reshape(32, 32, 3) % 251)[:-900]))
glb("no_source.glb", "bad_texture", lambda: textured(name="nothing"))
glb("broken_normal_map.glb", "bad_texture", lambda: textured(b"?", material={"normalTexture": {"index": 0}}))
glb("no_such_texture.glb", "bad_index", lambda: textured(material={"normalTexture": {"index": 4}}))
glb("nan_uv.glb", "non_finite", lambda: add_attribute(textured(), "TEXCOORD_0", UV * np.float32(np.nan), "VEC2"))
glb("texture_transform.glb", "ok", lambda: textured().require("KHR_texture_transform"))


@entry("many_pixels.glb", "too_large")
def many_pixels(path: Path) -> None:
    head = struct.pack(">2I5B", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", len(head)) + b"IHDR" + head + struct.pack(">I", zlib.crc32(b"IHDR" + head))
    textured(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 9) + b"IDAT").save(path)


# Paths.
for name, uri, verdict in (
    ("missing", "gone.png", "missing_file"),
    ("windows", "C:\\Users\\me\\wood.jpg", "unsafe_path"),
    ("url", "https://example.org/wood.png", "unsafe_path"),
    ("absolute", "/etc/hostname", "unsafe_path"),
    ("parent", "../textured.glb", "unsafe_path"),
    ("quoted_parent", "%2e%2e/textured.glb", "unsafe_path"),
):

    def with_image(uri: str = uri) -> Draft:
        draft = textured()
        draft.header["images"] = [{"uri": uri}]
        return draft

    glb(f"image_{name}.glb", verdict, with_image)


@entry("paths/missing_buffer.gltf", "missing_file")
def missing_buffer(path: Path) -> None:
    box_draft().save(path)
    path.with_suffix(".bin").unlink()


@entry("paths/url_buffer.gltf", "unsafe_path")
def url_buffer(path: Path) -> None:
    header, _ = gltf_of()
    header["buffers"][0]["uri"] = "file:///etc/passwd"
    path.write_text(json.dumps(header))


glb("paths/Ünïcode ❤ näme.gltf", "ok", lambda: box_draft())

# Wavefront.
text("neg.obj", "ok", "v 0 0 0\nv 1 0 0\nv 0 1 0\nf -3 -2 -1\nv 0 0 5\nv 1 0 5\nv 0 1 5\nf -3 -2 -1\n")
text("concave.obj", "ok", L_SHAPE + "f 1 2 3 4 5 6\n")
text("concave_backwards.obj", "ok", L_SHAPE + "f 4 3 2 1 6 5\n")
text("dart.obj", "ok", "v 0 0 0\nv 4 0 0\nv 1 1 0\nv 0 4 0\nf 2 3 4 1\n")
text("two_corners.obj", "ok", L_SHAPE + "f 1 2 3\nf 3 4\nf 5\n")
text("quad_as_triangle.obj", "ok", L_SHAPE + "f 1 2 3 3\n")
text("touching.obj", "malformed", L_SHAPE + "f 1 2 3 1 4 5\n")
text("forward.obj", "bad_index", "f 1 2 3\n" + L_SHAPE)
text("beyond.obj", "bad_index", L_SHAPE + "f 1 2 9\n")
text("zeroth.obj", "bad_index", L_SHAPE + "f 0 1 2\n")
text("points.obj", "empty", L_SHAPE)
text("no_number.obj", "unreadable", "v 0 0 x\n" + L_SHAPE + "f 1 2 3\n")
text("utf16.obj", "unreadable", (L_SHAPE + "f 1 2 3\n").encode("utf-16"))
text("no_library.obj", "ok", "mtllib gone.mtl\n" + L_SHAPE + "usemtl oak\nf 1 2 3\n")
text("no_library_named.obj", "ok", L_SHAPE + "usemtl oak\nf 1 2 3\n")
text("outside.obj", "unsafe_path", "mtllib ../outside.mtl\n" + L_SHAPE + "f 1 2 3\n")
text("wood.mtl", "unsupported_format", "newmtl oak\nmap_Kd gone.png\n")
text("no_picture.obj", "missing_file", "mtllib wood.mtl\n" + L_SHAPE + "usemtl oak\nf 1 2 3\n")
text("bump.mtl", "unsupported_format", "newmtl oak\nKd 0.2 0.1 0\nmap_Bump gone.png\n")
text("no_bump_map.obj", "ok", "mtllib bump.mtl\n" + L_SHAPE + "usemtl oak\nf 1 2 3\n")
text("windows.mtl", "unsupported_format", "newmtl oak\nmap_Kd C:\\wood.png\n")
text("windows.obj", "unsafe_path", "mtllib windows.mtl\n" + L_SHAPE + "usemtl oak\nf 1 2 3\n")
text("colored.obj", "ok", "v 0 0 0 1 0 0\nv 4 0 0 0 1 0\nv 1 1 0 0 0 1\nf 1 2 3\n")

# PLY and STL.
PLY = (
    "ply\nformat {} 1.0\ncomment made by hand\nelement vertex 9\nproperty double x\nproperty double y\n"
    "property double z\nproperty uchar red\nproperty uchar green\nproperty uchar blue\nelement face 3\n"
    "property uchar flag\nproperty list uchar int vertex_indices\nend_header\n"
)
PLY_POINTS = (
    (0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (2, 0.5, 1), (1, 1, 1), (0, 1, 1)
)  # fmt: skip
PLY_FACES = ((0, 1, 2), (0, 2, 3), (4, 5, 6, 7, 8))


def ply(order: str) -> bytes:
    content = PLY.format({"<": "binary_little_endian", ">": "binary_big_endian", "": "ascii"}[order]).encode()
    for point in PLY_POINTS:
        values = (*point, 9, 99, 255)
        content += struct.pack(f"{order}3d3B", *values) if order else (" ".join(map(str, values)) + "\n").encode()
    for face in PLY_FACES:
        values = (7, len(face), *face)
        content += (
            struct.pack(f"{order}BB{len(face)}i", *values) if order else (" ".join(map(str, values)) + "\n").encode()
        )
    return content


text("little.ply", "ok", ply("<"))
text("big.ply", "ok", ply(">"))
text("ascii.ply", "ok", ply(""))
text("cut.ply", "unreadable", ply("<")[:-3])
text("cut_ascii.ply", "unreadable", ply("")[:-6])
text("beyond.ply", "bad_index", ply("").replace(b"4 5 6 7 8", b"4 5 6 7 9"))
text("touching.ply", "malformed", ply("").replace(b"4 5 6 7 8", b"4 5 6 5 8"))
text("textured.ply", "unsupported_texture", ply("").replace(b"comment made", b"comment TextureFile made"))
text("points.ply", "empty", ply("").replace(b"element face 3", b"element face 0"))
text("no_ply.ply", "unreadable", "solid\n")
SOLID = trimesh.Trimesh(BOX, BOX_FACES, process=False)
text("binary.stl", "ok", SOLID.export(file_type="stl"))
text("text.stl", "ok", SOLID.export(file_type="stl_ascii"))
text("cut.stl", "unreadable", SOLID.export(file_type="stl")[:-10])
text("cut_text.stl", "unreadable", SOLID.export(file_type="stl_ascii")[:-300])
text("none.stl", "empty", bytes(84))
