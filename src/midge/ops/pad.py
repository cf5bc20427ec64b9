"""pad: constant elements around a tensor.

Attributes: paddings (before, after) of each axis in turn; value, in x's element type (a quantised
tensor is padded with its zero point).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from midge.core.types import Array, DType, TensorType
from midge.graph.attrs import integers, number
from midge.graph.exporters import EXPORTERS, Exporting
from midge.graph.fixed_point import per_tensor, quantize_value
from midge.graph.importers import IMPORTERS, Foreign
from midge.graph.index_ranges import INDEX_RULES, moved
from midge.graph.ir import OPS, Attrs, Node, OpDef, Sample
from midge.graph.quantizing import QUANTIZING, QuantRule
from midge.loop import ir
from midge.lower import LOOP_RULES, LoopRule, Site, nest
from midge.ops._common import MAX_EXTENT, arity, expect_same_scale, fail
from midge.ops._export import write_pad


def infer(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 1)
    (x,) = inputs
    number(attrs, "value")
    paddings = integers(attrs, "paddings", 2 * len(x.shape))
    if not all(0 <= p <= MAX_EXTENT for p in paddings):
        raise fail(f"paddings {paddings} out of range")
    shape = tuple(b + n + a for n, (b, a) in zip(x.shape, _pairs(paddings), strict=True))
    return (TensorType(shape, x.dtype),)


def _pairs(paddings: Sequence[int]) -> list[tuple[int, int]]:
    return list(zip(paddings[::2], paddings[1::2], strict=True))


def reference(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    (x,) = inputs
    value = x.dtype.type(attrs["value"])
    if x.ndim == 0:
        return (x.copy(),)
    return (np.pad(x, _pairs(integers(attrs, "paddings")), constant_values=value),)


def loops(site: Site) -> ir.Block:
    (x,) = site.inputs
    axes = site.axes(" ".join(f"i{d}" for d in range(len(site.output.shape))))
    index: list[ir.Expr] = []
    conditions: list[ir.Expr] = []
    pairs = _pairs(integers(site.attrs, "paddings"))
    for axis, n, (before, after) in zip(axes, x.type.shape, pairs, strict=True):
        index.append(ir.sub(axis, ir.i32(before)))
        if before:
            conditions.append(ir.Bin("<=", ir.i32(before), axis))
        if after:
            conditions.append(ir.Bin("<", axis, ir.i32(before + n)))
    value: ir.Expr = x(*index)
    inside = ir.conjunction(conditions)
    if inside is not None:
        outside = _constant(number(site.attrs, "value"), site.output.dtype)
        value = ir.Select(inside, value, outside) if x.type.elements else outside
    return nest(axes, site.output.shape, site.store(axes, value))


def _constant(value: float, dtype: DType) -> ir.Const:
    return ir.Const(bool(value), dtype) if dtype is DType.BOOL else ir.const(value, dtype)


def from_tflite(op: Foreign) -> tuple[Node, ...]:
    """PAD and PADV2 (lite/kernels/pad.cc)."""
    op.expect_inputs(2, 3)
    op.expect_dtype(0, DType.F32, DType.I8, DType.I16, DType.U8, DType.I32, DType.I64, DType.BOOL)
    expect_same_scale(op, op.inputs[:1])
    x = op.type(0)
    paddings = op.const(1, "paddings")
    if paddings.shape != (len(x.shape), 2):
        raise op.error(f"paddings have shape {paddings.shape}", f"expected {(len(x.shape), 2)}")
    value: float = x.quant.zero_point[0] if x.quant is not None else 0
    if op.has(2):
        value = _padding_value(op)
    flat = tuple(int(p) for p in paddings.reshape(-1))
    return (op.node("pad", {"paddings": flat, "value": value}, inputs=op.inputs[:1]),)


def _padding_value(op: Foreign) -> float:
    value = op.const(2, "padding value")
    if value.size != 1 or value.dtype != op.type(0).dtype.numpy:
        raise op.error(
            f"the padding value is {op.type(2)}", f"expected one {op.type(0).dtype.value}"
        )
    if op.type(2).quant != op.type(0).quant:
        raise op.error("the padding value has another scale than the input")
    return float(value.item()) if op.type(0).dtype.is_float else int(value.item())


def to_tflite(op: Exporting) -> None:
    pairs = np.array(_pairs(integers(op.attrs, "paddings")), np.int32).reshape(-1, 2)
    write_pad(op, pairs, number(op.attrs, "value"), op.node.outputs[0])


def quantized_attrs(attrs: Attrs, output: TensorType) -> Attrs:
    """The padding's value as an integer of the output's scale."""
    scale, zero = per_tensor(output, "pad")
    least, most = (float(scale) * (end - zero) for end in (output.dtype.min, output.dtype.max))
    value = quantize_value(min(max(number(attrs, "value"), least), most), scale, zero, "pad")
    return {**attrs, "value": max(output.dtype.min, min(output.dtype.max, value))}


_SHAPES: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = (
    ((2, 3), (1, 0, 0, 2)),
    ((1, 3, 2, 2), (0, 0, 1, 1, 2, 0, 0, 0)),
    ((4,), (0, 0)),
    ((1, 1, 1, 1, 2), (1, 1, 0, 0, 0, 1, 1, 0, 1, 1)),
)
_SAMPLES = tuple(
    Sample((TensorType(s, d),), {"paddings": p, "value": v})
    for d, v in ((DType.I8, -7), (DType.F32, 1.5), (DType.I64, 3), (DType.BOOL, 1))
    for s, p in _SHAPES
)
OPS.add("pad", OpDef("pad", infer, reference, halves=True, limits={"value": 0}, samples=_SAMPLES))
LOOP_RULES.add("pad", LoopRule(("x",), loops))
for _kind in ("PAD", "PADV2"):
    IMPORTERS["tflite"].add(_kind, from_tflite)
EXPORTERS["tflite"].add("pad", to_tflite)
QUANTIZING.add(
    "pad",
    QuantRule(scales="same", attrs=quantized_attrs, covers=lambda attrs: (number(attrs, "value"),)),
)
INDEX_RULES.add("pad", moved)
