"""Winograd's convolutions: the micro-kernels == their meaning, whole layers == the reference."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest
from instruction_checks import Bench, Memory, contents, extremes, scaling_constants

import templates
from midge import driver
from midge.core.types import Array, DType, TensorType
from midge.graph.evaluate import evaluate as evaluate_graph
from midge.graph.ir import OPS, Attrs, Graph, Node
from midge.kernels.arm_dsp import halves
from midge.kernels.arm_dsp.scaling import Line, Twice
from midge.kernels.arm_dsp.winograd import sums_fit, transformed
from midge.kernels.arm_dsp.winograd_sums import TileSums, factors
from midge.kernels.arm_dsp.winograd_tiles import POSITIONS, Tiles
from midge.loop.evaluate import evaluate
from midge.loop.program import Kernel
from midge.loop.verify import verify
from midge.lower.candidates import Candidate, Request
from midge.lower.fuse import fuse
from midge.lower.layouts import CHANNELS_FIRST, Layouts
from midge.lower.lower import can_overwrite
from midge.passes.fit_requantize import fit_requantize
from midge.target import load_target

pytestmark = pytest.mark.slow

TARGETS = pytest.mark.parametrize("target", ["cortex-m4", "cortex-m3"])
PLAIN = Line(8, 0, -128, 127)
RELU = Line(6, 4, -3, 100)
SMALL = Line(1, 2, -100, 127)
TWICE = Twice(-128, 127)
TWICE_RELU = Twice(-100, 99)

TILES = [
    Tiles(4, 2), Tiles(4, 16), Tiles(3, 6), Tiles(2, 8), Tiles(1, 4), Tiles(4, 64), Tiles(4, 120),
    Tiles(1, 700),
]  # fmt: skip


@TARGETS
def test_tiles(target: str) -> None:
    bench = Bench([p.instruction() for p in TILES], target)
    for p in TILES:
        for seed, values in enumerate(((-128, 127), tuple(range(-128, 128)))):
            x = extremes((4 * p.row,), values, DType.I16, seed)
            v = bench.check(p.name, contents(p.instruction(), seed, x=x))["v"]
            d = x.reshape(4, -1, p.depth).astype(np.int64)
            bt = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
            for t in range(p.tiles):
                want = np.einsum("ik,klc,jl->cij", bt, d[:, 2 * t : 2 * t + 4], bt)
                have = v.reshape(p.words, 16, p.tiles)[:, :, t]
                want = np.stack([want[:, q.row, q.column] for q in POSITIONS], axis=1)
                packed = halves.pack(want[0::2], want[1::2])
                np.testing.assert_array_equal(have, packed)


# tiles, words, channels, blocks, y_row, y_pixel, y_channel, scaling, cut, straight
SUMS = [
    TileSums(4, 8, 2, 2, 40, 4, 1, PLAIN),
    TileSums(4, 3, 2, 2, 32, 4, 1, TWICE),
    TileSums(4, 3, 2, 1, 8, 1, 16, None),
    TileSums(4, 5, 2, 2, 32, 4, 1, RELU, cut=True, straight=2),
    TileSums(3, 6, 2, 2, 6, 1, 12, TWICE_RELU, cut=True, straight=4),
    TileSums(2, 2, 4, 2, 32, 8, 1, SMALL),
    TileSums(2, 4, 4, 1, 16, 4, 1, None, cut=True, straight=16),
    TileSums(2, 5, 2, 2, 6000, 1500, 1, PLAIN, straight=8),
    TileSums(1, 1, 4, 1, 8, 4, 1, TWICE),
    TileSums(1, 9, 2, 1, 4, 2, 1, RELU, cut=True),
    TileSums(4, 7, 1, 1, 8, 1, 16, PLAIN),
    TileSums(4, 33, 2, 1, 16, 2, 1, PLAIN, straight=32),
    TileSums(4, 33, 2, 1, 16, 2, 1, None, straight=16),
]


def sums_memory(k: TileSums, seed: int) -> Memory:
    """Inputs and weights as large as they get, or of any size: by seed."""
    shape = (k.blocks, 16, k.words, k.channels, 2)
    most = 1152 if k.scaling is None else 300  # sums stay below 2^23
    u = extremes(shape, (-most, most) if seed == 0 else tuple(range(-most, most)), DType.I16, seed)
    v = extremes((k.v_span, 2), (-512, 512) if seed == 0 else tuple(range(-512, 513)), DType.I16, 7)
    w = halves.pack(u[..., 0], u[..., 1]).reshape(k.blocks, -1)
    if k.scaling is not None:
        each = u.transpose(0, 3, 1, 2, 4).reshape(k.blocks * k.channels, -1)
        q = scaling_constants(k.scaling, each[:, : each.shape[1] // 30 + 2], v, seed)
        w = np.concatenate([w, q.reshape(k.blocks, -1)], axis=1)
    packed = halves.pack(v[:, 0], v[:, 1])
    return contents(k.instruction(), seed, w=w.reshape(-1), v=packed)


@TARGETS
def test_tile_sums(target: str) -> None:
    bench = Bench([k.instruction() for k in SUMS], target)
    for k in SUMS:
        seeds = range(1 if k.words > 30 else 2)
        found = [bench.check(k.name, sums_memory(k, seed))["y"] for seed in seeds]
        assert len(np.unique(found)) > 3, f"{k.name}: nothing to see"


@dataclass(frozen=True)
class Case:
    """A layer at random. `ends`: what follows the sums."""

    seed: int
    ends: str

    def graph(self) -> Graph:
        driver.load_operators()
        rng = random.Random(f"{self.seed} {self.ends}")
        values = np.random.default_rng(self.seed)
        depth, channels = rng.choice((1, 2, 3, 4, 6, 8, 40)), rng.randrange(1, 6)
        pads = tuple(rng.choice((0, 1)) for _ in range(4))
        height, width = rng.randrange(1, 8), rng.choice((1, 2, 3, 4, 5, 6, 7, 9, 16, 19))
        w = values.integers(-127, 128, (channels, 3, 3, depth))
        if self.seed % 3 == 0:
            w = np.sign(w) * 128 - (w > 0)  # -128, 0, 127
        shift = values.integers(7, 10, channels).astype(np.int32)
        consts: dict[str, Array] = {
            "w": w.astype(np.int8),
            "b": values.integers(-9000, 9000, channels).astype(np.int32),
            "m": values.integers(1 << 30, 1 << 31, channels).astype(np.int32),
            "s": -shift if self.ends == "once" else shift,
        }
        shape = (1, max(height, 3 - pads[0] - pads[1]), max(width, 3 - pads[2] - pads[3]), depth)
        conv: Attrs = {
            "strides": (1, 1), "dilations": (1, 1), "padding": pads, "x_zero": 0,
            "pad_value": rng.choice((-128, -1, 0, 5, 127)),
        }  # fmt: skip
        scale: Attrs = {
            "zero_out": rng.choice((-128, -3, 127)), "low": -128, "high": rng.choice((90, 127)),
            "dtype": "i8", "rounding": "once" if self.ends == "once" else "right",
        }  # fmt: skip
        steps = [Node("conv2d", ("x", "w", "b"), ("acc",), conv)]
        steps.append(Node("requantize", ("acc", "m", "s"), ("q",), scale))
        if self.ends == "residual":
            steps += [Node("cast", (n,), (f"{n}_wide",), {"dtype": "i32"}) for n in "qz"]
            steps.append(Node("add", ("q_wide", "z_wide"), ("total",)))
            steps.append(Node("clip", ("total",), ("limited",), {"low": -128.0, "high": 127.0}))
            steps.append(Node("cast", ("limited",), ("y",), {"dtype": "i8"}))
        types = {"x": TensorType(shape, DType.I8)}
        types |= {n: TensorType(a.shape, DType.of(a)) for n, a in consts.items()}
        (acc,) = OPS["conv2d"].infer([types[n] for n in ("x", "w", "b")], conv)
        inputs = ("x", "z") if self.ends == "residual" else ("x",)
        types["z"] = TensorType(acc.shape, DType.I8)
        for node in steps:
            (types[node.outputs[0]],) = OPS[node.op].infer(
                [types[n] for n in node.inputs], node.attrs
            )
        output = steps[-1].outputs
        graph = Graph("layer", inputs, output, types, consts, tuple(steps))
        return fit_requantize(graph) if self.ends == "line" else graph


def candidate(graph: Graph, layouts: Layouts | None = None, straight: int = 0) -> Candidate | None:
    """Winograd's form of a layer; None if it has none. straight: which of them."""
    group = next(g for g in fuse(graph) if g.anchor is not None)
    assert group.output == graph.outputs[0], "the layer is one group"
    request = Request(graph, group, load_target("cortex-m4").unrolling(True), layouts or {})
    found = templates.made("conv2d/arm_dsp_winograd", request)
    return found[straight] if found else None


