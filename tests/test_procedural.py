"""The procedural assets: every family is solid, outward and varied, and gives the same bytes everywhere."""

import collections
import functools
import hashlib
import io
import json
import os
import struct
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from randscene.errors import AssetError
from randscene.manifests import procedural
from randscene.manifests.procedural import curves, patterns, primitives
from randscene.manifests.procedural.glb_export import export_glb
from randscene.manifests.procedural.model import Model, Part, Surface
from randscene.manifests.procedural.textures import png, ramp

FAMILIES = sorted(procedural.FAMILIES)
SEEDS = (0, 1, 2)
TABLES = [name for name in FAMILIES if name.startswith("table") or name == "desk"]


@functools.cache
def build_model(family: str, seed: int) -> Model:
    return procedural.build_model(family, seed)


@functools.cache
def build_glb(family: str, seed: int) -> bytes:
    return export_glb(build_model(family, seed), f"procedural-{family}-{seed:06d}")


def volume(surface: Surface) -> float:
    a, b, c = (surface.vertices[surface.faces[:, k]] for k in range(3))
    return float((a * np.cross(b, c)).sum() / 6)


def face_areas(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2


def is_closed(surface: Surface) -> bool:
    """Whether each directed edge between places (not vertices) meets its reverse exactly as often."""
    _, place = np.unique(np.rint(surface.vertices * 2**16), axis=0, return_inverse=True)
    corners = place.reshape(-1)[surface.faces]
    edges = collections.Counter()
    for i in range(3):
        for a, b in zip(corners[:, i].tolist(), corners[:, (i + 1) % 3].tolist()):
            if a != b:
                edges[min(a, b), max(a, b)] += 1 if a < b else -1
    return not any(edges.values())


def read_glb(data: bytes) -> tuple[dict, bytes]:
    magic, version, total = struct.unpack_from("<4sII", data)
    assert (magic, version, total) == (b"glTF", 2, len(data))
    length, kind = struct.unpack_from("<I4s", data, 12)
    assert kind == b"JSON"
    return json.loads(data[20 : 20 + length]), data[20 + length + 8 :]


def closed_and_outward(surface: Surface) -> None:
    assert np.isfinite(surface.vertices).all() and np.isfinite(surface.uv).all()
    np.testing.assert_allclose(np.linalg.norm(surface.normals, axis=1), 1, atol=1e-6)
    assert is_closed(surface)
    assert volume(surface) > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_made_of_closed_outward_parts_of_plausible_size(family):
    for seed in SEEDS:
        model = build_model(family, seed)
        for part in model.parts:
            surface = part.surface
            closed_and_outward(surface)
            areas = face_areas(surface.vertices, surface.faces)
            assert (areas > 1e-13).mean() > 0.97
            a, b, c = (surface.vertices[surface.faces[:, k]] for k in range(3))
            against = (np.cross(b - a, c - a)[:, None] * surface.normals[surface.faces]).sum(axis=2) < -1e-12
            assert against.any(axis=1).mean() < 0.03, "shading normals must agree with the faces"
        low, high = model.bounds()
        assert 0.02 < (high - low).max() < 3.0 and (high - low).min() > 0.005
        assert abs(low[2]) < 1e-9 and np.abs(low + high)[:2].max() < 1e-9
        assert 150 <= model.n_faces <= 20_000


@pytest.mark.parametrize("family", FAMILIES)
def test_glb_is_read_back_by_another_library_with_the_same_faces_and_y_up(family):
    trimesh = pytest.importorskip("trimesh")
    for seed in SEEDS[:2]:
        model = build_model(family, seed)
        scene = trimesh.load_scene(io.BytesIO(build_glb(family, seed)), file_type="glb")
        assert sum(len(g.faces) for g in scene.geometry.values()) == model.n_faces
        low, high = model.bounds()
        expected = [[low[0], low[2], -high[1]], [high[0], high[2], -low[1]]]
        np.testing.assert_allclose(scene.bounds, expected, atol=2e-5)
        materials = {id(part.material) for part in model.parts}
        assert len(scene.geometry) == len(materials)


def test_materials_textures_and_normals_survive_the_file():
    trimesh = pytest.importorskip("trimesh")
    seen = collections.Counter()
    for family in FAMILIES:
        model = build_model(family, 2)
        scene = trimesh.load_scene(io.BytesIO(build_glb(family, 2)), file_type="glb")
        groups: dict[int, list[Part]] = {}
        for part in model.parts:
            groups.setdefault(id(part.material), []).append(part)
        assert len(scene.geometry) == len(groups)
        for mesh, parts in zip(scene.geometry.values(), groups.values()):
            material, read = parts[0].material, mesh.visual.material
            assert read.metallicFactor == pytest.approx(material.metallic, abs=1e-4)
            assert read.roughnessFactor == pytest.approx(material.roughness, abs=1e-4)
            np.testing.assert_allclose(
                mesh.vertex_normals[:, [0, 2, 1]] * [1, -1, 1],
                np.concatenate([part.surface.normals for part in parts]),
                atol=1e-3,
            )
            if material.texture is not None:
                image = np.asarray(read.baseColorTexture.convert("RGB"))
                np.testing.assert_array_equal(image, material.texture.palette[material.texture.indices])
                assert mesh.visual.uv.shape == (len(mesh.vertices), 2) and np.ptp(mesh.visual.uv, axis=0).max() > 1e-3
            seen.update(
                textured=material.texture is not None, metal=material.metallic > 0.5, emissive=any(material.emissive)
            )
    assert seen["textured"] > 10 and seen["metal"] > 5 and seen["emissive"] > 0


def test_asset_block_states_licence_and_generator():
    document, binary = read_glb(build_glb("mug", 3))
    assert document["asset"] == {"version": "2.0", "copyright": "CC0-1.0", "generator": "randscene procedural"}
    assert document["buffers"][0]["byteLength"] == len(binary)
    for view in document["bufferViews"]:
        assert view["byteOffset"] % 4 == 0 and view["byteOffset"] + view["byteLength"] <= len(binary)


def test_families_are_many_and_mostly_textured():
    assert len(FAMILIES) >= 18
    share = {name: sum(build_model(name, seed).has_texture for seed in range(4)) / 4 for name in FAMILIES}
    assert sum(value >= 0.5 for value in share.values()) >= len(FAMILIES) / 2


@pytest.mark.parametrize("family", FAMILIES)
def test_seeds_change_shape_not_only_scale(family):
    """Extents in units of the largest one, with the face counts, must differ between seeds."""
    shapes = []
    for seed in range(6):
        model = build_model(family, seed)
        extents = np.ptp(model.bounds(), axis=0)
        shapes.append((model.n_faces, len(model.parts), *np.round(extents / extents.max(), 3)))
    assert len(set(shapes)) >= 5
    assert len({shape[0] for shape in shapes}) >= 2, "the structure must vary as well"


@pytest.mark.parametrize("family", TABLES)
def test_table_tops_are_exactly_flat_wide_and_the_highest_thing(family):
    """All faces that look up at the highest level lie on one height and cover most of the footprint."""
    for seed in range(6):
        model = build_model(family, seed)
        vertices = np.concatenate([part.surface.vertices for part in model.parts])
        top, area = vertices[:, 2].max(), 0.0
        for part in model.parts:
            v, f = part.surface.vertices, part.surface.faces
            flat = (v[f][:, :, 2] == top).all(axis=1)
            area += face_areas(v, f[flat]).sum()
        extents = np.ptp(vertices, axis=0)
        assert area > 0.3 * extents[0] * extents[1]
        assert extents[2] < 0.85


def test_bytes_are_the_same_in_other_processes_whatever_the_hash_seed():
    """One asset of each family, built again with other string hashes and without the widest vector instructions."""
    code = (
        "import hashlib;from randscene.manifests.procedural import *\n"
        "for f in sorted(FAMILIES): print(f, hashlib.sha256(build_glb(f, 1)).hexdigest())"
    )
    here = "".join(f"{name} {hashlib.sha256(build_glb(name, 1)).hexdigest()}\n" for name in FAMILIES)
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "12345",
        "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL",
    }
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == here


