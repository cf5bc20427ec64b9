"""RESIZE_NEAREST_NEIGHBOR and RESIZE_BILINEAR against LiteRT's reference kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midge.ops.resize import sources, stepping
from oracle import both_refuse, random, same
from tflite_builder import TFLiteModel

OPTIONS = {
    "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighborOptions",
    "RESIZE_BILINEAR": "ResizeBilinearOptions",
}
QUANT: dict[str, tuple[Any, int]] = {"int8": (0.1, 3), "int16": (0.01, 0), "uint8": (0.1, 9)}
SIZES = [(4, 6), (5, 3), (3, 2), (14, 14), (1, 1)]


def model(
    kind: str, dtype: str, shape: tuple[int, ...], size: tuple[int, int], align: bool, half: bool
) -> tuple[bytes, dict[str, Any]]:
    m = TFLiteModel()
    q = QUANT.get(dtype, (None, 0))
    x = m.input(shape, dtype, *q)
    z = m.const(np.array(size, np.int32))
    y = m.value((shape[0], *size, shape[3]), dtype, *q)
    m.op(kind, [x, z], [y], OPTIONS[kind], alignCorners=align, halfPixelCenters=half)
    return m.build([y]), {"t0": random(np.random.default_rng(sum(shape)), shape, dtype)}


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(("align", "half"), [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("dtype", ["float32", "int8", "int16", "uint8", "int32"])
def test_nearest(dtype: str, align: int, half: int, size: tuple[int, int]) -> None:
    for shape in ((1, 2, 3, 2), (2, 5, 4, 1), (1, 7, 7, 3)):
        same(*model("RESIZE_NEAREST_NEIGHBOR", dtype, shape, size, bool(align), bool(half)))


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(("align", "half"), [(0, 0), (0, 1), (1, 0)])
@pytest.mark.parametrize("dtype", ["float32", "int8", "int16"])
def test_bilinear(dtype: str, align: int, half: int, size: tuple[int, int]) -> None:
    """Floats bit for bit, too: the same operations in the same order."""
    for shape in ((1, 2, 3, 2), (2, 5, 4, 1), (1, 7, 7, 3), (1, 1, 1, 2)):
        same(*model("RESIZE_BILINEAR", dtype, shape, size, bool(align), bool(half)))


def test_bilinear_with_both_flags_is_refused() -> None:
    both_refuse(*model("RESIZE_BILINEAR", "int8", (1, 2, 2, 1), (4, 4), True, True))


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.booleans(), st.booleans())
def test_even_steps_lead_to_the_frameworks_rows(n: int, m: int, align: bool, half: bool) -> None:
    s = stepping(n, m, align, half)
    rows = [min((i * s.step + s.start) >> 16, n - 1) for i in range(m)]
    for i, row in s.exceptions:
        rows[i] = row
    assert rows == sources(n, m, align, half)
    assert len(s.exceptions) <= 8
