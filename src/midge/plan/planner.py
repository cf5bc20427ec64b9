"""Offsets of buffers in one arena.

Greedy best-fit under several orders, the best kept. No order is best everywhere: by size is the
usual winner (offset calculation "greedy by size", Pisarchyk and Lee, arXiv 2001.03288), by
conflicts and by start win on the rest. The lower bound is the busiest step's live bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

ALIGN = 16


@dataclass(frozen=True, slots=True)
class Buffer:
    """`size` bytes, alive during steps start <= step < stop."""

    name: str
    size: int
    start: int
    stop: int
    align: int = 4

    def meets(self, other: Buffer) -> bool:
        """Whether both are alive at some step."""
        return self.start < other.stop and other.start < self.stop


@dataclass(frozen=True, slots=True)
class Plan:
    """offsets by name; peak: bytes of the arena; lower_bound: no plan can be smaller;
    busiest: the step at which the bound is reached."""

    offsets: Mapping[str, int]
    peak: int
    lower_bound: int
    busiest: int


def plan(buffers: Sequence[Buffer]) -> Plan:
    """Place every buffer; buffers alive together do not overlap. Same input, same result."""
    bound, busiest = lower_bound(buffers)
    best: dict[str, int] = {}
    peak = -1
    for order in _orders(buffers):
        offsets = _place(order)
        height = max((offsets[b.name] + b.size for b in buffers), default=0)
        if peak < 0 or height < peak:
            best, peak = offsets, height
        if peak == bound:
            break
    return Plan(best, max(peak, 0), bound, busiest)


def lower_bound(buffers: Sequence[Buffer]) -> tuple[int, int]:
    """The most live bytes at one step, and the first such step."""
    best, at = 0, 0
    for step in sorted({b.start for b in buffers}):
        live = live_bytes(buffers, step)
        if live > best:
            best, at = live, step
    return best, at


def live_bytes(buffers: Sequence[Buffer], step: int) -> int:
    """Bytes of the buffers that are alive at `step`."""
    return sum(b.size for b in buffers if b.start <= step < b.stop)


def _orders(buffers: Sequence[Buffer]) -> list[list[Buffer]]:
    conflicts = {b.name: sum(o.size for o in buffers if b.meets(o)) for b in buffers}
    keys: list[Callable[[Buffer], tuple[object, ...]]] = [
        lambda b: (-b.size, b.start, b.name),
        lambda b: (-(b.stop - b.start), -b.size, b.name),
        lambda b: (-conflicts[b.name], -b.size, b.name),
        lambda b: (b.start, -b.size, b.name),
        lambda b: (-b.stop, -b.size, b.name),
        lambda b: (-b.size * (b.stop - b.start), b.start, b.name),
    ]
    return [sorted(buffers, key=key) for key in keys]


def _place(order: Sequence[Buffer]) -> dict[str, int]:
    """Each buffer in turn into the tightest gap that is free during its life, else on top."""
    placed: list[tuple[int, Buffer]] = []
    for buffer in order:
        taken = sorted(
            ((o, b) for o, b in placed if b.meets(buffer)), key=lambda p: (p[0], p[1].size)
        )
        placed.append((_best_fit(buffer, taken), buffer))
    return {b.name: o for o, b in placed}


def _best_fit(buffer: Buffer, taken: Sequence[tuple[int, Buffer]]) -> int:
    best: int | None = None
    waste = 0
    top = 0
    for offset, other in taken:
        start = round_up(top, buffer.align)
        gap = offset - start
        if gap >= buffer.size and (best is None or gap < waste):
            best, waste = start, gap
        top = max(top, offset + other.size)
    return round_up(top, buffer.align) if best is None else best


def round_up(n: int, align: int) -> int:
    return -(-n // align) * align
