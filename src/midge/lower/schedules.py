"""Which schedules a kernel may get when nobody searched for one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from midge.core.registry import Registry
from midge.loop import ir
from midge.loop.schedule import Step

if TYPE_CHECKING:
    from midge.lower.candidates import Request

Schedule = tuple[Step, ...]
ScheduleRule = Callable[[ir.Func, "Request"], tuple[Schedule, ...]]

# Operator of the anchor ("elementwise" without one) -> candidates, the preferred one first; others
# run as their loops are written.
SCHEDULES: Registry[ScheduleRule] = Registry("schedule")
