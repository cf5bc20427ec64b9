"""One arena for streams: who may share a place, and who lies how near to whom."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midge.plan.arena import Arena, Layout, Stream, Work, place
from midge.plan.buffers import Buffer, Plan, busiest_time
from midge.plan.offsets import plan
from midge.plan.rows import Call, Read, Span, Stage, interleave, lives, one_by_one, window_needs


def arena(
    uses: Sequence[tuple[str, str, str]],
    inputs: str,
    outputs: str,
    sizes: dict[str, int] | None = None,
    scratch: dict[str, dict[str, int]] | None = None,
) -> Arena:
    """Operators on whole tensors: (reads, writes, what it may overwrite)."""
    names = dict.fromkeys([*inputs.split(), *(w for _, w, _ in uses)])
    streams = {n: Stream(n, 1, s, max(s, 1)) for n in names for s in [(sizes or {}).get(n, 64)]}
    stages = tuple(
        Stage(w, w, ((0, 1),), tuple(Read(v, ((0, 1),)) for v in reads.split()))
        for reads, w, _ in uses
    )
    works = tuple((Work(tuple(over.split()), (scratch or {}).get(w, {})),) for _, w, over in uses)
    layout = Layout(stages, works, streams, tuple(inputs.split()), tuple(outputs.split()))
    return place(layout, one_by_one(stages), plan)


def test_an_elementwise_operator_runs_in_place() -> None:
    made = arena([("x", "a", "x"), ("a", "y", "a")], "x", "y")
    assert made.size == 64
    assert {made.offset(n) for n in "xay"} == {0}


def test_an_operator_that_may_not_does_not() -> None:
    assert arena([("x", "y", "")], "x", "y").size == 128


def test_an_input_that_is_read_later_is_kept() -> None:
    made = arena([("x", "a", "x"), ("x a", "y", "a")], "x", "y")
    assert made.offset("x") != made.offset("a") == made.offset("y")


def test_the_other_input_is_taken_when_the_first_is_kept() -> None:
    made = arena([("x z", "a", "x z"), ("x a", "y", "")], "x z", "y")
    assert made.offset("a") == made.offset("z") != made.offset("x")


def test_an_output_is_never_overwritten() -> None:
    """Not even by the last operation, nor when it is an input of it."""
    made = arena([("x", "a", "x"), ("a", "y", "a")], "x", "a y")
    assert made.offset("a") == made.offset("x") != made.offset("y")
    early = arena([("x", "a", ""), ("x", "b", ""), ("b", "y", "")], "x", "a y")
    assert len({early.offset(n) for n in "aby"}) == 3


def test_another_size_is_another_place() -> None:
    assert arena([("x", "y", "x")], "x", "y", {"x": 64, "y": 32}).size == 96


def test_memory_of_a_dead_input_is_used_again() -> None:
    uses = [("x", "a", ""), ("a", "b", ""), ("b", "y", "")]
    made = arena(uses, "x", "y", {"x": 100, "a": 20, "b": 100, "y": 20})
    assert made.size == 120


def test_all_inputs_have_a_place_of_their_own_when_it_starts() -> None:
    """Even one that nobody reads: the caller writes it."""
    made = arena([("x", "a", ""), ("a", "b", ""), ("b z", "y", "")], "x z u", "y")
    starts = sorted(made.offset(n) for n in "xzu")
    assert all(b - a >= 64 for a, b in pairwise(starts))
    assert made.size >= starts[-1] + 64


def test_tensors_without_elements() -> None:
    assert arena([("x", "y", "x")], "x", "y", {"x": 0, "y": 0}).size == 0


def test_scratch_memory_is_alive_in_its_call_only() -> None:
    uses = [("x", "a", ""), ("a", "y", "")]
    made = arena(uses, "x", "y", scratch={"a": {"s": 40}, "y": {"t": 50}})
    assert made.size == 64 + 64 + 50
    assert {"s", "t"} == set(made.scratch)
    for name, size in (("s", 40), ("t", 50)):
        span = range(made.scratch[name][0], made.scratch[name][0] + size)
        assert made.offset("a") not in span
        assert made.offset("a") + 63 not in span


# Within a call: columns of the input die before columns of the output are born.


def pointwise(order: tuple[tuple[int, int], ...], row: int, result: int) -> tuple[Layout, Call]:
    """A row of 4 columns of `row` bytes, becoming one of `result` bytes a column."""
    streams = {"x": Stream("x", 1, 4 * row, row), "y": Stream("y", 1, 4 * result, result)}
    stage = Stage("y", "y", ((0, 1),), (Read("x", ((0, 1),)),))
    work = Work((), {}, order, "x")
    return Layout((stage,), ((work,),), streams, ("x",), ("y",)), Call(0, 0)


@pytest.mark.parametrize(
    ("order", "row", "result", "size"),
    [
        # Each part reads a column and then writes one: y ends where x did, or starts there.
        (((1, 1), (2, 2), (3, 3), (4, 4)), 8, 8, 32),
        (((1, 1), (2, 2), (3, 3), (4, 4)), 8, 4, 32),
        # y grows: its columns must stay behind those of x that are still read.
        (((1, 1), (2, 2), (3, 3), (4, 4)), 4, 8, 32),
        # Two columns are read ahead, but written one behind the other.
        (((2, 2), (4, 4)), 8, 8, 32),
        # A part writes columns that the next one reads: one column between them.
        (((0, 1), (1, 2), (2, 3), (4, 4)), 8, 8, 40),
        # Nothing is known: side by side.
        ((), 8, 8, 64),
    ],
)
def test_the_output_lies_over_its_dying_input_at_the_safe_distance(
    order: tuple[tuple[int, int], ...], row: int, result: int, size: int
) -> None:
    layout, call = pointwise(order, row, result)
    made = place(layout, (call,), plan)
    assert made.size == size
    assert runs(layout, made)


def runs(layout: Layout, made: Arena) -> bool:
    """Whether, byte by byte, no part of the call reads a column that was overwritten."""
    x, y = layout.streams["x"], layout.streams["y"]
    owner = {made.offset("x") + byte: ("x", byte) for byte in range(x.row)}
    done_read = done_written = 0
    for read, written in layout.works[0][0].order or ((4, 4),):
        for byte in range(done_read * x.pixel, read * x.pixel):
            if owner[made.offset("x") + byte] != ("x", byte):
                return False
        for byte in range(done_written * y.pixel, written * y.pixel):
            owner[made.offset("y") + byte] = ("y", byte)
        done_read, done_written = read, written
    return all(owner[made.offset("y") + byte] == ("y", byte) for byte in range(y.row))


def overlaps(buffers: Sequence[Buffer], offsets: dict[str, int]) -> bool:
    pieces = [(b.name, offsets[b.name] + p.offset, p) for b in buffers for p in b.pieces]
    return any(
        a != b and p.start < q.stop and q.start < p.stop and at < to + q.size and to < at + p.size
        for a, at, p in pieces
        for b, to, q in pieces
    )


@pytest.mark.parametrize("distance", range(-40, 41, 4))
def test_what_the_pieces_allow_is_what_works(distance: int) -> None:
    """Every distance of y from x, for random orders: allowed if and only if no byte is lost, so the
    safe distance is, and a byte less is not."""
    rng = random.Random(distance)
    for _ in range(30):
        reads = sorted(rng.randrange(5) for _ in range(3))
        writes = sorted(rng.randrange(5) for _ in range(3))
        order = (*zip(reads, writes, strict=True), (4, 4))
        layout, call = pointwise(order, rng.choice([4, 8]), rng.choice([4, 8]))

        def fixed(buffers: Sequence[Buffer]) -> Plan:
            return Plan({"x": 400, "y": 400 + distance}, 800, 0, 0, False)

        made = place(layout, (call,), fixed)
        allowed = not overlaps(made.buffers, dict(made.plan.offsets))
        assert allowed == runs(layout, made), f"{order} at {distance}"


# Everything together: a run that remembers who wrote which byte last.


@st.composite
def layouts(draw: st.DrawFn) -> tuple[Layout, tuple[Call, ...]]:
    names = ["x"]
    heights = {"x": draw(st.integers(1, 6))}
    rows = {"x": draw(st.sampled_from([4, 8, 24]))}
    stages: list[Stage] = []
    works: list[tuple[Work, ...]] = []
    whole: set[str] = {"x"}
    for number in range(draw(st.integers(1, 5))):
        name = f"s{number}"
        reads = draw(st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True))
        same = draw(st.booleans())
        heights[name] = heights[reads[0]] if same else draw(st.integers(1, 6))
        rows[name] = rows[reads[0]] if same else draw(st.sampled_from([4, 8, 24]))
        bands: list[Span] = [(r, r + 1) for r in range(heights[name])]
        if draw(st.booleans()):
            bands = [(0, heights[name])]
        found = []
        for value in reads:
            aligned = heights[value] == heights[name]
            taps = 1 if same and aligned else draw(st.integers(1, 3))
            top = draw(st.integers(0, taps - 1))
            found.append(Read(value, window_needs(bands, 1, taps, top, heights[value])))
        inplace = tuple(reads[:1]) if same and draw(st.booleans()) else ()
        if inplace and (found[0].needs != tuple(bands)):
            inplace = ()
        scratch = {f"{name}/m": draw(st.sampled_from([4, 20]))} if draw(st.booleans()) else {}
        stages.append(Stage(name, name, tuple(bands), tuple(found)))
        works.append((Work(inplace, scratch),) * len(bands))
        if len(bands) == 1 or draw(st.booleans()):
            whole.add(name)
        names.append(name)
    streams = {
        n: Stream(n, heights[n], rows[n], 4, 4, () if n in whole else bands_of(stages, n))
        for n in names
    }
    layout = Layout(tuple(stages), tuple(works), streams, ("x",), (names[-1],))
    order = interleave(stages, (names[-1],)) if draw(st.booleans()) else one_by_one(stages)
    return layout, order


def bands_of(stages: Sequence[Stage], name: str) -> tuple[Span, ...]:
    return next(s.bands for s in stages if s.writes == name)


@given(layouts())
@settings(max_examples=120)
def test_a_run_finds_every_row_as_it_was_written(case: tuple[Layout, tuple[Call, ...]]) -> None:
    layout, calls = case
    made = place(layout, calls, plan)
    memory = Memory(layout, made)
    memory.write("x", 0, layout.streams["x"].height)
    for call in calls:
        stage, work = layout.stages[call.stage], layout.works[call.stage][call.band]
        own = [(n, call.band, made.scratch[n][call.band], s) for n, s in work.scratch.items()]
        for scratch in own:
            memory.put(*scratch)
        for read in stage.reads:
            memory.check(read.stream, *read.needs[call.band])
        memory.write(stage.writes, *stage.bands[call.band])
        # What may not be overwritten is there when the call ends.
        for read in stage.reads:
            if read.stream not in work.inplace:
                memory.check(read.stream, *read.needs[call.band])
        for scratch in own:
            memory.expect(*scratch)
    for name in layout.outputs:
        memory.check(name, 0, layout.streams[name].height)
    assert made.live
    assert max(made.live) == busiest_time(made.buffers)[0] <= made.size


@dataclass
class Memory:
    """Whose each byte is."""

    layout: Layout
    made: Arena
    owner: dict[int, tuple[str, int, int]] = field(default_factory=dict)

    def put(self, name: str, row: int, offset: int, size: int) -> None:
        self.owner.update({offset + byte: (name, row, byte) for byte in range(size)})

    def expect(self, name: str, row: int, offset: int, size: int) -> None:
        for byte in range(size):
            assert self.owner[offset + byte] == (name, row, byte), f"{name} was overwritten"

    def write(self, name: str, start: int, stop: int) -> None:
        for row in range(start, stop):
            self.put(name, row, self.made.rows[name][row], self.layout.streams[name].row)

    def check(self, name: str, start: int, stop: int) -> None:
        for row in range(start, stop):
            self.expect(name, row, self.made.rows[name][row], self.layout.streams[name].row)


def test_lives_are_those_of_the_rows() -> None:
    bands = ((0, 1), (1, 2))
    stage = Stage("y", "y", bands, (Read("x", bands),))
    streams = {"x": Stream("x", 2, 8, 4), "y": Stream("y", 2, 8, 4)}
    layout = Layout((stage,), ((Work(), Work()),), streams, ("x",), ("y",))
    made = place(layout, one_by_one([stage]), plan)
    assert made.lives == lives([stage], made.calls, {"x": 2, "y": 2}, frozenset("y"))
    assert made.live == (24, 24)
