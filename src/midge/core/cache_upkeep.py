"""How large the cache is and may get: what was not used for longest goes first.

The cache counts what is stored (file `.size`) and looks at all of its entries only when that is
more than the limit. Leftovers of processes that were killed go after a day.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from midge.core import leaving
from midge.core.errors import UsageError
from midge.core.locks import locked
from midge.core.sizes import size_in

LIMIT_VARIABLE = "MIDGE_CACHE_LIMIT"
DEFAULT_LIMIT = 2 << 30
BUILDING = ".building"
ZIG = "zig"

_TOTAL = ".size"
_LEAVE = 0.9  # of the limit, after something had to go
_IN_USE_S = 600.0  # what was used since then stays
_DEAD_S = 86400.0  # what nobody builds any more
_LONGEST_S = 3600.0  # longer than any build takes
_PATIENCE_S = 2.0
# What zig has in its folder; another folder of that name is not touched.
_ZIGS = frozenset({"b", "c", "h", "o", "p", "tmp", "z", ".hashes"})


@dataclass(frozen=True, slots=True)
class Item:
    """An entry of the cache. size: bytes on the disk.  used: when, in seconds since the epoch."""

    kind: str
    path: Path
    size: int
    used: float


def cache_limit() -> int:
    """Bytes that the cache may take; $MIDGE_CACHE_LIMIT sets them. UsageError for no size."""
    text = os.environ.get(LIMIT_VARIABLE, "").strip()
    if not text:
        return DEFAULT_LIMIT
    try:
        return size_in(text)
    except ValueError as error:
        raise UsageError(
            f"{text!r} {error}", where=LIMIT_VARIABLE, hint="e.g. 500M or 2G"
        ) from None


def used(path: Path) -> None:
    """Note that an entry is used now."""
    with contextlib.suppress(OSError):
        os.utime(path)


def size_of(path: Path) -> int:
    """Bytes that a file, or a folder with all that is in it, takes on the disk."""
    total = _blocks(path)
    if path.is_dir() and not path.is_symlink():
        for folder, folders, files in os.walk(path):
            total += sum(_blocks(Path(folder, name)) for name in (*folders, *files))
    return total


def _blocks(path: Path) -> int:
    try:
        found = path.lstat()
    except OSError:
        return 0
    blocks: int = getattr(found, "st_blocks", 0)
    return max(found.st_size, 512 * blocks)


def account(root: Path, added: int) -> None:
    """`added` bytes were stored in the cache `root`: make room if it is too large."""
    limit = cache_limit()
    _remove_dead_once(root)
    with contextlib.suppress(OSError), locked(root, patience_s=_PATIENCE_S):
        known = _total(root)
        total = size(root) if known is None else known + added
        if total > limit:
            total = _make_room(root, limit)
        if (root / _TOTAL).is_symlink():
            (root / _TOTAL).unlink()  # what it names is another's
        (root / _TOTAL).write_text(str(total))


def count_again(root: Path) -> None:
    """What another program keeps in the cache has grown."""
    with contextlib.suppress(OSError):
        (root / _TOTAL).unlink()


def _total(root: Path) -> int | None:
    try:
        text = (root / _TOTAL).read_bytes()
    except OSError:
        return None
    return int(text) if text.isdigit() and len(text) < 20 else None


def size(root: Path) -> int:
    """Bytes of all entries."""
    return sum(item.size for item in items(root))


def items(root: Path) -> Iterator[Item]:
    """Every entry of a cache; what else lies in its folder is none."""
    for kind in _folders(root):
        if kind.name == ZIG and {p.name for p in kind.iterdir()} <= _ZIGS:
            yield _item(ZIG, kind)
        for part in _folders(kind):
            if re.fullmatch(r"[0-9a-f]{2}", part.name):
                found = [p for p in sorted(part.iterdir()) if re.fullmatch(r"[0-9a-f]+", p.name)]
                yield from (_item(kind.name, path) for path in found)


def _folders(path: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return [p for p in sorted(path.iterdir()) if p.is_dir() and not p.is_symlink()]
    return []


def _item(kind: str, path: Path) -> Item:
    try:
        last = path.stat().st_mtime
    except OSError:
        last = 0.0
    return Item(kind, path, size_of(path), last)


def _make_room(root: Path, limit: int) -> int:
    """Remove what was not used for longest; the bytes that are left."""
    found = sorted(items(root), key=lambda item: item.used)
    total = sum(item.size for item in found)
    for item in found:
        if total <= _LEAVE * limit or item.used > time.time() - _IN_USE_S:
            break
        with contextlib.suppress(OSError):  # another process was first, or it is not ours
            discard(root, item.path)
            total -= item.size
    return total


def discard(root: Path, path: Path) -> None:
    """Remove an entry, which is gone at once."""
    with leaving.whole():
        grave = root / BUILDING / secrets.token_hex(8)
        grave.parent.mkdir(exist_ok=True)
        path.rename(grave)
        _remove(grave)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@functools.cache
def _remove_dead_once(root: Path) -> None:
    _remove_dead(root, _DEAD_S)


def _remove_dead(root: Path, older_s: float) -> None:
    """Remove what killed processes left behind."""
    for path in unfinished(root):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > older_s:
                _remove(path)


def unfinished(root: Path) -> Sequence[Path]:
    """What is being built, or was when its process was killed."""
    with contextlib.suppress(OSError):
        return sorted((root / BUILDING).iterdir())
    return []


def clear(root: Path) -> tuple[int, int]:
    """Remove all entries: how many there were, and their bytes. OSError if one cannot be."""
    found = [*items(root)]
    for item in found:
        with contextlib.suppress(FileNotFoundError):  # another process was first
            discard(root, item.path)
    count_again(root)
    _remove_dead(root, _LONGEST_S)
    return len(found), sum(item.size for item in found)
