"""Cache entries appear whole or not at all."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from midge.core.cache import cache_dir, digest, entry


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MIDGE_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_variable_moves_the_cache(cache: Path) -> None:
    assert cache_dir() == cache


def test_without_the_variable_it_is_in_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MIDGE_CACHE_DIR")
    assert "midge" in cache_dir().parts


def test_an_entry_is_built_once() -> None:
    built = []

    def build(folder: Path) -> None:
        built.append(folder)
        (folder / "text").write_text("hello")

    first = entry("kind", "0123", build)
    assert entry("kind", "0123", build) == first
    assert (first / "text").read_text() == "hello"
    assert len(built) == 1
    assert not built[0].exists()


def test_a_failed_build_leaves_nothing(cache: Path) -> None:
    def build(folder: Path) -> None:
        (folder / "half").write_text("")
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        entry("kind", "0123", build)
    assert [path for path in cache.rglob("*") if path.is_file()] == []
    assert entry("kind", "0123", lambda folder: None).is_dir()


def test_of_two_builders_at_a_time_one_wins_and_both_see_it_whole() -> None:
    together = threading.Barrier(4)
    seen: list[list[str]] = []

    def build(folder: Path) -> None:
        for name in "abc":
            (folder / name).write_text(name)
        together.wait(timeout=30)

    def use() -> None:
        path = entry("kind", "0123", build)
        seen.append([(path / name).read_text() for name in "abc"])

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [["a", "b", "c"]] * 4
    (folder,) = (cache_dir() / "kind" / "01").iterdir()
    assert folder.name == "23"


def test_parts_of_a_digest_do_not_run_together() -> None:
    assert digest(["ab", "c"]) != digest(["a", "bc"])
    assert digest(["a"]) == digest([b"a"])