def test_catalogue_is_nested_round_robin_and_a_third_tables():
    long = list(procedural.enumerate_assets(200))
    assert list(procedural.enumerate_assets(100)) == long[:100]
    assert len({asset.uid for asset in long}) == 200
    assert {asset.family for asset in long} == set(FAMILIES)
    kinds = collections.Counter(asset.family for asset in long)
    assert sum(kinds[name] for name in TABLES) == pytest.approx(200 / 3, abs=1)
    for group in (TABLES, [name for name in FAMILIES if name not in TABLES]):
        assert max(kinds[name] for name in group) - min(kinds[name] for name in group) <= 1
    assert all(asset.uid == f"procedural-{asset.family}-{asset.seed:06d}" for asset in long)


def test_catalogues_of_different_seeds_share_no_asset():
    first = {asset.uid for asset in procedural.enumerate_assets(300, 0)}
    assert not first & {asset.uid for asset in procedural.enumerate_assets(300, 1)}


def test_unknown_family_and_negative_numbers_are_refused():
    with pytest.raises(AssetError, match="no procedural family called teapott") as caught:
        procedural.build_glb("teapott", 0)
    assert caught.value.reason == "unknown_family"
    with pytest.raises(ValueError, match="must not be negative"):
        list(procedural.enumerate_assets(-1))


