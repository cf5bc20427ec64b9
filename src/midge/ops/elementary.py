"""exp, log, sqrt, rsqrt, erf, sin and their kin: functions of one float, element by element.

Quantised they are tables (see `lookup` and `lookup16`), made as the framework's kernels make them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from midge.core import angles, reals
from midge.core.errors import ModelError
from midge.core.types import Array, DType, TensorType
from midge.graph.exporters import EXPORTERS
from midge.graph.fixed_point import f32, multiplier_of, per_tensor, too_coarse, too_fine
from midge.graph.gemmlowp import inverse_root
from midge.graph.importers import IMPORTERS, Foreign
from midge.graph.ir import OPS, Attrs, Expansion, Node, OpDef, Sample
from midge.graph.quantizing import QUANTIZING, QuantRule
from midge.loop import ir
from midge.loop.intrinsics import requantize_twice
from midge.lower import SCALAR_RULES, Element, ScalarRule
from midge.ops._common import arity, fail
from midge.ops._export import plain
from midge.ops.lookup import by_table, float_table
from midge.ops.lookup16 import by_table16

Real = Callable[[np.float32], np.float32]


def infer(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 1)
    (x,) = inputs
    if x.quant is None and x.dtype is not DType.F32:
        raise fail(f"{x} is neither f32 nor quantised")
    return (x.plain,)


def by_function(ctx: Expansion, real: Real) -> None:
    """Finish an expansion: the output is `real` of the dequantised input, by a table."""
    dtype = ctx.inputs[0].dtype
    if dtype is DType.I8:
        by_table(ctx, float_table(ctx, real))
    elif dtype is DType.I16:
        by_table16(ctx, real)
    else:
        raise ModelError(f"quantised {dtype.value} is not supported", where=ctx.node.where)


@dataclass(frozen=True, slots=True)
class _Function:
    """name: also of the intrinsic.  meaning: as C computes it.  exact: in double precision, for
    tables.  low, high: of the samples.  tflite: element types of the framework's kernel."""

    name: str
    meaning: Callable[[Array], Array]
    exact: Callable[..., Any]
    onnx: str = ""
    tflite: tuple[DType, ...] = ()
    low: int = -9
    high: int = 9
    expand: Callable[[Node, Expansion], None] | None = None

    def reference(self, inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
        return (self.meaning(inputs[0]),)

    def element(self, e: Element) -> ir.Expr:
        if self.name == "rsqrt":
            return ir.Bin("/", ir.f32(1), ir.Call("sqrt", e.args))
        return ir.Call(self.name, e.args)

    def expanded(self, node: Node, ctx: Expansion) -> None:
        if self.expand is not None:
            self.expand(node, ctx)
            return
        by_function(ctx, lambda x: f32(self.exact(np.float64(x))))

    def from_tflite(self, op: Foreign) -> tuple[Node, ...]:
        op.expect_inputs(1)
        op.expect_dtype(0, *self.tflite)
        return (op.node(self.name),)

    def from_onnx(self, op: Foreign) -> tuple[Node, ...]:
        op.expect_inputs(1)
        op.expect_dtype(0, DType.F32)
        return (op.node(self.name),)

    def samples(self) -> tuple[Sample, ...]:
        return tuple(
            Sample((TensorType(s, DType.F32),), low=self.low, high=self.high)
            for s in ((2, 3), (), (40,))
        )


def expand_log(node: Node, ctx: Expansion) -> None:
    """LogLUTPrepare in lite/kernels/elementwise.cc: the least output for x <= 0."""
    sy, zy = per_tensor(ctx.output, node.where)
    least = sy * f32(ctx.output.dtype.min - zy)
    by_function(ctx, lambda x: least if x <= 0 else f32(np.log(x)))


def expand_sqrt(node: Node, ctx: Expansion) -> None:
    """SqrtEvalQuantized in lite/kernels/elementwise.cc, which drops the fraction; it stops at a
    negative value, which counts as 0 here."""
    (sx, zx), (sy, zy) = (per_tensor(t, node.where) for t in (ctx.inputs[0], ctx.output))
    if ctx.inputs[0].dtype is not DType.I8:
        raise ModelError("only int8 is supported", where=node.where, hint="use float32 or int8")

    def function(q: int) -> int:
        steps = np.sqrt(f32(sx * f32(max(q - zx, 0)))) / sy
        if not steps < 1 << 31:
            raise too_fine(sy, node.where)
        return int(steps) + zy

    by_table(ctx, function)


_SHIFT = 20  # bits of headroom of the int8 reciprocal root


def expand_rsqrt(node: Node, ctx: Expansion) -> None:
    """RsqrtEvalQuantizedInt8 and the int16 table of lite/kernels/elementwise.cc; the kernel stops
    at a negative value, which counts as 0 here and gives the greatest output."""
    (sx, zx), (sy, zy) = (per_tensor(t, node.where) for t in (ctx.inputs[0], ctx.output))
    if ctx.inputs[0].dtype is not DType.I8:
        most = f32(ctx.output.dtype.max) * sy
        by_function(ctx, lambda x: most if x <= 0 else f32(1) / np.sqrt(x))
        return
    multiplier, shift = multiplier_of(float(1.0 / np.float64(f32(np.sqrt(sx)) * sy)), node.where)
    if shift < _SHIFT - 31:
        raise too_coarse(sy, node.where)

    def function(q: int) -> int:
        if q <= zx:
            return ctx.output.dtype.max
        root, root_shift = inverse_root(q - zx)
        data = requantize_twice(1, root, root_shift + _SHIFT)
        return requantize_twice(data, multiplier, shift - _SHIFT) + zy

    by_table(ctx, function)


_FLOAT, _LUT = (DType.F32,), (DType.F32, DType.I8, DType.I16)
_erf = np.vectorize(math.erf, otypes=[np.float64])


def _inverse_root(x: Array) -> Array:
    with np.errstate(all="ignore"):
        result: Array = f32(1) / reals.sqrt(x)
    return result


for _f in (
    _Function("exp", reals.exp, np.exp, "Exp", _LUT),
    _Function("expm1", reals.expm1, np.expm1),
    _Function("log", reals.log, np.log, "Log", _LUT, 1, 40, expand_log),
    _Function("log1p", reals.log1p, np.log1p, low=1),
    _Function("sqrt", reals.sqrt, np.sqrt, "Sqrt", (DType.F32, DType.I8), 1, 40, expand_sqrt),
    _Function("rsqrt", _inverse_root, lambda x: 1 / np.sqrt(x), "", _LUT, 1, 40, expand_rsqrt),
    _Function("erf", reals.erf, _erf, "Erf"),
    _Function("sin", angles.sin, np.sin, "Sin", _FLOAT, -40, 40),
    _Function("cos", angles.cos, np.cos, "Cos", _FLOAT, -40, 40),
    _Function("tan", angles.tan, np.tan, "Tan", low=-1, high=1),
    _Function("asin", angles.asin, np.arcsin, "Asin", low=-1, high=1),
    _Function("acos", angles.acos, np.arccos, "Acos", low=-1, high=1),
    _Function("atan", angles.atan, np.arctan, "Atan"),
    _Function("sinh", reals.sinh, np.sinh, "Sinh"),
    _Function("cosh", reals.cosh, np.cosh, "Cosh"),
    _Function("asinh", reals.asinh, np.arcsinh, "Asinh"),
    _Function("acosh", reals.acosh, np.arccosh, "Acosh", low=1, high=40),
    _Function("atanh", reals.atanh, np.arctanh, "Atanh", low=-1, high=1),
    _Function("floor", reals.floor, np.floor, "Floor", _FLOAT),
    _Function("ceil", reals.ceil, np.ceil, "Ceil", _FLOAT),
    _Function("rint", reals.rint, np.rint, "Round", _FLOAT),
    _Function("trunc", reals.trunc, np.trunc),
):
    OPS.add(
        _f.name,
        OpDef(_f.name, infer, _f.reference, _f.expanded, elementwise=True, samples=_f.samples()),
    )
    SCALAR_RULES.add(_f.name, ScalarRule(("x",), _f.element))
    if _f.onnx:
        IMPORTERS["onnx"].add(_f.onnx, _f.from_onnx)
    if _f.tflite:
        _kind = "ROUND" if _f.name == "rint" else _f.name.upper()
        _options = {"exp": "ExpOptions", "cos": "CosOptions"}.get(_f.name, "")
        IMPORTERS["tflite"].add(_kind, _f.from_tflite)
        EXPORTERS["tflite"].add(_f.name, plain(_kind, _options, i8=2, i16=3 - (_f.name != "rsqrt")))
        if len(_f.tflite) > 1:
            QUANTIZING.add(_f.name, QuantRule(dtypes=_f.tflite[1:]))
