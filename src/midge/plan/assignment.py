"""Which buffer lies in which pool, at the least cost of accesses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from midge.plan import solver
from midge.plan.buffers import Buffer, disjoint
from midge.plan.differences import Ints

if TYPE_CHECKING:
    from ortools.sat.python import cp_model

# Deterministic seconds at effort 1, as in `solver`.
CHOICE_SECONDS = 0.5
PLACE_SECONDS = 1.0
# With more buffers, choosing pools and offsets at once takes too long.
MOST_PLACED = 60


@dataclass(frozen=True, slots=True)
class Task:
    """sizes: bytes of each pool.  allowed[i]: the pools in which buffer i may be.  costs[i][k]: of
    the accesses to buffer i in pool k."""

    buffers: tuple[Buffer, ...]
    sizes: tuple[int, ...]
    allowed: tuple[tuple[int, ...], ...]
    costs: tuple[tuple[float, ...], ...]

    @property
    def enough(self) -> int:
        """Bytes in which all buffers fit side by side."""
        return sum(b.size + b.align for b in self.buffers)

    def inside(self, choice: Choice, pool: int) -> list[Buffer]:
        """The buffers in a pool."""
        pairs = zip(self.buffers, choice.pools, strict=True)
        return [b for b, at in pairs if at == pool]

    def possible(self, i: int) -> list[int]:
        """The pools in which buffer i may be and fits alone."""
        return [k for k in self.allowed[i] if self.buffers[i].size <= self.sizes[k]]

    def integer_costs(self) -> list[list[int]]:
        """Costs as integers in the same proportions, to a millionth of a millionth; the earlier
        pool a little cheaper."""
        most = sum(max(map(abs, row), default=0.0) for row in self.costs)
        scale = (1 << 40) / most if most else 0.0
        step = len(self.buffers) * len(self.sizes) + 1
        return [[round(c * scale) * step + k for k, c in enumerate(row)] for row in self.costs]


@dataclass(frozen=True, slots=True)
class Choice:
    """pools: of each buffer, its position.  proven: none costs less."""

    pools: tuple[int, ...]
    proven: bool


@dataclass(frozen=True, slots=True)
class Placed:
    """offsets: of each buffer in its pool, by name."""

    choice: Choice
    offsets: Mapping[str, int]


def choose(task: Task, effort: float) -> Choice | None:
    """The least cost with which live bytes fit in every pool at every time; None if none is found.

    Whether buffers fit, which waste bytes between them, is another question.
    """
    live = _live(task.buffers)
    costs = task.integer_costs()
    found = min(_greedy(task, live, costs), key=lambda c: _cost(costs, c), default=None)
    if effort <= 0 or not solver.available():
        return None if found is None else Choice(tuple(found), False)
    return _solve(task, live, costs, found, CHOICE_SECONDS * effort)


def _live(buffers: Sequence[Buffer]) -> Ints:
    """Bytes of each buffer (row) at each time (column) at which a piece is born."""
    pieces = [disjoint(b.pieces) for b in buffers]
    times = np.array(sorted({p.start for own in pieces for p in own}), np.int64)
    live = np.zeros((len(buffers), len(times)), np.int64)
    for row, own in zip(live, pieces, strict=True):
        for p in own:
            row[(p.start <= times) & (times < p.stop)] += p.size
    return live


def _cost(costs: Sequence[Sequence[int]], pools: Sequence[int]) -> int:
    return sum(row[k] for row, k in zip(costs, pools, strict=True))


def _greedy(task: Task, live: Ints, costs: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Each buffer in turn to the cheapest pool with room: first those that lose most by a byte
    elsewhere, or the largest, which find room only at first."""
    everyone = range(len(task.buffers))
    gains = [(max(costs[i]) - min(costs[i])) / max(1, int(live[i].sum())) for i in everyone]
    by_gain = sorted(everyone, key=lambda i: (len(task.allowed[i]) > 1, -gains[i], i))
    by_size = sorted(
        everyone, key=lambda i: (len(task.possible(i)), -task.buffers[i].size, -gains[i], i)
    )
    for order in (by_gain, by_size):
        room = np.repeat(np.array(task.sizes, np.int64)[:, None], live.shape[1], axis=1)
        pools = [-1] * len(task.buffers)
        for i in order:
            fits = [k for k in task.possible(i) if (live[i] <= room[k]).all()]
            if not fits:
                break
            pools[i] = min(fits, key=lambda k: costs[i][k])
            room[pools[i]] -= live[i]
        else:
            yield pools


