"""What remembered results rest on of Midge itself."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from midge.core.sources import digest_of


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    own = tmp_path / "somebodys_package"
    (own / "inner").mkdir(parents=True)
    (own / "__init__.py").write_text("")
    (own / "inner" / "text.j2").write_text("one")
    monkeypatch.syspath_prepend(str(tmp_path))
    return own


def now() -> str:
    digest_of.cache_clear()
    sys.modules.pop("somebodys_package", None)
    return digest_of("somebodys_package")


def test_every_file_counts_by_name_and_content(package: Path) -> None:
    found = {now()}
    (package / "inner" / "text.j2").write_text("two")
    found.add(now())
    (package / "inner" / "text.j2").rename(package / "inner" / "other.j2")
    found.add(now())
    (package / "more.py").write_text("")
    found.add(now())
    assert len(found) == 4
    assert now() in found


def test_what_python_keeps_does_not_count(package: Path) -> None:
    before = now()
    (package / "__pycache__").mkdir(exist_ok=True)
    (package / "__pycache__" / "x.pyc").write_bytes(b"1")
    assert now() == before
