"""matmul: y[.., m, n] = sum over k of a[.., m, k] * b[.., k, n], leading axes broadcast.

transpose_a, transpose_b: the last two axes of an operand are the other way round. On integers the
plain operator gives accumulators (i32 for i8, i64 for i16) of (a - a_zero) * (b - b_zero). With a
constant right side and no batch it is a `dense` layer, whose kernels are faster; the importers make
it one.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from midge.core.errors import ModelError
from midge.core.types import Array, DType, TensorType
from midge.graph.attrs import integer
from midge.graph.exporters import EXPORTERS, Exporting
from midge.graph.fixed_point import accumulator, per_tensor
from midge.graph.importers import IMPORTERS, Foreign, Steps
from midge.graph.ir import OPS, Attr, Attrs, Expansion, Node, OpDef, Sample
from midge.graph.quantizing import FREE, QUANTIZING
from midge.loop import ir
from midge.lower import LOOP_RULES, LoopRule, Operand, Site, nest
from midge.ops._common import arity, broadcast, checked_int, fail
from midge.ops.requantize import requantize
from midge.ops.rescale import expand_rescaled, factor, is_rescaled, plain_attrs

_MOST_DEPTH = 1 << 14  # products of 17 bits in 32


def _sizes(t: TensorType, turned: int) -> tuple[int, int]:
    rows, columns = t.shape[-2:]
    return (columns, rows) if turned else (rows, columns)


def infer(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 2)
    a, b = inputs
    if min(len(a.shape), len(b.shape)) < 2 or a.dtype is not b.dtype or 0 in a.shape + b.shape:
        raise fail(f"cannot multiply {a} by {b}: expected two batches of matrices of one type")
    (m, k), (k2, n) = (
        _sizes(t, integer(attrs, f"transpose_{x}", 0)) for x, t in (("a", a), ("b", b))
    )
    if k != k2:
        raise fail(f"cannot multiply {a} by {b}: {k} columns, {k2} rows")
    batch = broadcast(*(TensorType(t.shape[:-2], t.dtype) for t in (a, b)))
    dtype = a.dtype if a.quant is not None else accumulator(a.dtype)
    return (TensorType((*batch, m, n), dtype),)


def macs(inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> int:
    """As many rows as the first operand's matrices have products each."""
    a, y = inputs[0], outputs[0]
    return y.elements * a.shape[-1] * a.shape[-2] // y.shape[-2]


