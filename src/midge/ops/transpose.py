"""transpose: axis d of the output is axis perm[d] of the input."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from midge.core.types import Array, DType, TensorType
from midge.graph.attrs import integers
from midge.graph.exporters import EXPORTERS, Exporting
from midge.graph.importers import IMPORTERS, Foreign
from midge.graph.index_ranges import INDEX_RULES, moved
from midge.graph.ir import OPS, Attrs, Node, OpDef, Sample
from midge.graph.quantizing import QUANTIZING, SAME
from midge.loop import ir
from midge.lower import LOOP_RULES, LoopRule, Site, nest
from midge.ops._common import arity, expect_same_scale, fail


def infer(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 1)
    (x,) = inputs
    perm = integers(attrs, "perm", len(x.shape))
    if sorted(perm) != list(range(len(x.shape))):
        raise fail(f"perm {perm} is not an order of the axes of {x}")
    return (TensorType(tuple(x.shape[p] for p in perm), x.dtype),)


def reference(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    return (np.ascontiguousarray(np.transpose(inputs[0], integers(attrs, "perm"))),)


def loops(site: Site) -> ir.Block:
    (x,) = site.inputs
    perm = integers(site.attrs, "perm")
    axes = site.axes(" ".join(f"i{d}" for d in range(len(perm))))
    index: list[ir.Expr] = [ir.i32(0)] * len(perm)
    for axis, p in zip(axes, perm, strict=True):
        index[p] = axis
    return nest(axes, site.output.shape, site.store(axes, x(*index)))


def from_tflite(op: Foreign) -> tuple[Node, ...]:
    """A transposition that only moves axes of length 1 is a reshape."""
    op.expect_inputs(2)
    op.expect_dtype(0, DType.F32, DType.I8, DType.I16, DType.U8, DType.I32, DType.I64, DType.BOOL)
    expect_same_scale(op, op.inputs[:1])
    shape = op.type(0).shape
    perm = tuple(int(p) % max(len(shape), 1) for p in op.const(1, "permutation").reshape(-1))
    moved = [p for p in perm if p < len(shape) and shape[p] != 1]
    if sorted(perm) == list(range(len(shape))) and moved == sorted(moved):
        turned = tuple(shape[p] for p in perm)
        return (op.node("reshape", {"shape": turned}, inputs=op.inputs[:1]),)
    return (op.node("transpose", {"perm": perm}, inputs=op.inputs[:1]),)


def from_onnx(op: Foreign) -> tuple[Node, ...]:
    """Transpose; without `perm` the axes are reversed."""
    op.expect_inputs(1)
    rank = len(op.type(0).shape)
    perm = tuple(op.attrs.get("perm", range(rank)[::-1]))
    return (op.node("transpose", {"perm": perm}),)


def to_tflite(op: Exporting) -> None:
    perm = op.const(np.array(integers(op.attrs, "perm"), np.int32), "perm")
    version = op.version(i8=2, i16=4)
    op.emit("TRANSPOSE", [op.inputs[0], perm], options="TransposeOptions", version=version)


_SAMPLES = tuple(
    Sample((TensorType(s, d),), {"perm": p})
    for d in (DType.I8, DType.F32, DType.I64, DType.BOOL)
    for s, p in (
        ((2, 3), (1, 0)),
        ((1, 2, 3, 4), (0, 3, 1, 2)),
        ((5,), (0,)),
        ((2, 1, 3), (2, 1, 0)),
    )
)
OPS.add("transpose", OpDef("transpose", infer, reference, halves=True, samples=_SAMPLES))
LOOP_RULES.add("transpose", LoopRule(("x",), loops))
IMPORTERS["tflite"].add("TRANSPOSE", from_tflite)
IMPORTERS["onnx"].add("Transpose", from_onnx)
EXPORTERS["tflite"].add("transpose", to_tflite)
QUANTIZING.add("transpose", SAME)
INDEX_RULES.add("transpose", moved)
