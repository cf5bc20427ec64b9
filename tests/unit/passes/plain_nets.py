"""Plain graphs for the tests of what happens to channels: written down, or random."""

from __future__ import annotations

import random

import numpy as np

from midge import driver
from midge.core.types import Array, DType, TensorType
from midge.data import random_inputs
from midge.graph.ir import OPS, Attrs, Graph, Node
from midge.graph.text import parse_graph
from midge.passes import run
from midge.passes.drop_dead import drop_dead
from midge.pipeline import PLAIN_PASSES

ONE_BY_ONE: Attrs = {
    "strides": (1, 1),
    "dilations": (1, 1),
    "padding": (0, 0, 0, 0),
    "pad_value": 0,
}


def plain(body: str) -> Graph:
    """A graph of lines, constants anywhere; each node gets its line's number as its place."""
    driver.load_operators()
    head, *lines = [line for line in body.splitlines() if line.strip()]
    consts = [line for line in lines if line.startswith("  const ")]
    nodes = [line for line in lines if line not in consts and " = " in line]
    placed = [f'{line} @ "operator {i}" "OP{i}"' for i, line in enumerate(nodes)]
    graph = parse_graph("\n".join([head, *consts, *placed, lines[-1]]))
    return run([drop_dead], graph)


def extremes(graph: Graph, seed: int) -> list[dict[str, Array]]:
    """Random inputs, and the least and the greatest there are."""
    (name,) = graph.inputs
    t = graph.types[name]
    ends = [] if t.dtype.is_float else [t.dtype.min, t.dtype.max]
    return [
        *random_inputs(graph, 2, seed),
        *({name: np.full(t.shape, v, t.dtype.numpy)} for v in ends),
    ]


