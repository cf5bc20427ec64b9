"""add, sub, mul, maximum, minimum: two operands, broadcast, element by element.

Plain integers are computed in 32 (or 64) bits. Quantised ADD and SUB bring both operands to a
common scale with 20 (int8) or 15 (int16) bits of headroom, as the reference kernels do; MUL
requantises the product. MAXIMUM and MINIMUM compare the stored integers, whatever their scales.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from midge.core.types import Array, DType, TensorType
from midge.graph.attrs import text
from midge.graph.exporters import EXPORTERS, Exporting
from midge.graph.fixed_point import ACTIVATIONS, activation_range, per_tensor, too_coarse, too_fine
from midge.graph.importers import IMPORTERS, Foreign
from midge.graph.index_ranges import INDEX_RULES, Wanted, same
from midge.graph.ir import OPS, Attr, Attrs, Expansion, Graph, Node, OpDef, Sample
from midge.graph.quantizing import FREE, QUANTIZING, SAME
from midge.loop import ir
from midge.lower import SCALAR_RULES, Element, ScalarRule
from midge.ops._common import arity, broadcast, fail, shifted, tflite_activation
from midge.ops._export import activation_code
from midge.ops.requantize import requantize, requantize_fixed


def infer(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 2)
    a, b = inputs
    if a.dtype is not b.dtype:
        raise fail(f"operands are {a} and {b}, expected one element type")
    return (TensorType(broadcast(a, b), a.dtype),)


def expand_sum(node: Node, ctx: Expansion) -> None:
    """AddElementwise in lite/kernels/internal/reference/integer_ops/add.h and its twin in sub.h;
    scales as in PrepareGeneralAddSub of lite/kernels/add.cc."""
    y = ctx.output
    if y.dtype.is_float or y.quant is None:
        clipped(node, ctx)
        return
    if "shift_int16" in node.attrs:
        expand_shifted_sum(node, ctx)
        return
    left = 15 if y.dtype is DType.I16 else 20
    scales = [per_tensor(t, node.where) for t in ctx.inputs]
    sy, zy = per_tensor(y, node.where)
    common = float(np.float32(2) * max(s for s, _ in scales))
    real = common / float(np.float32(1 << left) * sy)
    if not real < 1:
        raise too_fine(sy, node.where)
    if real == 0:
        raise too_coarse(sy, node.where)
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
    low, high = activation_range(text(node.attrs, "activation", ""), y, node.where)
    attrs = {"zero_out": zy, "low": low, "high": high, "dtype": y.dtype.value}
    requantize(ctx, total, [real], attrs, output=node.outputs[0])


def expand_shifted_sum(node: Node, ctx: Expansion) -> None:
    """int16 scales that are powers of two: one operand is shifted right, ties away from zero, to
    the scale of the other and of the output (Add in lite/kernels/internal/reference/add.h)."""
    y = ctx.output
    parts = []
    for value, t in zip(node.inputs, ctx.inputs, strict=True):
        shift = exponent(y) - exponent(t)
        attrs: dict[str, Attr] = {
            "zero_out": 0,
            "low": y.dtype.min,
            "high": y.dtype.max,
            "dtype": "i32",
        }
        m, s = np.array([1 << 30], np.int32), np.array([14 + shift], np.int32)
        # (x << 15) * 2^30 / 2^31 is exactly x << 14, so that one rounding is left.
        parts.append(
            requantize_fixed(ctx, value, m, s, {**attrs, "left_shift": 15}, rounding="right")
        )
    low, high = activation_range(text(node.attrs, "activation", ""), y, node.where)
    total = ctx.emit(node.op, parts)
    clip = ctx.emit("clip", [total], {"low": float(low), "high": float(high)})
    ctx.finish("cast", [clip], {"dtype": y.dtype.value})


def exponent(t: TensorType) -> int:
    """e of a scale 2^e."""
    assert t.quant is not None
    return int(np.frexp(np.float32(t.quant.scale[0]))[1]) - 1


def shifts(op: Foreign) -> tuple[int, int] | None:
    """How far the operands are shifted right where the framework takes its path for int16 scales
    that are powers of two, else None; ModelError for those that the framework refuses."""
    types = (op.type(0), op.type(1), op.output)
    for t in types:
        if t.dtype is not DType.I16 or t.quant is None:
            return None
        if np.frexp(np.float32(t.quant.scale[0]))[0] != 0.5:
            return None
    a, b = (exponent(types[2]) - exponent(t) for t in types[:2])
    if min(a, b) != 0:
        raise op.error(
            f"int16 operands with power-of-two scales would be shifted by {a} and {b} bits",
            "one operand must have the scale of the output, the other none above it",
        )
    return a, b


def expand_product(node: Node, ctx: Expansion) -> None:
    """MulElementwise in lite/kernels/internal/reference/integer_ops/mul.h; the product of the
    scales is taken in binary32, as Prepare of lite/kernels/mul.cc does."""
    y = ctx.output
    if y.dtype.is_float or y.quant is None:
        clipped(node, ctx)
        return
    (sa, za), (sb, zb) = (per_tensor(t, node.where) for t in ctx.inputs)
    sy, zy = per_tensor(y, node.where)
    a, b = node.inputs
    factors = [shifted(ctx, a, za), shifted(ctx, b, zb)]
    product = ctx.emit("mul", factors)
    low, high = activation_range(text(node.attrs, "activation", ""), y, node.where)
    attrs = {"zero_out": zy, "low": low, "high": high, "dtype": y.dtype.value}
    requantize(ctx, product, [float(sa * sb / sy)], attrs, output=node.outputs[0])


def clipped(node: Node, ctx: Expansion) -> None:
    """The operator without quantisation, its activation as a clip."""
    low, high = ACTIVATIONS[text(node.attrs, "activation", "")]
    ctx.finish("clip", [ctx.emit(node.op, node.inputs)], {"low": low, "high": high})


def to_tflite(op: Exporting) -> None:
    kind, name = op.node.op.upper(), op.node.op.capitalize()
    if name not in ("Add", "Sub", "Mul"):
        version = op.version(i8=2, i16=4)
        op.emit(kind, options="MaximumMinimumOptions", version=version)
        return
    fields: dict[str, Any] = {"fused_activation_function": activation_code(op)}
    if name != "Mul":
        # Absent, this option is true: then scales that are powers of two would mean other kernels.
        fields["pot_scale_int16"] = int("shift_int16" in op.attrs)
    version = op.version(i8=2, i16=4 if name == "Mul" else 3)
    op.emit(kind, options=f"{name}Options", version=version, **fields)


def _with_constant(graph: Graph, node: Node, wanted: Wanted | None) -> Mapping[int, Wanted]:
    """Indices to which a constant is added, or that are multiplied by one."""
    found: dict[int, Wanted] = {}
    for i, name in enumerate(node.inputs if wanted is not None else ()):
        other = graph.consts.get(node.inputs[1 - i])
        if wanted is None or other is None or not np.isfinite(other).all():
            continue
        moved = _before(node.op, i, wanted, other.astype(np.float64))
        if moved is not None:
            found[i] = moved.reduced(graph.types[name].shape)
    return found


def _before(op: str, i: int, wanted: Wanted, c: Array) -> Wanted | None:
    match op, i:
        case "add", _:
            return wanted.shifted(-c)
        case "sub", 0:
            return wanted.shifted(c)
        case "sub", _:
            return Wanted(c - wanted.high, c - wanted.low)
        case "mul", _ if (c > 0).all():
            return Wanted(np.ceil(wanted.low / c), np.floor(wanted.high / c))
    return None


@dataclass(frozen=True, slots=True)
class _Binary:
    """function: on NumPy arrays.  op: its spelling in the loop IR.  tflite: element types."""

    name: str
    function: Callable[[Array, Array], Array]
    op: ir.BinOp
    expand: Callable[[Node, Expansion], None] | None
    tflite: tuple[DType, ...]

    def reference(self, inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
        a, b = inputs
        with np.errstate(all="ignore"):
            return (self.function(a, b).astype(a.dtype),)

    def element(self, e: Element) -> ir.Expr:
        a, b = e.args
        value = ir.Bin(self.op, a, b)
        if self.op in ("min", "max") and e.output.dtype.is_float and not isinstance(b, ir.Const):
            return ir.Select(ir.Bin("==", b, b), value, b)  # NaN
        return value

    def from_tflite(self, op: Foreign) -> tuple[Node, ...]:
        op.expect_inputs(2)
        for i in (0, 1):
            op.expect_dtype(i, *self.tflite)
        attrs = tflite_activation(op)
        if op.attrs.get("pot_scale_int16") and shifts(op) is not None:
            attrs["shift_int16"] = 1
        return (op.node(self.name, attrs),)

    def samples(self) -> tuple[Sample, ...]:
        shapes = (((2, 3), (2, 3)), ((2, 3, 4), (4,)), ((1, 3, 1), (2, 1, 4)), ((), (5,)))
        dtypes: tuple[DType, ...] = (DType.I32, DType.I64, DType.F32)
        if self.expand is None:
            dtypes += (DType.I8, DType.I16)
        return tuple(
            Sample((TensorType(a, d), TensorType(b, d)), low=-40, high=40)
            for d in dtypes
            for a, b in shapes
        )


def _larger(a: Array, b: Array) -> Array:
    """NaN is larger than all; of two zeros the first."""
    return np.where((b > a) | (b != b), b, a)


def _smaller(a: Array, b: Array) -> Array:
    return np.where((b < a) | (b != b), b, a)


_WIDE = (DType.F32, DType.I8, DType.I16, DType.I32, DType.I64)
for _binary in (
    _Binary("add", np.add, "+", expand_sum, _WIDE),
    _Binary("sub", np.subtract, "-", expand_sum, _WIDE),
    _Binary("mul", np.multiply, "*", expand_product, _WIDE),
    _Binary("maximum", _larger, "max", None, _WIDE),
    _Binary("minimum", _smaller, "min", None, _WIDE),
):
    OPS.add(
        _binary.name,
        OpDef(
            _binary.name,
            infer,
            _binary.reference,
            _binary.expand,
            elementwise=True,
            activation=_binary.expand is not None,
            samples=_binary.samples(),
        ),
    )
    SCALAR_RULES.add(_binary.name, ScalarRule(("a", "b"), _binary.element))
    IMPORTERS["tflite"].add(_binary.name.upper(), _binary.from_tflite)
    EXPORTERS["tflite"].add(_binary.name, to_tflite)
    QUANTIZING.add(_binary.name, FREE if _binary.expand is not None else SAME)
    INDEX_RULES.add(_binary.name, _with_constant if _binary.expand is not None else same)
