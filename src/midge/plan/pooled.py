"""Offsets in several memories as one plan: addresses of a space in which the pools follow each
other, each with all its bytes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from midge.plan.buffers import Buffer, Plan, busiest_time
from midge.plan.pools import Pool, plan_pools

ALIGN = 16
# Accesses per byte: scratch memory is read again for every block of channels.
_SCRATCH, _ROWS = 8.0, 3.0


def bases_of(pools: Sequence[Pool]) -> tuple[int, ...]:
    """The first address of each pool; the last one may grow."""
    found, at = [], 0
    for pool in pools:
        found.append(at)
        at += -(-(pool.size or 0) // ALIGN) * ALIGN
    return tuple(found)


def pooled(pools: Sequence[Pool]) -> Callable[[Sequence[Buffer]], Plan]:
    """A planner for these pools, of which only the last may be without a size. PlanError if the
    buffers do not fit."""
    assert all(p.size is not None for p in pools[:-1]), "a pool behind one without an end"

    def place(buffers: Sequence[Buffer]) -> Plan:
        accesses = {b.name: b.size * (_SCRATCH if "@" in b.name else _ROWS) for b in buffers}
        found = plan_pools([b for b in buffers if b.pieces], pools, accesses)
        bases = dict(zip((p.name for p in pools), bases_of(pools), strict=True))
        offsets = {b.name: 0 for b in buffers}
        for name, own in found.plans.items():
            offsets |= {b: bases[name] + at for b, at in own.offsets.items()}
        live, busiest = busiest_time(buffers)
        used = [(p.name, bases[p.name], found.plans[p.name].peak) for p in pools]
        peak = max(base + size for _, base, size in used if size) if live else 0
        return replace(Plan(offsets, peak, live, busiest, False), pools=tuple(used))

    return place
