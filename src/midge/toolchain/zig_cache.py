"""Where zig keeps what it builds for itself, its runtime libraries above all.

Zig links the libraries as they are, damaged or not: Midge notes their hashes, and has zig begin
anew when one has changed. DamageError of other files zig notices, but fails at some: then, too.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from midge.core.cache import folder
from midge.core.cache_upkeep import ZIG, count_again
from midge.core.locks import locked

_OUTPUTS, _HASHES = "o", ".hashes"
_LONGEST_S = 900.0  # that a run of zig takes


@contextlib.contextmanager
def zig_folder() -> Iterator[Path]:
    """The folder for one run of zig."""
    path = folder(ZIG)
    with contextlib.suppress(OSError):
        _check_once(path)
    with _lock(path, shared=True):
        yield path
        with contextlib.suppress(OSError):
            _note(path)


@cache
def _check_once(path: Path) -> None:
    """Empty the folder if an output has changed; once in a process."""
    if _outputs(path) and not _is_whole(path):
        with _lock(path, shared=False):
            if not _is_whole(path):  # still, now that no other zig is at work
                _empty(path)


def begin_anew() -> bool:
    """Empty the folder; whether there was something in it."""
    path = folder(ZIG)
    with contextlib.suppress(OSError), _lock(path, shared=False):
        return _empty(path)
    return False


def _empty(path: Path) -> bool:
    children = [*path.iterdir()]
    for child in children:
        shutil.rmtree(child) if child.is_dir() else child.unlink()
    return bool(children)


@contextlib.contextmanager
def _lock(path: Path, *, shared: bool) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # the folder is gone, or a zig hangs
            stack.enter_context(locked(path, shared=shared, patience_s=_LONGEST_S))
        yield


def _outputs(path: Path) -> list[Path]:
    return sorted(file for file in (path / _OUTPUTS).rglob("*") if file.is_file())


def _noted(path: Path) -> dict[str, str]:
    """File -> hash; {} if there is no such list, or it is damaged."""
    try:
        seal, _, text = (path / _HASHES).read_text("utf-8").partition("\n")
    except (OSError, UnicodeDecodeError):
        return {}
    return dict(json.loads(text)) if seal == _hash(text.encode()) else {}


def _is_whole(path: Path) -> bool:
    noted = _noted(path)
    try:
        return bool(noted) and all(_hash((path / f).read_bytes()) == h for f, h in noted.items())
    except OSError:
        return False


def _note(path: Path) -> None:
    """Note the hashes of outputs that are new."""
    noted = _noted(path)
    files = {str(f.relative_to(path)): f for f in _outputs(path)}
    if files.keys() - noted.keys():
        hashes = {n: noted.get(n) or _hash(f.read_bytes()) for n, f in files.items()}
        text = json.dumps(hashes)
        (path / _HASHES).write_text(f"{_hash(text.encode())}\n{text}")
        count_again(path.parent)


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
