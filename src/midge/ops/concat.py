"""concat: tensors one after the other along `axis`.

joined: whoever computes the parts may write them where they lie in the whole (`passes.join_parts`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from midge.core.types import Array, DType, TensorType
from midge.graph.attrs import integer
from midge.graph.exporters import EXPORTERS, Exporting
from midge.graph.importers import IMPORTERS, Foreign
from midge.graph.index_ranges import INDEX_RULES, moved
from midge.graph.ir import OPS, Attrs, Node, OpDef, Rows, Sample
from midge.graph.quantizing import QUANTIZING, SAME
from midge.loop import ir
from midge.lower import LOOP_RULES, LoopRule, Site, nest
from midge.ops._common import expect_same_scale, fail

_MOST = 256  # operands


def infer(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    axis = integer(attrs, "axis")
    if not 1 <= len(inputs) <= _MOST:
        raise fail(f"concat of {len(inputs)} tensors, at most {_MOST} are supported")
    shape, dtype = inputs[0].shape, inputs[0].dtype
    if not 0 <= axis < len(shape):
        raise fail(f"axis {axis} does not exist in {inputs[0]}")
    rests = {(t.shape[:axis], t.shape[axis + 1 :], t.dtype) for t in inputs}
    if len(rests) != 1 or any(len(t.shape) != len(shape) for t in inputs):
        raise fail(f"cannot concat {', '.join(map(str, inputs))} along axis {axis}")
    total = sum(t.shape[axis] for t in inputs)
    return (TensorType((*shape[:axis], total, *shape[axis + 1 :]), dtype),)


def reference(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    return (np.concatenate(inputs, integer(attrs, "axis")),)


def loops(site: Site) -> ir.Block:
    axis = integer(site.attrs, "axis")
    body: ir.Block = ()
    start = 0
    for x in site.inputs:
        axes = site.axes(" ".join(f"k{d}" for d in range(len(x.type.shape))))
        place: list[ir.Expr] = list(axes)
        place[axis] = ir.add(axes[axis], ir.i32(start))
        body += nest(axes, x.type.shape, site.store(place, x(*axes)))
        start += x.type.shape[axis]
    return body


def from_tflite(op: Foreign) -> tuple[Node, ...]:
    """CONCATENATION, without rescaling, as lite/kernels/concatenation.cc."""
    if not op.inputs or not all(map(op.has, range(len(op.inputs)))):
        raise op.error("has no inputs")
    for i in range(len(op.inputs)):
        op.expect_dtype(
            i, DType.F32, DType.I8, DType.I16, DType.U8, DType.I32, DType.I64, DType.BOOL
        )
    if op.attrs.get("fused_activation_function", 0):
        raise op.error("a fused activation is not supported here")
    expect_same_scale(op, op.inputs)
    rank = len(op.type(0).shape)
    axis = int(op.attrs.get("axis", 0))
    if not -rank <= axis < rank:
        raise op.error(f"axis {axis} does not exist in {op.type(0)}")
    return (op.node("concat", {"axis": axis % rank}),)


def pack_from_tflite(op: Foreign) -> tuple[Node, ...]:
    """PACK: tensors along an axis of their own, as lite/kernels/pack.cc."""
    if not op.inputs or not all(map(op.has, range(len(op.inputs)))):
        raise op.error("has no inputs")
    expect_same_scale(op, op.inputs)
    rank = len(op.type(0).shape) + 1
    axis = int(op.attrs.get("axis", 0))
    if not -rank <= axis < rank:
        raise op.error(f"axis {axis} does not exist in {rank} dimensions")
    axis %= rank
    nodes, parts = [], []
    for i, name in enumerate(op.inputs):
        shape = list(op.type(i).shape)
        shape.insert(axis, 1)
        parts.append(f"{op.outputs[0]}/part{i}")
        attrs: Attrs = {"shape": tuple(shape)}
        nodes.append(op.node("reshape", attrs, inputs=[name], outputs=parts[-1:]))
    return (*nodes, op.node("concat", {"axis": axis}, inputs=parts))


def to_tflite(op: Exporting) -> None:
    op.emit(
        "CONCATENATION",
        options="ConcatenationOptions",
        version=op.version(i8=2, i16=3),
        axis=integer(op.attrs, "axis"),
        fused_activation_function=0,
    )


def rows(attrs: Attrs, inputs: Sequence[TensorType]) -> Rows | None:
    """Row by row, unless rows are what is put together."""
    return Rows(1, 1, 0) if integer(attrs, "axis") != 1 else None


_SAMPLES = tuple(
    Sample(tuple(TensorType(s, d) for s in shapes), {"axis": axis})
    for d in (DType.I8, DType.F32, DType.I64, DType.BOOL)
    for shapes, axis in (
        (((2, 3), (2, 1), (2, 2)), 1),
        (((1, 2), (3, 2)), 0),
        (((4,),), 0),
        (((1, 2, 2, 3), (1, 2, 2, 1)), 3),
    )
)
OPS.add("concat", OpDef("concat", infer, reference, halves=True, rows=rows, samples=_SAMPLES))
LOOP_RULES.add("concat", LoopRule(("x",) * _MOST, loops))
IMPORTERS["tflite"].add("CONCATENATION", from_tflite)
IMPORTERS["tflite"].add("PACK", pack_from_tflite)
EXPORTERS["tflite"].add("concat", to_tflite)
QUANTIZING.add("concat", SAME)
INDEX_RULES.add("concat", moved)
