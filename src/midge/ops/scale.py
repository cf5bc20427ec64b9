"""scale: integers from one scale to another by one product, rounded once.

y = clamp(((x * 2^up + offset) * multiplier) >> (32 + down), low, high)

x is i8, i16 or i32; `multiplier` and `offset` (i32) are constants, per channel (last axis) or of
one element; the offset holds what rounds, the zero point and whatever was added to x.
`fit_requantize` makes it of requantisations for which it gives the same result, whatever way those
round.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from midge.core.types import Array, DType, TensorType
from midge.graph.attrs import INT32, SHIFT, integer, text
from midge.graph.ir import OPS, Attrs, OpDef, Sample
from midge.loop import ir
from midge.lower import SCALAR_RULES, Element, ScalarRule
from midge.lower.scaling import scaled
from midge.ops._common import arity, broadcast, fail


def infer(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 3)
    x, *constants = inputs
    narrow = x.dtype in (DType.I8, DType.I16, DType.I32)
    if not narrow or any(t.dtype is not DType.I32 for t in constants):
        raise fail(f"cannot scale {inputs[0]} by {inputs[1]}, {inputs[2]}")
    return (TensorType(broadcast(*inputs), DType(text(attrs, "dtype"))),)


def reference(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    x, multiplier, offset = (a.astype(np.int64) for a in inputs)
    shifted = (x << integer(attrs, "up")) + offset
    result = (shifted * multiplier) >> (32 + integer(attrs, "down"))
    clamped = np.clip(result, integer(attrs, "low"), integer(attrs, "high"))
    return (clamped.astype(DType(text(attrs, "dtype")).numpy),)


def element(e: Element) -> ir.Expr:
    x, multiplier, offset = e.args
    up, down, low, high = (integer(e.attrs, k) for k in ("up", "down", "low", "high"))
    return scaled(x, multiplier, offset, up=up, down=down, low=low, high=high)


def _samples() -> tuple[Sample, ...]:
    attrs: Attrs = {"up": 8, "down": 15, "low": -128, "high": 127, "dtype": "i8"}
    narrow: Attrs = {"up": 0, "down": 0, "low": -3, "high": 100, "dtype": "i8"}
    scaling = TensorType((3,), DType.I32)
    one = TensorType((1,), DType.I32)
    many = {
        1: np.array([2**31 - 1, 2**30, 1 << 20], np.int32),
        2: np.array([-123456, 0, 1 << 22], np.int32),
    }
    single = {1: np.array([1 << 29], np.int32), 2: np.array([77], np.int32)}
    x = TensorType((5, 3), DType.I32)
    return (
        Sample((x, scaling, scaling), attrs, many, -(1 << 21), 1 << 21),
        Sample((x, one, one), narrow, single, -1000, 1000),
        Sample((TensorType((7,), DType.I16), one, one), narrow, single),
        Sample((TensorType((2, 3), DType.I8), scaling, scaling), attrs, many),
    )


_LIMITS = {"up": SHIFT, "down": SHIFT, "low": INT32, "high": INT32}
OPS.add(
    "scale", OpDef("scale", infer, reference, elementwise=True, limits=_LIMITS, samples=_samples())
)
SCALAR_RULES.add("scale", ScalarRule(("x", "multiplier", "offset"), element))
