"""The functions of midge_math.h and midge_angle.h on cores with and without an FPU."""

from __future__ import annotations

import numpy as np
import pytest

from conftest import NO_SEARCH
from midge import driver
from midge.core.types import Array, DType, TensorType
from midge.graph.evaluate import evaluate
from midge.graph.ir import Graph, Node
from midge.run import RUNNERS
from midge.target import load_target
from midge.toolchain import build_image

pytestmark = pytest.mark.slow

FUNCTIONS = {
    "sqrt": 0, "floor": 0, "ceil": 0, "rint": 0, "log": 1, "expm1": 2, "erf": 2, "sin": 3, "cos": 3,
    "atan": 3, "asinh": 4, "gelu": 4, "rsqrt": 2,
}  # fmt: skip


def graph() -> Graph:
    """One output a function of one input of 64 positive values."""
    driver.load_operators()
    x = TensorType((64,), DType.F32)
    types = {"x": x, **dict.fromkeys(FUNCTIONS, x)}
    nodes = tuple(Node(name, ("x",), (name,), {}) for name in FUNCTIONS)
    return Graph("functions", ("x",), tuple(FUNCTIONS), types, {}, nodes)


def values() -> Array:
    rng = np.random.default_rng(0)
    spread = 10.0 ** rng.uniform(-6, 1.5, 56)
    return np.concatenate([spread, [1e-42, 1e-38, 0.5, 1.5, 2.5, 1.0, 4.0, 80.0]]).astype("f4")


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m3", "rv32imac"])
def test_functions_on_a_core(target: str) -> None:
    package = driver.compile_graph(graph(), load_target(target), NO_SEARCH).package
    session = RUNNERS["emulator"].load(package, toolchain=None, optimize="speed")
    inputs = {"x": values()}
    try:
        have = session.run(inputs).outputs
    finally:
        session.close()
    for name, want in evaluate(graph(), inputs).items():
        error = np.abs(have[name].astype(np.float64) - want) / np.spacing(np.abs(want))
        assert error.max() <= FUNCTIONS[name], f"{name}({inputs['x'][error.argmax()]})"


@pytest.mark.parametrize("toolchain", ["zig", "arm-none-eabi-gcc"])
def test_neither_doubles_nor_a_library_are_linked(toolchain: str) -> None:
    package = driver.compile_graph(graph(), load_target("cortex-m4"), NO_SEARCH).package
    image = build_image(package, toolchain=toolchain)
    assert not [s for s in image.symbols if s.startswith("__aeabi_d") or s in ("sqrtf", "expf")]
