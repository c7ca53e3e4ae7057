"""What asset files bring into Blender: materials, holes, glass, and what is too large or broken."""

import json
import subprocess
import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mesh_fixtures import Draft, box_draft, picture
from test_blender_worker import RESOLUTION, camera, pose, scene

from randscene.errors import RenderError
from randscene.generator.blender_process import BlenderProcess, RenderedView
from randscene.generator.ray_caster import RayScene
from randscene.generator.recipe import Light
from randscene.generator.scene_maker import SceneMaker
from randscene.manifests import load_asset_mesh

pytestmark = pytest.mark.blender

CORNERS = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], np.float32)
FRONT, SLANTED = camera((0.3, -5, 0.6)), camera((2, -4, 1.5))
ROWS, COLUMNS = np.mgrid[:16, :16]


def pixels(alpha: Any = 255, color: Sequence[int] = (10, 200, 10)) -> np.ndarray:
    """(16, 16, 4) uint8 of one colour."""
    result = np.empty((16, 16, 4), np.uint8)
    result[..., :3], result[..., 3] = color, alpha
    return result


LEAF = pixels(np.where((ROWS - 7.5) ** 2 + (COLUMNS - 7.5) ** 2 < 36, 255, 0))
RAMP = pixels(COLUMNS * 17)


def card(
    path: Path,
    *,
    texture: Any = None,
    factor: Sequence[float] = (1, 1, 1, 1),
    color: Sequence[float] | None = None,
    normals: Any = None,
    maps: dict[str, Any] | None = None,
    extensions: dict[str, Any] | None = None,
    metallic: float = 0.0,
    **material: Any,
) -> Path:
    """Write a card of 2 x 2 that stands upright and faces -Y; `maps` are pictures of other texture slots."""
    draft = Draft()
    attributes = {"TEXCOORD_0": draft.add(np.array([[0, 1], [1, 1], [1, 0], [0, 0]], np.float32), "VEC2")}
    if color is not None:
        attributes["COLOR_0"] = draft.add(np.array([color] * 4, np.float32), "VEC4")
    if normals is not None:
        attributes["NORMAL"] = draft.add(np.array(normals, np.float32), "VEC3")
    draft.add_mesh(CORNERS, [0, 1, 2, 0, 2, 3], attributes=attributes, material=0)
    base: dict[str, Any] = {"baseColorFactor": list(factor), "metallicFactor": metallic, "roughnessFactor": 0.9}
    if texture is not None:
        data = texture if isinstance(texture, bytes) else picture(texture)
        base["baseColorTexture"] = {"index": draft.add_image(data)}
    stored = {"doubleSided": True, "pbrMetallicRoughness": base} | material
    for name, pixels_of_map in (maps or {}).items():
        owner = base if name == "metallicRoughnessTexture" else stored
        owner[name] = {"index": draft.add_image(picture(pixels_of_map))}
    if extensions is not None:
        stored["extensions"] = extensions
        draft.header["extensionsUsed"] = list(extensions)
    draft.header["materials"] = [stored]
    return draft.show({"mesh": 0}).save(path)


@pytest.fixture(scope="module")
def blender(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BlenderProcess]:
    with BlenderProcess(scratch=tmp_path_factory.mktemp("scratch"), view_timeout_s=120.0) as process:
        yield process


