"""Groups of a scene and its instances: which, from where, and in whose frame and latents."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from shard_fixtures import make_sample

from randscene import seeding
from randscene.errors import DatasetError
from randscene.train.batch import LatentSource, build_batch, choose_instances
from randscene.train.image_conditioner import crop_images
from randscene.train.settings import load_settings, with_overrides
from randscene.train.structure_encoder import encode_voxels, load_encoder

SETTINGS = with_overrides(load_settings("mini"), ["data.encoder=synthetic", "data.instances_per_scene=3"])


def samples(count=3, **more):
    return [make_sample(scene, scene % 2, latents=True, **more) for scene in range(count)]


def changed(sample, **meta):
    return dataclasses.replace(sample, meta={**sample.meta, **meta})


@given(st.integers(1, 12), st.integers(1, 20), st.integers(0, 2**32))
def test_instances_repeat_only_when_a_scene_has_too_few(count, wanted, seed):
    chosen = choose_instances(count, wanted, np.random.default_rng(seed))
    assert len(chosen) == wanted and chosen.min() >= 1 and chosen.max() <= count
    times = np.bincount(chosen, minlength=count + 1)[1:]
    assert times.max() - times.min() <= 1


def test_every_instance_gets_its_turn():
    drawn = np.concatenate([choose_instances(7, 3, seeding.generator(0, step)) for step in range(700)])
    assert np.abs(np.bincount(drawn, minlength=8)[1:] - 300).max() < 60


def test_a_batch_holds_each_groups_own_latents_and_images():
    views = samples()
    batch = build_batch(views, SETTINGS, LatentSource(SETTINGS), positions=[4, 9, 2])
    assert batch.scene_latents.shape == (3, 8, 16, 16, 16) and batch.scene_latents.dtype == torch.float32
    assert batch.instance_latents.shape == (9, 8, 16, 16, 16)
    assert batch.images.shape == (12, 3, 128, 128) and batch.images.dtype == torch.uint8
    assert batch.scene_of.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert batch.keys == tuple(view.key for view in views)
    for group, view in enumerate(views):
        images = crop_images(view, 128)
        np.testing.assert_array_equal(batch.scene_latents[group], view.latents[0])
        np.testing.assert_array_equal(batch.images[group], images[0])
        for row in range(3 * group, 3 * group + 3):
            np.testing.assert_array_equal(batch.instance_latents[row], view.latents[batch.instances[row]])
            np.testing.assert_array_equal(batch.images[3 + row], images[batch.instances[row]])


def test_a_group_does_not_depend_on_how_the_step_is_cut_into_ranks():
    views = samples()
    together = build_batch(views, SETTINGS, LatentSource(SETTINGS), positions=[4, 9, 2])
    alone = build_batch(views[1:2], SETTINGS, LatentSource(SETTINGS), positions=[9])
    later = build_batch(views[1:2], with_overrides(SETTINGS, ["seed=1"]), LatentSource(SETTINGS), positions=[9])
    assert alone.instances.tolist() == together.instances[3:6].tolist()
    assert torch.equal(alone.instance_latents, together.instance_latents[3:6])
    other = {tuple(later.instances.tolist())} | {
        tuple(build_batch(views[1:2], SETTINGS, LatentSource(SETTINGS), positions=[p]).instances.tolist())
        for p in range(8)
    }
    assert len(other) > 1


def test_voxels_without_latents_are_encoded_to_what_the_encoder_gives():
    settings = load_settings("mini")
    view = make_sample(0, 0)
    source = LatentSource(settings)
    latents = source.latents(view, np.array([2, 1, 2]))
    encoder = load_encoder("mini")
    expected = encode_voxels(encoder, [view.scene_coords(), view.instance_coords(1), view.instance_coords(2)])
    np.testing.assert_array_equal(latents, expected[[0, 2, 1, 2]].astype(np.float32))
    assert source.encoder_sha256 == encoder.sha256


@pytest.mark.parametrize("stored", [(), (1,)], ids=["none stored", "one of three stored"])
def test_groups_that_a_loader_leaves_to_be_encoded_get_the_same_latents_and_no_memory_before(stored):
    settings = with_overrides(load_settings("mini"), ["data.instances_per_scene=3"])
    source = LatentSource(settings)
    views = [make_sample(scene, 0) for scene in range(3)]
    for number in stored:
        latents = source.latents(views[number], np.arange(1, views[number].n_instances + 1)).astype(np.float16)
        views[number] = changed(
            dataclasses.replace(views[number], latents=latents),
            encoder={"name": "mini", "sha256": source.encoder_sha256},
        )
    left = build_batch(views, settings, source, positions=range(3), encode=False)
    held = left.scene_latents.untyped_storage().nbytes() + left.instance_latents.untyped_storage().nbytes()
    assert held == 12 * 8 * 16**3 * 4 if stored else held < 100
    assert len(left.grids) == 4 * (3 - len(stored)) and left.wholly_to_encode == (not stored)
    made, expected = source.encode(left), build_batch(views, settings, source, positions=range(3))
    assert not made.grids
    for group, view in enumerate(views):
        of_group = [made.scene_latents[group], *made.instance_latents[3 * group : 3 * group + 3]]
        np.testing.assert_array_equal(torch.stack(of_group), source.latents(view, made.instances[3 * group :][:3]))
    assert torch.equal(made.instance_latents, expected.instance_latents)


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({"frame": "full"}, r"000001_001 is in frame full .* but the run is in yaw"),
        ({"azimuth_offset_deg": 90.0}, r"000001_001 is in frame yaw \(azimuth offset 90\) but the run is in yaw \(0\)"),
        (
            {"encoder": {"name": "synthetic", "sha256": "1" * 64}},
            r"000001_001 holds latents of encoder synthetic \(11",
        ),
        ({"encoder": None}, r"000001_001 holds latents of encoder None"),
    ],
)
def test_a_sample_of_another_frame_or_encoder_is_refused_by_name(meta, message):
    views = samples(2)
    views[1] = changed(views[1], **meta)
    with pytest.raises(DatasetError, match=message):
        build_batch(views, SETTINGS, LatentSource(SETTINGS), positions=[0, 1])


def test_latents_of_another_encoder_than_the_resumed_run_are_refused():
    source = LatentSource(SETTINGS, sha256="2" * 64)
    with pytest.raises(DatasetError, match=r"encoder synthetic \(0000.*run uses synthetic \(2222"):
        build_batch(samples(1), SETTINGS, source, positions=[0])


def test_latents_under_another_name_are_compared_by_their_weights():
    settings = load_settings("mini")
    sha256 = load_encoder("mini").sha256
    view = changed(samples(1)[0], encoder={"name": "/a/copy/of/it", "sha256": sha256})
    assert build_batch([view], settings, LatentSource(settings), positions=[0]).keys == (view.key,)
    with pytest.raises(DatasetError, match="holds latents of encoder synthetic"):
        build_batch(samples(1), settings, LatentSource(settings), positions=[0])


def test_a_view_that_shows_nothing_is_named():
    view = dataclasses.replace(samples(1)[0], ids=np.zeros((48, 48), np.uint8))
    with pytest.raises(DatasetError, match="sample 000000_000: the id map shows no instance"):
        build_batch([view], SETTINGS, LatentSource(SETTINGS), positions=[0])
