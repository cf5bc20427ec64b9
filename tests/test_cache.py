"""The cache: damaged entries are made again, nothing that happens to it stops Midge, and it does
not grow for ever."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

import midge
from cache_cases import DAMAGES, KEY, build, flip, no_home, whole
from conftest import as_nobody
from interruptions import STEPS, interrupted, killed
from midge.core import cache, cache_upkeep
from midge.core.cache import digest, entry, load, store
from midge.core.errors import MidgeWarning, RunError
from midge.toolchain import Found, zig, zig_cache
from midge.tune import rank
from midge.tune.trials import Cost, remember, remembered
from small_models import two_ports

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def root(own_cache: Path) -> Path:
    return own_cache


@contextlib.contextmanager
def warned() -> Iterator[list[warnings.WarningMessage]]:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        yield seen


# What was damaged.


@pytest.mark.parametrize("name", ["a", "deep/b", ".hashes"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_made_again(name: str, damage: str) -> None:
    path = entry("kind", KEY, build)
    DAMAGES[damage](path / name)
    built: list[Path] = []

    def again(folder: Path) -> None:
        built.append(folder)
        build(folder)

    for _ in range(2):
        assert whole(entry("kind", KEY, again))
    assert len(built) == 1


def test_an_entry_is_not_taken_for_another(root: Path) -> None:
    path = entry("kind", KEY, build)
    other = digest(["other"])
    shutil.copytree(path, root / "kind" / other[:2] / other[2:])
    made = entry("kind", other, lambda folder: (folder / "c").write_text("c") and None)
    assert [p.name for p in sorted(made.iterdir())] == [".hashes", "c"]


def test_what_has_no_hashes_or_is_no_folder_is_replaced(root: Path) -> None:
    path = root / "kind" / KEY[:2] / KEY[2:]
    path.mkdir(parents=True)
    (path / "a").write_text("of an earlier version")
    assert whole(entry("kind", KEY, build))
    shutil.rmtree(path)
    path.write_text("a file")
    assert whole(entry("kind", KEY, build))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_value_is_forgotten(damage: str, root: Path) -> None:
    store("kind", KEY, b"some bytes")
    assert load("kind", KEY) == b"some bytes"
    DAMAGES[damage](root / "kind" / KEY[:2] / KEY[2:])
    assert load("kind", KEY) is None
    store("kind", KEY, b"others")
    assert load("kind", KEY) == b"others"
    assert load("kind", digest(["other"])) is None


@pytest.mark.parametrize(
    "text",
    ["", "{", "null", "[]", "3", '{"cycles": "7", "code": {}}', '{"cycles": true, "code": {}}',
     '{"cycles": 7}', '{"cycles": 7, "code": []}', '{"cycles": 7, "code": {"k": 1.5}}',
     '{"cycles": 7, "code": {"k": null}}', "[" * 100000],
    ids=lambda text: text[:30],
)  # fmt: skip
def test_a_cost_of_the_wrong_form_is_not_remembered(text: str) -> None:
    store("trials", KEY, text.encode())
    assert remembered(KEY) is None
    remember(KEY, Cost(7, {"kernel": 8}))
    assert remembered(KEY) == Cost(7, {"kernel": 8})


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """One that compiles quickly."""
    path = tmp_path / "net.tflite"
    path.write_bytes(two_ports())
    return path


def test_commands_mend_damaged_builds(root: Path, model: Path) -> None:
    """In processes of their own: what this one has loaded must stay as it is."""
    words = [sys.executable, "-m", "midge", "run", model, "--no-search", "--json", "--on"]

    def run(on: str) -> object:
        done = subprocess.run([*words, on], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        return json.loads(done.stdout)["outputs"]

    first = [run("host"), run("emulator")]
    images = sorted(p for p in (root / "build").rglob("*") if p.suffix in (".elf", ".so"))
    assert {p.name for p in images} == {"net.elf", "net.so", "midge_hook.so"}
    for path, damage in zip(images, ("flipped", "emptied", "deleted"), strict=True):
        DAMAGES[damage](path)
    assert [run("host"), run("emulator")] == first


def test_damage_to_what_zig_links_is_seen(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Zig looks after the rest itself."""
    library = root / "zig" / "o" / "1" / "lib.a"
    monkeypatch.setattr(zig_cache, "_check_once", zig_cache._check_once.__wrapped__)
    for damaged in (False, True):
        with zig_cache.zig_folder() as folder:
            assert folder == root / "zig"
            assert library.exists() == damaged
            library.parent.mkdir(parents=True, exist_ok=True)
            library.write_text("code")
    flip(library)
    with zig_cache.zig_folder() as folder:
        assert [p.name for p in folder.iterdir()] == []
        library.parent.mkdir(parents=True)
        library.write_text("code")
    flip(root / "zig" / ".hashes")
    with zig_cache.zig_folder():
        assert not library.exists()


