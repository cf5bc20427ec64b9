"""bitcast: the same bytes as another element type of the same size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from midge.core.types import Array, DType, TensorType
from midge.graph.attrs import text
from midge.graph.importers import IMPORTERS, Foreign
from midge.graph.ir import OPS, Attrs, Node, OpDef, Sample
from midge.loop import ir
from midge.lower import SCALAR_RULES, Element, ScalarRule
from midge.ops._common import arity, fail

_CODES = {1: DType.F32, 2: DType.U8, 3: DType.I8, 5: DType.I16, 6: DType.I32, 7: DType.I64}


def infer(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 1)
    (x,) = inputs
    dtype = DType(text(attrs, "dtype"))
    known = {x.dtype, dtype} in ({DType.F32, DType.I32}, {DType.U8, DType.I8}, {dtype})
    if not known or dtype not in _CODES.values():
        raise fail(f"the bytes of {x} as {dtype.value}")
    return (TensorType(x.shape, dtype),)


def reference(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    x = np.array(inputs[0], order="C")
    return (x.view(DType(text(attrs, "dtype")).numpy),)


def element(e: Element) -> ir.Expr:
    (x,) = e.args
    match e.inputs[0].dtype, e.output.dtype:
        case DType.F32, DType.I32:
            return ir.Call("bits_of", (x,))
        case DType.I32, DType.F32:
            return ir.Call("float_of", (x,))
        case DType.I8, DType.U8:
            return ir.Bin("&", x, ir.i32(255))
        case DType.U8, DType.I8:
            return ir.Call("wrap_i8", (x,))
    return x


def from_onnx(op: Foreign) -> tuple[Node, ...]:
    op.expect_inputs(1)
    target = _CODES.get(op.attrs.get("to", 0))
    if target is None:
        raise op.error(f"element type {op.attrs.get('to')} is not supported")
    return (op.node("bitcast", {"dtype": target.value}),)


_SAMPLES = tuple(
    Sample((TensorType((9,), a),), {"dtype": b.value})
    for a, b in (
        (DType.F32, DType.I32),
        (DType.I8, DType.U8),
        (DType.U8, DType.I8),
        (DType.I64, DType.I64),
    )
)
_FLOATS = Sample((TensorType((9,), DType.I32),), {"dtype": "f32"}, {}, 1 << 24, 1 << 30)
OPS.add(
    "bitcast", OpDef("bitcast", infer, reference, elementwise=True, samples=(*_SAMPLES, _FLOATS))
)
SCALAR_RULES.add("bitcast", ScalarRule(("x",), element))
IMPORTERS["onnx"].add("BitCast", from_onnx)
