"""The stateless order and mixtures: permutations, proportions, and the same sequence however it is split up."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shard_fixtures import make_dataset

from randscene.errors import DatasetError
from randscene.shards import IterableSamples, Mixture, open_dataset, permute, torch_loader
from randscene.shards.mixture import WINDOW
from randscene.shards.order import endless
from randscene.shards.torch_loading import positions_of

GOLDEN_SHORT = [5, 6, 0, 7, 1, 8, 3, 2, 9, 4]
GOLDEN_LONG = [1575443, 1090061, 1605597, 1558209]
SEEDS = st.integers(0, 2**40)


@given(seed=SEEDS, epoch=st.integers(0, 1000), n=st.integers(1, 3000))
@settings(deadline=None, max_examples=60)
def test_every_epoch_is_a_permutation(seed, epoch, n):
    assert np.array_equal(np.sort(permute(seed, epoch, n, np.arange(n))), np.arange(n))


@given(seed=SEEDS, n=st.integers(1, 10**12), data=st.data())
@settings(deadline=None, max_examples=60)
def test_order_does_not_depend_on_how_positions_are_batched(seed, n, data):
    positions = data.draw(st.lists(st.integers(0, n - 1), min_size=17, max_size=40))
    together = permute(seed, 3, n, positions)
    assert together.tolist() == [int(permute(seed, 3, n, position)) for position in positions]
    assert np.array_equal(permute(seed, 3, n, np.reshape(positions, (1, -1))), together[None])
    assert together.min() >= 0 and together.max() < n


@pytest.mark.parametrize("n", [50, 1000, 4096])
def test_seeds_and_epochs_differ(n):
    orders = [permute(seed, epoch, n, np.arange(n)) for seed in range(3) for epoch in range(3)]
    for number, order in enumerate(orders):
        for other in orders[:number]:
            assert np.mean(order == other) < 0.15


@pytest.mark.parametrize("n", [3, 5, 12, 64])
def test_small_orders_are_evenly_shuffled(n):
    trials = 3000
    table = np.zeros((n, n))
    for seed in range(trials):
        table[np.arange(n), permute(seed, 0, n, np.arange(n))] += 1
    chi2 = ((table - trials / n) ** 2 / (trials / n)).sum()
    freedom = (n - 1) ** 2
    assert chi2 < freedom + 5 * np.sqrt(2 * freedom)


def test_neighbours_are_not_kept_together():
    order = permute(0, 0, 10_000, np.arange(10_000))
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.05
    assert abs(np.corrcoef(np.arange(10_000), order)[0, 1]) < 0.05


def test_order_is_fixed_for_all_time():
    assert permute(0, 0, 10, np.arange(10)).tolist() == GOLDEN_SHORT
    assert permute(7, 3, 2_250_000, [0, 1, 2, 2_249_999]).tolist() == GOLDEN_LONG


def test_positions_out_of_range_are_refused():
    for n, position in ((10, 10), (10, -1), (0, 0)):
        with pytest.raises(ValueError):
            permute(0, 0, n, [position])


def test_endless_order_is_epoch_after_epoch():
    whole = endless(5, 7, np.arange(21))
    assert all(sorted(whole[start : start + 7]) == list(range(7)) for start in (0, 7, 14))
    assert np.array_equal(whole[7:14], permute(5, 1, 7, np.arange(7)))


class Numbers:
    """Stands in for a dataset: sample i is i."""

    def __init__(self, size):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return index


@given(
    weights=st.lists(st.floats(0.01, 10), min_size=1, max_size=5),
    seed=st.integers(0, 1000),
    windows=st.integers(1, 4),
)
@settings(deadline=None, max_examples=30)
def test_mixture_deals_each_draw_exactly_once_and_in_proportion(weights, seed, windows):
    mixture = Mixture({f"set{n}": (Numbers(10), weight) for n, weight in enumerate(weights)}, seed=seed)
    dealt = [mixture.deal(position) for position in range(windows * WINDOW)]
    for number, weight in enumerate(weights):
        counts = sorted(count for name, count in dealt if name == f"set{number}")
        assert counts == list(range(len(counts)))
        assert abs(len(counts) - windows * WINDOW * weight / sum(weights)) <= len(weights)


def test_mixture_walks_each_dataset_epoch_by_epoch():
    mixture = Mixture({"small": (Numbers(8), 1.0), "large": (Numbers(100), 3.0)}, seed=4)
    drawn = {"small": {}, "large": {}}
    for position in range(4 * WINDOW):
        name, count = mixture.deal(position)
        drawn[name][count] = mixture.sample(position)[1]
    small = [drawn["small"][count] for count in sorted(drawn["small"])]
    assert all(sorted(small[start : start + 8]) == list(range(8)) for start in range(0, len(small) - 7, 8))
    large = [drawn["large"][count] for count in sorted(drawn["large"])]
    assert sorted(large[:100]) == list(range(100)) and large[:100] != large[100:200]


@pytest.mark.parametrize("stride", [2, 3, 4, 8])
def test_ranks_see_the_same_proportions(stride):
    mixture = Mixture({"a": (Numbers(10), 0.5), "b": (Numbers(10), 0.5)})
    names = np.array([mixture.deal(position)[0] == "a" for position in range(24 * WINDOW)])
    for rank in range(stride):
        assert abs(names[rank::stride].mean() - 0.5) < 0.06


def test_mixture_does_not_depend_on_the_order_of_its_members():
    a, b = (Numbers(10), 1.0), (Numbers(20), 2.0)
    one, other = Mixture({"a": a, "b": b}, seed=2), Mixture({"b": b, "a": a}, seed=2)
    assert [one.locate(p) for p in range(500)] == [other.locate(p) for p in range(500)]
    assert [one.locate(p) for p in range(500)] != [Mixture({"a": a, "b": b}, seed=3).locate(p) for p in range(500)]


def test_mixture_far_positions_cost_nothing():
    mixture = Mixture({"a": (Numbers(10), 1 / 3), "b": (Numbers(20), 2 / 3)})
    far = 10**12
    dealt = [mixture.deal(position) for position in range(far - far % WINDOW, far - far % WINDOW + WINDOW)]
    counts = sorted(count for name, count in dealt if name == "a")
    assert counts == list(range(counts[0], counts[0] + len(counts)))
    assert abs(counts[0] - far / 3) < 400


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_mixture_refuses_weights_that_are_none(weight):
    with pytest.raises(DatasetError, match="weight of a"):
        Mixture({"a": (Numbers(3), weight), "b": (Numbers(3), 1.0)})


@pytest.mark.parametrize("member", ["no/dataset", ("no/dataset", 1.0), ([1], "much"), ([1],), [1]])
def test_mixture_refuses_what_is_no_dataset_with_its_weight(member):
    with pytest.raises(DatasetError, match=r"mixture: rand must be a pair|the weight of rand is 'much'"):
        Mixture({"rand": member})


def test_mixture_refuses_empty_members():
    with pytest.raises(DatasetError, match="at least one"):
        Mixture({})
    with pytest.raises(DatasetError, match="a is empty"):
        Mixture({"a": (Numbers(0), 1.0)})


@pytest.mark.parametrize("seed", [-1, 1.5, "1"])
def test_mixture_refuses_a_seed_that_is_no_whole_number(seed):
    with pytest.raises(DatasetError, match="it must be a whole number from 0"):
        Mixture({"a": (Numbers(3), 1.0)}, seed=seed)


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    pytest.importorskip("torch")
    root = tmp_path_factory.mktemp("mixture")
    return (
        open_dataset(make_dataset(root / "one", scenes=2, views=3, resolution=24)),
        open_dataset(make_dataset(root / "two", scenes=1, views=4, resolution=24, objects=(3, 4))),
    )


def _mixture(datasets):
    return Mixture({"one": (datasets[0], 0.7), "two": (datasets[1], 0.3)}, seed=11)


def _keys(batch):
    return [sample.key for sample in batch]


GLOBAL_BATCH = 24
"""Samples of a step, over all ranks: 1, 2, 3 and 8 divide it."""


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [0, 1, 4])
@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
def test_sequence_is_the_same_on_any_ranks_and_workers(datasets, ranks, workers):
    mixture, first, steps = _mixture(datasets), 3, 2
    begin, end = first * GLOBAL_BATCH, (first + steps) * GLOBAL_BATCH
    expected = [mixture.sample(position)[1].key for position in range(begin, end)]
    read, size = {}, GLOBAL_BATCH // ranks
    for rank in range(ranks):
        loader = torch_loader(
            mixture, batch_size=size, step=first, rank=rank, world_size=ranks, num_workers=workers, steps=steps
        )
        for step, batch in enumerate(loader, start=first):
            places = positions_of(step, batch_size=size, rank=rank, world_size=ranks)
            read |= dict(zip(places, _keys(batch), strict=True))
    assert [read[position] for position in range(begin, end)] == expected


def test_resuming_is_one_integer(datasets):
    mixture = _mixture(datasets)
    straight = [_keys(batch) for batch in torch_loader(mixture, batch_size=2, steps=6)]
    resumed = [_keys(batch) for batch in torch_loader(mixture, batch_size=2, step=4, steps=2, num_workers=1)]
    assert resumed == straight[4:]


def test_loading_leaves_the_global_random_state_alone(datasets):
    import random

    import torch

    torch.manual_seed(3)
    before = torch.random.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    for _ in torch_loader(_mixture(datasets), batch_size=2, steps=2, num_workers=1):
        pass
    assert torch.equal(before[0], torch.random.get_rng_state()) and before[1] == random.getstate()
    assert np.array_equal(before[2], np.random.get_state()[1])  # noqa: NPY002


def test_collate_makes_the_batch(datasets):
    loader = torch_loader(_mixture(datasets), batch_size=3, steps=1, collate=len)
    assert list(loader) == [3]


def test_who_gives_a_dataset_for_a_mixture_hears_how_one_is_made(datasets):
    dataset = datasets[0]
    said = r"^Dataset\(.*\) is no mixture: give Mixture\({'data': \(dataset, 1\.0\)}\)$"
    for read in (IterableSamples, lambda given: torch_loader(given, batch_size=1, step=0)):
        with pytest.raises(DatasetError, match=said):
            read(dataset)


def test_loader_refuses_numbers_that_do_not_fit(datasets):
    with pytest.raises(DatasetError, match="rank 2 of 2"):
        torch_loader(_mixture(datasets), batch_size=1, rank=2, world_size=2)
