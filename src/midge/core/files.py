"""Writing files so that nothing is ever half written."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import secrets
import stat
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from midge.core import leaving
from midge.core.errors import UsageError

_LONGEST_NAME = (1 << 16) - 64  # bytes, of an array in an archive
_HINTS = {
    errno.ENOSPC: "free space there, or choose another place",
    errno.EDQUOT: "free space there, or choose another place",
    errno.ENAMETOOLONG: "choose a shorter name",
}


def cannot_write(path: Path, error: OSError) -> UsageError:
    """What a user is told when the system refuses to write `path`."""
    what = f"cannot be written: {error.strerror or error}"
    hint = _HINTS.get(error.errno or 0, "choose another place, or see to its permissions")
    return UsageError(what, where=str(path), hint=hint)


def check_regular(path: Path) -> None:
    """UsageError for a pipe or a device, which may never end; not for what is not there."""
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        raise UsageError(
            "is no regular file", where=str(path), hint="save what it gives as a file first"
        )


def check_apart(output: Path, option: str, others: Iterable[Path]) -> None:
    """UsageError if what is written to `output` takes the place of a file of `others` or
    comes into a folder of them. A link is what it names; pipes and devices are nobody's place.
    """
    for other in others:
        if _is_place_of(output, other):
            raise UsageError(
                f"would take the place of {other}, which this command needs",
                where=f"{option} {output}",
                hint=f"choose another {option}",
            )


def _is_place_of(output: Path, other: Path) -> bool:
    if os.path.isdir(other):
        return Path(os.path.realpath(output)).is_relative_to(os.path.realpath(other))
    return os.path.isfile(output) and os.path.isfile(other) and os.path.samefile(output, other)


def write_file(path: Path, data: bytes) -> None:
    """Write a whole file or nothing: a temporary file beside it takes its name at the end.

    A link is followed to what it names, a file that was there keeps its mode, and what is no file
    (a pipe, /dev/null) is written to as it is. UsageError when the system refuses.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        there = path.stat() if path.exists() else None
        if there is not None and not stat.S_ISREG(there.st_mode):
            path.write_bytes(data)
            return
        if there is not None:
            path.open("r+b").close()  # refused for what is read-only, which a rename replaces
        _replace(Path(os.path.realpath(path)), data, None if there is None else there.st_mode)
    except OSError as error:
        raise cannot_write(path, error) from None


def _replace(path: Path, data: bytes, mode: int | None) -> None:
    with leaving.whole():
        temporary = path.with_name(f".midge-{secrets.token_hex(8)}")
        try:
            with temporary.open("xb") as file:
                file.write(data)
            if mode is not None:
                temporary.chmod(stat.S_IMODE(mode))
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise


def write_npz(path: Path, arrays: Mapping[str, object]) -> None:
    """A NumPy archive of `arrays`, whose names must pass `is_npz_name`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:  # np.savez has parameters, which are no names
        for name, array in arrays.items():
            assert is_npz_name(name), "no name of an array in a file"
            with file.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
    write_file(path, buffer.getvalue())


def is_npz_name(name: str) -> bool:
    """Whether an array in an archive can be called so: zip has 16 bits for the length of a name, of
    which readers take what is before a NUL."""
    try:
        return "\0" not in name and len(name.encode()) < _LONGEST_NAME
    except UnicodeEncodeError:  # half a letter
        return False
