"""PyTorch's sequences of numbers and its identity matrix: constants."""

from __future__ import annotations

import numpy as np

from midge.core.types import Array, DType
from midge.ops._torch import Aten, add

_MOST = 1 << 24  # elements


def arange(a: Aten) -> str:
    start, step = a.number("start", 0.0), a.number("step", 1.0)
    whole = all(isinstance(a.op.attrs.get(n, 0), int) for n in ("start", "end", "step"))
    dtype = a.scalar_type("dtype") or (DType.I64 if whole else DType.F32)
    if not step or abs(a.number("end") - start) / abs(step) > _MOST:
        raise a.op.error("a range of so many elements is not supported")
    return a.value(np.arange(start, a.number("end"), step), dtype)


def _spaced(a: Aten) -> Array:
    """`steps` numbers, both ends among them, each counted from the end that is nearer, as the
    kernels in aten/src/ATen/native/RangeFactories.cpp do; in float64, where they may be in
    float32."""
    start, end, steps = a.number("start"), a.number("end"), a.integer("steps")
    if not 0 <= steps <= _MOST:
        raise a.op.error(f"a range of {steps} elements is not supported")
    if steps <= 1:
        return np.full(steps, start)
    up, step = np.arange(steps), (end - start) / (steps - 1)
    found: Array = np.where(up < steps // 2, start + step * up, end - step * up[::-1])
    return found


def linspace(a: Aten) -> str:
    return a.value(_spaced(a), a.scalar_type("dtype") or DType.F32)


def logspace(a: Aten) -> str:
    powers = np.power(a.number("base", 10.0), _spaced(a))
    return a.value(powers, a.scalar_type("dtype") or DType.F32)


def eye(a: Aten) -> str:
    rows = a.integer("n")
    columns = a.integer("m", rows)
    if not 0 <= rows * columns <= _MOST:
        raise a.op.error(f"a matrix of {rows} x {columns} is not supported")
    return a.value(np.eye(rows, columns), a.scalar_type("dtype") or DType.F32)


add("arange", arange)
add("linspace", linspace)
add("logspace", logspace)
add("eye", eye)
