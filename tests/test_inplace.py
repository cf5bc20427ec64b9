"""Outputs over inputs: only where no element is overwritten before its last read."""

from __future__ import annotations

import numpy as np

from conftest import NO_SEARCH
from midge import driver
from midge.core.types import DType, TensorType
from midge.graph.evaluate import evaluate
from midge.graph.ir import Graph, Node
from midge.run import RUNNERS
from midge.target import load_target

F32 = DType.F32


def compiled(nodes: list[Node], types: dict[str, TensorType], outputs: tuple[str, ...]):
    driver.load_operators()
    graph = Graph("m", ("x",), outputs, types, {}, tuple(nodes))
    return driver.compile_graph(graph, load_target("host"), NO_SEARCH)


def check(made) -> None:
    x = np.arange(made.model.types["x"].elements, dtype=np.float32)
    x = x.reshape(made.model.types["x"].shape)
    want = evaluate(made.model, {"x": x})
    session = RUNNERS["host"].load(made.package, toolchain=None, optimize="speed")
    got = session.run({"x": x}).outputs
    session.close()
    for name, mine in zip(made.model.outputs, made.package_outputs, strict=True):
        np.testing.assert_array_equal(got[mine], want[name])


def test_a_chain_of_elementwise_operators_needs_one_tensor() -> None:
    types = {n: TensorType((4, 8), F32) for n in ("x", "a", "b")}
    nodes = [
        Node("clip", ("x",), ("a",), {"low": 2.0, "high": 9.0}),
        Node("add", ("a", "a"), ("b",)),
    ]
    made = compiled(nodes, types, ("b",))
    assert made.package.arena_size == types["x"].size
    check(made)


def test_a_tensor_that_comes_in_twice_in_two_shapes_is_not_overwritten() -> None:
    types = {
        "x": TensorType((1, 4), F32),
        "t": TensorType((4, 1), F32),
        "y": TensorType((4, 4), F32),
    }
    nodes = [Node("reshape", ("x",), ("t",), {"shape": (4, 1)}), Node("add", ("x", "t"), ("y",))]
    made = compiled(nodes, types, ("y",))
    x, y = made.arena.offset("x"), made.arena.offset("y")
    assert x >= y + types["y"].size or y >= x + types["x"].size
    check(made)


def test_the_same_size_under_another_order_is_not_overwritten() -> None:
    types = {
        "x": TensorType((4, 4), F32),
        "r": TensorType((1, 16), F32),
        "c": TensorType((16, 1), F32),
        "y": TensorType((16, 16), F32),
    }
    nodes = [
        Node("reshape", ("x",), ("r",), {"shape": (1, 16)}),
        Node("reshape", ("x",), ("c",), {"shape": (16, 1)}),
        Node("sub", ("r", "c"), ("y",)),
    ]
    check(compiled(nodes, types, ("y",)))


def test_an_input_that_is_read_again_is_kept() -> None:
    types = {n: TensorType((8,), F32) for n in ("x", "a", "b", "c")}
    nodes = [
        Node("clip", ("x",), ("a",), {"low": 1.0, "high": 3.0}),
        Node("clip", ("x",), ("b",), {"low": 2.0, "high": 6.0}),
        Node("sub", ("a", "b"), ("c",)),
    ]
    made = compiled(nodes, types, ("c", "a"))
    check(made)


def test_an_output_that_is_an_input_gets_memory_of_its_own() -> None:
    types = {"x": TensorType((8,), F32), "y": TensorType((8,), F32)}
    nodes = [Node("add", ("x", "x"), ("y",))]
    check(compiled(nodes, types, ("y", "x")))
