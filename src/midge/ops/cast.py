"""cast: another element type.

Floats are truncated towards zero and limited to the integer type, NaN gives 0; integers are limited
too, or with attribute `wrap` taken modulo 2^n, as ONNX and NumPy do. Bool is "not 0".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from midge.core.errors import VerifyError
from midge.core.types import Array, DType, TensorType
from midge.graph.attrs import integer, text
from midge.graph.exporters import EXPORTERS, Exporting
from midge.graph.importers import IMPORTERS, Foreign
from midge.graph.index_ranges import INDEX_RULES, same
from midge.graph.ir import OPS, Attrs, Node, OpDef, Sample
from midge.graph.onnx_types import DTYPES
from midge.graph.tflite_types import CODES
from midge.loop import ir
from midge.lower import SCALAR_RULES, Element, ScalarRule, arithmetic
from midge.ops._common import arity


def infer(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 1)
    dtype = DType(text(attrs, "dtype"))
    if inputs[0].dtype is DType.F16 and dtype not in (DType.F16, DType.F32):
        raise VerifyError(f"f16 to {dtype.value}", where="cast", hint="cast to f32 before")
    return (TensorType(inputs[0].shape, dtype),)


def reference(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    dtype = DType(text(attrs, "dtype"))
    x = inputs[0]
    with np.errstate(all="ignore"):
        if dtype.is_integer and x.dtype.kind == "f":
            return (_truncated(x.astype(np.float64), dtype),)
        if dtype.is_integer and x.dtype.kind != "b" and not integer(attrs, "wrap", 0):
            x = np.clip(x, max(dtype.min, np.iinfo(x.dtype).min), min(dtype.max, _most(x)))
        return (x.astype(dtype.numpy),)


def _most(x: Array) -> int:
    return int(np.iinfo(x.dtype).max)


def _truncated(x: Array, dtype: DType) -> Array:
    inside = (x > dtype.min) & (x < dtype.max)
    result = np.where(inside, x, 0).astype(dtype.numpy)
    result[x >= dtype.max] = dtype.max
    result[x <= dtype.min] = dtype.min
    return result


def element(e: Element) -> ir.Expr:
    (x,) = e.args
    source, dtype = e.inputs[0].dtype, e.output.dtype
    wide, wrap = arithmetic(source), bool(integer(e.attrs, "wrap", 0)) and source.is_integer
    if dtype is DType.BOOL:
        return ir.Cast(DType.I32, ir.Bin("!=", x, ir.const(0, wide)))
    if source.is_float and dtype.is_integer:
        wide = arithmetic(dtype)
        x, source = ir.Call(f"trunc_{wide.value}", (x,)), wide
    if dtype.is_integer and source.is_integer:
        x, wide = _fitted(x, source, dtype, wrap=wrap)
    return ir.cast(arithmetic(dtype), x, wide)


def _fitted(x: ir.Expr, source: DType, dtype: DType, *, wrap: bool) -> tuple[ir.Expr, DType]:
    """A value of `source` as one of `dtype`, and the type in which it is computed."""
    wide = arithmetic(source)
    if not wrap or (source.min >= dtype.min and source.max <= dtype.max):
        if source.min < dtype.min:
            x = ir.Bin("max", x, ir.const(dtype.min, wide))
        if source.max > dtype.max:
            x = ir.Bin("min", x, ir.const(dtype.max, wide))
        return x, wide
    if dtype.min == 0:
        return ir.Bin("&", x, ir.const(dtype.max, wide)), wide
    if wide is DType.I64:
        x = ir.Call("wrap_i32", (x,))
    if dtype is not DType.I32:
        x = ir.Call(f"wrap_{dtype.value}", (x,))
    return x, DType.I32


def cast_from_onnx(op: Foreign) -> tuple[Node, ...]:
    """Cast and CastLike. Integers wrap; floats outside of an integer's range are limited to it,
    which ONNX leaves open."""
    op.expect_inputs(2 if op.kind == "CastLike" else 1)
    target = op.type(1).dtype if op.kind == "CastLike" else DTYPES.get(op.attrs.get("to", 0))
    if target is None:
        raise op.error(f"element type {op.attrs.get('to')} is not supported")
    return (op.node("cast", {"dtype": target.value, "wrap": 1}, inputs=op.inputs[:1]),)


def cast_from_tflite(op: Foreign) -> tuple[Node, ...]:
    """CAST in lite/kernels/cast.cc: static_cast, element by element."""
    op.expect_inputs(1)
    if op.type(0).quant is not None or op.output.quant is not None:
        raise op.error("a cast of quantised values is not supported", "use QUANTIZE or DEQUANTIZE")
    known = (DType.F32, DType.I8, DType.U8, DType.I16, DType.I32, DType.I64, DType.BOOL)
    op.expect_dtype(0, *known)
    if op.output.dtype not in known:
        raise op.error(f"a cast to {op.output.dtype.value} is not supported")
    return (op.node("cast", {"dtype": op.output.dtype.value, "wrap": 1}),)


def to_tflite(op: Exporting) -> None:
    """Weights in half precision are dequantised, as TFLite's converter does."""
    source, target = op.type().dtype, op.output.dtype
    if (source, target) == (DType.F16, DType.F32):
        op.emit("DEQUANTIZE", options="DequantizeOptions", version=3)
        return
    codes = (CODES[source], CODES[target])
    op.emit("CAST", options="CastOptions", in_data_type=codes[0], out_data_type=codes[1])


def _samples() -> tuple[Sample, ...]:
    integers = (DType.I8, DType.U8, DType.I16, DType.I32, DType.I64)
    cases = [(a, b, {"wrap": 1}) for a in (*integers, DType.BOOL) for b in integers if a != b]
    cases += [(DType.F32, b, {}) for b in (*integers, DType.BOOL)]
    cases += [(a, DType.BOOL, {}) for a in integers]
    cases += [(DType.I8, DType.U8, {}), (DType.I64, DType.I8, {}), (DType.I32, DType.I8, {})]
    cases += [(DType.I8, DType.F32, {}), (DType.BOOL, DType.F32, {})]
    samples = [Sample((TensorType((7,), a),), {**w, "dtype": b.value}) for a, b, w in cases]
    types = ((DType.I32, "i8"), (DType.I8, "f32"), (DType.I16, "i32"))
    return tuple(samples) + tuple(Sample((TensorType((2, 3), a),), {"dtype": b}) for a, b in types)


OPS.add("cast", OpDef("cast", infer, reference, halves=True, elementwise=True, samples=_samples()))
SCALAR_RULES.add("cast", ScalarRule(("x",), element))
IMPORTERS["onnx"].add("Cast", cast_from_onnx)
IMPORTERS["onnx"].add("CastLike", cast_from_onnx)
IMPORTERS["tflite"].add("CAST", cast_from_tflite)
EXPORTERS["tflite"].add("cast", to_tflite)
INDEX_RULES.add("cast", same)
