"""Ctrl-C and other requests to end: at once, without a traceback, and nothing stays behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from conftest import DIGITS
from midge.core import cache, cache_upkeep, leaving
from midge.core.errors import MidgeWarning
from midge.toolchain.build import build_library

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
]

COMMAND = "import midge.cli; midge.cli.main()"
LIBRARY = f"import midge; midge.run(midge.compile({str(DIGITS)!r}, search=False), {{}}, on='host')"
NEVER_ENDS = """#!/bin/sh
[ "$1" = --version ] && echo "gcc (fake) 1.0" && exit
sleep 1000 &
echo $$ $! > "$PIDS.part"; mv "$PIDS.part" "$PIDS"
wait
"""


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Mapping[str, str]]:
    """An environment with a cache and a folder for temporary files of its own, and a mark that
    every process has which is started in it."""
    for name in ("cache", "tmp", "work"):
        (tmp_path / name).mkdir()
    made = {
        **os.environ, "MIDGE_CACHE_DIR": str(tmp_path / "cache"), "TMPDIR": str(tmp_path / "tmp"),
        "MIDGE_TEST_MARK": str(tmp_path), "PIDS": str(tmp_path / "pids"),
    }  # fmt: skip
    yield made
    for number in running(made):
        os.kill(number, signal.SIGKILL)


def usual_signals() -> None:
    """Whoever runs the tests may have been told to ignore some."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def start(room: Mapping[str, str], *words: object, code: str = COMMAND) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, words)]
    place = Path(room["MIDGE_TEST_MARK"]) / "work"
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, env=room, cwd=place, stdout=pipe, stderr=pipe, text=True, preexec_fn=usual_signals
    )


def running(room: Mapping[str, str]) -> list[int]:
    """Processes that have the mark of a room, and have not ended."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            environment = (process / "environ").read_bytes() if process.name.isdigit() else b""
            if f"MIDGE_TEST_MARK={room['MIDGE_TEST_MARK']}\0".encode() in environment:
                found.append(int(process.name))
        except OSError:
            continue
    return [number for number in found if alive(number)]


def nothing_stays(room: Mapping[str, str]) -> None:
    deadline = time.monotonic() + 5
    while running(room) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert running(room) == []
    assert [*Path(room["TMPDIR"]).iterdir()] == []
    assert [*Path(room["MIDGE_CACHE_DIR"]).glob(".building/*")] == []


def ends(process: subprocess.Popen[str], number: int) -> None:
    began = time.monotonic()
    process.send_signal(number)
    _, errors = process.communicate(timeout=180)
    assert (process.returncode, errors) == (128 + number, "")
    assert time.monotonic() - began < 10


def ready(process: subprocess.Popen[str]) -> None:
    """Wait until Midge looks after signals; before that is the start of Python."""
    deadline, caught = time.monotonic() + 60, 0
    while not caught & 1 << (signal.SIGTERM - 1):
        assert time.monotonic() < deadline
        status = Path(f"/proc/{process.pid}/status").read_text()
        caught = int(status.partition("SigCgt:")[2].split()[0], 16)


def arrived(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"


# Moments of the imports, of the search with its compilers, and of a run.
@pytest.mark.parametrize("after_s", [0.0, 0.03, 0.1, 0.2, 0.4, 1.2])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_any_moment(number: int, after_s: float, room: Mapping[str, str]) -> None:
    process = start(room, "run", DIGITS)
    ready(process)
    time.sleep(after_s)
    ends(process, number)
    nothing_stays(room)


@pytest.mark.parametrize("seed", range(3))
def test_a_signal_at_a_random_moment(seed: int, room: Mapping[str, str]) -> None:
    process = start(room, "run", DIGITS, "--on", "qemu", "--count", 5000)
    ready(process)
    time.sleep(random.Random(seed).uniform(0.3, 5))
    ends(process, signal.SIGINT)
    nothing_stays(room)


@pytest.fixture
def stuck(room: Mapping[str, str], tmp_path: Path) -> Mapping[str, str]:
    """A room whose gcc never ends, nor what it has started."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gcc").write_text(NEVER_ENDS)
    (tmp_path / "bin" / "gcc").chmod(0o755)
    return {**room, "PATH": f"{tmp_path / 'bin'}:{room['PATH']}"}


