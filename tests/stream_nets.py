"""Networks along time, and what pushing frames through them must answer."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping
from typing import Protocol, cast

import numpy as np

from graphs import GraphMaker
from midge import driver
from midge.core.options import CompileOptions
from midge.core.package import Package, Pushes
from midge.core.runner import Run
from midge.core.types import Array
from midge.graph.attrs import Attr
from midge.graph.evaluate import evaluate_all
from midge.graph.ir import Graph, verify
from midge.oracle.units import largest_value
from midge.passes.legalize import legalize
from midge.run import RUNNERS
from midge.target import load_target
from midge.verify import difference


class Net(GraphMaker):
    """Layers along time, without padding unless asked for."""

    def __init__(self, quantised: bool, seed: int) -> None:
        super().__init__(random.Random(seed), quantised)

    def conv(
        self, x: str, channels: int, taps: int, *, stride: int = 1, dilation: int = 1,
        width: int = 1, side: int = 0, pad: int = 0, deep: bool = True,
    ) -> str:  # fmt: skip
        """A convolution, or with deep=False one for each channel."""
        have = self.types[x].shape[3]
        attrs: dict[str, Attr] = {
            "strides": (stride, 1), "dilations": (dilation, 1), "padding": (pad, pad, side, side),
            "activation": "relu",
        }  # fmt: skip
        shape, axis = ((channels, taps, width, have), 0) if deep else ((1, taps, width, have), 3)
        op = "conv2d" if deep else "depthwise_conv2d"
        return self.node(op, [x, *self.weights(x, shape, axis)], attrs)

    def depthwise(self, x: str, taps: int, **more: int) -> str:
        return self.conv(x, 0, taps, deep=False, **more)

    def crop(self, x: str, begin: int, size: int, step: int = 1) -> str:
        """`size` rows from `begin` on."""
        _, _, width, channels = self.types[x].shape
        attrs = {
            "begin": (0, begin, 0, 0), "size": (1, size, width, channels),
            "strides": (1, step, 1, 1),
        }  # fmt: skip
        return self.node("slice", [x], attrs, quant=self.types[x].quant)

    def pool(self, op: str, x: str, window: tuple[int, int], strides: tuple[int, int]) -> str:
        attrs = {"window": window, "strides": strides, "dilations": (1, 1), "padding": (0, 0, 0, 0)}
        return self.node(op, [x], attrs, quant=self.types[x].quant)

    def view(self, x: str, *shape: int) -> str:
        return self.node("reshape", [x], {"shape": shape}, quant=self.types[x].quant)

    def scores(self, x: str, count: int = 3) -> str:
        """A dense layer on all of `x`."""
        flat = self.view(x, 1, self.types[x].elements)
        return self.node("dense", [flat, *self.weights(flat, (count, self.types[x].elements), 0)])

    def graph(self, *outputs: str) -> Graph:
        inputs = (self.images[0],)
        made = Graph("net", inputs, outputs, self.types, self.consts, ()).with_nodes(self.nodes)
        verify(made)
        return made


def chain(m: Net) -> Graph:
    x = m.depthwise(m.input((1, 22, 1, 6)), 3)
    x = m.depthwise(m.conv(x, 8, 1), 5)
    x = m.depthwise(m.conv(x, 8, 1), 10)
    return m.graph(m.scores(m.depthwise(m.conv(x, 7, 1), 7)))


def wide(m: Net) -> Graph:
    x = m.conv(m.input((1, 14, 5, 2)), 4, 3, width=3, side=1)
    x = m.pool("max_pool2d", x, (2, 2), (2, 2))
    x = m.depthwise(x, 3, width=2)
    return m.graph(m.scores(m.conv(x, 3, 2, width=1)))


def strides(m: Net) -> Graph:
    x = m.conv(m.input((1, 31, 1, 4)), 6, 3, stride=2)
    x = m.depthwise(x, 3, stride=2)
    x = m.conv(x, 5, 2)
    return m.graph(m.scores(m.pool("avg_pool2d", x, (m.types[x].shape[1], 1), (6, 1))))


def dilations(m: Net) -> Graph:
    x = m.conv(m.input((1, 25, 1, 4)), 5, 3, dilation=2)
    x = m.depthwise(m.depthwise(x, 3, dilation=4), 4)
    return m.graph(m.scores(x), m.view(x, 1, m.types[x].shape[1], 5))


def residual(m: Net) -> Graph:
    x = m.conv(m.input((1, 20, 1, 4)), 6, 2)
    far = m.conv(m.conv(x, 6, 3), 6, 3)
    near = m.depthwise(x, 5)
    both = m.node("add", [far, near], {"activation": "relu"})
    cropped = m.node("add", [m.conv(both, 6, 3), m.crop(both, 2, m.types[both].shape[1] - 2)])
    early = m.node("add", [cropped, m.crop(both, 0, m.types[cropped].shape[1])])
    return m.graph(m.scores(m.conv(early, 4, 2)))


def branches(m: Net) -> Graph:
    x = m.input((1, 18, 1, 4))
    a = m.conv(x, 4, 5)
    b = m.depthwise(x, 5)
    c = m.conv(m.conv(x, 3, 3), 2, 3)
    q = m.types[a].quant
    for v in (b, c):
        m.types[v] = m.typed(m.types[v].shape, q)
    y = m.node("concat", [a, b, c], {"axis": 3}, quant=q)
    mean = m.node("mean", [m.depthwise(y, 3)], {"axes": (1, 2)})
    return m.graph(m.scores(mean))


def moving_output(m: Net) -> Graph:
    x = m.input((1, 12, 2, 3))
    y = m.conv(m.node("mul", [x, m.tensor((3,))]), 4, 3, width=2)
    other = m.node("add", [m.crop(y, 1, 5, 2), m.tensor((4,))])
    return m.graph(y, other)


def flat_frames(m: Net) -> Graph:
    x = m.input((1, 16, 6))
    y = m.conv(m.view(x, 1, 16, 1, 6), 5, 4, stride=3)
    scores = m.scores(y)
    return m.graph(scores if m.quantised else m.node("softmax", [scores], {"beta": 1.0}))


NETS: Mapping[str, Callable[[Net], Graph]] = {
    f.__name__: f
    for f in (
        chain, wide, strides, dilations, residual, branches, moving_output, flat_frames,
    )
}  # fmt: skip


def compiled(
    source: Graph, hop: int = 0, *, static_arena: bool = False, target: str = "cortex-m4"
) -> driver.Compiled:
    options = CompileOptions(search=False, prove=False, stream_time=hop, static_arena=static_arena)
    return driver.compile_graph(source, load_target(target), options)


def frames_of(source: Graph, count: int, seed: int) -> Array:
    """`count` random frames."""
    t = source.types[source.inputs[0]]
    rng = np.random.default_rng(seed)
    shape = (count, *t.shape[2:])
    if t.dtype.is_float:
        return rng.standard_normal(shape).astype(np.float32)
    return rng.integers(-128, 128, shape, np.int8)


class Session(Protocol):
    """A session that takes frames."""

    def push(self, frames: Array) -> dict[str, Array] | None: ...

    def reset(self) -> None: ...

    def run(self, inputs: Mapping[str, Array], *, layers: bool = False) -> Run: ...

    def close(self) -> None: ...


def load(package: Package, runner: str = "host") -> Session:
    return cast(Session, RUNNERS[runner].load(package, toolchain=None, optimize=None))


def pushes_of(made: driver.Compiled) -> Pushes:
    assert made.package.pushes is not None
    return made.package.pushes


class Window:
    """What a session should answer: evaluates the last frames."""

    def __init__(self, made: driver.Compiled) -> None:
        # Spelled out once, not in every evaluation.
        self.graph, self.names = legalize(made.model), made.package_outputs
        (value,) = self.graph.inputs
        self.value, self.length = value, self.graph.types[value].shape[1]
        self.frames: deque[Array] = deque(maxlen=self.length)
        self.answers: set[bytes] = set()

    def push(self, frames: Array) -> None:
        self.frames.extend(frames)

    def check(self, have: Mapping[str, Array] | None, evaluated: bool = True) -> None:
        assert (have is None) == (len(self.frames) < self.length)
        if have is None or not evaluated:
            return
        want = evaluate_all(self.graph, {self.value: np.stack(self.frames)[None]})
        for mine, theirs in zip(self.names, self.graph.outputs, strict=True):
            found = difference(theirs, want[theirs], have[mine], largest_value(want))
            assert found.ok, found
        self.answers.add(b"".join(have[name].tobytes() for name in self.names))


def portions(frames: Array, hop: int) -> list[Array]:
    return [frames[i : i + hop] for i in range(0, len(frames) - hop + 1, hop)]
