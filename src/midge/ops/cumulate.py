"""cumulate: the running sum or product along an axis. top_indices: where the greatest k are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from midge.core.types import Array, DType, TensorType
from midge.graph.attrs import integer, text
from midge.graph.importers import IMPORTERS, Foreign, Steps
from midge.graph.ir import OPS, Attr, Attrs, Node, OpDef, Sample
from midge.loop import ir
from midge.lower import LOOP_RULES, LoopRule, Site, arithmetic, nest
from midge.ops import _onnx
from midge.ops._common import arity, fail

_WIDE = (DType.F32, DType.I32, DType.I64)


def infer(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    """op: "+" or "*"; exclusive: without the element itself; reverse: from the end."""
    arity(inputs, 1)
    (x,) = inputs
    if not 0 <= integer(attrs, "axis") < len(x.shape) or x.dtype not in _WIDE:
        raise fail(f"axis {attrs['axis']} of {x}")
    if text(attrs, "op") not in ("+", "*"):
        raise fail(f"{attrs['op']!r} is neither + nor *")
    return (x.plain,)


def reference(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    (x,) = inputs
    axis = integer(attrs, "axis")
    sums = text(attrs, "op") == "+"
    if integer(attrs, "reverse", 0):
        x = np.flip(x, axis)
    y = (np.add if sums else np.multiply).accumulate(x, axis, dtype=x.dtype)
    if integer(attrs, "exclusive", 0):
        y = np.roll(y, 1, axis)
        first: list[slice | int] = [slice(None)] * x.ndim
        first[axis] = 0
        y[tuple(first)] = 0 if sums else 1
    return (np.ascontiguousarray(np.flip(y, axis) if integer(attrs, "reverse", 0) else y),)


def loops(site: Site) -> ir.Block:
    (x,) = site.inputs
    axis = integer(site.attrs, "axis")
    shape, dtype = x.type.shape, site.output.dtype
    outer = site.axes(" ".join(f"i{d}" for d in range(len(shape))))
    op: ir.BinOp = "+" if text(site.attrs, "op") == "+" else "*"
    acc = site.local("acc", dtype)
    k: ir.Expr = outer[axis]
    if integer(site.attrs, "reverse", 0):
        k = ir.sub(ir.i32(shape[axis] - 1), k)
    index = (*outer[:axis], k, *outer[axis + 1 :])
    steps = (acc.update(op, x(*index)), *site.store(index, acc()))
    if integer(site.attrs, "exclusive", 0):
        # Stored first: what is stored may be read again, but x may not be stored over before.
        here = site.local("here", dtype)
        steps = (here.alloc, here.set(x(*index)), *site.store(index, acc()), acc.update(op, here()))
    body = (
        acc.alloc,
        acc.set(ir.const(0 if op == "+" else 1, dtype)),
        *nest((outer[axis],), (shape[axis],), steps),
    )
    rest = [d for d in range(len(shape)) if d != axis]
    return nest([outer[d] for d in rest], [shape[d] for d in rest], body)


def cumulate_from_onnx(op: Foreign) -> tuple[Node, ...]:
    """CumSum and CumProd; the axis is an input."""
    op.expect_inputs(2)
    op.expect_dtype(0, *_WIDE)
    rank = len(op.type(0).shape)
    given = op.const(1, "axis").reshape(-1)
    if given.size != 1 or not -rank <= int(given[0]) < rank:
        raise op.error(f"axis {given.tolist()} does not exist in {op.type(0)}")
    attrs: dict[str, Attr] = {
        "axis": int(given[0]) % rank,
        "op": "+" if op.kind == "CumSum" else "*",
        "exclusive": _onnx.integer(op, "exclusive", 0),
        "reverse": _onnx.integer(op, "reverse", 0),
    }
    return (op.node("cumulate", attrs, inputs=op.inputs[:1]),)


def infer_top(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    """least: 1 for the smallest instead; i32 places along the last axis, best first."""
    arity(inputs, 1)
    (x,) = inputs
    k = integer(attrs, "k")
    if not x.shape or not 1 <= k <= x.shape[-1] or x.elements == 0:
        raise fail(f"the best {k} of {x}")
    return (TensorType((*x.shape[:-1], k), DType.I32),)


def reference_top(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    (x,) = inputs
    if integer(attrs, "least", 0):
        order = np.argsort(x, -1, kind="stable")
    else:
        flipped = np.argsort(np.flip(x, -1), -1, kind="stable")
        order = np.flip(x.shape[-1] - 1 - flipped, -1)
    return (np.ascontiguousarray(order[..., : integer(attrs, "k")]).astype(np.int32),)


def loops_top(site: Site) -> ir.Block:
    """For each result the best of the elements that come after the one before in the order by
    value and place; no memory beside the results is needed."""
    (x,) = site.inputs
    shape, wide = x.type.shape, arithmetic(x.type.dtype)
    outer = site.axes(" ".join([*(f"i{d}" for d in range(len(shape) - 1)), "j"]))
    (k,) = site.axes("k")
    lead = outer[:-1]
    before, best = site.local("before", wide), site.local("best", wide)
    last, place = site.local("last", DType.I32), site.local("place", DType.I32)
    value = x.wide(*lead, k)
    least = bool(integer(site.attrs, "least", 0))

    def better(a: ir.Expr, b: ir.Expr) -> ir.Bin:
        return ir.Bin("<", a, b) if least else ir.Bin("<", b, a)

    follows = ir.Bin("and", ir.Bin("==", value, before()), ir.Bin("<", last(), k))
    left = ir.Bin("or", better(before(), value), follows)
    left = ir.Bin("or", ir.Bin("<", last(), ir.i32(0)), left)
    wins = ir.Bin("or", ir.Bin("<", place(), ir.i32(0)), better(value, best()))
    search = (ir.Guard(ir.Bin("and", left, wins), (best.set(value), place.set(k))),)
    found = (
        best.alloc,
        best.set(before()),
        place.alloc,
        place.set(ir.i32(-1)),
        *nest((k,), (shape[-1],), search),
        before.set(best()),
        last.set(place()),
        *site.store(outer, place()),
    )
    body = (
        before.alloc,
        before.set(x.wide(*lead, ir.i32(0))),
        last.alloc,
        last.set(ir.i32(-1)),
        *nest(outer[-1:], (integer(site.attrs, "k"),), found),
    )
    return nest(lead, shape[:-1], body)


def top_from_onnx(op: Foreign) -> tuple[Node, ...]:
    """TopK: values and i64 places. With sorted=0 the order is free; it is sorted then too."""
    op.expect_inputs(2)
    op.expect_dtype(0, *_onnx.NUMBERS)
    rank = len(op.type(0).shape)
    axis = _onnx.one_axis(op, rank, -1)
    k = op.const(1, "k").reshape(-1)
    if k.size != 1 or len(op.outputs) != 2:
        raise op.error(f"k is {k.tolist()}, outputs {len(op.outputs)}")
    attrs: dict[str, Attr] = {"k": int(k[0])}
    if not _onnx.integer(op, "largest", 1):
        attrs["least"] = 1
    steps = Steps(op)
    perm = list(range(rank))
    perm[axis], perm[-1] = perm[-1], perm[axis]
    turn = {"perm": tuple(perm)}
    x = op.inputs[0] if axis == rank - 1 else steps.emit("transpose", op.inputs[:1], turn)
    places = steps.emit("top_indices", [x], attrs)
    values, wide = op.outputs
    if axis == rank - 1:
        steps.emit("gather_elements", [x, places], {"axis": rank - 1}, output=values)
        steps.emit("cast", [places], {"dtype": "i64"}, output=wide)
        return tuple(steps.nodes)
    taken = steps.emit("gather_elements", [x, places], {"axis": rank - 1})
    steps.emit("transpose", [taken], turn, output=values)
    turned = steps.emit("transpose", [places], turn)
    steps.emit("cast", [turned], {"dtype": "i64"}, output=wide)
    return tuple(steps.nodes)


_SAMPLES = tuple(
    Sample(
        (TensorType(s, d),),
        {"axis": a, "op": op, "exclusive": e, "reverse": r},
        low=-3,
        high=3,
    )
    for d in _WIDE
    for op in "+*"
    for s, a, e, r in (((2, 5), 1, 0, 0), ((3, 2), 0, 1, 0), ((4,), 0, 0, 1), ((2, 3, 2), 1, 1, 1))
)
_TOPS = tuple(
    Sample((TensorType(s, d),), {"k": k, **least}, low=-3, high=3)
    for d in (DType.F32, DType.I8, DType.I64)
    for s, k, least in (((2, 9), 4, {}), ((3, 3), 3, {"least": 1}), ((1,), 1, {}))
)
OPS.add("cumulate", OpDef("cumulate", infer, reference, samples=_SAMPLES))
OPS.add("top_indices", OpDef("top_indices", infer_top, reference_top, samples=_TOPS))
LOOP_RULES.add("cumulate", LoopRule(("x",), loops))
LOOP_RULES.add("top_indices", LoopRule(("x",), loops_top))
IMPORTERS["onnx"].add("CumSum", cumulate_from_onnx)
IMPORTERS["onnx"].add("CumProd", cumulate_from_onnx)
IMPORTERS["onnx"].add("TopK", top_from_onnx)
