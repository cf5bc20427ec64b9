"""ONNX models whose tensors lie in files beside the model, as PyTorch's exporter writes them.

A model says where its data is, and is not trusted: only regular files in its own folder are read,
links are followed as far as that, and no more bytes than the files have.
Source: the ONNX specification, "External Tensor Data".
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from midge.core.errors import ModelError
from midge.graph.untrusted import broken_file, checked_shape

_MOST = (1 << 31) - 1  # bytes that a protobuf message has
_NUMBERS = ("offset", "length")
_HERE = "give the model together with its data files, in one folder"
_AGAIN = "get the files again or export again"


def gathered(data: bytes, path: Path) -> bytes:
    """The model with all of its data in it; `data` itself where nothing lies elsewhere.
    ModelError for data that is missing, damaged or outside of the model's folder."""
    model = _parsed(data)
    if model is None:
        return data
    with broken_file(path.name, _AGAIN):
        files = _Files(path)
        for tensor in _tensors(model):
            if _is_elsewhere(tensor):
                _put_in(tensor, files)
        return bytes(model.SerializeToString())


def parts(data: bytes, path: Path) -> Sequence[Path]:
    """The files that hold data of the model, whether or not they are there."""
    model = _parsed(data)
    places = [_entries(t).get("location", "") for t in _tensors(model) if _is_elsewhere(t)]
    return [path.parent / place for place in dict.fromkeys(places) if place and "\0" not in place]


def _parsed(data: bytes) -> Any:
    """None for what is no model, or one in a single file."""
    if b"location" not in data:  # the key that such data has; most files are not parsed twice
        return None
    import onnx
    from google.protobuf.message import DecodeError

    try:
        return onnx.ModelProto.FromString(data)
    except DecodeError:
        return None


def _tensors(message: Any) -> Iterator[Any]:
    """Every TensorProto in a message."""
    if message is None:
        return
    if message.DESCRIPTOR.name == "TensorProto":
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            repeated = field.is_repeated if hasattr(field, "is_repeated") else field.label == 3
            for part in value if repeated else (value,):
                yield from _tensors(part)


def _is_elsewhere(tensor: Any) -> bool:
    return bool(tensor.data_location == tensor.EXTERNAL)


def _entries(tensor: Any) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


def _put_in(tensor: Any, files: _Files) -> None:
    where = f"initializer {tensor.name!r}"
    entries = _entries(tensor)
    for key in _NUMBERS:
        if key in entries and not (entries[key].isdecimal() and len(entries[key]) < 19):
            raise ModelError(f"{key} {entries[key]!r} is no number", where=where, hint=_AGAIN)
    offset, length = (int(entries.get(key, 0)) for key in _NUMBERS)
    wanted = _size(tensor, where)
    if "length" in entries and length != wanted:
        what = f"{length} bytes of data for a tensor of {wanted}"
        raise ModelError(what, where=where, hint=_AGAIN)
    location, checksum = entries.get("location", ""), entries.get("checksum", "")
    tensor.raw_data = files.read(location, offset, wanted, where)
    if checksum and files.checksum(location) != checksum.lower():
        raise ModelError(f"{location} is not the file of this model", where=where, hint=_AGAIN)
    del tensor.external_data[:]
    tensor.data_location = tensor.DEFAULT


def _size(tensor: Any, where: str) -> int:
    """Bytes that a tensor's data takes."""
    from onnx import helper

    elements = prod(checked_shape(tuple(tensor.dims), where))
    try:
        bits = (
            _BITS.get(tensor.data_type)
            or 8 * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        )
    except KeyError:
        what = f"element type number {tensor.data_type} does not exist"
        raise ModelError(what, where=where, hint=_AGAIN) from None
    return -(-elements * bits // 8)


_BITS = {21: 4, 22: 4, 23: 4, 25: 2, 26: 2}  # packed: UINT4, INT4, FLOAT4E2M1, UINT2, INT2


class _Files:
    """The files in the folder of a model, or in that of the file that a link of its name means."""

    def __init__(self, path: Path) -> None:
        self.folder = path.parent
        self.roots = {os.path.realpath(path.parent), os.path.dirname(os.path.realpath(path))}
        self.known: dict[str, bytes] = {}
        self.sums: dict[str, str] = {}
        self.total = 0

    def read(self, location: str, offset: int, length: int, where: str) -> bytes:
        data = self.content(location, where)
        if offset + length > len(data):
            what = f"{location} has {len(data)} bytes; its data ends at {offset + length}"
            raise ModelError(what, where=where, hint=_AGAIN)
        self.total += length
        if self.total > _MOST:
            what = f"more than {_MOST} bytes of data"
            raise ModelError(what, where=where, hint="Midge compiles models for microcontrollers")
        return data[offset : offset + length]

    def checksum(self, location: str) -> str:
        """As the specification has it, of the whole file."""
        if location not in self.sums:
            data = self.known[location]
            self.sums[location] = hashlib.sha1(data, usedforsecurity=False).hexdigest()
        return self.sums[location]

    def content(self, location: str, where: str) -> bytes:
        if location not in self.known:
            self.known[location] = self._opened(location, where)
        return self.known[location]

    def _opened(self, location: str, where: str) -> bytes:
        inside = location and not any(
            kind(location).anchor or ".." in kind(location).parts
            for kind in (PurePosixPath, PureWindowsPath)
        )
        if not inside or "\0" in location:
            what = f"the data is in {location!r}, which is not a file in the model's folder"
            raise ModelError(what, where=where, hint="save the model in one file")
        path = self.folder / location
        if not path.exists():
            what = f"the data is in {location!r}, which is not there"
            raise ModelError(what, where=where, hint=_HERE)
        real = Path(os.path.realpath(path))
        if not any(real.is_relative_to(root) for root in self.roots) or not real.is_file():
            what = f"the data is in {location!r}, which is no file in the model's folder"
            raise ModelError(what, where=where, hint=_HERE)
        if real.stat().st_size > _MOST:
            what = f"{location} has more than {_MOST} bytes"
            raise ModelError(what, where=where, hint="Midge compiles models for microcontrollers")
        try:
            return real.read_bytes()
        except OSError as error:
            what = f"{location} cannot be read: {error.strerror or error}"
            raise ModelError(what, where=where, hint=_HERE) from None