class Net:
    """A random plain network of int8 images, with weights that are zero for whole channels."""

    # Those of them that can lose channels; the last one, dense, makes the output.
    OPERATORS = (
        "add", "avg_pool2d", "cast", "clip", "concat", "conv2d", "depthwise_conv2d", "lookup",
        "max_pool2d", "mul", "pad", "requantize", "reshape", "resize_bilinear", "resize_nearest",
        "slice", "sum", "transpose",
    )  # fmt: skip

    def __init__(self, seed: int) -> None:
        driver.load_operators()
        self.rng, self.numpy = random.Random(seed), np.random.default_rng(seed)
        self.types: dict[str, TensorType] = {"x": TensorType((1, 5, 4, 3), DType.I8)}
        self.consts: dict[str, Array] = {}
        self.nodes: list[Node] = []
        self.images = ["x"]

    def graph(self) -> Graph:
        for _ in range(self.rng.randrange(3, 9)):
            steps = (
                self.convolution, self.convolution, self.depthwise, self.depthwise, self.pool,
                self.table, self.moved, self.joined, self.cut, self.residual, self.mean, self.scale,
            )  # fmt: skip
            self.images.append(self.rng.choice(steps)(self.image()))
        outputs = [self.dense(self.images[-1])]
        if self.rng.random() < 0.2:
            outputs.append(self.convolution(self.image()))
        graph = Graph("g", ("x",), tuple(outputs), self.types, self.consts, ())
        return run(PLAIN_PASSES, graph.with_nodes(self.nodes))

    def image(self) -> str:
        return self.rng.choice(self.images[-2:])

    def const(self, array: Array) -> str:
        name = f"c{len(self.types)}"
        self.consts[name], self.types[name] = array, TensorType(array.shape, DType.of(array))
        return name

    def node(self, op: str, inputs: list[str], attrs: Attrs | None = None) -> str:
        name = f"v{len(self.types)}"
        (self.types[name],) = OPS[op].infer([self.types[n] for n in inputs], attrs or {})
        self.nodes.append(Node(op, tuple(inputs), (name,), attrs or {}))
        return name

    def weights(self, shape: tuple[int, ...]) -> Array:
        """The first and the last axis have zeros here and there."""
        first = self.numpy.random((shape[0], *(1 for _ in shape[1:]))) < 0.5
        last = self.numpy.random(shape[-1]) < 0.6
        return (self.numpy.integers(-127, 128, shape) * first * last).astype(np.int8)

    def window(self) -> Attrs:
        pairs = {n: (self.rng.choice((1, 1, 2)), 1) for n in ("strides", "dilations")}
        pads = tuple(self.rng.choice((0, 1)) for _ in range(4))
        return {**pairs, "padding": pads}

    def zero(self) -> int:
        return self.rng.choice((-128, -7, 0, 127))

    def requantized(self, acc: str) -> str:
        n = self.types[acc].shape[-1] if self.rng.random() < 0.7 else 1
        m = self.const(self.numpy.integers(1 << 30, 1 << 31, n).astype(np.int32))
        s = self.const(self.numpy.integers(5, 9, n).astype(np.int32))
        low = self.rng.choice((-128, -128, -20))
        attrs = {"zero_out": self.zero(), "low": low, "high": 127, "dtype": "i8"}
        return self.node("requantize", [acc, m, s], {**attrs, "rounding": "right"})

    def biases(self, count: int) -> list[str]:
        values = self.numpy.integers(-9000, 9000, count).astype(np.int32)
        return [self.const(values)] if self.rng.random() < 0.7 else []

    def summed(self, op: str, x: str, w: Array, count: int, attrs: Attrs) -> str:
        inputs = [x, self.const(w), *self.biases(count)]
        return self.requantized(self.node(op, inputs, {"x_zero": self.zero(), **attrs}))

    def fitting(self, x: str, op: str, shape: tuple[int, ...]) -> str:
        """`op` with a filter of `shape` that the image is large enough for, or a smaller one."""
        attrs = {**self.window(), "pad_value": self.zero()}
        height, width = self.types[x].shape[1:3]
        if height < 3 or width < 2:
            shape = (shape[0], 1, 1, shape[3])
        count = shape[0] if op == "conv2d" else shape[3]
        return self.summed(op, x, self.weights(shape), count, attrs)

    def convolution(self, x: str) -> str:
        c, taps = self.types[x].shape[3], self.rng.choice(((1, 1), (1, 1), (2, 2), (1, 2)))
        groups = c if self.rng.random() < 0.1 else 1
        oc = groups if groups > 1 else self.rng.randrange(2, 7)
        return self.fitting(x, "conv2d", (oc, *taps, c // groups))

    def depthwise(self, x: str) -> str:
        taps = self.rng.choice(((1, 1), (2, 1), (2, 2)))
        return self.fitting(x, "depthwise_conv2d", (1, *taps, self.channels(x)))

    def channels(self, x: str) -> int:
        c = self.types[x].shape[3]
        return c * self.rng.choice((1, 1, 2)) if c < 8 else c

    def pool(self, x: str) -> str:
        attrs = {"strides": (1, 1), "dilations": (1, 1), "padding": (1, 1, 1, 0), "window": (2, 2)}
        return self.node(self.rng.choice(("avg_pool2d", "max_pool2d")), [x], attrs)

    def table(self, x: str) -> str:
        table = self.numpy.integers(-128, 128, 256).astype(np.int8)
        return self.node("lookup", [x, self.const(table)])

    def moved(self, x: str) -> str:
        n, h, w, c = self.types[x].shape
        kind = self.rng.choice(("transpose", "resize_nearest", "resize_bilinear", "reshape"))
        attrs: dict[str, Attrs] = {
            "transpose": {"perm": (0, 2, 1, 3)},
            "resize_nearest": {"size": (3, 4)},
            "resize_bilinear": {"size": (3, 4)},
            "reshape": {"shape": (n, h, 1, w * c) if w * c < 9 else (n, 1, h * w, c)},
        }
        return self.node(kind, [x], attrs[kind])

    def joined(self, x: str) -> str:
        others = [n for n in self.images if self.types[n].shape[:3] == self.types[x].shape[:3]]
        if self.types[x].shape[3] > 6:
            return self.table(x)
        fixed = self.numpy.integers(-128, 128, (*self.types[x].shape[:3], 1)).astype(np.int8)
        last = [self.const(fixed)] if self.rng.random() < 0.3 else []
        return self.node("concat", [x, self.rng.choice(others), *last], {"axis": 3})

    def cut(self, x: str) -> str:
        shape = self.types[x].shape
        pads = tuple(self.rng.choice((0, 1)) for _ in range(6))
        padded = self.node("pad", [x], {"paddings": (0, 0, *pads), "value": self.zero()})
        begin = self.rng.randrange(shape[3])
        size = (*self.types[padded].shape[:3], self.rng.randrange(1, shape[3] - begin + 1))
        attrs = {"begin": (0, 0, 0, begin), "size": size, "strides": (1, 1, 1, 1)}
        return self.node("slice", [padded], attrs)

    def residual(self, x: str) -> str:
        others = [n for n in self.images if self.types[n].shape == self.types[x].shape]
        wide = [self.node("cast", [n], {"dtype": "i32"}) for n in (x, self.rng.choice(others))]
        clipped = self.node("clip", [self.node("add", wide)], {"low": -128.0, "high": 127.0})
        return self.node("cast", [clipped], {"dtype": "i8"})

    def mean(self, x: str) -> str:
        """Of rows; the sum is requantised."""
        return self.requantized(self.node("sum", [x], {"axes": (1,), "x_zero": self.zero()}))

    def scale(self, x: str) -> str:
        """A product with a constant for each channel, or for all, plus a scalar."""
        shape = self.rng.choice(((self.types[x].shape[3],), (1, 1, self.types[x].shape[3]), (1,)))
        factors = self.const(self.numpy.integers(-300, 300, shape).astype(np.int32))
        product = self.node("mul", [self.node("cast", [x], {"dtype": "i32"}), factors])
        return self.requantized(self.node("add", [product, self.const(np.array(77, np.int32))]))

    def dense(self, x: str) -> str:
        flat = self.node("reshape", [x], {"shape": (1, self.types[x].elements)})
        weights = self.weights((3, self.types[x].elements))
        return self.summed("dense", flat, weights, 3, {"x_zero": 0})
