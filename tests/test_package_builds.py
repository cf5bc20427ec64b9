"""A package's folder when writing it ends in the middle, or happens twice at a time: the next run
mends it, and until then files of two builds do not compile together."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import multiprocessing
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import midge
from conftest import NO_SEARCH
from folder_cases import code, contents, files, new, old, seeded
from interruptions import interrupted, killed
from midge import driver
from midge.core import folder as folders
from midge.core.options import CompileOptions
from midge.core.package import Package
from midge.core.seal import METADATA
from midge.target import load_target
from small_models import MODELS, graph

pytestmark = pytest.mark.slow

# When it ends in the middle.


def builds(folder: Path) -> bool:
    """Whether all the C in a folder makes a library."""
    sources = sorted(p.name for p in folder.glob("*.c"))
    words = [
        "gcc",
        "-std=c11",
        "-shared",
        "-fPIC",
        "-Wl,-z,defs",
        *sources,
        "-lm",
        "-o",
        "/dev/null",
    ]
    return subprocess.run(words, cwd=folder, capture_output=True).returncode == 0


def right(folder: Path) -> str:
    """ "old", "new", or "broken": it does not build."""
    found = {n: t for n, t in contents(folder).items() if n.endswith((".c", ".h"))}
    for name, package in (("old", old()), ("new", new())):
        spare = {n: t for n, t in found.items() if n.startswith("midge_") and t == old().files[n]}
        if found == spare | code(package):
            return name
    assert not builds(folder), "files of two builds make a library"
    return "broken"


@pytest.mark.parametrize(("first", "second"), [(old, new), (new, old), (None, old)])
def test_a_kill_at_any_step_is_mended_by_the_next_run(
    first: Callable[[], Package] | None, second: Callable[[], Package], tmp_path: Path
) -> None:
    seen: list[str] = []
    second()
    for number in itertools.count():
        folder = tmp_path / str(number)
        if first is not None:
            first().save(folder)
            (folder / "notes.txt").write_text("kept")

        def work(folder: Path = folder, number: int = number) -> None:
            with pytest.MonkeyPatch.context() as patch:
                interrupted(patch, number, lambda: os._exit(9))
                second().save(folder)

        if not killed(work):
            break
        seen.append(right(folder) if any(folder.glob("*.c")) else "none")
        second().save(folder)
        notes = {"notes_txt": "kept"} if first is not None else {}
        assert contents(folder) == files(second(), **notes), f"after step {number}"
    assert "broken" in seen
    assert len(seen) > 15


def break_(folder: Path, package: Package) -> None:
    """A run that is killed when it has renamed one file."""

    def work() -> None:
        with pytest.MonkeyPatch.context() as patch:
            interrupted(patch, 1, lambda: os._exit(9), ("os.replace",))
            package.save(folder)

    assert killed(work)


def test_several_kills_one_after_the_other(tmp_path: Path) -> None:
    folder = old().save(tmp_path / "out")
    for package in (new(), seeded(), new()):
        break_(folder, package)
        right(folder)
    assert contents(old().save(folder)) == files(old())


def test_an_edit_of_a_broken_folder_is_seen(tmp_path: Path) -> None:
    folder = old().save(tmp_path / "out")
    break_(folder, new())
    assert right(folder) == "broken"
    (folder / "net.c").write_text("mine now")
    with pytest.raises(midge.UsageError, match=r"edited.* net\.c"):
        new().save(folder)


def _told(work: Callable[[], object]) -> midge.UsageError | None:
    try:
        work()
    except midge.UsageError as error:
        return error
    return None


def test_a_full_disk_at_any_step(tmp_path: Path) -> None:
    """The error is told; until files are renamed the folder stays as it was, to the last byte."""

    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    seen = []
    for number in itertools.count():
        folder = old().save(tmp_path / str(number))
        with pytest.MonkeyPatch.context() as patch:
            done = interrupted(patch, number, full)
            error = _told(lambda folder=folder: new().save(folder))
        assert error is None or "No space left on device" in error.what
        assert error is None or "free space" in error.hint
        if "failed" not in done:
            break
        seen.append(right(folder))
        if seen[-1] == "old" and "os.replace" not in done and "os.unlink" not in done:
            assert contents(folder) == files(old())
        assert contents(new().save(folder)) == files(new())
    assert {*seen} == {"old", "broken", "new"}


def test_a_first_save_that_fails_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(midge.UsageError, match="No space left"):
        old().save(tmp_path / "deep" / "out")
    assert [*tmp_path.iterdir()] == []


def test_ctrl_c_before_files_are_renamed_leaves_the_old_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = old().save(tmp_path / "out")

    def interrupt(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", interrupt)
    with pytest.raises(KeyboardInterrupt):
        new().save(folder)
    assert contents(folder) == files(old())


# Two at once.


def _save_often(package: Package, folder: Path, times: int) -> None:
    for _ in range(times):
        package.save(folder)


def test_two_runs_into_one_folder_leave_one_package(tmp_path: Path) -> None:
    """One after the other, the last one wins."""
    folder = tmp_path / "out"
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=_save_often, args=(p, folder, 20)) for p in (old(), new())]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    assert contents(folder) in (files(old()), files(new()))


def test_without_locks_leftovers_may_be_of_a_run_that_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = old().save(tmp_path / "out")
    left, mine = folder / ".midge-new-left", folder / ".midge-new-mine" / "thesis.txt"
    left.mkdir()
    mine.parent.mkdir()
    mine.write_text("kept")
    monkeypatch.setattr(folders, "locked", lambda _: contextlib.nullcontext(False))
    new().save(folder)
    assert left.is_dir()
    os.utime(left, (1, 1))
    old().save(folder)
    assert contents(folder) == files(old()) | {".midge-new-mine/thesis.txt": "kept"}
    assert not left.exists()


def test_a_run_that_hangs_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from midge.core.locks import locked

    folder = old().save(tmp_path / "out")
    monkeypatch.setattr(folders, "locked", lambda place: locked(place, patience_s=0.05))
    with locked(folder), pytest.raises(midge.UsageError, match="another process is at work"):
        new().save(folder)
    assert contents(folder) == files(old())


# Files of two builds.


def differing() -> list[str]:
    one, other = code(old()), code(seeded())
    return [n for n in one if one[n] != other[n]]


@pytest.mark.parametrize("name", ["net.h", "net.c", "net_weights.h", "net_weights.c"])
def test_files_of_two_builds_do_not_compile_together(name: str, tmp_path: Path) -> None:
    assert name in differing()
    folder = old().save(tmp_path / "out")
    assert builds(folder)
    (folder / name).write_text(seeded().files[name])
    words = ["gcc", "-std=c11", "-fsyntax-only", "net.c", "net_weights.c"]
    said = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    assert said.returncode != 0
    assert "of two builds: run midge again" in said.stderr


def test_every_runtime_header_is_known_by_its_contents(tmp_path: Path) -> None:
    folder = old().save(tmp_path / "out")
    names = [n for n in old().files if n.startswith("midge_")]
    assert len(names) == 4
    for name in names:
        text = old().files[name]
        number = re.search(r"_BUILD (0x[0-9a-f]{16})U", text)
        assert number is not None
        (folder / name).write_text(text.replace(number[1], "0x0123456789abcdef"))
        said = subprocess.run(
            ["gcc", "-std=c11", "-fsyntax-only", "net.c"],
            cwd=folder,
            capture_output=True,
            text=True,
        )
        assert said.returncode != 0
        assert "of two versions of Midge" in said.stderr
        (folder / name).write_text(text)


@pytest.mark.parametrize("kind", [*MODELS])
def test_the_number_of_a_build_is_that_of_its_code(kind: str) -> None:
    target = load_target("cortex-m4")
    one, same = (
        driver.compile_graph(graph(MODELS[kind](), "net"), target, NO_SEARCH, model_hash=h).package
        for h in ("one", "another")
    )
    assert one.files["net.c"] != same.files["net.c"]
    assert one.metadata["build"] == same.metadata["build"]
    other = driver.compile_graph(
        graph(MODELS[kind](), "net"), target, CompileOptions(search=False, static_arena=True)
    ).package
    assert other.metadata["build"] != one.metadata["build"]


def test_metadata_lists_all_files() -> None:

    text = old().files[METADATA]
    hashes = json.loads(text)["sha256"]
    assert json.loads(text) == old().metadata
    assert set(hashes) == set(old().files)
    own = hashes.pop(METADATA)
    for name, value in hashes.items():
        assert hashlib.sha256(old().files[name].encode()).hexdigest() == value
    assert hashlib.sha256(text.replace(own, "0" * 64).encode()).hexdigest() == own
