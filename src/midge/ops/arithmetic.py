"""div, pow, mod, rem, squared_difference: two operands, broadcast, element by element.

Integers are defined for every operand: division truncates, by zero it gives 0; mod has the sign of
the divisor, rem that of the dividend; powers wrap, with a negative exponent they truncate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from midge.core import reals
from midge.core.errors import ModelError
from midge.core.types import Array, DType, TensorType
from midge.graph.exporters import EXPORTERS, Exporting
from midge.graph.fixed_point import per_tensor, too_coarse, too_fine
from midge.graph.importers import IMPORTERS, Foreign, Steps
from midge.graph.ir import OPS, Attr, Attrs, Expansion, Node, OpDef, Sample
from midge.graph.quantizing import QUANTIZING, QuantRule
from midge.loop import ir
from midge.loop.intrinsics import power
from midge.lower import SCALAR_RULES, Element, ScalarRule, arithmetic
from midge.ops import _onnx
from midge.ops._common import arity, broadcast, fail, tflite_activation
from midge.ops._export import activation_code, plain
from midge.ops.binary import clipped
from midge.ops.requantize import requantize

_WIDE = (DType.F32, DType.I32, DType.I64)


def infer(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 2)
    a, b = inputs
    if a.dtype is not b.dtype or (a.quant is None and a.dtype not in _WIDE):
        raise fail(f"operands are {a} and {b}, expected f32, i32 or i64")
    return (TensorType(broadcast(a, b), a.dtype),)


def divided(a: Array, b: Array) -> Array:
    if a.dtype.kind == "f":
        quotient: Array = a / b
        return quotient
    safe = np.where(b == 0, 1, b)
    floor = a // safe
    rest = a - floor * safe
    result: Array = np.where(b == 0, 0, floor + ((rest != 0) & ((a < 0) != (b < 0))))
    return result


def modulus(a: Array, b: Array) -> Array:
    result: Array = np.where(b == 0, 0, np.mod(a, np.where(b == 0, 1, b)))
    return result


def remainder(a: Array, b: Array) -> Array:
    if a.dtype.kind == "f":
        rest: Array = np.fmod(a, b)
        return rest
    result: Array = np.where(b == 0, 0, np.fmod(a, np.where(b == 0, 1, b)))
    return result


def raised(a: Array, b: Array) -> Array:
    if a.dtype.kind == "f":
        return reals.pow_(a, b)
    pairs = np.broadcast_arrays(a, b)
    mask = (1 << 8 * a.itemsize) - 1
    values = [power(int(x), int(y)) & mask for x, y in zip(*(p.flat for p in pairs), strict=True)]
    unsigned = np.array(values, np.uint64).astype(f"u{a.itemsize}")
    return unsigned.astype(a.dtype).reshape(pairs[0].shape)


def squared(a: Array, b: Array) -> Array:
    result: Array = (a - b) * (a - b)
    return result


def div_element(e: Element) -> ir.Expr:
    a, b = e.args
    if e.output.dtype.is_float or (isinstance(b, ir.Const) and b.value not in (0, -1)):
        return ir.Bin("/", a, b)
    return ir.Call(f"div_{e.output.dtype.value}", (a, b))


def _called(name: str) -> Callable[[Element], ir.Expr]:
    return lambda e: ir.Call(f"{name}_{e.output.dtype.value}", e.args)


def rem_element(e: Element) -> ir.Expr:
    return ir.Call("fmod", e.args) if e.output.dtype.is_float else _called("rem")(e)


def pow_element(e: Element) -> ir.Expr:
    return ir.Call("pow", e.args) if e.output.dtype.is_float else _called("pow")(e)


def squared_element(e: Element) -> ir.Expr:
    difference = ir.Bin("-", *e.args)
    return ir.Bin("*", difference, difference)


def expand_squared(node: Node, ctx: Expansion) -> None:
    """SquaredDifference in lite/kernels/squared_difference.cc: both operands with 7 more bits on
    twice the larger scale."""
    y = ctx.output
    if y.dtype is not DType.I8:
        raise ModelError("only int8 is supported", where=node.where, hint="use float32 or int8")
    scales = [per_tensor(t, node.where) for t in ctx.inputs]
    sy, zy = per_tensor(y, node.where)
    common = float(np.float32(2) * max(s for s, _ in scales))
    real = common * common / float(np.float32(1 << 14) * sy)
    if not real < 1:
        raise too_fine(sy, node.where)
    if real == 0:
        raise too_coarse(sy, node.where)
    limits: dict[str, Attr] = {"low": DType.I32.min, "high": DType.I32.max, "dtype": "i32"}
    parts = [
        requantize(
            ctx, n, [float(s) / common], {**limits, "zero_in": z, "zero_out": 0, "left_shift": 7}
        )
        for n, (s, z) in zip(node.inputs, scales, strict=True)
    ]
    attrs = {"zero_out": zy, "low": y.dtype.min, "high": y.dtype.max, "dtype": y.dtype.value}
    total = ctx.emit("squared_difference", parts)
    requantize(ctx, total, [real], attrs, output=node.outputs[0])


@dataclass(frozen=True, slots=True)
class _Binary:
    name: str
    function: Callable[[Array, Array], Array]
    element: Callable[[Element], ir.Expr]
    dtypes: tuple[DType, ...] = _WIDE
    expand: Callable[[Node, Expansion], None] | None = None
    activation: bool = False
    low: int = -40

    def reference(self, inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
        a, b = inputs
        with np.errstate(all="ignore"):
            return (self.function(a, b).astype(a.dtype),)

    def samples(self) -> tuple[Sample, ...]:
        shapes = (((2, 3), (2, 3)), ((2, 3, 4), (4,)), ((1, 3, 1), (2, 1, 4)), ((), (5,)))
        return tuple(
            Sample((TensorType(a, d), TensorType(b, d)), {}, low=self.low, high=9)
            for d in self.dtypes
            for a, b in shapes
        )


_POWERS = tuple(
    Sample(
        (TensorType((7,), DType.F32), TensorType((1,), DType.F32)),
        {},
        {1: np.array([p], np.float32)},
        low=1,
        high=9,
    )
    for p in (1, 2, 3, -1, 0.5, -0.5, 0.3)
)
for _b in (
    _Binary("div", divided, div_element, expand=clipped, activation=True),
    _Binary("mod", modulus, _called("mod"), _WIDE[1:]),
    _Binary("rem", remainder, rem_element),
    _Binary("pow", raised, pow_element, low=1),
    _Binary("squared_difference", squared, squared_element, expand=expand_squared),
):
    _samples = _b.samples() + (_POWERS if _b.name == "pow" else ())
    OPS.add(
        _b.name,
        OpDef(
            _b.name,
            infer,
            _b.reference,
            _b.expand,
            elementwise=True,
            activation=_b.activation,
            samples=_samples,
        ),
    )
    SCALAR_RULES.add(_b.name, ScalarRule(("a", "b"), _b.element))


def div_from_tflite(op: Foreign) -> tuple[Node, ...]:
    op.expect_inputs(2)
    for i in (0, 1):
        op.expect_dtype(i, DType.F32, DType.I32)
    return (op.node("div", tflite_activation(op)),)


def pow_from_tflite(op: Foreign) -> tuple[Node, ...]:
    op.expect_inputs(2)
    for i in (0, 1):
        op.expect_dtype(i, DType.F32, DType.I32)
    return (op.node("pow"),)


def squared_from_tflite(op: Foreign) -> tuple[Node, ...]:
    op.expect_inputs(2)
    for i in (0, 1):
        op.expect_dtype(i, DType.F32, DType.I32, DType.I8)
    return (op.node("squared_difference"),)


def square_from_tflite(op: Foreign) -> tuple[Node, ...]:
    op.expect_inputs(1)
    op.expect_dtype(0, DType.F32)
    return (op.node("mul", inputs=[op.inputs[0], op.inputs[0]]),)


def div_to_tflite(op: Exporting) -> None:
    op.emit("DIV", options="DivOptions", fused_activation_function=activation_code(op))


def chained(name: str) -> Callable[[Foreign], tuple[Node, ...]]:
    """An importer of an operator on any number of operands; narrow integers wrap around."""

    def importer(op: Foreign) -> tuple[Node, ...]:
        _onnx.same_types(op, *_onnx.NUMBERS)
        steps = Steps(op)
        parts = [widened(steps, n) for n in op.inputs]
        total = parts[0]
        for part in parts[1:]:
            total = steps.emit(name, [total, part])
        if op.kind == "Mean":
            count = np.array(len(parts), steps.type(total).dtype.numpy)
            total = steps.emit("div", [total, steps.const(count, "count")])
        return narrowed(steps, total)

    return importer


def widened(steps: Steps, name: str) -> str:
    """A narrow integer value as i32."""
    wide = arithmetic(steps.type(name).dtype)
    same = wide is steps.type(name).dtype
    return name if same else steps.emit("cast", [name], {"dtype": wide.value})


def narrowed(steps: Steps, name: str) -> tuple[Node, ...]:
    """Finish with `name` as a value of the type of the operator's first input."""
    dtype = steps.op.type(0).dtype
    if steps.type(name).dtype is not dtype:
        return steps.finish("cast", [name], {"dtype": dtype.value, "wrap": 1})
    if steps.nodes:
        return steps.renamed()
    return steps.finish("copy", [name])


