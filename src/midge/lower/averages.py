"""How the sum of a window becomes its average."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from midge.core.types import DType
from midge.graph.affine_fit import Fit, Line, Staircase
from midge.loop import ir

_MOST_SUMS = 1 << 17
_UNLIMITED = 1 << 20  # beyond every average


def average(total: ir.Expr, count: int, dtype: DType) -> ir.Expr:
    """round(total / count), ties away from zero, as i32, of `count` elements of `dtype`.

    By multiplication and shift where that gives every average there is, else by division.
    """
    fit = _fitted(count, dtype)
    if fit is not None:
        scaled = ir.add(ir.mul(total, ir.i32(fit.factors[0])), ir.i32(fit.offset))
        return ir.Bin(">>", scaled, ir.i32(fit.shift)) if fit.shift else scaled
    positive = ir.Bin("<", ir.i32(0), total)
    half = ir.i32(count // 2)
    rounding = ir.Select(positive, half, ir.Bin("-", ir.i32(0), half))
    return ir.Bin("/", ir.Bin("+", total, rounding), ir.i32(count))


@lru_cache(maxsize=64)
def _fitted(count: int, dtype: DType) -> Fit | None:
    """The average of every sum of `count` elements as one multiplication."""
    if count * (dtype.max - dtype.min) >= _MOST_SUMS:
        return None
    sums = np.arange(count * dtype.min, count * dtype.max + 1, dtype=np.int64)
    averages = np.sign(sums) * ((np.abs(sums) + count // 2) // count)
    stairs = Staircase(sums[None], averages, -_UNLIMITED, _UNLIMITED)
    return stairs.fit(Line((1 / count,), 0.0, 0), may_nudge=False)
