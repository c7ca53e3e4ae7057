"""The exact guide: base colours and coverage of pixels, as the ray-cast engine's own look-up has them."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray_fixtures import ABOVE, box, camera, checkers, square

from randscene.generator import shading
from randscene.generator.guide_sampler import MISS, GuideSampler, pixel_pattern
from randscene.generator.ray_caster import RayScene

RESOLUTION = 24


def everywhere() -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.mgrid[0:RESOLUTION, 0:RESOLUTION]
    return rows.ravel(), columns.ravel()


@pytest.mark.parametrize("count", [1, 2, 4, 8, 16, 64])
def test_each_ray_of_a_pixel_has_a_row_and_a_column_to_itself(count):
    points = np.array(pixel_pattern(count))
    for axis in range(2):
        assert np.array_equal(np.sort(np.floor(points[:, axis] * count)), np.arange(count))
    # Every elementary box of the area of one point holds one.
    for split in range(count.bit_length()):
        cells = np.floor(points * (1 << split, count >> split)).astype(int)
        assert len({tuple(cell) for cell in cells}) == count


@settings(max_examples=30, deadline=None)
@given(turns=st.floats(0, 1), height=st.floats(-1, 1), seed=st.integers(0, 99))
def test_one_ray_sees_what_the_raycast_engine_sees_there(turns, height, seed):
    rng = np.random.default_rng(seed)
    texture = rng.integers(0, 256, (5, 7, 4), np.uint8)
    painted = replace(
        square(texture=texture, base_color=np.float32([0.9, 0.5, 0.7, 1])),
        corner_color=rng.uniform(0.2, 1, (2, 3, 4)).astype(np.float32),
    )
    rays = RayScene([painted, box((0.3, 0.2, 0.6), base_color=np.float32([0.1, 0.2, 0.3, 1]))])
    view = camera(turns, height)
    met = GuideSampler(rays).sample(view, RESOLUTION, *everywhere(), 1)
    ids, _ = rays.ids_and_depth(view, RESOLUTION)
    hit = ids.ravel() > 0
    # The two round their rays differently, which an outline may show.
    assert np.count_nonzero(met.surfaces[0] + 1 != ids.ravel()) <= 2
    assert np.array_equal(met.coverage > 0, met.surfaces[0] != MISS)
    origins = np.tile(np.float32(np.array(view.camera_to_world)[:3, 3]), (len(hit), 1))
    matrix, step = np.array(view.camera_to_world), 2 * np.tan(np.radians(20)) / RESOLUTION
    rows, columns = everywhere()
    middle = (RESOLUTION - 1) / 2
    ahead = (columns - middle)[:, None] * step * matrix[:3, 0] - (rows - middle)[:, None] * step * matrix[:3, 1]
    triangles, u, v = rays.first_hits(origins, (ahead - matrix[:3, 2]).astype(np.float32))
    both = hit & (triangles >= 0) & (met.surfaces[0] == rays.surfaces.surface_of[triangles])
    assert np.count_nonzero(both) >= np.count_nonzero(hit) - 2
    weights = np.stack([1 - u - v, u, v], axis=1)[both]
    code = np.diff(shading.LINEAR).max()
    np.testing.assert_allclose(met.color[both], rays.surfaces.color(triangles[both], weights)[:, :3], atol=1.5 * code)
    assert not met.color[met.surfaces[0] == MISS].any()


def test_coverage_and_colour_converge_to_the_areas_in_the_pixel():
    rays = RayScene([square(half=0.61, texture=checkers())])
    met = GuideSampler(rays).sample(ABOVE, RESOLUTION, *everywhere(), 64)
    # The square's edge is 0.61 from the middle; a pixel is 2 * 5 * tan(20 degrees) / 24 wide there.
    width = 10 * np.tan(np.radians(20)) / RESOLUTION
    assert met.coverage.sum() == pytest.approx((1.22 / width) ** 2, rel=5e-3)
    finer = GuideSampler(rays).sample(ABOVE, RESOLUTION, *everywhere(), 1024)
    assert met.color.sum() == pytest.approx(finer.color.sum(), rel=0.01)
    assert np.abs(met.color - finer.color).mean() < 0.005
    inside = (met.surfaces != MISS).all(axis=0)
    assert met.variance[inside].mean() > 0.002 and met.variance.min() >= 0


def test_rays_go_through_holes_and_blended_surfaces_are_named():
    holes = checkers()
    holes[..., 3] = holes[..., 0]
    cut = square(z=0.5, texture=holes, alpha_mode="MASK")
    floor = square(base_color=np.float32([0.2, 0.9, 0.1, 1]))
    glass = square(z=0.5, base_color=np.float32([1, 1, 1, 0.5]), alpha_mode="BLEND")
    met = GuideSampler(RayScene([cut, floor])).sample(ABOVE, RESOLUTION, *everywhere(), 16)
    assert set(np.unique(met.surfaces)) == {MISS, 0, 1} and not met.clear.any()
    met = GuideSampler(RayScene([glass, floor])).sample(ABOVE, RESOLUTION, *everywhere(), 16)
    assert np.array_equal(met.clear, (met.surfaces == 0).any(axis=0)) and met.clear.any()
