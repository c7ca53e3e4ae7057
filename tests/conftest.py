"""Fixtures that several test files share."""

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
