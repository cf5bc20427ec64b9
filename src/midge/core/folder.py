"""Writing the folder of a package: Midge's own files are replaced, nothing else is touched.

A file is Midge's while it has the hash that metadata.json lists for it, or that a run listed which
ended in the middle. New files come under other names into a folder inside, `.midge-new-...`, beside
a list of their hashes; then each takes its place, metadata.json the last. After a kill in between,
sources of two builds do not compile together (`midge.codegen.build_id`), and the next run finds the
list: the files are Midge's, whichever of the two builds they are of.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from midge.core import leaving
from midge.core.errors import UsageError
from midge.core.files import cannot_write
from midge.core.locks import locked
from midge.core.seal import METADATA, hash_of, hashes_in, listed

_PREFIX = ".midge-new-"
_JOURNAL, _KEY = "files.json", "sha256"
_OTHER = "no file"  # in the place of a hash: a folder, a link, a pipe
_OLD_S = 3600.0  # where there are no locks: older than any run that is under way


def write_folder(folder: Path, files: Mapping[str, str], *, force: bool) -> None:
    """Write `files`, path -> text, into `folder`; a link to a folder is followed.

    What an earlier package left there is replaced or removed. UsageError, and nothing is changed,
    if that touched files that were edited or are not Midge's; with `force` those are overwritten
    that have the name of a new one, and others left.
    UsageError also when the system refuses; if that happens in the middle, running again mends it.
    """
    texts = {name: files[name].encode() for name in sorted(files, key=lambda n: n == METADATA)}
    made: list[Path] = []
    try:
        place = Path(os.path.realpath(folder))
        _check_place(folder, place)
        _make(place, made)
        with locked(place) as alone:
            found = _look(place, texts)
            _check(folder, found, force)
            _write(place, texts, found, alone)
    except OSError as error:
        raise cannot_write(folder, error) from None
    finally:
        for created in reversed(made):
            with contextlib.suppress(OSError):  # it is not empty
                created.rmdir()


@dataclass(frozen=True, slots=True)
class Changes:
    """What writing a package does to a folder: files that are new, replaced, kept as they are
    because they are the same, and removed."""

    new: tuple[str, ...]
    replaced: tuple[str, ...]
    same: tuple[str, ...]
    removed: tuple[str, ...]


def changes_of(folder: Path, files: Mapping[str, str], *, force: bool) -> Changes:
    """What `write_folder` would do; nothing is written. UsageError where it would refuse."""
    texts = {name: text.encode() for name, text in files.items()}
    place = Path(os.path.realpath(folder))
    try:
        _check_place(folder, place)
        found = _look(place, texts)
    except OSError as error:
        raise cannot_write(folder, error) from None
    _check(folder, found, force)
    above = next(p for p in (place, *place.parents) if p.exists())
    effective = os.access in os.supports_effective_ids
    if not os.access(above, os.W_OK | os.X_OK, effective_ids=effective):
        raise cannot_write(folder, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
    old = {n for n in found.new if n in found.here}
    return Changes(
        tuple(n for n in found.new if n not in old),
        tuple(n for n in found.new if n in old),
        tuple(n for n in texts if n not in found.new),
        tuple(found.gone),
    )


def _check_place(folder: Path, place: Path) -> None:
    if place.exists() and not place.is_dir():
        raise UsageError("is not a folder", where=str(folder), hint="choose another --output")


def _make(place: Path, made: list[Path]) -> None:
    """Create a folder and those above it; `made` gets them."""
    missing = [p for p in (place, *place.parents) if not p.exists()]
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        made.append(folder)


@dataclass(frozen=True, slots=True)
class _Found:
    """What a folder holds: the hash of each file, new or Midge's, that is there.

    ours: of each of Midge's files the hashes that it may have.  wanted: those of the new ones.
    blocked: new files whose place a folder takes, or whose
    folder is none.
    """

    here: Mapping[str, str]
    ours: Mapping[str, frozenset[str]]
    wanted: Mapping[str, str]
    blocked: tuple[str, ...]

    @property
    def new(self) -> list[str]:
        """Files to write."""
        return [n for n, value in self.wanted.items() if self.here.get(n) != value]

    @property
    def gone(self) -> list[str]:
        """Files to remove."""
        return [n for n, h in self.here.items() if n not in self.wanted and h in self.ours[n]]

    @property
    def foreign(self) -> list[str]:
        """Files that are not, or no more, Midge's and are in the way of a new one or have been
        Midge's."""
        none: frozenset[str] = frozenset()
        return [
            n for n, h in self.here.items()
            if h != self.wanted.get(n) and h not in self.ours.get(n, none)
        ]  # fmt: skip


