"""ONNX files to graphs.

The file is not trusted: it is parsed and walked in Python only (the checkers and converters of the
package `onnx` are native code), sizes are checked before anything is allocated, and whatever a
damaged file makes a library raise becomes a ModelError.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np

from midge.core.errors import MidgeError, ModelError, VerifyError
from midge.core.types import Array
from midge.frontends import FRONTENDS, Frontend
from midge.frontends.onnx_model import parsed
from midge.frontends.onnx_nodes import Reader
from midge.graph.ir import Graph

_AGAIN = "get the file again or export again"


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
    with broken_file(name):
        model = parsed(data, name)
        return Reader(model, name, shapes or {}, values or {}).graph()


@contextmanager
def broken_file(name: str) -> Iterator[None]:
    """Whatever reading a corrupt file raises, as a ModelError."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            yield
    except VerifyError as error:
        raise ModelError(error.what, where=error.where, hint=error.hint) from None
    except (MidgeError, AssertionError):
        raise
    # The reference implementation of constant operators raises whatever it likes.
    except Exception as error:
        what = f"the file is damaged ({type(error).__name__}: {error})"
        raise ModelError(what, where=name, hint=_AGAIN) from error


def looks_like_onnx(data: bytes) -> bool:
    """Whether the first field is an IR version that exists (protobuf has no mark of its own)."""
    return data[:1] == b"\x08" and data[1:2] != b"" and 3 <= data[1] <= 32


FRONTENDS.add("onnx", Frontend("onnx", (".onnx",), looks_like_onnx, read))
