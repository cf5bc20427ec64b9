"""A quantised average of an image that the framework adds up in floats takes rows as they come."""

from __future__ import annotations

import numpy as np
import pytest

from conftest import NO_SEARCH
from midge import driver
from midge.frontends.onnx import read
from midge.graph.evaluate import evaluate
from midge.run import RUNNERS
from midge.target import load_target
from test_onnx_quantized import Model, onnx

ROWS, COLUMNS, CHANNELS = 32, 4, 64


def averaged() -> bytes:
    """Two convolutions and an average pool in QDQ form, as PyTorch's AvgPool2d comes out."""
    m = Model(0)
    zero = np.int8(-11)
    x = m.through(m.input("x", (1, 4, ROWS, COLUMNS)), 0.025, zero)
    for channels in (4, CHANNELS):
        w = m.weights((channels, 4, 3, 3), np.int8, 0)
        x = m.through(m.op("Relu", m.op("Conv", x, w, pads=[1, 1, 1, 1])), 0.04, zero)
    size = [ROWS, COLUMNS]
    y = m.op("AveragePool", x, kernel_shape=size, strides=size)
    model = onnx.ModelProto.FromString(m.build(m.through(y, 0.04, zero)))
    model.opset_import[0].version = 20
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("target", ["cortex-m4", "rv32imac"])
def test_the_image_is_never_whole(target: str) -> None:
    graph = read(averaged(), "g")
    made = driver.compile_graph(graph, load_target(target), NO_SEARCH)
    arriving = 4 * ROWS * COLUMNS * 4
    assert made.package.arena_size < arriving + ROWS * COLUMNS * CHANNELS / 2
    host = RUNNERS["host"].load(made.package, toolchain=None, optimize=None)
    rng = np.random.default_rng(0)
    for _ in range(3):
        given = {"x": rng.uniform(-3, 3, (1, 4, ROWS, COLUMNS)).astype(np.float32)}
        (have,) = host.run(given).outputs.values()
        np.testing.assert_array_equal(have, *evaluate(graph, given).values())
    host.close()
