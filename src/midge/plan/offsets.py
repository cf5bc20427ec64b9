"""Offsets of buffers in one arena."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from midge.plan import solver
from midge.plan.buffers import Buffer, Piece, Plan, busiest_time, live_bytes
from midge.plan.differences import problem
from midge.plan.heuristic import improve

# Of the effort: a second of the heuristic finds more than one of the solver.
_HEURISTIC = 2.0
_SOON = 0.3  # the effort of what is found soon

__all__ = ["Buffer", "Piece", "Plan", "live_bytes", "plan", "reach"]


def plan(buffers: Sequence[Buffer], *, effort: float = 1.0, limit: int | None = None) -> Plan:
    """Place every buffer; no two have a byte in common at a time at which it is alive in both.

    effort: how long to look for less, counted in steps, not in time: the same buffers always get
    the same offsets, in whatever order they are given. 0 is greedy alone.
    limit: a peak of so many bytes is low enough, whatever is possible.
    """
    given = _sorted(buffers)
    bound, busiest = _bound(given)
    goal = max(bound, limit or 0)
    arrays = problem(given)
    best = improve(given, arrays, goal, _HEURISTIC * effort)
    if arrays.peak(best) > goal and effort > 0 and solver.available():
        answer = solver.solve(given, arrays, (best * arrays.unit).tolist(), bound, goal, effort)
        bound = answer.bound
        if answer.offsets is not None:
            best = np.array(answer.offsets, np.int64) // arrays.unit
    assert arrays.valid(best), "buffers that are alive together overlap"
    peak = arrays.peak(best)
    places = {b.name: o * arrays.unit for b, o in zip(given, best.tolist(), strict=True)}
    return Plan({b.name: places[b.name] for b in buffers}, peak, bound, busiest, peak == bound)


def reach(buffers: Sequence[Buffer]) -> Callable[[int], int | None]:
    """limit -> the peak that `plan` finds with this limit, where it takes little to find: its first
    steps, which are the same whatever the effort. None where these find none within the limit."""
    given = _sorted(buffers)
    bound, _ = _bound(given)
    arrays = problem(given)

    def found(limit: int) -> int | None:
        if limit < bound:
            return None
        peak = arrays.peak(improve(given, arrays, limit, _SOON))
        return peak if peak <= limit else None

    return found


def _sorted(buffers: Sequence[Buffer]) -> list[Buffer]:
    given = sorted(buffers, key=_key)
    assert len({b.name for b in given}) == len(given), "two buffers of one name"
    return given


def _bound(buffers: Sequence[Buffer]) -> tuple[int, int]:
    """Bytes that no plan is below, and the first time at which the most are alive."""
    live, busiest = busiest_time(buffers)
    return max([live, *(b.size for b in buffers)], default=0), busiest


def _key(buffer: Buffer) -> tuple[object, ...]:
    """The order in which buffers are looked at: by what they are, by name only where equal."""
    pieces = tuple((p.start, p.stop, p.offset, p.size) for p in buffer.pieces)
    return pieces, buffer.align, buffer.name
