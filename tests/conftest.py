"""Fixtures that several test files share."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from randscene.manifests import AssetRecord


@pytest.fixture(scope="session")
def lock_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lock of 40 procedural assets, built once."""
    from randscene.manifests import build_lock

    path = tmp_path_factory.mktemp("assets") / "assets.lock.jsonl"
    build_lock("procedural", count=40, out=path, workers=1)
    return path


@pytest.fixture(scope="session")
def lock(lock_path: Path) -> "list[AssetRecord]":
    from randscene.manifests import load_lock

    return load_lock(lock_path)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """PyTorch on one thread: those of a small network only wait for one another."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def one_ray() -> Iterator[None]:
    """One local Ray for what a module runs in this process: starting it is what takes time."""
    ray = pytest.importorskip("ray")
    # "local": never a cluster that happens to run on this machine.
    ray.init("local", num_cpus=2, include_dashboard=False, object_store_memory=128 * 2**20, log_to_driver=False)
    yield
    ray.shutdown()
