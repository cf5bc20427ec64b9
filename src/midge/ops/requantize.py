"""requantize: integers from one scale to another, by a fixed-point multiplier.

y = clamp(round(((x - zero_in) << left_shift) * multiplier * 2^(shift - 31)) + zero_out)

How it rounds is part of the operator, as the framework's kernels differ (`rounding`):
"twice"  the two-step MultiplyByQuantizedMultiplier: round to Q31, ties up, then shift right
         rounding ties away from zero; a positive shift first shifts left, modulo 2^32
"right"  the same where no shift is positive; then `shift` holds the right shift, not negated
"once"   one 64-bit product, rounded once, ties up
"wide"   64-bit x and the multiplier reduced to 16 bits, rounded once, ties up
`multiplier` and `shift` are constant inputs, per channel (last axis) or of one element.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from midge.core.types import Array, DType, TensorType
from midge.graph.attrs import INT32, SHIFT, ZERO_POINT, integer, text
from midge.graph.fixed_point import MOST_SHIFT, beyond, multipliers, reduced_multiplier
from midge.graph.ir import OPS, Attrs, Expansion, OpDef, Sample
from midge.loop import ir
from midge.lower import SCALAR_RULES, Element, ScalarRule
from midge.ops._common import arity, broadcast, fail, shifted_clamp

ROUNDINGS = {"twice": MOST_SHIFT, "right": 31, "once": MOST_SHIFT, "wide": 8}  # greatest shifts

_LIMITS = {
    "zero_in": ZERO_POINT, "zero_out": ZERO_POINT, "left_shift": SHIFT, "low": INT32, "high": INT32,
}  # fmt: skip


def infer(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 3)
    x, multiplier, shift = inputs
    if not x.dtype.is_integer or multiplier.dtype is not DType.I32 or shift.dtype is not DType.I32:
        raise fail(f"cannot requantize {x} by {multiplier}, {shift}")
    if attrs["rounding"] not in ROUNDINGS:
        raise fail(f"rounding {attrs['rounding']!r} is not one of {', '.join(ROUNDINGS)}")
    return (TensorType(broadcast(x, multiplier, shift), DType(text(attrs, "dtype"))),)


def reference(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    x, m, s = (a.astype(np.int64) for a in inputs)
    x = (x - integer(attrs, "zero_in", 0)) << integer(attrs, "left_shift", 0)
    result = _ROUND[text(attrs, "rounding")](x, m, s) + integer(attrs, "zero_out")
    clamped = np.clip(result, integer(attrs, "low"), integer(attrs, "high"))
    return (clamped.astype(DType(text(attrs, "dtype")).numpy),)


def _high_mul(x: Array, m: Array) -> Array:
    result: Array = np.minimum((x * m + (1 << 30)) >> 31, (1 << 31) - 1)
    return result


def _round_shift(x: Array, exponent: Array) -> Array:
    mask = (np.int64(1) << exponent) - 1
    threshold = (mask >> 1) + (x < 0)
    result: Array = (x >> exponent) + ((x & mask) > threshold)
    return result


def _twice(x: Array, m: Array, s: Array) -> Array:
    return _round_shift(_high_mul(_wrapped(x << np.maximum(s, 0)), m), np.maximum(-s, 0))


def _once(x: Array, m: Array, s: Array) -> Array:
    return _wrapped((x * m + (np.int64(1) << (30 - s))) >> (31 - s))


def _wide(x: Array, m: Array, s: Array) -> Array:
    return _wrapped((x * m + (np.int64(1) << (14 - s))) >> (15 - s))


def _wrapped(x: Array) -> Array:
    """Modulo 2^32, as the reference kernels cast to int32_t."""
    result: Array = x.astype(np.int32).astype(np.int64)
    return result


_ROUND = {
    "twice": _twice,
    "right": lambda x, m, s: _round_shift(_high_mul(x, m), s),
    "once": _once,
    "wide": _wide,
}


def element(e: Element) -> ir.Expr:
    x, multiplier, shift = e.args
    dtype = DType.I64 if e.attrs["rounding"] == "wide" else DType.I32
    source = DType.I64 if e.inputs[0].dtype is DType.I64 else DType.I32
    x = ir.cast(dtype, x, source)
    if zero := integer(e.attrs, "zero_in", 0):
        x = ir.Bin("-" if zero > 0 else "+", x, ir.const(abs(zero), dtype))
    if left := integer(e.attrs, "left_shift", 0):
        x = ir.Bin("*", x, ir.const(1 << left, dtype))
    match e.attrs["rounding"]:
        case "right":
            y: ir.Expr = ir.Call("round_shift", (ir.Call("high_mul", (x, multiplier)), shift))
            if isinstance(shift, ir.Const) and shift.value == 0:
                y = ir.Call("high_mul", (x, multiplier))
        case rounding:
            y = ir.Call(f"requantize_{rounding}", (x, multiplier, shift))
    bounds = (integer(e.attrs, "low"), integer(e.attrs, "high"))
    return shifted_clamp(y, integer(e.attrs, "zero_out"), *bounds)


def requantize(
    ctx: Expansion,
    value: str,
    reals: Sequence[float],
    attrs: Attrs,
    *,
    rounding: str = "twice",
    output: str = "",
) -> str:
    """Emit a requantisation of `value` by `reals` (one, or one per channel).

    attrs: zero_out, low, high, dtype, and optionally zero_in, left_shift.
    """
    m, s = multipliers(reals, ctx.node.where, ROUNDINGS[rounding])
    if rounding == "wide":
        m = np.array([reduced_multiplier(int(v)) for v in m], np.int32)
    return requantize_fixed(ctx, value, m, s, attrs, rounding=rounding, output=output)


def requantize_fixed(
    ctx: Expansion,
    value: str,
    multiplier: Array,
    shift: Array,
    attrs: Attrs,
    *,
    rounding: str = "twice",
    output: str = "",
) -> str:
    """As `requantize`, the multipliers and shifts (i32, [1] or [channels]) already computed."""
    if rounding == "twice" and (shift <= 0).all():
        rounding, shift = "right", -shift
    if shift.size and int(shift.max()) > ROUNDINGS[rounding]:
        raise beyond(ROUNDINGS[rounding], ctx.node.where)
    inputs = [value, ctx.add_const(multiplier, "multiplier"), ctx.add_const(shift, "shift")]
    return ctx.emit("requantize", inputs, {**attrs, "rounding": rounding}, output=output)


def _samples() -> tuple[Sample, ...]:
    """Each way of rounding, by shifts to either side, per tensor and per channel."""
    byte: Attrs = {"zero_out": -3, "low": -128, "high": 127, "dtype": "i8"}
    word: Attrs = {"zero_out": 0, "low": -(1 << 31), "high": (1 << 31) - 1, "dtype": "i32"}
    top = (1 << 31) - 1
    cases: tuple[tuple[str, DType, int, list[int], list[int], Attrs], ...] = (
        ("twice", DType.I32, 1 << 20, [1 << 30], [3], byte),
        ("twice", DType.I32, 1 << 20, [1518500250, 1 << 30, top], [-9, 0, 2], word),
        ("twice", DType.I8, 127, [top], [1], {**word, "zero_in": 5, "left_shift": 20}),
        ("right", DType.I32, 1 << 30, [1518500250], [0], byte),
        ("right", DType.I32, 1 << 30, [1518500250, 1 << 30, top], [9, 31, 1], byte),
        ("right", DType.I16, 1 << 15, [1 << 30], [16], {**word, "left_shift": 15}),
        ("once", DType.I32, 1 << 30, [1518500250, 1 << 30, top], [-9, -31, -1], byte),
        ("once", DType.I32, 1 << 20, [1 << 30], [3], byte),
        ("wide", DType.I64, 1 << 40, [16384, 32767, 20000], [-20, -31, -12], byte),
    )
    samples = []
    for rounding, dtype, most, multipliers_, shifts, attrs in cases:
        consts = {1: np.array(multipliers_, np.int32), 2: np.array(shifts, np.int32)}
        scaling = TensorType((len(shifts),), DType.I32)
        types = (TensorType((20, 3), dtype), scaling, scaling)
        attrs = {**attrs, "rounding": rounding}
        samples.append(Sample(types, attrs, consts, -most, most))
    return tuple(samples)


OPS.add(
    "requantize",
    OpDef("requantize", infer, reference, elementwise=True, limits=_LIMITS, samples=_samples()),
)
SCALAR_RULES.add("requantize", ScalarRule(("x", "multiplier", "shift"), element))
