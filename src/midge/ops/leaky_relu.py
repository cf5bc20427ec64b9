"""leaky_relu: x where x > 0, else alpha * x.

Quantised: either branch requantised from x - zero point by its own multiplier; on int8 a table.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from midge.core.types import Array, DType, TensorType
from midge.graph.attrs import FLOAT, number
from midge.graph.exporters import EXPORTERS, Exporting
from midge.graph.fixed_point import f32, multiplier_of, per_tensor
from midge.graph.importers import IMPORTERS, Foreign
from midge.graph.ir import OPS, Attr, Attrs, Expansion, Node, OpDef, Sample
from midge.graph.quantizing import FREE, QUANTIZING
from midge.loop import ir
from midge.loop.intrinsics import requantize_twice
from midge.lower import SCALAR_RULES, Element, ScalarRule
from midge.ops import _onnx
from midge.ops._common import arity, fail
from midge.ops.lookup import by_table
from midge.ops.requantize import requantize


def infer(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 1)
    (x,) = inputs
    if x.quant is None and x.dtype is not DType.F32:
        raise fail(f"leaky_relu of {x}, expected f32")
    return (x.plain,)


def reference(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    (x,) = inputs
    with np.errstate(all="ignore"):
        return (np.where(x > 0, x, x * f32(number(attrs, "alpha"))),)


def element(e: Element) -> ir.Expr:
    (x,) = e.args
    scaled = ir.Bin("*", x, ir.f32(float(f32(number(e.attrs, "alpha")))))
    return ir.Select(ir.Bin("<", ir.f32(0.0), x), x, scaled)


def expand(node: Node, ctx: Expansion) -> None:
    """QuantizeLeakyRelu in lite/kernels/internal/reference/leaky_relu.h; the multipliers are
    taken in binary32, as LeakyReluPrepare of lite/kernels/activations.cc does."""
    x, y = ctx.inputs[0], ctx.output
    (sx, zx), (sy, zy) = per_tensor(x, node.where), per_tensor(y, node.where)
    alpha = f32(number(node.attrs, "alpha"))
    identity, scaled = float(sx / sy), float(sx * alpha / sy)
    sign = -1 if scaled < 0 else 1
    if x.dtype is DType.I8:
        positive = multiplier_of(identity, node.where)
        negative = multiplier_of(abs(scaled), node.where)

        def function(q: int) -> int:
            if q >= zx:
                return requantize_twice(q - zx, *positive) + zy
            return sign * requantize_twice(q - zx, *negative) + zy

        by_table(ctx, function)
        return
    limits: dict[str, Attr] = {"low": y.dtype.min, "high": y.dtype.max, "dtype": y.dtype.value}
    attrs: dict[str, Attr] = {**limits, "zero_in": zx, "zero_out": zy}
    above = requantize(ctx, node.inputs[0], [identity], attrs)
    if sign > 0:
        below = requantize(ctx, node.inputs[0], [scaled], attrs)
    else:
        below = _negated(ctx, node.inputs[0], -scaled, attrs)
    ctx.finish("select_sign", [node.inputs[0], above, below], {"zero": zx})


def _negated(ctx: Expansion, value: str, real: float, attrs: Attrs) -> str:
    """Emit the requantisation by `real` with the opposite sign; zero points are 0."""
    wide = {**attrs, "low": DType.I32.min + 1, "high": DType.I32.max, "dtype": "i32"}
    scaled = requantize(ctx, value, [real], wide)
    negative = ctx.emit("sub", [ctx.add_const(np.zeros(1, np.int32), "zero"), scaled])
    clipped = ctx.emit("clip", [negative], {"low": attrs["low"], "high": attrs["high"]})
    return ctx.emit("cast", [clipped], {"dtype": attrs["dtype"]})


def infer_select(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 3)
    x, a, b = inputs
    if not a == b or x.shape != a.shape or not x.dtype.is_integer:
        raise fail(f"select_sign of {x}, {a}, {b}")
    return (a.plain,)


def reference_select(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    """a where x >= zero, else b."""
    x, a, b = inputs
    return (np.where(x >= number(attrs, "zero"), a, b),)


def element_select(e: Element) -> ir.Expr:
    x, a, b = e.args
    zero = int(number(e.attrs, "zero"))
    return ir.Select(ir.Bin("<=", ir.i32(zero), x), a, b)


def from_tflite(op: Foreign) -> tuple[Node, ...]:
    op.expect_inputs(1)
    op.expect_dtype(0, DType.F32, DType.I8, DType.I16)
    return (op.node("leaky_relu", {"alpha": float(op.attrs.get("alpha", 0.0))}),)


def to_tflite(op: Exporting) -> None:
    alpha = number(op.attrs, "alpha")
    op.emit("LEAKY_RELU", options="LeakyReluOptions", version=op.version(i8=2, i16=2), alpha=alpha)


def from_onnx(op: Foreign) -> tuple[Node, ...]:
    op.expect_inputs(1)
    op.expect_dtype(0, DType.F32)
    return (op.node("leaky_relu", {"alpha": _onnx.number(op, "alpha", 0.01)}),)


_SAMPLES = tuple(
    Sample((TensorType(s, DType.F32),), {"alpha": a})
    for s, a in (((2, 3), 0.1), ((), 0.0), ((1, 1, 5), -0.3))
)
_SELECTS = tuple(
    Sample((TensorType((7,), d),) * 3, {"zero": z}) for d, z in ((DType.I16, 0), (DType.I8, -3))
)
OPS.add(
    "leaky_relu",
    OpDef(
        "leaky_relu",
        infer,
        reference,
        expand,
        elementwise=True,
        limits={"alpha": FLOAT},
        samples=_SAMPLES,
    ),
)
OPS.add(
    "select_sign",
    OpDef(
        "select_sign",
        infer_select,
        reference_select,
        elementwise=True,
        limits={"zero": 0},
        samples=_SELECTS,
    ),
)
SCALAR_RULES.add("leaky_relu", ScalarRule(("x",), element))
SCALAR_RULES.add("select_sign", ScalarRule(("x", "a", "b"), element_select))
IMPORTERS["tflite"].add("LEAKY_RELU", from_tflite)
EXPORTERS["tflite"].add("leaky_relu", to_tflite)
QUANTIZING.add("leaky_relu", FREE)
IMPORTERS["onnx"].add("LeakyRelu", from_onnx)
