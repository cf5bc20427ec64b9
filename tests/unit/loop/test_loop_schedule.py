"""Schedule steps: whatever applies keeps the meaning, whatever does not raises ScheduleError."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from midge.core.errors import ScheduleError
from midge.core.types import Array
from midge.loop import ir
from midge.loop.schedule import Pack, Step, apply, pack_array, parse_step
from midge.loop.simplify import expand_unrolled
from midge.loop.text import parse_func
from midge.loop.verify import verify
from programs import PROGRAMS, dot_instruction, memory_for, run
from strategies import nests, programs, steps

INSTRUCTIONS = {
    i.name: i
    for i in (
        dot_instruction(2, "i8", "i8"),
        dot_instruction(3, "i8", "i8"),
        dot_instruction(2, "i8", "i16"),
        dot_instruction(2, "i16", "i16"),
    )
}
PROPERTY = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


def packed(schedule: list[Step], memory: Mapping[str, Array]) -> dict[str, Array]:
    result = dict(memory)
    for step in schedule:
        if isinstance(step, Pack):
            result[step.buffer] = pack_array(step, result[step.buffer])
    return result


def check_schedule(func: ir.Func, data: st.DataObject, length: int) -> None:
    """Draw steps, keep those that apply, and compare at the end."""
    schedule: list[Step] = []
    current = func
    for _ in range(length):
        step = data.draw(steps(current))
        assert parse_step(str(step)) == step
        try:
            current = apply(current, [step], INSTRUCTIONS)
        except ScheduleError as error:
            assert error.where == f"{func.name}: {step}"
        else:
            schedule.append(step)
    assert parse_func(str(current)) == current
    memory = memory_for(func, seed=len(schedule))
    expected = run(func, memory)
    assert run(current, packed(schedule, memory), INSTRUCTIONS) == expected
    written_out = expand_unrolled(current, INSTRUCTIONS)
    verify(written_out, INSTRUCTIONS)
    assert run(written_out, packed(schedule, memory), INSTRUCTIONS) == expected


@given(programs(), st.data())
@PROPERTY
def test_a_schedule_keeps_the_meaning_of_operators(func: ir.Func, data: st.DataObject) -> None:
    check_schedule(func, data, length=4)


@given(nests(), st.data())
@PROPERTY
def test_a_schedule_keeps_the_meaning_of_any_nest(func: ir.Func, data: st.DataObject) -> None:
    check_schedule(func, data, length=3)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
def test_shared_programs_verify(program) -> None:
    verify(program())
