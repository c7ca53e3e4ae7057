"""The active-box encoder gives what the whole encoder gives, wherever the voxels lie."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from randscene.errors import DatasetError
from randscene.train.active_box_encoder import SIDES, ActiveBoxEncoder
from randscene.train.sparse_structure_vae import SparseStructureEncoder


def small_encoder() -> SparseStructureEncoder:
    """The published architecture with few channels and weights far from zero, so that every border would show."""
    module = SparseStructureEncoder(
        in_channels=1, latent_channels=8, num_res_blocks=2, channels=[4, 8, 16], num_res_blocks_middle=2
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 1 / np.sqrt(parameter[0].numel()), generator=generator)
            else:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return module.eval()


@pytest.fixture(scope="module")
def module() -> SparseStructureEncoder:
    return small_encoder()


@pytest.fixture(scope="module")
def encoder() -> ActiveBoxEncoder:
    return ActiveBoxEncoder(small_encoder(), batch_size=2, compile=False)


def whole(module: SparseStructureEncoder, coords: np.ndarray) -> np.ndarray:
    x = torch.zeros(1, 1, 64, 64, 64)
    x[0, 0][tuple(coords.T.astype(np.int64))] = 1
    with torch.inference_mode():
        return module(x)[0].numpy()


def cloud(low: np.ndarray, high: np.ndarray, seed: int) -> np.ndarray:
    """Random voxels whose box is exactly [low, high)."""
    rng = np.random.default_rng(seed)
    inner = rng.integers(low, high, (200, 3))
    return np.unique(np.concatenate([inner, [low, high - 1]]), axis=0).astype(np.uint8)


@settings(max_examples=25, deadline=None)
@given(
    low=st.tuples(*[st.integers(0, 63)] * 3),
    size=st.tuples(*[st.integers(1, 64)] * 3),
    seed=st.integers(0, 999),
)
def test_latents_equal_the_whole_encoder_s_wherever_the_voxels_lie(module, encoder, low, size, seed):
    start = np.array(low)
    coords = cloud(start, np.minimum(start + size, 64), seed)
    np.testing.assert_allclose(encoder.encode([coords])[0], whole(module, coords), atol=2e-3)


@pytest.mark.parametrize("corner", [(0, 0, 0), (60, 60, 60), (0, 60, 30), (30, 0, 60)])
def test_windows_at_the_border_of_the_cube_pad_with_zeros_as_the_cube_does(module, encoder, corner):
    start = np.array(corner)
    coords = cloud(start, start + 4, 1)
    assert encoder.windows(coords).side < 64
    np.testing.assert_allclose(encoder.encode([coords])[0], whole(module, coords), atol=2e-3)


def test_a_narrower_window_would_be_wrong(module):
    narrow = ActiveBoxEncoder(small_encoder(), batch_size=1, compile=False)
    narrow._reach = (1, 1)
    coords = cloud(np.array([20, 25, 30]), np.array([30, 35, 40]), 2)
    assert np.abs(narrow.encode([coords])[0] - whole(module, coords)).max() > 0.01


def test_order_neighbours_and_repetitions_do_not_matter(encoder):
    grids = [cloud(np.full(3, at), np.full(3, at + size), at) for at, size in ((3, 5), (10, 40), (30, 9), (0, 64))]
    alone = [encoder.encode([coords])[0] for coords in grids]
    together = encoder.encode([*grids, grids[1], grids[0]])
    np.testing.assert_allclose(together[:4], alone, atol=2e-3)
    np.testing.assert_array_equal(together[4], together[1])
    np.testing.assert_array_equal(together[5], together[0])


def test_an_empty_grid_has_the_empty_response(module, encoder):
    empty = np.zeros((0, 3), np.uint8)
    np.testing.assert_allclose(encoder.encode([empty])[0], whole(module, empty), atol=2e-3)


def test_every_size_of_object_has_a_window_and_small_ones_have_small_windows(encoder):
    sides = [encoder.windows(cloud(np.full(3, 20), np.full(3, 20 + size), 0)).side for size in range(1, 44)]
    assert sides == sorted(sides) and sides[0] == SIDES[0] and set(sides) == set(SIDES)


@pytest.mark.parametrize("coords", [np.zeros((4, 2), np.uint8), np.zeros((4, 3)), np.full((1, 3), 64, np.uint8)])
def test_what_is_no_grid_is_refused(encoder, coords):
    with pytest.raises(DatasetError):
        encoder.encode([coords])
