"""Float graphs at the model level, built operator by operator, and samples for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from midge import driver
from midge.core.types import Array, DType, TensorType
from midge.graph.ir import OPS, Attr, Graph, Node, verify

_SAME = {"strides": (1, 1), "dilations": (1, 1), "padding": (1, 1, 1, 1)}


class FloatNet:
    """A graph under construction; values are names."""

    def __init__(self, seed: int = 0) -> None:
        driver.load_operators()
        self.rng = np.random.default_rng(seed)
        self.types: dict[str, TensorType] = {}
        self.consts: dict[str, Array] = {}
        self.nodes: list[Node] = []
        self.inputs: list[str] = []

    def input(self, shape: tuple[int, ...]) -> str:
        name = f"x{len(self.inputs)}"
        self.types[name] = TensorType(shape, DType.F32)
        self.inputs.append(name)
        return name

    def const(self, shape: tuple[int, ...], scale: float = 1.0) -> str:
        name = f"c{len(self.types)}"
        self.consts[name] = (self.rng.standard_normal(shape) * scale).astype(np.float32)
        self.types[name] = TensorType(shape, DType.F32)
        return name

    def op(self, op: str, inputs: Sequence[str], **attrs: Attr) -> str:
        (result,) = OPS[op].infer([self.types[n] for n in inputs], attrs)
        name = f"v{len(self.types)}"
        self.types[name] = result
        src = f"operator {len(self.nodes)}"
        self.nodes.append(Node(op, tuple(inputs), (name,), attrs, src, op.upper()))
        return name

    def conv(self, x: str, channels: int, activation: str = "relu", spread: float = 1.0) -> str:
        """3x3; with `spread` the channels' weights differ by up to that factor either way."""
        depth = self.types[x].shape[3]
        weights = [
            self.const((channels, 3, 3, depth), 0.4 / np.sqrt(depth)),
            self.const((channels,)),
        ]
        factors = spread ** self.rng.uniform(-1, 1, (channels, 1, 1, 1))
        self.consts[weights[0]] = (self.consts[weights[0]] * factors).astype(np.float32)
        return self.op("conv2d", [x, *weights], **_SAME, **_fused(activation))

    def depthwise(self, x: str, activation: str = "") -> str:
        channels = self.types[x].shape[3]
        weights = [self.const((1, 3, 3, channels), 0.4), self.const((channels,), 0.2)]
        return self.op("depthwise_conv2d", [x, *weights], **_SAME, **_fused(activation))

    def dense(self, x: str, channels: int) -> str:
        depth = self.types[x].shape[1]
        weights = [self.const((channels, depth), 1 / np.sqrt(depth)), self.const((channels,), 0.2)]
        return self.op("dense", [x, *weights])

    def pool(self, op: str, x: str) -> str:
        window: dict[str, Any] = {"strides": (2, 2), "dilations": (1, 1), "window": (2, 2)}
        return self.op(op, [x], padding=(0, 0, 0, 0), **window)

    def graph(self, outputs: Sequence[str]) -> Graph:
        graph = Graph("net", tuple(self.inputs), tuple(outputs), self.types, self.consts, ())
        graph = graph.with_nodes(self.nodes)
        verify(graph)
        return graph


def _fused(activation: str) -> dict[str, Attr]:
    return {"activation": activation} if activation else {}


def samples_of(
    graph: Graph, count: int, seed: int = 5, shift: float = 0.0
) -> list[dict[str, Array]]:
    """Normal inputs around `shift`."""
    rng = np.random.default_rng(seed)
    return [
        {
            n: (rng.standard_normal(graph.types[n].shape) + shift).astype(np.float32)
            for n in graph.inputs
        }
        for _ in range(count)
    ]
