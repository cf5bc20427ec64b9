"""Offsets by constraint solving, with OR-tools CP-SAT.

One worker, fixed seeds and a limit on deterministic time, which the solver counts in its own
operations: the same buffers give the same answer, however fast or busy the machine is.

Two forms of the same constraints, each the better one at what it is used for here. Rectangles of
time by bytes that do not overlap: finds perfect packings of hundreds of buffers at once, by the
space that is left. Differences of offsets that are not forbidden: no larger when buffers have many
pieces, and proves that nothing smaller is possible.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, gcd
from typing import TYPE_CHECKING

from midge.plan.buffers import Buffer
from midge.plan.differences import Problem

if TYPE_CHECKING:
    from ortools.sat.python import cp_model

# Deterministic seconds at effort 1, of which one takes two to ten on a desktop. Looking for
# less takes longer at every step the more buffers there are; most of what it finds, it finds soon.
# A proof that nothing is left to find is more often a matter of patience.
SEARCH_SECONDS_AT_MOST = 0.4
SEARCH_SECONDS_TIMES_BUFFERS = 64.0
PROOF_SECONDS = 0.3
# A plan that wastes no byte is found very soon or hardly ever, and which of the two is a matter of
# luck: so several seeds, each with a share of the time.
TRIES = 3
SHARE_OF_A_TRY = 0.04
# With more of them, building and simplifying the model takes too long.
MOST_PIECES = 4_000
MOST_DIFFERENCES = 200_000


@dataclass(frozen=True, slots=True)
class Answer:
    """offsets in bytes, one for each buffer, or None if no better ones were found; bound: no plan
    has a smaller peak."""

    offsets: tuple[int, ...] | None
    bound: int


def available() -> bool:
    """Whether OR-tools can be imported."""
    try:
        from ortools.sat.python import cp_model  # noqa: F401
    except ImportError:
        return False
    return True


def solve(
    buffers: Sequence[Buffer],
    problem: Problem,
    start: Sequence[int],
    bound: int,
    goal: int,
    effort: float,
) -> Answer:
    """The least peak, or one of at most `goal` bytes, if it is found in time.

    problem: the differences of `buffers`; start: offsets in bytes of a plan that is to be improved;
    bound: a peak that no plan is below, and no more than `goal`.
    """
    seconds = min(SEARCH_SECONDS_AT_MOST, SEARCH_SECONDS_TIMES_BUFFERS / max(1, len(buffers)))
    found = _below(buffers, problem, goal, SHARE_OF_A_TRY * seconds * effort)
    if found is not None:
        return Answer(found, bound)
    # Where many pieces move together there is little to try.
    rigid = sum(len(p) for p in problem.pieces if len(p) > 1)
    if 3 * rigid > sum(map(len, problem.pieces)):
        seconds, interleave = PROOF_SECONDS, False
    else:
        interleave = True
    return _least(buffers, problem, start, bound, goal, seconds * effort, interleave)


def _below(
    buffers: Sequence[Buffer], problem: Problem, goal: int, seconds: float
) -> tuple[int, ...] | None:
    """Offsets with a peak of at most `goal` bytes, if found; no buffer is larger than that."""
    from ortools.sat.python import cp_model

    if sum(map(len, problem.pieces)) > MOST_PIECES:
        return None
    unit = _unit(buffers, problem)
    model = cp_model.CpModel()
    steps, times, spans = [], [], []
    for b, pieces in zip(buffers, problem.pieces, strict=True):
        step = model.new_int_var(0, (goal - b.size) // b.align, b.name)
        steps.append(step)
        for p in pieces:
            times.append(model.new_fixed_size_interval_var(p.start, p.stop - p.start, ""))
            low = step * (b.align // unit) + p.offset // unit
            spans.append(model.new_fixed_size_interval_var(low, p.size // unit, ""))
    model.add_no_overlap_2d(times, spans)
    for seed in range(1, TRIES + 1):
        solver, status = run(model, seconds, seed, presolve=True)
        if status in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            return tuple(solver.value(s) * b.align for b, s in zip(buffers, steps, strict=True))
        if status == cp_model.INFEASIBLE:
            return None
    return None


def _unit(buffers: Sequence[Buffer], problem: Problem) -> int:
    """The greatest common divisor of all sizes, offsets and alignments."""
    parts = [n for pieces in problem.pieces for p in pieces for n in (p.offset, p.size)]
    return gcd(*parts, *(n for b in buffers for n in (b.size, b.align)))


def _least(
    buffers: Sequence[Buffer],
    problem: Problem,
    start: Sequence[int],
    bound: int,
    goal: int,
    seconds: float,
    interleave: bool,
) -> Answer:
    """The least peak, or one of at most `goal` bytes, found by improving `start`.

    interleave: by many searches in turns, else by one that rests on proofs.
    """
    from ortools.sat.python import cp_model

    unit = _unit(buffers, problem)
    high = max(o + b.size for o, b in zip(start, buffers, strict=True))
    low = max(bound, goal)
    if low >= high or sum(map(len, problem.others)) > MOST_DIFFERENCES:
        return Answer(None, bound)
    model = cp_model.CpModel()
    peak = model.new_int_var(low // unit, high // unit, "peak")
    steps = [model.new_int_var(0, (high - b.size) // b.align, b.name) for b in buffers]
    for b, step, offset in zip(buffers, steps, start, strict=True):
        model.add(step * (b.align // unit) + b.size // unit <= peak)
        model.add_hint(step, offset // b.align)
    for i, j, allowed in _differences(problem):
        apart = steps[i] * int(problem.steps[i]) - steps[j] * int(problem.steps[j])
        model.add_linear_expression_in_domain(apart, cp_model.Domain.from_intervals(allowed))
    model.minimize(peak)
    solver, status = run(model, seconds, interleave=interleave)
    # Floats that stand for integers.
    proven = ceil(solver.best_objective_bound - 1e-6) * unit
    bound = proven if proven > low else bound
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return Answer(None, bound)
    offsets = (solver.value(s) * b.align for b, s in zip(buffers, steps, strict=True))
    return Answer(tuple(offsets), bound)


def _differences(problem: Problem) -> Iterator[tuple[int, int, list[list[int]]]]:
    """(i, j, allowed) for buffers i > j that meet: offset of i - offset of j is in one of the
    closed intervals, in units."""
    far = 1 << 40
    for i, others in enumerate(problem.others):
        forbidden: dict[int, list[tuple[int, int]]] = {}
        pairs = zip(others.tolist(), problem.low[i].tolist(), problem.high[i].tolist(), strict=True)
        for j, low, high in pairs:
            if j < i:
                forbidden.setdefault(j, []).append((low, high))
        for j, spans in sorted(forbidden.items()):
            edges = [-far, *(edge for span in sorted(spans) for edge in span), far]
            yield i, j, [[*pair] for pair in zip(edges[::2], edges[1::2], strict=True)]


def run(
    model: cp_model.CpModel,
    seconds: float,
    seed: int = 1,
    *,
    interleave: bool = False,
    presolve: bool = False,
) -> tuple[cp_model.CpSolver, cp_model.CpSolverStatus]:
    """Solve `model` in deterministic `seconds`. interleave: by many searches in turns.

    presolve: simplify the model first. With OR-tools 9.15, what is then found to be the least, or
    impossible, need not be so: gaps in the domain of b - a are enough for a wrong proof. (It also
    takes longer than it saves, except for perfect packings.)
    """
    from ortools.sat.python import cp_model

    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = seed
    solver.parameters.max_deterministic_time = seconds
    solver.parameters.interleave_search = interleave
    solver.parameters.cp_model_presolve = presolve
    status = solver.solve(model)
    assert status != cp_model.MODEL_INVALID, model.validate()
    return solver, status
