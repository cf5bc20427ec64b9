"""Which schedule a kernel gets when nobody searched for one."""

from __future__ import annotations

from collections.abc import Callable

from midge.core.registry import Registry
from midge.core.target import Target
from midge.loop import ir
from midge.loop.schedule import Step
from midge.lower.fuse import Group

ScheduleRule = Callable[[ir.Func, Group, Target], tuple[Step, ...]]

# Operator of the anchor ("elementwise" without one) -> rule; others run as their loops are written.
SCHEDULES: Registry[ScheduleRule] = Registry("schedule")


def default_schedule(func: ir.Func, group: Group, target: Target) -> tuple[Step, ...]:
    """The steps for `func`, which computes `group` on `target`."""
    key = group.anchor.op if group.anchor is not None else "elementwise"
    rule = SCHEDULES.get(key)
    return rule(func, group, target) if rule is not None else ()
