"""In which order to run operators, so that the fewest bytes are alive at the busiest one.

The bytes alive depend on which operators have run, not on their order: a shortest path over sets
of operators, where a path is as long as its busiest step, is exact. Where the sets are too many, a
beam of the best ones is kept, which looks at operators near the first that has not run only: work
and memory grow with the number of operators, however many of them could come next.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from itertools import pairwise

from midge.plan.order_beam import WINDOW, beam
from midge.plan.order_net import Net, Task

__all__ = ["Task", "best_order"]

_MOST_SETS = 20_000


def best_order(
    tasks: Sequence[Task],
    sizes: Mapping[str, int],
    inputs: Sequence[str],
    outputs: Sequence[str],
    most_sets: int = _MOST_SETS,
) -> tuple[int, ...]:
    """Positions of `tasks`, which are in topological order, in the order with the least peak; the
    given order if none is better. sizes: bytes of tensors.  outputs stay alive."""
    net = Net(tasks, sizes, inputs, outputs)
    given = tuple(range(len(tasks)))
    if all(net.needs[b] >> a & 1 for a, b in pairwise(given)):
        return given
    found = _exact(net, most_sets)
    if found is None:
        near = given if len(tasks) <= WINDOW else min((given, net.depth_first()), key=net.peak)
        found = min((near, beam(net, near)), key=net.peak)
    return found if net.peak(found) < net.peak(given) else given


def _exact(net: Net, most_sets: int) -> tuple[int, ...] | None:
    """The best order; None if that takes more than `most_sets` sets."""
    whole = (1 << len(net.tasks)) - 1
    best = {0: 0}
    live = {0: net.start}
    came: dict[int, tuple[int, int]] = {}
    ready = {0: [i for i, needs in enumerate(net.needs) if not needs]}
    queue = [(0, 0)]
    while queue:
        peak, done = heapq.heappop(queue)
        if done == whole:
            return _path(came, done)
        if peak > best[done]:
            continue
        if done not in ready:
            before, task = came[done]
            ready[done] = net.ready_after(done, task, ready[before])
        for task in ready[done]:
            then, now = done | 1 << task, max(peak, net.step(done, task, live[done]))
            if now < best.get(then, now + 1):
                best[then] = now
                came[then] = (done, task)
                live[then] = net.live_after(done, task, live[done])
                heapq.heappush(queue, (now, then))
        if len(best) > most_sets:
            return None
    return ()


def _path(came: Mapping[int, tuple[int, int]], done: int) -> tuple[int, ...]:
    order: list[int] = []
    while done:
        done, task = came[done]
        order.append(task)
    return tuple(reversed(order))
