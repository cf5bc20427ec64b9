"""Attributes of operators: what they may be, and reading one as what it should be.

Reading one that is missing or of another kind raises VerifyError: attributes come from files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isinf

import numpy as np

from midge.core.errors import VerifyError
from midge.core.types import DType, TensorType

Attr = int | float | str | tuple[int | float, ...]
Attrs = Mapping[str, Attr]
Range = tuple[float, float]
# What an attribute may be: a range, or what the element type of the input of that number holds.
Limits = Mapping[str, Range | int]

INT32: Range = (-(2**31), 2**31 - 1)
SHIFT: Range = (0, 31)  # of 32 bits
ZERO_POINT: Range = (-(2**15), 2**16 - 1)  # of any type that is quantised
_MOST = {DType.F16: float(np.finfo(np.float16).max), DType.F32: float(np.finfo(np.float32).max)}
FLOAT: Range = (-_MOST[DType.F32], _MOST[DType.F32])
SCALE: Range = (float(np.finfo(np.float32).smallest_subnormal), FLOAT[1])
FLAG: Range = (0, 1)


def integer(attrs: Attrs, name: str, default: int | None = None) -> int:
    value = attrs.get(name, default)
    if not isinstance(value, int):
        raise _wrong(name, value, "an integer")
    return value


def number(attrs: Attrs, name: str, default: float | None = None) -> float:
    value = attrs.get(name, default)
    if not isinstance(value, int | float):
        raise _wrong(name, value, "a number")
    return float(value)


def text(attrs: Attrs, name: str, default: str | None = None) -> str:
    value = attrs.get(name, default)
    if not isinstance(value, str):
        raise _wrong(name, value, "a word")
    return value


def integers(attrs: Attrs, name: str, count: int | None = None) -> tuple[int, ...]:
    """A tuple of integers, of `count` if given."""
    value = attrs.get(name)
    if not isinstance(value, tuple) or (count is not None and len(value) != count):
        raise _wrong(name, value, "integers" if count is None else f"{count} integers")
    if not all(isinstance(v, int) for v in value):
        raise _wrong(name, value, "integers")
    return tuple(map(int, value))


def check_limits(attrs: Attrs, limits: Limits, inputs: Sequence[TensorType]) -> None:
    """VerifyError for a number that an operator cannot compute with, such as a shift by more bits
    than there are, or NaN."""
    for name, limit in limits.items():
        if name not in attrs or (isinstance(limit, int) and limit >= len(inputs)):
            continue
        value = attrs[name]
        least, most = limits_of(inputs[limit].dtype) if isinstance(limit, int) else limit
        endless = isinstance(limit, int) and inputs[limit].dtype.is_float
        for v in value if isinstance(value, tuple) else (value,):
            if isinstance(v, str) or not (least <= v <= most or (endless and isinf(v))):
                raise _wrong(name, value, f"{least:g} to {most:g}")


def limits_of(dtype: DType) -> Range:
    """The least and the greatest number of an element type."""
    if dtype.is_float:
        return -_MOST[dtype], _MOST[dtype]
    return FLAG if dtype is DType.BOOL else (dtype.min, dtype.max)


def _wrong(name: str, value: object, expected: str) -> VerifyError:
    return VerifyError(f"attribute {name} is {value!r}, expected {expected}", where="attributes")
