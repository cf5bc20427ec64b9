"""Tensors of TFLite whose scale is 0: they hold zeros, or are refused."""

from __future__ import annotations

import numpy as np
import pytest

from midge.core.errors import ModelError
from oracle import kept, load, random, same
from tflite_builder import TFLiteModel


def first_step(state: int, dtype: str = "int16") -> bytes:
    """A recurrent layer's first step on a state of `state`, as the converter quantises one that was
    always zero: products with it have a scale near 0."""
    m = TFLiteModel()
    x = m.input((1, 4), dtype, 0.001)
    nothing = m.const(np.array(state, dtype), 0.0, name="state")
    h = m.value((1, 4), dtype, 0.0)
    m.op("FILL", [m.const(np.array([1, 4], np.int32)), nothing], [h], "FillOptions", version=3)
    w = m.const(np.arange(-8, 8, dtype=np.int8).reshape(4, 4), 0.01)
    product = m.value((1, 4), dtype, 3.587324068671532e-43)
    m.op("FULLY_CONNECTED", [h, w, -1], [product], "FullyConnectedOptions", version=4)
    total = m.value((1, 4), dtype, 0.002)
    m.op("ADD", [x, product], [total], "AddOptions", potScaleInt16=False, version=2)
    gated = m.value((1, 4), dtype, 0.0001)
    m.op("MUL", [total, h], [gated], "MulOptions", version=2)
    return m.build([total, gated])


def test_a_state_of_zeros() -> None:
    data, inputs = first_step(0), {"t0": random(np.random.default_rng(0), (1, 4), "int16")}
    same(data, inputs)
    kept(load(data), inputs)


def test_what_is_not_zero_is_refused() -> None:
    with pytest.raises(ModelError, match="'state': bad quantisation: a scale is not a positive"):
        load(first_step(1))


def test_what_is_computed_is_refused() -> None:
    m = TFLiteModel()
    x, y = m.input((1, 4), "int8", 0.1), m.value((1, 4), "int8", 0.0, name="y")
    m.op("ADD", [x, x], [y], "AddOptions", version=2)
    with pytest.raises(ModelError, match="'y': bad quantisation: a scale is not a positive"):
        load(m.build([y]))
