"""Schedules in plain C: each keeps the meaning, and which come first where."""

from __future__ import annotations

import numpy as np
import pytest
from layer_checks import check, layer, options_of

from conftest import NO_SEARCH
from midge import driver
from midge.core.types import DType
from midge.data import random_inputs
from midge.frontends.onnx import read
from midge.graph.evaluate import evaluate
from midge.loop.schedule import Pack, Peel, Split, Unroll
from midge.run import RUNNERS
from midge.target import load_target

TARGETS = ("cortex-m0plus", "cortex-m3", "rv32imac")
SAME = (1, 1, 1, 1)
LAYERS = {
    "3x3": layer("conv2d", (1, 4, 5, 3), (4, 3, 3, 3), DType.I8, padding=SAME),
    "3x3, odd channels": layer("conv2d", (1, 3, 6, 2), (5, 3, 3, 2), DType.I8, padding=SAME),
    "stride 2": layer(
        "conv2d", (1, 5, 8, 2), (4, 3, 3, 2), DType.I8, strides=(2, 2), padding=(0, 1, 0, 1)
    ),
    "wide window": layer("conv2d", (1, 3, 5, 1), (2, 1, 4, 1), DType.I8, padding=(0, 0, 2, 1)),
    "one tap": layer("conv2d", (1, 2, 5, 6), (8, 1, 1, 6), DType.I8),
    "one pixel": layer("conv2d", (1, 1, 1, 7), (4, 1, 1, 7), DType.I8, bias=False),
    "one channel": layer("conv2d", (1, 3, 3, 2), (1, 2, 2, 2), DType.I8),
    "only border": layer("conv2d", (1, 2, 2, 2), (4, 3, 3, 2), DType.I8, padding=SAME),
    "depthwise": layer("depthwise_conv2d", (1, 4, 5, 4), (1, 3, 3, 4), DType.I8, padding=SAME),
    "depthwise, odd": layer("depthwise_conv2d", (1, 3, 4, 3), (1, 2, 3, 3), DType.I8, padding=SAME),
    "depthwise, twice": layer("depthwise_conv2d", (1, 3, 4, 3), (1, 3, 3, 6), DType.I8),
    "dense": layer("dense", (1, 9), (8, 9), DType.I8),
    "dense, odd": layer("dense", (3, 5), (7, 5), DType.I8, bias=False),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", LAYERS)
def test_every_schedule_keeps_the_meaning(name: str, target: str) -> None:
    for optimize in ("speed", "size"):
        assert 2 <= len(check(LAYERS[name], target, optimize)) <= 11


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("op", ["conv2d", "depthwise_conv2d", "dense"])
def test_sums_of_floats_keep_their_order(op: str, target: str) -> None:
    w = {"conv2d": (4, 3, 3, 2), "depthwise_conv2d": (1, 3, 3, 2), "dense": (4, 2)}[op]
    x = (1, 2) if op == "dense" else (1, 4, 5, 2)
    check(layer(op, x, w, DType.F32, padding=SAME), target)


@pytest.mark.parametrize("target", ["cortex-m4", *TARGETS])
def test_windows_whose_input_others_read_first(target: str) -> None:
    """And name: the schedules ask for shapes, not for parameters."""
    onnx_builder = pytest.importorskip("onnx_builder", reason="needs onnx")
    graph = read(onnx_builder.NETS["repvgg"](), "g")
    made = driver.compile_graph(graph, load_target(target), NO_SEARCH)
    session = RUNNERS["emulator"].load(made.package, toolchain=None, optimize=None)
    for given in random_inputs(graph, 2, 0):
        (found,) = session.run(given).outputs.values()
        np.testing.assert_allclose(found, evaluate(graph, given)["features"], rtol=0, atol=2e-6)
    session.close()


def blocks(name: str, target: str, optimize: str = "speed") -> list[tuple[int, ...]]:
    """The factors by which each option splits loops."""
    found = options_of(LAYERS[name], target, optimize)
    return [tuple(s.factor for s in o.kernel.steps if isinstance(s, Split)) for o in found]


def test_the_first_choice_is_the_measured_one() -> None:
    assert blocks("3x3", "cortex-m3")[0] == (2, 2)
    assert blocks("3x3", "rv32imac")[0] == (4, 2)
    # Eight registers hold a block only where little is summed.
    assert blocks("3x3", "cortex-m0plus")[0] == (4,)
    big = layer("conv2d", (1, 3, 3, 8), (4, 3, 3, 8), DType.I8, padding=SAME)
    first, *_ = options_of(big, "cortex-m0plus")
    assert [type(s) for s in first.kernel.steps] == [Peel]


def test_for_size_nothing_is_written_twice_at_first() -> None:
    first, *_ = options_of(LAYERS["3x3"], "cortex-m3", "size")
    assert not any(isinstance(s, Peel) for s in first.kernel.steps)


def test_packed_weights_are_a_constant_of_their_own() -> None:
    packed = [o for o in options_of(LAYERS["3x3"], "cortex-m3")
              if any(isinstance(s, Pack) for s in o.kernel.steps)]  # fmt: skip
    assert packed
    assert all("w" not in o.args for o in packed)


@pytest.mark.parametrize("name", LAYERS)
def test_packing_makes_no_constant_larger(name: str) -> None:
    for optimize in ("speed", "size"):
        every = options_of(LAYERS[name], "cortex-m3", optimize)
        assert len({sum(a.nbytes for a in o.consts.values()) for o in every}) == 1


def test_columns_that_are_left_over_are_blocked_too() -> None:
    """5 columns: one at either border, two in a block, one left."""
    first, *_ = options_of(LAYERS["3x3"], "cortex-m3")
    unrolled = {s.loop for s in first.kernel.steps if isinstance(s, Unroll)}
    assert unrolled == {"oc_i", "ow_i", "oc_i_first", "oc_i_last", "oc_i_r"}