@pytest.fixture(scope="module")
def wall(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return card(tmp_path_factory.mktemp("wall") / "wall.glb")


def shown(process: BlenderProcess, path: Path, **changes: Any) -> RenderedView:
    """One picture of an asset alone, from the front."""
    recipe = scene([("asset", pose())], cameras=[FRONT], **changes)
    (view,) = process.render(recipe, {"asset": path}, [0], resolution=RESOLUTION, samples=8)
    return view


def median(view: RenderedView, where: np.ndarray | None = None) -> np.ndarray:
    """Median colour of the asset, or of a part of the picture."""
    return np.median(view.rgb[view.ids == 1 if where is None else where & (view.ids == 1)], axis=0)


ALPHA = {
    "opaque": ({"texture": LEAF}, "solid"),
    "mask": ({"texture": LEAF, "alphaMode": "MASK"}, "disc"),
    "mask at 0.3": ({"texture": RAMP, "alphaMode": "MASK", "alphaCutoff": 0.3}, "part"),
    "mask times factor": ({"texture": RAMP, "alphaMode": "MASK", "factor": (1, 1, 1, 0.7)}, "part"),
    "mask times colour": ({"texture": RAMP, "alphaMode": "MASK", "color": (1, 1, 1, 0.6)}, "part"),
    "mask at 0": ({"texture": LEAF, "alphaMode": "MASK", "alphaCutoff": 0.0}, "solid"),
    "blended leaf": ({"texture": LEAF, "alphaMode": "BLEND"}, "disc"),
    "blended ramp": ({"texture": RAMP, "alphaMode": "BLEND"}, "part"),
    "blended colour": ({"color": (1, 1, 1, 0.1), "alphaMode": "BLEND"}, "solid"),
    "thin glass": ({"factor": (1, 1, 1, 0.05), "alphaMode": "BLEND"}, "solid"),
    "refracting glass": ({"extensions": {"KHR_materials_transmission": {"transmissionFactor": 1.0}}}, "solid"),
    "invisible": ({"factor": (1, 1, 1, 0.0), "alphaMode": "BLEND"}, "nothing"),
}


@pytest.mark.parametrize("name", ALPHA)
def test_holes_and_glass_count_as_the_material_says_in_blender_and_for_rays(blender, wall, tmp_path, name):
    arguments, shape = ALPHA[name]
    paths = {"card": card(tmp_path / "card.glb", **arguments), "wall": wall}
    recipe = scene([("card", pose()), ("wall", pose(0.3, 1.5))], cameras=[FRONT, SLANTED])
    rays = RayScene([SceneMaker.place(load_asset_mesh(paths[i.uid]), np.array(i.pose)) for i in recipe.instances])
    solid = RayScene([SceneMaker.place(load_asset_mesh(wall), pose())])
    for view in blender.render(recipe, paths, [0, 1], resolution=RESOLUTION, samples=2):
        ids, _ = rays.ids_and_depth(recipe.cameras[view.view], RESOLUTION)
        assert (ids != view.ids).sum() <= 1
        outline = solid.ids_and_depth(recipe.cameras[view.view], RESOLUTION)[0] == 1
        share = (ids[outline] == 1).mean()
        low, high = {"solid": (1, 1), "disc": (0.4, 0.6), "part": (0.1, 0.99), "nothing": (0, 0)}[shape]
        assert low <= share <= high and not (ids[~outline] == 1).any()


@pytest.mark.parametrize("mode", ["MASK", "BLEND"])
def test_what_stands_behind_many_leaves_is_seen_through_their_holes(blender, wall, tmp_path, mode):
    paths = {"leaf": card(tmp_path / "leaf.glb", texture=LEAF, alphaMode=mode), "wall": wall}
    counts = []
    for layers in (1, 8):
        leaves = [("leaf", pose(0, 0.02 * k)) for k in range(layers)]
        recipe = scene([*leaves, ("wall", pose(0.3, 1.5))], cameras=[FRONT])
        rays = RayScene([SceneMaker.place(load_asset_mesh(paths[i.uid]), np.array(i.pose)) for i in recipe.instances])
        (view,) = blender.render(recipe, paths, [0], resolution=RESOLUTION, samples=4)
        assert (rays.ids_and_depth(FRONT, RESOLUTION)[0] != view.ids).sum() <= 1
        behind = view.ids == layers + 1
        counts.append(behind.sum())
        assert np.median(view.rgb[behind], axis=0).min() > 100  # bright, not what a ray that gave up leaves
    assert counts[1] > 0.8 * counts[0] > 300


GLOSS = {"diffuseFactor": [0.8, 0.05, 0.05, 1], "specularFactor": [0.04] * 3, "glossinessFactor": 0.1}
COLORS = {
    "factor": ({"factor": (0.8, 0.05, 0.05, 1)}, 0),
    "texture": ({"texture": pixels()}, 1),
    "vertex colours": ({"color": (0.05, 0.05, 0.8, 1)}, 2),
    "texture times vertex colours": ({"texture": pixels(color=(200, 200, 0)), "color": (0.02, 1, 1, 1)}, 1),
    "specular-glossiness": ({"extensions": {"KHR_materials_pbrSpecularGlossiness": GLOSS}}, 0),
    "blended": ({"factor": (0.8, 0.05, 0.05, 0.6), "alphaMode": "BLEND"}, 0),
}


@pytest.mark.parametrize("name", COLORS)
def test_the_colour_of_a_material_survives(blender, tmp_path, name):
    arguments, channel = COLORS[name]
    color = median(shown(blender, card(tmp_path / "card.glb", **arguments)))
    assert color[channel] > 90 and color[channel] > 1.8 * np.delete(color, channel).max()


def test_a_specular_glossiness_texture_survives(blender, tmp_path):
    draft = box_draft(material=0)
    draft.header["meshes"][0]["primitives"][0]["attributes"]["TEXCOORD_0"] = draft.add(
        np.zeros((8, 2), np.float32), "VEC2"
    )
    gloss = GLOSS | {"diffuseFactor": [1, 1, 1, 1], "diffuseTexture": {"index": draft.add_image(picture(pixels()))}}
    draft.header["materials"] = [{"extensions": {"KHR_materials_pbrSpecularGlossiness": gloss}}]
    draft.header["extensionsUsed"] = ["KHR_materials_pbrSpecularGlossiness"]
    color = median(shown(blender, draft.save(tmp_path / "box.glb")))
    assert color[1] > 60 and color[1] > 2 * max(color[0], color[2])


@pytest.mark.parametrize("strength", [None, 4.0])
def test_what_shines_by_itself_does_so_in_the_dark(blender, tmp_path, strength):
    halves = np.where(COLUMNS < 8, 255, 0)
    extensions = None if strength is None else {"KHR_materials_emissive_strength": {"emissiveStrength": strength}}
    path = card(
        tmp_path / "lamp.glb",
        factor=(0, 0, 0, 1),
        emissiveFactor=[0.0, 0.0, 0.2],
        maps={"emissiveTexture": pixels()[..., :3] * 0 + halves[..., None].astype(np.uint8)},
        extensions=extensions,
    )
    view = shown(blender, path, lights=[], ambient=0.0)
    left = np.arange(RESOLUTION)[None, :] < RESOLUTION / 2 - 6
    bright, dark = median(view, left | np.zeros_like(view.ids, bool)), median(view, left[:, ::-1] | (view.ids < 0))
    # 0.2 of linear light is 124 on a screen, 0.8 is 231.
    assert bright[2] == pytest.approx(124 if strength is None else 231, abs=4) and bright[:2].max() <= 1
    assert dark.max() <= 1


def test_metal_and_normal_maps_survive(blender, tmp_path):
    sun = Light(
        kind="sun", position=(4.0, -4.0, 0.0), target=(0.0, 0.0, 0.0), power=3.0, size=0.01, color=(1.0, 1.0, 1.0)
    )
    left = (COLUMNS < 8)[..., None]
    towards_left, towards_right = (55, 128, 230), (200, 128, 230)
    maps = {
        "metallicRoughnessTexture": np.where(left, (0, 20, 255), (0, 20, 0)).astype(np.uint8),
        "normalTexture": np.where(left, towards_left, towards_right).astype(np.uint8),
    }
    side = np.broadcast_to(np.arange(RESOLUTION)[None, :] < RESOLUTION / 2 - 6, (RESOLUTION, RESOLUTION))
    for name, factor in (("metallicRoughnessTexture", 1.0), ("normalTexture", 0.0)):
        path = card(tmp_path / "card.glb", maps={name: maps[name]}, metallic=factor)
        view = shown(blender, path, lights=[sun], ambient=0.05)
        # Polished metal has no diffuse light; what leans to the right faces the sun.
        assert median(view, side[:, ::-1]).mean() > 1.3 * median(view, side).mean()


def test_normals_that_are_no_numbers_are_left_out(blender, tmp_path):
    plain = shown(blender, card(tmp_path / "plain.glb"))
    broken = shown(blender, card(tmp_path / "broken.glb", normals=[[np.nan] * 3, [0, 0, 1], [np.inf] * 3, [0, 0, 1]]))
    assert median(plain).min() > 100 and np.abs(median(plain) - median(broken)).max() <= 2


def serves_on(process: BlenderProcess, wall: Path) -> bool:
    return bool((shown(process, wall).ids == 1).any())


def test_what_passed_inspection_but_fails_in_blender_is_named_and_the_worker_serves_on(blender, wall, tmp_path):
    path = card(tmp_path / "odd.glb", extensions={"KHR_materials_ior": {"ior": "much"}})
    assert len(load_asset_mesh(path).faces) == 2
    pid = blender.pid
    with pytest.raises(RenderError, match=r"odd\.glb: .*expected a float") as caught:
        shown(blender, path)
    assert caught.value.reason == "import_failed" and not caught.value.transient
    assert "\n" not in str(caught.value)
    assert serves_on(blender, wall) and blender.pid == pid


def wide_png(side: int) -> bytes:
    """A square PNG of one colour, one bit a pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = side.to_bytes(4, "big") * 2 + bytes([1, 3, 0, 0, 0])
    content = zlib.compress(bytes(side * (1 + side // 8)), 1)
    parts = [(b"IHDR", header), (b"PLTE", bytes([220, 40, 30] * 2)), (b"IDAT", content), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, data) for kind, data in parts)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return card(tmp_path_factory.mktemp("wide") / "wide.glb", texture=wide_png(16384))


def resident(process: BlenderProcess) -> int:
    return int(Path(f"/proc/{process.pid}/statm").read_text().split()[1]) * 4096


def test_a_texture_of_16384_pixels_is_rendered_and_does_not_stay(wide, wall, tmp_path):
    with BlenderProcess(view_timeout_s=120.0, memory_limit_bytes=4 << 30, scratch=tmp_path) as process:
        assert serves_on(process, wall)
        before = resident(process)
        color = median(shown(process, wide))
        assert color[0] > 120 and color[0] > 2 * color[1:].max()
        assert resident(process) - before < 500 << 20


def test_a_renderer_over_its_memory_limit_is_ended_with_that_reason_and_replaced(wide, wall, tmp_path):
    with BlenderProcess(view_timeout_s=120.0, memory_limit_bytes=700 << 20, scratch=tmp_path) as process:
        pid = process.pid
        with pytest.raises(RenderError) as caught:
            shown(process, wide)
        assert caught.value.reason == "memory_limit" and not caught.value.transient
        assert serves_on(process, wall) and process.pid != pid


SIZES = """
import json, sys
import bpy
bpy.ops.wm.read_factory_settings(use_empty=True)
from randscene.blender_scripts.asset_cache import AssetCache
cache = AssetCache()
parts = [cache.get(path).parts[0] for path in sys.argv[1:]]
nodes = [node for part in parts for node in part.mesh.materials[0].node_tree.nodes if node.type == "TEX_IMAGE"]
sys.stderr.write("answer " + json.dumps([list(node.image.size) for node in nodes]))
"""


def test_large_pictures_are_scaled_down_but_for_those_that_cut_holes(tmp_path):
    wide_leaf = np.repeat(np.repeat(LEAF, 512, axis=1), 2, axis=0)
    paths = [card(tmp_path / f"{mode}.glb", texture=wide_leaf, alphaMode=mode) for mode in ("OPAQUE", "MASK", "BLEND")]
    paths.append(card(tmp_path / "small.glb", texture=LEAF))
    command = [sys.executable, "-c", SIZES, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stderr.split("answer ", 1)[1]) == [[4096, 16], [8192, 32], [8192, 32], [16, 16]]
