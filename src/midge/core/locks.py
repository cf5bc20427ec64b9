"""Locks on folders: of those who change one, one after the other does."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

_STEP_S = 0.01


@contextlib.contextmanager
def locked(folder: Path, *, shared: bool = False, patience_s: float = 60.0) -> Iterator[bool]:
    """Hold the lock of a folder; it leaves no file, and ends with the process at the latest.

    shared: beside others that share it.  Yields False where there are no such locks (Windows, some
    network file systems). TimeoutError when another process does not give it back.
    """
    try:
        import fcntl
    except ImportError:
        yield False
        return
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    handle = os.open(folder, os.O_RDONLY)
    try:
        yield _take(handle, kind | fcntl.LOCK_NB, time.monotonic() + patience_s)
    finally:
        os.close(handle)


def _take(handle: int, kind: int, deadline: float) -> bool:
    import fcntl

    while True:
        try:
            fcntl.flock(handle, kind)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise TimeoutError(errno.EBUSY, "another process is at work there") from None
            time.sleep(_STEP_S)
        except OSError:
            return False
        else:
            return True