def reference(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    dtype = accumulator(DType.of(inputs[0]))
    parts = []
    for name, x in zip("ab", inputs, strict=True):
        part = x if dtype.is_float else x.astype(np.int64) - integer(attrs, f"{name}_zero", 0)
        parts.append(part.swapaxes(-1, -2) if integer(attrs, f"transpose_{name}", 0) else part)
    with np.errstate(all="ignore"):
        if dtype.is_float:
            return (_float_product(*parts),)
        return (checked_int(np.matmul(*parts), dtype),)


def _float_product(a: Array, b: Array) -> Array:
    """As `_sums` says."""
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    acc = np.zeros((*batch, a.shape[-2], b.shape[-1]), np.float32)
    for k in range(a.shape[-1]):
        acc += a[..., :, k, None] * b[..., None, k, :]
    return acc


def loops(site: Site) -> ir.Block:
    a, b = site.inputs
    shape, dtype = site.output.shape, site.output.dtype
    batch = site.axes(" ".join(f"b{d}" for d in range(len(shape) - 2)))
    m, n, k = site.axes("m n k")
    turned = integer(site.attrs, "transpose_a", 0), integer(site.attrs, "transpose_b", 0)
    left = _element(site, a, "a", batch, (k, m) if turned[0] else (m, k))
    right = _element(site, b, "b", batch, (n, k) if turned[1] else (k, n))
    product: ir.Expr = ir.Bin("*", left, right)
    if dtype is DType.I64 and a.type.dtype is DType.I16:
        product = ir.cast(DType.I64, product, DType.I32)
    acc = site.local("acc", dtype)
    depth = _sizes(a.type, turned[0])[1]
    body = (
        acc.alloc,
        acc.set(ir.const(0, dtype)),
        *nest((k,), (depth,), (acc.update("+", product),)),
        *site.store((*batch, m, n), acc()),
    )
    return nest((*batch, m, n), shape, body)


def _element(
    site: Site, x: Operand, name: str, batch: Sequence[ir.Expr], last: Sequence[ir.Expr]
) -> ir.Expr:
    """x - zero at a place of the output's batch."""
    lead = x.type.shape[:-2]
    tail = batch[len(batch) - len(lead) :]
    index = [ir.i32(0) if e == 1 else i for i, e in zip(tail, lead, strict=True)]
    value = x.wide(*index, *last)
    zero = integer(site.attrs, f"{name}_zero", 0)
    if zero == 0:
        return value
    return ir.Bin("-" if zero > 0 else "+", value, ir.const(abs(zero), DType.I32))


def expand_matmul(node: Node, ctx: Expansion) -> None:
    """Sums of products, rescaled: QLinearMatMul of ONNX Runtime."""
    (sa, za), (sb, zb) = (per_tensor(t, node.where) for t in ctx.inputs)
    sy, _ = per_tensor(ctx.output, node.where)
    sums = ctx.emit("matmul", node.inputs, {**plain_attrs(node), "a_zero": za, "b_zero": zb})
    expand_rescaled(node, ctx, sums, factor(ctx, [sa * sb], sy), None)


def expand(node: Node, ctx: Expansion) -> None:
    """BatchMatMul on integers in lite/kernels/internal/reference/batch_matmul.h; the multiplier as
    GetQuantizedConvolutionMultipler computes it."""
    if is_rescaled(node):
        expand_matmul(node, ctx)
        return
    a, y = ctx.inputs[0], ctx.output
    (sa, za), (sb, zb) = (per_tensor(t, node.where) for t in ctx.inputs)
    sy, zy = per_tensor(y, node.where)
    depth = _sizes(a, integer(node.attrs, "transpose_a", 0))[1]
    if depth > _MOST_DEPTH:
        raise ModelError(f"sums of {depth} products can overflow", where=node.where)
    acc = ctx.emit("matmul", node.inputs, {**node.attrs, "a_zero": za, "b_zero": zb})
    attrs = {"zero_out": zy, "low": y.dtype.min, "high": y.dtype.max, "dtype": y.dtype.value}
    real = float(sa * sb) / float(sy)
    rounding = "wide" if a.dtype is DType.I16 else "twice"
    requantize(ctx, acc, [real], attrs, rounding=rounding, output=node.outputs[0])


def from_tflite(op: Foreign) -> tuple[Node, ...]:
    """BATCH_MATMUL; the adjoint of real numbers is the transpose."""
    op.expect_inputs(2)
    op.expect_dtype(0, DType.F32, DType.I8, DType.I16)
    op.expect_dtype(1, op.type(0).dtype)
    if op.type(0).dtype is not DType.F32 and None in (op.type(0).quant, op.output.quant):
        raise op.error("integers without a scale are not supported")
    attrs: dict[str, Attr] = {
        f"transpose_{name}": 1
        for name, option in (("a", "adj_x"), ("b", "adj_y"))
        if op.attrs.get(option)
    }
    return (op.node("matmul", attrs),)


def to_tflite(op: Exporting) -> None:
    left, right = (bool(integer(op.attrs, f"transpose_{x}", 0)) for x in "ab")
    version = op.version(i8=2, i16=3)
    op.emit("BATCH_MATMUL", options="BatchMatMulOptions", version=version, adj_x=left, adj_y=right)


def multiplied(steps: Steps, a: str, b: str, *, consts: bool = True, turned: bool = False) -> str:
    """Emit NumPy's matmul of two values, the second one's matrices transposed if `turned`; as a
    dense layer where b is one constant matrix of floats."""
    ta, tb = steps.type(a), steps.type(b)
    column, row = len(ta.shape) == 1, len(tb.shape) == 1
    if column:
        a = steps.emit("reshape", [a], {"shape": (1, *ta.shape)})
    if row:
        shape = (1, *tb.shape) if turned else (*tb.shape, 1)
        b = steps.emit("reshape", [b], {"shape": shape})
    constant = steps.constant(b) if consts else None
    if constant is not None and ta.dtype is DType.F32 and prod(constant.shape[:-2]) == 1:
        y = _dense(steps, a, constant, turned)
    else:
        y = steps.emit("matmul", [a, b], {"transpose_b": 1} if turned else {})
    shape = steps.type(y).shape
    kept = shape[:-2] + (() if column else shape[-2:-1]) + (() if row else shape[-1:])
    return steps.emit("reshape", [y], {"shape": kept}) if column or row else y


def _dense(steps: Steps, a: str, matrix: Array, turned: bool) -> str:
    """a times one matrix: rows of all batches at once."""
    lead = matrix.shape[:-2]
    matrix = matrix.reshape(matrix.shape[-2:])
    weights = steps.const(np.ascontiguousarray(matrix if turned else matrix.T), "weights")
    shape = steps.type(a).shape
    n = steps.type(weights).shape[0]
    full = (1,) * (len(lead) - len(shape) + 2) + shape[:-1] + (n,)
    rows = (prod(shape[:-1]), shape[-1])
    flat = a if shape == rows else steps.emit("reshape", [a], {"shape": rows})
    y = steps.emit("dense", [flat, weights])
    return y if steps.type(y).shape == full else steps.emit("reshape", [y], {"shape": full})


def from_onnx(op: Foreign) -> tuple[Node, ...]:
    op.expect_inputs(2)
    op.expect_dtype(0, DType.F32, DType.I16, DType.I32, DType.I64)  # i16: of MatMulInteger
    op.expect_dtype(1, op.type(0).dtype)
    if not op.type(0).shape or not op.type(1).shape or 0 in op.type(0).shape + op.type(1).shape:
        raise op.error(f"a product of {op.type(0)} and {op.type(1)} is not supported")
    steps = Steps(op)
    multiplied(steps, *op.inputs)
    return steps.renamed()


def _samples() -> tuple[Sample, ...]:
    cases: tuple[tuple[tuple[int, ...], tuple[int, ...], dict[str, int]], ...] = (
        ((2, 3), (3, 4), {}),
        ((2, 3, 5), (2, 5, 4), {}),
        ((3, 2), (4, 3), {"transpose_a": 1, "transpose_b": 1}),
        ((2, 1, 3, 4), (3, 5, 4), {"transpose_b": 1}),
        ((1, 1), (1, 1), {}),
    )
    types = (DType.F32, DType.I8, DType.I16, DType.I32, DType.I64)
    plain = [
        Sample((TensorType(a, d), TensorType(b, d)), attrs, low=-99, high=99)
        for d in types
        for a, b, attrs in cases
    ]
    zeros = {"a_zero": -7, "b_zero": 12}
    pair = (TensorType((2, 3, 5), DType.I8), TensorType((5, 4), DType.I8))
    return (*plain, Sample(pair, zeros))


OPS.add(
    "matmul",
    OpDef(
        "matmul",
        infer,
        reference,
        expand,
        macs=macs,
        limits={"a_zero": 0, "b_zero": 1},
        samples=_samples(),
    ),
)
LOOP_RULES.add("matmul", LoopRule(("a", "b"), loops))
IMPORTERS["tflite"].add("BATCH_MATMUL", from_tflite)
IMPORTERS["onnx"].add("MatMul", from_onnx)
EXPORTERS["tflite"].add("matmul", to_tflite)
QUANTIZING.add("matmul", FREE)
