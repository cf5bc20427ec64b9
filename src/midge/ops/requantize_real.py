"""requantize_real: round(x * real) + zero_out as binary64 gives it, clamped to low..high.

x i32 or i64; real = (high * 2^27 + low) * 2^-shift from three constant inputs i32, per channel
(last axis) or of one element. Slower than `requantize`: where no fixed-point multiplier is exact.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from midge.core.types import Array, DType, TensorType
from midge.graph.attrs import INT32, ZERO_POINT, integer, text
from midge.graph.ir import OPS, Attr, Attrs, Expansion, OpDef, Sample
from midge.graph.real_product import LOW_BITS, split_real
from midge.loop import ir
from midge.lower import SCALAR_RULES, Element, ScalarRule
from midge.ops._common import arity, broadcast, fail, shifted_clamp

_LIMIT = 1 << 30  # where the intrinsic stops
_LIMITS = {"zero_out": ZERO_POINT, "low": INT32, "high": INT32}


def infer(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 4)
    x, *parts = inputs
    if x.dtype not in (DType.I32, DType.I64) or any(p.dtype is not DType.I32 for p in parts):
        raise fail(f"cannot requantize {x} by {', '.join(map(str, parts))}")
    return (TensorType(broadcast(*inputs), DType(text(attrs, "dtype"))),)


def reference(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    x, high, low, shift = inputs
    mantissa = high.astype(np.float64) * 2.0**LOW_BITS + low.astype(np.float64)
    y = x.astype(np.float64) * np.ldexp(mantissa, -shift)
    whole = np.trunc(y)
    rounded = whole + (y - whole >= 0.5) - (y - whole <= -0.5)
    result = np.clip(rounded, -_LIMIT, _LIMIT).astype(np.int64) + integer(attrs, "zero_out")
    clamped = np.clip(result, integer(attrs, "low"), integer(attrs, "high"))
    return (clamped.astype(DType(text(attrs, "dtype")).numpy),)


def element(e: Element) -> ir.Expr:
    x, *real = e.args
    y: ir.Expr = ir.Call("requantize_real", (ir.cast(DType.I64, x, e.inputs[0].dtype), *real))
    bounds = (integer(e.attrs, "low"), integer(e.attrs, "high"))
    return shifted_clamp(y, integer(e.attrs, "zero_out"), *bounds)


def requantize_real(
    ctx: Expansion, value: str, reals: Sequence[float], attrs: Attrs, *, output: str = ""
) -> str:
    """Emit the node for `reals` (one, or one per channel). attrs: zero_out, low, high, dtype."""
    parts = np.array([split_real(r) for r in reals], np.int32).T
    names = [
        ctx.add_const(np.ascontiguousarray(part), name)
        for part, name in zip(parts, ("high", "low", "shift"), strict=True)
    ]
    return ctx.emit("requantize_real", [value, *names], attrs, output=output)


def _samples() -> tuple[Sample, ...]:
    attrs: dict[str, Attr] = {"zero_out": 3, "low": -32768, "high": 32767, "dtype": "i16"}
    reals = ([0.5], [1e-7, 0.0123, 1.5, 1 / 3, 0.25])
    samples = []
    for values in reals:
        parts = np.array([split_real(r) for r in values], np.int32).T
        types = [TensorType((len(values),), DType.I32)] * 3
        consts = {i + 1: np.ascontiguousarray(p) for i, p in enumerate(parts)}
        for dtype, most in ((DType.I32, 1 << 20), (DType.I64, 1 << 40)):
            x = TensorType((8, 5), dtype)
            samples.append(Sample((x, *types), attrs, consts, -most, most))
    return tuple(samples)


OPS.add(
    "requantize_real",
    OpDef(
        "requantize_real", infer, reference, elementwise=True, limits=_LIMITS, samples=_samples()
    ),
)
SCALAR_RULES.add("requantize_real", ScalarRule(("x", "high", "low", "shift"), element))
