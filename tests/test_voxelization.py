"""Voxels: equality with the reference voxeliser, and exactness against clipping."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from randscene.errors import AssetError
from randscene.generator import voxelization as module
from randscene.generator.view_centric import apply_transform
from randscene.generator.voxelization import SceneVoxelizer, voxelize
from randscene.manifests import load_asset_mesh

DATA = Path(__file__).parent / "data" / "voxels.npz"
MESHES = (
    "TIE_box_on_voxel_planes",
    "TIE_degenerate_triangles",
    "box_rotated",
    "capsule",
    "cylinder",
    "full_cube_unit_aabb",
    "icosphere",
    "multi_instance_scene",
    "overflow_clamped",
    "soup_large",
    "soup_small",
    "thin_plate_axis_aligned_off_grid",
    "thin_plate_rotated",
    "torus",
)
TRIANGLE = np.array([[0, 1, 2]])
ROOT = Path(__file__).parents[1]
PLACED = {"torus": 0.2, "icosphere": -0.2, "soup_small": 0.0}


@pytest.fixture(scope="module")
def golden():
    with np.load(DATA, allow_pickle=False) as data:
        assert {key.rsplit(".", 1)[0] for key in data} == set(MESHES)
        return dict(data)


@pytest.mark.parametrize("name", MESHES)
def test_every_mesh_gives_exactly_the_reference_voxels_ties_included(golden, name):
    coords = voxelize(golden[f"{name}.vertices"], golden[f"{name}.faces"])
    assert coords.dtype == np.uint8
    np.testing.assert_array_equal(coords, golden[f"{name}.indices"])


def touches(triangle: np.ndarray, low: np.ndarray, high: np.ndarray) -> bool:
    """Whether a triangle meets a box, by clipping it against the box's six planes."""
    polygon = list(triangle)
    for axis in range(3):
        for bound, sign in ((low[axis], 1), (high[axis], -1)):
            kept: list[np.ndarray] = []
            for here, there in zip(polygon, polygon[1:] + polygon[:1]):
                inside, outside = sign * (here[axis] - bound), sign * (there[axis] - bound)
                if inside >= 0:
                    kept.append(here)
                if inside * outside < 0:
                    kept.append(here + (there - here) * inside / (inside - outside))
            polygon = kept
            if not polygon:
                return False
    return True


@given(seed=st.integers(0, 10_000), size=st.floats(0.01, 1.0), resolution=st.integers(1, 7))
@settings(max_examples=60, deadline=None)
def test_a_voxel_is_marked_exactly_when_the_triangle_reaches_into_it(seed, size, resolution):
    rng = np.random.default_rng(seed)
    triangle = np.clip(rng.uniform(-0.4, 0.4, 3) + size * rng.uniform(-0.5, 0.5, (3, 3)), -0.49, 0.49)
    marked = {tuple(coord) for coord in voxelize(triangle, TRIANGLE, resolution).tolist()}
    for index in np.ndindex(resolution, resolution, resolution):
        low, high = np.array(index) / resolution - 0.5, (np.array(index) + 1) / resolution - 0.5
        if touches(triangle, low + 1e-9, high - 1e-9):
            assert index in marked
        elif not touches(triangle, low - 1e-9, high + 1e-9):
            assert index not in marked


def test_every_point_of_a_surface_lies_in_a_marked_voxel(golden):
    rng = np.random.default_rng(0)
    vertices, faces = golden["torus.vertices"].astype(float), golden["torus.faces"]
    weights = rng.dirichlet((1, 1, 1), 20_000)
    points = np.einsum("kc,kcx->kx", weights, vertices[faces[rng.integers(0, len(faces), 20_000)]])
    grid = np.zeros((64, 64, 64), bool)
    grid[tuple(golden["torus.indices"].T)] = True
    marked = np.zeros_like(grid)
    marked[tuple(voxelize(vertices, faces).T)] = True
    assert marked[tuple(np.floor((points + 0.5) * 64).astype(int).T)].all()
    assert np.array_equal(marked, grid)


def test_coordinates_are_unique_and_sorted_lexicographically(golden):
    coords = voxelize(golden["soup_small.vertices"], golden["soup_small.faces"]).astype(int)
    code = (coords[:, 0] * 64 + coords[:, 1]) * 64 + coords[:, 2]
    assert (np.diff(code) > 0).all()


def test_moving_a_mesh_by_whole_voxels_moves_its_voxels(golden):
    vertices, faces = golden["soup_small.vertices"] * 0.5, golden["soup_small.faces"]
    vertices = np.round(vertices.astype(np.float64) * 2**20) / 2**20
    moved = voxelize(vertices + np.array([3, -5, 7]) / 64, faces)
    np.testing.assert_array_equal(moved, voxelize(vertices, faces) + np.array([3, -5, 7]))


def test_triangles_that_reach_far_outside_are_clamped_to_the_cube():
    far = np.array([[-1e30, -1e30, 0.1], [1e30, -1e30, 0.1], [0.0, 1e30, 0.1]])
    coords = voxelize(far, TRIANGLE)
    assert coords.min() == 0 and coords.max() == 63
    assert set(coords[:, 2]) == {int((0.1 + 0.5) * 64)}


