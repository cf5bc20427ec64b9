"""What hides places before a softmax is no measure of how exact a model is."""

from __future__ import annotations

import numpy as np
import pytest

from midge import driver
from midge.frontends.onnx import read
from midge.graph.evaluate import evaluate_all
from midge.oracle.hiding import hidden_below
from midge.oracle.units import largest_value
from midge.verify import difference
from onnx_builder import OnnxModel

driver.load_operators()
FAR = float(np.finfo(np.float32).min)
TRIANGLE = np.triu(np.ones((4, 4)), 1)


def added(m: OnnxModel, far: float) -> str:
    """As PyTorch writes a causal mask."""
    return m.op("Add", "x", m.const(TRIANGLE * far))


def chosen(m: OnnxModel, far: float) -> str:
    """As masked_fill is written."""
    return m.op("Where", m.const(TRIANGLE, bool), m.const(far), "x")


def multiplied(m: OnnxModel, far: float) -> str:
    """As Keras and BERT make one of truth values: (1 - mask) * far."""
    gone = m.op("Cast", m.op("Greater", "x", m.const(0.5)), to=1)
    return m.op("Add", "x", m.op("Mul", gone, m.const(far)))


def quantised(m: OnnxModel, far: float) -> str:
    """As ONNX Runtime's quantisation leaves a mask."""
    bytes_ = m.const(127 - 255 * TRIANGLE, np.int8)
    scale, zero = m.const(-far / 255), m.const(127, np.int8)
    return m.op("Add", "x", m.op("DequantizeLinear", bytes_, scale, zero))


def quantised_unsigned(m: OnnxModel, far: float) -> str:
    bytes_ = m.const(255 - 255 * TRIANGLE, np.uint8)
    scale, zero = m.const(-far / 255), m.const(255, np.uint8)
    return m.op("Add", "x", m.op("DequantizeLinear", bytes_, scale, zero))


@pytest.mark.parametrize("far", [-1e4, -1e9, FAR])
@pytest.mark.parametrize("mask", [added, chosen, multiplied, quantised, quantised_unsigned])
def test_masked_scores(mask: object, far: float) -> None:
    assert callable(mask)
    m = OnnxModel()
    y = m.op("Softmax", mask(m, far))
    graph = read(m.build([("x", (4, 4))], [y]), "g")
    x = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
    values = evaluate_all(graph, {"x": x})
    assert largest_value(values, hidden_below(graph)) == np.abs(x).max()


@pytest.mark.parametrize("weights", [(-2e4, 3.0), (-2e4, -3e4), (-900.0, 0.0), (3e5, 0.0)])
def test_weights_hide_nothing(weights: tuple[float, float]) -> None:
    m = OnnxModel()
    y = m.op("Mul", "x", m.const(weights))
    graph = read(m.build([("x", (1, 2))], [y]), "g")
    values = evaluate_all(graph, {"x": np.ones((1, 2), np.float32)})
    assert largest_value(values, hidden_below(graph)) == max(map(abs, weights))


def test_nothing_is_within_a_unit_of_the_largest_number() -> None:
    """Whose own unit is 2**104."""
    one, other = np.array([FAR], np.float32), np.array([FAR / 2], np.float32)
    assert difference("y", one, other, -FAR).ulp == 2.0**23 - 0.5
