"""What unit tests share: the hand-written package, and a cache folder of their own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for tiny_package


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Builds start from an empty cache and leave the user's alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIDGE_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield
