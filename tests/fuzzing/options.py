"""Options of the compiler in rows that have every pair of choices among them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations, product
from typing import Any

Row = Mapping[str, Any]
Pair = tuple[tuple[str, Any], tuple[str, Any]]

# Fields of CompileOptions, and how the C is built and run. max_ram, max_flash: of what the model
# needs without a limit. Windows that slide (stream_time) few models allow, the random ones have no
# open dimensions (shapes), and their targets no memories of their own (oversize): these have tests
# of their own.
SETTINGS: Mapping[str, Sequence[Any]] = {
    "name": (None, "net"),
    "optimize": ("speed", "balanced", "size", "debug"),
    "search": (False, True),
    "prove": (False, True),
    "static_arena": (False, True),
    "max_ram": (1.0, 0.8),
    "max_flash": (1.0, 0.9),
    "bands": (True, False),
    "stream_input": (False, True),
    "pools": (False, True),
    "hot_weights": (False, True),
    "reserve": ("", "r9"),
    "unroll": (False, False, True),
    "channels_last": (False, True),
    "check_memory": (False, True),
}
CHOICES: Mapping[str, Sequence[Any]] = {
    "target": ("cortex-m4", "cortex-m0plus", "cortex-m33", "cortex-m7", "rv32imac"),
    **SETTINGS,
    "build": ("speed", "size", "debug"),
    "runner": ("host", "emulator"),
}
LIMITS = ("max_ram", "max_flash")
UNTRIED = {"stream_time", "shapes", "oversize"}


def impossible(row: Row) -> bool:
    """Whether the choices exclude each other, whatever the model: constants are copied to a pool,
    pools have sizes of their own and whose they are is the caller's, r9 is Arm's, and room between
    buffers counts for no limit."""
    get = row.get
    pools = get("pools", True if get("hot_weights") else None)
    if get("hot_weights") and pools is False:
        return True
    alone = (get("static_arena"), get("check_memory"), get("max_ram", 1.0) != 1.0)
    if pools and any(alone):
        return True
    if get("check_memory") and any(get(n, 1.0) != 1.0 for n in LIMITS):
        return True
    return bool(get("reserve")) and get("target", "").startswith("rv32")


def easier(row: Row) -> Iterator[Row]:
    """The row, and what is left of it where a model does not allow all of it: its input may not be
    read by rows, its arena may not fit into pools."""
    yield row
    less = dict(row)
    for changes in ({"stream_input": False}, {"pools": False, "hot_weights": False}):
        if any(less[name] != value for name, value in changes.items()):
            less |= changes
            yield dict(less)


def pairs(row: Row) -> frozenset[Pair]:
    """Every two choices of a row."""
    return frozenset(combinations(sorted(row.items()), 2))


def possible_pairs(choices: Mapping[str, Sequence[Any]] = CHOICES) -> frozenset[Pair]:
    found = set()
    for a, b in combinations(sorted(choices), 2):
        for x, y in product(choices[a], choices[b]):
            pair = ((a, x), (b, y))
            if not impossible(dict(pair)):
                found.add(pair)
    return frozenset(found)


def covering_rows(choices: Mapping[str, Sequence[Any]] = CHOICES, seed: int = 0) -> list[Row]:
    """Rows that have every possible pair among them, few of them: each is the best of some that
    begin with a pair that is still missing and go on greedily."""
    rng = random.Random(seed)
    missing = set(possible_pairs(choices))
    rows: list[Row] = []
    while missing:
        tried = [_row(choices, missing, rng) for _ in range(30)]
        best = max(tried, key=lambda row: len(missing & pairs(row)))
        rows.append(best)
        missing -= pairs(best)
    return rows


def _row(
    choices: Mapping[str, Sequence[Any]], missing: Iterable[Pair], rng: random.Random
) -> dict[str, Any]:
    wanted = sorted(missing, key=repr)
    row: dict[str, Any] = dict(rng.choice(wanted))
    left = [name for name in choices if name not in row]
    rng.shuffle(left)
    for name in left:
        options = [v for v in choices[name] if not impossible({**row, name: v})]
        rng.shuffle(options)
        lacking = set(wanted)
        row[name] = max(options, key=lambda v: len(lacking & pairs({**row, name: v})))
    return {name: row[name] for name in choices}
