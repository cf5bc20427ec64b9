"""NumPy's files, whoever made them: nothing in them is unpickled, sizes are checked before anything
is allocated, and whatever is wrong with them is a UsageError."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np

from midge.core.errors import MidgeError, UsageError
from midge.core.files import check_regular
from midge.core.types import Array

MOST_BYTES = 1 << 31  # of an array
_ZIP, _NPY = (b"PK\x03\x04", b"PK\x05\x06"), b"\x93NUMPY"
_KINDS = "biuf"  # of elements: truth values, integers, floats


def read_npy(path: Path) -> Array:
    """The array of an .npy file. UsageError if it is none."""
    with _broken(path, "write it with np.save"), path.open("rb") as file:
        return _array(file, path.stat().st_size, str(path))


def is_npz(path: Path) -> bool:
    """Whether a file begins as an .npz does; UsageError if it begins as no file of NumPy's."""
    with _broken(path, "write it with np.save or np.savez"):
        with path.open("rb") as file:
            start = file.read(len(_NPY))
        if not start.startswith(_ZIP) and start != _NPY:
            raise ValueError("it begins as neither of them")
        return start.startswith(_ZIP)


def read_npz(path: Path, names: list[str]) -> dict[str, Array]:
    """Those of the arrays `names` that an .npz file has. UsageError if it is none."""
    found = {}
    with _broken(path, "write it with np.savez"), zipfile.ZipFile(path) as file:
        members = {i.filename.removesuffix(".npy"): i for i in file.infolist()}
        for name in names:
            if name in members:
                with file.open(members[name]) as member:
                    found[name] = _array(member, members[name].file_size, f"{path}: {name}")
    return found


def npz_names(path: Path) -> list[str]:
    """The names of the arrays of an .npz file."""
    with _broken(path, "write it with np.savez"), zipfile.ZipFile(path) as file:
        return [name.removesuffix(".npy") for name in file.namelist()]


def _array(file: IO[bytes], size: int, where: str) -> Array:
    """An array in NumPy's format, of which `size` bytes are left."""
    head = io.BytesIO(file.read(min(size, 1 << 16)))
    version = np.lib.format.read_magic(head)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise ValueError(f"version {version} of the format")
    shape, transposed, dtype = read(head)
    if dtype.kind not in _KINDS:
        raise UsageError(f"holds elements of type {dtype}", where=where, hint="give numbers")
    bytes_ = prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or bytes_ != size - head.tell():
        raise ValueError(f"{size - head.tell()} bytes for {dtype}{list(shape)}")
    if bytes_ > MOST_BYTES:
        raise UsageError(
            f"{bytes_} bytes are too many", where=where, hint=f"at most {MOST_BYTES} at once"
        )
    data = head.read() + file.read()
    flat: Array
    if dtype.kind == "b":
        flat = np.frombuffer(data, np.uint8) != 0
    else:
        flat = np.frombuffer(data, dtype).astype(dtype.newbyteorder("="))
    return flat.reshape(shape, order="F" if transposed else "C")


@contextmanager
def _broken(path: Path, hint: str) -> Iterator[None]:
    """Whatever reading a file raises, as a UsageError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check_regular(path)
            yield
    except MidgeError:
        raise
    except OSError as error:
        why = error.strerror or str(error)
        raise UsageError(f"cannot be read: {why}", where=str(path)) from None
    # Parsers raise whatever they like.
    except Exception as error:  # noqa: BLE001
        what = f"cannot be read as npy or npz: {_text(error)}"
        raise UsageError(what, where=str(path), hint=hint) from None


def _text(error: Any) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
