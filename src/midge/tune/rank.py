"""Which of several kernels to take: the cheapest in cycles, in bytes, or in between."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from midge.core.errors import ToolchainError
from midge.core.leaving import in_threads
from midge.core.progress import Progress, silent
from midge.core.target import Target
from midge.run import RUNNERS
from midge.toolchain import found_build
from midge.tune.flash import Flash, Moves, size_of
from midge.tune.measure import Outcome, measure
from midge.tune.trials import (
    Cost,
    Match,
    Trial,
    Unfit,
    key_of,
    machine_of,
    proof_of,
    proven,
    remember,
    remember_proof,
    remembered,
)

# Of the fastest candidate's cycles, what a smaller one may take.
_SLACK = {"speed": 1.0, "balanced": 1.1, "size": 1.4}
_PER_BUILD = 12  # trials; few enough that builds can run side by side


def reason_unproven(target: Target) -> str | None:
    """Why kernels cannot be compared with their plain loops for `target`; None if they can."""
    if reason_against(target) is not None:
        return RUNNERS["host"].available()
    try:
        found_build(target, "speed")
    except ToolchainError as error:
        return f"{error.what}: {error.hint}"
    return None


@dataclass(frozen=True, slots=True)
class Ranked:
    """picks: one per match.  costs: of every trial of every match.  flash: what picks take."""

    picks: tuple[int, ...]
    costs: tuple[tuple[Cost, ...], ...]
    flash: Flash = field(compare=False, repr=False)


class UnfitKernels(Exception):  # noqa: N818  # a result for the caller, not an error of a user's
    """Trials that cannot be taken, and why: (match, trial, reason)."""

    def __init__(self, found: Sequence[tuple[int, int, str]]) -> None:
        super().__init__("; ".join(reason for _, _, reason in found))
        self.found = tuple(found)


def reason_against(target: Target) -> str | None:
    """Why candidates cannot be measured for `target`; None if they can."""
    if "model" not in target.emulator:
        return f"the emulator has no model of {target.name}"
    return RUNNERS["emulator"].available()


def rank(
    matches: Sequence[Match],
    target: Target,
    optimize: str,
    flash: int | None = None,
    *,
    every: bool = False,
    progress: Progress = silent,
) -> Ranked:
    """The trial to take of each match. flash: bytes that constants and kernels may take; beyond
    it faster trials give way to smaller ones where that costs least.  every: measure also what
    there is no choice for, so that all costs are known.

    UnfitKernels if some of what had to be measured cannot be taken.
    """
    machine = machine_of(target, optimize)
    keys = [[key_of(t, machine) for t in m.trials] for m in matches]
    known = {key: remembered(key) for row in keys for key in row}
    wanted: list[tuple[int, int]] = []
    for i, row in enumerate(keys):
        for j, key in enumerate(row):
            if known[key] is None and (every or len(row) > 1):
                known[key] = _FREE
                wanted.append((i, j))
    told = partial(progress, "measuring kernels")
    found = _measured(matches, wanted, machine, target, optimize, told=told)
    _refuse(found)
    for (i, j), cost in found.items():
        assert isinstance(cost, Cost), "others were refused"
        remember(keys[i][j], cost)
        known[keys[i][j]] = cost
    costs = tuple(tuple(known[k] or _FREE for k in row) for row in keys)
    picks = [_pick(m.trials, own, optimize) for m, own in zip(matches, costs, strict=True)]
    taken = Flash([m.trials for m in matches], [m.calls for m in matches], costs, keys)
    if optimize != "speed":
        picks = taken.smallest(picks, _Pace.of(matches, costs, _SLACK[optimize]).keeps)
    if flash is not None and _all_apart(matches, costs, picks) > flash:
        picks = taken.within(picks, flash)
    return Ranked(tuple(picks), costs, taken)


def _all_apart(
    matches: Sequence[Match], costs: Sequence[Sequence[Cost]], picks: Sequence[int]
) -> int:
    """Bytes, if nothing is equal: contents are not looked at."""
    own = zip(matches, costs, picks, strict=True)
    return sum(size_of(m.trials[i], c[i]) for m, c, i in own)


_FREE = Cost(0, {})


def prove(
    matches: Sequence[Match], target: Target, optimize: str, progress: Progress = silent
) -> None:
    """UnfitKernels unless every trial, with the constants that it has, agrees with its plain loops:
    on the emulated core, or what instructions mean on this host where there is none. What is known
    to do so is not run again."""
    machine = machine_of(target, optimize)
    on = "emulator" if reason_against(target) is None else "host"
    wanted = [
        (i, j)
        for i, match in enumerate(matches)
        for j, trial in enumerate(match.trials)
        if trial != match.plain and not proven(proof_of(trial, match.plain, machine))
    ]
    told = partial(progress, "comparing kernels with their plain loops")
    _refuse(_measured(matches, wanted, machine, target, optimize, on, told))


def _refuse(found: Mapping[tuple[int, int], Outcome]) -> None:
    unfit = [(i, j, o.reason) for (i, j), o in found.items() if isinstance(o, Unfit)]
    if unfit:
        raise UnfitKernels(unfit)


def _measured(
    matches: Sequence[Match],
    wanted: Sequence[tuple[int, int]],
    machine: tuple[str, ...],
    target: Target,
    optimize: str,
    on: str = "emulator",
    told: Callable[[int, int], None] = lambda done, total: None,
) -> dict[tuple[int, int], Outcome]:
    """Of each (match, trial); those that agree are remembered to do so. told: how many are done, of
    how many."""
    batches = list(_batches(wanted))

    def run(batch: list[tuple[int, list[int]]]) -> list[list[Outcome]]:
        own = [Match(tuple(matches[i].trials[j] for j in js), matches[i].plain) for i, js in batch]
        return measure(own, target, optimize, on)

    found: dict[tuple[int, int], Outcome] = {}
    if wanted:
        told(0, len(wanted))
    for batch, outcomes in zip(batches, in_threads(run, batches), strict=True):
        for (i, js), own in zip(batch, outcomes, strict=True):
            found.update({(i, j): outcome for j, outcome in zip(js, own, strict=True)})
        told(len(found), len(wanted))
    for (i, j), outcome in found.items():
        if isinstance(outcome, Cost):
            remember_proof(proof_of(matches[i].trials[j], matches[i].plain, machine))
    return found


def _batches(wanted: Sequence[tuple[int, int]]) -> Iterator[list[tuple[int, list[int]]]]:
    """Trials by their matches, as many as are built at a time; plain loops come with them."""
    batch: list[tuple[int, list[int]]] = []
    size = 0
    for i, j in wanted:
        if not batch or batch[-1][0] != i:
            batch.append((i, []))
            size += 1
        batch[-1][1].append(j)
        size += 1
        if size >= _PER_BUILD:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


@dataclass(frozen=True, slots=True)
class _Pace:
    """How many cycles the calls of an operation may take together.

    together: the choices of the same operation, of each.  most: what they may take.
    """

    calls: Sequence[int]
    costs: Sequence[Sequence[Cost]]
    together: Sequence[Sequence[int]]
    most: Sequence[float]

    @staticmethod
    def of(matches: Sequence[Match], costs: Sequence[Sequence[Cost]], slack: float) -> _Pace:
        groups: dict[str, list[int]] = {}
        for op, match in enumerate(matches):
            groups.setdefault(match.of or str(op), []).append(op)
        fast = [m.calls * min(c.cycles for c in own) for m, own in zip(matches, costs, strict=True)]
        together = [groups[m.of or str(op)] for op, m in enumerate(matches)]
        most = [slack * sum(fast[op] for op in own) for own in together]
        return _Pace([m.calls for m in matches], costs, together, most)

    def keeps(self, picks: Sequence[int], moves: Moves) -> bool:
        """Whether they do after these moves."""
        moved = dict(moves)
        for op in moved:
            own = ((o, moved.get(o, picks[o])) for o in self.together[op])
            if sum(self.calls[o] * self.costs[o][i].cycles for o, i in own) > self.most[op]:
                return False
        return True


def _pick(trials: Sequence[Trial], costs: Sequence[Cost], optimize: str) -> int:
    able = _able(costs, optimize)
    if optimize == "speed":
        return min(able, key=lambda i: (costs[i].cycles, size_of(trials[i], costs[i]), i))
    return min(able, key=lambda i: (size_of(trials[i], costs[i]), costs[i].cycles, i))


def _able(costs: Sequence[Cost], optimize: str) -> list[int]:
    """Those that are fast enough."""
    fastest = min(c.cycles for c in costs)
    return [i for i, c in enumerate(costs) if c.cycles <= fastest * _SLACK[optimize]]
