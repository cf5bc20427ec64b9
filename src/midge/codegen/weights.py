"""Constant arrays as C text, fast: a quarter of a million numbers in well under a second."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from midge.codegen.c import float_text
from midge.core.types import Array, DType
from midge.runtime import LICENSE

_SPDX = f"/* SPDX-License-Identifier: {LICENSE} */\n"
_WIDTH = 96
_LINES = 2048  # whose elements are texts at one time
_PER_LINE = {DType.I8: 20, DType.U8: 20, DType.I16: 14, DType.I32: 8, DType.I64: 4, DType.F32: 6}


def array_text(array: Array, indent: str = "    ") -> str:
    """The elements of `array`, comma separated, in lines."""
    dtype = DType.of(array)
    flat = array.reshape(-1)
    n = _PER_LINE.get(dtype, 8)
    while True:
        blocks, longest = _blocks(flat, dtype, n, indent)
        if blocks is not None:
            return ",\n".join(blocks)
        n = _WIDTH // (longest + 2)


def _blocks(flat: Array, dtype: DType, n: int, indent: str) -> tuple[list[str] | None, int]:
    """Lines of n elements, many together, and the longest element. None as soon as one is too long
    for lines of so many. A few elements at a time: their texts take much more room than lines."""
    blocks, longest = [], 1
    for start in range(0, max(len(flat), 1), n * _LINES):
        words = _words(flat[start : start + n * _LINES], dtype)
        longest = max(longest, max(map(len, words), default=1))
        if n > _WIDTH // (longest + 2):
            return None, longest
        lines = (", ".join(words[i : i + n]) for i in range(0, len(words), n))
        blocks.append(",\n".join(indent + line for line in lines))
    return blocks, longest


def _words(flat: Array, dtype: DType) -> list[str]:
    values = flat.tolist()
    match dtype:
        case DType.F32:
            assert not np.isnan(flat).any(), "constants are numbers"
            return [float_text(word) for word in flat.astype("U32").tolist()]
        case DType.I64:
            return [f"INT64_C({v})" if v != -(2**63) else "INT64_MIN" for v in values]
        case DType.I32:
            return [str(v) if v != -(2**31) else "INT32_MIN" for v in values]
        case DType.BOOL:
            return ["true" if v else "false" for v in values]
        case DType.I8 | DType.U8:
            return [_BYTES[v] for v in values]
        case _:
            return [str(v) for v in values]


_BYTES = {v: str(v) for v in range(-128, 256)}


def definition(name: str, array: Array) -> str:
    """`const int8_t name[n] = {...};`"""
    dtype = DType.of(array)
    body = array_text(np.ascontiguousarray(array))
    return f"const {dtype.c_name} {name}[{array.size}] = {{\n{body}\n}};\n"


def declaration(name: str, array: Array) -> str:
    return f"extern const {DType.of(array).c_name} {name}[{array.size}];"


# A model's name, the names and values of its constants and the number of its build -> files, of
# which NAME_weights.h declares what NAME_weights.c defines.
Writer = Callable[[str, Sequence[tuple[str, Array]], str], dict[str, str]]


def files(model: str, arrays: Sequence[tuple[str, Array]], build: str) -> dict[str, str]:
    """The header and the source of a model's constants, of the build with that number."""
    name = f"{model}_weights"
    macro, number = f"{name.upper()}_BUILD", f"0x{build}U"
    body = "\n".join(definition(c, a) for c, a in arrays)
    return {
        f"{name}.h": header(model, arrays, build),
        f"{name}.c": f"{_SPDX}/* {name}.c - constants of '{model}', {_size(arrays)} bytes. */\n"
        f'#include "{name}.h"\n\n#if !defined({macro}) || ({macro} != {number})\n'
        f'#error "{name}.c and {name}.h are of two builds: run midge again"\n#endif\n\n{body}',
    }


def header(model: str, arrays: Sequence[tuple[str, Array]], build: str) -> str:
    """What declares a model's constants."""
    name, guard = f"{model}_weights", f"{model}_weights_h".upper()
    head = "\n".join(declaration(c, a) for c, a in arrays)
    return (
        f"{_SPDX}/* {name}.h - constants of '{model}', {_size(arrays)} bytes; internal. */\n"
        f"#ifndef {guard}\n#define {guard}\n\n#include <stdbool.h>\n#include <stdint.h>\n\n"
        f"#define {name.upper()}_BUILD 0x{build}U\n\n"
        f'#ifdef __cplusplus\nextern "C" {{\n#endif\n\n{head}\n\n'
        f"#ifdef __cplusplus\n}}\n#endif\n#endif /* {guard} */\n"
    )


def _size(arrays: Sequence[tuple[str, Array]]) -> int:
    return sum(array.nbytes for _, array in arrays)
