"""Room between all buffers of an arena, so that whatever misses its own bytes hits nobody's."""

from __future__ import annotations

from collections.abc import Sequence

from midge.plan.arena import Planner
from midge.plan.buffers import Buffer, Piece, Plan
from midge.plan.offsets import plan

GUARD = 16  # bytes on each side of a piece, a multiple of every alignment


def quick(buffers: Sequence[Buffer]) -> Plan:
    """Offsets without a search for less."""
    return plan(buffers, effort=0.0)


def guarded(planner: Planner = quick, guard: int = GUARD) -> Planner:
    """`planner` with `guard` bytes of nobody's on both sides of every piece, for as long as the
    piece is alive. The peak it returns includes them, those around the arena too."""

    def place(buffers: Sequence[Buffer]) -> Plan:
        assert all(guard % b.align == 0 for b in buffers), f"guards of {guard} bytes misalign"
        found = planner([_grown(b, guard) for b in buffers])
        offsets = {name: offset + guard for name, offset in found.offsets.items()}
        return Plan(offsets, found.peak, found.lower_bound, found.busiest, found.proven)

    return place


def _grown(buffer: Buffer, guard: int) -> Buffer:
    """Its pieces, and guards where a piece has no neighbour that is alive just as long."""
    pieces = sorted(buffer.pieces, key=lambda p: (p.start, p.stop, p.offset))
    merged: list[Piece] = []
    for p in pieces:
        last = merged[-1] if merged else None
        if last and (last.start, last.stop) == (p.start, p.stop) and p.offset <= last.end:
            size = max(last.end, p.end) - last.offset
            merged[-1] = Piece(last.offset, size, p.start, p.stop)
        else:
            merged.append(p)
    grown = [Piece(p.offset, p.size + 2 * guard, p.start, p.stop) for p in merged]
    return Buffer(buffer.name, tuple(grown), buffer.align)
