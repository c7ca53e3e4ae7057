"""MIDI's pickled point clouds: read whole, and nothing that a file asks for is ever done."""

import pickle

import numpy as np
import pytest
from front3d_fixtures import pickled, write_bomb
from hypothesis import given
from hypothesis import strategies as st

from randscene.errors import AssetError
from randscene.generator.front3d_surface import MAX_BYTES, read_surface

POINTS = np.arange(12.0).reshape(4, 3) / 7
NORMALS = np.eye(4)[:, :3]


def reason(path) -> str:
    with pytest.raises(AssetError) as caught:
        read_surface(path)
    assert path.name in str(caught.value) and "\n" not in str(caught.value)
    return caught.value.reason


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_what_numpy_saves_is_read_back(tmp_path, dtype, order):
    path = tmp_path / "chair.npy"
    points, normals = (np.asarray(values.astype(dtype), order=order) for values in (POINTS, NORMALS))
    np.save(path, {"surface_points": points, "surface_normals": normals, "other": 1})
    cloud = read_surface(path)
    assert np.array_equal(cloud.points, POINTS.astype(dtype).astype(float))
    assert np.array_equal(cloud.normals, normals.astype(float)) and cloud.points.dtype == np.float64


@pytest.mark.parametrize("protocol", [3, 4])
def test_the_pickles_of_either_numpy_are_read(tmp_path, protocol):
    path = tmp_path / "chair.npy"
    data = pickled({"surface_points": POINTS, "surface_normals": NORMALS}, protocol)
    path.write_bytes(data)
    assert np.array_equal(read_surface(path).points, POINTS)
    path.write_bytes(data.replace(b"numpy.core.multiarray", b"numpy._core.multiarra"))
    assert reason(path) in ("unsafe_pickle", "bad_surface")


def test_numpy_2_names_the_same_function_elsewhere(tmp_path):
    path = tmp_path / "chair.npy"
    data = pickled({"surface_points": POINTS, "surface_normals": NORMALS}, 3)
    path.write_bytes(data.replace(b"cnumpy.core.multiarray\n", b"cnumpy._core.multiarray\n"))
    assert np.array_equal(read_surface(path).normals, NORMALS)


def test_a_malicious_pickle_is_refused_by_name_and_nothing_of_it_is_run(tmp_path):
    trace, path = tmp_path / "was-run", tmp_path / "chair.npy"
    write_bomb(path, trace)
    with pytest.raises(
        AssetError, match=r"names 'pathlib\.Path\.touch'|names '[a-z.]*'|nothing of it was run"
    ) as caught:
        read_surface(path)
    assert caught.value.reason == "unsafe_pickle" and not trace.exists()
    np.load(path, allow_pickle=True)
    assert trace.exists()  # the file is dangerous indeed


@pytest.mark.parametrize(
    "stream",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.",
        b"cnumpy\nload\n(S'x'\ntR.",
        b"cnumpy.core.multiarray\n_reconstruct\n(cos\nsystem\nK\x00\x85C\x01btR.",
        b"\x80\x02cnumpy\nndarray\n)\x81.",
        b"(ios\nsystem\n.",
        b"\x80\x04\x82\x01.",
        b"Pxyz\n.",
        b"cnumpy\ndtype\nq\x00}b.",
        b"\x80\x02cnumpy\nndarray\nK\x05\x85R.",
    ],
    ids=["global", "stack_global", "numpy-load", "subtype", "newobj", "inst", "ext", "persid", "build", "ndarray-call"],
)
def test_every_other_way_to_run_code_is_refused(tmp_path, stream):
    path = tmp_path / "chair.npy"
    path.write_bytes(pickled(None, 3)[: -len(pickle.dumps(np.array(None, dtype=object), 3))] + stream)
    assert reason(path) in ("unsafe_pickle", "bad_surface")


def test_a_false_dtype_cannot_turn_bytes_into_objects(tmp_path):
    """numpy itself trusts the state of a pickled dtype; a crafted one makes it take bytes for addresses."""
    path = tmp_path / "chair.npy"
    whole = pickled({"surface_points": POINTS, "surface_normals": NORMALS}, 3)
    path.write_bytes(whole.replace(b"X\x02\x00\x00\x00f8", b"X\x02\x00\x00\x00O8"))
    assert reason(path) == "bad_surface"


@pytest.mark.parametrize(
    "value",
    [
        {"surface_points": POINTS},
        {"surface_points": POINTS, "surface_normals": NORMALS[:3]},
        {"surface_points": POINTS[:, :2], "surface_normals": NORMALS[:, :2]},
        {"surface_points": POINTS.ravel(), "surface_normals": NORMALS.ravel()},
        {"surface_points": POINTS.tolist(), "surface_normals": NORMALS},
        {"surface_points": POINTS.astype(int), "surface_normals": NORMALS},
        {"surface_points": POINTS * np.nan, "surface_normals": NORMALS},
        {"surface_points": POINTS[:0], "surface_normals": NORMALS[:0]},
        [POINTS, NORMALS],
        None,
    ],
    ids=["field", "length", "columns", "flat", "list", "integers", "nan", "empty", "no-dict", "none"],
)
def test_another_structure_is_a_typed_failure(tmp_path, value):
    path = tmp_path / "chair.npy"
    path.write_bytes(pickled(value, 3))
    assert reason(path) == "bad_surface"


def test_plain_arrays_other_files_and_no_file_are_typed(tmp_path):
    path = tmp_path / "chair.npy"
    assert reason(path) == "missing_file"
    np.save(path, POINTS)
    assert reason(path) == "bad_surface"
    path.write_bytes(b"not an array")
    assert reason(path) == "bad_surface"
    with open(path, "wb") as handle:
        handle.truncate(MAX_BYTES + 1)
    assert reason(path) == "too_large"


@given(cut=st.integers(0, 700), flip=st.integers(0, 700))
def test_a_cut_or_changed_file_is_typed_or_read_never_worse(tmp_path_factory, cut, flip):
    path = tmp_path_factory.mktemp("cloud") / "chair.npy"
    data = bytearray(pickled({"surface_points": POINTS, "surface_normals": NORMALS}, 3))
    path.write_bytes(data[: min(cut, len(data) - 1)])
    assert reason(path) == "bad_surface"
    data[flip % len(data)] ^= 0x41
    path.write_bytes(data)
    try:
        read_surface(path)
    except AssetError as error:
        assert error.reason in ("bad_surface", "unsafe_pickle")