class _Model:
    """One pool for each buffer, live bytes within their sizes, the cost at its least."""

    def __init__(self, task: Task, live: Ints, costs: Sequence[Sequence[int]]) -> None:
        from ortools.sat.python import cp_model

        self.task = task
        self.model = cp_model.CpModel()
        self.places = [
            {k: self.model.new_bool_var(f"{b.name} in {k}") for k in task.possible(i)}
            for i, b in enumerate(task.buffers)
        ]
        for own in self.places:
            self.model.add_exactly_one(own.values())
        for k, size in enumerate(task.sizes):
            for column in live.T:
                there = np.flatnonzero(column).tolist()
                if column.sum() > size:
                    self.model.add(
                        sum(
                            self.places[i][k] * int(column[i]) for i in there if k in self.places[i]
                        )
                        <= size
                    )
        self.model.minimize(
            sum(costs[i][k] * v for i, own in enumerate(self.places) for k, v in own.items())
        )

    def hint(self, pools: Sequence[int]) -> None:
        for own, at in zip(self.places, pools, strict=True):
            for k, place in own.items():
                self.model.add_hint(place, k == at)

    def choice(self, found: cp_model.CpSolver, proven: bool) -> Choice:
        return Choice(
            tuple(next(k for k, v in own.items() if found.value(v)) for own in self.places), proven
        )


def _solve(
    task: Task,
    live: Ints,
    costs: Sequence[Sequence[int]],
    start: Sequence[int] | None,
    seconds: float,
) -> Choice | None:
    from ortools.sat.python import cp_model

    if not all(map(task.possible, range(len(task.buffers)))):
        return None
    model = _Model(task, live, costs)
    if start is not None:
        model.hint(start)
    found, status = solver.run(model.model, seconds)
    if status in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return model.choice(found, status == cp_model.OPTIMAL)
    return None if start is None else Choice(tuple(start), False)


def choose_and_place(task: Task, start: Choice, effort: float) -> tuple[Placed | None, bool]:
    """Pools and offsets at once, so that what fits is known: (what was found, whether everything
    was searched). Not for many buffers.

    start: a choice in which live bytes fit, but not all buffers.
    """
    if effort <= 0 or len(task.buffers) > MOST_PLACED or not solver.available():
        return None, False
    from ortools.sat.python import cp_model

    model = _Model(task, _live(task.buffers), task.integer_costs())
    model.hint(start.pools)
    ceilings = [max(task.sizes[k] for k in own) for own in model.places]
    steps = [
        model.model.new_int_var(0, (ceiling - b.size) // b.align, b.name)
        for b, ceiling in zip(task.buffers, ceilings, strict=True)
    ]
    for k, size in enumerate(task.sizes):
        times, spans = [], []
        for b, own, step in zip(task.buffers, model.places, steps, strict=True):
            if k not in own:
                continue
            model.model.add(step <= (size - b.size) // b.align).only_enforce_if(own[k])
            for p in disjoint(b.pieces):
                time = (p.start, p.stop - p.start, own[k], "")
                times.append(model.model.new_optional_fixed_size_interval_var(*time))
                span = (step * b.align + p.offset, p.size, own[k], "")
                spans.append(model.model.new_optional_fixed_size_interval_var(*span))
        model.model.add_no_overlap_2d(times, spans)
    found, status = solver.run(model.model, PLACE_SECONDS * effort)
    searched = status in (cp_model.OPTIMAL, cp_model.INFEASIBLE)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None, searched
    offsets = {b.name: found.value(s) * b.align for b, s in zip(task.buffers, steps, strict=True)}
    return Placed(model.choice(found, searched), offsets), searched