def mod_from_onnx(op: Foreign) -> tuple[Node, ...]:
    """Mod: the sign of the divisor, or with `fmod` that of the dividend."""
    fmod = _onnx.integer(op, "fmod", 0)
    _onnx.same_types(op, *_onnx.NUMBERS, least=2, most=2)
    if op.type(0).dtype.is_float and not fmod:
        raise op.error("attribute fmod is 0 for floats", "ONNX asks for fmod=1 there")
    steps = Steps(op)
    parts = [widened(steps, n) for n in op.inputs]
    return narrowed(steps, steps.emit("rem" if fmod else "mod", parts))


def floor_mod_from_tflite(op: Foreign) -> tuple[Node, ...]:
    """FLOOR_MOD of integers: the sign of the divisor (lite/kernels/floor_mod.cc)."""
    _whole_numbers(op)
    return (op.node("mod"),)


def floor_div_from_tflite(op: Foreign) -> tuple[Node, ...]:
    """FLOOR_DIV of integers: rounded down (lite/kernels/floor_div.cc)."""
    _whole_numbers(op)
    a, b = op.inputs
    steps = Steps(op)
    rest = steps.emit("mod", [a, b])
    return steps.finish("div", [steps.emit("sub", [a, rest]), b])


def _whole_numbers(op: Foreign) -> None:
    op.expect_inputs(2)
    op.expect_dtype(0, DType.I32, DType.I64)
    op.expect_dtype(1, op.type(0).dtype)


