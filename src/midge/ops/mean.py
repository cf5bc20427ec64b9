"""mean and sum over axes, which stay as 1; the importer reshapes where they are dropped.

sum on integers gives i32 sums of x - x_zero; with attributes `scale` and `zero` f32 sums of the
reals that they stand for. A second input of a sum of floats is what has been added up before, to
which they are added one by one: so the order is the same by bands as at once.
Quantised, a mean is requantised by the scales and the count in one fixed-point multiplier, a sum
rescaled in binary32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from midge.core.errors import ModelError
from midge.core.types import Array, DType, TensorType
from midge.graph.attrs import SCALE, Limits, integer, integers
from midge.graph.exporters import EXPORTERS, Exporting
from midge.graph.fixed_point import f32, multiplier_of, per_tensor
from midge.graph.importers import IMPORTERS, Foreign
from midge.graph.ir import OPS, Attrs, Expansion, Node, OpDef, Sample
from midge.graph.quantizing import FREE, QUANTIZING
from midge.loop import ir
from midge.lower import LOOP_RULES, LoopRule, Site, nest
from midge.ops._common import arity, checked_int, fail
from midge.ops._reals import reads_integers, real_element, reals_of, without_quant
from midge.ops._sums import summed
from midge.ops.requantize import requantize_fixed
from midge.ops.rescale import expand_rescaled, factor, is_rescaled, plain_attrs

_MOST = 1 << 15  # elements whose sum of 16-bit differences fits 32 bits


def kept_shape(shape: tuple[int, ...], axes: Sequence[int]) -> tuple[int, ...]:
    return tuple(1 if d in axes else n for d, n in enumerate(shape))


def left_shape(shape: tuple[int, ...], axes: Sequence[int]) -> tuple[int, ...]:
    return tuple(n for d, n in enumerate(shape) if d not in axes)


def infer(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    """Quantised means keep the type; plain sums are accumulators."""
    arity(inputs, 1)
    (x,) = inputs
    axes = integers(attrs, "axes")
    if not all(0 <= a < len(x.shape) for a in axes) or len(set(axes)) != len(axes):
        raise fail(f"axes {axes} of {x}")
    if x.elements == 0:
        raise fail(f"mean of {x}")
    dtype = x.dtype if x.quant is not None else _sum_dtype(x.dtype)
    return (TensorType(kept_shape(x.shape, axes), dtype),)


def infer_sum(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 1, 2)
    x, *so_far = inputs
    if reads_integers(attrs):
        without_quant(x, attrs)
        x = TensorType(x.shape, DType.F32)
    (y,) = infer((x,), attrs)
    if so_far and (so_far != [y] or not y.dtype.is_float):
        raise fail(f"a sum {y} that continues {so_far[0]}")
    return (y,)


def _sum_dtype(dtype: DType) -> DType:
    return DType.I32 if dtype.is_integer and dtype is not DType.I64 else dtype


def sum_reference(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    if inputs[0].dtype == np.float32 or reads_integers(attrs):
        return (summed(reals_of(inputs[0], attrs), integers(attrs, "axes"), *inputs[1:]),)
    wide = np.int64 if inputs[0].dtype == np.int64 else np.float64
    x = inputs[0].astype(wide) - integer(attrs, "x_zero", 0)
    total = x.sum(integers(attrs, "axes"), keepdims=True)
    return (checked_int(total, _sum_dtype(DType.of(inputs[0]))),)


def mean_reference(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    (x,) = inputs
    axes = integers(attrs, "axes")
    return (summed(x, axes) / np.float32(prod(x.shape[d] for d in axes)),)


def _loops(site: Site, divide: bool) -> ir.Block:
    x, *so_far = site.inputs
    axes = integers(site.attrs, "axes")
    shape = x.type.shape
    outer = site.axes(" ".join(f"i{d}" for d in range(len(shape))))
    inner = site.axes(" ".join(f"r{d}" for d in axes)) if axes else ()
    index: list[ir.Expr] = list(outer)
    for d, axis in zip(axes, inner, strict=True):
        index[d] = axis
    dtype = site.output.dtype
    acc = site.local("acc", dtype)
    real = reads_integers(site.attrs)
    value = real_element(site, x, *index) if real else x.as_type(dtype, *index)
    body = (
        acc.alloc,
        acc.set(so_far[0](*outer) if so_far else ir.const(0, dtype)),
        *nest(inner, [shape[d] for d in axes], (acc.update("+", value),)),
        *site.store(outer, _finish(site, acc(), prod(shape[d] for d in axes), divide)),
    )
    return nest(outer, site.output.shape, body)


def _finish(site: Site, total: ir.Expr, count: int, divide: bool) -> ir.Expr:
    if divide:
        return ir.Bin("/", total, ir.f32(count))
    zero = integer(site.attrs, "x_zero", 0) * count
    if zero == 0:
        return total
    return ir.Bin("-" if zero > 0 else "+", total, ir.const(abs(zero), site.output.dtype))


def expand(node: Node, ctx: Expansion) -> None:
    """The sum of x - zero point, requantised by scales and count at once.

    The multiplier is divided by the count after it was shifted left as far as 32 bits allow, as
    MEAN in lite/kernels/reduce.cc does when it prepares.
    """
    if is_rescaled(node):
        expand_mean(node, ctx)
        return
    x, y = ctx.inputs[0], ctx.output
    (sx, zx), (sy, zy) = per_tensor(x, node.where), per_tensor(y, node.where)
    count = prod(x.shape[d] for d in integers(node.attrs, "axes"))
    if count > _MOST:
        raise ModelError(f"a mean of {count} elements overflows; at most {_MOST}", where=node.where)
    multiplier, shift = multiplier_of(float(sx) / float(sy), node.where, most=61)
    left = min(count.bit_length() - 1, 32, 31 + shift)
    multiplier, shift = (multiplier << left) // count, shift - left
    total = ctx.emit("sum", node.inputs, {**node.attrs, "x_zero": zx})
    attrs = {"zero_out": zy, "low": y.dtype.min, "high": y.dtype.max, "dtype": y.dtype.value}
    m, s = np.array([multiplier], np.int32), np.array([shift], np.int32)
    requantize_fixed(ctx, total, m, s, attrs, output=node.outputs[0])


def expand_mean(node: Node, ctx: Expansion) -> None:
    """The sum of x - zero point, rescaled by scales and count at once."""
    x = ctx.inputs[0]
    (sx, zx), (sy, _) = per_tensor(x, node.where), per_tensor(ctx.output, node.where)
    count = prod(x.shape[d] for d in integers(node.attrs, "axes"))
    if count > _MOST:
        raise ModelError(f"a mean of {count} elements overflows; at most {_MOST}", where=node.where)
    sums = ctx.emit("sum", node.inputs, {**plain_attrs(node), "x_zero": zx})
    expand_rescaled(node, ctx, sums, factor(ctx, [sx], np.float32(count) * sy), None)


def expand_sum(node: Node, ctx: Expansion) -> None:
    """The sum of x times the factor between the scales, less what the zero points sum to, both in
    binary32; ties away from zero: QuantizedMeanOrSum with compute_sum in
    lite/kernels/internal/optimized/reduce.h."""
    x, y = ctx.inputs[0], ctx.output
    (sx, zx), (sy, zy) = per_tensor(x, node.where), per_tensor(y, node.where)
    count = prod(x.shape[d] for d in integers(node.attrs, "axes"))
    if count > _MOST:
        raise ModelError(f"a sum of {count} elements overflows; at most {_MOST}", where=node.where)
    total = ctx.emit("sum", node.inputs, {**node.attrs, "x_zero": 0})
    scale = f32(sx) / f32(sy)
    value = ctx.emit("cast", [total], {"dtype": "f32"})
    value = ctx.emit("mul", [value, ctx.add_const(np.array([scale]), "scale")])
    if zx:
        offset = f32(-zx) * scale * f32(count)
        value = ctx.emit("add", [value, ctx.add_const(np.array([offset]), "offset")])
    ctx.finish("quantize", [value], {"scale": 1.0, "zero": zy, "dtype": y.dtype.value})


def from_tflite(op: Foreign) -> tuple[Node, ...]:
    op.expect_inputs(2)
    op.expect_dtype(0, DType.F32, DType.I8, DType.I16)
    x = op.type(0)
    rank = len(x.shape)
    given = {int(a) for a in op.const(1, "axes").reshape(-1)}
    if not all(-rank <= a < rank for a in given):
        raise op.error(f"axes {sorted(given)} do not exist in {x}")
    axes = tuple(sorted({a % rank for a in given}))
    kept = f"{op.outputs[0]}/kept"
    if not axes or x.elements == 0:
        raise op.error(f"a mean of {x} over axes {axes} is not supported")
    if op.attrs.get("keep_dims"):
        return (op.node("mean", {"axes": axes}, inputs=op.inputs[:1]),)
    return (
        op.node("mean", {"axes": axes}, inputs=op.inputs[:1], outputs=[kept]),
        op.node("reshape", {"shape": left_shape(x.shape, axes)}, inputs=[kept]),
    )


def to_tflite(op: Exporting) -> None:
    axes = op.const(np.array(integers(op.attrs, "axes"), np.int32), "axes")
    version = op.version(i8=2, i16=3)
    op.emit("MEAN", [op.inputs[0], axes], options="ReducerOptions", version=version, keep_dims=True)


_SAMPLES = tuple(
    Sample((TensorType(shape, dtype),), {"axes": axes})
    for dtype in (DType.I8, DType.I16, DType.F32)
    for shape, axes in (((1, 3, 4, 2), (1, 2)), ((2, 5), (1,)), ((3, 2), (0, 1)), ((1, 1), (0,)))
)
_WIDE = tuple(
    Sample((TensorType((2, 3), d),), {"axes": axes}, low=-1000, high=1000)
    for d in (DType.I32, DType.I64)
    for axes in ((0,), (1,), ())
)
_FLOATS = tuple(s for s in _SAMPLES if s.inputs[0].dtype is DType.F32)
_REALS = tuple(
    replace(s, attrs={**s.attrs, "scale": 0.037, "zero": -3})
    for s in _SAMPLES
    if s.inputs[0].dtype is not DType.F32
)
_CONTINUED = tuple(
    replace(s, inputs=(*s.inputs, *infer_sum(s.inputs, s.attrs))) for s in (*_FLOATS, *_REALS)
)
_LIMITS: Limits = {"x_zero": 0, "scale": SCALE, "zero": 0}
_ALL = _SAMPLES + _WIDE + _REALS + _CONTINUED
OPS.add("sum", OpDef("sum", infer_sum, sum_reference, expand_sum, limits=_LIMITS, samples=_ALL))
OPS.add("mean", OpDef("mean", infer, mean_reference, expand, samples=_FLOATS))
LOOP_RULES.add("sum", LoopRule(("x", "so_far"), lambda site: _loops(site, divide=False)))
LOOP_RULES.add("mean", LoopRule(("x",), lambda site: _loops(site, divide=True)))
IMPORTERS["tflite"].add("MEAN", from_tflite)
EXPORTERS["tflite"].add("mean", to_tflite)
QUANTIZING.add("mean", FREE)
