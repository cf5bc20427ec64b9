"""Graphs of tiny tensors, most extents 1: what looks for an axis finds none."""

from __future__ import annotations

import random
from math import prod

import numpy as np
import pytest

from conftest import NO_SEARCH
from midge import driver, pipeline
from midge.core.types import Array, DType, TensorType
from midge.graph.evaluate import evaluate
from midge.graph.ir import OPS, Attrs, Graph, Node
from midge.run import RUNNERS
from midge.target import load_target

EXTENTS = (1, 1, 1, 2, 3)


class Maker:
    """A random float graph of what networks do with small tensors."""

    def __init__(self, seed: int) -> None:
        driver.load_operators()
        self.rng, self.numbers = random.Random(seed), np.random.default_rng(seed)
        self.types: dict[str, TensorType] = {}
        self.consts: dict[str, Array] = {}
        self.nodes: list[Node] = []
        shape = tuple(self.rng.choice(EXTENTS) for _ in range(self.rng.choice((2, 3, 3, 4, 4))))
        self.types["x"] = TensorType(shape, DType.F32)
        self.last = "x"
        self.values = ["x"]

    def emit(self, op: str, *inputs: str, **attrs: object) -> str:
        given: Attrs = attrs  # type: ignore[assignment]
        name = f"v{len(self.nodes)}"
        (self.types[name],) = OPS[op].infer([self.types[n] for n in inputs], given)
        self.nodes.append(Node(op, inputs, (name,), given, f"node {len(self.nodes)}", op))
        return name

    def const(self, shape: tuple[int, ...]) -> str:
        name = f"c{len(self.consts)}"
        self.consts[name] = self.numbers.normal(0, 1, shape).astype(np.float32)
        self.types[name] = TensorType(shape, DType.F32)
        return name

    @property
    def shape(self) -> tuple[int, ...]:
        return self.types[self.last].shape

    def step(self) -> None:
        kinds = [self.layer] * 2 + [self.binary] * 3 + [self.function] * 2
        kinds += [self.reshaped, self.turned, self.reduced]
        if len(self.shape) == 4:
            kinds += [self.image] * 3
        self.last = self.rng.choice(kinds)()
        self.values.append(self.last)

    def layer(self) -> str:
        """A matrix product over the last axis, as the frontends read it."""
        units = self.rng.choice(EXTENTS)
        rows = (prod(self.shape[:-1]), self.shape[-1])
        flat = self.emit("reshape", self.last, shape=rows)
        bias = [self.const((units,))] if self.rng.random() < 0.5 else []
        y = self.emit("dense", flat, self.const((units, rows[1])), *bias)
        return self.emit("reshape", y, shape=(*self.shape[:-1], units))

    def binary(self) -> str:
        op = self.rng.choice(("add", "mul", "sub", "maximum"))
        other = [v for v in self.values if self.types[v].shape == self.shape]
        if self.rng.random() < 0.4:
            return self.emit(op, self.last, self.rng.choice(other))
        shape = tuple(n if self.rng.random() < 0.6 else 1 for n in self.shape)
        if self.rng.random() < 0.4:
            shape = shape[self.rng.randrange(len(shape)) :]
        elif len(shape) < 5 and self.rng.random() < 0.2:
            shape = (1,) * (6 - len(shape)) if self.rng.random() < 0.5 else (1, *shape)
        pair = [self.last, self.const(shape)]
        return self.emit(op, *(pair if self.rng.random() < 0.7 else pair[::-1]))

    def function(self) -> str:
        kind = self.rng.choice(("tanh", "logistic", "abs", "softmax", "clip"))
        attrs = {"softmax": {"beta": 1.0}, "clip": {"low": 0.0, "high": 6.0}}.get(kind, {})
        return self.emit(kind, self.last, **attrs)

    def reshaped(self) -> str:
        ones = [1] * self.rng.randrange(3)
        shape = [n for n in self.shape if n > 1] + ones
        self.rng.shuffle(shape)
        return self.emit("reshape", self.last, shape=tuple(shape) or (1,))

    def turned(self) -> str:
        perm = list(range(len(self.shape)))
        self.rng.shuffle(perm)
        return self.emit("transpose", self.last, perm=tuple(perm))

    def reduced(self) -> str:
        axes = sorted(self.rng.sample(range(len(self.shape)), self.rng.randint(1, len(self.shape))))
        return self.emit(
            self.rng.choice(("mean", "reduce_max", "sum")), self.last, axes=tuple(axes)
        )

    def image(self) -> str:
        _, h, w, c = self.shape
        kh, kw = self.rng.randint(1, h), self.rng.randint(1, w)
        window: Attrs = {
            "strides": (self.rng.choice((1, 2)), 1),
            "dilations": (1, 1),
            "padding": (0, 0, 0, 0),
        }
        kind = self.rng.choice(("conv2d", "depthwise_conv2d", "avg_pool2d", "max_pool2d"))
        if "pool" in kind:
            return self.emit(kind, self.last, window=(kh, kw), **window)
        out = self.rng.choice(EXTENTS)
        weights = (1, kh, kw, c) if kind == "depthwise_conv2d" else (out, kh, kw, c)
        return self.emit(kind, self.last, self.const(weights), **window)

    def graph(self) -> Graph:
        for _ in range(self.rng.randint(2, 8)):
            self.step()
        graph = Graph("tiny", ("x",), (self.last,), self.types, self.consts, ())
        return graph.with_nodes(self.nodes)


