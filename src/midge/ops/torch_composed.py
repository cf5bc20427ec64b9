"""PyTorch's operators that are a few of ONNX's each: norms, distances, gates, rare functions."""

from __future__ import annotations

import math

import numpy as np

from midge.core.types import DType
from midge.graph.importers import IMPORTERS, Foreign
from midge.graph.ir import Node
from midge.ops._torch import Aten, add
from midge.ops.torch_elementwise import operands, rest_of
from midge.ops.torch_reduce import variance
from midge.ops.torch_shapes import cut


def _number(a: Aten, value: float) -> str:
    return a.value(value, DType.F32)


def glu(a: Aten) -> str:
    """One half times the sigmoid of the other."""
    x = a.tensor("self")
    axis = a.axis("dim", len(a.shape(x)), -1)
    half = a.shape(x)[axis] // 2
    if 2 * half != a.shape(x)[axis]:
        raise a.op.error(f"{a.shape(x)[axis]} elements have no halves")
    gate = a.onnx("Sigmoid", [cut(a, x, axis, half, 2 * half)])
    return a.onnx("Mul", [cut(a, x, axis, 0, half), gate])


def _norm(a: Aten, x: str, order: float, axes: list[int], keep: bool) -> str:
    """The p-norm over some axes."""
    names, keepdims = a.value(axes), int(keep)
    if order == 2:
        return a.onnx("ReduceL2", [x, names], keepdims=keepdims)
    size = a.onnx("Abs", [x])
    if order == 1:
        return a.onnx("ReduceSum", [size, names], keepdims=keepdims)
    if math.isinf(order):
        return a.onnx("ReduceMax" if order > 0 else "ReduceMin", [size, names], keepdims=keepdims)
    if order == 0:
        raise a.op.error("a norm of order 0 is not supported", "count with (x != 0).sum()")
    powers = a.onnx("Pow", [size, _number(a, order)])
    total = a.onnx("ReduceSum", [powers, names], keepdims=keepdims)
    return a.onnx("Pow", [total, _number(a, 1 / order)])


def _axes(a: Aten, x: str) -> list[int]:
    """The dimensions in the argument dim, all without it."""
    rank = len(a.shape(x))
    given = a.op.attrs.get("dim")
    return list(range(rank)) if given in (None, ()) else [d % rank for d in a.integers("dim")]


def vector_norm(a: Aten) -> str:
    x = a.typed(a.tensor("self"))
    order = a.number("ord" if "ord" in a.op.attrs else "p", 2.0)
    return _norm(a, x, order, _axes(a, x), a.op.attrs.get("keepdim") is True)


def pairwise_distance(a: Aten) -> str:
    """The p-norm of x1 - x2 + eps, over the last dimension."""
    difference = a.onnx("Sub", [a.tensor("x1"), a.tensor("x2")])
    moved = a.onnx("Add", [difference, _number(a, a.number("eps", 1e-6))])
    axis = len(a.shape(moved)) - 1
    return _norm(a, moved, a.number("p", 2.0), [axis], a.op.attrs.get("keepdim") is True)


def cosine_similarity(a: Aten) -> str:
    """The product of both, each divided by its length, which is at least eps."""
    sides = [a.tensor("x1"), a.tensor("x2")]
    axis = a.axis("dim", max(len(a.shape(v)) for v in sides), 1)
    least = _number(a, a.number("eps", 1e-8))
    lengths = [a.onnx("Max", [_norm(a, v, 2.0, [axis], keep=True), least]) for v in sides]
    unit = [a.onnx("Div", [v, n]) for v, n in zip(sides, lengths, strict=True)]
    return a.onnx("ReduceSum", [a.onnx("Mul", unit), a.value([axis])], keepdims=0)


def weight_norm(a: Aten) -> str:
    """v * g / |v|, where the norm is over all dimensions but one."""
    v, g = a.tensor("v"), a.tensor("g")
    rank, axis = len(a.shape(v)), a.integer("dim", 0)
    rest = [d for d in range(rank) if axis == -1 or d != axis % rank]
    return a.onnx("Mul", [v, a.onnx("Div", [g, _norm(a, v, 2.0, rest, keep=True)])])


def rms_norm(a: Aten) -> str:
    """x / sqrt(mean(x^2) + eps) * weight; eps is by default the type's."""
    x, weight = a.tensor("input"), a.tensor("weight")
    rank = len(a.shape(x))
    axes = a.value(list(range(rank - len(a.integers("normalized_shape")), rank)))
    mean = a.onnx("ReduceMean", [a.onnx("Mul", [x, x]), axes], keepdims=1)
    epsilon = a.number("eps", float(np.finfo(np.float32).eps))
    factor = a.node("rsqrt", [a.onnx("Add", [mean, _number(a, epsilon)])])
    y = a.onnx("Mul", [x, factor])
    return a.onnx("Mul", [y, weight]) if weight else y


add("glu", glu)
add("linalg_vector_norm norm", vector_norm)
add("pairwise_distance", pairwise_distance)
add("cosine_similarity", cosine_similarity)
add("_weight_norm", weight_norm)
add("rms_norm", rms_norm)


def _fraction(kind: str, x: str, y: str, a: Aten) -> str:
    """x + value * (x y) or (x / y)."""
    part = a.onnx(kind, [x, y])
    if a.number("value", 1.0) != 1.0:
        part = a.onnx("Mul", [part, _number(a, a.number("value"))])
    return a.onnx("Add", [a.tensor("self"), part])


def lerp(a: Aten) -> str:
    x = a.tensor("self")
    step = a.onnx("Sub", [a.tensor("end"), x])
    return a.onnx("Add", [x, a.onnx("Mul", [step, a.operand("weight", DType.F32)])])


