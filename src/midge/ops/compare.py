"""equal, not_equal, less, less_equal, where, sign, neg, isnan, isinf: element by element.

Comparisons give bool. Quantised int8 operands are compared as the framework's kernel does, each
rounded by a fixed-point multiplier that is its scale; so are int16 ones for equality, but the
others by their stored integers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from midge.core.errors import ModelError
from midge.core.types import Array, DType, TensorType
from midge.graph.exporters import EXPORTERS
from midge.graph.fixed_point import per_tensor
from midge.graph.importers import IMPORTERS, Foreign, Steps
from midge.graph.index_ranges import INDEX_RULES, Wanted, within
from midge.graph.ir import OPS, Attr, Attrs, Expansion, Graph, Node, OpDef, Sample
from midge.graph.quantizing import QUANTIZING, SAME
from midge.loop import ir
from midge.lower import SCALAR_RULES, Element, ScalarRule, arithmetic
from midge.ops import _onnx
from midge.ops._common import arity, broadcast, expect_same_scale, fail
from midge.ops._export import plain
from midge.ops.arithmetic import narrowed, widened
from midge.ops.requantize import requantize


def boolean(condition: ir.Expr) -> ir.Expr:
    """A condition as the i32 that a stored bool is computed with."""
    return ir.Cast(DType.I32, condition)


def infer_comparison(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 2)
    a, b = inputs
    if a.dtype is not b.dtype:
        raise fail(f"operands are {a} and {b}, expected one element type")
    return (TensorType(broadcast(a, b), DType.BOOL),)


def expand_comparison(node: Node, ctx: Expansion) -> None:
    """ComparisonWithScaling in lite/kernels/internal/reference/comparisons.h: 8 more bits, then the
    scale as a multiplier."""
    scaled = (DType.I8, DType.I16) if node.op == "equal" else (DType.I8,)
    if ctx.inputs[0].dtype not in scaled:
        ctx.finish(node.op, node.inputs)
        return
    limits: dict[str, Attr] = {"low": DType.I32.min, "high": DType.I32.max, "dtype": "i32"}
    parts = []
    for name, t in zip(node.inputs, ctx.inputs, strict=True):
        scale, zero = per_tensor(t, node.where)
        if scale >= 1:
            raise ModelError(
                f"the scale {scale} of {name!r} is not below 1",
                where=node.where,
                hint="the framework takes scales as factors below 1; convert again",
            )
        attrs = {**limits, "zero_in": zero, "zero_out": 0, "left_shift": 8}
        parts.append(requantize(ctx, name, [float(scale)], attrs))
    ctx.finish(node.op, parts)


@dataclass(frozen=True, slots=True)
class _Comparison:
    """tflite, onnx: kinds with our operands, and `swapped` with them the other way round."""

    name: str
    function: Callable[[Array, Array], Array]
    op: ir.BinOp
    straight: tuple[str, str]
    swapped: tuple[str, str] = ("", "")

    def reference(self, inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
        return (self.function(*inputs),)

    def element(self, e: Element) -> ir.Expr:
        return boolean(ir.Bin(self.op, *e.args))

    def register(self) -> None:
        shapes = (((2, 3), (2, 3)), ((2, 3, 4), (4,)), ((1, 3, 1), (2, 1, 4)), ((), (5,)))
        dtypes = (DType.F32, DType.I8, DType.U8, DType.I16, DType.I32, DType.I64, DType.BOOL)
        samples = tuple(
            Sample((TensorType(a, d), TensorType(b, d)), {}, low=-2, high=2)
            for d in dtypes
            for a, b in shapes
        )
        op = OpDef(
            self.name,
            infer_comparison,
            self.reference,
            expand_comparison,
            elementwise=True,
            samples=samples,
        )
        OPS.add(self.name, op)
        SCALAR_RULES.add(self.name, ScalarRule(("a", "b"), self.element))
        for (tflite, onnx), turn in ((self.straight, False), (self.swapped, True)):
            if tflite:
                IMPORTERS["tflite"].add(tflite, self.importer(turn, _tflite_operands))
            if onnx:
                IMPORTERS["onnx"].add(onnx, self.importer(turn, _onnx_operands))

    def importer(
        self, turn: bool, check: Callable[[Foreign], None]
    ) -> Callable[[Foreign], tuple[Node, ...]]:
        def importer(op: Foreign) -> tuple[Node, ...]:
            check(op)
            return (op.node(self.name, inputs=op.inputs[::-1] if turn else op.inputs),)

        return importer


def _tflite_operands(op: Foreign) -> None:
    op.expect_inputs(2)
    known = [DType.F32, DType.I8, DType.I32, DType.I64]
    if op.kind in ("EQUAL", "NOT_EQUAL"):
        known.append(DType.BOOL)
    if op.kind in ("EQUAL", "LESS", "GREATER_EQUAL"):
        known.append(DType.I16)
    op.expect_dtype(0, *known)
    op.expect_dtype(1, op.type(0).dtype)


def _onnx_operands(op: Foreign) -> None:
    _onnx.same_types(op, *(d for d in DType if d is not DType.F16), least=2, most=2)


for _comparison in (
    _Comparison("equal", np.equal, "==", ("EQUAL", "Equal")),
    _Comparison("not_equal", np.not_equal, "!=", ("NOT_EQUAL", "")),
    _Comparison("less", np.less, "<", ("LESS", "Less"), ("GREATER", "Greater")),
    _Comparison(
        "less_equal",
        np.less_equal,
        "<=",
        ("LESS_EQUAL", "LessOrEqual"),
        ("GREATER_EQUAL", "GreaterOrEqual"),
    ),
):
    _comparison.register()


# where: a where the condition holds, else b.


def infer_select(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    """Quantised operands have one scale, so that their bytes are moved."""
    arity(inputs, 3)
    condition, a, b = inputs
    if condition.dtype is not DType.BOOL or a.dtype is not b.dtype:
        raise fail(f"where of {a} and {b} by {condition}, expected bool and one element type")
    return (TensorType(broadcast(*inputs), a.dtype),)


def reference_select(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    return (np.where(*inputs),)


def element_select(e: Element) -> ir.Expr:
    condition, a, b = e.args
    return ir.Select(ir.Bin("!=", condition, ir.i32(0)), a, b)


def select_from_tflite(op: Foreign) -> tuple[Node, ...]:
    """SELECT and SELECT_V2; SELECT takes a condition of one axis as one of whole rows."""
    op.expect_inputs(3)
    op.expect_dtype(0, DType.BOOL)
    types = (DType.F32, DType.I8, DType.U8, DType.I16, DType.I32, DType.I64, DType.BOOL)
    op.expect_dtype(1, *types)
    op.expect_dtype(2, op.type(1).dtype)
    expect_same_scale(op, op.inputs[1:])
    condition, rank = op.type(0), len(op.type(1).shape)
    if op.kind == "SELECT" and len(condition.shape) == 1 and rank > 1:
        steps = Steps(op)
        shape = (condition.elements, *(1,) * (rank - 1))
        rows = steps.emit("reshape", op.inputs[:1], {"shape": shape})
        return steps.finish("where", [rows, *op.inputs[1:]])
    return (op.node("where"),)


def where_from_onnx(op: Foreign) -> tuple[Node, ...]:
    op.expect_inputs(3)
    op.expect_dtype(0, DType.BOOL)
    op.expect_dtype(2, op.type(1).dtype)
    return (op.node("where"),)


_SELECTS = tuple(
    Sample((TensorType(c, DType.BOOL), TensorType(a, d), TensorType(b, d)))
    for d in (DType.F32, DType.I8, DType.I64, DType.BOOL)
    for c, a, b in (((2, 3), (2, 3), (2, 3)), ((3, 1), (2, 1, 4), (4,)), ((), (5,), ()))
)


def _chosen(graph: Graph, node: Node, wanted: Wanted | None) -> Mapping[int, Wanted]:
    """Either of what is chosen from; the last one counts where both cannot be."""
    if wanted is None:
        return {}
    return {i: wanted.reduced(graph.types[node.inputs[i]].shape) for i in (2, 1)}


def _counted(graph: Graph, node: Node, _: Wanted | None) -> Mapping[int, Wanted]:
    """A number that is compared with 0, 1, 2, ... is an index: one-hot codes are made so."""
    for i, name in enumerate(node.inputs):
        other = graph.consts.get(node.inputs[1 - i])
        if other is not None and other.size > 1 and name not in graph.consts:
            count = np.arange(other.size).astype(other.dtype)
            if (other.reshape(-1) == count).all():
                wanted = within(graph.types[node.outputs[0]].shape, other.size)
                return {i: wanted.reduced(graph.types[name].shape)}
    return {}


OPS.add("where", OpDef("where", infer_select, reference_select, elementwise=True, samples=_SELECTS))
SCALAR_RULES.add("where", ScalarRule(("condition", "a", "b"), element_select))
IMPORTERS["tflite"].add("SELECT", select_from_tflite)
IMPORTERS["tflite"].add("SELECT_V2", select_from_tflite)
IMPORTERS["onnx"].add("Where", where_from_onnx)


# sign, neg, isnan, isinf.


def infer_same(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 1)
    if inputs[0].dtype not in (DType.F32, DType.I32, DType.I64):
        raise fail(f"{inputs[0]}, expected f32, i32 or i64")
    return (inputs[0].plain,)


def infer_test(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 1)
    if inputs[0].dtype is not DType.F32:
        raise fail(f"{inputs[0]}, expected f32")
    return (TensorType(inputs[0].shape, DType.BOOL),)


def element_neg(e: Element) -> ir.Expr:
    """Of integers modulo 2^n, as division by -1 is defined."""
    (x,) = e.args
    if e.output.dtype.is_float:
        return ir.Bin("*", x, ir.f32(-1))
    return ir.Call(f"div_{e.output.dtype.value}", (x, ir.const(-1, e.output.dtype)))


def element_sign(e: Element) -> ir.Expr:
    (x,) = e.args
    zero, one, less = (ir.const(v, arithmetic(e.output.dtype)) for v in (0, 1, -1))
    rest = ir.Select(ir.Bin("==", x, x), zero, x) if e.output.dtype.is_float else zero  # NaN
    below = ir.Select(ir.Bin("<", x, zero), less, rest)
    return ir.Select(ir.Bin("<", zero, x), one, below)


def element_isinf(e: Element) -> ir.Expr:
    """Which infinities count: attributes `negative` and `positive`, 1 or 0."""
    (x,) = e.args
    most = float(np.finfo(np.float32).max)
    above, below = ir.Bin("<", ir.f32(most), x), ir.Bin("<", x, ir.f32(-most))
    if not e.attrs["negative"]:
        return boolean(above)
    return boolean(ir.Bin("or", above, below) if e.attrs["positive"] else below)


def reference_isinf(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    (x,) = inputs
    positive = np.isposinf(x) & bool(attrs["positive"])
    return (positive | (np.isneginf(x) & bool(attrs["negative"])),)


def isinf_from_onnx(op: Foreign) -> tuple[Node, ...]:
    op.expect_inputs(1)
    op.expect_dtype(0, DType.F32)
    signs = {n: _onnx.integer(op, f"detect_{n}", 1) for n in ("negative", "positive")}
    if not any(signs.values()):
        steps = Steps(op)
        nothing = np.zeros(op.type(0).shape, bool)
        return steps.finish("copy", [steps.const(nothing, "nothing")])
    return (op.node("isinf", signs),)


def widening(name: str) -> Callable[[Foreign], tuple[Node, ...]]:
    """An importer of an operator that works on narrow integers as on i32."""

    def importer(op: Foreign) -> tuple[Node, ...]:
        _onnx.same_types(op, *_onnx.NUMBERS, most=1)
        steps = Steps(op)
        return narrowed(steps, steps.emit(name, [widened(steps, op.inputs[0])]))

    return importer


def neg_from_tflite(op: Foreign) -> tuple[Node, ...]:
    op.expect_inputs(1)
    op.expect_dtype(0, DType.F32, DType.I32, DType.I64)
    return (op.node("neg"),)


_NUMBERS = tuple(
    Sample((TensorType(s, d),), low=-3, high=3)
    for d in (DType.F32, DType.I32, DType.I64)
    for s in ((2, 3), (), (9,))
)
_WHOLE = tuple(Sample((TensorType((9,), d),)) for d in (DType.I32, DType.I64))
_TESTS = {0: np.array([0, np.inf, -np.inf, np.nan, 3.4e38, -3.4e38], np.float32)}
_TYPES = (TensorType((6,), DType.F32),)
_INFS = tuple(
    Sample(_TYPES, {"negative": n, "positive": p}, _TESTS) for n, p in ((1, 1), (1, 0), (0, 1))
)
for _name, _infer, _reference, _element, _samples in (
    ("neg", infer_same, lambda x, _: (-x[0],), element_neg, _NUMBERS + _WHOLE),
    ("sign", infer_same, lambda x, _: (np.sign(x[0]),), element_sign, _NUMBERS),
    (
        "isnan",
        infer_test,
        lambda x, _: (np.isnan(x[0]),),
        lambda e: boolean(ir.Bin("!=", e.args[0], e.args[0])),
        (Sample(_TYPES, {}, _TESTS),),
    ),
    ("isinf", infer_test, reference_isinf, element_isinf, _INFS),
):
    OPS.add(_name, OpDef(_name, _infer, _reference, elementwise=True, samples=_samples))
    SCALAR_RULES.add(_name, ScalarRule(("x",), _element))
IMPORTERS["onnx"].add("Neg", widening("neg"))
IMPORTERS["onnx"].add("Sign", widening("sign"))
IMPORTERS["onnx"].add("Abs", widening("abs"))
IMPORTERS["onnx"].add("IsNaN", _onnx.elementwise("isnan", 1, DType.F32))
IMPORTERS["onnx"].add("IsInf", isinf_from_onnx)
IMPORTERS["tflite"].add("NEG", neg_from_tflite)
for _name, _options in (
    ("equal", "EqualOptions"),
    ("not_equal", "NotEqualOptions"),
    ("less", "LessOptions"),
    ("less_equal", "LessEqualOptions"),
    ("neg", "NegOptions"),
    ("where", "SelectV2Options"),
):
    _kind = "SELECT_V2" if _name == "where" else _name.upper()
    EXPORTERS["tflite"].add(_name, plain(_kind, _options, i8=1 if _name == "where" else 2))
QUANTIZING.add("where", SAME)
INDEX_RULES.add("where", _chosen)
INDEX_RULES.add("equal", _counted)
