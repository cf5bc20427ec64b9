"""Profiles: every instruction counted, every cycle accounted for."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from midge.core.package import Package
from midge.run.emulator import EmulatorRunner, EmulatorSession
from midge.run.profile import Profile, Stretch
from midge.target import TARGETS
from tiny_package import OPERATORS, some_input, tiny_package, with_operators

EMULATED = [name for name in TARGETS if TARGETS[name].emulator]
SPIN = """__attribute__((naked, noinline)) static void tiny_spin(int32_t times)
{
    __asm__("mov.w r1, #5\\n 1: subs r1, r1, #1\\n bne 1b\\n"
            "2: subs r0, r0, #1\\n bne 2b\\n bx lr");
}"""


def load(package: Package, optimize: str = "speed") -> EmulatorSession:
    return EmulatorRunner().load(package, toolchain="zig", optimize=optimize)


def counted(profile: Profile) -> Counter[int]:
    """How often the instruction at each address ran, by the profile of all operators."""
    counts: Counter[int] = Counter()
    for operator in range(len(profile.blocks)):
        for stretch in profile.stretches(operator):
            for line in stretch.lines:
                counts[line.instruction.address] += line.count
    return counts


def spin(turns: int = 50) -> list[Stretch]:
    """What the hand-written kernel of two loops, 5 turns and `turns`, ran; by address."""
    package = tiny_package("cortex-m4", prelude=SPIN, after=f"tiny_spin({turns});")
    package = with_operators(package, (*OPERATORS, replace(OPERATORS[2], kernel="tiny_spin")))
    stretches = load(package).profile({"x": some_input()}).stretches(3)
    inside = [s for s in stretches if s.place.startswith("tiny_spin")]
    return sorted(inside, key=lambda s: s.lines[0].instruction.address)


@pytest.mark.parametrize("target", EMULATED)
@pytest.mark.parametrize("optimize", ["speed", "size"])
def test_stretches_are_what_unicorn_executes(target: str, optimize: str) -> None:
    from unicorn import UC_HOOK_CODE

    package = tiny_package(target)
    profile = load(package, optimize).profile({"x": some_input()})
    session, seen = load(package, optimize), Counter[int]()

    def note(_engine: Any, address: int, _size: int, _data: Any) -> None:
        seen[address] += 1

    start, stop = session._image.code
    session._machine.engine.hook_add(UC_HOOK_CODE, note, begin=start, end=stop - 1)
    session.run({"x": some_input()})
    assert counted(profile) == seen


@pytest.mark.parametrize("target", EMULATED)
def test_all_that_an_operator_spent_is_in_its_stretches(target: str) -> None:
    session = load(tiny_package(target))
    profile = session.profile({"x": some_input()})
    assert profile.run.operators == session.run({"x": some_input()}).operators
    assert len(profile.blocks) == len(profile.run.operators) == 3
    for i, cost in enumerate(profile.run.operators):
        stretches = profile.stretches(i)
        spent = [s.spent for s in stretches]
        assert sum(spent) == (cost.instructions if cost.cycles is None else cost.cycles)
        assert spent == sorted(spent, reverse=True)


def test_a_kernel_counted_by_hand() -> None:
    start, first, second, end = spin()
    # A block of Unicorn's begins with the MOV and ends with the first BNE: its turn counts too.
    assert [line.instruction.mnemonic for line in first.lines] == ["subs", "bne"]
    assert [s.count for s in (start, first, second, end)] == [1, 5, 50, 1]
    assert [line.taken for line in first.lines] == [0, 4]
    assert [line.taken for line in second.lines] == [0, 49]
    assert [(line.cycles, line.jump) for line in second.lines] == [(1, 0), (1, 2)]
    assert second.spent == 50 * (1 + 1) + 49 * 2
    assert (start.spent, end.spent) == (1, 1 + 2)


def test_loops_of_equally_many_turns_stay_apart() -> None:
    assert [s.count for s in spin(turns=5)] == [1, 5, 5, 1]


def test_places_and_targets() -> None:
    start, first, second, end = spin()
    assert [s.place for s in (start, first, second, end)] == [
        "tiny_spin+0x0", "tiny_spin+0x4", "tiny_spin+0x8", "tiny_spin+0xc",
    ]  # fmt: skip
    for loop in (first, second):
        head, branch = (line.instruction for line in loop.lines)
        assert (branch.operands, branch.target) == ("", head.address)


def test_without_a_cycle_model_instructions_are_spent() -> None:
    profile = load(tiny_package("rv32imac")).profile({"x": some_input()})
    hottest = profile.stretches(0)[0]
    assert {line.cycles for line in hottest.lines} == {None}
    assert hottest.spent == hottest.count * len(hottest.lines)
    assert hottest.lines[-1].taken > 0 or hottest.count == 1
