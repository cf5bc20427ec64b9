"""Leaving in the middle: no process stays behind, no folder for a while, nothing half written.

The command `midge` leaves at once when it is told to (`leave_on_signals`), whatever it is doing:
whoever starts a process or makes a temporary folder does it here, and whoever does what must not be
cut in two does it inside `whole`. In a program that uses Midge a signal is the program's own
business; what Midge has started ends with the exception that comes of it.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import IO, Any, NoReturn, TypeVar

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
# How long a signal waits for what must not be cut in two, and compilers may take to clear up.
_PATIENCE_S = 5.0
_GRACE_S = 0.2
_CLEARING_S = 1.0  # how long a folder may resist
_SHOW_CURSOR = b"\x1b[?25h\r\n"

_lock = threading.RLock()
_processes: dict[subprocess.Popen[Any], object] = {}  # with the work that they are part of
_ended: list[object] = []  # work that starts nothing more
_inside = threading.local()
_told: list[int] = []  # signals that came
_folders: dict[Path, int] = {}  # with the process that made it

Argument = TypeVar("Argument")
Result = TypeVar("Result")


@contextlib.contextmanager
def whole() -> Iterator[None]:
    """What is done inside is done to its end before the process leaves; keep it short."""
    with _lock:
        _inside.depth = _depth() + 1
        try:
            yield
        finally:
            _inside.depth -= 1
    if _told and not _depth():
        _rest()


def _depth() -> int:
    """How many `whole` this thread is inside of."""
    return getattr(_inside, "depth", 0)


def start(
    command: Sequence[str | Path],
    *,
    folder: Path,
    output: int | IO[bytes],
    errors: int | IO[bytes],
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a process in a group of its own, without input. OSError when it does not start."""
    work = getattr(_inside, "work", None)
    process = None
    try:
        with whole(), _ctrl_c_waits():
            if work in _ended:
                raise InterruptedError(errno.EINTR, "the work that it is part of has ended")
            process = subprocess.Popen(
                [str(part) for part in command],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                start_new_session=True,
            )
            _processes[process] = work
    except BaseException:
        if process is not None:
            with process:
                stop(process)
        raise
    return process


@contextlib.contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    """In a program that uses Midge, what its Ctrl-C raises is raised when this is over: in the
    middle of a start nobody would know the process that is to be ended."""
    usual = signal.getsignal(signal.SIGINT)
    main = threading.current_thread() is threading.main_thread()
    if not main or not callable(usual) or usual is _left_to_the_thread:
        yield
        return
    came: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: came.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
    if came:
        usual(*came[0])


def stop(process: subprocess.Popen[Any]) -> None:
    """End a process and all that it has started; one that has ended is forgotten."""
    if process.poll() is None:
        _signal([process], "SIGKILL")
        process.wait()
    _processes.pop(process, None)


def run(
    command: Sequence[str | Path],
    *,
    folder: Path,
    timeout_s: float,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a process to its end. OSError when it does not start, subprocess.TimeoutExpired."""
    process = start(
        command,
        folder=folder,
        output=subprocess.PIPE,
        errors=subprocess.PIPE,
        environment=environment,
    )
    with process:
        try:
            output, errors = process.communicate(timeout=timeout_s)
        except BaseException:
            _end([process])
            raise
        finally:
            _processes.pop(process, None)
    texts = (data.decode(errors="replace") for data in (output, errors))
    return subprocess.CompletedProcess(process.args, process.returncode, *texts)


def temporary_folder(prefix: str, parent: Path | None = None) -> Path:
    """A folder that `remove` takes away, or whatever ends this process, short of a kill. In the
    system's place for temporary files it is this user's alone, in `parent` as others are there."""
    with whole():
        if parent is None:
            folder = Path(tempfile.mkdtemp(prefix=prefix))
        else:
            folder = parent / f"{prefix}{secrets.token_hex(8)}"
            folder.mkdir()
        _folders[folder] = os.getpid()
    return folder


def remove(folder: Path) -> None:
    """Take away a temporary folder, with what threads and processes that end write meanwhile."""
    deadline = time.monotonic() + _CLEARING_S
    shutil.rmtree(folder, ignore_errors=True)
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
        shutil.rmtree(folder, ignore_errors=True)
    keep(folder)


def keep(folder: Path) -> None:
    """A folder is temporary no more."""
    _folders.pop(folder, None)


def in_threads(
    function: Callable[[Argument], Result], items: Iterable[Argument]
) -> Iterator[Result]:
    """`function` of each item in order, several at a time. When it ends early, by an exception here
    or in one of them, calls that wait are dropped and what the others have started is ended."""
    work = object()
    pool = ThreadPoolExecutor(os.cpu_count(), initializer=_take_part, initargs=(work,))
    try:
        yield from pool.map(function, items)
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        with _lock:
            _ended.append(work)
        _end([process for process, part in [*_processes.items()] if part is work])
        raise
    finally:
        pool.shutdown()


def _take_part(work: object) -> None:
    _inside.work = work


def leave_on_signals() -> None:
    """From now on Ctrl-C and what else asks a process to end makes this one leave, with an exit
    code of 128 and the signal's number; what was told to ignore them (nohup) still does.

    A thread waits for them: the main one may be inside a solver or an emulator for long.
    """
    if sys.platform == "win32":  # Ctrl-C stays an exception there
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    threading.Thread(target=_wait, args=(reading,), daemon=True).start()
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for name in SIGNALS:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _left_to_the_thread)


def _left_to_the_thread(number: int, frame: FrameType | None) -> None:
    """Of the main thread: do nothing more, but what must not be cut in two."""
    _told.append(number)
    if not _depth():
        _rest()


def _rest() -> NoReturn:
    while True:
        time.sleep(_PATIENCE_S)


def _wait(reading: int) -> None:
    _leave(128 + os.read(reading, 1)[0])


def _leave(code: int) -> NoReturn:
    _lock.acquire(timeout=_PATIENCE_S)  # and never released: nothing more is started
    _end([*_processes])
    _remove_all()
    for stream in (1, 2):
        with contextlib.suppress(OSError):
            if os.isatty(stream):
                os.write(stream, _SHOW_CURSOR)
    os._exit(code)


def _end(processes: Collection[subprocess.Popen[Any]]) -> None:
    """End processes and all that they have started, compilers in time to clear up."""
    _signal(processes, "SIGTERM")
    deadline = time.monotonic() + _GRACE_S
    while time.monotonic() < deadline and any(p.poll() is None for p in processes):
        time.sleep(0.01)
    _signal(processes, "SIGKILL")


def _signal(processes: Iterable[subprocess.Popen[Any]], name: str) -> None:
    for process in processes:
        with contextlib.suppress(OSError):
            if sys.platform == "win32":
                process.kill()
            else:
                os.killpg(process.pid, getattr(signal, name))


def _remove_all() -> None:
    for folder, process in [*_folders.items()]:
        if process == os.getpid():  # and not in a copy of this one
            remove(folder)


atexit.register(_remove_all)
