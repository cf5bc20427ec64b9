"""resample: along one axis, each element of the output is a weighted sum of some of the input.

y[.., i, ..] = sum over k of weights[i, k] * x[.., indices[i, k], ..]

inputs: x, indices (i32 [M, taps], constant) and, for floats, weights (f32 [M, taps]); without
weights there is one tap, which is copied. attrs: axis.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from midge.core.types import Array, DType, TensorType
from midge.graph.attrs import integer
from midge.graph.index_ranges import INDEX_RULES, moved
from midge.graph.ir import OPS, Attrs, OpDef, Sample
from midge.loop import ir
from midge.lower import LOOP_RULES, LoopRule, Site, nest
from midge.ops._common import arity, fail


def infer(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 2, 3)
    x, indices = inputs[:2]
    axis = integer(attrs, "axis")
    if not 0 <= axis < len(x.shape) or x.elements == 0:
        raise fail(f"axis {axis} does not exist in {x}")
    if len(indices.shape) != 2 or indices.elements == 0 or indices.dtype is not DType.I32:
        raise fail(f"indices are {indices}, expected i32 [extent, taps]")
    if len(inputs) == 3 and (inputs[2].shape, inputs[2].dtype, x.dtype) != (
        indices.shape, DType.F32, DType.F32,
    ):  # fmt: skip
        raise fail(f"weights {inputs[2]} for {x} and indices {indices}")
    if len(inputs) == 2 and indices.shape[1] != 1:
        raise fail(f"{indices.shape[1]} taps without weights")
    return (TensorType((*x.shape[:axis], indices.shape[0], *x.shape[axis + 1 :]), x.dtype),)


def reference(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    x, indices, *weights = inputs
    axis = integer(attrs, "axis")
    if not weights:
        return (np.ascontiguousarray(np.take(x, indices[:, 0], axis)),)
    shape = [1] * x.ndim
    shape[axis] = -1
    total = np.zeros(1, np.float32)
    for k in range(indices.shape[1]):
        total = total + np.take(x, indices[:, k], axis) * weights[0][:, k].reshape(shape)
    return (total,)


def loops(site: Site) -> ir.Block:
    x, indices, *weights = site.inputs
    axis = integer(site.attrs, "axis")
    axes = site.axes(" ".join(f"i{d}" for d in range(len(x.type.shape))))
    taps = indices.type.shape[1]

    def source(k: ir.Expr) -> ir.Expr:
        at = indices(axes[axis], k)
        return x(*(at if d == axis else i for d, i in enumerate(axes)))

    if not weights:
        return nest(axes, site.output.shape, site.store(axes, source(ir.i32(0))))
    (k,) = site.axes("k")
    acc = site.local("acc", DType.F32)
    term = ir.Bin("*", source(k), weights[0](axes[axis], k))
    body = (
        acc.alloc,
        acc.set(ir.f32(0.0)),
        *nest((k,), (taps,), (acc.update("+", term),)),
        *site.store(axes, acc()),
    )
    return nest(axes, site.output.shape, body)


def _samples() -> tuple[Sample, ...]:
    rng = np.random.default_rng(0)
    samples = []
    for shape, axis, extent, taps in (
        ((2, 3, 4), 1, 5, 2),
        ((1, 4, 3, 2), 2, 2, 3),
        ((6,), 0, 9, 1),
    ):
        indices = rng.integers(0, shape[axis], (extent, taps)).astype(np.int32)
        weights = rng.uniform(-1, 1, (extent, taps)).astype(np.float32)
        table = TensorType(indices.shape, DType.I32)
        values = {1: indices, 2: weights}
        types = (TensorType(shape, DType.F32), table, TensorType(weights.shape, DType.F32))
        samples.append(Sample(types, {"axis": axis}, values))
        one = TensorType((extent, 1), DType.I32)
        for dtype in (DType.I8, DType.F32, DType.I64):
            single = (TensorType(shape, dtype), one)
            samples.append(Sample(single, {"axis": axis}, {1: indices[:, :1].copy()}))
    return tuple(samples)


OPS.add("resample", OpDef("resample", infer, reference, halves=True, samples=_samples()))
LOOP_RULES.add("resample", LoopRule(("x", "indices", "weights"), loops))
INDEX_RULES.add("resample", moved)
