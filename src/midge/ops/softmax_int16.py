"""softmax_lut: the softmax of int16 rows, by interpolation in two tables of 513 entries.

exp of the scaled difference to the row's maximum, in -10..0, in Q15; their sum; 1 / (1 + x) of the
sum's mantissa from the second table; the products shifted to Q15. SoftmaxInt16 and LUTPopulateInt16
in lite/kernels/internal (reference/softmax.h, common.h).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from midge.core.errors import ModelError
from midge.core.types import Array, DType, TensorType
from midge.graph.attrs import INT32, integer, number
from midge.graph.fixed_point import (
    f32,
    multiplier_of,
    per_tensor,
    quantize_multiplier,
    round_half_away,
)
from midge.graph.ir import OPS, Attr, Attrs, Expansion, Node, OpDef, Sample
from midge.loop import ir
from midge.loop.intrinsics import INTRINSICS
from midge.lower import LOOP_RULES, Local, LoopRule, Operand, Site, nest
from midge.ops._common import arity, fail

_ENTRIES = 513  # 512 intervals of 128 steps
_MOST = 1 << 16  # elements of a row whose exponentials' sum fits 32 bits


def infer(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 3)
    x, *tables = inputs
    if x.dtype is not DType.I16 or not x.shape or x.elements == 0:
        raise fail(f"softmax_lut of {x}")
    if x.shape[-1] > _MOST:
        raise fail(f"rows of {x.shape[-1]} elements, at most {_MOST} can be summed")
    if any(t != TensorType((_ENTRIES,), DType.I16) for t in tables):
        raise fail(f"tables {tables}, expected i16[{_ENTRIES}]")
    return (x.plain,)


def reference(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    x, exp, inverse = (a.astype(np.int64) for a in inputs)
    out = np.empty((x.size // x.shape[-1], x.shape[-1]), np.int16)
    twice = INTRINSICS["requantize_twice"].meaning
    scaling = integer(attrs, "multiplier"), integer(attrs, "shift")
    for row, y in zip(x.reshape(out.shape), out, strict=True):
        scaled = [int(twice(int(d), *scaling)) for d in row - row.max()]
        position = np.clip(np.array(scaled) + 32767, -32768, 32767)
        exps = _interpolate(exp, position)
        total = int(exps.sum())
        zeros = int(INTRINSICS["leading_zeros"].meaning(total))
        mantissa = (((total << (zeros - 1)) >> 13) + 1) >> 1
        factor = _interpolate(inverse, np.clip(mantissa - 98304, -32768, 32767))
        shift = 31 - zeros
        y[:] = np.clip((exps * factor + (1 << (shift - 1))) >> shift, 0, 32767)
    return (out.reshape(x.shape),)


def _interpolate(table: Array, x: Array) -> Array:
    k = (x >> 7) + 256
    slope = table[k + 1] - table[k]
    result: Array = table[k] + ((slope * (x & 127) + 64) >> 7)
    return result


def loops(site: Site) -> ir.Block:
    x, exp, inverse = site.inputs
    axes, c, lead, extents = rows(site)
    k, n = site.axes("k n")
    best, total, position, at, zeros, factor, shift = (
        site.local(name, DType.I32)
        for name in ("best", "total", "position", "at", "zeros", "factor", "shift")
    )

    def place(index: ir.Expr) -> ir.Block:
        """Where exp of the element stands in the table."""
        difference = ir.Bin("-", x.wide(*lead, index), best())
        constants = (ir.i32(integer(site.attrs, a)) for a in ("multiplier", "shift"))
        scaled = ir.Call("requantize_twice", (difference, *constants))
        return _positioned(position, at, ir.add(scaled, ir.i32(32767)))

    summed = (*place(n), total.update("+", _entry(exp, position, at)))
    share = _share(ir.Bin("*", _entry(exp, position, at), factor()), shift())
    stored = (*place(axes[-1]), *site.store(axes, share))
    body = (
        best.alloc,
        best.set(x.wide(*lead, ir.i32(0))),
        *nest((k,), (c,), (best.update("max", x.wide(*lead, k)),)),
        position.alloc,
        at.alloc,
        total.alloc,
        total.set(ir.i32(0)),
        *nest((n,), (c,), summed),
        zeros.alloc,
        zeros.set(ir.Call("leading_zeros", (total(),))),
        *_positioned(position, at, ir.sub(_mantissa(total(), zeros()), ir.i32(98304))),
        factor.alloc,
        factor.set(_entry(inverse, position, at)),
        shift.alloc,
        shift.set(ir.Bin("-", ir.i32(31), zeros())),
        *nest(axes[-1:], (c,), stored),
    )
    return nest(lead, extents, body)


def _mantissa(total: ir.Expr, zeros: ir.Expr) -> ir.Expr:
    """round(total / 2^14) of a total shifted left until one leading zero is left; in two steps, as
    the sum with the rounding would not fit."""
    shifted = ir.Bin("<<", total, ir.Bin("-", zeros, ir.i32(1)))
    return ir.Bin(">>", ir.add(ir.Bin(">>", shifted, ir.i32(13)), ir.i32(1)), ir.i32(1))


def _share(product: ir.Expr, shift: ir.Expr) -> ir.Expr:
    """round(product / 2^shift), limited to 0..32767."""
    half = ir.Bin("<<", ir.i32(1), ir.Bin("-", shift, ir.i32(1)))
    share = ir.Bin(">>", ir.Bin("+", product, half), shift)
    clamped = ir.Bin("min", ir.Bin("max", share, ir.i32(0)), ir.i32(32767))
    return ir.cast(DType.I16, clamped, DType.I32)


def _positioned(position: Local, at: Local, value: ir.Expr) -> ir.Block:
    """Set the position, limited to 16 bits, and the entry below it."""
    limited = ir.Bin("min", ir.Bin("max", value, ir.i32(-32768)), ir.i32(32767))
    index = ir.add(ir.Bin(">>", position(), ir.i32(7)), ir.i32(256))
    return (position.set(limited), at.set(index))


def _entry(table: Operand, position: Local, at: Local) -> ir.Expr:
    """The table's value at a position, interpolated."""
    here, after = table.wide(at()), table.wide(ir.add(at(), ir.i32(1)))
    part = ir.Bin("&", position(), ir.i32(127))
    rise = ir.Bin("*", ir.Bin("-", after, here), part)
    return ir.Bin("+", here, ir.Bin(">>", ir.add(rise, ir.i32(64)), ir.i32(7)))