add("addcmul", lambda a: _fraction("Mul", a.tensor("tensor1"), a.tensor("tensor2"), a))
add("addcdiv", lambda a: _fraction("Div", a.tensor("tensor1"), a.tensor("tensor2"), a))
add("lerp", lerp)


def vector_product(a: Aten) -> str:
    """mv, dot: a sum over the last dimension."""
    names = ("self", "vec" if "vec" in a.op.attrs else "tensor")
    return a.onnx("MatMul", [a.tensor(n) for n in names])


def outer(a: Aten) -> str:
    column, row = a.tensor("self"), a.tensor("vec2")
    return a.onnx("Mul", [a.reshape(column, (*a.shape(column), 1)), row])


add("mv dot", vector_product)
add("outer", outer)


def shrunk(a: Aten, kept: float) -> str:
    """x beyond +-lambd, by `kept` * lambd nearer to 0; 0 between."""
    limit = a.number("lambd", 0.5)
    return a.onnx("Shrink", [a.tensor("self")], lambd=limit, bias=kept * limit)


def threshold(a: Aten) -> str:
    x = a.tensor("self")
    above = a.onnx("Greater", [x, _number(a, a.number("threshold"))])
    return a.onnx("Where", [above, x, _number(a, a.number("value"))])


def rrelu(a: Aten) -> str:
    """Outside of training: a leaky ReLU with the mean slope."""
    if a.op.attrs.get("training") is True:
        raise a.op.error("rrelu is in training mode", "export the model after model.eval()")
    slope = (a.number("lower", 1 / 8) + a.number("upper", 1 / 3)) / 2
    return a.onnx("LeakyRelu", [a.tensor("self")], alpha=slope)


def logarithm(base: float, a: Aten) -> str:
    return a.onnx("Mul", [a.onnx("Log", [a.tensor("self")]), _number(a, 1 / math.log(base))])


def exponential(a: Aten) -> str:
    return a.onnx("Exp", [a.onnx("Mul", [a.tensor("self"), _number(a, math.log(2))])])


def remainder(a: Aten) -> str:
    """What remains, with the sign of y; of integers, ONNX's Mod."""
    x, y = operands(a)
    if a.type(x).dtype.is_integer:
        return a.onnx("Mod", [x, y])
    rest, turned = rest_of(a, x, y)
    return a.onnx("Where", [turned, a.onnx("Add", [rest, y]), rest])


def logit(a: Aten) -> str:
    """log(x / (1 - x)), x within [eps, 1 - eps]."""
    x = a.tensor("self")
    if a.op.attrs.get("eps") is not None:
        ends = (a.number("eps"), 1 - a.number("eps"))
        x = a.onnx("Clip", [x, *(_number(a, v) for v in ends)])
    return a.onnx("Log", [a.onnx("Div", [x, a.onnx("Sub", [_number(a, 1.0), x])])])


add("hardshrink", lambda a: shrunk(a, 0.0))
add("softshrink", lambda a: shrunk(a, 1.0))
add("threshold", threshold)
add("rrelu", rrelu)
add("log2", lambda a: logarithm(2.0, a))
add("log10", lambda a: logarithm(10.0, a))
add("exp2", exponential)
add("remainder", remainder)
add("logit", logit)
add("erfc", lambda a: a.onnx("Sub", [_number(a, 1.0), a.onnx("Erf", [a.tensor("self")])]))
add("frac", lambda a: a.onnx("Sub", [a.tensor("self"), a.node("trunc", [a.tensor("self")])]))


def _moments(op: Foreign) -> tuple[Node, ...]:
    """var_mean, std_mean: both of their outputs."""
    a = Aten(op)
    spread = variance(a)
    if op.kind == "aten.std_mean":
        spread = a.onnx("Sqrt", [spread])
    x = a.tensor("self")
    keep = int(op.attrs.get("keepdim") is True)
    mean = a.onnx("ReduceMean", [x, a.value(_axes(a, x))], keepdims=keep)
    return a.finished([spread, mean])


IMPORTERS["torch"].add("aten.var_mean", _moments)
IMPORTERS["torch"].add("aten.std_mean", _moments)


def _largest(op: Foreign) -> tuple[Node, ...]:
    """topk; sort and argsort are topk of all."""
    a = Aten(op)
    x = a.tensor("self")
    shape = a.shape(x)
    name = op.kind.split(".")[1]
    axis = a.axis("dim", len(shape), -1)
    flag = op.attrs.get("largest" if name == "topk" else "descending", name == "topk")
    count = a.integer("k") if name == "topk" else shape[axis]
    values, places = a.named(), a.named()
    attrs = {"axis": axis, "largest": int(flag is True), "sorted": 1}
    a.call("TopK", [x, a.value([count])], attrs, values, places)
    return a.finished([places] if name == "argsort" else [values, places])


for _name in ("topk", "sort", "argsort"):
    IMPORTERS["torch"].add(f"aten.{_name}", _largest)


def one_hot(a: Aten) -> str:
    depth = a.integer("num_classes", -1)
    if depth < 1:
        raise a.op.error("the number of classes is not given", "one_hot(x, num_classes)")
    values = a.value([0, 1], DType.I64)
    return a.onnx("OneHot", [a.tensor("self"), a.value([depth]), values], axis=-1)


def triangle(upper: int, a: Aten) -> str:
    x = a.tensor("self")
    k = a.value(a.integer("diagonal", 0))
    if a.type(x).dtype is not DType.BOOL:
        return a.onnx("Trilu", [x, k], upper=upper)
    return a.cast(a.onnx("Trilu", [a.cast(x, DType.I32), k], upper=upper), DType.BOOL)


add("one_hot", one_hot)
add("tril", lambda a: triangle(0, a))
add("triu", lambda a: triangle(1, a))
