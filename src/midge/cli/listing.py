"""Machine code with what it cost, as text and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from midge.cli.output import number
from midge.run.machine_code import Instruction
from midge.run.profile import Line, Profile, Stretch

# What a listing leaves out is too little to look at.
_ENOUGH = 0.9


def listing(profile: Profile, operator: int, unit: str) -> Iterator[str]:
    """The hottest code of an operator, until 90 % of what it spent are shown, line by line.

    unit: what is spent, "cycles" or "instructions".
    """
    stretches = profile.stretches(operator)
    spent, shown = sum(stretch.spent for stretch in stretches), 0
    for i, stretch in enumerate(stretches):
        yield ""
        if shown >= _ENOUGH * spent:
            rest, places = 100 * (1 - shown / spent), number(len(stretches) - i)
            yield f"{rest:.1f} % in {places} more places; --json has them all."
            return
        shown += stretch.spent
        yield (
            f"{stretch.place}: {number(stretch.count)} x {stretch.spent / stretch.count:.1f} "
            f"{unit}, {100 * stretch.spent / spent:.1f} %; so far {100 * shown / spent:.1f} %"
        )
        yield from _lines(stretch, spent, profile.image.function_at)


def _lines(stretch: Stretch, spent: int, place_of: Callable[[int], str]) -> Iterator[str]:
    has_cycles = stretch.lines[0].cycles is not None
    yield f"{'times':>11}  {'cycles  ' if has_cycles else ''}{'%':>5}  at"
    function, _, offset = stretch.place.partition("+")
    start = stretch.lines[0].instruction.address - int(offset or "0", 16)
    for line in stretch.lines:
        cycles = f"{_cycles(line):>6}  " if has_cycles else ""
        at = f"+{line.instruction.address - start:#x}"
        text = _text(line.instruction, function, place_of)
        yield f"{number(line.count):>11}  {cycles}{100 * line.spent / spent:5.1f}  {at:<7} {text}"


def _cycles(line: Line) -> str:
    """Of one run: "1", or "1+2" for one that costs 2 more when it jumps."""
    return f"{line.cycles}+{line.jump}" if line.jump else str(line.cycles)


def _text(instruction: Instruction, function: str, place_of: Callable[[int], str]) -> str:
    operands = [instruction.operands] if instruction.operands else []
    if instruction.target is not None:
        place = place_of(instruction.target) or f"{instruction.target:#x}"
        operands.append(place.removeprefix(function).removesuffix("+0x0") or place)
    return f"{instruction.mnemonic:<8} {', '.join(operands)}".rstrip()


def listing_as_json(profile: Profile, operator: int) -> list[dict[str, Any]]:
    """All the code of an operator, the hottest first."""
    place_of = profile.image.function_at
    return [
        {
            "place": stretch.place,
            "count": stretch.count,
            "spent": stretch.spent,
            "instructions": [
                {
                    "address": line.instruction.address,
                    "text": _text(line.instruction, "", place_of),
                    "count": line.count,
                    "taken": line.taken,
                    "cycles": line.cycles,
                    "cycles_when_taken": line.jump,
                    "spent": line.spent,
                }
                for line in stretch.lines
            ],
        }
        for stretch in profile.stretches(operator)
    ]
