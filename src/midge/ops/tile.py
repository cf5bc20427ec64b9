"""tile: a tensor repeated along its axes. Also broadcasting to a larger shape."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from midge.core.types import Array, DType, TensorType
from midge.graph.attrs import integers
from midge.graph.importers import IMPORTERS, Foreign, Steps
from midge.graph.index_ranges import INDEX_RULES, moved
from midge.graph.ir import OPS, Attrs, Node, OpDef, Sample
from midge.graph.untrusted import checked_shape
from midge.loop import ir
from midge.lower import LOOP_RULES, LoopRule, Site, nest
from midge.ops._common import MAX_EXTENT, arity, expect_same_scale, fail


def infer(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 1)
    (x,) = inputs
    repeats = integers(attrs, "repeats", len(x.shape))
    if not all(1 <= r <= MAX_EXTENT for r in repeats):
        raise fail(f"repeats {repeats} are out of range")
    return (TensorType(tuple(n * r for n, r in zip(x.shape, repeats, strict=True)), x.dtype),)


def reference(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    return (np.tile(inputs[0], integers(attrs, "repeats")),)


def loops(site: Site) -> ir.Block:
    """The copies outside, so that elements of x are read in order."""
    (x,) = site.inputs
    shape, repeats = x.type.shape, integers(site.attrs, "repeats")
    copies = site.axes(" ".join(f"r{d}" for d in range(len(shape))))
    axes = site.axes(" ".join(f"i{d}" for d in range(len(shape))))
    place = [ir.add(ir.mul(r, ir.i32(n)), i) for r, i, n in zip(copies, axes, shape, strict=True)]
    body = nest(axes, shape, site.store(place, x(*axes)))
    return nest(copies, repeats, body)


def tile_from_onnx(op: Foreign) -> tuple[Node, ...]:
    op.expect_inputs(2)
    repeats = tuple(int(r) for r in op.const(1, "repeats").reshape(-1))
    if len(repeats) != len(op.type(0).shape) or prod(op.type(0).shape) * prod(repeats) == 0:
        raise op.error(f"repeats {repeats} of {op.type(0)}", "the result must have elements")
    return (op.node("tile", {"repeats": repeats}, inputs=op.inputs[:1]),)


def expand_from_onnx(op: Foreign) -> tuple[Node, ...]:
    """Expand: the input and the shape are broadcast to each other."""
    op.expect_inputs(2)
    wanted = tuple(int(n) for n in op.const(1, "shape").reshape(-1))
    steps = Steps(op)
    return broadcast_to(steps, op.inputs[0], wanted)


def broadcast_to(steps: Steps, x: str, wanted: Sequence[int]) -> tuple[Node, ...]:
    """The nodes so far, and those that write `x`, broadcast, as the operator's output."""
    shape = steps.type(x).shape
    rank = max(len(shape), len(wanted))
    aligned = (1,) * (rank - len(shape)) + shape
    target = (1,) * (rank - len(wanted)) + tuple(wanted)
    if any(1 not in (a, t) and a != t for a, t in zip(aligned, target, strict=True)) or (
        0 in (*aligned, *target)
    ):
        raise steps.op.error(f"{steps.type(x)} does not broadcast to {tuple(wanted)}")
    repeats = tuple(t if a == 1 else 1 for a, t in zip(aligned, target, strict=True))
    if all(r == 1 for r in repeats):
        return steps.finish("reshape", [x], {"shape": aligned})
    if aligned != shape:
        x = steps.emit("reshape", [x], {"shape": aligned})
    return steps.finish("tile", [x], {"repeats": repeats})


# TFLite.


def tile_from_tflite(op: Foreign) -> tuple[Node, ...]:
    expect_same_scale(op, op.inputs[:1])
    return tile_from_onnx(op)


def broadcast_from_tflite(op: Foreign) -> tuple[Node, ...]:
    """BROADCAST_TO: the input has no dimension that the shape has not."""
    op.expect_inputs(2)
    expect_same_scale(op, op.inputs[:1])
    wanted = tuple(int(n) for n in op.const(1, "shape").reshape(-1))
    shape = op.type(0).shape
    aligned = (1,) * (len(wanted) - len(shape)) + shape
    if len(shape) > len(wanted) or any(a > b for a, b in zip(aligned, wanted, strict=True)):
        raise op.error(f"{op.type(0)} does not broadcast to {wanted}")
    return broadcast_to(Steps(op), op.inputs[0], wanted)


def fill_from_tflite(op: Foreign) -> tuple[Node, ...]:
    """FILL: a scalar in every place; a constant one makes a constant."""
    op.expect_inputs(2)
    expect_same_scale(op, op.inputs[1:])
    wanted = tuple(int(n) for n in op.const(0, "shape").reshape(-1))
    checked_shape(wanted, op.where)
    if op.type(1).elements != 1 or 0 in wanted:
        raise op.error(f"{op.type(1)} fills {wanted}", "a scalar fills what has elements")
    if op.inputs[1] in op.consts:
        value = op.consts[op.inputs[1]].reshape(())
        op.new_consts[op.outputs[0]] = np.full(wanted, value, value.dtype)
        return ()
    return broadcast_to(Steps(op), op.inputs[1], wanted)


_SAMPLES = tuple(
    Sample((TensorType(s, d),), {"repeats": r})
    for d in (DType.I8, DType.F32, DType.I64, DType.BOOL)
    for s, r in (((2, 3), (2, 1)), ((1, 4, 1), (3, 1, 2)), ((5,), (1,)), ((), ()))
)
OPS.add("tile", OpDef("tile", infer, reference, halves=True, samples=_SAMPLES))
LOOP_RULES.add("tile", LoopRule(("x",), loops))
IMPORTERS["onnx"].add("Tile", tile_from_onnx)
IMPORTERS["onnx"].add("Expand", expand_from_onnx)
IMPORTERS["tflite"].add("TILE", tile_from_tflite)
IMPORTERS["tflite"].add("BROADCAST_TO", broadcast_from_tflite)
IMPORTERS["tflite"].add("FILL", fill_from_tflite)
INDEX_RULES.add("tile", moved)
