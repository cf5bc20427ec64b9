"""Operators and the tensors between them, as what orders them sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_


@dataclass(frozen=True, slots=True)
class Task:
    """An operator; several can write one tensor together. reads, writes: tensors.  scratch: bytes
    for itself.  inplace: tensors that its output may overwrite where they die with it."""

    reads: tuple[str, ...]
    writes: str
    scratch: int = 0
    inplace: tuple[str, ...] = ()


class Net:
    """Tasks by their positions; a set of them is an int with their bits.

    needs: what each task waits for.  follow: the tasks that wait for it.  makers, readers: of each
    tensor.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        sizes: Mapping[str, int],
        inputs: Sequence[str],
        outputs: Sequence[str],
    ) -> None:
        self.tasks, self.sizes, self.kept = tasks, sizes, frozenset(outputs)
        self.makers: dict[str, int] = {}
        for i, task in enumerate(tasks):
            self.makers[task.writes] = self.makers.get(task.writes, 0) | 1 << i
        self.readers = {v: 0 for v in (*inputs, *self.makers)}
        for i, task in enumerate(tasks):
            for value in task.reads:
                self.readers[value] |= 1 << i
        self.needs = [reduce(or_, (self.makers.get(v, 0) for v in t.reads), 0) for t in tasks]
        self.follow: list[list[int]] = [[] for _ in tasks]
        for i, needs in enumerate(self.needs):
            for maker in bits(needs):
                self.follow[maker].append(i)
        self.touched = [tuple({*t.reads, t.writes} & self.readers.keys()) for t in tasks]
        # Bytes alive before the first.
        self.start = sum(sizes[v] for v in self.readers if self.is_alive(v, 0))

    def ready_after(self, done: int, task: int, ready: Sequence[int]) -> list[int]:
        """What can run next after `done`, of which `task` came last; `ready`: before that."""
        more = [i for i in self.follow[task] if not self.needs[i] & ~done]
        return sorted((*(i for i in ready if i != task), *more))

    def is_alive(self, value: str, done: int) -> bool:
        """Whether it is made, and needed by the caller or a task that has not run."""
        if value in self.makers and not done & self.makers[value]:
            return False
        return value in self.kept or bool(self.readers[value] & ~done)

    def live_after(self, done: int, task: int, live: int) -> int:
        """Bytes alive after `done` and `task`, from those after `done`."""
        then = done | 1 << task
        for value in self.touched[task]:
            change = self.is_alive(value, then) - self.is_alive(value, done)
            live += self.sizes[value] * change
        return live

    def step(self, done: int, task: int, live: int) -> int:
        """Bytes alive while `task` runs after `done`, after which `live` are."""
        own = self.tasks[task]
        size = 0 if done & self.makers[own.writes] else self.sizes[own.writes]
        for value in own.inplace:
            last = value not in self.kept and not self.readers[value] & ~(done | 1 << task)
            if last and self.sizes[value] == size:
                size = 0
        return live + size + own.scratch

    def peak(self, order: Sequence[int]) -> int:
        """The bytes alive at the busiest step."""
        done, live, most = 0, self.start, 0
        for task in order:
            most = max(most, self.step(done, task, live))
            live = self.live_after(done, task, live)
            done |= 1 << task
        return most

    def depth_first(self) -> tuple[int, ...]:
        """Every task just before the first one that needs it; of those that a task needs, the ones
        at the end of long chains first, while little else is there."""
        depths: list[int] = []
        for needs in self.needs:
            depths.append(max((depths[i] + 1 for i in bits(needs)), default=0))
        order: list[int] = []
        seen: set[int] = set()
        wanted = [i for i, follow in enumerate(self.follow) if not follow]
        waiting = [(i, False) for i in reversed(wanted)]
        while waiting:
            task, entered = waiting.pop()
            if entered:
                order.append(task)
            elif task not in seen:
                seen.add(task)
                waiting.append((task, True))
                needed = sorted(bits(self.needs[task]), key=lambda i: (depths[i], -i))
                waiting += [(i, False) for i in needed]
        return tuple(order)


def bits(tasks: int) -> list[int]:
    """The tasks of a set, in order."""
    found = []
    while tasks:
        found.append((tasks & -tasks).bit_length() - 1)
        tasks &= tasks - 1
    return found
