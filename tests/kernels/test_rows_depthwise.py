"""Depthwise convolutions on bands of rows: assembler == meaning, and layers == their loops."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from instruction_checks import Bench, Memory, contents, extremes, scaling_constants
from test_arm_dsp_layers import Case, graph_of, renamed

from midge.core.types import Array, DType
from midge.graph.evaluate import evaluate
from midge.graph.ir import Graph
from midge.kernels.arm_dsp import column, plane
from midge.kernels.arm_dsp.column import Column
from midge.kernels.arm_dsp.depthwise import plane_of
from midge.kernels.arm_dsp.plane import Plane
from midge.kernels.arm_dsp.plane_rows import inside, words_of
from midge.kernels.arm_dsp.scaling import Line, Twice
from midge.lower.candidates import Option, Request, options
from midge.lower.fuse import fuse
from midge.lower.layouts import CHANNELS_FIRST
from midge.lower.space import Goal
from midge.target import load_target

pytestmark = pytest.mark.slow

M4 = load_target("cortex-m4")
PITCH = 130
TARGETS = pytest.mark.parametrize("target", ["cortex-m4", "cortex-m3"])
INT8 = tuple(range(-128, 128))
WEIGHTS = tuple(range(-127, 128))
PLAIN = Line(8, 0, -128, 127)
RELU = Line(6, 4, -3, 100)
TWICE = Twice(-100, 127)


def band(
    width: int,
    rows: int,
    channels: int = 2,
    stride: int = 1,
    taps: tuple[int, int] = (3, 3),
    left: int = 1,
    right: int = 1,
    pitch: int = 0,
    scaling: Line | Twice = PLAIN,
    pad: int = -7,
) -> Plane:
    """A band of `rows` output rows, from rows channels first if there is a pitch."""
    height = (rows - 1) * stride + taps[0]
    out = (width + left + right - taps[1]) // stride + 1
    x = (0, 1, pitch) if pitch else (0, channels, 1)
    y = (1, rows * out) if pitch and width % 2 else (channels, 1)
    return Plane(
        channels, height, width, x, rows, out, taps, (stride, stride), 0, left, pad, *y, scaling,
        "rows",
    )  # fmt: skip


def pixels(height: int, rows: int, taps: int, pitch: int = 0, **changes: object) -> Plane:
    """A band of a column of pixels: its rows are the columns of `Plane`."""
    own = Plane(
        5, 1, height, (1, 0, pitch or 1), 1, rows, (1, taps), (1, 1), 0, 0, 9, 5, 1, PLAIN,
        "columns",
    )  # fmt: skip
    return replace(own, **changes)  # type: ignore[arg-type]


BANDS = {
    f"W{w} R{r} s{s} {'planes' if p else 'pixels'}": band(
        w, r, stride=s, pitch=p and w * 4 + 3, left=1 if s == 1 else w % 2
    )
    for w in (1, 2, 3, 4, 5, 6, 9, 12)
    for r in (1, 2, 4)
    for s in (1, 2)
    for p in (0, 1)
    if w + 1 + (1 if s == 1 else w % 2) >= 3
}
BANDS |= {
    "no margins": band(7, 2, left=0, right=0, pitch=50),
    "left": band(6, 2, left=2, right=0, pitch=50, pad=127, scaling=TWICE),
    "right": band(6, 2, left=0, right=2, pitch=50, pad=-128, scaling=RELU),
    "5x5": band(9, 2, taps=(5, 5), left=2, right=2, pitch=40, pad=-128, scaling=RELU),
    "5x5 s2": band(9, 2, stride=2, taps=(5, 5), left=2, right=2, pitch=40, pad=-128),
    "2x3": band(9, 3, taps=(2, 3), pitch=40, scaling=RELU, pad=-128),
    "1x3": band(9, 3, taps=(1, 3), pitch=40, scaling=TWICE, pad=127),
    "3x2": band(9, 2, taps=(3, 2), left=0, pitch=40, scaling=TWICE, pad=127),
    "3x1": band(9, 2, taps=(3, 1), left=0, right=0, pitch=40, scaling=TWICE, pad=127),
    "strides 1 2": replace(band(9, 2, pitch=40), out_width=5, strides=(1, 2)),
    "strides 1 2 without borders": replace(
        band(9, 2, pitch=40, pad=0), out_width=5, strides=(1, 2)
    ),
    "strides 2 1": replace(band(9, 2, stride=2, pitch=40), out_width=9, strides=(2, 1)),
    "strides 2 1 R4": replace(band(9, 4, stride=2, pitch=40), out_width=9, strides=(2, 1)),
    "wide": band(48, 2, channels=2, pitch=48 * 4, scaling=TWICE),
    "wide s2": band(48, 2, channels=2, stride=2, left=0, pitch=48 * 4, scaling=TWICE),
    "wide R1": band(47, 1, channels=2, pitch=48 * 4, scaling=RELU, pad=-128),
    "twice": band(5, 2, pitch=20, scaling=TWICE, pad=127),
    "twice R1": band(5, 1, pitch=20, scaling=TWICE, pad=127),
    "relu": band(5, 2, pitch=20, scaling=RELU, pad=-128),
    "relu R1": band(5, 1, pitch=20, scaling=RELU, pad=-128),
}
BANDS |= {
    f"{t}x1 of {h}{' planes' * bool(p)}": pixels(h, h - t + 1, t, p)
    for t, h in ((5, 8), (10, 13), (3, 4), (1, 2), (5, 5))
    for p in (0, 4)
}


def memory_of(p: Plane, seed: int) -> Memory:
    """Sums as large as they get, or random ones."""
    shape = (*p.taps, p.channels)
    w = extremes(shape, (-127, 127) if seed == 0 else WEIGHTS, DType.I8, seed)
    x = extremes(p.x_shape, INT8 if seed else (-128, 127), DType.I8, seed)
    q = scaling_constants(p.scaling, w.transpose(2, 0, 1), x, seed)
    q = np.concatenate([q, plane.borders(p, w)], axis=1)
    return contents(p.instruction(), seed, w=plane.pack(w, q), x=x)


BANDS |= {f"{n} direct": replace(p, direct=True) for n, p in BANDS.items() if plane.direct_fits(p)}


@TARGETS
def test_bands(target: str) -> None:
    bench = Bench([p.instruction() for p in BANDS.values()], target)
    for p in BANDS.values():
        for seed in range(2):
            bench.check(p.name, memory_of(p, seed))


COLUMNS = [
    Column(8, r, t, *strides, scaling)
    for r in (1, 2, 3, 4, 5)
    for t in (1, 2, 3, 5, 6, 9, 10)
    for strides, scaling in (((1, 40), RELU), ((8, 1), TWICE))
]


@TARGETS
def test_columns(target: str) -> None:
    columns = [c for c in COLUMNS if column.fits(c)]
    bench = Bench([c.instruction() for c in columns], target)
    for c in columns:
        for seed in range(2):
            w = extremes((c.taps, c.channels), WEIGHTS if seed else (-127, 127), DType.I8, seed)
            x = extremes((c.height, c.channels), INT8 if seed else (-128,), DType.I8, seed)
            q = scaling_constants(c.scaling, w.T, x, seed)
            bench.check(c.name, contents(c.instruction(), seed, w=column.pack(w, q), x=x))


def layer(
    rows: int, width: int, channels: int, taps: tuple[int, int], stride: int = 1,
    sides: tuple[int, int] = (1, 1), **more: Any,
) -> Case:  # fmt: skip
    """A band of `rows` rows of a layer."""
    x = (1, (rows - 1) * stride + taps[0], width, channels)
    padding = (0, 0, *sides)
    return Case("depthwise_conv2d", x, (1, *taps, channels), (stride, stride), padding, **more)


LAYERS = [
    layer(2, 5, 6, (3, 3)),
    layer(1, 5, 4, (3, 3), zero=5, low=5, high=100, pad_value=127),
    layer(4, 5, 3, (3, 3), pad_value=0, real=0.9),
    layer(2, 12, 3, (3, 3), pad_value=-3),
    layer(2, 12, 3, (3, 3), 2, (0, 1), pad_value=-128),
    layer(3, 6, 3, (3, 3), 2, (0, 1), pad_value=3),
    layer(2, 3, 3, (3, 3), pad_value=9),
    layer(1, 24, 2, (3, 3), pad_value=9),
    layer(2, 8, 3, (5, 5), 1, (2, 2), pad_value=9),
    layer(4, 1, 5, (5, 1), 1, (0, 0)),
    layer(4, 1, 9, (10, 1), 1, (0, 0), real=0.01),
    layer(2, 1, 2, (3, 3), 1, (1, 1)),
    layer(4, 1, 8, (5, 1), 1, (0, 0), pad_value=0),
    layer(4, 1, 12, (10, 1), 1, (0, 0), real=0.01),
    layer(3, 1, 4, (4, 1), 1, (0, 0)),
]


def request_of(graph: Graph, planes: bool, pitch: int, first: bool, goal: str) -> Request:
    (group,) = fuse(graph)
    layouts = {"x": CHANNELS_FIRST} if planes else {}
    pitches = {"x": pitch} if planes else {}
    if first:
        layouts["y"], pitches["y"] = CHANNELS_FIRST, graph.types["y"].elements
    return Request(graph, group, M4, layouts, frozenset("x"), pitches, True, name="k")


def rows_of(x: Array, planes: bool, pitch: int) -> Array:
    """x [1, n, W, C] as rows lie: [n, elements of a row]."""
    _, n, width, channels = x.shape
    if not planes:
        return x.reshape(n, -1)
    rows = np.full((n, channels, pitch), 55, np.int8)
    rows[:, :, :width] = x[0].transpose(0, 2, 1)
    return rows.reshape(n, -1)[:, : (channels - 1) * pitch + width]


@pytest.mark.parametrize("goal", ["speed", "size"])
def test_layers(goal: str) -> None:
    work: list[tuple[Graph, bool, bool, Option]] = []
    for number, case in enumerate(LAYERS):
        graph = graph_of(case, number % 2)
        for planes in (False, True):
            request = request_of(graph, planes, PITCH, number % 3 == 0, goal)
            found = list(options(request, Goal(goal)))
            special = [o for o in found if o.candidate.name != "loops"]
            assert special, case
            for i, option in enumerate(special):
                name = f"layer{number}_{int(planes)}_{i}"
                work.append((graph, planes, number % 3 == 0, renamed(option, name)))
    bench = Bench([option.kernel for *_, option in work])
    rng = np.random.default_rng(0)
    for graph, planes, first, option in work:
        x = rng.integers(-128, 128, graph.types["x"].shape).astype(np.int8)
        want = evaluate(graph, {"x": x})["y"]
        values = {**option.consts, "x": rows_of(x, planes, PITCH)}
        memory = {}
        for p, value in zip(option.kernel.func.params, option.args, strict=True):
            given = values.get(value)
            empty = np.zeros(p.shape, p.dtype.numpy)
            memory[p.name] = empty if given is None else given.reshape(p.shape).copy()
        (parameter,) = [p for p in option.kernel.func.params if p.name == "x"]
        assert parameter.rows == 1
        y = bench.run(option.kernel.func.name, memory)["y"]
        if first:
            _, rows, width, channels = want.shape
            places = np.arange(channels)[:, None] * want.size + np.arange(rows * width)
            want, y = want[0].reshape(-1, channels).T, y[places]
        np.testing.assert_array_equal(y.reshape(-1), want.reshape(-1), option.candidate.name)


def test_what_is_refused() -> None:
    graph = graph_of(layer(2, 9, 3, (3, 3)), 0)
    node = graph.nodes[0]
    wide = replace(node, attrs={**node.attrs, "dilations": (1, 2), "padding": (0, 0, 2, 2)})
    graph = graph.with_nodes((wide, *graph.nodes[1:]))
    assert plane_of(request_of(graph, True, PITCH, False, "speed")) is None


def test_words_lie_in_their_rows() -> None:
    """And each output has those of all its taps."""
    for p in BANDS.values():
        if not p.direct:
            continue
        words = words_of(p)
        assert [o for w in words for o in w.outputs] == list(range(p.out_width))
        for w in words:
            assert 0 <= w.start <= p.width - 4
            spans = [inside(p, o) for o in w.outputs]
            assert all(w.start <= a <= b <= w.start + 3 for a, b in spans)
