"""A running QEMU whose guest talks over two named pipes, and the messages it sends.

The guest opens the pipes as files through semihosting, so a whole tensor costs one call; QEMU's
serial ports manage 40 KB a second at most.
"""

from __future__ import annotations

import contextlib
import os
import select
import struct
import subprocess
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from midge.core import leaving
from midge.core.errors import RunError

_WORD = struct.Struct("<I")
_HEAD = struct.Struct("<II")
# How long a wait goes on before it looks whether QEMU has ended; data wakes it at once.
_WATCH_S = 0.05
_GRACE_S = 2.0
_LOG_LINES = 5


class What(IntEnum):
    """The kinds of message, as in qemu_boards/driver.c."""

    READY = 1
    LAYER = 2
    DONE = 3
    FAULT = 4


@dataclass(frozen=True, slots=True)
class Message:
    """`value` is the first word of the content: a status, an index or a cause."""

    what: What
    value: int
    data: bytes


class QemuProcess:
    """QEMU executing an image, from start to kill.

    timeout_s: the longest that one wait for the guest may take. where: for errors.
    folder: where QEMU runs; removed when it ends.
    """

    def __init__(self, command: Sequence[str], *, timeout_s: float, where: str) -> None:
        self._timeout_s, self._where = timeout_s, where
        try:
            self.folder = leaving.temporary_folder("midge-qemu-")
        except OSError as error:
            raise _not_started(error, where) from error
        try:
            self._to_guest = _pipe(self.folder / "to_target")
            self._from_guest = _pipe(self.folder / "from_target")
            with (self.folder / "log").open("wb") as log:
                self._process = leaving.start(command, folder=self.folder, output=log, errors=log)
        except OSError as error:
            leaving.remove(self.folder)
            raise _not_started(error, where) from error
        pipes = (self._to_guest, self._from_guest)
        self._end = weakref.finalize(self, _stop, self._process, pipes, self.folder)

    @property
    def alive(self) -> bool:
        return self._end.alive

    def send(self, data: bytes) -> None:
        """Hand `data` to the guest. RunError when it does not take it in time."""
        left = memoryview(data)
        deadline = time.monotonic() + self._timeout_s
        while left:
            self._wait(deadline, writing=True)
            left = left[os.write(self._to_guest, left) :]

    def receive(self) -> Message:
        """The guest's next message. RunError when there is none in time, or QEMU has ended."""
        deadline = time.monotonic() + self._timeout_s
        what, size = _HEAD.unpack(self._read(_HEAD.size, deadline))
        content = self._read(size, deadline)
        return Message(What(what), _WORD.unpack_from(content)[0], content[_WORD.size :])

    def close(self) -> None:
        """End QEMU and remove its files; closing twice is fine."""
        self._end()

    def _read(self, size: int, deadline: float) -> bytes:
        data = bytearray()
        while len(data) < size:
            self._wait(deadline)
            data += os.read(self._from_guest, size - len(data))
        return bytes(data)

    def _wait(self, deadline: float, *, writing: bool = False) -> None:
        """Return when the pipe is ready; RunError when QEMU ends first or the time is up."""
        reads = [] if writing else [self._from_guest]
        writes = [self._to_guest] if writing else []
        while True:
            ended = self._process.poll()
            ready = select.select(reads, writes, [], 0.0 if ended is not None else _WATCH_S)
            if ended is not None and (writing or not ready[0]):
                raise self._failed(f"QEMU ended with exit code {ended}")
            if ready[0] or ready[1]:
                return
            if time.monotonic() >= deadline:
                self._process.kill()
                raise self._failed(
                    f"no answer within {self._timeout_s:g} s",
                    "the code does not end, or this machine is too slow for it",
                )

    def _failed(self, what: str, hint: str = "") -> RunError:
        """The error for a QEMU that is of no more use; ends it."""
        log: list[str] = []
        with contextlib.suppress(OSError):
            log = (self.folder / "log").read_text(errors="replace").splitlines()
        said = [line for line in log if line.strip() and "warning:" not in line]
        self.close()
        return RunError("\n".join([what, *said[:_LOG_LINES]]), where=self._where, hint=hint)


def _not_started(error: OSError, where: str) -> RunError:
    hint = "let TMPDIR name a folder that can be written and is on this machine"
    return RunError(f"QEMU does not start: {error}", where=where, hint=hint)


def _pipe(path: Path) -> int:
    """A named pipe, open here for both directions: so opening does not wait for the guest, and
    the guest sees its end only when we close it."""
    os.mkfifo(path)
    return os.open(path, os.O_RDWR | os.O_NONBLOCK)


def _stop(process: subprocess.Popen[bytes], pipes: tuple[int, int], folder: Path) -> None:
    """The guest leaves at the end of its input; one that computes for ever is killed."""
    waits = process.poll() is None
    for pipe in pipes:
        os.close(pipe)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_S if waits else 0)
    leaving.stop(process)
    leaving.remove(folder)
