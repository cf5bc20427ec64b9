"""The micro-kernel of pooling: assembler == meaning, and the loops for other cores == meaning."""

from __future__ import annotations

import numpy as np
import pytest
from instruction_checks import Bench, contents, extremes

from midge.core.types import DType
from midge.kernels.arm_dsp.window import Window

TARGETS = pytest.mark.parametrize("target", ["cortex-m4", "cortex-m3"])

# rows, columns, pitch, step, channels, pixels, advance
SHAPES = [
    (1, 1, 0, 0, 4),
    (2, 2, 40, 8, 8),
    (3, 3, 64, 16, 16, 3, 32),
    (3, 2, 30, 10, 5, 2, 7),
    (2, 2, 90, 19, 19, 2, 38),
    (5, 5, 90, 18, 18),
    (16, 16, 64, 4, 4),
    (8, 8, 512, 64, 64),
    (7, 9, 63, 7, 7, 2, 1),
    (3, 7, 200, 24, 22),
    (2, 2, 5000, 16, 16, 2, 4200),
    (13, 1, 36, 36, 36),
    (3, 5, 1500, 300, 6),
    (1, 250, 0, 4, 4),
]
WINDOWS = [Window(kind, *shape) for kind in ("sum", "max") for shape in SHAPES]


@TARGETS
def test_windows(target: str) -> None:
    bench = Bench([w.instruction() for w in WINDOWS], target)
    for seed, w in enumerate(WINDOWS):
        bench.check(w.name, contents(w.instruction(), seed))
        for values in ((-128,), (127,), (-128, 127)):
            x = extremes((w.size,), values, DType.I8, seed)
            bench.check(w.name, contents(w.instruction(), seed, x=x))


def test_sums_use_all_of_16_bits() -> None:
    """The greatest sums there can be: 256 times -128, and 256 times 127."""
    w = Window("sum", 16, 16, 64, 4, 4)
    bench = Bench([w.instruction()])
    for value in (-128, 127):
        x = np.full(w.size, value, np.int8)
        assert (bench.check(w.name, contents(w.instruction(), 0, x=x))["y"] == 256 * value).all()
    with pytest.raises(AssertionError):
        Window("sum", 1, 257, 0, 4, 4)


def test_every_pair_of_bytes_is_compared() -> None:
    w = Window("max", 1, 2, 0, 512, 512)
    bench = Bench([w.instruction()])
    values = np.arange(-128, 128)
    for start in range(0, 256, 2):
        a, b = np.repeat(values[start : start + 2], 256), np.tile(values, 2)
        x = np.concatenate([a, b]).astype(np.int8)
        y = bench.check(w.name, contents(w.instruction(), 0, x=x))["y"]
        np.testing.assert_array_equal(y, np.maximum(a, b))


def test_names_tell_windows_apart() -> None:
    assert len({w.name for w in WINDOWS}) == len(WINDOWS)
