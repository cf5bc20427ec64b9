"""ONNX files to graphs.

The file is not trusted: it is parsed and walked in Python only (the checkers and converters of the
package `onnx` are native code), sizes are checked before anything is allocated, and whatever a
damaged file makes a library raise becomes a ModelError.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from midge.core.types import Array
from midge.frontends import FRONTENDS, Frontend
from midge.frontends.onnx_model import AGAIN, parsed
from midge.frontends.onnx_nodes import Reader
from midge.graph.ir import Graph
from midge.graph.untrusted import broken_file


def read(data: bytes, name: str) -> Graph:
    """The graph of an .onnx file. ModelError says what is wrong and where."""
    return read_with(data, name)


def read_with(
    data: bytes,
    name: str,
    shapes: Mapping[str, Sequence[int]] | None = None,
    values: Mapping[str, Array] | None = None,
) -> Graph:
    """As `read`, with the shapes of some inputs given (where the file leaves dimensions open) and
    with some inputs replaced by constants (as what the model uses as a shape or an axis)."""
    with broken_file(name, AGAIN):
        model = parsed(data, name)
        return Reader(model, name, shapes or {}, values or {}).graph()


def looks_like_onnx(data: bytes) -> bool:
    """Whether the first field is an IR version that exists (protobuf has no mark of its own)."""
    return data[:1] == b"\x08" and data[1:2] != b"" and 3 <= data[1] <= 32


FRONTENDS.add("onnx", Frontend("onnx", (".onnx",), looks_like_onnx, read))