def inputs_of(graph: Graph, seed: int) -> dict[str, Array]:
    x = np.random.default_rng(seed).normal(0, 2, graph.types["x"].shape)
    return {"x": x.astype(np.float32)}


def near(have: Array, want: Array) -> None:
    np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("start", range(0, 300, 50))
def test_the_passes_keep_the_values(start: int) -> None:
    for seed in range(start, start + 50):
        graph = Maker(seed).graph()
        given = inputs_of(graph, seed)
        (want,) = evaluate(graph, given).values()
        model = pipeline.prepare(graph).graph
        plain, _ = pipeline.spell_out(model)
        for made in (model, plain):
            (have,) = evaluate(made, given).values()
            near(have, want)


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m0plus"])
def test_the_c_is_what_the_graph_means(target: str) -> None:
    for seed in range(300, 308):
        graph = Maker(seed).graph()
        given = inputs_of(graph, seed)
        (want,) = evaluate(graph, given).values()
        made = driver.compile_graph(graph, load_target(target), NO_SEARCH)
        session = RUNNERS["host"].load(made.package, toolchain=None, optimize="debug")
        (have,) = session.run(given).outputs.values()
        session.close()
        near(have, want)


@pytest.mark.parametrize("units", [1, 2])
@pytest.mark.parametrize("lead", [(1, 1), (1, 2), (1, 1, 1)])
@pytest.mark.parametrize("after", ["tanh", "add", "mul"])
def test_one_unit_on_one_row(units: int, lead: tuple[int, ...], after: str) -> None:
    m = Maker(0)
    m.types["x"] = TensorType((*lead, 4), DType.F32)
    flat = m.emit("reshape", "x", shape=(prod(lead), 4))
    y = m.emit("dense", flat, m.const((units, 4)), m.const((units,)))
    y = m.emit("reshape", y, shape=(*lead, units))
    for shape in ((1,), (), (units,), (*lead, units), (*lead, 1)):
        y = m.emit(after, *((y,) if after == "tanh" else (y, m.const(shape))))
    graph = Graph("one", ("x",), (y,), m.types, m.consts, ()).with_nodes(m.nodes)
    given = inputs_of(graph, 1)
    (want,) = evaluate(graph, given).values()
    (have,) = evaluate(pipeline.prepare(graph).graph, given).values()
    near(have, want)
    assert have.shape == want.shape


@pytest.mark.parametrize("constant", [(), (1,), (1, 1, 1, 1)])
@pytest.mark.parametrize(
    ("shape", "perm"), [((6, 4), (1, 0)), ((2, 6, 4), (0, 2, 1)), ((6, 1, 4), (2, 1, 0))]
)
def test_one_element_of_more_axes_than_what_is_turned(
    shape: tuple[int, ...], perm: tuple[int, ...], constant: tuple[int, ...]
) -> None:
    m = Maker(0)
    m.types["x"] = TensorType(shape, DType.F32)
    y = m.emit("transpose", "x", perm=perm)
    y = m.emit("reshape", y, shape=(1,) * (4 - len(shape)) + m.types[y].shape)
    y = m.emit("tanh", m.emit("add", y, m.const(constant)))
    y = m.emit("reshape", y, shape=tuple(n for n in m.types[y].shape if n != 1))
    graph = Graph("one", ("x",), (y,), m.types, m.consts, ()).with_nodes(m.nodes)
    given = inputs_of(graph, 1)
    (want,) = evaluate(graph, given).values()
    (have,) = evaluate(pipeline.prepare(graph).graph, given).values()
    near(have, want)
