"""Crops of a scene and its instances, and the mini image encoder."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from randscene.errors import DatasetError, SpecError
from randscene.train.image_conditioner import MiniConditioner, build_conditioner, prepare_images, scene_box
from randscene.train.settings import ConditionerSettings, load_settings

DATA = Path(__file__).parent / "data" / "image_conditioner"


def view(rgb, ids):
    return SimpleNamespace(rgb=rgb, ids=ids, n_instances=int(ids.max()))


@pytest.mark.parametrize("name", ["inside", "over_the_border"])
def test_the_scene_crop_equals_the_released_one(name):
    with np.load(DATA / "crops.npz") as data:
        rgb, ids, expected = (data[f"{name}.{part}"] for part in ("rgb", "ids", "crop"))
    box = scene_box(ids)
    mask = np.asarray(Image.fromarray(ids).crop(box)) > 0
    np.testing.assert_array_equal(np.asarray(Image.fromarray(rgb).crop(box)) * mask[:, :, None], expected)
    side = expected.shape[0]
    scene = prepare_images(view(rgb, ids), side)[0]
    np.testing.assert_allclose(scene.transpose(1, 2, 0) * 255, expected, atol=1e-4)


@pytest.mark.parametrize("name", ["inside", "over_the_border"])
def test_images_at_the_encoders_size_are_the_released_ones_but_for_the_kernel_of_the_filter(name):
    # The release resizes by OpenCV's 8-tap Lanczos, without antialiasing; every 14th pixel of its images is stored.
    with np.load(DATA / "crops.npz") as data, np.load(DATA / "images_518.npz") as released:
        sample, expected = view(data[f"{name}.rgb"], data[f"{name}.ids"]), released[f"{name}.images"]
    images = prepare_images(sample, 518)
    assert images.shape == (4, 3, 518, 518) and expected.shape == (4, 3, 37, 37)
    error = np.abs(images[:, :, ::14, ::14] - expected)
    assert error.mean((1, 2, 3)).max() < 0.0025 and error.max() < 0.1
    shifted = np.abs(np.roll(images, 1, axis=-1)[:, :, ::14, ::14] - expected)
    assert shifted.mean() > 3 * error.mean() and shifted.max() > 0.15


def test_instance_images_are_the_scenes_crop_cut_by_their_masks_in_the_order_asked_for():
    rgb = np.full((64, 64, 3), 200, np.uint8)
    ids = np.zeros((64, 64), np.uint8)
    ids[10:30, 10:20], ids[30:50, 40:50] = 1, 2
    images = prepare_images(view(rgb, ids), 48)
    assert images.shape == (3, 3, 48, 48) and images.dtype == np.float32
    np.testing.assert_allclose(images[0], images[1] + images[2], atol=0.02)
    left, right = images[1, 0], images[2, 0]
    assert left[:, 24:].max() == 0 and right[:, :24].max() == 0
    swapped = prepare_images(view(rgb, ids), 48, np.array([2, 1, 2]))
    np.testing.assert_array_equal(swapped, images[[0, 2, 1, 2]])


def test_shrinking_does_not_alias():
    rgb = np.zeros((240, 240, 3), np.uint8)
    rgb[:, ::2] = 255
    ids = np.ones((240, 240), np.uint8)
    image = prepare_images(view(rgb, ids), 24)[0]
    assert image[:, 8:16, 8:16].std() < 0.03
    assert abs(image[:, 8:16, 8:16].mean() - 0.5) < 0.03


def test_a_single_pixel_is_enough_and_none_is_refused():
    ids = np.zeros((32, 32), np.uint8)
    with pytest.raises(DatasetError, match="shows no instance"):
        prepare_images(view(np.zeros((32, 32, 3), np.uint8), ids), 16)
    ids[31, 0] = 1
    assert prepare_images(view(np.full((32, 32, 3), 255, np.uint8), ids), 16).max() > 0.5
    with pytest.raises(DatasetError, match="the id map is 32 x 32 but the image is 16 x 32"):
        prepare_images(view(np.zeros((32, 16, 3), np.uint8), ids), 16)


def test_tokens_have_the_stated_shape_are_normalised_and_depend_on_every_patch():
    conditioner = build_conditioner(load_settings("mini").conditioner, seed=3)
    images = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    tokens = conditioner(images)
    assert tokens.shape == (2, 64, 128)
    torch.testing.assert_close(tokens.mean(-1), torch.zeros(2, 64), atol=1e-5, rtol=0)
    torch.testing.assert_close(tokens.var(-1, unbiased=False), torch.ones(2, 64), atol=1e-3, rtol=0)
    other = images.clone()
    other[0, :, :16, :16] = 0
    changed = (conditioner(other) - tokens).abs().amax(-1)
    assert (changed[0] > 1e-6).all() and changed[1].max() == 0


def test_equal_patches_at_different_places_give_different_tokens():
    tokens = MiniConditioner()(torch.full((1, 3, 128, 128), 0.5))[0]
    assert torch.pdist(tokens).min() > 0.1


def test_attention_stays_as_soft_as_it_is_however_large_queries_and_keys_grow():
    encoder = MiniConditioner(image_size=32, patch_size=8, channels=16, num_blocks=2, num_heads=2)
    images = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    before = encoder(images)
    with torch.no_grad():
        for block in encoder.blocks:
            block.attn.to_qkv.weight[:32] *= 1000
    torch.testing.assert_close(encoder(images), before, atol=1e-4, rtol=0)


def test_initial_weights_follow_from_the_seed_alone():
    torch.manual_seed(1)
    first = MiniConditioner(seed=5).state_dict()
    torch.manual_seed(2)
    again, other = MiniConditioner(seed=5).state_dict(), MiniConditioner(seed=6).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["stem.0.weight"], other["stem.0.weight"])


def test_a_mini_encoder_that_cannot_be_built_is_refused_in_one_line():
    with pytest.raises(SpecError, match="power of two"):
        build_conditioner(ConditionerSettings(kind="mini", image_size=120, patch_size=12, channels=64, num_heads=4), 0)
