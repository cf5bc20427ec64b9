"""abs: |x|, element by element.

Quantised: |x - zero point|, requantised where the scales differ; on int8 a table.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from midge.core.types import Array, DType, TensorType
from midge.graph.exporters import EXPORTERS, Exporting
from midge.graph.fixed_point import multiplier_of, per_tensor
from midge.graph.importers import IMPORTERS, Foreign
from midge.graph.ir import OPS, Attr, Attrs, Expansion, Node, OpDef, Sample
from midge.graph.quantizing import FREE, QUANTIZING
from midge.loop import ir
from midge.loop.intrinsics import requantize_twice
from midge.lower import SCALAR_RULES, Element, ScalarRule
from midge.ops._common import arity, fail, shifted
from midge.ops.lookup import by_table
from midge.ops.requantize import requantize


def infer(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 1)
    (x,) = inputs
    if x.quant is None and x.dtype not in (DType.F32, DType.I32):
        raise fail(f"abs of {x}, expected f32 or i32")
    return (x.plain,)


def reference(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    return (np.abs(inputs[0]),)


def element(e: Element) -> ir.Expr:
    (x,) = e.args
    zero = ir.const(0, e.output.dtype)
    below: ir.BinOp = "<=" if e.output.dtype.is_float else "<"  # -0.0 becomes 0.0
    return ir.Select(ir.Bin(below, x, zero), ir.Bin("-", zero, x), x)


def expand(node: Node, ctx: Expansion) -> None:
    """AbsEvalQuantized in lite/kernels/elementwise.cc."""
    x, y = ctx.inputs[0], ctx.output
    (sx, zx), (sy, zy) = per_tensor(x, node.where), per_tensor(y, node.where)
    real = float(sx / sy)
    if x.dtype is DType.I8:
        if sx == sy:
            by_table(ctx, lambda q: abs(q - zx) + zy)
        else:
            multiplier, shift = multiplier_of(real, node.where)
            by_table(ctx, lambda q: requantize_twice(abs(q - zx), multiplier, shift) + zy)
        return
    magnitude = ctx.emit("abs", [shifted(ctx, node.inputs[0], zx)])
    attrs: dict[str, Attr] = {"low": y.dtype.min, "high": y.dtype.max}
    if sx == sy:
        clipped = ctx.emit("clip", [magnitude], attrs)
        ctx.finish("cast", [clipped], {"dtype": y.dtype.value})
        return
    attrs |= {"zero_out": zy, "dtype": y.dtype.value}
    requantize(ctx, magnitude, [real], attrs, output=node.outputs[0])


def from_tflite(op: Foreign) -> tuple[Node, ...]:
    op.expect_inputs(1)
    op.expect_dtype(0, DType.F32, DType.I32, DType.I8, DType.I16)
    return (op.node("abs"),)


def to_tflite(op: Exporting) -> None:
    version = op.version(i8=2, i16=3)
    op.emit("ABS", options="AbsOptions", version=version)


_SAMPLES = tuple(
    Sample((TensorType(s, d),), low=-1000, high=1000)
    for d in (DType.F32, DType.I32)
    for s in ((2, 3), (), (1, 1, 5))
)
OPS.add("abs", OpDef("abs", infer, reference, expand, elementwise=True, samples=_SAMPLES))
SCALAR_RULES.add("abs", ScalarRule(("x",), element))
IMPORTERS["tflite"].add("ABS", from_tflite)
EXPORTERS["tflite"].add("abs", to_tflite)
QUANTIZING.add("abs", FREE)
