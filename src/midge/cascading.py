"""Which operators are computed band by band: the least memory, or the fastest that fits.

Plans are tried from whole tensors to full cascades of narrower and wider bands. Each is judged by
the bytes that are alive at its busiest moment (no plan of offsets is smaller) and by the cycles of
its kernels, as measured; the best is then placed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from midge.codegen.arrange import calls_of, layout_of
from midge.codegen.calls import flash_of_calls
from midge.codegen.rings import Moving, pushed
from midge.core.errors import PlanError, UsageError
from midge.core.progress import Progress, silent
from midge.core.target import Target
from midge.core.types import TensorType
from midge.graph.ir import Graph
from midge.loop import ir
from midge.loop.program import Program
from midge.lower.bands import Form, Forms, how_banded, split_sums
from midge.lower.candidates import Option
from midge.lower.fuse import fuse
from midge.lower.lower import Choice, Known, Lowered, find_options
from midge.lower.stream_time import flow
from midge.plan.arena import Arena, Planner, place
from midge.plan.buffers import Buffer, Plan, busiest_time
from midge.plan.offsets import plan
from midge.ranking import WHOLE, Trial, Wish, ranked

_LEAST = 1024  # bytes of an arena that is small enough as it is
_MOST_MOVES = 48
_OPTIONS = 20


@dataclass(frozen=True, slots=True)
class Priced:
    """picks: the preferred option of each choice.  cycles: of every option of every choice; ()
    where nothing was measured.  code: bytes of flash of the kernels of picks, where they were."""

    picks: tuple[int, ...]
    cycles: tuple[tuple[int, ...], ...] = ()
    code: Callable[[Sequence[int]], int] | None = None


# What the options of all choices cost, and those that the wish prefers.
Price = Callable[[Lowered, Wish], Priced]


@dataclass(frozen=True, slots=True)
class Chosen:
    """program, arena: what was chosen, by the plan `trial`, for `wish`.  whole: bytes of the arena
    without bands; tried: what each plan that was tried would need.  complete: whether these are all
    plans that there are, not only those that were enough."""

    program: Program
    arena: Arena
    trial: Trial
    whole: int
    tried: tuple[Trial, ...]
    wish: Wish
    complete: bool

    @property
    def cycles(self) -> int | None:
        """Of its kernels, None if not measured."""
        return self.trial.cycles

    @property
    def taken(self) -> list[tuple[Choice, Option]]:
        """Every kernel of the program, with what it was chosen from."""
        own = zip(self.trial.lowered.choices, self.trial.picks, strict=True)
        return [(choice, choice.options[pick]) for choice, pick in own]


def price_first(found: Lowered, wish: Wish) -> Priced:
    """Nothing is measured: the first option of each."""
    return Priced((0,) * len(found.choices))


def choose(
    graph: Graph,
    target: Target,
    types: Mapping[str, TensorType],
    optimize: str,
    price: Price,
    wish: Wish,
    planner: Planner | None = None,
    without: frozenset[ir.Func] = frozenset(),
    progress: Progress = silent,
) -> Chosen:
    """The program for `graph` that `wish` wants, and where its tensors lie. without: kernels that
    are no option.

    If nothing fits `wish.max_ram`, what needs least. UsageError for arriving inputs that cannot be
    taken row by row; ModelError and UsageError as of `lower.stream_time.flow`.
    """
    if wish.hop is not None:
        return _choose_flow(graph, target, types, optimize, price, wish, planner, without)
    _check_arriving(graph, wish)
    known: Known = {}

    def lower(own: Graph, forms: Forms) -> Lowered:
        most = _OPTIONS if price is not price_first else (4 if forms else 1)
        return find_options(
            own, target, types, optimize, forms, most=most, arriving=wish.arriving, known=known,
            without=without,
        )  # fmt: skip

    found = _chosen(graph, lower, price, wish, planner, progress)
    limit = wish.max_ram
    if limit is not None and found.arena.size > limit and wish.bands and not found.complete:
        found = _chosen(graph, lower, price, wish, planner, progress, every=True)
    return found


def _chosen(
    graph: Graph,
    lower: Callable[[Graph, Forms], Lowered],
    price: Price,
    wish: Wish,
    planner: Planner | None,
    progress: Progress,
    every: bool = False,
) -> Chosen:
    """What is wanted of the plans that are worth a try, or of every plan."""
    trials: list[Trial] = []
    complete = True
    plans = list(_plans(graph, wish))
    for number, (name, own, forms) in enumerate(plans):
        progress(f"trying plans ({name})", number, len(plans))
        found = lower(own, forms)
        trials += _descent(name, found, price(found, wish))
        if name == WHOLE and not every and not _worth_a_try(trials[0], wish):
            complete = False
            break
    if wish.arriving and not any(trial.lowered.found.banded for trial in trials):
        raise _not_by_rows(graph)
    planner = planner or partial(plan, limit=wish.max_ram)
    wanted = ranked(trials, wish, every)
    for number, trial in enumerate(wanted):
        progress("placing tensors", number, len(wanted))
        program = trial.lowered.program(trial.picks)
        layout = layout_of(program)
        try:
            arena = place(layout, calls_of(program, layout), planner)
        except PlanError:  # of several memories, in which others may fit
            if number + 1 == len(wanted):
                raise
            continue
        if wish.max_ram is None or arena.size <= wish.max_ram:
            break
    return Chosen(program, arena, trial, trials[0].live, tuple(trials), wish, complete)


def _choose_flow(
    graph: Graph,
    target: Target,
    types: Mapping[str, TensorType],
    optimize: str,
    price: Price,
    wish: Wish,
    planner: Planner | None,
    without: frozenset[ir.Func],
) -> Chosen:
    """The program that takes `wish.hop` frames at a time. cycles: of a push with a whole window."""
    assert wish.hop is not None
    found = flow(graph, target, wish.hop)
    most = _OPTIONS if price is not price_first else 1
    lowered = find_options(
        graph, target, types, optimize, most=most, bands=found.cascade, without=without
    )
    priced = price(lowered, wish)
    moving = {v: Moving(f.height, found.hop // f.rate) for v, f in found.flows.items()}
    program = pushed(lowered.program(priced.picks), found.hop, moving, found.unordered)
    layout = layout_of(program)
    arena = place(layout, calls_of(program, layout), planner or plan)
    cycles = _total(lowered, priced, priced.picks)
    code = _code(priced, priced.picks)
    trial = Trial("pushes", arena.plan.lower_bound, cycles, lowered, priced.picks, code=code)
    return Chosen(
        program, arena, trial, arena.plan.lower_bound, (trial,), Wish(hop=wish.hop), False
    )


def _plans(graph: Graph, wish: Wish) -> Iterator[tuple[str, Graph, Forms]]:
    """Names of plans, what they compute and by which bands. Where parts are written into a
    concatenation, there are plans that copy them too: those that wait then take less room."""
    yield from ((name, graph, forms) for name, forms in _forms(graph, wish))
    joined = [n for n in graph.nodes if "joined" in n.attrs]
    if joined:
        attrs = {n.outputs: {k: v for k, v in n.attrs.items() if k != "joined"} for n in joined}
        nodes = (replace(n, attrs=attrs.get(n.outputs, n.attrs)) for n in graph.nodes)
        apart = graph.with_nodes(nodes)
        yield from ((f"{name}, copied", apart, forms) for name, forms in _forms(apart, wish))


def _worth_a_try(whole: Trial, wish: Wish) -> bool:
    if wish.arriving:
        return True
    if wish.max_ram is not None and whole.live <= wish.max_ram:
        return False
    return wish.bands and (wish.max_ram is not None or whole.live > _LEAST)


def _forms(graph: Graph, wish: Wish) -> Iterator[tuple[str, Forms]]:
    """Names of plans and their bands: whole tensors first."""
    yield WHOLE, {}
    able = [
        (group.output, group.output if not how.accumulates else next(iter(how.inputs)))
        for group in split_sums(fuse(graph))
        if (how := how_banded(graph, group)) is not None
    ]
    heights = {out: graph.types[seen].shape[1] for out, seen in able}
    widths = {out: graph.types[seen].shape[2] for out, seen in able}
    usable = [out for out, _ in able if 1 < heights[out] <= _TALLEST]
    if len(usable) < 2 and not wish.arriving:
        return
    seen: list[Forms] = []
    for name, pixels, least, patient in _KINDS:
        forms = {}
        for out in usable:
            rows = max(least, min(4, -(-pixels // max(widths[out], 1))))
            forms[out] = Form(min(rows, heights[out]), patient)
        if forms not in seen:
            seen.append(forms)
            yield name, forms


_TALLEST = 1 << 15  # rows of an image that is computed by bands: planning takes 0.1 ms for each
# Kinds of plans: name, pixels of a band at least (in at most 4 rows), its rows at least, patience.
_KINDS = (
    ("rows", 4, 1, False),
    ("two rows", 1, 2, False),
    ("two rows, waiting", 1, 2, True),
)


def _descent(name: str, found: Lowered, priced: Priced) -> list[Trial]:
    """The plan with the preferred kernels, then with kernels that need less scratch memory where
    that is what the busiest moment is made of; each move is the cheapest in cycles."""
    picks = list(priced.picks)
    trials: list[Trial] = []
    calls = _of_calls(found)
    for _ in range(_MOST_MOVES):
        state = _State.of(found, picks)
        cycles, code = _total(found, priced, picks), _code(priced, picks)
        flash = state.constants + (code or 0) + calls
        trials.append(Trial(name, state.live, cycles, found, tuple(picks), flash, code))
        move = _move(found, priced, picks, state)
        if move is None:
            break
        choice, option = move
        picks[choice] = option
    least = min(t.live for t in trials)
    # Later moves that gain nothing are not worth their cycles.
    kept = next(i for i, t in enumerate(trials) if t.live == least)
    return trials[: kept + 1]


def beside_kernels(found: Lowered) -> int:
    """Bytes of flash besides kernels and their constants: of calls, and of rows of padding."""
    program = found.program([0] * len(found.choices))
    own = {value for choice in found.choices for value in choice.options[0].consts}
    rows = sum(array.nbytes for name, array in program.consts.items() if name not in own)
    return rows + _of_calls(found)


def _of_calls(found: Lowered) -> int:
    return flash_of_calls(choice.count > 0 for choice in found.choices)


@dataclass(frozen=True, slots=True)
class _State:
    """live: bytes at the busiest moment.  constants: bytes.  value, kind: what the call at that
    moment makes, and the kind of its band; "" if the caller is at work."""

    live: int
    constants: int
    value: str = ""
    kind: int = 0

    @staticmethod
    def of(found: Lowered, picks: Sequence[int]) -> _State:
        program = found.program(picks)
        layout = layout_of(program)
        arena = place(layout, calls_of(program, layout), _only_bound)
        constants = sum(array.nbytes for array in program.consts.values())
        if not arena.calls:
            return _State(0, constants)
        call = arena.calls[min(arena.plan.busiest // arena.steps, len(arena.calls) - 1)]
        number = call.stage - len(program.arriving)
        if number < 0:
            return _State(arena.plan.peak, constants)
        operation = program.operations[number]
        kind = operation.bands.spans[call.band][0] if operation.bands is not None else 0
        return _State(arena.plan.peak, constants, operation.output, kind)


def _only_bound(buffers: Sequence[Buffer]) -> Plan:
    """No offsets, only what no plan can be below."""
    live, at = busiest_time(buffers)
    return Plan({b.name: 0 for b in buffers}, live, live, at, False)


def _total(found: Lowered, priced: Priced, picks: Sequence[int]) -> int | None:
    if not priced.cycles:
        return None
    own = zip(found.choices, priced.cycles, picks, strict=True)
    return sum(choice.calls * cycles[pick] for choice, cycles, pick in own)


def _code(priced: Priced, picks: Sequence[int]) -> int | None:
    return None if priced.code is None else priced.code(picks)


def _move(
    found: Lowered, priced: Priced, picks: Sequence[int], state: _State
) -> tuple[int, int] | None:
    """(choice, option): less scratch memory for the call at the busiest moment; None if there is
    no such option."""
    own = [i for i, choice in enumerate(found.choices) if choice.value == state.value]
    if not own:
        return None
    choice = own[min(state.kind, len(own) - 1)]
    options = found.choices[choice].options
    now = _scratch(options[picks[choice]])
    if now == 0:
        return None
    less = ((i, size) for i, size in enumerate(map(_scratch, options)) if size < now)
    if not priced.cycles:  # the first is the best
        return next(((choice, i) for i, _ in less), None)
    cycles = priced.cycles[choice]
    best = min(less, key=lambda found: (cycles[found[0]], found[1]), default=None)
    return None if best is None else (choice, best[0])


def _scratch(option: Option) -> int:
    """Bytes."""
    params = option.kernel.func.params
    return sum(p.elements * p.dtype.size for p in params if p.mode == "scratch")


def _check_arriving(graph: Graph, wish: Wish) -> None:
    for value in wish.arriving:
        t = graph.types[value]
        if len(t.shape) != 4 or t.shape[0] != 1 or len(graph.inputs) > 1:
            raise _not_by_rows(graph)


def _not_by_rows(graph: Graph) -> UsageError:
    return UsageError(
        "cannot be fed row by row",
        where=f"input {graph.inputs[0]}",
        hint="--stream-input takes models with one input [1, height, width, channels] "
        "whose first operator reads it row by row",
    )
