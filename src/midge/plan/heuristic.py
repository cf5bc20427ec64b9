"""Good offsets soon: greedy in many orders, then packings below lower and lower ceilings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from math import isqrt
from random import Random

import numpy as np

from midge.plan.buffers import Buffer
from midge.plan.differences import Ints, Problem
from midge.plan.placing import Fit, Flags, Packing, Style, greedy

# Steps of all packings together at effort 1, and of one: a packing that succeeds mostly does so
# within a few steps a buffer, and after that another start is worth more than patience.
STEPS_AT_MOST = 60_000
STEPS_TIMES_BUFFERS = 600
STEPS_AT_LEAST = 1_500
STEPS_PER_BUFFER = 5


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
    }


def _styles(problem: Problem, measures: dict[str, Ints]) -> Iterator[Style]:
    """Endlessly, those that did best on cascades of rows more often.

    Buffers of one size go to one side, which by chance: they then fit in each other's places, and
    the others find what is free in one stretch. That finds several times more perfect packings than
    one side for all, or a side of its own for each.
    """
    sizes, life = problem.sizes.tolist(), measures["life"]
    ones = np.ones(len(problem), np.int64)
    roots = np.array([16 * isqrt(s) + 1 for s in sizes], np.int64)
    spans = np.array(
        [s * isqrt(t) + 1 for s, t in zip(sizes, life.tolist(), strict=True)], np.int64
    )
    short = life <= np.quantile(life, 0.25, method="lower") if len(life) else life > 0
    rng = Random(1)
    while True:
        yield Style(ones, measures["met"], _sides(sizes, rng), False)
        yield Style(spans, measures["area"], _sides(sizes, rng), False)
        yield Style(ones, measures["met"], _sides(sizes, rng), False)
        yield Style(roots, measures["life"], _sides(sizes, rng) | short, True)
        yield Style(spans, measures["area"], ~short, True)


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

    Every other one tries the goal itself. Those between go half way from the goal to the peak; a
    success is the next peak to beat, a failure moves the ceiling up half way to it.
    """
    styles = _styles(problem, measures)
    each = max(STEPS_AT_LEAST, STEPS_PER_BUFFER * len(problem))
    floor = goal
    for seed in count():
        peak = problem.peak(best)
        if peak <= goal or steps <= 0:
            return best
        ceiling = goal if seed % 2 == 0 else (floor + peak) // 2
        packing = Packing(problem, ceiling, next(styles), Random(seed))
        steps -= max(1, packing.run(min(each, steps)))
        if packing.complete:
            best = packing.offsets
        elif seed % 2:
            floor = ceiling if peak - ceiling > max(problem.unit, peak // 500) else goal
    raise AssertionError("unreachable")
