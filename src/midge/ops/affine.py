"""affine: weighted sums of integers, shifted and limited: y = clamp((u' + offset) >> shift).

u = x * factor + ... + centre, over one or two tensors; u' = u + nudge where u < 0. With
`left_shift` there is one tensor, and u is the high word of (x << left_shift) * factor.

inputs: x, factor, offset, and for two tensors the second one and its factor. Tensors are i8, i16 or
i32; factors and offset constants i32 of one element or per channel (last axis). attrs: shift, low,
high, dtype; optionally nudge, centre, left_shift. Whoever makes such a node sees to it that no sum
leaves 32 bits.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from midge.core.types import Array, DType, TensorType
from midge.graph.attrs import INT32, SHIFT, integer, text
from midge.graph.ir import OPS, Attr, Attrs, OpDef, Sample
from midge.loop import ir
from midge.lower import SCALAR_RULES, Element, ScalarRule
from midge.ops._common import arity, broadcast, fail, shifted_clamp

_NARROW = (DType.I8, DType.I16, DType.I32)


def infer(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 3, 5)
    if len(inputs) == 4 or (len(inputs) == 5 and "left_shift" in attrs):
        raise fail(f"affine of {len(inputs)} inputs")
    tensors, constants = inputs[::3], (*inputs[1:3], *inputs[4:])
    if any(t.dtype not in _NARROW for t in tensors):
        raise fail(f"affine of {', '.join(map(str, tensors))}")
    if any(c.dtype is not DType.I32 for c in constants):
        raise fail(f"factors and offset are {', '.join(map(str, constants))}, expected i32")
    return (TensorType(broadcast(*inputs), DType(text(attrs, "dtype"))),)


def reference(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    x, factor, offset, *second = (a.astype(np.int64) for a in inputs)
    if "left_shift" in attrs:
        u = ((x << integer(attrs, "left_shift")) * factor) >> 32
    else:
        u = x * factor + integer(attrs, "centre", 0)
        if second:
            u = u + second[0] * second[1]
    u = u + np.where(u < 0, integer(attrs, "nudge", 0), 0)
    y = (u + offset) >> integer(attrs, "shift")
    clamped = np.clip(y, integer(attrs, "low"), integer(attrs, "high"))
    return (clamped.astype(DType(text(attrs, "dtype")).numpy),)


def element(e: Element) -> ir.Expr:
    u = _weighted(e)
    if nudge := integer(e.attrs, "nudge", 0):
        u = ir.Call("nudged", (u, ir.i32(nudge)))
    y = ir.add(u, e.args[2])
    if shift := integer(e.attrs, "shift"):
        y = ir.Bin(">>", y, ir.i32(shift))
    return shifted_clamp(y, 0, integer(e.attrs, "low"), integer(e.attrs, "high"))


def _weighted(e: Element) -> ir.Expr:
    """u, before it is nudged."""
    x, factor, _, *second = e.args
    if "left_shift" in e.attrs:
        return ir.Call("high_word", (x, ir.i32(integer(e.attrs, "left_shift")), factor))
    u = ir.mul(x, factor)
    if second:
        u = ir.add(u, ir.mul(second[0], second[1]))
    return ir.add(u, ir.i32(integer(e.attrs, "centre", 0)))


def _samples() -> tuple[Sample, ...]:
    """One and two tensors, per channel, with and without nudge, the high word."""
    byte: dict[str, Attr] = {"shift": 22, "low": -128, "high": 127, "dtype": "i8"}
    nudged: dict[str, Attr] = {**byte, "shift": 8, "nudge": -2, "left_shift": 2}
    x, word = TensorType((4, 3), DType.I8), TensorType((20,), DType.I32)
    row, one = TensorType((3,), DType.I8), TensorType((), DType.I8)
    cases: tuple[tuple[tuple[TensorType | list[int], ...], dict[str, Attr], int], ...] = (
        ((x, [3 << 20], [1 << 21]), byte, 127),
        ((x, [3 << 20, -5, 7 << 20], [1 << 21, -9, 0]), byte, 127),
        ((x, [3 << 20], [1 << 21], x, [-5 << 20]), byte, 127),
        ((x, [1 << 20], [0], row, [1 << 21]), {**byte, "nudge": -1}, 127),
        ((row, [8], [-7], one, [4]), {**byte, "shift": 0, "centre": 9}, 127),
        ((word, [1 << 30], [257]), nudged, 1 << 16),
        ((word, [(1 << 31) - 1], [1]), {**nudged, "shift": 1}, 1 << 9),
    )
    samples = []
    for operands, attrs, most in cases:
        arrays = {i: np.array(o, np.int32) for i, o in enumerate(operands) if isinstance(o, list)}
        types = (
            TensorType(arrays[i].shape, DType.I32) if isinstance(o, list) else o
            for i, o in enumerate(operands)
        )
        samples.append(Sample(tuple(types), attrs, arrays, -most - 1, most))
    return tuple(samples)


_LIMITS = {
    "shift": SHIFT, "left_shift": SHIFT, "centre": INT32, "nudge": INT32, "low": INT32,
    "high": INT32,
}  # fmt: skip
OPS.add(
    "affine",
    OpDef("affine", infer, reference, elementwise=True, limits=_LIMITS, samples=_samples()),
)
SCALAR_RULES.add("affine", ScalarRule(("x", "factor", "offset", "x", "factor"), element))
