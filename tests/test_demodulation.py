"""Splitting a render into light and guide: what falls out of the quotient, and that the product gives it back."""

import hypothesis.extra.numpy as hnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from randscene.demodulation import illumination, modulator


@st.composite
def samples(draw):
    """Mean base colour (H, W, 3) and coverage (H, W, 1) of a few samples a pixel, some of which met nothing."""
    shape = draw(st.tuples(st.integers(2, 5), st.integers(2, 5)))
    unit = st.floats(0, 1, width=32)
    base = draw(hnp.arrays(np.float32, (4, *shape, 3), elements=unit))
    met = draw(hnp.arrays(np.bool_, (4, *shape, 1)))
    return (base * met).mean(axis=0), met.mean(axis=0, dtype=np.float32)


@given(samples(), st.floats(0.01, 100))
def test_under_even_light_nothing_of_outlines_and_textures_is_left(drawn, brightness):
    guide, alpha = drawn
    combined = np.concatenate([np.float32(brightness) * modulator(guide, alpha), alpha], axis=2)
    light = illumination(combined, guide)
    if alpha.any():
        np.testing.assert_allclose(light, brightness, rtol=1e-4)
    else:
        assert not light.any()


@given(samples(), st.integers(0, 2**32 - 1))
def test_light_times_guide_is_the_render(drawn, seed):
    guide, alpha = drawn
    color = np.random.default_rng(seed).uniform(0, 3, guide.shape).astype(np.float32) * alpha
    light = illumination(np.concatenate([color, alpha], axis=2), guide)
    np.testing.assert_allclose(light * modulator(guide, alpha), color, rtol=1e-4, atol=1e-6)
