"""Comparisons, SELECT, LOGICAL_*, CAST, ARG_MAX, GATHER, reductions and BATCH_MATMUL against
LiteRT's reference kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from oracle import OPTIMISED, both_refuse, quant, random, same
from tflite_builder import TFLiteModel

NONE = (None, 0)
KINDS = {
    "EQUAL": "EqualOptions", "NOT_EQUAL": "NotEqualOptions", "LESS": "LessOptions",
    "LESS_EQUAL": "LessEqualOptions", "GREATER": "GreaterOptions",
    "GREATER_EQUAL": "GreaterEqualOptions",
}  # fmt: skip
SHAPES = [((2, 3, 4), (2, 3, 4)), ((2, 3, 4), (4,)), ((1, 3, 1), (2, 1, 4)), ((5,), (1,))]


def few(rng: np.random.Generator, shape: Any, dtype: str) -> Any:
    """Values of which many are equal."""
    return rng.integers(0, 2 if dtype == "bool" else 4, shape).astype(dtype)


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "int32", "int64"])
@pytest.mark.parametrize("kind", KINDS)
def test_comparisons(kind: str, dtype: str, shapes: Any) -> None:
    rng = np.random.default_rng(0)
    m = TFLiteModel()
    a, b = (few(rng, s, dtype) for s in shapes)
    y = m.value(np.broadcast_shapes(*shapes), "bool")
    m.op(kind, [m.input(a.shape, dtype), m.input(b.shape, dtype)], [y], KINDS[kind])
    data = m.build([y])
    same(data, {"t1": a, "t2": b})


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", KINDS)
def test_comparisons_of_int8(kind: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    m = TFLiteModel()
    qa = quant(rng, "int8", -3, -0.1)
    qb = qa if seed % 2 else quant(rng, "int8", -3, -0.1)
    a, b = random(rng, (40, 40), "int8"), random(rng, (40,), "int8")
    y = m.value((40, 40), "bool")
    inputs = [m.input(a.shape, "int8", *qa), m.input(b.shape, "int8", *qb)]
    m.op(kind, inputs, [y], KINDS[kind])
    same(m.build([y]), {"t1": a, "t2": b})


@pytest.mark.parametrize("dtype", ["float32", "int8", "int32", "bool"])
@pytest.mark.parametrize("kind", ["SELECT", "SELECT_V2"])
def test_select(kind: str, dtype: str) -> None:
    rng = np.random.default_rng(0)
    q = quant(rng, dtype)
    for shape in ((3, 4), (3,)) if kind == "SELECT" else ((3, 4), (3, 1), ()):
        m = TFLiteModel()
        c, a, b = few(rng, shape, "bool"), *(random(rng, (3, 4), dtype) for _ in "ab")
        inputs = [m.input(shape, "bool"), m.input((3, 4), dtype, *q), m.input((3, 4), dtype, *q)]
        y = m.value((3, 4), dtype, *q)
        m.op(kind, inputs, [y], "SelectOptions" if kind == "SELECT" else "SelectV2Options")
        same(m.build([y]), {"t0": c, "t1": a, "t2": b})


@pytest.mark.parametrize("kind", ["LOGICAL_AND", "LOGICAL_OR", "LOGICAL_NOT"])
def test_logic(kind: str) -> None:
    rng = np.random.default_rng(0)
    m = TFLiteModel()
    values = [few(rng, (2, 9), "bool") for _ in range(1 if kind == "LOGICAL_NOT" else 2)]
    inputs = [m.input(v.shape, "bool") for v in values]
    y = m.value((2, 9), "bool")
    m.op(kind, inputs, [y], {"LOGICAL_AND": "LogicalAndOptions"}.get(kind, ""))
    same(m.build([y]), {f"t{i}": v for i, v in enumerate(values)})


CASTS = ["float32", "int8", "uint8", "int16", "int32", "int64", "bool"]


@pytest.mark.parametrize("target", CASTS)
@pytest.mark.parametrize("source", CASTS)
def test_cast(source: str, target: str) -> None:
    """Floats within the range of the target: beyond it C++ leaves the result open."""
    rng = np.random.default_rng(0)
    x = random(rng, (60,), source)
    if source == "float32":
        x = np.abs(x) if target == "uint8" else x
    m = TFLiteModel()
    y = m.value(x.shape, target)
    a = m.input(x.shape, source)
    m.op("CAST", [a], [y], "CastOptions")
    same(m.build([y]), {"t1": x})


@pytest.mark.parametrize("dtype", ["float32", "int8", "int32"])
@pytest.mark.parametrize("kind", ["ARG_MAX", "ARG_MIN"])
def test_places(kind: str, dtype: str) -> None:
    rng = np.random.default_rng(0)
    for shape, axis, out in (((3, 9), 1, "int32"), ((2, 3, 4), 0, "int64"), ((5,), -1, "int64")):
        m = TFLiteModel()
        x = few(rng, shape, dtype)
        a = m.input(shape, dtype, *quant(rng, dtype))
        k = m.const(np.array([axis], np.int32))
        y = m.value(shape[:axis] + shape[axis:][1:], out)
        code = getattr(m.schema.TensorType, out.upper())
        name = "ArgMaxOptions" if kind == "ARG_MAX" else "ArgMinOptions"
        m.op(kind, [a, k], [y], name, outputType=code)
        same(m.build([y]), {"t0": x})


@pytest.mark.parametrize("dtype", ["float32", "int8", "int32"])
def test_gather(dtype: str) -> None:
    rng = np.random.default_rng(0)
    q = quant(rng, dtype)
    for shape, index, axis, batch in (
        ((7, 3), (4,), 0, 0), ((2, 5, 3), (2, 2), 1, 0), ((2, 5, 3), (2, 4), 1, 1),
    ):  # fmt: skip
        m = TFLiteModel()
        x = random(rng, shape, dtype)
        at = rng.integers(0, shape[axis], index).astype(np.int32)
        a, i = m.input(shape, dtype, *q), m.input(index, "int32")
        y = m.value(shape[:axis] + index[batch:] + shape[axis + 1 :], dtype, *q)
        m.op("GATHER", [a, i], [y], "GatherOptions", axis=axis, batchDims=batch)
        same(m.build([y]), {"t0": x, "t1": at})


def test_gather_nd() -> None:
    rng = np.random.default_rng(0)
    m = TFLiteModel()
    x, at = random(rng, (4, 5, 3), "float32"), rng.integers(0, 4, (6, 2)).astype(np.int32)
    a, i = m.input(x.shape, "float32"), m.input(at.shape, "int32")
    y = m.value((6, 3), "float32")
    m.op("GATHER_ND", [a, i], [y], "GatherNdOptions")
    same(m.build([y]), {"t0": x, "t1": at})


def reduction(
    kind: str, shape: Any, axes: Any, keep: bool, dtype: str, q: Any = NONE, qy: Any = NONE
) -> bytes:
    m = TFLiteModel()
    a = m.input(shape, dtype, *q)
    k = m.const(np.array(axes, np.int32))
    kept = np.zeros(shape).sum(tuple(axes), keepdims=keep).shape
    y = m.value(kept, dtype, *qy)
    m.op(kind, [a, k], [y], "ReducerOptions", keepDims=keep)
    return m.build([y])


REDUCTIONS = [((2, 3, 4), (1,)), ((2, 3, 4), (0, 2)), ((2, 3, 4), (-1,)), ((1, 4, 5, 2), (1, 2))]


@pytest.mark.parametrize(("shape", "axes"), REDUCTIONS)
@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("kind", ["SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD"])
def test_reductions(kind: str, keep: bool, shape: Any, axes: Any) -> None:
    rng = np.random.default_rng(0)
    for dtype in ("float32", "int32", "int64"):
        x = few(rng, shape, dtype) + np.ones(1, dtype)
        same(reduction(kind, shape, axes, keep, dtype), {"t0": x})


@pytest.mark.parametrize("axes", [(1,), (0, 1)])
def test_extremes_of_infinities(axes: Any) -> None:
    """LiteRT begins with the least and the greatest number, but where all axes go: -inf is what
    the logarithm of zeros is."""
    x = np.float32([[-np.inf] * 3, [np.inf] * 3, [-np.inf, 1, np.inf], [-np.inf, -np.inf, -5]])
    for kind in ("REDUCE_MAX", "REDUCE_MIN"):
        for given in (x, x[:1], x[1:2]):
            same(reduction(kind, given.shape, axes, True, "float32"), {"t0": given})


@pytest.mark.parametrize(("shape", "axes"), REDUCTIONS)
@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_quantised_reductions(dtype: str, shape: Any, axes: Any) -> None:
    rng = np.random.default_rng(0)
    q = quant(rng, dtype)
    x = random(rng, shape, dtype)
    for kind in ("REDUCE_MAX", "REDUCE_MIN"):
        same(reduction(kind, shape, axes, True, dtype, q, q), {"t0": x})
        both_refuse(reduction(kind, shape, axes, True, dtype, q, (q[0] * 2, 0)), {"t0": x})


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_quantised_sums(dtype: str, keep: bool) -> None:
    """LiteRT's reference kernel reads the signed bytes as unsigned ones."""
    rng = np.random.default_rng(0)
    scales = [quant(rng, dtype) for _ in range(4)]
    halves = (0.5, 0), (4.0, 0)  # ties
    pairs = [*zip(scales[:2], scales[2:], strict=True), halves, (scales[0], scales[0])]
    for shape, axes in [*REDUCTIONS, ((3, 1), (1,)), ((1, 1), (0, 1)), ((2, 500), (1,))]:
        for q, qy in pairs:
            data = reduction("SUM", shape, axes, keep, dtype, q, qy)
            same(data, {"t0": random(rng, shape, dtype)}, kernels=OPTIMISED)


