"""Checks of schedule steps on a function that is given as text."""

from __future__ import annotations

import pytest

from midge.core.errors import ScheduleError
from midge.loop import ir
from midge.loop.instruction import Instruction
from midge.loop.schedule import Step, apply
from midge.loop.text import parse_func
from programs import memory_for, run

HEAD = "func f(x: i8[8] in, w: i8[4x3] const, y: i32[8] inout, z: f32[8] inout):\n"


def func(body: str) -> ir.Func:
    return parse_func(HEAD + body)


def check(before: str, steps: list[Step], after: str) -> None:
    result = apply(func(before), steps)
    assert str(result) == HEAD + after
    memory = memory_for(func(before), 5)
    assert run(result, memory) == run(func(before), memory)


def refused(f: ir.Func, steps: list[Step], message: str, **instructions: Instruction) -> None:
    with pytest.raises(ScheduleError) as caught:
        apply(f, steps, instructions)
    assert str(caught.value).startswith(f"{f.name}: {steps[-1]}: ")
    assert message in str(caught.value)
