"""arg_max, arg_min: the place of the greatest or least element along an axis, which stays as 1.

The first of equal elements, with attribute `last` the last one. dtype: of the result, i32 or i64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from midge.core.types import Array, DType, TensorType
from midge.graph.attrs import integer, text
from midge.graph.exporters import EXPORTERS, Exporting
from midge.graph.importers import IMPORTERS, Foreign, Steps
from midge.graph.ir import OPS, Attr, Attrs, Expansion, Node, OpDef, Sample
from midge.graph.quantizing import QUANTIZING, QuantRule
from midge.loop import ir
from midge.lower import LOOP_RULES, LoopRule, Site, arithmetic, nest
from midge.ops import _onnx
from midge.ops._common import arity, fail


def infer(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 1)
    (x,) = inputs
    axis, dtype = integer(attrs, "axis"), DType(text(attrs, "dtype"))
    if not 0 <= axis < len(x.shape) or x.elements == 0 or dtype not in (DType.I32, DType.I64):
        raise fail(f"axis {axis} of {x}, result {dtype.value}")
    return (TensorType((*x.shape[:axis], 1, *x.shape[axis + 1 :]), dtype),)


def _reference(greatest: bool) -> Callable[[Sequence[Array], Attrs], tuple[Array, ...]]:
    def reference(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
        (x,) = inputs
        axis, last = integer(attrs, "axis"), integer(attrs, "last", 0)
        find = np.argmax if greatest else np.argmin
        if x.dtype.kind == "f":
            values = np.where(np.isnan(x), -np.inf if greatest else np.inf, x)
        else:
            values = x
        found = find(np.flip(values, axis) if last else values, axis, keepdims=True)
        if last:
            found = x.shape[axis] - 1 - found
        if x.dtype.kind == "f":  # NaN is passed over, unless it is the first
            found = np.where(np.isnan(np.take(x, [0], axis)), 0, found)
        return (found.astype(DType(text(attrs, "dtype")).numpy),)

    return reference


def _loops(greatest: bool) -> Callable[[Site], ir.Block]:
    def loops(site: Site) -> ir.Block:
        (x,) = site.inputs
        axis = integer(site.attrs, "axis")
        shape, wide = x.type.shape, arithmetic(x.type.dtype)
        outer = site.axes(" ".join(f"i{d}" for d in range(len(shape))))
        (k,) = site.axes("k")
        best, place = site.local("best", wide), site.local("place", DType.I32)
        value = x.wide(*outer[:axis], k, *outer[axis + 1 :])
        less = ir.Bin("<=" if integer(site.attrs, "last", 0) else "<", *(
            (best(), value) if greatest else (value, best())
        ))  # fmt: skip
        dtype = site.output.dtype
        body = (
            best.alloc,
            best.set(x.wide(*outer[:axis], ir.i32(0), *outer[axis + 1 :])),
            place.alloc,
            place.set(ir.i32(0)),
            *nest((k,), (shape[axis],), (ir.Guard(less, (best.set(value), place.set(k))),)),
            *site.store(outer, ir.cast(dtype, place(), DType.I32)),
        )
        return nest(outer, site.output.shape, body)

    return loops


def expand(node: Node, ctx: Expansion) -> None:
    """The stored integers are compared."""
    ctx.finish(node.op, node.inputs, node.attrs)


def from_onnx(op: Foreign) -> tuple[Node, ...]:
    op.expect_inputs(1)
    op.expect_dtype(0, *_onnx.NUMBERS)
    rank = len(op.type(0).shape)
    axis = _onnx.one_axis(op, rank, 0)
    attrs: dict[str, Attr] = {"axis": axis, "dtype": "i64"}
    if _onnx.integer(op, "select_last_index", 0):
        attrs["last"] = 1
    steps = Steps(op)
    name = "arg_max" if op.kind == "ArgMax" else "arg_min"
    if _onnx.integer(op, "keepdims", 1):
        return steps.finish(name, op.inputs, attrs)
    shape = op.type(0).shape
    found = steps.emit(name, op.inputs, attrs)
    return steps.finish("reshape", [found], {"shape": shape[:axis] + shape[axis + 1 :]})


def from_tflite(op: Foreign) -> tuple[Node, ...]:
    op.expect_inputs(2)
    op.expect_dtype(0, DType.F32, DType.I8, DType.I16, DType.U8, DType.I32, DType.BOOL)
    if op.output.dtype not in (DType.I32, DType.I64):
        raise op.error(f"the output is {op.output.dtype.value}", "expected i32 or i64")
    axis, shape = op.const(1, "axis").reshape(-1), op.type(0).shape
    if axis.size != 1 or not -len(shape) <= int(axis[0]) < len(shape):
        raise op.error(f"axis {axis.tolist()} does not exist in {op.type(0)}")
    steps = Steps(op)
    attrs: dict[str, Attr] = {"axis": int(axis[0]) % len(shape), "dtype": op.output.dtype.value}
    found = steps.emit(op.kind.lower(), op.inputs[:1], attrs)
    at = int(axis[0]) % len(shape)
    return steps.finish("reshape", [found], {"shape": shape[:at] + shape[at + 1 :]})


_SAMPLES = tuple(
    Sample((TensorType(s, d),), {"axis": a, "dtype": t, **last}, low=-3, high=3)
    for d in (DType.F32, DType.I8, DType.I64)
    for s, a, t, last in (
        ((2, 7), 1, "i64", {}),
        ((3, 4, 2), 1, "i32", {"last": 1}),
        ((5,), 0, "i32", {}),
        ((1, 1), 0, "i64", {"last": 1}),
    )
)
for _name, _greatest in (("arg_max", True), ("arg_min", False)):
    OPS.add(_name, OpDef(_name, infer, _reference(_greatest), expand, samples=_SAMPLES))
    LOOP_RULES.add(_name, LoopRule(("x",), _loops(_greatest)))
for _kind in ("ArgMax", "ArgMin"):
    IMPORTERS["onnx"].add(_kind, from_onnx)
for _kind in ("ARG_MAX", "ARG_MIN"):
    IMPORTERS["tflite"].add(_kind, from_tflite)


def to_tflite(op: Exporting) -> None:
    """ARG_MAX drops the axis; the first of equal elements counts."""
    if integer(op.attrs, "last", 0):
        raise op.error("TFLite takes the first of equal elements, not the last")
    axis, y = integer(op.attrs, "axis"), op.output
    short = op.value(TensorType(y.shape[:axis] + y.shape[axis + 1 :], y.dtype), "places")
    greatest = op.node.op == "arg_max"
    name = "ARG_MAX" if greatest else "ARG_MIN"
    table = "ArgMaxOptions" if greatest else "ArgMinOptions"
    inputs = [op.inputs[0], op.const(np.array([axis], np.int32), "axis")]
    code = 2 if y.dtype is DType.I32 else 4  # TensorType of the schema
    op.emit(name, inputs, [short], options=table, version=op.version(i8=2), output_type=code)
    target = op.const(np.array(y.shape, np.int32), "shape")
    op.emit("RESHAPE", [short, target], options="ReshapeOptions", new_shape=y.shape)


for _name in ("arg_max", "arg_min"):
    EXPORTERS["tflite"].add(_name, to_tflite)
    QUANTIZING.add(_name, QuantRule(dtypes=(DType.I8,)))
