"""Writing files so that nothing is ever half written."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from midge.core.errors import UsageError


def write_file(path: Path, data: bytes) -> None:
    """Write a whole file or nothing: a temporary file beside it takes its name at the end."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise UsageError(f"cannot be written: {error.strerror}", where=str(path)) from None


def write_npz(path: Path, arrays: Mapping[str, object]) -> None:
    """A NumPy archive of `arrays`."""
    buffer = io.BytesIO()
    np.savez(buffer, **{n: np.asarray(a) for n, a in arrays.items()})  # type: ignore[arg-type]
    write_file(path, buffer.getvalue())


def write_folder(folder: Path, files: Mapping[str, str], mark: str, *, force: bool) -> None:
    """Write `files` as the folder `folder`, or nothing at all.

    An existing folder is replaced if it is empty, contains the file `mark` (so that Midge wrote
    it), or with `force`; otherwise UsageError.
    """
    try:
        _check_replaceable(folder, mark, force)
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    except OSError as error:
        raise UsageError(f"cannot be written: {error.strerror}", where=str(folder)) from None
    try:
        for name, text in files.items():
            path = made / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
        made.chmod(0o755)
        _swap(made, folder)
    except OSError as error:
        raise UsageError(f"cannot be written: {error.strerror}", where=str(folder)) from None
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _check_replaceable(folder: Path, mark: str, force: bool) -> None:
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UsageError("is not a folder", where=str(folder), hint="choose another --output")
    ours = not folder.exists() or not any(folder.iterdir()) or (folder / mark).is_file()
    if not ours and not force:
        raise UsageError(
            "exists and was not written by Midge",
            where=str(folder),
            hint="choose another --output, or --force to replace it",
        )


def _swap(made: Path, folder: Path) -> None:
    """`made` becomes `folder`; what was there goes only once the new one is in place."""
    if not folder.exists():
        os.rename(made, folder)
        return
    old = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    os.rename(folder, old / "old")
    try:
        os.rename(made, folder)
    except BaseException:
        os.rename(old / "old", folder)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
