"""Who computes which rows when: tensors as streams of rows, operators as stages that read and write
bands of them.

Each stage writes its rows in order, a band at a time; the rows that a band needs are known. A
cascade interleaves the stages so that every band is made just before it is needed, and a row is
alive from the call that writes it to the last call that reads it. Nothing is computed twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Span = tuple[int, int]  # rows start <= row < stop


@dataclass(frozen=True, slots=True)
class Read:
    """A stream that a stage reads. needs: for each of the stage's bands the rows of the stream
    that it reads, of which first and last never go back."""

    stream: str
    needs: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Stage:
    """An operator. bands: the rows of `writes` that each of its calls makes, in order; several
    stages may write parts of the same rows.
    accumulates: every call writes all rows, which are what they should be after the last."""

    name: str
    writes: str
    bands: tuple[Span, ...]
    reads: tuple[Read, ...]
    accumulates: bool = False


@dataclass(frozen=True, slots=True)
class Call:
    """Band `band` of stage `stage` (their positions)."""

    stage: int
    band: int


@dataclass(frozen=True, slots=True)
class Life:
    """A row from the call that writes it (-1: it is there from the start) to the last one that
    reads it (the number of calls: it stays)."""

    birth: int
    death: int


def one_by_one(stages: Sequence[Stage]) -> tuple[Call, ...]:
    """Each stage as a whole, in the given order."""
    return tuple(Call(s, b) for s, stage in enumerate(stages) for b in range(len(stage.bands)))


def interleave(stages: Sequence[Stage], last: Sequence[str]) -> tuple[Call, ...]:
    """Every band as late as possible: what the next band of the streams `last` needs is made
    first, and so on. Stages are in topological order; those that `last` does not need follow."""
    makers: dict[str, list[int]] = {}
    for i, stage in enumerate(stages):
        makers.setdefault(stage.writes, []).append(i)
    made = [0] * len(stages)  # bands
    calls: list[Call] = []

    def rows(stage: int) -> int:
        if stages[stage].accumulates and made[stage] < len(stages[stage].bands):
            return 0
        return stages[stage].bands[made[stage] - 1][1] if made[stage] else 0

    def make(stage: int) -> None:
        """The next band of `stage`. A stack of its own: chains are longer than Python's."""
        waiting = [stage]
        while waiting:
            current = waiting[-1]
            missing = next(
                (
                    maker
                    for read in stages[current].reads
                    for maker in makers.get(read.stream, ())
                    if rows(maker) < read.needs[made[current]][1]
                ),
                None,
            )
            if missing is not None:
                waiting.append(missing)
                continue
            calls.append(Call(current, made[current]))
            made[current] += 1
            waiting.pop()

    wanted = [maker for name in last for maker in makers.get(name, ())]
    for stage in [*wanted, *range(len(stages))]:
        while made[stage] < len(stages[stage].bands):
            make(stage)
    return tuple(calls)


def lives(
    stages: Sequence[Stage],
    calls: Sequence[Call],
    heights: Mapping[str, int],
    kept: frozenset[str] = frozenset(),
) -> dict[str, tuple[Life, ...]]:
    """The life of every row of every stream; heights: rows of each. Those in `kept` stay.

    Rows that nobody reads die in the call that writes them.
    """
    births = {name: [-1] * n for name, n in heights.items()}
    deaths = {name: [-1] * n for name, n in heights.items()}
    for at, call in enumerate(calls):
        stage = stages[call.stage]
        for row in range(*stage.bands[call.band]):
            if births[stage.writes][row] < 0:
                births[stage.writes][row] = at
            deaths[stage.writes][row] = max(deaths[stage.writes][row], at)
        for read in stage.reads:
            for row in range(*read.needs[call.band]):
                deaths[read.stream][row] = at
    for name in kept:
        deaths[name] = [len(calls)] * heights[name]
    return {
        name: tuple(Life(b, d) for b, d in zip(births[name], deaths[name], strict=True))
        for name in heights
    }


def window_needs(
    bands: Sequence[Span], stride: int, taps: int, top: int, height: int
) -> tuple[Span, ...]:
    """The rows, of `height`, under a window of `taps` rows that moves by `stride` from -top on."""
    found = []
    for start, stop in bands:
        first, last = start * stride - top, (stop - 1) * stride - top + taps
        first = min(max(first, 0), height)
        found.append((first, max(min(last, height), first)))
    return tuple(found)


def bands_of(
    ends: Sequence[int], stride: int, taps: int, top: int, height: int, out_height: int, most: int
) -> tuple[Span, ...]:
    """The output rows of a window in bands of at most `most`: as many as can be made each time that
    the input (of `height` rows) has come to another of `ends`."""
    found: list[Span] = []
    done = 0
    for end in ends:
        ready = out_height if end == height else (end + top - taps) // stride + 1
        ready = min(max(ready, 0), out_height)
        while done < ready:
            found.append((done, min(done + most, ready)))
            done = found[-1][1]
    return tuple(found)
