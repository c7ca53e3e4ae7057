"""Which views are rendered: the cheap verdict is that of the full picture, and labels are made a view at a time."""

import tracemalloc

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from ray_fixtures import ABOVE, box, camera, checker, mesh, square

from randscene.generator import visibility
from randscene.generator.ray_caster import RayScene
from randscene.generator.visibility import keepable_views, label_view

positions = st.tuples(st.floats(-0.8, 0.8), st.floats(-0.8, 0.8), st.floats(-0.8, 0.8))
boxes = st.builds(box, positions, st.sampled_from([0.004, 0.02, 0.1, 0.5]))
masked = st.builds(
    lambda z, half: square(z, half, texture=checker(), alpha_mode="MASK"), st.floats(-0.9, 0.9), st.floats(0.01, 1.0)
)
slivers = st.lists(positions, min_size=3, max_size=3).map(
    lambda points: mesh(np.array(points) * (1, 1, 0.01), np.array([[0, 1, 2]], np.int32))
)
cameras = st.builds(camera, st.floats(0, 1), st.floats(-1, 1), st.sampled_from([0.6, 2.0, 5.0]))


@given(
    meshes=st.lists(st.one_of(boxes, masked, slivers), min_size=1, max_size=6),
    views=st.lists(cameras, min_size=1, max_size=5),
    resolution=st.integers(1, 90),
    first_look=st.sampled_from([1, 5, 16, 64]),
)
@settings(max_examples=150, deadline=None)
def test_the_cheap_verdict_is_that_of_the_full_picture(meshes, views, resolution, first_look):
    rays = RayScene(meshes)
    before, visibility.FIRST_LOOK = visibility.FIRST_LOOK, first_look
    try:
        kept = keepable_views(rays, views, resolution)
    finally:
        visibility.FIRST_LOOK = before
    everything = set(range(1, len(meshes) + 1))
    full = [everything <= set(np.unique(rays.ids_and_depth(view, resolution)[0])) for view in views]
    assert kept == [number for number, shown in enumerate(full) if shown]


@given(
    meshes=st.lists(st.one_of(boxes, masked), min_size=1, max_size=4),
    view=cameras,
    resolution=st.integers(1, 60),
    step=st.integers(1, 9),
)
@settings(max_examples=60, deadline=None)
def test_a_look_at_some_pixels_sees_a_part_of_the_picture(meshes, view, resolution, step):
    rays = RayScene(meshes)
    whole = np.bincount(rays.ids_and_depth(view, resolution)[0].ravel(), minlength=9)[1:]
    part = np.bincount(rays.ids_inside(view, resolution, step=step), minlength=9)[1:]
    assert (part <= whole).all()
    assert np.array_equal(np.bincount(rays.ids_inside(view, resolution), minlength=9)[1:], whole)
    for instance in range(1, len(meshes) + 1):
        inside = np.bincount(rays.ids_inside(view, resolution, instance=instance), minlength=9)[1:]
        assert inside[instance - 1] == whole[instance - 1] and (inside <= whole).all()


def test_views_that_hide_an_object_are_dropped_and_counts_are_kept():
    scene = RayScene([square(z=0.0), square(z=1.0, half=0.5), square(z=-1.0, half=0.2)])
    views = [ABOVE, camera(0.1, 0.3), camera(0.75, -1.0)]
    assert keepable_views(scene, views, 80) == [1]
    labels = label_view(scene, views, 1, 80)
    assert labels.view == 1 and np.isfinite(labels.depth).sum() == (labels.ids > 0).sum()
    assert labels.visible_pixels.tolist() == [(labels.ids == i).sum() for i in (1, 2, 3)]
    assert (labels.unoccluded_pixels >= labels.visible_pixels).all()
    assert labels.unoccluded_pixels[2] == scene.unoccluded_pixels(views[1], 80, 3)


def test_an_object_of_one_pixel_is_found_wherever_it_lies_in_the_grid_of_the_first_look():
    resolution, pixel = 128, 2 * 5 * np.tan(np.radians(20)) / 128
    hidden = square(z=-1.0, half=0.2)
    for column in range(6):
        speck = mesh(np.array([[0, -0.3, 0], [0.3, 0.3, 0], [-0.3, 0.3, 0]]) * pixel, np.array([[0, 1, 2]], np.int32))
        speck.vertices[:] += ((column + 0.5) * pixel, 0.5 * pixel, 0)
        rays = RayScene([speck, box((0, -1.0, 0), 0.2)])
        assert (rays.ids_and_depth(ABOVE, resolution)[0] == 1).sum() == 1
        assert keepable_views(rays, [ABOVE], resolution) == [0]
    assert keepable_views(RayScene([square(z=0.0), hidden]), [ABOVE], resolution) == []


def test_deciding_holds_no_pictures():
    rays = RayScene([box((x, 0, 0), 0.2) for x in (-1.0, 0.0, 1.0)])
    views = [camera(turn / 40, 0.4) for turn in range(40)]
    keepable_views(rays, views[:1], 256)
    peaks = []
    for count in (4, 40):
        tracemalloc.start()
        assert len(keepable_views(rays, views[:count], 256)) > count // 2
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]
