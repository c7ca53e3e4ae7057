"""Work in threads: bounded, every result once, errors where they belong, no thread left to wait for."""

import threading
import time

import pytest

from randscene.errors import LockError
from randscene.manifests.in_threads import in_threads


def test_every_item_comes_back_once_with_its_result():
    assert dict(in_threads(lambda item: item * item, range(100), threads=4)) == {n: n * n for n in range(100)}
    assert list(in_threads(str, [], threads=4)) == []


def test_only_a_few_items_are_begun_ahead():
    begun: list[int] = []
    results = in_threads(begun.append, range(1000), threads=3)
    next(results)
    time.sleep(0.05)
    assert len(begun) <= 6
    results.close()


def test_threads_work_at_the_same_time():
    barrier = threading.Barrier(3, timeout=10)
    assert len(list(in_threads(lambda _: barrier.wait(), range(3), threads=3))) == 3


def test_an_expected_error_is_a_result_and_another_one_is_raised():
    def work(item: int) -> int:
        if item == 3:
            raise LockError("three")
        if item == 7:
            raise ZeroDivisionError
        return item

    results = {}
    with pytest.raises(ZeroDivisionError):
        for item, result in in_threads(work, range(100), threads=1):
            results[item] = result
    assert str(results[3]) == "three"
    assert results[6] == 6


def test_leaving_early_does_not_wait_for_a_thread_that_hangs():
    release = threading.Event()
    began = time.monotonic()
    results = in_threads(lambda item: release.wait(30) if item else item, range(4), threads=4)
    assert next(results) == (0, 0)
    results.close()
    assert time.monotonic() - began < 5
    release.set()
