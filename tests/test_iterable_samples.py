"""Samples for a plain DataLoader: the same sequence with any workers and ranks, resumed by one integer."""

import time

import numpy as np
import pytest
from shard_fixtures import make_dataset

from randscene.errors import DatasetError
from randscene.shards import IterableSamples, Mixture, open_dataset, torch_loader

torch_data = pytest.importorskip("torch.utils.data")

GLOBAL_BATCH = 24
"""Samples of a step, over all ranks: 1, 2, 3 and 8 divide it."""


@pytest.fixture(scope="module")
def mixture(tmp_path_factory):
    root = tmp_path_factory.mktemp("mixture")
    one = open_dataset(make_dataset(root / "one", scenes=2, views=3, resolution=16))
    two = open_dataset(make_dataset(root / "two", scenes=1, views=4, resolution=16, objects=(3, 4)))
    return Mixture({"one": (one, 0.7), "two": (two, 0.3)}, seed=11)


def _expected(mixture, begin, end):
    return [mixture.sample(position)[1].key for position in range(begin, end)]


def _loader(samples, size, workers):
    return torch_data.DataLoader(samples, batch_size=size, num_workers=workers, collate_fn=_keys)


def _keys(samples):
    return [sample.key for sample in samples]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [0, 1, 4])
@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
def test_plain_loaders_taken_together_give_the_mixture_in_order(mixture, ranks, workers):
    first, steps, size = 2, 3, GLOBAL_BATCH // ranks
    steps = 2 if ranks == 8 else steps
    shares = []
    for rank in range(ranks):
        samples = IterableSamples(mixture, batch_size=size, step=first, rank=rank, world_size=ranks, steps=steps)
        shares.append(list(_loader(samples, size, workers)))
    together = [shares[place % ranks][step][place // ranks] for step in range(steps) for place in range(GLOBAL_BATCH)]
    assert together == _expected(mixture, first * GLOBAL_BATCH, (first + steps) * GLOBAL_BATCH)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [0, 3])
def test_another_batch_size_loses_and_doubles_nothing(mixture, workers):
    samples = IterableSamples(mixture, batch_size=2, steps=9)
    read = [key for batch in _loader(samples, 4, workers) for key in batch]
    assert sorted(read) == sorted(_expected(mixture, 0, 18))


def test_the_state_is_one_integer_and_goes_on_where_it_was(mixture):
    samples = IterableSamples(mixture, batch_size=3)
    loader = iter(_loader(samples, 3, 0))
    straight = [next(loader) for _ in range(4)]
    assert samples.state_dict() == {"step": 4}
    resumed = IterableSamples(mixture, batch_size=3)
    resumed.load_state_dict(samples.state_dict())
    following = [next(loader) for _ in range(2)]
    again = iter(_loader(resumed, 3, 2))
    assert [next(again) for _ in range(2)] == following
    assert [key for batch in straight + following for key in batch] == _expected(mixture, 0, 18)


def test_a_step_that_was_begun_is_read_again(mixture):
    samples = IterableSamples(mixture, batch_size=3)
    reader = iter(samples)
    for _ in range(4):
        next(reader)
    assert samples.state_dict() == {"step": 1}


def test_every_iterator_begins_at_the_same_step(mixture):
    samples = IterableSamples(mixture, batch_size=2, step=1, steps=2)
    assert [s.key for s in samples] == [s.key for s in samples] == _expected(mixture, 2, 6)


def test_reading_resumes_at_any_step_in_under_a_second(mixture):
    """A position is computed, not reached: far away costs what near costs."""
    for step in (0, 10**3, 10**6, 10**9, 10**11):
        begun = time.monotonic()
        sample = next(iter(IterableSamples(mixture, batch_size=8, step=step, rank=3, world_size=8)))
        assert time.monotonic() - begun < 1
        assert sample.key == mixture.sample(step * 64 + 3)[1].key


def test_samples_can_be_read_without_a_loader(mixture):
    reader = iter(IterableSamples(mixture, rank=1, world_size=2))
    assert [next(reader).key for _ in range(5)] == _expected(mixture, 0, 10)[1::2]


@pytest.mark.parametrize("state", [{}, {"step": -1}, {"step": "7"}, {"step": None}])
def test_a_state_that_is_none_is_refused(mixture, state):
    with pytest.raises(DatasetError, match="not a step"):
        IterableSamples(mixture).load_state_dict(state)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"batch_size": 2, "rank": 2, "world_size": 2}, "rank below world_size"),
        ({"batch_size": 2.5}, "batch_size=2.5 is not a whole number"),
        ({"batch_size": 2, "steps": -1}, "steps=-1 is below 0; leave it out"),
        ({"batch_size": 2, "step": "3"}, "step='3' is not a whole number"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(mixture, numbers, message):
    for reader in (IterableSamples, torch_loader):
        with pytest.raises(DatasetError, match=message):
            reader(mixture, **numbers)


def test_nothing_of_the_global_random_state_is_read(mixture):
    np.random.seed(1)  # noqa: NPY002
    one = _keys(IterableSamples(mixture, steps=6))
    np.random.seed(2)  # noqa: NPY002
    assert _keys(IterableSamples(mixture, steps=6)) == one
