"""The geometry hash: equal for copies of a shape, different for different shapes."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from randscene.manifests.asset_mesh import AssetMesh, Surface, load_asset_mesh
from randscene.manifests.geometry_hash import STEP, geometry_hash, shape_numbers
from randscene.manifests.procedural import build_glb, enumerate_assets


@pytest.fixture(scope="module")
def meshes(tmp_path_factory) -> list[AssetMesh]:
    folder = tmp_path_factory.mktemp("meshes")
    found = []
    for asset in enumerate_assets(60, seed=3):
        path = folder / f"{asset.uid}.glb"
        path.write_bytes(build_glb(asset.family, asset.seed))
        found.append(load_asset_mesh(path))
    return found


def _shuffled(mesh: AssetMesh, rng: np.random.Generator) -> AssetMesh:
    """The same triangles with every corner its own vertex, in another order."""
    faces = rng.permutation(len(mesh.faces))
    order = rng.permutation(len(faces) * 3)
    vertices = np.empty((len(order), 3))
    vertices[order] = mesh.vertices[mesh.faces[faces]].reshape(-1, 3)
    return replace(mesh, vertices=vertices, faces=order.reshape(-1, 3).astype(np.int32))


@settings(max_examples=40, deadline=None)
@given(
    index=st.integers(0, 59),
    scale=st.floats(1e-3, 1e3),
    shift=st.tuples(*[st.floats(-10, 10)] * 3),
    seed=st.integers(0, 99),
)
def test_copies_in_other_units_places_and_orders_share_the_hash(meshes, index, scale, shift, seed):
    mesh = meshes[index]
    copy = _shuffled(mesh, np.random.default_rng(seed))
    # As stored in a file: single precision.
    moved = ((copy.vertices + shift) * scale).astype(np.float32).astype(np.float64)
    stored = replace(copy, vertices=moved)
    numbers, other = shape_numbers(mesh) / STEP, shape_numbers(stored) / STEP
    # Single precision ten units away from the origin keeps a tenth of a step; nearer to a border it may be crossed.
    assert np.abs(numbers - other).max() < 0.1
    if np.abs(numbers - np.floor(numbers) - 0.5).min() > 0.1:
        assert geometry_hash(stored) == geometry_hash(mesh)


def test_recoloured_copies_share_the_hash(meshes):
    mesh = meshes[0]
    red = replace(mesh.surfaces[0], base_color=np.array([1, 0, 0, 1], np.float32), texture=None)
    assert geometry_hash(replace(mesh, surfaces=(red,) * len(mesh.surfaces))) == geometry_hash(mesh)


def test_faces_cut_into_more_triangles_share_the_hash(meshes):
    mesh = meshes[1]
    middle = mesh.vertices[mesh.faces].mean(axis=1)
    number = len(mesh.vertices) + np.arange(len(mesh.faces))
    a, b, c = mesh.faces.T
    cut = np.stack([np.stack(part, axis=1) for part in ((a, b, number), (b, c, number), (c, a, number))])
    fine = replace(mesh, vertices=np.concatenate((mesh.vertices, middle)), faces=cut.reshape(-1, 3).astype(np.int32))
    assert geometry_hash(fine) == geometry_hash(mesh)


def test_different_shapes_have_different_hashes(meshes):
    assert len({geometry_hash(mesh) for mesh in meshes}) == len(meshes)


@pytest.mark.parametrize("factors", [(1.01, 1, 1), (1, 1, 0.99), (-1, 1, 1)])
def test_stretched_and_mirrored_shapes_differ(factors):
    corners = np.array([[0, 0, 0], [1, 0, 0], [0.3, 0.8, 0], [0.2, 0.1, 0.7]])
    faces = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]], np.int32)
    surface = Surface(
        base_color=np.ones(4, np.float32), texture=None, metallic=0.0, roughness=1.0,
        emissive=np.zeros(3, np.float32), alpha_mode="OPAQUE", alpha_cutoff=0.5,
    )  # fmt: skip
    mesh = AssetMesh(
        vertices=corners, faces=faces, surface_of_face=np.zeros(4, np.int32), surfaces=(surface,),
        uv=np.zeros((4, 3, 2), np.float32), corner_color=None,
    )  # fmt: skip
    assert geometry_hash(replace(mesh, vertices=corners * factors)) != geometry_hash(mesh)
