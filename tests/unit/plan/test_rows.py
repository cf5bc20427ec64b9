"""Streams of rows: every band after what it needs, and lives as a run shows them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midge.plan.rows import (
    Call,
    Life,
    Read,
    Span,
    Stage,
    bands_of,
    interleave,
    lives,
    one_by_one,
    window_needs,
)


@st.composite
def networks(draw: st.DrawFn) -> tuple[list[Stage], dict[str, int], list[str]]:
    """Stages on windows of earlier streams; the heights of all streams, and those wanted last."""
    heights = {"x": draw(st.integers(1, 9))}
    stages: list[Stage] = []
    for number in range(draw(st.integers(1, 6))):
        name = f"s{number}"
        reads = draw(
            st.lists(st.sampled_from(sorted(heights)), min_size=1, max_size=2, unique=True)
        )
        if draw(st.integers(0, 6)) == 0:
            height = heights[reads[0]]
            bands = banded(draw, height)
            heights[name] = 1
            read = Read(reads[0], bands)
            stages.append(Stage(name, name, ((0, 1),) * len(bands), (read,), True))
            continue
        heights[name] = draw(st.integers(1, 9))
        bands = banded(draw, heights[name])
        found = tuple(Read(v, needs(draw, bands, heights[v])) for v in reads)
        stages.append(Stage(name, name, bands, found))
    last = draw(st.lists(st.sampled_from([s.writes for s in stages]), max_size=2, unique=True))
    return stages, heights, last


def banded(draw: st.DrawFn, height: int) -> tuple[Span, ...]:
    cuts = sorted({*draw(st.sets(st.integers(1, height), max_size=height)), height})
    return tuple(zip([0, *cuts], cuts, strict=False))


def needs(draw: st.DrawFn, bands: Sequence[Span], height: int) -> tuple[Span, ...]:
    stride, taps = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    return window_needs(bands, stride, taps, draw(st.integers(0, taps - 1)), height)


def run(stages: Sequence[Stage], calls: Sequence[Call], heights: dict[str, int]) -> None:
    """Every band once, in its order, when all that it needs is there."""
    there = {name: set(range(n)) if name == "x" else set[int]() for name, n in heights.items()}
    made = [0] * len(stages)
    for call in calls:
        stage = stages[call.stage]
        assert call.band == made[call.stage]
        for read in stage.reads:
            assert set(range(*read.needs[call.band])) <= there[read.stream]
        made[call.stage] += 1
        if not stage.accumulates or made[call.stage] == len(stage.bands):
            there[stage.writes].update(range(*stage.bands[call.band]))
    assert made == [len(s.bands) for s in stages]


@given(networks())
@settings(max_examples=150)
def test_every_band_is_made_once_when_what_it_needs_is_there(
    network: tuple[list[Stage], dict[str, int], list[str]],
) -> None:
    stages, heights, last = network
    run(stages, interleave(stages, last), heights)
    run(stages, one_by_one(stages), heights)


@given(networks())
@settings(max_examples=150)
def test_a_band_is_made_no_earlier_than_needed(
    network: tuple[list[Stage], dict[str, int], list[str]],
) -> None:
    """The call after a band is of a stage that reads it, of one that is needed beside it, or comes
    when the last stream is done: at no time are two bands of a stage made that nobody waits for."""
    stages, _, _ = network
    last = stages[-1].writes
    calls = interleave(stages, [last])
    end = calls.index(Call(len(stages) - 1, len(stages[-1].bands) - 1))
    for at, call in enumerate(calls[:end]):
        written = stages[call.stage]
        if written.accumulates or written.writes == last:
            continue
        low = written.bands[call.band][0]
        readers = [
            later
            for later in calls[at + 1 : end + 1]
            for read in stages[later.stage].reads
            if read.stream == written.writes and read.needs[later.band][1] > low
        ]
        assert readers, f"{call} is made before {last} is done, which does not need it"


@given(networks(), st.booleans())
@settings(max_examples=150)
def test_lives_are_what_a_run_shows(
    network: tuple[list[Stage], dict[str, int], list[str]], together: bool
) -> None:
    stages, heights, last = network
    calls = interleave(stages, last) if together else one_by_one(stages)
    kept = frozenset(last)
    found = lives(stages, calls, heights, kept)
    for name, height in heights.items():
        for row in range(height):
            assert found[name][row] == simulated(stages, calls, name, row, name in kept)


def simulated(
    stages: Sequence[Stage], calls: Sequence[Call], name: str, row: int, kept: bool
) -> Life:
    uses = []
    births = []
    for at, call in enumerate(calls):
        stage = stages[call.stage]
        if stage.writes == name and row in range(*stage.bands[call.band]):
            births.append(at)
            uses.append(at)
        if any(r.stream == name and row in range(*r.needs[call.band]) for r in stage.reads):
            uses.append(at)
    return Life(min(births, default=-1), len(calls) if kept else max(uses, default=-1))


@pytest.mark.parametrize("seed", range(40))
def test_windows_against_every_row(seed: int) -> None:
    rng = random.Random(seed)
    stride, taps, height = rng.randrange(1, 4), rng.randrange(1, 6), rng.randrange(1, 12)
    top, below = rng.randrange(taps), rng.randrange(taps)
    out = (height + top + below - taps) // stride + 1
    if out < 1:
        return
    cuts = sorted({*rng.sample(range(1, out + 1), rng.randrange(out)), out})
    bands = tuple(zip([0, *cuts], cuts, strict=False))
    for (start, stop), need in zip(
        bands, window_needs(bands, stride, taps, top, height), strict=True
    ):
        rows = {o * stride - top + t for o in range(start, stop) for t in range(taps)} & set(
            range(height)
        )
        assert rows <= set(range(*need))
        assert not rows or need[1] == max(rows) + 1
        assert stride > taps or need[0] == min(rows, default=need[0])


@pytest.mark.parametrize("seed", range(60))
def test_bands_as_soon_as_the_input_allows(seed: int) -> None:
    rng = random.Random(seed)
    stride, taps, height = rng.randrange(1, 4), rng.randrange(1, 6), rng.randrange(1, 12)
    top, below, most = rng.randrange(taps), rng.randrange(taps), rng.randrange(1, 4)
    out = (height + top + below - taps) // stride + 1
    if out < 1:
        return
    ends = sorted({*rng.sample(range(1, height + 1), rng.randrange(height)), height})
    found = bands_of(ends, stride, taps, top, height, out, most)
    rows = [row for start, stop in found for row in range(start, stop)]
    assert rows == list(range(out))
    assert all(0 < stop - start <= most for start, stop in found)

    def ready(row: int) -> int:
        """The first of `ends` with all rows that this one reads."""
        last = min(row * stride - top + taps, height)
        return next(e for e in ends if e >= last or e == height)

    for start, stop in found:
        assert ready(start) == ready(stop - 1)
    for (a, b), (c, _) in pairwise(found):
        assert b - a == most or ready(c) > ready(a)


def test_a_residual_waits_for_its_other_branch() -> None:
    """x -> a (3 rows) -> a + x: rows of x stay until the sum has read them."""
    bands = tuple((r, r + 1) for r in range(5))
    stages = [
        Stage("x", "x", bands, ()),
        Stage("a", "a", bands, (Read("x", window_needs(bands, 1, 3, 1, 5)),)),
        Stage("y", "y", bands, (Read("a", bands), Read("x", bands))),
    ]
    calls = interleave(stages, ["y"])
    order = "".join(f"{stages[c.stage].name}{c.band} " for c in calls)
    assert order == "x0 x1 a0 y0 x2 a1 y1 x3 a2 y2 x4 a3 y3 a4 y4 "
    found = lives(stages, calls, dict.fromkeys("xay", 5), frozenset("y"))
    assert [life.death for life in found["x"]] == [5, 8, 11, 13, 14]
    assert all(life.death == life.birth + 1 for life in found["a"])


def test_a_sum_is_there_after_its_last_band() -> None:
    bands = tuple((r, r + 1) for r in range(3))
    stages = [
        Stage("a", "a", bands, (Read("x", bands),)),
        Stage("s", "s", ((0, 1),) * 3, (Read("a", bands),), True),
        Stage("y", "y", ((0, 1),), (Read("s", ((0, 1),)),)),
    ]
    calls = interleave(stages, ["y"])
    assert [(c.stage, c.band) for c in calls] == [
        (0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2), (2, 0),
    ]  # fmt: skip
    found = lives(stages, calls, {"x": 3, "a": 3, "s": 1, "y": 1}, frozenset("y"))
    assert found["s"] == (Life(1, 6),)
    assert found["x"] == (Life(-1, 0), Life(-1, 2), Life(-1, 4))
