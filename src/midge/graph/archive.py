"""Graphs as files of our own: a zip of the graph's text and its constants.

    format.json      {"format": "midge", "version": 1, "producer": ..., "constants": [names]}
    graph.txt        as `graph.text` prints it
    consts/000.npy   the constants by their place in that list: those that the text does not hold

Entries are stored as they are, without times, so that equal graphs are equal bytes. The file is
not trusted: sizes are checked before anything is read, and nothing is ever unpickled.
"""

from __future__ import annotations

import io
import json
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from midge.core.damage import DamageError, damage
from midge.core.errors import MidgeError, ModelError, VerifyError
from midge.core.types import Array, DType
from midge.core.version import version
from midge.graph.ir import Graph, Node, check_tables, expand, verify
from midge.graph.text import parse_graph, print_graph
from midge.graph.untrusted import MAX_ELEMENTS, MAX_RANK

FIRST = "format.json"  # of the entries, so that the first bytes tell the format
VERSION = 1
_TEXT = "graph.txt"
_INLINE = 8  # elements of a constant that the text holds
_MAX_ENTRIES = 1 << 16
_MAX_GROWTH = 64  # of the entries over the file: more is no model
_SMALL = 1 << 20  # bytes that may be unpacked in any case
_AGAIN = "get the file again or write it again"
_BROKEN = (
    zipfile.BadZipFile, zlib.error, struct.error, ValueError, TypeError, IndexError, KeyError,
    OverflowError, AttributeError, EOFError, OSError, MemoryError, ArithmeticError,
    RecursionError, NotImplementedError, RuntimeError, SyntaxError, AssertionError,
)  # fmt: skip


