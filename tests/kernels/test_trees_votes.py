"""The assembler of voting trees on an emulated core, against what it means."""

from __future__ import annotations

import numpy as np
import pytest
from instruction_checks import Bench

from midge.core.types import DType
from midge.kernels.arm_dsp.trees import instruction
from midge.kernels.generic.trees import Forest
from midge.loop.instruction import Instruction

pytestmark = pytest.mark.slow

_LOW = {DType.U8: 0, DType.I8: -128, DType.I16: -400}
_HIGH = {DType.U8: 255, DType.I8: 127, DType.I16: 400}


def forest(
    seed: int, dtype: DType, features: int, classes: int, trees: int, splits: int, equal: bool
) -> Forest:
    """Trees of random shape; a third of the thresholds is 0."""
    rng = np.random.default_rng(seed)
    rows: list[list[int]] = []
    thresholds: list[int] = []

    def node(count: int) -> int:
        if count == 0:
            return ~int(rng.integers(classes))
        place = len(rows)
        rows.append([int(rng.integers(features)), 0, 0, int(equal and rng.integers(4) == 0)])
        some = int(rng.integers(_LOW[dtype], _HIGH[dtype]))
        thresholds.append(0 if rng.random() < 0.3 else some if rng.random() < 0.3 else some // 32)
        left = int(rng.integers(count))
        rows[place][1] = node(left)
        rows[place][2] = node(count - 1 - left)
        return place

    roots = [node(splits) for _ in range(trees)]
    return Forest(
        np.array(thresholds, dtype.numpy),
        np.array(rows, np.int32),
        np.array(roots, np.int32),
        np.arange(classes, dtype=np.int32)[:, None],
        np.full((classes, 1), 3, np.uint8),
        60,
    )


# type, features, classes, trees, splits, whether some splits ask for equality
CASES = [
    (DType.U8, 64, 10, 10, 60, False),
    (DType.U8, 20, 2, 3, 1, False),
    (DType.U8, 200, 16, 5, 40, True),
    (DType.I8, 64, 3, 4, 50, True),
    (DType.I16, 100, 12, 4, 50, False),
    (DType.U8, 64, 6, 3, 700, False),
    (DType.I16, 3, 1, 2, 9, False),
]


@pytest.fixture(scope="module")
def bench() -> tuple[Bench, list[Instruction]]:
    made = [
        instruction(forest(i, d, f, c, t, s, e), d, f, c)
        for i, (d, f, c, t, s, e) in enumerate(CASES)
    ]
    return Bench(made), made


@pytest.mark.parametrize("number", range(len(CASES)))
def test_votes(bench: tuple[Bench, list[Instruction]], number: int) -> None:
    core, made = bench
    dtype, features, classes, *_ = CASES[number]
    rng = np.random.default_rng(number)
    for turn in range(25):
        reach = 9 if turn % 2 else _HIGH[dtype]
        low = max(_LOW[dtype], -reach)
        x = rng.integers(low, reach, features).astype(dtype.numpy)
        y = np.full(classes, 0xA5, np.uint8)
        core.check(made[number].name, {"x": x, "y": y})


def test_where_the_assembler_cannot_be_used_loops_stand_for_it() -> None:
    made = instruction(forest(0, *CASES[0]), DType.U8, 64, 10)
    core = Bench([made], "cortex-m3")
    core.check(made.name, {"x": np.arange(64, dtype=np.uint8), "y": np.zeros(10, np.uint8)})
