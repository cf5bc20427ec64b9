"""Placing buffers one after the other: greedily, or until they all fit below a ceiling.

Greedy takes buffers in a given order, each to a place that is free ("offset calculation greedy by
size", Pisarchyk and Lee, arXiv 2001.03288, is one such order). `Packing` keeps a ceiling instead: a
buffer without a free place takes the one where it drives out the least, and what was driven out is
placed again; it grows heavier each time, so that no two buffers drive each other out for ever
(ejection chains with weights that learn, as in the breakout method for constraint satisfaction).

Everything here is in integers, and random numbers come from `Random.random` alone: the result is
the same on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from random import Random
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from midge.plan.differences import Ints, Problem

# The offset of a buffer that has none: what it forbids lies far below any arena.
NOWHERE = -(1 << 60)

Fit = Literal["lowest", "tightest"]
Flags = NDArray[np.bool_]


def greedy(problem: Problem, order: Sequence[int], fit: Fit) -> Ints:
    """Offsets in units: each buffer of `order` in turn to its lowest or its tightest free place."""
    offsets = np.full(len(problem), NOWHERE, np.int64)
    for i in order:
        offsets[i] = _free_place(problem, offsets, i, fit)
    return offsets


def _free_place(problem: Problem, offsets: Ints, i: int, fit: Fit) -> int:
    at = offsets[problem.others[i]]
    low, high = at + problem.low[i], at + problem.high[i]
    above = high > 0
    low, high = low[above], high[above]
    order = low.argsort()
    # The places between what is forbidden: floors[k] <= offset <= low[k], the last without end.
    floors = np.zeros(len(low) + 1, np.int64)
    np.maximum.accumulate(high[order], out=floors[1:])
    floors = -(-floors // problem.steps[i]) * problem.steps[i]
    room = low[order] - floors[:-1]
    free = np.flatnonzero(room >= 0)
    if not len(free):
        return int(floors[-1])
    best = free[0] if fit == "lowest" else free[room[free].argmin()]
    return int(floors[best])


@dataclass(frozen=True, slots=True)
class Style:
    """weights: what driving out each buffer costs at first.  ranks: the highest is placed first.
    high: who takes the highest free place, not the lowest.  learn: buffers that are often driven
    out are placed earlier."""

    weights: Ints
    ranks: Ints
    high: Flags
    learn: bool


class Packing:
    """Some buffers at offsets below a ceiling, and those that still need a place. start: offsets to
    begin with, where they are below it."""

    def __init__(
        self, problem: Problem, limit: int, style: Style, rng: Random, start: Ints | None = None
    ) -> None:
        self.problem, self.style, self.rng = problem, style, rng
        ceilings = problem.ceilings(limit)
        self.ceilings: list[int] = ceilings.tolist()
        self.offsets: Ints = np.full(len(problem), NOWHERE, np.int64)
        if start is not None:
            self.offsets = np.where(start <= ceilings, start, NOWHERE)
        self.weights = style.weights.copy()
        self.left = [NOWHERE] * len(problem)  # where each was driven out last
        placed = (self.offsets != NOWHERE).tolist()
        self.waiting = [(-rank, i) for i, rank in enumerate(style.ranks.tolist()) if not placed[i]]
        heapify(self.waiting)

    def run(self, steps: int) -> int:
        """Place buffers until none waits or `steps` are done; the number of steps done."""
        if min(self.ceilings, default=0) < 0:
            return 0
        for step in range(steps):
            if not self.waiting:
                return step
            self._place(heappop(self.waiting)[1])
        return steps

    @property
    def complete(self) -> bool:
        return not self.waiting

    def _place(self, i: int) -> None:
        problem, ceiling, step = self.problem, self.ceilings[i], int(self.problem.steps[i])
        others = problem.others[i]
        at = self.offsets[others]
        low, high = at + problem.low[i], at + problem.high[i]
        # A place that touches nothing and costs no more than any other is at one of these.
        places = np.concatenate((_up(high, step), _down(low, step), (0, ceiling)))
        places = places[(places >= 0) & (places <= ceiling)]
        by_low, by_high = low.argsort(), high.argsort()
        started = low[by_low].searchsorted(places, "left")
        stopped = high[by_high].searchsorted(places, "right")
        free = places[started == stopped]
        if len(free):
            self.offsets[i] = free.max() if self.style.high[i] else free.min()
            return
        # The intervals with low < place, less those with high <= place, are the ones around it.
        weights = self.weights[others]
        cost = _sums(weights[by_low])[started] - _sums(weights[by_high])[stopped]
        cheapest = places[cost == cost.min()]
        place = self._pick(cheapest, avoid=self.left[i])
        self._drive_out(others[(low < place) & (place < high)].tolist())
        self.offsets[i] = place

    def _pick(self, places: Ints, avoid: int) -> int:
        others = places[places != avoid]
        choice = others if len(others) else places
        return int(choice[int(self.rng.random() * len(choice))])

    def _drive_out(self, buffers: Sequence[int]) -> None:
        for i in buffers:
            self.left[i] = int(self.offsets[i])
            self.offsets[i] = NOWHERE
            self.weights[i] += self.style.weights[i]
            rank = self.weights[i] if self.style.learn else self.style.ranks[i]
            heappush(self.waiting, (-int(rank), i))


def _up(offsets: Ints, step: int) -> Ints:
    return offsets if step == 1 else -(-offsets // step) * step


def _down(offsets: Ints, step: int) -> Ints:
    return offsets if step == 1 else offsets // step * step


def _sums(values: Ints) -> Ints:
    """Of the first 0, 1, 2 ... values."""
    sums = np.zeros(len(values) + 1, np.int64)
    np.cumsum(values, out=sums[1:])
    return sums
