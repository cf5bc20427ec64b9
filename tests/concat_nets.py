"""Random small networks of branches that concatenations put together."""

from __future__ import annotations

import random

from cascade_nets import NetMaker
from midge.core.types import Quant
from midge.graph.ir import Graph, verify


class BranchMaker(NetMaker):
    """Branches of one input that keep the size of the image; all images have one scale."""

    common: Quant | None = None

    def image(self, shape: tuple[int, ...]) -> str:
        """The input."""
        value = self.input(shape)
        self.common = self.types[value].quant
        return value

    def same(self, x: str, channels: int, kernel: tuple[int, int]) -> str:
        """A convolution without a stride."""
        (kh, kw), depth = kernel, self.types[x].shape[3]
        pads = (kh // 2, kh // 2, kw // 2, kw // 2)
        attrs = {"strides": (1, 1), "dilations": (1, 1), "padding": pads, **self.activation()}
        weights = self.weights(x, (channels, kh, kw, depth), 0)
        return self.node("conv2d", [x, *weights], attrs, quant=self.common)

    def spread(self, x: str) -> str:
        depth = self.types[x].shape[3]
        attrs = {"strides": (1, 1), "dilations": (1, 1), "padding": (1, 1, 1, 1)}
        weights = self.weights(x, (1, 3, 3, depth), 3)
        return self.node("depthwise_conv2d", [x, *weights], attrs, quant=self.common)

    def peaks(self, x: str) -> str:
        attrs = {"strides": (1, 1), "dilations": (1, 1), "padding": (1, 1, 1, 1)}
        return self.node("max_pool2d", [x], {"window": (3, 3), **attrs}, quant=self.types[x].quant)

    def part(self, x: str) -> str:
        """One branch: a layer or two; sometimes nothing at all."""
        channels = self.rng.choice([1, 2, 3, 4, 8])
        kernel = self.rng.choice([(1, 1), (3, 3), (3, 1), (1, 3), (5, 5)])
        kind = self.rng.choice(["same", "same", "two", "spread", "peaks", "sum", "none"])
        if kind == "same":
            return self.same(x, channels, kernel)
        if kind == "two":
            return self.same(self.same(x, channels, kernel), 4, (1, 1))
        if kind == "spread":
            return self.spread(x)
        if kind == "sum":
            other = self.same(x, self.types[x].shape[3], kernel)
            return self.node("add", [x, other], quant=self.common)
        return self.peaks(x) if kind == "peaks" else x

    def module(self, x: str) -> str:
        """Branches put together along the channels, nested at times."""
        parts = [self.part(x) for _ in range(self.rng.choice([2, 2, 3]))]
        if self.rng.random() < 0.25:
            attrs = {"axis": 3}
            parts[:2] = [self.node("concat", parts[:2], attrs, quant=self.common)]
            parts.append(self.part(x))
        return self.node("concat", parts, {"axis": 3}, quant=self.common)


def branches(seed: int, kind: str) -> Graph:
    """Some modules of branches, one of them sometimes on rows, and a head."""
    rng = random.Random(seed)
    m = BranchMaker(rng, kind)
    height, width = rng.choice([1, 4, 7, 8]), rng.choice([1, 3, 4, 6])
    value = x = m.image((1, height, width, rng.choice([1, 3, 4])))
    for _ in range(rng.choice([1, 2, 2])):
        value = m.module(value)
        if rng.random() < 0.4:
            value = m.same(value, rng.choice([3, 4]), rng.choice([(1, 1), (3, 3)]))
    if rng.random() < 0.3:
        parts = [m.same(value, 3, (3, 3)), m.same(value, 3, (1, 1))]
        value = m.node("concat", parts, {"axis": rng.choice([1, 1, 2])}, quant=m.common)
    end = rng.choice(["", "spread", "same", "heads", "mean"])
    if end == "spread":
        value = m.spread(value)
    elif end == "same":
        value = m.same(value, 5, (3, 3))
    elif end == "mean":
        value = m.node("mean", [value], {"axes": (1, 2)})
    elif end == "heads":
        heads = [m.same(value, 4, k) for k in ((1, 1), (3, 3))]
        height, width, _ = m.size(heads[0])
        shape = {"shape": (1, height * width, 4)}
        flat = [m.node("reshape", [h], shape, quant=m.common) for h in heads]
        value = m.node("concat", flat, {"axis": 1}, quant=m.common)
    graph = Graph("g", (x,), (value,), m.types, m.consts, ()).with_nodes(m.nodes)
    verify(graph)
    return graph


def fires() -> Graph:
    """Two modules as SqueezeNet has them: a squeezing convolution, then two that are put together.

    https://arxiv.org/abs/1602.07360, section 3.1
    """
    m = BranchMaker(random.Random(3), "int8")
    value = x = m.image((1, 16, 16, 8))
    for channels in (8, 16):
        few = m.same(value, channels, (1, 1))
        parts = [m.same(few, 2 * channels, (1, 1)), m.same(few, 2 * channels, (3, 3))]
        value = m.node("concat", parts, {"axis": 3}, quant=m.common)
    value = m.same(value, 4, (1, 1))
    return Graph("g", (x,), (value,), m.types, m.consts, ()).with_nodes(m.nodes)
