"""PyTorch's reductions."""

from __future__ import annotations

from functools import partial
from math import prod

from midge.core.types import DType
from midge.graph.importers import IMPORTERS, Foreign
from midge.graph.ir import Node
from midge.ops._torch import Aten, add


def _reduced(kind: str, a: Aten) -> str:
    x = a.tensor("self")
    rank = len(a.shape(x))
    x = a.summable(x) if kind in ("ReduceSum", "ReduceProd") else a.typed(x)
    if kind == "ReduceMean" and a.type(x).dtype.is_integer:
        raise a.op.error(f"a mean of {a.type(x)} is not supported")
    given = a.op.attrs.get("dim")
    axes = tuple(range(rank)) if given in (None, ()) else a.integers("dim")
    keep = int(a.op.attrs.get("keepdim") is True)
    return a.onnx(kind, [x, a.value([d % max(rank, 1) for d in axes])], keepdims=keep)


for _names, _kind in {
    "mean": "ReduceMean", "sum": "ReduceSum", "amax": "ReduceMax", "amin": "ReduceMin",
    "prod": "ReduceProd", "logsumexp": "ReduceLogSumExp",
}.items():  # fmt: skip
    add(_names, partial(_reduced, _kind))


def variance(a: Aten) -> str:
    """Over some axes, of a sample unless told otherwise."""
    x = a.tensor("self")
    rank = len(a.shape(x))
    given = a.op.attrs.get("dim")
    axes = tuple(range(rank)) if given in (None, ()) else tuple(d % rank for d in a.integers("dim"))
    count = prod(a.shape(x)[d] for d in axes)
    correction = 1.0 if a.op.attrs.get("unbiased") is not False else 0.0
    correction = a.number("correction", correction)
    names = a.value(list(axes))
    middle = a.onnx("Sub", [x, a.onnx("ReduceMean", [x, names], keepdims=1)])
    keep = int(a.op.attrs.get("keepdim") is True)
    total = a.onnx("ReduceSum", [a.onnx("Mul", [middle, middle]), names], keepdims=keep)
    return a.onnx("Div", [total, a.value(count - correction, DType.F32)])


add("var", variance)
add("std", lambda a: a.onnx("Sqrt", [variance(a)]))


def _found(kind: str, a: Aten) -> str:
    """argmax, argmin, of everything or along a dimension."""
    x = a.tensor("self")
    if a.op.attrs.get("dim") is None:
        return a.onnx(kind, [a.reshape(x, (a.type(x).elements,))], axis=0, keepdims=0)
    axis = a.axis("dim", len(a.shape(x)))
    return a.onnx(kind, [x], axis=axis, keepdims=int(a.op.attrs.get("keepdim") is True))


add("argmax", lambda a: _found("ArgMax", a))
add("argmin", lambda a: _found("ArgMin", a))


def _truth(kind: str, a: Aten) -> str:
    """any and all, of any type; those of U8 are U8."""
    x = a.tensor("self")
    result = DType.U8 if a.type(x).dtype is DType.U8 else DType.BOOL
    if a.type(x).dtype is not DType.BOOL:
        x = a.onnx("Not", [a.onnx("Equal", [x, a.value(0, a.type(x).dtype)])])
    bits = a.cast(x, DType.I32)
    rank = len(a.shape(x))
    given = a.op.attrs.get("dim")
    axes = list(range(rank)) if given is None else [d % max(rank, 1) for d in a.integers("dim")]
    keep = int(a.op.attrs.get("keepdim") is True)
    return a.cast(a.onnx(kind, [bits, a.value(axes)], keepdims=keep), result)


add("any", lambda a: _truth("ReduceMax", a))
add("all", lambda a: _truth("ReduceMin", a))


def extremes(op: Foreign) -> tuple[Node, ...]:
    """max and min along a dimension, with their places; or of everything."""
    a = Aten(op)
    largest = op.kind.split(".")[1] == "max"
    kinds = ("ReduceMax", "ArgMax") if largest else ("ReduceMin", "ArgMin")
    if op.attrs.get("dim") is None:
        if "other" in op.attrs:
            pair = [a.tensor("self"), a.tensor("other")]
            return a.finish(a.onnx("Max" if largest else "Min", a.promoted(*pair)))
        return a.finish(_reduced(kinds[0], a))
    return a.finished([_reduced(kinds[0], a), _found(kinds[1], a)])


IMPORTERS["torch"].add("aten.max", extremes)
IMPORTERS["torch"].add("aten.min", extremes)
