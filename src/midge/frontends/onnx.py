"""ONNX files to graphs.

The file is not trusted: it is parsed and walked in Python only (the checkers and converters of the
package `onnx` are native code), sizes are checked before anything is allocated, and whatever a
damaged file makes a library raise becomes a ModelError.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from midge.core.types import Array
from midge.frontends import FRONTENDS, Frontend
from midge.frontends.onnx_external import gathered, parts
from midge.frontends.onnx_model import AGAIN, parsed
from midge.frontends.onnx_nodes import Reader
from midge.frontends.shapes import Shapes
from midge.graph.ir import Graph
from midge.graph.untrusted import broken_file

NOTHING: Mapping[str, Any] = MappingProxyType({})


def read(
    data: bytes, name: str, shapes: Shapes = NOTHING, values: Mapping[str, Array] = NOTHING
) -> Graph:
    """The graph of an .onnx file. ModelError says what is wrong and where.

    shapes: of inputs where the file leaves dimensions open.  values: of inputs that become
    constants (as what the model uses as a shape or an axis).
    """
    with broken_file(name, AGAIN):
        return Reader(parsed(data, name), name, shapes, values).graph()


def looks_like_onnx(data: bytes) -> bool:
    """Whether the first field is an IR version that exists (protobuf has no mark of its own)."""
    return data[:1] == b"\x08" and data[1:2] != b"" and 3 <= data[1] <= 32


FRONTENDS.add("onnx", Frontend("onnx", (".onnx",), looks_like_onnx, read, parts, gathered))
