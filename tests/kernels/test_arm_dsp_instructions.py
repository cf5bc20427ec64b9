"""The micro-kernels of Armv7E-M: assembler == meaning, and the loops for other cores == meaning."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from instruction_checks import Bench, Memory, contents, extremes, scaling_constants

from midge.core.types import Array, DType
from midge.kernels.arm_dsp import gemm, plane
from midge.kernels.arm_dsp.fill import Fill
from midge.kernels.arm_dsp.gemm import Gemm
from midge.kernels.arm_dsp.matvec import MatVec
from midge.kernels.arm_dsp.plane import Plane
from midge.kernels.arm_dsp.scaling import Line, Twice
from midge.kernels.arm_dsp.widen import Widen, order

TARGETS = pytest.mark.parametrize("target", ["cortex-m4", "cortex-m3"])
SEEDS = range(3)
INT8 = tuple(range(-128, 128))
SMALL = tuple(range(-9, 10))
WEIGHTS = tuple(range(-127, 128))

PLAIN = Line(8, 0, -128, 127)
RELU = Line(6, 4, -3, 100)
LOW = Line(4, 2, -128, 6)
TWICE = Twice(-128, 127)
TWICE_RELU = Twice(-100, 99)

WIDENS = [Widen(n, paired) for n in (1, 3, 4, 8, 13, 16, 19, 32, 39) for paired in (False, True)]


@TARGETS
def test_widen(target: str) -> None:
    bench = Bench([w.instruction() for w in WIDENS], target)
    for w in WIDENS:
        memory = contents(w.instruction(), w.count)
        y = bench.check(w.name, memory)["y"]
        np.testing.assert_array_equal(y, memory["x"][order(w.count, w.paired)])


@TARGETS
def test_fill(target: str) -> None:
    fills = [Fill(n, value) for n in (1, 2, 7, 16, 17, 18, 31, 2100) for value in (-128, 0, 127)]
    fills += [Fill(3, 5, 4, 10), Fill(6, -7, 3, 2100), Fill(17, 1, 3, 19), Fill(64, 9, 10, 70)]
    bench = Bench([f.instruction() for f in fills], target)
    for f in fills:
        y = bench.check(f.name, contents(f.instruction(), f.count))["y"]
        for t in range(f.times):
            assert (y[t * f.stride :][: f.count] == f.value).all()


# pairs, pixels, pixel_stride, runs, run_stride, length, blocks, y_pixel, y_channel, scaling
GEMMS = [
    Gemm(1, 4, 6, 1, 0, 3, 2, 4, 1, PLAIN),
    Gemm(1, 4, 6, 1, 0, 3, 2, 4, 1, TWICE),
    Gemm(1, 4, 2, 3, 20, 3, 1, 2, 1, None),
    Gemm(1, 3, 4, 2, 12, 3, 3, 1, 5, RELU),
    Gemm(1, 2, 4, 2, 10, 5, 2, 4, 1, RELU, straight=3),
    Gemm(1, 4, 8, 3, 40, 5, 1, 2, 1, LOW, straight=5),
    Gemm(1, 1, 0, 1, 0, 7, 2, 1, 1, PLAIN, straight=2),
    Gemm(1, 3, 4, 2, 12, 3, 1, 1, 5, RELU, single=True),
    Gemm(1, 3, 4, 2, 12, 3, 1, 1, 5, TWICE_RELU, single=True),
    Gemm(1, 4, 6, 1, 0, 3, 1, 1, 7, None, single=True, straight=2),
    Gemm(4, 1, 0, 1, 0, 9, 2, 0, 1, LOW),
    Gemm(2, 2, 4, 1, 0, 4, 2, 5000, 3, TWICE_RELU),
    Gemm(1, 4, 600, 3, 3000, 2, 2, 4, 1, PLAIN),
    Gemm(4, 1, 0, 1, 0, 300, 1, 0, 1, None, straight=400),
    Gemm(1, 4, 6, 1, 0, 3, 2, 4, 1, PLAIN, turns=3, x_turn=24, y_turn=16),
    Gemm(1, 3, 4, 2, 12, 3, 1, 1, 5, RELU, single=True, turns=2, x_turn=40, y_turn=3),
    Gemm(1, 2, 4, 2, 10, 5, 2, 4, 1, None, straight=3, turns=2, x_turn=8, y_turn=9),
    Gemm(2, 2, 4, 2, 10, 5, 3, 12, 1, PLAIN, apart=True),
    Gemm(2, 2, 4, 2, 10, 5, 2, 1, 9, TWICE, straight=3, turns=2, x_turn=8, y_turn=2, apart=True),
    Gemm(2, 2, 4, 3, 10, 5, 2, 8, 1, None, straight=2, apart=True),
    Gemm(4, 1, 0, 1, 0, 9, 2, 0, 1, LOW, apart=True),
    Gemm(2, 2, 6, 1, 0, 500, 1, 4, 1, PLAIN, straight=400, apart=True),
]


def gemm_memory(g: Gemm, seed: int) -> Memory:
    """Products as large as they get, or of any size, or small ones: by seed."""
    channels = g.blocks * g.channels
    w = extremes((channels, g.steps, 2), (-127, 127) if seed == 0 else WEIGHTS, DType.I8, seed)
    x = extremes((g.x_span,), ((-128,), INT8, SMALL)[seed], DType.I16, seed)
    if seed == 2:
        w[1::2] //= 16  # what the lower sum of a pair does to the upper one would show
    packed = gemm.pack_single(w) if g.single else gemm.pack(w, g.w_step)
    q = None if g.scaling is None else scaling_constants(g.scaling, w, x, seed)
    blocks = g.blocks * g.pairs // g.w_step
    given: dict[str, Array] = {"w": gemm.stream(packed, q, blocks), "x": x}
    return contents(g.instruction(), seed, **given)


@TARGETS
def test_gemm(target: str) -> None:
    bench = Bench([g.instruction() for g in GEMMS], target)
    for g in GEMMS:
        seeds = SEEDS[: 1 if g.steps > 100 else None]
        found = [bench.check(g.name, gemm_memory(g, seed))["y"] for seed in seeds]
        assert len(np.unique(found)) > 3, f"{g.name}: nothing to see"


MATVECS = [
    MatVec(4, 16, 2, PLAIN),
    MatVec(4, 37, 1, TWICE),
    MatVec(3, 5, 3, RELU, straight=1),
    MatVec(1, 2, 1, TWICE_RELU),
    MatVec(2, 70, 2, LOW, straight=2),
    MatVec(1, 23, 1, LOW, single=True),
    MatVec(1, 8, 1, TWICE, single=True, straight=8),
]


@TARGETS
def test_matvec(target: str) -> None:
    bench = Bench([m.instruction() for m in MATVECS], target)
    for m in MATVECS:
        for seed in SEEDS:
            rows = m.blocks * m.rows
            shape = (rows, m.steps, 2)
            w = extremes(shape, (-127, 127) if seed == 0 else WEIGHTS, DType.I8, seed)
            w.reshape(rows, -1)[:, m.depth :] = 0
            packed = gemm.pack_single(w) if m.single else gemm.pack(w, m.pairs)
            x = extremes((m.depth,), INT8, DType.I8, seed)
            q = scaling_constants(m.scaling, w, x, seed).reshape(-1)
            bench.check(m.name, contents(m.instruction(), seed, w=packed, x=x, q=q))


BASE = Plane(3, 5, 6, (18, 3, 1), 5, 6, (3, 3), (1, 1), 1, 1, -7, 3, 1, PLAIN)
PLANES = [
    BASE,
    replace(BASE, x_strides=(6, 1, 30), y_pixel=1, y_channel=30, scaling=RELU),
    replace(BASE, strides=(2, 2), out_height=3, out_width=3, pad=127, scaling=TWICE),
    replace(BASE, taps=(2, 5), top=0, left=2, out_height=4, scaling=LOW, pad=-128),
    replace(BASE, taps=(4, 5), left=2, out_height=4, scaling=TWICE_RELU),
    replace(BASE, height=1, width=1, x_strides=(3, 3, 1), out_height=1, out_width=1),
    replace(BASE, taps=(4, 1), left=0, out_height=4, strides=(1, 1), pad=0, straight=2),
    replace(
        BASE, channels=2, width=21, x_strides=(21, 1, 105), out_width=21, y_pixel=2, scaling=RELU
    ),
]


@TARGETS
def test_plane(target: str) -> None:
    bench = Bench([p.instruction() for p in PLANES], target)
    for p in PLANES:
        for seed in SEEDS:
            shape = (*p.taps, p.channels)
            w = extremes(shape, (-127, 127) if seed == 0 else WEIGHTS, DType.I8, seed)
            x = extremes((p.x_span,), INT8, DType.I8, seed)
            q = scaling_constants(p.scaling, w.transpose(2, 0, 1), x, seed)
            memory = contents(p.instruction(), seed, w=plane.pack(w, q), x=x)
            bench.check(p.name, memory)
