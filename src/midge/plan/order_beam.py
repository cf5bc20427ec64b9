"""A good order of operators where the best one takes too long to find.

Step by step, the sets of operators with the least peak, and then the fewest bytes alive, are kept.
From each only those operators come next that lie within a window of an order that is near: the
window begins at the first one that has not run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from midge.plan.order_net import Net

WIDTH = 48  # sets
WINDOW = 512  # tasks
CHOICES = 64  # of each set, where there are more tasks than in a window
# Of all sets of a beam together, and of those of one size at least.
MOST_STEPS = 300_000
STEPS_AT_LEAST = 128

# The tasks of an order, the last first.
Link = tuple[int, "Link"] | None


@dataclass(frozen=True, slots=True)
class State:
    """A set of tasks. peak: of its order.  live: bytes alive after it.  ready: what can run next,
    in the window.  order: how it came about."""

    peak: int
    live: int
    ready: tuple[int, ...]
    order: Link


def beam(net: Net, near: Sequence[int]) -> tuple[int, ...]:
    """An order of tasks with a low peak. near: an order to keep to."""
    own = _in_order(net, near)
    return tuple(near[i] for i in _Beam(own).run())


def _in_order(net: Net, order: Sequence[int]) -> Net:
    """The same with the tasks in that order."""
    inputs = [v for v in net.readers if v not in net.makers]
    return Net([net.tasks[i] for i in order], net.sizes, inputs, sorted(net.kept))


class _Beam:
    def __init__(self, net: Net) -> None:
        self.net, self.count = net, len(net.tasks)
        self.steps = max(MOST_STEPS / max(self.count, 1), STEPS_AT_LEAST)
        self.most = self.count if self.count <= WINDOW else CHOICES
        first = tuple(i for i in range(min(WINDOW, self.count)) if not net.needs[i])
        self.states = {0: State(0, net.start, first, None)}

    def run(self) -> list[int]:
        for _ in self.net.tasks:
            self.advance()
        ((_, state),) = self.states.items()
        return _tasks(state.order)

    def advance(self) -> None:
        """From the sets of one size to those with a task more."""
        following: dict[int, tuple[int, int, int, int]] = {}  # peak, live, where from, task
        for done, state in self.states.items():
            for task in state.ready[: self.most]:
                then = done | 1 << task
                now = max(state.peak, self.net.step(done, task, state.live))
                known = following.get(then)
                if known is None:
                    left = self.net.live_after(done, task, state.live)
                    following[then] = now, left, done, task
                elif now < known[0]:
                    following[then] = now, known[1], done, task
        looked = sum(min(len(s.ready), self.most) for s in self.states.values())
        width = max(min(WIDTH, int(self.steps * len(self.states) / looked)), 2)
        best = sorted(following, key=lambda s: (*following[s][:2], s))[:width]
        self.states = {s: self.state(s, *following[s]) for s in best}

    def state(self, then: int, peak: int, live: int, done: int, task: int) -> State:
        """The state of a set that came from `done` by `task`."""
        before = self.states[done]
        start, stop = (min(_first(s) + WINDOW, self.count) for s in (done, then))
        seen = [i for i in self.net.ready_after(then, task, before.ready) if i < start]
        new = [i for i in range(start, stop) if not self.net.needs[i] & ~then]
        return State(peak, live, (*seen, *new), (task, before.order))


def _first(done: int) -> int:
    """The first task that is not in a set."""
    return (~done & (done + 1)).bit_length() - 1


def _tasks(order: Link) -> list[int]:
    found: list[int] = []
    while order is not None:
        task, order = order
        found.append(task)
    return found[::-1]
