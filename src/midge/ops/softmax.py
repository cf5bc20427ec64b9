"""softmax over the last axis; on int8 in fixed point, with exp from a table of 256 entries.

Quantised: exp of the scaled difference to the row's maximum (Q0.31), their sum in Q12.19, one
reciprocal per row by three Newton steps, as in lite/kernels/internal/reference/softmax.h. The
difference has only 256 values, so its exponential is a table made when compiling.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from midge.core import reals
from midge.core.errors import ModelError
from midge.core.rounding import high_mul, round_shift
from midge.core.types import Array, DType, TensorType
from midge.graph.attrs import FLOAT, number, text
from midge.graph.exporters import EXPORTERS, Exporting
from midge.graph.fixed_point import per_tensor
from midge.graph.gemmlowp import exp_on_negative_values, softmax_scaling
from midge.graph.importers import IMPORTERS, Foreign
from midge.graph.ir import OPS, Attr, Attrs, Expansion, Node, OpDef, Sample
from midge.graph.quantizing import QUANTIZING, QuantRule
from midge.loop import ir
from midge.loop.intrinsics import INTRINSICS
from midge.lower import LOOP_RULES, LoopRule, Site, nest
from midge.ops import softmax_int16
from midge.ops._common import arity, fail
from midge.ops._sums import summed
from midge.ops.softmax_int16 import rows

_SUM_BITS = 12  # integer bits of the sum of exponentials: rows of up to 4096 elements


def infer(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 1)
    if not inputs[0].shape or inputs[0].elements == 0:
        raise fail(f"softmax of {inputs[0]}")
    x = inputs[0]
    return (TensorType(x.shape, DType(text(attrs, "dtype", x.dtype.value))),)


def reference(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    (x,) = inputs
    shifted = x - x.max(-1, keepdims=True)
    e = reals.exp(shifted * np.float32(number(attrs, "beta")))
    return (e / summed(e, (x.ndim - 1,)),)


def loops(site: Site) -> ir.Block:
    (x,) = site.inputs
    axes, c, lead, extents = rows(site)
    best, total = site.local("best", DType.F32), site.local("total", DType.F32)
    beta = number(site.attrs, "beta")

    def exp(index: ir.Expr) -> ir.Expr:
        shifted: ir.Expr = ir.Bin("-", x(*lead, index), best())
        if beta != 1.0:
            shifted = ir.Bin("*", shifted, ir.f32(beta))
        return ir.Call("exp", (shifted,))

    k, n = site.axes("k n")
    body = (
        best.alloc,
        best.set(x(*lead, ir.i32(0))),
        *nest((k,), (c,), (best.update("max", x(*lead, k)),)),
        total.alloc,
        total.set(ir.f32(0.0)),
        *nest((n,), (c,), (total.update("+", exp(n)),)),
        *nest(axes[-1:], (c,), site.store(axes, ir.Bin("/", exp(axes[-1]), total()))),
    )
    return nest(lead, extents, body)


def infer_q(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 2)
    x, table = inputs
    if x.dtype is not DType.I8 or table.shape != (256,) or not x.shape or x.elements == 0:
        raise fail(f"softmax_q of {x} with table {table}")
    if x.shape[-1] > 1 << _SUM_BITS:
        raise fail(f"rows of {x.shape[-1]} elements, at most {1 << _SUM_BITS} can be summed")
    return (TensorType(x.shape, DType(text(attrs, "dtype"))),)


def reference_q(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    x, table = (a.astype(np.int64) for a in inputs)
    dtype = DType(text(attrs, "dtype"))
    flat = x.reshape(-1, x.shape[-1])
    out = np.empty(flat.shape, dtype.numpy)
    for row, y in zip(flat, out, strict=True):
        exps = [int(e) for e in table[row - row.max() + 255]]
        total = sum(round_shift(e, _SUM_BITS) for e in exps)
        scale = int(INTRINSICS["reciprocal"].meaning(total))
        exponent = _SUM_BITS - int(INTRINSICS["leading_zeros"].meaning(total)) + 31 - 8 * dtype.size
        excess = max(exponent - 31, 0)
        shares = [high_mul(scale, e) >> excess for e in exps]
        values = [round_shift(s, exponent - excess) + dtype.min for s in shares]
        y[:] = np.clip(values, dtype.min, dtype.max)
    return (out.reshape(x.shape),)


def loops_q(site: Site) -> ir.Block:
    x, table = site.inputs
    axes, c, lead, extents = rows(site)
    best, total = site.local("best", DType.I32), site.local("total", DType.I32)
    scale, exponent = site.local("scale", DType.I32), site.local("exponent", DType.I32)
    dtype = site.output.dtype
    k, n = site.axes("k n")

    def exp(index: ir.Expr) -> ir.Expr:
        difference = ir.Bin("-", x.wide(*lead, index), best())
        return table(ir.add(difference, ir.i32(255)))

    bits = ir.i32(_SUM_BITS + 31 - 8 * dtype.size)
    product: ir.Expr = ir.Call("high_mul", (scale(), exp(axes[-1])))
    shift: ir.Expr = exponent()
    if c >= 1 << (_SUM_BITS - 3):
        # Sums so great that 32 bits are shifted out; the framework's kernel aborts on them.
        product = ir.Bin(">>", product, ir.Bin("max", ir.sub(shift, ir.i32(31)), ir.i32(0)))
        shift = ir.Bin("min", shift, ir.i32(31))
    share = ir.Call("round_shift", (product, shift))
    clamped = ir.Bin("min", ir.add(share, ir.i32(dtype.min)), ir.i32(dtype.max))
    body = (
        best.alloc,
        best.set(x.wide(*lead, ir.i32(0))),
        *nest((k,), (c,), (best.update("max", x.wide(*lead, k)),)),
        total.alloc,
        total.set(ir.i32(0)),
        *nest(
            (n,), (c,), (total.update("+", ir.Call("round_shift", (exp(n), ir.i32(_SUM_BITS)))),)
        ),
        scale.alloc,
        scale.set(ir.Call("reciprocal", (total(),))),
        exponent.alloc,
        exponent.set(ir.Bin("-", bits, ir.Call("leading_zeros", (total(),)))),
        *nest(axes[-1:], (c,), site.store(axes, ir.cast(dtype, clamped, DType.I32))),
    )
    return nest(lead, extents, body)


def expand(node: Node, ctx: Expansion) -> None:
    """The int8 softmax as `softmax_q` with its table of exponentials."""
    if ctx.inputs[0].dtype is DType.I16:
        softmax_int16.expand(node, ctx)
        return
    x = ctx.inputs[0]
    if x.shape and x.shape[-1] > 1 << _SUM_BITS:
        raise ModelError(
            f"rows of {x.shape[-1]} elements, at most {1 << _SUM_BITS} can be summed",
            where=node.where,
        )
    scale, _ = per_tensor(x, node.where)
    table = ctx.add_const(exp_table(number(node.attrs, "beta"), float(scale), node.where), "exp")
    ctx.finish("softmax_q", [node.inputs[0], table], {"dtype": ctx.output.dtype.value})


def exp_table(beta: float, scale: float, where: str = "") -> Array:
    """exp(beta * scale * (i - 255)) in Q0.31 for i in 0..255, by the reference's fixed point."""
    multiplier, shift, least = softmax_scaling(beta, scale, 5, where)
    values = [
        exp_on_negative_values(high_mul(d << shift, multiplier), 5) if d >= least else 0
        for d in range(-255, 1)
    ]
    return np.array(values, np.int32)


