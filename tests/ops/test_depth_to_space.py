"""DEPTH_TO_SPACE and SPACE_TO_DEPTH against LiteRT."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from midge.core.errors import ModelError
from oracle import load, random, same
from tflite_builder import TFLiteModel

OPTIONS = {"DEPTH_TO_SPACE": "DepthToSpaceOptions", "SPACE_TO_DEPTH": "SpaceToDepthOptions"}


def moved(kind: str, shape: Any, block: int, out: Any, dtype: str = "int8") -> bytes:
    m = TFLiteModel()
    q = {"int8": (0.1, -9)}.get(dtype, (None, 0))
    x, y = m.input(shape, dtype, *q), m.value(out, dtype, *q)
    m.op(kind, [x], [y], OPTIONS[kind], blockSize=block)
    return m.build([y])


SPLITS = [
    ((1, 2, 3, 12), 2, (1, 4, 6, 3)),
    ((2, 1, 2, 9), 3, (2, 3, 6, 1)),
    ((1, 3, 1, 5), 1, (1, 3, 1, 5)),
]


@pytest.mark.parametrize("dtype", ["int8", "float32", "int32"])
@pytest.mark.parametrize("case", range(len(SPLITS)))
def test_blocks(case: int, dtype: str) -> None:
    """There and back."""
    deep, block, wide = SPLITS[case]
    rng = np.random.default_rng(0)
    same(moved("DEPTH_TO_SPACE", deep, block, wide, dtype), {"t0": random(rng, deep, dtype)})
    same(moved("SPACE_TO_DEPTH", wide, block, deep, dtype), {"t0": random(rng, wide, dtype)})


BROKEN = {
    "channels": ("DEPTH_TO_SPACE", (1, 2, 2, 6), 2, (1, 4, 4, 1)),
    "rows": ("SPACE_TO_DEPTH", (1, 3, 2, 1), 2, (1, 1, 1, 4)),
    "no block": ("DEPTH_TO_SPACE", (1, 2, 2, 4), 0, (1, 2, 2, 4)),
    "three axes": ("SPACE_TO_DEPTH", (2, 2, 1), 2, (1, 1, 4)),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_does_not_fit_is_refused(case: str) -> None:
    with pytest.raises(ModelError, match="SPACE"):
        load(moved(*BROKEN[case]))
