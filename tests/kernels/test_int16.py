"""int16 layers on Armv7E-M: the micro-kernels == their meaning, whole layers == the reference."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from instruction_checks import Bench, Memory, contents, extremes

import templates
from midge import driver
from midge.core.types import Array, DType, TensorType
from midge.graph.evaluate import evaluate
from midge.graph.ir import OPS, Attrs, Graph, Node
from midge.graph.real_product import split_real
from midge.kernels.arm_dsp.copy16 import Copy16
from midge.kernels.arm_dsp.gemm16 import Gemm16, pack
from midge.kernels.arm_dsp.int16 import layer16, sums_of
from midge.kernels.arm_dsp.scaling16 import Real, Scaling16, Wide, scaling16
from midge.loop.program import Kernel
from midge.loop.verify import verify
from midge.lower.candidates import Candidate, Request
from midge.lower.fuse import fuse
from midge.target import load_target

pytestmark = pytest.mark.slow

TARGETS = pytest.mark.parametrize("target", ["cortex-m4", "cortex-m3"])
PLAIN, RELU, PART = Wide(8), Wide(12, 0, 32767), Wide(1, -20000, 123)
REAL, REAL_RELU, REAL_PART = Real(4), Real(7, 0, 32767), Real(1, -1, 30000)


@TARGETS
def test_copy(target: str) -> None:
    copies = [Copy16(n) for n in (1, 2, 3, 15, 16, 17, 33, 47, 64)]
    bench = Bench([c.instruction() for c in copies], target)
    for c in copies:
        memory = bench.check(c.name, contents(c.instruction(), c.count))
        np.testing.assert_array_equal(memory["x"], memory["y"])


# channels, pixels, pixel_stride, runs, run_stride, length, blocks, y_pixel, y_channel, scaling
BASE = Gemm16(2, 4, 6, 1, 0, 5, 2, 4, 1, PLAIN)
GEMMS = [
    BASE,
    replace(BASE, scaling=None),
    replace(BASE, scaling=RELU, length=6, straight=2),
    replace(BASE, scaling=REAL_PART, length=7, straight=2, turns=3, x_turn=11, y_turn=16),
    replace(BASE, runs=3, run_stride=21, scaling=PART),
    replace(BASE, runs=3, run_stride=20, length=13, straight=3, scaling=REAL),
    replace(BASE, runs=2, run_stride=30, length=8, straight=4, scaling=REAL_RELU, y_pixel=1),
    replace(BASE, pixels=3, y_pixel=1, y_channel=5, length=1, turns=2, x_turn=18,
            y_turn=20),
    replace(BASE, channels=4, pixels=2, y_pixel=5000, y_channel=3, scaling=REAL),
    replace(BASE, channels=8, pixels=1, length=90, blocks=1, scaling=None),
    replace(BASE, channels=8, pixels=1, length=37, scaling=REAL, straight=8),
    replace(BASE, channels=6, pixels=1, blocks=1, scaling=PLAIN),
    replace(BASE, channels=1, narrow=False, blocks=1, scaling=REAL),
    replace(BASE, channels=1, pixels=1, narrow=False, length=9, straight=2),
    replace(BASE, pixel_stride=600, runs=3, run_stride=3000, length=3, blocks=1),
    replace(BASE, pixels=2, long=True, scaling=None, y_pixel=2, turns=2, x_turn=3, y_turn=9),
    replace(BASE, pixels=1, channels=4, long=True, scaling=None, length=600, straight=8,
            blocks=1),
    replace(BASE, pixels=2, channels=1, long=True, scaling=None, runs=2, run_stride=9,
            narrow=False),
]  # fmt: skip
GEMMS += [replace(g, narrow=False) for g in GEMMS if g.narrow]


def constants(scaling: Scaling16, w: Array, x: Array, seed: int) -> Array:
    """With which sums become int16, few of them at the limits: i32 [channels, words]."""
    rng = np.random.default_rng(seed)
    usual = np.sqrt((w.astype(np.float64) ** 2).sum((1, 2)) * (x.astype(np.float64) ** 2).mean())
    slope = rng.uniform(5000, 15000, len(w)) / (usual + 1)
    bias = rng.integers(-1000, 1000, len(w))
    if isinstance(scaling, Wide):
        columns = [bias, np.minimum(slope * 2.0 ** (32 + scaling.shift), 2**31 - 1)]
    else:
        upper = np.minimum(slope * 2.0 ** (32 + scaling.shift), 2**30 - 1)
        columns = [bias, rng.integers(-(1 << 31), 1 << 31, len(w)), upper]
    return np.stack([c.astype(np.int64).astype(np.int32) for c in columns], axis=1)


def gemm_memory(g: Gemm16, seed: int) -> Memory:
    """Products as large as they get, or of any size: by seed. Sums of 32 bits do not overflow."""
    products = g.runs * g.length
    most = 127 if g.long else min(65000 // products, 127)
    values = ((-most - 1, most), tuple(range(-most, most + 1)))[seed]
    w = extremes((g.blocks * g.channels, g.runs, g.length), values, DType.I8, seed)
    if g.long and seed == 0:
        w[:] = -128
    x = extremes((g.x_span,), ((-32768, 32767), tuple(range(-32768, 32768)))[seed], DType.I16, seed)
    if g.long and seed == 0:
        x[:] = -32768
    q = None if g.scaling is None else constants(g.scaling, w, x, seed)
    return contents(g.instruction(), seed, w=pack(w, q, g.channels, g.narrow), x=x)


@TARGETS
def test_gemm(target: str) -> None:
    bench = Bench([g.instruction() for g in GEMMS], target)
    for g in GEMMS:
        found = [bench.check(g.name, gemm_memory(g, seed))["y"] for seed in range(2)]
        assert len(np.unique(found)) > 3, f"{g.name}: nothing to see"
        if g.long and g.length > 100:
            assert np.abs(np.array(found)).max() > 1 << 31


def requantization(kind: str, channels: int, seed: int, low: int = -32768) -> tuple[Any, Any]:
    """Constants by name and attributes of a node that makes int16 of sums around 2^22."""
    rng = np.random.default_rng(seed)
    attrs: Attrs = {"zero_out": 0, "low": low, "high": 32767, "dtype": "i16"}
    if kind == "real":
        reals = 10 ** rng.uniform(-3, -1.5, 1 if seed % 2 else channels)
        parts = np.array([split_real(float(r)) for r in reals], np.int32).T
        return dict(zip(("m", "l", "s"), parts.copy(), strict=True)), attrs
    shift = rng.integers(-9, -4, channels).astype(np.int32)
    if kind == "wide":
        m = rng.integers(1 << 14, 1 << 15, channels).astype(np.int32)
        return {"m": m, "s": shift}, {**attrs, "rounding": "wide"}
    m = rng.integers(1 << 30, 1 << 31, channels).astype(np.int32)
    return {"m": m, "s": -shift}, {**attrs, "rounding": "right"}


def node_of(kind: str, consts: Any, attrs: Attrs, x: str = "acc") -> Node:
    op = "requantize_real" if kind == "real" else "requantize"
    return Node(op, (x, *consts), ("q",), attrs)


def graph_of(anchor: str, ends: str, seed: int) -> Graph:
    """A layer at random. ends: what makes int16 of its sums; "residual": by "wide", then added to
    another tensor; "right": of sums of 32 bits; "long": by "wide", sums that need more."""
    rng = np.random.default_rng(seed)
    depth, channels = int(rng.choice((1, 2, 3, 4, 8, 40))), int(rng.integers(1, 11))
    conv: Attrs = {"x_zero": 0}
    depth = depth if ends != "long" else 700
    x, w = (int(rng.integers(1, 7)), depth), (channels, depth)
    if anchor == "conv2d":
        taps = tuple(int(v) for v in rng.choice(((1, 1), (3, 3), (2, 3), (1, 4))[seed % 4], 2))
        pads = tuple(int(p) for p in rng.integers(0, 2, 4)) if seed % 3 else (0, 0, 0, 0)
        height, width = (int(v) for v in rng.integers(4, 12, 2))
        strides = tuple(int(v) for v in rng.integers(1, 3, 2))
        depth = depth if ends != "long" else 700 // (taps[0] * taps[1])
        conv = {
            **conv,
            "strides": strides,
            "dilations": (1, 1),
            "padding": pads,
            "pad_value": seed % 5,
        }
        x, w = (1, height, width, depth), (channels, *taps, depth)  # type: ignore[assignment]
    weights = rng.integers(-128, 128, w)
    if ends == "long":
        weights = np.where(rng.random(w) < 0.9, -128, weights)
    consts: dict[str, Array] = {"w": weights.astype(np.int8)}
    consts["b"] = rng.integers(-90000, 90000, channels)
    kind = {"residual": "wide", "long": "wide"}.get(ends, ends)
    scales, attrs = requantization(kind, channels, seed, -5 if seed % 4 == 0 else -32768)
    steps = [Node(anchor, ("x", "w", "b") if seed % 5 else ("x", "w"), ("acc",), conv)]
    if kind == "right":
        steps.append(Node("cast", ("acc",), ("short",), {"dtype": "i32"}))
    steps.append(node_of(kind, scales, attrs, steps[-1].outputs[0]))
    if ends == "residual":
        steps.append(Node("cast", ("q",), ("q_wide",), {"dtype": "i32"}))
        # The other operand's node may come before the layer's.
        other = Node("cast", ("z",), ("z_wide",), {"dtype": "i32"})
        steps.insert(0 if seed % 2 else len(steps), other)
        steps.append(Node("add", ("q_wide", "z_wide"), ("total",)))
        steps.append(Node("clip", ("total",), ("limited",), {"low": -32768.0, "high": 32767.0}))
        steps.append(Node("cast", ("limited",), ("y",), {"dtype": "i16"}))
    return typed(x, {**consts, **scales}, tuple(steps))


def typed(x: tuple[int, ...], consts: dict[str, Array], steps: tuple[Node, ...]) -> Graph:
    used = {v for n in steps for v in n.inputs}
    consts = {n: a for n, a in consts.items() if n in used}
    types = {"x": TensorType(x, DType.I16)}
    types |= {n: TensorType(a.shape, DType.of(a)) for n, a in consts.items()}
    anchor = next(n for n in steps if n.outputs == ("acc",))
    (acc,) = OPS[anchor.op].infer([types[n] for n in anchor.inputs], anchor.attrs)
    types["z"] = TensorType(acc.shape, DType.I16)
    for node in steps:
        (types[node.outputs[0]],) = OPS[node.op].infer([types[n] for n in node.inputs], node.attrs)
    inputs = ("x", "z") if "z" in used else ("x",)
    return Graph("layer", inputs, steps[-1].outputs, types, consts, steps)


def request_of(graph: Graph) -> Request:
    (group,) = (g for g in fuse(graph) if g.anchor is not None)
    assert group.output == graph.outputs[0], "the layer is one group"
    return Request(graph, group, load_target("cortex-m4"), {})


def memory_of(kernel: Kernel, made: Candidate, graph: Graph, inputs: dict[str, Array]) -> Memory:
    args, consts = made.constants(graph)
    rng = np.random.default_rng(0)
    memory: Memory = {}
    for p, value in zip(kernel.func.params, args, strict=True):
        given = {**consts, **inputs}.get(value)
        if given is None:  # scratch memory
            given = rng.integers(0, 256, p.elements * p.dtype.size, np.uint8).view(p.dtype.numpy)
        memory[p.name] = np.array(given).reshape(p.shape)
    return memory


def inputs_of(graph: Graph, seed: int) -> list[dict[str, Array]]:
    every = tuple(range(-32768, 32768))
    return [
        {n: extremes(graph.types[n].shape, values, DType.I16, seed) for n in graph.inputs}
        for values in (every, (-32768, 32767), (-32768,))
    ]


@pytest.mark.parametrize("ends", ["wide", "real", "right", "residual", "long"])
@pytest.mark.parametrize("anchor", ["conv2d", "dense"])
@TARGETS
def test_layers(anchor: str, ends: str, target: str) -> None:
    driver.load_operators()
    found = []
    for seed in range(8 if target == "cortex-m4" else 2):
        graph = graph_of(anchor, ends, seed)
        goal = ("speed", "balanced", "size")[seed % 3]
        made = next(iter(templates.made("conv2d/arm_dsp_int16", request_of(graph), goal)), None)
        if made is None:
            assert graph.nodes[0].op == "cast", "only layers behind another node have none"
            continue
        kernel = made.kernel(f"layer_{seed}")
        verify(kernel.func, kernel.instructions)
        assert sums_of(request_of(graph)).long == (ends == "long")
        found.append((seed, graph, made, kernel))
    bench = Bench([kernel for *_, kernel in found], target)
    for seed, graph, made, kernel in found:
        for inputs in inputs_of(graph, seed):
            y = bench.run(kernel.func.name, memory_of(kernel, made, graph, inputs))["y"]
            want = evaluate(graph, inputs)[graph.outputs[0]]
            np.testing.assert_array_equal(y.reshape(-1), want.reshape(-1), f"{seed}")


def test_sums_that_do_not_fit_are_long() -> None:
    driver.load_operators()
    scales, attrs = requantization("wide", 3, 0)
    for depth, value, long, scaled in (
        (511, -128, False, True),
        (512, -128, True, False),
        (512, 127, False, True),
    ):
        w = np.full((3, depth), value, np.int8)
        consts = {"w": w, "b": np.full(3, -60000), **scales}
        node = node_of("wide", scales, attrs)
        graph = typed((1, depth), consts, (Node("dense", ("x", "w", "b"), ("acc",), {}), node))
        sums = sums_of(request_of(graph))
        assert (sums.long, sums.scaling is not None) == (long, scaled)
        consts["b"] = np.full(3, 1 << 40)
        graph = typed((1, depth), consts, (Node("dense", ("x", "w", "b"), ("acc",), {}), node))
        assert sums_of(request_of(graph)).scaling is None


def test_other_layers_are_left_alone() -> None:
    driver.load_operators()
    graph = graph_of("conv2d", "wide", 1)
    assert layer16(request_of(graph)) is not None
    other = replace(request_of(graph), target=load_target("cortex-m3"))
    assert not templates.made("conv2d/arm_dsp_int16", other)
    assert layer16(request_of(replace(graph, consts={}))) is None
    # The layer's own input is added to its output.
    graph = graph_of("dense", "residual", 0)
    renamed = [
        replace(n, inputs=tuple("x" if v == "z" else v for v in n.inputs)) for n in graph.nodes
    ]
    graph = replace(graph, inputs=("x",), nodes=tuple(renamed))
    assert layer16(request_of(graph)) is None


def scaled(scaling: Scaling16, q: Array, x: Array) -> Array:
    """What a scaling's meaning makes of sums x [n], by Python's integers."""
    bias, *factor = (int(v) for v in q)
    bits = 32 * len(factor)
    multiplier = sum(v << (32 * i) for i, v in enumerate(factor))
    half = 1 << (scaling.shift - 1)
    results = [(((int(v) + bias) * multiplier >> bits) + half) >> scaling.shift for v in x]
    clipped: Array = np.clip(np.array(results), scaling.low, scaling.high)
    return clipped


@pytest.mark.parametrize("kind", ["wide", "real"])
def test_scalings_are_the_operators(kind: str) -> None:
    """Around every step, at the ends and anywhere."""
    driver.load_operators()
    for seed in range(4):
        rng = np.random.default_rng(seed)
        scales, attrs = requantization(kind, 1, seed)
        node, bias = node_of(kind, scales, attrs), rng.integers(-1000, 1000, 1)
        graph = Graph("g", (), (), {}, scales, ())
        found = scaling16(graph, node, bias, (1 << 31) - 1)
        assert found is not None
        scaling, q = found
        assert (kind == "real") == isinstance(scaling, Real)
        top = (1 << 31) - 2000
        x = np.concatenate([rng.integers(-top, top, 3000), rng.integers(-9999, 9999, 999), [top]])
        slope = float(scaled(scaling, q[0], np.array([1 << 20]))[0]) / (1 << 20)
        ties = ((rng.integers(-32768, 32767, 5000) + 0.5) / slope).astype(np.int64)
        x = np.concatenate([x, *(ties + i for i in (-1, 0, 1))])
        x = x[np.abs(x) < top]
        (want,) = OPS[node.op].reference([x + bias, *scales.values()], attrs)
        np.testing.assert_array_equal(scaled(scaling, q[0], x), want)


def test_a_real_number_with_ties_is_left_to_the_operator() -> None:
    """A tie of 2^-9 is 256; near 1 / 510 a product is one in binary64; 1 / 511 has none."""
    driver.load_operators()
    for real, most, exact in (
        (2.0**-9, 1 << 30, False),
        (2.0**-9, 255, True),
        (2.0**-9, 256, False),
        (float(Fraction(1, 510)), 1 << 20, False),
        (float(Fraction(1, 510)), 254, True),
        (float(Fraction(1, 511)), 1 << 30, True),
    ):
        parts = np.array([split_real(real)], np.int32).T
        scales = dict(zip(("m", "l", "s"), parts.copy(), strict=True))
        attrs: Attrs = {"zero_out": 0, "low": -32768, "high": 32767, "dtype": "i16"}
        graph = Graph("g", (), (), {}, scales, ())
        found = scaling16(graph, node_of("real", scales, attrs), np.zeros(1, np.int64), most)
        assert (found is not None) == exact, (real, most)
