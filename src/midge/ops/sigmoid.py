"""logistic and tanh. On int8 a table; on int16 interpolation in a table of the logistic function.

sigmoid_lut: x [any], table [256] of logistic(i / 24) in Q16 less 2^15. x is scaled so that one
entry is 2^bits steps; tanh(x) = 2 * logistic(2 x) - 1 reads the same table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from midge.core import reals
from midge.core.errors import ModelError
from midge.core.types import Array, DType, TensorType
from midge.graph.attrs import INT32, SHIFT, integer, text
from midge.graph.exporters import EXPORTERS, Exporting
from midge.graph.fixed_point import f32, per_tensor
from midge.graph.importers import IMPORTERS, Foreign
from midge.graph.ir import OPS, Attr, Attrs, Expansion, Node, OpDef, Sample
from midge.graph.quantizing import QUANTIZING, QuantRule
from midge.loop import ir
from midge.lower import LOOP_RULES, SCALAR_RULES, Element, LoopRule, ScalarRule, Site, nest
from midge.ops import _onnx
from midge.ops._common import arity, fail
from midge.ops.lookup import by_table, float_table


def infer(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 1)
    (x,) = inputs
    if x.quant is None and x.dtype is not DType.F32:
        raise fail(f"{x} is neither f32 nor quantised")
    return (x.plain,)


@dataclass(frozen=True, slots=True)
class _Shape:
    """How a function reads the table: 2^bits steps an entry, the result >> shift after `base` and
    rounding; `top` beyond the table."""

    bits: int
    shift: int
    base: int
    top: int

    @property
    def half(self) -> int:
        return 1 << (self.shift - 1)


_SHAPES = {
    "logistic": _Shape(9, 10, 1 << 24, (32767 << 10) - (1 << 24)),
    "tanh": _Shape(8, 8, 0, (65535 << 8) - (1 << 23)),
}


def infer_lut(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 2)
    x, table = inputs
    if x.dtype is not DType.I16 or table != TensorType((256,), DType.I16):
        raise fail(f"sigmoid_lut of {x} with table {table}")
    if text(attrs, "function") not in _SHAPES:
        raise fail(f"function {attrs['function']!r} is neither logistic nor tanh")
    return (x.plain,)


def reference_lut(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    x, table = (a.astype(np.int64) for a in inputs)
    s = _SHAPES[text(attrs, "function")]
    t = (x * integer(attrs, "multiplier") + _rounding(attrs)) >> integer(attrs, "shift")
    a = np.abs(t)
    k = np.minimum(a >> s.bits, 254)
    slope = table[k + 1] - table[k]
    inner = (table[k] << s.bits) + (a & ((1 << s.bits) - 1)) * slope
    v = np.where(a >> s.bits < 255, inner, s.top)
    return (((s.base + np.where(t < 0, s.half - 1 - v, v + s.half)) >> s.shift).astype(np.int16),)


def _rounding(attrs: Attrs) -> int:
    shift = integer(attrs, "shift")
    return 1 << (shift - 1) if shift else 0


def loops_lut(site: Site) -> ir.Block:
    x, table = site.inputs
    s = _SHAPES[text(site.attrs, "function")]
    axes = site.axes(" ".join(f"i{d}" for d in range(len(site.output.shape))))
    t, a, k, v = (site.local(n, DType.I32) for n in "tdkv")
    scaled: ir.Expr = ir.Bin("*", x.wide(*axes), ir.i32(integer(site.attrs, "multiplier")))
    if integer(site.attrs, "shift"):
        scaled = ir.add(scaled, ir.i32(_rounding(site.attrs)))
        scaled = ir.Bin(">>", scaled, ir.i32(integer(site.attrs, "shift")))
    negative = ir.Bin("<", t(), ir.i32(0))
    here, after = table.wide(k()), table.wide(ir.add(k(), ir.i32(1)))
    part = ir.Bin("&", a(), ir.i32((1 << s.bits) - 1))
    inner = ir.Bin(
        "+",
        ir.Bin("*", here, ir.i32(1 << s.bits)),
        ir.Bin("*", part, ir.Bin("-", after, here)),
    )
    signed = ir.Select(negative, ir.Bin("-", ir.i32(s.half - 1), v()), ir.add(v(), ir.i32(s.half)))
    result = ir.Bin(">>", ir.add(signed, ir.i32(s.base)), ir.i32(s.shift))
    body = (
        t.alloc,
        t.set(scaled),
        a.alloc,
        a.set(ir.Select(negative, ir.Bin("-", ir.i32(0), t()), t())),
        k.alloc,
        k.set(ir.Bin(">>", a(), ir.i32(s.bits))),
        v.alloc,
        v.set(ir.Select(ir.Bin("<", k(), ir.i32(255)), inner, ir.i32(s.top))),
        *site.store(axes, ir.cast(DType.I16, result, DType.I32)),
    )
    return nest(axes, site.output.shape, body)


def table_q16() -> Array:
    """logistic(i / 24) in Q16, less 2^15 to fit 16 bits; the last entry is 2^16 - 1.

    As sigmoid_table_uint16 in lite/kernels/internal/common.h, every entry is moved up by half of
    what interpolation would lack in the middle of an interval, -f'' / 16 for one of length 1.
    """
    values = []
    for i in range(255):
        p = 1 / (1 + math.exp(-i / 24))
        curvature = p * (1 - p) * (1 - 2 * p) / 24**2
        values.append(round(65536 * (p - curvature / 16)))
    return (np.array([*values, 65535]) - 32768).astype(np.int16)


@dataclass(frozen=True, slots=True)
class _Function:
    """name: also of the intrinsic.  real: on a binary32 value, rounded as the kernel does.
    most: the greatest left shift of a power-of-two int16 scale."""

    name: str
    real: Callable[[np.float32], np.float32]
    most: int

    def reference(self, inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
        return ((reals.logistic if self.name == "logistic" else reals.tanh)(inputs[0]),)

    def element(self, e: Element) -> ir.Expr:
        return ir.Call(self.name, e.args)

    def expand(self, node: Node, ctx: Expansion) -> None:
        """EvalUsingLookupTable (int8) and the int16 functions of lite/kernels/internal/reference/
        integer_ops/{logistic,tanh}.h."""
        if ctx.inputs[0].dtype is DType.I8:
            by_table(ctx, float_table(ctx, self.real))
            return
        multiplier, shift = self.scaling(node, ctx)
        attrs: dict[str, Attr] = {
            "function": self.name,
            "multiplier": multiplier,
            "shift": shift,
        }
        table = ctx.add_const(table_q16(), "table")
        ctx.finish("sigmoid_lut", [node.inputs[0], table], attrs)

    def scaling(self, node: Node, ctx: Expansion) -> tuple[int, int]:
        """Multiplier and right shift that bring x to 3 * 4096 steps a unit, as the kernels'
        Prepare in lite/kernels/activations.cc finds them."""
        scale, zero = per_tensor(ctx.inputs[0], node.where)
        sy, zy = per_tensor(ctx.output, node.where)
        if zero or zy or sy != f32(1 / 32768):
            raise ModelError(
                "int16 needs zero points 0 and the output scale 1/32768",
                where=node.where,
                hint="convert the model with TFLite's int16x8 scheme",
            )
        mantissa, exponent = np.frexp(scale)
        left = int(exponent) - 1 + 12
        if mantissa == 0.5 and 0 <= left <= self.most:
            return 3 << left, 0
        multiplier, shift = float(scale) * 4096.0 * 3.0, 0
        while multiplier <= 32767.0 / 2.0 and shift <= 30:
            multiplier, shift = multiplier * 2.0, shift + 1
        if multiplier >= 65535 or shift > 30:
            raise ModelError(
                f"the input scale {scale} is out of range",
                where=node.where,
                hint="int16 takes 1e-9..5; convert again with more calibration data",
            )
        return int(multiplier), shift

    def from_tflite(self, op: Foreign) -> tuple[Node, ...]:
        op.expect_inputs(1)
        op.expect_dtype(0, DType.F32, DType.I8, DType.I16)
        quant = op.output.quant
        bounded = self.name == "logistic" and op.type(0).dtype is DType.I8
        if bounded and quant is not None and quant.scale[0] != 1 / 256:
            raise op.error(f"the output scale is {quant.scale[0]}", "expected 1/256")
        return (op.node(self.name),)


def _logistic32(x: np.float32) -> np.float32:
    """1 / (1 + exp(-x)), each step rounded to binary32."""
    return f32(1) / (f32(1) + _rounded(math.exp, -x))


def _tanh32(x: np.float32) -> np.float32:
    return f32(math.tanh(float(x)))


def _rounded(function: Callable[[float], float], x: np.float32) -> np.float32:
    try:
        return f32(function(float(x)))
    except OverflowError:
        return f32(math.inf)


def to_tflite(op: Exporting) -> None:
    op.emit(op.node.op.upper(), version=op.version(i8=2, i16=3))


_FIXED = {
    "logistic": {DType.I8: (1 / 256, -128), DType.I16: (1 / 32768, 0)},
    "tanh": {DType.I8: (1 / 128, 0), DType.I16: (1 / 32768, 0)},
}


_FLOATS = tuple(Sample((TensorType(s, DType.F32),), low=-9, high=9) for s in ((2, 3), (), (40,)))
_LUTS = tuple(
    Sample(
        (TensorType(s, DType.I16), TensorType((256,), DType.I16)),
        {"function": f, "multiplier": m, "shift": r},
        {1: table_q16()},
    )
    for f in _SHAPES
    for s, m, r in (((3, 40), 3, 0), ((1,), 6, 0), ((100,), 20000, 9))
)
for _f in (_Function("logistic", _logistic32, 0), _Function("tanh", _tanh32, 1)):
    OPS.add(
        _f.name,
        OpDef(_f.name, infer, _f.reference, _f.expand, elementwise=True, samples=_FLOATS),
    )
    SCALAR_RULES.add(_f.name, ScalarRule(("x",), _f.element))
    IMPORTERS["tflite"].add(_f.name.upper(), _f.from_tflite)
    EXPORTERS["tflite"].add(_f.name, to_tflite)
    QUANTIZING.add(_f.name, QuantRule(fixed=_FIXED[_f.name]))
_LIMITS = {"multiplier": INT32, "shift": SHIFT}
OPS.add(
    "sigmoid_lut", OpDef("sigmoid_lut", infer_lut, reference_lut, limits=_LIMITS, samples=_LUTS)
)
LOOP_RULES.add("sigmoid_lut", LoopRule(("x", "table"), loops_lut))
for _kind, _name in (("Sigmoid", "logistic"), ("Tanh", "tanh")):
    IMPORTERS["onnx"].add(_kind, _onnx.elementwise(_name, 1, DType.F32))
