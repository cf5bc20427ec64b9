"""Layers and pools at the edge of what their kernels expect: windows beside the image, sums that
others read, leaves that are values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from layer_checks import layer, options_of, result
from test_int16 import node_of, requantization, request_of, typed

import templates
from forests import forest
from midge import driver
from midge.core.types import DType, TensorType
from midge.data import random_inputs
from midge.graph.evaluate import evaluate
from midge.graph.ir import Graph, Node
from midge.kernels.arm_dsp.int16 import sums_of
from midge.kernels.arm_dsp.pooling import pool_of
from midge.kernels.generic.spans import pool_spans
from midge.lower.candidates import Request, options
from midge.lower.fuse import Group, fuse
from midge.lower.space import Goal
from midge.target import load_target

# taps, strides, padding: of an image of 3 x 3 pixels.
BESIDE = [
    ((1, 2), (1, 1), (0, 0, 3, 0)),
    ((3, 3), (1, 1), (1, 1, 6, 0)),
    ((3, 3), (1, 1), (0, 0, 0, 6)),
    ((1, 1), (1, 9), (0, 0, 1, 0)),
    ((1, 2), (1, 9), (0, 0, 3, 0)),
    ((2, 1), (1, 1), (3, 0, 0, 0)),
]


@pytest.mark.parametrize("dtype", [DType.I8, DType.I16, DType.F32], ids=lambda d: d.name)
@pytest.mark.parametrize(("taps", "strides", "padding"), BESIDE)
def test_windows_beside_the_image(
    taps: tuple[int, int], strides: tuple[int, int], padding: tuple[int, int, int, int],
    dtype: DType,
) -> None:  # fmt: skip
    graph = layer("conv2d", (1, 3, 3, 2), (2, *taps, 2), dtype, strides=strides, padding=padding)
    if dtype is DType.I16:
        graph = with_bytes(graph)
    (group,), (inputs,) = fuse(graph), random_inputs(graph, 1, 0)
    (want,) = evaluate(graph, inputs).values()
    for small in (False, True):
        request = Request(graph, group, load_target("cortex-m4"), {}, small=small)
        found = [*options(request, Goal())]
        assert {o.candidate.name for o in found} - {"loops"}
        for option in found:
            got = result(option, graph, inputs)
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * dtype.is_float)


@pytest.mark.parametrize("family", ["arm_dsp", "arm_dsp_winograd", "arm_dsp_int16"])
def test_nothing_is_copied_for_them(family: str) -> None:
    """No instruction has an operand without elements."""
    dtype = DType.I16 if "int16" in family else DType.I8
    for taps, strides, padding in BESIDE:
        graph = layer(
            "conv2d", (1, 3, 3, 2), (2, *taps, 2), dtype, strides=strides, padding=padding
        )
        graph = with_bytes(graph) if dtype is DType.I16 else graph
        (group,) = fuse(graph)
        for small in (False, True):
            request = Request(graph, group, load_target("cortex-m4"), {}, small=small)
            for made in templates.made(f"conv2d/{family}", request):
                used = made.instructions.values()
                assert all(p.elements > 0 for i in used for p in i.meaning.params), made.name


def with_bytes(graph: Graph) -> Graph:
    """With weights and a bias as int16 layers have them."""
    w, b = graph.consts["w"], graph.consts["b"]
    consts = {"w": (w % 255 - 127).astype(np.int8), "b": b.astype(np.int64)}
    types = {n: TensorType(a.shape, DType.of(a)) for n, a in consts.items()}
    return replace(graph, consts=consts, types={**graph.types, **types})


# Sums of int16 layers.


@pytest.mark.parametrize(
    ("nodes", "scaled"),
    [
        ((), True),
        ((Node("add", ("q", "z"), ("y",)),), True),
        ((Node("add", ("q", "acc"), ("y",)),), False),
        ((Node("cast", ("q",), ("y",)), Node("add", ("y", "acc"), ("total",))), False),
    ],
)
def test_sums_that_another_reads_stay_sums(nodes: tuple[Node, ...], scaled: bool) -> None:
    driver.load_operators()
    scales, attrs = requantization("wide", 3, 0)
    consts = {"w": np.ones((3, 8), np.int8), "b": np.zeros(3, np.int64), **scales}
    dense, scale = Node("dense", ("x", "w", "b"), ("acc",), {}), node_of("wide", scales, attrs)
    request = request_of(typed((1, 8), consts, (dense, scale)))
    group = Group((dense, scale, *nodes), dense)
    assert (sums_of(replace(request, group=group)).scaling is not None) == scaled
    of_other = replace(scale, inputs=("z", *scale.inputs[1:]))
    group = Group((dense, of_other, *nodes), dense)
    assert sums_of(replace(request, group=group)).scaling is None


# Pools.


@pytest.mark.parametrize(
    ("shape", "axes", "y", "taken"),
    [
        ((1, 5, 6, 8), (1, 2), (1, 1, 1, 8), True),
        ((1, 5, 6, 8), (1, 2), (1, 8), True),
        ((1, 5, 6, 8), (1,), (1, 6, 8), False),
        ((1, 1, 8, 8), (3,), (1, 1, 8), False),
        ((1, 5, 6, 3), (1, 2), (1, 3), False),
        ((1, 0, 6, 8), (1, 2), (1, 8), False),
        ((1, 1, 1, 8), (1, 2), (1, 8), True),
    ],
)
def test_sums_over_a_whole_image(
    shape: tuple[int, ...], axes: tuple[int, ...], y: tuple[int, ...], taken: bool
) -> None:
    types = {"x": TensorType(shape, DType.I8), "y": TensorType(y, DType.I32)}
    node = Node("sum", ("x",), ("y",), {"axes": axes})
    found = pool_of(Graph("g", ("x",), ("y",), types, {}, (node,)), node)
    assert (found is not None) == taken


@pytest.mark.parametrize(
    ("window", "padding", "outputs", "spans"),
    [
        ((2, 2), (1, 0, 0, 1), (6, 6), True),
        ((2, 2), (2, 0, 0, 0), (7, 5), False),  # the first row has no tap
        ((2, 2), (0, 0, 0, 2), (5, 7), False),
        ((5, 1), (2, 2, 0, 0), (6, 6), False),  # five kinds of rows
        ((4, 1), (2, 1, 0, 0), (6, 6), True),
    ],
)
def test_spans_of_pools(
    window: tuple[int, int], padding: tuple[int, ...], outputs: tuple[int, int], spans: bool
) -> None:
    types = {n: TensorType((1, *s, 4), DType.I8) for n, s in (("x", (6, 6)), ("y", outputs))}
    attrs = {"window": window, "strides": (1, 1), "dilations": (1, 1), "padding": padding}
    node = Node("max_pool2d", ("x",), ("y",), attrs)
    found = pool_spans(Graph("g", ("x",), ("y",), types, {}, (node,)), node)
    assert (found is not None) == spans


# Trees.


def test_leaves_that_are_what_they_add() -> None:
    graph = with_leaves(forest(DType.I16, DType.I32, seed=3, classes=1, width=9))
    rng = np.random.default_rng(0)
    every = options_of(graph, "cortex-m3")
    assert {"branches", "tables"} <= {o.candidate.name for o in every}
    for _ in range(8):
        inputs = {"x": rng.integers(-8, 8, (1, 9)).astype(np.int16)}
        (want,) = evaluate(graph, inputs).values()
        for option in every:
            np.testing.assert_array_equal(result(option, graph, inputs), want)


def with_leaves(graph: Graph) -> Graph:
    """With a leaf of its own value at every end of its trees."""
    splits = graph.consts["splits"].copy()
    ends = splits[:, 1:3] < 0
    count = int(ends.sum())
    splits[:, 1:3][ends] = ~np.arange(count)
    values = np.random.default_rng(1).permutation(count) + 1
    made = {"splits": splits, "values": values.astype(np.int32)[:, None],
            "targets": np.zeros((count, 1), np.int32)}  # fmt: skip
    types = {n: TensorType(a.shape, DType.of(a)) for n, a in made.items()}
    consts = {**graph.consts, **made}
    return replace(graph, consts=consts, types={**graph.types, **types})