@pytest.mark.parametrize(
    ("said", "times"),
    [
        ("warning(zcu): unexpected EOF reading cached ZIR for std.zig", 2),
        ("net.c:3:1: error: expected ';'", 1),
        ("net.c:3:1: fatal error: 'nothing.h' file not found", 1),
        ("ld.lld: error: undefined symbol: sqrtf", 1),
    ],
)
def test_zig_begins_anew_when_it_fails_without_a_reason(
    said: str, times: int, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []

    def run(*_: object) -> subprocess.CompletedProcess[str]:
        seen.append(sorted(p.name for p in (root / "zig").iterdir()))
        return subprocess.CompletedProcess([], 1, "", said)

    (root / "zig" / "z").mkdir(parents=True)
    monkeypatch.setattr(zig, "run", run)
    zig.Zig().cc(Found(tmp_path / "zig", "zig"), tmp_path, [])
    assert seen == [["z"], []][:times]


# When it ends in the middle.


@pytest.mark.parametrize("damaged", [False, True])
def test_a_kill_at_any_step_leaves_an_entry_whole_or_missing(damaged: bool, root: Path) -> None:
    path = root / "kind" / KEY[:2] / KEY[2:]
    for number in itertools.count():

        def work(number: int = number) -> None:
            with pytest.MonkeyPatch.context() as patch:
                interrupted(patch, number, lambda: os._exit(9), (*STEPS, "os.rename"))
                entry("kind", KEY, build)

        if not killed(work):
            break
        assert not path.exists() or damaged or whole(path)
        assert whole(entry("kind", KEY, build))
        flip(path / "a") if damaged else shutil.rmtree(path)
    assert number > 8
    left = [*(root / ".building").iterdir()]
    assert left, "kills leave something"
    for path in left:
        os.utime(path, (1, 1))
    cache_upkeep._remove_dead_once.cache_clear()
    entry("kind", digest(["another"]), build)
    assert [*(root / ".building").iterdir()] == []


def _use(number: int) -> None:
    for key in map(str, range(12)):
        path = entry("kind", digest([key]), build)
        assert whole(path)
        store("value", digest([key]), key.encode() * 1000)
        assert load("value", digest([key])) == key.encode() * 1000
        if int(key) % 4 == number:
            flip(path / "a")


def test_processes_beside_each_other(root: Path) -> None:
    """Four make, use and damage the same entries."""
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_use, args=(n,)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [*(root / ".building").iterdir()] == []


# Where it cannot be written.


@pytest.mark.parametrize("how", ["nowhere", "file", "no home", "home of nobody"])
def test_without_a_cache_all_is_done_in_a_temporary_folder(
    how: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "nowhere":
        monkeypatch.setenv("MIDGE_CACHE_DIR", "/proc/nowhere")
    elif how == "file":
        root.write_text("a file")
    elif how == "no home":
        monkeypatch.delenv("MIDGE_CACHE_DIR")
        monkeypatch.setattr(Path, "home", no_home)
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    else:
        monkeypatch.setenv("MIDGE_CACHE_DIR", "~nobody-of-this-name/cache")
    monkeypatch.setattr(cache, "_unusable", set())
    with warned() as seen:
        path = entry("kind", KEY, build)
        store("kind", digest(["value"]), b"value")
        assert cache.folder("zig").is_dir()
    (warning,) = seen
    assert warning.category is MidgeWarning
    assert re.search("the cache .*cannot be used .*MIDGE_CACHE_DIR", str(warning.message))
    assert whole(path)
    assert entry("kind", KEY, build) == path, "it is used again"
    assert load("kind", digest(["value"])) == b"value"


def test_a_cache_that_is_read_only_is_read(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIDGE_CACHE_DIR", str(open_folder))
    path = entry("kind", KEY, build)
    store("kind", digest(["value"]), b"value")
    with as_nobody(), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert entry("kind", KEY, build) == path
        assert load("kind", digest(["value"])) == b"value"
    with as_nobody(), warned() as seen:
        assert whole(entry("kind", digest(["more"]), build))
        store("kind", digest(["value 2"]), b"value")
        cache.folder("zig")
    (warning,) = seen
    assert "Permission denied" in str(warning.message)


def test_a_link_in_the_place_of_the_size_is_not_followed(root: Path, tmp_path: Path) -> None:
    """Neither into an entry nor out of the cache."""
    mine = tmp_path / "mine"
    mine.write_text("kept")
    store("kind", KEY, b"value")
    (stored,) = (p for p in (root / "kind").rglob("*") if p.is_file())
    for target in (mine, stored, Path("/nowhere")):
        (root / ".size").unlink()
        (root / ".size").symlink_to(target)
        store("kind", digest(["another", str(target)]), b"value")
        assert (root / ".size").read_text().isdigit()
        assert not (root / ".size").is_symlink()
    assert mine.read_text() == "kept"
    assert load("kind", KEY) == b"value"


@pytest.mark.parametrize("stores", [True, False])
def test_a_package_is_the_same_where_nothing_is_remembered(
    root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stores: bool
) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(two_ports())
    first = midge.compile(path)
    assert first.metadata["kernels"]["code"] > 0
    shutil.rmtree(root)
    if not stores:
        monkeypatch.setattr(rank, "remember", lambda key, cost: None)
        monkeypatch.setattr(rank, "remember_proof", lambda key: None)
    assert midge.compile(path).files == first.files


def test_a_full_disk(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At any step; and when it is the compiler that notices."""

    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for number in itertools.count():
        monkeypatch.setattr(cache, "_unusable", set())
        key = digest([str(number)])
        with warned(), monkeypatch.context() as patch:
            done = interrupted(patch, number, full)
            assert whole(entry("kind", key, build))
        if "failed" not in done:
            break
    assert number > 5

    def compiler(folder: Path) -> None:
        if root in folder.parents:
            raise RunError("no space", where="gcc")
        build(folder)

    monkeypatch.setattr(cache, "_unusable", set())
    with pytest.raises(RunError, match="no space"):
        entry("kind", digest(["compiler"]), compiler)
    monkeypatch.setattr(cache, "_is_full", lambda root: True)
    with pytest.warns(MidgeWarning, match="No space left"):
        assert whole(entry("kind", digest(["compiler"]), compiler))


def test_nowhere_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIDGE_CACHE_DIR", "/proc/nowhere")
    monkeypatch.setattr(cache, "_unusable", {"/proc/nowhere"})
    monkeypatch.setattr(cache.leaving, "temporary_folder", _refuse)
    with pytest.raises(RunError, match="nothing can be written: Permission denied\n  hint: "):
        entry("kind", KEY, build)
    store("kind", KEY, b"forgotten")
    assert load("kind", KEY) is None


def _refuse(*_: object) -> Path:
    raise PermissionError(errno.EACCES, "Permission denied")


def test_a_run_without_a_cache_warns_once(tmp_path: Path, model: Path) -> None:
    (tmp_path / "tmp").mkdir()
    own = {"MIDGE_CACHE_DIR": "/proc/nowhere", "TMPDIR": str(tmp_path / "tmp")}
    words = [sys.executable, "-m", "midge", "run", model, "--json"]
    done = subprocess.run(words, env={**os.environ, **own}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["outputs"]
    assert done.stderr.startswith("warning: the cache /proc/nowhere cannot be used (No such file")
    assert done.stderr.count("\n") == 1
    assert [*(tmp_path / "tmp").iterdir()] == []
