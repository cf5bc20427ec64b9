"""clip: min(max(x, low), high), element by element; RELU, RELU6 and RELU_N1_TO_1 are clips.

On quantised tensors `low` and `high` are real numbers; the plain operator clips what it is given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from midge.core.types import Array, DType, TensorType
from midge.graph.attrs import FLOAT, limits_of, number
from midge.graph.exporters import EXPORTERS, Exporting
from midge.graph.fixed_point import f32, per_tensor, quantize_value
from midge.graph.importers import IMPORTERS, Foreign, Steps
from midge.graph.index_ranges import INDEX_RULES, same
from midge.graph.ir import OPS, Attrs, Expansion, Node, OpDef, Sample
from midge.graph.quantizing import FREE, QUANTIZING
from midge.loop import ir
from midge.lower import SCALAR_RULES, Element, ScalarRule, arithmetic
from midge.ops import _onnx
from midge.ops._common import arity, fail
from midge.ops.requantize import requantize


def infer(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 1)
    (x,) = inputs
    for name in ("low", "high"):
        limit = number(attrs, name)
        least, most = FLOAT if x.quant is not None else limits_of(x.dtype)
        if not (math.isinf(limit) or least <= limit <= most):
            raise fail(f"attribute {name} is {limit}, expected {least:g} to {most:g}")
    return (x.plain,)


def reference(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    (x,) = inputs
    dtype = x.dtype.type
    with np.errstate(all="ignore"):
        y = x
        if math.isfinite(low := number(attrs, "low")):
            y = np.where(dtype(low) > y, dtype(low), y)
        if math.isfinite(high := number(attrs, "high")):
            y = np.where(dtype(high) < y, dtype(high), y)
    return (y,)


def element(e: Element) -> ir.Expr:
    (x,) = e.args
    dtype = arithmetic(e.output.dtype)
    if math.isfinite(low := number(e.attrs, "low")):
        x = ir.Bin("max", x, ir.const(low, dtype))
    if math.isfinite(high := number(e.attrs, "high")):
        x = ir.Bin("min", x, ir.const(high, dtype))
    return x


def expand(node: Node, ctx: Expansion) -> None:
    """QuantizedReluX in lite/kernels/activations.cc: requantise, then clamp."""
    x, y = ctx.inputs[0], ctx.output
    sx, zx = per_tensor(x, node.where)
    sy, zy = per_tensor(y, node.where)
    low = max(y.dtype.min, quantize_value(number(node.attrs, "low"), sy, zy, node.where))
    high = y.dtype.max
    if math.isfinite(most := number(node.attrs, "high")):
        high = min(high, quantize_value(most, sy, zy, node.where))
    attrs = {"zero_in": zx, "zero_out": zy, "low": low, "high": high, "dtype": y.dtype.value}
    requantize(ctx, node.inputs[0], [float(f32(sx / sy))], attrs, output=node.outputs[0])


def from_tflite(low: float, high: float):  # type: ignore[no-untyped-def]
    def importer(op: Foreign) -> tuple[Node, ...]:
        op.expect_inputs(1)
        dtypes = (DType.F32, DType.I8, DType.I16)
        op.expect_dtype(0, *(dtypes[:2] if op.kind == "RELU_N1_TO_1" else dtypes))
        return (op.node("clip", {"low": low, "high": high}),)

    return importer


_KINDS = {
    (0.0, math.inf): "RELU",
    (0.0, 6.0): "RELU6",
    (-1.0, 1.0): "RELU_N1_TO_1",
}


def to_tflite(op: Exporting) -> None:
    low, high = number(op.attrs, "low"), number(op.attrs, "high")
    if (low, high) in _KINDS:
        kind = _KINDS[low, high]
        op.emit(kind, version=1 if kind == "RELU_N1_TO_1" else op.version(i8=2, i16=3))
        return
    x = op.type()
    if x.quant is not None:
        raise op.error(
            f"TFLite has no operator that limits quantised values to {low:g}..{high:g}",
            "use a maximum and a minimum with constants",
        )
    value = op.inputs[0]
    bounds = [(k, b) for k, b in (("MAXIMUM", low), ("MINIMUM", high)) if math.isfinite(b)]
    for i, (kind, bound) in enumerate(bounds or [("MAXIMUM", -np.finfo(np.float32).max)]):
        last = i + 1 >= len(bounds)
        out = op.node.outputs[0] if last else op.value(x, kind.lower())
        limit = op.const(np.array(bound, x.dtype.numpy), "limit")
        op.emit(kind, [value, limit], [out], options="MaximumMinimumOptions")
        value = out


def relu_from_onnx(op: Foreign) -> tuple[Node, ...]:
    op.expect_inputs(1)
    op.expect_dtype(0, *_onnx.NUMBERS)
    if op.type(0).dtype.is_float:
        return (op.node("clip", {"low": 0.0, "high": math.inf}),)
    steps = Steps(op)
    zero = steps.const(np.zeros(1, op.type(0).dtype.numpy), "zero")
    return steps.finish("maximum", [op.inputs[0], zero])


def clip_from_onnx(op: Foreign) -> tuple[Node, ...]:
    """Clip: both bounds are optional inputs of one element."""
    op.expect_inputs(1, 3)
    op.expect_dtype(0, *_onnx.NUMBERS)
    for i in (1, 2):
        if op.has(i) and (op.type(i).elements != 1 or op.type(i).dtype is not op.type(0).dtype):
            raise op.error(f"bound {i} is {op.type(i)}, expected one {op.type(0).dtype.value}")
    known = all(not op.has(i) or op.inputs[i] in op.consts for i in (1, 2))
    if op.type(0).dtype.is_float and known:
        low, high = (
            float(op.consts[op.inputs[i]].reshape(())) if op.has(i) else bound
            for i, bound in ((1, -math.inf), (2, math.inf))
        )
        return (op.node("clip", {"low": low, "high": high}, inputs=op.inputs[:1]),)
    steps = Steps(op)
    value = op.inputs[0]
    for i, name in ((1, "maximum"), (2, "minimum")):
        if op.has(i):
            bound = op.inputs[i]
            if len(op.type(i).shape) > len(op.type(0).shape):
                bound = steps.emit("reshape", [bound], {"shape": ()})
            value = steps.emit(name, [value, bound])
    return steps.finish("copy", [value]) if value == op.inputs[0] else steps.renamed()


_SAMPLES = tuple(
    Sample((TensorType(s, d),), {"low": low, "high": high})
    for d in (DType.F32, DType.I32, DType.I8, DType.I64)
    for s, low, high in (
        ((2, 3), 0.0, math.inf),
        ((7,), -1.0, 1.0),
        ((), 0.0, 6.0),
        ((2, 1, 3), -math.inf, 2.0),
        ((40,), -math.inf, math.inf),
    )
)
OPS.add("clip", OpDef("clip", infer, reference, expand, elementwise=True, samples=_SAMPLES))
SCALAR_RULES.add("clip", ScalarRule(("x",), element))
for _kind, _low, _high in (
    ("RELU", 0.0, math.inf),
    ("RELU6", 0.0, 6.0),
    ("RELU_N1_TO_1", -1.0, 1.0),
):
    IMPORTERS["tflite"].add(_kind, from_tflite(_low, _high))
EXPORTERS["tflite"].add("clip", to_tflite)
QUANTIZING.add("clip", FREE)
IMPORTERS["onnx"].add("Relu", relu_from_onnx)
IMPORTERS["onnx"].add("Clip", clip_from_onnx)
INDEX_RULES.add("clip", same)