def rows(site: Site) -> tuple[tuple[ir.Var, ...], int, tuple[ir.Var, ...], tuple[int, ...]]:
    """All axes, the row length, and the leading axes with their extents."""
    shape = site.output.shape
    axes = site.axes(" ".join([*(f"m{d}" for d in range(len(shape) - 1)), "c"]))
    return axes, shape[-1], axes[:-1], shape[:-1]


def expand(node: Node, ctx: Expansion) -> None:
    """The int16 softmax as `softmax_lut` (SoftmaxPrepare in lite/kernels/activations.cc)."""
    (sx, zx), (sy, zy) = (per_tensor(t, node.where) for t in (ctx.inputs[0], ctx.output))
    if zx or zy or abs(sy * 32768 - 1) > 0.001:
        raise ModelError(
            "int16 needs zero points 0 and the output scale 1/32768",
            where=node.where,
            hint="convert the model with TFLite's int16x8 scheme",
        )
    real = float(sx * f32(number(node.attrs, "beta"))) / (10.0 / 65535.0)
    multiplier, shift = multiplier_of(real, node.where)
    if shift > 14:
        raise ModelError(
            f"the input scale {sx} is too large for exponentials",
            where=node.where,
            hint="convert again with more calibration data",
        )
    tables = [
        ctx.add_const(t, n) for t, n in zip(softmax_tables(), ("exp", "inverse"), strict=True)
    ]
    attrs: dict[str, Attr] = {"multiplier": multiplier, "shift": shift}
    ctx.finish("softmax_lut", [node.inputs[0], *tables], attrs)


def softmax_tables() -> tuple[Array, Array]:
    """exp on -10..0 and 1 / (1 + x) on 0..1, both in Q15."""
    return _table(math.exp, -10.0, 0.0), _table(lambda x: 1.0 / (1.0 + x), 0.0, 1.0)


def _table(function: Callable[[float], float], low: float, high: float) -> Array:
    """Entries, each less half of the error that interpolation has in the middle of its interval."""
    scale = 65536.0 / (2.0 / 65535.0 * 65535)
    step = (high - low) / (_ENTRIES - 1)
    values = []
    for i in range(_ENTRIES - 1):
        here, middle, after = (
            function(low + i * step) * scale,
            function(low + i * step + step / 2) * scale,
            function(low + (i + 1) * step) * scale,
        )
        sample = round_half_away(here)
        error = round_half_away((after + sample) / 2) - round_half_away(middle)
        values.append(sample - round_half_away(error / 2))
    values.append(round_half_away(function(high) * scale))
    return np.clip(values, -32768, 32767).astype(np.int16)


def _samples() -> tuple[Sample, ...]:
    exp, inverse = softmax_tables()
    table = TensorType((_ENTRIES,), DType.I16)
    multiplier, shift = quantize_multiplier(0.0005 / (10.0 / 65535.0))
    attrs: dict[str, Attr] = {"multiplier": multiplier, "shift": shift}
    return tuple(
        Sample((TensorType(s, DType.I16), table, table), attrs, {1: exp, 2: inverse})
        for s in ((1, 12), (3, 1), (2, 2, 5))
    )


_LIMITS = {"multiplier": INT32, "shift": (-31, 31)}
OPS.add("softmax_lut", OpDef("softmax_lut", infer, reference, limits=_LIMITS, samples=_samples()))
LOOP_RULES.add("softmax_lut", LoopRule(("x", "exp", "inverse"), loops))
