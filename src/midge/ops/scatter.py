"""scatter_elements, scatter_nd: a tensor with some elements replaced or updated.

Every output element looks through the indices for itself: the work is the product of both sizes,
but nothing is written twice, so that what follows can be computed at the store. Indices are read
as `gather` reads them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from midge.core.types import Array, DType, TensorType
from midge.graph.attrs import integer, text
from midge.graph.importers import IMPORTERS, Foreign
from midge.graph.index_ranges import INDEX_RULES
from midge.graph.ir import OPS, Attrs, Node, OpDef, Sample
from midge.loop import ir
from midge.lower import LOOP_RULES, Local, LoopRule, Site, arithmetic, nest
from midge.ops import _onnx
from midge.ops._common import arity, fail
from midge.ops.gather import INDICES, along_axes, along_axis, check_axis, place, placed

_UPDATES: dict[str, tuple[np.ufunc, ir.BinOp]] = {
    "add": (np.add, "+"),
    "mul": (np.multiply, "*"),
    "max": (np.maximum, "max"),
    "min": (np.minimum, "min"),
}


def _check(x: TensorType, updates: TensorType, attrs: Attrs) -> None:
    """reduction: none (the last update stays), add, mul, max or min."""
    how = text(attrs, "reduction", "none")
    if x.dtype is not updates.dtype or (how != "none" and how not in _UPDATES):
        raise fail(f"scatter of {updates} into {x} with reduction {how!r}")
    if how in ("add", "mul") and x.dtype not in (DType.F32, DType.I32, DType.I64):
        raise fail(f"reduction {how} of {x}")


def _write(y: Array, where: tuple[Array, ...], updates: Array, attrs: Attrs) -> Array:
    how = text(attrs, "reduction", "none")
    if how == "none":
        y[where] = updates
    else:
        _UPDATES[how][0].at(y, where, updates)
    return y


def _updated(acc: Local, value: ir.Expr, attrs: Attrs) -> ir.Stmt:
    how = text(attrs, "reduction", "none")
    return acc.set(value) if how == "none" else acc.update(_UPDATES[how][1], value)


def infer_elements(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 3)
    x, index, updates = inputs
    check_axis(x, index, integer(attrs, "axis"))
    _check(x, updates, attrs)
    rank = len(x.shape)
    small = len(index.shape) == rank and all(
        n <= m for d, (n, m) in enumerate(zip(index.shape, x.shape, strict=True))
        if d != integer(attrs, "axis")
    )  # fmt: skip
    if not small or updates.shape != index.shape or index.elements == 0:
        raise fail(f"updates {updates} of {x} at {index}")
    return (x.plain,)


def reference_elements(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    x, index, updates = inputs
    axis = integer(attrs, "axis")
    where: list[Array] = list(np.indices(index.shape))
    where[axis] = placed(index, x.shape[axis])
    return (_write(x.copy(), tuple(where), updates, attrs),)


def loops_elements(site: Site) -> ir.Block:
    x, index, updates = site.inputs
    axis = integer(site.attrs, "axis")
    shape, wide = site.output.shape, arithmetic(site.output.dtype)
    axes = site.axes(" ".join(f"i{d}" for d in range(len(shape))))
    (k,) = site.axes("k")
    acc, at = site.local("acc", wide), site.local("at", DType.I32)
    source = (*axes[:axis], k, *axes[axis + 1 :])
    hit = ir.Bin("==", at(), axes[axis])
    search: ir.Block = nest(
        (k,),
        (index.type.shape[axis],),
        (
            *place(at, index, shape[axis], *source),
            ir.Guard(hit, (_updated(acc, updates.wide(*source), site.attrs),)),
        ),
    )
    inside = ir.conjunction([
        ir.Bin("<", a, ir.i32(n))
        for d, (a, n) in enumerate(zip(axes, index.type.shape, strict=True))
        if d != axis and n < shape[d]
    ])  # fmt: skip
    body = (
        acc.alloc,
        acc.set(x.wide(*axes)),
        *(search if inside is None else (ir.Guard(inside, search),)),
        *site.store(axes, ir.cast(site.output.dtype, acc(), wide)),
    )
    return nest(axes, shape, body)


def infer_nd(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 3)
    x, index, updates = inputs
    _check(x, updates, attrs)
    if index.dtype not in INDICES or not index.shape or index.elements == 0 or x.elements == 0:
        raise fail(f"updates of {x} at {index}")
    depth = index.shape[-1]
    if not 1 <= depth <= len(x.shape) or updates.shape != index.shape[:-1] + x.shape[depth:]:
        raise fail(f"updates {updates} of {x} at {index}")
    return (x.plain,)


def reference_nd(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    x, index, updates = inputs
    where = tuple(placed(index[..., d], x.shape[d]) for d in range(index.shape[-1]))
    return (_write(x.copy(), where, updates, attrs),)


def loops_nd(site: Site) -> ir.Block:
    x, index, updates = site.inputs
    depth, lead_shape = index.type.shape[-1], index.type.shape[:-1]
    shape, wide = site.output.shape, arithmetic(site.output.dtype)
    axes = site.axes(" ".join(f"i{d}" for d in range(len(shape))))
    lead = site.axes(" ".join(f"k{d}" for d in range(len(lead_shape))))
    acc = site.local("acc", wide)
    at = [site.local("at", DType.I32) for _ in range(depth)]
    hit = ir.conjunction([ir.Bin("==", a(), axes[d]) for d, a in enumerate(at)])
    assert hit is not None
    search = (
        *(s for d, a in enumerate(at) for s in place(a, index, shape[d], *lead, ir.i32(d))),
        ir.Guard(hit, (_updated(acc, updates.wide(*lead, *axes[depth:]), site.attrs),)),
    )
    body = (
        acc.alloc,
        acc.set(x.wide(*axes)),
        *nest(lead, lead_shape, search),
        *site.store(axes, ir.cast(site.output.dtype, acc(), wide)),
    )
    return nest(axes, shape, body)


def from_onnx(op: Foreign) -> tuple[Node, ...]:
    op.expect_inputs(3)
    op.expect_dtype(1, *INDICES)
    how = _onnx.word(op, "reduction", "none", ("none", *_UPDATES))
    attrs: dict[str, int | float | str | tuple[int, ...]] = {"reduction": how}
    if op.kind == "ScatterND":
        return (op.node("scatter_nd", attrs),)
    attrs["axis"] = _onnx.one_axis(op, len(op.type(0).shape), 0)
    return (op.node("scatter_elements", attrs),)


def _sample(
    x: tuple[int, ...], index: Array, updates: tuple[int, ...], dtype: DType, **attrs: int | str
) -> Sample:
    types = (TensorType(x, dtype), TensorType(index.shape, DType.I64), TensorType(updates, dtype))
    return Sample(types, attrs, {1: index}, low=-3, high=3)


def _indices(*shape: int) -> Array:
    """Inside, negative, twice the same and outside."""
    return np.resize(np.array([1, -1, 0, 1, 9, -9]), shape).astype(np.int64)


_KINDS = (
    (DType.F32, "none"), (DType.I8, "none"), (DType.F32, "add"), (DType.I32, "mul"),
    (DType.I8, "max"), (DType.F32, "min"),
)  # fmt: skip
_ELEMENTS = tuple(
    _sample(x, _indices(*i), i, d, axis=a, reduction=r)
    for d, r in _KINDS
    for x, i, a in (((3, 4), (2, 3), 0), ((3, 4), (3, 6), 1), ((5,), (2,), 0))
)
_NDS = tuple(
    _sample(x, _indices(*i), u, d, reduction=r)
    for d, r in _KINDS
    for x, i, u in (((3, 4), (3, 1), (3, 4)), ((3, 4), (2, 2), (2,)), ((4,), (1,), ()))
)
for _name, _infer, _reference, _loops, _samples in (
    ("scatter_elements", infer_elements, reference_elements, loops_elements, _ELEMENTS),
    ("scatter_nd", infer_nd, reference_nd, loops_nd, _NDS),
):
    OPS.add(_name, OpDef(_name, _infer, _reference, samples=_samples))
    LOOP_RULES.add(_name, LoopRule(("x", "index", "updates"), _loops))
INDEX_RULES.add("scatter_elements", along_axis)
INDEX_RULES.add("scatter_nd", along_axes)
IMPORTERS["onnx"].add("ScatterElements", from_onnx)
IMPORTERS["onnx"].add("ScatterND", from_onnx)