def memory_of(kernel: Kernel, made: Candidate, graph: Graph, inputs: Mapping[str, Array]) -> Memory:
    args, consts = made.constants(graph)
    values = {**consts, **inputs}
    rng = np.random.default_rng(0)
    memory: Memory = {}
    for p, value in zip(kernel.func.params, args, strict=True):
        if value in values:
            memory[p.name] = np.array(values[value]).reshape(p.shape)
        else:
            garbage = rng.integers(0, 256, p.elements * p.dtype.size, np.uint8)
            memory[p.name] = garbage.view(p.dtype.numpy).reshape(p.shape)
    return memory


def inputs_of(graph: Graph, seed: int) -> list[dict[str, Array]]:
    """Of any value, of the greatest and the least, of the least alone."""
    return [
        {
            name: extremes(graph.types[name].shape, values, DType.I8, seed + i)
            for i, name in enumerate(graph.inputs)
        }
        for values in (tuple(range(-128, 128)), (-128, 127), (-128,))
    ]


def layout_of(case: Case, graph: Graph) -> Layouts:
    return {graph.outputs[0]: CHANNELS_FIRST} if case.seed % 4 == 1 else {}


def wanted(case: Case, graph: Graph, inputs: Mapping[str, Array]) -> Array:
    """The output as it lies in memory."""
    y = evaluate_graph(graph, inputs)[graph.outputs[0]]
    return (y.transpose(CHANNELS_FIRST) if layout_of(case, graph) else y).reshape(-1)