def compiling(room: Mapping[str, str]) -> Iterator[int]:
    deadline = time.monotonic() + 60
    while not Path(room["PIDS"]).exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return map(int, Path(room["PIDS"]).read_text().split())


def alive(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_no_compiler_runs_on(number: int, stuck: Mapping[str, str]) -> None:
    process = start(stuck, "run", DIGITS, "--on", "host", "--no-search")
    compilers = [*compiling(stuck)]
    assert [*map(alive, compilers)] == [True, True]
    ends(process, number)
    nothing_stays(stuck)
    assert [*map(alive, compilers)] == [False, False]


def test_in_a_program_an_exception_ends_the_compiler(stuck: Mapping[str, str]) -> None:
    process = start(stuck, code=LIBRARY)
    compilers = [*compiling(stuck)]
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=180)
    assert errors.rstrip().endswith("KeyboardInterrupt")
    nothing_stays(stuck)
    assert not any(map(alive, compilers))


def test_a_signal_while_a_process_is_being_started_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[subprocess.Popen[bytes]] = []

    class Interrupted(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *words: Any, **options: Any) -> None:
            super().__init__(*words, **options)
            begun.append(self)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)

    usual = signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored
    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    try:
        with pytest.raises(KeyboardInterrupt):
            leaving.run(["sleep", "1000"], folder=tmp_path, timeout_s=60)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, usual)
    assert [process.returncode for process in begun] == [-signal.SIGKILL]


