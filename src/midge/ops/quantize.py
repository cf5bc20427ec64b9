"""quantize: real numbers or integers to integers of another scale; dequantize: back to reals.

quantize on f32: round(x / scale) + zero, limited to the type; ties away from zero, or with
rounding="even" (ONNX, PyTorch) to even; NaN becomes the least. "even_sum", of some kernels of ONNX
Runtime: round(x / scale + zero), to even, zero being `shift` more when it is added. scale: where it
is given it takes the place of that of the result, whose steps x counts already, say.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from midge.core.errors import ModelError
from midge.core.types import Array, DType, TensorType
from midge.graph.attrs import SCALE, ZERO_POINT, integer, number, text
from midge.graph.exporters import EXPORTERS, Exporting
from midge.graph.fixed_point import f32, per_tensor
from midge.graph.importers import IMPORTERS, Foreign
from midge.graph.ir import OPS, Attr, Attrs, Expansion, Node, OpDef, Sample
from midge.loop import ir
from midge.lower import SCALAR_RULES, Element, ScalarRule
from midge.ops._common import arity, fail
from midge.ops.requantize import requantize

_FLOAT_LIMIT = 1 << 30  # where the intrinsic round_to_int stops


def infer(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 1)
    (x,) = inputs
    dtype = DType(text(attrs, "dtype"))
    if not dtype.is_integer:
        raise fail(f"cannot quantize {x} to {dtype.value}")
    return (TensorType(x.shape, dtype),)


def reference(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    dtype = DType(text(attrs, "dtype"))
    steps = inputs[0] / f32(number(attrs, "scale"))
    scaled = steps.astype(np.float64)
    near = np.trunc(scaled + np.copysign(0.5, scaled))
    rounding = text(attrs, "rounding", "away")
    if rounding == "even":
        near = np.rint(scaled)
    if rounding == "even_sum":
        point = integer(attrs, "zero") + integer(attrs, "shift", 0)
        near = np.rint(steps + f32(point)).astype(np.float64) - point
    near = np.where(np.isnan(near), -_FLOAT_LIMIT, near)
    rounded = np.clip(near, -_FLOAT_LIMIT, _FLOAT_LIMIT)
    result = rounded.astype(np.int64) + integer(attrs, "zero")
    return (np.clip(result, dtype.min, dtype.max).astype(dtype.numpy),)


def element(e: Element) -> ir.Expr:
    (x,) = e.args
    dtype = DType(text(e.attrs, "dtype"))
    scale = ir.f32(float(f32(number(e.attrs, "scale"))))
    rounding, zero = text(e.attrs, "rounding", "away"), integer(e.attrs, "zero")
    steps: ir.Expr = ir.Bin("/", x, scale)
    if rounding == "even_sum":
        steps = ir.Bin("+", steps, ir.f32(zero + integer(e.attrs, "shift", 0)))
        zero = -integer(e.attrs, "shift", 0)
    rounded = ir.Call("round_to_int" if rounding == "away" else "round_even", (steps,))
    result = ir.add(rounded, ir.i32(zero))
    result = ir.Bin("max", result, ir.i32(dtype.min))
    return ir.Bin("min", result, ir.i32(dtype.max))


def expand(node: Node, ctx: Expansion) -> None:
    """AffineQuantize in lite/kernels/internal/reference/quantize.h, or Requantize in
    requantize.h beside it."""
    x, y = ctx.inputs[0], ctx.output
    sy, zy = per_tensor(y, node.where)
    if x.dtype is DType.F32:
        scale = number(node.attrs, "scale", float(sy))
        attrs: dict[str, Attr] = {**node.attrs, "scale": scale, "zero": zy}
        ctx.finish("quantize", node.inputs, attrs)
        return
    sx, zx = per_tensor(x, node.where)
    attrs = {
        "zero_in": zx,
        "zero_out": zy,
        "low": y.dtype.min,
        "high": y.dtype.max,
        "dtype": y.dtype.value,
    }
    requantize(ctx, node.inputs[0], [float(sx) / float(sy)], attrs, output=node.outputs[0])


def infer_dequantize(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 1)
    return (TensorType(inputs[0].shape, DType.F32),)


def reference_dequantize(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    return (inputs[0].astype(np.float32),)


def expand_dequantize(node: Node, ctx: Expansion) -> None:
    """scale * (x - zero point) in binary32; the difference is exact (integer_ops/dequantize.h)."""
    x = ctx.inputs[0]
    if x.quant is None:
        raise ModelError(f"{x} is not quantised", where=node.where)
    shape = [1]
    if x.quant.axis is not None:
        shape = [len(x.quant.scale)] + [1] * (len(x.shape) - 1 - x.quant.axis)
    value = ctx.emit("cast", node.inputs, {"dtype": "f32"})
    if any(x.quant.zero_point):
        zeros = np.array(x.quant.zero_point, np.float32).reshape(shape)
        value = ctx.emit("sub", [value, ctx.add_const(zeros, "zero")])
    scales = np.array(x.quant.scale, np.float32).reshape(shape)
    ctx.finish("mul", [value, ctx.add_const(scales, "scale")])


def quantize_from_tflite(op: Foreign) -> tuple[Node, ...]:
    op.expect_inputs(1)
    op.expect_dtype(0, DType.F32, DType.I8, DType.I16, DType.U8, DType.I32)
    x, y = op.type(0), op.output
    if y.quant is None or y.dtype not in (DType.I8, DType.I16, DType.U8, DType.I32):
        raise op.error(f"the output is {y}", "supported: quantised int8, uint8, int16")
    if x.dtype is not DType.F32 and x.quant is None:
        raise op.error(f"the input {x} is not quantised")
    return (op.node("quantize", {"dtype": y.dtype.value}),)


def dequantize_from_tflite(op: Foreign) -> tuple[Node, ...]:
    op.expect_inputs(1)
    op.expect_dtype(0, DType.F16, DType.I8, DType.I16, DType.U8)
    if op.type(0).dtype is DType.F16:
        op.const(0, "float16 tensor")
        return (op.node("cast", {"dtype": "f32"}),)
    if op.type(0).quant is None:
        raise op.error(f"the input {op.type(0)} is not quantised")
    return (op.node("dequantize"),)


def to_tflite(op: Exporting) -> None:
    if op.node.op == "quantize":
        op.emit("QUANTIZE", options="QuantizeOptions", version=op.version(i8=2, i16=2))
        return
    quant = op.type().quant
    per_channel = quant is not None and quant.axis is not None
    version = 5 if per_channel else op.version(i8=2, i16=3)
    op.emit("DEQUANTIZE", options="DequantizeOptions", version=version)


_SAMPLES = tuple(
    Sample(
        (TensorType(s, DType.F32),),
        {"scale": k, "zero": z, "dtype": d, "rounding": r},
        low=-9,
        high=9,
    )
    for r in ("away", "even", "even_sum")
    for s, k, z, d in (
        ((2, 3), 0.1, 3, "i8"),
        ((), 0.013, -128, "i8"),
        ((40,), 0.001, 0, "i16"),
        ((5,), 1e-9, 100, "u8"),
        ((64,), 0.5, 0, "i8"),
    )
)
OPS.add(
    "quantize",
    OpDef(
        "quantize",
        infer,
        reference,
        expand,
        elementwise=True,
        limits={"scale": SCALE, "zero": ZERO_POINT},
        samples=_SAMPLES,
    ),
)
OPS.add(
    "dequantize",
    OpDef(
        "dequantize", infer_dequantize, reference_dequantize, expand_dequantize, elementwise=True
    ),
)
SCALAR_RULES.add("quantize", ScalarRule(("x",), element))
IMPORTERS["tflite"].add("QUANTIZE", quantize_from_tflite)
IMPORTERS["tflite"].add("DEQUANTIZE", dequantize_from_tflite)
EXPORTERS["tflite"].add("quantize", to_tflite)
EXPORTERS["tflite"].add("dequantize", to_tflite)
