"""ONNX's arithmetic against the reference implementation of the package `onnx`: types, forms
and edges that the official node tests leave out (tests/test_onnx_backend.py runs those)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import midge
from midge import ops
from midge.core.errors import ModelError
from midge.core.types import Array
from midge.frontends.onnx import read
from midge.graph.evaluate import evaluate

RNG = np.random.default_rng(0)


def model(
    kind: str,
    inputs: Sequence[Array],
    attrs: dict[str, Any],
    consts: Sequence[int] = (),
    outputs: int = 1,
    opset: int = 20,
) -> Any:
    """A model of one operator; inputs at the positions `consts` are initialisers."""
    names = [f"x{i}" for i in range(len(inputs))]
    results = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(kind, names, results, **attrs)
    types = [helper.np_dtype_to_tensor_dtype(a.dtype) for a in inputs]
    values = [
        helper.make_tensor_value_info(n, t, a.shape)
        for i, (n, t, a) in enumerate(zip(names, types, inputs, strict=True))
        if i not in consts
    ]
    made = [helper.make_tensor_value_info(n, TensorProto.UNDEFINED, None) for n in results]
    fixed = [numpy_helper.from_array(inputs[i], names[i]) for i in consts]
    graph = helper.make_graph([node], "one", values, made, fixed)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def agree(
    kind: str,
    inputs: Sequence[Array],
    attrs: dict[str, Any] | None = None,
    consts: Sequence[int] = (),
    outputs: int = 1,
    opset: int = 20,
) -> None:
    ops.load()
    proto = model(kind, inputs, attrs or {}, consts, outputs, opset)
    given = {f"x{i}": a for i, a in enumerate(inputs) if i not in consts}
    with np.errstate(all="ignore"):
        want = ReferenceEvaluator(proto).run(None, given)
    have = evaluate(read(proto.SerializeToString(), kind), given)
    for i, expected in enumerate(want):
        got = have[f"y{i}"]
        assert (got.dtype, got.shape) == (expected.dtype, expected.shape), kind
        finite = np.abs(expected[np.isfinite(expected)]) if expected.dtype.kind == "f" else [0]
        atol = 1e-6 * max(1.0, float(np.max(finite, initial=0)))
        np.testing.assert_allclose(got, expected, rtol=2e-6, atol=atol, err_msg=kind)


def refused(kind: str, inputs: Sequence[Array], attrs: dict[str, Any], match: str) -> None:
    ops.load()
    with pytest.raises(ModelError, match=match):
        read(model(kind, inputs, attrs).SerializeToString(), kind)


def floats(*shape: int) -> Array:
    return RNG.normal(0, 3, shape).astype(np.float32)


def integers(dtype: str, *shape: int, low: int = -9, high: int = 9) -> Array:
    return RNG.integers(0 if dtype[0] == "u" else low, high, shape).astype(dtype)


INTEGERS = ["int8", "uint8", "int16", "int32", "int64"]


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("kind", ["Add", "Sub", "Mul", "Max", "Min"])
def test_integers_wrap_around(kind: str, dtype: str) -> None:
    if dtype in ("int32", "int64"):
        agree(kind, [integers(dtype, 3, 4), integers(dtype, 4)])
        return
    every = np.arange(np.iinfo(dtype).min, np.iinfo(dtype).max + 1).astype(dtype)[::7]
    agree(kind, [every.reshape(-1, 1), every[::11]])


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integer_division_truncates(dtype: str) -> None:
    a = integers(dtype, 5, 40, low=-60, high=60)
    b = np.array([1, 2, 3, 5, 7], dtype).reshape(5, 1)
    b = b if dtype[0] == "u" else b * np.array([1, -1, 1, -1, 1], dtype).reshape(5, 1)
    have = a.astype(np.float64) / b.astype(np.float64)
    ops.load()
    proto = model("Div", [a, b], {})
    result = evaluate(read(proto.SerializeToString(), "div"), {"x0": a, "x1": b})["y0"]
    np.testing.assert_array_equal(result, np.trunc(have).astype(dtype))


@pytest.mark.parametrize("dtype", [*INTEGERS, "float32"])
@pytest.mark.parametrize("fmod", [0, 1])
def test_mod(dtype: str, fmod: int) -> None:
    a, b = integers("int32", 60, low=-60, high=60), integers("int32", 60, low=1, high=9)
    signed = b * RNG.choice([-1, 1], 60)
    if dtype[0] == "u":
        a, signed = np.abs(a), b
    if dtype == "float32":
        if fmod:
            agree("Mod", [a.astype(np.float32) / 4, signed.astype(np.float32)], {"fmod": 1})
        else:
            refused("Mod", [floats(3), floats(3)], {}, "fmod")
        return
    agree("Mod", [a.astype(dtype), signed.astype(dtype)], {"fmod": fmod})


@pytest.mark.parametrize("exponent", [-2, -1, -0.5, 0, 0.5, 1, 1.5, 2, 3, 4])
@pytest.mark.parametrize("constant", [True, False])
def test_powers(exponent: float, constant: bool) -> None:
    x = np.abs(floats(40)) + np.float32(0.1)
    consts = [1] if constant else []
    agree("Pow", [x, np.float32([exponent])], consts=consts)
    agree("Pow", [x, np.array(exponent, np.float32)], consts=consts)
    if exponent == int(exponent):
        agree("Pow", [floats(4, 5), np.array([int(exponent)], np.int64)], consts=consts)


def test_powers_of_integers() -> None:
    for dtype in ("int32", "int64"):
        agree("Pow", [integers(dtype, 3, 5), integers("uint8", 5, high=6).astype(np.int32)])
    agree("Pow", [integers("int32", 9, low=0), np.float32([2])])


@pytest.mark.parametrize("dtype", ["float32", *INTEGERS])
def test_clip(dtype: str) -> None:
    x = integers("int32", 40, low=-50, high=50).astype(dtype)
    low, high = np.array(3, dtype), np.array(20, dtype)
    for consts in ([], [1, 2], [1]):
        agree("Clip", [x, low, high], consts=consts)
        agree("Clip", [x, low], consts=[i for i in consts if i < 2])
    agree("Clip", [x])
    agree("Clip", [x, high, low], consts=[1, 2])  # then everything is the maximum


COMPARISONS = ["Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"]


@pytest.mark.parametrize("dtype", ["float32", *INTEGERS])
@pytest.mark.parametrize("kind", COMPARISONS)
def test_comparisons(kind: str, dtype: str) -> None:
    agree(kind, [integers(dtype, 3, 4, high=3), integers(dtype, 4, high=3)])


REDUCTIONS = [
    "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSumSquare",
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp",
]  # fmt: skip


@pytest.mark.parametrize("kind", REDUCTIONS)
@pytest.mark.parametrize("axes", [(0,), (-1,), (0, 2), (1, 2)])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_reductions(kind: str, axes: tuple[int, ...], keepdims: int) -> None:
    """Axes as an input (operator set 18) and as an attribute (13)."""
    x = np.abs(floats(2, 3, 4)) + np.float32(0.1)
    agree(kind, [x, np.array(axes)], {"keepdims": keepdims}, consts=[1])
    if kind != "ReduceSum":
        agree(kind, [x], {"keepdims": keepdims, "axes": axes}, opset=13)


@pytest.mark.parametrize("kind", ["ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd"])
@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_integer_reductions(kind: str, dtype: str) -> None:
    agree(kind, [integers(dtype, 3, 4), np.array([1])], {}, consts=[1])
    agree(kind, [integers(dtype, 3, 4)], {"keepdims": 0})


@pytest.mark.parametrize("kind", ["ReduceSum", "ReduceSumSquare", "ReduceL1"])
def test_sums_that_overflow_wrap(kind: str) -> None:
    x = np.array([[2**31 - 1, 5, -7], [-(2**31) + 1, -9, 2**20], [70000, 70000, 70000]], np.int32)
    ops.load()
    proto = model(kind, [x], {"keepdims": 0}, (), 1, 20)
    wide = x.astype(np.int64)
    parts = {"ReduceSum": wide, "ReduceSumSquare": wide * wide, "ReduceL1": np.abs(wide)}[kind]
    graph = read(proto.SerializeToString(), kind)
    want = np.array(parts.sum()).astype(np.int32)
    assert evaluate(graph, {"x0": x})["y0"] == want
    package = midge.compile(graph, search=False, prove=False)
    assert midge.run(package, x, on="host").outputs["y0"] == want


def test_reductions_of_nothing() -> None:
    x = floats(2, 3)
    empty = np.array([], np.int64)
    agree("ReduceSum", [x, empty], {"noop_with_empty_axes": 1}, consts=[1])
    agree("ReduceMax", [x, empty], {"keepdims": 0}, consts=[1])


@pytest.mark.parametrize("kind", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("dtype", ["float32", "int8", "int64"])
def test_places(kind: str, last: int, dtype: str) -> None:
    x = integers("int8", 3, 9, high=2).astype(dtype)
    for axis, keep in ((0, 1), (-1, 0)):
        agree(kind, [x], {"axis": axis, "keepdims": keep, "select_last_index": last})


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("kind", ["Softmax", "LogSoftmax", "Hardmax"])
def test_softmax_over_any_axis(kind: str, axis: int) -> None:
    agree(kind, [floats(3, 4, 5)], {"axis": axis})
    if kind != "LogSoftmax":  # of which the reference has the logarithm of 0
        agree(kind, [floats(3, 4, 5) * np.float32(200)], {"axis": axis})


def test_log_softmax_of_great_differences() -> None:
    ops.load()
    x = np.float32([[0, 1e4, -1e30, 9999]])
    graph = read(model("LogSoftmax", [x], {}).SerializeToString(), "log")
    want = x - (1e4 + np.log1p(np.exp(-1)))
    np.testing.assert_allclose(evaluate(graph, {"x0": x})["y0"], want, rtol=1e-6)


def test_activations_are_stable_far_from_zero() -> None:
    x = np.float32([-1e4, -300, -90, -20, -1e-3, 0, 1e-3, 20, 90, 300, 1e4])
    for kind in ("Softplus", "Mish", "Elu", "Selu", "Celu", "Gelu", "Sigmoid", "Tanh", "Softsign"):
        agree(kind, [x])
    agree("Gelu", [x], {"approximate": "tanh"})


MATRICES = [
    ((3, 4), (4, 5)), ((2, 3, 4), (4, 5)), ((2, 3, 4), (2, 4, 5)), ((4,), (4, 5)), ((3, 4), (4,)),
    ((4,), (4,)), ((2, 1, 3, 4), (3, 4, 2)), ((4,), (2, 4, 5)), ((2, 3, 4), (4,)),
]  # fmt: skip


@pytest.mark.parametrize("shapes", MATRICES, ids=str)
def test_matmul(shapes: Any) -> None:
    a, b = (floats(*s) for s in shapes)
    for consts in ([], [0], [1]):
        agree("MatMul", [a, b], consts=consts)
    agree("MatMul", [integers("int32", *shapes[0]), integers("int32", *shapes[1])])


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize("shapes", [((3, 4), (4, 5)), ((2, 3, 4), (2, 4, 5)), ((1, 1), (1, 1))],
                         ids=str)  # fmt: skip
def test_matmul_of_integers(shapes: Any, dtype: str) -> None:
    """Differences of any bytes to any zero points."""
    a, b = (integers(dtype, *s) for s in shapes)
    ends = np.iinfo(dtype)
    a.flat[0], b.flat[0] = ends.min, ends.max
    for zeros in ([], [ends.max], [ends.min, ends.max]):
        points = [np.array(z, dtype) for z in zeros]
        for consts in ([], [0], [1]):
            agree("MatMulInteger", [a, b, *points], consts=[*consts, *range(2, 2 + len(points))])


def test_a_constant_matrix_makes_a_dense_layer() -> None:
    ops.load()
    proto = model("MatMul", [floats(1, 7, 4), floats(4, 5)], {}, [1])
    nodes = read(proto.SerializeToString(), "m").nodes
    assert [n.op for n in nodes] == ["reshape", "dense", "reshape"]


EQUATIONS = {
    "ij->ji": ((2, 3),), "ij->": ((2, 3),), "ij->i": ((2, 3),), "...ii->...i": ((2, 3, 3),),
    "ii": ((3, 3),), "i,i": ((4,), (4,)), "i,j->ij": ((2,), (3,)), "ij,jk->ik": ((2, 3), (3, 4)),
    "ij,kj->ik": ((2, 3), (4, 3)), "bij,bjk->bik": ((2, 3, 4), (2, 4, 5)),
    "bhid,bhjd->bhij": ((1, 2, 3, 4), (1, 2, 5, 4)), "...ij,...jk->...ik": ((2, 3, 4), (4, 5)),
    "bij,jk->bik": ((2, 3, 4), (4, 5)), "ij,ij->ij": ((2, 3), (2, 3)), "ij,j": ((2, 3), (3,)),
    "ij,jk,kl->il": ((2, 3), (3, 4), (4, 5)), "bqhd,bkhd->bhqk": ((1, 3, 2, 4), (1, 5, 2, 4)),
    "ijk,k->ij": ((2, 3, 4), (4,)), "ij,kl->ik": ((2, 3), (4, 5)),
}  # fmt: skip


@pytest.mark.parametrize("equation", EQUATIONS)
def test_einsum(equation: str) -> None:
    arrays = [floats(*s) for s in EQUATIONS[equation]]
    agree("Einsum", arrays, {"equation": equation})
    if len(arrays) > 1:
        agree("Einsum", arrays, {"equation": equation}, consts=[1])


@pytest.mark.parametrize("equation", ["ij,jk->iq", "ij->i", "i.j->ij", "ij,jk"])
def test_bad_equations_are_refused(equation: str) -> None:
    arrays = [floats(2, 3), floats(4, 5)]
    refused("Einsum", arrays, {"equation": equation}, "equation|letter|result")


@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize("constant", [True, False])
def test_gather(dtype: str, constant: bool) -> None:
    consts = [1] if constant else []
    at = np.array([[1, -1], [0, -3]], dtype)
    for axis in (0, 1, -1):
        agree("Gather", [floats(3, 4, 5), at], {"axis": axis}, consts)
    agree("GatherElements", [floats(3, 4), np.array([[0, -1, 2, -3]], dtype)], {"axis": 0}, consts)
    agree("Gather", [integers("int8", 5, 2), np.array(2, dtype)], {}, consts)


def test_indices_outside_are_taken_to_the_nearest() -> None:
    ops.load()
    x, at = floats(4), np.array([7, -9, 3, -4])
    graph = read(model("Gather", [x, at], {}).SerializeToString(), "gather")
    np.testing.assert_array_equal(evaluate(graph, {"x0": x, "x1": at})["y0"], x[[3, 0, 3, 0]])


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
def test_scatter(reduction: str) -> None:
    x, updates = floats(4, 5), floats(2, 5)
    at = np.array([[0, 1, 2, 3, 0], [1, 0, 3, 2, -1]])
    attrs = {"reduction": reduction}
    agree("ScatterElements", [x, at, updates], {**attrs, "axis": 0})
    agree("ScatterND", [x, np.array([[3], [1]]), updates], attrs)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("largest", [0, 1])
def test_top_k(axis: int, largest: int) -> None:
    x = integers("int8", 4, 6, high=3).astype(np.float32)
    agree("TopK", [x, np.array([3])], {"axis": axis, "largest": largest}, [1], outputs=2)


@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
def test_cumulative_sums(exclusive: int, reverse: int) -> None:
    attrs = {"exclusive": exclusive, "reverse": reverse}
    for axis in (0, -1):
        agree("CumSum", [floats(3, 4), np.array(axis)], attrs, [1])


@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_one_hot(axis: int) -> None:
    at = np.array([[0, -1], [3, 7]])
    agree("OneHot", [at, np.array(4), np.float32([0.5, 2])], {"axis": axis}, [1, 2])


CASTS = ["float32", *INTEGERS, "bool"]


@pytest.mark.parametrize("target", CASTS)
@pytest.mark.parametrize("source", CASTS)
def test_cast(source: str, target: str) -> None:
    if source == "float32":
        x = np.abs(floats(40)) if target == "uint8" else floats(40)
    else:
        x = integers("int32", 40, low=-400, high=400).astype(source)
    agree("Cast", [x], {"to": helper.np_dtype_to_tensor_dtype(np.dtype(target))})


BAD: list[tuple[str, list[Array], dict[str, Any], str]] = [
    ("Softmax", [floats(2, 3)], {"axis": 2}, "axis"),
    ("Softmax", [floats(2, 3)], {"axis": 1.5}, "axis"),
    ("Elu", [floats(2)], {"alpha": "much"}, "alpha"),
    ("Celu", [floats(2)], {"alpha": 0.0}, "alpha"),
    ("Gelu", [floats(2)], {"approximate": "maybe"}, "approximate"),
    ("MatMul", [floats(2, 3), floats(4, 5)], {}, "multiply"),
    ("Where", [floats(2), floats(2), floats(2)], {}, "f32"),
    ("Add", [floats(2), integers("int32", 2)], {}, "i32"),
    ("ScatterND", [floats(2), integers("int64", 1, 1), floats(1)], {"reduction": "?"}, "reduction"),
    ("PRelu", [floats(2), floats(3)], {}, "broadcast"),
    ("Exp", [integers("int32", 2)], {}, "i32"),
]


@pytest.mark.parametrize(("kind", "inputs", "attrs", "match"), BAD)
def test_what_cannot_be_is_refused(
    kind: str, inputs: list[Array], attrs: dict[str, Any], match: str
) -> None:
    refused(kind, inputs, attrs, match)
