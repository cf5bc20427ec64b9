"""fuse_gelu and sink_reshapes: before and after, and what must stay as it is."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pytest

from midge import driver
from midge.core.types import Array, DType, TensorType
from midge.graph.evaluate import evaluate
from midge.graph.ir import OPS, Attrs, Graph, Node
from midge.passes import run
from midge.passes.avoid_division import avoid_division
from midge.passes.drop_dead import drop_dead
from midge.passes.fold_scale_and_bias import fold_scale_and_bias
from midge.passes.fuse_gelu import fuse_gelu
from midge.passes.sink_reshapes import sink_reshapes

RNG = np.random.default_rng(0)


@dataclass
class Net:
    """A float graph under construction; `x` is its input."""

    shape: tuple[int, ...]
    types: dict[str, TensorType] = field(default_factory=dict)
    consts: dict[str, Array] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)

    def __post_init__(self) -> None:
        driver.load_operators()
        self.types["x"] = TensorType(self.shape, DType.F32)

    def const(self, value: Array | float) -> str:
        array = np.asarray(value, np.float32)
        name = f"c{len(self.consts)}"
        self.consts[name], self.types[name] = array, TensorType(array.shape, DType.F32)
        return name

    def __call__(self, op: str, *inputs: str | float | Array, **attrs: object) -> str:
        names = [n if isinstance(n, str) else self.const(n) for n in inputs]
        out = f"v{len(self.nodes)}"
        given: Attrs = attrs  # type: ignore[assignment]
        (self.types[out],) = OPS[op].infer([self.types[n] for n in names], given)
        self.nodes.append(Node(op, tuple(names), (out,), given))
        return out

    def graph(self, *outputs: str) -> Graph:
        return Graph("net", ("x",), outputs, self.types, self.consts, tuple(self.nodes))


def unchanged_in_value(before: Graph, after: Graph) -> None:
    x = {"x": RNG.normal(0, 2, before.types["x"].shape).astype(np.float32)}
    want, have = evaluate(before, x), evaluate(after, x)
    for name, array in want.items():
        np.testing.assert_allclose(have[name], array, rtol=1e-5, atol=1e-5)


def ops(graph: Graph) -> list[str]:
    return [n.op for n in graph.nodes]


@pytest.mark.parametrize("form", range(4))
@pytest.mark.parametrize("inner", range(2))
def test_gelu_by_erf(form: int, inner: int) -> None:
    net = Net((3, 4))
    arg = net("mul", math.sqrt(0.5), "x") if inner else net("div", "x", math.sqrt(2))
    one = net("add", net("erf", arg), 1.0)
    y = (
        lambda: net("mul", net("mul", "x", one), 0.5),
        lambda: net("mul", net("mul", 0.5, "x"), one),
        lambda: net("mul", "x", net("mul", one, 0.5)),
        lambda: net("mul", net("div", "x", 2.0), one),
    )[form]()
    graph = net.graph(y)
    after = run((fuse_gelu, drop_dead), graph)
    assert ops(after) == ["gelu"]
    unchanged_in_value(graph, after)


@pytest.mark.parametrize("form", range(3))
def test_gelu_by_tanh(form: int) -> None:
    net = Net((3, 4))
    cube = (
        lambda: net("mul", net("pow", "x", 3.0), 0.044715),
        lambda: net("mul", 0.044715, net("mul", net("mul", "x", "x"), "x")),
        lambda: net("mul", net("mul", 0.044715, "x"), net("mul", "x", "x")),
    )[form]()
    inner = net("mul", math.sqrt(2 / math.pi), net("add", "x", cube))
    y = net("mul", net("mul", 0.5, "x"), net("add", 1.0, net("tanh", inner)))
    graph = net.graph(y)
    after = run((fuse_gelu, drop_dead), graph)
    assert ops(after) == ["gelu"]
    unchanged_in_value(graph, after)


def test_gelu_of_a_product() -> None:
    """The input is itself a multiplication."""
    net = Net((3, 4))
    x = net("mul", "x", RNG.normal(size=4))
    one = net("add", net("erf", net("div", x, math.sqrt(2))), 1.0)
    graph = net.graph(net("mul", net("mul", x, one), 0.5))
    after = run((fuse_gelu, drop_dead), graph)
    assert ops(after) == ["mul", "gelu"]
    unchanged_in_value(graph, after)


@pytest.mark.parametrize("what", ["factor", "root", "two readers", "output"])
def test_other_products_stay(what: str) -> None:
    net = Net((3, 4))
    e = net("erf", net("div", "x", 2.0 if what == "root" else math.sqrt(2)))
    one = net("add", e, 1.0)
    y = net("mul", net("mul", "x", one), 0.6 if what == "factor" else 0.5)
    more = {"two readers": [net("exp", e)], "output": [one]}.get(what, [])
    graph = net.graph(y, *more)
    assert ops(fuse_gelu(graph)) == ops(graph)


def dense(net: Net, x: str, rows: int, k: int, n: int, shape: tuple[int, ...]) -> str:
    flat = net("reshape", x, shape=(rows, k))
    y = net("dense", flat, RNG.normal(size=(n, k)))
    return net("reshape", y, shape=shape)


def test_bias_and_activation_reach_the_layer() -> None:
    net = Net((2, 3, 4))
    y = dense(net, "x", 6, 4, 5, (2, 3, 5))
    y = net("gelu", net("add", y, RNG.normal(size=(1, 1, 5))))
    graph = net.graph(dense(net, y, 6, 5, 4, (2, 3, 4)))
    after = run((sink_reshapes, fold_scale_and_bias, drop_dead), graph)
    assert ops(after) == ["reshape", "dense", "gelu", "dense", "reshape"]
    unchanged_in_value(graph, after)


def test_residuals_and_rows_sink_too() -> None:
    net = Net((2, 3, 4))
    y = net("add", "x", dense(net, "x", 6, 4, 4, (2, 3, 4)))
    y = net("sub", y, net("mean", y, axes=(2,)))
    graph = net.graph(net("mul", y, 2.0))
    after = run((sink_reshapes, drop_dead), graph)
    assert ops(after)[-1] == "reshape"
    assert all(len(after.types[n.outputs[0]].shape) == 2 for n in after.nodes if n.op == "sub")
    unchanged_in_value(graph, after)


@pytest.mark.parametrize("shape", [(3, 1), (2, 1, 1), (2, 3, 5)])
def test_operands_of_other_shapes(shape: tuple[int, ...]) -> None:
    net = Net((2, 3, 4))
    y = dense(net, "x", 6, 4, 5, (2, 3, 5))
    graph = net.graph(net("add", y, RNG.normal(size=shape)))
    after = run((sink_reshapes,), graph)
    unchanged_in_value(graph, after)
    assert (ops(after) == ops(graph)) == (shape != (2, 3, 5))


def test_divisions_become_multiplications() -> None:
    net = Net((2, 4))
    root = net("sqrt", net("mul", "x", "x"))
    y = net("add", net("div", "x", root), net("div", "x", np.array([1, 2, -3, 0.1])))
    graph = net.graph(y)
    after = avoid_division(graph)
    assert ops(after) == ["mul", "rsqrt", "mul", "mul", "add"]
    unchanged_in_value(graph, after)


def test_divisions_by_zero_and_shared_roots_stay() -> None:
    net = Net((2, 4))
    root = net("sqrt", net("mul", "x", "x"))
    y = net("div", net("div", "x", root), np.array([1, 0, -3, 0.1]))
    graph = net.graph(y, root)
    assert ops(avoid_division(graph)) == ops(graph)
