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

from midge.core.damage import DamageError, damage
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
            raise DamageError("it begins as neither of them")
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


def array_from(value: object, where: str) -> Array:
    """What a Python program gives for an array, as one. UsageError if it is none of numbers."""
    try:
        array = np.asarray(value)
    except Exception as error:  # of lists that are uneven, of other libraries' arrays
        what = f"no array of numbers can be made of this {type(value).__name__}"
        raise UsageError(what, where=where, hint="give a NumPy array") from error
    if array.dtype.kind not in _KINDS:
        raise UsageError(
            f"is {type(value).__name__} with elements of type {array.dtype}",
            where=where,
            hint="give a NumPy array of numbers",
        )
    return array


def _array(file: IO[bytes], size: int, where: str) -> Array:
    """An array in NumPy's format, of which `size` bytes are left."""
    head = io.BytesIO(file.read(min(size, 1 << 16)))
    shape, transposed, dtype = _header(head)
    if dtype.kind not in _KINDS:
        raise UsageError(f"holds elements of type {dtype}", where=where, hint="give numbers")
    bytes_ = prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or bytes_ != size - head.tell():
        raise DamageError(f"it has {size - head.tell()} bytes for {dtype}{list(shape)}")
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


def _header(head: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether the first axis is the fastest, and type."""
    if head.read(len(_NPY)) != _NPY:
        raise DamageError("it does not begin as an npy file")
    version = head.read(2)
    read = {
        b"\x01\x00": np.lib.format.read_array_header_1_0,
        b"\x02\x00": np.lib.format.read_array_header_2_0,
    }.get(version)
    if read is None:
        raise DamageError(f"Midge does not know version {'.'.join(map(str, version))} of npy files")
    try:
        return read(head)
    # It parses Python.
    except Exception as error:
        raise DamageError("its header is damaged") from error


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
        here = "give the path of a file that exists and may be read"
        raise UsageError(f"cannot be read: {why}", where=str(path), hint=here) from None
    # Parsers raise whatever they like.
    except Exception as error:
        what = f"cannot be read as npy or npz: {damage(error)}"
        raise UsageError(what, where=str(path), hint=hint) from error
