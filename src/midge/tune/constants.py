"""Constants of trials: C that compilers read in a fraction of the memory that lists take.

A compiler makes some hundred bytes of every number in a list, and one of every byte in a string.
What is shipped are the lists, which people can read; what is measured and compared is the same
bytes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import numpy as np

from midge.codegen import weights
from midge.core.types import Array

_PER_LINE = 1024  # bytes
_ESCAPED = np.frombuffer(b"".join(b"\\%03o" % v for v in range(256)), np.uint8).reshape(256, 4)


def files(model: str, arrays: Sequence[tuple[str, Array]], build: str) -> dict[str, str]:
    """As `weights.files`; the source is of bytes in the order that microcontrollers have."""
    if sys.byteorder != "little":
        return weights.files(model, arrays, build)
    return {
        f"{model}_weights.h": weights.header(model, arrays, build),
        f"{model}_weights.c": "".join(part for a in arrays for part in _definition(*a)),
    }


def _definition(name: str, array: Array) -> Iterator[str]:
    """Another type than the header has, which this source does not include."""
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    yield f"_Alignas({array.dtype.itemsize}) const char {name}[{max(data.size, 1)}] =\n"
    for start in range(0, max(data.size, 1), _PER_LINE):
        yield f'"{_ESCAPED[data[start : start + _PER_LINE]].tobytes().decode()}"\n'
    yield ";\n"