def _look(place: Path, texts: Mapping[str, bytes]) -> _Found:
    ours = _ours(place)
    hashes = {name: _hash_at(place, name) for name in (*texts, *ours)}
    return _Found(
        {name: value for name, value in hashes.items() if value is not None},
        ours,
        {name: hash_of(text) for name, text in texts.items()},
        tuple(n for n in texts if _is_folder(place / n) or not _is_reached(place, n)),
    )


def _ours(place: Path) -> dict[str, frozenset[str]]:
    metadata = _text(place / METADATA)
    lists = [listed(metadata)]
    lists += [{METADATA: hash_of(metadata)}] if lists[0] else []
    lists += [hashes_in(_text(folder / _JOURNAL), _KEY) for folder in _leftovers(place)]
    names = {name for hashes in lists for name in hashes}
    return {n: frozenset(hashes[n] for hashes in lists if n in hashes) for n in sorted(names)}


def _text(path: Path) -> str:
    """A file's text; "" if there is none."""
    try:
        return path.read_text("utf-8") if stat.S_ISREG(path.lstat().st_mode) else ""
    except (FileNotFoundError, NotADirectoryError, UnicodeDecodeError):
        return ""


def _hash_at(place: Path, name: str) -> str | None:
    path = place / name
    if not _is_reached(place, name) or not os.path.lexists(path):
        return None
    return hash_of(path.read_bytes()) if stat.S_ISREG(path.lstat().st_mode) else _OTHER


def _is_reached(place: Path, name: str) -> bool:
    """Whether the folders down to a file are folders, or can be made."""
    above = [place / p for p in Path(name).parents if p.parts]
    return all(_is_folder(p) or not os.path.lexists(p) for p in above)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _leftovers(place: Path) -> list[Path]:
    """What runs that ended in the middle, or are under way, keep inside."""
    found = [p for p in sorted(place.glob(f"{_PREFIX}*")) if _is_folder(p)]
    return [p for p in found if all(f.name.isdecimal() or f.name == _JOURNAL for f in p.iterdir())]


def _check(folder: Path, found: _Found, force: bool) -> None:
    where = str(folder)
    if found.blocked:
        names = ", ".join(found.blocked)
        raise UsageError(f"a folder, or a file for one, is in the way of {names}", where=where)
    if force:
        return
    if not found.foreign:
        return
    names = ", ".join(found.foreign)
    what = f"edited, or not written by Midge: {names}"
    if not found.ours and METADATA in found.foreign:
        what = f"was not written by Midge, or its {METADATA} was edited: {names}"
    raise UsageError(
        what,
        where=where,
        hint="choose another --output; --force overwrites those that have a successor, no others",
    )


def _write(place: Path, texts: Mapping[str, bytes], found: _Found, alone: bool) -> None:
    waiting = leaving.temporary_folder(_PREFIX, place)
    new = found.new
    try:
        for number, name in enumerate(new):
            (waiting / str(number)).write_bytes(texts[name])
        (waiting / _JOURNAL).write_text(json.dumps({_KEY: dict(found.wanted)}))
        for name in new:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
    except BaseException:
        leaving.remove(waiting)
        raise
    with leaving.whole():
        leaving.keep(waiting)
        try:
            for name in found.gone:
                (place / name).unlink()
            for number, name in enumerate(new):
                os.replace(waiting / str(number), place / name)
        except OSError:
            if _look(place, texts).here == found.here:
                leaving.remove(waiting)
            raise
        _clear(place, waiting, alone)


def _clear(place: Path, waiting: Path, alone: bool) -> None:
    """Take away what this run kept inside, and what others did that are dead."""
    for folder in _leftovers(place):
        old = time.time() - folder.stat().st_mtime > _OLD_S
        if folder == waiting or alone or old:
            shutil.rmtree(folder, ignore_errors=True)
