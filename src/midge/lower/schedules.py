"""Which schedules a kernel may get when nobody searched for one."""

from __future__ import annotations

from collections.abc import Callable

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
    for steps in candidates:
        try:
            return apply(func, steps), steps
        except ScheduleError:
            continue
    return apply(func, ()), ()
