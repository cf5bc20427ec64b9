"""add, sub, mul, maximum, minimum: two operands, broadcast, element by element.

Plain integers are computed in 32 (or 64) bits. Quantised ADD and SUB bring both operands to a
common scale with 20 (int8) or 15 (int16) bits of headroom, as the reference kernels do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from midge.core.types import Array, DType, TensorType
from midge.graph.attrs import text
from midge.graph.fixed_point import ACTIVATIONS, activation_range, per_tensor
from midge.graph.importers import IMPORTERS, Foreign
from midge.graph.ir import OPS, Attr, Attrs, Expansion, Node, OpDef, Sample
from midge.loop import ir
from midge.lower import SCALAR_RULES, ScalarRule
from midge.ops._common import arity, broadcast, fail, tflite_activation
from midge.ops.requantize import requantize


def infer(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 2)
    a, b = inputs
    if a.dtype is not b.dtype:
        raise fail(f"operands are {a} and {b}, expected one element type")
    return (TensorType(broadcast(a, b), a.dtype),)


def _reference(function: Callable[[Array, Array], Array]):  # type: ignore[no-untyped-def]
    def reference(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
        a, b = inputs
        with np.errstate(all="ignore"):
            return (function(a, b).astype(a.dtype),)

    return reference


def _element(op: ir.BinOp):  # type: ignore[no-untyped-def]
    return lambda e: ir.Bin(op, *e.args)


def expand_sum(node: Node, ctx: Expansion) -> None:
    """AddElementwise in lite/kernels/internal/reference/integer_ops/add.h and its twin in sub.h;
    scales as in PrepareGeneralAddSub of lite/kernels/add.cc."""
    activation = text(node.attrs, "activation", "")
    y = ctx.output
    if y.dtype.is_float or y.quant is None:
        low, high = ACTIVATIONS[activation]
        ctx.finish("clip", [ctx.emit(node.op, node.inputs)], {"low": low, "high": high})
        return
    left = 15 if y.dtype is DType.I16 else 20
    scales = [per_tensor(t, node.where) for t in ctx.inputs]
    sy, zy = per_tensor(y, node.where)
    common = 2.0 * float(max(s for s, _ in scales))
    wide: dict[str, Attr] = {
        "zero_out": 0,
        "low": DType.I32.min,
        "high": DType.I32.max,
        "dtype": "i32",
    }
    parts = [
        requantize(ctx, value, [float(s) / common], {**wide, "zero_in": z, "left_shift": left})
        for value, (s, z) in zip(node.inputs, scales, strict=True)
    ]
    total = ctx.emit(node.op, parts)
    low, high = activation_range(activation, y, node.where)
    attrs = {"zero_out": zy, "low": low, "high": high, "dtype": y.dtype.value}
    real = common / ((1 << left) * float(sy))
    requantize(ctx, total, [real], attrs, output=node.outputs[0])


def from_tflite(name: str):  # type: ignore[no-untyped-def]
    def importer(op: Foreign) -> tuple[Node, ...]:
        op.expect_inputs(2)
        op.expect_dtype(0, DType.F32, DType.I8, DType.I16, DType.I32)
        return (op.node(name, tflite_activation(op)),)

    return importer


def _samples() -> tuple[Sample, ...]:
    shapes = (((2, 3), (2, 3)), ((2, 3, 4), (4,)), ((1, 3, 1), (2, 1, 4)), ((), (5,)))
    return tuple(
        Sample((TensorType(a, d), TensorType(b, d)), low=-40, high=40)
        for d in (DType.I32, DType.F32)
        for a, b in shapes
    )


_SUMS: tuple[tuple[str, Callable[[Array, Array], Array], ir.BinOp], ...] = (
    ("add", np.add, "+"),
    ("sub", np.subtract, "-"),
)
for _name, _function, _op in _SUMS:
    OPS.add(
        _name,
        OpDef(
            _name, infer, _reference(_function), expand_sum, elementwise=True, samples=_samples()
        ),
    )
    SCALAR_RULES.add(_name, ScalarRule(("a", "b"), _element(_op)))
    IMPORTERS["tflite"].add(_name.upper(), from_tflite(_name))
