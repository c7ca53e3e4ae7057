"""The Poisson-disk layout: distances, count, determinism, density, termination."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from randscene import seeding
from randscene.errors import PlanError
from randscene.generator.poisson_disk import DiscLayout, poisson_disk

RADII = st.lists(st.floats(0.01, 3.0), min_size=1, max_size=20)
GAPS = st.floats(0.0, 2.0)
SEEDS = st.integers(0, 10_000)


def place(radii: list[float], gap: float, seed: int, **options: int) -> DiscLayout:
    return poisson_disk(radii, gap, seeding.generator(seed, "test"), **options)


def assert_rule(layout: DiscLayout, radii: list[float], gap: float) -> None:
    radius = np.asarray(radii)
    apart = np.linalg.norm(layout.centres[:, None] - layout.centres[None], axis=2)
    needed = radius[:, None] + radius[None] + gap
    np.fill_diagonal(needed, 0)
    assert (apart >= needed - 1e-12).all()
    assert (np.abs(layout.centres) <= layout.region / 2 - radius[:, None] + 1e-9).all()


@given(radii=RADII, gap=GAPS, seed=SEEDS, leading=st.integers(0, 1))
@settings(max_examples=200, deadline=None)
def test_no_two_discs_are_closer_than_the_rule_and_all_are_placed(radii, gap, seed, leading):
    layout = place(radii, gap, seed, leading=leading)
    assert layout.centres.shape == (len(radii), 2)
    assert layout.tries >= len(radii)
    assert_rule(layout, radii, gap)


@given(radii=RADII, gap=GAPS, seed=SEEDS)
@settings(max_examples=50, deadline=None)
def test_the_same_seed_gives_the_same_layout(radii, gap, seed):
    first, second = place(radii, gap, seed), place(radii, gap, seed)
    assert np.array_equal(first.centres, second.centres)
    assert (first.region, first.expansions, first.tries) == (second.region, second.expansions, second.tries)


def test_another_seed_gives_another_layout():
    assert not np.array_equal(place([0.5] * 5, 0.1, 0).centres, place([0.5] * 5, 0.1, 1).centres)


@pytest.mark.parametrize("radii", [[0.3] * 300, [2.0, *[0.05] * 300], list(np.geomspace(0.02, 1.0, 250))])
def test_the_rule_holds_for_many_discs_where_the_grid_is_searched(radii):
    layout = place(radii, 0.02, 3)
    assert_rule(layout, radii, 0.02)


@pytest.mark.parametrize(("leading", "first"), [(0, 2), (1, 0), (2, 0)])
def test_leading_discs_come_first_then_the_largest(leading, first):
    radii = [0.2, 0.4, 0.9, 0.1]
    layout = place(radii, 0.1, 7, leading=leading)
    rng = seeding.generator(7, "test")
    # The first disc takes the first position that is drawn: nothing is in its way yet.
    reach = layout.region / 1.1**layout.expansions / 2 - radii[first]
    assert layout.centres[first] == pytest.approx([(2 * rng.random() - 1) * reach, (2 * rng.random() - 1) * reach])


def test_the_region_is_neither_needlessly_large_nor_expanded_often():
    coverages, expansions = [], []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        radii = list(rng.uniform(0.1, 1.0, rng.integers(2, 13)))
        gap = float(np.mean(radii) * rng.uniform(0.05, 0.5))
        layout = place(radii, gap, seed)
        coverages.append(math.pi * sum((radius + gap / 2) ** 2 for radius in radii) / layout.region**2)
        expansions.append(layout.expansions)
    assert np.mean(coverages) > 0.3 and min(coverages) > 0.1
    assert np.mean(expansions) < 4


def test_the_region_grows_by_the_factor_and_only_when_the_tries_are_used_up():
    layout = place([0.5] * 30, 0.0, 1, tries=4)
    assert layout.expansions > 0
    start = math.sqrt(30 * math.pi * 0.25 / 0.45)
    assert layout.region == pytest.approx(start * 1.1**layout.expansions)
    assert layout.tries >= 4 * layout.expansions + 30


def test_a_budget_that_is_used_up_is_an_error_that_names_the_settings():
    with pytest.raises(PlanError, match="max_expansions"):
        place([0.5] * 60, 0.3, 0, tries=1, max_expansions=0)


@pytest.mark.parametrize(("radii", "gap"), [([], 0.1), ([0.5, 0.0], 0.1), ([0.5], -0.1)])
def test_discs_without_size_and_negative_gaps_are_refused(radii, gap):
    with pytest.raises(ValueError, match="positive radii"):
        place(radii, gap, 0)