MATRICES = [
    ((3, 5), (5, 4)), ((2, 3, 5), (2, 5, 4)), ((2, 1, 3, 5), (1, 4, 5, 2)), ((1, 6, 7), (7, 3)),
]  # fmt: skip


@pytest.mark.parametrize("shapes", MATRICES, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "int8", "int16"])
@pytest.mark.parametrize("turned", range(4))
def test_products_of_matrices(dtype: str, shapes: Any, turned: int) -> None:
    for seed in range(3):
        rng = np.random.default_rng(seed)
        qa, qb, qy = (quant(rng, dtype) for _ in range(3))
        if dtype != "float32":
            qy = (qa[0] * qb[0] * 10 ** rng.uniform(1, 3 if dtype == "int8" else 5), qy[1])
        m = TFLiteModel()
        a, b = (random(rng, s, dtype) for s in shapes)
        out = np.matmul(np.zeros(a.shape), np.zeros(b.shape)).shape
        if turned & 1:
            a = np.ascontiguousarray(a.swapaxes(-1, -2))
        if turned & 2:
            b = np.ascontiguousarray(b.swapaxes(-1, -2))
        x = m.input(a.shape, dtype, *qa)
        constant = seed == 2
        z = m.const(b, *qb) if constant else m.input(b.shape, dtype, *qb)
        y = m.value(out, dtype, *qy)
        fields = {"adjX": bool(turned & 1), "adjY": bool(turned & 2)}
        m.op("BATCH_MATMUL", [x, z], [y], "BatchMatMulOptions", **fields)
        inputs = {"t0": a} if constant else {"t0": a, "t1": b}
        same(m.build([y]), inputs)
