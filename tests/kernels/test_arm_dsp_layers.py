"""Whole int8 layers by every micro-kernel, on the emulated core, against the NumPy reference."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from instruction_checks import Bench

from conftest import NO_SEARCH
from midge import driver
from midge.core.types import Array, DType, TensorType
from midge.data import random_inputs
from midge.frontends import tflite
from midge.graph.evaluate import evaluate
from midge.graph.fixed_point import multipliers
from midge.graph.ir import OPS, Attrs, Graph, Node, verify
from midge.lower.candidates import Option, Request, options
from midge.lower.fuse import fuse
from midge.lower.layouts import CHANNELS_FIRST, Layouts
from midge.lower.space import Goal
from midge.passes.fit_requantize import fit_requantize
from midge.run import RUNNERS
from midge.target import load_target
from tflite_builder import TFLiteModel

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Case:
    """A layer. zero, low: of its output; `low` above -128 is a ReLU. real: scale of the sums."""

    op: str
    x: tuple[int, ...]
    w: tuple[int, ...]
    strides: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    pad_value: int = -128
    zero: int = -128
    low: int = -128
    high: int = 127
    real: float = 0.002
    first: bool = False  # x and y channels first
    rounding: str = "right"


SAME = (1, 1, 1, 1)
CASES = [
    Case("conv2d", (1, 5, 5, 8), (6, 1, 1, 8)),
    Case("conv2d", (1, 9, 7, 8), (5, 1, 1, 8), zero=3),
    Case("conv2d", (1, 3, 3, 11), (3, 1, 1, 11), zero=-5, low=-5, high=90),
    Case("conv2d", (1, 1, 1, 3), (1, 1, 1, 3)),
    Case("conv2d", (1, 1, 2, 70), (4, 1, 1, 70)),
    Case("conv2d", (1, 6, 8, 4), (4, 3, 3, 4), padding=SAME, pad_value=7),
    Case("conv2d", (1, 6, 7, 3), (5, 3, 3, 3), (2, 2), (0, 1, 0, 1), pad_value=127, zero=11),
    Case("conv2d", (1, 9, 6, 1), (4, 4, 3, 1), (2, 1), (1, 2, 1, 1)),
    Case("conv2d", (1, 5, 9, 2), (2, 3, 5, 2), padding=(1, 1, 2, 2), zero=127, low=127),
    Case("conv2d", (1, 4, 13, 16), (2, 3, 3, 16), padding=SAME, first=True, real=0.0005),
    Case("conv2d", (1, 7, 1, 6), (4, 3, 1, 6), padding=(1, 1, 0, 0)),
    Case("conv2d", (1, 4, 4, 4), (4, 2, 2, 4), (2, 2), real=0.9, zero=0),
    Case("conv2d", (1, 1, 7, 702), (2, 1, 1, 702), real=0.0003),
    Case("conv2d", (1, 2, 9, 350), (3, 1, 1, 350), (1, 2), zero=0, real=0.0005),
    Case("conv2d", (1, 1, 8, 4), (4, 3, 3, 4), padding=SAME, pad_value=100),
    Case("conv2d", (1, 2, 9, 3), (4, 4, 2, 3), padding=(1, 1, 0, 1), zero=1),
    Case("conv2d", (1, 4, 4, 4), (4, 1, 1, 4), (2, 2)),
    Case("depthwise_conv2d", (1, 5, 6, 4), (1, 3, 3, 4), padding=SAME),
    Case("depthwise_conv2d", (1, 5, 6, 4), (1, 3, 3, 4), padding=SAME, first=True, zero=9),
    Case("depthwise_conv2d", (1, 7, 5, 3), (1, 3, 3, 3), (2, 2), SAME, pad_value=-1, first=True),
    Case("depthwise_conv2d", (1, 1, 1, 2), (1, 3, 3, 2), padding=SAME, pad_value=127),
    Case("depthwise_conv2d", (1, 2, 21, 2), (1, 3, 3, 2), padding=SAME, first=True),
    Case("depthwise_conv2d", (1, 9, 4, 3), (1, 5, 5, 3), padding=(2, 2, 2, 2), zero=4),
    Case("depthwise_conv2d", (1, 12, 1, 5), (1, 7, 1, 5), zero=-2),
    Case("depthwise_conv2d", (1, 12, 1, 5), (1, 4, 1, 5), (2, 1), (1, 0, 0, 0), first=True),
    Case("depthwise_conv2d", (1, 4, 4, 6), (1, 2, 2, 6), (2, 2), low=-100, zero=-100),
    Case("dense", (1, 16), (8, 16), rounding="once"),
    Case("dense", (1, 37), (12, 37), zero=17),
    Case("dense", (1, 613), (5, 613), real=0.0004),
    Case("dense", (3, 5), (1, 5), rounding="once", zero=20),
    Case("dense", (2, 70), (11, 70), low=-128, high=40),
]


def graph_of(case: Case, seed: int) -> Graph:
    driver.load_operators()
    rng = np.random.default_rng(seed)
    axis = OPS[case.op].channel_axis
    assert axis is not None
    channels = case.w[axis]
    m, s = multipliers(list(rng.uniform(0.4, 1.0, channels) * case.real))
    size = np.prod(case.w) // channels
    consts: dict[str, Array] = {
        "w": rng.integers(-127, 128, case.w).astype(np.int8),
        "b": rng.integers(-64 * size, 64 * size + 1, channels).astype(np.int32),
        "m": m,
        "s": -s if case.rounding == "right" else s,
    }
    if seed == 1:
        consts["w"][...] = np.where(consts["w"] < 0, -127, 127)
    types = {n: TensorType(a.shape, DType.of(a)) for n, a in consts.items()}
    types["x"] = TensorType(case.x, DType.I8)
    window: Attrs = {"strides": case.strides, "dilations": (1, 1), "padding": case.padding}
    attrs = {} if case.op == "dense" else {**window, "pad_value": case.pad_value}
    sums = Node(case.op, ("x", "w", "b"), ("acc",), {**attrs, "x_zero": 0})
    (types["acc"],) = OPS[case.op].infer([types[n] for n in sums.inputs], sums.attrs)
    types["y"] = TensorType(types["acc"].shape, DType.I8)
    to: Attrs = {
        "zero_out": case.zero, "low": case.low, "high": case.high, "dtype": "i8",
        "rounding": case.rounding,
    }  # fmt: skip
    nodes = (sums, Node("requantize", ("acc", "m", "s"), ("y",), to))
    graph = Graph("g", ("x",), ("y",), types, consts, nodes)
    verify(graph)
    return fit_requantize(graph)


def made(case: Case, graph: Graph, goal: str, name: str) -> list[Option]:
    """The candidates by micro-kernels."""
    (group,) = fuse(graph)
    layouts: Layouts = {}
    if case.first:
        layouts = {"y": CHANNELS_FIRST}
        layouts = {**layouts, "x": CHANNELS_FIRST} if case.op != "conv2d" else layouts
    request = Request(graph, group, load_target("cortex-m4"), layouts, name=name)
    found = [o for o in options(request, Goal(goal)) if o.candidate.name != "loops"]
    return [renamed(o, f"{name}_{i}") for i, o in enumerate(found)]


def renamed(option: Option, name: str) -> Option:
    kernel = option.kernel
    func, plain = (replace(f, name=name) for f in (kernel.func, kernel.plain))
    return replace(option, kernel=replace(kernel, func=func, plain=plain))


@pytest.mark.parametrize("goal", ["speed", "size"])
def test_layers(goal: str) -> None:
    work = []
    for number, case in enumerate(CASES):
        for seed in range(2):
            graph = graph_of(case, seed)
            found = made(case, graph, goal, f"case{number}_{seed}")
            assert found, f"{case}: no micro-kernel"
            work += [(case, graph, option) for option in found]
    bench = Bench([option.kernel for _, _, option in work])
    for case, graph, option in work:
        rng = np.random.default_rng(5)
        for x in (
            rng.integers(-128, 128, case.x).astype(np.int8),
            rng.choice(np.array([-128, 127], np.int8), case.x),
        ):
            want = evaluate(graph, {"x": x})["y"]
            stored = x
            if case.first:
                want = want.transpose(CHANNELS_FIRST)
                stored = x.transpose(CHANNELS_FIRST) if case.op != "conv2d" else x
            memory = {}
            func = option.kernel.func
            for p, value in zip(func.params, option.args, strict=True):
                given = {**option.consts, "x": stored}.get(value)
                empty = np.zeros(p.shape, p.dtype.numpy)
                memory[p.name] = empty if given is None else given.reshape(p.shape).copy()
            y = bench.run(func.name, memory)[func.params[-1].name]
            np.testing.assert_array_equal(
                y.reshape(-1), want.reshape(-1), f"{case} {option.candidate.name}"
            )


@pytest.mark.parametrize(
    ("kind", "dtype"), [("CONV_2D", "int8"), ("CONV_2D", "float32"), ("MAX_POOL_2D", "int8")]
)
def test_a_layer_that_is_added_to_its_own_input(kind: str, dtype: str) -> None:
    driver.load_operators()
    rng = np.random.default_rng(0)
    model = TFLiteModel()
    real = dtype == "float32"
    shape = (1, 6, 6, 4)
    x = model.input(shape, dtype, *(() if real else (0.02, 3)))
    y = model.value(shape, dtype, *(() if real else (0.08 if kind == "CONV_2D" else 0.02, 3)))
    z = model.value(shape, dtype, *(() if real else (0.1, 3)))
    if kind == "CONV_2D":
        w = rng.integers(-127, 127, (4, 3, 3, 4)).astype(np.float32 if real else np.int8)
        b = rng.integers(-99, 99, 4).astype(np.float32 if real else np.int32)
        scales = () if real else ([0.004] * 4,)
        weights = model.const(w, *scales, **({} if real else {"axis": 0}))
        bias = model.const(b, *(() if real else ([1e-6] * 4,)))
        model.op(kind, [x, weights, bias], [y], "Conv2DOptions", strideH=1, strideW=1, padding=0,
                 dilationHFactor=1, dilationWFactor=1)  # fmt: skip
    else:
        model.op(kind, [x], [y], "Pool2DOptions", strideH=1, strideW=1, padding=0,
                 filterHeight=3, filterWidth=3)  # fmt: skip
    model.op("ADD", [y, x], [z], "AddOptions")
    graph = tflite.read(model.build([z]), "net")
    (given,) = random_inputs(graph, 1, 0)
    want = evaluate(graph, given)
    package = driver.compile_graph(graph, load_target("cortex-m4"), NO_SEARCH).package
    session = RUNNERS["emulator"].load(package, toolchain=None, optimize=None)
    found = session.run(given).outputs
    session.close()
    for name, value in want.items():
        limit = 32 * float(np.spacing(np.abs(value).max())) if real else 0
        np.testing.assert_allclose(found[name], value, rtol=0, atol=limit)
