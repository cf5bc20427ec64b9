"""Costs of blocks: the same however a translator cuts code that runs on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from midge.run.cycles import cycle_model
from midge.run.emulator_counters import CostTable, Part

# ldr r2, [r0]; ldr r3, [r0, #4]; add.w r2, r2, r3; mul r4, r2, r3; adds r0, #4; ldr r5, [r0];
# str r5, [r1]; subs r6, #1; bne back to the start
CODE = bytes.fromhex("0268 4368 02eb0302 02fb03f4 0430 0568 0d60 013e f3d1".replace(" ", ""))
STARTS = (0, 2, 4, 8, 12, 14, 16, 18, 20)
MODELS = ("cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33")


@dataclass
class Cut:
    """CODE as blocks that begin at `starts` and ran `runs` times each, `taken` of which ended in
    the jump back."""

    starts: tuple[int, ...]
    runs: int
    taken: int

    def table(self, model: str) -> CostTable:
        size = np.zeros(len(CODE) // 2, np.uint32)
        for start, stop in zip(self.starts, (*self.starts[1:], len(CODE)), strict=True):
            size[start // 2] = stop - start
        counters: Any = SimpleNamespace(start=0, slots=len(size), size=size)
        return CostTable(counters, lambda a, n: CODE[a : a + n], sizes, cycle_model(model))

    @property
    def part(self) -> Part:
        slots = np.array([s // 2 for s in self.starts], np.int64)
        count = np.full(len(slots), self.runs, np.uint32)
        taken = np.zeros(len(slots), np.uint32)
        taken[-1] = self.taken
        return Part(slots, count, taken)


def sizes(code: bytes) -> Iterator[int]:
    at = 0
    while at < len(code):
        size = 4 if code[at + 1] >> 3 in (0b11101, 0b11110, 0b11111) else 2
        yield size
        at += size


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("cuts", [(i,) for i in STARTS[1:]] + [(2, 8), (2, 4, 14), STARTS[1:]])
def test_cut_code_costs_what_it_costs(model: str, cuts: tuple[int, ...]) -> None:
    whole, cut = Cut((0,), 7, 6), Cut((0, *cuts), 7, 6)
    assert cut.table(model).costs([cut.part]) == whole.table(model).costs([whole.part])
    assert cut.table(model).blocks(cut.part) == whole.table(model).blocks(whole.part)


@pytest.mark.parametrize("model", MODELS)
def test_a_block_that_is_reached_otherwise_too_is_a_block(model: str) -> None:
    cut = Cut((0, 12), 5, 9)
    part = Part(cut.part.slots, np.array([5, 12], np.uint32), np.array([0, 9], np.uint32))
    first, second = cut.table(model).blocks(part)
    assert (first.code, first.count, first.taken) == (CODE, 5, 5)
    assert (second.code, second.count, second.taken) == (CODE[12:], 7, 4)
    (cost,) = cut.table(model).costs([part])
    own = cycle_model(model)
    whole, rest = own.block(CODE, 0), own.block(CODE[12:], 12)
    assert cost.cycles == 5 * whole.cycles + 7 * rest.cycles + 9 * rest.taken
    assert cost.instructions == 5 * 9 + 7 * 5