def test_what_must_not_be_cut_in_two_is_waited_for(room: Mapping[str, str]) -> None:
    code = (
        "import time; from pathlib import Path; from midge.core import leaving\n"
        "leaving.leave_on_signals()\n"
        "stubborn = ['sh', '-c', 'trap \"\" TERM; sleep 100 & wait; wait']\n"
        "leaving.start(stubborn, folder=Path(), output=2, errors=2)\n"
        "with leaving.whole():\n"
        "    with leaving.whole():\n"
        "        print('here', flush=True)\n"
        "    time.sleep(0.5)\n"
        "    Path('done').write_text('1')\n"
        "Path('more').write_text('1')\n"
        "time.sleep(100)\n"
    )
    process = start(room, code=code)
    arrived(process)
    ends(process, signal.SIGINT)
    assert [p.name for p in (Path(room["MIDGE_TEST_MARK"]) / "work").iterdir()] == ["done"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_folder_that_is_still_written_to_goes(number: int, room: Mapping[str, str]) -> None:
    code = (
        "import contextlib, threading, time; from pathlib import Path\n"
        "from midge.core import leaving\n"
        "leaving.leave_on_signals()\n"
        "folder = leaving.temporary_folder('a-')\n"
        "def fills():\n"
        "    for number in range(10 ** 9):\n"
        "        with contextlib.suppress(OSError):\n"
        "            (folder / 'of a thread' / str(number)).write_bytes(bytes(9))\n"
        "        time.sleep(0.001)\n"
        "def makes():\n"
        "    while True:\n"
        "        with leaving.whole():\n"
        "            (folder / 'of a thread').mkdir(parents=True, exist_ok=True)\n"
        "loop = 'trap \"\" TERM; n=0; while :; do n=$((n + 1)); echo > $n; done 2> /dev/null'\n"
        "leaving.start(['sh', '-c', loop], folder=folder, output=2, errors=2)\n"
        "for work in (fills, makes):\n"
        "    threading.Thread(target=work, daemon=True).start()\n"
        "time.sleep(0.3)\n"
        "print('here', flush=True)\n"
        "time.sleep(100)\n"
    )
    process = start(room, code=code)
    arrived(process)
    ends(process, number)
    nothing_stays(room)


def test_what_was_told_to_ignore_a_signal_does(room: Mapping[str, str]) -> None:
    code = (
        "import os, signal; from midge.core import leaving\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN); leaving.leave_on_signals()\n"
        "os.kill(os.getpid(), signal.SIGHUP); print('here', flush=True); signal.pause()\n"
    )
    process = start(room, code=code)
    arrived(process)
    ends(process, signal.SIGTERM)


def test_a_process_that_takes_too_long_ends_with_all_it_has_started(tmp_path: Path) -> None:
    script = f"sleep 1000 & echo $! > {tmp_path}/pid; wait"
    began = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        leaving.run(["sh", "-c", script], folder=tmp_path, timeout_s=0.5)
    assert time.monotonic() - began < 10
    assert not alive(int((tmp_path / "pid").read_text()))


def test_what_a_process_says_and_its_exit_code(tmp_path: Path) -> None:
    words = ["sh", "-c", "echo $A; printf 'b\\377' >&2; exit 3"]
    done = leaving.run(words, folder=tmp_path, timeout_s=60, environment={"A": "ä"})
    assert (done.returncode, done.stdout, done.stderr) == (3, "ä\n", "b\ufffd")
    with pytest.raises(FileNotFoundError):
        leaving.run([tmp_path / "nothing"], folder=tmp_path, timeout_s=60)


def test_work_in_threads_that_fails_ends_the_rest(tmp_path: Path) -> None:
    begun: list[int] = []

    def work(number: int) -> int:
        begun.append(number)
        if number == 1:
            while not (tmp_path / "begun").exists():
                time.sleep(0.01)
            raise KeyboardInterrupt
        leaving.run(["sh", "-c", "touch begun; exec sleep 1000"], folder=tmp_path, timeout_s=900)
        return number

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        [*leaving.in_threads(work, [1, 2, *range(3, 100)])]
    assert time.monotonic() - began < 30
    assert len(begun) < 50
    assert [*leaving.in_threads(lambda n: n * n, range(5))] == [0, 1, 4, 9, 16]


def test_work_that_has_ended_starts_nothing_more(tmp_path: Path) -> None:
    begun = threading.Event()

    def work(number: int) -> None:
        if number == 0:
            assert begun.wait(60)
            raise KeyboardInterrupt
        begun.set()
        time.sleep(1)
        leaving.run(["sleep", "1000"], folder=tmp_path, timeout_s=900)

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        [*leaving.in_threads(work, [0, 1])]
    assert time.monotonic() - began < 100


def test_temporary_folders_go_with_their_process_and_not_with_a_copy_of_it(
    room: Mapping[str, str],
) -> None:
    code = (
        "import os, sys; from midge.core import leaving\n"
        "folder = leaving.temporary_folder('a-'); kept = leaving.temporary_folder('b-')\n"
        "leaving.keep(kept)\n"
        "if os.fork() == 0: sys.exit()\n"
        "os.wait(); assert folder.is_dir()\n"
    )
    process = start(room, code=code)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    (left,) = Path(room["TMPDIR"]).iterdir()
    assert left.name.startswith("b-")


@pytest.mark.parametrize("what", ["sources", "entry", "damaged", "warning"])
def test_what_leaves_traces_when_it_is_cut_in_two_is_not(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIDGE_CACHE_DIR", str(tmp_path / "cache"))
    cache.store("tuning", "damaged", b"1")
    (damaged,) = (tmp_path / "cache" / "tuning").glob("*/*")
    files = {"a.c": "int a;\n"}
    build_library("a", files, ["a.c"], work_dir=tmp_path / "once")  # which looks for a compiler
    work: dict[str, Callable[[], object]] = {
        "sources": lambda: build_library("a", files, ["a.c"], work_dir=tmp_path / "work"),
        "entry": lambda: cache.store("tuning", "key", b"1"),
        "damaged": lambda: cache_upkeep.discard(tmp_path / "cache", damaged),
        "warning": lambda: told(cache._give_up, str(tmp_path), OSError(2, "gone")),
    }

    def told(function: Callable[..., object], *words: object) -> None:
        with pytest.warns(MidgeWarning, match="cannot be used"):
            function(*words)
        (tmp_path / "told").touch()

    before = sorted(tmp_path.rglob("*"))
    thread = threading.Thread(target=work[what])
    with leaving.whole():
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        assert sorted(tmp_path.rglob("*")) == before
    thread.join(60)
    assert sorted(tmp_path.rglob("*")) != before