def test_textures_repeat_without_a_seam():
    """The step over the border is no larger than the steps inside."""
    rng = np.random.Generator(np.random.PCG64(1))
    for texture in (patterns.wood(rng, (0.6, 0.4, 0.2)), patterns.stone(rng, (0.5, 0.5, 0.5))):
        values = texture.indices.astype(float)
        for axis in (0, 1):
            inside = np.abs(np.diff(values, axis=axis)).mean()
            border = np.abs(values.take(0, axis=axis) - values.take(-1, axis=axis)).mean()
            assert border < 2.0 * inside + 1.0


def test_png_is_read_back_exactly():
    image_module = pytest.importorskip("PIL.Image")
    texture = ramp(np.random.Generator(np.random.PCG64(0)).random((300, 260)), [(0, 0, 0), (1, 0.5, 0.2)], levels=256)
    read = np.asarray(image_module.open(io.BytesIO(png(texture))).convert("RGB"))
    np.testing.assert_array_equal(read, texture.palette[texture.indices])


lengths = st.floats(0.02, 2.0)


@settings(max_examples=40, deadline=None)
@given(lengths, lengths, lengths, st.floats(0.0005, 0.05))
def test_boxes_are_closed_and_keep_their_size(x, y, z, bevel):
    surface = primitives.box((x, y, z), bevel)
    closed_and_outward(surface)
    np.testing.assert_allclose(np.ptp(surface.vertices, axis=0), [x, y, z])
    assert 0.75 * x * y * z < volume(surface) <= x * y * z * (1 + 1e-12)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0.05, 1.0), min_size=2, max_size=8), st.integers(5, 40), st.floats(-3, 3))
def test_lathes_of_any_profile_are_closed_and_outward(radii, segments, turn):
    profile = np.array([[r, i * 0.2] for i, r in enumerate(radii)])
    closed_and_outward(primitives.lathe(profile, segments))
    closed_and_outward(primitives.lathe(profile, segments, twist=np.linspace(0, turn, len(profile)) * 0.3))


def test_a_lathed_cylinder_and_a_ball_have_their_volume():
    cylinder = primitives.lathe([(0.5, 0.0), (0.5, 2.0)], 256)
    assert volume(cylinder) == pytest.approx(np.pi * 0.25 * 2, rel=1e-3)
    assert volume(primitives.ball(0.3, 128, 64)) == pytest.approx(4 / 3 * np.pi * 0.027, rel=2e-3)
    assert volume(primitives.torus(1.0, 0.2, 128, 64)) == pytest.approx(2 * np.pi**2 * 0.04, rel=3e-3)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([(2, 3), (3, 2), (2, 5), (3, 4)]), st.floats(0.05, 0.12), st.integers(6, 20))
def test_closed_tubes_join_up(knot, radius, segments):
    path = curves.torus_knot(*knot, 1.0, 0.35, 160)
    closed_and_outward(primitives.tube(path, radius, segments, closed=True))


@settings(max_examples=25, deadline=None)
@given(st.integers(3, 9), st.floats(0.0, 0.1), st.floats(0.001, 0.3))
def test_outlines_are_drawn_in_without_folding(sides, radius, distance):
    outline = curves.regular_polygon(sides, 1.0, radius)
    inner = outline.drawn_in(distance)
    assert inner.shape == outline.points.shape
    edges = np.roll(inner, -1, axis=0) - inner
    turning = edges[:, 0] * np.roll(edges, -1, axis=0)[:, 1] - edges[:, 1] * np.roll(edges, -1, axis=0)[:, 0]
    assert (turning > -1e-9).all()
    inward = np.cos(np.pi / sides) - distance
    np.testing.assert_allclose(-inner[:, 1].min(), inward, atol=1e-9)


def test_surfaces_keep_their_orientation_when_turned_and_stretched():
    surface = primitives.lathe([(0.5, 0.0), (0.2, 1.0)], 24)
    moved = surface.rotated("x", 0.7).rotated("y", -1.2).scaled(2.0, 0.5, 1.5).moved(1, 2, 3)
    closed_and_outward(moved)
    assert volume(moved) == pytest.approx(1.5 * volume(surface), rel=1e-9)
