"""Which of several kernels to take: the cheapest in cycles, in bytes, or in between."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from midge.core.target import Target
from midge.run import RUNNERS
from midge.tune.trials import Cost, Trial, key_of, machine_of, measure, remember, remembered

# Of the fastest candidate's cycles, what a smaller one may take.
_SLACK = {"speed": 1.0, "balanced": 1.1, "size": 1.4}
_PER_BUILD = 12  # trials; few enough that builds can run side by side


@dataclass(frozen=True, slots=True)
class Ranked:
    """picks: one per operation.  costs: of every trial of every operation."""

    picks: tuple[int, ...]
    costs: tuple[tuple[Cost, ...], ...]


def reason_against(target: Target) -> str | None:
    """Why candidates cannot be measured for `target`; None if they can."""
    if "model" not in target.emulator:
        return f"the emulator has no model of {target.name}"
    return RUNNERS["emulator"].available()


def rank(
    choices: Sequence[Sequence[Trial]],
    target: Target,
    optimize: str,
    flash: int | None = None,
    *,
    every: bool = False,
) -> Ranked:
    """The trial to take for each operation. flash: bytes that constants and kernels may take;
    beyond it faster trials give way to smaller ones where that costs least.  every: measure also
    what there is no choice for, so that all costs are known."""
    machine = machine_of(target, optimize)
    keys = [[key_of(t, machine) for t in own] for own in choices]
    wanted = {k: t for own, row in zip(choices, keys, strict=True) if every or len(own) > 1
              for t, k in zip(own, row, strict=True)}  # fmt: skip
    known = _costs(wanted, target, optimize)
    free = Cost(0, {})
    costs = tuple(tuple(known.get(k, free) for k in row) for row in keys)
    picks = [_pick(own, row, optimize) for own, row in zip(choices, costs, strict=True)]
    if flash is not None:
        picks = _within(choices, costs, picks, flash)
    return Ranked(tuple(picks), costs)


def _costs(wanted: Mapping[str, Trial], target: Target, optimize: str) -> dict[str, Cost]:
    found = {key: cost for key in wanted if (cost := remembered(key)) is not None}
    missing = [key for key in wanted if key not in found]
    batches = [missing[i : i + _PER_BUILD] for i in range(0, len(missing), _PER_BUILD)]

    def run(keys: list[str]) -> list[Cost]:
        return measure([wanted[k] for k in keys], target, optimize)

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for keys, costs in zip(batches, pool.map(run, batches), strict=True):
            for key, cost in zip(keys, costs, strict=True):
                remember(key, cost)
                found[key] = cost
    return found


def size_of(trial: Trial, cost: Cost) -> int:
    """Bytes of flash."""
    return trial.constants + sum(cost.code.values())


def _pick(trials: Sequence[Trial], costs: Sequence[Cost], optimize: str) -> int:
    fastest = min(c.cycles for c in costs)
    able = [i for i, c in enumerate(costs) if c.cycles <= fastest * _SLACK[optimize]]
    if optimize == "speed":
        return min(able, key=lambda i: (costs[i].cycles, size_of(trials[i], costs[i]), i))
    return min(able, key=lambda i: (size_of(trials[i], costs[i]), costs[i].cycles, i))


def _within(
    choices: Sequence[Sequence[Trial]],
    costs: Sequence[Sequence[Cost]],
    picks: list[int],
    flash: int,
) -> list[int]:
    """Picks that need at most `flash` bytes; `picks` if not even the smallest ones do."""
    wanted = picks
    picks = list(picks)

    def size(op: int, pick: int) -> int:
        return size_of(choices[op][pick], costs[op][pick])

    total = sum(size(op, pick) for op, pick in enumerate(picks))
    while total > flash:
        moves = [
            ((costs[op][i].cycles - costs[op][pick].cycles) / (size(op, pick) - size(op, i)), op, i)
            for op, pick in enumerate(picks)
            for i in range(len(choices[op]))
            if size(op, i) < size(op, pick)
        ]
        if not moves:
            return wanted
        _, op, i = min(moves)
        total -= size(op, picks[op]) - size(op, i)
        picks[op] = i
    return picks
