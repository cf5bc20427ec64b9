"""Which schedules a kernel may get when nobody searched for one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

from midge.core.errors import ScheduleError
from midge.core.registry import Registry
from midge.core.target import Target
from midge.loop import ir
from midge.loop.schedule import Step, apply
from midge.lower.fuse import Group

Schedule = tuple[Step, ...]
ScheduleRule = Callable[[ir.Func, Group, Target], tuple[Schedule, ...]]

# Operator of the anchor ("elementwise" without one) -> candidates, the preferred one first; others
# run as their loops are written.
SCHEDULES: Registry[ScheduleRule] = Registry("schedule")


def scheduled(func: ir.Func, group: Group, target: Target) -> tuple[ir.Func, Schedule]:
    """`func`, which computes `group` on `target`, after the first candidate that applies."""
    rule = SCHEDULES.get(group.anchor.op if group.anchor is not None else "elementwise")
    candidates = rule(func, group, target) if rule is not None else ()
    made, steps = _first_that_applies(replace(func, name="kernel"), candidates)
    return replace(made, name=func.name), steps


# Layers of one shape are scheduled once, in this model and in the next.
@lru_cache(maxsize=256)
def _first_that_applies(
    func: ir.Func, candidates: tuple[Schedule, ...]
) -> tuple[ir.Func, Schedule]:
    for steps in candidates:
        try:
            return apply(func, steps), steps
        except ScheduleError:
            continue
    return apply(func, ()), ()
