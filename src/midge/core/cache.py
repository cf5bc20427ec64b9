"""Midge's cache folder on this machine, and entries that appear in it whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

ENVIRONMENT_VARIABLE = "MIDGE_CACHE_DIR"


def cache_dir() -> Path:
    """Where everything that can be made again is kept; $MIDGE_CACHE_DIR moves it.

    Otherwise the platform's place: $XDG_CACHE_HOME/midge or ~/.cache/midge, on macOS
    ~/Library/Caches/midge, on Windows %LOCALAPPDATA%/midge/cache. Not created here.
    """
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
    """The folder of entry `key`, made by `build(folder)` if it is not there.

    `build` fills a temporary folder that is then renamed: another process sees the whole entry
    or none. Of two that build the same entry one wins, and both use the winner's.
    Whatever `build` raises is passed on, and leaves nothing behind.
    """
    final = cache_dir() / kind / key[:2] / key[2:]
    if final.is_dir():
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".building-", dir=final.parent))
    try:
        build(scratch)
        _publish(scratch, final)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return final


def _publish(scratch: Path, final: Path) -> None:
    try:
        scratch.rename(final)
    except OSError:
        # Renaming onto a folder with content fails: another process was first.
        if not final.is_dir():
            raise