def from_tflite(op: Foreign) -> tuple[Node, ...]:
    op.expect_inputs(1)
    op.expect_dtype(0, DType.F32, DType.I8, DType.I16)
    x, y = op.type(0), op.output
    attrs: dict[str, Attr] = {"beta": float(op.attrs.get("beta", 1.0))}
    if (x.dtype, y.dtype) == (DType.I8, DType.I16):
        attrs["dtype"] = "i16"
    return (op.node("softmax", attrs),)


def to_tflite(op: Exporting) -> None:
    version = op.version(i8=2, i16=3)
    op.emit("SOFTMAX", options="SoftmaxOptions", version=version, beta=number(op.attrs, "beta"))


def _samples_q() -> tuple[Sample, ...]:
    table = {1: exp_table(1.0, 0.1)}
    kinds = ((1, 12), (3, 1), (2, 2, 5), (1, 600))
    types = [(TensorType(s, DType.I8), TensorType((256,), DType.I32)) for s in kinds]
    return tuple(Sample(t, {"dtype": "i8"}, table) for t in types)


_FLOAT_SAMPLES = tuple(
    Sample((TensorType(s, DType.F32),), {"beta": b}) for s, b in (((2, 5), 1.0), ((1, 1), 0.5))
)
OPS.add(
    "softmax",
    OpDef("softmax", infer, reference, expand, limits={"beta": FLOAT}, samples=_FLOAT_SAMPLES),
)
OPS.add("softmax_q", OpDef("softmax_q", infer_q, reference_q, samples=_samples_q()))
LOOP_RULES.add("softmax", LoopRule(("x",), loops))
LOOP_RULES.add("softmax_q", LoopRule(("x", "exp"), loops_q))
IMPORTERS["tflite"].add("SOFTMAX", from_tflite)
EXPORTERS["tflite"].add("softmax", to_tflite)
QUANTIZING.add("softmax", QuantRule(fixed={DType.I8: (1 / 256, -128), DType.I16: (1 / 32768, 0)}))
