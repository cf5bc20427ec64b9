"""Random small networks of images, and every plan by which they can be computed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from graphs import GraphMaker
from midge import cascading, pipeline
from midge.codegen.arrange import calls_of, layout_of
from midge.codegen.metadata import Origin
from midge.codegen.package import make_package
from midge.core.options import CompileOptions
from midge.core.package import Package
from midge.core.runner import Runner
from midge.core.target import Target
from midge.core.types import Array, DType, Quant, TensorType
from midge.data import random_inputs
from midge.graph.evaluate import evaluate
from midge.graph.ir import Graph, Node, verify
from midge.lower.bands import Form, Forms, how_banded, split_sums
from midge.lower.fuse import fuse
from midge.lower.lower import Lowered, find_options
from midge.passes import run as run_passes
from midge.plan.arena import Arena, Planner, place
from midge.plan.guards import guarded
from midge.ranking import Wish

KINDS = ("int8", "float", "int16")
_DTYPES = {"int8": DType.I8, "float": DType.F32, "int16": DType.I16}


class NetMaker(GraphMaker):
    """Networks of int8, float or int16 images."""

    def __init__(self, rng: random.Random, kind: str) -> None:
        super().__init__(rng, kind != "float")
        self.dtype = _DTYPES[kind]

    def quant(self) -> Quant | None:
        if self.dtype is not DType.I16:
            return super().quant()
        return Quant.per_tensor(float(np.float32(self.rng.uniform(0.0002, 0.002))), 0)

    def typed(self, shape: tuple[int, ...], quant: Quant | None) -> TensorType:
        return TensorType(shape, self.dtype, quant)

    def weights(self, x: str, shape: tuple[int, ...], axis: int) -> list[str]:
        names = super().weights(x, shape, axis)
        if self.dtype is DType.I16 and len(names) > 1:
            bias = self.consts.pop(names[1])
            del self.types[names[1]]
            names[1] = self.const(bias.astype(np.int64))
        return names

    def size(self, x: str) -> tuple[int, int, int]:
        _, height, width, channels = self.types[x].shape
        return height, width, channels

    def window(self, x: str) -> tuple[tuple[int, int], dict[str, tuple[int, ...]]] | None:
        """A kernel's size, and attributes; None if what was drawn does not fit."""
        height, width, _ = self.size(x)
        kernel = self.rng.choice([(1, 1), (3, 3), (3, 3), (3, 3), (5, 1), (2, 2), (1, 3), (3, 1)])
        stride = self.rng.choice([(1, 1), (1, 1), (1, 1), (2, 2), (2, 1), (1, 2), (3, 2)])
        dilation = self.rng.choice([(1, 1), (1, 1), (1, 1), (2, 1), (2, 2)])
        reach = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
        same = [(r // 2, r - r // 2) for r in reach]
        padding = self.rng.choice([(0, 0, 0, 0), (*same[0], *same[1]), (*same[0], *same[1])])
        if height + sum(padding[:2]) <= reach[0] or width + sum(padding[2:]) <= reach[1]:
            return None
        return kernel, {"strides": stride, "dilations": dilation, "padding": padding}

    def convolve(self, x: str) -> str:
        found = self.window(x)
        if found is None:
            return x
        (kh, kw), attrs = found
        _, _, c = self.size(x)
        attrs = {**attrs, **self.activation()}
        if self.rng.random() < 0.4:
            return self.node("depthwise_conv2d", [x, *self.weights(x, (1, kh, kw, c), 3)], attrs)
        oc = self.rng.choice([1, 2, 3, 4, 8])
        return self.node("conv2d", [x, *self.weights(x, (oc, kh, kw, c), 0)], attrs)

    def pool(self, x: str) -> str:
        found = self.window(x)
        if found is None:
            return x
        kernel, attrs = found
        attrs |= {"window": kernel, "dilations": (1, 1)}
        op = self.rng.choice(["max_pool2d", "avg_pool2d"])
        height, width, _ = self.size(x)
        top, bottom, left, right = attrs["padding"]
        if top >= kernel[0] or bottom >= kernel[0] or left >= kernel[1] or right >= kernel[1]:
            attrs["padding"] = (0, 0, 0, 0)
        if height < kernel[0] or width < kernel[1]:
            return x
        return self.node(op, [x], attrs, quant=self.types[x].quant)

    def joined(self, x: str) -> str:
        """A concatenation on channels, or another axis, with another image of the same size."""
        others = [n for n in self.images if self.types[n].shape[:3] == self.types[x].shape[:3]]
        other = self.rng.choice(others or [x])
        axis = 3
        if self.types[other].shape == self.types[x].shape and self.rng.random() < 0.2:
            axis = self.rng.choice([1, 2])
        if self.types[other].quant != self.types[x].quant:
            other = x
        quant = self.types[x].quant
        return self.node("concat", [x, other], {"axis": axis}, quant=quant)

    def added(self, x: str) -> str:
        """A residual, whose branches may lag behind each other."""
        others = [n for n in self.images if self.types[n].shape == self.types[x].shape and n != x]
        if not others:
            return self.convolve(x)
        return self.node("add", [x, self.rng.choice(others)], self.activation())

    def residual(self, x: str) -> str:
        """x + convolutions of x that keep its size."""
        _, _, c = self.size(x)
        value = x
        for _ in range(self.rng.choice([1, 1, 2])):
            k = self.rng.choice([1, 3, 5])
            side = k // 2
            attrs = {"strides": (1, 1), "dilations": (1, 1), "padding": (side, side, 0, 0)}
            value = self.node("conv2d", [value, *self.weights(value, (c, k, 1, c), 0)], attrs)
        return self.node("add", [x, value], self.activation())

    def grow(self, x: str) -> str:
        kinds: list[Callable[[str], str]] = [self.convolve] * 5 + [self.pool] * 2
        kinds += [self.added, self.residual, self.joined, self.clip, self.padding]
        return self.rng.choice(kinds)(x)

    def tail(self, x: str) -> str:
        """Nothing, a global average, a dense layer or both."""
        height, width, _ = self.size(x)
        kind = self.rng.choice(["", "", "mean", "mean", "pool", "dense"])
        quant = self.types[x].quant
        if kind == "mean":
            x = self.node("mean", [x], {"axes": (1, 2)})
        elif kind == "pool":
            attrs = {"strides": (1, 1), "dilations": (1, 1), "padding": (0, 0, 0, 0)}
            x = self.node("avg_pool2d", [x], {"window": (height, width), **attrs}, quant=quant)
        if kind == "dense" or (kind and self.rng.random() < 0.5):
            elements = self.types[x].elements
            shape = {"shape": (1, elements)}
            flat = self.node("reshape", [x], shape, quant=self.types[x].quant)
            x = self.node("dense", [flat, *self.weights(flat, (3, elements), 0)])
        return x


def net(seed: int, kind: str) -> Graph:
    """A network with branches; mostly of one input and one output."""
    rng = random.Random(seed)
    m = NetMaker(rng, kind)
    height = rng.choice([1, 2, 3, 5, 7, 8, 9, 13])
    value = m.input((1, height, rng.choice([1, 1, 2, 3, 4, 5]), rng.choice([1, 2, 3, 4])))
    inputs = [value]
    if rng.random() < 0.15:
        inputs.append(m.input(m.types[value].shape))
        value = m.node("add", inputs)
        m.images.append(value)
    for _ in range(rng.randrange(2, 8)):
        source = value if rng.random() < 0.85 else rng.choice(m.images)
        value = m.grow(source)
        if value not in m.images:
            m.images.append(value)
    outputs = [m.tail(value)]
    if rng.random() < 0.25:
        outputs.append(rng.choice(m.images))
    graph = Graph("g", tuple(inputs), tuple(outputs), m.types, m.consts, ())
    graph = graph.with_nodes(_used(m.nodes, outputs))
    verify(graph)
    return graph


def _used(nodes: Sequence[Node], outputs: Sequence[str]) -> list[Node]:
    """Those that lead to the outputs."""
    needed, kept = set(outputs), list[Node]()
    for node in reversed(nodes):
        if needed & set(node.outputs):
            kept.append(node)
            needed.update(node.inputs)
    return kept[::-1]


@dataclass(frozen=True)
class Net:
    """model: after its passes.  plain: spelled out."""

    source: Graph
    model: Graph
    plain: Graph
    types: Mapping[str, TensorType]

    @staticmethod
    def of(source: Graph) -> Net:
        model = run_passes(pipeline.MODEL_PASSES, source)
        plain, _ = pipeline.spell_out(model)
        return Net(source, model, plain, pipeline.narrowed_types(model, plain))

    def able(self) -> list[str]:
        """The outputs of the groups that can be computed band by band."""
        groups = split_sums(fuse(self.plain))
        return [g.output for g in groups if how_banded(self.plain, g) is not None]

    def planned(self) -> Iterator[tuple[str, Forms]]:
        """Whole tensors, and what the driver tries."""
        return cascading._forms(self.plain, Wish(arriving=frozenset({"x"})))

    def random_forms(self, rng: random.Random) -> Forms:
        return {
            out: Form(rng.randrange(1, 6), rng.random() < 0.3)
            for out in self.able()
            if rng.random() < 0.8
        }

    def lowered(self, target: Target, forms: Forms, arriving: bool = False) -> Lowered:
        names = frozenset(self.plain.inputs) if arriving else frozenset()
        return find_options(self.plain, target, self.types, "speed", forms, most=4, arriving=names)


def random_picks(found: Lowered, rng: random.Random) -> list[int]:
    return [rng.randrange(len(choice.options)) for choice in found.choices]


def packaged(
    found: Lowered, picks: Sequence[int], target: Target, planner: Planner | None = None
) -> tuple[Package, Arena]:
    """A package whose runs are checked; guards between its buffers unless a planner is given."""
    program = found.program(picks)
    layout = layout_of(program)
    arena = place(layout, calls_of(program, layout), planner or guarded())
    options = CompileOptions(check_memory=True)
    return make_package(program, arena, target, options, Origin("0")), arena


def check(net: Net, package: Package, runner: Runner, seed: int, count: int = 2) -> None:
    """What the package computes is what the graph means; float within a few units."""
    session = runner.load(package, toolchain=None, optimize="debug")
    for given in random_inputs(net.source, count, seed):
        with np.errstate(all="ignore"):
            want = evaluate(net.source, given)
        have = session.run(given).outputs
        for mine, theirs in zip(package.outputs, net.source.outputs, strict=True):
            same(have[mine.name], want[theirs])
    session.close()


def same(have: Array, want: Array, ulp: int = 64) -> None:
    """Integers exactly, floats within `ulp` of the largest."""
    if want.dtype != np.float32:
        np.testing.assert_array_equal(have, want)
        return
    top = np.abs(want[np.isfinite(want)]).max(initial=1.0)
    np.testing.assert_allclose(have, want, rtol=0, atol=ulp * float(np.spacing(np.float32(top))))
