"""lookup16: a function of int16 values, interpolated in a table of 513 entries.

y = table[k] + (table[k + 1] - table[k]) * (x mod 128) / 128 with k = floor(x / 128) + 256. With
attribute `wrap` the difference of two entries is taken modulo 2^16, as the framework's kernel does;
the tables that need it are those of functions with poles.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from midge.core.types import Array, DType, TensorType
from midge.graph.attrs import integer
from midge.graph.fixed_point import f32, limited, per_tensor, round_half_away
from midge.graph.ir import OPS, Attr, Attrs, Expansion, OpDef, Sample
from midge.loop import ir
from midge.lower import SCALAR_RULES, Element, ScalarRule
from midge.ops._common import arity, fail

_STEPS = 512


def infer(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 2)
    x, table = inputs
    if x.dtype is not DType.I16 or table != TensorType((_STEPS + 1,), DType.I16):
        raise fail(f"lookup16 of {x} in {table}, expected i16 and {_STEPS + 1} entries")
    return (x.plain,)


def reference(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    x, table = (a.astype(np.int64) for a in inputs)
    k = (x >> 7) + 256
    slope = table[k + 1] - table[k]
    if integer(attrs, "wrap", 0):
        slope = slope.astype(np.int16).astype(np.int64)
    return ((table[k] + ((slope * (x & 127) + 64) >> 7)).astype(np.int16),)


def element(e: Element) -> ir.Expr:
    (table,) = e.tables
    x = e.args[0]
    k = ir.add(ir.Bin(">>", x, ir.i32(7)), ir.i32(256))
    here = table.wide(k)
    slope: ir.Expr = ir.Bin("-", table.wide(ir.add(k, ir.i32(1))), here)
    wrap = integer(e.attrs, "wrap", 0)
    if wrap:
        slope = ir.Call("wrap_i16", (slope,))
    rise = ir.Bin("*", slope, ir.Bin("&", x, ir.i32(127)))
    y: ir.Expr = ir.Bin("+", here, ir.Bin(">>", ir.add(rise, ir.i32(64)), ir.i32(7)))
    return ir.Call("wrap_i16", (y,)) if wrap else y


def by_table16(ctx: Expansion, function: Callable[[np.float32], np.float32]) -> None:
    """Finish an expansion: the int16 output is the quantised `function` of the input.

    LUTPopulateInt16 in lite/kernels/internal/common.h: binary32 throughout; every entry less half
    of the error that interpolation has in the middle of its interval.
    """
    x, y = ctx.inputs[0], ctx.output
    (sx, zx), (sy, zy) = per_tensor(x, ctx.node.where), per_tensor(y, ctx.node.where)
    low, high = (sx * f32(q - zx) for q in (x.dtype.min, x.dtype.max))
    step = (high - low) / f32(_STEPS)
    least, most = (sy * f32(q - zy) for q in (y.dtype.min, y.dtype.max))
    scale = f32(65536) / (most - least)
    values = []
    for i in range(_STEPS):
        here = function(low + f32(i) * step) * scale
        middle = function(low + f32(i) * step + step / f32(2)) * scale
        after = function(low + f32(i + 1) * step) * scale
        error = _round((after + _round(here)) / f32(2)) - _round(middle)
        values.append(_entry(_round(here) - _round(error / f32(2))))
    values.append(_entry(_round(function(high) * scale)))
    table = np.array(values, np.int64)
    attrs: dict[str, Attr] = {"wrap": 1} if np.abs(np.diff(table)).max() > 32767 else {}
    name = ctx.add_const(table.astype(np.int16), "table")
    ctx.finish("lookup16", [ctx.node.inputs[0], name], attrs)


def _round(x: np.float32) -> np.float32:
    return f32(round_half_away(float(x))) if np.isfinite(x) else x


def _entry(x: np.float32) -> int:
    return limited(float(x), DType.I16.min, DType.I16.max)


_TABLE = (np.arange(_STEPS + 1) ** 2 // 5 - 26000).astype(np.int16)
_JUMPS = np.where(np.arange(_STEPS + 1) % 3, 32767, -32768).astype(np.int16)
_SAMPLES = tuple(
    Sample((TensorType(s, DType.I16), TensorType((_STEPS + 1,), DType.I16)), attrs, {1: table})
    for attrs, table in (({}, _TABLE), ({"wrap": 1}, _JUMPS))
    for s in ((1,), (5, 40))
)
OPS.add(
    "lookup16",
    OpDef("lookup16", infer, reference, elementwise=True, tables=(1,), samples=_SAMPLES),
)
SCALAR_RULES.add("lookup16", ScalarRule(("x", "table"), element))
