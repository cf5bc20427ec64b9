"""TRANSPOSE_CONV against LiteRT's reference kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from midge.core.errors import ModelError
from oracle import ACTIVATIONS, Rng, load, random, same
from tflite_builder import TFLiteModel

SAME, VALID = 0, 1
# Input, kernel, stride, output size, padding.
CASES: list[tuple[tuple[int, int, int], tuple[int, int], tuple[int, int], tuple[int, int], int]] = [
    ((1, 4, 4), (4, 4), (2, 2), (8, 8), SAME),
    ((2, 3, 5), (3, 3), (2, 2), (6, 9), SAME),
    ((1, 3, 4), (3, 2), (2, 3), (7, 11), VALID),
    ((1, 1, 1), (1, 1), (1, 1), (1, 1), SAME),
    ((1, 1, 1), (3, 2), (1, 1), (3, 2), VALID),
    ((1, 4, 3), (2, 2), (3, 3), (11, 8), VALID),
    ((3, 2, 1), (1, 4), (2, 1), (4, 1), SAME),
]


def model(
    rng: Rng, dtype: str, case: Any, *, bias: bool = True, activation: int = 0, zeros: Any = (3, -5)
) -> tuple[bytes, dict[str, Any]]:
    (n, h, w), kernel, stride, size, padding = case
    ic, oc = 3, 2
    floats = dtype == "float32"
    m = TFLiteModel()
    q = [(None,), (None,)] if floats else [(0.1, zeros[0]), (0.2, zeros[1])]
    x = m.input((n, h, w, ic), dtype, *q[0], name="x")
    shape = m.const(np.array([n, *size, oc], np.int32))
    values = random(rng, (oc, *kernel, ic), "float32" if floats else "int8")
    weights = m.const(values, None if floats else [0.02, 0.013], axis=0)
    inputs = [shape, weights, x]
    if bias:
        kind: Any = {"float32": np.float32, "int8": np.int32, "int16": np.int64}[dtype]
        scales = None if floats else [0.002, 0.0013]
        inputs.append(m.const(np.array([70, -40]).astype(kind), scales, axis=0))
    y = m.value((n, *size, oc), dtype, *q[1], name="y")
    m.op(
        "TRANSPOSE_CONV", inputs, [y], "TransposeConvOptions", version=4,
        strideH=stride[0], strideW=stride[1], padding=padding, fusedActivationFunction=activation,
    )  # fmt: skip
    return m.build([y]), {"x": random(rng, (n, h, w, ic), dtype)}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", ["int8", "int16"])
@pytest.mark.parametrize("case", range(len(CASES)))
def test_bytes(case: int, dtype: str, bias: bool) -> None:
    zeros = (3, -5) if dtype == "int8" else (0, 0)
    data, inputs = model(np.random.default_rng(case), dtype, CASES[case], bias=bias, zeros=zeros)
    same(data, inputs)


@pytest.mark.parametrize("case", range(len(CASES)))
def test_floats(case: int) -> None:
    """The framework adds the products by the pixels that they are of."""
    same(*model(np.random.default_rng(case), "float32", CASES[case]), 4.0)


@pytest.mark.parametrize("dtype", ["int8", "float32"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(activation: str, dtype: str) -> None:
    code = ACTIVATIONS[activation]
    same(*model(np.random.default_rng(0), dtype, CASES[0], activation=code), 32.0, sums=True)


def broken(shape: Any) -> bytes:
    m = TFLiteModel()
    x = m.input((1, 3, 3, 2), "float32")
    w = m.const(np.ones((4, 2, 2, 2), np.float32))
    y = m.value((1, 6, 6, 4), "float32")
    m.op(
        "TRANSPOSE_CONV", [m.const(np.array(shape, np.int32)), w, x], [y], "TransposeConvOptions",
        strideH=2, strideW=2, padding=SAME,
    )  # fmt: skip
    return m.build([y])


@pytest.mark.parametrize(
    "shape", [(1, 6, 6), (2, 6, 6, 4), (1, 6, 6, 3), (1, -6, 6, 4), (1, 0, 6, 4), (1, 5, 6, 4), ()]
)
def test_shapes_that_do_not_fit_are_refused(shape: Any) -> None:
    with pytest.raises(ModelError, match="TRANSPOSE_CONV"):
        load(broken(shape))
