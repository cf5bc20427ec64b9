"""Schedule steps: whatever applies keeps the meaning, whatever does not raises ScheduleError."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from midge.core.errors import ScheduleError
from midge.core.types import Array, DType
from midge.loop import ir
from midge.loop.schedule import (
    ComputeAt,
    Pack,
    Split,
    Stage,
    Step,
    Tensorize,
    apply,
    pack_array,
    parse_step,
)
from midge.loop.text import parse_func
from midge.loop.unrolled import expand_unrolled
from midge.loop.verify import verify
from programs import PROGRAMS, dot_instruction, matmul, memory_for, run
from strategies import nests, packs, pipelines, programs, steps

pytestmark = pytest.mark.slow

INSTRUCTIONS = {
    i.name: i
    for i in (
        dot_instruction(2, "i8", "i8"),
        dot_instruction(3, "i8", "i8"),
        dot_instruction(2, "i8", "i16"),
        dot_instruction(2, "i16", "i16"),
    )
}
PROPERTY = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def packed(schedule: list[Step], memory: Mapping[str, Array]) -> dict[str, Array]:
    result = dict(memory)
    for step in schedule:
        if isinstance(step, Pack):
            result[step.buffer] = pack_array(step, result[step.buffer])
    return result


def applied(func: ir.Func, step: Step) -> ir.Func | None:
    """`func` after the step, or None if it was refused as it should be."""
    try:
        return apply(func, [step], INSTRUCTIONS)
    except ScheduleError as error:
        if error.where != f"{func.name}: {step}":
            raise AssertionError(f"{error} does not say where") from error
        return None


def check(func: ir.Func, schedule: list[Step], current: ir.Func) -> None:
    """`current`, which is `func` after the schedule, does the same, written out or not."""
    assert parse_func(str(current)) == current
    memory = memory_for(func, seed=len(schedule))
    expected = run(func, memory)
    assert run(current, packed(schedule, memory), INSTRUCTIONS) == expected
    written_out = expand_unrolled(current, INSTRUCTIONS)
    verify(written_out, INSTRUCTIONS)
    assert run(written_out, packed(schedule, memory), INSTRUCTIONS) == expected


def check_schedule(func: ir.Func, data: st.DataObject, length: int) -> None:
    """Draw steps, keep those that apply, and compare at the end."""
    schedule: list[Step] = []
    current = func
    for _ in range(length):
        step = data.draw(steps(current))
        assert parse_step(str(step)) == step
        after = applied(current, step)
        if after is not None:
            schedule.append(step)
            current = after
    check(func, schedule, current)


@given(programs(), st.data())
@PROPERTY
def test_a_schedule_keeps_the_meaning_of_operators(func: ir.Func, data: st.DataObject) -> None:
    check_schedule(func, data, length=4)


@given(nests(), st.data())
@PROPERTY
def test_a_schedule_keeps_the_meaning_of_any_nest(func: ir.Func, data: st.DataObject) -> None:
    check_schedule(func, data, length=3)


@given(pipelines(), st.sampled_from(["r", "c", "k", "r_o", "c_o"]), st.integers(1, 2), st.data())
@PROPERTY
def test_a_producer_computed_at_its_consumer(
    func: ir.Func, loop: str, factor: int, data: st.DataObject
) -> None:
    splits = [Split("r", factor, "guard"), Split("c", factor, "peel")]
    schedule: list[Step] = [s for s in splits if loop == f"{s.loop}_o" and applied(func, s)]
    schedule.append(ComputeAt("t", loop))
    current = apply(func, schedule[:-1])
    after = applied(current, schedule[-1])
    if after is None:
        return
    assert "t: i32" in str(after)
    schedule.append(data.draw(steps(after)))
    last = applied(after, schedule[-1])
    check(func, schedule if last else schedule[:-1], last or after)


@given(
    st.integers(1, 3), st.integers(1, 4), st.integers(1, 3), st.sampled_from(sorted(INSTRUCTIONS))
)
@PROPERTY
def test_a_tensorized_product(rows: int, cols: int, blocks: int, name: str) -> None:
    lanes = int(name[-1])
    func = matmul(rows, cols, blocks * lanes)
    schedule: list[Step] = [Split("k", lanes)]
    if name == "dot_i8_i16_2":
        schedule.append(Stage("w", "n", DType.I16))
    schedule.append(Tensorize("k_i", name))
    if name == "dot_i16_i16_2":
        with pytest.raises(ScheduleError, match="x is i8, its a i16"):
            apply(func, schedule, INSTRUCTIONS)
        return
    current = apply(func, schedule, INSTRUCTIONS)
    assert f"{name}(x[" in str(current)
    check(func, schedule, current)


@given(programs(), st.data())
@PROPERTY
def test_a_packed_constant(func: ir.Func, data: st.DataObject) -> None:
    consts = [p for p in func.params if p.mode == "const"]
    assume(consts)
    param = data.draw(st.sampled_from(consts))
    step = data.draw(packs(param.name, len(param.shape)))
    current = apply(func, [step])
    [now] = [p for p in current.params if p.name == param.name]
    memory = memory_for(func, 3)
    assert packed([step], memory)[param.name].shape == now.shape
    check(func, [step], current)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
def test_shared_programs_verify(program: Callable[[], ir.Func]) -> None:
    verify(program())
