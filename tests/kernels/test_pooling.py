"""Pools and sums: every way to compute them that a target offers gives the reference."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midge import driver
from midge.core.types import Array, DType, TensorType
from midge.data import random_inputs
from midge.graph.evaluate import evaluate as evaluate_graph
from midge.graph.ir import OPS, Attrs, Graph, Node
from midge.kernels.arm_dsp.pooling import pool_of
from midge.kernels.generic.spans import Span, spans
from midge.loop import ir
from midge.loop.evaluate import evaluate
from midge.loop.text import print_expr
from midge.loop.verify import verify
from midge.lower.averages import average
from midge.lower.candidates import Option, Request, options
from midge.lower.fuse import fuse
from midge.lower.layouts import CHANNELS_FIRST, Layouts
from midge.lower.space import Goal
from midge.target import load_target

TARGETS = ("cortex-m4", "cortex-m3", "cortex-m0plus")


def graph_of(op: str, shape: tuple[int, ...], attrs: Attrs, tail: bool, dtype: DType) -> Graph:
    """The operator alone, or with a table behind it."""
    driver.load_operators()
    types = {"x": TensorType(shape, dtype)}
    (types["p"],) = OPS[op].infer([types["x"]], attrs)
    nodes = [Node(op, ("x",), ("p",), attrs)]
    if not tail or types["p"].dtype is not DType.I8:
        return Graph("g", ("x",), ("p",), types, {}, tuple(nodes))
    table = np.random.default_rng(0).permutation(256).astype(np.uint8).view(np.int8)
    types |= {"t": TensorType((256,), DType.I8), "y": types["p"]}
    nodes.append(Node("lookup", ("p", "t"), ("y",), {}))
    return Graph("g", ("x",), ("y",), types, {"t": table}, tuple(nodes))


def check(
    graph: Graph, target: str, layouts: Layouts | None = None, optimize: str = "speed"
) -> list[str]:
    """All options against the reference; their names."""
    (group,) = fuse(graph)
    request = Request(graph, group, load_target(target), layouts or {})
    every = list(options(request, Goal(optimize)))
    x = graph.types["x"]
    values = [*random_inputs(graph, 1, 0)]
    if x.dtype.is_integer:
        values += [{"x": np.full(x.shape, v, x.dtype.numpy)} for v in (x.dtype.min, x.dtype.max)]
    for given_ in values:
        (want,) = evaluate_graph(graph, given_).values()
        for option in every:
            np.testing.assert_array_equal(result(option, graph, given_["x"], layouts or {}), want)
    return [o.candidate.name for o in every]


def result(option: Option, graph: Graph, x: Array, layouts: Layouts) -> Array:
    func = option.kernel.func
    meanings = {n: i.meaning for n, i in option.kernel.instructions.items()}
    verify(func, option.kernel.instructions)
    memory = {}
    for p, value in zip(func.params, option.args, strict=True):
        if p.mode == "in":
            order = layouts.get("x", tuple(range(x.ndim)))
            memory[p.name] = np.ascontiguousarray(x.transpose(order)).reshape(p.shape)
        elif p.mode == "const":
            memory[p.name] = option.consts[value].reshape(p.shape)
        else:
            memory[p.name] = np.full(p.shape, 77, p.dtype.numpy)
    evaluate(func, memory, meanings)
    (output,) = graph.outputs
    y = graph.types[output].shape
    order = layouts.get(output, tuple(range(len(y))))
    stored = memory[func.params[-1].name].reshape([y[axis] for axis in order])
    return stored.transpose(np.argsort(order))


def pool(
    window: tuple[int, int], strides: tuple[int, int], padding: tuple[int, int, int, int]
) -> Attrs:
    return {"window": window, "strides": strides, "dilations": (1, 1), "padding": padding}


@st.composite
def pools(draw: st.DrawFn) -> Graph:
    sizes = st.integers(1, 7)
    window = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    padding = tuple(draw(st.integers(0, window[i // 2] - 1)) for i in range(4))
    height, width = (
        max(draw(sizes), window[i] - padding[2 * i] - padding[2 * i + 1]) for i in range(2)
    )
    strides = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    channels = draw(st.sampled_from([1, 3, 4, 5, 8, 16, 18]))
    dtype = draw(st.sampled_from([DType.I8, DType.I8, DType.I8, DType.I16]))
    op = draw(st.sampled_from(["avg_pool2d", "max_pool2d"]))
    attrs = pool(window, strides, padding)  # type: ignore[arg-type]
    return graph_of(op, (1, height, width, channels), attrs, draw(st.booleans()), dtype)


@given(pools(), st.sampled_from(TARGETS))
@settings(max_examples=120)
def test_any_pool(graph: Graph, target: str) -> None:
    check(graph, target)


@pytest.mark.parametrize("op", ["avg_pool2d", "max_pool2d"])
def test_what_a_target_offers(op: str) -> None:
    """Windows of the micro-kernel where there is one, spans where there is padding."""
    padded = graph_of(op, (1, 6, 6, 8), pool((3, 3), (2, 2), (0, 1, 0, 1)), False, DType.I8)
    plain = graph_of(op, (1, 6, 6, 8), pool((2, 2), (2, 2), (0, 0, 0, 0)), False, DType.I8)
    words = "rows" if op == "max_pool2d" else "windows"
    assert check(padded, "cortex-m4") == [words, "spans", "spans", "loops"]
    assert check(padded, "cortex-m3") == ["spans", "spans", "loops"]
    assert check(padded, "cortex-m0plus") == ["spans", "loops"]
    assert check(plain, "cortex-m4") == [words, "loops"]
    assert check(plain, "cortex-m3") == ["loops"]
    assert check(padded, "cortex-m4", optimize="size") == ["loops", "loops"]


def test_where_the_micro_kernel_does_not_fit() -> None:
    """Too few channels, too many taps for 16 bits, 16-bit elements, several images, a layout."""
    whole = pool((17, 16), (1, 1), (0, 0, 0, 0))
    assert check(graph_of("avg_pool2d", (1, 17, 16, 4), whole, False, DType.I8), "cortex-m4") == [
        "loops"
    ]
    assert (
        check(graph_of("max_pool2d", (1, 17, 16, 4), whole, False, DType.I8), "cortex-m4")[0]
        == "rows"
    )
    small = pool((2, 2), (1, 1), (0, 0, 0, 0))
    for shape, dtype in (
        ((1, 3, 3, 3), DType.I8),
        ((1, 3, 3, 4), DType.I16),
        ((2, 3, 3, 4), DType.I8),
    ):
        assert check(graph_of("avg_pool2d", shape, small, False, dtype), "cortex-m4") == ["loops"]
    graph = graph_of("max_pool2d", (1, 3, 3, 4), small, False, DType.I8)
    assert check(graph, "cortex-m4", {"x": CHANNELS_FIRST}) == ["loops"]
    assert check(graph, "cortex-m4", {"p": CHANNELS_FIRST}) == ["windows", "loops"]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((1, 5, 4, 8), (1, 2)), ((1, 9, 6), (1,)), ((7, 5), (0,)), ((1, 1, 1, 4), (0, 1, 2)),
        ((1, 4, 4, 3), (1, 2)), ((1, 5, 4, 8), (3,)), ((2, 5, 4, 8), (1, 2)),
        ((1, 5, 4, 8), (1, 2, 3)), ((1, 16, 17, 4), (1, 2)), ((3, 4, 5, 6), (0, 2)),
    ],
)  # fmt: skip
def test_sums(shape: tuple[int, ...], axes: tuple[int, ...], target: str) -> None:
    for zero in (0, -128, 9):
        graph = graph_of("sum", shape, {"axes": axes, "x_zero": zero}, False, DType.I8)
        names = check(graph, target)
        fits = pool_of(graph, graph.nodes[0]) is not None and np.prod(shape[:-1]) <= 256
        assert ("windows" in names) == (fits and target == "cortex-m4")


def test_a_mean_of_the_model_is_fused_with_its_requantisation() -> None:
    driver.load_operators()
    attrs: Attrs = {"shift": 10, "low": -128, "high": 127, "dtype": "i8"}
    consts = {"f": np.array([53], np.int32), "o": np.array([512], np.int32)}
    types = {n: TensorType(a.shape, DType.I32) for n, a in consts.items()}
    types |= {"x": TensorType((1, 4, 4, 8), DType.I8), "s": TensorType((1, 1, 1, 8), DType.I32)}
    types["y"] = TensorType((1, 1, 1, 8), DType.I8)
    total = Node("sum", ("x",), ("s",), {"axes": (1, 2), "x_zero": -3})
    nodes = (total, Node("affine", ("s", "f", "o"), ("y",), attrs))
    graph = Graph("g", ("x",), ("y",), types, consts, nodes)
    assert check(graph, "cortex-m4")[0] == "windows"


@given(
    st.integers(1, 12), st.integers(1, 5), st.integers(1, 4), st.integers(0, 4), st.integers(0, 4)
)
def test_spans_tell_where_every_window_is(
    size: int, taps: int, stride: int, before: int, after: int
) -> None:
    outputs = (size + before + after - taps) // stride + 1
    found = spans(size, taps, stride, before, max(outputs, 0))
    windows = [(s.start + i * stride, s.taps) for s in found for i in range(s.number)]
    want = []
    for o in range(max(outputs, 0)):
        inside = [
            t for t in range(o * stride - before, o * stride - before + taps) if 0 <= t < size
        ]
        want.append((inside[0] if inside else None, len(inside)))
    assert [n for _, n in windows if n > 0] == [n for _, n in want if n]
    assert all(a == b for a, b in zip(windows, want, strict=True) if b[1])
    assert [s.first for s in found] == list(np.cumsum([0, *(s.number for s in found)])[:-1])


def test_spans_of_a_padded_axis() -> None:
    assert spans(5, 3, 1, 1, 5) == (Span(0, 1, 0, 2), Span(1, 3, 0, 3), Span(4, 1, 3, 2))
    assert spans(6, 2, 2, 0, 3) == (Span(0, 3, 0, 2),)


def test_averages_of_bytes_need_no_division() -> None:
    for count in range(1, 264):
        assert "/" not in print_expr(average(ir.Load("x", ()), count, DType.I8)), count


@pytest.mark.parametrize("dtype", [DType.I8, DType.I16])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 9, 25, 49, 64, 125, 256, 264, 1024])
def test_averages_are_rounded_away_from_zero(count: int, dtype: DType) -> None:
    """As the operator's reference, for sums from the least to the greatest."""
    rng = random.Random(count)
    ends = (count * dtype.min, count * dtype.max)
    around = [t + d for t in (0, *ends, count // 2, -(count // 2)) for d in (-1, 0, 1)]
    some = [rng.randint(*ends) for _ in range(300)]
    sums = np.array([t for t in (*around, *some) if ends[0] <= t <= ends[1]], np.int32)
    i = ir.Var("i")
    value = average(ir.Load("x", (i,)), count, dtype)
    params = (
        ir.Param("x", DType.I32, sums.shape, "in"), ir.Param("y", DType.I32, sums.shape, "out"),
    )  # fmt: skip
    func = ir.Func("f", params, (ir.Loop("i", len(sums), (ir.Store("y", (i,), value),)),))
    verify(func)
    memory = {"x": sums, "y": np.zeros_like(sums)}
    evaluate(func, memory)
    wide = sums.astype(np.int64)
    want = np.sign(wide) * ((np.abs(wide) + count // 2) // count)
    np.testing.assert_array_equal(memory["y"], want)
