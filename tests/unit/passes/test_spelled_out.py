"""GELU and hard swish as they are spelled out, and what only looks like them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from test_transformer_passes import Net

from midge import driver
from midge.core.types import DType, TensorType
from midge.data import random_inputs
from midge.graph.evaluate import evaluate
from midge.graph.ir import Graph, verify
from midge.passes import GraphPass, run
from midge.passes.avoid_division import avoid_division
from midge.passes.drop_dead import drop_dead
from midge.passes.fold_constants import fold_constants
from midge.passes.fuse_gelu import fuse_gelu
from midge.passes.fuse_hard_swish import fuse_hard_swish
from midge.passes.move_transposes import move_transposes
from midge.passes.sink_reshapes import sink_reshapes
from test_passes import text


def one(net: Net, value: str = "x") -> str:
    """1 + erf(value / sqrt(2))"""
    return net("add", net("erf", net("mul", value, math.sqrt(0.5))), 1.0)


def cubic(net: Net, factor: float = math.sqrt(2 / math.pi)) -> str:
    inner = net("add", "x", net("mul", net("pow", "x", 3.0), 0.044715))
    return net("add", net("tanh", net("mul", inner, factor)), 1.0)


def product(net: Net, *factors: str | float) -> str:
    """One multiplied by the next, and so on."""
    value, *others = factors
    for other in others:
        value = net("mul", value, other)
    assert isinstance(value, str)
    return value


def ramp(net: Net, value: str = "x", op: str = "clip") -> str:
    moved = net("add", value, 3.0)
    return net("clip", moved, low=0.0, high=6.0) if op == "clip" else net(op, moved)


def relu(net: Net, op: str, a: str, b: str | float) -> str:
    return net(op, a, b, activation="relu")


Make = Callable[[Net], str]

GELU: dict[str, Make] = {
    "erf last": lambda net: net("mul", product(net, "x", 0.5), one(net)),
    "erf first": lambda net: product(net, one(net), "x", 0.5),
    "below two products": lambda net: product(net, one(net), 0.5, 1.0, "x"),
    "of a value that is computed": lambda net: (
        lambda t: net("mul", product(net, t, 0.5), one(net, t))
    )(net("mul", "z", 2.0)),
    "tanh": lambda net: net("mul", product(net, "x", 0.5), cubic(net)),
    "by a factor near enough": lambda net: net(
        "mul", product(net, "x", 0.500049), one(net)),
}  # fmt: skip
NO_GELU: dict[str, Make] = {
    "below three products": lambda net: product(net, one(net), 0.5, 1.0, 1.0, "x"),
    "below four products": lambda net: product(net, one(net), 0.5, 1.0, 1.0, 1.0, "x"),
    "by a factor too far": lambda net: net("mul", product(net, "x", 0.50006), one(net)),
    "without the value": lambda net: net("mul", one(net), 0.5),
    "with its square": lambda net: net("mul", product(net, "x", "x", 0.5), one(net)),
    "with another value": lambda net: net("mul", product(net, "z", 0.5), one(net)),
    "with its root": lambda net: net("mul", product(net, net("sqrt", "x"), 0.5), one(net)),
    "with 3 more": lambda net: net("mul", product(net, net("add", "x", 3.0), 0.5), one(net)),
    "by a vector": lambda net: net("mul", product(net, "x", np.full(4, 0.5)), one(net)),
    "erf of another value": lambda net: net(
        "mul", product(net, "x", 0.5), net("add", net("erf", "z"), 1.0)),
    "erf of a maximum": lambda net: net(
        "mul", product(net, "x", 0.5),
        net("add", net("erf", net("maximum", "x", math.sqrt(0.5))), 1.0)),
    "no erf there": lambda net: net(
        "add", net("mul", product(net, "x", 0.5), net("add", "z", 1.0)), net("erf", "x")),
    "tanh of a product with another value": lambda net: net(
        "mul", product(net, "x", 0.5),
        net("add", net("tanh", net("mul", "z", math.sqrt(2 / math.pi))), 1.0)),
    "of another shape": lambda net: net(
        "mul", net("mul", "row", np.full((1, 1), 0.5)), one(net, "row")),
    "by what somebody else reads": lambda net: (
        lambda t: net("add", product(net, t, "x"), t)
    )(product(net, one(net), 0.5)),
}  # fmt: skip
SWISH: dict[str, Make] = {
    "a sixth after": lambda net: net("mul", net("mul", "x", ramp(net)), 1 / 6),
    "a sixth before": lambda net: net("mul", net("div", ramp(net), 6.0), "x"),
    "a ramp": lambda net: net("mul", net("hard_sigmoid", "x", alpha=1 / 6, beta=0.5), "x"),
}
NO_SWISH: dict[str, Make] = {
    "a steeper ramp, halved": lambda net: net(
        "mul", product(net, net("hard_sigmoid", "x", alpha=1 / 3, beta=0.5), 0.5), "x"),
    "a ramp, doubled": lambda net: net(
        "mul", product(net, net("hard_sigmoid", "x", alpha=1 / 6, beta=0.5), 2.0), "x"),
    "no clip there": lambda net: net(
        "add", net("mul", product(net, ramp(net, op="tanh"), 1 / 6), "x"), ramp(net)),
    "not divided": lambda net: net("mul", "x", ramp(net)),
    "no product": lambda net: net("div", net("add", "x", ramp(net)), 6.0),
    "of what came in": lambda net: net("add", net("div", "z", 6.0), "x"),
    "by a vector": lambda net: net("div", net("mul", "x", ramp(net)), np.full(4, 6.0)),
    "of another shape": lambda net: net(
        "mul", net("mul", "row", ramp(net, "row")), np.full((1, 1), 1 / 6)),
    "limited below": lambda net: net(
        "mul", relu(net, "mul", ramp(net), -1 / 6), net("mul", "x", -1.0)),
    "limited before": lambda net: relu(net, "div", net("mul", "x", ramp(net)), 6.0),
    "of another value": lambda net: net("div", net("mul", "z", ramp(net)), 6.0),
}  # fmt: skip


def built(make: Make) -> Graph:
    net = Net((3, 4))
    net.types["z"] = net.types["x"]
    net.types["row"] = TensorType((4,), DType.F32)
    return replace(net.graph(make(net)), inputs=("x", "z", "row"))


def cases(**tables: dict[str, Make]) -> list[tuple[str, str]]:
    return [(kind, name) for kind, table in tables.items() for name in table]


TABLES = {"gelu": GELU, "no gelu": NO_GELU, "hard_swish": SWISH, "no hard_swish": NO_SWISH}


@pytest.mark.parametrize(("kind", "name"), cases(**TABLES))
def test_what_is_recognised(kind: str, name: str) -> None:
    before = built(TABLES[kind][name])
    step = fuse_gelu if "gelu" in kind else fuse_hard_swish
    after = run((step, drop_dead), before)
    op = kind.split()[-1]
    assert (op in [n.op for n in after.nodes]) is not kind.startswith("no ")
    for x in random_inputs(before, 0, 2):
        (want,), (have,) = evaluate(before, x).values(), evaluate(after, x).values()
        np.testing.assert_allclose(have, want, rtol=1e-3, atol=1e-3)


def test_integers_are_no_hard_swish() -> None:
    net = Net((3, 4))
    net.types["x"] = TensorType((3, 4), DType.I32)
    whole = {n: net.const(v) for n, v in (("3", 3.0), ("6", 6.0))}
    for name in whole.values():
        net.consts[name] = net.consts[name].astype(np.int32)
        net.types[name] = TensorType((), DType.I32)
    clipped = net("clip", net("add", "x", whole["3"]), low=0.0, high=6.0)
    graph = net.graph(net("div", net("mul", "x", clipped), whole["6"]))
    verify(graph)
    assert run((fuse_hard_swish,), graph) == graph


def test_integers_are_divided() -> None:
    driver.load_operators()
    graph = text("""
graph g(x: i32[3]):
  const c: i32[3] = [1, 2, -3]
  y: i32[3] = div(x, c)
  return y""")
    assert run((avoid_division,), graph) == graph


@pytest.mark.parametrize("most", [1 << 20, (1 << 20) + 1])
def test_constants_are_computed_up_to_so_many(most: int) -> None:
    net = Net((1,))
    large = net("tile", net.const(np.ones(1)), repeats=(most,))
    graph = net.graph(net("mul", large, "x"))
    left = [n.op for n in run((fold_constants,), graph).nodes]
    assert left == (["mul"] if most == 1 << 20 else ["tile", "mul"])


@pytest.mark.parametrize("step", [fuse_gelu, fuse_hard_swish, move_transposes, sink_reshapes])
def test_what_has_nothing_to_do_gives_back_the_graph(step: GraphPass) -> None:
    driver.load_operators()
    graph = built(lambda net: net("add", "x", "z"))
    assert step(graph) is graph
