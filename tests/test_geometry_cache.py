"""The cache of loaded assets is bounded by bytes, and forgets what was used longest ago."""

import numpy as np
import pytest
from ray_fixtures import box, checkers

from randscene.errors import AssetError
from randscene.generator.geometry_cache import GeometryCache, mesh_bytes


class Files:
    """Stands in for the disk: counts what is loaded."""

    def __init__(self) -> None:
        self.loaded: list[str] = []

    def load(self, uid: str):
        self.loaded.append(uid)
        return box((0, 0, 0), texture=checkers(512) if uid.startswith("large") else None)


SMALL = mesh_bytes(box((0, 0, 0)))


def test_a_mesh_counts_with_its_arrays_and_textures():
    plain, textured = box((0, 0, 0)), box((0, 0, 0), texture=checkers(64))
    assert mesh_bytes(textured) - mesh_bytes(plain) == 64 * 64 * 4
    assert mesh_bytes(plain) >= plain.vertices.nbytes + plain.faces.nbytes + plain.uv.nbytes
    twice = textured.__class__(
        **{name: getattr(textured, name) for name in ("vertices", "faces", "surface_of_face", "uv", "corner_color")},
        surfaces=textured.surfaces * 2,
    )
    assert mesh_bytes(twice) == mesh_bytes(textured)


def test_the_least_recently_used_mesh_goes_first():
    files = Files()
    cache = GeometryCache(files.load, mesh_bytes, bytes_kept=2 * SMALL)
    for uid in ("a", "b", "a", "c", "a", "b"):
        cache.get(uid)
    assert files.loaded == ["a", "b", "c", "b"]


def test_memory_stays_below_the_limit_whatever_the_meshes():
    files = Files()
    limit = 3 * SMALL + 512 * 512 * 4
    cache = GeometryCache(files.load, mesh_bytes, bytes_kept=limit)
    rng = np.random.default_rng(0)
    for number in rng.integers(0, 30, 300):
        cache.get(f"large{number}" if number % 5 == 0 else f"small{number}")
        assert cache.bytes_held <= limit
        assert cache.bytes_held == sum(mesh_bytes(mesh) for mesh, _ in cache._held.values())


def test_a_mesh_larger_than_the_limit_still_works_and_pushes_nothing_out():
    files = Files()
    cache = GeometryCache(files.load, mesh_bytes, bytes_kept=2 * SMALL)
    cache.get("a")
    assert cache.get("large").surfaces[0].texture.shape == (512, 512, 4)
    cache.get("large")
    cache.get("a")
    assert files.loaded == ["a", "large", "large"] and len(cache) == 1


def test_a_file_that_cannot_be_read_leaves_the_cache_as_it_was():
    def broken(uid: str):
        raise AssetError("unreadable", uid)

    cache = GeometryCache(broken, mesh_bytes)
    with pytest.raises(AssetError):
        cache.get("a")
    assert len(cache) == 0 and cache.bytes_held == 0
