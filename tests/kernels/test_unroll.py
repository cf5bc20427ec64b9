"""How much of their loops micro-kernels write out."""

from __future__ import annotations

import numpy as np
import pytest
from layer_checks import check, layer, options_of

from midge.core.types import Array, DType, TensorType
from midge.driver import load_operators
from midge.graph.ir import OPS, Attrs, Graph, Node

MOST_LINES = 370  # of assembler, 2 or 4 bytes each: about a KB
LONG = 256  # channels: more steps than are ever written out


def requantized(op: str, x: tuple[int, ...], w: tuple[int, ...], padding: int = 0) -> Graph:
    """An int8 layer whose sums become int8 again."""
    graph = layer(op, x, w, DType.I8, padding=(padding,) * 4)
    types = dict(graph.types)
    count = w[OPS[op].channel_axis or 0]
    consts: dict[str, Array] = dict(graph.consts)
    consts["m"] = np.full(count, 1 << 30, np.int32)
    consts["s"] = np.full(count, 9, np.int32)
    types |= {n: TensorType((count,), DType.I32) for n in ("m", "s")}
    attrs: Attrs = {"zero_out": 3, "low": -128, "high": 127, "dtype": "i8", "rounding": "right"}
    inputs = ("y", "m", "s")
    (types["z"],) = OPS["requantize"].infer([types[n] for n in inputs], attrs)
    nodes = (*graph.nodes, Node("requantize", inputs, ("z",), attrs))
    return Graph("g", ("x",), ("z",), types, consts, nodes)


LAYERS = {
    "pointwise": ("conv2d", (1, 3, 4, LONG), (10, 1, 1, LONG), 0),
    "windows": ("conv2d", (1, 5, 6, 64), (6, 3, 3, 64), 1),
    "one channel": ("conv2d", (1, 12, 10, 1), (8, 10, 4, 1), 0),
    "depthwise": ("depthwise_conv2d", (1, 9, 40, 4), (1, 3, 3, 4), 1),
    "a small depthwise": ("depthwise_conv2d", (1, 6, 6, 4), (1, 3, 3, 4), 1),
    "fully connected": ("dense", (1, LONG), (18, LONG), 0),
}


def longest(graph: Graph, goal: str, unroll: bool) -> int:
    """Lines of the longest micro-kernel of all candidates."""
    load_operators()
    made = options_of(graph, "cortex-m4", goal, unroll)
    return max(len(i.asm) for o in made for i in o.kernel.instructions.values())


@pytest.mark.parametrize("goal", ["speed", "balanced", "size"])
@pytest.mark.parametrize("name", LAYERS)
def test_micro_kernels_fit_a_small_cache(name: str, goal: str) -> None:
    op, x, w, padding = LAYERS[name]
    assert 0 < longest(requantized(op, x, w, padding), goal, unroll=False) <= MOST_LINES


@pytest.mark.parametrize("name", LAYERS)
def test_unrolled_they_are_longer_and_right(name: str) -> None:
    op, x, w, padding = LAYERS[name]
    graph = requantized(op, x, w, padding)
    usual, unrolled = (longest(graph, "speed", unroll=u) for u in (False, True))
    assert unrolled > usual
    check(graph, "cortex-m4", "speed", unroll=True)


def test_floats() -> None:
    graph = layer("conv2d", (1, 3, 4, LONG), (8, 1, 1, LONG), DType.F32)
    assert 0 < longest(graph, "speed", unroll=False) < longest(graph, "speed", unroll=True)
    assert longest(graph, "speed", unroll=False) <= MOST_LINES
    check(graph, "cortex-m4", "speed", unroll=True)
