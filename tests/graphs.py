"""Random small graphs, float or quantised, in which the passes find something to do."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from midge import driver
from midge.core.types import Array, DType, Quant, TensorType
from midge.graph.ir import OPS, Attrs, Graph, Node, verify

_ACTIVATIONS = ["", "", "relu", "relu6", "relu_n1_to_1"]
_CLIPS = [(0.0, float("inf")), (0.0, 6.0), (-1.0, 1.0), (0.5, 3.0)]


class GraphMaker:
    """Adds nodes to a graph; values are names. `quantised`: everything is int8."""

    def __init__(self, rng: random.Random, quantised: bool) -> None:
        driver.load_operators()
        self.rng, self.quantised = rng, quantised
        self.numpy = np.random.default_rng(rng.randrange(2**32))
        self.types: dict[str, TensorType] = {}
        self.consts: dict[str, Array] = {}
        self.nodes: list[Node] = []
        self.images: list[str] = []

    def quant(self) -> Quant | None:
        if not self.quantised:
            return None
        return Quant.per_tensor(
            float(np.float32(self.rng.uniform(0.02, 0.2))), self.rng.randrange(-128, 128)
        )

    def typed(self, shape: tuple[int, ...], quant: Quant | None) -> TensorType:
        return TensorType(shape, DType.I8 if self.quantised else DType.F32, quant)

    def input(self, shape: tuple[int, ...]) -> str:
        name = f"x{len(self.types)}"
        self.types[name] = self.typed(shape, self.quant())
        self.images.append(name)
        return name

    def const(self, array: Array, quant: Quant | None = None) -> str:
        name = f"c{len(self.types)}"
        self.consts[name] = array
        self.types[name] = TensorType(array.shape, DType.of(array), quant)
        return name

    def tensor(self, shape: tuple[int, ...]) -> str:
        """A constant of the graph's element type."""
        if self.quantised:
            return self.const(self.numpy.integers(-128, 128, shape, np.int8), self.quant())
        return self.const(self.numpy.standard_normal(shape).astype(np.float32))

    def node(
        self, op: str, inputs: Sequence[str], attrs: Attrs | None = None, *,
        quant: Quant | None = None,
    ) -> str:  # fmt: skip
        """Append a node; its output has `quant`, or one of its own."""
        types = [self.types[n] for n in inputs]
        shape = OPS[op].infer(types, attrs or {})[0].shape
        name = f"v{len(self.types)}"
        self.types[name] = self.typed(shape, quant or self.quant())
        index = len(self.nodes)
        self.nodes.append(
            Node(op, tuple(inputs), (name,), attrs or {}, f"operator {index}", op.upper())
        )
        return name

    def activation(self) -> Attrs:
        chosen = self.rng.choice(_ACTIVATIONS)
        return {"activation": chosen} if chosen else {}

    def weights(self, x: str, shape: tuple[int, ...], axis: int) -> list[str]:
        """Weights of `shape`, and mostly a bias."""
        count = shape[axis]
        if not self.quantised:
            names = [self.const((self.numpy.standard_normal(shape) / 2).astype(np.float32))]
            bias = self.numpy.standard_normal(count).astype(np.float32)
            return names + ([self.const(bias)] if self.rng.random() < 0.7 else [])
        quant = self.types[x].quant
        assert quant is not None
        scales = self.numpy.uniform(0.002, 0.02, count).astype(np.float32)
        q = Quant(tuple(map(float, scales)), (0,) * count, axis)
        names = [self.const(self.numpy.integers(-127, 128, shape, np.int8), q)]
        bias = self.numpy.integers(-3000, 3000, count, np.int32)
        return names + ([self.const(bias)] if self.rng.random() < 0.7 else [])

    def convolution(self, x: str) -> str:
        c = self.types[x].shape[3]
        kh, kw = self.rng.choice([1, 2, 3]), self.rng.choice([1, 2])
        pads = tuple(self.rng.choice([0, 1]) for _ in range(4))
        attrs = {"strides": (1, 1), "dilations": (1, 1), "padding": pads, **self.activation()}
        if self.rng.random() < 0.4:
            return self.node("depthwise_conv2d", [x, *self.weights(x, (1, kh, kw, c), 3)], attrs)
        oc = self.rng.choice([2, 3])
        return self.node("conv2d", [x, *self.weights(x, (oc, kh, kw, c), 0)], attrs)

    def padding(self, x: str) -> str:
        quant = self.types[x].quant
        zero: float = 0.0 if quant is None else quant.zero_point[0]
        value = zero if self.rng.random() < 0.7 else zero / 2 + 1 if quant is None else -zero // 2
        edges = tuple(self.rng.choice([0, 1]) for _ in range(4))
        rank4 = (0, 0, *edges, 0, self.rng.choice([0, 0, 1]))
        return self.node("pad", [x], {"paddings": rank4, "value": value}, quant=quant)

    def clip(self, x: str) -> str:
        low, high = self.rng.choice(_CLIPS)
        same = self.types[x].quant if self.rng.random() < 0.7 else None
        return self.node("clip", [x], {"low": low, "high": high}, quant=same)

    def arithmetic(self, x: str) -> str:
        op = self.rng.choice(["add", "mul", "sub"] if not self.quantised else ["add", "mul"])
        other = [n for n in self.images if self.types[n].shape == self.types[x].shape]
        if other and self.rng.random() < 0.4:
            return self.node(op, [x, self.rng.choice(other)], self.activation())
        channels = self.types[x].shape[-1]
        factor = self.tensor(self.rng.choice([(channels,), (1, 1, 1, channels), (1,)]))
        return self.node(op, [x, factor], self.activation())

    def folded(self, x: str) -> str:
        """x + (constant op constant)."""
        channels = self.types[x].shape[-1]
        both = [self.tensor((channels,)), self.tensor((1, channels))]
        return self.node("add", [x, self.node("mul", both)])

    def average(self, x: str) -> str:
        """Of the whole image."""
        window = self.types[x].shape[1:3]
        attrs = {"window": window, "strides": (1, 1), "dilations": (1, 1), "padding": (0, 0, 0, 0)}
        return self.node("avg_pool2d", [x], attrs, quant=self.types[x].quant)

    def step(self, x: str) -> str:
        kinds = [self.convolution, self.padding, self.clip, self.arithmetic, self.folded]
        last = self.nodes[-1] if self.nodes and self.nodes[-1].outputs == (x,) else None
        if last is not None and last.op == "pad":
            kinds += [self.convolution] * 4
        if last is not None and "conv" in last.op and "activation" not in last.attrs:
            kinds += [self.clip] * 3 + [self.arithmetic] * 5
        return self.rng.choice(kinds)(x)


def random_graph(rng: random.Random, *, quantised: bool) -> Graph:
    """A chain with branches, dead ends, views, and outputs anywhere."""
    m = GraphMaker(rng, quantised)
    value = m.input((1, 5, 4, 2))
    for _ in range(rng.randrange(2, 7)):
        source = value if rng.random() < 0.9 else rng.choice(m.images)
        height, width = m.types[source].shape[1:3]
        value = m.step(source if height > 3 and width > 2 else m.images[0])
        m.images.append(value)
    if rng.random() < 0.15:
        value = m.average(value)
    outputs = [value]
    if rng.random() < 0.4:
        flat = m.types[value].elements
        view = m.node("reshape", [value], {"shape": (1, flat)}, quant=m.types[value].quant)
        outputs = [
            view if rng.random() < 0.5 else m.node("clip", [view], {"low": 0.0, "high": 6.0})
        ]
    if rng.random() < 0.4:
        outputs.append(rng.choice(m.images))
    graph = Graph("g", (m.images[0],), tuple(outputs), m.types, m.consts, ()).with_nodes(m.nodes)
    verify(graph)
    return graph
