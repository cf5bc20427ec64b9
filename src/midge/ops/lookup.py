"""lookup: y = table[x + 128] for int8 x: any function of one int8 tensor, made when compiling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from midge.core.types import Array, DType, TensorType
from midge.graph.fixed_point import f32, limited, per_tensor, round_half_away
from midge.graph.ir import OPS, Attrs, Expansion, OpDef, Sample
from midge.loop import ir
from midge.lower import SCALAR_RULES, Element, ScalarRule
from midge.ops._common import arity, fail


def infer(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 2)
    x, table = inputs
    if x.dtype is not DType.I8 or table.shape != (256,):
        raise fail(f"lookup of {x} in {table}, expected i8 and 256 entries")
    return (TensorType(x.shape, table.dtype),)


def reference(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    x, table = inputs
    return (table[x.astype(np.int64) + 128],)


def element(e: Element) -> ir.Expr:
    (table,) = e.tables
    return table.wide(ir.add(e.args[0], ir.i32(128)))


def by_table(ctx: Expansion, function: Callable[[int], int]) -> None:
    """Finish an expansion: the node's output is `function` of its first input's int8 value,
    clamped to the output's type."""
    dtype = ctx.output.dtype
    low, high = dtype.min, dtype.max
    values = [max(low, min(high, function(q))) for q in range(-128, 128)]
    table = ctx.add_const(np.array(values, dtype.numpy), "table")
    ctx.finish("lookup", [ctx.node.inputs[0], table])


def float_table(
    ctx: Expansion, function: Callable[[np.float32], np.float32]
) -> Callable[[int], int]:
    """A quantised `function` of real numbers as one of int8 values, each step in binary32 and
    clamped before it becomes an integer.

    LUTPopulateInt8 in lite/kernels/internal/common.h.
    """
    (sx, zx), (sy, zy) = (per_tensor(t, ctx.node.where) for t in (ctx.inputs[0], ctx.output))
    values = _float_values(function, sx, zx, sy, zy)
    return lambda q: values[q + 128]


@lru_cache(256)  # unrolled recurrent layers ask for the same again and again
def _float_values(
    function: Callable[[np.float32], np.float32],
    sx: np.float32,
    zx: int,
    sy: np.float32,
    zy: int,
) -> tuple[int, ...]:
    """For -128..127."""
    inverse = f32(1) / sy

    def quantized(q: int) -> int:
        rescaled = function(sx * f32(q - zx)) * inverse
        rounded = f32(round_half_away(float(rescaled))) if np.isfinite(rescaled) else rescaled
        return limited(float(rounded + f32(zy)), DType.I32.min, DType.I32.max)

    return tuple(map(quantized, range(-128, 128)))


_TABLE = {1: np.arange(255, -1, -1).astype(np.int64).astype(np.uint8).view(np.int8)}
_SAMPLES = tuple(
    Sample((TensorType(s, DType.I8), TensorType((256,), DType.I8)), {}, _TABLE)
    for s in ((1,), (2, 3, 4), ())
)
OPS.add(
    "lookup",
    OpDef("lookup", infer, reference, elementwise=True, tables=(1,), samples=_SAMPLES),
)
SCALAR_RULES.add("lookup", ScalarRule(("x", "table"), element))
