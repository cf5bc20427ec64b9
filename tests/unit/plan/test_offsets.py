"""Offsets: what is alive together never overlaps, and the peak is the least there is."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from instances import buffers, cascade, check, cut, from_csv, optimum, overlaps, to_csv

from midge.plan import heuristic
from midge.plan import offsets as planning
from midge.plan.buffers import disjoint
from midge.plan.differences import Problem, problem
from midge.plan.heuristic import _fullest
from midge.plan.offsets import Buffer, Piece, Plan, live_bytes, plan
from midge.plan.placing import Packing, Style, greedy

pytestmark = pytest.mark.slow


def perfect(parts: int, seed: int = 1) -> list[Buffer]:
    """Buffers that fill 1024 bytes at all times."""
    return from_csv(to_csv(cut(random.Random(seed), 256, 60, parts)), unit=4)


def no_solver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ortools.sat.python", None)


def some(rng: random.Random, count: int) -> list[Buffer]:
    made = []
    for i in range(count):
        start = rng.randrange(12)
        size = 4 * rng.choice([rng.randrange(1, 12), rng.randrange(1, 60)])
        made.append(Buffer.solid(f"b{i}", size, start, start + rng.randrange(1, 6)))
    return made


@given(buffers(14, aligns=(1, 4, 8, 16)), st.sampled_from([0.0, 0.02]))
@settings(max_examples=100)
def test_what_is_alive_together_never_overlaps(given: list[Buffer], effort: float) -> None:
    check(given, plan(given, effort=effort))


@given(buffers(9))
def test_where_memory_is_fullest(given: list[Buffer]) -> None:
    fullest = [
        max(
            (live_bytes(given, t) for p in disjoint(b.pieces) for t in range(p.start, p.stop)),
            default=0,
        )
        for b in given
    ]
    assert _fullest(problem(given)).tolist() == fullest


@given(buffers(12), st.integers(0, 400))
def test_a_packing_keeps_what_lies_below_its_ceiling(given: list[Buffer], limit: int) -> None:
    arrays = problem(given)
    start = greedy(arrays, range(len(given)), "lowest")
    ones = np.ones(len(given), np.int64)
    packing = Packing(arrays, limit, Style(ones, ones, ones > 1, False), random.Random(0), start)
    below = start <= arrays.ceilings(limit)
    assert (packing.offsets[below] == start[below]).all()
    assert sorted(i for _, i in packing.waiting) == np.flatnonzero(~below).tolist()


def test_no_packing_is_worse_than_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks: list[int] = []
    limits: list[tuple[int, int]] = []

    class Noted(Packing):
        def __init__(self, problem: Problem, limit: int, *rest: Any) -> None:
            super().__init__(problem, limit, *rest)
            limits.append((limit, min(peaks, default=1 << 60)))

        def run(self, steps: int) -> int:
            done = super().run(steps)
            if self.complete:
                peaks.append(self.problem.peak(self.offsets))
            return done

    monkeypatch.setattr(heuristic, "Packing", Noted)
    for seed in (2, 3):
        peaks.clear()
        given = perfect(60, seed)
        arrays = problem(given)
        best = heuristic.improve(given, arrays, 0, 1.0)
        assert arrays.peak(best) <= min(peaks, default=arrays.peak(best))
    assert all(limit < least for limit, least in limits)


@given(buffers(6))
@settings(max_examples=60)
def test_six_buffers_against_brute_force(given: list[Buffer]) -> None:
    result = plan(given)
    check(given, result)
    assert result.peak == optimum(given)
    assert result.proven


@given(buffers(5))
@settings(max_examples=80)
def test_five_buffers_without_the_solver(given: list[Buffer]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        no_solver(patch)
        result = plan(given, effort=0.2)
    check(given, result)
    assert result.lower_bound <= optimum(given) <= result.peak <= 1.5 * optimum(given)


# Of this one OR-tools 9.15 proves 6 to be the least, if it may presolve: it is 5.
TRAP = [
    Buffer("a", (Piece(0, 3, 0, 1),), align=1),
    Buffer("b", (Piece(1, 1, 0, 1), Piece(0, 4, 0, 0)), align=1),
]


@given(buffers(6), st.integers(0, 40))
@example(TRAP, 0)
@settings(max_examples=80)
def test_the_proving_solver_alone(given: list[Buffer], limit: int) -> None:
    """From buffers side by side, to the least or to a limit; the bound that it reports is one."""

    def side_by_side(given: list[Buffer], arrays: Problem, *_: object) -> np.ndarray:
        room = [(b.size // 4 + 1) * 4 // arrays.unit for b in given]
        return np.array([sum(room[:i]) for i in range(len(room))], np.int64)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "improve", side_by_side)
        patch.setattr(planning.solver, "_below", lambda *_: None)
        for allowed in (0, limit):
            result = plan(given, limit=allowed)
            check(given, result)
            assert result.lower_bound <= optimum(given) <= result.peak
            assert result.peak <= max(optimum(given), allowed)


@given(buffers(9), st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_the_order_in_which_buffers_are_given_does_not_matter(
    given: list[Buffer], rng: random.Random
) -> None:
    shuffled = list(given)
    rng.shuffle(shuffled)
    assert plan(shuffled, effort=0.05) == plan(given, effort=0.05)


@pytest.mark.parametrize(("parts", "seed"), [(40, 1), (40, 2), (70, 1), (100, 2)])
def test_perfect_packings(parts: int, seed: int) -> None:
    """No byte is free at any time, and yet the capacity is found."""
    given = perfect(parts, seed)
    result = plan(given)
    check(given, result)
    assert (result.peak, result.proven) == (1024, True)


@pytest.mark.parametrize("seed", range(4))
def test_packings_without_the_solver(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    no_solver(monkeypatch)
    assert plan(perfect(40, seed)).peak == 1024


@pytest.mark.parametrize("layers", [2, 4, 7])
def test_rows_of_cascades_reach_the_bound(layers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    no_solver(monkeypatch)
    given = cascade(24, layers, 96, random.Random(layers))
    result = plan(given)
    check(given, result)
    assert result.peak == result.lower_bound < sum(b.size for b in given) / 3


def test_minimallocs_example() -> None:
    """Of its README, with a gap added in which another buffer lies."""
    text = (
        "id,lower,upper,size,gaps\nb1,0,3,4,\nb2,3,9,4,\nb3,0,9,4,\nb4,9,21,4,\nb5,0,21,4,10-20\n"
    )
    given = [*from_csv(text), Buffer.solid("b6", 8, 11, 19, align=1)]
    result = plan(given)
    check(given, result)
    assert result.peak == 12


def chain(sizes: Sequence[int]) -> list[Buffer]:
    return [Buffer.solid(f"t{i}", n, max(i - 1, 0), i + 1) for i, n in enumerate(sizes)]


def test_a_chain_reaches_the_bound() -> None:
    result = plan(chain([96, 40, 200, 8, 120, 64]))
    assert result == Plan(result.offsets, 240, 240, 1, True)


def test_an_output_lies_over_its_dying_input_at_the_exact_distance() -> None:
    """Row i is read at times i and i + 1, and written at time i: two rows apart, and no more."""
    x = Buffer("x", tuple(Piece(16 * i, 16, 0, i + 2) for i in range(10)))
    y = Buffer("y", tuple(Piece(16 * i, 16, i, 10) for i in range(10)))
    result = plan([x, y])
    check([x, y], result)
    assert result.peak == 160 + 32
    assert result.offsets == {"x": 32, "y": 0}
    for nearer in (0, 4, 28):
        assert overlaps([x, y], {"x": nearer, "y": 0})


def test_bytes_between_pieces_are_free() -> None:
    frame = Buffer("frame", (Piece(0, 8, 0, 5), Piece(24, 8, 0, 5)))
    inside = Buffer.solid("inside", 16, 0, 5)
    result = plan([frame, inside])
    assert (result.offsets, result.peak) == ({"frame": 0, "inside": 8}, 32)


def test_pieces_of_one_buffer_may_lie_over_each_other() -> None:
    twice = Buffer("twice", (Piece(0, 12, 0, 2), Piece(4, 12, 1, 3), Piece(8, 4, 0, 9)))
    assert [live_bytes([twice], t) for t in range(5)] == [12, 16, 12, 4, 4]
    result = plan([twice, Buffer.solid("beside", 8, 1, 9)])
    check([twice, Buffer.solid("beside", 8, 1, 9)], result)
    assert result.peak == 24


def test_the_same_bytes_in_few_pieces() -> None:
    row = (Piece(8, 4, 0, 2), Piece(4, 4, 0, 2), Piece(0, 4, 0, 3), Piece(12, 4, 1, 2))
    assert disjoint(row) == (Piece(0, 4, 0, 3), Piece(4, 8, 0, 2), Piece(12, 4, 1, 2))
    twice = (Piece(0, 8, 0, 3), Piece(4, 8, 2, 5), Piece(8, 0, 0, 9), Piece(1, 9, 4, 4))
    assert disjoint(twice) == (Piece(0, 4, 0, 3), Piece(4, 4, 0, 5), Piece(8, 4, 2, 5))
    assert disjoint((Piece(0, 4, 5, 6), Piece(0, 4, 1, 2))) == (
        Piece(0, 4, 1, 2),
        Piece(0, 4, 5, 6),
    )


def test_the_bound_is_more_than_live_bytes_for_one_that_is_larger_than_they_ever_are() -> None:
    moving = Buffer("moving", tuple(Piece(8 * i, 8, i, i + 1) for i in range(4)))
    result = plan([moving])
    assert (result.peak, result.lower_bound, result.proven) == (32, 32, True)


def test_the_solver_proves_a_bound_above_live_bytes() -> None:
    """Two that move in opposite directions collide although few bytes are alive."""
    up = Buffer("up", tuple(Piece(8 * i, 8, i, i + 1) for i in range(5)))
    down = Buffer("down", tuple(Piece(8 * i, 8, 4 - i, 5 - i) for i in range(5)))
    result = plan([up, down])
    check([up, down], result)
    assert result.peak == result.lower_bound == optimum([up, down]) == up.size + 8


def test_alignment() -> None:
    given = [
        Buffer.solid("a", 3, 0, 2, align=1),
        Buffer.solid("b", 5, 0, 2, align=16),
        Buffer.solid("c", 6, 0, 2, align=8),
    ]
    result = plan(given)
    check(given, result)
    assert result.peak == optimum(given) == 14
    odd = plan([Buffer.solid("p", 6, 0, 1, align=6), Buffer.solid("q", 10, 0, 1, align=10)])
    assert (odd.peak, odd.proven) == (18, True)


def test_nothing_needs_nothing() -> None:
    assert plan([]) == Plan({}, 0, 0, 0, True)
    assert plan([Buffer("none", ())]) == Plan({"none": 0}, 0, 0, 0, True)


def test_empty_buffers_take_no_room() -> None:
    given = [
        Buffer.solid("a", 0, 0, 2),
        Buffer("b", (Piece(0, 8, 1, 1),)),
        Buffer.solid("c", 8, 0, 3),
    ]
    result = plan(given)
    check(given, result)
    assert result.peak == 8


def test_times_may_be_anything() -> None:
    given = [Buffer.solid("a", 8, -5, 1 << 40), Buffer.solid("b", 8, -9, -5)]
    assert plan(given).peak == 8


def test_one_name_is_one_buffer() -> None:
    with pytest.raises(AssertionError, match="one name"):
        plan([Buffer.solid("a", 8, 0, 1), Buffer.solid("a", 4, 2, 3)])


@pytest.mark.parametrize("wrong", [(-1, 4, 0, 1), (0, -4, 0, 1), (0, 4, 2, 1)])
def test_impossible_pieces(wrong: tuple[int, int, int, int]) -> None:
    with pytest.raises(AssertionError):
        Piece(*wrong)


def test_a_limit_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first plan that keeps it is taken: neither packings nor the solver look for less."""
    given = perfect(70)
    first = plan(given, effort=0)
    assert plan(given).peak < first.peak

    def never(*args: object) -> None:
        raise AssertionError("a search for less than is needed")

    monkeypatch.setattr(planning.solver, "solve", never)
    monkeypatch.setattr(Packing, "run", never)
    allowed = plan(given, limit=first.peak)
    check(given, allowed)
    assert first.peak == allowed.peak
    assert not allowed.proven


def test_a_limit_below_the_bound_is_no_limit() -> None:
    given = some(random.Random(3), 30)
    assert plan(given, limit=4) == plan(given)


def test_a_limit_that_the_solver_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    given = perfect(70)
    first = plan(given, effort=0)
    monkeypatch.setattr(Packing, "run", lambda self, steps: steps)
    result = plan(given, limit=1063)
    check(given, result)
    assert result.peak <= 1063 < first.peak
    assert result.lower_bound == 1024


SCRIPT = """
import random
from instances import cascade, cut, from_csv, to_csv
from midge.plan.offsets import plan
for given in (
    from_csv(to_csv(cut(random.Random(4), 256, 60, 70)), unit=4)[3:],
    cascade(12, 4, 40, random.Random(0)),
):
    print(plan(given, effort=0.3))
"""


def test_another_process_finds_the_same() -> None:
    """Whatever the order of its sets."""
    printed = set()
    for seed in ("1", "2"):
        paths = os.pathsep.join([str(Path(__file__).parent), *sys.path])
        env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": paths}
        run = subprocess.run(
            [sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr
        printed.add(run.stdout)
    assert len(printed) == 1
