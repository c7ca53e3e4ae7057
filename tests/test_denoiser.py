"""The denoiser in Blender's own library: it removes noise, repeats itself, and says so when it is not there."""

import numpy as np
import pytest

from randscene.blender_scripts import denoiser
from randscene.blender_scripts.denoiser import Denoiser
from randscene.errors import RenderError

pytestmark = pytest.mark.blender


def noisy(height: int = 61, width: int = 90) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A smooth ramp, the same with noise, and a normal."""
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    clean = np.stack([rows / height, columns / width, np.full_like(rows, 2.0)], axis=2)
    normal = np.broadcast_to(np.float32([0, 0, 1]), clean.shape)
    return clean, clean * np.random.default_rng(0).exponential(1.0, (height, width, 1)).astype(np.float32), normal


@pytest.mark.parametrize("quality", ["fast", "balanced", "high"])
def test_noise_goes_and_the_picture_stays(quality):
    clean, dirty, normal = noisy()
    out = Denoiser(1).denoise(dirty, normal, quality)
    assert out.shape == clean.shape and out.dtype == np.float32
    assert np.abs(out - clean).mean() < 0.15 * np.abs(dirty - clean).mean()


def test_the_number_of_threads_changes_no_bit():
    _, dirty, normal = noisy()
    one, two = (Denoiser(threads).denoise(dirty, normal, "fast") for threads in (1, 2))
    assert np.array_equal(one, two)


def test_a_library_that_is_not_there_or_broken_is_one_clear_error(monkeypatch, tmp_path):
    monkeypatch.setattr(denoiser, "LIBRARY", "libNothing.so")
    with pytest.raises(RenderError, match="reinstall bpy") as caught:
        Denoiser(1)
    assert caught.value.reason == "denoiser_missing"


def test_what_the_library_refuses_is_said_in_its_words(monkeypatch):
    monkeypatch.setitem(denoiser._QUALITIES, "odd", 99)
    _, dirty, normal = noisy()
    with pytest.raises(RenderError) as caught:
        Denoiser(1).denoise(dirty, normal, "odd")
    assert caught.value.reason == "denoiser_failed"
