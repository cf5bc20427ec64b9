"""MIRROR_PAD against LiteRT."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from midge.core.errors import ModelError
from oracle import load, random, same
from tflite_builder import TFLiteModel

REFLECT, SYMMETRIC = 0, 1


def padded(shape: Any, pads: Any, mode: int, dtype: str = "int8") -> bytes:
    m = TFLiteModel()
    q = {"int8": (0.1, -9)}.get(dtype, (None, 0))
    out = [n + sum(p) for n, p in zip(shape, pads, strict=False)]
    x, y = m.input(shape, dtype, *q), m.value(out, dtype, *q)
    ends = m.const(np.array(pads, np.int32))
    m.op("MIRROR_PAD", [x, ends], [y], "MirrorPadOptions", mode=mode)
    return m.build([y])


CASES = [
    ((1, 4, 3, 2), ((0, 0), (2, 1), (1, 2), (0, 0)), REFLECT),
    ((1, 4, 3, 2), ((0, 0), (4, 1), (0, 3), (0, 0)), SYMMETRIC),
    ((5,), ((4, 4),), REFLECT),
    ((5,), ((5, 5),), SYMMETRIC),
    ((2, 1), ((0, 0), (0, 0)), REFLECT),
    ((2, 1), ((0, 0), (1, 1)), SYMMETRIC),
]


@pytest.mark.parametrize("dtype", ["int8", "float32"])
@pytest.mark.parametrize("case", range(len(CASES)))
def test_mirrors(case: int, dtype: str) -> None:
    shape, pads, mode = CASES[case]
    x = random(np.random.default_rng(0), shape, dtype)
    same(padded(shape, pads, mode, dtype), {"t0": x})


@pytest.mark.parametrize(
    "case",
    [((4,), ((4, 0),), REFLECT), ((4,), ((0, 5),), SYMMETRIC), ((4,), ((-1, 0),), REFLECT),
     ((4, 4), ((1, 1),), REFLECT)],
)  # fmt: skip
def test_what_does_not_fit_is_refused(case: Any) -> None:
    with pytest.raises(ModelError, match="MIRROR_PAD"):
        load(padded(*case))
