"""Good offsets soon: greedy in many orders, then packings below lower and lower ceilings.

Packings begin with nothing placed, or with the best offsets yet as far as they lie below the
ceiling. Most find something within a few steps a buffer or never: another start is worth more than
patience.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from math import isqrt
from random import Random

import numpy as np

from midge.plan.buffers import Buffer
from midge.plan.differences import Ints, Problem
from midge.plan.placing import Fit, Flags, Packing, Style, greedy

# Steps of all packings together at effort 1, and of one.
STEPS_AT_MOST = 12_000
STEPS_TIMES_BUFFERS = 240
STEPS_AT_LEAST = 200
STEPS_PER_BUFFER = 6
# Of the way from the peak down to the goal, what a packing near the peak tries.
NEAR = 16
# The ceiling of each turn, and whether it begins with the best offsets yet.
TURNS = (("goal", False), ("near", True), ("half", False), ("half", True))


def improve(buffers: Sequence[Buffer], problem: Problem, goal: int, effort: float) -> Ints:
    """Offsets in units. Stops when the peak is at most `goal` bytes."""
    measures = _measures(buffers, problem)
    best = min(_until(_greedy(problem, measures), problem, goal), key=problem.peak)
    steps = min(STEPS_AT_MOST, STEPS_TIMES_BUFFERS * len(problem))
    return _pack(problem, measures, best, goal, int(steps * effort))


def _until(plans: Iterator[Ints], problem: Problem, goal: int) -> Iterator[Ints]:
    for offsets in plans:
        yield offsets
        if problem.peak(offsets) <= goal:
            return


def _greedy(problem: Problem, measures: dict[str, Ints]) -> Iterator[Ints]:
    fits: tuple[Fit, ...] = ("lowest", "tightest")
    for ranks in measures.values():
        order = np.lexsort((-problem.sizes, -ranks)).tolist()
        for fit in fits:
            yield greedy(problem, order, fit)


def _measures(buffers: Sequence[Buffer], problem: Problem) -> dict[str, Ints]:
    """By what buffers are placed first: the highest of each."""
    start = np.array([min((p.start for p in b.pieces), default=0) for b in buffers], np.int64)
    stop = np.array([max((p.stop for p in b.pieces), default=0) for b in buffers], np.int64)
    life = stop - start
    met = np.array([problem.sizes[others].sum() for others in problem.others], np.int64)
    return {
        "size": problem.sizes,
        "life": life,
        "area": problem.sizes * life,
        "met": met,
        "start": -start,
        "stop": stop,
        "full": _fullest(problem),
    }


def _fullest(problem: Problem) -> Ints:
    """Of each buffer, the most bytes that are alive at a time of its life."""
    rows = [(p.size, p.start, p.stop) for own in problem.pieces for p in own]
    sizes, starts, stops = np.array(rows, np.int64).reshape(-1, 3).T
    times = np.unique(np.concatenate((starts, stops)))
    first, last = times.searchsorted(starts), times.searchsorted(stops)
    changes = np.zeros(len(times), np.int64)
    np.add.at(changes, first, sizes)
    np.subtract.at(changes, last, sizes)
    alive = changes.cumsum()
    most = iter([int(alive[a:b].max()) for a, b in zip(first.tolist(), last.tolist(), strict=True)])
    return np.array([max((next(most) for _ in own), default=0) for own in problem.pieces], np.int64)


def _styles(problem: Problem, measures: dict[str, Ints]) -> Iterator[Style]:
    """Endlessly, those that did best on cascades of rows.

    Buffers of one size go to one side, which by chance: they then fit in each other's places, and
    the others find what is free in one stretch. That finds several times more perfect packings than
    one side for all, or a side of its own for each. What is alive when memory is fullest goes
    first: where the others lie matters less.
    """
    sizes, life = problem.sizes.tolist(), measures["life"]
    ones = np.ones(len(problem), np.int64)
    roots = np.array([16 * isqrt(s) + 1 for s in sizes], np.int64)
    spans = np.array(
        [s * isqrt(t) + 1 for s, t in zip(sizes, life.tolist(), strict=True)], np.int64
    )
    full = _then(measures["full"], measures["area"])
    short = life <= np.quantile(life, 0.25, method="lower") if len(life) else life > 0
    rng = Random(1)
    while True:
        yield Style(ones, full, _sides(sizes, rng), False)
        yield Style(ones, measures["met"], _sides(sizes, rng), False)
        yield Style(spans, measures["area"], _sides(sizes, rng), False)
        yield Style(spans, full, _sides(sizes, rng), False)
        yield Style(roots, measures["life"], _sides(sizes, rng) | short, True)
        yield Style(spans, measures["area"], ~short, True)


def _then(first: Ints, second: Ints) -> Ints:
    """Ranks by `first`, where that is equal by `second`."""
    ranks = np.empty(len(first), np.int64)
    ranks[np.lexsort((second, first))] = np.arange(len(first))
    return ranks


def _sides(sizes: Sequence[int], rng: Random) -> Flags:
    high = {size: rng.random() < 0.5 for size in sorted(set(sizes))}
    return np.array([high[size] for size in sizes], np.bool_)


def _pack(
    problem: Problem,
    measures: dict[str, Ints],
    best: Ints,
    goal: int,
    steps: int,
) -> Ints:
    """Better offsets than `best`, by packings below ceilings of `goal` bytes and more.

    In turn: the goal itself; near the peak, from the best; half way between, from nothing, then
    from the best. A success is the next peak to beat, a failure half way moves that up.
    """
    styles = _styles(problem, measures)
    each = max(STEPS_AT_LEAST, STEPS_PER_BUFFER * len(problem))
    floor = goal
    for seed in count():
        peak = problem.peak(best)
        if peak <= goal or steps <= 0:
            return best
        floor = floor if floor < peak else goal
        which, warm = TURNS[seed % len(TURNS)]
        half = (floor + peak) // 2
        near = peak - max(problem.unit, (peak - goal) // NEAR)
        ceiling = {"goal": goal, "near": max(near, goal), "half": half}[which]
        start = best if warm else None
        packing = Packing(problem, ceiling, next(styles), Random(seed), start)
        steps -= max(1, packing.run(min(each, steps)))
        if packing.complete:
            best = packing.offsets
        elif ceiling == half:
            floor = half if peak - half > max(problem.unit, peak // 500) else goal
    raise AssertionError("unreachable")
