"""In which order to run operators, so that the fewest bytes are alive at the busiest one.

The bytes alive depend on which operators have run, not on their order: a shortest path over sets
of operators, where a path is as long as its busiest step, is exact. Where the sets are too many, a
beam of the best ones is kept.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_

_MOST_SETS = 20_000
_BEAM = 48
# Of all sets of a beam together: recurrent layers can be thousands of operators, hundreds of which
# could come next.
_MOST_STEPS = 300_000


@dataclass(frozen=True, slots=True)
class Task:
    """An operator; several can write one tensor together. reads, writes: tensors.  scratch: bytes
    for itself.  inplace: tensors that its output may overwrite where they die with it."""

    reads: tuple[str, ...]
    writes: str
    scratch: int = 0
    inplace: tuple[str, ...] = ()


def best_order(
    tasks: Sequence[Task],
    sizes: Mapping[str, int],
    inputs: Sequence[str],
    outputs: Sequence[str],
    most_sets: int = _MOST_SETS,
) -> tuple[int, ...]:
    """Positions of `tasks`, which are in topological order, in the order with the least peak; the
    given order if none is better. sizes: bytes of tensors.  outputs stay alive."""
    search = _Search(tasks, sizes, inputs, outputs)
    given = tuple(range(len(tasks)))
    if all(len(search.ready(search.after(given[:i]))) <= 1 for i in given):
        return given
    found = search.exact(most_sets) or search.beam()
    return found if search.peak(found) < search.peak(given) else given


class _Search:
    """A set of tasks is an int with their bits."""

    def __init__(
        self,
        tasks: Sequence[Task],
        sizes: Mapping[str, int],
        inputs: Sequence[str],
        outputs: Sequence[str],
    ) -> None:
        self.tasks, self.sizes = tasks, sizes
        makers: dict[str, int] = {}
        for i, task in enumerate(tasks):
            makers[task.writes] = makers.get(task.writes, 0) | 1 << i
        self.needs = [reduce(or_, (makers.get(v, 0) for v in t.reads), 0) for t in tasks]
        self.readers = {v: 0 for v in (*inputs, *makers)}
        for i, task in enumerate(tasks):
            for value in task.reads:
                self.readers[value] |= 1 << i
        self.kept = frozenset(outputs)
        self.makers = makers
        self.all = (1 << len(tasks)) - 1
        self.touched = [tuple({*t.reads, t.writes} & self.readers.keys()) for t in tasks]
        self.follow = [
            [i for i, needs in enumerate(self.needs) if needs >> t & 1] for t in range(len(tasks))
        ]

    def after(self, done: Sequence[int]) -> int:
        return sum(1 << i for i in done)

    def ready(self, done: int) -> list[int]:
        """What can run next."""
        free = self.all & ~done
        return [i for i in range(len(self.tasks)) if free >> i & 1 and not self.needs[i] & ~done]

    def live(self, done: int) -> int:
        """Bytes alive between operators."""
        return sum(self.sizes[v] for v in self.readers if self.is_alive(v, done))

    def live_after(self, done: int, task: int, live: int) -> int:
        """`live` of `done` with `task`, from that of `done`."""
        then = done | 1 << task
        for value in self.touched[task]:
            live += self.sizes[value] * (self.is_alive(value, then) - self.is_alive(value, done))
        return live

    def ready_after(self, done: int, task: int, ready: tuple[int, ...]) -> tuple[int, ...]:
        """`ready` of `done` with `task`, from that of `done`."""
        then = done | 1 << task
        more = [i for i in self.follow[task] if not self.needs[i] & ~then]
        return tuple(sorted((*(i for i in ready if i != task), *more)))

    def is_alive(self, value: str, done: int) -> bool:
        if value in self.makers and not done & self.makers[value]:
            return False
        return value in self.kept or bool(self.readers[value] & ~done)

    def step(self, done: int, task: int, live: int) -> int:
        """Bytes alive while `task` runs."""
        own = self.tasks[task]
        size = 0 if done & self.makers[own.writes] else self.sizes[own.writes]
        for value in own.inplace:
            last = not self.readers[value] & ~(done | 1 << task) and value not in self.kept
            if last and self.sizes[value] == size:
                size = 0
        return live + size + own.scratch

    def peak(self, order: Sequence[int]) -> int:
        done, most = 0, 0
        for task in order:
            most = max(most, self.step(done, task, self.live(done)))
            done |= 1 << task
        return most

    def exact(self, most_sets: int) -> tuple[int, ...] | None:
        """The best order; None if that takes more than `most_sets` sets."""
        best = {0: 0}
        came: dict[int, tuple[int, int]] = {}
        queue = [(0, 0)]
        while queue:
            peak, done = heapq.heappop(queue)
            if done == self.all:
                return self.path(came)
            if peak > best[done]:
                continue
            live = self.live(done)
            for task in self.ready(done):
                then, now = done | 1 << task, max(peak, self.step(done, task, live))
                if now < best.get(then, now + 1):
                    best[then] = now
                    came[then] = (done, task)
                    heapq.heappush(queue, (now, then))
            if len(best) > most_sets:
                return None
        return ()

    def beam(self) -> tuple[int, ...]:
        """A good order: the sets of each size with the least peak, and then the least alive."""
        came: dict[int, tuple[int, int]] = {}
        # A set -> its peak, the bytes that are alive after it, and what can run next.
        states = {0: (0, self.live(0), tuple(self.ready(0)))}
        for _ in self.tasks:
            following: dict[int, tuple[int, int]] = {}
            choices = sum(len(ready) for _, _, ready in states.values()) / len(states)
            width = max(min(_BEAM, int(_MOST_STEPS / (len(self.tasks) * choices))), 2)
            for done, (peak, live, ready) in states.items():
                for task in ready:
                    then, now = done | 1 << task, max(peak, self.step(done, task, live))
                    known = following.get(then)
                    if known is None or now < known[0]:
                        left = self.live_after(done, task, live) if known is None else known[1]
                        following[then] = now, left
                        came[then] = (done, task)
            kept = sorted(following, key=lambda s: (*following[s], s))[:width]
            states = {s: (*following[s], self.ready_of(s, states, came)) for s in kept}
        return self.path(came)

    def ready_of(
        self,
        then: int,
        states: Mapping[int, tuple[int, int, tuple[int, ...]]],
        came: Mapping[int, tuple[int, int]],
    ) -> tuple[int, ...]:
        """What can run after a set that came from one of `states`."""
        done, task = came[then]
        return self.ready_after(done, task, states[done][2])

    def path(self, came: Mapping[int, tuple[int, int]]) -> tuple[int, ...]:
        order: list[int] = []
        done = self.all
        while done:
            done, task = came[done]
            order.append(task)
        return tuple(reversed(order))