@dataclass(frozen=True)
class Layer:
    case: Case
    graph: Graph
    candidate: Candidate
    kernel: Kernel


def layers(ends: str, count: int) -> list[Layer]:
    """Those of `count` random layers that have Winograd's form."""
    found = []
    for case in (Case(seed, ends) for seed in range(count)):
        graph = case.graph()
        made = candidate(graph, layout_of(case, graph), case.seed % 2)
        if made is None:
            assert 1 in graph.types["acc"].shape[1:3], f"{case} should have one"
        else:
            found.append(Layer(case, graph, made, made.kernel(f"layer_{case.seed}")))
    assert len(found) > count // 3
    return found


@pytest.mark.parametrize("ends", ["line", "twice", "once", "residual"])
@TARGETS
def test_layers(ends: str, target: str) -> None:
    """Images of all small sizes, with and without padding, channels in any number."""
    found = layers(ends, 16 if target == "cortex-m4" else 4)
    bench = Bench([n.kernel for n in found], target)
    for n in found:
        verify(n.kernel.func, n.kernel.instructions)
        for inputs in inputs_of(n.graph, n.case.seed):
            memory = memory_of(n.kernel, n.candidate, n.graph, inputs)
            y = bench.run(n.kernel.func.name, memory)["y"]
            want = wanted(n.case, n.graph, inputs)
            np.testing.assert_array_equal(y.reshape(-1), want, f"{n.case}")


def test_the_sum_of_a_residual_may_lie_over_it() -> None:
    tried = 0
    for n in layers("residual", 16):
        (z,) = (p for p in n.kernel.func.params if p.name not in ("x", "y") and p.mode == "in")
        if can_overwrite(n.kernel.func, z):
            inputs = inputs_of(n.graph, n.case.seed)[0]
            memory = memory_of(n.kernel, n.candidate, n.graph, inputs)
            memory["y"] = memory[z.name].reshape(memory["y"].shape)
            meanings = {i.name: i.meaning for i in n.kernel.instructions.values()}
            evaluate(n.kernel.func, memory, meanings)
            want = wanted(n.case, n.graph, inputs)
            np.testing.assert_array_equal(memory["y"].reshape(-1), want, f"{n.case}")
            tried += n.graph.types["acc"].shape[1] % 2  # odd heights compute a row twice
    assert tried


def test_four_times_a_product_of_the_transforms_is_the_convolution() -> None:
    rng = np.random.default_rng(0)
    w = rng.integers(-128, 128, (3, 3, 3, 5)).astype(np.int8)
    u = transformed(w)
    assert np.abs(transformed(np.full_like(w, -128))).max() == 1152
    assert u.shape == (3, 16, 5)
    d = rng.integers(-128, 128, (4, 4, 5)).astype(np.int64)
    bt = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
    v = np.einsum("ik,klc,jl->ijc", bt, d, bt)
    m = np.cumsum([(u[:, n] * v[p.row, p.column]).sum(1) for n, p in enumerate(POSITIONS)], axis=0)
    for row, column in np.ndindex(2, 2):
        direct = (w.astype(np.int64) * d[row : row + 3, column : column + 3]).sum((1, 2, 3))
        np.testing.assert_array_equal(factors(row, column) @ m, 4 * direct)


def test_layers_whose_sums_do_not_fit_have_no_such_form() -> None:
    assert sums_fit(transformed(np.full((1, 3, 3, 100), 127, np.int8)))
    assert not sums_fit(transformed(np.full((1, 3, 3, 1200), 127, np.int8)))
