"""How large the cache gets, what it says of itself, and clearing it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from cache_cases import DAMAGES, KEY, build, no_home, whole
from conftest import Cli, as_nobody
from midge.core import cache_upkeep
from midge.core.cache import digest, entry, store
from midge.core.cache_upkeep import items
from midge.core.errors import UsageError
from midge.tune.trials import Cost, remember


@pytest.fixture(autouse=True)
def root(own_cache: Path) -> Path:
    return own_cache


def aged(kind: str, ages: dict[str, float]) -> None:
    for name, age in ages.items():
        path = entry(kind, digest([name]), lambda folder: _fill(folder / "data"))
        os.utime(path, (time.time() - age, time.time() - age))


def _fill(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(100_000))


def there(root: Path) -> set[str]:
    names = {digest([n])[2:]: n for n in "abcdef"}
    return {names[item.path.name] for item in items(root)}


def test_what_was_not_used_for_longest_goes_first(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aged("kind", {"a": 4000, "b": 3000, "c": 2000, "d": 1000})
    assert there(root) == {*"abcd"}
    entry("kind", digest(["a"]), build)  # used now
    monkeypatch.setenv("MIDGE_CACHE_LIMIT", "400K")
    entry("kind", digest(["e"]), lambda folder: _fill(folder / "data"))
    assert there(root) == {*"ade"}
    assert int((root / ".size").read_text()) == cache_upkeep.size(root) < 400 << 10


def test_what_is_in_use_stays(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIDGE_CACHE_LIMIT", "0")
    paths = [entry("kind", digest([n]), build) for n in "abc"]
    assert all(map(whole, paths))
    aged("kind", {"d": 4000})
    entry("kind", digest(["e"]), build)
    assert there(root) == {*"abce"}


def test_the_whole_cache_is_looked_at_only_when_it_is_too_large(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[Path] = []
    monkeypatch.setattr(cache_upkeep, "items", lambda root: looked.append(root) or iter(()))
    for n in range(5):
        entry("kind", digest([str(n)]), build)
        store("kind", digest([str(n), "v"]), b"v")
    assert len(looked) == 1, "when there was no count yet"
    for damage in ("emptied", "JSON", "deleted"):
        DAMAGES[damage](root / ".size")
        store("kind", digest([damage]), b"v")
    assert len(looked) == 4


@pytest.mark.parametrize("text", ["many", "-1", "1.5Q", "2T", "9" * 5000])
def test_a_limit_that_is_no_size(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIDGE_CACHE_LIMIT", text)
    with pytest.raises(UsageError, match="is not a size"):
        entry("kind", KEY, build)


def test_info_and_clear(midge: Cli, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIDGE_CACHE_LIMIT", " 3g ")
    assert midge("cache", "--json").json == {
        "folder": str(root), "limit": 3 << 30, "size": 0, "kinds": {},
        "unfinished": {"entries": 0, "size": 0},
    }  # fmt: skip
    assert midge("cache", "clear", "--json").json == {"folder": str(root), "entries": 0, "size": 0}
    assert not root.exists()
    entry("build", KEY, build)
    for n in range(17):
        remember(digest([str(n)]), Cost(7, {"kernel": 8}))
    for foreign in ("notes.txt", "kind/notes.txt", "kind/ab/notes.txt", "zig/src/main.zig"):
        (root / foreign).parent.mkdir(parents=True, exist_ok=True)
        (root / foreign).write_text("kept")
    for left, age in (("old", 7200), ("young", 60)):
        (root / ".building" / left).mkdir(parents=True)
        (root / ".building" / left / "part").write_text("1")
        os.utime(root / ".building" / left, (time.time() - age,) * 2)
    info = midge("cache", "info", "--json").json
    assert info["kinds"]["trials"]["entries"] == 17
    assert info["kinds"]["build"]["entries"] == 1
    assert info["size"] == sum(kind["size"] for kind in info["kinds"].values()) > 10000
    assert info["unfinished"]["entries"] == 2
    assert str(info["kinds"]["trials"]["entries"]) in midge("cache").out
    done = midge("cache", "clear").out
    assert f"from {root}" in done.replace("\n", "")
    kept = {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()}
    assert kept == {
        "notes.txt", "kind/notes.txt", "kind/ab/notes.txt", "zig/src/main.zig",
        ".building/young/part",
    }  # fmt: skip
    assert midge("cache", "--json").json["kinds"] == {}


def test_what_cache_refuses(midge: Cli, open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = midge("cache", "empty")
    assert (wrong.code, "hint: info or clear" in wrong.err) == (2, True)
    monkeypatch.setenv("MIDGE_CACHE_DIR", str(open_folder))
    entry("kind", KEY, build)
    with as_nobody():
        refused = midge("cache", "clear")
    assert refused.code == 2
    assert "cannot be cleared: Permission denied" in refused.err
    assert whole(entry("kind", KEY, build))
    monkeypatch.delenv("MIDGE_CACHE_DIR")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    assert "there is no home folder" in midge("cache").err