def pow_from_onnx(op: Foreign) -> tuple[Node, ...]:
    """Pow: the exponent may be of another type; the result has that of the base."""
    op.expect_inputs(2)
    for i in (0, 1):
        op.expect_dtype(i, *_onnx.NUMBERS)
    steps = Steps(op)
    base, exponent = (widened(steps, n) for n in op.inputs)
    common = steps.type(base).dtype
    if steps.type(exponent).dtype.is_float:
        common = DType.F32
    if op.inputs[1] in op.consts and common is DType.F32:
        value = op.consts[op.inputs[1]].astype(np.float32)
        same = value.size > 0 and bool((value == value.reshape(-1)[0]).all())
        if same and len(value.shape) <= len(op.type(0).shape) and steps.type(base).dtype is common:
            known = _known_power(steps, base, float(value.reshape(-1)[0]))
            if known:
                return narrowed(steps, known)
            value = value.reshape(-1)[:1] if op.type(0).shape else value.reshape(())
        exponent = steps.const(value, "exponent")
    parts = [
        n if steps.type(n).dtype is common else steps.emit("cast", [n], {"dtype": common.value})
        for n in (base, exponent)
    ]
    return narrowed(steps, steps.emit("pow", parts))


def _known_power(steps: Steps, base: str, exponent: float) -> str:
    """The power as an operator that other formats and quantisation know too; "" if there is none.
    Each gives the same floats as `pow`."""
    if exponent == 2:
        return steps.emit("mul", [base, base])
    if exponent == 0.5:
        return steps.emit("sqrt", [base])
    if exponent == -0.5:
        return steps.emit("rsqrt", [base])
    return ""


def reciprocal_from_onnx(op: Foreign) -> tuple[Node, ...]:
    op.expect_inputs(1)
    op.expect_dtype(0, DType.F32)
    steps = Steps(op)
    return steps.finish("div", [steps.const(np.ones(1, np.float32), "one"), op.inputs[0]])


IMPORTERS["tflite"].add("DIV", div_from_tflite)
IMPORTERS["tflite"].add("FLOOR_MOD", floor_mod_from_tflite)
IMPORTERS["tflite"].add("FLOOR_DIV", floor_div_from_tflite)
IMPORTERS["tflite"].add("POW", pow_from_tflite)
IMPORTERS["tflite"].add("SQUARED_DIFFERENCE", squared_from_tflite)
IMPORTERS["tflite"].add("SQUARE", square_from_tflite)
for _kind, _name in (
    ("Add", "add"), ("Sub", "sub"), ("Mul", "mul"), ("Div", "div"), ("Sum", "add"),
    ("Max", "maximum"), ("Min", "minimum"), ("Mean", "add"),
):  # fmt: skip
    IMPORTERS["onnx"].add(_kind, chained(_name))
IMPORTERS["onnx"].add("Mod", mod_from_onnx)
IMPORTERS["onnx"].add("Pow", pow_from_onnx)
IMPORTERS["onnx"].add("Reciprocal", reciprocal_from_onnx)
EXPORTERS["tflite"].add("div", div_to_tflite)
EXPORTERS["tflite"].add("pow", plain("POW", "PowOptions"))
EXPORTERS["tflite"].add(
    "squared_difference", plain("SQUARED_DIFFERENCE", "SquaredDifferenceOptions", i8=2)
)
QUANTIZING.add("squared_difference", QuantRule(dtypes=(DType.I8,)))
