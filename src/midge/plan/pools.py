"""Several memories: which buffer lies in which, then offsets in each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from midge.core.errors import PlanError
from midge.plan import assignment
from midge.plan.assignment import Choice, Placed, Task
from midge.plan.buffers import Buffer, Plan, live_bytes
from midge.plan.offsets import plan

# How often a pool that bytes fit in but buffers do not is offered fewer bytes.
ROUNDS = 8


@dataclass(frozen=True, slots=True)
class Pool:
    """A memory. size: bytes, None for as many as needed.  cost: of one access, in any unit."""

    name: str
    size: int | None
    cost: float


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """pools: buffer -> its pool.  plans: pool -> offsets of the buffers in it, also where there
    are none.  cost: of all accesses.  proven: no choice of pools costs less."""

    pools: Mapping[str, str]
    plans: Mapping[str, Plan]
    cost: float
    proven: bool


def plan_pools(
    buffers: Sequence[Buffer],
    pools: Sequence[Pool],
    weights: Mapping[str, float],
    fixed: Mapping[str, str] | None = None,
    *,
    effort: float = 1.0,
) -> PoolPlan:
    """A pool for every buffer, so that all fit and accesses cost the least, then offsets in each.

    weights: accesses to each buffer, 0 where it is not named.  fixed: buffer -> the pool in which
    it must be.  effort: as in `plan`.  Of pools that cost the same, the earlier one is taken.
    PlanError if they do not fit: how many bytes are missing, and where.
    """
    fixed = fixed or {}
    assert pools, "no pool"
    assert len({p.name for p in pools}) == len(pools), "two pools of one name"
    assert {*fixed} <= {b.name for b in buffers}, "a fixed buffer that is not there"
    assert {*fixed.values()} <= {p.name for p in pools}, "a buffer fixed in an unknown pool"
    task = _task(buffers, pools, weights, fixed)
    for k, pool in enumerate(pools):
        own = [b for b in task.buffers if fixed.get(b.name) == pool.name]
        _check(own, pool, plan(own, effort=effort, limit=task.sizes[k]))
    choice, plans = _fitting(task, effort) or _spilling(task, effort)
    for k, pool in enumerate(pools):
        _check(task.inside(choice, k), pool, plans[k])
    return PoolPlan(
        {b.name: pools[k].name for b, k in zip(task.buffers, choice.pools, strict=True)},
        {pool.name: own for pool, own in zip(pools, plans, strict=True)},
        sum(row[k] for row, k in zip(task.costs, choice.pools, strict=True)),
        choice.proven,
    )


def _task(
    buffers: Sequence[Buffer],
    pools: Sequence[Pool],
    weights: Mapping[str, float],
    fixed: Mapping[str, str],
) -> Task:
    ordered = tuple(sorted(buffers, key=lambda b: b.name))
    assert len({b.name for b in ordered}) == len(ordered), "two buffers of one name"
    allowed = tuple(
        tuple(k for k, p in enumerate(pools) if fixed.get(b.name, p.name) == p.name)
        for b in ordered
    )
    costs = tuple(tuple(weights.get(b.name, 0.0) * p.cost for p in pools) for b in ordered)
    task = Task(ordered, (), allowed, costs)
    return replace(task, sizes=tuple(task.enough if p.size is None else p.size for p in pools))


def _fitting(task: Task, effort: float) -> tuple[Choice, list[Plan]] | None:
    """The best choice found with plans that fit, or None.

    First by live bytes alone: mostly offsets without waste are then found, and nothing is better.
    Else pools and offsets at once, where there are few buffers, and again by live bytes in less
    memory than there is.
    """
    offered = task
    for again in range(ROUNDS):
        choice = assignment.choose(offered, effort)
        if choice is None:
            return None
        plans = _plans(task, choice, effort)
        over = [max(0, p.peak - size) for p, size in zip(plans, task.sizes, strict=True)]
        if not any(over):
            return replace(choice, proven=choice.proven and again == 0), plans
        if again == 0:
            placed, searched = assignment.choose_and_place(task, choice, effort)
            if placed is not None:
                return placed.choice, _with_offsets(task, placed, effort)
            if searched:
                return None
        less = tuple(max(0, s - n) for s, n in zip(offered.sizes, over, strict=True))
        offered = replace(offered, sizes=less)
    return None


def _spilling(task: Task, effort: float) -> tuple[Choice, list[Plan]]:
    """A choice that fits but for the largest pool, which holds what the others do not."""
    everyone = range(len(task.buffers))
    largest = max(range(len(task.sizes)), key=lambda k: (task.sizes[k], -k))
    sizes = [*task.sizes]
    sizes[largest] = task.enough
    spill = replace(
        task,
        sizes=tuple(sizes),
        costs=tuple(
            tuple(float(b.size) * (k == largest) for k in range(len(sizes))) for b in task.buffers
        ),
    )
    found = _fitting(spill, effort)
    if found is not None:
        return replace(found[0], proven=False), found[1]
    rest = (largest if largest in task.allowed[i] else task.allowed[i][0] for i in everyone)
    choice = Choice(tuple(rest), False)
    return choice, _plans(task, choice, effort)


def _plans(task: Task, choice: Choice, effort: float) -> list[Plan]:
    return [plan(task.inside(choice, k), effort=effort) for k in range(len(task.sizes))]


def _with_offsets(task: Task, placed: Placed, effort: float) -> list[Plan]:
    """Plans for a choice with offsets that fit, these where `plan` finds none as good."""
    plans = _plans(task, placed.choice, effort)
    for k, (found, size) in enumerate(zip(plans, task.sizes, strict=True)):
        if found.peak > size:
            own = task.inside(placed.choice, k)
            offsets = {b.name: placed.offsets[b.name] for b in own}
            peak = max(offsets[b.name] + b.size for b in own)
            proven = peak == found.lower_bound
            plans[k] = replace(found, offsets=offsets, peak=peak, proven=proven)
    return plans


def _check(own: Sequence[Buffer], pool: Pool, found: Plan) -> None:
    """PlanError if a plan is too large for its pool."""
    if pool.size is None or found.peak <= pool.size:
        return
    there = {b.name: live_bytes([b], found.busiest) for b in own}
    most = max(sorted(there), key=lambda name: there[name])
    raise PlanError(
        f"{found.peak - pool.size} bytes are missing: {found.peak} are needed at once, of "
        f"{pool.size}; most of them by {most}, {there[most]}",
        where=f"memory {pool.name}",
        hint="take a larger memory, add another one, or make the model smaller",
    )
