"""Which candidate is taken, what is measured and what is remembered."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from midge.core.target import Target
from midge.core.types import DType
from midge.loop import ir
from midge.loop.program import Kernel
from midge.target import load_target
from midge.tune import rank as ranking
from midge.tune.rank import rank
from midge.tune.trials import Cost, Trial, measure


def kernel(add: int, elements: int = 8) -> Trial:
    """y[i] = x[i] + add, with `elements` bytes of constants."""
    i = ir.Var("i")
    value = ir.Bin("+", ir.Load("x", (i,)), ir.i32(add))
    body = (ir.Loop("i", 8, (ir.Store("y", (i,), value),)),)
    params = (
        ir.Param("x", DType.I32, (8,), "in"),
        ir.Param("w", DType.I8, (elements,), "const"),
        ir.Param("y", DType.I32, (8,), "out"),
    )
    func = ir.Func("k", params, body)
    return Trial(Kernel(func, func), {"w": np.zeros(elements, np.int8)})


@pytest.fixture
def costs(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> list[int]:
    """Costs by the constant that a kernel adds: (cycles, code); returns what was measured."""
    monkeypatch.setenv("MIDGE_CACHE_DIR", str(tmp_path))
    table = {1: (100, 400), 2: (105, 100), 3: (139, 50), 4: (300, 10), 5: (100, 300)}
    measured: list[int] = []

    def fake(trials: Sequence[Trial], target: Target, optimize: str) -> list[Cost]:
        found = []
        for t in trials:
            loop = t.kernel.func.body[0]
            assert isinstance(loop, ir.Loop)
            store = loop.body[0]
            assert isinstance(store, ir.Store)
            assert isinstance(store.value, ir.Bin)
            assert isinstance(store.value.rhs, ir.Const)
            number = int(store.value.rhs.value)
            measured.append(number)
            cycles, code = table[number]
            found.append(Cost(cycles, {"kernel": code}))
        return found

    monkeypatch.setattr(ranking, "measure", fake)
    return measured


CHOICE = [kernel(n) for n in (4, 3, 2, 1, 5)]


@pytest.mark.parametrize(("goal", "best"), [("speed", 5), ("balanced", 2), ("size", 3)])
def test_each_goal_takes_its_own(costs: list[int], goal: str, best: int) -> None:
    (pick,) = rank([CHOICE], load_target("cortex-m4"), goal).picks
    assert [4, 3, 2, 1, 5][pick] == best


def test_a_single_candidate_is_not_measured(costs: list[int]) -> None:
    assert rank([[kernel(1)], [kernel(2)]], load_target("cortex-m4"), "speed").picks == (0, 0)
    assert costs == []


def test_costs_are_remembered_by_content(costs: list[int]) -> None:
    target = load_target("cortex-m4")
    first = rank([CHOICE, CHOICE], target, "speed")
    assert sorted(costs) == [1, 2, 3, 4, 5], "equal kernels are measured once"
    assert rank([CHOICE, CHOICE], target, "speed") == first
    assert len(costs) == 5
    rank([CHOICE], load_target("cortex-m7"), "speed")
    assert len(costs) == 10, "another CPU costs something else"


def test_a_broken_memory_is_measured_again(costs: list[int], tmp_path: object) -> None:
    from pathlib import Path

    target = load_target("cortex-m4")
    rank([CHOICE], target, "speed")
    files = list(Path(str(tmp_path)).rglob("cost.json"))
    assert len(files) == 5
    for file, text in zip(files, ("", "{", "[]", '{"cycles": "x"}', "null"), strict=True):
        file.write_text(text)
    rank([CHOICE], target, "speed")
    assert len(costs) == 10


def test_flash_limits_what_is_taken(costs: list[int]) -> None:
    target = load_target("cortex-m4")
    sizes = {4: 18, 3: 58, 2: 108, 1: 408, 5: 308}
    for flash, best in ((1000, 5), (307, 2), (100, 3), (20, 4), (1, 5)):
        (pick,) = rank([CHOICE], target, "speed", flash).picks
        number = [4, 3, 2, 1, 5][pick]
        assert number == best, f"{sizes[number]} bytes of {flash}"


def test_measuring_for_real() -> None:
    short, long = kernel(1), kernel(2)
    twice = (ir.Loop("j", 2, long.kernel.func.body),)
    func = ir.Func("k", long.kernel.func.params, twice)
    costs = measure(
        [short, Trial(Kernel(func, func), long.consts)], load_target("cortex-m3"), "size"
    )
    assert 0 < costs[0].cycles < costs[1].cycles
    assert all(c.code["kernel"] > 0 for c in costs)
