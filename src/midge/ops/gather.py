"""gather, gather_elements, gather_nd: elements at indices that are computed when running.

Negative indices count from the end; those outside are taken to the nearest that exists, so that no
memory beside the tensor is ever read. TFLite's and ONNX's operators refuse such indices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np

from midge.core.types import Array, DType, TensorType
from midge.graph.attrs import integer
from midge.graph.exporters import EXPORTERS, Exporting
from midge.graph.importers import IMPORTERS, Foreign, Steps
from midge.graph.index_ranges import INDEX_RULES, Wanted, within
from midge.graph.ir import OPS, Attr, Attrs, Graph, Node, OpDef, Sample
from midge.graph.quantizing import QUANTIZING, SAME
from midge.loop import ir
from midge.lower import LOOP_RULES, Local, LoopRule, Operand, Site, nest
from midge.ops import _onnx
from midge.ops._common import arity, expect_same_scale, fail

INDICES = (DType.I32, DType.I64)


def placed(index: Array, extent: int) -> Array:
    """Indices as they are read."""
    i = index.astype(np.int64)
    result: Array = np.clip(np.where(i < 0, i + extent, i), 0, extent - 1)
    return result


def place(at: Local, index: Operand, extent: int, *where: ir.Expr) -> ir.Block:
    """Set the local i32 `at` to the element of `index`, as it is read."""
    dtype = index.type.dtype
    low = ir.Bin("max", index(*where), ir.const(-extent, dtype))
    narrow = ir.cast(DType.I32, ir.Bin("min", low, ir.const(extent - 1, dtype)), dtype)
    positive = ir.Select(ir.Bin("<", at(), ir.i32(0)), ir.add(at(), ir.i32(extent)), at())
    return (at.alloc, at.set(narrow), at.set(positive))


def check_axis(x: TensorType, index: TensorType, axis: int) -> None:
    if index.dtype not in INDICES or not 0 <= axis < len(x.shape) or x.elements == 0:
        raise fail(f"elements of {x} at {index} along axis {axis}")


# gather: whole slices.


def infer(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    """batch: so many leading axes are those of the indices too."""
    arity(inputs, 2)
    x, index = inputs
    axis, batch = integer(attrs, "axis"), integer(attrs, "batch", 0)
    check_axis(x, index, axis)
    if not 0 <= batch <= axis or batch > len(index.shape) or x.shape[:batch] != index.shape[:batch]:
        raise fail(f"{batch} batch axes of {x} at {index} along axis {axis}")
    shape = x.shape[:axis] + index.shape[batch:] + x.shape[axis + 1 :]
    return (TensorType(shape, x.dtype),)


def reference(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    x, index = inputs
    axis, batch = integer(attrs, "axis"), integer(attrs, "batch", 0)
    at = placed(index, x.shape[axis])
    if batch == 0:
        return (np.array(np.take(x, at, axis), order="C"),)
    lead = x.shape[:batch]
    parts = [np.take(x[b], at[b], axis - batch) for b in np.ndindex(*lead)]
    return (np.stack(parts).reshape(*lead, *parts[0].shape),)


def loops(site: Site) -> ir.Block:
    x, index = site.inputs
    axis, batch = integer(site.attrs, "axis"), integer(site.attrs, "batch", 0)
    shape = site.output.shape
    axes = site.axes(" ".join(f"i{d}" for d in range(len(shape))))
    count = len(index.type.shape) - batch
    at = site.local("at", DType.I32)
    where = (*axes[:batch], *axes[axis : axis + count])
    value = x(*axes[:axis], at(), *axes[axis + count :])
    inner = nest(axes[axis + count :], shape[axis + count :], site.store(axes, value))
    body = (*place(at, index, x.type.shape[axis], *where), *inner)
    return nest(axes[: axis + count], shape[: axis + count], body)


# gather_elements: an element for each index.


def infer_elements(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 2)
    x, index = inputs
    axis = integer(attrs, "axis")
    check_axis(x, index, axis)
    fits = len(x.shape) == len(index.shape) and all(
        n <= m for d, (n, m) in enumerate(zip(index.shape, x.shape, strict=True)) if d != axis
    )
    if not fits:
        raise fail(f"elements of {x} at {index} along axis {axis}")
    return (TensorType(index.shape, x.dtype),)


def reference_elements(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    x, index = inputs
    axis = integer(attrs, "axis")
    where: list[Array] = list(np.indices(index.shape))
    where[axis] = placed(index, x.shape[axis])
    return (x[tuple(where)],)


def loops_elements(site: Site) -> ir.Block:
    x, index = site.inputs
    axis = integer(site.attrs, "axis")
    shape = site.output.shape
    axes = site.axes(" ".join(f"i{d}" for d in range(len(shape))))
    at = site.local("at", DType.I32)
    value = x(*axes[:axis], at(), *axes[axis + 1 :])
    body = (*place(at, index, x.type.shape[axis], *axes), *site.store(axes, value))
    return nest(axes, shape, body)


# gather_nd: the last axis of the indices addresses leading axes.


def infer_nd(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    """batch: so many leading axes are those of the indices too."""
    arity(inputs, 2)
    x, index = inputs
    batch = integer(attrs, "batch", 0)
    bad = index.dtype not in INDICES or not index.shape or x.elements == 0 or batch < 0
    if bad or batch >= len(index.shape) or x.shape[:batch] != index.shape[:batch]:
        raise fail(f"elements of {x} at {index}, {batch} batch axes")
    depth = index.shape[-1]
    if not 1 <= depth <= len(x.shape) - batch:
        raise fail(f"indices of {depth} axes into {x}")
    return (TensorType(index.shape[:-1] + x.shape[batch + depth :], x.dtype),)


def reference_nd(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    x, index = inputs
    batch, depth = integer(attrs, "batch", 0), index.shape[-1]
    lead = index.shape[:-1]
    grid = np.indices(lead)
    where = [grid[b] for b in range(batch)]
    where += [placed(index[..., d], x.shape[batch + d]) for d in range(depth)]
    return (np.array(x[tuple(where)], order="C"),)


def loops_nd(site: Site) -> ir.Block:
    x, index = site.inputs
    batch, depth = integer(site.attrs, "batch", 0), index.type.shape[-1]
    shape, count = site.output.shape, len(index.type.shape) - 1
    axes = site.axes(" ".join(f"i{d}" for d in range(len(shape))))
    lead = axes[:count]
    at = [site.local("at", DType.I32) for _ in range(depth)]
    value = x(*axes[:batch], *(a() for a in at), *axes[count:])
    body = (
        *(
            s
            for d, a in enumerate(at)
            for s in place(a, index, x.type.shape[batch + d], *lead, ir.i32(d))
        ),
        *nest(axes[count:], shape[count:], site.store(axes, value)),
    )
    return nest(lead, shape[:count], body)


# Which indices exist.


def along_axis(graph: Graph, node: Node, _: Wanted | None) -> Mapping[int, Wanted]:
    """Input 1 holds indices into an axis of input 0."""
    x, index = (graph.types[n] for n in node.inputs[:2])
    return {1: within(index.shape, x.shape[integer(node.attrs, "axis")])}


def along_axes(graph: Graph, node: Node, _: Wanted | None) -> Mapping[int, Wanted]:
    """The last axis of input 1 addresses leading axes of input 0."""
    x, index = (graph.types[n] for n in node.inputs[:2])
    batch = integer(node.attrs, "batch", 0)
    return {1: within(index.shape, np.array(x.shape[batch : batch + index.shape[-1]]))}


# Importers.

_MOVED = (
    DType.F32, DType.I8, DType.U8, DType.I16, DType.I32, DType.I64, DType.BOOL,
)  # fmt: skip


def gather_from_tflite(op: Foreign) -> tuple[Node, ...]:
    op.expect_inputs(2)
    op.expect_dtype(0, *_MOVED)
    op.expect_dtype(1, DType.I32, DType.I64)
    expect_same_scale(op, op.inputs[:1])
    rank, count = len(op.type(0).shape), len(op.type(1).shape)
    axis, batch = int(op.attrs.get("axis", 0)), int(op.attrs.get("batch_dims", 0))
    axis, batch = axis + rank * (axis < 0), batch + count * (batch < 0)
    if not 0 <= axis < rank:
        raise op.error(f"axis {axis} does not exist in {op.type(0)}")
    return (op.node("gather", {"axis": axis, "batch": batch}),)


def gather_nd_from_tflite(op: Foreign) -> tuple[Node, ...]:
    op.expect_inputs(2)
    op.expect_dtype(0, *_MOVED)
    op.expect_dtype(1, DType.I32, DType.I64)
    expect_same_scale(op, op.inputs[:1])
    return (op.node("gather_nd"),)


def gather_from_onnx(op: Foreign) -> tuple[Node, ...]:
    op.expect_inputs(2)
    op.expect_dtype(1, *INDICES)
    axis = _onnx.one_axis(op, len(op.type(0).shape), 0)
    attrs: dict[str, Attr] = {"axis": axis}
    if op.kind != "Gather":
        return (op.node("gather_elements", attrs),)
    index = op.consts.get(op.inputs[1])
    if index is None or op.inputs[0] in op.consts or op.type(0).elements == 0:
        return (op.node("gather", attrs),)
    return _known(op, axis, placed(index, op.type(0).shape[axis]))


def _known(op: Foreign, axis: int, index: Array) -> tuple[Node, ...]:
    """A gather of constant indices: a slice, where they follow each other."""
    steps, shape = Steps(op), op.type(0).shape
    flat = index.reshape(-1)
    if flat.size == 0 or (flat != flat[0] + np.arange(flat.size)).any():
        constant = steps.const(index.astype(np.int32), "index")
        return steps.finish("gather", [op.inputs[0], constant], {"axis": axis})
    size = (*shape[:axis], flat.size, *shape[axis + 1 :])
    begin = tuple(int(flat[0]) if d == axis else 0 for d in range(len(shape)))
    attrs = {"begin": begin, "size": size, "strides": (1,) * len(shape)}
    part = op.inputs[0] if size == shape else steps.emit("slice", op.inputs[:1], attrs)
    whole = (*shape[:axis], *index.shape, *shape[axis + 1 :])
    return steps.finish("reshape", [part], {"shape": whole})


def gather_nd_from_onnx(op: Foreign) -> tuple[Node, ...]:
    op.expect_inputs(2)
    op.expect_dtype(1, *INDICES)
    return (op.node("gather_nd", {"batch": _onnx.integer(op, "batch_dims", 0)}),)


def one_hot_from_onnx(op: Foreign) -> tuple[Node, ...]:
    """OneHot: the second of `values` where the new axis counts to the index, else the first."""
    op.expect_inputs(3)
    op.expect_dtype(0, *INDICES, DType.F32)
    depth = op.const(1, "depth").reshape(-1)
    values = op.const(2, "values").reshape(-1)
    shape = op.type(0).shape
    if depth.size != 1 or values.size != 2 or not 1 <= int(depth[0]) <= 1 << 20:
        raise op.error(f"depth {depth.tolist()}, values {values.tolist()}")
    n, axis = int(depth[0]), _onnx.one_axis(op, len(shape) + 1, -1)
    steps = Steps(op)
    dtype = op.type(0).dtype
    index = steps.emit("reshape", op.inputs[:1], {"shape": (*shape[:axis], 1, *shape[axis:])})
    zero, size = (steps.const(np.array(v, dtype.numpy), "bound") for v in (0, n))
    negative = steps.emit("less", [index, zero])
    index = steps.emit("where", [negative, steps.emit("add", [index, size]), index])
    count = np.arange(n, dtype=dtype.numpy).reshape((n,) + (1,) * (len(shape) - axis))
    hit = steps.emit("equal", [index, steps.const(count, "count")])
    on, off = (steps.const(values[i : i + 1], "value") for i in (1, 0))
    return steps.finish("where", [hit, on, off])


def _sample(x: tuple[int, ...], index: tuple[int, ...], dtype: DType, **attrs: int) -> Sample:
    """Indices are constant: inside, negative, and far outside."""
    types = (TensorType(x, dtype), TensorType(index, DType.I64 if dtype is DType.I8 else DType.I32))
    values = np.resize(np.array([1, -1, 0, -2, 2, 9, -9, 1 << 30]), prod(index)).reshape(index)
    return Sample(types, attrs, {1: values.astype(types[1].dtype.numpy)})


_DTYPES = (DType.F32, DType.I8)
_GATHERS = tuple(
    _sample(x, i, d, axis=a, batch=b)
    for d in _DTYPES
    for x, i, a, b in (
        ((3, 4), (2,), 0, 0),
        ((3, 4), (2, 4), 1, 0),
        ((5,), (), 0, 0),
        ((2, 3, 4), (2, 2), 1, 1),
        ((2, 3, 4), (2, 2), 2, 1),
    )
)
_ELEMENTS = tuple(
    _sample(x, i, d, axis=a)
    for d in _DTYPES
    for x, i, a in (((3, 4), (2, 4), 0), ((3, 4), (3, 6), 1), ((5,), (3,), 0))
)
_NDS = tuple(
    _sample(x, i, d, batch=b)
    for d in _DTYPES
    for x, i, b in (
        ((3, 4), (5, 2), 0),
        ((3, 4), (1, 1), 0),
        ((2, 3, 2), (2, 2, 1), 1),
        ((4,), (1,), 0),
    )
)
for _name, _infer, _reference, _loops, _wants, _samples in (
    ("gather", infer, reference, loops, along_axis, _GATHERS),
    ("gather_elements", infer_elements, reference_elements, loops_elements, along_axis, _ELEMENTS),
    ("gather_nd", infer_nd, reference_nd, loops_nd, along_axes, _NDS),
):
    INDEX_RULES.add(_name, _wants)
    OPS.add(_name, OpDef(_name, _infer, _reference, halves=True, samples=_samples))
    LOOP_RULES.add(_name, LoopRule(("x", "index"), _loops))
IMPORTERS["tflite"].add("GATHER", gather_from_tflite)
IMPORTERS["tflite"].add("GATHER_ND", gather_nd_from_tflite)
IMPORTERS["onnx"].add("Gather", gather_from_onnx)
IMPORTERS["onnx"].add("GatherElements", gather_from_onnx)
IMPORTERS["onnx"].add("GatherND", gather_nd_from_onnx)
IMPORTERS["onnx"].add("OneHot", one_hot_from_onnx)


def gather_to_tflite(op: Exporting) -> None:
    axis, batch = integer(op.attrs, "axis"), integer(op.attrs, "batch", 0)
    version = op.version(i8=2, i16=4) if batch == 0 else 5
    inputs = list(op.inputs)
    if (index := op.value_of(1)) is not None and (index < 0).any():
        # Midge counts negative indices from the end; TFLite refuses them.
        extent = op.type().shape[axis]
        inputs[1] = op.const(placed(index, extent).astype(index.dtype), "index")
    op.emit("GATHER", inputs, options="GatherOptions", version=version, axis=axis, batch_dims=batch)


EXPORTERS["tflite"].add("gather", gather_to_tflite)
QUANTIZING.add("gather", SAME)
