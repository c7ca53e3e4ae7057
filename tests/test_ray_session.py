"""A connection to Ray: an address where nothing listens is one line, at once."""

import time

import pytest

from randscene.errors import RandsceneError
from randscene.ray_session import ray_session


@pytest.mark.ray
@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9", "no-such-host.invalid:6379"])
def test_an_address_where_nothing_listens_is_one_line_at_once(address):
    ray = pytest.importorskip("ray")
    if ray.is_initialized():
        pytest.skip("this process is connected already")
    began = time.monotonic()
    with pytest.raises(RandsceneError, match=f"cannot reach Ray at {address}") as caught, ray_session(address):
        pass
    assert "\n" not in str(caught.value)
    assert time.monotonic() - began < 30
