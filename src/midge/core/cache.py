"""What Midge keeps on this machine because it can be made again: entries of a cache folder.

An entry appears whole or not at all, and every use checks it by the hashes that it was stored with:
a damaged one is made again. Where the cache cannot be written, a folder that lives as long as this
process takes its place. How large the cache gets: `midge.core.cache_upkeep`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
import sys
import threading
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

from midge.core import leaving
from midge.core.cache_upkeep import BUILDING, account, discard, size_of, used
from midge.core.errors import MidgeWarning, RunError
from midge.core.locks import locked

ENVIRONMENT_VARIABLE = "MIDGE_CACHE_DIR"
_HASHES = ".hashes"
_LITTLE = 1 << 20  # bytes; with less a disk is full
_PATIENCE_S = 5.0

_lock = threading.Lock()
_unusable: set[str] = set()  # caches that could not be written to
_own: list[Path] = []  # the folder of this process, once there is one


def cache_dir() -> Path:
    """Where everything that can be made again is kept; $MIDGE_CACHE_DIR moves it.

    Otherwise the platform's place: $XDG_CACHE_HOME/midge or ~/.cache/midge, on macOS
    ~/Library/Caches/midge, on Windows %LOCALAPPDATA%/midge/cache. Not created here.
    FileNotFoundError when there is no home to put it in.
    """
    try:
        return _cache_dir()
    except RuntimeError:
        raise FileNotFoundError(errno.ENOENT, "there is no home folder") from None


def _cache_dir() -> Path:
    chosen = os.environ.get(ENVIRONMENT_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData/Local")) / "midge/cache"
    if sys.platform == "darwin":
        return Path.home() / "Library/Caches/midge"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "midge"


def digest(parts: Iterable[str | bytes]) -> str:
    """A SHA-256 in hexadecimal over `parts`, each with its length: they cannot run together."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(f"{len(data)}:".encode())
        total.update(data)
    return total.hexdigest()


def entry(kind: str, key: str, build: Callable[[Path], None]) -> Path:
    """The folder of entry `key`, made by `build(folder)` if it is not there or is damaged.

    `build` fills a temporary folder that is then renamed: another process sees the whole entry
    or none. Of two that build the same entry one wins, and both use the winner's.
    Whatever `build` raises is passed on, and leaves nothing behind. Only where the cache cannot be
    written, or its disk gets full, it is called again for a temporary folder; RunError when that
    cannot be written either.
    """
    for root in _roots():
        folder = _place(root, kind, key)
        if _is_whole(folder, f"{kind}/{key}"):
            used(folder)
            return folder
    root = _root()
    try:
        return _built(root, kind, key, build)
    except OSError as error:
        if root in _own:
            raise _nowhere(error) from error
        _give_up(str(root), error)
    return entry(kind, key, build)


def load(kind: str, key: str) -> bytes | None:
    """What was stored under `key`; None if nothing was, or if it is damaged."""
    for root in _roots():
        path = _place(root, kind, key)
        with contextlib.suppress(OSError):
            data = _opened(path.read_bytes(), f"{kind}/{key}")
            if data is not None:
                used(path)
                return data
    return None


def store(kind: str, key: str, data: bytes) -> None:
    """Keep `data` for `load`; where that is not possible it is forgotten."""
    with contextlib.suppress(RunError):
        root = _root()
        try:
            _stored(root, _place(root, kind, key), _closed(data, f"{kind}/{key}"))
        except OSError as error:
            _give_up(str(root), error)


def _stored(root: Path, path: Path, data: bytes) -> None:
    with leaving.whole():
        waiting = _building(root) / secrets.token_hex(8)
        try:
            waiting.write_bytes(data)
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                discard(root, path)
            waiting.replace(path)
        except OSError:
            waiting.unlink(missing_ok=True)
            raise
    account(root, size_of(path))


def folder(name: str) -> Path:
    """A folder that another program manages; it can be written to."""
    root = _root()
    path = root / name
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, "Permission denied")
        used(path)
    except OSError as error:
        if root in _own:
            raise _nowhere(error) from error
        _give_up(str(root), error)
        return folder(name)
    return path


# Where entries are.


def _place(root: Path, kind: str, key: str) -> Path:
    return root / kind / key[:2] / key[2:]


def _roots() -> list[Path]:
    """Where to look: the cache, and the folder of this process."""
    found = [*_own]
    with contextlib.suppress(OSError):
        found.insert(0, cache_dir())
    return found


def _root() -> Path:
    """Where to write."""
    try:
        found = cache_dir()
        if str(found) not in _unusable:
            return found
    except OSError as error:
        _give_up("", error)
    with _lock:
        if not _own:
            try:
                _own.append(leaving.temporary_folder("midge-cache-"))
            except OSError as error:
                raise _nowhere(error) from error
    return _own[0]


def _give_up(where: str, error: OSError) -> None:
    """From now on write elsewhere; say so, once."""
    with _lock:
        known = where in _unusable
        _unusable.add(where)
    if known:
        return
    with leaving.whole():  # a process that leaves takes its folders away, and says nothing of it
        warnings.warn(
            f"the cache {where} cannot be used ({error.strerror or error}): work goes to a "
            f"temporary folder, and nothing is remembered; let {ENVIRONMENT_VARIABLE} name a "
            "folder that can be written",
            MidgeWarning,
            stacklevel=3,
        )


def _nowhere(error: OSError) -> RunError:
    return RunError(
        f"nothing can be written: {error.strerror or error}",
        where="temporary folder",
        hint=f"let TMPDIR or {ENVIRONMENT_VARIABLE} name a folder that can be written",
    )


# Making an entry.


def _built(root: Path, kind: str, key: str, build: Callable[[Path], None]) -> Path:
    final = _place(root, kind, key)
    scratch = leaving.temporary_folder("", _building(root))
    try:
        build(scratch)
        _seal(scratch, f"{kind}/{key}")
        size = size_of(scratch)
        _publish(root, scratch, final, f"{kind}/{key}")
    except Exception as error:
        if not isinstance(error, OSError) and _is_full(root):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise
    finally:
        leaving.remove(scratch)
    account(root, size)
    return final


def _is_full(root: Path) -> bool:
    with contextlib.suppress(OSError):
        return shutil.disk_usage(root).free < _LITTLE
    return False


def _building(root: Path) -> Path:
    """The folder of what is not finished."""
    path = root / BUILDING
    path.mkdir(parents=True, exist_ok=True)
    return path


def _publish(root: Path, scratch: Path, final: Path, name: str) -> None:
    final.parent.mkdir(parents=True, exist_ok=True)
    with locked(final.parent, patience_s=_PATIENCE_S):
        if _is_whole(final, name):  # another process was first
            return
        if os.path.lexists(final):
            discard(root, final)
        scratch.rename(final)


# Whether an entry is as it was stored: its first line is a hash of its name and all that follows.


def _closed(data: bytes, name: str) -> bytes:
    return f"{digest((name, data))}\n".encode() + data


def _opened(data: bytes, name: str) -> bytes | None:
    head, _, content = data.partition(b"\n")
    return content if head == digest((name, content)).encode() else None


def _seal(folder: Path, name: str) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    hashes = {path.relative_to(folder).as_posix(): _hash(path) for path in files}
    (folder / _HASHES).write_bytes(_closed(json.dumps(hashes).encode(), name))


def _is_whole(folder: Path, name: str) -> bool:
    try:
        content = _opened((folder / _HASHES).read_bytes(), name)
        return content is not None and all(
            _hash(folder / file) == value for file, value in json.loads(content).items()
        )
    except OSError:
        return False


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