def test_points_lines_and_empty_meshes_are_defined():
    point = voxelize(np.full((3, 3), 0.2), TRIANGLE)
    assert point.tolist() == [[44, 44, 44]]
    line = voxelize(np.array([[-0.4, 0.2, 0.2], [0.4, 0.2, 0.2], [0.0, 0.2, 0.2]]), TRIANGLE)
    assert line.tolist() == [[x, 44, 44] for x in range(6, 58)]
    assert voxelize(np.empty((0, 3)), np.empty((0, 3), int)).shape == (0, 3)
    assert voxelize(np.zeros((5, 3)), np.empty((0, 3), int)).shape == (0, 3)


@pytest.mark.parametrize(
    ("vertices", "faces", "reason"),
    [
        ([[0, 0, 0], [0.1, np.nan, 0], [0, 0.1, 0]], TRIANGLE, "non_finite"),
        ([[0, 0, 0], [np.inf, 0, 0], [0, 0.1, 0]], TRIANGLE, "non_finite"),
        (np.zeros((3, 3)), [[0, 1, 3]], "bad_index"),
        (np.zeros((3, 3)), [[0, 1, -1]], "bad_index"),
    ],
)
def test_broken_meshes_are_refused_with_a_reason(vertices, faces, reason):
    with pytest.raises(AssetError) as caught:
        voxelize(np.array(vertices, float), np.array(faces))
    assert caught.value.reason == reason


@pytest.mark.parametrize("resolution", [0, 257])
def test_a_resolution_that_does_not_fit_a_byte_is_refused(resolution):
    with pytest.raises(ValueError, match="256"):
        voxelize(np.zeros((3, 3)), TRIANGLE, resolution)


def test_instances_are_stored_one_after_the_other(golden):
    names = ("torus", "capsule")
    meshes = [(golden[f"{name}.vertices"], golden[f"{name}.faces"]) for name in names]
    empty = (np.empty((0, 3)), np.empty((0, 3), int))
    coords, offsets = SceneVoxelizer([meshes[0], empty, meshes[1]]).view(np.eye(4))
    assert coords.dtype == np.uint8 and offsets.dtype == np.int32
    assert offsets[0] == 0 and offsets[1] == offsets[2] and offsets[3] == len(coords)
    np.testing.assert_array_equal(coords[: offsets[1]], golden["torus.indices"])
    np.testing.assert_array_equal(coords[offsets[2] :], golden["capsule.indices"])
    assert SceneVoxelizer([]).view(np.eye(4))[1].tolist() == [0]


def test_every_view_of_a_scene_is_as_if_it_were_the_only_one(golden):
    meshes = [(golden[f"{name}.vertices"] * 0.4 + shift, golden[f"{name}.faces"]) for name, shift in PLACED.items()]
    voxelizer = SceneVoxelizer(meshes)
    rng = np.random.default_rng(4)
    for _ in range(5):
        transform = np.eye(4)
        transform[:3] += rng.normal(0, 0.2, (3, 4))
        coords, offsets = voxelizer.view(transform)
        for i, (vertices, faces) in enumerate(meshes):
            alone = voxelize(apply_transform(transform, vertices), faces)
            np.testing.assert_array_equal(coords[offsets[i] : offsets[i + 1]], alone)


@pytest.mark.shared
def test_placements_of_real_meshes_give_open3d_s_voxels():
    open3d = pytest.importorskip("open3d")
    packs = ROOT.parent / "shared" / "assets"
    files = sorted(packs.glob("dev/*.glb"))[::2] + sorted(packs.glob("large/*.glb"))[::8]
    if not files:
        pytest.skip("the packs of real meshes are not here")
    rng = np.random.default_rng(8)
    compared = 0
    for path in files[:200]:
        mesh = load_asset_mesh(path)
        low, high = mesh.bounds
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        points = ((mesh.vertices - (low + high) / 2) / (high - low).max() * rng.uniform(0.1, 0.55)) @ turn.T
        points = np.clip(points + rng.uniform(-0.2, 0.2, 3), -0.5 + 1e-6, 0.5 - 1e-6)
        theirs = open3d.geometry.VoxelGrid.create_from_triangle_mesh_within_bounds(
            open3d.geometry.TriangleMesh(
                open3d.utility.Vector3dVector(points), open3d.utility.Vector3iVector(mesh.faces)
            ),
            voxel_size=1 / 64,
            min_bound=(-0.5,) * 3,
            max_bound=(0.5,) * 3,
        )
        expected = np.array(sorted(tuple(voxel.grid_index) for voxel in theirs.get_voxels()), np.uint8)
        np.testing.assert_array_equal(voxelize(points, mesh.faces), expected, err_msg=path.name)
        compared += 1
    assert compared == 200


def test_where_no_compiled_code_can_be_kept_it_is_compiled_anew(monkeypatch):
    import numba

    compile_it = numba.njit

    def njit(**options: object):
        if options.get("cache"):
            raise RuntimeError("cannot cache function '_mark': no locator available")
        return compile_it(**options)

    monkeypatch.setattr(numba, "njit", njit)
    grid = np.zeros((4, 4, 4), bool)
    module._compiled.__wrapped__()[0](
        np.zeros((3, 3)), TRIANGLE, np.eye(4), np.empty((3, 3)), np.empty(3, np.int32), grid
    )
    assert grid.sum() == 1