def pack(graph: Graph) -> bytes:
    """The bytes of a .midge file. VerifyError if the graph breaks a rule of the IR."""
    verify(graph)
    stored = {n: a for n, a in graph.consts.items() if not _in_text(a)}
    head = {
        "format": "midge",
        "version": VERSION,
        "producer": f"midge {version()}",
        "constants": list(stored),
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as file:
        _add(file, FIRST, (json.dumps(head, indent=1) + "\n").encode())
        _add(file, _TEXT, print_graph(graph).encode())
        for i, array in enumerate(stored.values()):
            _add(file, _entry(i), _npy(array))
    return out.getvalue()


def _in_text(array: Array) -> bool:
    """Whether the text holds the array exactly: small, and no NaN, of which there are many."""
    return array.size <= _INLINE and bool(np.isfinite(array).all())


def _entry(i: int) -> str:
    return f"consts/{i:03d}.npy"


def _add(file: zipfile.ZipFile, name: str, data: bytes) -> None:
    info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    info.create_system, info.external_attr = 3, 0o644 << 16
    file.writestr(info, data)


def _npy(array: Array) -> bytes:
    out = io.BytesIO()
    # Not ascontiguousarray: that makes a scalar a vector.
    little = np.asarray(array, array.dtype.newbyteorder("<"), order="C")
    np.lib.format.write_array(out, little, version=(1, 0), allow_pickle=False)
    return out.getvalue()


def unpack(data: bytes, name: str) -> Graph:
    """The graph of a .midge file, called `name`. ModelError says what is wrong with it."""
    with _refused(name), np.errstate(all="ignore"):
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            _check_sizes(file, len(data))
            head = _head(_read(file, FIRST), name)
            text = _read(file, _TEXT).decode("utf-8")
            consts = {n: _array(_read(file, _entry(i)), n) for i, n in enumerate(head)}
        graph = parse_graph(text, consts)
        if not consts.keys() <= graph.consts.keys():
            raise DamageError("it has constants that the graph does not have")
        graph = replace(graph, name=name, consts={**graph.consts, **consts})
        _check_types(graph)
        verify(graph)
        check_tables(graph)
        for node in graph.nodes:
            _check_meaning(node, graph)
    return graph


@contextmanager
def _refused(name: str) -> Iterator[None]:
    """Whatever reading a damaged archive raises, as a ModelError."""
    try:
        yield
    except VerifyError as error:
        raise ModelError(error.what, where=error.where, hint=error.hint) from None
    except MidgeError:
        raise
    except _BROKEN as error:
        what = f"the file is damaged: {damage(error)}"
        raise ModelError(what, where=name, hint=_AGAIN) from error


def _check_sizes(file: zipfile.ZipFile, size: int) -> None:
    """DamageError for a bomb, or for entries that are not ours."""
    infos = file.infolist()
    if len(infos) > _MAX_ENTRIES:
        raise DamageError(f"it has {len(infos)} entries")
    if sum(i.file_size for i in infos) > max(_SMALL, _MAX_GROWTH * size):
        raise DamageError("it unpacks to far more than a model")
    names = [i.filename for i in infos]
    if len({*names}) < len(names):
        raise DamageError("an entry stands there twice")
    for found in names:
        if found not in (FIRST, _TEXT) and not found.startswith("consts/"):
            raise DamageError(f"it has the unknown entry {found!r}")


def _read(file: zipfile.ZipFile, entry: str) -> bytes:
    info = file.getinfo(entry)
    with file.open(info) as stream:
        return stream.read(info.file_size)


def _head(data: bytes, name: str) -> list[str]:
    """The names of the stored constants. ModelError for a version that is not known here."""
    head: Any = json.loads(data)
    if not isinstance(head, Mapping) or head.get("format") != "midge":
        raise DamageError("format.json does not say that this is a midge file")
    number = head.get("version")
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise DamageError(f"{number!r} is no version of the format")
    if number > VERSION:
        raise ModelError(
            f"the file has version {number} of the format, this Midge knows {VERSION}",
            where=name,
            hint=f"it was written by {head.get('producer', 'a later one')!s:.60}: upgrade Midge",
        )
    names = head.get("constants")
    if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise DamageError("format.json has no list of constants")
    if len({*names}) < len(names):
        raise DamageError("a constant stands there twice")
    return names


def _array(data: bytes, name: str) -> Array:
    """The array of an npy entry; the header is checked against the data before any allocation."""
    stream = io.BytesIO(data)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise DamageError(f"constant {name!r} has another npy version")
    try:
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    except tokenize.TokenError as error:
        raise DamageError(f"constant {name!r} has a damaged header") from error
    dtype = dtype.newbyteorder("=")
    DType.of(np.empty(0, dtype))
    raw = data[stream.tell() :]
    if fortran or not _possible(shape) or len(raw) != int(np.prod(shape)) * dtype.itemsize:
        raise DamageError(f"constant {name!r} is not what its header says")
    array: Array = np.frombuffer(raw, dtype.newbyteorder("<")).astype(dtype).reshape(shape)
    if dtype == np.bool_ and raw.strip(b"\0\1"):
        raise DamageError(f"constant {name!r} has bytes that are no booleans")
    return array


def _check_types(graph: Graph) -> None:
    for name, t in graph.types.items():
        if not _possible(t.shape):
            limits = f"at most {MAX_RANK} dimensions and {MAX_ELEMENTS} elements"
            raise ModelError(
                f"shape {t.shape} is not possible", where=f"tensor {name!r}", hint=limits
            )
        if t.quant is not None and t.dtype.is_integer:
            for zero in t.quant.zero_point:
                if not t.dtype.min <= zero <= t.dtype.max:
                    what = f"zero point {zero} is outside {t.dtype.value}"
                    raise ModelError(what, where=f"tensor {name!r}", hint=_AGAIN)


def _check_meaning(node: Node, graph: Graph) -> None:
    """ModelError for attributes and scales without meaning, and for reals that nothing states."""
    if node.op == "dequantize" and graph.types[node.inputs[0]].quant is None:
        raise ModelError(f"{graph.types[node.inputs[0]]} is not quantised", where=node.where)
    expand(node, graph.types, graph.consts)


def _possible(shape: tuple[int, ...]) -> bool:
    elements = 1
    for n in shape:
        elements *= n
    return len(shape) <= MAX_RANK and all(n >= 0 for n in shape) and elements <= MAX_ELEMENTS
