"""log_softmax over the last axis, stable for any differences; and ONNX's softmax family, which
takes any axis: transposed around where it is not the last.

log_softmax_q, int8: the differences to the row's maximum have 256 values, so their exponentials are
a table; the logarithm of the sum is computed once a row in fixed point.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from midge.core import reals
from midge.core.errors import ModelError
from midge.core.rounding import round_shift
from midge.core.types import Array, DType, TensorType
from midge.graph.attrs import INT32, integer
from midge.graph.exporters import EXPORTERS
from midge.graph.fixed_point import per_tensor, quantize_multiplier
from midge.graph.gemmlowp import softmax_scaling
from midge.graph.importers import IMPORTERS, Foreign, Steps
from midge.graph.ir import OPS, Attr, Attrs, Expansion, Node, OpDef, Sample
from midge.graph.quantizing import QUANTIZING, QuantRule
from midge.loop import ir
from midge.loop.intrinsics import log_q12, requantize_twice
from midge.lower import LOOP_RULES, LoopRule, Site, nest
from midge.ops import _onnx
from midge.ops._common import arity, fail
from midge.ops._export import plain
from midge.ops._sums import summed
from midge.ops.softmax import exp_table
from midge.ops.softmax_int16 import rows

_SUM_BITS = 12  # integer bits of the sum of exponentials
_MOST = 1 << _SUM_BITS
_DROPPED = 31 - 5 - 4  # bits of Q5.26 that an output of 4 integer and 4 fractional bits has not


def infer(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 1)
    (x,) = inputs
    plain = x.quant is None
    if not x.shape or x.elements == 0 or (plain and x.dtype is not DType.F32):
        raise fail(f"log_softmax of {x}")
    return (x.plain,)


def reference(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    x = inputs[0] - inputs[0].max(-1, keepdims=True)
    return (x - reals.log(summed(reals.exp(x), (x.ndim - 1,))),)


def loops(site: Site) -> ir.Block:
    """x - max - log(sum(exp(x - max)))."""
    (x,) = site.inputs
    axes, c, lead, extents = rows(site)
    best, total = site.local("best", DType.F32), site.local("total", DType.F32)
    k, n = site.axes("k n")
    power = ir.Call("exp", (ir.Bin("-", x(*lead, n), best()),))
    y = ir.Bin("-", ir.Bin("-", x(*axes), best()), total())
    body = (
        best.alloc,
        best.set(x(*lead, ir.i32(0))),
        *nest((k,), (c,), (best.update("max", x(*lead, k)),)),
        total.alloc,
        total.set(ir.f32(0.0)),
        *nest((n,), (c,), (total.update("+", power),)),
        total.set(ir.Call("log", (total(),))),
        *nest(axes[-1:], (c,), site.store(axes, y)),
    )
    return nest(lead, extents, body)


# int8: log_softmax_q.


def infer_q(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    """Tables of a difference to the row's maximum, entry 255 for none: its exponential in Q0.31 and
    its real value in Q5.26."""
    arity(inputs, 3)
    x, exp, scaled = inputs
    table = TensorType((256,), DType.I32)
    if x.dtype is not DType.I8 or exp != table or scaled != table or x.elements == 0:
        raise fail(f"log_softmax_q of {x} with tables {exp} and {scaled}")
    if not x.shape or x.shape[-1] > _MOST:
        raise fail(f"rows of {x}, at most {_MOST} elements can be summed")
    return (x.plain,)


def reference_q(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    x, exp, scaled = (a.astype(np.int64) for a in inputs)
    flat = x.reshape(-1, x.shape[-1])
    out = np.empty(flat.shape, np.int8)
    for row, y in zip(flat, out, strict=True):
        differences = row - row.max()
        total = sum(round_shift(int(e), _SUM_BITS) for e in exp[differences + 255])
        log = log_q12(total)
        least = _least(log, attrs)
        values = [round_shift(int(s) - log, _DROPPED) + 127 for s in scaled[differences + 255]]
        y[:] = np.where(differences > least, np.clip(values, -128, 127), -128)
    return (out.reshape(x.shape),)


def _least(log: int, attrs: Attrs) -> int:
    """Differences above this are in range once the logarithm of the sum is subtracted."""
    divisor, shift = integer(attrs, "divisor"), integer(attrs, "shift")
    return max(integer(attrs, "least") - 1, requantize_twice(log - (1 << 31), divisor, shift))


def loops_q(site: Site) -> ir.Block:
    x, exp, scaled = site.inputs
    axes, c, lead, extents = rows(site)
    best, total, least, difference = (
        site.local(n, DType.I32) for n in ("best", "total", "least", "difference")
    )
    k, n = site.axes("k n")

    def apart(index: ir.Expr) -> ir.Expr:
        return ir.Bin("-", x.wide(*lead, index), best())

    power = exp(ir.add(apart(n), ir.i32(255)))
    part = ir.Call("round_shift", (power, ir.i32(_SUM_BITS)))
    low = ir.Bin("-", total(), ir.i32(DType.I32.max))
    constants = (ir.i32(integer(site.attrs, a)) for a in ("divisor", "shift"))
    lowest = ir.Call("requantize_twice", (ir.Bin("-", low, ir.i32(1)), *constants))
    value = ir.Bin("-", scaled(ir.add(difference(), ir.i32(255))), total())
    y = ir.add(ir.Call("round_shift", (value, ir.i32(_DROPPED))), ir.i32(127))
    y = ir.Bin("max", ir.Bin("min", y, ir.i32(127)), ir.i32(-128))
    inside = ir.Bin("<", least(), difference())
    stored = (
        difference.alloc,
        difference.set(apart(axes[-1])),
        *site.store(axes, ir.cast(DType.I8, ir.Select(inside, y, ir.i32(-128)), DType.I32)),
    )
    body = (
        best.alloc,
        best.set(x.wide(*lead, ir.i32(0))),
        *nest((k,), (c,), (best.update("max", x.wide(*lead, k)),)),
        total.alloc,
        total.set(ir.i32(0)),
        *nest((n,), (c,), (total.update("+", part),)),
        total.set(ir.Call("log_q12", (total(),))),
        least.alloc,
        least.set(ir.Bin("max", lowest, ir.i32(integer(site.attrs, "least") - 1))),
        *nest(axes[-1:], (c,), stored),
    )
    return nest(lead, extents, body)


def tables(scale: float, where: str = "") -> tuple[Array, Array, dict[str, Attr]]:
    """exp, scaled and attributes: PreprocessLogSoftmaxScalingExp in
    lite/kernels/internal/quantization_util.cc."""
    multiplier, shift, least = softmax_scaling(1.0, scale, 5, where)
    divisor, right = quantize_multiplier((1 << (31 - shift)) / multiplier)
    kept = range(max(least, -255), 1)
    scaled = np.zeros(256, np.int32)
    scaled[255 + kept.start :] = [requantize_twice(d, multiplier, shift) for d in kept]
    attrs: dict[str, Attr] = {"divisor": divisor, "shift": right, "least": least}
    return exp_table(1.0, scale, where), scaled, attrs


def expand(node: Node, ctx: Expansion) -> None:
    """LogSoftmaxQuantized in lite/kernels/internal/reference/log_softmax.h."""
    x, y = ctx.inputs[0], ctx.output
    if x.dtype is not DType.I8:
        raise ModelError("only int8 is supported", where=node.where, hint="use float32 or int8")
    scale, _ = per_tensor(x, node.where)
    if per_tensor(y, node.where) != (np.float32(16 / 256), 127):
        raise ModelError("the output must have scale 1/16 and zero point 127", where=node.where)
    exp, scaled, attrs = tables(float(scale), node.where)
    names = [ctx.add_const(exp, "exp"), ctx.add_const(scaled, "scaled")]
    ctx.finish("log_softmax_q", [node.inputs[0], *names], attrs)


def from_tflite(op: Foreign) -> tuple[Node, ...]:
    op.expect_inputs(1)
    op.expect_dtype(0, DType.F32, DType.I8)
    return (op.node("log_softmax"),)


def hardmax(steps: Steps, value: str) -> str:
    """1 at the first of the greatest elements, else 0."""
    t = steps.type(value)
    place = steps.emit("arg_max", [value], {"axis": len(t.shape) - 1, "dtype": "i32"})
    count = steps.const(np.arange(t.shape[-1], dtype=np.int32), "count")
    return steps.emit("cast", [steps.emit("equal", [place, count])], {"dtype": "f32"})


def from_onnx(apply: Callable[[Steps, str], str]) -> Callable[[Foreign], tuple[Node, ...]]:
    def importer(op: Foreign) -> tuple[Node, ...]:
        op.expect_inputs(1)
        op.expect_dtype(0, DType.F32)
        axis = _onnx.one_axis(op, len(op.type(0).shape), -1)
        return _onnx.swap_last(op, axis, apply)

    return importer


def _samples_q() -> tuple[Sample, ...]:
    samples = []
    for scale, shape in ((0.1, (3, 12)), (0.5, (2, 2, 5)), (0.02, (1, 300)), (0.1, (2, 1))):
        exp, scaled, attrs = tables(scale)
        table = TensorType((256,), DType.I32)
        samples.append(
            Sample((TensorType(shape, DType.I8), table, table), attrs, {1: exp, 2: scaled})
        )
    return tuple(samples)


_SAMPLES = tuple(Sample((TensorType(s, DType.F32),)) for s in ((2, 5), (1, 1), (2, 2, 3), (40,)))
OPS.add("log_softmax", OpDef("log_softmax", infer, reference, expand, samples=_SAMPLES))
_LIMITS = {"divisor": (0, INT32[1]), "shift": (-31, 31), "least": (-INT32[1], INT32[1])}
OPS.add(
    "log_softmax_q",
    OpDef("log_softmax_q", infer_q, reference_q, limits=_LIMITS, samples=_samples_q()),
)
LOOP_RULES.add("log_softmax_q", LoopRule(("x", "exp", "scaled"), loops_q))
LOOP_RULES.add("log_softmax", LoopRule(("x",), loops))
IMPORTERS["tflite"].add("LOG_SOFTMAX", from_tflite)
IMPORTERS["onnx"].add("Softmax", from_onnx(lambda s, v: s.emit("softmax", [v], {"beta": 1.0})))
IMPORTERS["onnx"].add("LogSoftmax", from_onnx(lambda s, v: s.emit("log_softmax", [v])))
IMPORTERS["onnx"].add("Hardmax", from_onnx(hardmax))
EXPORTERS["tflite"].add("log_softmax", plain("LOG_SOFTMAX", "LogSoftmaxOptions", i8=2))
QUANTIZING.add("log_softmax", QuantRule((DType.I8,), fixed={DType.I8: (16 / 256, 127)}))
