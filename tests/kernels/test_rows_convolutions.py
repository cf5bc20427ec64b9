"""Convolutions and pools on bands of rows: every candidate against the NumPy reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from instruction_checks import Bench
from layer_checks import layer
from test_arm_dsp_layers import Case, graph_of, renamed

import templates
from midge.core.types import Array, DType, TensorType
from midge.data import random_inputs
from midge.graph.evaluate import evaluate as evaluate_graph
from midge.graph.ir import OPS, Graph, Node, verify
from midge.kernels.arm_dsp.geometry import Layer
from midge.kernels.arm_dsp.strips import blocks_of, order, strips, twos_of
from midge.loop.evaluate import evaluate
from midge.lower.candidates import Option, Request, options
from midge.lower.fuse import fuse
from midge.lower.layouts import CHANNELS_FIRST
from midge.lower.lower import can_overwrite
from midge.lower.space import Goal
from midge.target import load_target

pytestmark = pytest.mark.slow

M4 = load_target("cortex-m4")
SIDES = (0, 0, 1, 1)


@dataclass(frozen=True)
class Band:
    """A band of a layer. planes: elements from channel to channel of an output that lies channels
    first, 0 for one that does not. added: an image is added to its result."""

    case: Case
    planes: int = 0
    added: bool = False
    winograd: bool = False

    @property
    def pieces(self) -> bool:
        return self.case.x[1] > 1


def conv(
    rows: int, width: int, depth: int, w: tuple[int, int, int], stride: int = 1,
    padding: tuple[int, int, int, int] = SIDES, **more: Any,
) -> Case:  # fmt: skip
    """A band of `rows` rows; w: channels and window."""
    height = (rows - 1) * stride + w[1]
    x, weights = (1, height, width, depth), (*w, depth)
    return Case("conv2d", x, weights, (stride, stride), padding, **more)


BANDS = [
    Band(conv(1, 8, 4, (4, 3, 3))),
    Band(conv(1, 9, 16, (6, 3, 3), zero=9, real=0.0005)),
    Band(conv(2, 9, 16, (8, 3, 3), pad_value=5, real=0.0005), planes=40, winograd=True),
    Band(conv(2, 6, 5, (3, 3, 3), pad_value=127), winograd=True),
    Band(conv(2, 7, 8, (4, 3, 3), padding=(0, 0, 2, 2)), added=True, winograd=True),
    Band(conv(4, 5, 4, (4, 3, 3), pad_value=11), winograd=True),
    Band(conv(1, 12, 3, (8, 3, 3), 2, (0, 0, 0, 1), pad_value=-3), planes=6),
    Band(conv(2, 13, 3, (8, 3, 3), 2, (0, 0, 1, 1), zero=4), planes=100),
    Band(conv(1, 10, 1, (4, 10, 4), 2, (0, 0, 1, 1), zero=-9)),
    Band(conv(1, 6, 40, (4, 3, 3), real=0.0003), added=True),
    Band(conv(1, 4, 64, (2, 3, 3), real=0.0003)),
    Band(conv(1, 1, 8, (4, 3, 1), padding=(0, 0, 0, 0))),
    Band(conv(4, 1, 16, (4, 5, 1), padding=(0, 0, 0, 0)), planes=4),
    Band(conv(1, 3, 4, (2, 1, 3), padding=(0, 0, 3, 4), pad_value=60)),
    Band(conv(2, 8, 4, (4, 1, 1), 2, (0, 0, 0, 0))),
    Band(conv(1, 5, 64, (8, 1, 1), padding=(0, 0, 0, 0)), planes=5),
    Band(conv(2, 5, 64, (6, 1, 1), padding=(0, 0, 0, 0)), planes=40),
    Band(conv(4, 1, 128, (4, 1, 1), padding=(0, 0, 0, 0), real=0.0007), planes=4),
    Band(conv(1, 9, 8, (4, 1, 1), padding=(0, 0, 0, 0)), added=True),
    Band(conv(1, 6, 8, (2, 3, 3)), added=True),
    Band(conv(3, 3, 300, (8, 1, 1), padding=(0, 0, 0, 0), real=0.0005)),
    Band(conv(1, 7, 11, (3, 1, 1), padding=(0, 0, 0, 0))),
]


def graph_of_band(band: Band, seed: int) -> Graph:
    graph = graph_of(band.case, seed)
    if not band.added:
        return graph
    types = {**graph.types, "r": graph.types["y"]}
    types["z"] = TensorType(types["y"].shape, DType.I8)
    nodes = (*graph.nodes, Node("maximum", ("y", "r"), ("z",), {}))
    graph = replace(graph, inputs=("x", "r"), outputs=("z",), types=types).with_nodes(nodes)
    verify(graph)
    return graph


def requests(band: Band, graph: Graph) -> list[Request]:
    """For scratch memory in abundance, and little of it."""
    (group,) = fuse(graph)
    (y,) = graph.outputs
    first = {y: CHANNELS_FIRST} if band.planes else {}
    rows = frozenset({"x"}) if band.pieces and not pointwise(band) else frozenset()
    request = Request(graph, group, M4, first, rows, {y: band.planes} if first else {})
    return [request, replace(request, small=True)]


def pointwise(band: Band) -> bool:
    """Whether the rows of a band are in one piece."""
    return band.case.w[1:3] == (1, 1) and band.case.strides == (1, 1)


def special(request: Request, name: str) -> list[Option]:
    found = [o for o in options(replace(request, name=name), Goal()) if o.candidate.name != "loops"]
    return [renamed(o, f"{name}_{i}") for i, o in enumerate(found)]


def memory_of(option: Option, inputs: dict[str, Array]) -> dict[str, Array]:
    given = {**option.consts, **inputs}
    memory = {}
    for p, value in zip(option.kernel.func.params, option.args, strict=True):
        empty = np.zeros(p.shape, p.dtype.numpy)
        memory[p.name] = given[value].reshape(p.shape).copy() if value in given else empty
    return memory


def planes_of(y: Array, pitch: int) -> Array:
    """What lies in memory of y [1, rows, width, channels]; 0 in between."""
    flat = y.transpose(CHANNELS_FIRST).reshape(y.shape[3], -1)
    return np.pad(flat, ((0, 0), (0, pitch - flat.shape[1]))).reshape(-1)


def scratch(option: Option) -> int:
    return sum(p.elements * p.dtype.size for p in option.kernel.func.params if p.mode == "scratch")


def test_bands() -> None:
    work = []
    for number, band in enumerate(BANDS):
        graph = graph_of_band(band, number % 2)
        for which, request in enumerate(requests(band, graph)):
            found = special(request, f"band{number}_{which}")
            assert found, f"{band}: no micro-kernel"
            assert band.winograd <= any(o.candidate.name == "winograd" for o in found)
            different = {(o.candidate.name, scratch(o)): o for o in found}
            work += [(band, graph, option) for option in different.values()]
    bench = Bench([option.kernel for _, _, option in work])
    for band, graph, option in work:
        rng = np.random.default_rng(7)
        inputs = {n: rng.integers(-128, 128, graph.types[n].shape).astype(np.int8)
                  for n in graph.inputs}  # fmt: skip
        (want,) = evaluate_graph(graph, inputs).values()
        memory = memory_of(option, inputs)
        y = bench.run(option.kernel.func.name, memory)["y"].reshape(-1)
        expected = planes_of(want, band.planes)[: len(y)] if band.planes else want.reshape(-1)
        np.testing.assert_array_equal(y[: len(expected)], expected, str((band, option.candidate)))
        assert (y[len(expected) :] == 0).all()


def test_rows_come_as_pointers() -> None:
    for band in BANDS:
        graph = graph_of_band(band, 0)
        for request in requests(band, graph):
            for option in special(request, "k"):
                (x,) = [p for p in option.kernel.func.params if p.name == "x"]
                assert bool(x.rows) == bool(request.rows)


def test_little_scratch_memory() -> None:
    """Half a KB or a whole one is enough where a few pixels fit."""
    vww = Band(conv(1, 96, 3, (8, 3, 3), 2, (0, 0, 0, 1)))
    ic = [Band(conv(1, n, d, (4, 3, 3), real=0.0005)) for n, d in ((32, 16), (16, 32))]
    for band, limit in ((vww, 600), (ic[0], 600), (ic[1], 800)):
        large, small = requests(band, graph_of_band(band, 0))
        sizes = [scratch(o) for o in special(small, "k") if o.candidate.name == "rows"]
        assert sizes[0] <= limit, band
        assert max(sizes) == max(scratch(o) for o in special(large, "k"))


class _Spied(np.ndarray[Any, Any]):
    """Notes which element of a row is touched."""

    log: list[tuple[str, int]]
    kind: str

    def note(self, index: tuple[int, ...]) -> None:
        row = self.shape[1:] if self.ndim > 1 else self.shape
        at = index[1:] if self.ndim > 1 else index
        self.log.append((self.kind, int(np.ravel_multi_index(at, row))))

    def __getitem__(self, index: Any) -> Any:
        self.note(index)
        return np.asarray(self)[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        self.note(index)
        np.asarray(self)[index] = value


def spied(array: Array, kind: str, log: list[tuple[str, int]]) -> Array:
    found = array.view(_Spied)
    found.log, found.kind = log, kind
    return found


@pytest.mark.parametrize("number", [0, 6, 8, 13, 15, 18, 19, 21])
def test_order(number: int) -> None:
    """What was read for good before columns are written is not read afterwards."""
    band = BANDS[number]
    assert band.case.x[1] == band.case.w[1], "not a band of one row"
    band = replace(band, planes=0)
    graph = graph_of_band(band, 0)
    _, request = requests(band, graph)
    rng = np.random.default_rng(1)
    inputs = {n: rng.integers(-9, 9, graph.types[n].shape).astype(np.int8) for n in graph.inputs}
    y = graph.types[graph.outputs[0]]
    lengths = set()
    ways = ("conv2d/arm_dsp", "conv2d/arm_dsp_winograd")
    for candidate in (c for key in ways for c in templates.made(key, request)):
        args, consts = candidate.constants(request.graph)
        option = Option(candidate, candidate.kernel("k"), args, consts)
        log: list[tuple[str, int]] = []
        memory = memory_of(option, inputs)
        memory["x"] = spied(memory["x"], "x", log)
        memory["y"] = spied(memory["y"], "y", log)
        evaluate(option.kernel.plain, memory)
        pairs = candidate.order
        assert pairs[-1] == (band.case.x[2], y.shape[2])
        lengths.add(len(pairs))
        read = {c: t for t, c in columns(log, "x", band.case.x[3])}
        before = 0
        for done, written in pairs:
            last = max((read[c] for c in range(done) if c in read), default=-1)
            times = [t for t, c in columns(log, "y", y.shape[3]) if before <= c < written]
            assert last < min(times)
            before = written
    wide = max(scratch(o) for o in special(requests(band, graph)[0], "whole"))
    assert max(lengths) > 1 or wide < 600


def columns(log: Sequence[tuple[str, int]], kind: str, depth: int) -> list[tuple[int, int]]:
    """(time, column) of all that happened to a buffer."""
    return [(t, at // depth) for t, (k, at) in enumerate(log) if k == kind]


POOLS = [
    # rows, width, channels, window, strides, padding at the left and at the right
    (1, 8, 16, (2, 2), 2, (0, 0)),
    (2, 9, 20, (3, 3), 2, (1, 1)),
    (4, 5, 70, (2, 3), 1, (1, 0)),
    (1, 12, 5, (3, 3), 1, (1, 1)),
    (2, 4, 600, (2, 4), 1, (0, 0)),
]


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m3"])
def test_pools(target: str) -> None:
    work = []
    for number, (rows, width, channels, window, stride, sides) in enumerate(POOLS):
        attrs = {"window": window, "strides": (stride, stride), "padding": (0, 0, *sides)}
        attrs["dilations"] = (1, 1)
        types = {"x": TensorType((1, (rows - 1) * stride + window[0], width, channels), DType.I8)}
        (types["y"],) = OPS["max_pool2d"].infer([types["x"]], attrs)
        node = Node("max_pool2d", ("x",), ("y",), attrs)
        graph = Graph("g", ("x",), ("y",), types, {}, (node,))
        (group,) = fuse(graph)
        request = Request(graph, group, M4, {}, rows=frozenset({"x"}), small=True)
        found = special(request, f"pool{number}")
        found = [o for o in found if o.candidate.name == "rows"]
        assert found
        work += [(graph, option) for option in found]
    bench = Bench([option.kernel for _, option in work], target)
    for graph, option in work:
        x = np.random.default_rng(3).integers(-128, 128, graph.types["x"].shape).astype(np.int8)
        (want,) = evaluate_graph(graph, {"x": x}).values()
        y = bench.run(option.kernel.func.name, memory_of(option, {"x": x}))["y"]
        np.testing.assert_array_equal(y.reshape(-1), want.reshape(-1))


@pytest.mark.parametrize("channels", [64, 20, 128, 5])
@pytest.mark.parametrize("rows", [1, 3])
def test_sums_that_are_added_up(rows: int, channels: int) -> None:
    """A sum and what was there before are one kernel, also by the micro-kernel."""
    total = TensorType((1, 1, 1, channels), DType.I32)
    types = {"x": TensorType((1, rows, 7, channels), DType.I8)}
    types |= dict.fromkeys(("part", "before", "y"), total)
    nodes = (
        Node("sum", ("x",), ("part",), {"axes": (1, 2), "x_zero": 3}),
        Node("add", ("part", "before"), ("y",), {}),
    )
    graph = Graph("g", ("x", "before"), ("y",), types, {}, nodes)
    verify(graph)
    (group,) = fuse(graph)
    found = special(Request(graph, group, M4, {}, small=True), "sums")
    assert found
    rng = np.random.default_rng(1)
    inputs = {n: rng.integers(-128, 128, types[n].shape).astype(types[n].dtype.numpy)
              for n in graph.inputs}  # fmt: skip
    (want,) = evaluate_graph(graph, inputs).values()
    bench = Bench([o.kernel for o in found])
    for option in found:
        assert scratch(option) <= 256
        before = option.kernel.func.params[option.args.index("before")]
        assert can_overwrite(option.kernel.func, before)
        y = bench.run(option.kernel.func.name, memory_of(option, inputs))["y"]
        np.testing.assert_array_equal(y.reshape(-1), want.reshape(-1))


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("left", [0, 1, 4])
def test_strips(stride: int, left: int) -> None:
    for width in (1, 2, 5, 9, 14):
        for kw in (1, 3):
            out = (width + 2 * left - kw) // stride + 1
            if out < 1:
                continue
            layer = Layer(3, width, 4, 1, out, 4, (3, kw), (stride, stride), 0, left, 0)
            for most in (None, 1, 4, 7, 100):
                for blocks in (blocks_of(out), blocks_of(out, 2), twos_of(out)):
                    found = strips(layer, blocks, most)
                    _check(layer, found, most)
                    pairs = order(layer, found, out)
                    assert pairs[-1] == (width, out)
                    assert list(pairs) == sorted(pairs)


def _check(layer: Layer, found: Sequence[Any], most: int | None) -> None:
    pixel = 0
    for strip in found:
        assert strip.start == pixel
        few = sum(n for _, n in strip.blocks) == 1
        assert most is None or few or strip.columns <= most
        for _ in range(strip.number):
            first = pixel * layer.strides[1] - layer.left
            inside = [c for c in range(first, first + strip.columns) if 0 <= c < layer.width]
            assert strip.inside == len(inside)
            assert not inside or inside[0] == first + strip.lead
            pixel += strip.pixels
    assert pixel == layer.out_width


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize(("dtype", "target"), [(DType.F32, "cortex-m4"), (DType.I16, "cortex-m4")])
def test_other_types(dtype: DType, target: str, small: bool) -> None:
    """What float and int16 layers compute from rows, and into planes, is what the loops do."""
    shapes: list[tuple[tuple[int, int, int, int], tuple[int, int, int, int], tuple[int, int]]] = [
        ((1, 3, 7, 4), (4, 3, 3, 4), (1, 1)),
        ((1, 5, 6, 3), (3, 3, 2, 3), (2, 2)),
        ((1, 2, 5, 8), (4, 1, 1, 8), (1, 1)),
    ]
    weights = DType.F32 if dtype is DType.F32 else DType.I8
    for x, w, strides in shapes:
        padding = (0, 0, 1, 0) if w[2] > 1 else (0, 0, 0, 0)
        graph = layer("conv2d", x, w, weights, strides=strides, padding=padding)
        types = {**graph.types, "x": TensorType(x, dtype)}
        node = graph.nodes[0]
        if dtype is DType.I16:
            node = replace(node, attrs={**node.attrs, "pad_value": 0})
            types["y"] = TensorType(types["y"].shape, DType.I64)
        graph = replace(graph, types=types, nodes=(node,))
        verify(graph)
        (group,) = fuse(graph)
        y = types["y"].shape
        for planes in (0, y[1] * y[2], (y[1] + 1) * y[2]):
            layouts = {"y": CHANNELS_FIRST} if planes else {}
            request = Request(
                graph, group, load_target(target), layouts, rows=frozenset({"x"}),
                planes={"y": planes} if planes else {}, small=small,
            )  # fmt: skip
            (inputs,) = random_inputs(graph, 1, 0)
            every = list(options(request, Goal()))
            assert len(every) > 1
            found = [result(o, inputs) for o in every]
            for option, have in zip(every, found, strict=True):
                np.testing.assert_array_equal(have, found[-1], option.candidate.name)


def result(option: Option, inputs: dict[str, Array]) -> Array:
    memory = memory_of(option, inputs)
    meanings = {n: i.meaning for n, i in option.kernel.instructions.items()}
    evaluate(option.kernel.func, memory, meanings)
    return memory[option.kernel.func.params[-1].name].reshape(-1)
